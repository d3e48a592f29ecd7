//! `executorctl run` as a process against a gateway that is a script of raw bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test a panic is the failure

mod stand_in;

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use farmgate_protocol::{
    JobStatus,
    console::{Control, Severity, Tag},
};
use rustix::process::Signal;
use serde_json::json;
use stand_in::*;

/// A gateway that upgrades, sends this and waits for the client to close.
fn sends(frames: Vec<u8>) -> StandIn {
    StandIn::play(move |listener| {
        let mut console = Request::next(listener).upgrade(b"");
        console.send(&frames);
        console.expect_close();
    })
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn standard_output_is_the_console_and_the_verdict_and_the_exit_code_is_its_number() {
    for status in JobStatus::ALL {
        let gateway = sends(
            [io(b"one \x1b[1m\r\n"), mark(0, Tag::None, "a note"), io(b"two"), end(9, status)].concat(),
        );
        let outcome = run(&["-e", &gateway.url(), "run", path(&job())]);
        assert_eq!(outcome.out, format!("one \x1b[1m\r\ntwo\n{status}\n"));
        assert_eq!(outcome.code, i32::from(status.exit_code()), "{}", outcome.error);
        assert!(outcome.error.contains("[gateway] a note\n"), "{}", outcome.error);
        gateway.done();
    }
}

#[test]
fn a_submission_carries_everything_in_named_parts() {
    let job = job();
    let job_name = job.path().file_name().unwrap().to_str().unwrap().to_owned();
    let gateway = StandIn::play(move |listener| {
        let request = Request::next(listener);
        assert_eq!(request.line, "POST /api/v1/jobs");
        assert_eq!(request.headers["authorization"], "Basic eDpUT0s=", "x:TOK");
        let parts = request.parts();
        assert_eq!(parts.keys().collect::<Vec<_>>(), ["art", "job", "metadata"]);
        for (name, file_name, kind) in [
            ("metadata", "metadata", "application/json"),
            ("job", &job_name, "application/x-yaml"),
            ("art", "art", "application/octet-stream"),
        ] {
            assert_eq!(
                (parts[name].file_name.as_str(), parts[name].content_type.as_str()),
                (file_name, kind)
            );
        }
        assert_eq!(parts["job"].body, b"version: 1\n");
        assert_eq!(parts["art"].body, vec![7; 300_000]);
        let metadata = request.metadata();
        assert_eq!(metadata["target"], json!({"id": "dut", "tags": ["a", "b"]}));
        assert_eq!(metadata["environ"], json!({"CI_TRON_TEST": "forwarded"}));
        assert_eq!(metadata["job_id"], "mine");
        let mut console = request.upgrade(b"");
        console.send(&end(0, JobStatus::Pass));
        console.expect_close();
    });
    let mut artifact = tempfile::NamedTempFile::new().unwrap();
    artifact.write_all(&vec![7; 300_000]).unwrap();
    let url = format!("http://x:TOK@127.0.0.1:{}", gateway.port);
    let attached = format!("art:{}", path(&artifact));
    let arguments = ["-e", &url, "run", "-i", "dut", "-t", "a", "-t", "b", "-j", "mine", "-f", &attached];
    let outcome = run(&[&arguments[..], &[path(&job)]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.error);
    assert!(!outcome.error.contains("TOK"), "{}", outcome.error);
    gateway.done();
}

#[test]
fn a_job_by_url_is_named_in_the_metadata() {
    let gateway = StandIn::play(|listener| {
        let request = Request::next(listener);
        assert!(!request.parts().contains_key("job"));
        assert_eq!(request.metadata()["job_desc_url"], "https://h/job.yml");
        let mut console = request.upgrade(b"");
        console.send(&end(0, JobStatus::Pass));
        console.expect_close();
    });
    assert_eq!(run(&["-e", &gateway.url(), "run", "-t", "x", "https://h/job.yml"]).code, 0);
    gateway.done();
}

#[test]
fn frames_in_the_segment_of_the_101_are_not_lost() {
    let gateway = StandIn::play(|listener| {
        let frames = [io(b"early\n"), end(0, JobStatus::Pass)].concat();
        Request::next(listener).upgrade(&frames).expect_close();
    });
    let outcome = run(&["-e", &gateway.url(), "run", path(&job())]);
    assert_eq!((outcome.out.as_str(), outcome.code), ("early\nPASS\n", 0));
    gateway.done();
}

#[test]
fn a_gateway_that_does_not_upgrade_calls_back() {
    let gateway = StandIn::play(|listener| {
        let request = Request::next(listener);
        let callback = request.metadata()["callback"].clone();
        assert_eq!(callback["host"], "myself");
        let port = u16::try_from(callback["port"].as_u64().unwrap()).unwrap();
        request.answer_json("200 OK", &json!({"version": 1, "error_msg": ""}));
        let mut console = Console::dial(port);
        console.send(&[io(b"called\n"), end(0, JobStatus::Warn)].concat());
        console.expect_close();
    });
    let outcome = run(&["-e", &gateway.url(), "run", "-c", "myself", path(&job())]);
    assert_eq!((outcome.out.as_str(), outcome.code), ("called\nWARN\n", 1));
    gateway.done();
}

#[test]
fn a_call_that_never_comes_is_a_clear_error() {
    let gateway = StandIn::play(|listener| {
        Request::next(listener).answer_json("200 OK", &json!({"version": 1, "error_msg": ""}))
    });
    let outcome = run(&["-e", &gateway.url(), "run", path(&job())]);
    assert_eq!((outcome.last_word(), outcome.code), ("SETUP_FAIL", 6));
    assert!(
        outcome.error.contains("did not call back") && outcome.error.contains("-c HOST"),
        "{}",
        outcome.error
    );
    gateway.done();
}

fn busy(listener: &TcpListener) -> serde_json::Value {
    let request = Request::next(listener);
    let metadata = request.metadata();
    request.answer_json("409 Conflict", &json!({"version": 1, "error_msg": "all machines are busy"}));
    metadata
}

#[test]
fn with_wait_a_busy_farm_is_asked_again_under_the_same_name() {
    let gateway = StandIn::play(|listener| {
        let first = busy(listener);
        assert_eq!(busy(listener)["job_id"], first["job_id"]);
        let request = Request::next(listener);
        assert_eq!(request.metadata()["job_id"], first["job_id"]);
        let mut console = request.upgrade(b"");
        console.send(&end(0, JobStatus::Pass));
        console.expect_close();
    });
    let outcome = run(&["-e", &gateway.url(), "run", "--wait", path(&job())]);
    assert_eq!((outcome.last_word(), outcome.code), ("PASS", 0));
    assert!(outcome.error.contains("waiting for a free machine, since 0 s"), "{}", outcome.error);
    assert!(outcome.error.contains("all machines are busy"), "{}", outcome.error);
    gateway.done();
}

#[test]
fn while_it_waits_a_gateway_may_restart() {
    let gateway = StandIn::play(|listener| {
        busy(listener);
        // Gone without an answer.
        drop(Request::next(listener));
        let mut console = Request::next(listener).upgrade(b"");
        console.send(&end(0, JobStatus::Pass));
        console.expect_close();
    });
    let outcome = run(&["-e", &gateway.url(), "run", "--wait", path(&job())]);
    assert_eq!(outcome.code, 0, "{}", outcome.error);
    gateway.done();
}

#[test]
fn without_wait_a_busy_farm_is_an_error_that_names_the_way_out() {
    let gateway = StandIn::play(|listener| drop(busy(listener)));
    let outcome = run(&["-e", &gateway.url(), "run", path(&job())]);
    assert_eq!((outcome.last_word(), outcome.code), ("SETUP_FAIL", 6));
    assert!(
        outcome.error.contains("all machines are busy") && outcome.error.contains("--wait"),
        "{}",
        outcome.error
    );
    gateway.done();
}

#[test]
fn errors_of_the_gateway_are_printed_whole() {
    let snippet = "job.yml:3:5: unknown field `foo`\n  |\n3 |     foo: 1\n  |     ^^^";
    for (status, body, words) in [
        ("400 Bad Request", json!({"version": 1, "error_msg": snippet}), snippet),
        (
            "406 Not Acceptable",
            json!({"error": "no machine has these tags"}),
            "HTTP 406: no machine has these tags",
        ),
        ("401 Unauthorized", json!({"error": "who?"}), "TOKEN"),
        ("302 Found", json!({}), "redirects"),
        ("500 Internal Server Error", json!("oops"), "HTTP 500: \"oops\""),
    ] {
        let gateway = StandIn::play(move |listener| Request::next(listener).answer_json(status, &body));
        let outcome = run(&["-e", &gateway.url(), "run", path(&job())]);
        assert_eq!((outcome.last_word(), outcome.code), ("SETUP_FAIL", 6), "{status}");
        let error = outcome.error.replace("[executorctl] ", "");
        assert!(error.contains(words), "{status}: {error}");
        gateway.done();
    }
}

#[test]
fn an_unreachable_gateway_is_one_clear_line() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let outcome = run(&["-e", &format!("http://x:TOK@127.0.0.1:{port}/"), "run", path(&job())]);
    assert_eq!((outcome.last_word(), outcome.code), ("SETUP_FAIL", 6));
    assert_eq!(outcome.error.lines().count(), 1, "{}", outcome.error);
    for words in [&format!("http://127.0.0.1:{port}/"), "refused", "-e URL"] {
        assert!(outcome.error.contains(words), "{}", outcome.error);
    }
}

#[test]
fn a_lost_connection_is_incomplete_and_said() {
    for damage in [vec![], vec![0, 0, 1, 0, b'{'], vec![0xff; 8], b"\0\0\0\x02{}".to_vec()] {
        let gateway = StandIn::play(move |listener| {
            let mut console = Request::next(listener).upgrade(b"");
            console.send(&io(b"half a line"));
            console.send(&damage);
        });
        let outcome = run(&["-e", &gateway.url(), "run", path(&job())]);
        assert_eq!((outcome.out.as_str(), outcome.code), ("half a line\nINCOMPLETE\n", 4));
        assert!(outcome.error.contains("ended before the job did"), "{}", outcome.error);
        gateway.done();
    }
}

fn whole_run() -> Vec<u8> {
    let matched = Control::info(Tag::PatternMatched, "matched")
        .with("patterns", json!(["job_success"]))
        .with("line", "all good\r\n");
    let verdict = Control::info(Tag::Verdict, "passed")
        .with("status", "PASS")
        .with("cause", "job")
        .with("summary", "the success pattern matched")
        .with("attempts", 1);
    [
        mark(0, Tag::InfraSetupStart, "setup"),
        mark(10, Tag::InfraSetupComplete, "set up"),
        mark(10, Tag::PowerCycleStart, "power"),
        mark(15, Tag::PowerCycleComplete, "on"),
        mark(40, Tag::FirmwareBootComplete, "firmware"),
        mark(45, Tag::BootStage, "script"),
        mark(50, Tag::BootStage, "initrd"),
        mark(80, Tag::UserspaceStarted, "init"),
        control(90, matched),
        control(95, Control::info(Tag::TimeoutHit, "late").severity(Severity::Warn)),
        mark(100, Tag::InfraTeardownStart, "teardown"),
        mark(110, Tag::InfraTeardownComplete, "torn down"),
        control(110, verdict),
        end(110, JobStatus::Pass),
    ]
    .concat()
}

#[test]
fn the_summary_and_the_timings_tell_what_happened() {
    let gateway = sends(whole_run());
    let file = tempfile::NamedTempFile::new().unwrap();
    let outcome = run(&["-e", &gateway.url(), "run", "--timings-json", path(&file), path(&job())]);
    assert_eq!((outcome.out.as_str(), outcome.code), ("PASS\n", 0));
    for words in
        ["verdict   PASS", "cause     job", "the success pattern matched", "job_success (1): all good"]
    {
        assert!(outcome.error.contains(words), "{words}: {}", outcome.error);
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    let phases: Vec<_> = json["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["name"].as_str(), p["seconds"].as_f64()))
        .collect();
    let expected = [
        ("setup", 1.0),
        ("power", 0.5),
        ("firmware", 2.5),
        ("network boot", 1.0),
        ("kernel", 3.0),
        ("job", 2.0),
        ("teardown", 1.0),
    ];
    assert_eq!(phases, expected.map(|(name, seconds)| (Some(name), Some(seconds))));
    assert_eq!((&json["status"], &json["cause"]), (&json!("PASS"), &json!("job")));
    gateway.done();
}

#[test]
fn quiet_leaves_the_console_and_the_verdict() {
    let gateway = sends(whole_run());
    let outcome = run(&["-e", &gateway.url(), "run", "-q", path(&job())]);
    assert!(
        !outcome.error.contains("[gateway]") && outcome.error.contains("verdict   PASS"),
        "{}",
        outcome.error
    );
    gateway.done();
}

#[test]
fn timings_that_cannot_be_written_are_found_before_the_run() {
    let outcome =
        run(&["-e", "http://127.0.0.1:1/", "run", "--timings-json", "/nonexistent/x.json", path(&job())]);
    assert_eq!((outcome.last_word(), outcome.code), ("SETUP_FAIL", 6));
    assert!(outcome.error.contains("cannot write /nonexistent/x.json"), "{}", outcome.error);
}

#[test]
fn without_a_terminal_standard_input_is_left_alone() {
    let job = job();
    let gateway = sends([io(b"x\n"), end(0, JobStatus::Pass)].concat());
    let mut client = Process::start(client(&["-e", &gateway.url(), "run", path(&job)]).stdin(Stdio::piped()));
    client.0.stdin.as_mut().unwrap().write_all(b"not for the DUT\n").unwrap();
    assert_eq!(client.finish().code, 0);
    // `expect_close` in the script fails on any key.
    gateway.done();
}

#[test]
fn an_interrupt_cancels_the_job() {
    let job = job();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let gateway = StandIn::play(|listener| {
            let mut console = Request::next(listener).upgrade(b"");
            console.send(&io(b"running\n"));
            console.expect_close();
        });
        let mut client = Process::start(&mut client(&["-e", &gateway.url(), "run", path(&job)]));
        let mut first = [0; 8];
        client.0.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        client.signal(signal);
        let outcome = client.finish();
        assert_eq!((outcome.last_word(), outcome.code), ("INCOMPLETE", 4));
        assert!(outcome.error.contains("the job is cancelled"), "{}", outcome.error);
        gateway.done();
    }
}

#[test]
fn an_interrupt_works_while_nobody_reads_the_console() {
    let job = job();
    let gateway = StandIn::play(|listener| {
        let mut console = Request::next(listener).upgrade(b"");
        // More than every buffer between us and the reader that does not read.
        console.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let frame = io(&[b'x'; 60_000]);
        while console.stream.write_all(&frame).is_ok() {}
    });
    let mut client = Process::start(&mut client(&["-e", &gateway.url(), "run", path(&job)]));
    gateway.done();
    let start = Instant::now();
    client.signal(Signal::INT);
    // The verdict cannot be written either: a second one gives up on that.
    wait_for("the client's end", || {
        let ended = client.0.try_wait().unwrap();
        if ended.is_none() && start.elapsed() > Duration::from_secs(1) {
            client.signal(Signal::INT);
        }
        ended
    });
    assert_eq!(client.code(), 4);
}

#[test]
fn a_closed_standard_output_cancels_the_job() {
    let job = job();
    let gateway = StandIn::play(|listener| {
        let mut console = Request::next(listener).upgrade(b"");
        let frame = io(b"more\n");
        while console.stream.write_all(&frame).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let mut client = Process::start(&mut client(&["-e", &gateway.url(), "run", path(&job)]));
    drop(client.0.stdout.take());
    assert_eq!(client.code(), 4);
    gateway.done();
}

#[test]
fn wrong_arguments_are_never_taken_for_a_verdict() {
    for arguments in
        [&["run"][..], &["run", "--nonsense", "x"], &["fly"], &["-e", "ftp://h/", "run", "/dev/null"]]
    {
        assert_eq!(run(arguments).code, 6, "{arguments:?}");
    }
    for arguments in [&[][..], &["--help"], &["run", "--help"], &["dut"], &["--version"]] {
        assert_eq!(run(arguments).code, 0, "{arguments:?}");
    }
}
