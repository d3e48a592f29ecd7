//! Checks across a farm file: what must exist, and what only one machine may have.

use std::{collections::HashMap, hash::Hash, net::Ipv4Addr};

use farmgate_protocol::{DutId, spelling};

use crate::{
    diagnostic::Place,
    farm::{DutEntry, Farm},
    parse::CheckContext,
    reader::Reader,
};

/// Where the fields of a machine stand; its key, where one is not written.
pub struct DutPlaces {
    id: DutId,
    pub mac: Place,
    pub ip: Place,
    pub pdu: Place,
    pub port: Place,
}

impl DutPlaces {
    pub fn new(id: DutId, key: Place) -> Self {
        Self { id, mac: key.clone(), ip: key.clone(), pdu: key.clone(), port: key }
    }
}

/// What is to be checked when everything is read.
#[derive(Default)]
pub struct Checks {
    pub duts: Vec<DutPlaces>,
}

/// Who has something already, and in which line.
type Owners<K> = HashMap<K, (String, usize)>;

impl Checks {
    pub fn run(&self, reader: &mut Reader<'_>, farm: &Farm, context: &CheckContext) {
        let mut ports = Owners::new();
        let mut macs = Owners::new();
        let mut ips = Owners::new();
        for (name, pdu) in &farm.pdus {
            // No line is known here; the PDU's name finds it.
            if let Some(mac) = pdu.mac_address {
                macs.insert(mac, (format!("the PDU {name}"), 0));
                if let Some(ip) = pdu.address() {
                    ips.insert(ip, (format!("the PDU {name}"), 0));
                }
            }
        }
        for places in &self.duts {
            let Some(dut) = farm.duts.get(&places.id) else { continue };
            self.power(reader, farm, context, places, dut);
            let id = &places.id;
            if let (Some(pdu), Some(port)) = (&dut.pdu, &dut.pdu_port_id) {
                let what = format!("port {port} of the PDU {pdu}");
                sole(reader, &mut ports, (pdu.clone(), port.clone()), id, &places.port, &what);
            }
            if let Some(mac) = dut.mac_address {
                sole(reader, &mut macs, mac, id, &places.mac, &format!("the MAC address {mac}"));
            }
            if let Some(ip) = dut.ip_address {
                sole(reader, &mut ips, ip, id, &places.ip, &format!("the address {ip}"));
                if let Some(problem) = context.private_network.and_then(|network| misplaced(ip, network)) {
                    reader.error(&places.ip, problem, "choose another address, or leave `ip_address` out");
                }
            }
        }
    }

    fn power(
        &self,
        reader: &mut Reader<'_>,
        farm: &Farm,
        context: &CheckContext,
        places: &DutPlaces,
        dut: &DutEntry,
    ) {
        let Some(name) = &dut.pdu else { return };
        let Some(pdu) = farm.pdus.get(name) else {
            if !context.extra_pdus.contains(name) {
                let known: Vec<_> = farm.pdus.keys().chain(&context.extra_pdus).map(String::as_str).collect();
                let remedy = match spelling::nearest(name, known.iter().copied()).first() {
                    Some(near) => format!("did you mean {near:?}?"),
                    None if known.is_empty() => "add it under `pdus`; there is none yet".to_owned(),
                    None => format!("known are {}; or add it under `pdus`", known.join(", ")),
                };
                reader.error(&places.pdu, format!("the PDU {name:?} does not exist"), remedy);
            }
            return;
        };
        if let Some(port) = dut.pdu_port_id.as_ref().filter(|port| pdu.reserved_port_ids.contains(port)) {
            let message = format!("port {port} of the PDU {name} is reserved: it will not be switched");
            reader.warn(&places.port, message, "remove it from `reserved_port_ids`, or choose another port");
        }
    }
}

/// Notes an owner; refuses a second one, naming both.
fn sole<K: Hash + Eq>(
    reader: &mut Reader<'_>,
    owners: &mut Owners<K>,
    key: K,
    id: &DutId,
    place: &Place,
    what: &str,
) {
    match owners.get(&key) {
        Some((other, line)) => {
            let line = if *line > 0 { format!(" (line {line})") } else { String::new() };
            let message = format!("{what} is used twice: by {other}{line} and by the machine {id}");
            reader.error(place, message, "correct one of the two");
        }
        None => {
            owners.insert(key, (format!("the machine {id}"), place.line));
        }
    }
}

/// Why a machine cannot have this address.
fn misplaced(ip: Ipv4Addr, (gateway, prefix): (Ipv4Addr, u8)) -> Option<String> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let (network, address) = (gateway.to_bits() & !hosts, ip.to_bits());
    let shown = Ipv4Addr::from_bits(network);
    if address & !hosts != network {
        return Some(format!("the address {ip} is outside the private network {shown}/{prefix}"));
    }
    if ip == gateway {
        return Some(format!("the address {ip} is the gateway's own"));
    }
    let special = prefix < 31 && (address == network || address == network | hosts);
    special.then(|| format!("the address {ip} is no host's address in {shown}/{prefix}"))
}
