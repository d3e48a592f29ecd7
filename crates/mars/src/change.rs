//! What the gateway may write about a machine, and how that is brought into the text safely.

use std::net::Ipv4Addr;

use farmgate_protocol::{DutId, MacAddress, PortId, Timestamp};
use serde_json::{Value, json};

use crate::{
    diagnostic::FarmError,
    edit::{self, EditError},
    farm::{DutEntry, Farm, Power},
    parse::{CheckContext, parse},
};

/// A change to one machine. A field that is `None` stays as it is; in a double `Option` the inner `None` clears it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DutChange {
    /// Make the machine if it is not there (otherwise that is an error).
    pub create: bool,
    /// Its kind.
    pub base_name: Option<String>,
    /// What its hardware is.
    pub tags: Option<Vec<String>>,
    /// What a person added.
    pub manual_tags: Option<Vec<String>>,
    /// Of the interface that it boots from.
    pub mac_address: Option<MacAddress>,
    /// Its address on the private network.
    pub ip_address: Option<Ipv4Addr>,
    /// The machine's own name of the serial port that reaches the gateway.
    pub local_tty_device: Option<String>,
    /// Name of its PDU.
    pub pdu: Option<Option<String>>,
    /// Its port there.
    pub pdu_port_id: Option<Option<PortId>>,
    /// Seconds off before on again.
    pub pdu_off_delay: Option<f64>,
    /// It qualified.
    pub ready_for_service: Option<bool>,
    /// Out of service by a person's wish.
    pub is_retired: Option<bool>,
    /// When it registered first, ISO 8601; now, if it is made without.
    pub first_seen: Option<String>,
    /// A person's note.
    pub comment: Option<Option<String>>,
    /// Seconds from power on to its first network boot request.
    pub firmware_boot_time: Option<Option<f64>>,
    /// Power profile of its boot.
    pub boot_sequence_power: Option<Option<Value>>,
}

/// Why a text could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The change makes the file wrong: its own fault.
    #[error("the change would make the farm file wrong:\n{0}")]
    Wrong(#[source] FarmError),
    /// The text that came out does not say what was meant.
    #[error("the change cannot be written without touching what a person wrote")]
    Unfaithful,
}

/// Writes fields into an entry or into a text: the list of fields is written down only here.
macro_rules! for_each_field {
    ($call:ident, $($args:expr),*) => {
        $call!(base_name, clone, ["base_name"], $($args),*);
        $call!(tags, clone, ["tags"], $($args),*);
        $call!(manual_tags, clone, ["manual_tags"], $($args),*);
        $call!(mac_address, some, ["mac_address"], $($args),*);
        $call!(ip_address, some, ["ip_address"], $($args),*);
        $call!(local_tty_device, some, ["local_tty_device"], $($args),*);
        $call!(pdu, clone, ["pdu"], $($args),*);
        $call!(pdu_port_id, clone, ["pdu_port_id", "pdu_port"], $($args),*);
        $call!(pdu_off_delay, clone, ["pdu_off_delay"], $($args),*);
        $call!(ready_for_service, clone, ["ready_for_service"], $($args),*);
        $call!(is_retired, clone, ["is_retired"], $($args),*);
        $call!(first_seen, some, ["first_seen"], $($args),*);
        $call!(comment, clone, ["comment"], $($args),*);
        $call!(firmware_boot_time, clone, ["firmware_boot_time"], $($args),*);
        $call!(boot_sequence_power, clone, ["boot_sequence_power"], $($args),*);
    };
}

/// The value that an entry gets from a change.
macro_rules! wanted {
    (clone, $value:expr) => {
        $value.clone()
    };
    (some, $value:expr) => {
        Some($value.clone())
    };
}

impl DutChange {
    /// Brings the change into an entry.
    pub fn apply(&self, dut: &mut DutEntry) {
        macro_rules! set {
            ($field:ident, $how:ident, $names:tt,) => {
                if let Some(value) = &self.$field {
                    dut.$field = wanted!($how, value);
                }
            };
        }
        for_each_field!(set,);
    }

    /// Leaves out what a person changed between two states of the file: their edit wins.
    fn yield_to(&mut self, before: &DutEntry, now: &DutEntry) {
        macro_rules! give_way {
            ($field:ident, $how:ident, $names:tt,) => {
                if before.$field != now.$field && self.$field.take().is_some() {
                    tracing::info!(
                        field = stringify!($field),
                        "a person changed this field meanwhile: theirs stays"
                    );
                }
            };
        }
        for_each_field!(give_way,);
    }

    /// The fields that differ from an entry, with their names in the file and their values.
    fn differences(&self, dut: &DutEntry) -> Vec<(&'static [&'static str], Value)> {
        let mut fields = Vec::new();
        macro_rules! differ {
            ($field:ident, $how:ident, $names:tt,) => {
                if let Some(value) = &self.$field
                    && dut.$field != wanted!($how, value)
                {
                    let names: &'static [&'static str] = &$names;
                    fields.push((names, json!(value)));
                }
            };
        }
        for_each_field!(differ,);
        fields
    }
}

/// The fields of a machine that is made, in the order in which people read them.
fn fields_of(dut: &DutEntry) -> Vec<(&'static str, Value)> {
    let mut fields = vec![
        ("base_name", json!(dut.base_name)),
        ("tags", json!(dut.tags)),
        ("manual_tags", json!(dut.manual_tags)),
        ("mac_address", json!(dut.mac_address)),
        ("ip_address", json!(dut.ip_address)),
        ("local_tty_device", json!(dut.local_tty_device)),
        ("pdu", json!(dut.pdu)),
        ("pdu_port_id", json!(dut.pdu_port_id)),
        ("pdu_off_delay", json!(dut.pdu_off_delay)),
        ("ready_for_service", json!(dut.ready_for_service)),
        ("is_retired", json!(dut.is_retired)),
        ("first_seen", json!(dut.first_seen)),
        ("comment", json!(dut.comment)),
    ];
    match dut.power {
        Power::Managed => {}
        Power::Manual => fields.push(("power", json!("manual"))),
        Power::NeverOff => fields.push(("power", json!("never_off"))),
    }
    if let Some(time) = dut.max_on_time {
        fields.push(("max_on_time", json!(time)));
    }
    if let Some(time) = dut.firmware_boot_time {
        fields.push(("firmware_boot_time", json!(time)));
    }
    if let Some(power) = &dut.boot_sequence_power {
        fields.push(("boot_sequence_power", power.clone()));
    }
    fields
}

/// A text that was changed, and what it says now.
pub struct Changed {
    pub text: String,
    pub farm: Farm,
}

/// Whether a machine was there to be changed.
pub enum Outcome {
    Changed(Box<Changed>),
    NoSuchDut,
}

/// Brings a change into a text whose contents are `now`. `before` is what the gateway knew when it decided.
pub fn update(
    name: &str,
    text: &str,
    now: &Farm,
    before: &Farm,
    context: &CheckContext,
    id: &DutId,
    mut change: DutChange,
) -> Result<Outcome, ChangeError> {
    let mut expected = now.clone();
    let edited = match now.duts.get(id) {
        Some(dut) => {
            // A machine that the gateway did not know was written by a person: all that it says stays.
            let unknown = DutEntry::default();
            change.yield_to(before.duts.get(id).unwrap_or(&unknown), dut);
            let mut edited = text.to_owned();
            for (names, value) in change.differences(dut) {
                edited = edit::set_field(&edited, id, names, &value)?;
            }
            if let Some(dut) = expected.duts.get_mut(id) {
                change.apply(dut);
            }
            edited
        }
        None if !change.create => return Ok(Outcome::NoSuchDut),
        None => {
            let mut dut = DutEntry { mac_address: id.as_str().parse().ok(), ..DutEntry::default() };
            change.first_seen.get_or_insert_with(|| Timestamp::now().to_string());
            change.apply(&mut dut);
            let edited = edit::add_dut(text, id, &fields_of(&dut))?;
            expected.duts.insert(id.clone(), dut);
            edited
        }
    };
    verify(name, edited, expected, context)
}

/// Takes a machine out of a text whose contents are `now`.
pub fn remove(
    name: &str,
    text: &str,
    now: &Farm,
    context: &CheckContext,
    id: &DutId,
) -> Result<Outcome, ChangeError> {
    let mut expected = now.clone();
    if expected.duts.remove(id).is_none() {
        return Ok(Outcome::NoSuchDut);
    }
    verify(name, edit::remove_dut(text, id)?, expected, context)
}

fn verify(name: &str, text: String, expected: Farm, context: &CheckContext) -> Result<Outcome, ChangeError> {
    let farm = parse(name, &text, context).map_err(ChangeError::Wrong)?.farm;
    if alike(&farm, &expected) {
        Ok(Outcome::Changed(Box::new(Changed { text, farm })))
    } else {
        Err(ChangeError::Unfaithful)
    }
}

/// Equal, but for the writing of a date or a number.
fn alike(a: &Farm, b: &Farm) -> bool {
    let plain = |farm: &Farm| {
        let mut farm = farm.clone();
        for dut in farm.duts.values_mut() {
            let time = dut.first_seen.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            dut.first_seen = time.map(|time| time.to_string());
            // 30 and 30.0 are one number to a person, and two to JSON.
            dut.boot_sequence_power = dut.boot_sequence_power.as_ref().map(as_floats);
        }
        farm
    };
    a == b || plain(a) == plain(b)
}

fn as_floats(value: &Value) -> Value {
    match value {
        Value::Number(n) => n.as_f64().map_or_else(|| value.clone(), Value::from),
        Value::Array(items) => items.iter().map(as_floats).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(k, v)| (k.clone(), as_floats(v))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
