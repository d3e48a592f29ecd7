//! A console pattern: a regex of Python's byte syntax, checked and compiled once, searched in single lines.
//!
//! A pattern exists only compiled; it is stored as its text and compiled again when it is read back. What is searched
//! for in a run is not one pattern but all of a job at once, which is [`crate::matcher`]'s part: here is what that
//! needs of each of them, and what can be told of a pattern before any console speaks.

mod literals;
mod prospects;

use std::{fmt, sync::Arc};

use regex_automata::nfa::thompson::{NFA, WhichCaptures};
use regex_syntax::hir::Hir;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use self::literals::necessary_literals;
use crate::python_regex;

/// Bytes that a compiled pattern may take.
const MAX_COMPILED: usize = 2 << 20;

/// Steps back that one search may take. A line has at most 64 KiB.
const MAX_BACKTRACK: usize = 500_000;

/// Groups within groups.
const MAX_NESTED: u32 = 100;

/// Ours also matches a line that ends in `\r\n`, as serial lines do.
const SESSION_END: &str = r"^\[[\d \.]{12}\] reboot: Power [Dd]own\r?$";

/// A compiled console pattern.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    compiled: Arc<Compiled>,
}

struct Compiled {
    /// Matches the same lines, or more where `exact` is there.
    regular: Hir,
    /// Bytes that its automaton takes.
    size: usize,
    /// What look-around, back references and the like need.
    exact: Option<fancy_regex::Regex>,
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
        let compiled = compile(text).map_err(|why| PatternError {
            message: format!("`{}` is no usable regex: {why}", brief(text)),
        })?;
        Ok(Self { text: text.to_owned(), compiled: Arc::new(compiled) })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Bytes that its automaton takes in a run, at most 2 MiB. All patterns of a job are in one automaton, so that who
    /// reads a job should bound their sum.
    pub fn compiled_size(&self) -> usize {
        self.compiled.size
    }

    /// Why no line of a console can ever match, as the end of a sentence for people. `None`: one can, or nobody knows.
    ///
    /// A line has a newline only at its end.
    pub fn cannot_match(&self) -> Option<String> {
        prospects::cannot_match(&self.compiled.regular)
    }

    /// Whether it matches every line that is not empty, as `.*`, `^` and `\s` do: as the end of a session, of a boot, or
    /// of a machine's service that is hardly meant. `false` also where nobody knows.
    pub fn matches_every_line(&self) -> bool {
        self.compiled.exact.is_none() && prospects::matches_every_line(&self.compiled.regular)
    }

    /// For automata: matches at least the lines that the pattern matches, see [`Self::is_exact`].
    pub(crate) fn regular(&self) -> &Hir {
        &self.compiled.regular
    }

    /// Whether [`Self::regular`] matches no other line.
    pub(crate) fn is_exact(&self) -> bool {
        self.compiled.exact.is_none()
    }

    /// Whether a line that [`Self::regular`] matches is one of the pattern's.
    pub(crate) fn confirms(&self, line: &[u8]) -> Result<bool, TooExpensive> {
        match &self.compiled.exact {
            None => Ok(true),
            Some(exact) => exact.is_match(line).map_err(|_| TooExpensive),
        }
    }
}

fn compile(text: &str) -> Result<Compiled, String> {
    let translated = python_regex::translate(text)?;
    let regular = regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .nest_limit(MAX_NESTED)
        .build()
        .parse(&translated.regular)
        .map_err(|e| last_line(&e.to_string()))?;
    let size = automaton(&[&regular], Some(MAX_COMPILED))?.memory_usage();
    let exact = (!translated.is_regular).then(|| {
        fancy_regex::RegexBuilder::new(&translated.text)
            .bytes_mode(fancy_regex::BytesMode::Ascii)
            .backtrack_limit(MAX_BACKTRACK)
            .delegate_size_limit(MAX_COMPILED)
            .max_prog_size(50_000)
            .build()
            .map_err(|e| e.to_string())
    });
    let exact = exact.transpose()?;
    Ok(Compiled { regular, size, exact })
}

/// One automaton for all of them, which finds which of them match.
pub(crate) fn automaton(patterns: &[&Hir], limit: Option<usize>) -> Result<NFA, String> {
    let config = NFA::config().utf8(false).nfa_size_limit(limit).which_captures(WhichCaptures::None);
    NFA::compiler().configure(config).build_many_from_hir(patterns).map_err(|e| last_line(&e.to_string()))
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

    impl Pattern {
        /// The slow way: one pattern, one line, an engine that knows of no other. The measure of all that is faster.
        pub(crate) fn matches(&self, line: &[u8]) -> Result<bool, TooExpensive> {
            let translated = python_regex::translate(&self.text).unwrap();
            if translated.fancy {
                let regex = fancy_regex::RegexBuilder::new(&translated.text)
                    .bytes_mode(fancy_regex::BytesMode::Ascii)
                    .backtrack_limit(MAX_BACKTRACK)
                    .build();
                match regex {
                    Ok(regex) => return regex.is_match(line).map_err(|_| TooExpensive),
                    // It does not repeat what takes no character.
                    Err(_) => assert!(translated.is_regular),
                }
            }
            let text = if translated.fancy { translated.regular } else { translated.text };
            let regex = regex::bytes::RegexBuilder::new(&text).unicode(false).build().unwrap();
            Ok(regex.is_match(line))
        }
    }

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
        assert!(Pattern::new(&format!("a{{{}}}", crate::MAX_LINE + 1)).is_err(), "longer than any line");
    }
}
