//! From Python's byte regexes to the language of our engines.
//!
//! The two languages look alike and differ where it hurts: `$` before a last newline, `\Z`, escaped punctuation,
//! possessive repetition, nested classes. So a pattern is read as Python reads it and written anew; what cannot be
//! written is refused with a reason. Look-around, back references, atomic groups and possessive repetition need
//! the backtracking engine.

use crate::python_class::{Cursor, Escape, push_hex};

/// Stands after each repetition until it is known which engine is used; no pattern holds it, because literal bytes
/// are written as escapes.
const SEAM: char = '\0';

/// What becomes of a seam in the backtracking engine. fancy-regex 0.20 rewrites `x+y*x+` to `x+(?:y+x+)?`, which
/// matches a single `x`; it does not look across this.
const SEAM_FANCY: &str = "(?=)";

/// The longest pattern, bytes.
const MAX_PATTERN: usize = 16 * 1024;

/// A pattern in the engines' languages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    /// Exact, on any text.
    pub(crate) text: String,
    /// `text` needs the backtracking engine.
    pub(crate) fancy: bool,
    /// For automata, on lines: texts with at most one newline, which is their end. Matches at least the lines that the
    /// pattern matches.
    pub(crate) regular: String,
    /// `regular` matches no other line.
    pub(crate) is_regular: bool,
}

/// Flags that change how the rest of a group is read.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    multi_line: bool,
    verbose: bool,
}

struct Translator<'a> {
    cursor: Cursor<'a>,
    /// The exact pattern.
    out: String,
    /// The pattern without what automata cannot do.
    regular: String,
    /// Open groups that look around, of which `regular` has only the brackets.
    around: usize,
    fancy: bool,
    is_regular: bool,
    flags: Flags,
    /// For each open group: the flags outside of it, and whether it looks around.
    open: Vec<(Flags, bool)>,
    groups: u32,
    names: Vec<&'a str>,
    /// What stands before can be repeated.
    atom: bool,
    /// What stands before is a repetition.
    repeated: bool,
}

/// # Errors
/// What is wrong, in words.
pub(crate) fn translate(pattern: &str) -> Result<Translated, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("it has {} bytes: the most is {MAX_PATTERN}", pattern.len()));
    }
    let mut t = Translator {
        cursor: Cursor::new(pattern),
        out: String::with_capacity(pattern.len() * 2),
        regular: String::with_capacity(pattern.len() * 2),
        around: 0,
        fancy: false,
        is_regular: true,
        flags: Flags::default(),
        open: Vec::new(),
        groups: 0,
        names: Vec::new(),
        atom: false,
        repeated: false,
    };
    while let Some(byte) = t.cursor.bump() {
        t.step(byte)?;
    }
    if !t.open.is_empty() {
        return Err("a `(` is not closed".into());
    }
    let text = t.out.replace(SEAM, if t.fancy { SEAM_FANCY } else { "" });
    Ok(Translated { text, fancy: t.fancy, regular: t.regular, is_regular: t.is_regular })
}

impl<'a> Translator<'a> {
    fn step(&mut self, byte: u8) -> Result<(), String> {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 11 | 12 if self.flags.verbose => {}
            b'#' if self.flags.verbose => while self.cursor.bump().is_some_and(|b| b != b'\n') {},
            b'\\' => {
                let escape = self.cursor.escape(false)?;
                self.escape(escape)?;
            }
            b'[' => {
                let class = self.cursor.class()?;
                self.push_atom(&class);
            }
            b'.' => self.push_atom("."),
            b'^' => self.push_anchor("^"),
            b'$' => self.dollar(),
            b'|' => self.push_anchor("|"),
            b'(' => self.group()?,
            b')' => {
                let Some((flags, looks_around)) = self.open.pop() else {
                    return Err("a `)` closes nothing".into());
                };
                self.flags = flags;
                self.around -= usize::from(looks_around);
                self.push_atom(")");
            }
            b'*' => self.repeat("*")?,
            b'+' => self.repeat("+")?,
            b'?' => self.repeat("?")?,
            b'{' => self.brace()?,
            literal => self.literal(literal),
        }
        Ok(())
    }

    fn literal(&mut self, byte: u8) {
        if byte.is_ascii_alphanumeric() {
            self.push_atom(char::from(byte).encode_utf8(&mut [0; 4]));
        } else {
            let mut text = String::with_capacity(4);
            push_hex(&mut text, byte);
            self.push_atom(&text);
        }
    }

    fn push_atom(&mut self, text: &str) {
        self.push(text, text);
        (self.atom, self.repeated) = (true, false);
    }

    fn push_anchor(&mut self, text: &str) {
        self.push(text, text);
        (self.atom, self.repeated) = (false, false);
    }

    fn push(&mut self, exact: &str, regular: &str) {
        self.out.push_str(exact);
        if self.around == 0 {
            self.regular.push_str(regular);
        }
    }

    /// Something that automata cannot do.
    fn irregular(&mut self) {
        self.fancy = true;
        self.is_regular = false;
    }

    /// The text of a group again: an automaton only knows that there may be any.
    fn push_reference(&mut self, exact: &str) {
        self.irregular();
        self.push(exact, "(?:(?s:.)*)");
        (self.atom, self.repeated) = (true, false);
    }

    fn escape(&mut self, escape: Escape) -> Result<(), String> {
        match escape {
            Escape::Byte(byte) => self.literal(byte),
            Escape::Set(set) => self.push_atom(&format!("\\{set}")),
            // Python's \Z is the very end.
            Escape::Anchor('Z') => self.push_anchor(r"\z"),
            Escape::Anchor(anchor) => self.push_anchor(&format!("\\{anchor}")),
            Escape::Group(group) if group > self.groups => return Err(format!("there is no group {group}")),
            Escape::Group(group) => {
                self.push_reference(&format!("(?:\\{group})"));
            }
        }
        Ok(())
    }

    /// Matches at the end, and before a newline that is the last character. A line has no other newline.
    fn dollar(&mut self) {
        let rest = self.cursor.rest();
        let looks_around = self.open.iter().any(|(_, around)| *around);
        // Where nothing can follow, taking the newline along is the same as looking at it.
        let last = rest.iter().all(|b| *b == b')') || (self.open.is_empty() && rest.first() == Some(&b'|'));
        let exact = if self.flags.multi_line {
            "$"
        } else if last && !looks_around {
            r"(?:\n?\z)"
        } else {
            self.fancy = true;
            r"(?=\n?\z)"
        };
        self.push(exact, "(?m:$)");
        (self.atom, self.repeated) = (false, false);
    }

    fn repeat(&mut self, operator: &str) -> Result<(), String> {
        if self.repeated {
            return Err(format!("`{operator}` repeats a repetition; put the inner one in (?:...)"));
        }
        if !self.atom {
            return Err(format!("`{operator}` has nothing to repeat"));
        }
        self.push(operator, operator);
        if self.cursor.eat("?") {
            self.push("?", "?");
        } else if self.cursor.eat("+") {
            if operator.starts_with('{') {
                return Err("`{...}+` is not supported; write (?>...) around it".into());
            }
            self.irregular();
            self.push("+", "");
        }
        self.out.push(SEAM);
        (self.atom, self.repeated) = (false, true);
        Ok(())
    }

    /// `{n}`, `{n,}`, `{,m}`, `{n,m}`; anything else is a brace that means itself.
    fn brace(&mut self) -> Result<(), String> {
        let rest = self.cursor.rest();
        let inner =
            rest.iter().position(|b| *b == b'}').and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        let is_count =
            |inner: &&str| !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_digit() || b == b',');
        let Some(inner) = inner.filter(is_count).filter(|i| i.matches(',').count() <= 1) else {
            self.literal(b'{');
            return Ok(());
        };
        self.cursor.eat(inner);
        self.cursor.eat("}");
        let (low, high) = inner.split_once(',').map_or((inner, None), |(low, high)| (low, Some(high)));
        let low = if low.is_empty() { "0" } else { low };
        self.repeat(&match high {
            None => format!("{{{low}}}"),
            Some(high) => format!("{{{low},{high}}}"),
        })
    }

    fn begin(&mut self, text: &str, inside: Flags) {
        self.open.push((self.flags, false));
        self.flags = inside;
        self.push_anchor(text);
    }

    /// A group that automata do not have: of one that looks around they only see that there is one.
    fn begin_fancy(&mut self, opening: &str, looks_around: bool) {
        self.irregular();
        self.open.push((self.flags, looks_around));
        self.push(&format!("(?{opening}"), "(?:");
        (self.atom, self.repeated) = (false, false);
        self.around += usize::from(looks_around);
    }

    fn group(&mut self) -> Result<(), String> {
        if !self.cursor.eat("?") {
            self.groups += 1;
            self.begin("(", self.flags);
            return Ok(());
        }
        for (opening, looks_around) in [("=", true), ("!", true), ("<=", true), ("<!", true), (">", false)] {
            if self.cursor.eat(opening) {
                self.begin_fancy(opening, looks_around);
                return Ok(());
            }
        }
        if self.cursor.eat(":") {
            self.begin("(?:", self.flags);
        } else if self.cursor.eat("P<") {
            self.named_group()?;
        } else if self.cursor.eat("P=") {
            let name = self.cursor.until(b')').ok_or("a `(?P=` is not closed")?;
            let number = self.names.iter().position(|known| *known == name);
            if number.is_none() {
                return Err(format!("there is no group named {name:?}"));
            }
            self.push_reference(&format!("(?P={name})"));
        } else if self.cursor.eat("#") {
            self.cursor.until(b')').ok_or("a comment is not closed")?;
        } else if self.cursor.eat("(") {
            return Err("conditional groups `(?(...)...)` are not supported; write two alternatives".into());
        } else {
            self.flag_group()?;
        }
        Ok(())
    }

    fn named_group(&mut self) -> Result<(), String> {
        let name = self.cursor.until(b'>').ok_or("a group's name is not closed")?;
        let fine = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !fine || self.names.contains(&name) {
            return Err(format!("{name:?} cannot be a group's name, or is one already"));
        }
        self.names.push(name);
        self.groups += 1;
        self.begin(&format!("(?P<{name}>"), self.flags);
        Ok(())
    }

    /// `(?im)` at the beginning, `(?i-s:...)` anywhere.
    fn flag_group(&mut self) -> Result<(), String> {
        let start = self.cursor.at();
        let (mut on, mut off, mut negative) = (String::new(), String::new(), false);
        let mut flags = self.flags;
        loop {
            let Some(byte) = self.cursor.bump() else { return Err("a `(?` is not closed".into()) };
            match byte {
                b'-' if !negative => negative = true,
                b'i' | b's' | b'm' => {
                    if byte == b'm' {
                        flags.multi_line = !negative;
                    }
                    if negative { off.push(byte.into()) } else { on.push(byte.into()) }
                }
                b'x' => flags.verbose = !negative,
                // Byte regexes are ASCII already.
                b'a' if !negative => {}
                b')' if !negative => {
                    // Two characters are `(?`.
                    if start != 2 {
                        return Err("flags for the whole pattern stand at its beginning".into());
                    }
                    self.flags = flags;
                    if !on.is_empty() {
                        self.push_anchor(&format!("(?{on})"));
                    }
                    return Ok(());
                }
                b':' => {
                    let minus = if off.is_empty() { "" } else { "-" };
                    self.begin(&format!("(?{on}{minus}{off}:"), flags);
                    return Ok(());
                }
                _ => return Err("an extension `(?...` is not one of Python's byte regexes".into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_languages_share_stays_and_the_rest_is_written_anew() {
        let table = [
            ("abc", "abc"),
            (r"a\.b", r"a\x2Eb"),
            (r"\<", r"\x3C"),
            ("[a&&b]", r"[\x61\x26\x26\x62]"),
            ("[]a]", r"[\x5D\x61]"),
            (r"[^\]-a]", r"[^\x5D-\x61]"),
            (r"[\d \.]", r"[\d\x20\x2E]"),
            ("[a-]", r"[\x61\x2D]"),
            ("a{,3}", "a{0,3}"),
            ("a{x}", r"a\x7Bx\x7D"),
            (r"a\Z", r"a\z"),
            ("(?x) a b # c\n", "ab"),
            ("(?i)a", "(?i)a"),
            ("(?i:a)b", "(?i:a)b"),
            ("é", r"\xC3\xA9"),
            (r"\0\101", r"\x00A"),
        ];
        for (python, ours) in table {
            let translated = translate(python).unwrap();
            assert_eq!((translated.text.as_str(), translated.regular.as_str()), (ours, ours), "{python}");
            assert!(!translated.fancy && translated.is_regular, "{python}");
        }
    }

    #[test]
    fn what_needs_backtracking_is_told_and_automata_get_what_matches_more() {
        let table = [
            ("a(?=b(c))d", "a(?=b(c))d", "a(?:)d"),
            ("(?<!a)*b", "(?<!a)*(?=)b", "(?:)*b"),
            (r"(a)\1", r"(a)(?:\1)", "(a)(?:(?s:.)*)"),
            ("(?P<n>a)(?P=n)", "(?P<n>a)(?P=n)", "(?P<n>a)(?:(?s:.)*)"),
            ("a++b", "a++(?=)b", "a+b"),
            ("(?>a)b$c", r"(?>a)b(?=\n?\z)c", "(?:a)b(?m:$)c"),
        ];
        for (python, exact, superset) in table {
            let translated = translate(python).unwrap();
            assert_eq!(
                (translated.text.as_str(), translated.regular.as_str()),
                (exact, superset),
                "{python}"
            );
            assert!(translated.fancy && !translated.is_regular, "{python}");
        }
    }

    #[test]
    fn the_end_of_a_line_is_regular_even_where_the_end_of_a_text_is_not() {
        let table = [
            ("a$", r"a(?:\n?\z)", "a(?m:$)", false),
            ("(a|b$)", r"(a|b(?:\n?\z))", "(a|b(?m:$))", false),
            ("(?:a)|b$|c", r"(?:a)|b(?:\n?\z)|c", "(?:a)|b(?m:$)|c", false),
            ("(?m)a$", "(?m)a$", "(?m)a(?m:$)", false),
            (r"a$\n", r"a(?=\n?\z)\x0A", r"a(?m:$)\x0A", true),
        ];
        for (python, exact, regular, fancy) in table {
            let translated = translate(python).unwrap();
            assert_eq!((translated.text.as_str(), translated.regular.as_str()), (exact, regular), "{python}");
            assert_eq!((translated.fancy, translated.is_regular), (fancy, true), "{python}");
        }
    }

    #[test]
    fn what_python_refuses_or_we_cannot_is_refused() {
        let bad = [
            "(",
            ")",
            "[",
            "[z-a]",
            r"[\w-z]",
            "*a",
            "a**",
            "a{2}{3}",
            r"\q",
            r"\x1",
            r"\2",
            "(?P=n)",
            "a(?i)b",
            "(?u)a",
            "(?(1)a|b)",
            r"\K",
            r"\p{L}",
            "\\",
            "(?P<1>a)",
            r"[\1]",
            "(?<n>a)",
            "a{2}+",
            r"\777",
        ];
        for pattern in bad {
            assert!(translate(pattern).is_err(), "{pattern}");
        }
    }
}
