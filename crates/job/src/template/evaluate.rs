//! The value of an expression: names, lookups, calls.

use std::rc::Rc;

use super::{
    ast::{Arguments, Comparison, Expr, ExprKind, FilterCall},
    engine::{Engine, Given, Undefined},
    failure::{Failure, Kind, Outcome},
    methods,
    show::not_yet,
    value::{Dict, Range, Value, undefined_failure},
};

/// Functions that every template has.
const FUNCTIONS: [&str; 7] = ["range", "dict", "namespace", "cycler", "joiner", "lipsum", "debug"];

impl<'p> Engine<'p> {
    pub(super) fn evaluate(&mut self, expr: &'p Expr) -> Outcome<Value> {
        match &*expr.kind {
            ExprKind::None => Ok(Value::None),
            ExprKind::Bool(b) => Ok(Value::Bool(*b)),
            ExprKind::Int(i) => Ok(Value::Int(*i)),
            ExprKind::Float(f) => Ok(Value::Float(*f)),
            ExprKind::Text(text) => Ok(Value::Text(text.clone())),
            ExprKind::Name(_) | ExprKind::Attribute(..) | ExprKind::Item(..) => match self.place(expr)? {
                Value::Space(name, _) => Err(not_yet(&name)),
                value => Ok(value),
            },
            ExprKind::List(items) => {
                let items = self.all(items)?;
                self.store.list(items)
            }
            ExprKind::Tuple(items) => {
                let items = self.all(items)?;
                self.store.tuple(items)
            }
            ExprKind::Dict(entries) => {
                let dict = self.store.new_dict(Dict::default())?;
                for (name, value) in entries {
                    let name = self.expr(name)?;
                    let value = self.expr(value)?;
                    self.store.insert(dict, name, value)?;
                }
                Ok(Value::Dict(dict))
            }
            ExprKind::Negative(inner) | ExprKind::Positive(inner) => {
                let value = self.expr(inner)?;
                if self.is_lenient(&[&value]) {
                    return Ok(value);
                }
                self.store.sign(&value, matches!(&*expr.kind, ExprKind::Negative(_)))
            }
            ExprKind::Not(inner) => {
                let value = self.expr(inner)?;
                Ok(Value::Bool(!self.truth(&value)?))
            }
            ExprKind::And(all) => self.first_that(all, false),
            ExprKind::Or(all) => self.first_that(all, true),
            ExprKind::Binary(operator, left, right) => {
                let left = self.expr(left)?;
                let right = self.expr(right)?;
                if self.is_lenient(&[&left, &right]) {
                    return Ok(Value::undefined(""));
                }
                self.store.binary(*operator, &left, &right)
            }
            ExprKind::Concat(all) => {
                let mut text = String::new();
                for part in all {
                    let value = self.expr(part)?;
                    self.strict(&value)?;
                    let shown = self.store.show(&value).map_err(|f| f.or_at(part.at))?;
                    self.store.meter.make(shown.len())?;
                    text.push_str(&shown);
                }
                self.store.text(text)
            }
            ExprKind::Compare(first, rest) => self.compare_chain(first, rest),
            ExprKind::Conditional { test, then, otherwise } => {
                let value = self.expr(test)?;
                match (self.truth(&value)?, otherwise) {
                    (true, _) => self.expr(then),
                    (false, Some(otherwise)) => self.expr(otherwise),
                    (false, None) => Ok(Value::undefined("the inline if-expression without `else`")),
                }
            }
            ExprKind::Filter(base, call) => {
                let value = self.expr(base)?;
                self.filter(call, value)
            }
            ExprKind::Test { value, name, arguments, negated } => {
                let value = self.expr(value)?;
                let given = self.given(arguments)?;
                Ok(Value::Bool(self.test(name, &value, given)? != *negated))
            }
            ExprKind::Slice(base, parts) => {
                let base = self.expr(base)?;
                let mut bounds = [None, None, None];
                for (bound, part) in bounds.iter_mut().zip(parts) {
                    *bound = part.as_ref().map(|p| self.expr(p)).transpose()?;
                }
                self.slice(&base, bounds)
            }
            ExprKind::Call(..) => self.call_with(expr, None),
        }
    }

    fn all(&mut self, items: &'p [Expr]) -> Outcome<Vec<Value>> {
        items.iter().map(|item| self.expr(item)).collect()
    }

    /// In the first rendering what depends on the unknown is unknown.
    fn is_lenient(&self, values: &[&Value]) -> bool {
        self.undefined == Undefined::Lenient && values.iter().any(|v| v.is_undefined())
    }

    /// # Errors
    /// The value is not defined, and must be.
    pub(super) fn strict(&self, value: &Value) -> Outcome<()> {
        if self.undefined == Undefined::Strict { self.store.defined(value) } else { Ok(()) }
    }

    /// `and` and `or`: the first value that decides, or the last.
    fn first_that(&mut self, all: &'p [Expr], truth: bool) -> Outcome<Value> {
        let mut last = Value::None;
        for (n, expr) in all.iter().enumerate() {
            last = self.expr(expr)?;
            if n + 1 < all.len() && self.truth(&last)? == truth {
                break;
            }
        }
        Ok(last)
    }

    fn compare_chain(&mut self, first: &'p Expr, rest: &'p [(Comparison, Expr)]) -> Outcome<Value> {
        let mut left = self.expr(first)?;
        for (comparison, right) in rest {
            let right = self.expr(right)?;
            self.strict(&left)?;
            self.strict(&right)?;
            let lenient = self.is_lenient(&[&left, &right])
                && !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            if lenient || !self.store.compare(*comparison, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// A name, attribute or item; may be a namespace that this gateway cannot fill.
    fn place(&mut self, expr: &'p Expr) -> Outcome<Value> {
        match &*expr.kind {
            ExprKind::Name(name) => match self.lookup(name) {
                Some(Value::Space(path, known)) if self.is_text_space(&path, known) => Err(not_yet(&path)),
                Some(value) => Ok(value),
                None => Ok(match FUNCTIONS.into_iter().find(|f| **f == **name) {
                    Some(function) => Value::Function(function),
                    None => Value::Undefined(name.clone()),
                }),
            },
            ExprKind::Attribute(base, name) => {
                let value = self.base(base)?;
                self.attribute(&value, name)
            }
            ExprKind::Item(base, index) => {
                let value = self.base(base)?;
                let index = self.expr(index)?;
                self.item(&value, &index)
            }
            _ => self.evaluate(expr),
        }
    }

    fn is_text_space(&self, path: &str, known: usize) -> bool {
        self.store.entries(known).is_empty() && !matches!(path, "job" | "imagestore" | "registry")
    }

    /// What something is looked up in.
    fn base(&mut self, expr: &'p Expr) -> Outcome<Value> {
        match &*expr.kind {
            ExprKind::Name(_) | ExprKind::Attribute(..) | ExprKind::Item(..) => {
                self.store.meter.step(1)?;
                self.deeper(|e| e.place(expr)).map_err(|f| f.or_at(expr.at))
            }
            _ => self.expr(expr),
        }
    }

    /// `value.name`: attributes before items, as in Jinja2.
    pub(super) fn attribute(&mut self, value: &Value, name: &Rc<str>) -> Outcome<Value> {
        match value {
            Value::Undefined(_) => self.lookup_in_undefined(value),
            Value::Space(path, known) => match self.store.mapping(*known)?.get_text(name) {
                Some(value) => Ok(value.clone()),
                None => Err(not_yet(&format!("{path}.{name}"))),
            },
            Value::Namespace(dict) => Ok(self.found(*dict, name)),
            Value::Loop(state) => self.loop_attribute(*state, name),
            Value::Cycler(index) => self.cycler_attribute(value, *index, name),
            Value::Macro(index, _) => self.macro_attribute(*index, name),
            Value::Tuple(list) if self.groups.contains(list) && matches!(&**name, "grouper" | "list") => {
                let item = self.store.items(*list).get(usize::from(&**name == "list"));
                Ok(item.cloned().unwrap_or(Value::None))
            }
            Value::Range(range) => Ok(match &**name {
                "start" => Value::Int(range.start),
                "stop" => Value::Int(range.stop),
                "step" => Value::Int(range.step),
                _ => Value::Undefined(name.clone()),
            }),
            other if methods::has(other, name) => {
                self.store.meter.make(super::value::ITEM * 3)?;
                Ok(Value::Method(Rc::new((other.clone(), name.clone()))))
            }
            Value::Dict(dict) => Ok(self.found(*dict, name)),
            _ => Ok(Value::Undefined(name.clone())),
        }
    }

    fn found(&self, dict: usize, name: &Rc<str>) -> Value {
        let found = self.store.mapping(dict).ok().and_then(|d| d.get_text(name)).cloned();
        found.unwrap_or_else(|| Value::Undefined(name.clone()))
    }

    fn lookup_in_undefined(&self, value: &Value) -> Outcome<Value> {
        self.strict(value)?;
        Ok(value.clone())
    }

    fn macro_attribute(&mut self, index: usize, name: &Rc<str>) -> Outcome<Value> {
        let program = self.program;
        let Some(definition) = program.macros.get(index) else { return Ok(Value::Undefined(name.clone())) };
        Ok(match &**name {
            "name" => Value::Text(definition.name.clone()),
            "arguments" => {
                let names = definition.parameters.iter().map(|(name, _)| Value::Text(name.clone())).collect();
                self.store.tuple(names)?
            }
            "catch_kwargs" => Value::Bool(definition.takes_kwargs),
            "catch_varargs" => Value::Bool(definition.takes_varargs),
            "caller" => Value::Bool(definition.takes_caller),
            _ => Value::Undefined(name.clone()),
        })
    }

    fn loop_attribute(&mut self, state: usize, name: &Rc<str>) -> Outcome<Value> {
        let Some(running) = self.loops.get(state) else { return Ok(Value::Undefined(name.clone())) };
        let (index, length) = (running.index, running.items.len());
        let int = |n: usize| Value::Int(n as i128);
        let neighbour = |at: Option<usize>| {
            at.and_then(|at| running.items.get(at))
                .cloned()
                .unwrap_or_else(|| Value::undefined("there is no item"))
        };
        Ok(match &**name {
            "index" => int(index + 1),
            "index0" => int(index),
            "revindex" => int(length - index),
            "revindex0" => int(length - index - 1),
            "first" => Value::Bool(index == 0),
            "last" => Value::Bool(index + 1 == length),
            "length" => int(length),
            "depth" => int(running.depth + 1),
            "depth0" => int(running.depth),
            "previtem" => neighbour(index.checked_sub(1)),
            "nextitem" => neighbour(Some(index + 1)),
            "cycle" | "changed" => Value::Method(Rc::new((Value::Loop(state), name.clone()))),
            _ => Value::Undefined(name.clone()),
        })
    }

    fn cycler_attribute(&mut self, value: &Value, index: usize, name: &Rc<str>) -> Outcome<Value> {
        Ok(match &**name {
            "next" | "reset" => Value::Method(Rc::new((value.clone(), name.clone()))),
            "current" => {
                self.cyclers.get(index).and_then(|(items, at)| items.get(*at)).cloned().unwrap_or(Value::None)
            }
            _ => Value::Undefined(name.clone()),
        })
    }

    /// `value[index]`: items before attributes.
    pub(super) fn item(&mut self, value: &Value, index: &Value) -> Outcome<Value> {
        self.strict(index)?;
        let at = |length: usize| {
            let at = index.as_int()?;
            let at = if at < 0 { at + length as i128 } else { at };
            usize::try_from(at).ok()
        };
        let found = match value {
            Value::Undefined(_) => return self.lookup_in_undefined(value),
            Value::Space(path, known) => {
                let name = self.store.show(index)?;
                let found = self.store.mapping(*known)?.get_text(&name).cloned();
                return found.ok_or_else(|| not_yet(&format!("{path}.{name}")));
            }
            Value::List(list) | Value::Tuple(list) => {
                let items = self.store.items(*list);
                at(items.len()).and_then(|n| items.get(n)).cloned()
            }
            Value::Text(text) if index.as_int().is_some() => {
                self.store.meter.scan(text.len())?;
                let found = at(text.chars().count()).and_then(|n| text.chars().nth(n));
                found.map(|c| Value::Text(Rc::from(c.encode_utf8(&mut [0; 4]) as &str)))
            }
            Value::Range(range) => {
                let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
                at(length).and_then(|n| range.get(n as i128)).map(Value::Int)
            }
            Value::Dict(dict) | Value::Namespace(dict) => match self.store.key(index) {
                Ok(key) => self.store.mapping(*dict)?.get(&key).cloned(),
                Err(failure) if failure.kind == Kind::Limit => return Err(failure),
                Err(_) => None,
            },
            _ => None,
        };
        match (found, index) {
            (Some(found), _) => Ok(found),
            (None, Value::Text(name)) => self.attribute(value, name),
            (None, _) => Ok(Value::undefined("an item that is not there")),
        }
    }

    fn slice(&mut self, value: &Value, bounds: [Option<Value>; 3]) -> Outcome<Value> {
        if value.is_undefined() {
            return self.lookup_in_undefined(value);
        }
        let mut numbers = [None; 3];
        for (number, bound) in numbers.iter_mut().zip(&bounds) {
            *number = match bound {
                None | Some(Value::None) => None,
                Some(bound) => Some(bound.as_int().ok_or_else(|| {
                    Failure::meaning(format!("a slice takes whole numbers, not {}", bound.type_name()))
                })?),
            };
        }
        let [start, stop, step] = numbers;
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(Failure::meaning("a slice's step cannot be zero"));
        }
        let length = match value {
            Value::Text(text) => {
                self.store.meter.scan(text.len())?;
                text.chars().count()
            }
            Value::List(list) | Value::Tuple(list) => self.store.items(*list).len(),
            _ => return Ok(Value::undefined("a slice")),
        };
        let chosen = Range::of_slice(length as i128, start, stop, step);
        if let Value::Text(text) = value {
            self.store.meter.make(text.len())?;
            let sliced: String = if step == 1 {
                let count = usize::try_from(chosen.len()).unwrap_or_default();
                text.chars().skip(usize::try_from(chosen.start).unwrap_or_default()).take(count).collect()
            } else {
                self.store.meter.make(text.len() * 4)?;
                let chars: Vec<char> = text.chars().collect();
                (0..chosen.len())
                    .filter_map(|n| chars.get(usize::try_from(chosen.get(n)?).ok()?).copied())
                    .collect()
            };
            return self.store.text(sliced);
        }
        let items = self.store.iterate(value)?;
        let sliced = (0..chosen.len())
            .filter_map(|n| items.get(usize::try_from(chosen.get(n)?).ok()?).cloned())
            .collect();
        if matches!(value, Value::Tuple(_)) { self.store.tuple(sliced) } else { self.store.list(sliced) }
    }

    /// Arguments as values.
    pub(super) fn given(&mut self, arguments: &'p Arguments) -> Outcome<Given> {
        let mut given = Given { positional: self.all(&arguments.positional)?, named: Vec::new() };
        for (name, expr) in &arguments.named {
            let value = self.expr(expr)?;
            given.named.push((name.clone(), value));
        }
        if let Some(rest) = &arguments.rest {
            if let Some(list) = &rest.0 {
                let list = self.expr(list)?;
                given.positional.extend(self.iterate(&list)?);
            }
            if let Some(mapping) = &rest.1 {
                let value = self.expr(mapping)?;
                let Value::Dict(dict) = value else {
                    return Err(Failure::meaning("`**` takes a mapping").or_at(mapping.at));
                };
                self.store.meter.make(self.store.entries(dict).len() * super::value::ENTRY)?;
                for (name, value) in self.store.entries(dict) {
                    let Value::Text(name) = name else {
                        return Err(
                            Failure::meaning("the keys of a `**` mapping must be texts").or_at(mapping.at)
                        );
                    };
                    given.named.push((name.clone(), value.clone()));
                }
            }
        }
        Ok(given)
    }

    /// A call; `caller` is the body of a call block.
    pub(super) fn call_with(&mut self, expr: &'p Expr, caller: Option<Value>) -> Outcome<Value> {
        let ExprKind::Call(callee, arguments) = &*expr.kind else { return self.expr(expr) };
        // A method is called on its base without being made a value first.
        if let ExprKind::Attribute(base, name) = &*callee.kind {
            let value = self.base(base)?;
            if let Value::Space(path, known) = &value
                && self.store.mapping(*known)?.get_text(name).is_none()
            {
                return Err(not_yet(&format!("{path}.{name}()")));
            }
            let found = self.attribute(&value, name)?;
            let given = self.given_with(arguments, caller)?;
            return self.call(&found, given, &format!("{}.{name}", described(base)));
        }
        let value = self.base(callee)?;
        let given = self.given_with(arguments, caller)?;
        self.call(&value, given, &described(callee))
    }

    fn given_with(&mut self, arguments: &'p Arguments, caller: Option<Value>) -> Outcome<Given> {
        let mut given = self.given(arguments)?;
        given.named.extend(caller.map(|caller| ("caller".into(), caller)));
        Ok(given)
    }

    /// Calls a value. `what`: its name for messages.
    pub(super) fn call(&mut self, value: &Value, given: Given, what: &str) -> Outcome<Value> {
        match value {
            Value::Macro(index, scope) => self.call_macro(*index, *scope, given),
            Value::Method(method) => {
                let method = Rc::clone(method);
                self.method(&method.0, &method.1, given)
            }
            Value::Function(name) => self.function(name, given),
            Value::Joiner(index) => {
                given.bind::<0>("joiner", [])?;
                let Some((separator, used)) = self.joiners.get_mut(*index) else { return Ok(Value::None) };
                let shown = std::mem::replace(used, true);
                Ok(Value::Text(if shown { separator.clone() } else { "".into() }))
            }
            Value::Loop(state) => {
                let [items] = given.bind("loop", ["items"])?;
                let items = items.ok_or_else(|| Failure::meaning("`loop()` wants what it shall run over"))?;
                self.call_loop(*state, &items)
            }
            Value::Space(path, _) => Err(not_yet(&format!("{path}()"))),
            Value::Undefined(_) if self.undefined == Undefined::Lenient => Ok(value.clone()),
            Value::Undefined(_) => Err(undefined_failure(what)),
            other => {
                Err(Failure::meaning(format!("`{what}` is a {}, which cannot be called", other.type_name())))
            }
        }
    }

    pub(super) fn filter(&mut self, call: &'p FilterCall, value: Value) -> Outcome<Value> {
        let given = self.given(&call.arguments)?;
        let lenient = self.is_lenient(&[&value]);
        match self.apply_filter(&call.name, value.clone(), given) {
            Err(failure) if lenient && matches!(failure.kind, Kind::Meaning | Kind::Undefined) => Ok(value),
            done => done.map_err(|f| f.or_at(call.at)),
        }
    }

    fn function(&mut self, name: &'static str, given: Given) -> Outcome<Value> {
        match name {
            "range" => {
                let [first, second, step] = given.bind("range", ["start", "stop", "step"])?;
                let int = |value: Option<Value>, default: i128| match value {
                    None => Ok(default),
                    Some(value) => match value.as_int() {
                        Some(i) if i64::try_from(i).is_ok() => Ok(i),
                        Some(_) => Err(Failure::limit("a number is too large for a range")),
                        None => Err(Failure::meaning(format!(
                            "`range` takes whole numbers, not {}",
                            value.type_name()
                        ))),
                    },
                };
                if first.is_none() {
                    return Err(Failure::meaning("`range` wants the number to stop at"));
                }
                let (start, stop) = match second {
                    Some(_) => (int(first, 0)?, int(second, 0)?),
                    None => (0, int(first, 0)?),
                };
                let step = int(step, 1)?;
                if step == 0 {
                    return Err(Failure::meaning("the step of a range cannot be zero"));
                }
                Ok(Value::Range(Range { start, stop, step }))
            }
            "dict" | "namespace" => {
                let dict = self.new_mapping(given)?;
                Ok(if name == "dict" { Value::Dict(dict) } else { Value::Namespace(dict) })
            }
            "cycler" => {
                if given.positional.is_empty() {
                    return Err(Failure::meaning("`cycler` wants at least one value"));
                }
                self.store.meter.make(super::value::ENTRY)?;
                self.cyclers.push((given.positional, 0));
                Ok(Value::Cycler(self.cyclers.len() - 1))
            }
            "joiner" => {
                let [separator] = given.bind("joiner", ["sep"])?;
                let separator = match separator {
                    Some(value) => Rc::from(self.store.show(&value)?),
                    None => Rc::from(", "),
                };
                self.store.meter.make(super::value::ENTRY)?;
                self.joiners.push((separator, false));
                Ok(Value::Joiner(self.joiners.len() - 1))
            }
            _ => Err(Failure::meaning(format!(
                "`{name}()` is not available: a job must be the same every time"
            ))),
        }
    }

    fn new_mapping(&mut self, given: Given) -> Outcome<usize> {
        let dict = self.store.new_dict(Dict::default())?;
        if given.positional.len() > 1 {
            return Err(Failure::meaning("at most one mapping can be given without a name"));
        }
        if let Some(first) = given.positional.first() {
            for (name, value) in self.pairs(first)? {
                self.store.insert(dict, name, value)?;
            }
        }
        for (name, value) in given.named {
            self.store.insert(dict, Value::Text(name), value)?;
        }
        Ok(dict)
    }

    /// The entries of a mapping, or of a list of pairs.
    pub(super) fn pairs(&mut self, value: &Value) -> Outcome<Vec<(Value, Value)>> {
        if let Value::Dict(dict) = value {
            self.store.meter.make(self.store.entries(*dict).len() * super::value::ENTRY)?;
            return Ok(self.store.entries(*dict).to_vec());
        }
        let mut pairs = Vec::new();
        for item in self.iterate(value)? {
            match <[Value; 2]>::try_from(self.iterate(&item)?) {
                Ok([name, value]) => pairs.push((name, value)),
                Err(_) => return Err(Failure::meaning("a list of pairs is wanted here")),
            }
        }
        Ok(pairs)
    }
}

impl Range {
    /// The indices that a slice takes of something with `length` items.
    fn of_slice(length: i128, start: Option<i128>, stop: Option<i128>, step: i128) -> Self {
        let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let bound = |given: Option<i128>, default: i128| match given {
            None => default,
            Some(n) if n < 0 => n.saturating_add(length).max(lowest),
            Some(n) => n.min(highest),
        };
        let (first, last) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
        Self { start: bound(start, first), stop: bound(stop, last), step: step.clamp(-(1 << 62), 1 << 62) }
    }
}

/// An expression's name for messages.
fn described(expr: &Expr) -> String {
    match &*expr.kind {
        ExprKind::Name(name) => name.to_string(),
        ExprKind::Attribute(base, name) => format!("{}.{name}", described(base)),
        ExprKind::Item(base, _) => format!("{}[...]", described(base)),
        _ => "this expression".to_owned(),
    }
}
