//! What a template can name: the machine, the farm's settings, the environment of the submitter.
//!
//! Names that the language has but this gateway cannot fill stand for an error, so that a job never gets an empty
//! text where it expects an address or a key.

use std::sync::Arc;

use farmgate_protocol::dut::Dut;
use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Enumerator, Object, ObjectRepr},
};
use serde_json::{Map, json};

/// The variables of a template.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Variables(pub Map<String, serde_json::Value>);

/// Names that exist in the language, but have no value here unless the caller sets one.
const NOT_YET: [&str; 7] = [
    "minio_url",
    "job_bucket",
    "job_bucket_access_key",
    "job_bucket_secret_key",
    "job",
    "imagestore",
    "registry",
];

/// How the message begins that tells apart what is not supported.
pub(crate) const NOT_YET_PREFIX: &str = "not supported yet: ";

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

    /// For the template engine, with what is not supported yet standing for an error.
    pub(crate) fn context(&self, job: Option<Value>) -> Value {
        let mut all: Vec<(String, Value)> =
            self.0.iter().map(|(name, value)| (name.clone(), to_value(value))).collect();
        // A submission always has an environment, though often an empty one: templates loop over it.
        if !self.0.contains_key("environ") {
            all.push(("environ".to_owned(), Value::from_pairs(Vec::<(String, Value)>::new())));
        }
        for name in NOT_YET {
            if !self.0.contains_key(name) {
                all.push((name.to_owned(), not_yet_value(name)));
            }
        }
        if let Some(job) = job {
            all.push(("job".to_owned(), job));
        }
        Value::from_pairs(all)
    }
}

/// As Jinja2 would see what Python read from JSON.
fn to_value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => number.as_f64().map_or(Value::UNDEFINED, Value::from),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(to_value).collect::<Vec<_>>()),
        serde_json::Value::Object(map) => {
            Value::from_pairs(map.iter().map(|(key, value)| (key.as_str(), to_value(value))))
        }
    }
}

/// Namespaces may be named and looked into; texts are an error at once.
fn not_yet_value(name: &str) -> Value {
    match name {
        "job" | "imagestore" | "registry" => {
            Value::from_object(NotYet { name: name.to_owned(), known: Vec::new() })
        }
        _ => Value::from(not_yet(name)),
    }
}

fn not_yet(name: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{NOT_YET_PREFIX}{name}"))
}

/// `job` as the `data` of an artifact sees it: the kernel command line, and errors for the rest.
pub(crate) fn job_for_data(cmdline: &str) -> Value {
    let kernel = Value::from_pairs([("cmdline", Value::from(cmdline))]);
    let deployment = Value::from_pairs([("kernel", kernel)]);
    Value::from_object(NotYet { name: "job".into(), known: vec![("deployment".into(), deployment)] })
}

/// A namespace of the language of which this gateway knows little.
#[derive(Debug)]
struct NotYet {
    name: String,
    known: Vec<(String, Value)>,
}

impl Object for NotYet {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let known = self.known.iter().find(|(name, _)| key.as_str() == Some(name)).map(|(_, v)| v.clone());
        Some(known.unwrap_or_else(|| Value::from(not_yet(&format!("{}.{key}", self.name)))))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        Err(not_yet(&format!("{}()", self.name)))
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        _: &[Value],
    ) -> Result<Value, Error> {
        Err(not_yet(&format!("{}.{method}()", self.name)))
    }
}
