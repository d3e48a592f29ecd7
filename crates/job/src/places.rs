//! From a place of the rendered text to the place of the author's file that it comes from.
//!
//! The engine keeps the origin of each piece of its output, so this is exact: literal text is found to the
//! character, what a tag made is found at the tag, and what a loop repeats also names the loop. The engine reads
//! texts with `\n` alone; [`Body`] knows where the author's own line ends were.

use crate::{error::Place, template::Segment};

/// The part of an author's file that is a template, with every line end as `\n`.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) text: String,
    /// Offset in the author's file where it begins.
    base: usize,
    /// Offsets in `text` of each `\n` that was `\r\n`.
    shortened: Vec<usize>,
}

impl Body {
    /// The file from an offset on.
    pub(crate) fn new(source: &str, base: usize) -> Self {
        let from = source.get(base..).unwrap_or_default();
        let mut text = String::with_capacity(from.len());
        let mut shortened = Vec::new();
        let mut rest = from;
        while let Some(at) = rest.find('\r') {
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('\n') {
                shortened.push(text.len());
                rest = after;
            }
            text.push('\n');
        }
        text.push_str(rest);
        Self { text, base, shortened }
    }

    /// The place in the author's file of an offset in [`Body::text`].
    pub(crate) fn place(&self, source: &str, offset: usize) -> Place {
        place_of(source, self.source_offset(offset))
    }

    fn source_offset(&self, offset: usize) -> usize {
        source_offset(self.base, &self.shortened, offset)
    }
}

fn source_offset(base: usize, shortened: &[usize], offset: usize) -> usize {
    base + offset + shortened.partition_point(|end| *end < offset)
}

/// Line and column of an offset, both from 1; a line ends with `\n`, as the lines do that are shown.
fn place_of(text: &str, offset: usize) -> Place {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    // A byte order mark takes no column.
    let mark = usize::from(line_start == 0 && before.starts_with('\u{feff}'));
    Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 - mark }
}

/// Where each piece of a rendered text comes from.
#[derive(Debug)]
pub(crate) struct LineMap {
    segments: Vec<Segment>,
    base: usize,
    shortened: Vec<usize>,
}

/// Where a place of the rendered text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// In the author's file.
    pub(crate) place: Place,
    /// Line of the innermost loop around it.
    pub(crate) loop_line: Option<usize>,
}

impl LineMap {
    pub(crate) fn new(body: &Body, segments: Vec<Segment>) -> Self {
        Self { segments, base: body.base, shortened: body.shortened.clone() }
    }

    /// For a text that was not rendered.
    pub(crate) fn literal(body: &Body) -> Self {
        Self::new(body, vec![Segment { start: 0, from: 0, literal: true, in_loop: None }])
    }

    /// Where a place of the rendered text comes from. Its lines end with `\n`, `\r` or both, as YAML's do.
    pub(crate) fn origin(&self, source: &str, rendered: &str, at: Place) -> Origin {
        let offset = offset_of(rendered, at);
        let index = self.segments.partition_point(|s| s.start <= offset).saturating_sub(1);
        let Some(segment) = self.segments.get(index) else {
            return Origin { place: place_of(source, self.base), loop_line: None };
        };
        let from =
            if segment.literal { segment.from + (offset - segment.start.min(offset)) } else { segment.from };
        let place = |offset| place_of(source, source_offset(self.base, &self.shortened, offset));
        Origin { place: place(from), loop_line: segment.in_loop.map(|at| place(at).line) }
    }
}

/// The byte offset of a place.
fn offset_of(text: &str, at: Place) -> usize {
    let line = line_range(text, at.line);
    let column = text[line.clone()].char_indices().nth(at.column.saturating_sub(1)).map(|(at, _)| at);
    column.map_or(line.end, |column| line.start + column)
}

/// A line of a rendered text, without its end.
pub(crate) fn line_of(text: &str, line: usize) -> &str {
    &text[line_range(text, line)]
}

fn line_range(text: &str, line: usize) -> std::ops::Range<usize> {
    let mut start = 0;
    for _ in 1..line {
        let Some(end) = text[start..].find(['\n', '\r']) else { return text.len()..text.len() };
        start += end + if text[start + end..].starts_with("\r\n") { 2 } else { 1 };
    }
    let end = text[start..].find(['\n', '\r']).map_or(text.len(), |end| start + end);
    start..end
}
