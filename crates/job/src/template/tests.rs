//! The tests of Jinja2: `value is name`.

use super::{
    ast::Comparison,
    engine::{Engine, Given},
    failure::{Failure, Kind, Outcome},
    methods::wanted,
    parser::unknown,
    value::{Value, undefined_failure},
};

const KNOWN: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// # Errors
/// There is no such test.
pub(super) fn known(name: &str) -> Outcome<()> {
    if KNOWN.contains(&name) { Ok(()) } else { Err(unknown("test", name, &KNOWN)) }
}

impl Engine<'_> {
    /// `value is name(given)`.
    pub(super) fn test(&mut self, name: &str, value: &Value, given: Given) -> Outcome<bool> {
        known(name)?;
        if matches!(name, "defined" | "undefined") {
            given.bind::<0>(name, [])?;
            return Ok((name == "defined") != value.is_undefined());
        }
        if let Some(comparison) = comparison(name) {
            let [other] = given.bind(name, ["other"])?;
            let other = wanted(other, name, "other")?;
            self.strict(value)?;
            self.strict(&other)?;
            return self.store.compare(comparison, value, &other);
        }
        match name {
            "divisibleby" => {
                let [number] = given.bind(name, ["num"])?;
                let number = wanted(number, name, "num")?;
                let rest = self.store.binary(super::ast::Operator::Modulo, value, &number)?;
                return Ok(!self.store.truth(&rest));
            }
            "sameas" => {
                let [other] = given.bind(name, ["other"])?;
                let other = wanted(other, name, "other")?;
                return Ok(self.store.same(value, &other));
            }
            _ => {}
        }
        given.bind::<0>(name, [])?;
        Ok(match name {
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "none" => matches!(value, Value::None),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
            "string" => matches!(value, Value::Text(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "callable" => matches!(
                value,
                Value::Macro(..) | Value::Method(_) | Value::Function(_) | Value::Joiner(_) | Value::Loop(_)
            ),
            "sequence" => matches!(
                value,
                Value::Text(_)
                    | Value::List(_)
                    | Value::Tuple(_)
                    | Value::Dict(_)
                    | Value::Range(_)
                    | Value::Undefined(_)
            ),
            "iterable" => matches!(
                value,
                Value::Text(_)
                    | Value::List(_)
                    | Value::Tuple(_)
                    | Value::Dict(_)
                    | Value::Range(_)
                    | Value::View(..)
                    | Value::Stream(_)
                    | Value::Undefined(_)
            ),
            "even" | "odd" => {
                if let Value::Undefined(name) = value {
                    return Err(undefined_failure(name));
                }
                let rest = self.store.binary(super::ast::Operator::Modulo, value, &Value::Int(2))?;
                self.store.equal(&rest, &Value::Int(i128::from(name == "odd")))?
            }
            "lower" | "upper" => {
                let text = self.store.soft_text(value)?;
                let (small, large) =
                    (text.chars().any(char::is_lowercase), text.chars().any(char::is_uppercase));
                if name == "lower" { small && !large } else { large && !small }
            }
            "filter" | "test" => {
                let text = self.store.soft_text(value)?;
                let found = if name == "filter" { super::filters::known(&text) } else { known(&text) };
                match found {
                    Err(failure) if failure.kind == Kind::Limit => return Err(failure),
                    found => found.is_ok(),
                }
            }
            // Nothing is escaped here.
            "escaped" => false,
            other => return Err(Failure::meaning(format!("there is no test `{other}`"))),
        })
    }
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "==" | "eq" | "equalto" => Comparison::Equal,
        "!=" | "ne" => Comparison::NotEqual,
        "<" | "lt" | "lessthan" => Comparison::Less,
        "<=" | "le" => Comparison::LessOrEqual,
        ">" | "gt" | "greaterthan" => Comparison::Greater,
        ">=" | "ge" => Comparison::GreaterOrEqual,
        "in" => Comparison::In,
        _ => return None,
    })
}
