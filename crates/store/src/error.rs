//! What can go wrong with the state, whose fault it is and what helps.

use std::{path::PathBuf, sync::Arc};

use rusqlite::ErrorCode;

/// An error of the store. One group of changes is committed at once, so an error of the disk may be told to several
/// callers: that is why its source is shared.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file, its lock or its folder cannot be opened.
    #[error("cannot {operation} {}: does the folder exist, and may this user write there?", path.display())]
    Open {
        /// What was tried: `open`, `lock`, ...
        operation: &'static str,
        /// Of which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// Another gateway has it.
    #[error(
        "{} is in use by another gateway{}: stop that one, or give this one a state directory of its own",
        path.display(),
        holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The database.
        path: PathBuf,
        /// The process that has it, if it said so.
        holder: Option<u32>,
    },
    /// Written by a newer program.
    #[error(
        "{} has schema version {found}, this program knows versions up to {known}: start the newer farmgate, or restore a backup of the older state",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A sound database, but of another program.
    #[error("{} is a database of another program: move it away, or choose another state directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// No database, or a damaged one. It is never deleted or replaced by the program itself.
    #[error(
        "{} is damaged or no SQLite database: stop the gateway, keep a copy of it, then restore a backup, try `sqlite3 FILE .recover`, or move it away to start with an empty state",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: Option<Arc<rusqlite::Error>>,
    },
    /// No room. Nothing of the batch is stored; later writes succeed when there is room again.
    #[error("cannot {operation}: the disk of the state directory is full; free some space there")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The disk fails, or became read-only. Nothing of the batch can be relied on.
    #[error(
        "cannot {operation}: the disk of the state directory fails; look at the kernel's log and at its mount"
    )]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Another program holds a write transaction on the file for longer than this one waits (5 s).
    #[error("cannot {operation}: another program keeps state.db locked; end its transaction")]
    Busy {
        /// What was tried.
        operation: &'static str,
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// SQLite refuses for a reason that none of the others is: a bug of ours.
    #[error("cannot {operation}; this is a bug, please report it")]
    Sql {
        /// What was tried.
        operation: &'static str,
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// A run of that number is not stored (or no longer).
    #[error("run {run} is not stored")]
    UnknownRun {
        /// Its number.
        run: u64,
    },
    /// A run of that number is stored already.
    #[error("run {run} is stored already: take its number from next_run")]
    RunExists {
        /// Its number.
        run: u64,
    },
    /// The run has its verdict: it takes no further steps.
    #[error("run {run} is finished")]
    RunFinished {
        /// Its number.
        run: u64,
    },
    /// A new run cannot be finished already.
    #[error("run {run} cannot begin as {state}: a new run is queued or active")]
    NotNew {
        /// Its number.
        run: u64,
        /// What was asked for.
        state: &'static str,
    },
    /// The run has told something under that sequence number already.
    #[error("run {run} has an event {seq} already")]
    EventExists {
        /// The run's number.
        run: u64,
        /// The event's.
        seq: u64,
    },
    /// Events of a run count from 1: 0 means "from the beginning" to whoever reads them.
    #[error("event numbers of run {run} must count from 1")]
    EventZero {
        /// The run's number.
        run: u64,
    },
    /// A token of that name exists.
    #[error("a token named {name:?} exists: revoke it first, or choose another name")]
    TokenExists {
        /// Its name.
        name: String,
    },
    /// No token of that name.
    #[error("there is no token named {name:?}")]
    UnknownToken {
        /// Its name.
        name: String,
    },
    /// A number that the file cannot hold (above 2^63 - 1).
    #[error("{what} {value} is too large to be stored")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A stored value that this program cannot read: somebody edited the file by hand.
    #[error(
        "{what} in state.db is not readable ({text:?}): {reason}; correct it with sqlite3, or restore a backup"
    )]
    Unreadable {
        /// Table and column.
        what: &'static str,
        /// The beginning of it.
        text: String,
        /// Why.
        reason: String,
    },
    /// The store was closed.
    #[error("the state is closed: the gateway is stopping")]
    Closed,
    /// More is waiting to be written than the queue holds.
    #[error("too much is waiting to be written: the disk of the state directory is too slow")]
    Overloaded,
}

impl StoreError {
    /// Tells what SQLite said by whose fault it is.
    pub(crate) fn sqlite(operation: &'static str, path: &std::path::Path, error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        let source = Arc::new(error);
        match code {
            Some(ErrorCode::DiskFull) => Self::Full { operation, source },
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed,
            ) => Self::Io { operation, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { operation, source },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path: path.to_owned(), source: Some(source) }
            }
            _ => Self::Sql { operation, source },
        }
    }

    /// Whether it is the file or its disk, and not what the caller wanted, that is wrong.
    pub fn is_of_storage(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Io { .. } | Self::Busy { .. } | Self::Damaged { .. })
    }

    /// With its causes, for a log line or a status page.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}
