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

/// The tree of the text's one document; everything that is wrong with it is reported.
///
/// What can be understood in spite of a fault goes on: a key that is given twice keeps its first value. An error of
/// the syntax ends the reading, and the tree is what stood before it; what is missing in its open mappings and lists
/// is then nobody's fault, which the report is told.
pub(crate) fn parse(text: &str, report: &mut Report<'_>) -> Option<Node> {
    let last_line = text.rsplit('\n').next().unwrap_or_default();
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        open_ended: (!last_line.trim().is_empty()).then(|| text.chars().count()),
        anchors: HashMap::new(),
        nodes: 0,
        faults: Vec::new(),
        open: Vec::new(),
    };
    let tree = reader.document();
    for Fault { at, message, help, first } in reader.faults {
        let at = if message.contains(" tab") { tab_after(text, at) } else { at };
        match (help, first) {
            (_, Some(first)) => {
                let line = report.origin(first).line;
                report.problem_with_help(
                    at,
                    format!("{message}: first on line {line}"),
                    "remove one of them",
                );
            }
            (Some(help), None) => report.problem_with_help(at, message, help),
            (None, None) => report.problem(at, message),
        }
    }
    if !reader.open.is_empty() {
        report.cut_off(reader.open);
    }
    tree
}

/// The scanner names the value before the tab; a person looks for the tab.
fn tab_after(text: &str, at: Place) -> Place {
    let lines = text.split('\n').enumerate().skip(at.line.saturating_sub(1));
    let indented = |line: &str| line.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t');
    let found = lines.take(2).find_map(|(n, line)| Some(Place { line: n + 1, column: indented(line)? + 1 }));
    found.unwrap_or(at)
}

struct Fault {
    at: Place,
    message: String,
    help: Option<&'static str>,
    /// Of a key that is given twice: where it stands first.
    first: Option<Place>,
}

fn fault(at: Place, message: impl Into<String>) -> Fault {
    Fault { at, message: message.into(), help: None, first: None }
}

/// The text cannot be read any further.
struct Stop;

struct Reader<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    /// Characters of the text, if its last line says something and has no end.
    open_ended: Option<usize>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    faults: Vec<Fault>,
    /// Places of the mappings and lists that were not complete when the reading stopped.
    open: Vec<Place>,
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => {
                    return self.stop(Fault {
                        help: Some(
                            "check indentation (blanks, no tabs), quotes and brackets here and just above",
                        ),
                        ..fault(place(*error.marker()), format!("this is not YAML: {}", error.info()))
                    });
                }
                None => return Ok((Event::StreamEnd, Span::empty(Marker::default()))),
            }
        }
    }

    fn stop<T>(&mut self, fault: Fault) -> Result<T, Stop> {
        self.faults.push(fault);
        Err(Stop)
    }

    /// The document, or what of it can be read.
    fn document(&mut self) -> Option<Node> {
        let mut tree = None;
        while let Ok((event, span)) = self.next() {
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if tree.is_some() => {
                    let at = place(span.start);
                    self.faults.push(fault(at, "a second document begins here: a job is one document"));
                    break;
                }
                Event::DocumentStart(..) => {
                    let Ok(first) = self.next() else { break };
                    tree = self.node(first, 0);
                    if !self.open.is_empty() || tree.is_none() {
                        break;
                    }
                }
                Event::StreamEnd => {
                    if tree.is_none() {
                        let at = Place { line: 1, column: 1 };
                        let help = Some("a job begins with `version: 1`");
                        self.faults.push(Fault { help, ..fault(at, "the job is empty") });
                    }
                    break;
                }
                _ => {
                    self.faults.push(fault(place(span.start), "this is not YAML"));
                    break;
                }
            }
        }
        tree
    }

    /// A node with all that is below it. `None`: nothing of it could be read; a list or mapping that is not complete
    /// is in [`Self::open`].
    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Option<Node> {
        let at = place(span.start);
        if depth > MAX_DEPTH {
            return self.stop(fault(at, format!("nested deeper than {MAX_DEPTH} levels"))).ok();
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                // A template takes the last line's end away, and a block ends with no line end that is not there.
                let text = match self.open_ended {
                    Some(end) if is_block && span.end.index() >= end => {
                        text.strip_suffix('\n').unwrap_or(&text)
                    }
                    _ => &text,
                };
                (self.scalar(at, text, style, tag.as_deref()), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.expect_tag(at, tag.as_deref(), "seq");
                (Kind::List(self.list(at, depth)), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.expect_tag(at, tag.as_deref(), "map");
                (Kind::Map(self.map(at, depth)), anchor)
            }
            Event::Alias(id) => return self.alias(id, at),
            _ => return self.stop(fault(at, "a value is missing here")).ok(),
        };
        self.count(1, at).ok()?;
        let below = match &kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(|n| n.size).sum(),
            Kind::Map(entries) => entries.iter().map(|(_, n)| n.size).sum(),
        };
        let node = Node { at, kind, size: below + 1 };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Some(node)
    }

    fn count(&mut self, nodes: usize, at: Place) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return self.stop(fault(at, format!("the job has more than {MAX_NODES} values")));
        }
        Ok(())
    }

    /// A copy of what was anchored; its own places stay, because that is what a person must change.
    fn alias(&mut self, id: usize, at: Place) -> Option<Node> {
        let Some(size) = self.anchors.get(&id).map(|node| node.size) else {
            return self.stop(fault(at, "this alias stands inside of what it names")).ok();
        };
        self.count(size, at).ok()?;
        self.anchors.get(&id).cloned()
    }

    /// The items of a list, as far as they can be read.
    fn list(&mut self, at: Place, depth: usize) -> Vec<Node> {
        let mut items = Vec::new();
        while let Ok(next) = self.next() {
            if matches!(next.0, Event::SequenceEnd) {
                return items;
            }
            let Some(node) = self.node(next, depth + 1) else { break };
            items.push(node);
            if !self.open.is_empty() {
                break;
            }
        }
        self.open.push(at);
        items
    }

    /// The entries of a mapping, as far as they can be read.
    fn map(&mut self, at: Place, depth: usize) -> Vec<(Key, Node)> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merges = Vec::new();
        while let Ok(next) = self.next() {
            if matches!(next.0, Event::MappingEnd) {
                for merge in merges {
                    self.merge_into(&mut entries, merge);
                }
                return entries;
            }
            let Some(node) = self.node(next, depth + 1) else { break };
            let key = match node.kind {
                Kind::Scalar { text, plain } => Some(Key { at: node.at, text, plain }),
                _ => {
                    self.faults.push(fault(node.at, "a key must be a text"));
                    None
                }
            };
            if !self.open.is_empty() {
                break;
            }
            let Ok(next) = self.next() else { break };
            let Some(value) = self.node(next, depth + 1) else { break };
            let complete = self.open.is_empty();
            match key {
                Some(key) if key.plain && key.text == "<<" => merges.push(value),
                Some(key) => self.add(&mut entries, key, value),
                None => {}
            }
            if !complete {
                break;
            }
        }
        self.open.push(at);
        entries
    }

    fn add(&mut self, entries: &mut Vec<(Key, Node)>, key: Key, value: Node) {
        match entries.iter().find(|(known, _)| known.text == key.text) {
            Some((first, _)) => {
                let message = format!("`{}` is given twice", key.text);
                self.faults.push(Fault { first: Some(first.at), ..fault(key.at, message) });
            }
            None => entries.push((key, value)),
        }
    }

    /// `<<: *base` and `<<: [*one, *two]`: what is written itself wins, then the earlier one.
    fn merge_into(&mut self, entries: &mut Vec<(Key, Node)>, merge: Node) {
        match merge.kind {
            Kind::Map(inherited) => {
                for (key, value) in inherited {
                    if !entries.iter().any(|(known, _)| known.text == key.text) {
                        entries.push((key, value));
                    }
                }
            }
            Kind::List(several) => {
                for one in several {
                    match one.kind {
                        Kind::Map(_) => self.merge_into(entries, one),
                        _ => self.faults.push(fault(one.at, "`<<` takes mappings")),
                    }
                }
            }
            Kind::Scalar { .. } => {
                self.faults.push(fault(merge.at, "`<<` takes a mapping or a list of mappings"));
            }
        }
    }

    fn scalar(&mut self, at: Place, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Kind {
        let mut plain = style == ScalarStyle::Plain;
        match tag.map(core_tag) {
            None | Some(Some("bool" | "int" | "float" | "null" | "timestamp")) => {}
            Some(Some("str")) => plain = false,
            Some(_) => self.faults.push(fault(at, UNKNOWN_TAG)),
        }
        Kind::Scalar { text: text.to_owned(), plain }
    }

    fn expect_tag(&mut self, at: Place, tag: Option<&Tag>, expected: &str) {
        match tag.map(core_tag) {
            None => {}
            Some(Some(found)) if found == expected => {}
            Some(_) => self.faults.push(fault(at, UNKNOWN_TAG)),
        }
    }
}

const UNKNOWN_TAG: &str = "this YAML tag is not known here; remove it";

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
        let rendered = Rendered::literal(text);
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
