//! All console patterns of a job in one pass: what is found is what each pattern finds alone, however the console is cut.
//!
//! The first lines, up to an empty one, are patterns, at most eight; the rest is cut into pieces as in the other targets
//! and is what the console says.
#![no_main]

use std::{collections::BTreeMap, sync::LazyLock};

use farmgate_fuzz::pieces;
use farmgate_job::{
    Action, Event, Job, JobRun, Pattern, RunSpec, Source, Variables, WatchdogPatterns, resolve,
};
use farmgate_protocol::{
    Timestamp,
    console::{Severity, Tag},
};
use libfuzzer_sys::fuzz_target;

/// Bytes of all patterns. Longer ones find nothing new, only slower.
const LONGEST: usize = 300;

/// Its session never ends: no text has the end of a word within a word.
static JOB: LazyLock<Job> = LazyLock::new(|| {
    let text = "version: 1\nconsole_patterns: {session_end: {regex: 'a\\bb'}}\n";
    match resolve(&Source { name: "job.yml", text }, &Variables::default()) {
        Ok(job) => job,
        Err(error) => panic!("{error}"),
    }
});

/// What a run says about matches: the patterns and the line. `None` if a search was given up.
fn told(patterns: &[(usize, Pattern)], pieces: &[&[u8]]) -> Option<Vec<(Vec<String>, String)>> {
    let mut job = JOB.clone();
    for (number, start) in patterns {
        let watchdog = WatchdogPatterns { start: start.clone(), reset: None, stop: None };
        job.console_patterns.watchdogs.insert(number.to_string(), watchdog);
    }
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let (mut run, _) = JobRun::new(RunSpec { job, firmware_boot_time: None }, now);
    for event in [Event::SetupDone, Event::PowerOff, Event::PowerOn] {
        run.on(event, now);
    }
    let mut matches = Vec::new();
    for piece in pieces {
        for action in run.on(Event::Console { bytes: piece }, now) {
            match action {
                Action::Tell(control) if control.tag == Tag::PatternMatched => {
                    let names = control.metadata["patterns"].as_array().into_iter().flatten();
                    let line = control.metadata["line"].as_str().unwrap_or_default().to_owned();
                    matches.push((names.filter_map(|n| n.as_str().map(str::to_owned)).collect(), line));
                }
                Action::Tell(control) if control.severity >= Severity::Error => return None,
                _ => {}
            }
        }
    }
    Some(matches)
}

/// The lines of each pattern.
fn by_pattern(matches: &[(Vec<String>, String)]) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (names, line) in matches {
        for name in names {
            all.entry(name).or_default().push(line);
        }
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let Some(end) = data.windows(2).position(|pair| pair == b"\n\n") else { return };
    let Ok(text) = std::str::from_utf8(&data[..end]) else { return };
    if text.len() > LONGEST {
        return;
    }
    let patterns: Vec<(usize, Pattern)> =
        text.lines().take(8).filter_map(|line| Pattern::new(line).ok()).enumerate().collect();
    let (stream, pieces) = pieces(&data[end + 2..]);
    let Some(together) = told(&patterns, &pieces) else { return };
    assert_eq!(Some(&together), told(&patterns, &[stream]).as_ref(), "cut otherwise");
    let together = by_pattern(&together);
    for (number, pattern) in &patterns {
        let alone = told(&[(*number, pattern.clone())], &[stream]);
        let Some(alone) = alone else { return };
        let name = format!("{number}.start");
        assert_eq!(together.get(name.as_str()), by_pattern(&alone).get(name.as_str()), "{pattern:?}");
        assert!(alone.is_empty() || pattern.cannot_match().is_none(), "{pattern:?} matched");
        let lines = stream.iter().filter(|b| **b == b'\n').count();
        let full =
            stream.split_inclusive(|b| *b == b'\n').filter(|l| l.len() > 1 && l.ends_with(b"\n")).count();
        if pattern.matches_every_line() && stream.len() < 60_000 && lines < 9_000 {
            assert!(alone.len() >= full, "{pattern:?} matched {} of {full}", alone.len());
        }
    }
});
