//! The second layer of a job: YAML as a tree whose every node knows its place.
//!
//! Scalars keep their text and whether it was quoted, so that the reader of a field decides what `on`, `0755` or
//! `52:54:00:11:22:00` means; YAML 1.1 and 1.2 disagree there. Duplicate keys, tabs for indentation, unknown tags,
//! several documents and aliases that grow without bound are refused.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use crate::error::{Place, Report};

/// Nodes of a tree, those of expanded aliases included.
const MAX_NODES: usize = 100_000;
const MAX_DEPTH: usize = 50;

/// A node of the tree.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) kind: Kind,
    /// Itself and everything below.
    size: usize,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Scalar {
        text: String,
        /// Neither quoted nor a block: `true` may be a boolean, and nothing at all is null.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) at: Place,
    pub(crate) text: String,
    /// Unquoted: `<<` means a merge only then.
    plain: bool,
}

impl Node {
    /// `~`, `null`, or nothing.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Nothing in it: null, `[]` or `{}`.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Scalar { .. } => self.is_null(),
            Kind::List(items) => items.is_empty(),
            Kind::Map(entries) => entries.is_empty(),
        }
    }

    /// For messages.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            _ if self.is_null() => "nothing".into(),
            Kind::Scalar { text, .. } => format!("`{}`", text.chars().take(40).collect::<String>()),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
        }
    }
}

/// The tree of the text's one document. On a fault one problem is reported, and there is no tree.
pub(crate) fn parse(text: &str, report: &mut Report<'_>) -> Option<Node> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    match reader.document() {
        Ok(node) => Some(node),
        Err(Fault { at, message, help }) => {
            let at = if message.contains(" tab") { tab_after(text, at) } else { at };
            match help {
                Some(help) => report.problem_with_help(at, message, help),
                None => report.problem(at, message),
            }
            None
        }
    }
}

/// The scanner names the value before the tab; a person looks for the tab.
fn tab_after(text: &str, at: Place) -> Place {
    let lines = text.split('\n').enumerate().skip(at.line - 1);
    let indented = |line: &str| line.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t');
    let found = lines.take(2).find_map(|(n, line)| Some(Place { line: n + 1, column: indented(line)? + 1 }));
    found.unwrap_or(at)
}

struct Fault {
    at: Place,
    message: String,
    help: Option<&'static str>,
}

fn fault(at: Place, message: impl Into<String>) -> Fault {
    Fault { at, message: message.into(), help: None }
}

struct Reader<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => {
                    return Err(Fault {
                        at: place(*error.marker()),
                        message: format!("this is not YAML: {}", error.info()),
                        help: Some(
                            "check indentation (blanks, no tabs), quotes and brackets here and just above",
                        ),
                    });
                }
                None => return Ok((Event::StreamEnd, Span::empty(Marker::default()))),
            }
        }
    }

    fn document(&mut self) -> Result<Node, Fault> {
        let mut tree = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if tree.is_some() => {
                    return Err(fault(
                        place(span.start),
                        "a second document begins here: a job is one document",
                    ));
                }
                Event::DocumentStart(..) => {
                    let first = self.next()?;
                    tree = Some(self.node(first, 0)?);
                }
                Event::StreamEnd => {
                    return tree.ok_or_else(|| Fault {
                        at: Place { line: 1, column: 1 },
                        message: "the job is empty".into(),
                        help: Some("a job begins with `version: 1`"),
                    });
                }
                _ => return Err(fault(place(span.start), "this is not YAML")),
            }
        }
    }

    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Node, Fault> {
        let at = place(span.start);
        if depth > MAX_DEPTH {
            return Err(fault(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(at, &text, style, tag.as_deref())?, anchor),
            Event::SequenceStart(_, anchor, tag) => {
                expect_tag(at, tag.as_deref(), "seq")?;
                (Kind::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                expect_tag(at, tag.as_deref(), "map")?;
                (Kind::Map(self.map(depth)?), anchor)
            }
            Event::Alias(id) => return self.alias(id, at),
            _ => return Err(fault(at, "a value is missing here")),
        };
        self.count(1, at)?;
        let below = match &kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(|n| n.size).sum(),
            Kind::Map(entries) => entries.iter().map(|(_, n)| n.size).sum(),
        };
        let node = Node { at, kind, size: below + 1 };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, at: Place) -> Result<(), Fault> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(fault(at, format!("the job has more than {MAX_NODES} values")));
        }
        Ok(())
    }

    /// A copy of what was anchored; its own places stay, because that is what a person must change.
    fn alias(&mut self, id: usize, at: Place) -> Result<Node, Fault> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(fault(at, "this alias stands inside of what it names"));
        };
        let size = node.size;
        self.count(size, at)?;
        self.anchors.get(&id).cloned().ok_or_else(|| fault(at, "this alias names nothing"))
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
        let mut items = Vec::new();
        loop {
            let next = self.next()?;
            if matches!(next.0, Event::SequenceEnd) {
                return Ok(items);
            }
            items.push(self.node(next, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merges = Vec::new();
        loop {
            let next = self.next()?;
            if matches!(next.0, Event::MappingEnd) {
                break;
            }
            let node = self.node(next, depth + 1)?;
            let Kind::Scalar { text, plain } = node.kind else {
                return Err(fault(node.at, "a key must be a text"));
            };
            let key = Key { at: node.at, text, plain };
            let next = self.next()?;
            let value = self.node(next, depth + 1)?;
            if key.plain && key.text == "<<" {
                merges.push(value);
            } else if let Some((first, _)) = entries.iter().find(|(k, _)| k.text == key.text) {
                let text = format!("`{}` is given twice: first on line {}", key.text, first.at.line);
                return Err(Fault { at: key.at, message: text, help: Some("remove one of them") });
            } else {
                entries.push((key, value));
            }
        }
        for merge in merges {
            merge_into(&mut entries, merge)?;
        }
        Ok(entries)
    }
}

/// `<<: *base` and `<<: [*one, *two]`: what is written itself wins, then the earlier one.
fn merge_into(entries: &mut Vec<(Key, Node)>, merge: Node) -> Result<(), Fault> {
    match merge.kind {
        Kind::Map(inherited) => {
            for (key, value) in inherited {
                if !entries.iter().any(|(k, _)| k.text == key.text) {
                    entries.push((key, value));
                }
            }
            Ok(())
        }
        Kind::List(several) => several.into_iter().try_for_each(|one| match one.kind {
            Kind::Map(_) => merge_into(entries, one),
            _ => Err(fault(one.at, "`<<` takes mappings")),
        }),
        Kind::Scalar { .. } => Err(fault(merge.at, "`<<` takes a mapping or a list of mappings")),
    }
}

fn scalar(at: Place, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, Fault> {
    let mut plain = style == ScalarStyle::Plain;
    match tag.map(core_tag) {
        None | Some(Some("bool" | "int" | "float" | "null" | "timestamp")) => {}
        Some(Some("str")) => plain = false,
        Some(_) => return Err(fault(at, "this YAML tag is not known here; remove it")),
    }
    Ok(Kind::Scalar { text: text.to_owned(), plain })
}

fn expect_tag(at: Place, tag: Option<&Tag>, expected: &str) -> Result<(), Fault> {
    match tag.map(core_tag) {
        None => Ok(()),
        Some(Some(found)) if found == expected => Ok(()),
        Some(_) => Err(fault(at, "this YAML tag is not known here; remove it")),
    }
}

/// The name of a tag of YAML's own schema; the bare `!` means a text.
fn core_tag(tag: &Tag) -> Option<&str> {
    match (tag.handle(), tag.suffix()) {
        ("tag:yaml.org,2002:", suffix) => Some(suffix),
        ("" | "!", "" | "!") => Some("str"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JobError, Source, template::Rendered};

    fn read(text: &str) -> Result<Node, JobError> {
        let source = Source { name: "job.yml", text };
        let rendered = Rendered { text: text.to_owned(), literal: true };
        let mut report = Report::new(&source, &rendered);
        let node = parse(text, &mut report);
        report.finish(node).accept("job.yml").map(|(node, _)| node)
    }

    fn get<'a>(node: &'a Node, key: &str) -> &'a Node {
        let Kind::Map(entries) = &node.kind else { panic!("no mapping") };
        &entries.iter().find(|(k, _)| k.text == key).unwrap().1
    }

    #[test]
    fn places_count_from_one() {
        let node = read("a:\n  b: word\n").unwrap();
        assert_eq!(get(get(&node, "a"), "b").at, Place { line: 2, column: 6 });
    }

    #[test]
    fn a_duplicate_key_is_refused_at_the_second() {
        let error = read("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!((error.line(), error.column()), (Some(3), Some(1)));
        assert!(error.to_string().contains("first on line 1"), "{error}");
    }

    #[test]
    fn tabs_and_second_documents_and_unknown_tags_are_refused() {
        for (text, line) in
            [("a:\n\tb: 1\n", 2), ("a: 1\n---\nb: 1\n", 2), ("a: !secret x\n", 1), ("a: [1\n", 1)]
        {
            let error = read(text).unwrap_err();
            assert_eq!(error.line(), Some(line), "{text:?}: {error}");
        }
    }

    #[test]
    fn aliases_and_merges_are_expanded() {
        let node = read("base: &b {x: 1, y: 2}\nhere: {<<: *b, y: 3}\nalso: *b\n").unwrap();
        assert_eq!(get(get(&node, "here"), "x").describe(), "`1`");
        assert_eq!(get(get(&node, "here"), "y").describe(), "`3`");
        assert_eq!(get(get(&node, "also"), "y").describe(), "`2`");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let inner = vec![format!("*a{}", n - 1); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{inner}]\n"));
        }
        assert!(read(&text).unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn deep_nesting_is_refused_not_overflowed() {
        for text in ["[".repeat(100_000), "- ".repeat(100_000)] {
            assert!(read(&text).is_err());
        }
    }
}
