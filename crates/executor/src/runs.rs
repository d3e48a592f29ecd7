//! The runs that have not ended, by their number: what a client, the API or the queue needs to reach one. The run's
//! own task (or, before it has a machine, the queue) decides; whoever holds a [`LiveRun`] reads and asks.

pub(crate) mod attendance;
pub(crate) mod log;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use farmgate_protocol::DutId;
use tokio::sync::{mpsc, watch};

use self::{attendance::Attendance, log::RunLog};
use crate::run::Command;

/// Bytes that clients type and the console has not taken yet, in pieces.
const TYPED_WAITING: usize = 64;

/// A run that has not ended.
#[derive(Clone)]
pub(crate) struct LiveRun {
    /// What it has told.
    pub log: Arc<RunLog>,
    /// Who listens.
    pub attendance: Arc<Attendance>,
    /// What clients type.
    pub input: mpsc::Sender<Vec<u8>>,
    /// What is asked of it.
    pub commands: mpsc::Sender<Command>,
    /// Its machine, once it has one.
    pub dut: watch::Receiver<Option<DutId>>,
}

/// The ends of a [`LiveRun`] that its owner holds. It goes from the queue to the run's task.
pub(crate) struct OwnEnds {
    pub live: LiveRun,
    pub input: mpsc::Receiver<Vec<u8>>,
    pub commands: mpsc::Receiver<Command>,
    pub dut: watch::Sender<Option<DutId>>,
}

impl OwnEnds {
    /// A run that nobody has heard of yet.
    pub fn new(log: Arc<RunLog>, attendance: Arc<Attendance>) -> Self {
        let (typed, input) = mpsc::channel(TYPED_WAITING);
        let (orders, commands) = mpsc::channel(4);
        let (dut, watched) = watch::channel(None);
        let live = LiveRun { log, attendance, input: typed, commands: orders, dut: watched };
        Self { live, input, commands, dut }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Runs {
    live: Mutex<BTreeMap<u64, LiveRun>>,
}

impl Runs {
    /// It can be found from now on.
    pub fn insert(&self, run: u64, live: LiveRun) {
        self.lock().insert(run, live);
    }

    /// It has ended; what is to be known of it is stored.
    pub fn remove(&self, run: u64) {
        self.lock().remove(&run);
    }

    /// The run of that number, if it has not ended.
    pub fn get(&self, run: u64) -> Option<LiveRun> {
        self.lock().get(&run).cloned()
    }

    /// The run that a machine is busy with.
    pub fn on(&self, dut: &DutId) -> Option<u64> {
        self.lock().iter().find(|(_, live)| live.dut.borrow().as_ref() == Some(dut)).map(|(run, _)| *run)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, LiveRun>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
