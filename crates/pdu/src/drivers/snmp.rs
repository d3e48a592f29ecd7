//! PDUs that speak SNMP (v1, v2c and v3), described in the farm file by their object identifiers.
//!
//! `config: {hostname: HOST[:PORT], version: 1 | 2 | 3, community, outlet_status, outlet_ctrl, outlet_labels,
//! state_mapping: {on, off, reboot}}`, and more in `docs/pdus.md`. The table below [`outlets`] is the whole driver;
//! `apc_masterswitch`, `cyberpower_*` and `snmp_poe*` are the same with the identifiers of their models.
//!
//! Standards: RFC 1157 (v1), RFC 3416 (v2c), RFC 3414 and RFC 7860 (v3), RFC 2863 (names of interfaces).

mod access;
mod config;
mod oid;
mod outlets;
mod pace;
mod session;
mod text;
mod walk;

use serde_json::Value;

use self::outlets::Outlets;
pub(super) use self::{
    oid::Oid,
    outlets::{Mapping, Metered, Table},
};
use super::{ConfigError, Factory};
use crate::Driver;

pub(super) const FACTORY: Factory = Factory {
    name: "snmp",
    help: "any PDU that speaks SNMP; config: hostname: HOST[:PORT], version, community or username and keys, \
           outlet_status, outlet_ctrl, outlet_labels, state_mapping: {on, off}",
    make,
};

/// `IF-MIB::ifDescr`.
const IF_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1, 2];
/// `IF-MIB::ifAlias`.
const IF_ALIAS: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 18];

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let (access, table) = config::generic("snmp", config)?;
    Ok(Box::new(Outlets::new(access, table)))
}

/// A driver for a model whose table is known.
pub(super) fn of_model(
    driver: &'static str,
    config: &Value,
    table: Table,
) -> Result<Box<dyn Driver>, ConfigError> {
    let (access, table) = config::of_model(driver, config, table)?;
    Ok(Box::new(Outlets::new(access, table)))
}
