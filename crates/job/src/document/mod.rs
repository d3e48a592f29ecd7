//! The third layer of a job: what the fields of the tree mean.

mod artifact;
pub(crate) mod boot_methods;
mod deployment;
mod dhcp;
mod fastboot;
pub(crate) mod fields;
mod format;
mod lists;
mod patterns;
mod proxy;
mod storage;
mod supported;

use farmgate_protocol::Timestamp;

use supported::Feature;

use crate::{
    Job, Target,
    check::{self, Fields},
    error::Report,
    timeouts,
    yaml::Node,
};

/// Only what the first rendering is for. The outer `None`: something was reported.
pub(crate) fn read_target_only(tree: &Node, report: &mut Report<'_>) -> Option<Option<Target>> {
    let fields = open_job(tree, report)?;
    let Some(node) = fields.get("target") else { return Some(None) };
    let target = Fields::open(node, "`target`", &fields::TARGET, report)?;
    // An id or tags that a variable gives are nothing yet: the second rendering tells.
    if target.get("id").is_none() && target.get("tags").is_none() {
        return Some(None);
    }
    read_target(node, report).map(Some)
}

/// The whole job.
pub(crate) fn read(tree: &Node, report: &mut Report<'_>) -> Option<Job> {
    let fields = open_job(tree, report)?;
    let proxy = fields.get("proxy").and_then(|node| {
        supported::ask(Feature::Proxy, node, "proxy", report);
        proxy::read(node, report)
    });
    let deadline = fields.get("deadline").and_then(|node| read_deadline(node, report));
    let target = fields.get("target").and_then(|node| read_target(node, report));
    let timeouts = timeouts::read(fields.get("timeouts"), report);
    let console_patterns = patterns::read(fields.get("console_patterns"), &timeouts, report);
    let (start, continue_) = match fields.get("deployment") {
        Some(node) => deployment::read(node, report),
        None => Default::default(),
    };
    Some(Job {
        target,
        deadline,
        timeouts,
        console_patterns,
        start,
        continue_,
        proxy: proxy.unwrap_or_default(),
        warnings: Vec::new(),
    })
}

fn open_job<'a>(tree: &'a Node, report: &mut Report<'_>) -> Option<Fields<'a>> {
    let fields = Fields::open(tree, "the job", &fields::TOP, report)?;
    match fields.get("version") {
        Some(node) => {
            if check::count(node, "`version`", report).is_some_and(|version| version != 1) {
                report.problem_with_help(
                    node.at,
                    "this version of the job language is not known",
                    "write `version: 1`",
                );
            }
        }
        None => report.problem_with_help(
            fields.at,
            "the job has no `version`",
            "write `version: 1` at its beginning",
        ),
    }
    Some(fields)
}

fn read_target(node: &Node, report: &mut Report<'_>) -> Option<Target> {
    let fields = Fields::open(node, "`target`", &fields::TARGET, report)?;
    let id = fields.get("id").and_then(|n| check::text(n, "`target.id`", report));
    let tags = fields.get("tags").and_then(|n| check::texts(n, "`target.tags`", report));
    if fields.get("id").is_none() && fields.get("tags").is_none() {
        let help = "give `id`, `tags`, or both; `tags: []` means any machine; or remove `target` and name it on submission";
        report.problem_with_help(fields.at, "`target` names no machine", help);
    }
    Some(Target { id, tags: tags.unwrap_or_default() })
}

/// ISO 8601, or as YAML 1.1 writes times; without an offset it is UTC, as PyYAML's readers took it.
fn read_deadline(node: &Node, report: &mut Report<'_>) -> Option<Timestamp> {
    use jiff::{civil, tz::TimeZone};
    let text = check::text(node, "`deadline`", report)?;
    let text = text.trim();
    let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<civil::DateTime>().ok()?;
        civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    });
    if instant.is_none() {
        let help = "write it as 2026-12-31T23:59:59+00:00; without an offset it is UTC";
        report.problem_with_help(
            node.at,
            format!("`deadline` is no date and time: {}", node.describe()),
            help,
        );
    }
    instant.map(|i| Timestamp::from_micros(i.as_microsecond()))
}
