//! Whether the state can be written, and how much was, for the API and its metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use farmgate_protocol::Timestamp;
use tokio::sync::watch;

use crate::error::StoreError;

/// Whether the last attempt to write succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It did.
    Ok,
    /// It did not. While that is so the writer tries again by itself every 5 s.
    Failing {
        /// Since when.
        since: Timestamp,
        /// What is wrong and what helps.
        error: String,
    },
}

/// How much was written since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Batches that are stored.
    pub batches: u64,
    /// Commits (each an fsync) that it took.
    pub commits: u64,
    /// Batches that were refused or could not be stored.
    pub failed: u64,
    /// Those of `failed` that nobody waited for ([`write_soon`](crate::Store::write_soon)).
    pub failed_soon: u64,
    /// Finished runs that retention removed.
    pub pruned_runs: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) batches: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) failed_soon: AtomicU64,
    pub(crate) pruned_runs: AtomicU64,
}

impl Counting {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            batches: self.batches.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            failed_soon: self.failed_soon.load(Ordering::Relaxed),
            pruned_runs: self.pruned_runs.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// The writer's side: says on a change only, so that `since` is the first failure of a row of them.
#[derive(Debug)]
pub(crate) struct HealthTeller(pub(crate) watch::Sender<Health>);

impl HealthTeller {
    pub(crate) fn is_failing(&self) -> bool {
        matches!(*self.0.borrow(), Health::Failing { .. })
    }

    pub(crate) fn succeeded(&self) {
        let was_failing = self.0.send_if_modified(|health| {
            let failing = *health != Health::Ok;
            *health = Health::Ok;
            failing
        });
        if was_failing {
            tracing::info!("the state is written again");
        }
    }

    pub(crate) fn failed(&self, error: &StoreError) {
        let text = error.with_causes();
        self.0.send_if_modified(|health| match health {
            Health::Failing { error, .. } if *error == text => false,
            Health::Failing { error, .. } => {
                error.clone_from(&text);
                true
            }
            Health::Ok => {
                tracing::error!(error = text, "the state cannot be written");
                *health = Health::Failing { since: Timestamp::now(), error: text.clone() };
                true
            }
        });
    }
}

impl Drop for HealthTeller {
    /// With the writer gone by a panic nothing is stored any more; that must not look like health.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = "the writing thread ended by a bug: restart the gateway, and report it".to_owned();
            self.0.send_replace(Health::Failing { since: Timestamp::now(), error });
        }
    }
}
