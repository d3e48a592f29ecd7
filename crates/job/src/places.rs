//! From a line of the rendered text to the line of the author's file that it comes from.
//!
//! A template engine tells nothing about where its output comes from. What is literal in the template appears in
//! the output as it is, so the two texts are aligned by their literal pieces. A job without a template has the
//! identity; a line that a loop repeats belongs to the loop's line.

use crate::{Place, template::Rendered};

/// Beyond this many pairs of lines the alignment is not tried.
const MAX_CELLS: usize = 4_000_000;

/// The alignment of one rendering.
pub(crate) struct LineMap {
    /// For each rendered line its template line (from 0). Empty: the identity.
    lines: Vec<usize>,
    template: Vec<TemplateLine>,
}

/// A line of the template as its output can look: pieces of literal text with anything between them.
#[derive(Debug, Default, Clone)]
struct TemplateLine {
    /// Line of the file, from 1.
    number: usize,
    pieces: Vec<String>,
    /// Column of the first tag, from 1.
    first_tag: Option<usize>,
}

impl TemplateLine {
    fn weight(&self) -> u32 {
        if self.pieces.iter().all(|p| p.trim().is_empty()) { 1 } else { 4 }
    }

    fn fits(&self, line: &str) -> bool {
        let [first, middle @ .., last] = self.pieces.as_slice() else {
            return self.pieces.first().is_none_or(|only| only == line);
        };
        let Some(rest) = line.strip_prefix(first.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
        for piece in middle {
            let Some(at) = rest.find(piece.as_str()) else { return false };
            rest = &rest[at + piece.len()..];
        }
        true
    }
}

impl LineMap {
    pub(crate) fn new(source: &str, rendered: &Rendered) -> Self {
        if rendered.literal {
            return Self { lines: Vec::new(), template: Vec::new() };
        }
        let template = template_lines(source);
        let output: Vec<&str> = rendered.text.split('\n').collect();
        if template.len().saturating_mul(output.len()) > MAX_CELLS {
            return Self { lines: Vec::new(), template: Vec::new() };
        }
        let lines = align(&template, &output);
        Self { lines, template }
    }

    /// Where a place of the rendered text is in the author's file. The column is exact for literal text;
    /// otherwise it is that of the first tag of the line.
    pub(crate) fn place(&self, at: Place) -> Place {
        let Some(line) = self.lines.get(at.line.saturating_sub(1)).and_then(|n| self.template.get(*n)) else {
            return at;
        };
        let column = line.first_tag.map_or(at.column, |tag| at.column.min(tag));
        Place { line: line.number, column }
    }
}

/// Cuts the template at its literal line ends; tags, comments and raw markers are holes.
fn template_lines(source: &str) -> Vec<TemplateLine> {
    let mut lines = Vec::new();
    let mut number = 1;
    let mut column = 1;
    let mut current = TemplateLine { number, pieces: vec![String::new()], first_tag: None };
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        if let Some(end) = tag_end(rest) {
            current.first_tag.get_or_insert(column);
            current.pieces.push(String::new());
            for inner in rest[..end].chars() {
                (number, column) = if inner == '\n' { (number + 1, 1) } else { (number, column + 1) };
            }
            rest = &rest[end..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        if c == '\n' {
            (number, column) = (number + 1, 1);
            lines.push(std::mem::take(&mut current));
            current = TemplateLine { number, pieces: vec![String::new()], first_tag: None };
        } else {
            column += 1;
            if let Some(piece) = current.pieces.last_mut() {
                piece.push(c);
            }
        }
    }
    lines.push(current);
    lines
}

/// If a tag begins here: its length in bytes.
fn tag_end(text: &str) -> Option<usize> {
    let close = match text.as_bytes().first_chunk::<2>()? {
        b"{{" => "}}",
        b"{%" => "%}",
        b"{#" => "#}",
        _ => return None,
    };
    Some(text.find(close).map_or(text.len(), |at| at + 2))
}

/// The heaviest common subsequence; what is left over goes to the line that it looks like, or to its neighbour.
fn align(template: &[TemplateLine], output: &[&str]) -> Vec<usize> {
    let width = output.len() + 1;
    let mut best = vec![0_u32; (template.len() + 1) * width];
    for (t, line) in template.iter().enumerate().rev() {
        for (o, text) in output.iter().enumerate().rev() {
            let skip = best[(t + 1) * width + o].max(best[t * width + o + 1]);
            let take = if line.fits(text) { best[(t + 1) * width + o + 1] + line.weight() } else { 0 };
            best[t * width + o] = skip.max(take);
        }
    }
    let mut lines = vec![None; output.len()];
    let (mut t, mut o) = (0, 0);
    while t < template.len() && o < output.len() {
        let here = best[t * width + o];
        if template[t].fits(output[o]) && here == best[(t + 1) * width + o + 1] + template[t].weight() {
            lines[o] = Some(t);
            (t, o) = (t + 1, o + 1);
        } else if here == best[(t + 1) * width + o] {
            t += 1;
        } else {
            o += 1;
        }
    }
    let mut last = 0;
    let look_alike = |text: &str, near: usize| {
        (0..template.len())
            .filter(|n| template[*n].weight() > 1 && template[*n].fits(text))
            .min_by_key(|n| n.abs_diff(near))
    };
    lines
        .into_iter()
        .zip(output)
        .map(|(found, text)| {
            last = found.or_else(|| look_alike(text, last)).unwrap_or(last);
            last
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(source: &str, rendered: &str, needle: &str) -> usize {
        let at = rendered.split('\n').position(|l| l.contains(needle)).unwrap() + 1;
        let rendered = Rendered { text: rendered.to_owned(), literal: false };
        LineMap::new(source, &rendered).place(Place { line: at, column: 1 }).line
    }

    #[test]
    fn text_after_a_loop_keeps_its_line() {
        let source = "a: 1\n{% for x in y %}\n- {{ x }}\n{% endfor %}\nb: 2";
        let rendered = "a: 1\n\n- one\n\n- two\n\n- three\n\nb: 2";
        assert_eq!(line_of(source, rendered, "b: 2"), 5);
        for item in ["one", "two", "three"] {
            assert_eq!(line_of(source, rendered, item), 3, "{item}");
        }
    }

    #[test]
    fn a_comment_over_several_lines_does_not_shift_what_follows() {
        assert_eq!(line_of("{# one\ntwo\nthree #}\na: 1\nb: {{ x }}", "\na: 1\nb: 7", "b: 7"), 5);
    }

    #[test]
    fn the_column_of_text_made_by_a_tag_is_that_of_the_tag() {
        let rendered = Rendered { text: "a: long text here".into(), literal: false };
        let map = LineMap::new("a: {{ x }}", &rendered);
        assert_eq!(map.place(Place { line: 1, column: 12 }), Place { line: 1, column: 4 });
    }
}
