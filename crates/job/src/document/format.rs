//! Reading `format`, the pipeline that an artifact goes through.

use super::{
    artifact::{self, Groups},
    fields,
    supported::{self, Feature},
};
use crate::{
    ArchiveCompression, ArchiveExtension, ArchiveFormat, Format, Keep, UbootArchitecture, UbootCompression,
    UbootFormat, UbootOs, UbootType,
    check::{self, Fields},
    error::Report,
    whole_regex::WholeRegex,
    yaml::{Kind, Node},
};

/// The steps, if `format` is given.
pub(super) fn read(
    artifact: &Fields<'_>,
    path: &str,
    groups: Groups<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Format>> {
    let node = artifact.get("format")?;
    let path = format!("{path}.format");
    supported::ask(Feature::Format, node, &path, report);
    let steps = check::one_or_several(node).iter();
    Some(steps.filter_map(|step| read_step(step, &path, groups, report)).collect())
}

fn read_step(node: &Node, path: &str, groups: Groups<'_>, report: &mut Report<'_>) -> Option<Format> {
    let fields = Fields::open(node, &format!("each step of `{path}`"), &fields::FORMAT, report)?;
    // A step without fields of its own has all defaults.
    let given = |name: &str| fields.get(name).or(fields.get_empty(name));
    match (given("archive"), given("uboot")) {
        (Some(node), None) => {
            read_archive(node, &format!("{path}.archive"), groups, report).map(Format::Archive)
        }
        (None, Some(node)) => read_uboot(node, &format!("{path}.uboot"), report).map(Format::Uboot),
        (Some(_), Some(_)) => {
            let help = "write each step as an item of its own, in the order in which they are done";
            report.problem_with_help(fields.at, format!("a step of `{path}` is two"), help);
            None
        }
        (None, None) => {
            if !(fields.lacks("archive") && fields.lacks("uboot")) {
                return None;
            }
            let help = "write `archive: {...}` or `uboot: {...}`";
            report.problem_with_help(fields.at, format!("a step of `{path}` says nothing"), help);
            None
        }
    }
}

fn read_uboot(node: &Node, path: &str, report: &mut Report<'_>) -> Option<UbootFormat> {
    if node.is_null() {
        return Some(UbootFormat::default());
    }
    let fields = Fields::open(node, &format!("`{path}`"), &fields::FORMAT_UBOOT, report)?;
    let what = |name: &str| format!("`{path}.{name}`");
    Some(UbootFormat {
        architecture: fields.get("architecture").and_then(|n| {
            let from = UbootArchitecture::from_word;
            check::word(n, &what("architecture"), UbootArchitecture::ALL, from, report)
        }),
        compression: fields.get("compression").and_then(|n| {
            let from = UbootCompression::from_word;
            check::word(n, &what("compression"), UbootCompression::ALL, from, report)
        }),
        os: fields
            .get("os")
            .and_then(|n| check::word(n, &what("os"), UbootOs::ALL, UbootOs::from_word, report)),
        kind: fields
            .get("type")
            .and_then(|n| check::word(n, &what("type"), UbootType::ALL, UbootType::from_word, report)),
    })
}

fn read_archive(
    node: &Node,
    path: &str,
    groups: Groups<'_>,
    report: &mut Report<'_>,
) -> Option<ArchiveFormat> {
    let none = ArchiveFormat {
        extension: ArchiveExtension::None,
        compression: ArchiveCompression::None,
        keep: Vec::new(),
        add: Vec::new(),
    };
    if node.is_empty() {
        let text = format!("`{path}` is empty: it only undoes a compression");
        report.warning(node.at, text);
        return Some(none);
    }
    let fields = Fields::open(node, &format!("`{path}`"), &fields::FORMAT_ARCHIVE, report)?;
    let extension = fields.get("extension").and_then(|n| artifact::read_extension(n, path, report));
    let compression = fields.get("compression").and_then(|n| artifact::read_compression(n, path, report));
    let mut keep: Vec<Keep> = match fields.get("keep") {
        Some(node) => {
            let path = format!("{path}.keep");
            let items = check::one_or_several(node).iter();
            items.filter_map(|item| read_keep(item, &path, groups, report)).collect()
        }
        None => Vec::new(),
    };
    let add = fields.get("add").map(|n| artifact::read_members(n, path, groups, report)).unwrap_or_default();
    if let Some(node) = fields.get("match") {
        for other in ["keep", "add", "extension"] {
            let clash = fields.get(other).filter(|n| !n.is_empty());
            if clash.is_some() && !(other == "extension" && extension == Some(ArchiveExtension::None)) {
                let message = format!("`{path}` has `match` and `{other}`");
                let help = "`match` gives the one file that it names; use `keep` for an archive of several";
                report.problem_with_help(node.at, message, help);
            }
        }
        let path_of_one = read_member_regex(node, &format!("`{path}.match`"), groups, report)?;
        keep = vec![Keep { path: path_of_one, rewrite: None }];
    } else if extension.is_none() && fields.get("extension").is_none() && (keep.len() > 1 || !add.is_empty())
    {
        let help = "give `extension`, or name one file with `match`";
        report.problem_with_help(
            fields.at,
            format!("`{path}` has several files, but does not say what archive to make of them"),
            help,
        );
    }
    Some(ArchiveFormat {
        extension: extension.unwrap_or(none.extension),
        compression: compression.unwrap_or(none.compression),
        keep,
        add,
    })
}

fn read_keep(node: &Node, path: &str, groups: Groups<'_>, report: &mut Report<'_>) -> Option<Keep> {
    let Kind::Map(_) = &node.kind else {
        let message = format!("each of `{path}` must be a mapping, not {}", node.describe());
        report.problem_with_help(node.at, message, "write {path: 'regex'}");
        return None;
    };
    let fields = Fields::open(node, &format!("each of `{path}`"), &fields::KEEP, report)?;
    if fields.lacks("path") {
        let message = format!("one of `{path}` has no `path`");
        report.problem_with_help(fields.at, message, "write {path: 'regex of the names to keep'}");
    }
    let regex = fields.get("path")?;
    let what = format!("`{path}.path`");
    let wanted = read_member_regex(regex, &what, groups, report)?;
    let rewrite = match fields.get("rewrite") {
        Some(node) => {
            let text = check::text(node, &format!("`{path}.rewrite`"), report)?;
            let known = WholeRegex::new(&filled(&wanted, groups)).ok().map(|regex| regex.known_groups());
            if let Some(known) = known {
                Groups::Of(&known).check(node, &text, &format!("`{path}.rewrite`"), report);
            }
            Some(text)
        }
        None => None,
    };
    Some(Keep { path: wanted, rewrite })
}

/// A regex for the names of members. Its references to the groups of the artifact's path are filled in when the path
/// is known, so something stands for them while it is checked.
fn read_member_regex(node: &Node, what: &str, groups: Groups<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = check::text(node, what, report)?;
    if let Err(error) = WholeRegex::new(&filled(&text, groups)) {
        let help = "names are matched whole, by a Python regex; in YAML write it in single quotes";
        report.problem_with_help(node.at, format!("{what}: {error}"), help);
        return None;
    }
    Some(text)
}

fn filled(regex: &str, groups: Groups<'_>) -> String {
    match groups {
        Groups::Of(known) => known.fill(regex, "x"),
        Groups::None | Groups::Unknown => regex.to_owned(),
    }
}
