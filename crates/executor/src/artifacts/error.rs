//! Why an artifact cannot be had, whose fault that is, and what to do about it.

use std::io::{self, ErrorKind};

use farmgate_job::Cause;

/// An artifact cannot be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("cannot download {url}: {problem}")]
pub struct ArtifactError {
    /// Without its secrets.
    pub(super) url: String,
    pub(super) problem: Problem,
}

impl ArtifactError {
    /// Whose fault it is: the job's, which names the URL, or that of the infrastructure.
    pub fn cause(&self) -> Cause {
        match self.problem {
            Problem::Url(_) | Problem::Refused(_) | Problem::Redirect(_) | Problem::TooLarge { .. } => {
                Cause::JobError
            }
            Problem::Source { .. }
            | Problem::Newer { .. }
            | Problem::DiskFull
            | Problem::CacheFull { .. }
            | Problem::Disk { .. } => Cause::Infrastructure,
            Problem::Bug => Cause::Bug,
        }
    }
}

/// What went wrong, with the remedy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Problem {
    /// It cannot be asked for at all.
    #[error("{0}; write an http or https URL of a file")]
    Url(String),
    /// The source works, and says no.
    #[error("the server answered {0}; is the URL right, and may the gateway read it?")]
    Refused(u16),
    /// It leads where the gateway does not go.
    #[error("{0}; write the URL that it leads to")]
    Redirect(String),
    /// More than one artifact may have.
    #[error("it is larger than the {limit} bytes that an artifact may have; use a smaller one")]
    TooLarge { limit: u64 },
    /// The source is down, or fails again and again.
    #[error("{reason} ({attempts} attempts); try again when the server works")]
    Source { reason: String, attempts: u32 },
    /// There is a copy, but the source has another by now.
    #[error(
        "{reason} ({attempts} attempts); the copy in the cache is not used, because the server has a newer \
         file: try again when the server works"
    )]
    Newer { reason: String, attempts: u32 },
    /// No room on the disk.
    #[error("the disk of the artifact cache is full; make room on it, or move EXECUTOR_ARTIFACT_CACHE_ROOT")]
    DiskFull,
    /// No room within the limit.
    #[error(
        "it does not fit into the artifact cache of {limit} bytes beside the artifacts of running jobs; raise its \
         limit, or run fewer at a time"
    )]
    CacheFull { limit: u64 },
    /// The disk does not do what it should.
    #[error("{operation} in the artifact cache: {reason}; look at the disk of EXECUTOR_ARTIFACT_CACHE_ROOT")]
    Disk { operation: &'static str, reason: String },
    /// A task died.
    #[error("the download ended by a bug of the gateway: see its log")]
    Bug,
}

impl Problem {
    /// What a failed operation on the cache's own files means.
    pub fn disk(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Disk { operation, reason: error.to_string() },
        }
    }
}

/// An error with all of its causes: the text of the outermost leaves out the one that matters.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
