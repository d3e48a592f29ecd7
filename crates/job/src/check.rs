//! Reading typed fields out of a tree: every function reports what is wrong at its place and answers `None`.

use farmgate_protocol::spelling;

use crate::{
    error::{Place, Report},
    yaml::{Kind, Node},
};

/// The fields of one mapping, all of whose names are known.
pub(crate) struct Fields<'a> {
    pub(crate) at: Place,
    entries: Vec<(&'a str, &'a Node)>,
}

impl<'a> Fields<'a> {
    /// Opens a mapping. A field that is not in `known` is a problem; the others can still be read.
    pub(crate) fn open(node: &'a Node, what: &str, known: &[&str], report: &mut Report<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            let help = format!("write it with its fields: {}", known.join(", "));
            report.problem_with_help(
                node.at,
                format!("{what} must be a mapping, not {}", node.describe()),
                help,
            );
            return None;
        };
        let mut found = Vec::new();
        for (key, value) in entries {
            if known.contains(&key.text.as_str()) {
                found.push((key.text.as_str(), value));
            } else {
                unknown_field(key.at, &key.text, what, known, report);
            }
        }
        Some(Self { at: node.at, entries: found })
    }

    /// A field that is given and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(key, node)| *key == name && !node.is_null()).map(|(_, node)| *node)
    }

    /// A field that is written without a value, often by a variable that is not defined.
    pub(crate) fn get_empty(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(key, node)| *key == name && node.is_null()).map(|(_, node)| *node)
    }

    /// Refuses fields that this gateway cannot do. An empty one asks for nothing and passes.
    pub(crate) fn refuse(&self, path: &str, names: &[&str], report: &mut Report<'_>) {
        for (key, node) in &self.entries {
            if names.contains(key) && !node.is_empty() {
                report.unsupported(node.at, &format!("{path}{key}"));
            }
        }
    }
}

/// Says which field was perhaps meant.
pub(crate) fn unknown_field(at: Place, field: &str, what: &str, known: &[&str], report: &mut Report<'_>) {
    let list = format!("known fields: {}", known.join(", "));
    let help = match spelling::nearest(field, known.iter().copied()).first() {
        Some(meant) => format!("did you mean `{meant}`? {list}"),
        None => list,
    };
    report.problem_with_help(at, format!("{what} has no field `{field}`"), help);
}

/// A text. Numbers and booleans that are not quoted are taken as they are written.
pub(crate) fn text(node: &Node, what: &str, report: &mut Report<'_>) -> Option<String> {
    match &node.kind {
        Kind::Scalar { text, .. } if !node.is_null() => Some(text.clone()),
        _ => {
            let message = format!("{what} must be a text, not {}", node.describe());
            report.problem_with_help(
                node.at,
                message,
                "quote it if it holds `: `, ` #` or begins with a special character",
            );
            None
        }
    }
}

/// A finite number that is not negative.
pub(crate) fn number(node: &Node, what: &str, report: &mut Report<'_>) -> Option<f64> {
    let parsed = match &node.kind {
        Kind::Scalar { text, plain: true } => text.replace('_', "").parse::<f64>().ok(),
        _ => None,
    };
    match parsed {
        Some(number) if number.is_finite() && number >= 0.0 => Some(number),
        _ => {
            let message = format!("{what} must be a number of 0 or more, not {}", node.describe());
            report.problem_with_help(node.at, message, "write it without quotes and units, for example 1.5");
            None
        }
    }
}

/// A whole number that is not negative.
pub(crate) fn count(node: &Node, what: &str, report: &mut Report<'_>) -> Option<u32> {
    let parsed = match &node.kind {
        Kind::Scalar { text, plain: true } => text.replace('_', "").parse().ok(),
        _ => None,
    };
    if parsed.is_none() {
        let message = format!("{what} must be a whole number of 0 or more, not {}", node.describe());
        report.problem_with_help(node.at, message, "write it without quotes, for example 3");
    }
    parsed
}

/// A list of texts.
pub(crate) fn texts(node: &Node, what: &str, report: &mut Report<'_>) -> Option<Vec<String>> {
    let Kind::List(items) = &node.kind else {
        let message = format!("{what} must be a list, not {}", node.describe());
        report.problem_with_help(node.at, message, "write [one, two], or one per line after a dash");
        return None;
    };
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        all.push(text(item, &format!("each of {what}"), report)?);
    }
    Some(all)
}
