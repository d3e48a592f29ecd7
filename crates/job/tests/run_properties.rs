//! What holds for a run whatever happens to it, in whatever order.
#![allow(clippy::unwrap_used)] // all of it is a test

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use farmgate_job::{Action, Cause, Event, JobRun, Phase, RunSpec, Source, TimerId, Variables, resolve};
use farmgate_protocol::{Timestamp, console::Tag};
use proptest::prelude::*;

const JOB: &str = r"version: 1
timeouts:
  overall: {minutes: 10}
  infra_setup: {seconds: 20, retries: 1}
  infra_teardown: {seconds: 20}
  boot_cycle: {seconds: 100, retries: 2}
  firmware_boot: {seconds: 30, retries: 1}
  first_console_activity: {seconds: 40, retries: 1}
  console_activity: {seconds: 30, retries: 1}
  watchdogs: {dog: {seconds: 15, retries: 1}}
console_patterns:
  session_end: {regex: END$}
  session_reboot: {regex: REBOOT}
  job_success: {regex: '(?<!NOT )GOOD'}
  job_warn: {regex: ODD}
  machine_unfit_for_service: {regex: UNFIT}
  watchdogs: {dog: {start: {regex: BEGIN}, reset: {regex: TICK}, stop: {regex: STOP}}}
";

const PIECES: [&str; 12] = [
    "END\n",
    "REBOOT\r\n",
    "GOOD\n",
    "NOT GOOD\n",
    "ODD\n",
    "UNFIT\n",
    "BEGIN\n",
    "TICK\n",
    "STOP\n",
    "half a line ",
    "farmgate.stage=userspace\n",
    "\n",
];

/// An event in a form that can be generated; the number picks from what there is.
fn event(kind: u8, pick: usize, timers: &BTreeMap<TimerId, Timestamp>) -> Event<'static> {
    match kind {
        0 => Event::SetupDone,
        1 => Event::SetupFailed { cause: Cause::Infrastructure, message: "x".into() },
        2 | 3 => Event::PowerOff,
        4..=6 => Event::PowerOn,
        7 => Event::PowerFailed { message: "x".into() },
        8 | 9 => Event::BootStage { stage: ["dhcp", "script", "kernel"][pick % 3].into() },
        10 => Event::ClientGone,
        11 => Event::Cancel { by: "ada".into() },
        12 => Event::TeardownDone,
        13 => Event::TeardownFailed { message: "x".into() },
        14..=18 => match timers.keys().nth(pick % timers.len().max(1)) {
            Some(timer) => Event::Timer { timer: timer.clone() },
            None => Event::Timer { timer: TimerId::Watchdog("cat".into()) },
        },
        _ => Event::Console { bytes: PIECES[pick % PIECES.len()].as_bytes() },
    }
}

/// The owner's view: which timers it would still fire, and what it was told to do.
#[derive(Default)]
struct Owner {
    timers: BTreeMap<TimerId, Timestamp>,
    decided: bool,
    final_offs: u32,
    finished: bool,
}

impl Owner {
    /// A timer that its owner fires is gone, unless it is armed again.
    fn fires(&mut self, event: &Event<'_>) {
        if let Event::Timer { timer } = event {
            self.timers.remove(timer);
        }
    }

    fn carry_out(&mut self, actions: &[Action]) -> Result<(), TestCaseError> {
        for action in actions {
            prop_assert!(!self.finished, "{action:?} after the end");
            match action {
                Action::ArmTimer { timer, at } => _ = self.timers.insert(timer.clone(), *at),
                Action::DisarmTimer { timer } => _ = self.timers.remove(timer),
                Action::PowerCycle | Action::SetBootPlan { .. } | Action::Prepare { .. } => {
                    prop_assert!(!self.decided, "{action:?} after the verdict was decided");
                }
                Action::PowerOff => self.final_offs += 1,
                Action::Tell(control) if control.tag == Tag::InfraTeardownStart => self.decided = true,
                Action::Finish(_) => {
                    prop_assert!(self.timers.is_empty(), "armed at the end: {:?}", self.timers);
                    prop_assert_eq!(self.final_offs, 1);
                    self.finished = true;
                }
                Action::Tell(_) | Action::UnfitForService { .. } => {}
            }
        }
        Ok(())
    }
}

/// What an owner carries out; that it forgets a timer which it fired itself is nothing.
fn asked(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().filter(|action| !matches!(action, Action::DisarmTimer { .. })).collect()
}

fn spec() -> RunSpec {
    let job = resolve(&Source { name: "job.yml", text: JOB }, &Variables::default()).unwrap();
    RunSpec { job, firmware_boot_time: Some(Duration::from_secs(3)) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_keeps_the_promises(
        prepared in any::<bool>(),
        steps in proptest::collection::vec((0u8..40, 0usize..100, 0u64..20_000), 0..80),
    ) {
        let mut now = Timestamp::from_micros(1_700_000_000_000_000);
        let (mut run, actions) = JobRun::new(spec(), now);
        let mut owner = Owner::default();
        owner.carry_out(&actions)?;
        if prepared {
            for event in [Event::SetupDone, Event::PowerOff, Event::PowerOn] {
                owner.carry_out(&run.on(event, now))?;
            }
        }
        for (kind, pick, millis) in steps {
            now = now + Duration::from_millis(millis);
            // Before 20: anything; else the console, which is most of a run.
            let event = event(kind, pick, &owner.timers);
            owner.fires(&event);
            let actions = run.on(event, now);
            owner.carry_out(&actions)?;
            prop_assert_eq!(owner.finished, run.phase() == Phase::Done);
            prop_assert_eq!(run.outcome().is_some(), owner.finished);
            prop_assert_eq!(owner.decided, matches!(run.phase(), Phase::Teardown | Phase::Done));
        }
        // From wherever it is, its timers alone bring it to an end.
        for _ in 0..200 {
            let Some((timer, at)) = owner.timers.iter().map(|(t, at)| (t.clone(), *at)).min_by_key(|(_, at)| *at) else { break };
            owner.timers.remove(&timer);
            now = now.max(at);
            owner.carry_out(&run.on(Event::Timer { timer }, now))?;
        }
        prop_assert_eq!(run.phase(), Phase::Done);
    }

    #[test]
    fn a_run_stored_at_any_step_and_restored_goes_on_the_same(
        steps in proptest::collection::vec((0u8..60, 0usize..100, -5_000i64..20_000), 1..50),
        stored_at in 0usize..50,
    ) {
        let shared = Arc::new(spec());
        let begun = Timestamp::from_micros(1_700_000_000_000_000);
        let (mut run, actions) = JobRun::new(Arc::clone(&shared), begun);
        let mut twin = None;
        let mut owner = Owner::default();
        owner.carry_out(&actions)?;
        let mut now = begun;
        let begin = [(0u8, 0usize, 0i64), (2, 0, 10), (4, 0, 10)];
        for (step, (kind, pick, millis)) in begin.into_iter().chain(steps).enumerate() {
            // Clocks also go back.
            now = Timestamp::from_micros(now.as_micros() + millis * 1000);
            if step == stored_at {
                let stored = serde_json::to_vec(run.state()).unwrap();
                twin = Some(JobRun::restore(Arc::clone(&shared), serde_json::from_slice(&stored).unwrap()));
            }
            // Mostly the console, and timers by themselves: whoever is late gets them all the same.
            let event = event(if kind < 40 && step > 2 { 60 } else { kind % 20 }, pick, &owner.timers);
            owner.fires(&event);
            let actions = run.on(event.clone(), now);
            if let Some(twin) = &mut twin {
                prop_assert_eq!(&twin.on(event, now), &actions);
                prop_assert_eq!(twin.state(), run.state());
                prop_assert_eq!(twin.outcome(), run.outcome());
            }
            owner.carry_out(&actions)?;
        }
    }

    #[test]
    fn a_run_taken_up_again_at_any_step_keeps_the_promises(
        steps in proptest::collection::vec((0u8..40, 0usize..100, 0u64..20_000, 0u8..8), 0..60),
    ) {
        let shared = Arc::new(spec());
        let mut now = Timestamp::from_micros(1_700_000_000_000_000);
        let (mut run, actions) = JobRun::new(Arc::clone(&shared), now);
        let mut owner = Owner::default();
        owner.carry_out(&actions)?;
        for (kind, pick, millis, restart) in steps {
            now = now + Duration::from_millis(millis);
            if restart == 0 {
                let stored = serde_json::to_vec(run.state()).unwrap();
                run = JobRun::restore(Arc::clone(&shared), serde_json::from_slice(&stored).unwrap());
                // A new owner knows nothing of what was asked.
                owner = Owner { decided: owner.decided, ..Owner::default() };
                let actions = run.resume(now);
                owner.carry_out(&actions)?;
                if run.phase() == Phase::Done {
                    prop_assert!(matches!(actions.last(), Some(Action::Finish(_))));
                    break;
                }
                let asks = |wanted: fn(&Action) -> bool| actions.iter().filter(|a| wanted(a)).count();
                let tidies = usize::from(run.phase() == Phase::Teardown);
                prop_assert_eq!(asks(|a| matches!(a, Action::PowerOff)), tidies);
                prop_assert_eq!(asks(|a| matches!(a, Action::Prepare { .. })), 1 - tidies);
                prop_assert_eq!(asks(|a| matches!(a, Action::PowerCycle)), 0, "nothing is prepared yet");
            }
            let event = event(kind, pick, &owner.timers);
            owner.fires(&event);
            owner.carry_out(&run.on(event, now))?;
            if owner.finished {
                break;
            }
        }
        for _ in 0..200 {
            let Some((timer, at)) = owner.timers.iter().map(|(t, at)| (t.clone(), *at)).min_by_key(|(_, at)| *at) else { break };
            owner.timers.remove(&timer);
            now = now.max(at);
            owner.carry_out(&run.on(Event::Timer { timer }, now))?;
        }
        prop_assert_eq!(run.phase(), Phase::Done);
    }

    #[test]
    fn bytes_that_are_heard_late_mean_what_they_meant(
        lines in proptest::collection::vec((0usize..12, 0u64..20_000), 1..40),
        late in 1usize..40,
    ) {
        // One owner fires each timer at its time; the other was away from some line on and fires none.
        let begun = Timestamp::from_micros(1_700_000_000_000_000);
        let outcome_of = |away_from: usize| {
            let (mut run, actions) = JobRun::new(spec(), begun);
            let mut owner = Owner::default();
            owner.carry_out(&actions).unwrap();
            let mut now = begun;
            let mut said = Vec::new();
            for event in [Event::SetupDone, Event::PowerOff, Event::PowerOn] {
                owner.carry_out(&run.on(event, now)).unwrap();
            }
            for (number, (pick, millis)) in lines.iter().enumerate() {
                now = now + Duration::from_millis(*millis);
                while number < away_from
                    && let Some((timer, at)) =
                        owner.timers.iter().min_by_key(|(_, at)| **at).map(|(t, at)| (t.clone(), *at))
                    && at < now
                {
                    owner.timers.remove(&timer);
                    let actions = run.on(Event::Timer { timer }, at);
                    owner.carry_out(&actions).unwrap();
                    said.extend(asked(actions));
                }
                let actions = run.on(Event::Console { bytes: PIECES[*pick].as_bytes() }, now);
                owner.carry_out(&actions).unwrap();
                said.extend(asked(actions));
            }
            (said, run.state().clone())
        };
        prop_assert_eq!(outcome_of(late), outcome_of(usize::MAX));
    }

    #[test]
    fn what_a_console_means_does_not_depend_on_how_it_is_cut(
        picks in proptest::collection::vec(0usize..12, 0..12),
        cut in 1usize..20,
    ) {
        let text: String = picks.iter().map(|p| PIECES[*p]).collect();
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let run_with = |size: usize| {
            let (mut run, _) = JobRun::new(spec(), now);
            for event in [Event::SetupDone, Event::PowerOff, Event::PowerOn] {
                run.on(event, now);
            }
            let mut told = Vec::new();
            for bytes in text.as_bytes().chunks(size) {
                let actions = run.on(Event::Console { bytes }, now);
                told.extend(actions.into_iter().filter(|a| !matches!(a, Action::ArmTimer { timer: TimerId::ConsoleActivity, .. })));
            }
            (told, run.phase())
        };
        prop_assert_eq!(run_with(cut), run_with(usize::MAX));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let source = Source { name: "j", text: &text };
        let _ = resolve(&source, &Variables::default());
        let _ = farmgate_job::target_of(&source, &Variables::default());
    }

    #[test]
    fn no_text_that_looks_like_a_job_panics(words in proptest::collection::vec(
        prop_oneof![
            Just("version: 1\n"), Just("timeouts:\n"), Just("  overall: "), Just("{hours: 1}\n"), Just("{{ x }}"), Just("{% if x %}"),
            Just("{% endif %}"), Just("{# "), Just(" #}"), Just("- "), Just("&a "), Just("*a "), Just("<<: "), Just("\t"), Just("\n"),
            Just("deployment: {start: {kernel: {cmdline: "), Just("}}}"), Just("console_patterns: {job_warn: {regex: '"), Just("'}}\n"),
            Just("[é("), Just("|\n  x\n"), Just("? "), Just(": "), Just("#!jinja2\n"), Just("{% for i in range(3) %}"), Just("{% endfor %}"),
        ], 0..30)) {
        let text = words.concat();
        let source = Source { name: "j", text: &text };
        let _ = resolve(&source, &Variables::default()).map_err(|e| e.to_string());
        let _ = farmgate_job::target_of(&source, &Variables::default()).map_err(|e| e.to_string());
    }

    #[test]
    fn no_regex_panics(text in "[a-z()\\[\\]{}?*+|^$\\\\<>=!P:#0-9,é -]{0,30}", line in proptest::collection::vec(any::<u8>(), 0..40)) {
        let text = serde_json::to_string(&text).unwrap();
        let text = format!("version: 1\nconsole_patterns: {{session_end: {{regex: {text}}}}}\n");
        if let Ok(job) = resolve(&Source { name: "j", text: &text.replace("{{", "{ {").replace("{%", "").replace("{#", "") }, &Variables::default()) {
            let now = Timestamp::from_micros(0);
            let (mut run, _) = JobRun::new(RunSpec { job, firmware_boot_time: None }, now);
            for event in [Event::SetupDone, Event::PowerOff, Event::PowerOn, Event::Console { bytes: &line }, Event::Console { bytes: b"\n" }] {
                run.on(event, now);
            }
        }
    }
}
