//! The end of a run in words: the lines that a person reads and the file that programs read. Pure text; where it is
//! written is up to the caller.

use std::fmt::Write as _;

use farmgate_protocol::JobStatus;
use serde_json::{Value, json};

use crate::{
    session::Report,
    terminal::{Colour, printable},
};

/// Width of the left column.
const LABELS: usize = 10;

/// The summary, lines that end in `\n`. With `full` also what the run did (patterns, times, energy), else only
/// how it ended.
pub fn render(report: &Report, full: bool, colour: bool) -> String {
    let mut text = String::new();
    let status = format!("{} (exit code {})", report.status, report.status.exit_code());
    line(&mut text, "verdict", &verdict_colour(report.status).paint(colour, &status));
    if let Some(cause) = &report.cause {
        line(&mut text, "cause", &printable(cause));
    }
    if let Some(summary) = &report.summary {
        line(&mut text, "summary", &printable(summary));
    }
    if !full {
        return text;
    }
    if let Some(attempts) = report.attempts.filter(|&n| n > 1) {
        line(&mut text, "attempts", &attempts.to_string());
    }
    for (index, pattern) in report.patterns.iter().enumerate() {
        let first = pattern.first_line.as_deref().map(printable).unwrap_or_default();
        let matched = format!("{} ({}): {first}", printable(&pattern.name), pattern.count);
        line(&mut text, if index == 0 { "matched" } else { "" }, matched.trim_end_matches([':', ' ']));
    }
    times(&mut text, report);
    if let Some(joules) = report.joules {
        line(&mut text, "energy", &format!("{joules:.1} J"));
    }
    text
}

fn times(text: &mut String, report: &Report) {
    for (index, phase) in report.phases.iter().enumerate() {
        let times = if phase.times > 1 { format!("  ({} times)", phase.times) } else { String::new() };
        let row = format!("{:<13}{:>9.1} s{times}", phase.name, phase.seconds);
        line(text, if index == 0 { "times" } else { "" }, &row);
    }
    if let Some(total) = report.total_seconds.filter(|_| !report.phases.is_empty()) {
        line(text, "", &format!("{:<13}{total:>9.1} s", "total"));
    }
}

fn line(text: &mut String, label: &str, value: &str) {
    for (index, part) in value.lines().enumerate() {
        let label = if index == 0 { label } else { "" };
        let _ = writeln!(text, "{label:<LABELS$}{part}");
    }
}

/// Good, doubtful or bad.
pub const fn verdict_colour(status: JobStatus) -> Colour {
    match status {
        JobStatus::Pass | JobStatus::Complete => Colour::Green,
        JobStatus::Warn => Colour::Yellow,
        JobStatus::Fail | JobStatus::Incomplete | JobStatus::Unknown | JobStatus::SetupFail => Colour::Red,
    }
}

/// What `--timings-json` writes.
pub fn timings(report: &Report) -> Value {
    json!({
        "phases": report.phases,
        "total_seconds": report.total_seconds,
        "status": report.status.as_str(),
        "cause": report.cause,
        "summary": report.summary,
        "attempts": report.attempts,
        "joules": report.joules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{phases::Phase, session::PatternMatches};

    fn report() -> Report {
        Report {
            status: JobStatus::Pass,
            cause: Some("job".into()),
            summary: Some("the success pattern matched\nand the session ended".into()),
            attempts: Some(2),
            patterns: vec![
                PatternMatches {
                    name: "job_success".into(),
                    count: 2,
                    first_line: Some("ok\x1b[31m!".into()),
                },
                PatternMatches { name: "session_end".into(), count: 1, first_line: None },
            ],
            phases: vec![
                Phase { name: "network boot", seconds: 1.25, times: 2 },
                Phase { name: "job", seconds: 100.0, times: 1 },
            ],
            total_seconds: Some(101.25),
            joules: Some(12.34),
        }
    }

    #[test]
    fn the_summary_says_everything_that_is_known() {
        let expected = "\
verdict   PASS (exit code 0)
cause     job
summary   the success pattern matched
          and the session ended
attempts  2
matched   job_success (2): ok!
          session_end (1)
times     network boot       1.2 s  (2 times)
          job              100.0 s
          total            101.2 s
energy    12.3 J
";
        assert_eq!(render(&report(), true, false), expected);
    }

    #[test]
    fn the_short_one_says_how_it_ended() {
        let text = render(&report(), false, false);
        assert!(text.starts_with("verdict   PASS") && !text.contains("times"), "{text}");
        assert!(render(&report(), true, true).contains("\x1b["));
    }

    #[test]
    fn the_timings_are_for_programs() {
        let json = timings(&report());
        assert_eq!(json["phases"][0], json!({"name": "network boot", "seconds": 1.25, "times": 2}));
        assert_eq!((json["status"].as_str(), json["cause"].as_str()), (Some("PASS"), Some("job")));
    }
}
