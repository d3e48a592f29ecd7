//! Filters that make texts.

use crate::template::{
    engine::{Engine, Given},
    failure::{Failure, Outcome},
    methods::{
        number_or_none,
        text::{capitalize, lines},
        wanted,
    },
    show::{float, not_yet, push},
    value::{MAX_DEPTH, Store, Value, undefined_failure},
};

impl Engine<'_> {
    pub(super) fn text_filter(&mut self, name: &str, value: &Value, given: Given) -> Outcome<Value> {
        match name {
            "tojson" => {
                let [indent] = given.bind(name, ["indent"])?;
                let indent = number_or_none(indent, name)?.map(|i| usize::try_from(i).unwrap_or(0).min(100));
                let mut out = String::new();
                self.store.write_json(value, indent, 0, &mut out)?;
                return self.store.text(out);
            }
            "format" => {
                let text = self.store.soft_text(value)?;
                let arguments = if given.named.is_empty() {
                    self.store.tuple(given.positional)?
                } else if given.positional.is_empty() {
                    self.named_dict(given.named)?
                } else {
                    return Err(Failure::meaning("`format` takes values or named values, not both"));
                };
                let text = self.store.percent(&text, &arguments)?;
                return self.store.text(text);
            }
            "urlencode" if !matches!(value, Value::Text(_)) => return self.encode_pairs(value, given),
            _ => {}
        }
        let text = self.store.soft_text(value)?;
        self.store.meter.scan(text.len())?;
        let made = match name {
            "string" | "safe" => {
                given.bind::<0>(name, [])?;
                text
            }
            "lower" | "upper" | "capitalize" | "title" => {
                given.bind::<0>(name, [])?;
                self.store.meter.make(text.len() * 3)?;
                match name {
                    "lower" => text.to_lowercase(),
                    "upper" => text.to_uppercase(),
                    "capitalize" => capitalize(&text),
                    _ => title(&text),
                }
            }
            "trim" => {
                let text = std::rc::Rc::from(text);
                return self.method(&Value::Text(text), &"strip".into(), given);
            }
            "center" => {
                let [width] = given.bind(name, ["width"])?;
                let width = width.unwrap_or(Value::Int(80));
                let given = Given { positional: vec![width], named: Vec::new() };
                return self.method(&Value::Text(text.into()), &"center".into(), given);
            }
            "replace" => {
                let [old, new, count] = given.bind(name, ["old", "new", "count"])?;
                let old = self.store.soft_text(&wanted(old, name, "old")?)?;
                let new = self.store.soft_text(&wanted(new, name, "new")?)?;
                let count = number_or_none(count, name)?.unwrap_or(-1);
                return self.replaced(&text, &old, &new, count);
            }
            "e" | "escape" | "forceescape" => {
                given.bind::<0>(name, [])?;
                self.store.meter.make(text.len().saturating_mul(5))?;
                escape(&text)
            }
            "indent" => return self.indent(&text, given),
            "truncate" => truncate(&text, given)?,
            "urlencode" => {
                given.bind::<0>(name, [])?;
                self.store.meter.make(text.len() * 3)?;
                percent_encoded(&text, true)
            }
            _ => {
                given.bind::<0>(name, [])?;
                let words =
                    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty());
                return Ok(Value::Int(words.count() as i128));
            }
        };
        self.store.text(made)
    }

    fn indent(&mut self, text: &str, given: Given) -> Outcome<Value> {
        let [width, first, blank] = given.bind("indent", ["width", "first", "blank"])?;
        let flag = |value: Option<Value>| value.is_some_and(|v| self.store.truth(&v));
        let (first, blank) = (flag(first), flag(blank));
        let indention = match width {
            Some(Value::Text(text)) => text.to_string(),
            width => {
                let width = number_or_none(width, "indent")?.unwrap_or(4);
                let width = usize::try_from(width).unwrap_or(0);
                self.store.meter.make(width)?;
                " ".repeat(width)
            }
        };
        let whole = format!("{text}\n");
        let parts = lines(&whole, false);
        self.store.meter.make(text.len().saturating_add(parts.len().saturating_mul(indention.len() + 32)))?;
        let mut out = String::new();
        for (n, line) in parts.iter().enumerate() {
            if n > 0 {
                out.push('\n');
            }
            let indents = if n == 0 { first } else { blank || !line.is_empty() };
            if indents {
                out.push_str(&indention);
            }
            out.push_str(line);
        }
        self.store.text(out)
    }

    /// A mapping or a list of pairs as a query.
    fn encode_pairs(&mut self, value: &Value, given: Given) -> Outcome<Value> {
        given.bind::<0>("urlencode", [])?;
        if !matches!(
            value,
            Value::Dict(_) | Value::List(_) | Value::Tuple(_) | Value::View(..) | Value::Stream(_)
        ) {
            let text = self.store.soft_text(value)?;
            self.store.meter.make(text.len() * 3)?;
            return self.store.text(percent_encoded(&text, true));
        }
        let mut out = String::new();
        for (n, (key, value)) in self.pairs(value)?.into_iter().enumerate() {
            let (key, value) = (self.store.soft_text(&key)?, self.store.soft_text(&value)?);
            self.store.meter.make((key.len() + value.len()) * 3 + 2)?;
            if n > 0 {
                out.push('&');
            }
            out.push_str(&percent_encoded(&key, false));
            out.push('=');
            out.push_str(&percent_encoded(&value, false));
        }
        self.store.text(out)
    }
}

/// Words begin after blanks, hyphens and opening brackets.
fn title(text: &str) -> String {
    let begins = |c: char| c == '-' || "({[<".contains(c) || crate::template::lexer::is_blank(c);
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if begins(c) {
            out.push(c);
            start = true;
        } else if std::mem::take(&mut start) {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Percent signs for all but letters, digits, `_.-~`; as a path also `/`, else blanks as `+`.
fn percent_encoded(text: &str, path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            b'/' if path => out.push('/'),
            b' ' if !path => out.push('+'),
            _ => push(&mut out, format_args!("%{byte:02X}")),
        }
    }
    out
}

fn truncate(text: &str, given: Given) -> Outcome<String> {
    let [length, kill_words, end, leeway] =
        given.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let number = |value, default: i128| {
        let number = number_or_none(value, "truncate")?.unwrap_or(default);
        usize::try_from(number).map_err(|_| Failure::meaning("`truncate` wants numbers of 0 or more"))
    };
    let (length, leeway) = (number(length, 255)?, number(leeway, 5)?);
    let end = match end {
        Some(Value::Text(end)) => end,
        Some(_) => return Err(Failure::meaning("the end of `truncate` must be a text")),
        None => "...".into(),
    };
    let Some(kept) = length.checked_sub(end.chars().count()) else {
        return Err(Failure::meaning("the length of `truncate` is less than that of its end"));
    };
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let cut: String = text.chars().take(kept).collect();
    let kill_words = kill_words.is_some_and(|k| matches!(k, Value::Bool(true)));
    let kept =
        if kill_words { &cut } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(before, _)| before) };
    Ok(format!("{kept}{end}"))
}

impl Store {
    /// Writes JSON as Jinja2 does: keys sorted, and nothing that a web page could take for a tag.
    fn write_json(
        &mut self,
        value: &Value,
        indent: Option<usize>,
        depth: usize,
        out: &mut String,
    ) -> Outcome<()> {
        if depth > MAX_DEPTH {
            return Err(Failure::limit("a value for JSON is nested too deeply"));
        }
        self.meter.make(8 + indent.unwrap_or(0) * depth)?;
        match value {
            Value::None => out.push_str("null"),
            Value::Bool(b) => push(out, format_args!("{b}")),
            Value::Int(i) => push(out, format_args!("{i}")),
            Value::Float(f) if f.is_nan() => out.push_str("NaN"),
            Value::Float(f) if f.is_infinite() => {
                out.push_str(if *f > 0.0 { "Infinity" } else { "-Infinity" })
            }
            Value::Float(f) => out.push_str(&float(*f)),
            Value::Text(text) => {
                self.meter.make(text.len().saturating_mul(6))?;
                json_text(text, out);
            }
            Value::List(list) | Value::Tuple(list) => {
                let items = self.items(*list).to_vec();
                if items.is_empty() {
                    out.push_str("[]");
                    return Ok(());
                }
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    separate(n, indent, depth + 1, out);
                    self.write_json(item, indent, depth + 1, out)?;
                }
                close(indent, depth, out);
                out.push(']');
            }
            Value::Dict(dict) => self.write_json_dict(*dict, indent, depth, out)?,
            Value::Undefined(name) => return Err(undefined_failure(name)),
            Value::Space(name, _) => return Err(not_yet(name)),
            other => {
                return Err(Failure::meaning(format!("a {} cannot be written as JSON", other.type_name()))
                    .helped("add `| list` before `| tojson`"));
            }
        }
        Ok(())
    }

    fn write_json_dict(
        &mut self,
        dict: usize,
        indent: Option<usize>,
        depth: usize,
        out: &mut String,
    ) -> Outcome<()> {
        let mut entries = Vec::new();
        for n in 0..self.entries(dict).len() {
            let Some((key, value)) = self.entries(dict).get(n).cloned() else { break };
            let name = match &key {
                Value::None => "null".to_owned(),
                Value::Bool(b) => b.to_string(),
                Value::Text(_) | Value::Int(_) | Value::Float(_) => self.show(&key)?,
                other => {
                    return Err(Failure::meaning(format!("a {} cannot be a key of JSON", other.type_name())));
                }
            };
            entries.push((matches!(key, Value::Text(_)), name, key, value));
        }
        if entries.is_empty() {
            out.push_str("{}");
            return Ok(());
        }
        let texts = entries.iter().filter(|e| e.0).count();
        if texts != 0 && texts != entries.len() {
            return Err(Failure::meaning("the keys of a mapping for JSON must be of one type"));
        }
        if texts == 0 {
            let keys: Vec<Value> = entries.iter().map(|e| e.2.clone()).collect();
            let order = super::sequences::sorted_indices(self, &keys, false)?;
            let mut sorted = Vec::with_capacity(entries.len());
            for at in order {
                sorted.extend(entries.get(at).cloned());
            }
            entries = sorted;
        } else {
            entries.sort_by(|a, b| a.1.cmp(&b.1));
        }
        out.push('{');
        for (n, (_, name, _, value)) in entries.iter().enumerate() {
            separate(n, indent, depth + 1, out);
            self.meter.make(name.len().saturating_mul(6))?;
            json_text(name, out);
            out.push_str(": ");
            self.write_json(value, indent, depth + 1, out)?;
        }
        close(indent, depth, out);
        out.push('}');
        Ok(())
    }
}

fn separate(n: usize, indent: Option<usize>, depth: usize, out: &mut String) {
    match indent {
        Some(width) => {
            out.push_str(if n > 0 { ",\n" } else { "\n" });
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
        None if n > 0 => out.push_str(", "),
        None => {}
    }
}

fn close(indent: Option<usize>, depth: usize, out: &mut String) {
    if let Some(width) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', width * depth));
    }
}

fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' if !"<>&'".contains(c) => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    push(out, format_args!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}
