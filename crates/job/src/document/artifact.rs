//! Reading artifacts: where they come from.

use super::{
    fields, format,
    supported::{self, Feature},
};
use crate::{
    Archive, ArchiveCompression, ArchiveExtension, ArchiveMember, Artifact,
    check::{self, Fields},
    error::Report,
    whole_regex::KnownGroups,
    yaml::{Kind, Node},
};

/// Type of a regular file in a Unix mode.
const REGULAR: u32 = 0o100_000;
/// Of a file that goes into an archive, where it is not said.
const DEFAULT_MODE: u32 = REGULAR | 0o644;

/// What `\1` can refer to.
#[derive(Clone, Copy)]
pub(super) enum Groups<'a> {
    /// To nothing: the artifact has no path.
    None,
    /// Its path is wrong, which was told.
    Unknown,
    /// To a group of its path.
    Of(&'a KnownGroups),
}

impl Groups<'_> {
    /// Says so if a text refers to a group that does not exist.
    pub(super) fn check(self, node: &Node, text: &str, what: &str, report: &mut Report<'_>) {
        let Self::Of(known) = self else { return };
        if let Some(missing) = known.missing_in(text) {
            let message = format!("{what} uses `{missing}`, but the `path` has {}", count(known.count));
            let help = "put what is to be used into brackets in `path`, for example '/dtbs/(.*)'";
            report.problem_with_help(node.at, message, help);
        }
    }
}

fn count(groups: usize) -> String {
    match groups {
        0 => "no group".to_owned(),
        1 => "only one group".to_owned(),
        n => format!("only {n} groups"),
    }
}

/// One artifact. It must have a source.
pub(super) fn read(node: &Node, path: &str, report: &mut Report<'_>) -> Option<Artifact> {
    let Kind::Map(_) = &node.kind else {
        let message = format!("each of `{path}` must be a mapping, not {}", node.describe());
        report.problem_with_help(node.at, message, "write {url: ...} or {data: ...}, or categories of such");
        return None;
    };
    let fields = Fields::open(node, &format!("an artifact of `{path}`"), &fields::ARTIFACT, report)?;
    read_fields(&fields, path, Groups::None, report)
}

/// An artifact whose mapping is open. It must have a source.
pub(super) fn read_fields(
    fields: &Fields<'_>,
    path: &str,
    groups: Groups<'_>,
    report: &mut Report<'_>,
) -> Option<Artifact> {
    let before = report.count();
    let source = read_source(fields, path, groups, report);
    let misspelt =
        ["url", "data", "archive"].iter().any(|name| fields.get(name).is_none() && !fields.lacks(name));
    if source.is_none() && report.count() == before && !misspelt {
        let help =
            "give `url`, `data` or `archive`; leave the whole field out for the default of the machine";
        report.problem_with_help(fields.at, format!("an artifact of `{path}` has no source"), help);
    }
    let steps = format::read(fields, path, groups, report).unwrap_or_default();
    source.map(|source| source.formatted(&steps))
}

/// At most one source.
pub(super) fn read_source(
    fields: &Fields<'_>,
    path: &str,
    groups: Groups<'_>,
    report: &mut Report<'_>,
) -> Option<Artifact> {
    let given = |name: &str| fields.get(name).filter(|node| name != "archive" || !node.is_empty());
    for name in ["url", "data", "archive"] {
        if let (Some(node), None) = (fields.get_empty(name).or(fields.get(name)), given(name)) {
            let text =
                format!("`{path}.{name}` is empty (is a variable not defined?): it counts as not given");
            report.warning(node.at, text);
        }
    }
    let (url, data, archive) = (given("url"), given("data"), given("archive"));
    let several = [url, data, archive].into_iter().flatten().count();
    if several > 1 {
        let first = url.or(data).map_or(fields.at, |node| node.at);
        let many = if several == 2 { "two" } else { "three" };
        let help = "keep one of `url`, `data` and `archive`";
        report.problem_with_help(first, format!("`{path}` has {many} sources"), help);
        return None;
    }
    if let Some(node) = url {
        return read_url(node, &format!("`{path}.url`"), groups, report).map(Artifact::Url);
    }
    if let Some(node) = data {
        return check::text(node, &format!("`{path}.data`"), report).map(Artifact::Data);
    }
    let node = archive?;
    let path = format!("{path}.archive");
    supported::ask(Feature::Archive, node, &path, report);
    read_archive(node, &path, groups, report).map(Artifact::Archive)
}

/// An address that can be fetched.
pub(super) fn read_url(
    node: &Node,
    what: &str,
    groups: Groups<'_>,
    report: &mut Report<'_>,
) -> Option<String> {
    let url = check::text(node, what, report)?;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if host.is_none_or(str::is_empty) {
        let help = "write the whole address, with https:// or http://";
        report.problem_with_help(node.at, format!("{what} is no address that can be fetched"), help);
    } else if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let help = "write %20 for a blank in an address";
        report.problem_with_help(node.at, format!("{what} has a blank in its address"), help);
    } else if matches!(groups, Groups::None) && url.contains('\\') {
        let help = "write `/`; `\\1` can be used only below a `path` of `storage.http` or `storage.tftp`";
        report.problem_with_help(node.at, format!("{what} has a backslash in its address"), help);
    } else {
        groups.check(node, &url, what, report);
    }
    Some(url)
}

fn read_archive(node: &Node, path: &str, groups: Groups<'_>, report: &mut Report<'_>) -> Option<Archive> {
    let fields = Fields::open(node, &format!("`{path}`"), &fields::ARCHIVE, report)?;
    let extension = fields.get("extension").and_then(|n| read_extension(n, path, report));
    if fields.lacks("extension") || extension == Some(ArchiveExtension::None) {
        let help = "write `extension: cpio`, `iso`, `tar` or `zip`";
        report.problem_with_help(fields.at, format!("`{path}` does not say what archive to make"), help);
    }
    let compression = fields.get("compression").and_then(|n| read_compression(n, path, report));
    let add = fields.get("add").map(|n| read_members(n, path, groups, report)).unwrap_or_default();
    let compression = compression.unwrap_or(ArchiveCompression::None);
    let extension = extension.filter(|found| *found != ArchiveExtension::None)?;
    Some(Archive { extension, compression, add })
}

pub(super) fn read_extension(node: &Node, path: &str, report: &mut Report<'_>) -> Option<ArchiveExtension> {
    let what = format!("`{path}.extension`");
    check::word(node, &what, ArchiveExtension::ALL, ArchiveExtension::from_word, report)
}

pub(super) fn read_compression(
    node: &Node,
    path: &str,
    report: &mut Report<'_>,
) -> Option<ArchiveCompression> {
    let what = format!("`{path}.compression`");
    check::word(node, &what, ArchiveCompression::ALL, ArchiveCompression::from_word, report)
}

/// The files that go into an archive.
pub(super) fn read_members(
    node: &Node,
    path: &str,
    groups: Groups<'_>,
    report: &mut Report<'_>,
) -> Vec<ArchiveMember> {
    let path = format!("{path}.add");
    check::one_or_several(node).iter().filter_map(|item| read_member(item, &path, groups, report)).collect()
}

fn read_member(
    node: &Node,
    path: &str,
    groups: Groups<'_>,
    report: &mut Report<'_>,
) -> Option<ArchiveMember> {
    let fields = Fields::open(node, &format!("each of `{path}`"), &fields::ARCHIVE_ADD, report)?;
    let name = fields.get("path").and_then(|node| {
        let text = check::text(node, &format!("`{path}.path`"), report)?;
        groups.check(node, &text, &format!("`{path}.path`"), report);
        Some(text)
    });
    if fields.lacks("path") || name.as_deref() == Some("") {
        let message = format!("a file of `{path}` has no `path`");
        report.problem_with_help(fields.at, message, "write its name in the archive");
    }
    let artifact = match fields.get("artifact") {
        Some(node) => {
            let path = format!("{path}.artifact");
            let inner = Fields::open(node, &format!("`{path}`"), &fields::ARTIFACT, report)?;
            read_fields(&inner, &path, groups, report)
        }
        None => {
            if fields.lacks("artifact") {
                let message = format!("a file of `{path}` has no `artifact`");
                report.problem_with_help(fields.at, message, "write `artifact: {url: ...}` or `{data: ...}`");
            }
            None
        }
    };
    let mode = match fields.get("mode") {
        Some(node) => read_mode(node, &format!("`{path}.mode`"), report)?,
        None => DEFAULT_MODE,
    };
    Some(ArchiveMember { path: name?, artifact: artifact?, mode })
}

/// Permissions, with or without the type of a regular file.
fn read_mode(node: &Node, what: &str, report: &mut Report<'_>) -> Option<u32> {
    let number = match &node.kind {
        // In quotes it is never decimal: nobody writes modes so.
        Kind::Scalar { text, plain: false } => i64::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
        Kind::Scalar { text, plain: true } => check::parse_integer(text),
        _ => None,
    };
    let mode = number.and_then(|number| u32::try_from(number).ok());
    let permissions = mode.filter(|mode| mode & !0o7777 == 0 || mode & !0o7777 == REGULAR);
    let Some(permissions) = permissions else {
        let message = format!("{what} must be the permissions of a file, not {}", node.describe());
        report.problem_with_help(node.at, message, "write them in octal: 0o644, or 0o755 for a program");
        return None;
    };
    if let Kind::Scalar { text, plain: true } = &node.kind
        && matches!(text.len(), 3 | 4)
        && !text.starts_with('0')
        && text.bytes().all(|b| matches!(b, b'0'..=b'7'))
    {
        report.warning(
            node.at,
            format!("{what}: {text} is decimal, which is 0o{permissions:o}; write 0o{text}"),
        );
    }
    Some(permissions | REGULAR)
}
