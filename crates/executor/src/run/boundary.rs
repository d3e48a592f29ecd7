//! Where one boot of a machine ends and the next begins, for everything that arrives late: the bytes of a console and
//! what BOOTS saw. Pure; the run asks it about each of them.

use std::time::Duration;

use farmgate_protocol::{
    Timestamp,
    pdu::{Port, PortState},
};
use serde::{Deserialize, Serialize};

/// Where the port stands in a power cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PowerStage {
    /// Off, or on its way there: what arrives belongs to the boot before.
    Off,
    /// Seen off; from `since` on it may be switched on, so what happens later is of the new boot and is held back
    /// until the PDU confirms.
    Starting { since: Timestamp },
    /// Seen on. What happened before `since` and arrives only now (a console is read from its record, which may lag)
    /// is still of the boot before.
    On { since: Timestamp },
}

/// The boot that something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boot {
    Before,
    Starting,
    Present,
}

impl PowerStage {
    /// Which boot something belongs to that happened at that time.
    pub(super) fn belongs(self, time: Timestamp) -> Boot {
        match self {
            Self::On { since } if time >= since => Boot::Present,
            Self::Starting { since } if time >= since => Boot::Starting,
            Self::On { .. } | Self::Starting { .. } | Self::Off => Boot::Before,
        }
    }
}

/// From when on a port may be on again that was seen OFF at `off_at`. `before`: as it was known before that.
pub(super) fn may_be_on_from(before: Option<&Port>, min_off: Duration, off_at: Timestamp) -> Timestamp {
    let own = before.and_then(|p| Duration::try_from_secs_f64(p.min_off_time).ok()).unwrap_or_default();
    let off_for = min_off.max(own);
    match before {
        // Its off time was counted from then, and may be over.
        Some(port) if port.state == PortState::Off => {
            port.last_shutdown.map_or(off_at, |at| (at + off_for).max(off_at))
        }
        _ => off_at + off_for,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn what_the_boot_before_said_is_never_counted_to_the_next_one_however_late_it_arrives() {
        use Boot::{Before, Present, Starting};
        let since = at(100);
        for (stage, time, belongs) in [
            (PowerStage::Off, at(200), Before),
            (PowerStage::Starting { since }, at(99), Before),
            (PowerStage::Starting { since }, at(100), Starting),
            (PowerStage::On { since }, at(99), Before),
            (PowerStage::On { since }, at(100), Present),
        ] {
            assert_eq!(stage.belongs(time), belongs, "{stage:?} {time}");
        }
    }

    #[test]
    fn a_boot_begins_when_the_off_time_may_be_over() {
        let port = |state, last_shutdown| Port { state, last_shutdown, min_off_time: 5.0, ..Port::default() };
        let min_off = Duration::from_secs(30);
        for (before, min_off, begins) in [
            (None, min_off, at(130)),
            (Some(port(PortState::On, Some(at(10)))), min_off, at(130)),
            (Some(port(PortState::On, None)), Duration::ZERO, at(105)),
            (Some(port(PortState::Off, Some(at(90)))), min_off, at(120)),
            // It was off long enough: it is switched on at once, and nothing of that boot may be lost.
            (Some(port(PortState::Off, Some(at(10)))), min_off, at(100)),
            (Some(port(PortState::Off, None)), min_off, at(100)),
        ] {
            assert_eq!(may_be_on_from(before.as_ref(), min_off, at(100)), begins, "{before:?}");
        }
    }
}
