//! From nodes to values: takes fields out of mappings, collects everything that is wrong on the way.

use std::str::FromStr;

use farmgate_protocol::spelling;
use serde_json::{Map, Number, Value};

use crate::{
    diagnostic::{Diagnostic, Place},
    tree::{Entry, Kind, Node},
};

/// Collects findings while values are read.
pub struct Reader<'t> {
    text: &'t str,
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, errors: Vec::new(), warnings: Vec::new() }
    }

    pub fn error(&mut self, place: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.errors.push(Diagnostic::new(self.text, place, message.into(), remedy.into()));
    }

    pub fn warn(&mut self, place: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(Diagnostic::new(self.text, place, message.into(), remedy.into()));
    }

    /// The fields of a mapping; null is an empty one.
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str) -> Fields<'n> {
        let entries = match &node.kind {
            Kind::Mapping { entries, .. } => entries.iter().collect(),
            _ if node.is_null() => Vec::new(),
            _ => {
                self.error(
                    &node.place,
                    format!("{what} must be a mapping"),
                    "write `key: value` lines below it",
                );
                Vec::new()
            }
        };
        Fields { what: what.to_owned(), entries, known: Vec::new() }
    }

    /// A text. Numbers are texts too: port ids and tags may look like one.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match node.text() {
            Some(text) if !node.is_null() => Some(text.to_owned()),
            _ => {
                self.error(&node.place, format!("{what} must be a text"), "");
                None
            }
        }
    }

    /// A text that means something.
    pub fn parsed<T: FromStr>(&mut self, node: &Node, what: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text(node, what)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(&node.place, format!("{what} is wrong: {error}"), "");
                None
            }
        }
    }

    /// A truth value, in the words of YAML 1.1 and 1.2.
    pub fn bool(&mut self, node: &Node, what: &str) -> Option<bool> {
        match node.text().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "yes" | "on") => Some(true),
            Some("false" | "no" | "off") => Some(false),
            _ => {
                self.error(&node.place, format!("{what} must be true or false"), "");
                None
            }
        }
    }

    /// A number from 0 to `most`.
    pub fn number(&mut self, node: &Node, what: &str, most: f64) -> Option<f64> {
        let value = node.text().and_then(|text| text.parse::<f64>().ok());
        let fine = value.filter(|value| (0.0..=most).contains(value));
        if fine.is_none() {
            self.error(&node.place, format!("{what} must be a number from 0 to {most}"), "");
        }
        fine
    }

    /// A number of things.
    pub fn count(&mut self, node: &Node, what: &str) -> Option<u64> {
        let value = node.text().and_then(|text| text.parse().ok());
        if value.is_none() {
            self.error(&node.place, format!("{what} must be a whole number"), "");
        }
        value
    }

    /// A list of texts; null is an empty one.
    pub fn texts(&mut self, node: &Node, what: &str) -> Vec<String> {
        self.items(node, what).iter().filter_map(|item| self.text(item, what)).collect()
    }

    /// The items of a list; null is an empty one.
    pub fn items<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.kind {
            Kind::Sequence { items, .. } => items,
            _ if node.is_null() => &[],
            _ => {
                self.error(
                    &node.place,
                    format!("{what} must be a list"),
                    "write `[a, b]`, or one `- a` per line",
                );
                &[]
            }
        }
    }
}

/// Any value as JSON, with the types of YAML 1.2.
pub fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Sequence { items, .. } => items.iter().map(json).collect(),
        Kind::Mapping { entries, .. } => {
            let fields = entries.iter().filter(|entry| entry.key.plain() != Some("<<"));
            let fields = fields.filter_map(|e| Some((e.key.text()?.to_owned(), json(&e.value))));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Kind::Scalar { text, .. } => node.plain().map_or_else(|| Value::String(text.clone()), plain_json),
    }
}

fn plain_json(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            let digits = text.bytes().any(|b| b.is_ascii_digit());
            // Rust reads "inf", "nan" and "infinity" as numbers; here they are words.
            let number = || text.parse::<f64>().ok().and_then(Number::from_f64);
            let number = text.parse::<i64>().map(Number::from).ok().or_else(number).filter(|_| digits);
            number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
        }
    }
}

/// The fields of one mapping. What nobody takes is unknown.
pub struct Fields<'n> {
    what: String,
    entries: Vec<&'n Entry>,
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value of a field, unless it is absent or null.
    pub fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.take_entry(name).map(|entry| &entry.value).filter(|value| !value.is_null())
    }

    /// A field with its key.
    pub fn take_entry(&mut self, name: &'static str) -> Option<&'n Entry> {
        self.known.push(name);
        let at = self.entries.iter().position(|entry| entry.key.text() == Some(name))?;
        Some(self.entries.remove(at))
    }

    /// All that was not taken, for mappings whose keys are names.
    pub fn rest(&mut self) -> Vec<(&'n str, &'n Entry)> {
        let entries = std::mem::take(&mut self.entries);
        entries.into_iter().filter_map(|e| Some((e.key.text()?, e))).filter(|(key, _)| *key != "<<").collect()
    }

    /// Refuses what was not taken.
    pub fn finish(self, reader: &mut Reader<'_>) {
        for entry in self.entries {
            let Some(name) = entry.key.text().filter(|name| *name != "<<") else { continue };
            let remedy = match spelling::nearest(name, self.known.iter().copied()).first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are: {}", self.known.join(", ")),
            };
            reader.error(&entry.key.place, format!("{} has no field {name:?}", self.what), remedy);
        }
    }
}
