//! From what was seen in a run to its verdict, and the messages that tell about timeouts and verdicts.

use std::collections::BTreeSet;

use farmgate_protocol::{
    JobStatus,
    console::{Control, Severity, Tag},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Cause, Outcome, TimerId};
use crate::{ConsolePatterns, PatternName, Timeout};

/// Patterns seen that count for the verdict.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) success: bool,
    pub(super) warn: bool,
}

/// A verdict that is decided, while things are tidied up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ending {
    pub(super) status: JobStatus,
    pub(super) cause: Cause,
    pub(super) summary: String,
}

impl Ending {
    pub(super) fn new(status: JobStatus, cause: Cause, summary: impl Into<String>) -> Self {
        Self { status, cause, summary: summary.into() }
    }

    /// The session came to its own end. A success that could not be looked for is no failure of the test.
    pub(super) fn of_session(patterns: &ConsolePatterns, seen: Seen, given_up: &BTreeSet<String>) -> Self {
        match (&patterns.job_success, seen) {
            (None, _) => Self::new(
                JobStatus::Complete,
                Cause::TestPassed,
                "the session ended; the job names no success pattern",
            ),
            (Some(_), Seen { success: true, warn: false }) => Self::new(
                JobStatus::Pass,
                Cause::TestPassed,
                "the success pattern was seen and the session ended",
            ),
            (Some(_), Seen { success: true, warn: true }) => Self::new(
                JobStatus::Warn,
                Cause::TestPassed,
                "the success pattern was seen and the session ended, but the warning pattern was seen too",
            ),
            (Some(_), Seen { success: false, .. })
                if given_up.contains(&PatternName::JobSuccess.to_string()) =>
            {
                Self::new(
                    JobStatus::Fail,
                    Cause::JobError,
                    "the session ended without the success pattern, whose search was given up: it takes too many steps",
                )
            }
            (Some(_), Seen { success: false, .. }) => {
                Self::new(JobStatus::Fail, Cause::TestFailed, "the session ended without the success pattern")
            }
        }
    }

    /// A timeout without retries left. A machine that never boots is the farm's fault, not the job's.
    pub(super) fn of_timeout(timer: &TimerId, timeout: Timeout) -> Self {
        let seconds = seconds(timeout);
        let tries = match timeout.retries {
            0 => String::new(),
            retries => format!(", {} times in this job", u64::from(retries) + 1),
        };
        let (status, cause, summary) = match timer {
            TimerId::FirmwareBoot => (
                JobStatus::Incomplete,
                Cause::Infrastructure,
                format!(
                    "the machine never asked to boot over the network within {seconds} s of power on{tries}"
                ),
            ),
            TimerId::InfraSetup => (
                JobStatus::SetupFail,
                Cause::Timeout { name: timer.to_string() },
                format!("the preparation of the job took longer than {seconds} s{tries}"),
            ),
            _ => (
                JobStatus::Incomplete,
                Cause::Timeout { name: timer.to_string() },
                format!("the session did not end: the timeout {timer} of {seconds} s was hit{tries}"),
            ),
        };
        Self { status, cause, summary }
    }
}

fn seconds(timeout: Timeout) -> f64 {
    timeout.limit.unwrap_or_default().as_secs_f64()
}

/// Tag 400.
pub(super) fn timeout_message(timer: &TimerId, timeout: Timeout, retried: u32, is_retrying: bool) -> Control {
    let seconds = seconds(timeout);
    let then =
        if is_retrying { format!("try again ({retried} of {})", timeout.retries) } else { "end".to_owned() };
    let severity = if is_retrying { Severity::Warn } else { Severity::Error };
    let metadata = json!({
        "name": timer.to_string(),
        "seconds": seconds,
        "retries": timeout.retries,
        "retried": retried,
        "is_retrying": is_retrying,
    });
    Control::info(Tag::TimeoutHit, format!("Hit the timeout {timer} of {seconds} s: {then}"))
        .severity(severity)
        .with("timeout", metadata)
}

/// Tag 500. `timeout` names the timeout, where one is the cause.
pub(super) fn verdict_message(outcome: &Outcome) -> Control {
    let severity = match outcome.status {
        JobStatus::Pass | JobStatus::Complete => Severity::Info,
        JobStatus::Warn => Severity::Warn,
        _ => Severity::Error,
    };
    let attempts = serde_json::to_value(&outcome.attempts).unwrap_or_default();
    let message = Control::info(Tag::Verdict, format!("{}: {}", outcome.status, outcome.summary))
        .severity(severity)
        .with("status", outcome.status.as_str())
        .with("cause", outcome.cause.as_str())
        .with("summary", outcome.summary.clone())
        .with("attempts", attempts);
    match &outcome.cause {
        Cause::Timeout { name } => message.with("timeout", name.clone()),
        Cause::Cancelled { by } => message.with("by", by.clone()),
        _ => message,
    }
}
