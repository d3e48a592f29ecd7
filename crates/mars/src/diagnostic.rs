//! What is wrong in a farm file, where, and what to do about it, as text for a person.

use std::fmt::{self, Write as _};

/// More than this is not shown: the first ones usually cause the rest.
const MOST_SHOWN: usize = 20;
/// Longest piece of a line that is quoted, in characters.
const LONGEST_LINE: usize = 160;

/// A place in the file: a byte range, and line and column (in characters) counted from 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// First byte and the byte after the last.
    pub bytes: std::ops::Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The line of the file, with a mark below the place.
    pub snippet: String,
}

impl Diagnostic {
    pub(crate) fn new(text: &str, place: &Place, message: String, remedy: String) -> Self {
        Self { snippet: snippet(text, place), place: place.clone(), message, remedy }
    }

    /// All of it, in lines, with `name` as the name of the file.
    pub fn render(&self, name: &str) -> String {
        let Place { line, column, .. } = self.place;
        let mut text = format!("{name}:{line}:{column}: {}\n{}", self.message, self.snippet);
        if !self.remedy.is_empty() {
            // A String takes everything.
            let _ = write!(text, "\n  fix: {}", self.remedy);
        }
        text
    }
}

fn snippet(text: &str, place: &Place) -> String {
    let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
    // Long lines are cut around the place; a tab or control character must not move the mark or touch a terminal.
    let before = place.column.saturating_sub(1);
    let skip = before.saturating_sub(LONGEST_LINE / 2);
    let shown: String =
        line.chars().skip(skip).take(LONGEST_LINE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let here = text.get(place.bytes.clone()).unwrap_or_default();
    let length = here.lines().next().map_or(0, |l| l.trim_end().chars().count());
    let room = shown.chars().count().saturating_sub(before - skip);
    let mark = "^".repeat(length.clamp(1, room.max(1)));
    let number = place.line.to_string();
    let (gap, indent) = (" ".repeat(number.len()), " ".repeat(before - skip));
    format!("  {number} | {shown}\n  {gap} | {indent}{mark}")
}

/// The farm file cannot be used as it is. `Display` is the whole text: file, line, column, the line itself, remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarmError {
    name: String,
    findings: Vec<Diagnostic>,
}

impl FarmError {
    pub(crate) fn new(name: &str, findings: Vec<Diagnostic>) -> Self {
        Self { name: name.to_owned(), findings }
    }

    /// Everything that is wrong, in the order of the file.
    pub fn findings(&self) -> &[Diagnostic] {
        &self.findings
    }
}

impl fmt::Display for FarmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.findings.iter().take(MOST_SHOWN).enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&finding.render(&self.name))?;
        }
        let hidden = self.findings.len().saturating_sub(MOST_SHOWN);
        if hidden > 0 { write!(f, "\n\nand {hidden} more") } else { Ok(()) }
    }
}

impl std::error::Error for FarmError {}
