//! A run, whatever happens to it in whatever order and at whatever times: it keeps its promises, and a copy that was
//! stored and restored after each event decides the same.
//!
//! Three bytes are an event: its kind, a choice, and how much later it is (in seconds; the high ones are in the past).
//! A kind of 30 restarts the gateway.
#![no_main]

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use farmgate_job::{
    Action, Cause, Event, JobRun, Phase, RunSpec, RunState, Source, TimerId, Variables, resolve,
};
use farmgate_protocol::{Timestamp, console::Tag};
use libfuzzer_sys::fuzz_target;

const JOB: &str = r"version: 1
timeouts:
  overall: {minutes: 20}
  infra_setup: {seconds: 20, retries: 1}
  infra_teardown: {seconds: 20}
  boot_cycle: {seconds: 200, retries: 2}
  firmware_boot: {seconds: 30, retries: 1}
  first_console_activity: {seconds: 40, retries: 1}
  console_activity: {seconds: 0, retries: 70}
  watchdogs: {dog: {seconds: 15, retries: 1}}
console_patterns:
  session_end: {regex: END$}
  session_reboot: {regex: REBOOT}
  job_success: {regex: '(?<!NOT )GOOD'}
  machine_unfit_for_service: {regex: UNFIT}
  watchdogs: {dog: {start: {regex: BEGIN}, reset: {regex: TICK}, stop: {regex: STOP}}}
";

const PIECES: [&str; 12] = [
    "END\n",
    "REBOOT\r\n",
    "GOOD\n",
    "NOT GOOD\n",
    "\u{1b}[31m\0\n",
    "UNFIT\n",
    "BEGIN\n",
    "TICK\n",
    "STOP\n",
    "half a line ",
    "farmgate.stage=userspace\n",
    "\n",
];

static SPEC: LazyLock<Arc<RunSpec>> =
    LazyLock::new(|| match resolve(&Source { name: "job.yml", text: JOB }, &Variables::default()) {
        Ok(job) => Arc::new(RunSpec { job, firmware_boot_time: Some(Duration::from_secs(3)) }),
        Err(error) => panic!("{error}"),
    });

fn event(kind: u8, pick: usize, timers: &BTreeMap<TimerId, Timestamp>) -> Event<'static> {
    match kind {
        0 => Event::SetupDone,
        1 => Event::SetupFailed { cause: Cause::Infrastructure, message: "x".into() },
        2 => Event::PowerOff,
        3 => Event::PowerOn,
        4 => Event::PowerFailed { message: "x".into() },
        5 => Event::BootStage { stage: ["dhcp", "script", "kernel", "kernel-done"][pick % 4].into() },
        6 => Event::ClientGone,
        7 => Event::Cancel { by: "ada".into() },
        8 => Event::TeardownDone,
        9 => Event::TeardownFailed { message: "x".into() },
        10..=15 => match timers.keys().nth(pick % timers.len().max(1)) {
            Some(timer) => Event::Timer { timer: timer.clone() },
            None => Event::Timer { timer: TimerId::Watchdog("cat".into()) },
        },
        _ => Event::Console { bytes: PIECES[pick % PIECES.len()].as_bytes() },
    }
}

#[derive(Default)]
struct Owner {
    timers: BTreeMap<TimerId, Timestamp>,
    decided: bool,
    finished: bool,
}

impl Owner {
    fn carry_out(&mut self, actions: &[Action]) {
        for action in actions {
            assert!(!self.finished, "{action:?} after the end");
            match action {
                Action::ArmTimer { timer, at } => _ = self.timers.insert(timer.clone(), *at),
                Action::DisarmTimer { timer } => _ = self.timers.remove(timer),
                Action::PowerCycle | Action::SetBootPlan { .. } | Action::Prepare { .. } => {
                    assert!(!self.decided, "{action:?} after the verdict was decided");
                }
                Action::Tell(control) if control.tag == Tag::InfraTeardownStart => {
                    assert!(!self.decided, "a second verdict");
                    self.decided = true;
                }
                Action::Finish(_) => {
                    assert!(self.timers.is_empty(), "armed at the end: {:?}", self.timers);
                    self.finished = true;
                }
                Action::Tell(_) | Action::UnfitForService { .. } | Action::PowerOff => {}
            }
        }
    }
}

fn stored(run: &JobRun) -> RunState {
    match serde_json::to_vec(run.state()).and_then(|bytes| serde_json::from_slice(&bytes)) {
        Ok(state) => state,
        Err(error) => panic!("{error}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut now = Timestamp::from_micros(1_700_000_000_000_000);
    let (mut run, actions) = JobRun::new(Arc::clone(&SPEC), now);
    let mut owner = Owner::default();
    owner.carry_out(&actions);
    for bytes in data.chunks_exact(3).take(300) {
        let seconds = i64::from(bytes[2].cast_signed());
        now = Timestamp::from_micros(now.as_micros() + seconds * 1_000_000);
        if bytes[0] % 64 == 30 {
            run = JobRun::restore(Arc::clone(&SPEC), stored(&run));
            owner = Owner { decided: owner.decided, ..Owner::default() };
            owner.carry_out(&run.resume(now));
            if owner.finished {
                return;
            }
        }
        let before = run.state().clone();
        let event = event(bytes[0] % 64, bytes[1].into(), &owner.timers);
        if let Event::Timer { timer } = &event {
            // A timer that its owner fires is gone, unless it is armed again.
            owner.timers.remove(timer);
        }
        let actions = run.on(event.clone(), now);
        // The matcher of a new one is costly to make: not for every event.
        if bytes[0] >= 192 {
            let mut twin = JobRun::restore(Arc::clone(&SPEC), before);
            assert_eq!(twin.on(event, now), actions);
            assert_eq!(twin.state(), &stored(&run));
        }
        owner.carry_out(&actions);
        assert_eq!(owner.finished, run.phase() == Phase::Done);
        assert_eq!(owner.decided, matches!(run.phase(), Phase::Teardown | Phase::Done));
    }
    for _ in 0..1000 {
        let next = owner.timers.iter().map(|(timer, at)| (*at, timer.clone())).min();
        let Some((at, timer)) = next else { break };
        owner.timers.remove(&timer);
        now = now.max(at);
        owner.carry_out(&run.on(Event::Timer { timer }, now));
    }
    assert_eq!(run.phase(), Phase::Done, "its timers alone bring it to an end");
});
