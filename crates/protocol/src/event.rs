//! What happens in the gateway, for people and programs that watch: `GET /api/v1/events` (server-sent events).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{DutId, Timestamp};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 since the gateway started.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// Which DUT, where it is about one (the MAC address of a stranger).
    pub dut: Option<DutId>,
    /// A word for programs: `port`, `dhcp`, `boot-script`, `boot-file`, `registered`, `state`, `training`, `run`.
    pub kind: String,
    /// A sentence for people.
    pub text: String,
    /// More, for programs.
    #[serde(default)]
    pub details: Map<String, Value>,
}
