//! The PDUs of the farm: one task each, kept in step with the farm file. A PDU whose entry did not change is left
//! alone, so that an edit elsewhere in the file never makes a port's off time unknown. A PDU that is replaced or
//! taken out of the file lives on for the runs that use it: they must be able to switch their ports off.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use farmgate_mars::{Farm, PduEntry};
use farmgate_pdu::{PduHandle, PduOptions, PduSnapshot};
use farmgate_protocol::pdu::{Pdu, PduState, PortState};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{config::VPDU_NAME, events::EventLog};

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
    stop: CancellationToken,
}

impl Pdus {
    /// None yet; [`Pdus::apply`] starts them. `observe`: they are read, and switch nothing.
    pub fn new(vpdu_endpoint: Option<String>, observe: bool, events: EventLog) -> Self {
        let stop = CancellationToken::new();
        Self { running: Mutex::new(BTreeMap::new()), vpdu_endpoint, observe, events, stop }
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
                let pdu = self.start(place.key(), entry);
                place.insert(pdu);
            }
        }
    }

    fn start(&self, name: &str, entry: PduEntry) -> Running {
        let replaced = self.stop.child_token();
        match farmgate_pdu::make(&entry.driver, &entry.config) {
            Ok(driver) => {
                let options = PduOptions {
                    reserved: entry.reserved_port_ids.iter().cloned().collect::<BTreeSet<_>>(),
                    observe: self.observe,
                    ..PduOptions::default()
                };
                let handle = PduHandle::spawn(name, driver, options, self.stop.clone());
                tokio::spawn(announce_port_changes(
                    name.to_owned(),
                    handle.snapshot(),
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
