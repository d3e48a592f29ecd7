//! Values as text, the way Python prints them.

use std::fmt::Write as _;

use super::{
    failure::{Failure, Outcome},
    value::{MAX_DEPTH, Store, Value, undefined_failure},
};

impl Store {
    /// `str(value)`. What is not defined is empty.
    pub(crate) fn show(&mut self, value: &Value) -> Outcome<String> {
        match value {
            Value::Undefined(_) => Ok(String::new()),
            Value::Text(text) => {
                self.meter.make(text.len())?;
                Ok(text.to_string())
            }
            other => self.repr(other),
        }
    }

    /// `repr(value)`.
    pub(crate) fn repr(&mut self, value: &Value) -> Outcome<String> {
        let mut out = String::new();
        self.write_repr(value, &mut out, 0)?;
        Ok(out)
    }

    fn write_repr(&mut self, value: &Value, out: &mut String, depth: usize) -> Outcome<()> {
        if depth > MAX_DEPTH {
            return Err(Failure::limit("a value is nested too deeply to be printed"));
        }
        self.meter.scan(16)?;
        let before = out.len();
        match value {
            Value::Undefined(_) => out.push_str("Undefined"),
            Value::None => out.push_str("None"),
            Value::Bool(true) => out.push_str("True"),
            Value::Bool(false) => out.push_str("False"),
            Value::Int(i) => push(out, format_args!("{i}")),
            Value::Float(f) => out.push_str(&float(*f)),
            Value::Text(text) => {
                // An escape takes at most ten bytes.
                let most = text.bytes().map(|b| if matches!(b, b' '..=b'~') { 1 } else { 10 }).sum();
                self.meter.make(most)?;
                quote(text, out);
                return Ok(());
            }
            Value::List(list) => return self.write_items(*list, ("[", "]"), out, depth),
            Value::Tuple(list) if self.items(*list).len() == 1 => {
                return self.write_items(*list, ("(", ",)"), out, depth);
            }
            Value::Tuple(list) => return self.write_items(*list, ("(", ")"), out, depth),
            Value::View(word, list) => {
                out.push_str(word);
                return self.write_items(*list, ("([", "])"), out, depth);
            }
            Value::Dict(dict) => return self.write_dict(*dict, out, depth),
            Value::Namespace(dict) => {
                out.push_str("<Namespace ");
                self.write_dict(*dict, out, depth)?;
                out.push('>');
            }
            Value::Range(range) if range.step == 1 => {
                push(out, format_args!("range({}, {})", range.start, range.stop));
            }
            Value::Range(range) => {
                push(out, format_args!("range({}, {}, {})", range.start, range.stop, range.step));
            }
            // Perhaps of something that is known only in the second rendering, and a text then.
            Value::Stream(_) if self.streams_are_empty => {}
            Value::Stream(_) => {
                return Err(Failure::meaning(
                    "a filter's result that is made item by item cannot be printed",
                )
                .helped("add `| list` to it"));
            }
            Value::Space(name, _) => return Err(not_yet(name)),
            Value::Method(method) => {
                let name = method.1.to_string();
                return Err(Failure::meaning(format!("`{name}` is a method, which cannot be printed"))
                    .helped(format!("call it: `{name}()`")));
            }
            other => {
                return Err(Failure::meaning(format!("a {} cannot be printed", other.type_name())));
            }
        }
        self.meter.make(out.len() - before)
    }

    fn write_items(
        &mut self,
        list: usize,
        (open, close): (&str, &str),
        out: &mut String,
        depth: usize,
    ) -> Outcome<()> {
        out.push_str(open);
        for n in 0..self.items(list).len() {
            if n > 0 {
                out.push_str(", ");
            }
            if let Some(item) = self.items(list).get(n).cloned() {
                self.write_repr(&item, out, depth + 1)?;
            }
            self.meter.make(2)?;
        }
        out.push_str(close);
        Ok(())
    }

    fn write_dict(&mut self, dict: usize, out: &mut String, depth: usize) -> Outcome<()> {
        out.push('{');
        for n in 0..self.entries(dict).len() {
            let Some((key, value)) = self.entries(dict).get(n).cloned() else { break };
            if n > 0 {
                out.push_str(", ");
            }
            self.write_repr(&key, out, depth + 1)?;
            out.push_str(": ");
            self.write_repr(&value, out, depth + 1)?;
            self.meter.make(4)?;
        }
        out.push('}');
        Ok(())
    }

    /// The text of a value where Python wants a text and takes no other; what is not defined is empty.
    pub(crate) fn soft_text(&mut self, value: &Value) -> Outcome<String> {
        self.show(value)
    }

    /// # Errors
    /// The value is not defined.
    pub(crate) fn defined(&self, value: &Value) -> Outcome<()> {
        match value {
            Value::Undefined(name) => Err(undefined_failure(name)),
            _ => Ok(()),
        }
    }
}

/// A name that this gateway cannot fill.
pub(crate) fn not_yet(name: &str) -> Box<Failure> {
    Failure::new(super::failure::Kind::NotYet, name)
}

pub(crate) fn push(out: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing into a text cannot fail.
    let _ = out.write_fmt(what);
}

/// `repr` of a float: the shortest that reads back, with an exponent where Python has one.
pub(crate) fn float(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{f:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if f != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{f}");
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

/// A text in quotes.
pub(crate) fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c if u32::from(c) < 0x100 => push(out, format_args!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => push(out, format_args!("\\u{:04x}", u32::from(c))),
            c => push(out, format_args!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable` of one character, but for unassigned ones.
pub(crate) fn is_printable(c: char) -> bool {
    let invisible = matches!(u32::from(c),
        0xa0 | 0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x1680 | 0x180e | 0x2000..=0x200f | 0x2028..=0x202f
        | 0x205f..=0x206f | 0x3000 | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff
        | 0x1d173..=0x1d17a | 0xe0001..=0xe007f | 0xf0000..=0x10_ffff);
    !c.is_control() && !invisible
}
