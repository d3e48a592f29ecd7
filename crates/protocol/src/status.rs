//! How a job ended.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The verdict of a job; its number is the exit code of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum JobStatus {
    /// The success pattern was seen, the session ended, nothing warned.
    Pass = 0,
    /// As PASS, and the warning pattern was seen too.
    Warn = 1,
    /// The session ended and the job names no success pattern.
    Complete = 2,
    /// The session ended without the success pattern.
    Fail = 3,
    /// The session did not end.
    Incomplete = 4,
    /// The verdict cannot be known.
    Unknown = 5,
    /// The job never reached a DUT.
    SetupFail = 6,
}

impl JobStatus {
    /// All of them, in the order of their exit codes.
    pub const ALL: [Self; 7] = [
        Self::Pass,
        Self::Warn,
        Self::Complete,
        Self::Fail,
        Self::Incomplete,
        Self::Unknown,
        Self::SetupFail,
    ];

    /// The exit code of the client.
    pub const fn exit_code(self) -> u8 {
        self as u8
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Complete => "COMPLETE",
            Self::Fail => "FAIL",
            Self::Incomplete => "INCOMPLETE",
            Self::Unknown => "UNKNOWN",
            Self::SetupFail => "SETUP_FAIL",
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobStatus {
    type Err = std::convert::Infallible;

    /// An unknown word is [`JobStatus::Unknown`]: a newer gateway may know more verdicts.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::ALL.into_iter().find(|s| s.as_str() == text).unwrap_or(Self::Unknown))
    }
}
