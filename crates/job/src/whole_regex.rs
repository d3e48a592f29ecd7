//! Regexes that match a whole text: paths of files, names of members of archives, what a machine says of itself.
//!
//! The language is that of the console patterns, Python's for bytes. What a group matched can be put into another
//! text with the references that Python's `Match.expand` has: `\1` and `\g<name>`.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::python_regex;

/// Bytes that a compiled regex may take.
const MAX_COMPILED: usize = 1 << 20;

/// Steps back that one search may take; what is searched are names, not texts.
const MAX_BACKTRACK: usize = 100_000;

/// A compiled regex that matches whole texts only.
#[derive(Clone)]
pub struct WholeRegex {
    text: String,
    compiled: Arc<Compiled>,
}

enum Compiled {
    Plain(regex::bytes::Regex),
    Backtracking(fancy_regex::Regex),
}

/// Why a text cannot be such a regex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegexError(String);

impl fmt::Display for RegexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RegexError {}

/// What the groups of a regex matched; the first is the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    numbered: Vec<Option<String>>,
    names: Vec<Option<String>>,
}

impl WholeRegex {
    /// Compiles a regex as Python's `re` reads it for bytes.
    ///
    /// # Errors
    /// It is no regex, it is too large, or it uses what the engines do not have.
    pub fn new(text: &str) -> Result<Self, RegexError> {
        // First alone, so that a stray bracket cannot close ours, and the message is about what was written.
        crate::Pattern::new(text).map_err(|e| RegexError(e.message().to_owned()))?;
        let (flags, rest) = split_flags(text);
        let refuse = |why: String| RegexError(format!("this is no usable regex: {why}"));
        let translated = python_regex::translate(&format!("{flags}\\A(?:{rest})\\Z")).map_err(refuse)?;
        let compiled = if translated.fancy {
            fancy_regex::RegexBuilder::new(&translated.text)
                .bytes_mode(fancy_regex::BytesMode::Ascii)
                .backtrack_limit(MAX_BACKTRACK)
                .delegate_size_limit(MAX_COMPILED)
                .max_prog_size(50_000)
                .build()
                .map(Compiled::Backtracking)
                .map_err(|e| refuse(e.to_string()))?
        } else {
            regex::bytes::RegexBuilder::new(&translated.text)
                .unicode(false)
                .size_limit(MAX_COMPILED)
                .dfa_size_limit(MAX_COMPILED)
                .nest_limit(100)
                .build()
                .map(Compiled::Plain)
                .map_err(|_| refuse("it is too large".to_owned()))?
        };
        Ok(Self { text: text.to_owned(), compiled: Arc::new(compiled) })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of this text. A search that takes too many steps counts as no match.
    pub fn fits(&self, text: &str) -> bool {
        self.groups_of(text).is_some()
    }

    /// What its groups match, if it matches the whole of this text.
    pub fn groups_of(&self, text: &str) -> Option<Groups> {
        let own = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let numbered = match &*self.compiled {
            Compiled::Plain(regex) => {
                let found = regex.captures(text.as_bytes())?;
                found.iter().map(|group| group.map(|g| own(g.as_bytes()))).collect()
            }
            Compiled::Backtracking(regex) => {
                let found = regex.captures(text.as_bytes()).ok()??;
                (0..regex.captures_len()).map(|n| found.get(n).map(|g| own(g.as_bytes()))).collect()
            }
        };
        Some(Groups { numbered, names: self.names() })
    }

    /// Which groups there are, for what refers to them.
    pub(crate) fn known_groups(&self) -> KnownGroups {
        let names = self.names();
        KnownGroups { count: names.len().saturating_sub(1), names: names.into_iter().flatten().collect() }
    }

    /// The name of each group, the whole included.
    fn names(&self) -> Vec<Option<String>> {
        match &*self.compiled {
            Compiled::Plain(regex) => regex.capture_names().map(|n| n.map(str::to_owned)).collect(),
            Compiled::Backtracking(regex) => regex.capture_names().map(|n| n.map(str::to_owned)).collect(),
        }
    }
}

/// Flags of the whole regex stand at its very beginning, also when something is put around it.
fn split_flags(text: &str) -> (&str, &str) {
    let flags = text.strip_prefix("(?").and_then(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphabetic())?;
        (end > 0 && rest[end..].starts_with(')')).then_some(end + 3)
    });
    text.split_at(flags.unwrap_or(0))
}

impl Groups {
    /// A text with its `\1` and `\g<name>` replaced by what the groups matched; a group that took no part gives
    /// nothing. A reference to a group that does not exist stays as it is.
    pub fn expand(&self, template: &str) -> String {
        let mut out = String::with_capacity(template.len());
        let mut done = 0;
        for reference in references(template) {
            out.push_str(&template[done..reference.start]);
            let number = match reference.group {
                Group::Number(number) => Some(number),
                Group::Name(name) => self.names.iter().position(|n| n.as_deref() == Some(name)),
            };
            match number.and_then(|n| self.numbered.get(n)) {
                Some(matched) => out.push_str(matched.as_deref().unwrap_or_default()),
                None => out.push_str(reference.written),
            }
            done = reference.start + reference.written.len();
        }
        out.push_str(&template[done..]);
        out
    }
}

/// The groups that a text can refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KnownGroups {
    pub(crate) count: usize,
    names: Vec<String>,
}

impl KnownGroups {
    /// The first reference of a text to a group that does not exist, as it is written.
    pub(crate) fn missing_in<'a>(&self, template: &'a str) -> Option<&'a str> {
        let missing = |group: Group<'_>| match group {
            Group::Number(number) => number > self.count,
            Group::Name(name) => !self.names.iter().any(|n| n == name),
        };
        references(template).into_iter().find(|r| missing(r.group)).map(|r| r.written)
    }

    /// A text in which something stands for each reference to one of these groups; others stay as they are.
    pub(crate) fn fill(&self, template: &str, something: &str) -> String {
        let numbered = vec![Some(something.to_owned()); self.count + 1];
        let names = std::iter::once(None).chain(self.names.iter().cloned().map(Some)).collect();
        Groups { numbered, names }.expand(template)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group<'a> {
    Number(usize),
    Name(&'a str),
}

struct Reference<'a> {
    /// Where it begins, in bytes.
    start: usize,
    written: &'a str,
    group: Group<'a>,
}

/// All references of a text in order: `\1` to `\99`, `\g<1>`, `\g<name>`.
fn references(template: &str) -> Vec<Reference<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = template[at..].find('\\') {
        let start = at + offset;
        let rest = &template[start + 1..];
        at = start + 1;
        let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        let (length, group) = if digits > 0 && !rest.starts_with('0') {
            (digits, rest[..digits].parse().ok().map(Group::Number))
        } else if let Some(name) =
            rest.strip_prefix("g<").and_then(|r| r.split_once('>')).map(|(name, _)| name)
        {
            (name.len() + 3, Some(name.parse().map_or(Group::Name(name), Group::Number)))
        } else {
            // An escaped character; a backslash may not begin the next one.
            (rest.chars().next().map_or(0, char::len_utf8), None)
        };
        if let Some(group) = group {
            found.push(Reference { start, written: &template[start..=start + length], group });
        }
        at += length;
    }
    found
}

impl PartialEq for WholeRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for WholeRegex {}

impl fmt::Debug for WholeRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WholeRegex({:?})", self.text)
    }
}

impl Serialize for WholeRegex {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(s)
    }
}

impl<'de> Deserialize<'de> for WholeRegex {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_texts_match() {
        for (regex, text, expected) in [
            ("uuid.*", "uuid after", true),
            ("uuid.*", "before uuid", false),
            ("a|b", "ab", false),
            ("a|b", "b", true),
            ("(?i)PXE(Client)?", "pxeclient", true),
            (r"(\w)\1", "aa", true),
            (r"(\w)\1", "aab", false),
            ("(?!x).*", "y", true),
            ("a", "a\n", false),
        ] {
            assert_eq!(WholeRegex::new(regex).unwrap().fits(text), expected, "{regex} on {text:?}");
        }
        for wrong in ["(", "*uuid*", "a)|(b"] {
            assert!(WholeRegex::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_groups_matched_is_put_into_other_texts() {
        let regex = WholeRegex::new(r"/(?P<what>hello|bye)/(\w+)(/x)?").unwrap();
        let groups = regex.groups_of("/bye/world").unwrap();
        for (template, expected) in [
            (r"https://h/\1", "https://h/bye"),
            (r"\2-\g<what>-\g<2>", "world-bye-world"),
            (r"[\3]", "[]"),
            (r"\9 \\1 \g<no> \d é\1", r"\9 \\1 \g<no> \d ébye"),
            ("", ""),
        ] {
            assert_eq!(groups.expand(template), expected, "{template}");
        }
        let fancy = WholeRegex::new(r"/(?!no)(.*)").unwrap();
        assert_eq!(fancy.groups_of("/yes").unwrap().expand(r"\1"), "yes");
    }

    #[test]
    fn references_to_groups_that_do_not_exist_are_found() {
        let known = WholeRegex::new(r"/(?P<name>a)(b)").unwrap().known_groups();
        for (template, missing) in [
            (r"\1\2\g<name>\g<2>", None),
            (r"\1\2\3", Some(r"\3")),
            (r"\g<nmae>", Some(r"\g<nmae>")),
            (r"\\3", None),
            (r"\", None),
            (r"\12", Some(r"\12")),
            (r"\0", None),
        ] {
            assert_eq!(known.missing_in(template), missing, "{template}");
        }
    }
}
