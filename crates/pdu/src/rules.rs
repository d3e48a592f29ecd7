//! What the gateway's owner says about single ports: whose they are, whether the gateway may switch them, how long
//! they may be on. The rules come from above; the PDU's task keeps them for everybody who asks.

use std::{collections::BTreeMap, time::Duration};

use farmgate_protocol::PortId;

/// Who switches a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PowerMode {
    /// The gateway.
    #[default]
    Managed,
    /// A person, by hand: the gateway sends it no command.
    Manual,
    /// The gateway may switch it on, but nobody may switch it off through the gateway.
    NeverOff,
}

/// What holds for a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortRule {
    /// Whose it is, for messages: the id of a machine.
    pub owner: String,
    /// Who switches it.
    pub mode: PowerMode,
    /// It is switched off when it was on for so long.
    pub max_on: Option<Duration>,
}

/// The rules of a PDU's ports. A port without one is managed, by whoever asks.
pub type PortRules = BTreeMap<PortId, PortRule>;

/// Something that happened to a port and that its owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which port.
    pub port: PortId,
    /// What.
    pub what: NoticeKind,
    /// In a sentence, for people.
    pub text: String,
}

/// Kinds of [`Notice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// It went on or off without our command.
    ChangedByOthers,
    /// OFF is not confirmed. It is tried for ever; the port has an alarm until OFF is seen or ON is wished.
    Alarm,
    /// What the alarm was about is over.
    AlarmOver,
    /// It was on longer than allowed, and is being switched off.
    OnTooLong,
}
