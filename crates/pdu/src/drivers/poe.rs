//! Switches that power machines over Ethernet: by the standard MIB, and TP-Link's JetStream, which has one of its own.
//!
//! Object identifiers: RFC 3621 (`POWER-ETHERNET-MIB::pethPsePortAdminEnable`, written and read); for TP-Link
//! `TPLINK-POWER-OVER-ETHERNET-MIB::tpPoePortStatus` and `tpPoePower`, among the MIBs that TP-Link offers with its
//! firmware (also at <https://mibs.observium.org/mib/TPLINK-POWER-OVER-ETHERNET-MIB/>). ON means that the port may deliver power: a device that
//! takes none is still ON.
//!
//! The standard's index is group and port. Ports of group 1 (a switch that stands alone, or the first of a stack) have
//! their number as id, others `GROUP.PORT`; in a farm file that is best written in quotes.

use std::time::Duration;

use serde_json::Value;

use super::{
    ConfigError, Factory,
    snmp::{Mapping, Metered, Oid, Table, of_model},
};
use crate::Driver;

pub(super) const STANDARD: Factory = Factory {
    name: "snmp_poe",
    help: "PoE switches with the standard MIB (RFC 3621); config: hostname: HOST[:PORT], version, community or \
           username and keys",
    make: make_standard,
};

pub(super) const TP_LINK: Factory = Factory {
    name: "snmp_poe_tplink",
    help: "TP-Link JetStream PoE switches; config: hostname: HOST[:PORT], version, community or username and keys",
    make: make_tp_link,
};

/// `pethPsePortEntry`.
const PORT: &[u32] = &[1, 3, 6, 1, 2, 1, 105, 1, 1, 1];
/// `tpPoePortConfigEntry`.
const TP_LINK_PORT: &[u32] = &[1, 3, 6, 1, 4, 1, 11863, 6, 56, 1, 1, 2, 1, 1];

/// Machines that live on PoE have small power supplies.
const MIN_OFF_TIME: Duration = Duration::from_secs(10);

fn make_standard(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let entry = Oid::of(PORT);
    // TruthValue: true is 1, false is 2.
    let table = Table::new(entry.with(&[3]), Mapping::new(1, 2, None));
    let table = Table {
        // pethPsePortType: what a person wrote about the device there.
        labels: Some(entry.with(&[9])),
        home: Some(1),
        interfaces: &[0],
        called: "port",
        min_off_time: MIN_OFF_TIME,
        ..table
    };
    of_model("snmp_poe", config, table)
}

fn make_tp_link(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let entry = Oid::of(TP_LINK_PORT);
    // enable is 1, disable is 0.
    let table = Table::new(entry.with(&[2]), Mapping::new(1, 0, None));
    let table = Table {
        power: Some(Metered { column: entry.with(&[7]), unit: 0.1 }),
        // Port 1 is interface 49153.
        interfaces: &[49152, 0],
        called: "port",
        min_off_time: MIN_OFF_TIME,
        ..table
    };
    of_model("snmp_poe_tplink", config, table)
}
