//! The PDUs of the farm: one task each, kept in step with the farm file. A PDU whose entry did not change is left
//! alone, so that an edit elsewhere in the file never makes a port's off time unknown. A PDU that is replaced or
//! taken out of the file lives on for the runs that use it: they must be able to switch their ports off. What the file
//! says of single ports (whose, who switches them, how long they may be on) is told to the PDUs, and what happens to
//! a port to those who watch its machine. What must survive a restart is kept by [`records`].

mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use farmgate_mars::{Farm, PduEntry, Power};
use farmgate_pdu::{
    Journal, Notice, NoticeKind, PduHandle, PduOptions, PduSnapshot, PortRule, PortRules, PowerMode,
};
use farmgate_protocol::{
    DutId, PortId,
    pdu::{Pdu, PduState, PortState},
};
use farmgate_store::Store;
use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use self::records::Records;
use crate::{config::VPDU_NAME, events::EventLog};

/// Which machine a port is of, by PDU and port.
type Owners = BTreeMap<(String, PortId), DutId>;

struct Running {
    entry: PduEntry,
    /// None: its settings are wrong; `problem` says how.
    handle: Option<PduHandle>,
    problem: Option<String>,
    /// Ends the announcements, not the PDU: that ends with its last handle.
    replaced: CancellationToken,
}

/// All PDUs.
pub struct Pdus {
    running: Mutex<BTreeMap<String, Running>>,
    vpdu_endpoint: Option<String>,
    observe: bool,
    events: EventLog,
    store: Store,
    owners: watch::Sender<Owners>,
    stop: CancellationToken,
}

impl Pdus {
    /// None yet; [`Pdus::apply`] starts them. `observe`: they are read, and switch nothing.
    pub fn new(vpdu_endpoint: Option<String>, observe: bool, events: EventLog, store: Store) -> Self {
        let stop = CancellationToken::new();
        let owners = watch::channel(Owners::new()).0;
        Self { running: Mutex::new(BTreeMap::new()), vpdu_endpoint, observe, events, store, owners, stop }
    }

    /// Ends all of them, also those that only runs still use. To be called when no run needs to switch a port any
    /// more.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Starts, replaces and stops PDUs so that they are those of the file, and the vPDU of the settings.
    pub fn apply(&self, farm: &Farm) {
        let mut wanted: BTreeMap<String, PduEntry> = farm.pdus.clone();
        if let Some(endpoint) = &self.vpdu_endpoint {
            wanted.entry(VPDU_NAME.to_owned()).or_insert_with(|| PduEntry {
                driver: "vpdu".to_owned(),
                config: json!({"hostname": endpoint}),
                ..PduEntry::default()
            });
        }
        self.owners.send_replace(owners(farm));
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|name, pdu| {
            let keep = wanted.get(name) == Some(&pdu.entry);
            if !keep {
                pdu.replaced.cancel();
            }
            keep
        });
        for (name, entry) in wanted {
            if let std::collections::btree_map::Entry::Vacant(place) = running.entry(name) {
                let pdu = self.start(place.key(), entry, rules(farm, place.key()));
                place.insert(pdu);
            }
        }
        for (name, pdu) in running.iter() {
            if let Some(handle) = &pdu.handle {
                handle.set_rules(rules(farm, name));
            }
        }
    }

    fn start(&self, name: &str, entry: PduEntry, rules: PortRules) -> Running {
        let replaced = self.stop.child_token();
        match farmgate_pdu::make(&entry.driver, &entry.config) {
            Ok(driver) => {
                let options = PduOptions {
                    reserved: entry.reserved_port_ids.iter().cloned().collect::<BTreeSet<_>>(),
                    observe: self.observe,
                    on_interval: entry.power_on_interval.and_then(|s| Duration::try_from_secs_f64(s).ok()),
                    // Who only looks leaves nothing behind.
                    journal: (!self.observe)
                        .then(|| Arc::new(Records::new(&self.store, name, &entry)) as Arc<dyn Journal>),
                    rules,
                    ..PduOptions::default()
                };
                let handle = PduHandle::spawn(name, driver, options, self.stop.clone());
                tokio::spawn(announce_port_changes(
                    name.to_owned(),
                    handle.snapshot(),
                    self.events.clone(),
                    replaced.clone(),
                ));
                tokio::spawn(announce_notices(
                    name.to_owned(),
                    handle.notices(),
                    self.owners.subscribe(),
                    self.events.clone(),
                    replaced.clone(),
                ));
                Running { entry, handle: Some(handle), problem: None, replaced }
            }
            Err(error) => {
                // Checked before the file was taken, so this is a PDU whose driver went away between versions.
                tracing::error!(pdu = name, %error, "PDU cannot be used");
                Running { entry, handle: None, problem: Some(error.to_string()), replaced }
            }
        }
    }

    /// The PDU of that name, if it exists and its settings are right.
    pub fn get(&self, name: &str) -> Option<PduHandle> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(name).and_then(|pdu| pdu.handle.clone())
    }

    /// All of them, for the API.
    pub fn snapshot(&self) -> BTreeMap<String, Pdu> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .iter()
            .map(|(name, pdu)| {
                let shown = match &pdu.handle {
                    Some(handle) => handle.snapshot().borrow().pdu.clone(),
                    None => Pdu { state: PduState::Error, error: pdu.problem.clone(), ..Pdu::default() },
                };
                (name.clone(), shown)
            })
            .collect()
    }
}

/// Which ports are whose.
fn owners(farm: &Farm) -> Owners {
    let owned = |(id, dut): (&DutId, &farmgate_mars::DutEntry)| {
        Some(((dut.pdu.clone()?, dut.pdu_port_id.clone()?), id.clone()))
    };
    farm.duts.iter().filter_map(owned).collect()
}

/// What the farm file says of the ports of a PDU.
fn rules(farm: &Farm, pdu: &str) -> PortRules {
    let of_pdu = farm.duts.iter().filter(|(_, dut)| dut.pdu.as_deref() == Some(pdu));
    of_pdu
        .filter_map(|(id, dut)| {
            let rule = PortRule {
                owner: format!("the machine {id}"),
                mode: match dut.power {
                    Power::Managed => PowerMode::Managed,
                    Power::Manual => PowerMode::Manual,
                    Power::NeverOff => PowerMode::NeverOff,
                },
                // A retired machine is a person's, who may leave it on.
                max_on: dut
                    .max_on_time
                    .filter(|_| !dut.is_retired)
                    .and_then(|s| Duration::try_from_secs_f64(s).ok()),
            };
            Some((dut.pdu_port_id.clone()?, rule))
        })
        .collect()
}

/// Tells the event log, under the machine whose port it is, what others should know of a port.
async fn announce_notices(
    name: String,
    mut notices: broadcast::Receiver<Notice>,
    owners: watch::Receiver<Owners>,
    events: EventLog,
    stop: CancellationToken,
) {
    loop {
        let notice = tokio::select! {
            () = stop.cancelled() => return,
            notice = notices.recv() => notice,
        };
        let notice = match notice {
            Ok(notice) => notice,
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                tracing::warn!(pdu = name, lost, "notices of a PDU are lost");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let owner = owners.borrow().get(&(name.clone(), notice.port.clone())).cloned();
        let kind = match notice.what {
            NoticeKind::ChangedByOthers => "power-changed",
            NoticeKind::Alarm => "power-alarm",
            NoticeKind::AlarmOver => "power-alarm-over",
            NoticeKind::OnTooLong => "power-limit",
        };
        let mut details = Map::new();
        details.insert("pdu".to_owned(), Value::from(name.as_str()));
        details.insert("port".to_owned(), Value::from(notice.port.as_str()));
        events.emit(owner.as_ref(), kind, notice.text, details);
    }
}

/// Tells the event log when a port is seen to change, whoever switched it.
async fn announce_port_changes(
    name: String,
    mut snapshots: watch::Receiver<PduSnapshot>,
    events: EventLog,
    stop: CancellationToken,
) {
    let mut known: BTreeMap<String, PortState> = BTreeMap::new();
    loop {
        let ports: Vec<(String, PortState)> = {
            let snapshot = snapshots.borrow_and_update();
            snapshot.pdu.ports.iter().map(|(id, port)| (id.clone(), port.state)).collect()
        };
        for (id, state) in ports {
            // UNKNOWN is a gap in what we know, not an event; and the first sight of a port is no change.
            if state == PortState::Unknown {
                continue;
            }
            if known.insert(id.clone(), state).is_some_and(|before| before != state) {
                let mut details = Map::new();
                details.insert("pdu".to_owned(), Value::from(name.as_str()));
                details.insert("port".to_owned(), Value::from(id.as_str()));
                details.insert("state".to_owned(), Value::from(state.as_str()));
                events.emit(None, "port", format!("{name} port {id} is {state}"), details);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
        }
    }
}
