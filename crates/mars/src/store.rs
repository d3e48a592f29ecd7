//! The farm file while the gateway runs: one task owns it, follows it on disk and writes to it.
//!
//! A save is noticed by watching the folder (editors rename), and for file systems that tell nothing by looking every
//! two seconds. It is read when it has been still for a moment, because editors write in pieces.

mod follow;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use farmgate_protocol::DutId;
use notify::Watcher;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    change::{ChangeError, DutChange},
    diagnostic::FarmError,
    farm::Farm,
    file,
    parse::{CheckContext, parse},
};

/// Why the farm file could not be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum MarsError {
    /// The file says something wrong.
    #[error("the farm file cannot be used; correct it and try again\n{0}")]
    Invalid(#[source] FarmError),
    /// The change would make the file wrong.
    #[error("the farm file cannot be changed like that\n{0}")]
    Refused(#[source] FarmError),
    /// The file is written in a way that cannot be changed without harming it.
    #[error("the farm file cannot be changed by the gateway: {why}; edit it by hand")]
    Unwritable {
        /// Where and why.
        why: String,
    },
    /// There is no such machine.
    #[error("the farm file has no machine {0}")]
    NoSuchDut(DutId),
    /// The system failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The farm file or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder cannot be watched.
    #[error("cannot watch {} for changes: {source}", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: notify::Error,
    },
    /// A person kept saving the file while we tried to write it.
    #[error("the farm file was saved by somebody else each time that it was about to be written; try again")]
    Busy,
    /// The gateway ends.
    #[error("the farm file is no longer looked after: the gateway ends")]
    Stopped,
}

impl MarsError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

impl From<ChangeError> for MarsError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Wrong(error) => Self::Refused(error),
            error => Self::Unwritable { why: error.to_string() },
        }
    }
}

/// What a handle asks of the task.
enum Request {
    Update { id: DutId, change: Box<DutChange>, done: oneshot::Sender<Result<Arc<Farm>, MarsError>> },
    Remove { id: DutId, done: oneshot::Sender<Result<Arc<Farm>, MarsError>> },
}

/// Requests that may wait; more make the callers wait.
const QUEUE: usize = 256;

/// The farm file. Clones speak to the same task.
#[derive(Debug, Clone)]
pub struct Mars {
    requests: mpsc::Sender<Request>,
    farm: watch::Receiver<Arc<Farm>>,
    problem: watch::Receiver<Option<String>>,
    stop: CancellationToken,
}

impl Mars {
    /// Reads the file and starts to follow it. A file that is absent is made, with a comment that explains it.
    ///
    /// # Errors
    /// The file is wrong, or cannot be read, made or watched.
    pub async fn open(
        path: impl AsRef<Path>,
        context: CheckContext,
        shutdown: CancellationToken,
    ) -> Result<Self, MarsError> {
        let path = path.as_ref().to_owned();
        let text = blocking({
            let path = path.clone();
            move || {
                file::create_if_absent(&path).map_err(MarsError::io("make the farm file", &path))?;
                file::read(&path).map_err(MarsError::io("read the farm file", &path))
            }
        })
        .await?;
        let name = path.display().to_string();
        let parsed = parse(&name, &text, &context).map_err(MarsError::Invalid)?;
        follow::log_warnings(&name, &parsed);
        let (publish, farm) = watch::channel(Arc::new(parsed.farm));
        let (complain, problem) = watch::channel(None);
        let (requests, inbox) = mpsc::channel(QUEUE);
        let (saved, saves) = mpsc::channel(1);
        let watcher = watcher(&path, saved)?;
        let follower = follow::Follower { path, name, context, text, publish, complain, missing: false };
        let stop = shutdown.child_token();
        tokio::spawn(supervise(follower, inbox, saves, watcher, stop.clone()));
        Ok(Self { requests, farm, problem, stop })
    }

    /// The farm as it is in force, and every change of it.
    pub fn farm(&self) -> watch::Receiver<Arc<Farm>> {
        self.farm.clone()
    }

    /// What is wrong with the file on disk, with its place, while the last good one stays in force.
    pub fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.clone()
    }

    /// Changes a machine. Returns when it is on disk and in force. A field that a person changed since the gateway
    /// last saw it keeps the person's value.
    ///
    /// # Errors
    /// See [`MarsError`]; the file is unchanged then.
    pub async fn update_dut(&self, id: &DutId, change: DutChange) -> Result<Arc<Farm>, MarsError> {
        let change = Box::new(change);
        self.ask(|done| Request::Update { id: id.clone(), change, done }).await
    }

    /// Forgets a machine. Returns when that is on disk and in force.
    ///
    /// # Errors
    /// See [`MarsError`]; the file is unchanged then.
    pub async fn remove_dut(&self, id: &DutId) -> Result<Arc<Farm>, MarsError> {
        self.ask(|done| Request::Remove { id: id.clone(), done }).await
    }

    /// Ends the task, after the write that it is at.
    pub async fn close(&self) {
        self.stop.cancel();
        self.requests.closed().await;
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<Arc<Farm>, MarsError>>) -> Request,
    ) -> Result<Arc<Farm>, MarsError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| MarsError::Stopped)?;
        answer.await.map_err(|_| MarsError::Stopped)?
    }
}

/// Runs something that blocks; a panic in it is passed on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that ends cancels blocking work; then nobody polls this again.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Signals through `saved` whenever something happens to the file, or to a link to it.
fn watcher(path: &Path, saved: mpsc::Sender<()>) -> Result<notify::RecommendedWatcher, MarsError> {
    let name = path.file_name().map(std::ffi::OsStr::to_owned);
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let real_name = real.file_name().map(std::ffi::OsStr::to_owned);
    let ours = move |event: &notify::Event| {
        event.need_rescan()
            || event.paths.iter().any(|p| {
                let file = p.file_name().map(std::ffi::OsStr::to_owned);
                file == name || file == real_name
            })
    };
    let handler = move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| !event.kind.is_access() && ours(&event)) {
            // Full: the task knows already.
            let _ = saved.try_send(());
        }
    };
    let folder_of = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut folders = vec![folder_of(path), folder_of(&real)];
    folders.dedup();
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| MarsError::Watch { path, source }
    };
    let mut watcher = notify::recommended_watcher(handler).map_err(wrong(path))?;
    for folder in folders {
        watcher.watch(&folder, notify::RecursiveMode::NonRecursive).map_err(wrong(&folder))?;
    }
    Ok(watcher)
}

async fn supervise(
    follower: follow::Follower,
    inbox: mpsc::Receiver<Request>,
    saves: mpsc::Receiver<()>,
    watcher: notify::RecommendedWatcher,
    stop: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    tasks.spawn(follower.run(inbox, saves, stop));
    if let Some(Err(error)) = tasks.join_next().await {
        tracing::error!(%error, "the task of the farm file panicked: this is a bug, the file is no longer followed");
    }
    // It must live as long as the task listens.
    drop(watcher);
}
