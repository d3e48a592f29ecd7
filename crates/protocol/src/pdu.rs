//! PDUs as the REST API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How the gateway stands with a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PduState {
    /// In the farm file, not contacted yet.
    #[default]
    Created,
    /// Being asked for its ports.
    Initializing,
    /// It does not answer, or refuses.
    Error,
    /// No longer used.
    Stopped,
    /// It answers.
    Ok,
}

/// State of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PortState {
    /// Not known. Never taken for OFF.
    #[default]
    Unknown,
    /// No power.
    Off,
    /// Power.
    On,
    /// The PDU itself is cycling it.
    Reboot,
}

impl PortState {
    /// The word of the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Off => "OFF",
            Self::On => "ON",
            Self::Reboot => "REBOOT",
        }
    }
}

impl std::fmt::Display for PortState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A port.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Port {
    /// The PDU's own name of it.
    pub label: String,
    /// Seconds that it must stay off.
    pub min_off_time: f64,
    /// As last seen.
    pub state: PortState,
    /// When it was last switched off.
    pub last_shutdown: Option<Timestamp>,
    /// When its state was last read.
    pub last_polled: Option<Timestamp>,
    /// Not to be touched by the gateway.
    pub reserved: bool,
    /// Watts, where it is measured.
    pub instant_power: Option<f64>,
    /// Joules since the PDU was first contacted, where energy or power is measured.
    pub energy: Option<f64>,
    /// How often it was seen to go from OFF to ON: relays wear.
    #[serde(default)]
    pub cycles: u64,
    /// What is dangerously wrong with it: an OFF that is not confirmed.
    #[serde(default)]
    pub alarm: Option<String>,
}

/// A PDU.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pdu {
    /// Its ports by id.
    pub ports: BTreeMap<String, Port>,
    /// How we stand with it.
    pub state: PduState,
    /// What is wrong, if something is.
    pub error: Option<String>,
}

/// `GET /api/v1/pdus`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pdus {
    /// By name.
    pub pdus: BTreeMap<String, Pdu>,
}
