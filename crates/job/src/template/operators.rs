//! Truth, arithmetic and comparison as in Python.

use std::{cmp::Ordering, rc::Rc};

use super::{
    ast::{Comparison, Operator},
    failure::{Failure, Outcome},
    value::{ITEM, MAX_DEPTH, Store, Value, undefined_failure, whole},
};

/// A whole number that does not fit.
fn too_large() -> Box<Failure> {
    Failure::limit("a number is too large").helped("whole numbers have at most 127 bits here")
}

/// Both as floats, if both are numbers and one of them is a float.
fn floats(left: &Value, right: &Value) -> Option<(f64, f64)> {
    let float = |value: &Value| match value {
        Value::Float(f) => Some(*f),
        other => other.as_int().map(|i| i as f64),
    };
    Some((float(left)?, float(right)?))
}

impl Store {
    /// `bool(value)`.
    pub(crate) fn truth(&self, value: &Value) -> bool {
        match value {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => !self.items(*list).is_empty(),
            Value::Dict(dict) => !self.entries(*dict).is_empty(),
            Value::Range(range) => range.len() > 0,
            _ => true,
        }
    }

    pub(crate) fn binary(&mut self, operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
        for side in [left, right] {
            if let Value::Undefined(name) = side {
                return Err(undefined_failure(name));
            }
        }
        if let (Operator::Modulo, Value::Text(format)) = (operator, left) {
            let text = self.percent(&format.clone(), right)?;
            return self.text(text);
        }
        if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
            return integers(operator, a, b);
        }
        if let Some((a, b)) = floats(left, right) {
            return float_operation(operator, a, b).map(Value::Float);
        }
        match (operator, left, right) {
            (Operator::Add, Value::Text(a), Value::Text(b)) => {
                self.meter.make(a.len() + b.len())?;
                self.text([&**a, &**b].concat())
            }
            (Operator::Add, Value::List(a), Value::List(b)) => {
                let items = self.joined(*a, *b)?;
                self.list(items)
            }
            (Operator::Add, Value::Tuple(a), Value::Tuple(b)) => {
                let items = self.joined(*a, *b)?;
                self.tuple(items)
            }
            (Operator::Multiply, sequence, times) | (Operator::Multiply, times, sequence)
                if times.as_int().is_some()
                    && matches!(sequence, Value::Text(_) | Value::List(_) | Value::Tuple(_)) =>
            {
                let times = times.as_int().unwrap_or_default().max(0);
                self.repeat(&sequence.clone(), usize::try_from(times).unwrap_or(usize::MAX))
            }
            _ => Err(Failure::meaning(format!(
                "`{}` cannot be used between {} and {}",
                operator.symbol(),
                left.type_name(),
                right.type_name()
            ))
            .helped("`~` joins values of any type as texts; `| int` makes a number of a text")),
        }
    }

    fn joined(&mut self, a: usize, b: usize) -> Outcome<Vec<Value>> {
        self.meter.make((self.items(a).len() + self.items(b).len()) * ITEM)?;
        Ok([self.items(a), self.items(b)].concat())
    }

    fn repeat(&mut self, sequence: &Value, times: usize) -> Outcome<Value> {
        match sequence {
            Value::Text(text) => {
                self.meter.make(text.len().saturating_mul(times))?;
                self.text(if text.is_empty() { String::new() } else { text.repeat(times) })
            }
            Value::List(list) | Value::Tuple(list) => {
                self.meter.make(self.items(*list).len().saturating_mul(times).saturating_mul(ITEM))?;
                let once = self.items(*list);
                let times = if once.is_empty() { 0 } else { times };
                let items = std::iter::repeat_n(once, times).flatten().cloned().collect();
                if matches!(sequence, Value::List(_)) { self.list(items) } else { self.tuple(items) }
            }
            _ => Err(Failure::meaning("only texts and lists can be repeated")),
        }
    }

    /// `-value` and `+value`.
    pub(crate) fn sign(&mut self, value: &Value, negative: bool) -> Outcome<Value> {
        self.defined(value)?;
        match (value, value.as_int()) {
            (_, Some(i)) if negative => i.checked_neg().map(Value::Int).ok_or_else(too_large),
            (_, Some(i)) => Ok(Value::Int(i)),
            (Value::Float(f), _) => Ok(Value::Float(if negative { -f } else { *f })),
            _ => Err(Failure::meaning(format!("a {} has no sign", value.type_name()))),
        }
    }

    /// `left == right`. Never fails but by the meter.
    pub(crate) fn equal(&mut self, left: &Value, right: &Value) -> Outcome<bool> {
        self.equal_at(left, right, 0)
    }

    fn equal_at(&mut self, left: &Value, right: &Value, depth: usize) -> Outcome<bool> {
        if depth > MAX_DEPTH {
            return Err(Failure::limit("values are nested too deeply to be compared"));
        }
        self.meter.scan(16)?;
        Ok(match (left, right) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Text(a), Value::Text(b)) => {
                self.meter.scan(a.len().min(b.len()))?;
                a == b
            }
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                if self.items(*a).len() != self.items(*b).len() {
                    return Ok(false);
                }
                for n in 0..self.items(*a).len() {
                    let (Some(x), Some(y)) = (self.items(*a).get(n).cloned(), self.items(*b).get(n).cloned())
                    else {
                        return Ok(false);
                    };
                    if !self.equal_at(&x, &y, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if self.entries(*a).len() != self.entries(*b).len() {
                    return Ok(false);
                }
                for n in 0..self.entries(*a).len() {
                    let Some((name, x)) = self.entries(*a).get(n).cloned() else { return Ok(false) };
                    let key = self.key(&name)?;
                    let Some(y) = self.mapping(*b)?.get(&key).cloned() else { return Ok(false) };
                    if !self.equal_at(&x, &y, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Range(a), Value::Range(b)) => {
                a.len() == b.len()
                    && (a.len() == 0 || (a.start == b.start && (a.len() == 1 || a.step == b.step)))
            }
            _ => number_order(left, right).is_some_and(|o| o == Ordering::Equal) || self.same(left, right),
        })
    }

    /// `left is right`, as far as that can be told.
    pub(crate) fn same(&self, left: &Value, right: &Value) -> bool {
        match (left, right) {
            (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b && (-5..=256).contains(a),
            (Value::Text(a), Value::Text(b)) => Rc::ptr_eq(a, b) || (a == b && a.len() < 20),
            (Value::List(a), Value::List(b))
            | (Value::Tuple(a), Value::Tuple(b))
            | (Value::Dict(a), Value::Dict(b))
            | (Value::Namespace(a), Value::Namespace(b))
            | (Value::Stream(a), Value::Stream(b))
            | (Value::Loop(a), Value::Loop(b))
            | (Value::Cycler(a), Value::Cycler(b))
            | (Value::Joiner(a), Value::Joiner(b)) => a == b,
            (Value::Macro(a, s), Value::Macro(b, t)) => (a, s) == (b, t),
            (Value::Function(a), Value::Function(b)) => a == b,
            _ => false,
        }
    }

    /// Which is smaller. `None`: one is not a number.
    pub(crate) fn order(&mut self, left: &Value, right: &Value, symbol: &str) -> Outcome<Option<Ordering>> {
        self.order_at(left, right, symbol, 0)
    }

    fn order_at(
        &mut self,
        left: &Value,
        right: &Value,
        symbol: &str,
        depth: usize,
    ) -> Outcome<Option<Ordering>> {
        if depth > MAX_DEPTH {
            return Err(Failure::limit("values are nested too deeply to be compared"));
        }
        self.meter.scan(16)?;
        match (left, right) {
            (Value::Undefined(name), _) | (_, Value::Undefined(name)) => Err(undefined_failure(name)),
            (Value::Text(a), Value::Text(b)) => {
                self.meter.scan(a.len().min(b.len()))?;
                Ok(Some(a.cmp(b)))
            }
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                let (a, b) = (*a, *b);
                for n in 0..self.items(a).len().min(self.items(b).len()) {
                    let (Some(x), Some(y)) = (self.items(a).get(n).cloned(), self.items(b).get(n).cloned())
                    else {
                        break;
                    };
                    if !self.equal_at(&x, &y, depth + 1)? {
                        return self.order_at(&x, &y, symbol, depth + 1);
                    }
                }
                Ok(Some(self.items(a).len().cmp(&self.items(b).len())))
            }
            _ if floats(left, right).is_some() => Ok(number_order(left, right)),
            _ => Err(Failure::meaning(format!(
                "`{symbol}` cannot compare {} with {}",
                left.type_name(),
                right.type_name()
            ))
            .helped("`| int` makes a number of a text, `| string` a text of a number")),
        }
    }

    pub(crate) fn compare(&mut self, comparison: Comparison, left: &Value, right: &Value) -> Outcome<bool> {
        let ordered = |store: &mut Self, accepts: fn(Ordering) -> bool| {
            Ok(store.order(left, right, comparison.symbol())?.is_some_and(accepts))
        };
        match comparison {
            Comparison::Equal => self.equal(left, right),
            Comparison::NotEqual => Ok(!self.equal(left, right)?),
            Comparison::In => self.contains(right, left),
            Comparison::NotIn => Ok(!self.contains(right, left)?),
            Comparison::Less => ordered(self, Ordering::is_lt),
            Comparison::LessOrEqual => ordered(self, Ordering::is_le),
            Comparison::Greater => ordered(self, Ordering::is_gt),
            Comparison::GreaterOrEqual => ordered(self, Ordering::is_ge),
        }
    }

    /// `item in container`.
    pub(crate) fn contains(&mut self, container: &Value, item: &Value) -> Outcome<bool> {
        match container {
            Value::Text(text) => match item {
                Value::Text(part) => {
                    self.meter.scan(text.len() + part.len())?;
                    Ok(text.contains(&**part))
                }
                other => Err(Failure::meaning(format!("a text contains texts, not {}", other.type_name()))),
            },
            Value::Dict(dict) => {
                let key = self.key(item)?;
                Ok(self.mapping(*dict)?.get(&key).is_some())
            }
            Value::Range(range) => Ok(match (item, item.as_int()) {
                (_, Some(i)) => in_range(*range, i),
                (Value::Float(f), _) => whole(*f).is_some_and(|i| in_range(*range, i)),
                _ => false,
            }),
            other => {
                for candidate in self.iterate(other)? {
                    if self.equal(&candidate, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// All items of what can be walked through.
    pub(crate) fn iterate(&mut self, value: &Value) -> Outcome<Vec<Value>> {
        let items = match value {
            Value::Undefined(_) => Vec::new(),
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => {
                self.meter.make(self.items(*list).len() * ITEM)?;
                self.items(*list).to_vec()
            }
            Value::Stream(list) => std::mem::take(self.items_mut(*list)?),
            Value::Dict(dict) => {
                self.meter.make(self.entries(*dict).len() * ITEM)?;
                self.entries(*dict).iter().map(|(key, _)| key.clone()).collect()
            }
            Value::Text(text) => {
                self.meter.make(text.len().saturating_mul(2 * ITEM))?;
                text.chars().map(|c| Value::Text(Rc::from(c.encode_utf8(&mut [0; 4]) as &str))).collect()
            }
            Value::Range(range) => {
                let count = usize::try_from(range.len()).unwrap_or(usize::MAX);
                // The steps bound the memory here, too.
                self.meter.step(count / 2)?;
                (0..range.len()).filter_map(|n| range.get(n)).map(Value::Int).collect()
            }
            Value::Space(name, _) => return Err(super::show::not_yet(name)),
            other => {
                return Err(Failure::meaning(format!("a {} cannot be walked through", other.type_name()))
                    .helped("a list, a text or a mapping belongs here"));
            }
        };
        Ok(items)
    }
}

fn in_range(range: super::value::Range, i: i128) -> bool {
    let offset = i.checked_sub(range.start);
    let whole = offset.filter(|offset| offset.checked_rem(range.step) == Some(0));
    whole.and_then(|offset| offset.checked_div(range.step)).is_some_and(|n| (0..range.len()).contains(&n))
}

/// The order of two numbers; exact for a whole number and a float.
fn number_order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Float(f), other) => number_order(other, &Value::Float(*f)).map(Ordering::reverse),
        (other, Value::Float(f)) => {
            let i = other.as_int()?;
            match whole(*f) {
                Some(whole) => Some(i.cmp(&whole)),
                None => (i as f64).partial_cmp(f),
            }
        }
        _ => Some(left.as_int()?.cmp(&right.as_int()?)),
    }
}

fn integers(operator: Operator, a: i128, b: i128) -> Outcome<Value> {
    let zero = || Failure::meaning("division by zero");
    let int = |result: Option<i128>| result.map(Value::Int).ok_or_else(too_large);
    match operator {
        Operator::Add => int(a.checked_add(b)),
        Operator::Subtract => int(a.checked_sub(b)),
        Operator::Multiply => int(a.checked_mul(b)),
        Operator::Divide if b == 0 => Err(zero()),
        Operator::Divide => Ok(Value::Float(a as f64 / b as f64)),
        Operator::FloorDivide | Operator::Modulo if b == 0 => Err(zero()),
        Operator::FloorDivide => {
            let quotient = a.checked_div(b).ok_or_else(too_large)?;
            let floor = if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient };
            Ok(Value::Int(floor))
        }
        Operator::Modulo => {
            let rest = a.checked_rem(b).ok_or_else(too_large)?;
            Ok(Value::Int(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
        }
        Operator::Power if b < 0 => float_operation(Operator::Power, a as f64, b as f64).map(Value::Float),
        Operator::Power => int(match (a, u32::try_from(b)) {
            (0 | 1, _) => Some(if b == 0 { 1 } else { a }),
            (-1, _) => Some(if b % 2 == 0 { 1 } else { -1 }),
            (_, Ok(exponent)) => a.checked_pow(exponent),
            _ => None,
        }),
    }
}

fn float_operation(operator: Operator, a: f64, b: f64) -> Outcome<f64> {
    let zero = || Failure::meaning("division by zero");
    let modulo = |a: f64, b: f64| {
        let rest = a % b;
        if rest == 0.0 {
            0.0_f64.copysign(b)
        } else if (rest < 0.0) != (b < 0.0) {
            rest + b
        } else {
            rest
        }
    };
    Ok(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide | Operator::FloorDivide | Operator::Modulo if b == 0.0 => return Err(zero()),
        Operator::Divide => a / b,
        Operator::FloorDivide => {
            let quotient = (a - modulo(a, b)) / b;
            if quotient - quotient.floor() > 0.5 { quotient.floor() + 1.0 } else { quotient.floor() }
        }
        Operator::Modulo => modulo(a, b),
        Operator::Power if a == 0.0 && b < 0.0 => return Err(zero()),
        Operator::Power => {
            let result = a.powf(b);
            if result.is_nan() && !a.is_nan() && !b.is_nan() {
                return Err(Failure::meaning("this power is no real number"));
            }
            if result.is_infinite() && a.is_finite() && b.is_finite() {
                return Err(too_large());
            }
            result
        }
    })
}
