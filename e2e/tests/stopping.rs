//! What is left behind when parts of the gateway end.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails, in its helpers too

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use farmgate_e2e::{PATIENCE, TestFarm, program, qualified, run};
use serde_json::Value;

/// A job that waits for more than any test does.
const LONG: &str = include_str!("../../jobs/examples/hello.yml");

fn long_job() -> String {
    LONG.replace("uname -sr", "echo sleeping; sleep 600")
}

fn farm() -> TestFarm {
    let farm = TestFarm::start(Some(&format!("duts:\n{}", qualified(1))), |options| {
        options.env.push(("SERGENT_HARTMAN_QUICK_CHECK".to_owned(), "disabled".to_owned()));
    });
    farm.wait_for_state(1, "IDLE");
    farm
}

/// What the supervisor knows of one of its children.
fn child(farm: &TestFarm, name: &str) -> Value {
    let text = std::fs::read_to_string(farm.path("children.json")).unwrap();
    let children: Vec<Value> = serde_json::from_str(&text).unwrap();
    children.into_iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name} is not in {text}"))
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_gateway_that_is_told_to_stop_ends_its_job_and_switches_the_machine_off() {
    let farm = farm();
    let job = farm.path("long.yml");
    std::fs::write(&job, long_job()).unwrap();
    let client = Command::new(program("executorctl"))
        .args(["-e", &farm.url(), "run"])
        .arg(&job)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the outlet is ON", || farm.vpductl(&["--outlet", "1", "--status"]).out.contains(": ON"));
    let pid = child(&farm, "farmgate")["pid"].to_string();
    assert_eq!(run(farm.inside("kill").args(["-TERM", &pid])).code, 0);
    let said = farmgate_e2e::Said::from(client.wait_with_output().unwrap());
    assert_eq!(said.code, 4, "{said:?}");
    assert_eq!(said.out.lines().last(), Some("INCOMPLETE"));
    wait_for("the gateway's end", || !child(&farm, "farmgate")["ended"].is_null());
    assert_eq!(child(&farm, "farmgate")["ended"], "exit code 0", "it ends without a fault");
    let off = farm.vpductl(&["--outlet", "1", "--status"]);
    assert!(off.out.contains(": OFF"), "{off:?}");
    farm.stop();
}

#[test]
fn a_console_service_that_dies_is_started_again_and_the_next_job_passes() {
    let farm = farm();
    let salad = || {
        let said = run(farm.inside("pgrep").args(["-xf", ".*farmgate salad"]));
        said.out.lines().next().map(str::to_owned)
    };
    let first = salad().expect("the console service runs");
    assert_eq!(run(farm.inside("kill").args(["-KILL", &first])).code, 0);
    wait_for("another console service", || salad().is_some_and(|pid| pid != first));
    wait_for("a job that passes", || farm.job(LONG, &[]).code == 0);
    farm.stop();
}
