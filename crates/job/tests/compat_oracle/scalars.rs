//! Plain scalars, of which YAML 1.1, YAML 1.2 and people think differently: here a text is what is written, and a number
//! is what it looks like.

use std::time::Duration;

use farmgate_job::{Source, Variables, resolve};
use serde_json::{Value, json};

use crate::{choices::Rng, peer::Oracle};

/// What somebody might write without quotes.
const WRITTEN: [&str; 40] = [
    "1_000",
    "0o7",
    "07",
    "010",
    "0x1F",
    "0b11",
    "1:30",
    "1:30:00",
    "12:30:45",
    "yes",
    "no",
    "on",
    "off",
    "True",
    "~",
    "null",
    "Null",
    "2026-01-01",
    "2026-01-01 10:00:00",
    ".inf",
    "-.inf",
    ".nan",
    "1.",
    ".5",
    "1.50",
    "1e3",
    "1e+3",
    "1.0e+3",
    "1.0e3",
    "+1",
    "-0",
    "00",
    "1__0",
    "_1",
    "<<",
    "a:b",
    "a#b",
    "x?y",
    "@x",
    "52:54:00:11:22:33",
];

/// Numbers that YAML 1.1 reads otherwise, and seconds that they are here.
const OTHER_NUMBERS: [(&str, f64); 8] = [
    ("010", 10.0),
    ("07", 7.0),
    ("00", 0.0),
    ("1e3", 1000.0),
    ("1e+3", 1000.0),
    ("1.0e3", 1000.0),
    ("1__0", 10.0),
    ("_1", 1.0),
];

fn job(text: &str) -> Result<farmgate_job::Job, String> {
    resolve(&Source { name: "job.yml", text }, &Variables::default()).map_err(|e| e.to_string())
}

/// As a part of the command line: `Some(None)` where it stands for nothing.
fn as_text(scalar: &str) -> Option<Option<String>> {
    let text = format!("version: 1\ndeployment:\n  start:\n    kernel:\n      cmdline: {scalar}\n");
    Some(job(&text).ok()?.start.cmdline)
}

fn as_seconds(scalar: &str) -> Option<f64> {
    let text = format!("version: 1\ntimeouts:\n  boot_cycle:\n    seconds: {scalar}\n");
    job(&text).ok()?.timeouts.boot_cycle.limit.map(|limit: Duration| limit.as_secs_f64())
}

/// Whether both read it as a text, and how they differ.
fn texts(scalar: &str, theirs: &Value) -> (bool, Option<String>) {
    let (Some(ours), Some(written)) = (as_text(scalar), theirs["text"].as_str()) else {
        return (false, None);
    };
    let expected = (theirs["tag"] != "null").then_some(written);
    let wrong = ours.as_deref() != expected;
    (true, wrong.then(|| format!("`{scalar}` as a text: ours {ours:?}, as written {expected:?}")))
}

fn numbers(scalar: &str, theirs: &Value) -> Option<String> {
    let ours = as_seconds(scalar)?;
    let is_number = theirs["tag"] == "int" || theirs["tag"] == "float";
    let read = theirs["value"].as_str().filter(|_| is_number).and_then(|value| value.parse::<f64>().ok());
    let same = |number: f64| (ours - number).abs() < 1e-6;
    let known = scalar.starts_with('0') || scalar.contains(['e', 'E', '_']);
    let listed =
        OTHER_NUMBERS.iter().find(|(text, _)| *text == scalar).is_some_and(|(_, number)| same(*number));
    let looks = scalar.replace('_', "").parse::<f64>().is_ok_and(same);
    let fine = read.is_some_and(same) || listed || (known && looks);
    (!fine).then(|| format!("`{scalar}` as a number: ours {ours}, PyYAML {theirs}"))
}

#[test]
fn plain_scalars_are_the_texts_that_are_written_and_numbers_are_what_they_look_like() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut rng = Rng::new(11);
    let mut all: Vec<String> = WRITTEN.iter().map(ToString::to_string).collect();
    let letters = [
        "0", "1", "7", "8", "9", "_", ".", ":", "-", "+", "e", "x", "o", "a", "n", "y", "~", "=", "<", "T",
        " ",
    ];
    for _ in 0..1_500 {
        let length = 1 + rng.below(7);
        all.push((0..length).map(|_| rng.pick(&letters)).collect::<String>());
    }
    let mut wrong = Vec::new();
    let mut read = 0;
    for scalar in &all {
        oracle.send(&json!({"scalar": scalar}));
        let theirs = oracle.receive();
        let (both, difference) = texts(scalar, &theirs);
        read += usize::from(both);
        wrong.extend(difference);
        wrong.extend(numbers(scalar, &theirs));
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(read * 10 > all.len() * 7, "only {read} of {} could be compared", all.len());
}
