//! Reading `console_patterns`.

use std::collections::BTreeMap;

use super::fields;
use crate::{
    ConsolePatterns, Pattern, Timeouts, WatchdogPatterns,
    check::{self, Fields},
    error::Report,
    pattern,
    yaml::{Kind, Node},
};

/// Patterns of which one match decides; one that matches everything is hardly meant.
const DECISIVE: [&str; 4] = [
    "console_patterns.session_end",
    "console_patterns.session_reboot",
    "console_patterns.job_success",
    "console_patterns.machine_unfit_for_service",
];

/// What the automaton of all patterns of a job may take, bytes.
const MAX_COMPILED: usize = 32 << 20;

pub(super) fn read(node: Option<&Node>, timeouts: &Timeouts, report: &mut Report<'_>) -> ConsolePatterns {
    let fields = node.and_then(|n| Fields::open(n, "`console_patterns`", &fields::PATTERNS, report));
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
    if let (Some(node), true, false) = (get("job_warn"), job_warn.is_some(), job_success.is_some()) {
        let text = "`job_warn` means nothing without `job_success`: the verdict stays COMPLETE";
        report.warning(node.at, text);
    }
    if let (Some(node), true, 0) =
        (get("session_reboot"), session_reboot.is_some(), timeouts.boot_cycle.retries)
    {
        let text = "`session_reboot` ends the job, because `timeouts.boot_cycle` allows no reboot: give it `retries`";
        report.warning(node.at, text);
    }
    let patterns = ConsolePatterns {
        session_end,
        session_reboot,
        job_success,
        job_warn,
        machine_unfit_for_service,
        watchdogs,
    };
    let size: usize = all(&patterns).map(Pattern::compiled_size).sum();
    if let (Some(node), true) = (node, size > MAX_COMPILED) {
        report.problem_with_help(
            node.at,
            format!(
                "the console patterns take {} MiB together: the most is {}",
                size >> 20,
                MAX_COMPILED >> 20
            ),
            "use fewer of them, or shorter repetitions than {1000}",
        );
    }
    patterns
}

fn all(patterns: &ConsolePatterns) -> impl Iterator<Item = &Pattern> {
    let ConsolePatterns {
        session_end,
        session_reboot,
        job_success,
        job_warn,
        machine_unfit_for_service,
        watchdogs,
    } = patterns;
    let optional = [session_reboot, job_success, job_warn, machine_unfit_for_service];
    let edges = watchdogs.values().flat_map(|w| [Some(&w.start), w.reset.as_ref(), w.stop.as_ref()]);
    std::iter::once(session_end).chain(optional.into_iter().flatten()).chain(edges.flatten())
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
        if fields.lacks("start") {
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
    if fields.lacks("regex") {
        let help = "write {regex: 'text to look for'}";
        report.problem_with_help(fields.at, format!("`{path}` has no `regex`"), help);
    }
    let regex = fields.get("regex")?;
    let text = check::text(regex, &format!("`{path}.regex`"), report)?;
    match Pattern::new(&text) {
        Ok(pattern) => {
            if let Some(why) = pattern.cannot_match() {
                report.warning(regex.at, format!("`{path}.regex` can never match a line: {why}"));
            } else if DECISIVE.contains(&path) && pattern.matches_every_line() {
                let text =
                    format!("`{path}.regex` matches every line: the first one that is printed decides");
                report.warning(regex.at, text);
            }
            Some(pattern)
        }
        Err(error) => {
            report.problem_with_help(regex.at, format!("`{path}.regex`: {}", error.message()), error.help());
            None
        }
    }
}
