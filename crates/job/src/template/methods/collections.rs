//! Methods of lists, tuples and mappings.

use super::{number_or_none, wanted};
use crate::template::{
    engine::{Engine, Given},
    failure::{Failure, Outcome},
    value::{ENTRY, ITEM, Value},
};

impl Engine<'_> {
    pub(super) fn list_method(&mut self, list: usize, name: &str, given: Given) -> Outcome<Value> {
        let value = Value::List(list);
        match name {
            "append" => {
                let [item] = given.bind(name, ["object"])?;
                let item = wanted(item, name, "object")?;
                self.store.meter.make(ITEM * 2)?;
                self.store.items_mut(list)?.push(item);
            }
            "extend" => {
                let [items] = given.bind(name, ["iterable"])?;
                let items = self.iterate(&wanted(items, name, "iterable")?)?;
                self.store.meter.make(items.len() * ITEM)?;
                self.store.items_mut(list)?.extend(items);
            }
            "insert" => {
                let [at, item] = given.bind(name, ["index", "object"])?;
                let item = wanted(item, name, "object")?;
                let at = number_or_none(at, name)?.unwrap_or(0);
                let length = self.store.items(list).len();
                self.store.meter.make(ITEM * 2)?;
                self.store.meter.scan(length * ITEM)?;
                self.store.items_mut(list)?.insert(clamped(at, length), item);
            }
            "pop" => {
                let [at] = given.bind(name, ["index"])?;
                let at = number_or_none(at, name)?.unwrap_or(-1);
                let length = self.store.items(list).len();
                self.store.meter.scan(length * ITEM)?;
                let at = if at < 0 { at + length as i128 } else { at };
                return match usize::try_from(at) {
                    Ok(at) if at < length => Ok(self.store.items_mut(list)?.remove(at)),
                    _ => Err(Failure::meaning("the list has no item to pop there")),
                };
            }
            "remove" => {
                let [item] = given.bind(name, ["value"])?;
                let item = wanted(item, name, "value")?;
                return match self.position(&value, &item)? {
                    Some(at) => {
                        self.store.items_mut(list)?.remove(at);
                        Ok(Value::None)
                    }
                    None => Err(Failure::meaning("the item to remove is not in the list")),
                };
            }
            "clear" => self.store.items_mut(list)?.clear(),
            "reverse" => self.store.items_mut(list)?.reverse(),
            "copy" => {
                let items = self.iterate(&value)?;
                return self.store.list(items);
            }
            "sort" => {
                let [key, reverse] = given.bind(name, ["key", "reverse"])?;
                if key.is_some_and(|k| !matches!(k, Value::None)) {
                    return Err(Failure::meaning("`sort` takes no key here")
                        .helped("use the filter `sort(attribute=...)`"));
                }
                let items = self.iterate(&value)?;
                let keys = items.clone();
                let reverse = reverse.is_some_and(|r| self.store.truth(&r));
                let sorted = self.sorted(items, &keys, reverse)?;
                *self.store.items_mut(list)? = sorted;
            }
            _ => return self.sequence_method(&value, name, given),
        }
        Ok(Value::None)
    }

    /// `count` and `index`.
    pub(super) fn sequence_method(&mut self, value: &Value, name: &str, given: Given) -> Outcome<Value> {
        let [item, start] = given.bind(name, ["value", "start"])?;
        let item = wanted(item, name, "value")?;
        if name == "count" {
            let mut count = 0;
            for candidate in self.iterate(value)? {
                count += i128::from(self.store.equal(&candidate, &item)?);
            }
            return Ok(Value::Int(count));
        }
        let start = number_or_none(start, name)?.unwrap_or(0);
        let items = self.iterate(value)?;
        for (n, candidate) in items.iter().enumerate().skip(clamped(start, items.len())) {
            if self.store.equal(candidate, &item)? {
                return Ok(Value::Int(n as i128));
            }
        }
        Err(Failure::meaning("the item is not in the list"))
    }

    fn position(&mut self, list: &Value, item: &Value) -> Outcome<Option<usize>> {
        for (n, candidate) in self.iterate(list)?.iter().enumerate() {
            if self.store.equal(candidate, item)? {
                return Ok(Some(n));
            }
        }
        Ok(None)
    }

    pub(super) fn dict_method(&mut self, dict: usize, name: &str, given: Given) -> Outcome<Value> {
        let entries = self.store.entries(dict).len();
        match name {
            "items" => {
                given.bind::<0>(name, [])?;
                self.store.meter.make(entries * ENTRY)?;
                let pairs = self.store.entries(dict).to_vec();
                let mut items = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    items.push(self.store.tuple(vec![key, value])?);
                }
                self.store.view("dict_items", items)
            }
            "keys" | "values" => {
                given.bind::<0>(name, [])?;
                self.store.meter.make(entries * ITEM)?;
                let keys = name == "keys";
                let pick = |(key, value): &(Value, Value)| if keys { key.clone() } else { value.clone() };
                let items = self.store.entries(dict).iter().map(pick).collect();
                self.store.view(if keys { "dict_keys" } else { "dict_values" }, items)
            }
            "copy" => {
                self.store.meter.make(entries * ENTRY)?;
                let copy = self.store.mapping(dict)?.clone();
                self.store.dict(copy)
            }
            "clear" => {
                self.store.mapping_mut(dict)?.clear();
                Ok(Value::None)
            }
            "get" | "pop" | "setdefault" => self.dict_lookup(dict, name, given),
            "popitem" => match self.store.entries(dict).last().cloned() {
                Some((key, value)) => {
                    let known = self.store.key(&key)?;
                    self.store.meter.scan(entries * ITEM)?;
                    self.store.mapping_mut(dict)?.remove(&known);
                    self.store.tuple(vec![key, value])
                }
                None => Err(Failure::meaning("the mapping is empty")),
            },
            _ => {
                if let Some(other) = given.positional.first() {
                    for (key, value) in self.pairs(other)? {
                        self.store.insert(dict, key, value)?;
                    }
                }
                for (key, value) in given.named {
                    self.store.insert(dict, Value::Text(key), value)?;
                }
                Ok(Value::None)
            }
        }
    }

    fn dict_lookup(&mut self, dict: usize, name: &str, given: Given) -> Outcome<Value> {
        let [key, default] = given.bind(name, ["key", "default"])?;
        let key_value = wanted(key, name, "key")?;
        let key = self.store.key(&key_value)?;
        if name == "pop" {
            self.store.meter.scan(self.store.entries(dict).len() * ITEM)?;
            return match (self.store.mapping_mut(dict)?.remove(&key), default) {
                (Some(value), _) | (None, Some(value)) => Ok(value),
                (None, None) => Err(Failure::meaning("the mapping has no such key")),
            };
        }
        let found = self.store.mapping(dict)?.get(&key).cloned();
        let default = default.unwrap_or(Value::None);
        match found {
            Some(value) => Ok(value),
            None if name == "setdefault" => {
                self.store.insert(dict, key_value, default.clone())?;
                Ok(default)
            }
            None => Ok(default),
        }
    }
}

/// A place in a list as Python counts it: from the end where it is negative, never outside.
fn clamped(at: i128, length: usize) -> usize {
    let at = if at < 0 { at.saturating_add(length as i128).max(0) } else { at };
    usize::try_from(at).unwrap_or(usize::MAX).min(length)
}
