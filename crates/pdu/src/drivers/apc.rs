//! APC MasterSwitch and Switched Rack PDUs, by the table of the MasterSwitch, which later models kept.
//!
//! Object identifiers: PowerNet-MIB, `sPDUOutletControlTable` (`sPDUOutletCtl`, `sPDUOutletCtlName`), 1.3.6.1.4.1.318.
//! The MIB: <https://mibs.observium.org/mib/PowerNet-MIB/>. How access is set up on the device: its user's guide,
//! <https://manualsdump.com/en/manuals/apc-switched_rack_power_distribution_unit_pdu/155046/71>.
//! Models with a meter per outlet (AP84xx, AP86xx) have it in `rPDU2OutletMeteredStatusPower`: see `docs/pdus.md`.

use serde_json::Value;

use super::{
    ConfigError, Factory,
    snmp::{Mapping, Oid, Table, of_model},
};
use crate::Driver;

pub(super) const MASTERSWITCH: Factory = Factory {
    name: "apc_masterswitch",
    help: "APC MasterSwitch and Switched Rack PDUs; config: hostname: HOST[:PORT], version, community or username and keys",
    make,
};

/// `sPDUOutletControlEntry`.
const OUTLET: &[u32] = &[1, 3, 6, 1, 4, 1, 318, 1, 1, 4, 4, 2, 1];

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let entry = Oid::of(OUTLET);
    // outletOn, outletOff, outletReboot; outletUnknown is 4.
    let table = Table::new(entry.with(&[3]), Mapping::new(1, 2, Some(3)));
    of_model("apc_masterswitch", config, Table { labels: Some(entry.with(&[4])), ..table })
}
