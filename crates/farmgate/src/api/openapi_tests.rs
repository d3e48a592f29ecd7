//! The OpenAPI document against the table of endpoints, the checked-in file, the types of the API, and the manual.

use std::{collections::BTreeSet, path::PathBuf};

use farmgate_protocol::{
    dut::{Dut, Duts},
    event::Event,
    pdu::{Pdu, Pdus, Port},
    run::{RunDetail, Runs, Why},
    submit::{Metadata, SubmitReply},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    endpoints::{Answers, ENDPOINTS, Endpoint, Takes},
    openapi::document,
    tokens::{MadeToken, NewToken, TokenList},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn manual() -> String {
    std::fs::read_to_string(root().join("docs/api.md")).unwrap()
}

/// A section of the manual that begins with `### METHOD PATH`.
struct Section {
    head: String,
    text: String,
    /// What stands behind "```json", and the value.
    examples: Vec<(String, Value)>,
}

fn sections() -> Vec<Section> {
    let manual = manual();
    let mut sections: Vec<Section> = Vec::new();
    let mut block: Option<(String, String)> = None;
    for line in manual.lines() {
        if let Some((kind, text)) = &mut block {
            if line == "```" {
                let value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
                let kind = std::mem::take(kind);
                sections.last_mut().unwrap().examples.push((kind, value));
                block = None;
            } else {
                text.push_str(line);
                text.push('\n');
            }
        } else if let Some(head) = line.strip_prefix("### ") {
            sections.push(Section { head: head.to_owned(), text: String::new(), examples: Vec::new() });
        } else if let Some(kind) = line.strip_prefix("```json ") {
            block = Some((kind.to_owned(), String::new()));
        } else if let Some(section) = sections.last_mut() {
            section.text.push_str(line);
        }
    }
    sections
}

fn section(head: &str) -> Section {
    sections().into_iter().find(|s| s.head == head).unwrap_or_else(|| panic!("docs/api.md lacks ### {head}"))
}

fn head(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.method, endpoint.path)
}

/// The document with every object closed: what a schema does not name is an error.
fn strict() -> Value {
    fn close(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                    fields.insert("additionalProperties".to_owned(), false.into());
                }
                fields.values_mut().for_each(close);
            }
            Value::Array(values) => values.iter_mut().for_each(close),
            _ => {}
        }
    }
    let mut document = document();
    close(&mut document["components"]["schemas"]);
    document
}

struct Checker {
    schemas: boon::Schemas,
    compiler: boon::Compiler,
}

const PLACE: &str = "http://farmgate.example/openapi.json";

impl Checker {
    fn new() -> Self {
        let mut compiler = boon::Compiler::new();
        compiler.add_resource(PLACE, strict()).unwrap();
        Self { schemas: boon::Schemas::new(), compiler }
    }

    fn check(&mut self, schema: &str, value: &Value) -> Result<(), String> {
        let place = format!("{PLACE}#/components/schemas/{schema}");
        let index =
            self.compiler.compile(&place, &mut self.schemas).unwrap_or_else(|e| panic!("{schema}: {e}"));
        self.schemas.validate(value, index).map_err(|e| format!("{schema}: {e:#}"))
    }
}

#[test]
fn the_checked_in_document_is_the_one_that_is_served() {
    let path = root().join("schema/openapi.json");
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    let served = format!("{:#}\n", document());
    assert!(
        checked_in == served,
        "schema/openapi.json is out of date; rewrite it: cargo run -p farmgate -- schema api > schema/openapi.json"
    );
}

#[test]
fn every_path_of_the_router_is_in_the_document_and_the_manual() {
    let document = document();
    let mut listed = BTreeSet::new();
    for endpoint in ENDPOINTS {
        let operation = &document["paths"][endpoint.path.replace("{*", "{")][endpoint.method.to_lowercase()];
        assert!(operation["summary"].is_string(), "{} is not in the document", head(endpoint));
        listed.insert(head(endpoint));
    }
    let operations: usize =
        document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(operations, ENDPOINTS.len(), "nothing else is in it");
    let written: BTreeSet<String> = sections().into_iter().map(|s| s.head).collect();
    let missing: Vec<_> = listed.symmetric_difference(&written).collect();
    assert!(missing.is_empty(), "docs/api.md and the table of endpoints differ in {missing:?}");
}

#[test]
fn the_manual_names_the_role_of_every_request() {
    for endpoint in ENDPOINTS {
        let text = section(&head(endpoint)).text;
        let role = format!("Role: {}.", endpoint.need.in_words());
        assert!(text.contains(&role), "{} in docs/api.md lacks {role:?}: {text}", head(endpoint));
    }
}

#[test]
fn operations_have_names_of_their_own_and_every_reference_leads_somewhere() {
    let document = document();
    let mut names = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
        }
    }
    let text = document.to_string();
    for piece in text.split("#/components/schemas/").skip(1) {
        let name = piece.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "there is no schema {name}");
    }
}

#[test]
fn the_examples_of_the_manual_have_the_shapes_of_the_document() {
    let mut checker = Checker::new();
    for endpoint in ENDPOINTS {
        let examples = section(&head(endpoint)).examples;
        let find = |kind: &str| examples.iter().find(|(k, _)| k == kind).map(|(_, value)| value);
        let (request, answer) = (find("request"), find("answer"));
        match endpoint.takes {
            Takes::Json(schema) => {
                let example = request.unwrap_or_else(|| panic!("{} has no request", head(endpoint)));
                checker.check(schema, example).unwrap();
            }
            Takes::Submission => checker.check("Metadata", find("metadata").unwrap()).unwrap(),
            Takes::Nothing => assert!(request.is_none(), "{} takes nothing", head(endpoint)),
        }
        match endpoint.answers {
            // It is this document.
            Answers::Json("OpenApi") => {}
            Answers::Json(schema) | Answers::Console(Some(schema)) => {
                let example = answer.unwrap_or_else(|| panic!("{} has no answer", head(endpoint)));
                checker.check(schema, example).unwrap();
            }
            _ => assert!(answer.is_none(), "{} answers no JSON", head(endpoint)),
        }
    }
    checker.check("Event", &section("GET /api/v1/events").examples[0].1).unwrap();
    // It can fail.
    assert!(checker.check("NewToken", &serde_json::json!({"name": "a", "role": "root"})).is_err());
    assert!(checker.check("Done", &serde_json::json!({"id": "a", "more": 1})).is_err());
}

/// The type reads the example and writes it again, field by field: a field that only one of them has is noticed.
fn is_of_type<T: Serialize + DeserializeOwned>(head: &str, kind: &str) {
    let examples = section(head).examples;
    let (_, example) = examples.iter().find(|(k, _)| k == kind).unwrap();
    let value: T = serde_json::from_value(example.clone()).unwrap_or_else(|e| panic!("{head}: {e}"));
    assert_eq!(&serde_json::to_value(value).unwrap(), example, "{head}");
}

#[test]
fn the_examples_of_the_manual_are_values_of_the_types() {
    is_of_type::<Duts>("GET /api/v1/duts", "answer");
    is_of_type::<Dut>("GET /api/v1/dut/{id}", "answer");
    is_of_type::<Pdus>("GET /api/v1/pdus", "answer");
    is_of_type::<Pdu>("GET /api/v1/pdu/{name}", "answer");
    is_of_type::<Port>("GET /api/v1/pdu/{name}/port/{port}", "answer");
    is_of_type::<Runs>("GET /api/v1/jobs", "answer");
    is_of_type::<RunDetail>("GET /api/v1/job/{id}", "answer");
    is_of_type::<Why>("GET /api/v1/job/{id}/why", "answer");
    is_of_type::<Metadata>("POST /api/v1/jobs", "metadata");
    is_of_type::<SubmitReply>("POST /api/v1/jobs", "answer");
    is_of_type::<Event>("GET /api/v1/events", "event");
    is_of_type::<TokenList>("GET /api/v1/tokens", "answer");
    is_of_type::<NewToken>("POST /api/v1/tokens", "request");
    is_of_type::<MadeToken>("POST /api/v1/tokens", "answer");
}
