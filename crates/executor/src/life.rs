//! The life of a DUT as a pure decision: what should it be doing, given its entry in the farm file and what has
//! happened to it since the gateway started? Its task asks after each change and acts on the answer.

use farmgate_mars::{DutEntry, Power};
use farmgate_protocol::dut::DutState;

/// What has happened to a DUT, as far as its life depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// A quick check is due: at start, on activation, or asked for.
    pub quick_check_due: bool,
    /// It failed to qualify and nothing has changed since; why.
    pub borked: Option<String>,
    /// The PDU it names exists.
    pub pdu_known: bool,
    /// That PDU, or its port there, cannot be used at the moment; why.
    pub pdu_problem: Option<String>,
}

/// Where it stands and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The state.
    pub state: DutState,
    /// Why, and what it waits for, in a sentence.
    pub reason: String,
}

/// Decides where a DUT stands while no job runs on it.
pub fn standing(entry: &DutEntry, memory: &Memory) -> Standing {
    let stands = |state, reason: &str| Standing { state, reason: reason.to_owned() };
    if entry.is_retired {
        return stands(DutState::Retired, "taken out of service by a person; activate it to bring it back");
    }
    match (&entry.pdu, &entry.pdu_port_id) {
        (None, None) => {
            return stands(
                DutState::WaitForConfig,
                "set its pdu and pdu_port_id in the farm file (mars_db.yaml)",
            );
        }
        (None, Some(_)) => {
            return stands(DutState::WaitForConfig, "set its pdu in the farm file (mars_db.yaml)");
        }
        (Some(_), None) => {
            return stands(DutState::WaitForConfig, "set its pdu_port_id in the farm file (mars_db.yaml)");
        }
        (Some(pdu), Some(_)) if !memory.pdu_known => {
            return stands(
                DutState::WaitForConfig,
                &format!("its PDU {pdu:?} does not exist in the farm file"),
            );
        }
        (Some(_), Some(_)) => {}
    }
    match entry.power {
        Power::Managed => {}
        Power::Manual => {
            let reason = "switched by hand (`power: manual` in the farm file): it has its console and network boot, \
                and takes no jobs";
            return stands(DutState::WaitForConfig, reason);
        }
        Power::NeverOff => {
            let reason = "never switched off (`power: never_off` in the farm file): it has its console and network \
                boot, and takes no jobs";
            return stands(DutState::WaitForConfig, reason);
        }
    }
    if entry.mac_address.is_none() {
        return stands(
            DutState::WaitForConfig,
            "set its mac_address in the farm file: it is known by it when it boots",
        );
    }
    if let (false, Some(why)) = (entry.ready_for_service, &memory.borked) {
        return stands(DutState::Borked, why);
    }
    // Without its PDU it can neither boot nor be freed: a job that were given to it would fail.
    if let Some(problem) = &memory.pdu_problem {
        return stands(DutState::Unknown, problem);
    }
    if !entry.ready_for_service {
        return stands(DutState::Training, "boots in a loop to show that it is reliable");
    }
    if memory.quick_check_due {
        return stands(DutState::QuickCheck, "boots once to show that it still works");
    }
    stands(DutState::Idle, "free for jobs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use farmgate_protocol::PortId;

    fn entry() -> DutEntry {
        DutEntry {
            mac_address: Some("52:54:00:11:22:01".parse().unwrap()),
            pdu: Some("VPDU".into()),
            pdu_port_id: Some(PortId::new("1").unwrap()),
            ready_for_service: true,
            ..DutEntry::default()
        }
    }
    fn known() -> Memory {
        Memory { pdu_known: true, ..Memory::default() }
    }

    #[test]
    fn each_reason_to_wait_names_what_is_missing() {
        let cases = [
            (DutEntry { pdu: None, pdu_port_id: None, ..entry() }, "pdu and pdu_port_id"),
            (DutEntry { pdu: None, ..entry() }, "its pdu in"),
            (DutEntry { pdu_port_id: None, ..entry() }, "its pdu_port_id"),
            (DutEntry { mac_address: None, ..entry() }, "mac_address"),
            (DutEntry { power: Power::Manual, ..entry() }, "power: manual"),
            (DutEntry { power: Power::NeverOff, ..entry() }, "power: never_off"),
        ];
        for (entry, word) in cases {
            let s = standing(&entry, &known());
            assert_eq!(s.state, DutState::WaitForConfig);
            assert!(s.reason.contains(word), "{}", s.reason);
        }
        let s = standing(&entry(), &Memory::default());
        assert!(s.reason.contains("VPDU"), "{}", s.reason);
    }

    #[test]
    fn a_configured_machine_trains_then_serves() {
        let untrained = DutEntry { ready_for_service: false, ..entry() };
        assert_eq!(standing(&untrained, &known()).state, DutState::Training);
        let borked = Memory { borked: Some("1 of 2 boots passed".into()), ..known() };
        assert_eq!(standing(&untrained, &borked).state, DutState::Borked);
        assert_eq!(standing(&entry(), &known()).state, DutState::Idle);
        let due = Memory { quick_check_due: true, ..known() };
        assert_eq!(standing(&entry(), &due).state, DutState::QuickCheck);
    }

    #[test]
    fn a_machine_whose_pdu_does_not_answer_is_not_free() {
        let dead = Memory { pdu_problem: Some("its PDU VPDU does not answer".into()), ..known() };
        for ready_for_service in [true, false] {
            let s = standing(&DutEntry { ready_for_service, ..entry() }, &dead);
            assert_eq!(s.state, DutState::Unknown);
            assert!(s.reason.contains("VPDU"), "{}", s.reason);
        }
    }

    #[test]
    fn retired_wins_over_everything() {
        let retired = DutEntry { is_retired: true, pdu: None, ..entry() };
        assert_eq!(standing(&retired, &Memory::default()).state, DutState::Retired);
    }
}
