//! What must survive a restart of the gateway for a port to stay safe, and how long it is worth something.
//!
//! A [`Journal`] is where one PDU's task leaves a [`PortRecord`] of each port. Where that is kept is left to the
//! callers. A record tells since when a port is off; it is taken away, on the disk, before ON is commanded, so
//! that no record ever claims OFF for a port that may be on. Its time is a [`Moment`], which counts only within one
//! boot of the gateway's machine: the wall clock may be wrong by then, and after another boot nobody knows what
//! happened to the outlet.

use std::{collections::BTreeMap, error::Error, fmt::Debug, sync::Arc, sync::OnceLock, time::Duration};

use async_trait::async_trait;
use farmgate_protocol::{PortId, Timestamp};
use serde::{Deserialize, Serialize};

/// A point in time that can be compared after a restart of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The boot of this machine, `/proc/sys/kernel/random/boot_id`. Empty: not known.
    pub boot: String,
    /// Microseconds since that boot, also those in which the machine slept (`CLOCK_BOOTTIME`).
    pub since_boot: u64,
    /// What the wall clock said, for people.
    pub wall: Timestamp,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        static BOOT: OnceLock<String> = OnceLock::new();
        let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = BOOT.get_or_init(|| read().map(|id| id.trim().to_owned()).unwrap_or_default()).clone();
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let micros = u64::try_from(time.tv_nsec).unwrap_or_default() / 1000;
        let since_boot = seconds.saturating_mul(1_000_000).saturating_add(micros);
        Self { boot, since_boot, wall: Timestamp::now() }
    }

    /// So much earlier.
    #[must_use]
    pub fn earlier(&self, by: Duration) -> Self {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        let wall = i64::try_from(micros).unwrap_or(i64::MAX);
        Self {
            boot: self.boot.clone(),
            since_boot: self.since_boot.saturating_sub(micros),
            wall: Timestamp::from_micros(self.wall.as_micros().saturating_sub(wall)),
        }
    }

    /// How long ago it was at `now`; None where that cannot be known: another boot, or a time that is yet to come.
    pub fn age(&self, now: &Self) -> Option<Duration> {
        if self.boot.is_empty() || self.boot != now.boot {
            return None;
        }
        now.since_boot.checked_sub(self.since_boot).map(Duration::from_micros)
    }
}

/// What is remembered of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRecord {
    /// It is off since then, was so whenever it was read, and no ON was commanded after. None: not known.
    #[serde(default)]
    pub off_since: Option<Moment>,
    /// How often it was seen to go from OFF to ON: relays wear.
    #[serde(default)]
    pub cycles: u64,
}

/// Nothing could be kept, or read.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "cannot {operation} of the ports of a PDU: until it can, each port waits its whole off time after a restart"
)]
pub struct JournalError {
    /// What was tried: `store the record`.
    pub operation: &'static str,
    /// What went wrong.
    #[source]
    pub source: Arc<dyn Error + Send + Sync>,
}

/// Where the records of one PDU's ports are kept.
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// All records.
    ///
    /// # Errors
    /// [`JournalError`]; the ports then count as just switched off.
    async fn load(&self) -> Result<BTreeMap<PortId, PortRecord>, JournalError>;

    /// Keeps a record some time soon, in the order of the calls. Never waits.
    fn save_soon(&self, port: &PortId, record: &PortRecord);

    /// Keeps a record; it survives a crash from when this returns.
    ///
    /// # Errors
    /// [`JournalError`].
    async fn save(&self, port: &PortId, record: &PortRecord) -> Result<(), JournalError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: &str, since_boot: u64, wall: i64) -> Moment {
        Moment { boot: boot.into(), since_boot, wall: Timestamp::from_micros(wall) }
    }

    #[test]
    fn an_age_is_known_within_one_boot_and_whatever_the_wall_clock_does() {
        let then = at("a", 5_000_000, 100);
        for (now, age) in [
            (at("a", 35_000_000, 100), Some(30)),
            (at("a", 35_000_000, 9_999_999_999), Some(30)),
            (at("a", 5_000_000, -5), Some(0)),
            (at("a", 4_999_999, 200), None),
            (at("b", 35_000_000, 200), None),
        ] {
            assert_eq!(then.age(&now), age.map(Duration::from_secs), "{now:?}");
        }
        assert_eq!(at("", 0, 0).age(&at("", 5, 5)), None, "a boot that is not known is no boot");
    }

    #[test]
    fn moments_pass_and_go_back() {
        let now = Moment::now();
        assert_eq!(now.earlier(Duration::from_millis(1)).age(&now), Some(Duration::from_millis(1)));
        assert_eq!(now.earlier(Duration::MAX).since_boot, 0);
        assert!(now.age(&Moment::now()).is_some_and(|age| age < Duration::from_secs(60)));
    }
}
