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

/// A pattern in the engines' language.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    pub(crate) text: String,
    /// It needs the backtracking engine.
    pub(crate) fancy: bool,
}

/// Flags that change how the rest of a group is read.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    multi_line: bool,
    verbose: bool,
}

struct Translator<'a> {
    cursor: Cursor<'a>,
    out: String,
    fancy: bool,
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
        fancy: false,
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
    Ok(Translated { text: t.out.replace(SEAM, if t.fancy { SEAM_FANCY } else { "" }), fancy: t.fancy })
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
                let Some((flags, _)) = self.open.pop() else { return Err("a `)` closes nothing".into()) };
                self.flags = flags;
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
            push_hex(&mut self.out, byte);
            (self.atom, self.repeated) = (true, false);
        }
    }

    fn push_atom(&mut self, text: &str) {
        self.out.push_str(text);
        (self.atom, self.repeated) = (true, false);
    }

    fn push_anchor(&mut self, text: &str) {
        self.out.push_str(text);
        (self.atom, self.repeated) = (false, false);
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
                self.fancy = true;
                self.push_atom(&format!("(?:\\{group})"));
            }
        }
        Ok(())
    }

    /// Matches at the end, and before a newline that is the last character.
    fn dollar(&mut self) {
        let rest = self.cursor.rest();
        let looks_around = self.open.iter().any(|(_, around)| *around);
        // Where nothing can follow, taking the newline along is the same as looking at it.
        let last = rest.iter().all(|b| *b == b')') || (self.open.is_empty() && rest.first() == Some(&b'|'));
        if self.flags.multi_line {
            self.push_anchor("$");
        } else if last && !looks_around {
            self.push_anchor(r"(?:\n?\z)");
        } else {
            self.fancy = true;
            self.push_anchor(r"(?=\n?\z)");
        }
    }

    fn repeat(&mut self, operator: &str) -> Result<(), String> {
        if self.repeated {
            return Err(format!("`{operator}` repeats a repetition; put the inner one in (?:...)"));
        }
        if !self.atom {
            return Err(format!("`{operator}` has nothing to repeat"));
        }
        self.out.push_str(operator);
        if self.cursor.eat("?") {
            self.out.push('?');
        } else if self.cursor.eat("+") {
            if operator.starts_with('{') {
                return Err("`{...}+` is not supported; write (?>...) around it".into());
            }
            self.fancy = true;
            self.out.push('+');
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

    fn begin(&mut self, text: &str, looks_around: bool, inside: Flags) {
        self.open.push((self.flags, looks_around));
        self.flags = inside;
        self.push_anchor(text);
    }

    fn group(&mut self) -> Result<(), String> {
        if !self.cursor.eat("?") {
            self.groups += 1;
            self.begin("(", false, self.flags);
            return Ok(());
        }
        for (opening, looks_around) in [("=", true), ("!", true), ("<=", true), ("<!", true), (">", false)] {
            if self.cursor.eat(opening) {
                self.fancy = true;
                self.begin(&format!("(?{opening}"), looks_around, self.flags);
                return Ok(());
            }
        }
        if self.cursor.eat(":") {
            self.begin("(?:", false, self.flags);
        } else if self.cursor.eat("P<") {
            self.named_group()?;
        } else if self.cursor.eat("P=") {
            let name = self.cursor.until(b')').ok_or("a `(?P=` is not closed")?;
            let number = self.names.iter().position(|known| *known == name);
            if number.is_none() {
                return Err(format!("there is no group named {name:?}"));
            }
            self.fancy = true;
            self.push_atom(&format!("(?P={name})"));
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
        self.begin(&format!("(?P<{name}>"), false, self.flags);
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
                    self.begin(&format!("(?{on}{minus}{off}:"), false, flags);
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

    fn text(pattern: &str) -> String {
        translate(pattern).unwrap().text
    }

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
            ("a$", r"a(?:\n?\z)"),
            ("(?m)a$", "(?m)a$"),
            ("(?x) a b # c\n", "ab"),
            ("(?i)a", "(?i)a"),
            ("(?i:a)b", "(?i:a)b"),
            ("é", r"\xC3\xA9"),
            (r"\0\101", r"\x00A"),
        ];
        for (python, ours) in table {
            assert_eq!(text(python), ours, "{python}");
        }
    }

    #[test]
    fn what_needs_backtracking_is_told() {
        for pattern in ["a(?=b)", "(?<!a)b", r"(a)\1", "(?P<n>a)(?P=n)", "a++b", "(?>a)b", "a$\\n"] {
            assert!(translate(pattern).unwrap().fancy, "{pattern}");
        }
        for pattern in ["a+b", "a$", "(a|b$)", "(?:a)|b$|c"] {
            assert!(!translate(pattern).unwrap().fancy, "{pattern}");
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
