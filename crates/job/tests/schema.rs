//! The schema that editors use and the reader that judges submissions say the same.
#![allow(clippy::unwrap_used)] // all of it is a test

use std::{collections::BTreeSet, path::Path};

use farmgate_job::{Checked, Job, Problem, Source, Variables, check, schema};
use serde_json::{Map, Value, json};

/// A field that nothing has.
const UNKNOWN: &str = "zzz_unknown";

/// Fields that the reader refuses as a whole today, so that it does not look into them.
const NOT_LOOKED_INTO: [&str; 0] = [];

const NOT_YET: &str = "Not supported by this gateway yet";

fn read(document: &Value) -> Checked<Job> {
    let text = document.to_string();
    check(&Source { name: "job.yml", text: &text }, &Variables::default())
}

/// What the schema says against a document.
struct Judge {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Judge {
    fn new() -> Self {
        let mut schemas = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("job.json", schema()).unwrap();
        let index = compiler.compile("job.json", &mut schemas).unwrap_or_else(|e| panic!("{e}"));
        Self { schemas, index }
    }

    fn refuses(&self, document: &Value) -> Option<String> {
        self.schemas.validate(document, self.index).err().map(|e| format!("{e:#}"))
    }
}

/// How a value comes to stand in a document: the fields above it, with what each of those mappings must have besides.
#[derive(Clone, Default)]
struct Way {
    steps: Vec<Step>,
    /// Definitions that were entered, so that what holds itself ends.
    entered: Vec<String>,
    /// Something on the way is not supported yet.
    not_yet: bool,
    /// In a list or a category: the thing itself was walked where it stands alone.
    again: bool,
}

#[derive(Clone)]
enum Step {
    Field { name: String, beside: Map<String, Value> },
    Item,
}

impl Way {
    fn document(&self, value: Value) -> Value {
        let mut document = self.steps.iter().rev().fold(value, |inner, step| match step {
            Step::Item => json!([inner]),
            Step::Field { name, beside } => {
                let mut fields = beside.clone();
                fields.insert(name.clone(), inner);
                Value::Object(fields)
            }
        });
        document["version"] = json!(1);
        document
    }

    fn text(&self) -> String {
        let word = |step: &Step| match step {
            Step::Item => "[]".to_owned(),
            Step::Field { name, .. } => name.clone(),
        };
        self.steps.iter().map(word).collect::<Vec<_>>().join(".")
    }

    fn then(&self, step: Step) -> Self {
        let mut way = self.clone();
        way.steps.push(step);
        way
    }

    /// The one field that every document has of its own.
    fn is_version(&self) -> bool {
        matches!(self.steps.as_slice(), [Step::Field { name, .. }] if name == "version")
    }

    fn is_looked_into(&self) -> bool {
        !self
            .steps
            .iter()
            .any(|step| matches!(step, Step::Field { name, .. } if NOT_LOOKED_INTO.contains(&name.as_str())))
    }
}

/// A node of the schema with its reference followed; its own words win.
fn follow(all: &Value, node: &Value) -> (Value, Option<String>) {
    let Some(reference) = node["$ref"].as_str() else { return (node.clone(), None) };
    let name = reference.strip_prefix("#/$defs/").unwrap();
    let mut target = all["$defs"][name].clone();
    assert!(target.is_object(), "{reference} leads nowhere");
    for (key, value) in node.as_object().unwrap().iter().filter(|(key, _)| *key != "$ref") {
        target[key] = value.clone();
    }
    (target, Some(name.to_owned()))
}

/// A value that the schema takes as right.
fn sample(all: &Value, node: &Value) -> Value {
    let (node, _) = follow(all, node);
    if let Some(value) = node.get("const").or(node["examples"].get(0)).or(node["enum"].get(1)) {
        return value.clone();
    }
    if let Some(first) = node["anyOf"].get(0) {
        return sample(all, first);
    }
    match kinds(&node).first().map(String::as_str) {
        Some("string") => json!("text"),
        Some("number" | "integer") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => json!([sample(all, &node["items"])]),
        Some("object") if node["properties"].is_object() => Value::Object(beside(all, &node, "")),
        Some("object") => json!({"name": sample(all, &node["additionalProperties"])}),
        other => panic!("no sample for {other:?}: {node}"),
    }
}

fn kinds(node: &Value) -> Vec<String> {
    match &node["type"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().map(|k| k.as_str().unwrap().to_owned()).collect(),
        _ => Vec::new(),
    }
}

/// What a mapping must have for `field` to be right in it.
fn beside(all: &Value, node: &Value, field: &str) -> Map<String, Value> {
    let properties = node["properties"].as_object().unwrap();
    let mut fields = Map::new();
    for name in node["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if name != field && name != "version" {
            fields.insert(name.to_owned(), sample(all, &properties[name]));
        }
    }
    // Exactly one source.
    let sources = ["url", "data", "archive", "size"];
    if properties.contains_key("url") && !sources.contains(&field) {
        fields.insert("url".to_owned(), sample(all, &properties["url"]));
    }
    // An archive that gains a file must be one; an offer without any of its fields would be categories.
    for (telling, needed) in [("keep", "extension"), ("options", "options")] {
        let add = field == "add" || telling == "options";
        if properties.contains_key(telling) && add && needed != field {
            fields.insert(needed.to_owned(), sample(all, &properties[needed]));
        }
    }
    fields
}

/// Every node of the schema that is the value of a field, an item of a list or a category's, with the way to it.
fn walk(all: &Value, node: &Value, way: &Way, visit: &mut dyn FnMut(&Value, &Way)) {
    let (node, definition) = follow(all, node);
    let mut way = way.clone();
    let walked = way.again && definition.is_some();
    if let Some(name) = definition {
        if way.entered.contains(&name) {
            return;
        }
        way.entered.push(name);
    }
    way.not_yet |= node["description"].as_str().is_some_and(|text| text.contains(NOT_YET));
    visit(&node, &way);
    if walked {
        return;
    }
    for (n, choice) in node["anyOf"].as_array().into_iter().flatten().enumerate() {
        if choice["type"] != "null" {
            let way = Way { again: way.again || n > 0, ..way.clone() };
            walk(all, choice, &way, visit);
        }
    }
    if let Some(properties) = node["properties"].as_object() {
        for (name, field) in properties {
            let beside = beside(all, &node, name);
            walk(all, field, &way.then(Step::Field { name: name.clone(), beside }), visit);
        }
    }
    if node["additionalProperties"].is_object() {
        let example = node["examples"][0].as_object().and_then(|e| e.keys().next());
        let name = example.map_or("name", String::as_str).to_owned();
        let step = Step::Field { name, beside: Map::new() };
        walk(all, &node["additionalProperties"], &way.then(step), visit);
    }
    if node["items"].is_object() {
        walk(all, &node["items"], &way.then(Step::Item), visit);
    }
}

fn walk_all(visit: &mut dyn FnMut(&Value, &Way)) {
    let all = schema();
    walk(&all, &all, &Way::default(), visit);
}

fn problems(checked: &Checked<Job>) -> String {
    checked.problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_checked_in_schema_is_the_one_that_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/job.json");
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == format!("{:#}\n", schema()),
        "schema/job.json is old; write it anew: cargo run -p farmgate -- schema job > schema/job.json"
    );
}

#[test]
fn every_mapping_has_the_same_fields_in_the_schema_and_for_the_reader_and_no_others() {
    let judge = Judge::new();
    let all = schema();
    let mut compared = 0;
    walk_all(&mut |node, way| {
        let Some(properties) = node["properties"].as_object() else { return };
        let mut fields = beside(&all, node, "");
        fields.insert(UNKNOWN.to_owned(), json!(1));
        let document = way.document(Value::Object(fields));
        assert!(judge.refuses(&document).is_some(), "the schema takes an unknown field at {}", way.text());
        let checked = read(&document);
        let found = checked.problems.iter().find(|p| p.message.contains(UNKNOWN));
        let Some(problem) = found else {
            assert!(!way.is_looked_into(), "the reader takes an unknown field at {}: {document}", way.text());
            assert!(!checked.unsupported.is_empty(), "{document}");
            return;
        };
        let help = problem.help.as_deref().unwrap_or_default();
        let (_, list) = help.split_once("known fields: ").unwrap_or_else(|| panic!("{problem}"));
        let reader: BTreeSet<&str> = list.split(", ").collect();
        let schema: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(schema, reader, "the fields differ at {:?}", way.text());
        compared += 1;
    });
    assert!(compared >= 20, "only {compared} mappings were compared");
}

#[test]
fn what_the_schema_shows_as_right_is_right_for_the_reader_and_unsupported_only_where_it_says_so() {
    let judge = Judge::new();
    let all = schema();
    let mut seen = 0;
    walk_all(&mut |node, way| {
        let words = node["enum"].as_array().cloned().unwrap_or_default();
        let mut values: Vec<Value> = words.into_iter().filter(|w| !w.is_null()).collect();
        values.push(sample(&all, node));
        for value in values {
            let document = way.document(value);
            if let Some(why) = judge.refuses(&document) {
                panic!("the schema refuses its own sample at {}: {document}\n{why}", way.text());
            }
            let checked = read(&document);
            let right = checked.problems.is_empty() || !way.is_looked_into();
            assert!(right, "{}: {document}\n{}", way.text(), problems(&checked));
            // A mapping may hold nothing, and nothing is always supported.
            let asks = !way.document(sample(&all, node)).to_string().contains("{}");
            if way.not_yet && asks {
                assert!(!checked.unsupported.is_empty(), "{} is supported: {document}", way.text());
            }
            if !way.not_yet {
                assert!(checked.unsupported.is_empty(), "{} is not supported: {document}", way.text());
            }
            seen += 1;
        }
    });
    assert!(seen >= 100, "only {seen} samples");
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_by_both() {
    let judge = Judge::new();
    walk_all(&mut |node, way| {
        if node.get("type").is_none() && node.get("const").is_none() && node.get("enum").is_none() {
            return;
        }
        if way.steps.is_empty() || way.is_version() {
            return;
        }
        // Nothing in the language is a list of lists of lists.
        let document = way.document(json!([[[1]]]));
        assert!(judge.refuses(&document).is_some(), "the schema takes {document}");
        let checked = read(&document);
        if way.is_looked_into() {
            assert!(!checked.problems.is_empty(), "the reader takes {document}");
        }
    });
}

#[test]
fn nothing_is_as_good_as_absent_for_both_where_the_schema_says_so() {
    let judge = Judge::new();
    let all = schema();
    walk_all(&mut |node, way| {
        for (name, field) in node["properties"].as_object().into_iter().flatten() {
            let way = way.then(Step::Field { name: name.clone(), beside: beside(&all, node, name) });
            let (field, _) = follow(&all, field);
            let is_null = |choice: &Value| follow(&all, choice).0["type"] == "null";
            let nullable = kinds(&field).contains(&"null".to_owned())
                || field["enum"].as_array().is_some_and(|words| words.contains(&Value::Null))
                || field["anyOf"].as_array().is_some_and(|choices| choices.iter().any(is_null));
            if way.is_version() {
                continue;
            }
            let document = way.document(Value::Null);
            assert_eq!(judge.refuses(&document).is_none(), nullable, "the schema on {document}");
            let checked = read(&document);
            // One of some fields may have to be there, whichever.
            let one_of = ["names no machine", "has no source", "has neither"];
            let missing = |p: &Problem| one_of.iter().any(|words| p.message.contains(words));
            let right = checked.problems.iter().all(missing);
            if way.is_looked_into() {
                assert_eq!(right, nullable, "the reader on {document}:\n{}", problems(&checked));
            }
        }
    });
}

#[test]
fn every_field_has_a_text_to_hover_over() {
    let all = schema();
    walk_all(&mut |node, way| {
        for (name, field) in node["properties"].as_object().into_iter().flatten() {
            let (field, _) = follow(&all, field);
            let text = field["description"].as_str().unwrap_or_default();
            assert!(text.len() > 3, "{}.{name} has no description", way.text());
        }
    });
}

/// Rendered, as the reader sees it.
fn rendered(text: &str) -> Value {
    let variables = Variables::default()
        .set("environ", serde_json::json!({"NAME": "value"}))
        .set("machine_tags", serde_json::json!(["a:b"]))
        .set("local_tty_device", "ttyS0")
        .set("job", serde_json::json!({"bucket": {"url": "http://h"}}));
    let text =
        farmgate_job::render_data("a job", text, &variables, "").unwrap_or_else(|e| panic!("{text}\n{e}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

/// Fenced blocks of a page whose info string begins with this.
fn blocks(page: &str, info: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with(&format!("```{info}")) {
            let block: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
            found.push(block.join("\n") + "\n");
        }
    }
    found
}

#[test]
fn the_manuals_examples_and_the_jobs_of_this_project_pass_the_schema() {
    let judge = Judge::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/job-format.md")).unwrap();
    let mut jobs: Vec<String> =
        ["yaml job", "yaml refused"].iter().flat_map(|info| blocks(&page, info)).collect();
    for folder in ["jobs", "jobs/examples"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yml") {
                jobs.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(jobs.len() >= 8);
    for text in &jobs {
        if let Some(why) = judge.refuses(&rendered(text)) {
            panic!("{text}\n{why}");
        }
    }
}

#[test]
fn a_template_in_quotes_passes_where_a_text_belongs() {
    let judge = Judge::new();
    let job = json!({
        "version": 1,
        "deadline": "{{ environ.DEADLINE }}",
        "target": {"id": "{{ environ.DUT }}"},
        "deployment": {"start": {"kernel": {"url": "{{ environ.KERNEL }}", "cmdline": "{{ environ.CMDLINE }}"}}},
    });
    assert_eq!(judge.refuses(&job), None);
}
