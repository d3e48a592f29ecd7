//! Filters over lists and mappings.

use std::rc::Rc;

use crate::template::{
    engine::{Engine, Given},
    failure::{Failure, Outcome},
    methods::{number_or_none, wanted, wanted_text},
    value::{ITEM, Store, Value},
};

impl Engine<'_> {
    pub(super) fn sequence_filter(&mut self, name: &str, value: Value, given: Given) -> Outcome<Value> {
        match name {
            "length" | "count" => {
                given.bind::<0>(name, [])?;
                self.length(&value)
            }
            "list" => {
                given.bind::<0>(name, [])?;
                let items = self.iterate(&value)?;
                self.store.list(items)
            }
            "first" | "last" => {
                given.bind::<0>(name, [])?;
                if name == "last" && matches!(value, Value::Stream(_)) {
                    return Err(Failure::meaning("`last` cannot look at what is made item by item")
                        .helped("add `| list` before it"));
                }
                let items = self.iterate(&value)?;
                let found = if name == "first" { items.first() } else { items.last() };
                Ok(found.cloned().unwrap_or_else(|| Value::undefined("an item of an empty list")))
            }
            "reverse" => {
                given.bind::<0>(name, [])?;
                if let Value::Text(text) = &value {
                    let reversed: String = text.chars().rev().collect();
                    return self.store.text(reversed);
                }
                let mut items = self.iterate(&value)?;
                items.reverse();
                self.store.stream(items)
            }
            "join" => self.join(&value, given),
            "items" => {
                given.bind::<0>(name, [])?;
                match value {
                    Value::Undefined(_) => self.store.stream(Vec::new()),
                    Value::Dict(_) => {
                        let mut items = Vec::new();
                        for (key, value) in self.pairs(&value)? {
                            items.push(self.store.tuple(vec![key, value])?);
                        }
                        self.store.stream(items)
                    }
                    other => {
                        Err(Failure::meaning(format!("`items` wants a mapping, not {}", other.type_name())))
                    }
                }
            }
            "dictsort" => self.dictsort(&value, given),
            "sort" => {
                let [reverse, case, attribute] =
                    given.bind(name, ["reverse", "case_sensitive", "attribute"])?;
                let flag = |value: &Option<Value>| value.as_ref().is_some_and(|v| self.store.truth(v));
                let (reverse, case) = (flag(&reverse), flag(&case));
                let items = self.iterate(&value)?;
                let keys = self.sort_keys(&items, attribute.as_ref(), case)?;
                let sorted = self.sorted(items, &keys, reverse)?;
                self.store.list(sorted)
            }
            "unique" => {
                let [case, attribute] = given.bind(name, ["case_sensitive", "attribute"])?;
                let case = case.is_some_and(|c| self.store.truth(&c));
                let mut seen = std::collections::BTreeSet::new();
                let mut kept = Vec::new();
                for item in self.iterate(&value)? {
                    let key = self.sort_key(&item, attribute.as_ref(), case)?;
                    if seen.insert(self.store.key(&key)?) {
                        kept.push(item);
                    }
                }
                self.store.stream(kept)
            }
            "groupby" => self.groupby(&value, given),
            "batch" => self.batch(&value, given),
            "slice" => self.slices(&value, given),
            "map" => self.map(&value, given),
            _ => self.select(name, &value, given),
        }
    }

    fn length(&mut self, value: &Value) -> Outcome<Value> {
        let length = match value {
            Value::Undefined(_) => 0,
            Value::Text(text) => {
                self.store.meter.scan(text.len())?;
                text.chars().count() as i128
            }
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => {
                self.store.items(*list).len() as i128
            }
            Value::Dict(dict) => self.store.entries(*dict).len() as i128,
            Value::Range(range) => range.len(),
            Value::Stream(_) => {
                return Err(Failure::meaning("what is made item by item has no length")
                    .helped("add `| list` before `| length`"));
            }
            other => return Err(Failure::meaning(format!("a {} has no length", other.type_name()))),
        };
        Ok(Value::Int(length))
    }

    fn join(&mut self, value: &Value, given: Given) -> Outcome<Value> {
        let [separator, attribute] = given.bind("join", ["d", "attribute"])?;
        let separator = match separator {
            Some(separator) => self.store.soft_text(&separator)?,
            None => String::new(),
        };
        let mut out = String::new();
        for (n, item) in self.iterate(value)?.into_iter().enumerate() {
            let item = match &attribute {
                Some(attribute) if !matches!(attribute, Value::None) => {
                    self.by_attribute(&item, attribute)?
                }
                _ => item,
            };
            self.strict(&item)?;
            let text = self.store.show(&item)?;
            self.store.meter.make(separator.len())?;
            if n > 0 {
                out.push_str(&separator);
            }
            out.push_str(&text);
        }
        self.store.text(out)
    }

    /// What `attribute="a.b.0"` looks up.
    pub(super) fn by_attribute(&mut self, item: &Value, attribute: &Value) -> Outcome<Value> {
        if attribute.as_int().is_some() {
            return self.item(item, attribute);
        }
        let Value::Text(path) = attribute else {
            return Err(Failure::meaning("an attribute is a text or a number"));
        };
        let mut value = item.clone();
        for part in path.split('.') {
            self.store.meter.step(1)?;
            let part = match part.parse::<i128>() {
                Ok(number) if part.bytes().all(|b| b.is_ascii_digit()) => Value::Int(number),
                _ => self.store.text(part)?,
            };
            value = self.item(&value, &part)?;
        }
        Ok(value)
    }

    /// What an item is sorted by.
    pub(super) fn sort_key(&mut self, item: &Value, attribute: Option<&Value>, case: bool) -> Outcome<Value> {
        let key = match attribute {
            None | Some(Value::None) => item.clone(),
            Some(attribute) => self.by_attribute(item, attribute)?,
        };
        match &key {
            Value::Text(text) if !case => {
                self.store.meter.make(text.len() * 2)?;
                let lower = text.to_lowercase();
                self.store.text(lower)
            }
            _ => Ok(key),
        }
    }

    /// The same for all: lists, because several attributes can be named, with commas between them.
    fn sort_keys(&mut self, items: &[Value], attribute: Option<&Value>, case: bool) -> Outcome<Vec<Value>> {
        let parts: Vec<Value> = match attribute {
            None => vec![Value::None],
            Some(Value::Text(text)) => text.split(',').map(|part| Value::Text(Rc::from(part))).collect(),
            Some(other) => vec![other.clone()],
        };
        let mut keys = Vec::with_capacity(items.len());
        for item in items {
            let mut key = Vec::with_capacity(parts.len());
            for part in &parts {
                key.push(self.sort_key(item, Some(part), case)?);
            }
            keys.push(self.store.list(key)?);
        }
        Ok(keys)
    }

    /// Items in the order of their keys; equal ones stay as they are.
    pub(in crate::template) fn sorted(
        &mut self,
        items: Vec<Value>,
        keys: &[Value],
        reverse: bool,
    ) -> Outcome<Vec<Value>> {
        let order = sorted_indices(&mut self.store, keys, reverse)?;
        Ok(order.into_iter().filter_map(|at| items.get(at).cloned()).collect())
    }

    fn dictsort(&mut self, value: &Value, given: Given) -> Outcome<Value> {
        let [case, by, reverse] = given.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
        let flag = |value: &Option<Value>| value.as_ref().is_some_and(|v| self.store.truth(v));
        let (case, reverse) = (flag(&case), flag(&reverse));
        let at = match by.as_ref().map(|by| by.as_text().map(|t| &**t)) {
            None | Some(Some("key")) => 0,
            Some(Some("value")) => 1,
            Some(_) => return Err(Failure::meaning("`by` of `dictsort` is \"key\" or \"value\"")),
        };
        if value.is_undefined() {
            // Jinja2 fails here, because nothing has no items; a list of nothing is what is meant.
            return Err(crate::template::value::undefined_failure("the mapping for `dictsort`"));
        }
        let Value::Dict(_) = value else {
            return Err(Failure::meaning(format!("`dictsort` wants a mapping, not {}", value.type_name())));
        };
        let mut items = Vec::new();
        let mut keys = Vec::new();
        for (key, value) in self.pairs(value)? {
            let by = if at == 0 { &key } else { &value };
            keys.push(self.sort_key(by, None, case)?);
            items.push(self.store.tuple(vec![key.clone(), value.clone()])?);
        }
        let sorted = self.sorted(items, &keys, reverse)?;
        self.store.list(sorted)
    }

    fn groupby(&mut self, value: &Value, given: Given) -> Outcome<Value> {
        let [attribute, default, case] = given.bind("groupby", ["attribute", "default", "case_sensitive"])?;
        let attribute = wanted(attribute, "groupby", "attribute")?;
        let case = case.is_some_and(|c| self.store.truth(&c));
        let items = self.iterate(value)?;
        let (mut shown, mut keys) = (Vec::new(), Vec::new());
        for item in &items {
            let found = match (self.by_attribute(item, &attribute)?, &default) {
                (Value::Undefined(_), Some(default)) => default.clone(),
                (found, _) => found,
            };
            keys.push(self.sort_key(&found, None, case)?);
            shown.push(found);
        }
        let order = sorted_indices(&mut self.store, &keys, false)?;
        let mut groups: Vec<(usize, Vec<Value>)> = Vec::new();
        for at in order {
            let (Some(key), Some(item)) = (keys.get(at), items.get(at)) else { continue };
            let same = match groups.last().and_then(|(first, _)| keys.get(*first)) {
                Some(last) => self.store.equal(last, key)?,
                None => false,
            };
            match groups.last_mut() {
                Some((_, group)) if same => group.push(item.clone()),
                _ => groups.push((at, vec![item.clone()])),
            }
        }
        let mut all = Vec::with_capacity(groups.len());
        for (first, group) in groups {
            let key = shown.get(first).cloned().unwrap_or(Value::None);
            let group = self.store.list(group)?;
            let pair = self.store.tuple(vec![key, group])?;
            if let Value::Tuple(list) = pair {
                self.groups.insert(list);
            }
            all.push(pair);
        }
        self.store.list(all)
    }

    fn batch(&mut self, value: &Value, given: Given) -> Outcome<Value> {
        let [count, fill] = given.bind("batch", ["linecount", "fill_with"])?;
        let count = number_or_none(Some(wanted(count, "batch", "linecount")?), "batch")?.unwrap_or(0);
        let count = usize::try_from(count).ok().filter(|c| *c > 0);
        let count = count.ok_or_else(|| Failure::meaning("`batch` wants a number of 1 or more"))?;
        let items = self.iterate(value)?;
        let mut batches = Vec::new();
        for chunk in items.chunks(count) {
            let mut chunk = chunk.to_vec();
            if let (Some(fill), true) =
                (fill.as_ref().filter(|f| !matches!(f, Value::None)), chunk.len() < count)
            {
                self.store.meter.make((count - chunk.len()).saturating_mul(ITEM))?;
                chunk.resize(count, fill.clone());
            }
            batches.push(self.store.list(chunk)?);
        }
        self.store.stream(batches)
    }

    fn slices(&mut self, value: &Value, given: Given) -> Outcome<Value> {
        let [count, fill] = given.bind("slice", ["slices", "fill_with"])?;
        let count = number_or_none(Some(wanted(count, "slice", "slices")?), "slice")?.unwrap_or(0);
        let count = usize::try_from(count).ok().filter(|c| *c > 0);
        let count = count.ok_or_else(|| Failure::meaning("`slice` wants a number of 1 or more"))?;
        let items = self.iterate(value)?;
        self.store.meter.make(count.saturating_mul(ITEM * 3))?;
        let (each, longer) = (items.len() / count, items.len() % count);
        let mut slices = Vec::with_capacity(count);
        let mut rest = items.as_slice();
        for n in 0..count {
            let (slice, after) = rest.split_at(each + usize::from(n < longer));
            rest = after;
            let mut slice = slice.to_vec();
            if let (Some(fill), true) =
                (fill.as_ref().filter(|f| !matches!(f, Value::None)), n >= longer && longer > 0)
            {
                slice.push(fill.clone());
            }
            slices.push(self.store.list(slice)?);
        }
        self.store.stream(slices)
    }

    fn map(&mut self, value: &Value, given: Given) -> Outcome<Value> {
        let items = self.iterate(value)?;
        let attribute = given.named.iter().find(|(name, _)| &**name == "attribute").map(|(_, v)| v.clone());
        let mut mapped = Vec::with_capacity(items.len());
        if let (Some(attribute), true) = (attribute, given.positional.is_empty()) {
            let default = given.named.iter().find(|(name, _)| &**name == "default").map(|(_, v)| v.clone());
            if given.named.iter().any(|(name, _)| !matches!(&**name, "attribute" | "default")) {
                return Err(Failure::meaning("`map` with an attribute takes only `attribute` and `default`"));
            }
            for item in items {
                let found = self.by_attribute(&item, &attribute)?;
                mapped.push(match (&found, &default) {
                    (Value::Undefined(_), Some(default)) => default.clone(),
                    _ => found,
                });
            }
        } else {
            let (name, given) = split_name(given, "map", "the name of a filter")?;
            for item in items {
                self.store.meter.step(1)?;
                mapped.push(self.apply_filter(&name, item, given.clone())?);
            }
        }
        self.store.stream(mapped)
    }

    /// `select`, `reject`, `selectattr`, `rejectattr`.
    fn select(&mut self, name: &str, value: &Value, given: Given) -> Outcome<Value> {
        let by_attribute = name.ends_with("attr");
        let wanted = name.starts_with("select");
        let (attribute, given) = if by_attribute {
            let mut given = given;
            if given.positional.is_empty() {
                return Err(Failure::meaning(format!("`{name}` wants the name of an attribute")));
            }
            (Some(given.positional.remove(0)), given)
        } else {
            (None, given)
        };
        let test = if given.positional.is_empty() {
            None
        } else {
            Some(split_name(given, name, "the name of a test")?)
        };
        let mut kept = Vec::new();
        for item in self.iterate(value)? {
            self.store.meter.step(1)?;
            let looked_at = match &attribute {
                Some(attribute) => self.by_attribute(&item, attribute)?,
                None => item.clone(),
            };
            let passes = match &test {
                Some((test, given)) => self.test(test, &looked_at, given.clone())?,
                None => self.truth(&looked_at)?,
            };
            if passes == wanted {
                kept.push(item);
            }
        }
        self.store.stream(kept)
    }
}

/// The name that comes first, and the arguments behind it.
fn split_name(mut given: Given, what: &str, name: &str) -> Outcome<(Rc<str>, Given)> {
    if given.positional.is_empty() {
        return Err(Failure::meaning(format!("`{what}` wants {name}")));
    }
    let first = given.positional.remove(0);
    Ok((wanted_text(Some(first), what, name)?, given))
}

/// The indices of keys in their order. A merge sort, because a comparison may fail.
pub(super) fn sorted_indices(store: &mut Store, keys: &[Value], reverse: bool) -> Outcome<Vec<usize>> {
    store.meter.make(keys.len() * 16)?;
    let mut order: Vec<usize> = (0..keys.len()).collect();
    let mut width = 1;
    while width < order.len() {
        let mut merged = Vec::with_capacity(order.len());
        for pair in order.chunks(width * 2) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let (Some(a), Some(b)) = (left.first(), right.first()) {
                let (Some(x), Some(y)) = (keys.get(*a), keys.get(*b)) else { break };
                // The right one goes first only if it is really smaller: so equal ones keep their order.
                let swap = if reverse { store.order(x, y, "<")? } else { store.order(y, x, "<")? };
                if swap.is_some_and(|o| o.is_lt()) {
                    merged.push(*b);
                    right = &right[1..];
                } else {
                    merged.push(*a);
                    left = &left[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        order = merged;
        width *= 2;
    }
    Ok(order)
}
