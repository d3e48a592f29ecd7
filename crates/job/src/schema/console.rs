//! The schema of how long things may take and what to look for on the console.

use serde_json::{Value, json};

use super::{count, named, number, object, reference, requiring, text};

const TIMEOUT: &str = "The units add up. None of them: it never ends anything.";

/// Timeouts with and without retries, and a pattern.
pub(super) fn definitions() -> [(&'static str, Value); 4] {
    [
        ("timeout", timeout(true)),
        ("timeout_without_retries", timeout(false)),
        ("pattern", pattern()),
        ("watchdog_patterns", watchdog_patterns()),
    ]
}

/// A mapping that cannot be nothing.
fn always(mut reference: Value) -> Value {
    reference["type"] = json!("object");
    reference
}

fn timeout(with_retries: bool) -> Value {
    let mut timeout = object(
        TIMEOUT,
        [
            ("days", number("Days; fractions are fine.")),
            ("hours", number("Hours; fractions are fine.")),
            ("minutes", number("Minutes; fractions are fine.")),
            ("seconds", number("Seconds; fractions are fine.")),
            ("milliseconds", number("Milliseconds.")),
        ],
    );
    for unit in ["days", "hours", "minutes", "seconds", "milliseconds"] {
        timeout["properties"][unit]["examples"] = json!([5]);
    }
    let mut retries = count("How often it is tried again; counted over the whole job.");
    retries["default"] = json!(0);
    retries["examples"] = json!([u8::from(with_retries)]);
    if !with_retries {
        retries["description"] = json!("This timeout takes no retries.");
        retries["maximum"] = json!(0);
    }
    timeout["properties"]["retries"] = retries;
    timeout
}

pub(super) fn timeouts() -> Value {
    let retried = |text: &str| reference("timeout", text);
    let once = |text: &str| reference("timeout_without_retries", text);
    let mut watchdogs = named(
        "Timeouts that console patterns of the same name arm and disarm.",
        &always(reference("timeout", TIMEOUT)),
    );
    watchdogs["examples"] = json!([{"gpu": {"seconds": 30, "retries": 1}}]);
    object(
        "How long things may take.",
        [
            ("overall", once("The whole run, up to the end of the session. Default: 6 hours. No retries.")),
            (
                "infra_setup",
                retried("Preparing the first boot; a retry prepares again. Default: a quarter of overall."),
            ),
            ("infra_teardown", once("Tidying up. Default: a quarter of overall. No retries.")),
            (
                "boot_cycle",
                retried(
                    "Power on to the end of that boot. Its retries are also the number of reboots allowed. Default: infinite.",
                ),
            ),
            (
                "firmware_boot",
                retried(
                    "Power on to the first network boot request. Default: 2.5 times what was learned of the machine, at least 5 s, with 3 retries; infinite while nothing is learned.",
                ),
            ),
            (
                "first_console_activity",
                retried("Power on to the first line end on the console. Default: infinite."),
            ),
            (
                "console_activity",
                retried("Since the last byte on the console, after the first line end. Default: infinite."),
            ),
            ("watchdogs", watchdogs),
        ],
    )
}

fn pattern() -> Value {
    let mut regex = text(
        "A regular expression in the syntax of Python's re for bytes, searched in each line. Write it in single quotes. Serial lines end in \\r: use \\r?$.",
    );
    regex["examples"] = json!(["all tests passed"]);
    requiring(object("What to look for on the console.", [("regex", regex)]), &["regex"])
}

fn watchdog_patterns() -> Value {
    let pattern = |text: &str| reference("pattern", text);
    let watchdog = object(
        "When the timeout of the same name is armed and disarmed.",
        [
            ("start", pattern("Arms the timeout, or restarts it. Mandatory.")),
            ("reset", pattern("Restarts the timeout if it is armed. Default: none.")),
            ("stop", pattern("Disarms the timeout. Default: none.")),
        ],
    );
    requiring(watchdog, &["start"])
}

pub(super) fn patterns() -> Value {
    let pattern = |text: &str| reference("pattern", text);
    let mut watchdogs = named(
        "Patterns that arm and disarm the timeouts of the same name under timeouts.watchdogs.",
        &always(reference("watchdog_patterns", "When the timeout of the same name is armed and disarmed.")),
    );
    watchdogs["examples"] = json!([{"gpu": {"start": {"regex": "running test"}}}]);
    object(
        "What to look for on the console.",
        [
            (
                "session_end",
                pattern(
                    "The session is over. Default: the last line of a Linux that switches itself off (reboot: Power Down).",
                ),
            ),
            (
                "session_reboot",
                pattern("Boot again, with deployment.continue; takes a retry of boot_cycle. Default: none."),
            ),
            ("job_success", pattern("The test passed. Default: none; the verdict is then COMPLETE.")),
            ("job_warn", pattern("The test passed, but something should be looked at: WARN. Default: none.")),
            (
                "machine_unfit_for_service",
                pattern(
                    "Ends the session and takes the machine out of service. Default: the farm's pattern, or none.",
                ),
            ),
            ("watchdogs", watchdogs),
        ],
    )
}
