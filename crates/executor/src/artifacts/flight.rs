//! One download, shared by all who want the same URL at that time: it asks, tries again, and says how far it is. It
//! ends when the last of them has gone.

use std::{sync::Arc, time::Duration};

use farmgate_protocol::Timestamp;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Patience, Progress,
    error::{ArtifactError, Problem},
    part::Part,
    source::Source,
    store::{Cached, Pin, Store},
};

/// Where a download stands.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// The server has not answered yet: whoever comes now gets what it has now.
    Asking(Progress),
    /// It sends.
    Loading(Progress),
    /// It is over.
    Done(Result<Landed, ArtifactError>),
}

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Landed {
    pub path: std::path::PathBuf,
    pub pin: Pin,
    pub warning: Option<String>,
    /// Whether the server can say at little cost that this is what it has.
    pub can_ask: bool,
}

/// A download that goes on as long as somebody holds this.
pub(super) struct Flight {
    pub stage: watch::Receiver<Stage>,
    _task: AbortOnDropHandle<()>,
}

impl Flight {
    /// Begins one.
    pub fn start(store: Arc<Store>, http: reqwest::Client, source: Source, patience: Patience) -> Self {
        let (sender, stage) = watch::channel(Stage::Asking(Progress::default()));
        let download = Download {
            known: store.cached(source.key),
            store,
            http,
            source,
            patience,
            stage: sender.clone(),
            newer: false,
            unconditional: false,
            trouble: None,
            part: None,
        };
        let task = tokio::spawn(async move {
            let result = download.run().await;
            // Nobody may wait any more.
            let _ = sender.send(Stage::Done(result));
        });
        Self { stage, _task: AbortOnDropHandle::new(task) }
    }

    /// Its end; meanwhile `progress` is told what has arrived.
    pub async fn end(
        &self,
        progress: &mut (dyn FnMut(&Progress) + Send),
    ) -> Option<Result<Landed, ArtifactError>> {
        let mut stage = self.stage.clone();
        loop {
            let now = stage.borrow_and_update().clone();
            match now {
                Stage::Asking(now) | Stage::Loading(now) => progress(&now),
                Stage::Done(result) => return Some(result),
            }
            // The task died: a bug.
            stage.changed().await.ok()?;
        }
    }
}

/// Why an attempt did not succeed.
pub(super) enum Fault {
    /// No other attempt will.
    Final(Problem),
    /// The source is at fault, and will be the same again.
    Hopeless(String),
    /// Another may.
    Again {
        reason: String,
        /// When the server wants to be asked again.
        wait: Option<Duration>,
    },
    /// What was there did not fit: at once, from the beginning.
    StartOver(&'static str),
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self::Final(problem)
    }
}

/// The task's own.
pub(super) struct Download {
    pub store: Arc<Store>,
    pub http: reqwest::Client,
    pub source: Source,
    pub patience: Patience,
    pub stage: watch::Sender<Stage>,
    /// What there is of an earlier download.
    pub known: Option<Cached>,
    /// The server has another file by now.
    pub newer: bool,
    /// Do not ask whether it has changed.
    pub unconditional: bool,
    /// Why the last attempt failed.
    pub trouble: Option<String>,
    pub part: Option<Part>,
}

/// A pause never gets longer than that by itself.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Download {
    async fn run(mut self) -> Result<Landed, ArtifactError> {
        let end = Instant::now() + self.patience.total;
        let (mut attempts, mut pause, mut before) = (0, self.patience.pause, 0);
        loop {
            attempts += 1;
            let fault = match tokio::time::timeout_at(end, self.attempt()).await {
                Ok(Ok(landed)) => return Ok(landed),
                Ok(Err(fault)) => fault,
                Err(_) => {
                    Fault::Hopeless(format!("it was not whole after {} s", self.patience.total.as_secs()))
                }
            };
            let (reason, wait, hopeless) = match fault {
                Fault::Final(Problem::DiskFull) if self.relieve().await => continue,
                Fault::Final(problem) => return Err(self.failed(problem).await),
                Fault::Hopeless(reason) => (reason, None, true),
                Fault::Again { reason, wait } => (reason, wait, false),
                Fault::StartOver(reason) => (reason.to_owned(), Some(Duration::ZERO), false),
            };
            let got = self.part.as_ref().map_or(0, |part| part.length().0);
            if got > before {
                pause = self.patience.pause; // it goes forward, if not in one piece
            }
            before = got;
            // Where there is a copy to use, nobody waits long for a source that says nothing.
            let usable = self.known.is_some() && !self.newer;
            let most = if usable { self.patience.attempts_with_copy } else { self.patience.attempts };
            let pausing = wait.unwrap_or(pause).min(self.patience.longest_wait);
            if hopeless || attempts >= most || Instant::now() + pausing >= end {
                return self.fall_back(reason, attempts).await;
            }
            tracing::info!(url = self.source.shown, attempts, reason, "a download is tried again");
            self.trouble = Some(reason);
            self.tell(None);
            tokio::time::sleep(pausing).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The disk is full: makes room, if the cache has any. Each time takes something out of it, so this ends.
    async fn relieve(&mut self) -> bool {
        let (got, total) = self.part.as_ref().map_or((0, None), Part::length);
        let missing = total.map_or(64 << 20, |total| total.saturating_sub(got)).max(1);
        let store = Arc::clone(&self.store);
        blocking(move || Ok(store.relieve(missing))).await.is_ok_and(|freed| freed > 0)
    }

    /// The source does not work. Is there a copy that serves?
    async fn fall_back(mut self, reason: String, attempts: u32) -> Result<Landed, ArtifactError> {
        match self.known.take() {
            Some(Cached { entry, path, pin }) if !self.newer => {
                let age = age(Timestamp::now().since(entry.checked));
                let warning = format!(
                    "{}: {reason}; the copy in the cache is used, which was right {age} ago",
                    self.source.shown
                );
                self.leave().await;
                Ok(Landed { path, pin, warning: Some(warning), can_ask: false })
            }
            Some(_) => Err(self.failed(Problem::Newer { reason, attempts }).await),
            None => Err(self.failed(Problem::Source { reason, attempts }).await),
        }
    }

    async fn failed(mut self, problem: Problem) -> ArtifactError {
        let error = self.source.error(problem);
        tracing::warn!(%error, "an artifact cannot be had");
        if matches!(error.problem, Problem::Source { .. } | Problem::Newer { .. } | Problem::Bug) {
            self.leave().await;
        } else if let Some(part) = self.part.take() {
            // Nobody will go on with it, and the room may be needed.
            let discarded = blocking(move || {
                part.discard();
                Ok(())
            });
            // It is told already that there is a problem.
            let _ = discarded.await;
        }
        error
    }

    /// Leaves what has arrived to the next download, if that can go on with it.
    async fn leave(&mut self) {
        let Some(mut part) = self.part.take() else { return };
        let left = blocking(move || {
            match part.rest()? {
                Some(_) => part.keep()?,
                None => part.discard(),
            }
            Ok(())
        });
        if let Err(problem) = left.await {
            tracing::warn!(%problem, "a download cannot be kept for later");
        }
    }

    /// Says how far it is. `answered`: what of it is there, and how much there is.
    pub(super) fn tell(&self, answered: Option<(u64, Option<u64>)>) {
        let trouble = self.trouble.clone();
        self.stage.send_modify(|stage| {
            *stage = match (answered, &*stage) {
                (Some((got, total)), _) => Stage::Loading(Progress { got, total, trouble }),
                (None, Stage::Loading(now)) => Stage::Loading(Progress { trouble, ..now.clone() }),
                (None, _) => Stage::Asking(Progress { trouble, ..Progress::default() }),
            };
        });
    }

    /// Does something with the file, on a thread that may wait for the disk.
    pub(super) async fn with_part<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut Part) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (part, store, key) = (self.part.take(), Arc::clone(&self.store), self.source.key);
        let (part, result) = blocking(move || {
            let mut part = match part {
                Some(part) => part,
                None => Part::open(&store, key)?,
            };
            let result = act(&mut part);
            Ok((part, result))
        })
        .await?;
        self.part = Some(part);
        result
    }
}

/// Runs what waits for the disk where that holds up nobody.
pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|error| {
        tracing::error!(%error, "work on the artifact cache ended by a bug");
        Err(Problem::Bug)
    })
}

/// A length of time as a person says it.
fn age(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_unit_that_fits() {
        for (seconds, expected) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 days")]
        {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
    }
}
