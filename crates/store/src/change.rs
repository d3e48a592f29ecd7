//! What can be changed: the words in which the rest of the gateway says what must survive.

use farmgate_protocol::{DutId, JobStatus, Timestamp};
use serde_json::Value;

use crate::rows::RunState;

/// A run as it is first stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// From [`Store::next_run`](crate::Store::next_run).
    pub number: u64,
    /// `job`, `registration`, `training`, `quick_check`: a word of the caller's.
    /// [`mean_seconds`](crate::Store::mean_seconds) looks at `job`.
    pub kind: String,
    /// Its machine, if that is decided.
    pub dut: Option<DutId>,
    /// When it was accepted.
    pub created: Timestamp,
    /// Name of the job's file, or what a person calls it.
    pub name: String,
    /// The job as it was submitted.
    pub text: String,
    /// What came with the submission; may hold secrets.
    pub metadata: Value,
    /// A word of the caller's.
    pub priority: String,
    /// Who submitted it.
    pub submitter: String,
    /// Queued or active.
    pub state: RunState,
    /// The resolved job, if its machine is decided.
    pub spec: Option<Value>,
    /// Template variables; may hold secrets.
    pub variables: Value,
    /// Offset of its first byte in the machine's console record.
    pub console_from: Option<u64>,
    /// Hash of what lets a client attach again.
    pub resume_token_hash: Option<String>,
    /// What must be known of the client after a restart.
    pub client: Value,
}

/// What remains of those parts of a run that may hold secrets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    /// Instead of the stored metadata.
    pub metadata: Value,
    /// Instead of the stored template variables.
    pub variables: Value,
    /// Instead of the stored resolved job (templates write secrets into it).
    pub spec: Option<Value>,
}

/// One change. A batch of them ([`Store::write`](crate::Store::write)) is stored whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A new run. Its number must be new, its state queued or active.
    CreateRun(Box<NewRun>),
    /// A queued run gets its machine and becomes active. Also of an active one, that moves to another machine.
    Dispatch {
        /// Its number.
        run: u64,
        /// Its machine.
        dut: DutId,
        /// The job, resolved against that machine.
        spec: Value,
        /// Template variables.
        variables: Value,
        /// Offset of its first byte in the machine's console record.
        console_from: u64,
    },
    /// A run went on. What is `None` stays as it is.
    Step {
        /// Its number; it must not be finished.
        run: u64,
        /// Its state machine, serialised by the caller. Dropped when it finishes.
        progress: Option<String>,
        /// Console offset up to which `progress` has seen.
        feed: Option<u64>,
        /// Where it stands, for people.
        phase: Option<String>,
        /// When its machine began with it.
        started: Option<Timestamp>,
        /// Its machine.
        dut: Option<DutId>,
    },
    /// A control message of a run, as clients are told it. Also after the verdict.
    Event {
        /// The run's number.
        run: u64,
        /// Counts up in the run from 1; each once.
        seq: u64,
        /// When.
        time: Timestamp,
        /// Console offset that it stands at.
        console: u64,
        /// The message.
        body: Value,
    },
    /// A run has its verdict: once.
    Finish {
        /// Its number.
        run: u64,
        /// When.
        ended: Timestamp,
        /// The verdict.
        status: JobStatus,
        /// Why, for programs.
        cause: Value,
        /// Why, for people.
        summary: String,
        /// All of it.
        outcome: Value,
        /// End of its bytes in the machine's console record.
        console_to: u64,
        /// What replaces that which may hold secrets.
        kept: Kept,
    },
    /// Secrets of a run are dropped (of a finished one too).
    Forget {
        /// Its number.
        run: u64,
        /// What replaces them.
        kept: Kept,
    },
    /// What is to be remembered of a machine. `None` forgets it.
    DutMemory {
        /// Which.
        dut: DutId,
        /// What.
        memory: Option<Value>,
    },
    /// A value in a small space of a part of the gateway (`port`, `lease`, ...). `None` removes it.
    Value {
        /// Whose.
        space: String,
        /// Which.
        key: String,
        /// What.
        value: Option<Value>,
    },
    /// A token that lets a client in. The name must be new.
    AddToken {
        /// Its name, for people.
        name: String,
        /// What it allows: a word of the caller's.
        role: String,
        /// Hash of the secret, never the secret itself.
        hash: String,
        /// When it was made.
        created: Timestamp,
    },
    /// A token is no longer valid. It must exist.
    RevokeToken {
        /// Its name.
        name: String,
    },
    /// A token was used. Nothing happens if it was revoked meanwhile.
    TokenUsed {
        /// Its name.
        name: String,
        /// When.
        at: Timestamp,
    },
    /// Somebody did something.
    Audit {
        /// When.
        at: Timestamp,
        /// A token's name, `local`, ...
        who: String,
        /// The address it came from.
        from: String,
        /// What: a word for programs.
        what: String,
        /// More.
        details: Value,
    },
}

impl From<NewRun> for Change {
    fn from(run: NewRun) -> Self {
        Self::CreateRun(Box::new(run))
    }
}
