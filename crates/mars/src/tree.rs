//! The YAML of a farm file as a tree that remembers where everything stands, byte by byte.
//!
//! Scalars stay the text that the person wrote: whether `52:54:00:11:22:00` is a number depends on the YAML version
//! (1.1 reads base 60), and for us it never is. Anchors, aliases and merge keys (`<<`) are resolved; what came from
//! elsewhere is marked, because it must not be edited in place.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

use crate::diagnostic::{Diagnostic, Place};

/// Deeper nesting than this is no farm file.
const DEEPEST: usize = 64;
/// More nodes than this, aliases expanded, are an attack or a mistake.
const MOST_NODES: usize = 500_000;

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    /// From the first byte of the value to the last that carries content. Empty for a value that is not written.
    pub place: Place,
    /// It was written elsewhere, and is here by `*alias`.
    pub alias: bool,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    Scalar { text: String, style: ScalarStyle },
    Sequence { items: Vec<Node>, flow: bool },
    Mapping { entries: Vec<Entry>, flow: bool },
}

/// A key and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: Node,
    pub value: Node,
    /// It came by a merge key.
    pub merged: bool,
}

impl Node {
    /// The scalar's text.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// A plain scalar's text: not quoted, so it may be a number, a truth value or null.
    pub fn plain(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, style: ScalarStyle::Plain } => Some(text),
            _ => None,
        }
    }

    /// Nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.plain(), Some("" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key that was written here or merged.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping { entries, .. } => entries.iter().find(|entry| entry.key.text() == Some(key)),
            _ => None,
        }
    }

    fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::Sequence { items, .. } => items.iter().map(Self::size).sum(),
            Kind::Mapping { entries, .. } => entries.iter().map(|e| e.key.size() + e.value.size()).sum(),
        }
    }
}

/// Reads a text. `None`: it holds nothing but comments.
///
/// # Errors
/// Not YAML, more than one document, the same key twice, too deep or too large.
pub fn read(text: &str) -> Result<Option<Node>, Box<Diagnostic>> {
    let mut builder = Builder { text, parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut root = None;
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Err(builder.wrong(
                    &place(&span),
                    "a second document starts here".to_owned(),
                    "remove the line `---`: a farm file is one document",
                ));
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => root = Some(builder.node(event, &span, 0)?),
        }
    }
    Ok(root.filter(|node: &Node| !(node.is_null() && node.place.bytes.is_empty())))
}

fn place(span: &Span) -> Place {
    let bytes = span.byte_range().unwrap_or_default();
    Place { bytes, line: span.start.line(), column: span.start.col() + 1 }
}

struct Builder<'t> {
    text: &'t str,
    parser: Parser<'t, serde_saphyr::granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

type Read<T> = Result<T, Box<Diagnostic>>;

impl<'t> Builder<'t> {
    fn wrong(&self, place: &Place, message: String, remedy: &str) -> Box<Diagnostic> {
        Box::new(Diagnostic::new(self.text, place, message, remedy.to_owned()))
    }

    /// The next event that is no comment.
    fn next(&mut self) -> Read<Option<(Event<'t>, Span)>> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok(found)) => return Ok(Some(found)),
                Some(Err(error)) => {
                    let mark = error.marker();
                    let at = mark.byte_offset().unwrap_or_default();
                    let place = Place { bytes: at..at, line: mark.line(), column: mark.col() + 1 };
                    let message = format!("this is not YAML: {}", error.info());
                    let remedy = "look at this line and the ones above it: indentation (blanks, no tabs), quotes, `: ` after each key";
                    return Err(self.wrong(&place, message, remedy));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Read<Node> {
        let mut place = place(span);
        self.count(1, &place)?;
        if depth > DEEPEST {
            let remedy = "a farm file needs about eight levels: is a bracket or an indentation wrong?";
            return Err(self.wrong(&place, "this is nested too deeply".to_owned(), remedy));
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let written = self.text.get(place.bytes.clone()).unwrap_or_default();
                // A block scalar ends where the next token starts.
                place.bytes.end = place.bytes.start + written.trim_end().len();
                (Kind::Scalar { text: text.into_owned(), style }, anchor)
            }
            Event::SequenceStart(style, anchor, _) => {
                let flow = style == StructureStyle::Flow;
                let (items, end) = self.items(depth)?;
                place.bytes.end =
                    if flow { end } else { items.last().map_or(place.bytes.start, |n| n.place.bytes.end) };
                (Kind::Sequence { items, flow }, anchor)
            }
            Event::MappingStart(style, anchor, _) => {
                let flow = style == StructureStyle::Flow;
                let (entries, end) = self.entries(depth)?;
                place.bytes.end = match entries.iter().rfind(|entry| !entry.merged) {
                    _ if flow => end,
                    Some(entry) => entry.value.place.bytes.end.max(entry.key.place.bytes.end),
                    None => place.bytes.start,
                };
                (Kind::Mapping { entries, flow }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(mut node) = self.anchors.get(&anchor).cloned() else {
                    let remedy = "an alias may only name an anchor that ended above it";
                    return Err(self.wrong(&place, "this alias names nothing".to_owned(), remedy));
                };
                self.count(node.size(), &place)?;
                node.place = place;
                node.alias = true;
                return Ok(node);
            }
            other => return Err(self.wrong(&place, format!("unexpected {other:?}"), "")),
        };
        let node = Node { kind, place, alias: false };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, more: usize, place: &Place) -> Read<()> {
        self.nodes += more;
        if self.nodes <= MOST_NODES {
            return Ok(());
        }
        Err(self.wrong(place, "the file holds too much".to_owned(), "are there aliases of aliases?"))
    }

    fn items(&mut self, depth: usize) -> Read<(Vec<Node>, usize)> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                return Ok((items, place(&span).bytes.end));
            }
            items.push(self.node(event, &span, depth + 1)?);
        }
        Ok((items, self.text.len()))
    }

    fn entries(&mut self, depth: usize) -> Read<(Vec<Entry>, usize)> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut end = self.text.len();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                end = place(&span).bytes.end;
                break;
            }
            let key = self.node(event, &span, depth + 1)?;
            let Some(name) = key.text().map(str::to_owned) else {
                let remedy = "write a text as the key; if it has brackets, quote it";
                return Err(self.wrong(&key.place, "this key is not a text".to_owned(), remedy));
            };
            if let Some(first) = lines.insert(name.clone(), key.place.line) {
                let message = format!("the key {name:?} stands here twice: it is also in line {first}");
                return Err(self.wrong(&key.place, message, "merge the two, or rename one"));
            }
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, &span, depth + 1)?;
            entries.push(Entry { key, value, merged: false });
        }
        self.merge(&mut entries)?;
        Ok((entries, end))
    }

    /// Takes in what `<<` brings: what is written here wins, then the first of a list.
    fn merge(&mut self, entries: &mut Vec<Entry>) -> Read<()> {
        let Some(at) = entries.iter().position(|entry| entry.key.plain() == Some("<<")) else {
            return Ok(());
        };
        let source = entries[at].value.clone();
        let sources = match &source.kind {
            Kind::Sequence { items, .. } => items.iter().collect(),
            _ => vec![&source],
        };
        for node in sources {
            let Kind::Mapping { entries: more, .. } = &node.kind else {
                let remedy = "`<<` takes an alias of a mapping, or a list of such";
                return Err(self.wrong(&node.place, "this cannot be merged".to_owned(), remedy));
            };
            for entry in more {
                if entry.key.plain() != Some("<<")
                    && !entries.iter().any(|e| e.key.text() == entry.key.text())
                {
                    self.count(entry.value.size(), &node.place)?;
                    entries.push(Entry { merged: true, ..entry.clone() });
                }
            }
        }
        Ok(())
    }
}
