//! Sergent Hartman: qualifies a machine by booting it in a loop before users may have it. Pure: it says what to do
//! next and is told how it went.

use std::{collections::BTreeMap, time::Duration};

use farmgate_protocol::{
    JobStatus,
    dut::{Training, TrainingLoop, TrainingState},
};
use serde::{Deserialize, Serialize};

/// How strict it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// Boots in a training.
    pub boots: u32,
    /// Boots that must pass.
    pub qualifying: u32,
    /// Wait before a failed registration is tried again.
    pub registration_delay: Duration,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Boot the machine to register it.
    Register,
    /// Wait, then register again.
    WaitThenRegister(Duration),
    /// Boot number N, from 0.
    Boot(u32),
    /// It may serve.
    Qualified,
    /// It may not.
    Failed,
}

/// One training of one machine. It can be stored and gone on with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    drill: Drill,
    registered: bool,
    registration_failed: bool,
    loops: Vec<TrainingLoop>,
    firmware: Option<Duration>,
}

impl Round {
    /// A training from its start.
    pub fn new(drill: Drill) -> Self {
        Self { drill, registered: false, registration_failed: false, loops: Vec::new(), firmware: None }
    }

    /// What to do now.
    pub fn next(&self) -> Step {
        if !self.registered {
            return if self.registration_failed {
                Step::WaitThenRegister(self.drill.registration_delay)
            } else {
                Step::Register
            };
        }
        let done = self.done();
        let failed = done - self.passed();
        // It ends early only when it cannot be passed any more: a machine that qualifies is booted the full count.
        if failed > self.drill.boots.saturating_sub(self.drill.qualifying) {
            Step::Failed
        } else if done >= self.drill.boots {
            Step::Qualified
        } else {
            Step::Boot(done)
        }
    }

    /// The wait is over: register again.
    pub fn retry_registration(&mut self) {
        self.registration_failed = false;
    }

    /// How the registration went.
    pub fn registration_ended(&mut self, passed: bool) {
        self.registered = passed;
        self.registration_failed = !passed;
    }

    /// A boot of the loop has ended.
    pub fn boot_ended(&mut self, status: JobStatus, elapsed: Duration, cause: String) {
        self.loops.push(TrainingLoop {
            status: Some(status),
            seconds_elapsed: elapsed.as_secs_f64(),
            has_log: true,
            cause,
        });
    }

    /// How long the firmware of a boot took, if it asked to boot at all.
    pub fn firmware_took(&mut self, time: Option<Duration>) {
        self.firmware = self.firmware.max(time);
    }

    /// Seconds that its firmware takes at most, from ON to its first network boot request, to a tenth; none if no boot
    /// told. Jobs are given 2.5 times that by default.
    pub fn firmware_time(&self) -> Option<f64> {
        self.firmware.map(|time| (time.as_secs_f64() * 10.0).ceil() / 10.0)
    }

    fn done(&self) -> u32 {
        u32::try_from(self.loops.len()).unwrap_or(u32::MAX)
    }

    fn passed(&self) -> u32 {
        let passed = self.loops.iter().filter(|l| l.status == Some(JobStatus::Pass)).count();
        u32::try_from(passed).unwrap_or(u32::MAX)
    }

    /// One line about how it went.
    pub fn summary(&self) -> String {
        let failure = self.loops.iter().find(|l| l.status != Some(JobStatus::Pass));
        let mut text =
            format!("{} of {} boots passed, {} needed", self.passed(), self.done(), self.drill.qualifying);
        if let Some(failure) = failure {
            text.push_str("; the first failure: ");
            text.push_str(&failure.cause);
        }
        text
    }

    /// The report for the API. `active`: a boot of it runs now.
    pub fn report(&self, active: bool) -> Training {
        let mut statuses = BTreeMap::new();
        for status in self.loops.iter().filter_map(|l| l.status) {
            *statuses.entry(status.to_string()).or_insert(0) += 1;
        }
        Training {
            state: if self.registration_failed {
                TrainingState::RegistrationFailed
            } else {
                TrainingState::Enrolling
            },
            is_active: active,
            is_registered: self.registered,
            boot_loop_counts: self.drill.boots,
            qualifying_rate: self.drill.qualifying,
            current_loop_count: self.done(),
            statuses,
            loops: self.loops.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(boots: u32, qualifying: u32) -> Round {
        Round::new(Drill { boots, qualifying, registration_delay: Duration::from_secs(120) })
    }
    fn boot(r: &mut Round, status: JobStatus) {
        r.boot_ended(status, Duration::from_secs(10), "why".into());
    }

    #[test]
    fn it_registers_then_boots_then_qualifies() {
        let mut r = round(2, 2);
        assert_eq!(r.next(), Step::Register);
        r.registration_ended(true);
        assert_eq!(r.next(), Step::Boot(0));
        boot(&mut r, JobStatus::Pass);
        assert_eq!(r.next(), Step::Boot(1));
        boot(&mut r, JobStatus::Pass);
        assert_eq!(r.next(), Step::Qualified);
        assert_eq!(r.report(false).statuses["PASS"], 2);
    }

    #[test]
    fn a_failed_registration_waits_and_is_tried_again() {
        let mut r = round(1, 1);
        r.registration_ended(false);
        assert_eq!(r.next(), Step::WaitThenRegister(Duration::from_secs(120)));
        assert_eq!(r.report(false).state, TrainingState::RegistrationFailed);
        r.retry_registration();
        assert_eq!(r.next(), Step::Register);
    }

    #[test]
    fn one_failure_is_allowed_of_twenty_and_two_end_it_at_once() {
        let mut r = round(20, 19);
        r.registration_ended(true);
        boot(&mut r, JobStatus::Incomplete);
        assert_eq!(r.next(), Step::Boot(1));
        boot(&mut r, JobStatus::Fail);
        assert_eq!(r.next(), Step::Failed);
        assert!(r.summary().contains("why"));
    }

    #[test]
    fn the_slowest_firmware_is_what_is_learned() {
        let mut r = round(3, 3);
        assert_eq!(r.firmware_time(), None);
        for millis in [Some(2100), Some(2341), None] {
            r.firmware_took(millis.map(Duration::from_millis));
        }
        assert_eq!(r.firmware_time(), Some(2.4));
    }

    #[test]
    fn only_pass_counts_as_passed() {
        let mut r = round(1, 1);
        r.registration_ended(true);
        boot(&mut r, JobStatus::Complete);
        assert_eq!(r.next(), Step::Failed);
    }
}
