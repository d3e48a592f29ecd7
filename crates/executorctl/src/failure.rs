//! Why a command that is not `run` was not done, and its exit code.

use std::io;

use farmgate_protocol::JobStatus;
use reqwest::StatusCode;

use crate::gateway::GatewayError;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The gateway was not reached, or refused.
    #[error(transparent)]
    Gateway(GatewayError),
    /// There is no such job or machine, or it is in no state for that: the gateway's own words.
    #[error("{0}")]
    NotNow(String),
    /// There is no such machine.
    #[error("no machine has the id or full name {name:?}{}", offer(.nearest))]
    NoSuchDut {
        /// What was asked for.
        name: String,
        /// Names that are like it.
        nearest: Vec<String>,
    },
    /// The answer is shown nowhere.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

fn offer(nearest: &[String]) -> String {
    if nearest.is_empty() {
        "; all names: executorctl duts".to_owned()
    } else {
        format!("; did you mean {}?", nearest.join(", "))
    }
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Refused {
                status: StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::CONFLICT,
                text,
            } => Self::NotNow(text),
            error => Self::Gateway(error),
        }
    }
}

impl Failure {
    /// Of the process.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotNow(_) | Self::NoSuchDut { .. } | Self::Output(_) => 1,
            Self::Gateway(_) => JobStatus::SetupFail.exit_code(),
        }
    }

    /// Nobody reads on (`| head`): that is no failure.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
