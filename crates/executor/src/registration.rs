//! Machines that register themselves, and people who change one: which fields each may set, and how they become a
//! change of the farm file.

use std::net::Ipv4Addr;

use farmgate_mars::{DutChange, DutEntry, Farm};
use farmgate_protocol::{
    DutId, MacAddress,
    dut::{Hardware, Registration},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{error::ExecutorError, hardware::differences, matching::nearest};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A person, a forge or a tool.
    Operator,
    /// A machine on the private network, by its lease.
    Dut {
        /// None: its address has no lease of ours.
        mac: Option<MacAddress>,
        /// Source address.
        address: Ipv4Addr,
    },
}

/// How a registration went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationReply {
    /// The DUT.
    pub id: DutId,
    /// It was not known before.
    pub created: bool,
    /// How it differs from what was known.
    pub differences: Vec<String>,
}

/// What POST and PUT `dut/` take.
const REGISTER_FIELDS: &[&str] = &[
    "id",
    "base_name",
    "tags",
    "manual_tags",
    "mac_address",
    "ip_address",
    "local_tty_device",
    "ready_for_service",
    "is_retired",
    "firmware_boot_time",
    "boot_sequence_power",
];
/// What a machine may say of itself.
const OWN_FIELDS: &[&str] =
    &["base_name", "tags", "mac_address", "ip_address", "local_tty_device", "hardware"];
/// What PATCH `dut/ID` takes.
const PATCH_FIELDS: &[&str] = &[
    "pdu_off_delay",
    "comment",
    "ready_for_service",
    "is_retired",
    "manual_tags",
    "firmware_boot_time",
    "boot_sequence_power",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    id: Option<DutId>,
    base_name: Option<String>,
    tags: Option<Vec<String>>,
    manual_tags: Option<Vec<String>>,
    mac_address: Option<MacAddress>,
    ip_address: Option<Ipv4Addr>,
    local_tty_device: Option<String>,
    ready_for_service: Option<bool>,
    is_retired: Option<bool>,
    firmware_boot_time: Option<f64>,
    boot_sequence_power: Option<Value>,
    pdu_off_delay: Option<f64>,
    comment: Option<String>,
    hardware: Option<Hardware>,
}

/// What a registration means for the farm file.
#[derive(Debug)]
pub(crate) struct Planned {
    pub reply: RegistrationReply,
    /// None: only a check.
    pub change: Option<DutChange>,
}

fn fields(body: &Map<String, Value>, allowed: &[&str]) -> Result<Fields, ExecutorError> {
    for name in body.keys() {
        if !allowed.contains(&name.as_str()) {
            let hint = nearest(name, allowed.iter().map(|n| (*n).to_owned()));
            let text =
                format!("the field {name:?} cannot be set here{hint}; allowed are {}", allowed.join(", "));
            return Err(ExecutorError::Invalid(text));
        }
    }
    serde_json::from_value(Value::Object(body.clone())).map_err(|e| ExecutorError::Invalid(e.to_string()))
}

/// A machine by its id, or else by its MAC address.
fn known<'a>(
    farm: &'a Farm,
    id: Option<&DutId>,
    mac: Option<MacAddress>,
) -> Option<(&'a DutId, &'a DutEntry)> {
    if let Some(id) = id {
        return farm.duts.get_key_value(id);
    }
    let mac = mac?;
    farm.duts.iter().find(|(_, entry)| entry.mac_address == Some(mac))
}

/// Checks a registration against who sends it and what is known.
pub(crate) fn plan(
    farm: &Farm,
    body: &Map<String, Value>,
    caller: Caller,
    check: bool,
) -> Result<Planned, ExecutorError> {
    if let Caller::Dut { mac, address } = caller {
        own_fields_only(body, mac, address)?;
    }
    let allowed: Vec<&str> = REGISTER_FIELDS.iter().copied().chain(["hardware"]).collect();
    let fields = fields(body, &allowed)?;
    if matches!(caller, Caller::Dut { .. }) {
        sound(&fields)?;
    }
    let entry = known(farm, fields.id.as_ref(), fields.mac_address);
    let id = match (&entry, &fields.id, fields.mac_address) {
        (Some((id, _)), _, _) => (*id).clone(),
        (None, Some(id), _) => id.clone(),
        (None, None, Some(mac)) => DutId::from(mac),
        (None, None, None) => {
            return Err(ExecutorError::Invalid(
                "give `mac_address` (or `id`): a machine is known by it".to_owned(),
            ));
        }
    };
    if entry.is_none() && fields.base_name.is_none() {
        return Err(ExecutorError::Invalid("a new machine needs a `base_name`".to_owned()));
    }
    if let Some(hardware) = &fields.hardware {
        tracing::info!(dut = %id, ?hardware, "hardware report");
    }
    let found = Registration {
        base_name: fields.base_name.clone().unwrap_or_default(),
        tags: fields.tags.clone().unwrap_or_default(),
        mac_address: fields.mac_address,
        ip_address: fields.ip_address,
        local_tty_device: fields.local_tty_device.clone(),
        hardware: None,
    };
    let differences = entry.map(|(_, entry)| differences(entry, &found)).unwrap_or_default();
    let reply = RegistrationReply { id, created: entry.is_none(), differences };
    if check {
        if reply.created {
            return Err(ExecutorError::UnknownDut { name: reply.id.to_string(), nearest: String::new() });
        }
        return Ok(Planned { reply, change: None });
    }
    let change = DutChange { create: true, ..change_of(fields, body) };
    Ok(Planned { reply, change: Some(change) })
}

fn own_fields_only(
    body: &Map<String, Value>,
    mac: Option<MacAddress>,
    address: Ipv4Addr,
) -> Result<(), ExecutorError> {
    if let Some(name) = body.keys().find(|name| !OWN_FIELDS.contains(&name.as_str())) {
        let text = format!("a machine may not set {name:?} of itself; only {}", OWN_FIELDS.join(", "));
        return Err(ExecutorError::Refused(text));
    }
    let Some(mac) = mac else {
        return Err(ExecutorError::Refused(format!(
            "{address} has no lease of this gateway: boot over its network"
        )));
    };
    let said = body.get("mac_address").and_then(Value::as_str);
    if said.and_then(|m| m.parse().ok()) != Some(mac) {
        let text =
            format!("mac_address: a machine may only register itself, and {address} is leased to {mac}");
        return Err(ExecutorError::Refused(text));
    }
    let said = body.get("ip_address").and_then(Value::as_str);
    if said.is_some() && said.and_then(|a| a.parse().ok()) != Some(address) {
        let text = format!("ip_address: a machine may only register itself, and this one has {address}");
        return Err(ExecutorError::Refused(text));
    }
    Ok(())
}

/// The longest word that a machine may say of itself, and the most tags. The farm file is kept for all machines, and
/// templates write the words into jobs: none of them may fill the one or break the other.
const MAX_WORD: usize = 128;
const MAX_TAGS: usize = 256;

fn sound(fields: &Fields) -> Result<(), ExecutorError> {
    let refuse = |name: &str, what: &str| Err(ExecutorError::Invalid(format!("{name}: {what}")));
    let short = |word: &str| !word.is_empty() && word.len() <= MAX_WORD;
    let plain = |word: &str, more: &str| {
        short(word) && word.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if fields.base_name.as_ref().is_some_and(|name| !plain(name, "-_.")) {
        return refuse("base_name", "write 1 to 128 letters, digits, dashes, dots and underscores");
    }
    if fields.local_tty_device.as_ref().is_some_and(|tty| !plain(tty, "-_./")) {
        return refuse("local_tty_device", "write the name of a serial port, like ttyS0");
    }
    let tags = fields.tags.as_deref().unwrap_or_default();
    if tags.len() > MAX_TAGS || tags.iter().any(|tag| !short(tag) || tag.chars().any(char::is_control)) {
        return refuse("tags", "write at most 256 tags of 1 to 128 bytes, without control characters");
    }
    Ok(())
}

/// PATCH `dut/ID`.
pub(crate) fn patch(body: &Map<String, Value>) -> Result<DutChange, ExecutorError> {
    if body.is_empty() {
        return Err(ExecutorError::Invalid(format!(
            "nothing to change: give some of {}",
            PATCH_FIELDS.join(", ")
        )));
    }
    Ok(change_of(fields(body, PATCH_FIELDS)?, body))
}

/// A field that can be emptied: null is a value of it, and not the same as its absence.
fn given<T>(body: &Map<String, Value>, name: &str, value: Option<T>) -> Option<Option<T>> {
    body.contains_key(name).then_some(value)
}

fn change_of(fields: Fields, body: &Map<String, Value>) -> DutChange {
    DutChange {
        base_name: fields.base_name,
        tags: fields.tags,
        manual_tags: fields.manual_tags,
        mac_address: fields.mac_address,
        ip_address: fields.ip_address,
        local_tty_device: fields.local_tty_device,
        ready_for_service: fields.ready_for_service,
        is_retired: fields.is_retired,
        firmware_boot_time: given(body, "firmware_boot_time", fields.firmware_boot_time),
        boot_sequence_power: given(body, "boot_sequence_power", fields.boot_sequence_power),
        pdu_off_delay: fields.pdu_off_delay,
        comment: given(body, "comment", fields.comment),
        ..DutChange::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MAC: &str = "52:54:00:11:22:01";

    fn ask(farm: &Farm, body: Value, caller: Caller, check: bool) -> Result<Planned, ExecutorError> {
        plan(farm, body.as_object().unwrap(), caller, check)
    }
    fn dut() -> Caller {
        Caller::Dut { mac: Some(MAC.parse().unwrap()), address: Ipv4Addr::new(10, 42, 0, 20) }
    }
    fn body() -> Value {
        json!({"base_name": "virtio", "tags": ["a"], "mac_address": MAC, "ip_address": "10.42.0.20", "local_tty_device": "ttyS0"})
    }

    #[test]
    fn a_stranger_gets_its_mac_address_as_id() {
        let planned = ask(&Farm::default(), body(), dut(), false).unwrap();
        assert!(planned.reply.created);
        assert_eq!(planned.reply.id.as_str(), MAC);
        assert!(planned.change.unwrap().create);
    }

    #[test]
    fn a_machine_may_only_speak_of_itself() {
        let farm = Farm::default();
        for (field, value) in [
            ("mac_address", json!("52:54:00:11:22:02")),
            ("ip_address", json!("10.42.0.21")),
            ("id", json!("other")),
            ("ready_for_service", json!(true)),
            ("manual_tags", json!(["fast"])),
        ] {
            let mut body = body();
            body[field] = value;
            match ask(&farm, body, dut(), false) {
                Err(ExecutorError::Refused(text)) => assert!(text.contains(field), "{text}"),
                other => panic!("{field}: {other:?}"),
            }
        }
        let nobody = Caller::Dut { mac: None, address: Ipv4Addr::new(10, 42, 0, 20) };
        assert!(matches!(ask(&farm, body(), nobody, false), Err(ExecutorError::Refused(_))));
    }

    #[test]
    fn what_a_machine_says_of_itself_can_neither_fill_the_farm_file_nor_break_a_template() {
        for (field, value) in [
            ("base_name", json!("a\nb")),
            ("base_name", json!("")),
            ("local_tty_device", json!("ttyS0 init=/bin/sh")),
            ("tags", json!(["a\n  - b"])),
            ("tags", json!(["x".repeat(MAX_WORD + 1)])),
            ("tags", json!(vec!["x"; MAX_TAGS + 1])),
        ] {
            let mut body = body();
            body[field] = value;
            match ask(&Farm::default(), body.clone(), dut(), false) {
                Err(ExecutorError::Invalid(text)) => assert!(text.contains(field), "{text}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        let real = json!({"base_name": "gfx10.3-navi_21", "tags": ["mem:size:2 GiB"], "mac_address": MAC, "local_tty_device": "ttyS0"});
        assert!(ask(&Farm::default(), real, dut(), false).is_ok());
    }

    #[test]
    fn a_check_changes_nothing_and_tells_the_differences() {
        let mut farm = Farm::default();
        let entry = DutEntry {
            base_name: "virtio".into(),
            tags: vec!["a".into(), "b".into()],
            mac_address: Some(MAC.parse().unwrap()),
            ..DutEntry::default()
        };
        farm.duts.insert(DutId::new("my-box").unwrap(), entry);
        let planned = ask(&farm, body(), dut(), true).unwrap();
        assert_eq!(planned.reply.id.as_str(), "my-box");
        assert!(planned.change.is_none());
        assert_eq!(planned.reply.differences, ["gone: b"]);
    }

    #[test]
    fn a_field_that_cannot_be_set_is_named_with_those_that_can() {
        let error = patch(json!({"pdu_of_delay": 3}).as_object().unwrap()).unwrap_err().to_string();
        assert!(error.contains("pdu_of_delay") && error.contains("pdu_off_delay"), "{error}");
        assert!(patch(json!({"pdu_off_delay": 3}).as_object().unwrap()).is_ok());
        assert!(patch(json!({"comment": 3}).as_object().unwrap()).is_err());
    }
}
