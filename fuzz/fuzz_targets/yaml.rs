//! The YAML of a job: errors are told at places that the text has.
#![no_main]

use farmgate_job::{Source, Variables, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // What templates do is another target's.
    if text.contains('{') && ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag)) {
        return;
    }
    let checked = check(&Source { name: "job.yml", text }, &Variables::default());
    let lines = text.split('\n').count();
    for problem in checked.problems.iter().chain(&checked.unsupported).chain(&checked.warnings) {
        assert!(problem.place.is_none_or(|p| (1..=lines).contains(&p.line) && p.column >= 1), "{problem}");
        assert!(!problem.to_string().is_empty());
    }
    assert!(checked.value.is_some() || !checked.problems.is_empty() || !checked.unsupported.is_empty());
});
