//! Where and when in a console: offsets, times and the pieces that carry both.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A place in a machine's record: bytes since the record began. Retention drops old bytes, never renumbers them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsoleOffset(pub u64);

impl fmt::Display for ConsoleOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When bytes arrived at the gateway: microseconds since 1970-01-01 UTC by the gateway's wall clock.
///
/// The clock may be set while SALAD runs, so a later byte can have an earlier time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsoleTime(pub i64);

impl ConsoleTime {
    /// The present.
    pub fn now() -> Self {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
        };
        Self(micros)
    }
}

/// Bytes that arrived together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where the first of them is.
    pub offset: ConsoleOffset,
    /// When they arrived.
    pub time: ConsoleTime,
    /// At least one byte, at most 64 KiB.
    pub bytes: Bytes,
}

impl Chunk {
    /// Where the byte after the last one is.
    pub fn end(&self) -> ConsoleOffset {
        ConsoleOffset(self.offset.0 + self.bytes.len() as u64)
    }
}
