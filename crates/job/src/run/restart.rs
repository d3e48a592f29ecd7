//! Going on with a run after its owner was restarted.
//!
//! Restoring a run changes nothing of it: fed the same events it decides the same. Taking it up again is another thing:
//! what was asked before may never have been carried out, and is asked again; the files of the boots are gone from the
//! owner's memory, and are prepared again; and a machine that was fetching its files when nobody served them is booted
//! once more without that counting against the job.

use std::{sync::Arc, time::Duration};

use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{Control, Severity, Tag},
};

use super::{
    Action, BootKind, Cause, JobRun, Phase, RunSpec, RunState, TimerId, state::Restored, verdict::Ending,
};
use crate::{matcher::Matcher, resolved::firmware_boot};

/// How long an interrupted boot is waited for where nothing was learned of the machine's firmware.
const UNLEARNED: Duration = Duration::from_secs(120);

/// The end of the names of stages that say that a file was fetched wholly.
const DONE: &str = "-done";

impl JobRun {
    /// The run as it was when `state` was stored. Its owner calls [`Self::resume`] next.
    ///
    /// `spec` is what it was begun with; another one gives another run's decisions, but nothing worse.
    pub fn restore(spec: impl Into<Arc<RunSpec>>, state: RunState) -> Self {
        let spec = spec.into();
        Self { matcher: Matcher::new(&spec.job.console_patterns), spec, state }
    }

    /// What its owner must do after a restart: arm the timers, prepare the job's files again, and repeat what was asked
    /// and perhaps not carried out. `now` is the present time.
    ///
    /// Then the owner feeds what the console said meanwhile, each piece with its own time, before anything else and
    /// before it fires a timer. [`Event::SetupDone`](super::Event::SetupDone) and
    /// [`Event::SetupFailed`](super::Event::SetupFailed) answer [`Action::Prepare`] in every phase; until then no boot
    /// plan is set and no power is switched. An end that was told may be told again.
    pub fn resume(&mut self, now: Timestamp) -> Vec<Action> {
        let mut out = Vec::new();
        self.state.resumed_at = self.state.resumed_at.max(now);
        if let Some(line) = &self.state.unfit {
            out.push(Action::UnfitForService { line: line.clone() });
        }
        let was_interrupted = self.was_interrupted();
        // It was said for this moment only.
        self.state.has_more_to_fetch = false;
        if was_interrupted {
            let timeout = self.timeout(&TimerId::Restart);
            self.state.timers.arm(TimerId::Restart, timeout, now, &mut Vec::new());
        }
        // What needs an answer of ours begins anew: that nobody was there to give it is not the machine's fault.
        for own in [TimerId::InfraSetup, TimerId::InfraTeardown, TimerId::FirmwareBoot] {
            if self.state.timers.get(&own).is_some() {
                self.arm_own(own, now, &mut Vec::new());
            }
        }
        let armed = self.state.timers.iter();
        out.extend(armed.map(|(timer, at)| Action::ArmTimer { timer: timer.clone(), at }));
        match self.state.phase {
            Phase::Setup => out.push(Action::Prepare { boot: BootKind::Start }),
            Phase::PoweringOn | Phase::Firmware | Phase::Booting | Phase::Session => {
                if self.state.phase == Phase::PoweringOn {
                    // It is switched off again: what was seen of this boot is of one that does not count.
                    self.state.boot.was_off = false;
                    self.state.boot.stages.clear();
                }
                self.state.restored = Some(Restored::Preparing);
                out.push(Action::Prepare { boot: self.state.boot.kind });
            }
            Phase::Teardown => out.push(Action::PowerOff),
            Phase::Done => out.extend(self.state.outcome.clone().map(Action::Finish)),
        }
        out
    }

    /// The last stage of the network boot that was seen of this boot.
    pub fn last_stage(&self) -> Option<&str> {
        self.state.boot.stages.last().map(String::as_str)
    }

    /// Before [`Self::resume`]: the machine had not fetched all that it boots, though what it fetched last was whole.
    pub fn has_more_to_fetch(&mut self) {
        self.state.has_more_to_fetch = true;
    }

    /// Was the machine fetching what it may not have got? One that had asked for nothing yet asks when it comes to it:
    /// its firmware's own timeout stays.
    fn was_interrupted(&self) -> bool {
        let fetches =
            self.state.has_more_to_fetch || self.last_stage().is_some_and(|stage| !stage.ends_with(DONE));
        self.state.phase == Phase::Booting && fetches && !self.state.boot_repeated
    }

    pub(super) fn restart_limit(&self) -> Duration {
        firmware_boot(self.spec.firmware_boot_time).limit.unwrap_or(UNLEARNED)
    }

    /// No new stage came since the restart.
    pub(super) fn repeat_boot(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.state.boot_repeated = true;
        let text = "The boot was interrupted by a restart of the gateway: boot again";
        out.push(Action::Tell(Control::info(Tag::None, text).severity(Severity::Warn)));
        self.close_attempt("interrupted by a restart of the gateway".to_owned(), now);
        self.power_cycle(self.state.boot.kind, now, out);
    }

    /// The files of the boots are there again.
    pub(super) fn prepared_again(&mut self, out: &mut Vec<Action>) {
        if self.state.restored.take().is_none() {
            return;
        }
        out.push(Action::SetBootPlan { boot: self.state.boot.kind });
        if self.state.phase == Phase::PoweringOn {
            out.push(Action::PowerCycle);
        }
    }

    /// The files of the boots are gone: what runs may go on, but cannot boot again.
    pub(super) fn not_prepared_again(
        &mut self,
        cause: Cause,
        message: String,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        if self.state.restored.take().is_none() {
            return;
        }
        if self.state.phase == Phase::PoweringOn {
            return self.cannot_boot(cause, message, now, out);
        }
        let text = format!("After a restart of the gateway the job's files are gone: {message}");
        out.push(Action::Tell(Control::info(Tag::None, text).severity(Severity::Warn)));
        self.state.restored = Some(Restored::Failed { cause, message });
    }

    pub(super) fn cannot_boot(
        &mut self,
        cause: Cause,
        message: String,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        let summary =
            format!("after a restart of the gateway the job's files could not be prepared again: {message}");
        self.end(
            Ending::new(JobStatus::Incomplete, cause, summary),
            "not prepared again".to_owned(),
            now,
            out,
        );
    }
}
