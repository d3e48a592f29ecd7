//! The third layer of a job: what the fields of the tree mean.

use std::collections::BTreeMap;

use farmgate_protocol::Timestamp;

use crate::{
    Artifact, BootSpec, ConsolePatterns, Job, Pattern, Target, Timeouts, WatchdogPatterns,
    check::{self, Fields},
    complex_list::ComplexList,
    error::Report,
    pattern, timeouts,
    yaml::{Kind, Node},
};

const TOP: [&str; 7] =
    ["version", "deadline", "target", "timeouts", "console_patterns", "deployment", "proxy"];
const PATTERNS: [&str; 6] =
    ["session_end", "session_reboot", "job_success", "job_warn", "machine_unfit_for_service", "watchdogs"];
const BOOT: [&str; 6] = ["kernel", "initramfs", "dtb", "storage", "fastboot", "dhcp"];
/// The fields of an artifact; a mapping that has one of them is no mapping of categories.
const ARTIFACT: [&str; 4] = ["url", "data", "archive", "format"];
const KERNEL: [&str; 5] = ["url", "data", "archive", "format", "cmdline"];

/// Only what the first rendering is for. The outer `None`: something was reported.
pub(crate) fn read_target_only(tree: &Node, report: &mut Report<'_>) -> Option<Option<Target>> {
    let fields = open_job(tree, report)?;
    let Some(node) = fields.get("target") else { return Some(None) };
    let target = Fields::open(node, "`target`", &["id", "tags"], report)?;
    // An id or tags that a variable gives are nothing yet: the second rendering tells.
    if target.get("id").is_none() && target.get("tags").is_none() {
        return Some(None);
    }
    read_target(node, report).map(Some)
}

/// The whole job.
pub(crate) fn read(tree: &Node, report: &mut Report<'_>) -> Option<Job> {
    let fields = open_job(tree, report)?;
    fields.refuse("", &["proxy"], report);
    let deadline = fields.get("deadline").and_then(|node| read_deadline(node, report));
    let target = fields.get("target").and_then(|node| read_target(node, report));
    let timeouts = timeouts::read(fields.get("timeouts"), report);
    let console_patterns = read_patterns(fields.get("console_patterns"), &timeouts, report);
    let (start, continue_) = match fields.get("deployment") {
        Some(node) => read_deployment(node, report),
        None => Default::default(),
    };
    Some(Job { target, deadline, timeouts, console_patterns, start, continue_, warnings: Vec::new() })
}

fn open_job<'a>(tree: &'a Node, report: &mut Report<'_>) -> Option<Fields<'a>> {
    let fields = Fields::open(tree, "the job", &TOP, report)?;
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
    let fields = Fields::open(node, "`target`", &["id", "tags"], report)?;
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

fn read_patterns(node: Option<&Node>, timeouts: &Timeouts, report: &mut Report<'_>) -> ConsolePatterns {
    let fields = node.and_then(|n| Fields::open(n, "`console_patterns`", &PATTERNS, report));
    let get = |name: &str| fields.as_ref().and_then(|f| f.get(name));
    let mut one =
        |name: &str| get(name).and_then(|n| read_pattern(n, &format!("console_patterns.{name}"), report));
    let session_end = one("session_end").unwrap_or_else(pattern::default_session_end);
    let session_reboot = one("session_reboot");
    let job_success = one("job_success");
    let job_warn = one("job_warn");
    let machine_unfit_for_service = one("machine_unfit_for_service");
    let watchdogs = get("watchdogs").map(|n| read_watchdogs(n, timeouts, report)).unwrap_or_default();
    if let Some(at) = node.map(|n| n.at) {
        for name in timeouts.watchdogs.keys().filter(|name| !watchdogs.contains_key(*name)) {
            report.warning(
                at,
                format!("the watchdog `{name}` has a timeout, but no patterns: nothing arms it"),
            );
        }
    }
    ConsolePatterns {
        session_end,
        session_reboot,
        job_success,
        job_warn,
        machine_unfit_for_service,
        watchdogs,
    }
}

fn read_watchdogs(
    node: &Node,
    timeouts: &Timeouts,
    report: &mut Report<'_>,
) -> BTreeMap<String, WatchdogPatterns> {
    let Kind::Map(entries) = &node.kind else {
        let message = format!("`console_patterns.watchdogs` must be a mapping, not {}", node.describe());
        report.problem_with_help(
            node.at,
            message,
            "write NAME: {start: {regex: ...}, reset: ..., stop: ...}",
        );
        return BTreeMap::new();
    };
    let mut all = BTreeMap::new();
    for (key, value) in entries {
        let path = format!("console_patterns.watchdogs.{}", key.text);
        let Some(fields) = Fields::open(value, &format!("`{path}`"), &["start", "reset", "stop"], report)
        else {
            continue;
        };
        let mut one =
            |name: &str| fields.get(name).and_then(|n| read_pattern(n, &format!("{path}.{name}"), report));
        let (start, reset, stop) = (one("start"), one("reset"), one("stop"));
        if fields.get("start").is_none() {
            report.problem_with_help(
                fields.at,
                format!("`{path}` has no `start`"),
                "nothing would ever arm it",
            );
        }
        if !timeouts.watchdogs.contains_key(&key.text) {
            let text = format!("the watchdog `{0}` has no timeout: give `timeouts.watchdogs.{0}`", key.text);
            report.warning(key.at, text);
        }
        if let Some(start) = start {
            all.insert(key.text.clone(), WatchdogPatterns { start, reset, stop });
        }
    }
    all
}

fn read_pattern(node: &Node, path: &str, report: &mut Report<'_>) -> Option<Pattern> {
    let fields = Fields::open(node, &format!("`{path}`"), &["regex"], report)?;
    let Some(regex) = fields.get("regex") else {
        report.problem_with_help(
            fields.at,
            format!("`{path}` has no `regex`"),
            "write {regex: 'text to look for'}",
        );
        return None;
    };
    let text = check::text(regex, &format!("`{path}.regex`"), report)?;
    match Pattern::new(&text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            report.problem_with_help(regex.at, format!("`{path}.regex`: {}", error.message()), error.help());
            None
        }
    }
}

/// One boot as it was written.
#[derive(Default)]
struct BootText {
    kernel: Option<Artifact>,
    cmdline: Option<ComplexList<String>>,
    initramfs: Option<ComplexList<Artifact>>,
}

fn read_deployment(node: &Node, report: &mut Report<'_>) -> (BootSpec, BootSpec) {
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
    let Some(fields) = Fields::open(node, &format!("`{path}`"), &BOOT, report) else {
        return BootText::default();
    };
    fields.refuse(&format!("{path}."), &["dtb", "storage", "fastboot", "dhcp"], report);
    let mut boot = BootText::default();
    if let Some(node) = fields.get("kernel") {
        let path = format!("{path}.kernel");
        if let Some(kernel) = Fields::open(node, &format!("`{path}`"), &KERNEL, report) {
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
        Kind::Map(entries) => entries.iter().any(|(key, _)| ARTIFACT.contains(&key.text.as_str())),
        _ => false,
    }
}

fn read_artifact(node: &Node, path: &str, report: &mut Report<'_>) -> Option<Artifact> {
    let Kind::Map(_) = &node.kind else {
        let message = format!("each of `{path}` must be a mapping, not {}", node.describe());
        report.problem_with_help(node.at, message, "write {url: ...} or {data: ...}, or categories of such");
        return None;
    };
    let fields = Fields::open(node, &format!("an artifact of `{path}`"), &ARTIFACT, report)?;
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
