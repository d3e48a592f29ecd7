//! What a DUT's task shows of its machine to everybody else.

use farmgate_job::Phase;
use farmgate_mars::DutEntry;
use farmgate_protocol::{
    DutId, Timestamp,
    dut::{Dut, DutPort, DutState, LogsEndpoint, Training, TrainingState},
};
use serde_json::Map;

use super::{Activity, DutTask, Kind};
use crate::life::Standing;

impl DutTask {
    /// Publishes what the DUT is now.
    pub(super) fn show(&mut self) {
        let mut now = self.standing();
        if let Some(Activity { kind: Kind::Job, phase, .. }) = &self.activity {
            now = match *phase.borrow() {
                Phase::Setup => {
                    Standing { state: DutState::Queued, reason: "a job is being prepared".to_owned() }
                }
                phase => {
                    Standing { state: DutState::Running, reason: format!("a job runs: {}", words(phase)) }
                }
            };
        }
        let training = match &self.round {
            Some(round) => {
                let report = round.report(self.activity.is_some() && now.state == DutState::Training);
                // The report of a training stays when it is over; its state does not.
                if now.state == DutState::Training {
                    report
                } else {
                    Training { state: TrainingState::Idle, ..report }
                }
            }
            None if now.state == DutState::QuickCheck => {
                Training { state: TrainingState::QuickCheck, is_active: true, ..Training::default() }
            }
            None => Training::default(),
        };
        let before = self.shown.borrow();
        let changed = before.state != now.state;
        let since = if changed { Timestamp::now() } else { before.state_since };
        let host = self.shared.config.console_host.clone();
        let dut = describe(&self.id, &self.entry, &self.full_name, &now, since, training, host);
        let differs = *before != dut;
        drop(before);
        if changed {
            let mut details = Map::new();
            details.insert("state".to_owned(), now.state.as_str().into());
            let text = format!("{} is {}: {}", self.full_name, now.state, now.reason);
            self.shared.events.emit(Some(&self.id), "state", text, details);
        }
        if differs {
            self.shown.send_replace(dut);
        }
        if changed {
            self.shared.freed.notify_one();
        }
    }
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Setup => "being prepared",
        Phase::PoweringOn => "switching on",
        Phase::Firmware => "in the firmware",
        Phase::Booting => "booting over the network",
        Phase::Session => "in its session",
        Phase::Teardown => "cleaning up",
        Phase::Done => "over",
    }
}

/// How a machine is shown that stands like that.
pub(crate) fn describe(
    id: &DutId,
    entry: &DutEntry,
    full_name: &str,
    now: &Standing,
    state_since: Timestamp,
    training: Training,
    host: String,
) -> Dut {
    let pdu = match (&entry.pdu, &entry.pdu_port_id) {
        (Some(name), Some(port_id)) => Some(DutPort { name: name.clone(), port_id: port_id.clone() }),
        _ => None,
    };
    Dut {
        id: id.clone(),
        state: now.state,
        state_reason: now.reason.clone(),
        state_since,
        ready_for_service: entry.ready_for_service,
        has_pdu_assigned: pdu.is_some(),
        local_tty_device: entry.local_tty_device.clone(),
        tags: entry.tags.clone(),
        manual_tags: entry.manual_tags.clone(),
        base_name: entry.base_name.clone(),
        full_name: full_name.to_owned(),
        mac_address: entry.mac_address,
        ip_address: entry.ip_address,
        is_retired: entry.is_retired,
        training,
        pdu,
        pdu_off_delay: entry.pdu_off_delay,
        firmware_boot_time: entry.firmware_boot_time,
        boot_sequence_power: entry.boot_sequence_power.clone(),
        comment: entry.comment.clone(),
        logs_endpoint: LogsEndpoint { host, port: 0 },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn example_dut(mac: &str, base_name: &str, number: u32) -> Dut {
        let entry = DutEntry {
            base_name: base_name.to_owned(),
            tags: vec!["virtio:family:VIRTIO".to_owned()],
            mac_address: Some(mac.parse().unwrap()),
            ..DutEntry::default()
        };
        let now = Standing { state: DutState::Idle, reason: String::new() };
        let name = format!("f-{base_name}-{number}");
        let id = DutId::new(mac).unwrap();
        describe(&id, &entry, &name, &now, Timestamp::default(), Training::default(), String::new())
    }
}
