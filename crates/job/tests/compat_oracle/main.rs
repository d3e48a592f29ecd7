//! Ten thousand generated jobs mean here what they mean to Jinja2 and PyYAML, byte by byte.
//!
//! `oracle.py` reads the same texts with the real Jinja2 and PyYAML and with the rules of the format written once more;
//! `scripts/python-oracle` installs what it needs. `FARMGATE_ORACLE_JOBS` and `FARMGATE_ORACLE_SEED` choose how many jobs
//! and which; the first one that differs is shown as short as it can be made. `FARMGATE_ORACLE_ALL=1` writes also what is
//! known to differ.
#![allow(clippy::unwrap_used, clippy::expect_used)] // all of it is a test

mod choices;
mod expressions;
mod generator;
mod ours;
mod peer;
mod scalars;
mod texts;
mod told;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use generator::Case;
use ours::{difference, resolved};
use peer::Oracle;
use serde_json::json;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[derive(Default)]
struct Tally {
    jobs: u64,
    /// Jobs that both sides refuse.
    refused: u64,
    /// Jobs that use a feature.
    features: BTreeMap<&'static str, u64>,
    /// Jobs that both sides resolve and that use a feature.
    resolved: BTreeMap<&'static str, u64>,
    /// The first jobs that differ, by number.
    different: Vec<u64>,
}

/// Asks the oracle about one job: how it differs, and whether we refuse it.
fn compare(oracle: &mut Oracle, case: &Case) -> (Option<String>, bool) {
    let request = json!({"job": case.text, "submission": case.submission, "variables": case.variables});
    oracle.send(&request);
    let ours = resolved(case);
    let theirs = oracle.receive();
    (difference(&ours, &theirs), ours.get("error").is_some())
}

#[test]
fn ten_thousand_jobs_resolve_as_jinja2_and_pyyaml_read_them() {
    let Some(first) = Oracle::start() else { return };
    let (count, seed) = (setting("FARMGATE_ORACLE_JOBS", 10_000), setting("FARMGATE_ORACLE_SEED", 1));
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    let work = |mut oracle: Oracle| {
        let mut own = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || own.different.len() >= 100 {
                break;
            }
            let case = generator::case(seed.wrapping_mul(1_000_003).wrapping_add(number));
            own.jobs += 1;
            let (difference, refused) = compare(&mut oracle, &case);
            if difference.is_some() {
                own.different.push(number);
            }
            own.refused += u64::from(refused);
            for feature in case.used.keys() {
                *own.features.entry(feature).or_default() += 1;
                *own.resolved.entry(feature).or_default() += u64::from(!refused);
            }
        }
        let mut all = tally.lock().unwrap();
        all.jobs += own.jobs;
        all.refused += own.refused;
        all.different.extend(own.different);
        for (feature, times) in own.features {
            *all.features.entry(feature).or_default() += times;
        }
        for (feature, times) in own.resolved {
            *all.resolved.entry(feature).or_default() += times;
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 1..processors {
            scope.spawn(|| work(Oracle::start().unwrap()));
        }
        work(first);
    });
    let mut tally = tally.into_inner().unwrap();
    println!(
        "{} jobs, {} of them refused by both; jobs that use a feature (and resolve):",
        tally.jobs, tally.refused
    );
    for (feature, times) in &tally.features {
        println!("  {feature}: {times} ({})", tally.resolved[feature]);
    }
    tally.different.sort_unstable();
    let mut oracle = Oracle::start().unwrap();
    for number in tally.different.iter().take(setting("FARMGATE_ORACLE_SHOW", 1) as usize) {
        let case = generator::case(seed.wrapping_mul(1_000_003).wrapping_add(*number));
        println!("\n--- job {number}: {}", compare(&mut oracle, &case).0.unwrap_or_default());
        let short = shortest(&mut oracle, case);
        println!("\n--- job {number} of seed {seed} differs, made as short as can be:\n{}", short.text);
        println!("--- {}", compare(&mut oracle, &short).0.unwrap_or_default());
        println!("--- environ: {}", short.variables["environ"]);
        println!("--- machine: {}", short.variables["machine"]);
    }
    assert!(
        tally.different.is_empty(),
        "at least {} jobs differ: {:?}",
        tally.different.len(),
        tally.different
    );
    assert_eq!(tally.jobs, count);
    if count >= 10_000 {
        assert!(tally.refused * 10 < tally.jobs, "{} of {} jobs say nothing", tally.refused, tally.jobs);
        let rare: Vec<_> = tally.resolved.iter().filter(|(_, times)| **times < 50).collect();
        assert!(rare.is_empty(), "hardly tried: {rare:?}");
    }
}

/// The sort of a difference: its first line without places.
fn kind(difference: &str) -> String {
    difference.lines().next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).take(100).collect()
}

/// Leaves lines out as long as the job still differs in the same way.
fn shortest(oracle: &mut Oracle, mut case: Case) -> Case {
    let kind = compare(oracle, &case).0.map(|text| kind(&text));
    let mut size = case.text.lines().count() / 2;
    while size > 0 {
        let lines: Vec<String> = case.text.split_inclusive('\n').map(str::to_owned).collect();
        let shorter = (0..lines.len()).step_by(size).find_map(|from| {
            let end = (from + size).min(lines.len());
            let text = [&lines[..from], &lines[end..]].concat().concat();
            let shorter = Case { text, ..case.clone() };
            (compare(oracle, &shorter).0.map(|text| self::kind(&text)) == kind).then_some(shorter)
        });
        match shorter {
            Some(shorter) => case = shorter,
            None => size /= 2,
        }
    }
    case
}

/// What the generator must be able to write, so that a change of it loses nothing unseen.
const FEATURES: &[&str] = &[
    "#!jinja2",
    "#!jinja2 in data",
    "**",
    ".capitalize()",
    ".get()",
    ".items()",
    ".keys()",
    ".lower()",
    ".replace()",
    ".split()",
    ".startswith()",
    ".strip()",
    ".upper()",
    "// and %",
    ":uncategorised",
    "CR LF",
    "YAML comments",
    "a kernel of nothing",
    "a single text",
    "abs",
    "aliases",
    "and, or, not",
    "arithmetic",
    "call blocks",
    "capitalize",
    "categories",
    "categories of artifacts",
    "comments",
    "comparisons",
    "continue",
    "data",
    "data templates",
    "default",
    "default(x, true)",
    "dictionaries",
    "dictsort",
    "division",
    "double quotes",
    "elif",
    "empty categories",
    "environ",
    "farm variables",
    "filter blocks",
    "first",
    "float",
    "flow lists",
    "folded scalars",
    "for ... else",
    "for ... if",
    "for around items",
    "for inside a line",
    "format",
    "groupby",
    "if around items",
    "if inside a line",
    "in",
    "indented tags",
    "initramfs",
    "inline if",
    "int",
    "is defined",
    "join",
    "last",
    "length",
    "list + list",
    "list of a text",
    "lists",
    "literal scalars",
    "loop variables",
    "loop.cycle",
    "lower",
    "machine variables",
    "macro",
    "macro of items",
    "map",
    "merges",
    "methods in a row",
    "namespace",
    "no newline at the end",
    "patterns",
    "plain over lines",
    "printed booleans",
    "printed dictionaries",
    "printed lists",
    "printed none and floats",
    "range",
    "raw",
    "reject",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "set",
    "set blocks",
    "set in a loop",
    "single quotes",
    "slices",
    "sort",
    "statements in a block scalar",
    "string",
    "sum, min, max",
    "tags on lines",
    "tests of numbers",
    "texts like numbers",
    "timeouts",
    "title",
    "tojson",
    "trim",
    "truncate",
    "undefined chains",
    "unique",
    "upper",
    "url",
    "watchdogs",
    "wild texts",
    "with",
    "{%+ and +%}",
    "{%-",
    "{{- -}}",
    "~",
];

#[test]
fn the_generator_writes_every_feature_of_the_list() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..2_000 {
        for (feature, times) in generator::case(number).used {
            *seen.entry(feature).or_default() += times;
        }
    }
    let missing: Vec<_> = FEATURES.iter().filter(|feature| !seen.contains_key(**feature)).collect();
    assert!(missing.is_empty(), "never written: {missing:?}");
    let unlisted: Vec<_> = seen.keys().filter(|feature| !FEATURES.contains(feature)).collect();
    assert!(unlisted.is_empty(), "not in the list: {unlisted:?}");
}

#[test]
fn a_seed_is_one_job() {
    assert_eq!(generator::case(7).text, generator::case(7).text);
    assert_ne!(generator::case(7).text, generator::case(8).text);
}
