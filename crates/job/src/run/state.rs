//! What of a run changes: all that must be stored to go on with it.

use std::collections::BTreeMap;

use farmgate_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Attempt, BootKind, Cause, Outcome, Phase,
    console::Reader,
    timers::Timers,
    verdict::{Ending, Seen},
};

/// The part of a run that changes, to be stored (by `serde`) after every event. It holds nothing of the job: a few hundred
/// bytes, plus a few hundred for each boot (of which 64 are kept), plus what the console has said of a line that has
/// not ended (at most 64 KiB).
///
/// Its fields are not for others; it is read back by the same version of the program or a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    pub(super) phase: Phase,
    /// The time of the last event.
    pub(super) last: Timestamp,
    pub(super) timers: Timers,
    /// Retries used, by name of the timeout.
    pub(super) retried: BTreeMap<String, u32>,
    pub(super) boot: Boot,
    pub(super) boots: u32,
    pub(super) reader: Reader,
    pub(super) seen: Seen,
    pub(super) attempts: Vec<Attempt>,
    /// The line by which the machine said that it is unfit for service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unfit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ending: Option<Ending>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<Outcome>,
    /// When its owner last took it up again.
    pub(super) resumed_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restored: Option<Restored>,
    /// A boot that was interrupted by a restart of the gateway was repeated.
    #[serde(default)]
    pub(super) boot_repeated: bool,
    /// What the machine fetched last was not all. Known by its owner, for the moment of a restart.
    #[serde(skip)]
    pub(super) has_more_to_fetch: bool,
}

impl RunState {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            phase: Phase::Setup,
            last: now,
            timers: Timers::default(),
            retried: BTreeMap::new(),
            boot: Boot::new(BootKind::Start),
            boots: 0,
            reader: Reader::default(),
            seen: Seen::default(),
            attempts: Vec::new(),
            unfit: None,
            ending: None,
            outcome: None,
            resumed_at: now,
            restored: None,
            boot_repeated: false,
            has_more_to_fetch: false,
        }
    }

    /// Where the run stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }
}

/// After a restart of the gateway: what became of the files of the job's boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Restored {
    /// They are being prepared again.
    Preparing,
    /// They could not be; only another boot would need them.
    Failed { cause: Cause, message: String },
}

impl Restored {
    pub(super) fn is_failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// The boot that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Boot {
    pub(super) kind: BootKind,
    /// The port was seen OFF since the power cycle was asked for.
    pub(super) was_off: bool,
    pub(super) powered_at: Option<Timestamp>,
    pub(super) stages: Vec<String>,
    pub(super) userspace: bool,
    /// A first line end came.
    pub(super) line_seen: bool,
}

impl Boot {
    pub(super) fn new(kind: BootKind) -> Self {
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
