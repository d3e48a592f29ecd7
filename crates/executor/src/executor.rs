//! The executor as others see it: a handle to ask with, and the task that keeps one DUT task per entry of the farm
//! file.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use farmgate_mars::{DutChange, DutEntry, Farm, Mars};
use farmgate_protocol::{
    DutId, PortId,
    dut::{Dut, DutState},
    pdu::Pdu,
};
use farmgate_salad::{ConsoleOffset, Salad};
use farmgate_store::{Store, StoreError};
use serde_json::{Map, Value};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    artifacts::{ArtifactCache, CacheConfig, Patience},
    boot_table::{BootTable, Known},
    config::ExecutorConfig,
    dispatch::{self, Ask, Dispatcher},
    dut::{DutHandle, Intent, Shared, spawn},
    dut_table::DutTable,
    error::ExecutorError,
    estate::Estate,
    events::EventLog,
    matching::nearest,
    pdus::Pdus,
    registration::{Caller, RegistrationReply, patch, plan},
    runs::Runs,
};

/// Quick checks that run at once.
const QUICK_CHECKS: usize = 4;

/// What the executor is made of.
pub struct Parts {
    /// Settings.
    pub config: ExecutorConfig,
    /// The farm file.
    pub mars: Arc<Mars>,
    /// Consoles.
    pub salad: Salad,
    /// Who boots what; BOOTS asks it too.
    pub boots: Arc<BootTable>,
    /// What happened.
    pub events: EventLog,
    /// What must survive.
    pub store: Store,
    /// The gateway before died, and the host has not been restarted since.
    pub after_crash: bool,
    /// Ends everything.
    pub shutdown: CancellationToken,
}

/// Handle to the executor.
#[derive(Clone)]
pub struct Executor {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    keeper: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// Why the executor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client for artifacts cannot be made.
    #[error("the HTTP client for artifacts cannot be made")]
    Http(#[from] reqwest::Error),
    /// What the gateway before left cannot be read.
    #[error("what is stored of machines and runs cannot be read")]
    Store(#[from] StoreError),
}

impl Executor {
    /// Starts a task for each DUT of the farm file, goes on with the runs that were stored, and follows the file from
    /// then on. When it returns, every machine that had a run boots what is that run's.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { config, mars, salad, boots, events, store, after_crash, shutdown } = parts;
        let patience = Patience {
            attempts: config.artifact_attempts.max(1),
            stall: config.artifact_stall,
            ..Patience::default()
        };
        let cache = CacheConfig {
            size: config.artifact_cache_size,
            patience,
            ..CacheConfig::new(config.artifact_cache.clone())
        };
        let artifacts = Arc::new(ArtifactCache::open(cache).await?);
        let pdus =
            Arc::new(Pdus::new(config.vpdu_endpoint.clone(), config.observe, events.clone(), store.clone()));
        // Who only looks leaves the runs of the gateway before for one that acts.
        let estate =
            if config.observe { Estate::default() } else { Estate::read(&store, after_crash).await? };
        let (queue, asks) = Dispatcher::new();
        let shared = Arc::new(Shared {
            config,
            mars,
            pdus,
            salad,
            boots,
            artifacts,
            events,
            store,
            runs: Runs::default(),
            duts: DutTable::default(),
            queue,
            freed: Notify::new(),
            quick_checks: Arc::new(Semaphore::new(QUICK_CHECKS)),
            shutdown,
        });
        let (ready, is_ready) = oneshot::channel();
        let keeper = tokio::spawn(keep_in_step(Arc::clone(&shared), estate, asks, ready));
        // A keeper that ended at once has said why.
        let _ = is_ready.await;
        Ok(Self { inner: Arc::new(Inner { shared, keeper: Mutex::new(Some(keeper)) }) })
    }

    /// Waits until all DUT tasks have ended, after the shutdown was asked for.
    pub async fn stopped(&self) {
        let keeper = self.inner.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper
            && let Err(error) = keeper.await
        {
            tracing::error!(%error, "the executor ended by a bug");
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn handle(&self, id: &DutId) -> Option<DutHandle> {
        self.inner.shared.duts.get(id)
    }

    /// All DUTs as they are now.
    pub fn duts(&self) -> Vec<Dut> {
        self.inner.shared.duts.present().iter().map(|handle| handle.shown.borrow().clone()).collect()
    }

    /// A DUT by its id or full name.
    ///
    /// # Errors
    /// There is none; the nearest names are in the text.
    pub fn dut(&self, name: &str) -> Result<Dut, ExecutorError> {
        let duts = self.duts();
        if let Some(dut) = duts.iter().find(|d| d.id.as_str() == name || d.full_name == name) {
            return Ok(dut.clone());
        }
        let names = duts.iter().flat_map(|d| [d.id.to_string(), d.full_name.clone()]);
        Err(ExecutorError::UnknownDut { name: name.to_owned(), nearest: nearest(name, names) })
    }

    /// All PDUs as they are now.
    pub fn pdus(&self) -> BTreeMap<String, Pdu> {
        self.inner.shared.pdus.snapshot()
    }

    /// The event log.
    pub fn events(&self) -> &EventLog {
        &self.inner.shared.events
    }

    /// The consoles.
    pub fn salad(&self) -> &Salad {
        &self.inner.shared.salad
    }

    /// POST or PUT `dut/`: a machine registers itself, or an operator registers one. With `check` nothing changes.
    ///
    /// # Errors
    /// Fields that the caller may not set, an unknown machine (check), or a farm file that cannot be written.
    pub async fn register(
        &self,
        body: &Map<String, Value>,
        caller: Caller,
        check: bool,
    ) -> Result<RegistrationReply, ExecutorError> {
        let shared = &self.inner.shared;
        let farm = shared.mars.farm().borrow().clone();
        let planned = plan(&farm, body, caller, check)?;
        self.acts("a registration would change the farm file")?;
        let id = planned.reply.id.clone();
        if let Some(change) = planned.change {
            shared.mars.update_dut(&id, change).await?;
            let what = if planned.reply.created { "registered: a new machine" } else { "registered again" };
            let mut details = Map::new();
            details.insert("registration".to_owned(), Value::Object(body.clone()));
            shared.events.emit(Some(&id), "registered", format!("{id} {what}"), details);
            self.wait_until_known(&id).await;
        } else if !planned.reply.differences.is_empty() {
            let text = format!("{id} is not what it was: {}", planned.reply.differences.join("; "));
            shared.events.emit(Some(&id), "check", text, Map::new());
        }
        Ok(planned.reply)
    }

    /// Whether the gateway does more than to look.
    fn acts(&self, what: &str) -> Result<(), ExecutorError> {
        if self.inner.shared.config.observe {
            return Err(ExecutorError::Refused(format!("the gateway observes: {what}, and nothing is done")));
        }
        Ok(())
    }

    /// Whoever registered a machine asks for it next: let the farm file's change arrive here first.
    async fn wait_until_known(&self, id: &DutId) {
        for _ in 0..100 {
            if self.handle(id).is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// PATCH `dut/ID`.
    ///
    /// # Errors
    /// An unknown DUT, fields that cannot be set, or a farm file that cannot be written.
    pub async fn patch_dut(&self, name: &str, body: &Map<String, Value>) -> Result<(), ExecutorError> {
        let id = self.dut(name)?.id;
        let change = patch(body)?;
        self.inner.shared.mars.update_dut(&id, change).await?;
        Ok(())
    }

    /// DELETE `dut/ID`.
    ///
    /// # Errors
    /// An unknown DUT, or a farm file that cannot be written.
    pub async fn forget_dut(&self, name: &str) -> Result<(), ExecutorError> {
        let id = self.dut(name)?.id;
        self.inner.shared.mars.remove_dut(&id).await?;
        self.inner.shared.events.emit(Some(&id), "state", format!("{id} is forgotten"), Map::new());
        Ok(())
    }

    /// POST `dut/ID/retire`.
    ///
    /// # Errors
    /// It is retired already.
    pub async fn retire(&self, name: &str) -> Result<(), ExecutorError> {
        self.set_retired(name, true, "it is retired already").await
    }

    /// POST `dut/ID/activate`: back into service, or, for one that did not qualify, another training.
    ///
    /// # Errors
    /// It is neither retired nor borked.
    pub async fn activate(&self, name: &str) -> Result<(), ExecutorError> {
        let dut = self.dut(name)?;
        if dut.is_retired {
            self.set_retired(name, false, "it is in service already").await?;
        } else if dut.state != DutState::Borked {
            let state = dut.state.as_str();
            return Err(ExecutorError::WrongState {
                dut: dut.id,
                state,
                why: "it is in service already".to_owned(),
            });
        }
        self.send(&dut.id, Intent::Retrain).await
    }

    async fn set_retired(&self, name: &str, retired: bool, already: &str) -> Result<(), ExecutorError> {
        let dut = self.dut(name)?;
        if dut.is_retired == retired {
            let state = dut.state.as_str();
            return Err(ExecutorError::WrongState { dut: dut.id, state, why: already.to_owned() });
        }
        let change = DutChange { is_retired: Some(retired), ..DutChange::default() };
        self.inner.shared.mars.update_dut(&dut.id, change).await?;
        Ok(())
    }

    async fn send(&self, id: &DutId, intent: Intent) -> Result<(), ExecutorError> {
        let handle = self.handle(id).ok_or_else(|| ExecutorError::Stopped(id.clone()))?;
        handle.intents.send(intent).await.map_err(|_| ExecutorError::Stopped(id.clone()))
    }

    /// POST `dut/ID/cancel_job`.
    ///
    /// # Errors
    /// No job runs on it.
    pub async fn cancel_job(&self, name: &str, by: &str) -> Result<(), ExecutorError> {
        let id = self.dut(name)?.id;
        let (reply, answer) = oneshot::channel();
        self.send(&id, Intent::Cancel { by: by.to_owned(), reply }).await?;
        answer.await.map_err(|_| ExecutorError::Stopped(id))?
    }

    /// POST `dut/ID/quick_check`.
    ///
    /// # Errors
    /// The machine is not in service.
    pub async fn quick_check(&self, name: &str) -> Result<(), ExecutorError> {
        let id = self.dut(name)?.id;
        let (reply, answer) = oneshot::channel();
        self.send(&id, Intent::QuickCheck { reply }).await?;
        answer.await.map_err(|_| ExecutorError::Stopped(id))?
    }

    /// GET `dut/ID/quick_check`: is one due or running?
    ///
    /// # Errors
    /// An unknown DUT.
    pub async fn quick_check_due(&self, name: &str) -> Result<bool, ExecutorError> {
        let id = self.dut(name)?.id;
        let (reply, answer) = oneshot::channel();
        self.send(&id, Intent::QuickCheckDue { reply }).await?;
        answer.await.map_err(|_| ExecutorError::Stopped(id))
    }

    /// GET `dut/ID/training/loop/N`: where its console is in the machine's record.
    ///
    /// # Errors
    /// An unknown DUT.
    pub async fn training_log(
        &self,
        name: &str,
        index: usize,
    ) -> Result<Option<(DutId, Range<ConsoleOffset>)>, ExecutorError> {
        let id = self.dut(name)?.id;
        let (reply, answer) = oneshot::channel();
        self.send(&id, Intent::TrainingLog { index, reply }).await?;
        let range = answer.await.map_err(|_| ExecutorError::Stopped(id.clone()))?;
        Ok(range.map(|range| (id, range)))
    }

    /// PATCH `pdu/NAME/port/ID`: an operator switches, reserves or slows a port.
    ///
    /// # Errors
    /// Unknown, reserved, of a machine in service, or the PDU does not do it.
    pub async fn change_port(
        &self,
        pdu: &str,
        port: &PortId,
        change: PortChange,
    ) -> Result<(), ExecutorError> {
        let shared = &self.inner.shared;
        let farm = shared.mars.farm().borrow().clone();
        let owner = farm
            .duts
            .iter()
            .find(|(_, d)| d.pdu.as_deref() == Some(pdu) && d.pdu_port_id.as_ref() == Some(port));
        if let Some((id, entry)) = owner
            && (!entry.is_retired || self.is_running(id))
        {
            let text = format!(
                "port {port} of {pdu} belongs to {id}, which is not retired, or still busy: retire it first"
            );
            return Err(ExecutorError::Refused(text));
        }
        let handle = shared.pdus.get(pdu).ok_or_else(|| {
            let hint = nearest(pdu, shared.pdus.snapshot().into_keys());
            ExecutorError::UnknownPort(format!("no PDU is called {pdu:?}{hint}"))
        })?;
        // Freeing comes first and reserving last, so that one request can free and switch, or switch and reserve.
        if change.reserved == Some(false) {
            handle.set_reserved(port, false).await?;
        }
        if let Some(min_off) = change.min_off_time {
            handle.set_min_off_time(port, min_off).await?;
        }
        if let Some(on) = change.on {
            handle.set_by_operator(port, on).await?;
        }
        if change.reserved == Some(true) {
            handle.set_reserved(port, true).await?;
        }
        Ok(())
    }

    fn is_running(&self, id: &DutId) -> bool {
        let state = self.handle(id).map(|handle| handle.shown.borrow().state);
        matches!(state, Some(DutState::Queued | DutState::Running))
    }
}

/// What an operator changes of a port; nothing of what is None.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PortChange {
    /// ON or OFF.
    pub on: Option<bool>,
    /// Whether the gateway may switch it. Until the gateway restarts; `reserved_port_ids` of the farm file lasts.
    pub reserved: Option<bool>,
    /// How long it must stay off at least. Until the gateway restarts.
    pub min_off_time: Option<Duration>,
}

/// Follows the farm file: PDUs, boot table, and a task per DUT. Keeps the queue too.
async fn keep_in_step(
    shared: Arc<Shared>,
    mut estate: Estate,
    asks: mpsc::Receiver<Ask>,
    ready: oneshot::Sender<()>,
) {
    let mut farm = shared.mars.farm();
    let mut tasks = JoinSet::new();
    let queue = tokio::spawn(dispatch::run(Arc::clone(&shared), asks));
    let first = farm.borrow_and_update().clone();
    apply(&shared, &mut tasks, &first, &mut estate).await;
    estate.hand_over(&shared).await;
    // Nobody waits where the start was given up.
    let _ = ready.send(());
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => break,
            changed = farm.changed() => if changed.is_err() { break },
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "the task of a DUT ended by a bug");
            },
        }
        let now = farm.borrow_and_update().clone();
        apply(&shared, &mut tasks, &now, &mut estate).await;
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "the task of a DUT ended by a bug");
        }
    }
    if let Err(error) = queue.await {
        tracing::error!(%error, "the queue ended by a bug");
    }
    // Only now: every run that ended has switched its port off.
    shared.pdus.stop();
}

async fn apply(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, farm: &Farm, estate: &mut Estate) {
    shared.pdus.apply(farm);
    let names = full_names(&shared.config.farm_name, farm);
    let machines = farm.duts.iter().filter_map(|(id, entry)| {
        let host_name = names.get(id).cloned().unwrap_or_default();
        Some(Known { mac: entry.mac_address?, dut: Some(id.clone()), address: entry.ip_address, host_name })
    });
    let pdus = farm.pdus.iter().filter_map(|(name, pdu)| {
        Some(Known { mac: pdu.mac_address?, dut: None, address: pdu.address(), host_name: name.clone() })
    });
    shared.boots.set_known(machines.chain(pdus).collect());
    let mut changed = Vec::new();
    {
        let mut duts = shared.duts.lock();
        duts.retain(|id, handle| {
            if !farm.duts.contains_key(id) {
                handle.stop.cancel();
            }
            // One that tidies up keeps its place, so that the machine never has two tasks, should it come back.
            !handle.intents.is_closed()
        });
        for (id, entry) in &farm.duts {
            let entry = Arc::new(entry.clone());
            let full_name = names.get(id).cloned().unwrap_or_default();
            match duts.get(id) {
                // It begins anew when that one has ended, which brings us here again.
                Some(handle) if handle.stop.is_cancelled() => {}
                Some(handle) => changed.push((handle.clone(), Intent::Entry { entry, full_name })),
                // New, or its task ended by a bug.
                None => {
                    let inherited = estate.of(id);
                    let handle = spawn(tasks, Arc::clone(shared), id.clone(), entry, full_name, inherited);
                    duts.insert(id.clone(), handle);
                }
            }
        }
    }
    for (handle, intent) in changed {
        // A task that has ended says so itself.
        let _ = handle.intents.send(intent).await;
    }
}

/// FARM-BASENAME-N for each DUT, where N counts those of a base name by when they were first seen.
pub(crate) fn full_names(farm_name: &str, farm: &Farm) -> BTreeMap<DutId, String> {
    let mut order: Vec<(&DutId, &DutEntry)> = farm.duts.iter().collect();
    // Machines without a date came by hand, before dates were kept or after: last, by id.
    order.sort_by_key(|(id, entry)| (entry.first_seen.is_none(), entry.first_seen.clone(), (*id).clone()));
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (id, entry) in order {
        let count = counts.entry(entry.base_name.as_str()).or_insert(0);
        *count += 1;
        names.insert(id.clone(), format!("{farm_name}-{}-{count}", entry.base_name));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_count_machines_of_a_kind_by_when_they_came() {
        let mut farm = Farm::default();
        let mut add = |id: &str, base: &str, seen: Option<&str>| {
            let entry = DutEntry {
                base_name: base.into(),
                first_seen: seen.map(str::to_owned),
                ..DutEntry::default()
            };
            farm.duts.insert(DutId::new(id).unwrap(), entry);
        };
        add("a", "gfx9", Some("2022-01-02 00:00:00"));
        add("b", "gfx9", Some("2022-01-01 00:00:00"));
        add("c", "virtio", None);
        let names = full_names("mupuf", &farm);
        let shown: Vec<&str> = names.values().map(String::as_str).collect();
        assert_eq!(shown, ["mupuf-gfx9-2", "mupuf-gfx9-1", "mupuf-virtio-1"]);
    }
}
