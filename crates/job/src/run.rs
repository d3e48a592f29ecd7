//! A job's run as a state machine: events with their times in, actions out.
//!
//! It owns the order of things (prepare, power, boot, session, tidy up), the timeouts with their retries, what the
//! console said, and the verdict. It promises: the verdict is decided once; after that the machine is never
//! switched on again; at [`Action::Finish`] no timer is armed, and nothing follows. Carrying out the actions,
//! storing the run and knowing the time is its owner's part. Timers that ran out before an event's time fire before
//! it, at their own time, so that a run that is picked up after a restart and fed its old bytes decides as it would
//! have. What changes is [`RunState`], small and stored after each event; what does not is [`RunSpec`], stored once.

mod console;
mod restart;
mod state;
mod timers;
mod types;
mod verdict;

use std::sync::Arc;

use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{Control, Severity, Tag},
};

pub use self::{
    state::RunState,
    types::{Action, Attempt, BootKind, Cause, Event, Outcome, Phase, RunSpec, TimerId},
};
use self::{
    state::{Boot, Restored},
    verdict::{Ending, Seen},
};
use crate::{Timeout, matcher::Matcher, resolved::firmware_boot};

/// Boots that are kept for the verdict: half of the first, half of the last.
const MAX_ATTEMPTS: usize = 64;

/// Stages that one boot may name.
const MAX_STAGES: usize = 16;

/// A run. Its [`state`](Self::state) can be stored after every event, and the run [restored](Self::restore) from it.
#[derive(Debug, Clone)]
pub struct JobRun {
    spec: Arc<RunSpec>,
    matcher: Matcher,
    state: RunState,
}

impl JobRun {
    /// Begins a run, and says what to do first.
    pub fn new(spec: impl Into<Arc<RunSpec>>, now: Timestamp) -> (Self, Vec<Action>) {
        let mut run = Self::restore(spec, RunState::new(now));
        let mut out = vec![Action::Tell(Control::info(Tag::InfraSetupStart, "Prepare the job"))];
        run.state.timers.arm(TimerId::Overall, run.timeout(&TimerId::Overall), now, &mut out);
        run.prepare(now, &mut out);
        (run, out)
    }

    /// Something happened at `now`: what is to be done?
    ///
    /// `now` is the event's own time: that of bytes is when they arrived. A time before that of an earlier event counts
    /// as that one's.
    pub fn on(&mut self, event: Event<'_>, now: Timestamp) -> Vec<Action> {
        let mut out = Vec::new();
        let now = now.max(self.state.last);
        let mut is_news = true;
        while self.state.phase != Phase::Done
            && let Some((timer, at)) = self.state.timers.take_due(now)
        {
            self.state.last = self.state.last.max(at);
            // A timer that is fired late was meant at its old time, not at the one that it has been armed for since.
            is_news &= !matches!(&event, Event::Timer { timer: fired } if *fired == timer);
            // Its owner may not have come to it yet.
            out.push(Action::DisarmTimer { timer: timer.clone() });
            self.timed_out(&timer, self.state.last, &mut out);
        }
        self.state.last = now;
        if is_news {
            self.handle(event, now, &mut out);
        }
        out
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.state.phase
    }

    /// How it ended, once it did.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.state.outcome.as_ref()
    }

    /// What it was made from.
    pub fn spec(&self) -> &RunSpec {
        &self.spec
    }

    /// What is to be stored after each event, with `serde`.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Boots begun so far.
    pub fn boots(&self) -> u32 {
        self.state.boots
    }

    /// Which of the job's boots goes on.
    pub fn boot_kind(&self) -> BootKind {
        self.state.boot.kind
    }

    fn handle(&mut self, event: Event<'_>, now: Timestamp, out: &mut Vec<Action>) {
        match (self.state.phase, event) {
            (Phase::Done, _) => {}
            (_, Event::Timer { timer }) => self.timer(timer, now, out),
            (Phase::Teardown, Event::TeardownDone) => self.finish(None, out),
            (Phase::Teardown, Event::TeardownFailed { message } | Event::PowerFailed { message }) => {
                self.finish(Some(message), out);
            }
            (Phase::Teardown, _) => {}
            (_, Event::ClientGone) => {
                self.cancelled("the client went away".to_owned(), "the client".to_owned(), now, out)
            }
            (_, Event::Cancel { by }) => {
                self.cancelled(format!("the job was cancelled by {by}"), by, now, out);
            }
            (Phase::Setup, Event::SetupDone) => {
                self.state.timers.disarm(&TimerId::InfraSetup, out);
                out.push(Action::Tell(Control::info(Tag::InfraSetupComplete, "The job is prepared")));
                self.power_cycle(BootKind::Start, now, out);
            }
            (Phase::Setup, Event::SetupFailed { cause, message }) => {
                self.setup_failed(Ending::new(JobStatus::SetupFail, cause, message), now, out);
            }
            (_, Event::SetupDone) => self.prepared_again(out),
            (_, Event::SetupFailed { cause, message }) => self.not_prepared_again(cause, message, now, out),
            (_, Event::PowerFailed { message } | Event::GatewayFailed { message }) => {
                self.power_failed(message, now, out);
            }
            (Phase::PoweringOn, Event::PowerOff) => self.state.boot.was_off = true,
            (Phase::PoweringOn, Event::PowerOn) => self.powered_on(now, out),
            (Phase::PoweringOn, Event::BootStage { stage }) if self.state.boot.was_off => {
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
        match self.state.timers.get(&timer) {
            Some(at) if at <= now => {
                self.state.timers.remove(&timer);
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
            TimerId::Restart => Timeout { limit: Some(self.restart_limit()), retries: 0 },
            TimerId::Watchdog(name) => timeouts.watchdogs.get(name).copied().unwrap_or(Timeout::INFINITE),
            TimerId::FirmwareBoot => {
                timeouts.firmware_boot.unwrap_or_else(|| firmware_boot(self.spec.firmware_boot_time))
            }
        }
    }

    /// Takes one of the retries of a timeout, if one is left.
    fn take_retry(&mut self, timer: &TimerId) -> bool {
        let retries = self.timeout(timer).retries;
        let used = self.state.retried.entry(timer.to_string()).or_default();
        let left = *used < retries;
        *used += u32::from(left);
        left
    }

    fn timed_out(&mut self, timer: &TimerId, now: Timestamp, out: &mut Vec<Action>) {
        if *timer == TimerId::Restart {
            return self.repeat_boot(now, out);
        }
        let timeout = self.timeout(timer);
        let may_retry = !matches!(timer, TimerId::Overall | TimerId::InfraTeardown);
        let is_retrying = may_retry && self.take_retry(timer);
        let retried = self.state.retried.get(&timer.to_string()).copied().unwrap_or_default();
        out.push(Action::Tell(verdict::timeout_message(timer, timeout, retried, is_retrying)));
        match (timer, is_retrying) {
            (TimerId::InfraTeardown, _) => self.finish(Some("tidying up took too long".to_owned()), out),
            (TimerId::InfraSetup, true) => self.prepare(now, out),
            (TimerId::InfraSetup, false) => self.setup_failed(Ending::of_timeout(timer, timeout), now, out),
            (_, true) => {
                self.close_attempt(format!("timeout {timer}"), now);
                // What a hung attempt printed must not pass the job.
                self.state.seen = Seen::default();
                self.power_cycle(BootKind::Continue, now, out);
            }
            (_, false) => self.end(Ending::of_timeout(timer, timeout), format!("timeout {timer}"), now, out),
        }
    }

    fn prepare(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.arm_own(TimerId::InfraSetup, now, out);
        out.push(Action::Prepare { boot: BootKind::Start });
    }

    fn setup_failed(&mut self, ending: Ending, now: Timestamp, out: &mut Vec<Action>) {
        let message = Control::info(Tag::InfraSetupError, ending.summary.clone()).severity(Severity::Error);
        out.push(Action::Tell(message));
        self.end(ending, "setup failed".to_owned(), now, out);
    }

    fn cancelled(&mut self, summary: String, by: String, now: Timestamp, out: &mut Vec<Action>) {
        let ending = Ending::new(JobStatus::Incomplete, Cause::Cancelled { by }, summary);
        self.end(ending, "cancelled".to_owned(), now, out);
    }

    fn power_failed(&mut self, message: String, now: Timestamp, out: &mut Vec<Action>) {
        let was_on = self.state.boot.powered_at.is_some() || !self.state.attempts.is_empty();
        let status = if was_on { JobStatus::Incomplete } else { JobStatus::SetupFail };
        let ending = Ending::new(status, Cause::Infrastructure, message);
        self.end(ending, "power failed".to_owned(), now, out);
    }

    /// Arms a timer of the gateway's own work, which it cannot do while it is not there.
    fn arm_own(&mut self, timer: TimerId, now: Timestamp, out: &mut Vec<Action>) {
        let timeout = self.timeout(&timer);
        self.state.timers.arm(timer, timeout, now.max(self.state.resumed_at), out);
    }

    fn power_cycle(&mut self, kind: BootKind, now: Timestamp, out: &mut Vec<Action>) {
        if let Some(Restored::Failed { cause, message }) = self.state.restored.take_if(|r| r.is_failed()) {
            return self.cannot_boot(cause, message, now, out);
        }
        self.state.timers.disarm_except(|timer| *timer == TimerId::Overall, out);
        self.state.phase = Phase::PoweringOn;
        self.state.boot = Boot::new(kind);
        self.state.boots = self.state.boots.saturating_add(1);
        self.state.reader.new_boot();
        // What it is to boot may still be being prepared again; then that is waited for.
        let is_ready = self.state.restored.is_none();
        if is_ready {
            out.push(Action::SetBootPlan { boot: kind });
        }
        let text = format!("Power cycle the machine (boot {})", self.state.boots);
        out.push(Action::Tell(Control::info(Tag::PowerCycleStart, text).with("boot", self.state.boots)));
        if is_ready {
            out.push(Action::PowerCycle);
        }
    }

    fn powered_on(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.state.phase = Phase::Firmware;
        self.state.boot.powered_at = Some(now);
        out.push(Action::Tell(
            Control::info(Tag::PowerCycleComplete, "The machine is on").with("boot", self.state.boots),
        ));
        for timer in [TimerId::BootCycle, TimerId::FirmwareBoot, TimerId::FirstConsoleActivity] {
            let timeout = self.timeout(&timer);
            self.state.timers.arm(timer, timeout, now, out);
        }
        // A fast machine may have asked for its address before its port was read back.
        for stage in std::mem::take(&mut self.state.boot.stages) {
            self.boot_stage(stage, now, out);
        }
    }

    fn remember_stage(&mut self, stage: String) -> bool {
        let new = !self.state.boot.stages.contains(&stage) && self.state.boot.stages.len() < MAX_STAGES;
        if new {
            self.state.boot.stages.push(stage);
        }
        new
    }

    fn boot_stage(&mut self, stage: String, now: Timestamp, out: &mut Vec<Action>) {
        self.state.timers.disarm(&TimerId::Restart, out);
        if self.state.phase == Phase::Firmware {
            self.state.phase = Phase::Booting;
            self.state.timers.disarm(&TimerId::FirmwareBoot, out);
            let seconds = self.state.boot.powered_at.map(|on| now.since(on).as_secs_f64());
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

    /// The machine asked for another boot.
    fn reboot(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.take_retry(&TimerId::BootCycle) {
            self.close_attempt("session_reboot".to_owned(), now);
            self.power_cycle(BootKind::Continue, now, out);
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
        // None was begun, or the last one is closed and no other was begun.
        if self.state.boots == 0 || self.state.attempts.last().is_some_and(|a| a.number == self.state.boots) {
            return;
        }
        if self.state.attempts.len() >= MAX_ATTEMPTS {
            self.state.attempts.remove(MAX_ATTEMPTS / 2);
        }
        self.state.attempts.push(Attempt {
            number: self.state.boots,
            boot: self.state.boot.kind,
            powered_at: self.state.boot.powered_at,
            ended_at: now,
            last_stage: self.state.boot.stages.last().cloned(),
            userspace: self.state.boot.userspace,
            end,
        });
    }

    /// The verdict is decided; from here on there is only tidying up.
    fn end(&mut self, ending: Ending, attempt: String, now: Timestamp, out: &mut Vec<Action>) {
        self.close_attempt(attempt, now);
        self.state.timers.disarm_except(|_| false, out);
        self.state.phase = Phase::Teardown;
        self.state.ending = Some(ending);
        out.push(Action::Tell(Control::info(Tag::InfraTeardownStart, "Tidy up")));
        self.arm_own(TimerId::InfraTeardown, now, out);
        out.push(Action::PowerOff);
    }

    fn finish(&mut self, trouble: Option<String>, out: &mut Vec<Action>) {
        // Nobody comes here without a verdict; if somebody did, that would be ours.
        let mut ending = self.state.ending.take().unwrap_or_else(|| {
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
        self.state.timers.disarm_except(|_| false, out);
        self.state.phase = Phase::Done;
        let outcome = Outcome {
            status: ending.status,
            cause: ending.cause,
            summary: ending.summary,
            attempts: std::mem::take(&mut self.state.attempts),
        };
        out.push(Action::Tell(complete));
        out.push(Action::Tell(verdict::verdict_message(&outcome)));
        out.push(Action::Finish(outcome.clone()));
        self.state.outcome = Some(outcome);
    }
}
