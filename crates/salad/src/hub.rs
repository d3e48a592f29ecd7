//! All machines, made when they are first named, and the bounds on what strangers can make.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::legacy;
use crate::machine::{ConsoleNumber, Machine};
use crate::machine_id::MachineId;
use crate::record::{Record, RecordError, RecordSettings};
use crate::spawner::Spawner;
use crate::wire::MachineStatus;

/// The most machines.
const MAX_MACHINES: usize = 10_000;

/// The most machines that the consoles of one address may make by naming them. The loopback is exempt: a vPDU
/// brings all of its machines from there.
const MAX_MADE_BY_ADDRESS: usize = 64;

/// The most machines with open legacy ports (two sockets each). Others report port 0.
const MAX_LEGACY: usize = 512;

/// The most bytes of consoles that have not named their machine, all together.
const MAX_WAITING: usize = 256 << 20;

/// Why there is no such machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    #[error(
        "there are {MAX_MACHINES} machines already; remove folders of machines that are gone, then restart SALAD"
    )]
    TooMany,
    #[error(
        "consoles of {0} have made {MAX_MADE_BY_ADDRESS} machines already; look at what that machine prints, or restart SALAD"
    )]
    TooManyFrom(IpAddr),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("opening the record was interrupted; ask again")]
    Interrupted,
}

type Slot = Arc<OnceCell<Arc<Machine>>>;

/// The registry of machines.
#[derive(Debug)]
pub(crate) struct Hub {
    records: PathBuf,
    settings: RecordSettings,
    legacy_host: IpAddr,
    /// Every machine that is known; its record is opened when it is first needed.
    machines: Mutex<BTreeMap<MachineId, Slot>>,
    made_by: Mutex<HashMap<IpAddr, usize>>,
    consoles: AtomicU64,
    waiting: AtomicUsize,
    legacy: AtomicUsize,
    pub(crate) spawner: Spawner,
    pub(crate) stop: CancellationToken,
}

impl Hub {
    /// Knows the machines that have records in the folder. Blocks.
    pub(crate) fn open(
        records: PathBuf,
        settings: RecordSettings,
        legacy_host: IpAddr,
        spawner: Spawner,
    ) -> io::Result<Self> {
        let mut machines = BTreeMap::new();
        for entry in fs::read_dir(&records)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir()
                && let Some(id) = name.to_str().and_then(MachineId::from_folder)
            {
                machines.insert(id, Slot::default());
            }
        }
        Ok(Self {
            records,
            settings,
            legacy_host,
            machines: Mutex::new(machines),
            made_by: Mutex::default(),
            consoles: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            legacy: AtomicUsize::new(0),
            spawner,
            stop: CancellationToken::new(),
        })
    }

    /// The machine of this id, made if need be.
    pub(crate) async fn machine(&self, id: &MachineId) -> Result<Arc<Machine>, HubError> {
        let slot = {
            let mut machines = self.machines();
            if !machines.contains_key(id) && machines.len() >= MAX_MACHINES {
                return Err(HubError::TooMany);
            }
            Arc::clone(machines.entry(id.clone()).or_default())
        };
        let machine = slot.get_or_try_init(|| self.open_machine(id)).await?;
        Ok(Arc::clone(machine))
    }

    /// The machine that a console of this address named.
    pub(crate) async fn announced(&self, id: &MachineId, peer: IpAddr) -> Result<Arc<Machine>, HubError> {
        if !peer.is_loopback() && !self.machines().contains_key(id) {
            let mut made_by = self.made_by.lock().unwrap_or_else(PoisonError::into_inner);
            let made = made_by.entry(peer).or_default();
            if *made >= MAX_MADE_BY_ADDRESS {
                return Err(HubError::TooManyFrom(peer));
            }
            *made += 1;
        }
        self.machine(id).await
    }

    async fn open_machine(&self, id: &MachineId) -> Result<Arc<Machine>, HubError> {
        let (dir, settings) = (self.records.join(id.folder()), self.settings);
        let record = spawn_blocking(move || Record::open(&dir, settings)).await;
        let record = record.map_err(|_| HubError::Interrupted)??;
        Ok(Arc::new(Machine::new(id.clone(), record, self.spawner.clone())))
    }

    /// What can be said of a machine; opens its legacy ports.
    pub(crate) async fn status(&self, machine: &Arc<Machine>) -> MachineStatus {
        let ports = machine.ports.get_or_init(|| self.open_ports(machine)).await;
        MachineStatus {
            id: machine.id().as_str().to_owned(),
            tcp_port: ports.raw,
            tcp_port_logs: ports.logs,
            has_client: machine.has_client(),
            connected: machine.is_connected(),
        }
    }

    async fn open_ports(&self, machine: &Arc<Machine>) -> legacy::Ports {
        if self.legacy.fetch_add(1, Ordering::Relaxed) >= MAX_LEGACY {
            tracing::warn!(machine = %machine.id(), "no legacy ports: {MAX_LEGACY} machines have some");
            return legacy::Ports::default();
        }
        match legacy::open(self.legacy_host, machine, &self.spawner, &self.stop).await {
            Ok(ports) => ports,
            Err(error) => {
                tracing::error!(machine = %machine.id(), %error, "cannot open its legacy ports");
                legacy::Ports::default()
            }
        }
    }

    /// All machines in the order of their ids. One whose record cannot be opened is listed without ports.
    pub(crate) async fn list(&self) -> Vec<MachineStatus> {
        let ids: Vec<MachineId> = self.machines().keys().cloned().collect();
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let opened = self.legacy.load(Ordering::Relaxed) < MAX_LEGACY || self.is_open(&id);
            let machine = if opened { self.machine(&id).await.ok() } else { None };
            all.push(match machine {
                Some(machine) => self.status(&machine).await,
                None => MachineStatus { id: id.as_str().to_owned(), ..MachineStatus::default() },
            });
        }
        all
    }

    fn is_open(&self, id: &MachineId) -> bool {
        self.machines().get(id).is_some_and(|slot| slot.initialized())
    }

    /// A number for a new console.
    pub(crate) fn next_console(&self) -> ConsoleNumber {
        ConsoleNumber(self.consoles.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks for room for bytes of a console that has not named its machine.
    pub(crate) fn reserve_waiting(&self, bytes: usize) -> bool {
        let fits = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_WAITING;
        if !fits {
            self.release_waiting(bytes);
        }
        fits
    }

    /// Gives that room back.
    pub(crate) fn release_waiting(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<MachineId, Slot>> {
        // No code that holds it can leave it half changed.
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawner::Tasks;

    fn hub(dir: &std::path::Path) -> Hub {
        Hub::open(dir.to_owned(), RecordSettings::default(), [127, 0, 0, 1].into(), Tasks::new().0).unwrap()
    }

    #[tokio::test]
    async fn one_address_cannot_make_machines_without_end_and_others_still_can() {
        let dir = tempfile::tempdir().unwrap();
        let hub = hub(dir.path());
        let (greedy, other) = (IpAddr::from([10, 42, 0, 2]), IpAddr::from([10, 42, 0, 3]));
        let id = |number: usize| MachineId::new(&format!("m{number}")).unwrap();
        for number in 0..MAX_MADE_BY_ADDRESS {
            hub.announced(&id(number), greedy).await.unwrap();
        }
        assert!(matches!(hub.announced(&id(999), greedy).await, Err(HubError::TooManyFrom(_))));
        hub.announced(&id(0), greedy).await.unwrap();
        hub.announced(&id(999), other).await.unwrap();
    }

    #[tokio::test]
    async fn machines_of_an_earlier_server_are_known_and_strange_folders_are_not() {
        let dir = tempfile::tempdir().unwrap();
        hub(dir.path()).machine(&MachineId::new("52:54:00:11:22:01").unwrap()).await.unwrap();
        for strange in [".hidden", "a b", "%zz", "%41"] {
            fs::create_dir(dir.path().join(strange)).unwrap();
        }
        let ids: Vec<String> = hub(dir.path()).list().await.into_iter().map(|m| m.id).collect();
        assert_eq!(ids, ["52:54:00:11:22:01"]);
    }

    #[test]
    fn room_for_unnamed_consoles_is_bounded_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let hub = hub(dir.path());
        assert!(hub.reserve_waiting(MAX_WAITING));
        assert!(!hub.reserve_waiting(1));
        hub.release_waiting(1);
        assert!(hub.reserve_waiting(1));
    }
}
