//! Changes to the text of a farm file that leave every other byte as the person wrote it.
//!
//! An edit is found in the [tree](crate::tree) and made in the text; nothing is ever written out again as a whole.
//! It may fail on a shape that it does not know; it is the caller's duty to read the result and to compare it with
//! what was meant ([`change`](crate::change) does), so that a wrong edit is refused and never written.

use serde_json::Value;

use crate::{
    parse::dut_id,
    render,
    tree::{self, Entry, Kind, Node},
};
use farmgate_protocol::DutId;
use serde_saphyr::granit_parser::ScalarStyle;

/// Why a text could not be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} cannot be edited: {why}")]
pub struct EditError {
    line: usize,
    why: String,
}

type Edit = Result<String, EditError>;

fn stuck<T>(line: usize, why: &str) -> Result<T, EditError> {
    Err(EditError { line, why: why.to_owned() })
}

fn root(text: &str) -> Result<Option<Node>, EditError> {
    tree::read(text).map_err(|finding| EditError { line: finding.place.line, why: finding.message })
}

fn dut_entry<'n>(duts: &'n Node, id: &DutId) -> Option<&'n Entry> {
    let Kind::Mapping { entries, .. } = &duts.kind else { return None };
    entries.iter().find(|entry| entry.key.text().and_then(|key| dut_id(key).ok()).as_ref() == Some(id))
}

/// Sets a field of a machine that is in the file. `names`: the field's name, then older names of it.
pub fn set_field(text: &str, id: &DutId, names: &[&str], value: &Value) -> Edit {
    let root = root(text)?;
    let duts = root.as_ref().and_then(|root| root.get("duts")).map(|entry| &entry.value);
    let Some(dut) = duts.and_then(|duts| dut_entry(duts, id)) else {
        return stuck(0, "the machine is not there");
    };
    let existing = names.iter().find_map(|name| dut.value.get(name)).filter(|entry| !entry.merged);
    match existing {
        Some(entry) => replace(text, entry, value),
        None => {
            let Some(name) = names.first() else { return stuck(0, "the field has no name") };
            add(text, dut, &[format!("{name}: {}", render::value(value))])
        }
    }
}

/// Adds a machine, with its fields in this order.
pub fn add_dut(text: &str, id: &DutId, fields: &[(&str, Value)]) -> Edit {
    let root = root(text)?;
    let key = render::text(id.as_str());
    let flow = || {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}: {}", render::value(value))).collect();
        format!("{key}: {{{}}}", fields.join(", "))
    };
    let Some(root) = root else { return Ok(append(text, &section(&key, fields))) };
    let Kind::Mapping { flow: root_flow, .. } = root.kind else { return stuck(1, "the file is no mapping") };
    let Some(duts) = root.get("duts") else {
        let indent = root.place.column.saturating_sub(1);
        if root_flow || indent != 0 {
            return stuck(
                root.place.line,
                "write the sections of the file without brackets, from the first column",
            );
        }
        return Ok(append(text, &section(&key, fields)));
    };
    let Kind::Mapping { entries, flow: is_flow } = &duts.value.kind else {
        return add(text, duts, &block(&key, fields, 2));
    };
    if *is_flow && entries.is_empty() && !root_flow {
        // `duts: {}` becomes a block; what follows on the line, a comment, stays.
        let bytes = duts.value.place.bytes.clone();
        let emptied = splice(text, bytes.start..bytes.end, "");
        let end = line_end(&emptied, bytes.start);
        let column = duts.key.place.column.saturating_sub(1);
        return Ok(insert_lines(&emptied, end, column + 2, &block(&key, fields, 2)));
    }
    if *is_flow {
        return add(text, duts, &[flow()]);
    }
    let step = entries.iter().find_map(nested_step).unwrap_or(2);
    add(text, duts, &block(&key, fields, step))
}

/// Removes a machine and the comments inside its entry. Comments above it stay.
pub fn remove_dut(text: &str, id: &DutId) -> Edit {
    let root = root(text)?;
    let duts = root.as_ref().and_then(|root| root.get("duts")).map(|entry| &entry.value);
    let Some(duts) = duts else { return stuck(0, "the machine is not there") };
    let (Some(entry), Kind::Mapping { entries, flow }) = (dut_entry(duts, id), &duts.kind) else {
        return stuck(0, "the machine is not there");
    };
    if duts.alias || entry.merged {
        return stuck(entry.key.place.line, "this machine is written elsewhere and taken in by an alias");
    }
    let start = entry.key.place.bytes.start;
    if *flow {
        let after = entries.iter().find(|other| other.key.place.bytes.start > start);
        let before = entries.iter().rfind(|other| other.key.place.bytes.start < start);
        let bytes = match (after, before) {
            (Some(next), _) => start..next.key.place.bytes.start,
            (None, Some(last)) => last.value.place.bytes.end..entry.value.place.bytes.end,
            (None, None) => start..entry.value.place.bytes.end,
        };
        return Ok(splice(text, bytes, ""));
    }
    let from = line_start(text, start);
    if !text[from..start].trim().is_empty() {
        return stuck(entry.key.place.line, "something else stands on the line of this machine");
    }
    let end = skip_comments(text, line_end(text, end_of(entry)), entry.key.place.column);
    Ok(splice(text, from..end + newline_len(text, end), ""))
}

/// Replaces the value of an entry.
fn replace(text: &str, entry: &Entry, value: &Value) -> Edit {
    if let (Kind::Sequence { items, flow: false }, Value::Array(wanted)) = (&entry.value.kind, value)
        && !entry.value.alias
        && let Some(edited) = replace_items(text, items, wanted)
    {
        return Ok(edited);
    }
    let bytes = entry.value.place.bytes.clone();
    let rendered = render::value(value);
    let is_block = matches!(
        entry.value.kind,
        Kind::Sequence { flow: false, .. }
            | Kind::Mapping { flow: false, .. }
            | Kind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. }
    ) && !entry.value.alias;
    if is_block || bytes.is_empty() {
        let colon = after_colon(text, entry)?;
        let end = if bytes.is_empty() { colon } else { bytes.end };
        return Ok(splice(text, colon..end, &format!(" {rendered}")));
    }
    Ok(splice(text, bytes, &rendered))
}

/// A list with one item per line keeps the lines of the items that stay: items may go, and be added at the end.
fn replace_items(text: &str, items: &[Node], wanted: &[Value]) -> Option<String> {
    let wanted: Vec<&str> = wanted.iter().map(Value::as_str).collect::<Option<_>>()?;
    let mut rest = wanted.iter().copied().peekable();
    let mut last = None;
    // What is cut out of the text, and what is put in its place; from the top to the bottom.
    let mut cuts: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    for item in items {
        let lead = text.get(line_start(text, item.place.bytes.start)..item.place.bytes.start)?;
        if item.alias || lead.trim() != "-" || text[item.place.bytes.clone()].contains('\n') {
            return None;
        }
        if rest.next_if(|next| item.text() == Some(next)).is_some() {
            last = Some((cuts.len(), item, lead));
        } else {
            let above = line_end_before(text, item.place.bytes.start);
            cuts.push((above..line_end(text, item.place.bytes.end), String::new()));
        }
    }
    let (at, last, lead) = last?;
    let new: String = rest.map(|item| format!("{}{lead}{}", newline(text), render::text(item))).collect();
    let end = line_end(text, last.place.bytes.end);
    cuts.insert(at, (end..end, new));
    let mut edited = text.to_owned();
    for (bytes, new) in cuts.into_iter().rev() {
        edited.replace_range(bytes, &new);
    }
    Some(edited)
}

/// Adds lines, the first one a key, to the mapping that is the value of an entry.
fn add(text: &str, entry: &Entry, new: &[String]) -> Edit {
    let (node, line) = (&entry.value, entry.key.place.line);
    if node.alias || entry.merged {
        return stuck(line, "its value is written elsewhere and taken in by an alias");
    }
    match &node.kind {
        Kind::Mapping { entries, flow: true } => {
            let [new] = new else { return stuck(line, "a block does not fit into brackets") };
            let last = entries.iter().rfind(|entry| !entry.merged).map(end_of);
            let (at, new) = match last {
                Some(end) => (end, format!(", {new}")),
                None => (node.place.bytes.start + 1, new.clone()),
            };
            Ok(splice(text, at..at, &new))
        }
        Kind::Mapping { entries, flow: false } => {
            let own: Vec<_> = entries.iter().filter(|entry| !entry.merged).collect();
            let Some(first) = own.first() else { return stuck(line, "its fields are written elsewhere") };
            let column = first.key.place.column.saturating_sub(1);
            // Nothing can be put right behind a block scalar: it would become part of it.
            match own.iter().rfind(|entry| !ends_in_block_scalar(&entry.value)) {
                Some(last) => {
                    let end = line_end(text, end_of(last));
                    let end = if new.len() > 1 { skip_comments(text, end, column + 1) } else { end };
                    Ok(insert_lines(text, end, column, new))
                }
                None => {
                    let start = line_start(text, first.key.place.bytes.start);
                    let lines: String =
                        new.iter().map(|l| format!("{}{l}{}", " ".repeat(column), newline(text))).collect();
                    Ok(splice(text, start..start, &lines))
                }
            }
        }
        _ if node.is_null() => {
            let colon = after_colon(text, entry)?;
            let end = colon.max(node.place.bytes.end);
            let written = if node.place.bytes.is_empty() { colon..colon } else { colon..end };
            let cut = splice(text, written, "");
            let column = entry.key.place.column.saturating_sub(1) + 2;
            Ok(insert_lines(&cut, line_end(&cut, colon), column, new))
        }
        _ => stuck(line, "its value is no mapping"),
    }
}

/// A machine as lines below each other.
fn block(key: &str, fields: &[(&str, Value)], step: usize) -> Vec<String> {
    let gap = " ".repeat(step);
    let fields = fields.iter().map(|(name, value)| format!("{gap}{name}: {}", render::value(value)));
    std::iter::once(format!("{key}:")).chain(fields).collect()
}

/// The section `duts` with one machine.
fn section(key: &str, fields: &[(&str, Value)]) -> Vec<String> {
    let dut = block(key, fields, 2).into_iter().map(|line| format!("  {line}"));
    std::iter::once("duts:".to_owned()).chain(dut).collect()
}

fn append(text: &str, lines: &[String]) -> String {
    let newline = newline(text);
    let mut edited = text.to_owned();
    if !edited.is_empty() && !edited.ends_with('\n') {
        edited.push_str(newline);
    }
    for line in lines {
        edited.push_str(line);
        edited.push_str(newline);
    }
    edited
}

/// Columns between the keys of an entry's mapping and the entry's own key.
fn nested_step(entry: &Entry) -> Option<usize> {
    match &entry.value.kind {
        Kind::Mapping { entries, flow: false } if !entry.value.alias => {
            let first = entries.iter().find(|entry| !entry.merged)?;
            first.key.place.column.checked_sub(entry.key.place.column).filter(|step| *step > 0)
        }
        _ => None,
    }
}

fn ends_in_block_scalar(node: &Node) -> bool {
    if node.alias {
        return false;
    }
    match &node.kind {
        Kind::Scalar { style, .. } => matches!(style, ScalarStyle::Literal | ScalarStyle::Folded),
        Kind::Mapping { entries, flow: false } => entries
            .iter()
            .rfind(|entry| !entry.merged)
            .is_some_and(|entry| ends_in_block_scalar(&entry.value)),
        Kind::Sequence { items, flow: false } => items.last().is_some_and(ends_in_block_scalar),
        _ => false,
    }
}

fn end_of(entry: &Entry) -> usize {
    entry.value.place.bytes.end.max(entry.key.place.bytes.end)
}

/// The byte after the colon of a key.
fn after_colon(text: &str, entry: &Entry) -> Result<usize, EditError> {
    let end = entry.key.place.bytes.end;
    let rest = text.get(end..).unwrap_or_default();
    let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    if rest[blanks..].starts_with(':') {
        return Ok(end + blanks + 1);
    }
    stuck(entry.key.place.line, "no colon follows the key")
}

fn splice(text: &str, bytes: std::ops::Range<usize>, new: &str) -> String {
    let mut edited = text.to_owned();
    edited.replace_range(bytes, new);
    edited
}

fn insert_lines(text: &str, line_end: usize, column: usize, lines: &[String]) -> String {
    let gap = " ".repeat(column);
    let new: String = lines.iter().map(|line| format!("{}{gap}{line}", newline(text))).collect();
    splice(text, line_end..line_end, &new)
}

/// The end of the last comment line that follows and starts beyond that column (from 1).
fn skip_comments(text: &str, line_end_at: usize, column: usize) -> usize {
    let mut end = line_end_at;
    loop {
        let start = end + newline_len(text, end);
        let next = line_end(text, start);
        let line = &text[start..next];
        let indent = line.len() - line.trim_start_matches(' ').len();
        if start == end || !line[indent..].starts_with('#') || indent < column {
            return end;
        }
        end = next;
    }
}

/// Where the line's content ends: before its `\n` or `\r\n`.
fn line_end(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    if end > at && text[..end].ends_with('\r') { end - 1 } else { end }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |found| found + 1)
}

/// Where the content of the line above ends.
fn line_end_before(text: &str, at: usize) -> usize {
    let above = &text[..line_start(text, at)];
    above.strip_suffix("\r\n").or_else(|| above.strip_suffix('\n')).unwrap_or(above).len()
}

fn newline_len(text: &str, at: usize) -> usize {
    match &text[at..] {
        rest if rest.starts_with("\r\n") => 2,
        rest if rest.starts_with('\n') => 1,
        _ => 0,
    }
}

fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}
