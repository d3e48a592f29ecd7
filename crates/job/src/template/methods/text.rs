//! Methods of texts. Places in a text count characters.

use std::rc::Rc;

use super::{number_or_none, wanted, wanted_text};
use crate::template::{
    engine::{Engine, Given},
    failure::{Failure, Outcome},
    lexer::is_blank,
    show::is_printable,
    value::{ITEM, Value},
};

impl Engine<'_> {
    pub(super) fn text_method(&mut self, text: &Rc<str>, name: &str, given: Given) -> Outcome<Value> {
        self.store.meter.scan(text.len())?;
        if let Some(answer) = question(text, name) {
            given.bind::<0>(name, [])?;
            return Ok(Value::Bool(answer));
        }
        match name {
            "lower" | "upper" | "casefold" | "capitalize" | "title" | "swapcase" => {
                given.bind::<0>(name, [])?;
                // A character becomes three at most.
                self.store.meter.make(text.len() * 3)?;
                let changed = match name {
                    "lower" => text.to_lowercase(),
                    "upper" => text.to_uppercase(),
                    "casefold" => casefold(text),
                    "capitalize" => capitalize(text),
                    "title" => title(text),
                    _ => swapcase(text),
                };
                self.store.text(changed)
            }
            "strip" | "lstrip" | "rstrip" => {
                let [chars] = given.bind(name, ["chars"])?;
                let kept = strip(text, chars, name)?.to_owned();
                self.store.text(kept)
            }
            "startswith" | "endswith" => self.affix(text, name, given),
            "removeprefix" | "removesuffix" => {
                let [affix] = given.bind(name, ["affix"])?;
                let affix = wanted_text(affix, name, "affix")?;
                let rest = if name == "removeprefix" {
                    text.strip_prefix(&*affix)
                } else {
                    text.strip_suffix(&*affix)
                };
                self.store.text(rest.unwrap_or(text).to_owned())
            }
            "center" | "ljust" | "rjust" | "zfill" => self.padded(text, name, given),
            "split" | "rsplit" => self.split(text, name, given),
            "splitlines" => {
                let [keep] = given.bind(name, ["keepends"])?;
                let keep = keep.is_some_and(|k| self.store.truth(&k));
                self.store.meter.make(text.len().saturating_mul(ITEM))?;
                self.texts(lines(text, keep))
            }
            "partition" | "rpartition" => {
                let [separator] = given.bind(name, ["sep"])?;
                let separator = wanted_text(separator, name, "sep")?;
                if separator.is_empty() {
                    return Err(Failure::meaning("the separator is empty"));
                }
                let parts = if name == "partition" {
                    text.split_once(&*separator).map_or([text, "", ""], |(a, b)| [a, &*separator, b])
                } else {
                    text.rsplit_once(&*separator).map_or(["", "", text], |(a, b)| [a, &*separator, b])
                };
                let mut values = Vec::new();
                for part in parts {
                    values.push(self.store.text(part)?);
                }
                self.store.tuple(values)
            }
            "replace" => {
                let [old, new, count] = given.bind(name, ["old", "new", "count"])?;
                let (old, new) = (wanted_text(old, name, "old")?, wanted_text(new, name, "new")?);
                let count = number_or_none(count, name)?.unwrap_or(-1);
                self.replaced(text, &old, &new, count)
            }
            "join" => {
                let [items] = given.bind(name, ["iterable"])?;
                let items = self.iterate(&wanted(items, name, "iterable")?)?;
                let mut joined = String::new();
                for (n, item) in items.iter().enumerate() {
                    let Value::Text(item) = item else {
                        let text = format!("item {n} is {}, not a text", item.type_name());
                        return Err(Failure::meaning(text).helped("the filter `join` takes any values"));
                    };
                    self.store.meter.make(item.len() + text.len())?;
                    if n > 0 {
                        joined.push_str(text);
                    }
                    joined.push_str(item);
                }
                self.store.text(joined)
            }
            "count" | "find" | "rfind" | "index" | "rindex" => self.find(text, name, given),
            "expandtabs" => {
                let [size] = given.bind(name, ["tabsize"])?;
                let size = number_or_none(size, name)?.unwrap_or(8);
                self.expandtabs(text, usize::try_from(size).unwrap_or(0))
            }
            _ => {
                let formatted = self.format(text, &given)?;
                self.store.text(formatted)
            }
        }
    }

    fn texts(&mut self, parts: Vec<&str>) -> Outcome<Value> {
        let mut values = Vec::with_capacity(parts.len());
        for part in parts {
            values.push(self.store.text(part)?);
        }
        self.store.list(values)
    }

    fn affix(&mut self, text: &str, name: &str, given: Given) -> Outcome<Value> {
        let [affix, start, end] = given.bind(name, ["affix", "start", "end"])?;
        let text =
            part(text, number_or_none(start, name)?, number_or_none(end, name)?).map_or("", |(_, t)| t);
        let candidates = match wanted(affix, name, "affix")? {
            Value::Tuple(list) => self.store.items(list).to_vec(),
            other => vec![other],
        };
        for candidate in candidates {
            let candidate = wanted_text(Some(candidate), name, "affix")?;
            let found = if name == "startswith" {
                text.starts_with(&*candidate)
            } else {
                text.ends_with(&*candidate)
            };
            if found {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }

    fn padded(&mut self, text: &str, name: &str, given: Given) -> Outcome<Value> {
        let [width, fill] = given.bind(name, ["width", "fillchar"])?;
        let width = number_or_none(Some(wanted(width, name, "width")?), name)?.unwrap_or(0);
        let fill = match fill {
            Some(value) => {
                let fill = wanted_text(Some(value), name, "fillchar")?;
                let mut chars = fill.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => c,
                    _ => return Err(Failure::meaning("what fills up must be one character")),
                }
            }
            None => ' ',
        };
        let length = text.chars().count();
        let missing =
            usize::try_from(width).unwrap_or(if width < 0 { 0 } else { usize::MAX }).saturating_sub(length);
        self.store.meter.make(text.len().saturating_add(missing.saturating_mul(4)))?;
        let fill = |n: usize| std::iter::repeat_n(fill, n).collect::<String>();
        let padded = match name {
            "ljust" => format!("{text}{}", fill(missing)),
            "rjust" => format!("{}{text}", fill(missing)),
            "center" => {
                // Where it cannot be even, Python looks at the width to decide which side gets more.
                let left = missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1);
                format!("{}{text}{}", fill(left), fill(missing - left))
            }
            _ => {
                let sign = usize::from(text.starts_with(['+', '-']));
                format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..])
            }
        };
        self.store.text(padded)
    }

    fn split(&mut self, text: &str, name: &str, given: Given) -> Outcome<Value> {
        let [separator, most] = given.bind(name, ["sep", "maxsplit"])?;
        let most = number_or_none(most, name)?.unwrap_or(-1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let separator = match separator {
            None | Some(Value::None) => None,
            Some(value) => Some(wanted_text(Some(value), name, "sep")?),
        };
        let pieces = match &separator {
            Some(separator) if !separator.is_empty() => text.matches(&**separator).count(),
            Some(_) => return Err(Failure::meaning("the separator is empty")),
            None => text.len() / 2,
        };
        self.store.meter.make(pieces.saturating_mul(2 * ITEM))?;
        let parts = match (&separator, name) {
            (Some(separator), "split") => text.splitn(most.saturating_add(1), &**separator).collect(),
            (Some(separator), _) => {
                let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), &**separator).collect();
                parts.reverse();
                parts
            }
            (None, "split") => blank_separated(text, most),
            (None, _) => blank_separated_from_end(text, most),
        };
        self.texts(parts)
    }

    /// `text.replace(old, new)`, at most `count` times if that is not negative.
    pub(in crate::template) fn replaced(
        &mut self,
        text: &str,
        old: &str,
        new: &str,
        count: i128,
    ) -> Outcome<Value> {
        let most = usize::try_from(count).unwrap_or(usize::MAX);
        self.store.meter.scan(text.len())?;
        let found =
            if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() }.min(most);
        self.store.meter.make(text.len().saturating_add(found.saturating_mul(new.len())))?;
        self.store.text(text.replacen(old, new, most))
    }

    fn find(&mut self, text: &str, name: &str, given: Given) -> Outcome<Value> {
        let [wanted, start, end] = given.bind(name, ["sub", "start", "end"])?;
        let wanted = wanted_text(wanted, name, "sub")?;
        let found = match part(text, number_or_none(start, name)?, number_or_none(end, name)?) {
            Some((_, inside)) if name == "count" => {
                let count = if wanted.is_empty() {
                    inside.chars().count() + 1
                } else {
                    inside.matches(&*wanted).count()
                };
                return Ok(Value::Int(count as i128));
            }
            None if name == "count" => return Ok(Value::Int(0)),
            Some((from, inside)) => {
                let at = if name.starts_with('r') { inside.rfind(&*wanted) } else { inside.find(&*wanted) };
                at.map(|at| from + inside[..at].chars().count())
            }
            None => None,
        };
        match found {
            Some(at) => Ok(Value::Int(at as i128)),
            None if name.ends_with("find") => Ok(Value::Int(-1)),
            None => Err(Failure::meaning("the text does not contain what is looked for")),
        }
    }

    fn expandtabs(&mut self, text: &str, size: usize) -> Outcome<Value> {
        let mut out = String::new();
        let mut column = 0;
        for c in text.chars() {
            match c {
                '\t' if size > 0 => {
                    let blanks = size - column % size;
                    self.store.meter.make(blanks)?;
                    out.extend(std::iter::repeat_n(' ', blanks));
                    column += blanks;
                }
                '\t' => {}
                _ => {
                    out.push(c);
                    column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                }
            }
        }
        self.store.text(out)
    }
}

/// The part of a text between two places, and the place where it begins. `None`: it begins behind the end.
fn part(text: &str, start: Option<i128>, end: Option<i128>) -> Option<(usize, &str)> {
    if start.is_none() && end.is_none() {
        return Some((0, text));
    }
    let length = text.chars().count();
    let place = |at: i128| {
        let at = if at < 0 { at.saturating_add(length as i128).max(0) } else { at };
        usize::try_from(at).unwrap_or(usize::MAX)
    };
    let (start, end) = (place(start.unwrap_or(0)), end.map_or(length, place).min(length));
    if start > length || start > end {
        return None;
    }
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    Some((start, &text[byte(start)..byte(end)]))
}

fn strip<'a>(text: &'a str, chars: Option<Value>, name: &str) -> Outcome<&'a str> {
    let chars = match chars {
        None | Some(Value::None) => None,
        Some(value) => Some(wanted_text(Some(value), name, "chars")?),
    };
    let goes = |c: char| chars.as_ref().map_or_else(|| is_blank(c), |chars| chars.contains(c));
    let mut kept = text;
    if name != "rstrip" {
        kept = kept.trim_start_matches(goes);
    }
    if name != "lstrip" {
        kept = kept.trim_end_matches(goes);
    }
    Ok(kept)
}

fn blank_separated(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        if parts.len() == most {
            parts.push(rest);
            break;
        }
        let end = rest.find(is_blank).unwrap_or(rest.len());
        parts.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_blank);
    }
    parts
}

fn blank_separated_from_end(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end_matches(is_blank);
    while !rest.is_empty() {
        if parts.len() == most {
            parts.push(rest);
            break;
        }
        let start =
            rest.char_indices().rev().find(|(_, c)| is_blank(*c)).map_or(0, |(at, c)| at + c.len_utf8());
        parts.push(&rest[start..]);
        rest = rest[..start].trim_end_matches(is_blank);
    }
    parts.reverse();
    parts
}

/// The lines of a text, with or without their ends.
pub(in crate::template) fn lines(text: &str, keep: bool) -> Vec<&str> {
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(is_end) {
        let length = if rest[end..].starts_with("\r\n") {
            2
        } else {
            rest[end..].chars().next().map_or(1, char::len_utf8)
        };
        lines.push(&rest[..if keep { end + length } else { end }]);
        rest = &rest[end + length..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// Questions to a text without arguments.
fn question(text: &str, name: &str) -> Option<bool> {
    let all = |accepts: fn(char) -> bool| !text.is_empty() && text.chars().all(accepts);
    let cased = |wanted: fn(char) -> bool, other: fn(char) -> bool| {
        text.chars().any(wanted) && !text.chars().any(other)
    };
    let decimal = |c: char| c.is_ascii_digit() || (c.is_numeric() && !c.is_ascii() && c.is_digit(36));
    Some(match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => text.is_ascii(),
        "isdecimal" | "isdigit" => all(decimal),
        "isnumeric" => all(char::is_numeric),
        "isidentifier" => {
            let mut chars = text.chars();
            chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
                && chars.all(|c| c == '_' || c.is_alphanumeric())
        }
        "islower" => cased(char::is_lowercase, char::is_uppercase),
        "isupper" => cased(char::is_uppercase, char::is_lowercase),
        "isprintable" => text.chars().all(is_printable),
        "isspace" => all(is_blank),
        "istitle" => is_title(text),
        _ => return None,
    })
}

fn is_title(text: &str) -> bool {
    let mut any = false;
    let mut inside = false;
    for c in text.chars() {
        let (upper, lower) = (c.is_uppercase(), c.is_lowercase());
        if (upper && inside) || (lower && !inside) {
            return false;
        }
        inside = upper || lower;
        any |= inside;
    }
    any
}

fn casefold(text: &str) -> String {
    text.replace(['ß', 'ẞ'], "ss").to_lowercase().replace('ς', "σ")
}

/// The first character large, the others small.
pub(in crate::template) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().collect::<String>() + &chars.as_str().to_lowercase(),
        None => String::new(),
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    out
}

fn swapcase(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}
