//! The smallest parts of Python's byte regexes: escapes and character classes.
//!
//! Classes are written anew, byte by byte: what stands between brackets means something else in the engines
//! (nested classes, `&&`, `--`), and nothing of that may creep in.

use std::fmt::Write as _;

/// What an escape stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// One byte.
    Byte(u8),
    /// `d D s S w W`.
    Set(char),
    /// `A Z b B`.
    Anchor(char),
    /// A group's text again.
    Group(u32),
}

/// Reads a pattern byte by byte.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(pattern: &'a str) -> Self {
        Self { bytes: pattern.as_bytes(), at: 0 }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(crate) fn bump(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    pub(crate) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text.as_bytes());
        if found {
            self.at += text.len();
        }
        found
    }

    /// Everything before `end`, which is skipped too.
    pub(crate) fn until(&mut self, end: u8) -> Option<&'a str> {
        let length = self.rest().iter().position(|b| *b == end)?;
        let text = std::str::from_utf8(&self.rest()[..length]).ok()?;
        self.at += length + 1;
        Some(text)
    }

    fn octal(&mut self, first: u32, most: usize) -> u32 {
        let mut value = first;
        for _ in 0..most {
            match self.peek() {
                Some(digit @ b'0'..=b'7') => value = value * 8 + u32::from(digit - b'0'),
                _ => break,
            }
            self.at += 1;
        }
        value
    }

    /// After a backslash.
    pub(crate) fn escape(&mut self, in_class: bool) -> Result<Escape, String> {
        let Some(c) = self.bump() else { return Err("it ends in a backslash".into()) };
        Ok(match c {
            b'd' | b'D' | b's' | b'S' | b'w' | b'W' => Escape::Set(c.into()),
            b'b' if in_class => Escape::Byte(8),
            b'A' | b'Z' | b'b' | b'B' if !in_class => Escape::Anchor(c.into()),
            b'a' => Escape::Byte(7),
            b'f' => Escape::Byte(12),
            b'n' => Escape::Byte(b'\n'),
            b'r' => Escape::Byte(b'\r'),
            b't' => Escape::Byte(b'\t'),
            b'v' => Escape::Byte(11),
            b'x' => Escape::Byte(self.hex()?),
            b'0' => Escape::Byte(octal_byte(self.octal(0, 2))?),
            b'1'..=b'9' => self.number(c, in_class)?,
            c if c.is_ascii_alphabetic() => {
                return Err(format!("`\\{}` has no meaning in a Python byte regex", char::from(c)));
            }
            c => Escape::Byte(c),
        })
    }

    fn hex(&mut self) -> Result<u8, String> {
        let digits = self.rest().first_chunk::<2>().and_then(|d| std::str::from_utf8(d).ok());
        let value = digits
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|d| u8::from_str_radix(d, 16).ok())
            .ok_or("`\\x` takes two hexadecimal digits")?;
        self.at += 2;
        Ok(value)
    }

    /// Three octal digits are a byte, one or two digits are a group.
    fn number(&mut self, first: u8, in_class: bool) -> Result<Escape, String> {
        let octal = |b: &u8| (b'0'..=b'7').contains(b);
        let next = self.rest();
        let is_octal = octal(&first) && next.len() >= 2 && next[..2].iter().all(octal);
        if is_octal {
            return Ok(Escape::Byte(octal_byte(self.octal(u32::from(first - b'0'), 2))?));
        }
        if in_class {
            return Err(format!("`\\{}` has no meaning between brackets", char::from(first)));
        }
        let mut group = u32::from(first - b'0');
        if let Some(digit @ b'0'..=b'9') = self.peek() {
            group = group * 10 + u32::from(digit - b'0');
            self.at += 1;
        }
        Ok(Escape::Group(group))
    }

    /// After `[`: the class in the engines' language.
    pub(crate) fn class(&mut self) -> Result<String, String> {
        const OPEN: &str = "a `[` is not closed";
        let mut out = String::from("[");
        if self.eat("^") {
            out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.bump().ok_or(OPEN)?;
            if c == b']' && !first {
                out.push(']');
                return Ok(out);
            }
            first = false;
            let low = self.class_item(c)?;
            let is_range = self.peek() == Some(b'-') && self.rest().get(1).is_some_and(|b| *b != b']');
            if !is_range {
                match low {
                    Escape::Byte(byte) => push_hex(&mut out, byte),
                    Escape::Set(set) => out.extend(['\\', set]),
                    Escape::Anchor(_) | Escape::Group(_) => {
                        return Err("no such thing between brackets".into());
                    }
                }
                continue;
            }
            self.at += 1;
            let c = self.bump().ok_or(OPEN)?;
            match (low, self.class_item(c)?) {
                (Escape::Byte(low), Escape::Byte(high)) if low <= high => {
                    push_hex(&mut out, low);
                    out.push('-');
                    push_hex(&mut out, high);
                }
                _ => {
                    return Err("a range between brackets is not from a smaller to a larger character".into());
                }
            }
        }
    }

    fn class_item(&mut self, c: u8) -> Result<Escape, String> {
        if c == b'\\' { self.escape(true) } else { Ok(Escape::Byte(c)) }
    }
}

fn octal_byte(value: u32) -> Result<u8, String> {
    u8::try_from(value).map_err(|_| "an octal escape is larger than \\377".to_owned())
}

/// A byte that means itself, wherever it stands.
pub(crate) fn push_hex(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\x{byte:02X}");
}
