//! What is read back.

use std::{fmt, str::FromStr};

use farmgate_protocol::{DutId, JobStatus, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It waits for a machine.
    Queued,
    /// A machine works on it.
    Active,
    /// It has its verdict.
    Finished,
}

impl RunState {
    /// The word in the file and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Active => "active",
            Self::Finished => "finished",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RunState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Queued, Self::Active, Self::Finished]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no state of a run: queued, active or finished"))
    }
}

/// What a list shows of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRow {
    /// Its number.
    pub number: u64,
    /// `job`, `registration`, `training`, `quick_check`.
    pub kind: String,
    /// Where it stands.
    pub state: RunState,
    /// Its machine, once decided.
    pub dut: Option<DutId>,
    /// When it was accepted.
    pub created: Timestamp,
    /// When its machine began with it.
    pub started: Option<Timestamp>,
    /// When it had its verdict.
    pub ended: Option<Timestamp>,
    /// What a person calls it.
    pub name: String,
    /// A word of the executor's.
    pub priority: String,
    /// Who submitted it.
    pub submitter: String,
    /// Where it stands, for people.
    pub phase: Option<String>,
    /// Its verdict.
    pub status: Option<JobStatus>,
    /// Why, for programs.
    pub cause: Option<Value>,
    /// Why, for people.
    pub summary: Option<String>,
    /// Offset of its first byte in the machine's console record.
    pub console_from: Option<u64>,
    /// End of its bytes there.
    pub console_to: Option<u64>,
    /// `job_id` of its metadata: the submitter's own name for it.
    pub job_id: Option<String>,
}

/// All that is stored of a run, without its events.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRun {
    /// What a list shows.
    pub row: RunRow,
    /// The job as it was submitted.
    pub text: String,
    /// What came with the submission.
    pub metadata: Value,
    /// The resolved job.
    pub spec: Option<Value>,
    /// Template variables.
    pub variables: Value,
    /// What must be known of the client.
    pub client: Value,
    /// All of the verdict.
    pub outcome: Option<Value>,
    /// Hash of what lets a client attach again.
    pub resume_token_hash: Option<String>,
    /// Its state machine, as the caller serialised it.
    pub progress: Option<String>,
    /// Console offset up to which `progress` has seen.
    pub feed: Option<u64>,
}

/// Which runs a list shows. What is `None` is not looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunQuery {
    /// Of that machine.
    pub dut: Option<DutId>,
    /// Of that kind.
    pub kind: Option<String>,
    /// In that state.
    pub state: Option<RunState>,
    /// With that verdict.
    pub status: Option<JobStatus>,
    /// With a number below: the last one of the page before.
    pub before: Option<u64>,
    /// At most so many; 0 means 100, above 1000 means 1000.
    pub limit: usize,
}

/// A control message of a run, as clients were told it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunEvent {
    /// Counts up in the run from 1.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// Console offset that it stands at.
    pub console: u64,
    /// The message.
    pub body: Value,
}

/// A token that lets a client in.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: String,
    /// Hash of the secret.
    pub hash: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub used: Option<Timestamp>,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditRow {
    /// Counts up.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub who: String,
    /// The address it came from.
    pub from: String,
    /// What was done.
    pub what: String,
    /// More.
    pub details: Value,
}
