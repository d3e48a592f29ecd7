//! The filters of Jinja2.

mod numbers;
mod sequences;
mod texts;

use super::{
    engine::{Engine, Given},
    failure::{Failure, Outcome},
    parser::unknown,
    value::Value,
};

/// Jinja2's filters that are here.
const KNOWN: [&str; 48] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
];

/// Jinja2's filters that are not, and why.
const REFUSED: [(&str, &str); 6] = [
    ("random", "a job must be the same every time it is read"),
    ("pprint", "it is for people; print the value, or use `tojson`"),
    ("striptags", "it is for web pages"),
    ("urlize", "it is for web pages"),
    ("xmlattr", "it is for web pages"),
    ("wordwrap", "long lines need no wrapping in YAML: use a folded scalar, `>-`"),
];

/// # Errors
/// There is no such filter.
pub(super) fn known(name: &str) -> Outcome<()> {
    if KNOWN.contains(&name) {
        return Ok(());
    }
    match REFUSED.iter().find(|(refused, _)| *refused == name) {
        Some((_, why)) => Err(Failure::syntax(0, format!("the filter `{name}` is not available"))
            .without_place()
            .helped(*why)),
        None => Err(unknown("filter", name, &KNOWN)),
    }
}

impl Failure {
    fn without_place(mut self: Box<Self>) -> Box<Self> {
        self.at = None;
        self
    }
}

impl Engine<'_> {
    /// `value | name(given)`.
    pub(super) fn apply_filter(&mut self, name: &str, value: Value, given: Given) -> Outcome<Value> {
        known(name)?;
        if !matches!(name, "default" | "d") {
            self.strict(&value)?;
        }
        match name {
            "default" | "d" => {
                let [default, falsy] = given.bind("default", ["default_value", "boolean"])?;
                let falsy = falsy.is_some_and(|f| self.store.truth(&f));
                let replace = value.is_undefined() || (falsy && !self.store.truth(&value));
                Ok(if replace { default.unwrap_or_else(|| Value::Text("".into())) } else { value })
            }
            "abs" | "int" | "float" | "round" | "sum" | "max" | "min" | "filesizeformat" => {
                self.number_filter(name, value, given)
            }
            "capitalize" | "center" | "e" | "escape" | "forceescape" | "format" | "indent" | "lower"
            | "replace" | "safe" | "string" | "title" | "tojson" | "trim" | "truncate" | "upper"
            | "urlencode" | "wordcount" => self.text_filter(name, &value, given),
            "attr" => {
                let [attribute] = given.bind(name, ["name"])?;
                let attribute = super::methods::wanted_text(attribute, name, "name")?;
                match value {
                    // Only attributes: the items of a mapping are none.
                    Value::Dict(_) if !super::methods::has(&value, &attribute) => {
                        Ok(Value::Undefined(attribute))
                    }
                    value => self.attribute(&value, &attribute),
                }
            }
            _ => self.sequence_filter(name, value, given),
        }
    }
}
