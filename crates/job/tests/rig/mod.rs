//! A run with what its owner would know of it, for tests that tell short stories.
#![allow(dead_code)] // each test file uses a part of it

use std::time::Duration;

use farmgate_job::{
    Action, Event, JobRun, Outcome, Phase, RunSpec, RunState, Source, TimerId, Variables, resolve,
};
use farmgate_protocol::{Timestamp, console::Control};

/// A run with its owner's view of the timers.
pub struct Rig {
    pub run: JobRun,
    pub now: Timestamp,
    /// Everything asked so far, since the last [`Rig::take`].
    pub actions: Vec<Action>,
}

pub fn rig(job: &str) -> Rig {
    rig_with(job, None)
}

pub fn rig_with(job: &str, firmware_boot_time: Option<Duration>) -> Rig {
    let text = format!("version: 1\n{job}\n");
    let job = resolve(&Source { name: "job.yml", text: &text }, &Variables::default())
        .unwrap_or_else(|e| panic!("{e}"));
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let (run, actions) = JobRun::new(RunSpec { job, firmware_boot_time }, now);
    Rig { run, now, actions }
}

impl Rig {
    pub fn on(&mut self, event: Event<'_>) -> &mut Self {
        self.actions.extend(self.run.on(event, self.now));
        // Whatever happens, it can be stored here.
        let stored = serde_json::to_string(self.run.state()).unwrap();
        assert_eq!(serde_json::from_str::<RunState>(&stored).unwrap(), *self.run.state());
        self
    }

    pub fn say(&mut self, text: &str) -> &mut Self {
        self.on(Event::Console { bytes: text.as_bytes() })
    }

    pub fn wait(&mut self, seconds: f64) -> &mut Self {
        let micros = self.now.as_micros() + (seconds * 1e6) as i64;
        self.now = Timestamp::from_micros(micros);
        self
    }

    pub fn stage(&mut self, stage: &str) -> &mut Self {
        self.on(Event::BootStage { stage: stage.into() })
    }

    /// From the setup to a machine that is on.
    pub fn up(&mut self) -> &mut Self {
        self.on(Event::SetupDone).on(Event::PowerOff).on(Event::PowerOn)
    }

    pub fn cycled(&mut self) -> &mut Self {
        self.on(Event::PowerOff).on(Event::PowerOn)
    }

    pub fn fire(&mut self, timer: TimerId) -> &mut Self {
        self.on(Event::Timer { timer })
    }

    /// What was asked since the last time, in short.
    pub fn take(&mut self) -> Vec<String> {
        let now = self.now;
        self.actions.drain(..).map(|action| short(&action, now)).collect()
    }

    pub fn told(&self, tag: u16) -> Vec<&Control> {
        let is = |action: &'_ Action| matches!(action, Action::Tell(c) if c.tag as u16 == tag);
        self.actions
            .iter()
            .filter(|a| is(a))
            .map(|a| match a {
                Action::Tell(control) => control,
                _ => unreachable!(),
            })
            .collect()
    }

    pub fn asked(&self, wanted: &Action) -> usize {
        self.actions.iter().filter(|a| *a == wanted).count()
    }

    pub fn end(&mut self) -> Outcome {
        assert_eq!(self.run.phase(), Phase::Teardown);
        self.on(Event::TeardownDone);
        self.run.outcome().unwrap().clone()
    }
}

pub fn short(action: &Action, now: Timestamp) -> String {
    match action {
        Action::Prepare { boot } => format!("prepare {boot:?}"),
        Action::SetBootPlan { boot } => format!("plan {boot:?}"),
        Action::PowerCycle => "cycle".into(),
        Action::PowerOff => "off".into(),
        Action::ArmTimer { timer, at } => format!("arm {timer} {}", at.since(now).as_secs_f64()),
        Action::DisarmTimer { timer } => format!("disarm {timer}"),
        Action::Tell(control) => format!("tell {}", control.tag as u16),
        Action::UnfitForService { line } => format!("unfit {line:?}"),
        Action::Finish(outcome) => format!("finish {} {}", outcome.status, outcome.cause.as_str()),
    }
}

pub const ENDS: &str = "console_patterns: {session_end: {regex: END}, session_reboot: {regex: REBOOT}, job_success: {regex: GOOD}, job_warn: {regex: ODD}, machine_unfit_for_service: {regex: UNFIT}}";

impl Rig {
    /// The gateway is away for so long, and then takes the run up again.
    pub fn restart(&mut self, seconds: f64) -> Vec<String> {
        self.restart_that_knows(seconds, false)
    }

    /// The same by an owner that knows whether the machine has more to fetch.
    pub fn restart_that_knows(&mut self, seconds: f64, more_to_fetch: bool) -> Vec<String> {
        self.wait(seconds).actions.clear();
        let stored = serde_json::to_string(self.run.state()).unwrap();
        let spec = self.run.spec().clone();
        self.run = JobRun::restore(spec, serde_json::from_str(&stored).unwrap());
        if more_to_fetch {
            self.run.has_more_to_fetch();
        }
        self.actions = self.run.resume(self.now);
        self.take()
    }
}
