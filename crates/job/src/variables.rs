//! What a template can name: the machine, the farm's settings, the environment of the submitter.
//!
//! Names that the language has but this gateway cannot fill stand for an error, so that a job never gets an empty
//! text where it expects an address or a key.

use farmgate_protocol::dut::Dut;
use serde_json::{Map, json};

use crate::template::{Dict, Engine, Outcome, Value};

/// The variables of a template.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Variables(pub Map<String, serde_json::Value>);

/// Texts that exist in the language, but have no value here unless the caller sets one.
const NOT_YET: [&str; 4] = ["minio_url", "job_bucket", "job_bucket_access_key", "job_bucket_secret_key"];

/// Names under which the language has others, of which this gateway knows only those that the caller sets.
const SPACES: [&str; 3] = ["job", "imagestore", "registry"];

impl Variables {
    /// Those that describe one machine: `machine_id`, `machine` and `dut`, `machine_tags` (its tags for matching:
    /// tags, manual tags, `farm:FARM`), `local_tty_device`, `ready_for_service`.
    pub fn for_dut(dut: &Dut, farm_name: &str) -> Self {
        let mut tags: Vec<String> = Vec::new();
        let farm = format!("farm:{farm_name}");
        for tag in dut.tags.iter().chain(&dut.manual_tags).chain([&farm]) {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        let machine = json!({
            "id": dut.id,
            "base_name": dut.base_name,
            "full_name": dut.full_name,
            "hostname": dut.full_name,
            "tags": dut.tags,
            "manual_tags": dut.manual_tags,
            "mac_address": dut.mac_address,
            "ip_address": dut.ip_address,
            "local_tty_device": dut.local_tty_device,
            "firmware_boot_time": dut.firmware_boot_time,
            "boot_sequence_power": dut.boot_sequence_power,
            "ready_for_service": dut.ready_for_service,
            "comment": dut.comment,
        });
        Self::default()
            .set("machine_id", dut.id.as_str())
            .set("machine", machine.clone())
            .set("dut", machine)
            .set("machine_tags", tags)
            .set("local_tty_device", dut.local_tty_device.clone())
            .set("ready_for_service", dut.ready_for_service)
    }

    /// The same with one more variable; an older one of that name is replaced.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Gives them to a template, with what is not supported yet standing for an error. `cmdline`: the kernel command
    /// line, which only the `data` of an artifact sees.
    pub(crate) fn define_in(&self, engine: &mut Engine<'_>, cmdline: Option<&str>) -> Outcome<()> {
        for (name, json) in &self.0 {
            if !SPACES.contains(&name.as_str()) {
                let value = engine.store().json(json)?;
                engine.define(name, value);
            }
        }
        // A submission always has an environment, though often an empty one: templates loop over it.
        if !self.0.contains_key("environ") {
            let value = engine.store().dict(Dict::default())?;
            engine.define("environ", value);
        }
        for name in NOT_YET {
            if !self.0.contains_key(name) {
                let value = space(engine, name, &Map::new())?;
                engine.define(name, value);
            }
        }
        for name in SPACES {
            let mut known = match self.0.get(name) {
                Some(serde_json::Value::Object(known)) => known.clone(),
                _ => Map::new(),
            };
            if let (Some(cmdline), "job") = (cmdline, name) {
                add(&mut known, &["deployment", "kernel", "cmdline"], cmdline);
            }
            let value = space(engine, name, &known)?;
            engine.define(name, value);
        }
        Ok(())
    }
}

/// A name below which everything that is not known is an error.
fn space(engine: &mut Engine<'_>, path: &str, known: &Map<String, serde_json::Value>) -> Outcome<Value> {
    let dict = engine.store().new_dict(Dict::default())?;
    for (name, json) in known {
        let value = match json {
            serde_json::Value::Object(inner) => space(engine, &format!("{path}.{name}"), inner)?,
            other => engine.store().json(other)?,
        };
        let name = engine.store().text(name.as_str())?;
        engine.store().insert(dict, name, value)?;
    }
    Ok(Value::Space(path.into(), dict))
}

/// Sets a text below some names, which become mappings where they are none.
fn add(known: &mut Map<String, serde_json::Value>, path: &[&str], text: &str) {
    match path {
        [] => {}
        [last] => {
            known.insert((*last).to_owned(), text.into());
        }
        [first, rest @ ..] => {
            let entry = known.entry(*first).or_insert_with(|| Map::new().into());
            if !entry.is_object() {
                *entry = Map::new().into();
            }
            if let Some(inner) = entry.as_object_mut() {
                add(inner, rest, text);
            }
        }
    }
}
