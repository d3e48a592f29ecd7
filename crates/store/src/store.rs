//! The handle that the rest of the gateway holds: changes go to the writing thread, questions to the reading ones.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use farmgate_protocol::DutId;
use rusqlite::Connection;
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    change::Change,
    error::StoreError,
    health::{Counters, Counting, Health, HealthTeller},
    lock::Lock,
    open,
    reader::Readers,
    reads::{self, Read},
    retention::Retention,
    rows::{AuditRow, RunEvent, RunQuery, RunRow, StoredRun, Token},
    writer::{Batch, Message, Writer},
};

/// Changes that may wait to be written. Beyond that [`Store::write`] waits, and [`Store::write_soon`] loses.
const WAITING: u32 = 65_536;

/// The state of the gateway. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: Arc<Path>,
    next_run: AtomicU64,
    changes: mpsc::Sender<Message>,
    places: Arc<Semaphore>,
    /// `None` once it is closed.
    readers: Mutex<Option<Readers>>,
    reading: Mutex<Vec<JoinHandle<()>>>,
    writing: Mutex<Option<JoinHandle<()>>>,
    health: watch::Receiver<Health>,
    counting: Arc<Counting>,
}

impl Store {
    /// Opens the file, or makes it, brings its schema up to date and starts the threads. Blocks for some milliseconds
    /// (longer when a gateway was killed with much in the log): for the start of the program.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Newer`], [`StoreError::Foreign`], [`StoreError::Damaged`] and those of the
    /// disk. A file that cannot be used is left as it is.
    pub fn open(path: &Path, limits: Retention) -> Result<Self, StoreError> {
        let lock = Lock::take(path)?;
        let connection = open::writer(path)?;
        let highest = reads::highest_run(&connection)
            .map_err(|e| StoreError::sqlite("read the highest run number", path, e))?;
        let (readers, reading) = Readers::start(path)?;
        let path: Arc<Path> = Arc::from(path);
        let (changes, queue) = mpsc::channel();
        let (health_teller, health) = watch::channel(Health::Ok);
        let counting = Arc::new(Counting::default());
        let writer = Writer::new(
            connection,
            Arc::clone(&path),
            limits,
            queue,
            HealthTeller(health_teller),
            Arc::clone(&counting),
            lock,
        );
        let writing = thread::Builder::new().name("state-write".to_owned()).spawn(|| writer.work());
        let writing = writing.map_err(|source| StoreError::Open {
            operation: "start the writing thread for",
            path: path.to_path_buf(),
            source: Arc::new(source),
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                next_run: AtomicU64::new(highest.saturating_add(1)),
                changes,
                places: Arc::new(Semaphore::new(WAITING as usize)),
                readers: Mutex::new(Some(readers)),
                reading: Mutex::new(reading),
                writing: Mutex::new(Some(writing)),
                health,
                counting,
            }),
        })
    }

    /// A number for a new run: greater than any that was ever stored, and each once while the gateway runs.
    pub fn next_run(&self) -> u64 {
        self.inner.next_run.fetch_add(1, Ordering::Relaxed)
    }

    /// Stores all of the changes or none, and returns when they are on the disk. Batches are stored in the order in
    /// which they were queued, which for one caller is the order of its calls. Once queued a batch is stored even if
    /// the caller stops waiting. An empty one waits for those before it.
    ///
    /// # Errors
    /// What is wrong with a change, by its name; then none of the batch is stored. Or what is wrong with the disk
    /// ([`StoreError::is_of_storage`]); then it may be tried again.
    pub async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let places = Arc::clone(&self.inner.places);
        let place = places.acquire_many_owned(weight(&changes)).await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let batch = Batch { changes, reply: Some(reply), _place: place };
        self.inner.changes.send(Message::Batch(batch)).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// As [`write`](Self::write), but nobody waits: a failure is logged and counted
    /// ([`Counters::failed_soon`]).
    pub fn write_soon(&self, changes: Vec<Change>) {
        let places = Arc::clone(&self.inner.places);
        let count = changes.len();
        let queued = match places.try_acquire_many_owned(weight(&changes)) {
            Ok(place) => {
                let batch = Batch { changes, reply: None, _place: place };
                self.inner.changes.send(Message::Batch(batch)).map_err(|_| StoreError::Closed)
            }
            Err(tokio::sync::TryAcquireError::Closed) => Err(StoreError::Closed),
            Err(tokio::sync::TryAcquireError::NoPermits) => Err(StoreError::Overloaded),
        };
        if let Err(error) = queued {
            Counting::add(&self.inner.counting.failed, 1);
            Counting::add(&self.inner.counting.failed_soon, 1);
            tracing::warn!(%error, changes = count, "a change is lost");
        }
    }

    /// Stores what is queued, answers what was asked, closes the file and gives the lock back. Other handles get
    /// [`StoreError::Closed`] from then on.
    pub async fn close(self) {
        self.inner.places.close();
        drop(locked(&self.inner.readers).take());
        let reading = std::mem::take(&mut *locked(&self.inner.reading));
        join(reading).await;
        // The writer may have ended already: closed by another handle.
        let _ = self.inner.changes.send(Message::Close);
        let writing = locked(&self.inner.writing).take();
        join(writing.into_iter().collect()).await;
    }

    /// Whether the state can be written.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.clone()
    }

    /// How much was written since the start.
    pub fn counters(&self) -> Counters {
        self.inner.counting.read()
    }

    /// The runs that are queued or active, by number.
    ///
    /// # Errors
    /// As every question: those of the disk, [`StoreError::Unreadable`], [`StoreError::Closed`].
    pub async fn open_runs(&self) -> Result<Vec<StoredRun>, StoreError> {
        self.ask("read the open runs", reads::open_runs).await
    }

    /// One run, if it is stored.
    ///
    /// # Errors
    /// As [`open_runs`](Self::open_runs).
    pub async fn run(&self, number: u64) -> Result<Option<StoredRun>, StoreError> {
        self.ask("read a run", move |c| reads::run(c, number)).await
    }

    /// A page of the list of runs, newest first.
    ///
    /// # Errors
    /// As [`open_runs`](Self::open_runs).
    pub async fn runs(&self, query: RunQuery) -> Result<Vec<RunRow>, StoreError> {
        self.ask("list runs", move |c| reads::runs(c, &query)).await
    }

    /// What a run told its clients after event `after_seq` (0: from the beginning), in order; at most `limit`, and at
    /// most 10,000.
    ///
    /// # Errors
    /// As [`open_runs`](Self::open_runs).
    pub async fn run_events(
        &self,
        number: u64,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<RunEvent>, StoreError> {
        self.ask("read the events of a run", move |c| reads::run_events(c, number, after_seq, limit)).await
    }

    /// What is remembered of each machine.
    ///
    /// # Errors
    /// As [`open_runs`](Self::open_runs).
    pub async fn dut_memories(&self) -> Result<BTreeMap<DutId, Value>, StoreError> {
        self.ask("read the machines' memories", reads::dut_memories).await
    }

    /// All values of a space.
    ///
    /// # Errors
    /// As [`open_runs`](Self::open_runs).
    pub async fn values(&self, space: &str) -> Result<BTreeMap<String, Value>, StoreError> {
        let space = space.to_owned();
        self.ask("read stored values", move |c| reads::values(c, &space)).await
    }

    /// Mean seconds from `started` to `ended` of the `last` finished runs of kind `job` (of that machine), for
    /// estimates. Those that never reached a machine (SETUP_FAIL, or no `started`) do not count; `None` without any.
    ///
    /// # Errors
    /// As [`open_runs`](Self::open_runs).
    pub async fn mean_seconds(&self, dut: Option<&DutId>, last: u32) -> Result<Option<f64>, StoreError> {
        let dut = dut.cloned();
        self.ask("read the mean length of runs", move |c| reads::mean_seconds(c, dut.as_ref(), last)).await
    }

    /// All tokens, by name.
    ///
    /// # Errors
    /// As [`open_runs`](Self::open_runs).
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.ask("read the tokens", reads::tokens).await
    }

    /// A page of the audit log, newest first: entries with an id below `before`, at most `limit`, and at most 1000.
    ///
    /// # Errors
    /// As [`open_runs`](Self::open_runs).
    pub async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.ask("read the audit log", move |c| reads::audit(c, before, limit)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        question: impl FnOnce(&Connection) -> Read<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = match &*locked(&self.inner.readers) {
            Some(readers) => readers.ask(&self.inner.path, operation, question),
            None => return Err(StoreError::Closed),
        };
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Places in the queue that a batch takes. One that is larger than the queue takes all of it.
fn weight(changes: &[Change]) -> u32 {
    u32::try_from(changes.len()).unwrap_or(WAITING).clamp(1, WAITING)
}

/// What these locks guard is whole at every moment, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for threads to end, without blocking the runtime.
async fn join(threads: Vec<JoinHandle<()>>) {
    let ended = tokio::task::spawn_blocking(move || threads.into_iter().all(|t| t.join().is_ok())).await;
    if !matches!(ended, Ok(true)) {
        tracing::error!("a thread of the state ended by a panic");
    }
}
