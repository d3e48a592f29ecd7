//! Filters that make numbers.

use crate::template::{
    engine::{Engine, Given},
    failure::{Failure, Outcome},
    methods::number_or_none,
    percent::as_float,
    value::{Value, undefined_failure},
};

impl Engine<'_> {
    pub(super) fn number_filter(&mut self, name: &str, value: Value, given: Given) -> Outcome<Value> {
        match name {
            "abs" => {
                given.bind::<0>(name, [])?;
                match (&value, value.as_int()) {
                    (_, Some(i)) => {
                        i.checked_abs().map(Value::Int).ok_or_else(|| Failure::limit("a number is too large"))
                    }
                    (Value::Float(f), _) => Ok(Value::Float(f.abs())),
                    (Value::Undefined(name), _) => Err(undefined_failure(name)),
                    _ => Err(Failure::meaning(format!("`abs` wants a number, not {}", value.type_name()))),
                }
            }
            "int" => {
                let [default, base] = given.bind(name, ["default", "base"])?;
                self.defined_number(&value)?;
                let base = number_or_none(base, name)?.unwrap_or(10);
                let found = match &value {
                    Value::Text(text) => {
                        self.store.meter.scan(text.len())?;
                        integer(text, base).or_else(|| parse_float(text).and_then(truncated))
                    }
                    Value::Float(f) => truncated(*f),
                    other => other.as_int(),
                };
                Ok(found.map(Value::Int).or(default).unwrap_or(Value::Int(0)))
            }
            "float" => {
                let [default] = given.bind(name, ["default"])?;
                self.defined_number(&value)?;
                let found = match &value {
                    Value::Text(text) => {
                        self.store.meter.scan(text.len())?;
                        parse_float(text)
                    }
                    other => as_float(other),
                };
                Ok(found.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
            }
            "round" => {
                let [precision, method] = given.bind(name, ["precision", "method"])?;
                let precision = number_or_none(precision, name)?.unwrap_or(0).clamp(-400, 400) as i32;
                let method = match method {
                    Some(method) => self.store.show(&method)?,
                    None => "common".to_owned(),
                };
                round(&value, precision, &method)
            }
            "filesizeformat" => {
                let [binary] = given.bind(name, ["binary"])?;
                let binary = binary.is_some_and(|b| self.store.truth(&b));
                let bytes = match &value {
                    Value::Text(text) => parse_float(text),
                    other => as_float(other),
                };
                let bytes = bytes.ok_or_else(|| Failure::meaning("`filesizeformat` wants a number"))?;
                self.store.text(file_size(bytes, binary))
            }
            "sum" => {
                let [attribute, start] = given.bind(name, ["attribute", "start"])?;
                let mut sum = start.unwrap_or(Value::Int(0));
                for item in self.iterate(&value)? {
                    let item = match &attribute {
                        Some(attribute) if !matches!(attribute, Value::None) => {
                            self.by_attribute(&item, attribute)?
                        }
                        _ => item,
                    };
                    sum = self.store.binary(crate::template::ast::Operator::Add, &sum, &item)?;
                }
                Ok(sum)
            }
            _ => self.extreme(name, &value, given),
        }
    }

    /// Numbers are made of nothing in the lenient mode only.
    fn defined_number(&self, value: &Value) -> Outcome<()> {
        self.store.defined(value)
    }

    fn extreme(&mut self, name: &str, value: &Value, given: Given) -> Outcome<Value> {
        let [case_sensitive, attribute] = given.bind(name, ["case_sensitive", "attribute"])?;
        let case_sensitive = case_sensitive.is_some_and(|c| self.store.truth(&c));
        let mut best: Option<(Value, Value)> = None;
        for item in self.iterate(value)? {
            let key = self.sort_key(&item, attribute.as_ref(), case_sensitive)?;
            let better = match &best {
                None => true,
                Some((_, known)) if name == "max" => {
                    self.store.order(&key, known, ">")?.is_some_and(|o| o.is_gt())
                }
                Some((_, known)) => self.store.order(&key, known, "<")?.is_some_and(|o| o.is_lt()),
            };
            if better {
                best = Some((item, key));
            }
        }
        Ok(best.map_or_else(|| Value::undefined("the first item of an empty list"), |(item, _)| item))
    }
}

fn truncated(f: f64) -> Option<i128> {
    (f.is_finite() && f.abs() < 1e38).then_some(f.trunc() as i128)
}

/// `int(text, base)`.
fn integer(text: &str, base: i128) -> Option<i128> {
    let text = text.trim_matches(crate::template::lexer::is_blank);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let base = u32::try_from(base).ok().filter(|b| *b == 0 || (2..=36).contains(b))?;
    let lower = digits.get(..2).map(str::to_ascii_lowercase).unwrap_or_default();
    let (base, digits) = match (base, lower.as_str()) {
        (0 | 16, "0x") => (16, &digits[2..]),
        (0 | 8, "0o") => (8, &digits[2..]),
        (0 | 2, "0b") => (2, &digits[2..]),
        (0, _) => (10, digits),
        (base, _) => (base, digits),
    };
    if digits.starts_with(['_', '+', '-']) || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let number = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -number } else { number })
}

/// `float(text)`.
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(crate::template::lexer::is_blank);
    if text.starts_with('_') || text.ends_with('_') || text.contains("__") {
        return None;
    }
    text.replace('_', "").parse().ok()
}

fn round(value: &Value, precision: i32, method: &str) -> Outcome<Value> {
    let Some(f) = as_float(value) else {
        return match value {
            Value::Undefined(name) => Err(undefined_failure(name)),
            _ => Err(Failure::meaning(format!("`round` wants a number, not {}", value.type_name()))),
        };
    };
    let scale = 10_f64.powi(precision);
    match method {
        "common" => {
            if let Some(i) = value.as_int() {
                // Python rounds a whole number to a whole number.
                return Ok(Value::Int(if precision >= 0 {
                    i
                } else {
                    round_integer(i, precision.unsigned_abs())
                }));
            }
            let rounded = if precision >= 0 {
                format!("{f:.*}", precision.unsigned_abs() as usize).parse().unwrap_or(f)
            } else {
                (f * scale).round_ties_even() / scale
            };
            Ok(Value::Float(rounded))
        }
        "ceil" => Ok(Value::Float((f * scale).ceil() / scale)),
        "floor" => Ok(Value::Float((f * scale).floor() / scale)),
        _ => Err(Failure::meaning("the method of `round` is `common`, `ceil` or `floor`")),
    }
}

/// To a power of ten, halves to the even one.
fn round_integer(i: i128, zeros: u32) -> i128 {
    let Some(unit) = 10_i128.checked_pow(zeros) else { return 0 };
    let (down, rest) = (i.div_euclid(unit), i.rem_euclid(unit));
    let up = match rest.cmp(&(unit - rest)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => down % 2 != 0,
    };
    (down + i128::from(up)).saturating_mul(unit)
}

fn file_size(bytes: f64, binary: bool) -> String {
    if bytes == 1.0 {
        return "1 Byte".into();
    }
    let base = if binary { 1024.0 } else { 1000.0 };
    if bytes < base {
        return format!("{} Bytes", bytes.trunc());
    }
    let suffix = if binary { "iB" } else { "B" };
    let letters = if binary { "KMGTPEZY" } else { "kMGTPEZY" };
    let mut unit: f64 = base;
    let mut last = 'k';
    for letter in letters.chars() {
        unit *= base;
        last = letter;
        if bytes < unit {
            break;
        }
    }
    format!("{:.1} {last}{suffix}", base * bytes / unit)
}
