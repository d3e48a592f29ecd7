//! Reading typed fields out of a tree: every function reports what is wrong at its place and answers `None`.

use farmgate_protocol::spelling;

use crate::{
    error::{Place, Report},
    yaml::{Key, Kind, Node},
};

/// The fields of one mapping, all of whose names are known.
pub(crate) struct Fields<'a> {
    pub(crate) at: Place,
    entries: Vec<(&'a str, &'a Node)>,
    /// The known fields that unknown ones are probably meant to be.
    meant: Vec<String>,
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
        let mut meant = Vec::new();
        for (key, value) in entries {
            if known.contains(&key.text.as_str()) {
                found.push((key.text.as_str(), value));
            } else {
                unknown_field(key.at, &key.text, what, known, report);
                meant.extend(
                    spelling::nearest(&key.text, known.iter().copied()).first().map(|n| (*n).to_owned()),
                );
            }
        }
        Some(Self { at: node.at, entries: found, meant })
    }

    /// A field that is given and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(key, node)| *key == name && !node.is_null()).map(|(_, node)| *node)
    }

    /// Whether a field is neither given nor misspelt; the latter was told already.
    pub(crate) fn lacks(&self, name: &str) -> bool {
        self.get(name).is_none() && !self.meant.iter().any(|meant| meant == name)
    }

    /// A field that is written without a value, often by a variable that is not defined.
    pub(crate) fn get_empty(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(key, node)| *key == name && node.is_null()).map(|(_, node)| *node)
    }
}

/// Says which field was perhaps meant.
pub(crate) fn unknown_field(at: Place, field: &str, what: &str, known: &[&str], report: &mut Report<'_>) {
    let help = meant(field, known, "known fields");
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

/// A whole number of a range; `0x1f`, `0o17`, `0b11` and YAML 1.1's `017` are read as such.
pub(crate) fn integer(
    node: &Node,
    what: &str,
    range: std::ops::RangeInclusive<i64>,
    report: &mut Report<'_>,
) -> Option<i64> {
    let parsed = match &node.kind {
        Kind::Scalar { text, plain: true } => parse_integer(text),
        _ => None,
    };
    if let Some(number) = parsed.filter(|number| range.contains(number)) {
        return Some(number);
    }
    let message = format!(
        "{what} must be a whole number from {} to {}, not {}",
        range.start(),
        range.end(),
        node.describe()
    );
    report.problem_with_help(node.at, message, "write it without quotes, for example 2048 or 0x800");
    None
}

/// As YAML 1.1 and 1.2 write whole numbers.
pub(crate) fn parse_integer(text: &str) -> Option<i64> {
    let text = text.replace('_', "");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some(_) if digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A second sign is no digit.
    let number =
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| i64::from_str_radix(digits, radix).ok());
    number.flatten().map(|number| if negative { -number } else { number })
}

/// `true` or `false`, also in YAML 1.1's other words, and in quotes.
pub(crate) fn boolean(node: &Node, what: &str, report: &mut Report<'_>) -> Option<bool> {
    let word = match &node.kind {
        Kind::Scalar { text, .. } => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    match word.as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => {
            let message = format!("{what} must be true or false, not {}", node.describe());
            report.problem_with_help(node.at, message, "write `true` or `false`");
            None
        }
    }
}

/// One of a few words.
pub(crate) fn word<T>(
    node: &Node,
    what: &str,
    known: &[&str],
    from_word: fn(&str) -> Option<T>,
    report: &mut Report<'_>,
) -> Option<T> {
    let text = match &node.kind {
        Kind::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    let found = from_word(text);
    if found.is_none() {
        let message = format!("{what} cannot be {}", node.describe());
        report.problem_with_help(node.at, message, meant(text, known, "known"));
    }
    found
}

/// What was perhaps meant, and what there is.
pub(crate) fn meant(written: &str, known: &[&str], what_they_are: &str) -> String {
    let list = format!("{what_they_are}: {}", known.join(", "));
    match spelling::nearest(written, known.iter().copied()).first() {
        Some(meant) => format!("did you mean `{meant}`? {list}"),
        None => list,
    }
}

/// One thing, or a list of them.
pub(crate) fn one_or_several(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::List(items) => items,
        _ if node.is_null() => &[],
        _ => std::slice::from_ref(node),
    }
}

/// The entries of a mapping whose keys are names of the author's own.
pub(crate) fn named<'a>(
    node: &'a Node,
    what: &str,
    help: &str,
    report: &mut Report<'_>,
) -> &'a [(Key, Node)] {
    if let Kind::Map(entries) = &node.kind {
        return entries;
    }
    report.problem_with_help(node.at, format!("{what} must be a mapping, not {}", node.describe()), help);
    &[]
}

/// Whether a text can name a thing of a job: letters, digits, underscores.
pub(crate) fn is_resource_name(key: &Key, what: &str, report: &mut Report<'_>) -> bool {
    let fine = (1..=64).contains(&key.text.len())
        && key.text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !fine {
        let message = format!("{what} cannot be named `{}`", key.text.chars().take(40).collect::<String>());
        report.problem_with_help(key.at, message, "use letters, digits and `_`, at most 64");
    }
    fine
}
