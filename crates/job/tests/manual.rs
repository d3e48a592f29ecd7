//! The manual's examples are jobs, and the jobs it calls refused are refused.

use farmgate_job::{Source, Variables, resolve, target_of};
use serde_json::json;

const PAGE: &str = include_str!("../../../docs/job-format.md");

/// Fenced blocks whose info string is this.
fn blocks(info: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{info}") {
            let block: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
            found.push(block.join("\n") + "\n");
        }
    }
    found
}

fn variables() -> Variables {
    let machine =
        json!({"id": "52:54:00:11:22:01", "local_tty_device": "ttyS0", "full_name": "lab-virtio-1"});
    Variables::default()
        .set("machine_id", "52:54:00:11:22:01")
        .set("machine", machine)
        .set("machine_tags", json!(["virtio:family:VIRTIO", "farm:lab"]))
        .set("environ", json!({"IMAGE": "alpine"}))
}

#[test]
fn every_example_is_a_job() {
    let examples = blocks("yaml job");
    assert!(examples.len() >= 5);
    for text in examples {
        let source = Source { name: "job-format.md", text: &text };
        let job = resolve(&source, &variables()).unwrap_or_else(|e| panic!("{text}\n{e}"));
        assert!(job.warnings.is_empty(), "{:?}", job.warnings);
        target_of(&source, &Variables::default()).unwrap_or_else(|e| panic!("{text}\n{e}"));
    }
}

#[test]
fn every_example_of_what_is_not_supported_is_refused_as_such() {
    let examples = blocks("yaml refused");
    assert!(!examples.is_empty());
    for text in examples {
        let error = resolve(&Source { name: "job-format.md", text: &text }, &variables()).unwrap_err();
        assert!(error.is_unsupported(), "{text}\n{error}");
    }
}
