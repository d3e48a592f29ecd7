//! The methods of texts, lists and mappings, as in Python.

mod collections;
pub(super) mod text;

use std::rc::Rc;

use super::{
    engine::{Engine, Given},
    failure::{Failure, Outcome},
    value::Value,
};

const TEXT: [&str; 41] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
];
const MORE_TEXT: [&str; 2] = ["upper", "zfill"];
const LIST: [&str; 11] =
    ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const TUPLE: [&str; 2] = ["count", "index"];
const DICT: [&str; 10] =
    ["clear", "copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];

/// Whether a value has a method of this name.
pub(super) fn has(value: &Value, name: &str) -> bool {
    match value {
        Value::Text(_) => TEXT.contains(&name) || MORE_TEXT.contains(&name),
        Value::List(_) => LIST.contains(&name),
        Value::Tuple(_) | Value::Range(_) => TUPLE.contains(&name),
        Value::Dict(_) => DICT.contains(&name),
        Value::Float(_) => name == "is_integer",
        Value::Int(_) | Value::Bool(_) => name == "bit_length",
        _ => false,
    }
}

impl Engine<'_> {
    /// Calls a method of a value.
    pub(super) fn method(&mut self, value: &Value, name: &Rc<str>, given: Given) -> Outcome<Value> {
        match value {
            Value::Text(text) => self.text_method(&text.clone(), name, given),
            Value::List(list) => self.list_method(*list, name, given),
            Value::Tuple(_) | Value::Range(_) => self.sequence_method(value, name, given),
            Value::Dict(dict) => self.dict_method(*dict, name, given),
            Value::Loop(state) => self.loop_method(*state, name, given),
            Value::Cycler(index) => {
                given.bind::<0>(name, [])?;
                Ok(match self.cyclers.get_mut(*index) {
                    Some((_, at)) if &**name == "reset" => {
                        *at = 0;
                        Value::None
                    }
                    Some((items, at)) => {
                        let current = items.get(*at).cloned().unwrap_or(Value::None);
                        *at = (*at + 1) % items.len().max(1);
                        current
                    }
                    None => Value::None,
                })
            }
            Value::Float(f) => Ok(Value::Bool(f.fract() == 0.0)),
            other => match other.as_int() {
                Some(i) => Ok(Value::Int((128 - i.unsigned_abs().leading_zeros()).into())),
                None => Err(Failure::meaning(format!("a {} has no method `{name}`", other.type_name()))),
            },
        }
    }

    fn loop_method(&mut self, state: usize, name: &str, given: Given) -> Outcome<Value> {
        if name == "cycle" {
            let index = self.loops.get(state).map_or(0, |l| l.index);
            let count = given.positional.len();
            return given
                .positional
                .into_iter()
                .nth(index.checked_rem(count).unwrap_or(0))
                .ok_or_else(|| Failure::meaning("`loop.cycle` wants at least one value"));
        }
        let before = self.loops.get(state).and_then(|l| l.changed.clone());
        let now = given.positional;
        let mut changed = before.as_ref().is_none_or(|b| b.len() != now.len());
        if let (Some(before), false) = (&before, changed) {
            for (a, b) in before.iter().zip(&now) {
                changed |= !self.store.equal(a, b)?;
            }
        }
        if let (Some(state), true) = (self.loops.get_mut(state), changed) {
            state.changed = Some(now);
        }
        Ok(Value::Bool(changed))
    }
}

/// An argument that must be there.
pub(super) fn wanted(value: Option<Value>, method: &str, name: &str) -> Outcome<Value> {
    value.ok_or_else(|| Failure::meaning(format!("`{method}` wants the argument `{name}`")))
}

/// An argument that is a text.
pub(super) fn wanted_text(value: Option<Value>, method: &str, name: &str) -> Outcome<Rc<str>> {
    match wanted(value, method, name)? {
        Value::Text(text) => Ok(text),
        other => {
            Err(Failure::meaning(format!("`{name}` of `{method}` must be a text, not {}", other.type_name())))
        }
    }
}

/// An argument that is a whole number, or absent, or None.
pub(super) fn number_or_none(value: Option<Value>, method: &str) -> Outcome<Option<i128>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => match value.as_int() {
            Some(i) => Ok(Some(i)),
            None => {
                Err(Failure::meaning(format!("`{method}` takes whole numbers, not {}", value.type_name())))
            }
        },
    }
}
