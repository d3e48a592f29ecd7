//! The walk-through of the manual, step by step, on a real (virtual) machine: BIOS, iPXE, kernel, registration,
//! training, jobs; and the published Python client as a peer.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails, in its helpers too

use std::process::Command;

use farmgate_e2e::{TestFarm, mac, root, run};

const HELLO: &str = include_str!("../../jobs/examples/hello.yml");

#[test]
fn a_machine_is_switched_on_registers_qualifies_and_runs_jobs() {
    let farm = TestFarm::start(None, |_| {});
    let status = farm.vpductl(&["--all", "--status"]);
    assert_eq!(status.code, 0, "{status:?}");
    assert!(!status.out.to_uppercase().contains(": ON"), "a fresh farm is off: {}", status.out);

    // "Spawning virtual DUTs"
    let on = farm.vpductl(&["--outlet", "1", "--on"]);
    assert_eq!(on.code, 0, "{on:?}");
    let dut = farm.wait_for_state(1, "WAIT_FOR_CONFIG");
    assert_eq!(dut["base_name"], "virtio");
    assert_eq!(dut["local_tty_device"], "ttyS0", "the console was found by ping");
    let tags = dut["tags"].to_string();
    for tag in ["virtio:family:VIRTIO", "virtio:pciid:", "firmware:bios", "cpu:arch:x86_64"] {
        assert!(tags.contains(tag), "{tag} is missing in {tags}");
    }
    assert!(dut["state_reason"].as_str().unwrap_or_default().contains("pdu_port_id"), "{dut}");

    // A person edits the farm file; their comment stays.
    farm.edit_farm_file(|text| format!("# my farm\n{}", wire(text, 1)));
    farm.wait_for_state(1, "TRAINING");
    let dut = farm.wait_for_state(1, "IDLE");
    assert_eq!(dut["full_name"], "vivian-virtio-1");
    assert_eq!(dut["training"]["statuses"]["PASS"], 1, "{dut}");
    let firmware = dut["firmware_boot_time"].as_f64().unwrap_or_default();
    assert!(firmware > 0.5, "the time of its firmware was learned: {dut}");
    farm.edit_farm_file(|text| {
        assert!(text.starts_with("# my farm\n"), "{text}");
        assert!(text.contains("ready_for_service: true"), "{text}");
        text.to_owned()
    });

    // "Running a job on the virtual gateway"
    jobs(&farm);
    python_client(&farm);
    bad_input(&farm);
    ports_over_the_api(&farm);
    a_machine_is_no_operator(&farm);
    farm.stop();
}

/// Sets the PDU fields of a machine, whether the gateway wrote them as null or not at all.
fn wire(text: &str, outlet: u32) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let field = line.trim_start();
        if ["pdu:", "pdu_port_id:", "pdu_off_delay:"].iter().any(|name| field.starts_with(name)) {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if field.starts_with(&format!("\"{}\"", mac(outlet))) {
            let indent = " ".repeat(line.len() - field.len() + 2);
            out.push_str(&format!(
                "{indent}pdu: VPDU\n{indent}pdu_port_id: {outlet}\n{indent}pdu_off_delay: 1 # s\n"
            ));
        }
    }
    assert!(out.contains("pdu_off_delay"), "{} is not in {text}", mac(outlet));
    out
}

fn jobs(farm: &TestFarm) {
    let pass = farm.job(HELLO, &["-t", "virtio:family:VIRTIO"]);
    assert_eq!(pass.code, 0, "{}\n{}", pass.out, pass.err);
    assert!(pass.out.contains("Hello from vivian-virtio-1"), "{}", pass.out);
    assert!(pass.out.contains("Linux version"), "the console is shown from its beginning: {}", pass.out);
    assert_eq!(pass.out.lines().last(), Some("PASS"));
    for phase in ["power", "firmware", "network boot", "kernel", "job"] {
        assert!(pass.err.contains(phase), "{phase} is missing in the table of phases: {}", pass.err);
    }
    let off = farm.vpductl(&["--outlet", "1", "--status"]);
    assert!(off.out.to_uppercase().contains("OFF"), "the outlet is off after the job: {}", off.out);

    // The shell command fails: so does the job.
    let fail = farm.job(&HELLO.replace("grep MemTotal /proc/meminfo", "false"), &[]);
    assert_eq!(fail.code, 3, "{}\n{}", fail.out, fail.err);
    assert_eq!(fail.out.lines().last(), Some("FAIL"));
}

fn python_client(farm: &TestFarm) {
    let python = root().join("var/python-client/bin/python");
    assert!(python.is_file(), "{} is missing: `scripts/python-client` installs it", python.display());
    // The client insists on an `mcli` on the PATH; it is used for job buckets only.
    let tools = tempfile_dir();
    let mcli = tools.path().join("mcli");
    std::fs::write(&mcli, "#!/bin/sh\nexit 1\n").unwrap();
    run(Command::new("chmod").arg("+x").arg(&mcli));
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap_or_default());
    let job = root().join("jobs/examples/hello.yml");
    let url = format!("{}/", farm.url());
    let said = run(Command::new(&python)
        .env("PATH", path)
        .args(["-m", "valve_gfx_ci.executor.client", "-e", &url, "run", "-t", "virtio:family:VIRTIO"])
        .arg(job));
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("upgraded to the ci-tron console protocol"), "{}", said.out);
    assert!(said.out.contains("Hello from vivian-virtio-1"), "{}", said.out);
    assert!(said.out.contains("job_success(1): Execution is over, pipeline status: 0"), "{}", said.out);
    let duts = run(Command::new(&python).args(["-m", "valve_gfx_ci.executor.client", "-e", &url, "duts"]));
    assert!(duts.out.contains("vivian-virtio-1"), "{duts:?}");
}

fn bad_input(farm: &TestFarm) {
    let unknown = farm.job(HELLO, &["-t", "virtio:familly:VIRTIO"]);
    assert_eq!(unknown.code, 6, "{unknown:?}");
    assert!(unknown.err.contains("did you mean virtio:family:VIRTIO"), "{}", unknown.err);

    let misspelt = farm.job(&HELLO.replace("console_patterns", "console_pattern"), &[]);
    assert_eq!(misspelt.code, 6, "{misspelt:?}");
    let line = 1 + HELLO.lines().position(|l| l.starts_with("console_patterns")).unwrap();
    assert!(misspelt.err.contains(&format!("job.yml:{line}:1")), "{}", misspelt.err);
    assert!(misspelt.err.contains("did you mean `console_patterns`"), "{}", misspelt.err);

    // A broken farm file: the last good one stays in force, and the API says where the error is.
    let mut good = String::new();
    farm.edit_farm_file(|text| {
        good = text.to_owned();
        text.replace("ready_for_service", "redy_for_service")
    });
    let problem = wait_for_problem(farm, true);
    assert!(problem.contains("mars_db.yaml:") && problem.contains("ready_for_service"), "{problem}");
    assert_eq!(farm.get(&format!("/api/v1/dut/{}", mac(1)))["state"], "IDLE");
    farm.edit_farm_file(|_| good);
    wait_for_problem(farm, false);
}

fn wait_for_problem(farm: &TestFarm, wanted: bool) -> String {
    for _ in 0..200 {
        let problem = farm.get("/api/v1/full-state")["farm_file_problem"].clone();
        if problem.is_string() == wanted {
            return problem.as_str().unwrap_or_default().to_owned();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the farm file's problem is not {wanted}");
}

/// The status of a PATCH of a port.
fn patch_port(farm: &TestFarm, port: u32, body: &str) -> String {
    let url = format!("{}/api/v1/pdu/VPDU/port/{port}", farm.url());
    let arguments = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PATCH"];
    let said = run(Command::new("curl").args(arguments).args([
        "-H",
        "content-type: application/json",
        "-d",
        body,
        &url,
    ]));
    said.out
}

fn ports_over_the_api(farm: &TestFarm) {
    assert_eq!(patch_port(farm, 5, r#"{"state": "ON"}"#), "200");
    assert!(farm.vpductl(&["--outlet", "5", "--status"]).out.contains(": ON"));
    assert_eq!(patch_port(farm, 5, r#"{"state": "OFF", "reserved": "true"}"#), "200");
    assert!(farm.vpductl(&["--outlet", "5", "--status"]).out.contains(": OFF"));
    assert_eq!(farm.get("/api/v1/pdu/VPDU/port/5")["reserved"], true);
    assert_eq!(patch_port(farm, 5, r#"{"state": "ON"}"#), "403", "it is reserved");
    assert_eq!(patch_port(farm, 1, r#"{"state": "ON"}"#), "403", "its machine is in service");
    assert_eq!(patch_port(farm, 99, r#"{"state": "ON"}"#), "404");
    assert_eq!(patch_port(farm, 5, r#"{"state": "on"}"#), "400");
}

/// What runs on a machine is other people's code: it must not be able to submit jobs, read other machines' boot
/// scripts, or reach the consoles and the outlets. The neighbour here is a network namespace on the farm's bridge.
fn a_machine_is_no_operator(farm: &TestFarm) {
    let script = r#"
        set -e
        unshare -n sleep 120 & neighbour=$!
        trap 'kill $neighbour' EXIT
        while [ "$(readlink /proc/$neighbour/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
        ip link add dut0 type veth peer name dut1
        ip link set dut1 netns $neighbour
        ip link set dut0 master private up
        inside="nsenter -t $neighbour -n"
        $inside ip addr add 10.42.0.99/24 dev dut1
        $inside ip link set dut1 up
        answer() { $inside curl -s -m 10 -o /dev/null -w "%{http_code} $*\n" -X "$@" || true; }
        answer GET http://10.42.0.1/api/v1/duts
        answer POST http://10.42.0.1/api/v1/jobs
        answer PATCH http://10.42.0.1/api/v1/pdu/VPDU/port/1
        answer GET http://10.42.0.1/api/v1/events
        answer GET http://10.42.0.1/boot/52:54:00:11:22:01/boot.ipxe
        answer GET http://10.42.0.1:8005/api/v1/machine
        answer GET http://10.42.0.1:9191/
        answer GET http://10.42.0.1/boot/ipxe/snponly.efi
    "#;
    let said = run(farm.inside("bash").args(["-c", script]));
    let codes: Vec<&str> = said.out.lines().filter_map(|l| l.split(' ').next()).collect();
    // 000: nothing listens there.
    assert_eq!(codes, ["403", "403", "403", "403", "403", "000", "000", "200"], "{said:?}");
}

fn tempfile_dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
