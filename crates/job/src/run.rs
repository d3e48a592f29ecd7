//! A job's run as a state machine: events with their times in, actions out.
//!
//! It owns the order of things (prepare, power, boot, session, tidy up), the timeouts with their retries, what the
//! console said, and the verdict. It promises: the verdict is decided once; after that the machine is never
//! switched on again; at [`Action::Finish`] no timer is armed, and nothing follows. Carrying out the actions,
//! storing the run and knowing the time is its owner's part. Timers that ran out before an event's time fire before
//! it, so that a run that is picked up after a restart and fed its old bytes decides as it would have.

mod console;
mod timers;
mod types;
mod verdict;

use std::{collections::BTreeMap, time::Duration};

use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{Control, Severity, Tag},
};
use serde::{Deserialize, Serialize};

pub use self::types::{Action, Attempt, BootKind, Cause, Event, Outcome, Phase, RunSpec, TimerId};
use self::{
    console::Reader,
    timers::Timers,
    verdict::{Ending, Seen},
};
use crate::Timeout;

/// Boots that are kept for the verdict: half of the first, half of the last.
const MAX_ATTEMPTS: usize = 64;

/// Stages that one boot may name.
const MAX_STAGES: usize = 16;

/// Retries of `firmware_boot` where the job does not give it.
const FIRMWARE_RETRIES: u32 = 3;

/// The least that a firmware gets.
const FIRMWARE_LEAST: Duration = Duration::from_secs(5);

/// A run. It can be stored after every event and resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRun {
    spec: RunSpec,
    phase: Phase,
    timers: Timers,
    /// Retries used, by name of the timeout.
    retried: BTreeMap<String, u32>,
    boot: Boot,
    boots: u32,
    reader: Reader,
    seen: Seen,
    attempts: Vec<Attempt>,
    ending: Option<Ending>,
    outcome: Option<Outcome>,
    /// A boot was lost by the gateway's fault, and repeated.
    #[serde(default)]
    boot_lost: bool,
}

/// The boot that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    kind: BootKind,
    /// The port was seen OFF since the power cycle was asked for.
    was_off: bool,
    powered_at: Option<Timestamp>,
    stages: Vec<String>,
    userspace: bool,
    /// A first line end came.
    line_seen: bool,
}

impl Boot {
    fn new(kind: BootKind) -> Self {
        Self {
            kind,
            was_off: false,
            powered_at: None,
            stages: Vec::new(),
            userspace: false,
            line_seen: false,
        }
    }
}

impl JobRun {
    /// Begins a run, and says what to do first.
    pub fn new(spec: RunSpec, now: Timestamp) -> (Self, Vec<Action>) {
        let mut run = Self {
            spec,
            phase: Phase::Setup,
            timers: Timers::default(),
            retried: BTreeMap::new(),
            boot: Boot::new(BootKind::Start),
            boots: 0,
            reader: Reader::default(),
            seen: Seen::default(),
            attempts: Vec::new(),
            ending: None,
            outcome: None,
            boot_lost: false,
        };
        let mut out = vec![Action::Tell(Control::info(Tag::InfraSetupStart, "Prepare the job"))];
        run.timers.arm(TimerId::Overall, run.timeout(&TimerId::Overall), now, &mut out);
        run.prepare(now, &mut out);
        (run, out)
    }

    /// Something happened at `now`: what is to be done?
    pub fn on(&mut self, event: Event<'_>, now: Timestamp) -> Vec<Action> {
        let mut out = Vec::new();
        if self.phase == Phase::Done {
            return out;
        }
        while let Some(timer) = self.timers.take_due(now) {
            // Its owner may not have come to it yet.
            out.push(Action::DisarmTimer { timer: timer.clone() });
            self.timed_out(&timer, now, &mut out);
        }
        self.handle(event, now, &mut out);
        out
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How it ended, once it did.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// What it was made from.
    pub fn spec(&self) -> &RunSpec {
        &self.spec
    }

    /// Boots begun so far.
    pub fn boots(&self) -> u32 {
        self.boots
    }

    /// Which of the job's boots goes on.
    pub fn boot_kind(&self) -> BootKind {
        self.boot.kind
    }

    /// What its owner must do again after a restart: arm the timers, and repeat what was asked and not answered.
    pub fn resume(&self) -> Vec<Action> {
        let boot = self.boot.kind;
        let mut out: Vec<Action> =
            self.timers.iter().map(|(timer, at)| Action::ArmTimer { timer: timer.clone(), at }).collect();
        match self.phase {
            Phase::Setup => out.push(Action::Prepare { boot }),
            Phase::PoweringOn => out.extend([Action::SetBootPlan { boot }, Action::PowerCycle]),
            Phase::Firmware | Phase::Booting | Phase::Session => out.push(Action::SetBootPlan { boot }),
            Phase::Teardown => out.push(Action::PowerOff),
            Phase::Done => {}
        }
        out
    }

    fn handle(&mut self, event: Event<'_>, now: Timestamp, out: &mut Vec<Action>) {
        match (self.phase, event) {
            (Phase::Done, _) => {}
            (_, Event::Timer { timer }) => self.timer(timer, now, out),
            (Phase::Teardown, Event::TeardownDone) => self.finish(None, out),
            (Phase::Teardown, Event::TeardownFailed { message } | Event::PowerFailed { message }) => {
                self.finish(Some(message), out);
            }
            (Phase::Teardown, _) => {}
            (_, Event::ClientGone) => self.cancelled("the client went away".to_owned(), now, out),
            (_, Event::Cancel { by }) => self.cancelled(format!("the job was cancelled by {by}"), now, out),
            (Phase::Setup, Event::SetupDone) => {
                self.timers.disarm(&TimerId::InfraSetup, out);
                out.push(Action::Tell(Control::info(Tag::InfraSetupComplete, "The job is prepared")));
                self.power_cycle(BootKind::Start, out);
            }
            (Phase::Setup, Event::SetupFailed { cause, message }) => {
                self.setup_failed(Ending::new(JobStatus::SetupFail, cause, message), now, out);
            }
            (_, Event::PowerFailed { message } | Event::GatewayFailed { message }) => {
                self.power_failed(message, now, out);
            }
            (Phase::Firmware | Phase::Booting, Event::BootLost) => self.boot_lost(now, out),
            (Phase::PoweringOn, Event::PowerOff) => self.boot.was_off = true,
            (Phase::PoweringOn, Event::PowerOn) => self.powered_on(now, out),
            (Phase::PoweringOn, Event::BootStage { stage }) if self.boot.was_off => {
                self.remember_stage(stage);
            }
            (Phase::Firmware | Phase::Booting | Phase::Session, Event::BootStage { stage }) => {
                self.boot_stage(stage, now, out);
            }
            (Phase::Firmware | Phase::Booting | Phase::Session, Event::Console { bytes }) => {
                self.console(bytes, now, out);
            }
            // An answer to what nobody asks any more.
            (_, _) => {}
        }
    }

    fn timer(&mut self, timer: TimerId, now: Timestamp, out: &mut Vec<Action>) {
        match self.timers.get(&timer) {
            Some(at) if at <= now => {
                self.timers.remove(&timer);
                self.timed_out(&timer, now, out);
            }
            // It was armed anew while the old time was on its way. Say it again, lest it is lost.
            Some(at) => out.push(Action::ArmTimer { timer, at }),
            None => {}
        }
    }

    fn timeout(&self, timer: &TimerId) -> Timeout {
        let timeouts = &self.spec.job.timeouts;
        match timer {
            TimerId::Overall => timeouts.overall,
            TimerId::InfraSetup => timeouts.infra_setup,
            TimerId::InfraTeardown => timeouts.infra_teardown,
            TimerId::BootCycle => timeouts.boot_cycle,
            TimerId::FirstConsoleActivity => timeouts.first_console_activity,
            TimerId::ConsoleActivity => timeouts.console_activity,
            TimerId::Watchdog(name) => timeouts.watchdogs.get(name).copied().unwrap_or(Timeout::INFINITE),
            TimerId::FirmwareBoot => {
                timeouts.firmware_boot.unwrap_or_else(|| match self.spec.firmware_boot_time {
                    Some(learned) => Timeout {
                        limit: Some(
                            learned.saturating_mul(5).checked_div(2).unwrap_or(learned).max(FIRMWARE_LEAST),
                        ),
                        retries: FIRMWARE_RETRIES,
                    },
                    None => Timeout::INFINITE,
                })
            }
        }
    }

    /// Takes one of the retries of a timeout, if one is left.
    fn take_retry(&mut self, timer: &TimerId) -> bool {
        let retries = self.timeout(timer).retries;
        let used = self.retried.entry(timer.to_string()).or_default();
        let left = *used < retries;
        *used += u32::from(left);
        left
    }

    fn timed_out(&mut self, timer: &TimerId, now: Timestamp, out: &mut Vec<Action>) {
        let timeout = self.timeout(timer);
        let may_retry = !matches!(timer, TimerId::Overall | TimerId::InfraTeardown);
        let is_retrying = may_retry && self.take_retry(timer);
        let retried = self.retried.get(&timer.to_string()).copied().unwrap_or_default();
        out.push(Action::Tell(verdict::timeout_message(timer, timeout, retried, is_retrying)));
        match (timer, is_retrying) {
            (TimerId::InfraTeardown, _) => self.finish(Some("tidying up took too long".to_owned()), out),
            (TimerId::InfraSetup, true) => self.prepare(now, out),
            (TimerId::InfraSetup, false) => self.setup_failed(Ending::of_timeout(timer, timeout), now, out),
            (_, true) => {
                self.close_attempt(format!("timeout {timer}"), now);
                // What a hung attempt printed must not pass the job.
                self.seen = Seen::default();
                self.power_cycle(BootKind::Continue, out);
            }
            (_, false) => self.end(Ending::of_timeout(timer, timeout), format!("timeout {timer}"), now, out),
        }
    }

    fn prepare(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.timers.arm(TimerId::InfraSetup, self.timeout(&TimerId::InfraSetup), now, out);
        out.push(Action::Prepare { boot: BootKind::Start });
    }

    fn setup_failed(&mut self, ending: Ending, now: Timestamp, out: &mut Vec<Action>) {
        let message = Control::info(Tag::InfraSetupError, ending.summary.clone()).severity(Severity::Error);
        out.push(Action::Tell(message));
        self.end(ending, "setup failed".to_owned(), now, out);
    }

    fn cancelled(&mut self, summary: String, now: Timestamp, out: &mut Vec<Action>) {
        let ending = Ending::new(JobStatus::Incomplete, Cause::Cancelled, summary);
        self.end(ending, "cancelled".to_owned(), now, out);
    }

    fn power_failed(&mut self, message: String, now: Timestamp, out: &mut Vec<Action>) {
        let was_on = self.boot.powered_at.is_some() || !self.attempts.is_empty();
        let status = if was_on { JobStatus::Incomplete } else { JobStatus::SetupFail };
        let ending = Ending::new(status, Cause::Infrastructure, message);
        self.end(ending, "power failed".to_owned(), now, out);
    }

    fn power_cycle(&mut self, kind: BootKind, out: &mut Vec<Action>) {
        self.timers.disarm_except(|timer| *timer == TimerId::Overall, out);
        self.phase = Phase::PoweringOn;
        self.boot = Boot::new(kind);
        self.boots = self.boots.saturating_add(1);
        self.reader.new_boot();
        out.push(Action::SetBootPlan { boot: kind });
        let text = format!("Power cycle the machine (boot {})", self.boots);
        out.push(Action::Tell(Control::info(Tag::PowerCycleStart, text).with("boot", self.boots)));
        out.push(Action::PowerCycle);
    }

    fn powered_on(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.phase = Phase::Firmware;
        self.boot.powered_at = Some(now);
        out.push(Action::Tell(
            Control::info(Tag::PowerCycleComplete, "The machine is on").with("boot", self.boots),
        ));
        for timer in [TimerId::BootCycle, TimerId::FirmwareBoot, TimerId::FirstConsoleActivity] {
            let timeout = self.timeout(&timer);
            self.timers.arm(timer, timeout, now, out);
        }
        // A fast machine may have asked for its address before its port was read back.
        for stage in std::mem::take(&mut self.boot.stages) {
            self.boot_stage(stage, now, out);
        }
    }

    fn remember_stage(&mut self, stage: String) -> bool {
        let new = !self.boot.stages.contains(&stage) && self.boot.stages.len() < MAX_STAGES;
        if new {
            self.boot.stages.push(stage);
        }
        new
    }

    fn boot_stage(&mut self, stage: String, now: Timestamp, out: &mut Vec<Action>) {
        if self.phase == Phase::Firmware {
            self.phase = Phase::Booting;
            self.timers.disarm(&TimerId::FirmwareBoot, out);
            let seconds = self.boot.powered_at.map(|on| now.since(on).as_secs_f64());
            let message =
                Control::info(Tag::FirmwareBootComplete, "The firmware asks to boot over the network");
            out.push(Action::Tell(message.with("seconds", seconds)));
        }
        if self.remember_stage(stage.clone()) {
            let message =
                Control::info(Tag::BootStage, format!("Network boot: {stage}")).with("stage", stage);
            out.push(Action::Tell(message));
        }
    }

    fn boot_lost(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if std::mem::replace(&mut self.boot_lost, true) {
            return;
        }
        let text = "The gateway was restarted while it served this boot: it is repeated, and costs no retry";
        out.push(Action::Tell(Control::info(Tag::Resumed, text).severity(Severity::Warn)));
        let kind = self.boot.kind;
        self.close_attempt("lost by a restart of the gateway".to_owned(), now);
        self.power_cycle(kind, out);
    }

    /// The machine asked for another boot.
    fn reboot(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.take_retry(&TimerId::BootCycle) {
            self.close_attempt("session_reboot".to_owned(), now);
            self.power_cycle(BootKind::Continue, out);
            return;
        }
        let allowed = self.timeout(&TimerId::BootCycle).retries;
        let summary =
            format!("the job asked for one more boot, but timeouts.boot_cycle.retries allows {allowed}");
        let cause = Cause::Timeout { name: TimerId::BootCycle.to_string() };
        let ending = Ending::new(JobStatus::Incomplete, cause, summary);
        self.end(ending, "session_reboot without retries left".to_owned(), now, out);
    }

    fn close_attempt(&mut self, end: String, now: Timestamp) {
        if self.boots == 0 {
            return;
        }
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.remove(MAX_ATTEMPTS / 2);
        }
        self.attempts.push(Attempt {
            number: self.boots,
            boot: self.boot.kind,
            powered_at: self.boot.powered_at,
            ended_at: now,
            last_stage: self.boot.stages.last().cloned(),
            userspace: self.boot.userspace,
            end,
        });
    }

    /// The verdict is decided; from here on there is only tidying up.
    fn end(&mut self, ending: Ending, attempt: String, now: Timestamp, out: &mut Vec<Action>) {
        self.close_attempt(attempt, now);
        self.timers.disarm_except(|_| false, out);
        self.phase = Phase::Teardown;
        self.ending = Some(ending);
        out.push(Action::Tell(Control::info(Tag::InfraTeardownStart, "Tidy up")));
        self.timers.arm(TimerId::InfraTeardown, self.timeout(&TimerId::InfraTeardown), now, out);
        out.push(Action::PowerOff);
    }

    fn finish(&mut self, trouble: Option<String>, out: &mut Vec<Action>) {
        // Nobody comes here without a verdict; if somebody did, that would be ours.
        let mut ending = self.ending.take().unwrap_or_else(|| {
            Ending::new(
                JobStatus::Unknown,
                Cause::Bug,
                "the run ended without a verdict: a fault of the gateway",
            )
        });
        let complete = match trouble {
            None => Control::info(Tag::InfraTeardownComplete, "Tidied up"),
            Some(trouble) => {
                // The verdict stays: the test has nothing to do with what came after it.
                ending.summary = format!("{}; afterwards: {trouble}", ending.summary);
                Control::info(Tag::InfraTeardownComplete, format!("Tidying up failed: {trouble}"))
                    .severity(Severity::Error)
            }
        };
        self.timers.disarm_except(|_| false, out);
        self.phase = Phase::Done;
        let outcome = Outcome {
            status: ending.status,
            cause: ending.cause,
            summary: ending.summary,
            attempts: std::mem::take(&mut self.attempts),
        };
        out.push(Action::Tell(complete));
        out.push(Action::Tell(verdict::verdict_message(&outcome)));
        out.push(Action::Finish(outcome.clone()));
        self.outcome = Some(outcome);
    }
}
