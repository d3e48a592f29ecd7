//! Reading `timeouts`.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Timeout, Timeouts,
    check::{self, Fields},
    error::Report,
    yaml::{Kind, Node},
};

const FIELDS: [&str; 8] = [
    "overall",
    "infra_setup",
    "infra_teardown",
    "boot_cycle",
    "firmware_boot",
    "first_console_activity",
    "console_activity",
    "watchdogs",
];

const UNITS: [(&str, f64); 5] =
    [("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0), ("milliseconds", 0.001)];

/// The default of `overall`.
const OVERALL: Duration = Duration::from_secs(6 * 3600);

/// Longer ones could not be added to a date; who wants more wants no timeout.
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

/// `node`: absent where the job has no `timeouts`.
pub(crate) fn read(node: Option<&Node>, report: &mut Report<'_>) -> Timeouts {
    let fields = node.and_then(|n| Fields::open(n, "`timeouts`", &FIELDS, report));
    let get = |name: &str| fields.as_ref().and_then(|f| f.get(name));
    let mut one = |name: &str, default: Timeout, retries: bool| {
        get(name).and_then(|node| read_one(node, name, retries, report)).unwrap_or(default)
    };
    let overall = one("overall", Timeout::of(OVERALL), false);
    let quarter = Timeout { limit: overall.limit.map(|all| all / 4), retries: 0 };
    let infra_setup = one("infra_setup", quarter, true);
    let infra_teardown = one("infra_teardown", quarter, false);
    let boot_cycle = one("boot_cycle", Timeout::INFINITE, true);
    let first_console_activity = one("first_console_activity", Timeout::INFINITE, true);
    let console_activity = one("console_activity", Timeout::INFINITE, true);
    let timeouts = Timeouts {
        overall,
        infra_setup,
        infra_teardown,
        boot_cycle,
        firmware_boot: get("firmware_boot").and_then(|n| read_one(n, "firmware_boot", true, report)),
        first_console_activity,
        console_activity,
        watchdogs: get("watchdogs").map(|n| read_watchdogs(n, report)).unwrap_or_default(),
    };
    if let Some(fields) = &fields {
        warn(fields, &timeouts, report);
    }
    timeouts
}

/// Timeouts that can never be hit.
fn warn(fields: &Fields<'_>, timeouts: &Timeouts, report: &mut Report<'_>) {
    let named = [
        ("infra_setup", Some(&timeouts.infra_setup)),
        ("boot_cycle", Some(&timeouts.boot_cycle)),
        ("firmware_boot", timeouts.firmware_boot.as_ref()),
        ("first_console_activity", Some(&timeouts.first_console_activity)),
        ("console_activity", Some(&timeouts.console_activity)),
    ];
    let watchdogs = match fields.get("watchdogs").map(|node| &node.kind) {
        Some(Kind::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let watchdogs = watchdogs.iter().filter_map(|(key, node)| {
        Some((format!("watchdogs.{}", key.text), node.at, timeouts.watchdogs.get(&key.text)?))
    });
    let named = named
        .into_iter()
        .filter_map(|(name, timeout)| Some((name.to_owned(), fields.get(name)?.at, timeout?)));
    for (name, at, timeout) in named.chain(watchdogs) {
        if timeout.limit.is_none() && timeout.retries > 0 && name != "boot_cycle" {
            report.warning(at, format!("`timeouts.{name}` has `retries`, but no length: it is never hit"));
        } else if let (Some(limit), Some(overall)) = (timeout.limit, timeouts.overall.limit)
            && limit >= overall
            && !overall.is_zero()
        {
            let text = format!("`timeouts.{name}` is never hit: `overall` ends the job before it");
            report.warning(at, text);
        }
    }
}

fn read_watchdogs(node: &Node, report: &mut Report<'_>) -> BTreeMap<String, Timeout> {
    let Kind::Map(entries) = &node.kind else {
        let message = format!("`timeouts.watchdogs` must be a mapping, not {}", node.describe());
        report.problem_with_help(node.at, message, "write NAME: {seconds: 30}");
        return BTreeMap::new();
    };
    let mut all = BTreeMap::new();
    for (key, value) in entries {
        if let Some(timeout) = read_one(value, &format!("watchdogs.{}", key.text), true, report) {
            all.insert(key.text.clone(), timeout);
        }
    }
    all
}

fn read_one(node: &Node, name: &str, retries_allowed: bool, report: &mut Report<'_>) -> Option<Timeout> {
    let what = format!("`timeouts.{name}`");
    let known = ["days", "hours", "minutes", "seconds", "milliseconds", "retries"];
    let fields = Fields::open(node, &what, &known, report)?;
    let mut total = None;
    for (unit, seconds) in UNITS {
        if let Some(node) = fields.get(unit) {
            let number = check::number(node, &format!("`{unit}` of {what}"), report)?;
            *total.get_or_insert(0.0) += number * seconds;
        }
    }
    let retries = match fields.get("retries") {
        Some(node) => check::count(node, &format!("`retries` of {what}"), report)?,
        None => 0,
    };
    if retries > 0 && !retries_allowed {
        report.problem_with_help(fields.at, format!("{what} takes no retries"), "remove `retries`");
    }
    let Some(total) = total else { return Some(Timeout { limit: None, retries }) };
    if total > LONGEST {
        let help = "leave all of its units out for no timeout at all";
        report.problem_with_help(fields.at, format!("{what} is longer than 100 years"), help);
        return None;
    }
    let limit = Duration::try_from_secs_f64(total).ok()?;
    if limit.is_zero() {
        report.warning(fields.at, format!("{what} is zero: it is hit at once"));
    }
    Some(Timeout { limit: Some(limit), retries })
}
