//! A template's text cut into literal text and the tokens inside of tags, as Jinja2's default configuration cuts it.

use std::{fmt, ops::Range, rc::Rc};

use super::failure::{Failure, Outcome};

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Text(Range<usize>),
    PrintStart,
    PrintEnd,
    BlockStart,
    BlockEnd,
    Name(Rc<str>),
    Str(Rc<str>),
    Int(i128),
    Float(f64),
    Sign(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("text"),
            Self::PrintStart => f.write_str("`{{`"),
            Self::PrintEnd => f.write_str("`}}`"),
            Self::BlockStart => f.write_str("`{%`"),
            Self::BlockEnd => f.write_str("`%}`"),
            Self::Name(name) => write!(f, "`{}`", name.chars().take(40).collect::<String>()),
            Self::Str(_) => f.write_str("a text"),
            Self::Int(_) | Self::Float(_) => f.write_str("a number"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
            Self::End => f.write_str("the end of the file"),
        }
    }
}

/// Longer ones first.
const SIGNS: [&str; 27] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";", "!",
];

/// Levels of brackets in one tag.
const MAX_BRACKETS: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Literal,
    Print,
    Block,
}

/// Gives one token after the other.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    state: State,
    /// Offset of the open tag.
    tag: usize,
    /// What closes each open bracket.
    brackets: Vec<&'static str>,
}

/// What Python's `str.isspace` and its `\s` take for a blank.
pub(crate) fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, state: State::Literal, tag: 0, brackets: Vec::new() }
    }

    /// The next token and its offset; that of a tag's start is the offset of its `{`.
    pub(crate) fn next(&mut self) -> Outcome<(Token, usize)> {
        match self.state {
            State::Literal => self.literal(),
            State::Print | State::Block => self.in_tag(),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_blank).len();
    }

    /// Literal text up to the next tag; comments and raw blocks are dealt with here.
    fn literal(&mut self) -> Outcome<(Token, usize)> {
        loop {
            let start = self.at;
            let Some(tag) = find_tag(self.text, start) else {
                self.at = self.text.len();
                let token = if start == self.at { Token::End } else { Token::Text(start..self.at) };
                return Ok((token, start));
            };
            let strips = self.text[tag + 2..].starts_with('-');
            let end = if strips { trimmed_end(self.text, start, tag) } else { tag };
            if end > start {
                // The tag itself is read by the next call.
                self.at = tag;
                return Ok((Token::Text(start..end), start));
            }
            self.at = tag;
            if self.rest().starts_with("{#") {
                self.comment()?;
            } else if let Some(range) = self.raw()? {
                if !range.is_empty() {
                    return Ok((Token::Text(range.clone()), range.start));
                }
            } else {
                return Ok(self.open_tag());
            }
        }
    }

    fn open_tag(&mut self) -> (Token, usize) {
        let print = self.rest().starts_with("{{");
        self.tag = self.at;
        self.at += 2;
        if self.rest().starts_with(['-', '+']) {
            self.at += 1;
        }
        self.brackets.clear();
        self.state = if print { State::Print } else { State::Block };
        (if print { Token::PrintStart } else { Token::BlockStart }, self.tag)
    }

    fn comment(&mut self) -> Outcome<()> {
        let start = self.at;
        let Some(length) = self.text[start + 2..].find("#}") else {
            return Err(Failure::syntax(start, "this comment has no end").helped("close it with `#}`"));
        };
        let end = start + 2 + length;
        self.at = end + 2;
        if self.text[start + 2..end].ends_with('-') {
            self.skip_blanks();
        }
        Ok(())
    }

    /// If a raw block begins here: its text.
    fn raw(&mut self) -> Outcome<Option<Range<usize>>> {
        let start = self.at;
        let Some((mut from, strip)) = basic_tag(self.text, start, "raw") else { return Ok(None) };
        if strip {
            from += self.text[from..].len() - self.text[from..].trim_start_matches(is_blank).len();
        }
        let mut search = from;
        while let Some(found) = self.text[search..].find("{%") {
            let tag = search + found;
            if let Some((after, strip)) = basic_tag(self.text, tag, "endraw") {
                let to = if self.text[tag + 2..].starts_with('-') {
                    trimmed_end(self.text, from, tag)
                } else {
                    tag
                };
                self.at = after;
                if strip {
                    self.skip_blanks();
                }
                return Ok(Some(from..to));
            }
            search = tag + 2;
        }
        Err(Failure::syntax(start, "this raw block has no end").helped("close it with {% endraw %}"))
    }

    fn in_tag(&mut self) -> Outcome<(Token, usize)> {
        self.skip_blanks();
        let at = self.at;
        let Some(first) = self.rest().chars().next() else {
            let close = if self.state == State::Print { "}}" } else { "%}" };
            return Err(Failure::syntax(self.tag, "the template is not complete: this tag has no end")
                .helped(format!("close it with `{close}`")));
        };
        if self.brackets.is_empty()
            && let Some(token) = self.close_tag()
        {
            return Ok((token, at));
        }
        if first.is_ascii_digit() {
            return Ok((self.number()?, at));
        }
        if first == '_' || first.is_alphanumeric() {
            let rest = self.rest();
            let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
            self.at += end;
            return Ok((Token::Name(Rc::from(&rest[..end])), at));
        }
        if first == '\'' || first == '"' {
            return Ok((self.string(first)?, at));
        }
        self.sign().map(|token| (token, at))
    }

    fn close_tag(&mut self) -> Option<Token> {
        let rest = self.rest();
        let (close, token) = match self.state {
            State::Print => ("}}", Token::PrintEnd),
            _ => ("%}", Token::BlockEnd),
        };
        let bare = rest.strip_prefix('-');
        let plus = if self.state == State::Block { rest.strip_prefix('+') } else { None };
        if bare.is_some_and(|r| r.starts_with(close)) {
            self.at += 3;
            self.skip_blanks();
        } else if plus.is_some_and(|r| r.starts_with(close)) {
            self.at += 3;
        } else if rest.starts_with(close) {
            self.at += 2;
        } else {
            return None;
        }
        self.state = State::Literal;
        Some(token)
    }

    fn sign(&mut self) -> Outcome<Token> {
        let rest = self.rest();
        let Some(sign) = SIGNS.into_iter().find(|s| rest.starts_with(s) && *s != "!") else {
            let c: String = rest.chars().take(1).collect();
            return Err(Failure::syntax(
                self.at,
                format!("`{}` has no meaning in a tag", c.escape_default()),
            ));
        };
        match sign {
            "(" | "[" | "{" => {
                if self.brackets.len() == MAX_BRACKETS {
                    return Err(Failure::syntax(self.at, "brackets are nested too deeply"));
                }
                self.brackets.push(match sign {
                    "(" => ")",
                    "[" => "]",
                    _ => "}",
                });
            }
            ")" | "]" | "}" => match self.brackets.pop() {
                Some(expected) if expected == sign => {}
                Some(expected) => {
                    return Err(Failure::syntax(self.at, format!("`{sign}` where `{expected}` is expected")));
                }
                None => return Err(Failure::syntax(self.at, format!("`{sign}` closes nothing"))),
            },
            _ => {}
        }
        self.at += sign.len();
        Ok(Token::Sign(sign))
    }

    /// Integers with `_` and the bases 2, 8, 16; floats with a fraction or an exponent.
    fn number(&mut self) -> Outcome<Token> {
        let at = self.at;
        let rest = self.rest();
        let too_large = || Failure::syntax(at, "this number is too large");
        for (prefix, base) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            let lower = rest.get(..2).map(str::to_ascii_lowercase);
            if lower.as_deref() == Some(prefix) {
                let digits = digits(&rest[2..], |c| c.is_digit(base));
                self.at += 2 + digits;
                let plain = rest[2..2 + digits].replace('_', "");
                return i128::from_str_radix(&plain, base).map(Token::Int).map_err(|_| too_large());
            }
        }
        let decimal = |c: char| c.is_ascii_digit();
        let mut end = digits(rest, decimal);
        let mut float = false;
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(decimal) {
            end += 1 + digits(&rest[end + 1..], decimal);
            float = true;
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            if rest[end + 1 + sign..].starts_with(decimal) {
                end += 1 + sign + digits(&rest[end + 1 + sign..], decimal);
                float = true;
            }
        }
        self.at += end;
        let plain = rest[..end].replace('_', "");
        if float {
            plain.parse().map(Token::Float).map_err(|_| too_large())
        } else {
            plain.parse().map(Token::Int).map_err(|_| too_large())
        }
    }

    fn string(&mut self, quote: char) -> Outcome<Token> {
        let start = self.at;
        let mut out = String::new();
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((offset, c)) = chars.next() {
            if c == quote {
                self.at = start + 1 + offset + 1;
                return Ok(Token::Str(Rc::from(out)));
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let Some((at, escape)) = chars.next() else { break };
            let rest = &self.text[start + 1 + at..];
            let used = unescape(escape, rest, &mut out)
                .ok_or_else(|| Failure::syntax(start + 1 + offset, "this escape is not complete"))?;
            for _ in 0..used {
                chars.next();
            }
        }
        Err(Failure::syntax(start, "this text has no end").helped(format!("close it with `{quote}`")))
    }
}

/// One escape of a Python text. `rest` begins at the character after the backslash; answers how many characters
/// after that one belong to it.
fn unescape(escape: char, rest: &str, out: &mut String) -> Option<usize> {
    let code = |digits: &str, base| u32::from_str_radix(digits, base).ok().and_then(char::from_u32);
    let simple = match escape {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        '\\' | '\'' | '"' => escape,
        '\n' => return Some(0),
        'x' | 'u' | 'U' => {
            let length = match escape {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let digits = rest.get(1..=length).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            out.push(code(digits, 16)?);
            return Some(length);
        }
        '0'..='7' => {
            let length = rest.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
            out.push(code(&rest[..length], 8)?);
            return Some(length - 1);
        }
        'N' => return None,
        other => {
            out.push('\\');
            other
        }
    };
    out.push(simple);
    Some(0)
}

/// Bytes of digits, with single `_` between them.
fn digits(text: &str, is_digit: impl Fn(char) -> bool) -> usize {
    let mut end = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let joins = c == '_' && chars.peek().is_some_and(|(_, next)| is_digit(*next));
        if !is_digit(c) && !joins {
            break;
        }
        end = at + 1;
    }
    end
}

fn find_tag(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(found) = text[at..].find('{') {
        at += found;
        if matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#')) {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn trimmed_end(text: &str, from: usize, to: usize) -> usize {
    from + text[from..to].trim_end_matches(is_blank).len()
}

/// If the tag `{% name %}` stands at `at`: the offset behind it, and whether it strips what follows.
fn basic_tag(text: &str, at: usize, name: &str) -> Option<(usize, bool)> {
    let rest = text[at..].strip_prefix("{%")?;
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start_matches(is_blank);
    let rest = rest.strip_prefix(name)?.trim_start_matches(is_blank);
    let strips = rest.starts_with('-');
    let closing_plus = name == "endraw" && rest.starts_with('+');
    let rest = if strips || closing_plus { &rest[1..] } else { rest }.strip_prefix("%}")?;
    Some((text.len() - rest.len(), strips))
}
