//! The writing thread: the one owner of the writing connection and of the lock. What waits in its queue becomes one
//! transaction (a commit costs an fsync), each batch in a savepoint of its own, so that a wrong batch harms no other.
//! In idle moments it copies the log into the database and lets retention remove a little.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use farmgate_protocol::Timestamp;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    apply::Tables,
    change::Change,
    error::StoreError,
    health::{Counting, HealthTeller},
    lock::Lock,
    retention::{self, Pruned, Retention},
    schema,
};

/// What is stored whole or not at all.
pub(crate) struct Batch {
    pub(crate) changes: Vec<Change>,
    /// Who waits for it, if anybody does.
    pub(crate) reply: Option<oneshot::Sender<Result<(), StoreError>>>,
    /// Its place in the queue, given back when it is dealt with.
    pub(crate) _place: OwnedSemaphorePermit,
}

pub(crate) enum Message {
    Batch(Batch),
    /// What was queued before is stored, then the thread ends.
    Close,
}

/// Batches that one transaction takes at most, so that the first of them does not wait for ever.
const GROUP: usize = 1024;
/// Without a batch for so long, the moment is idle.
const IDLE: Duration = Duration::from_millis(100);
/// While the disk fails, it is tried again this often.
const PROBE: Duration = Duration::from_secs(5);
/// Retention looks for old runs this often, even if nothing finishes.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// While there is something to remove and no moment is idle, a step is made this often.
const PRUNE_BUSY: Duration = Duration::from_secs(1);
/// Pause between two steps of retention.
const PRUNE_PAUSE: Duration = Duration::from_millis(10);
/// Commits after which the log is copied into the database, idle or not.
const CHECKPOINT_COMMITS: u32 = 256;

pub(crate) struct Writer {
    connection: Connection,
    path: Arc<Path>,
    keep: Retention,
    queue: Receiver<Message>,
    health: HealthTeller,
    counting: Arc<Counting>,
    _lock: Lock,
    /// Commits since the last checkpoint.
    commits: u32,
    /// Whether something came that may be too much.
    prune_due: bool,
    pruned_at: Instant,
    probed_at: Instant,
}

impl Writer {
    pub(crate) fn new(
        connection: Connection,
        path: Arc<Path>,
        keep: Retention,
        queue: Receiver<Message>,
        health: HealthTeller,
        counting: Arc<Counting>,
        lock: Lock,
    ) -> Self {
        Self {
            connection,
            path,
            keep,
            queue,
            health,
            counting,
            _lock: lock,
            commits: 0,
            prune_due: true,
            pruned_at: Instant::now(),
            probed_at: Instant::now(),
        }
    }

    /// Until it is told to close, or nobody can ask any more.
    pub(crate) fn work(mut self) {
        let mut wait = IDLE;
        loop {
            match self.queue.recv_timeout(wait) {
                Ok(Message::Batch(first)) => {
                    let (group, close) = self.group(first);
                    self.store(group);
                    self.checkpoint_if_due();
                    wait = if self.overdue() { self.idle() } else { IDLE };
                    if close {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => wait = self.idle(),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.end();
    }

    /// What waits behind the first batch, and whether the thread is to end after it.
    fn group(&self, first: Batch) -> (Vec<Batch>, bool) {
        let mut group = vec![first];
        while group.len() < GROUP {
            match self.queue.try_recv() {
                Ok(Message::Batch(batch)) => group.push(batch),
                Ok(Message::Close) => return (group, true),
                Err(_) => break,
            }
        }
        (group, false)
    }

    /// Stores a group, and tells each batch what became of it.
    fn store(&mut self, group: Vec<Batch>) {
        let results = match self.transaction(&group) {
            Ok(results) => results,
            // Perhaps one of them is too big for what room is left: the others must not fail with it.
            Err(StoreError::Full { .. }) if group.len() > 1 => {
                group.iter().map(|batch| self.alone(batch)).collect()
            }
            // A disk that fails, or a lock of another program, is waited for once and not by each.
            Err(error) => group.iter().map(|_| Err(error.clone())).collect(),
        };
        match results.iter().find_map(|result| result.as_ref().err().filter(|e| e.is_of_storage())) {
            Some(error) => self.health.failed(error),
            None if results.iter().any(Result::is_ok) => self.health.succeeded(),
            None => {}
        }
        for (batch, result) in group.into_iter().zip(results) {
            self.tell(batch, result);
        }
    }

    fn tell(&mut self, batch: Batch, result: Result<(), StoreError>) {
        match &result {
            Ok(()) => {
                Counting::add(&self.counting.batches, 1);
                let piles = |c: &Change| matches!(c, Change::Finish { .. } | Change::Audit { .. });
                self.prune_due |= batch.changes.iter().any(piles);
            }
            Err(error) => {
                Counting::add(&self.counting.failed, 1);
                if batch.reply.is_none() {
                    Counting::add(&self.counting.failed_soon, 1);
                    tracing::warn!(
                        error = error.with_causes(),
                        changes = batch.changes.len(),
                        "a change is lost"
                    );
                }
            }
        }
        if let Some(reply) = batch.reply {
            // Whoever asked may have gone; the batch is stored all the same.
            let _ = reply.send(result);
        }
    }

    /// A transaction for one batch.
    fn alone(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.transaction(std::slice::from_ref(batch))?.pop().unwrap_or(Ok(()))
    }

    /// One transaction for all of them. An error is of the disk and of all; what is wrong with one is in its place.
    fn transaction(&mut self, group: &[Batch]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let done = self.begin_and_commit(|writer| {
            let mut results = Vec::with_capacity(group.len());
            for batch in group {
                results.push(writer.in_savepoint(&batch.changes)?);
            }
            let worth = results.iter().any(Result::is_ok);
            Ok((results, worth))
        });
        if let Ok(results) = &done
            && results.iter().any(Result::is_ok)
        {
            self.commits += 1;
            Counting::add(&self.counting.commits, 1);
        }
        done
    }

    /// Runs `work` in a transaction; commits if it says that this is worth it. Never leaves one open.
    fn begin_and_commit<T>(
        &self,
        work: impl FnOnce(&Self) -> Result<(T, bool), StoreError>,
    ) -> Result<T, StoreError> {
        self.sql("begin a transaction", "BEGIN IMMEDIATE")?;
        let result =
            work(self).and_then(
                |(value, worth)| {
                    if worth { self.sql("commit", "COMMIT").map(|()| value) } else { Ok(value) }
                },
            );
        // An error of the disk may have rolled back already.
        if !self.connection.is_autocommit()
            && let Err(error) = self.sql("roll back", "ROLLBACK")
        {
            tracing::error!(error = error.with_causes(), "a transaction could not be rolled back");
        }
        result
    }

    /// The outer error ends the transaction; the inner one is of this batch alone.
    fn in_savepoint(&self, changes: &[Change]) -> Result<Result<(), StoreError>, StoreError> {
        self.sql("begin a batch", "SAVEPOINT batch")?;
        let tables = Tables { connection: &self.connection, path: &self.path };
        let result = changes.iter().try_for_each(|change| tables.apply(change));
        match result {
            Ok(()) => {}
            Err(error) if self.connection.is_autocommit() => return Err(error),
            Err(error) if error.is_of_storage() => return Err(error),
            Err(_) => self.sql("undo a batch", "ROLLBACK TO batch")?,
        }
        self.sql("end a batch", "RELEASE batch")?;
        Ok(result)
    }

    fn sql(&self, operation: &'static str, sql: &str) -> Result<(), StoreError> {
        let done = self.connection.prepare_cached(sql).and_then(|mut s| s.execute([]));
        done.map(drop).map_err(|e| StoreError::sqlite(operation, &self.path, e))
    }

    /// Whether retention has waited too long for an idle moment.
    fn overdue(&self) -> bool {
        self.pruned_at.elapsed() > if self.prune_due { PRUNE_BUSY } else { PRUNE_EVERY }
    }

    /// A little of what can wait; how long until the next.
    fn idle(&mut self) -> Duration {
        if self.health.is_failing() {
            if self.probed_at.elapsed() >= PROBE {
                self.probed_at = Instant::now();
                self.probe();
            }
            return PROBE;
        }
        if self.prune_due || self.overdue() {
            self.prune_due = self.prune();
            self.pruned_at = Instant::now();
            if self.prune_due {
                return PRUNE_PAUSE;
            }
        }
        if self.commits > 0 {
            self.checkpoint();
        }
        // Something to do comes with the next batch, or with the hour.
        PRUNE_EVERY
    }

    /// Tries to write while the disk fails: the same version again, which is a page in the log and an fsync.
    fn probe(&self) {
        let version = format!("PRAGMA user_version = {}", schema::SCHEMA_VERSION);
        match self.begin_and_commit(|writer| Ok((writer.sql("write again", &version)?, true))) {
            Ok(()) => self.health.succeeded(),
            Err(error) => self.health.failed(&error),
        }
    }

    /// One step of retention; whether there is more to do.
    fn prune(&mut self) -> bool {
        let step = self.begin_and_commit(|writer| {
            let pruned = retention::step(&writer.connection, &writer.keep, Timestamp::now())
                .map_err(|e| StoreError::sqlite("remove old runs", &writer.path, e))?;
            Ok((pruned, pruned.changed))
        });
        match step {
            Ok(Pruned { runs, more, changed }) => {
                self.commits += u32::from(changed);
                Counting::add(&self.counting.pruned_runs, runs);
                more
            }
            Err(error) => {
                self.health.failed(&error);
                // Not again and again: after the next run that ends, or in an hour.
                false
            }
        }
    }

    fn checkpoint_if_due(&mut self) {
        if self.commits >= CHECKPOINT_COMMITS {
            self.checkpoint();
        }
    }

    /// Copies the log into the database, as far as no reader needs it. Without room it stays where it is, in the log.
    fn checkpoint(&mut self) {
        self.commits = 0;
        let done = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = done {
            self.health.failed(&StoreError::sqlite("copy the log into the database", &self.path, error));
        }
    }

    fn end(self) {
        let Self { connection, path, .. } = self;
        // The last connection to close copies the log and removes it.
        if let Err((_, error)) = connection.close() {
            let error = StoreError::sqlite("close the state", &path, error);
            tracing::warn!(error = error.with_causes(), "the state was not closed cleanly; nothing is lost");
        }
    }
}
