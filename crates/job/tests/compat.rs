//! Jobs shaped like those that existing users send: `tests/compat/NAME.yml`, each with what it comes to in `NAME.json`.
//!
//! `unsupported` names what this gateway lacks for the job today, as beginnings of the names in the refusal; such a job
//! must be refused for nothing else. `resolved` is what the job means, with the variables of a gateway that has a
//! bucket, so that both can be said of one job; it is null where a job calls what no variable can stand for.
//! `COMPAT_WRITE=1` writes `resolved` anew, to be read before it is committed.
#![allow(clippy::unwrap_used, clippy::expect_used)] // all of it is a test

#[path = "compat_oracle/told.rs"]
mod told;

use std::{fs, path::PathBuf};

use farmgate_job::{Checked, Job, Problem, Source, Variables, check, resolve, target_of};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

/// A machine and a submission for all of them.
fn today() -> Variables {
    let machine = json!({
        "id": "de:ad:be:ef:ca:fe",
        "base_name": "gfx9-renoir",
        "full_name": "lab-gfx9-renoir-1",
        "hostname": "lab-gfx9-renoir-1",
        "tags": ["amdgpu:codename:RENOIR", "amdgpu:generation:9", "amdgpu:APU", "cpu:arch:x86_64"],
        "manual_tags": [],
        "mac_address": "de:ad:be:ef:ca:fe",
        "ip_address": "10.42.0.42",
        "local_tty_device": "ttyUSB0",
        "firmware_boot_time": 12.5,
        "boot_sequence_power": null,
        "ready_for_service": true,
        "comment": null,
    });
    let environ = json!({
        "IMAGE_UNDER_TEST": "registry.freedesktop.org/mesa/mesa/test:1",
        "TEST_COMMAND": "bash -c \"deqp-runner\"",
        "CI_JOB_NAME": "radv renoir",
        "CI_TRON_ARG_LOGLEVEL": "7",
    });
    let tags = ["amdgpu:codename:RENOIR", "amdgpu:generation:9", "amdgpu:APU", "cpu:arch:x86_64", "farm:lab"];
    Variables::default()
        .set("machine_id", "de:ad:be:ef:ca:fe")
        .set("machine", machine.clone())
        .set("dut", machine)
        .set("machine_tags", json!(tags))
        .set("local_tty_device", "ttyUSB0")
        .set("ready_for_service", true)
        .set("environ", environ)
        .set("minio_url", "http://10.42.0.1:9000")
        .set("fdo_proxy_registry", "10.42.0.1:8002")
}

/// As a gateway with buckets and its own file server would fill them.
fn with_a_bucket() -> Variables {
    let job = json!({
        "bucket": {"url": "http://10.42.0.1:9000", "name": "job-1", "access_key": "key", "secret_key": "secret"},
        "http": {"url": "http://10.42.0.1/jobs/1"},
    });
    today()
        .set("job_bucket", "job-1")
        .set("job_bucket_access_key", "key")
        .set("job_bucket_secret_key", "secret")
        .set("job", job)
}

/// The name in "`name` is not supported yet".
fn lacks(problem: &Problem) -> String {
    problem.message.split('`').nth(1).unwrap_or(&problem.message).to_owned()
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".yml")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// What a job is found to be.
struct Found {
    text: String,
    today: Checked<Job>,
    resolved: Value,
}

fn look(name: &str) -> Found {
    let text = fs::read_to_string(folder().join(format!("{name}.yml"))).unwrap();
    let source = Source { name, text: &text };
    let wrong = |checked: &Checked<Job>| checked.problems.iter().map(ToString::to_string).collect::<String>();
    let now = check(&source, &today());
    assert_eq!(wrong(&now), "", "{name}");
    assert_eq!(now.warnings, [], "{name}");
    let later = check(&source, &with_a_bucket());
    assert_eq!(wrong(&later), "", "{name}");
    let resolved = later.value.map_or(Value::Null, |job| told::tell(&job, &with_a_bucket()).unwrap());
    Found { text, today: now, resolved }
}

#[test]
fn every_job_comes_to_what_is_written_beside_it() {
    assert!(names().len() >= 15);
    for name in names() {
        let found = look(&name);
        let file = folder().join(format!("{name}.json"));
        if std::env::var_os("COMPAT_WRITE").is_some() {
            let before = fs::read_to_string(&file).unwrap_or_else(|_| r#"{"unsupported": []}"#.to_owned());
            let mut written: Value = serde_json::from_str(&before).unwrap();
            written["resolved"] = found.resolved.clone();
            fs::write(&file, serde_json::to_string_pretty(&written).unwrap() + "\n").unwrap();
        }
        let expected: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(found.resolved, expected["resolved"], "{name}");

        let Value::Array(lacking) = &expected["unsupported"] else {
            panic!("{name}: `unsupported` is a list")
        };
        let lacking: Vec<&str> = lacking.iter().map(|text| text.as_str().unwrap()).collect();
        for problem in &found.today.unsupported {
            let known = lacking.iter().any(|begin| lacks(problem).starts_with(begin));
            assert!(known, "{name}: not expected to be refused:\n{problem}");
            let line = problem.place.unwrap().line;
            assert!((1..=found.text.lines().count()).contains(&line), "{name}: {problem}");
        }
        // After an error of the template the fields are not looked at, so not all need be told at once.
        assert_eq!(found.today.unsupported.is_empty(), lacking.is_empty(), "{name}: lacks {lacking:?}");
    }
}

#[test]
fn a_job_is_accepted_exactly_where_nothing_is_lacking() {
    let mut accepted = 0;
    for name in names() {
        let found = look(&name);
        let source = Source { name: &name, text: &found.text };
        match resolve(&source, &today()) {
            Ok(_) => {
                accepted += 1;
                assert!(found.today.unsupported.is_empty(), "{name}");
            }
            Err(error) => assert!(error.is_unsupported(), "{name}\n{error}"),
        }
    }
    assert!(accepted >= 7, "{accepted}");
}

#[test]
fn the_target_of_every_job_is_known_at_submission_or_left_to_the_second_rendering() {
    for name in names() {
        let text = fs::read_to_string(folder().join(format!("{name}.yml"))).unwrap();
        let submitted = Variables::default().set("environ", today().0["environ"].clone());
        let source = Source { name: &name, text: &text };
        match target_of(&source, &submitted) {
            Ok(Some(target)) => {
                assert!(target.id.is_some() || !target.tags.is_empty() || name == "watchdog-retries")
            }
            Ok(None) => assert_eq!(name, "literal-tags", "only its machine tells its target"),
            // What is lacking in the template is told before a machine is looked for.
            Err(error) => assert!(error.is_unsupported(), "{name}\n{error}"),
        }
    }
}
