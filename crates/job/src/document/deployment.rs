//! Reading `deployment`.

use super::fields;
use crate::{
    Artifact, BootSpec,
    check::{self, Fields},
    complex_list::ComplexList,
    error::Report,
    yaml::{Kind, Node},
};

/// One boot as it was written.
#[derive(Default)]
struct BootText {
    kernel: Option<Artifact>,
    cmdline: Option<ComplexList<String>>,
    initramfs: Option<ComplexList<Artifact>>,
}

pub(super) fn read(node: &Node, report: &mut Report<'_>) -> (BootSpec, BootSpec) {
    let Some(fields) = Fields::open(node, "`deployment`", &["start", "continue"], report) else {
        return Default::default();
    };
    let mut boot = |name: &str| match fields.get(name) {
        Some(node) => read_boot(node, &format!("deployment.{name}"), report),
        None => BootText::default(),
    };
    let start = boot("start");
    let later = boot("continue");
    let merged = BootText {
        kernel: later.kernel.or_else(|| start.kernel.clone()),
        cmdline: merge(start.cmdline.as_ref(), later.cmdline),
        initramfs: merge(start.initramfs.as_ref(), later.initramfs),
    };
    (finish_boot(&start), finish_boot(&merged))
}

fn merge<T: Clone>(start: Option<&ComplexList<T>>, later: Option<ComplexList<T>>) -> Option<ComplexList<T>> {
    match (start, later) {
        (Some(start), Some(later)) => Some(start.updated_by(&later)),
        (start, later) => later.or_else(|| start.cloned()),
    }
}

fn finish_boot(boot: &BootText) -> BootSpec {
    let some = |all: Vec<Artifact>| (!all.is_empty()).then_some(all);
    let parts = boot.cmdline.as_ref().map(ComplexList::flatten).unwrap_or_default();
    BootSpec {
        kernel: boot.kernel.clone(),
        initramfs: boot.initramfs.as_ref().map(ComplexList::flatten).and_then(some),
        cmdline: (!parts.is_empty()).then(|| parts.join(" ")),
    }
}

fn read_boot(node: &Node, path: &str, report: &mut Report<'_>) -> BootText {
    let Some(fields) = Fields::open(node, &format!("`{path}`"), &fields::BOOT, report) else {
        return BootText::default();
    };
    fields.refuse(&format!("{path}."), &["dtb", "storage", "fastboot", "dhcp"], report);
    let mut boot = BootText::default();
    if let Some(node) = fields.get("kernel") {
        let path = format!("{path}.kernel");
        if let Some(kernel) = Fields::open(node, &format!("`{path}`"), &fields::KERNEL, report) {
            boot.kernel = read_source(&kernel, &path, report);
            boot.cmdline = kernel.get("cmdline").map(|n| read_cmdline(n, &path, report));
        }
    }
    if let Some(node) = fields.get("initramfs") {
        let path = format!("{path}.initramfs");
        boot.initramfs = Some(ComplexList::read(node, report, is_artifact, &mut |item, report| {
            read_artifact(item, &path, report)
        }));
    }
    boot
}

fn read_cmdline(node: &Node, path: &str, report: &mut Report<'_>) -> ComplexList<String> {
    let what = format!("each part of `{path}.cmdline`");
    ComplexList::read(node, report, |_| false, &mut |item, report| check::text(item, &what, report))
}

/// A mapping with the name of an artifact's field is an artifact, not categories.
fn is_artifact(node: &Node) -> bool {
    match &node.kind {
        Kind::Map(entries) => entries.iter().any(|(key, _)| fields::ARTIFACT.contains(&key.text.as_str())),
        _ => false,
    }
}

fn read_artifact(node: &Node, path: &str, report: &mut Report<'_>) -> Option<Artifact> {
    let Kind::Map(_) = &node.kind else {
        let message = format!("each of `{path}` must be a mapping, not {}", node.describe());
        report.problem_with_help(node.at, message, "write {url: ...} or {data: ...}, or categories of such");
        return None;
    };
    let fields = Fields::open(node, &format!("an artifact of `{path}`"), &fields::ARTIFACT, report)?;
    let before = report.count();
    let source = read_source(&fields, path, report);
    if source.is_none() && report.count() == before {
        let help = "give `url` or `data`; leave the whole field out for the default of the machine";
        report.problem_with_help(fields.at, format!("an artifact of `{path}` has no source"), help);
    }
    source
}

/// At most one source. What is there and not supported is refused.
fn read_source(fields: &Fields<'_>, path: &str, report: &mut Report<'_>) -> Option<Artifact> {
    fields.refuse(&format!("{path}."), &["archive", "format"], report);
    for name in ["url", "data"] {
        if let Some(node) = fields.get_empty(name) {
            let text =
                format!("`{path}.{name}` is empty (is a variable not defined?): it counts as not given");
            report.warning(node.at, text);
        }
    }
    match (fields.get("url"), fields.get("data")) {
        (Some(url), Some(_)) => {
            report.problem_with_help(
                url.at,
                format!("`{path}` has two sources"),
                "keep one of `url` and `data`",
            );
            None
        }
        (Some(node), None) => {
            let url = check::text(node, &format!("`{path}.url`"), report)?;
            if !url.starts_with("http://") && !url.starts_with("https://") {
                let help = "write the whole address, with https:// or http://";
                report.problem_with_help(
                    node.at,
                    format!("`{path}.url` is no address that can be fetched"),
                    help,
                );
            }
            Some(Artifact::Url(url))
        }
        (None, Some(node)) => check::text(node, &format!("`{path}.data`"), report).map(Artifact::Data),
        (None, None) => None,
    }
}
