//! What a job comes to on one machine, told to a person: every value with where it comes from.
//!
//! A resolved [`Job`] holds values only; whether a timeout was written or is a default can be seen in the author's
//! tree alone. [`explain`] reads both. It knows no clock and no settings: the caller brings what the farm adds
//! ([`Facts`]), and knows what the default of a boot method is.

use std::time::Duration;

use farmgate_protocol::Timestamp;
use serde::Serialize;

use crate::{
    BootSpec, Checked, Job, Pattern, Source, Target, Timeout, Variables, document,
    error::Report,
    template,
    yaml::{self, Kind, Node},
};

/// Retries of `firmware_boot` where the job does not give it.
const FIRMWARE_RETRIES: u32 = 3;

/// The least that a firmware gets.
const FIRMWARE_LEAST: Duration = Duration::from_secs(5);

/// What a farm and its machine add to a job.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// How long the machine takes from power on to its first network boot request, once that was learned.
    pub firmware_boot_time: Option<Duration>,
    /// The farm's pattern of unfit machines, for jobs without one.
    pub unfit_pattern: Option<Pattern>,
    /// For the deadline.
    pub now: Timestamp,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The job says it.
    Given,
    /// The job does not say it: the language's default, or for what is loaded the default of the boot method.
    Default,
    /// From what the gateway has learned of the machine.
    Learned,
    /// A setting of the farm.
    Farm,
    /// `continue` takes it over from `start`.
    Start,
    /// `continue` updates what `start` has.
    Merged,
}

/// A job on one machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// As it would run, with what the farm adds.
    pub job: Job,
    /// Absent where the submission has to name the machine.
    pub target: Option<Target>,
    /// In the order of the manual.
    pub timeouts: Vec<ExplainedTimeout>,
    /// In the order of the manual; what is not looked for has no regex.
    pub patterns: Vec<ExplainedPattern>,
    /// What the first boot loads: kernel, initramfs, command line, then all else that the job asks for.
    pub start: Vec<Part>,
    /// The same for every later boot.
    pub continue_: Vec<Part>,
}

/// A timeout and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedTimeout {
    /// `boot_cycle`, `watchdogs.NAME`.
    pub name: String,
    /// What it is.
    pub timeout: Timeout,
    /// Where it comes from.
    pub origin: Origin,
    /// How it was made, where that is not obvious.
    pub note: Option<String>,
}

/// A console pattern and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedPattern {
    /// `session_end`, `watchdogs.NAME.start`.
    pub name: String,
    /// As it was written; absent: nothing is looked for.
    pub regex: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Something that a boot loads.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its field below the boot, as `dtb` or `storage.http`; `cmdline` stands for that of the kernel.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// As [`BootSpec`] has it. Null: the default of the machine's boot method.
    pub value: serde_json::Value,
}

/// The limit of `firmware_boot` where the job gives none: what was learned, with room. Nothing learned: infinite.
pub fn firmware_boot(learned: Option<Duration>) -> Timeout {
    let Some(learned) = learned else { return Timeout::INFINITE };
    let limit = learned.saturating_mul(5).checked_div(2).unwrap_or(learned).max(FIRMWARE_LEAST);
    Timeout { limit: Some(limit), retries: FIRMWARE_RETRIES }
}

/// As [`crate::check`], and each value of the job with where it comes from.
///
/// Beyond it: the `data` of artifacts is rendered on trial, and a deadline that has passed is a warning.
pub fn explain(source: &Source<'_>, variables: &Variables, facts: &Facts) -> Checked<Explained> {
    let rendered = match template::render(source, variables, template::Pass::Full) {
        Ok(rendered) => rendered,
        Err(error) => return Checked::failed(error),
    };
    let mut report = Report::new(source, &rendered);
    let explained = yaml::parse(&rendered.text, &mut report).and_then(|tree| {
        let job = document::read(&tree, &mut report)?;
        warn_of_deadline(&job, &tree, facts.now, &mut report);
        try_data(&job, &tree, variables, &mut report);
        Some(trace(job, &tree, facts))
    });
    report.finish(explained)
}

/// What the author wrote under these names, unless it is nothing.
fn given<'t>(tree: &'t Node, path: &[&str]) -> Option<&'t Node> {
    let mut node = tree;
    for name in path {
        let Kind::Map(entries) = &node.kind else { return None };
        node = entries.iter().find(|(key, _)| key.text == *name).map(|(_, value)| value)?;
    }
    (!node.is_null()).then_some(node)
}

fn warn_of_deadline(job: &Job, tree: &Node, now: Timestamp, report: &mut Report<'_>) {
    if let (Some(deadline), Some(node)) = (job.deadline, given(tree, &["deadline"]))
        && deadline < now
    {
        let text = format!("the deadline, {deadline}, has passed: a submission of this job would be refused");
        report.warning(node.at, text);
    }
}

/// The texts of artifacts are templates of their own, which the gateway renders only when it prepares the boots.
fn try_data(job: &Job, tree: &Node, variables: &Variables, report: &mut Report<'_>) {
    for (name, boot) in [("start", &job.start), ("continue", &job.continue_)] {
        if let Some(node) = given(tree, &["deployment", name]) {
            let cmdline = boot.cmdline.as_deref().unwrap_or_default();
            try_data_below(node, &format!("deployment.{name}"), variables, cmdline, report);
        }
    }
}

fn try_data_below(node: &Node, path: &str, variables: &Variables, cmdline: &str, report: &mut Report<'_>) {
    match &node.kind {
        Kind::Scalar { .. } => {}
        Kind::List(items) => {
            for item in items {
                try_data_below(item, path, variables, cmdline, report);
            }
        }
        Kind::Map(entries) => {
            for (key, value) in entries {
                let path = format!("{path}.{}", key.text);
                match &value.kind {
                    Kind::Scalar { text, .. } if key.text == "data" => {
                        try_one(value, &path, text, variables, cmdline, report);
                    }
                    _ => try_data_below(value, &path, variables, cmdline, report),
                }
            }
        }
    }
}

fn try_one(
    node: &Node,
    path: &str,
    text: &str,
    variables: &Variables,
    cmdline: &str,
    report: &mut Report<'_>,
) {
    let Err(error) = template::render_data(path, text, variables, cmdline) else { return };
    for problem in error.problems() {
        if problem.unsupported {
            // The message names the variable between backquotes.
            let what = problem.message.split('`').nth(1).unwrap_or(path);
            report.unsupported(node.at, what);
            continue;
        }
        let line = problem.place.map_or_else(String::new, |p| format!(", line {} of the text", p.line));
        let help = problem.help.clone().unwrap_or_else(|| "the text is a template of its own".to_owned());
        report.problem_with_help(node.at, format!("`{path}`{line}: {}", problem.message), help);
    }
}

fn trace(mut job: Job, tree: &Node, facts: &Facts) -> Explained {
    if job.console_patterns.machine_unfit_for_service.is_none() {
        job.console_patterns.machine_unfit_for_service.clone_from(&facts.unfit_pattern);
    }
    Explained {
        target: job.target.clone(),
        timeouts: timeouts(&job, tree, facts),
        patterns: patterns(&job, tree),
        start: parts(&job.start, tree, "start"),
        continue_: parts(&job.continue_, tree, "continue"),
        job,
    }
}

fn timeouts(job: &Job, tree: &Node, facts: &Facts) -> Vec<ExplainedTimeout> {
    let all = &job.timeouts;
    let is_given = |name: &str| given(tree, &["timeouts", name]).is_some();
    let one = |name: &str, timeout: Timeout, note: &str| {
        let (origin, note) = if is_given(name) {
            (Origin::Given, None)
        } else {
            (Origin::Default, (!note.is_empty()).then(|| note.to_owned()))
        };
        ExplainedTimeout { name: name.to_owned(), timeout, origin, note }
    };
    let mut list = vec![
        one("overall", all.overall, ""),
        one("infra_setup", all.infra_setup, "a quarter of overall"),
        one("infra_teardown", all.infra_teardown, "a quarter of overall"),
        one("boot_cycle", all.boot_cycle, ""),
        firmware(all.firmware_boot, facts.firmware_boot_time),
        one("first_console_activity", all.first_console_activity, ""),
        one("console_activity", all.console_activity, ""),
    ];
    list.extend(all.watchdogs.iter().map(|(name, timeout)| ExplainedTimeout {
        name: format!("watchdogs.{name}"),
        timeout: *timeout,
        origin: Origin::Given,
        note: None,
    }));
    list
}

fn firmware(given: Option<Timeout>, learned: Option<Duration>) -> ExplainedTimeout {
    let timeout = given.unwrap_or_else(|| firmware_boot(learned));
    let (origin, note) = match (given, learned) {
        (Some(_), _) => (Origin::Given, None),
        (None, Some(time)) => {
            let note = format!("2.5 times the learned {} s, at least 5 s", time.as_secs_f64());
            (Origin::Learned, Some(note))
        }
        (None, None) => (Origin::Default, Some("nothing was learned of this machine yet".to_owned())),
    };
    ExplainedTimeout { name: "firmware_boot".to_owned(), timeout, origin, note }
}

fn patterns(job: &Job, tree: &Node) -> Vec<ExplainedPattern> {
    let all = &job.console_patterns;
    let one = |name: &str, pattern: Option<&Pattern>, otherwise: Origin| {
        let is_given = given(tree, &["console_patterns", name]).is_some();
        ExplainedPattern {
            name: name.to_owned(),
            regex: pattern.map(|p| p.as_str().to_owned()),
            origin: if is_given { Origin::Given } else { otherwise },
        }
    };
    let unfit = all.machine_unfit_for_service.as_ref();
    let unfit_origin = if unfit.is_some() { Origin::Farm } else { Origin::Default };
    let mut list = vec![
        one("session_end", Some(&all.session_end), Origin::Default),
        one("session_reboot", all.session_reboot.as_ref(), Origin::Default),
        one("job_success", all.job_success.as_ref(), Origin::Default),
        one("job_warn", all.job_warn.as_ref(), Origin::Default),
        one("machine_unfit_for_service", unfit, unfit_origin),
    ];
    for (name, watchdog) in &all.watchdogs {
        let edges = [
            ("start", Some(&watchdog.start)),
            ("reset", watchdog.reset.as_ref()),
            ("stop", watchdog.stop.as_ref()),
        ];
        list.extend(edges.into_iter().filter_map(|(edge, pattern)| {
            let regex = Some(pattern?.as_str().to_owned());
            Some(ExplainedPattern { name: format!("watchdogs.{name}.{edge}"), regex, origin: Origin::Given })
        }));
    }
    list
}

/// What every boot needs comes first, and always; other things where the job asks for them.
fn parts(spec: &BootSpec, tree: &Node, boot: &str) -> Vec<Part> {
    let cmdline = serde_json::Value::from(spec.cmdline.clone());
    let mut list = vec![
        part("kernel", serde_json::to_value(&spec.kernel).unwrap_or_default(), tree, boot),
        part("initramfs", serde_json::to_value(&spec.initramfs).unwrap_or_default(), tree, boot),
        part("cmdline", cmdline, tree, boot),
    ];
    // The fields of a boot are data: what the language gains appears here by itself.
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(spec) {
        // A kernel that is given shows what is done to it.
        let shown = |name: &str| {
            ["kernel", "initramfs", "cmdline"].contains(&name)
                || name == "kernel_format" && spec.kernel.is_some()
        };
        let others = fields.into_iter().filter(|(name, value)| !shown(name) && !is_nothing(value));
        list.extend(others.map(|(name, value)| part(&name, value, tree, boot)));
    }
    list
}

/// Where an author writes what a boot keeps under this name, below the boot.
fn written_as(name: &str) -> Vec<&str> {
    match name {
        "kernel_format" => vec!["kernel", "format"],
        "http" | "tftp" | "nbd" => vec!["storage", name],
        "images" => vec!["storage", "imagestore"],
        _ => vec![name],
    }
}

fn part(name: &str, value: serde_json::Value, tree: &Node, boot: &str) -> Part {
    let place = written_as(name);
    let written = |boot: &str| match name {
        "kernel" => given(tree, &["deployment", boot, "kernel"]).is_some_and(names_a_source),
        "cmdline" => given(tree, &["deployment", boot, "kernel", "cmdline"]).is_some(),
        _ => given(tree, &[&["deployment", boot], place.as_slice()].concat()).is_some(),
    };
    let origin = match (is_nothing(&value), boot, written(boot), written("start")) {
        (true, ..) => Origin::Default,
        // A kernel is replaced whole; lists and mappings are updated.
        (false, "continue", true, true) if name != "kernel" => Origin::Merged,
        (false, "continue", false, _) => Origin::Start,
        _ => Origin::Given,
    };
    Part { name: place.join("."), origin, value }
}

/// A kernel may be there for its command line alone.
fn names_a_source(kernel: &Node) -> bool {
    let Kind::Map(entries) = &kernel.kind else { return false };
    entries.iter().any(|(key, value)| key.text != "cmdline" && !value.is_null())
}

fn is_nothing(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(items) => items.is_empty(),
        serde_json::Value::Object(fields) => fields.values().all(is_nothing),
        _ => false,
    }
}
