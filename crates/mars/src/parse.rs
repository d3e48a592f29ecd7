//! From the text of a farm file to a checked [`Farm`]: both shapes, old and current, with everything that is wrong
//! reported at once, each with its place.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, sync::Arc};

use farmgate_protocol::{DutId, MacAddress, PortId};

use crate::{
    check,
    diagnostic::{Diagnostic, FarmError, Place},
    farm::{DEFAULT_OFF_DELAY, DutEntry, Farm, PduEntry, Power},
    forges,
    reader::{Reader, json},
    tree::{self, Entry, Node},
};

/// Checks the settings of a PDU: driver's name and its `config`. The error is a sentence for a person.
pub type PduCheck = Arc<dyn Fn(&str, &serde_json::Value) -> Result<(), String> + Send + Sync>;

/// What a farm file is checked against besides itself.
#[derive(Clone)]
pub struct CheckContext {
    /// PDUs that come from the settings, like `VPDU`.
    pub extra_pdus: BTreeSet<String>,
    /// Checks the settings of a PDU.
    pub pdu_check: PduCheck,
    /// The gateway's own address on the private network and the length of the network's prefix.
    pub private_network: Option<(Ipv4Addr, u8)>,
}

impl Default for CheckContext {
    /// Nothing outside the file is known: any driver with any settings will do.
    fn default() -> Self {
        Self { extra_pdus: BTreeSet::new(), pdu_check: Arc::new(|_, _| Ok(())), private_network: None }
    }
}

impl fmt::Debug for CheckContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckContext")
            .field("extra_pdus", &self.extra_pdus)
            .field("private_network", &self.private_network)
            .finish_non_exhaustive()
    }
}

/// A farm file that is usable.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What it says.
    pub farm: Farm,
    /// What should be corrected some day.
    pub warnings: Vec<Diagnostic>,
}

/// Larger files are refused.
pub const LARGEST_FILE: usize = 4 << 20;
/// Longest off delay, seconds.
const LONGEST_OFF_DELAY: f64 = 86_400.0;
/// Seconds between two ports that are switched on.
const LONGEST_ON_INTERVAL: f64 = 60.0;
/// Seconds that a machine may be on: a year.
const LONGEST_ON: f64 = 31_536_000.0;
/// Longest firmware, seconds.
const LONGEST_FIRMWARE: f64 = 86_400.0;

/// Reads and checks the text of a farm file. `name` is what errors call the file.
///
/// # Errors
/// Everything that is wrong, each with line, column, the line itself and a remedy.
pub fn parse(name: &str, text: &str, context: &CheckContext) -> Result<Parsed, FarmError> {
    let mut reader = Reader::new(text);
    if text.len() > LARGEST_FILE {
        let message = format!("the file is larger than {} MiB", LARGEST_FILE >> 20);
        reader.error(&Place { line: 1, column: 1, ..Place::default() }, message, "is this the right file?");
        return Err(FarmError::new(name, reader.errors));
    }
    let root = tree::read(text).map_err(|finding| FarmError::new(name, vec![*finding]))?;
    let farm = root.map(|root| farm(&mut reader, &root, context)).unwrap_or_default();
    if reader.errors.is_empty() {
        return Ok(Parsed { farm, warnings: reader.warnings });
    }
    reader.errors.sort_by_key(|finding| (finding.place.line, finding.place.column));
    Err(FarmError::new(name, reader.errors))
}

fn farm(reader: &mut Reader<'_>, root: &Node, context: &CheckContext) -> Farm {
    let mut fields = reader.fields(root, "the farm file");
    let mut checks = check::Checks::default();
    let pdus = forges::named(reader, fields.take("pdus"), "pdus", |r, n, w| pdu(r, n, w, context));
    let mut farm = Farm { pdus, ..Farm::default() };
    if let Some(node) = fields.take("duts") {
        duts(reader, node, &mut farm, &mut checks);
    }
    farm.gitlab = forges::named(reader, fields.take("gitlab"), "gitlab", forges::gitlab);
    farm.github = forges::named(reader, fields.take("github"), "github", forges::github);
    farm.jobs = forges::jobs(reader, fields.take("jobs"));
    fields.finish(reader);
    checks.run(reader, &farm, context);
    farm
}

/// `pdus.NAME`.
fn pdu(reader: &mut Reader<'_>, node: &Node, what: &str, context: &CheckContext) -> Option<PduEntry> {
    let mut fields = reader.fields(node, what);
    let driver_node = fields.take("driver");
    let Some(driver_node) = driver_node else {
        let remedy = "add `driver: NAME`, for example `driver: dummy`";
        reader.error(&node.place, format!("{what} has no `driver`"), remedy);
        return None;
    };
    let driver = reader.text(driver_node, "driver").unwrap_or_default();
    let config_node = fields.take("config");
    let config = config_node.map_or_else(|| serde_json::json!({}), json);
    let reserved = fields.take("reserved_port_ids");
    let mac = fields.take("mac_address");
    let entry = PduEntry {
        reserved_port_ids: reserved
            .map(|node| {
                reader.items(node, "reserved_port_ids").iter().filter_map(|n| port_id(reader, n)).collect()
            })
            .unwrap_or_default(),
        mac_address: mac.and_then(|node| reader.parsed(node, "mac_address")),
        hidden: fields.take("hidden").and_then(|node| reader.bool(node, "hidden")).unwrap_or(false),
        power_on_interval: fields
            .take("power_on_interval")
            .and_then(|node| reader.number(node, "power_on_interval", LONGEST_ON_INTERVAL)),
        driver,
        config,
    };
    fields.finish(reader);
    if let Err(problem) = (context.pdu_check)(&entry.driver, &entry.config) {
        reader.error(&driver_node.place, problem, format!("correct `driver` or `config` of {what}"));
    } else if let Some(mac) = mac.filter(|_| entry.address().is_none()) {
        let remedy = "write the address that this PDU shall get into `config.hostname`";
        reader.error(&mac.place, "a PDU with a mac_address needs an IPv4 address as its hostname", remedy);
    }
    Some(entry)
}

fn port_id(reader: &mut Reader<'_>, node: &Node) -> Option<PortId> {
    let text = reader.text(node, "a port id")?;
    PortId::new(&text).inspect_err(|error| reader.error(&node.place, error.to_string(), "")).ok()
}

/// The id that a key stands for: a MAC address in any writing is one id.
pub fn dut_id(key: &str) -> Result<DutId, farmgate_protocol::IdError> {
    key.parse::<MacAddress>().map(DutId::from).or_else(|_| DutId::new(key))
}

fn duts(reader: &mut Reader<'_>, node: &Node, farm: &mut Farm, checks: &mut check::Checks) {
    for (key, entry) in reader.fields(node, "duts").rest() {
        match dut_id(key) {
            Ok(id) => {
                let dut = dut(reader, key, entry, &id, checks);
                if farm.duts.insert(id.clone(), dut).is_some() {
                    let message = format!("the machine {id} stands here twice");
                    reader.error(&entry.key.place, message, "remove one of the two, or rename it");
                }
            }
            Err(error) => reader.error(&entry.key.place, error.to_string(), "rename the machine"),
        }
    }
}

/// `duts.ID`.
fn dut(
    reader: &mut Reader<'_>,
    key: &str,
    entry: &Entry,
    id: &DutId,
    checks: &mut check::Checks,
) -> DutEntry {
    let mut fields = reader.fields(&entry.value, &format!("the machine {id}"));
    let mut places = check::DutPlaces::new(id.clone(), entry.key.place.clone());
    let mut dut = DutEntry::default();
    let text =
        |reader: &mut Reader<'_>, node: Option<&Node>, what: &str| node.and_then(|n| reader.text(n, what));
    dut.base_name = text(reader, fields.take("base_name"), "base_name").unwrap_or_default();
    dut.tags = fields.take("tags").map(|n| reader.texts(n, "tags")).unwrap_or_default();
    dut.manual_tags = fields.take("manual_tags").map(|n| reader.texts(n, "manual_tags")).unwrap_or_default();
    dut.mac_address = match fields.take("mac_address") {
        Some(node) => {
            places.mac = node.place.clone();
            reader.parsed(node, "mac_address")
        }
        None => key.parse().ok(),
    };
    if let Some(node) = fields.take("ip_address") {
        places.ip = node.place.clone();
        dut.ip_address = reader.parsed(node, "ip_address");
    }
    dut.local_tty_device = text(reader, fields.take("local_tty_device"), "local_tty_device");
    if let Some(node) = fields.take("pdu") {
        places.pdu = node.place.clone();
        dut.pdu = reader.text(node, "pdu");
    }
    let port = fields.take("pdu_port_id");
    let old_port = fields.take_entry("pdu_port").filter(|entry| !entry.value.is_null());
    if let Some(old) = old_port {
        if port.is_some() {
            let remedy = "remove `pdu_port`";
            reader.error(
                &old.key.place,
                "pdu_port is the old name of pdu_port_id, and both are here",
                remedy,
            );
        } else {
            reader.warn(&old.key.place, "pdu_port is read as pdu_port_id", "rename it to `pdu_port_id`");
        }
    }
    if let Some(node) = port.or(old_port.map(|entry| &entry.value)) {
        places.port = node.place.clone();
        dut.pdu_port_id = port_id(reader, node);
    }
    let delay = fields.take("pdu_off_delay");
    dut.pdu_off_delay =
        delay.and_then(|n| reader.number(n, "pdu_off_delay", LONGEST_OFF_DELAY)).unwrap_or(DEFAULT_OFF_DELAY);
    dut.power = fields.take("power").map(|node| power(reader, node)).unwrap_or_default();
    // null is none, and so is a time in which nothing can boot.
    let max_on = fields.take("max_on_time").filter(|node| !node.is_null());
    dut.max_on_time = max_on.and_then(|node| {
        let seconds = reader.number(node, "max_on_time", LONGEST_ON)?;
        if seconds < 1.0 {
            reader.error(&node.place, "max_on_time must be a second or more", "leave it out for no limit");
        }
        Some(seconds)
    });
    let truth =
        |reader: &mut Reader<'_>, node: Option<&Node>, what: &str| node.and_then(|n| reader.bool(n, what));
    dut.ready_for_service =
        truth(reader, fields.take("ready_for_service"), "ready_for_service").unwrap_or_default();
    dut.is_retired = truth(reader, fields.take("is_retired"), "is_retired").unwrap_or_default();
    dut.first_seen = fields.take("first_seen").and_then(|node| moment(reader, node));
    dut.comment = text(reader, fields.take("comment"), "comment");
    let firmware = fields.take("firmware_boot_time");
    dut.firmware_boot_time = firmware.and_then(|n| reader.number(n, "firmware_boot_time", LONGEST_FIRMWARE));
    dut.boot_sequence_power = fields.take("boot_sequence_power").map(json);
    dut.gitlab = forges::named(reader, fields.take("gitlab"), "gitlab", forges::dut_gitlab);
    dut.github = forges::named(reader, fields.take("github"), "github", forges::dut_github);
    fields.finish(reader);
    checks.duts.push(places);
    dut
}

fn power(reader: &mut Reader<'_>, node: &Node) -> Power {
    match node.text() {
        Some("managed") => Power::Managed,
        Some("manual") => Power::Manual,
        Some("never_off") => Power::NeverOff,
        _ => {
            let remedy = "write managed, manual or never_off";
            reader.error(&node.place, "there is no such kind of power", remedy);
            // What cannot be read must not lead to a machine that is switched.
            Power::Manual
        }
    }
}

/// A date and time in the old writing (`2021-12-22 16:57:08.146275`, which is UTC) or the current one.
fn moment(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "first_seen")?;
    let zoned = text.parse::<jiff::Timestamp>();
    let civil = || text.parse::<jiff::civil::DateTime>().and_then(|t| t.to_zoned(jiff::tz::TimeZone::UTC));
    match zoned.or_else(|_| civil().map(|t| t.timestamp())) {
        Ok(time) => Some(farmgate_protocol::Timestamp::from_micros(time.as_microsecond()).to_string()),
        Err(_) => {
            let remedy = "write it like \"2021-12-22T16:57:08+00:00\"";
            reader.error(&node.place, "first_seen is no date and time", remedy);
            None
        }
    }
}

#[cfg(test)]
mod tests;
