//! The queue's task: the only one that gives jobs to machines. It learns of each submission and of each machine that
//! becomes free, asks the pure [`Queue`] who is next, and starts that one. What waits is stored, so that it still waits
//! after a restart.

mod pending;
mod starting;
mod why;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use farmgate_job::Cause;
use farmgate_protocol::{
    DutId, JobStatus, Timestamp,
    dut::DutState,
    run::{Priority, Why},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::Instant,
};

pub(crate) use self::pending::{Pending, Reply, StoredClient};
use self::starting::{Started, start};
use crate::{
    dut::Shared,
    matching::satisfies,
    queue::{Queue, Waiting, Waits},
    submit::SubmitError,
};

/// Submissions and questions that wait for the queue's task.
const INBOX: usize = 256;

/// Jobs that may wait; more are refused (409).
const MOST_WAITING: usize = 10_000;

/// What others ask of the queue.
pub(crate) enum Ask {
    /// A job that was checked.
    Submit { pending: Box<Pending>, wait: bool, name: Option<String>, busy: String },
    /// A job that waited when the gateway ended.
    Restore(Box<Pending>),
    /// End one that waits. False: it does not wait (any more).
    Cancel { run: u64, by: String, reply: oneshot::Sender<bool> },
    /// What does it wait for? None: it does not wait here.
    Why { run: u64, reply: oneshot::Sender<Option<Why>> },
}

/// Handle to the queue.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    inbox: mpsc::Sender<Ask>,
}

impl Dispatcher {
    /// A handle, and the other end for [`run`].
    pub fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (inbox, asks) = mpsc::channel(INBOX);
        (Self { inbox }, asks)
    }

    /// Asks. Dropped where the gateway is stopping.
    pub async fn ask(&self, ask: Ask) {
        // Its reply is dropped with it, which tells the asker.
        let _ = self.inbox.send(ask).await;
    }
}

/// A job in the queue, and what watches its client.
struct Job {
    pending: Box<Pending>,
    watch: Option<AbortHandle>,
}

struct Task {
    shared: Arc<Shared>,
    queue: Queue,
    jobs: BTreeMap<u64, Job>,
    /// Targets of clients that only ask: their jobs are not here.
    asking: BTreeMap<u64, farmgate_job::Target>,
    /// Machines that were given away and do not show it yet.
    taken: BTreeSet<DutId>,
    starting: JoinSet<Started>,
    /// Each ends when the client of a waiting job is gone for good.
    leaving: JoinSet<u64>,
}

/// Keeps the queue until the gateway stops.
pub(crate) async fn run(shared: Arc<Shared>, mut asks: mpsc::Receiver<Ask>) {
    let mut task = Task {
        shared: Arc::clone(&shared),
        queue: Queue::default(),
        jobs: BTreeMap::new(),
        asking: BTreeMap::new(),
        taken: BTreeSet::new(),
        starting: JoinSet::new(),
        leaving: JoinSet::new(),
    };
    loop {
        task.dispatch(None);
        let alarm = task.alarm();
        tokio::select! {
            () = shared.shutdown.cancelled() => break,
            ask = asks.recv() => match ask {
                Some(ask) => task.answer(ask).await,
                None => break,
            },
            () = shared.freed.notified() => {}
            Some(started) = task.starting.join_next() => match started {
                Ok(started) => task.started(started),
                Err(error) => tracing::error!(%error, "a job's start ended by a bug"),
            },
            Some(Ok(run)) = task.leaving.join_next() => {
                let cause = Cause::Cancelled { by: "the client".to_owned() };
                let summary = "the client went away before the job had a machine";
                task.end(run, JobStatus::SetupFail, cause, summary);
            }
            () = sleep_until(alarm) => task.clock(),
        }
    }
    // What was being started gets its answer from the machine's task, which stops too.
    while task.starting.join_next().await.is_some() {}
}

impl Task {
    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Submit { pending, wait, name, busy } => self.submit(pending, wait, name, busy),
            Ask::Restore(pending) => {
                self.tell_place(&pending);
                self.keep(pending);
            }
            Ask::Cancel { run, by, reply } => {
                let waits = self.jobs.contains_key(&run);
                let summary = format!("the job was cancelled by {by} before it had a machine");
                self.end(run, JobStatus::SetupFail, Cause::Cancelled { by }, &summary);
                // An asker that is gone does not want to know.
                let _ = reply.send(waits);
            }
            Ask::Why { run, reply } => {
                let _ = reply.send(self.why(run).await);
            }
        }
    }

    fn submit(&mut self, mut pending: Box<Pending>, wait: bool, name: Option<String>, busy: String) {
        let now = Timestamp::now();
        let run = pending.number;
        let kept = name.as_deref().and_then(|name| self.queue.asks_again(name, now));
        let place = kept.and_then(|kept| self.queue.remove(kept));
        if let Some(kept) = kept {
            self.asking.remove(&kept);
        }
        let since = place.map_or(now, |place| place.since);
        pending.since = since;
        let waits = if wait {
            Waits::Here
        } else {
            Waits::Asking { name: name.clone().unwrap_or_default(), last: now }
        };
        self.queue.push(Waiting { run, waits, priority: pending.priority, since });
        let target = pending.target.clone();
        self.jobs.insert(run, Job { pending, watch: None });
        self.dispatch(Some(run));
        let Some(job) = self.jobs.remove(&run) else { return }; // it starts
        if wait && self.jobs.len() < MOST_WAITING {
            let mut pending = job.pending;
            pending.store_as_waiting(&self.shared);
            self.tell_place(&pending);
            pending.accept_when_stored(&self.shared);
            self.watch(pending);
            return;
        }
        if !wait && name.is_some() && self.jobs.len() + self.asking.len() < MOST_WAITING {
            self.asking.insert(run, target);
        } else {
            self.queue.remove(run);
        }
        let text = if wait { format!("{MOST_WAITING} jobs wait already; {busy}") } else { busy };
        job.pending.refuse(SubmitError::Busy(text));
    }

    /// A job stays in the queue.
    fn keep(&mut self, pending: Box<Pending>) {
        let waiting = Waiting {
            run: pending.number,
            waits: Waits::Here,
            priority: pending.priority,
            since: pending.since,
        };
        self.queue.remove(pending.number);
        self.queue.push(waiting);
        self.watch(pending);
    }

    fn watch(&mut self, pending: Box<Pending>) {
        let run = pending.number;
        let attendance = Arc::clone(&pending.live.attendance);
        let watch = self.leaving.spawn(async move {
            attendance.gone().await;
            run
        });
        self.jobs.insert(run, Job { pending, watch: Some(watch) });
    }

    /// Starts what can start. `asking`: a client that asks for a machine now.
    fn dispatch(&mut self, asking: Option<u64>) {
        if self.jobs.is_empty() && asking.is_none() {
            return;
        }
        let farm = &self.shared.config.farm_name;
        let mut free = BTreeMap::new();
        for handle in self.shared.duts.present() {
            let shown = handle.shown.borrow();
            if shown.state == DutState::Idle && !self.taken.contains(&shown.id) {
                free.insert(shown.id.clone(), shown.clone());
            }
        }
        if free.is_empty() {
            return;
        }
        let ids: Vec<DutId> = free.keys().cloned().collect();
        let fits = |run: u64, id: &DutId| {
            let target = self.jobs.get(&run).map(|j| &j.pending.target).or_else(|| self.asking.get(&run));
            target.is_some_and(|target| free.get(id).is_some_and(|dut| satisfies(dut, target, farm)))
        };
        let given = self.queue.assign(&ids, fits, asking, Timestamp::now());
        for assignment in given {
            let Some(job) = self.jobs.remove(&assignment.run) else { continue };
            if let Some(watch) = job.watch {
                watch.abort();
            }
            self.queue.remove(assignment.run);
            let Some(dut) = free.remove(&assignment.dut) else { continue };
            self.taken.insert(assignment.dut);
            self.starting.spawn(start(Arc::clone(&self.shared), job.pending, dut));
        }
    }

    fn started(&mut self, started: Started) {
        self.taken.remove(&started.dut);
        match started.back {
            None => {}
            // The machine was not free after all.
            Some(pending) if pending.stored => self.keep(pending),
            Some(pending) => {
                let text = format!("{} was taken by something else at this moment: ask again", started.dut);
                pending.refuse(SubmitError::Busy(text));
            }
        }
    }

    /// A job ends without a machine.
    fn end(&mut self, run: u64, status: JobStatus, cause: Cause, summary: &str) {
        self.queue.remove(run);
        if let Some(job) = self.jobs.remove(&run) {
            if let Some(watch) = job.watch {
                watch.abort();
            }
            job.pending.end(&self.shared, status, cause, summary);
        }
    }

    /// When something happens by the clock alone.
    fn alarm(&self) -> Option<Instant> {
        let deadlines = self.jobs.values().filter_map(|job| job.pending.deadline);
        let next = self.queue.silent_at().into_iter().chain(deadlines).min()?;
        // A little later, so that it is over then.
        Some(Instant::now() + next.since(Timestamp::now()) + Duration::from_millis(10))
    }

    fn clock(&mut self) {
        let now = Timestamp::now();
        for run in self.queue.drop_silent(now) {
            self.asking.remove(&run);
        }
        let late: Vec<u64> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.pending.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(run, _)| *run)
            .collect();
        for run in late {
            self.end(
                run,
                JobStatus::SetupFail,
                Cause::JobError,
                "the job's deadline passed before it had a machine",
            );
        }
    }

    /// Tells the client of a waiting job where it stands.
    fn tell_place(&self, pending: &Pending) {
        let place = self.place(pending.number, &pending.target);
        pending.tell_place(&self.shared, place);
    }

    /// From 1, among those that wait for a machine which would do for this one too.
    fn place(&self, run: u64, target: &farmgate_job::Target) -> u32 {
        let farm = &self.shared.config.farm_name;
        let duts: Vec<_> = self.shared.duts.present().iter().map(|h| h.shown.borrow().clone()).collect();
        let mut place = 1;
        for waiting in self.queue.in_order(Timestamp::now()) {
            if waiting.run == run {
                break;
            }
            let other = self.jobs.get(&waiting.run).map(|j| &j.pending.target);
            let other = other.or_else(|| self.asking.get(&waiting.run));
            let meets = |other| duts.iter().any(|d| satisfies(d, target, farm) && satisfies(d, other, farm));
            if other.is_some_and(meets) {
                place += 1;
            }
        }
        place
    }
}

/// Whether somebody may ask for a priority is decided where callers are known; here it is only a number.
pub(crate) fn priority_of(word: &str) -> Priority {
    match word {
        "low" => Priority::Low,
        "high" => Priority::High,
        _ => Priority::Default,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
