//! CyberPower PDUs: the PDU41004 and its like, and the PDU15SWHVIEC12ATNET, whose management card (RMCARD205) counts
//! states in one way where it shows them and in another where it is told them.
//!
//! Object identifiers: CPS-MIB, 1.3.6.1.4.1.3808: `ePDUOutletControlTable`; the outlet tables of the `ats` branch.
//! The MIB: <https://mibs.observium.org/mib/CPS-MIB/>.

use std::time::Duration;

use farmgate_protocol::pdu::PortState;
use serde_json::Value;

use super::{
    ConfigError, Factory,
    snmp::{Mapping, Oid, Table, of_model},
};
use crate::Driver;

pub(super) const PDU41004: Factory = Factory {
    name: "cyberpower_pdu41004",
    help: "CyberPower PDU41004 and other switched ones; config: hostname: HOST[:PORT], version, community or username \
           and keys",
    make: make_41004,
};

pub(super) const PDU15SWHVIEC12ATNET: Factory = Factory {
    name: "cyberpower_pdu15swhviec12atnet",
    help: "CyberPower PDU15SWHVIEC12ATNET; config: hostname: HOST[:PORT], version, community or username and keys",
    make: make_15swhviec12atnet,
};

/// `ePDUOutletControlEntry`.
const CONTROL: &[u32] = &[1, 3, 6, 1, 4, 1, 3808, 1, 1, 3, 3, 3, 1, 1];
/// The outlets of the `ats` branch: what they are.
const ATS_STATUS: &[u32] = &[1, 3, 6, 1, 4, 1, 3808, 1, 1, 5, 6, 3, 1];
/// And where they are told.
const ATS_CONTROL: &[u32] = &[1, 3, 6, 1, 4, 1, 3808, 1, 1, 5, 6, 5, 1];

/// They show the old state for so long.
const SETTLES_IN: Duration = Duration::from_secs(5);

fn make_41004(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let entry = Oid::of(CONTROL);
    let table = Table::new(entry.with(&[4]), Mapping::new(1, 2, Some(3)));
    let table = Table { labels: Some(entry.with(&[2])), settles_in: SETTLES_IN, ..table };
    of_model("cyberpower_pdu41004", config, table)
}

fn make_15swhviec12atnet(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let (status, control) = (Oid::of(ATS_STATUS), Oid::of(ATS_CONTROL));
    let read = [(1, PortState::On), (2, PortState::Off), (3, PortState::Reboot)].into();
    let table = Table::new(status.with(&[3]), Mapping { read, ..Mapping::new(2, 3, Some(4)) });
    let table = Table {
        labels: Some(status.with(&[2])),
        control: control.with(&[3]),
        settles_in: SETTLES_IN,
        ..table
    };
    of_model("cyberpower_pdu15swhviec12atnet", config, table)
}
