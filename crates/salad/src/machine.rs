//! One machine: its record, the console that speaks for it, and who may write to that console.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::spawn_blocking;

use crate::association::{Claim, Decision, decide};
use crate::legacy::Ports;
use crate::machine_id::MachineId;
use crate::offset::{ConsoleOffset, ConsoleTime};
use crate::record::{Follower, Record, RecordError};
use crate::spawner::Spawner;

/// How long a console may take to accept what is typed.
const INPUT_PATIENCE: Duration = Duration::from_secs(5);

/// A console's number, never used twice while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConsoleNumber(pub(crate) u64);

/// The console that speaks for a machine.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) console: ConsoleNumber,
    pub(crate) peer: IpAddr,
    /// What is typed goes here.
    pub(crate) input: mpsc::Sender<Bytes>,
}

/// Why nothing could be typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputError {
    /// No console speaks for the machine.
    NoConsole,
    /// It does not take what is typed.
    Stuck,
}

/// A machine whose record is open.
#[derive(Debug)]
pub(crate) struct Machine {
    id: MachineId,
    record: Arc<Record>,
    console: Mutex<Option<Attached>>,
    /// Opened when somebody asks for them.
    pub(crate) ports: OnceCell<Ports>,
    has_client: AtomicBool,
    spawner: Spawner,
}

impl Machine {
    pub(crate) fn new(id: MachineId, record: Record, spawner: Spawner) -> Self {
        Self {
            id,
            record: Arc::new(record),
            console: Mutex::new(None),
            ports: OnceCell::new(),
            has_client: AtomicBool::new(false),
            spawner,
        }
    }

    pub(crate) fn id(&self) -> &MachineId {
        &self.id
    }

    /// Where the next byte will be.
    pub(crate) fn end(&self) -> ConsoleOffset {
        self.record.end()
    }

    /// Reads its record, from an offset on.
    pub(crate) fn follow(&self, from: ConsoleOffset) -> Follower {
        Follower::new(Arc::clone(&self.record), from)
    }

    /// Lets a console speak for the machine, if the safety rule allows it. `has_another`: it speaks for another
    /// machine already.
    pub(crate) fn attach(&self, newcomer: Attached, has_another: bool) -> Decision {
        let mut present = self.console();
        let decision = match &*present {
            Some(p) if p.console == newcomer.console => Decision::Take,
            other => decide(other.as_ref().map(|p| p.peer), Claim { peer: newcomer.peer, has_another }),
        };
        if decision != Decision::Refuse {
            *present = Some(newcomer);
        }
        decision
    }

    /// The console does not speak for the machine any more.
    pub(crate) fn detach(&self, console: ConsoleNumber) {
        let mut present = self.console();
        if present.as_ref().is_some_and(|p| p.console == console) {
            *present = None;
        }
    }

    /// Records what the console said; `false` when it has lost the machine to another one.
    ///
    /// # Errors
    /// When the disk refuses; the same bytes (at most one chunk) can be tried again.
    pub(crate) fn append_from(
        &self,
        console: ConsoleNumber,
        time: ConsoleTime,
        bytes: &[u8],
    ) -> Result<bool, RecordError> {
        let present = self.console();
        if present.as_ref().is_none_or(|p| p.console != console) {
            return Ok(false);
        }
        self.append(time, bytes)?;
        Ok(true)
    }

    /// Records bytes of nobody in particular.
    ///
    /// # Errors
    /// As for [`Machine::append_from`].
    pub(crate) fn append(&self, time: ConsoleTime, bytes: &[u8]) -> Result<(), RecordError> {
        if let Some(sealed) = self.record.append(time, bytes)? {
            let id = self.id.clone();
            self.spawner.spawn(async move {
                if let Ok(Err(error)) = spawn_blocking(move || sealed.sync()).await {
                    tracing::error!(machine = %id, %error, "cannot synchronise a console segment with the disk");
                }
            });
        }
        Ok(())
    }

    /// Types bytes into the console that spoke last.
    ///
    /// # Errors
    /// When there is none, or it takes nothing for 5 s.
    pub(crate) async fn write(&self, bytes: Bytes) -> Result<(), InputError> {
        let input = self.console().as_ref().map(|p| p.input.clone()).ok_or(InputError::NoConsole)?;
        match tokio::time::timeout(INPUT_PATIENCE, input.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(InputError::NoConsole),
            Err(_) => Err(InputError::Stuck),
        }
    }

    /// Does a console speak for it?
    pub(crate) fn is_connected(&self) -> bool {
        self.console().is_some()
    }

    /// Is its raw TCP port in use?
    pub(crate) fn has_client(&self) -> bool {
        self.has_client.load(Ordering::Acquire)
    }

    /// Takes the one place of the raw TCP port; `None` when another has it.
    pub(crate) fn take_client_place(self: &Arc<Self>) -> Option<ClientPlace> {
        (!self.has_client.swap(true, Ordering::AcqRel)).then(|| ClientPlace(Arc::clone(self)))
    }

    fn console(&self) -> MutexGuard<'_, Option<Attached>> {
        // No code that holds it can leave it half changed.
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one place of a machine's raw TCP port, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ClientPlace(Arc<Machine>);

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.0.has_client.store(false, Ordering::Release);
    }
}
