//! The values of a template, which behave as Python's, and the store that they live in.
//!
//! Lists and mappings can be changed through every name they have, as in Python; a value holds only their index.
//! Nothing is freed before the rendering ends, so cycles leak nothing and no value nests anything that must be
//! dropped by recursion; the [`Meter`] bounds what is ever made.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    failure::{Failure, Kind, Outcome},
    meter::Meter,
};

/// A value. Cheap to copy.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A variable, attribute or item that is not there; its name.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Rc<str>),
    List(usize),
    Tuple(usize),
    Dict(usize),
    /// What `dict.items()` and its like answer: an index of a list, and the word that Python prints.
    View(&'static str, usize),
    /// A sequence that can be walked once: what `map`, `select` and their like answer.
    Stream(usize),
    Range(Range),
    Namespace(usize),
    /// Index of the macro, and of the scope that it was made in.
    Macro(usize, usize),
    /// The same for the body of a `call`.
    Method(Rc<(Value, Rc<str>)>),
    /// `loop` of a running loop.
    Loop(usize),
    Cycler(usize),
    Joiner(usize),
    /// A function that every template knows.
    Function(&'static str),
    /// A name that this gateway cannot fill, and what it knows below that name (a mapping).
    Space(Rc<str>, usize),
}

/// Whole numbers from `start` up to `stop`, without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: i128,
    pub(crate) stop: i128,
    pub(crate) step: i128,
}

impl Range {
    pub(crate) fn len(self) -> i128 {
        let span = if self.step > 0 { self.stop - self.start } else { self.start - self.stop };
        let step = self.step.abs().max(1);
        if span <= 0 { 0 } else { (span - 1) / step + 1 }
    }

    pub(crate) fn get(self, index: i128) -> Option<i128> {
        (0..self.len()).contains(&index).then(|| self.start + index * self.step)
    }
}

/// What a mapping is looked up with. Numbers that are equal are one key, as in Python.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    None,
    Int(i128),
    Float(u64),
    Text(Rc<str>),
    Tuple(Vec<Key>),
}

/// A mapping in the order of its making.
#[derive(Debug, Default, Clone)]
pub(crate) struct Dict {
    pub(crate) entries: Vec<(Value, Value)>,
    index: BTreeMap<Key, usize>,
}

impl Dict {
    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.index.get(key).and_then(|at| self.entries.get(*at)).map(|(_, value)| value)
    }

    pub(crate) fn get_text(&self, key: &str) -> Option<&Value> {
        self.get(&Key::Text(Rc::from(key)))
    }

    pub(crate) fn set(&mut self, key: Key, name: Value, value: Value) {
        match self.index.get(&key).and_then(|at| self.entries.get_mut(*at)) {
            Some(entry) => entry.1 = value,
            None => {
                self.index.insert(key, self.entries.len());
                self.entries.push((name, value));
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Value> {
        let at = self.index.remove(key)?;
        for place in self.index.values_mut() {
            if *place > at {
                *place -= 1;
            }
        }
        Some(self.entries.remove(at).1)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.index.clear();
    }
}

/// Bytes that an item of a list and an entry of a mapping are counted with.
pub(crate) const ITEM: usize = 32;
pub(crate) const ENTRY: usize = 128;

/// Levels of lists in lists that are printed, compared or looked up.
pub(crate) const MAX_DEPTH: usize = 60;

/// All lists and mappings of one rendering.
#[derive(Debug, Default)]
pub(crate) struct Store {
    lists: Vec<Vec<Value>>,
    dicts: Vec<Dict>,
    pub(crate) meter: Meter,
    /// What is made item by item prints nothing, instead of being an error: in the first rendering it may come of
    /// something that is not known yet.
    pub(crate) streams_are_empty: bool,
}

impl Store {
    /// With nothing in it. For `streams_are_empty` see there.
    pub(crate) fn new(streams_are_empty: bool) -> Self {
        Self { streams_are_empty, ..Self::default() }
    }

    pub(crate) fn text(&mut self, text: impl Into<Rc<str>> + AsRef<str>) -> Outcome<Value> {
        self.meter.make(text.as_ref().len() + ITEM)?;
        Ok(Value::Text(text.into()))
    }

    fn new_list(&mut self, items: Vec<Value>) -> Outcome<usize> {
        self.meter.make((items.len() + 2) * ITEM)?;
        self.lists.push(items);
        Ok(self.lists.len() - 1)
    }

    pub(crate) fn list(&mut self, items: Vec<Value>) -> Outcome<Value> {
        self.new_list(items).map(Value::List)
    }

    pub(crate) fn tuple(&mut self, items: Vec<Value>) -> Outcome<Value> {
        self.new_list(items).map(Value::Tuple)
    }

    pub(crate) fn stream(&mut self, items: Vec<Value>) -> Outcome<Value> {
        self.new_list(items).map(Value::Stream)
    }

    pub(crate) fn view(&mut self, word: &'static str, items: Vec<Value>) -> Outcome<Value> {
        self.new_list(items).map(|list| Value::View(word, list))
    }

    pub(crate) fn new_dict(&mut self, dict: Dict) -> Outcome<usize> {
        self.meter.make((dict.entries.len() + 1) * ENTRY)?;
        self.dicts.push(dict);
        Ok(self.dicts.len() - 1)
    }

    pub(crate) fn dict(&mut self, dict: Dict) -> Outcome<Value> {
        self.new_dict(dict).map(Value::Dict)
    }

    /// The items of a list; every index was given out by this store.
    pub(crate) fn items(&self, list: usize) -> &[Value] {
        self.lists.get(list).map_or(&[], Vec::as_slice)
    }

    /// The items of a list that is about to change. Growth is counted by the caller.
    pub(crate) fn items_mut(&mut self, list: usize) -> Outcome<&mut Vec<Value>> {
        self.lists.get_mut(list).ok_or_else(|| Failure::meaning("this list is gone"))
    }

    pub(crate) fn entries(&self, dict: usize) -> &[(Value, Value)] {
        self.dicts.get(dict).map_or(&[], |d| d.entries.as_slice())
    }

    pub(crate) fn mapping(&self, dict: usize) -> Outcome<&Dict> {
        self.dicts.get(dict).ok_or_else(|| Failure::meaning("this mapping is gone"))
    }

    pub(crate) fn mapping_mut(&mut self, dict: usize) -> Outcome<&mut Dict> {
        self.dicts.get_mut(dict).ok_or_else(|| Failure::meaning("this mapping is gone"))
    }

    /// Adds to a mapping.
    pub(crate) fn insert(&mut self, dict: usize, name: Value, value: Value) -> Outcome<()> {
        let key = self.key(&name)?;
        self.meter.make(ENTRY)?;
        self.mapping_mut(dict)?.set(key, name, value);
        Ok(())
    }

    /// What a value is looked up with.
    pub(crate) fn key(&mut self, value: &Value) -> Outcome<Key> {
        self.key_at(value, 0)
    }

    fn key_at(&mut self, value: &Value, depth: usize) -> Outcome<Key> {
        if depth > MAX_DEPTH {
            return Err(Failure::limit("a tuple is nested too deeply to be looked up"));
        }
        self.meter.make(ITEM)?;
        Ok(match value {
            Value::None => Key::None,
            Value::Bool(b) => Key::Int(i128::from(*b)),
            Value::Int(i) => Key::Int(*i),
            Value::Float(f) => match whole(*f) {
                Some(i) => Key::Int(i),
                None => Key::Float(f.to_bits()),
            },
            Value::Text(text) => {
                self.meter.scan(text.len())?;
                Key::Text(text.clone())
            }
            Value::Tuple(list) => {
                let items = self.items(*list).to_vec();
                Key::Tuple(items.iter().map(|item| self.key_at(item, depth + 1)).collect::<Outcome<_>>()?)
            }
            other => return Err(Failure::meaning(format!("unhashable type: '{}'", other.type_name()))),
        })
    }

    /// From JSON, as Python reads it.
    pub(crate) fn json(&mut self, json: &serde_json::Value) -> Outcome<Value> {
        Ok(match json {
            serde_json::Value::Null => Value::None,
            serde_json::Value::Bool(b) => Value::Bool(*b),
            serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Value::Int(i.into()),
                (None, Some(u)) => Value::Int(u.into()),
                (None, None) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => self.text(text.as_str())?,
            serde_json::Value::Array(items) => {
                let items = items.iter().map(|item| self.json(item)).collect::<Outcome<_>>()?;
                self.list(items)?
            }
            serde_json::Value::Object(map) => {
                let dict = self.new_dict(Dict::default())?;
                for (name, value) in map {
                    let (name, value) = (self.text(name.as_str())?, self.json(value)?);
                    self.insert(dict, name, value)?;
                }
                Value::Dict(dict)
            }
        })
    }
}

/// A float that is a whole number.
pub(crate) fn whole(f: f64) -> Option<i128> {
    (f.fract() == 0.0 && f.abs() < 1e30).then_some(f as i128)
}

impl Value {
    /// Python's name of the type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::View(word, _) => word,
            Self::Stream(_) => "generator",
            Self::Range(_) => "range",
            Self::Namespace(_) => "Namespace",
            Self::Macro(..) => "Macro",
            Self::Method(_) => "method",
            Self::Loop(_) => "LoopContext",
            Self::Cycler(_) => "Cycler",
            Self::Joiner(_) => "Joiner",
            Self::Function(_) => "function",
            Self::Space(..) => "object",
        }
    }

    pub(crate) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// A name that is not there.
    pub(crate) fn undefined(name: &str) -> Self {
        Self::Undefined(Rc::from(name))
    }

    /// Numbers and truth values as a whole number.
    pub(crate) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Bool(b) => Some(i128::from(*b)),
            Self::Int(i) => Some(*i),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&Rc<str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Why an undefined value cannot be used.
pub(crate) fn undefined_failure(name: &str) -> Box<Failure> {
    let what = if name.is_empty() {
        "a value is not defined".to_owned()
    } else {
        format!("`{name}` is not defined")
    };
    Failure::new(Kind::Undefined, what)
}
