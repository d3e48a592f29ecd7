//! The job format as a JSON Schema, for editors: completion, hover texts, and the mistakes that can be seen without
//! rendering.
//!
//! It describes the whole language, also what this gateway cannot do yet. It names the same fields as the reader and
//! accepts what the reader accepts (but for odd spellings of numbers, as `1_000`); the reader stays the judge of
//! meaning. A test holds the two together. An editor sees a job before its template is rendered, so a text that is a
//! `{{ }}` in quotes passes where the language wants a text of some shape.
//!
//! Only keywords that draft 7 and draft 2020-12 read alike are used: many editors know the older one.

mod boot;
mod console;

use serde_json::{Map, Value, json};

/// Added to a pattern: a template tag.
const OR_TEMPLATE: &str = r"|\{\{|\{%";

/// The schema of a job, draft 2020-12.
pub fn schema() -> Value {
    let mut job = object(
        "A job: which machine it wants, what that boots, how long things may take, how to read its console.",
        [
            (
                "version",
                json!({"description": "Version of the job language. Mandatory.", "const": 1, "default": 1}),
            ),
            ("deadline", deadline()),
            ("target", target()),
            ("timeouts", console::timeouts()),
            ("console_patterns", console::patterns()),
            ("deployment", boot::deployment()),
            ("proxy", proxy()),
        ],
    );
    job["type"] = json!("object");
    job["required"] = json!(["version"]);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "farmgate job",
    });
    if let (Some(all), Value::Object(job)) = (schema.as_object_mut(), job) {
        all.extend(job);
    }
    schema["$defs"] = definitions();
    schema
}

fn definitions() -> Value {
    let mut all = Map::new();
    for (name, definition) in console::definitions().into_iter().chain(boot::definitions()) {
        all.insert(name.to_owned(), definition);
    }
    Value::Object(all)
}

fn deadline() -> Value {
    let mut date = text(
        "The job makes no sense after this date and time: submitting it later is refused. Without an offset it is UTC. Default: none.",
    );
    date["type"] = json!(["string", "null"]);
    date["examples"] = json!(["2030-12-31T23:59:59+00:00"]);
    let pattern = r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}";
    shaped(date, pattern, "write it as 2030-12-31T23:59:59+00:00; without an offset it is UTC")
}

fn target() -> Value {
    let mut id = text("A machine's id or full name. Default: any machine that has the tags.");
    id["examples"] = json!(["lab-virtio-1"]);
    let mut target = object(
        "Which machine the job wants. May be absent where the submission names the machine. At least one of id and tags.",
        [
            ("id", id),
            (
                "tags",
                json!({
                    "description": "The machine has all of these; [] alone means any machine.",
                    "type": ["array", "null"],
                    "items": plain_text(),
                    "default": [],
                    "examples": [["virtio:family:VIRTIO"]],
                }),
            ),
        ],
    );
    target["minProperties"] = json!(1);
    target["examples"] = json!([{"tags": ["virtio:family:VIRTIO"]}]);
    target
}

fn proxy() -> Value {
    let mut endpoint = plain_text();
    endpoint["description"] = json!("host:port");
    endpoint["examples"] = json!(["gitlab.example.org:443"]);
    let endpoint = shaped(endpoint, ":[0-9]+$", "write host:port");
    let endpoints = complex_list(
        "Endpoints, each host:port, that the machine may reach while the job runs.",
        &endpoint,
        &[],
        &json!(["gitlab.example.org:443"]),
    );
    not_yet(object("What the machine may reach through the gateway.", [("allowed_endpoints", endpoints)]))
}

/// A mapping with exactly these fields, or nothing.
fn object<const N: usize>(description: &str, fields: [(&str, Value); N]) -> Value {
    let properties: Map<String, Value> =
        fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({
        "description": description,
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": properties,
    })
}

/// The same where a text must look like this, or hold a template tag, whose result nobody knows yet. `remedy`: what to
/// write; editors show it instead of the pattern.
fn shaped(mut text: Value, pattern: &str, remedy: &str) -> Value {
    text["pattern"] = json!(format!("{pattern}{OR_TEMPLATE}"));
    text["patternErrorMessage"] = json!(remedy);
    text
}

/// The same with fields that must be there.
fn requiring(mut object: Value, names: &[&str]) -> Value {
    object["required"] = json!(names);
    for name in names {
        let field = &mut object["properties"][*name];
        for choices in ["type", "enum"] {
            if let Some(all) = field.get(choices).and_then(Value::as_array) {
                let nothing = [json!("null"), Value::Null];
                field[choices] = all.iter().filter(|one| !nothing.contains(one)).cloned().collect();
            }
        }
        if field.get("$ref").is_some() {
            field["type"] = json!("object");
        }
    }
    object
}

/// One thing, or a list of them, or nothing.
fn one_or_several(description: &str, item: &Value, example: &Value) -> Value {
    json!({
        "description": format!("{description} One, or a list."),
        "anyOf": [item, {"type": "array", "items": item}, {"type": "null"}],
        "examples": [example],
    })
}

/// A mapping of names that the author chooses.
fn named(description: &str, item: &Value) -> Value {
    json!({
        "description": description,
        "type": ["object", "null"],
        "additionalProperties": item,
    })
}

/// A text as the reader takes one: a number or `on` counts as it is written.
fn plain_text() -> Value {
    json!({"type": ["string", "number", "boolean"]})
}

/// A field that is a text, or nothing.
fn text(description: &str) -> Value {
    json!({"description": description, "type": ["string", "number", "boolean", "null"]})
}

/// A field that is one of these words, or nothing.
fn word(description: &str, words: &[&str]) -> Value {
    let words: Vec<Value> = words.iter().map(|w| json!(w)).chain([Value::Null]).collect();
    json!({"description": description, "enum": words})
}

/// A field that is true or false in one of YAML's spellings, or nothing.
fn flag(description: &str, default: bool) -> Value {
    let words = "[Tt]rue|TRUE|[Ff]alse|FALSE|[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF";
    json!({
        "description": description,
        "type": ["boolean", "string", "null"],
        "pattern": format!("^({words})$"),
        "default": default,
        "examples": [default],
    })
}

fn count(description: &str) -> Value {
    json!({"description": description, "type": ["integer", "null"], "minimum": 0, "maximum": u32::MAX})
}

/// A number of 0 or more.
fn number(description: &str) -> Value {
    json!({"description": description, "type": ["number", "null"], "minimum": 0})
}

/// A definition by its name, with the words of this place.
fn reference(name: &str, description: &str) -> Value {
    json!({"description": description, "$ref": format!("#/$defs/{name}")})
}

/// One thing, a list of them, or categories. `item_fields`: what tells a mapping that is a thing from categories.
fn complex_list(description: &str, item: &Value, item_fields: &[&str], example: &Value) -> Value {
    let list = json!({"type": "array", "items": item});
    let mut categories = json!({
        "description": "Categories, in the order of their names; \":uncategorised\" holds what has none, and comes last.",
        "type": "object",
        "additionalProperties": {"anyOf": [item, list, {"type": "null"}]},
    });
    if !item_fields.is_empty() {
        categories["propertyNames"] = json!({"not": {"enum": item_fields}});
    }
    json!({
        "description": format!("{description} One, a list, or a mapping of categories to one or a list."),
        "anyOf": [item, list, categories, {"type": "null"}],
        "examples": [example],
    })
}

/// Says that a job with this field is refused today.
fn not_yet(mut schema: Value) -> Value {
    let text = schema["description"].as_str().unwrap_or_default();
    schema["description"] =
        json!(format!("{text} Not supported by this gateway yet: a job that asks for it is refused."));
    schema
}
