//! The task that follows the farm file.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use farmgate_protocol::DutId;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{MarsError, Request, blocking};
use crate::{
    change::{self, Changed, DutChange, Outcome},
    farm::Farm,
    file,
    parse::{CheckContext, Parsed, parse},
};

/// A file that has been still for so long is taken for saved.
const STILL: Duration = Duration::from_millis(20);
/// A file that never stands still is read anyway after this.
const RESTLESS: Duration = Duration::from_millis(500);
/// A file that is gone or empty may be in the middle of being saved: it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// So often, before it is called a problem.
const LOOKS: u32 = 5;
/// How often the file is looked at without being told of a change.
const PATROL: Duration = Duration::from_secs(2);
/// How often a write is tried against somebody who saves all the time.
const TRIES: usize = 50;

/// Owns the farm file.
pub(super) struct Follower {
    pub path: PathBuf,
    pub name: String,
    pub context: CheckContext,
    /// What the file held when it was last looked at.
    pub text: String,
    pub publish: watch::Sender<Arc<Farm>>,
    pub complain: watch::Sender<Option<String>>,
    /// The file could not be read when it was last looked at.
    pub missing: bool,
}

/// Says what should be corrected some day.
pub(super) fn log_warnings(name: &str, parsed: &Parsed) {
    for warning in &parsed.warnings {
        tracing::warn!("{}", warning.render(name));
    }
}

impl Follower {
    pub async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Request>,
        mut saves: mpsc::Receiver<()>,
        stop: CancellationToken,
    ) {
        let mut unsure = 0;
        loop {
            let pause = if unsure > 0 { LOOK_AGAIN } else { PATROL };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                request = inbox.recv() => match request {
                    Some(request) => {
                        self.serve(request).await;
                        continue;
                    }
                    None => return,
                },
                // The watcher lives as long as this task; if it ended, the patrol is left.
                Some(()) = saves.recv() => {}
                () = sleep(pause) => {}
            }
            unsure = if self.look(unsure >= LOOKS).await { 0 } else { unsure + 1 };
        }
    }

    /// Reads the file when it stands still.
    async fn settled(&self) -> io::Result<String> {
        let read = || {
            let path = self.path.clone();
            blocking(move || file::read(&path))
        };
        let start = Instant::now();
        let mut text = read().await;
        // Nothing happened, as in most patrols: no need to look twice.
        while !matches!(&text, Ok(text) if *text == self.text) && start.elapsed() < RESTLESS {
            sleep(STILL).await;
            let again = read().await;
            let still = matches!((&text, &again), (Ok(before), Ok(after)) if before == after);
            text = again;
            if still || text.is_err() {
                break;
            }
        }
        text
    }

    /// Takes the file in, if it changed. False if it may be in the middle of being saved and `sure` is not set.
    async fn look(&mut self, sure: bool) -> bool {
        match self.settled().await {
            Ok(text) if text == self.text && !self.missing => true,
            Ok(text) if text.trim().is_empty() && self.has_something() => {
                if sure {
                    self.text = text;
                    self.complain(format!(
                        "{}:1:1: the file is empty\n  fix: restore it; to really remove everything, leave a comment in it",
                        self.name
                    ));
                }
                sure
            }
            Ok(text) => {
                self.take(text);
                true
            }
            Err(error) => {
                if sure && !self.missing {
                    self.missing = true;
                    self.complain(format!(
                        "{}: the file cannot be read: {error}\n  fix: restore it",
                        self.name
                    ));
                }
                sure
            }
        }
    }

    fn has_something(&self) -> bool {
        let farm = self.publish.borrow();
        !farm.duts.is_empty() || !farm.pdus.is_empty() || !farm.gitlab.is_empty() || !farm.github.is_empty()
    }

    fn complain(&self, problem: String) {
        tracing::error!("the farm file is wrong, the last good one stays in force\n{problem}");
        self.complain.send_replace(Some(problem));
    }

    fn take(&mut self, text: String) {
        match parse(&self.name, &text, &self.context) {
            Ok(parsed) => {
                log_warnings(&self.name, &parsed);
                self.in_force(parsed.farm);
            }
            Err(error) => self.complain(error.to_string()),
        }
        self.text = text;
        self.missing = false;
    }

    fn in_force(&self, farm: Farm) {
        let news = self.publish.send_if_modified(|old| {
            let news = **old != farm;
            if news {
                *old = Arc::new(farm);
            }
            news
        });
        if news {
            tracing::info!(path = self.name, "a new version of the farm file is in force");
        }
        self.complain.send_if_modified(|problem| problem.take().is_some());
    }

    async fn serve(&mut self, request: Request) {
        // The caller may be gone; what it asked was done all the same.
        let _ = match request {
            Request::Update { id, change, done } => done.send(self.write(&id, Some(*change)).await),
            Request::Remove { id, done } => done.send(self.write(&id, None).await),
        };
    }

    /// Brings a change (none: removes the machine) into the file as it is on disk now.
    async fn write(&mut self, id: &DutId, change: Option<DutChange>) -> Result<Arc<Farm>, MarsError> {
        let before = self.publish.borrow().clone();
        let job = Write {
            path: self.path.clone(),
            name: self.name.clone(),
            context: self.context.clone(),
            id: id.clone(),
            change,
            before,
            known: self.text.clone(),
        };
        let changed = blocking(move || job.carry_out()).await?;
        self.text = changed.text;
        self.in_force(changed.farm);
        Ok(self.publish.borrow().clone())
    }
}

/// A write, to be carried out where blocking is allowed.
struct Write {
    path: PathBuf,
    name: String,
    context: CheckContext,
    id: DutId,
    change: Option<DutChange>,
    before: Arc<Farm>,
    /// What the file held when it was last looked at.
    known: String,
}

impl Write {
    fn carry_out(self) -> Result<Changed, MarsError> {
        let failed = |operation| MarsError::io(operation, &self.path);
        let lock = file::lock(&self.path).map_err(failed("lock"))?;
        for turn in 0..TRIES {
            if turn > 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
            let text = file::read(&self.path).map_err(failed("read"))?;
            // Somebody may be half way through saving; who never stops is not waited for.
            if text != self.known && turn < TRIES / 2 && !file::is_still(&self.path, STILL) {
                continue;
            }
            let Some(changed) = self.attempt(&text)? else { continue };
            let written = changed.text == text
                || file::replace(&self.path, &text, &changed.text, &lock).map_err(failed("write"))?;
            if written {
                return Ok(changed);
            }
        }
        Err(MarsError::Busy)
    }

    /// `None`: the file is in the middle of being saved.
    fn attempt(&self, text: &str) -> Result<Option<Changed>, MarsError> {
        if text.trim().is_empty() && (!self.before.duts.is_empty() || !self.before.pdus.is_empty()) {
            return Ok(None);
        }
        let now = parse(&self.name, text, &self.context).map_err(MarsError::Invalid)?.farm;
        let outcome = match &self.change {
            Some(change) => {
                change::update(&self.name, text, &now, &self.before, &self.context, &self.id, change.clone())
            }
            None => change::remove(&self.name, text, &now, &self.context, &self.id),
        };
        match outcome? {
            Outcome::Changed(changed) => Ok(Some(*changed)),
            Outcome::NoSuchDut => Err(MarsError::NoSuchDut(self.id.clone())),
        }
    }
}
