//! Console patterns: any text is a pattern or refused, and a search in any console bytes ends.
//!
//! The first line is the pattern, the rest is what the console says. A pattern is searched as it is in a job: by a run
//! that hears the console. The same pattern behind `(?=)`, which matches anywhere, goes to the other engine; where both
//! come to an answer, it is the same.
#![no_main]

use std::sync::LazyLock;

use farmgate_job::{Action, Event, Job, JobRun, Pattern, RunSpec, Source, Variables, resolve};
use farmgate_protocol::{
    Timestamp,
    console::{Control, Severity, Tag},
};
use libfuzzer_sys::fuzz_target;

/// Bytes of a pattern. Longer ones find nothing new, only slower.
const LONGEST: usize = 200;

/// Its session never ends: no text has the end of a word within a word.
static JOB: LazyLock<Job> = LazyLock::new(|| {
    let text = "version: 1\nconsole_patterns: {session_end: {regex: 'a\\bb'}}\n";
    match resolve(&Source { name: "job.yml", text }, &Variables::default()) {
        Ok(job) => job,
        Err(error) => panic!("{error}"),
    }
});

/// For each match what a run says about it, in order; `None` if a search was given up.
fn told(pattern: Pattern, console: &[u8]) -> Option<Vec<Control>> {
    let mut job = JOB.clone();
    job.console_patterns.job_warn = Some(pattern);
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let (mut run, _) = JobRun::new(RunSpec { job, firmware_boot_time: None }, now);
    for event in [Event::SetupDone, Event::PowerOff, Event::PowerOn] {
        run.on(event, now);
    }
    let mut matches = Vec::new();
    for action in run.on(Event::Console { bytes: console }, now) {
        match action {
            Action::Tell(control) if control.tag == Tag::PatternMatched => matches.push(control),
            Action::Tell(control) if control.severity >= Severity::Warn => return None,
            _ => {}
        }
    }
    Some(matches)
}

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (line, console) = data.split_at(end);
    let Ok(text) = std::str::from_utf8(line) else { return };
    if text.len() > LONGEST {
        return;
    }
    let pattern = match Pattern::new(text) {
        Ok(pattern) => pattern,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let first = told(pattern, console);
    let Ok(other) = Pattern::new(&format!("(?=)(?:{text})")) else { return };
    let second = told(other, console);
    assert!(first == second || first.is_none() || second.is_none(), "{text:?}: {first:?}, then {second:?}");
});
