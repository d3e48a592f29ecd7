//! Texts made from formats: `'%s' % value`, the filter `format`, and `'{}'.format(value)`.

use super::{
    engine::{Engine, Given},
    failure::{Failure, Outcome},
    show::float,
    value::{Store, Value},
};

/// How one value is written.
#[derive(Debug, Default, Clone)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    plus: bool,
    blank: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    comma: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Nobody needs wider fields; more would only fill memory.
const MAX_WIDTH: usize = 10_000;
/// Digits after the point that make sense.
const MAX_PRECISION: usize = 400;

/// Where the values of `%` come from.
enum Source {
    Tuple(Vec<Value>, usize),
    Single(Option<Value>),
    Mapping(Option<Value>),
}

impl Source {
    fn next(&mut self) -> Outcome<Value> {
        let next = match self {
            Self::Tuple(items, at) => {
                *at += 1;
                items.get(*at - 1).cloned()
            }
            Self::Single(value) | Self::Mapping(value) => value.take(),
        };
        next.ok_or_else(|| Failure::meaning("there are fewer values than the format wants"))
    }

    fn is_used_up(&self) -> bool {
        match self {
            Self::Tuple(items, at) => *at >= items.len(),
            Self::Single(value) => value.is_none(),
            Self::Mapping(_) => true,
        }
    }
}

impl Store {
    /// `format % value`.
    pub(super) fn percent(&mut self, format: &str, value: &Value) -> Outcome<String> {
        let mut source = match value {
            Value::Tuple(list) => Source::Tuple(self.items(*list).to_vec(), 0),
            Value::Dict(_) | Value::List(_) => Source::Mapping(Some(value.clone())),
            other => Source::Single(Some(other.clone())),
        };
        let mut out = String::new();
        let mut chars = format.chars().peekable();
        self.meter.make(format.len())?;
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut from_mapping = None;
            if chars.next_if_eq(&'(').is_some() {
                let mut name = String::new();
                loop {
                    match chars.next() {
                        Some(')') => break,
                        Some(c) => name.push(c),
                        None => return Err(Failure::meaning("the format's key has no end")),
                    }
                }
                from_mapping = Some(self.percent_key(value, &name)?);
            }
            let mut spec = Spec::default();
            while let Some(flag) = chars.next_if(|c| "#0- +".contains(*c)) {
                match flag {
                    '#' => spec.alternate = true,
                    '0' => spec.zero = true,
                    '-' => spec.align = Some('<'),
                    ' ' => spec.blank = true,
                    _ => spec.plus = true,
                }
            }
            spec.width = self.percent_number(&mut chars, &mut source, &mut spec.align)?.unwrap_or(0);
            if chars.next_if_eq(&'.').is_some() {
                spec.precision = Some(self.percent_number(&mut chars, &mut source, &mut None)?.unwrap_or(0));
            }
            while chars.next_if(|c| "hlL".contains(*c)).is_some() {}
            let Some(kind) = chars.next() else { return Err(Failure::meaning("the format is not complete")) };
            if kind == '%' {
                out.push('%');
                continue;
            }
            let value = match from_mapping {
                Some(value) => value,
                None => source.next()?,
            };
            let text = self.percent_one(kind, spec, &value)?;
            self.meter.make(text.len())?;
            out.push_str(&text);
        }
        if source.is_used_up() {
            Ok(out)
        } else {
            Err(Failure::meaning("not all values are used by the format"))
        }
    }

    fn percent_key(&mut self, value: &Value, name: &str) -> Outcome<Value> {
        let Value::Dict(dict) = value else { return Err(Failure::meaning("the format wants a mapping")) };
        let found = self.mapping(*dict)?.get_text(name).cloned();
        found.ok_or_else(|| Failure::meaning(format!("the mapping has no key `{name}`")))
    }

    fn percent_number(
        &mut self,
        chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
        source: &mut Source,
        align: &mut Option<char>,
    ) -> Outcome<Option<usize>> {
        if chars.next_if_eq(&'*').is_some() {
            let value = source.next()?;
            let Some(number) = value.as_int() else {
                return Err(Failure::meaning("`*` wants a whole number"));
            };
            if number < 0 {
                *align = Some('<');
            }
            return limited(usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX)).map(Some);
        }
        let mut number = None;
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            let next = number.unwrap_or(0_usize) * 10 + digit.to_digit(10).unwrap_or(0) as usize;
            number = Some(limited(next)?);
        }
        Ok(number)
    }

    fn percent_one(&mut self, kind: char, mut spec: Spec, value: &Value) -> Outcome<String> {
        let wrong = || Failure::meaning(format!("`%{kind}` wants a number, not {}", value.type_name()));
        let body = match kind {
            's' | 'r' | 'a' => {
                let text = if kind == 's' { self.show(value)? } else { self.repr(value)? };
                spec.zero = false;
                match spec.precision {
                    Some(most) => text.chars().take(most).collect(),
                    None => text,
                }
            }
            'c' => match value {
                Value::Text(text) if text.chars().count() == 1 => text.to_string(),
                other => {
                    let code = other.as_int().and_then(|i| u32::try_from(i).ok()).and_then(char::from_u32);
                    code.map(String::from).ok_or_else(|| Failure::meaning("`%c` wants one character"))?
                }
            },
            'd' | 'i' | 'u' => {
                let number = match value {
                    Value::Float(f) if f.is_finite() && f.abs() < 1e30 => f.trunc() as i128,
                    other => other.as_int().ok_or_else(wrong)?,
                };
                signed(number < 0, number.unsigned_abs().to_string(), &spec)
            }
            'x' | 'X' | 'o' => {
                let number = value.as_int().ok_or_else(wrong)?;
                signed(number < 0, in_base(number.unsigned_abs(), kind, spec.alternate), &spec)
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let number = as_float(value).ok_or_else(wrong)?;
                spec.precision = Some(spec.precision.unwrap_or(6).min(MAX_PRECISION));
                signed(number.is_sign_negative(), written_float(number.abs(), kind, &spec), &spec)
            }
            other => return Err(Failure::meaning(format!("`%{other}` is no format"))),
        };
        if spec.zero && spec.align.is_none() {
            spec.align = Some('=');
            spec.fill = Some('0');
        }
        spec.align.get_or_insert('>');
        Ok(padded(&body, &spec))
    }

    /// Writes a value as `format(value, spec)` does.
    fn formatted(&mut self, value: &Value, text: &str) -> Outcome<String> {
        if text.is_empty() {
            return self.show(value);
        }
        let mut spec = parse_spec(text)?;
        let numeric = as_float(value).is_some();
        let body = match spec.kind {
            None | Some('s') if !numeric || spec.kind == Some('s') => {
                if numeric || !matches!(value, Value::Text(_)) {
                    return Err(Failure::meaning(format!(
                        "a {} cannot be written with `{text}`",
                        value.type_name()
                    )));
                }
                spec.align.get_or_insert('<');
                let shown = self.show(value)?;
                match spec.precision {
                    Some(most) => shown.chars().take(most).collect(),
                    None => shown,
                }
            }
            kind if numeric => {
                spec.align.get_or_insert('>');
                self.formatted_number(value, kind, &spec, text)?
            }
            _ => {
                return Err(Failure::meaning(format!(
                    "a {} cannot be written with `{text}`",
                    value.type_name()
                )));
            }
        };
        Ok(padded(&body, &spec))
    }

    fn formatted_number(
        &mut self,
        value: &Value,
        kind: Option<char>,
        spec: &Spec,
        text: &str,
    ) -> Outcome<String> {
        let float_kind = matches!(kind, Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%'));
        let (negative, mut digits) = match (value.as_int(), as_float(value)) {
            (Some(i), _) if !float_kind => {
                let digits = match kind {
                    None | Some('d' | 'n') => i.unsigned_abs().to_string(),
                    Some(base @ ('x' | 'X' | 'o' | 'b')) => in_base(i.unsigned_abs(), base, spec.alternate),
                    Some('c') => {
                        return Ok(u32::try_from(i).ok().and_then(char::from_u32).unwrap_or('?').to_string());
                    }
                    Some(_) => {
                        return Err(Failure::meaning(format!("a number cannot be written with `{text}`")));
                    }
                };
                (i < 0, digits)
            }
            (_, Some(f)) => {
                let mut spec = spec.clone();
                let digits = match kind {
                    None if spec.precision.is_none() => float(f.abs()),
                    None => {
                        spec.precision = spec.precision.map(|p| p.clamp(1, MAX_PRECISION));
                        let general = written_float(f.abs(), 'g', &spec);
                        if general.contains(['.', 'e', 'n']) { general } else { format!("{general}.0") }
                    }
                    Some('%') => {
                        spec.precision = Some(spec.precision.unwrap_or(6).min(MAX_PRECISION));
                        format!("{}%", written_float(f.abs() * 100.0, 'f', &spec))
                    }
                    Some(kind) if float_kind => {
                        spec.precision = Some(spec.precision.unwrap_or(6).min(MAX_PRECISION));
                        written_float(f.abs(), kind, &spec)
                    }
                    Some(_) => {
                        return Err(Failure::meaning(format!("a float cannot be written with `{text}`")));
                    }
                };
                (f.is_sign_negative(), digits)
            }
            _ => return Err(Failure::meaning("a number is wanted here")),
        };
        if let Some(separator) = spec.comma {
            digits = grouped(&digits, separator);
        }
        Ok(signed(negative, digits, spec))
    }
}

impl Engine<'_> {
    /// `text.format(...)`.
    pub(super) fn format(&mut self, text: &str, given: &Given) -> Outcome<String> {
        let mut out = String::new();
        let mut automatic = 0;
        let mut rest = text;
        self.store.meter.make(text.len())?;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(Failure::meaning("a single `}` stands in the format").helped("write `}}`"));
            }
            let Some(end) = closing(rest) else {
                return Err(Failure::meaning("a `{` of the format has no end"));
            };
            let field = &rest[..end];
            rest = &rest[end + 1..];
            let written = self.format_field(field, given, &mut automatic)?;
            self.store.meter.make(written.len())?;
            out.push_str(&written);
        }
        out.push_str(rest);
        Ok(out)
    }

    fn format_field(&mut self, field: &str, given: &Given, automatic: &mut usize) -> Outcome<String> {
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = name.split_once('!').unwrap_or((name, ""));
        let first_end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(first_end);
        let missing = || Failure::meaning(format!("the format names `{name}`, which is not given"));
        let mut value = if first.is_empty() {
            *automatic += 1;
            given.positional.get(*automatic - 1).cloned()
        } else if let Ok(index) = first.parse::<usize>() {
            given.positional.get(index).cloned()
        } else {
            given.named.iter().find(|(known, _)| &**known == first).map(|(_, value)| value.clone())
        }
        .ok_or_else(missing)?;
        while !path.is_empty() {
            if let Some(after) = path.strip_prefix('[') {
                let (index, after) = after.split_once(']').ok_or_else(missing)?;
                let index = match index.parse::<i128>() {
                    Ok(number) => Value::Int(number),
                    Err(_) => self.store.text(index)?,
                };
                value = self.item(&value, &index)?;
                path = after;
            } else {
                let after = path.strip_prefix('.').ok_or_else(missing)?;
                let end = after.find(['.', '[']).unwrap_or(after.len());
                // Items are no attributes here, as in Python.
                if matches!(value, Value::Dict(_)) {
                    return Err(missing());
                }
                value = self.attribute(&value, &after[..end].into())?;
                path = &after[end..];
            }
        }
        if let Value::Undefined(_) = value {
            return Err(missing());
        }
        let spec = if spec.contains('{') { self.format(spec, given)? } else { spec.to_owned() };
        match conversion {
            "" => self.store.formatted(&value, &spec),
            "r" | "a" | "s" => {
                let text =
                    if conversion == "s" { self.store.show(&value)? } else { self.store.repr(&value)? };
                let value = self.store.text(text)?;
                self.store.formatted(&value, &spec)
            }
            other => Err(Failure::meaning(format!("`!{other}` is no conversion"))),
        }
    }
}

/// Where the field ends that begins here.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' if open == 1 => return None,
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn limited(number: usize) -> Outcome<usize> {
    if number > MAX_WIDTH {
        return Err(Failure::limit(format!("a field of a format is wider than {MAX_WIDTH}")));
    }
    Ok(number)
}

fn parse_spec(text: &str) -> Outcome<Spec> {
    let wrong = || Failure::meaning(format!("`{text}` is no format"));
    let mut spec = Spec::default();
    let chars: Vec<char> = text.chars().take(MAX_WIDTH).collect();
    let is_align = |c: Option<&char>| c.copied().filter(|c| "<>=^".contains(*c));
    let mut at = 0;
    if let Some(align) = is_align(chars.get(1)) {
        (spec.fill, spec.align, at) = (chars.first().copied(), Some(align), 2);
    } else if let Some(align) = is_align(chars.first()) {
        (spec.align, at) = (Some(align), 1);
    }
    let mut skip = |wanted: char| {
        let here = chars.get(at) == Some(&wanted);
        at += usize::from(here);
        here
    };
    spec.plus = skip('+');
    if !spec.plus && !skip('-') {
        spec.blank = skip(' ');
    }
    spec.alternate = skip('#');
    if skip('0') && spec.align.is_none() {
        (spec.fill, spec.align) = (Some('0'), Some('='));
    }
    let number = |at: &mut usize| {
        let mut number = None;
        while let Some(digit) = chars.get(*at).and_then(|c| c.to_digit(10)) {
            number = Some(limited(number.unwrap_or(0) * 10 + digit as usize)?);
            *at += 1;
        }
        Ok::<_, Box<Failure>>(number)
    };
    spec.width = number(&mut at)?.unwrap_or(0);
    if let Some(separator @ (',' | '_')) = chars.get(at) {
        spec.comma = Some(*separator);
        at += 1;
    }
    if chars.get(at) == Some(&'.') {
        at += 1;
        spec.precision = Some(number(&mut at)?.ok_or_else(wrong)?);
    }
    spec.kind = chars.get(at).copied();
    if chars.len() > at + 1 { Err(wrong()) } else { Ok(spec) }
}

/// A number as a float.
pub(super) fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(f) => Some(*f),
        other => other.as_int().map(|i| i as f64),
    }
}

fn in_base(number: u128, kind: char, prefix: bool) -> String {
    match (kind, prefix) {
        ('x', false) => format!("{number:x}"),
        ('x', true) => format!("{number:#x}"),
        ('X', false) => format!("{number:X}"),
        ('X', true) => format!("0X{number:X}"),
        ('o', false) => format!("{number:o}"),
        ('o', true) => format!("{number:#o}"),
        (_, false) => format!("{number:b}"),
        (_, true) => format!("{number:#b}"),
    }
}

/// A float that is not negative, in C's way.
fn written_float(f: f64, kind: char, spec: &Spec) -> String {
    let precision = spec.precision.unwrap_or(6).min(MAX_PRECISION);
    let text = if !f.is_finite() {
        if f.is_nan() { "nan".to_owned() } else { "inf".to_owned() }
    } else {
        match kind.to_ascii_lowercase() {
            'f' => format!("{f:.precision$}"),
            'e' => exponential(f, precision),
            _ => general(f, precision.max(1), spec.alternate),
        }
    };
    if kind.is_ascii_uppercase() { text.to_ascii_uppercase() } else { text }
}

fn exponential(f: f64, precision: usize) -> String {
    let text = format!("{f:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn general(f: f64, precision: usize, keep_zeros: bool) -> String {
    let exponent = exponential(f, precision - 1);
    let size: i32 = exponent.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let without_zeros = |text: &str| {
        if keep_zeros || !text.contains('.') {
            text
        } else {
            text.trim_end_matches('0').trim_end_matches('.')
        }
        .to_owned()
    };
    if size < -4 || size >= precision as i32 {
        let (digits, exponent) = exponent.split_once('e').unwrap_or((&exponent, "+00"));
        return format!("{}e{exponent}", without_zeros(digits));
    }
    let after = usize::try_from(precision as i32 - 1 - size).unwrap_or(0);
    without_zeros(&format!("{f:.after$}"))
}

/// Thousands apart.
fn grouped(digits: &str, separator: char) -> String {
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(end);
    let mut out = String::new();
    for (n, c) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(c);
    }
    out + rest
}

fn signed(negative: bool, digits: String, spec: &Spec) -> String {
    match (negative, spec.plus, spec.blank) {
        (true, ..) => format!("-{digits}"),
        (false, true, _) => format!("+{digits}"),
        (false, false, true) => format!(" {digits}"),
        _ => digits,
    }
}

fn padded(text: &str, spec: &Spec) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    let fill = |n: usize| std::iter::repeat_n(spec.fill.unwrap_or(' '), n).collect::<String>();
    match spec.align {
        Some('<') => format!("{text}{}", fill(missing)),
        Some('^') => format!("{}{text}{}", fill(missing / 2), fill(missing - missing / 2)),
        Some('=') => {
            let sign = usize::from(text.starts_with(['+', '-', ' ']));
            let prefix =
                if ["0x", "0X", "0o", "0b"].iter().any(|p| text[sign..].starts_with(p)) { 2 } else { 0 };
            let (head, tail) = text.split_at(sign + prefix);
            format!("{head}{}{tail}", fill(missing))
        }
        _ => format!("{}{text}", fill(missing)),
    }
}
