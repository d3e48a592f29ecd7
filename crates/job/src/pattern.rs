//! A console pattern: a regex of Python's byte syntax, compiled once, searched in single lines.
//!
//! A pattern exists only compiled; it is stored as its text and compiled again when it is read back.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::python_regex;

/// Bytes that a compiled pattern, and its cache, may take.
const MAX_COMPILED: usize = 2 << 20;

/// Steps back that one search may take. A line has at most 64 KiB.
const MAX_BACKTRACK: usize = 500_000;

/// Ours also matches a line that ends in `\r\n`, as serial lines do.
const SESSION_END: &str = r"^\[[\d \.]{12}\] reboot: Power [Dd]own\r?$";

/// A compiled console pattern.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    compiled: Arc<Compiled>,
}

enum Compiled {
    Plain(regex::bytes::Regex),
    Backtracking(fancy_regex::Regex),
}

/// Why a text cannot be a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    message: String,
}

impl PatternError {
    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead.
    pub fn help(&self) -> &'static str {
        "patterns are Python byte regexes; in YAML write them in single quotes, so that backslashes stay"
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for PatternError {}

/// A search took too many steps back; nobody knows whether the line matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooExpensive;

impl Pattern {
    /// Compiles a regex as Python's `re` reads it for bytes.
    ///
    /// # Errors
    /// It is no regex, it is too large, or it uses what the engines do not have.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let refuse =
            |why: String| PatternError { message: format!("`{}` is no usable regex: {why}", brief(text)) };
        let translated = python_regex::translate(text).map_err(refuse)?;
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
                .map_err(|e| refuse(last_line(&e.to_string())))?
        };
        Ok(Self { text: text.to_owned(), compiled: Arc::new(compiled) })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn matches(&self, line: &[u8]) -> Result<bool, TooExpensive> {
        match &*self.compiled {
            Compiled::Plain(regex) => Ok(regex.is_match(line)),
            Compiled::Backtracking(regex) => regex.is_match(line).map_err(|_| TooExpensive),
        }
    }
}

/// What ends a session where the job does not say: the kernel powers the machine down.
pub(crate) fn default_session_end() -> Pattern {
    #[allow(clippy::expect_used)]
    Pattern::new(SESSION_END).expect("the default pattern is a constant, and a test compiles it")
}

fn brief(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The regex crate draws the pattern above its reason; the pattern would be our translation.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    regex: String,
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Stored { regex: self.text.clone() }.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(&Stored::deserialize(d)?.regex).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_python() {
        let table: [(&str, &[u8], bool); 37] = [
            (r"a$", b"a\n", true),
            (r"a$", b"a\r\n", false),
            (r"a\r$", b"a\r\n", true),
            (r"a$", b"a", true),
            (r"a\Z", b"a\n", false),
            (r"a$\n", b"a\n", true),
            (r"(a$)\s", b"a\n", true),
            (r"(?m)a$", b"a\n", true),
            (r"^a", b"ba\n", false),
            (r"\d", "\u{0663}".as_bytes(), false),
            (r"\w", "é".as_bytes(), false),
            (r"\W", b"\xff\n", true),
            (r"é", "caf\u{e9}\n".as_bytes(), true),
            (r"[é]", b"\xa9\n", true),
            (r"\xff", b"\xff\n", true),
            (r".\xff.", b"\x80\xff\x80\n", true),
            (r"^.$", b"\n", false),
            (r"(?s)^.$", b"\n", true),
            (r"\s", b"\x0b", true),
            (r"(?i)PANIC", b"Kernel panic\n", true),
            (r"foo(?!bar)", b"foobar\n", false),
            (r"foo(?!bar)", b"foo\xffbar\n", true),
            (r"foo(?=\xff)", b"foo\xff\n", true),
            (r"(?<=\xfe)x", b"\xfex\n", true),
            (r"(\w+) \1\b", b"the the\n", true),
            (r"(\w+) \1\b", b"the a\n", false),
            (r"(?P<c>[\x80-\xff])(?P=c)", b"\xf0\xf0", true),
            (r"a++a", b"aaa", false),
            (r"(?!a\n)a$", b"a\n", false),
            (r"(?<!x)a$", b"a\n", true),
            (r"\bok\b", b"\xe9ok\xe9\n", true),
            (r"[[:alpha:]]", b"x", false),
            (r"ring .* timeout", b"[drm] ring gfx_0.0.0 timeout\r\n", true),
            (r"a|b$|c", b"xc", true),
            (r"(?!x)a+b*a+", b"a\n", false),
            (r"(?!x)\w+\.?\w+\n", b"a\n", false),
            (r"(?!x)\w+\.?\w+\n", b"a.a\n", true),
        ];
        for (pattern, line, expected) in table {
            assert_eq!(Pattern::new(pattern).unwrap().matches(line), Ok(expected), "{pattern} in {line:?}");
        }
    }

    #[test]
    fn the_default_end_matches_with_and_without_carriage_return() {
        let end = default_session_end();
        // "Power Down" is what the documentation of the original has, "Power down" what Linux prints.
        for line in [
            "[   12.345678] reboot: Power Down\r\n",
            "[   12.345678] reboot: Power Down\n",
            "[   12.345678] reboot: Power down\r\n",
        ] {
            assert_eq!(end.matches(line.as_bytes()), Ok(true), "{line:?}");
        }
        assert_eq!(end.matches(b"x [   12.345678] reboot: Power Down\n"), Ok(false));
    }

    #[test]
    fn a_pattern_that_backtracks_without_end_is_told_not_awaited() {
        let pattern = Pattern::new(r"(?=a)(a|aa|a?a)*\1\1$x").unwrap();
        let line = vec![b'a'; 60_000];
        assert_eq!(pattern.matches(&line), Err(TooExpensive));
    }

    #[test]
    fn a_pattern_too_large_is_refused() {
        assert!(Pattern::new("(?:a{1000}){1000}").is_err());
    }
}
