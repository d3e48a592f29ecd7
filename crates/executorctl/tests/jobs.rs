//! The commands that ask one thing, against a gateway that answers it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test a panic is the failure

mod stand_in;

use std::io::Write;

use serde_json::{Value, json};
use stand_in::{
    ours::{Ours, RUN, passing},
    *,
};

fn gateway(answers: &[(&str, u16, Value)]) -> Ours {
    let gateway = Ours::start(Default::default(), []);
    for (line, status, body) in answers {
        gateway.answers(line, *status, body.clone());
    }
    gateway
}

fn a_run() -> Value {
    json!({"id": 7, "kind": "job", "state": "finished", "phase": null, "name": "hello.yml", "job_id": null,
        "dut": "d1", "priority": "default", "submitter": "local", "created": at(0), "started": at(10), "ended": at(100),
        "status": "WARN", "cause": "test_passed", "summary": "it passed"})
}

fn a_job() -> Value {
    let mut run = a_run();
    for (key, value) in
        [("attempts", json!([])), ("phases", json!([])), ("console_bytes", json!(9)), ("clients", json!(0))]
    {
        run[key] = value;
    }
    run["why"] = Value::Null;
    run
}

fn ask(gateway: &Ours, arguments: &[&str]) -> Outcome {
    run(&[&["-e", &gateway.url()], arguments].concat())
}

#[test]
fn jobs_are_listed_as_they_were_asked_for() {
    let list = json!({"jobs": [a_run()]});
    let gateway = gateway(&[("GET /api/v1/jobs", 200, list.clone())]);
    let outcome = ask(
        &gateway,
        &["jobs", "--dut", "d1", "--state", "finished", "--all", "--limit", "5", "--before", "9"],
    );
    assert_eq!(outcome.code, 0, "{}", outcome.error);
    assert!(
        outcome.out.contains("7") && outcome.out.contains("WARN") && outcome.out.contains("hello.yml"),
        "{}",
        outcome.out
    );
    let line = gateway.seen(|seen| seen.others[0].0.clone());
    assert_eq!(line, "GET /api/v1/jobs?limit=5&dut=d1&state=finished&kind=all&before=9");
    let outcome = ask(&gateway, &["jobs", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&outcome.out).unwrap(), list);
}

#[test]
fn one_job_is_shown_explained_and_cancelled() {
    let why = json!({"reason": "it is next", "place": 1, "estimate_seconds": null, "machines": []});
    let gateway = gateway(&[
        ("GET /api/v1/job/7", 200, a_job()),
        ("GET /api/v1/job/7/why", 200, why),
        ("POST /api/v1/job/7/cancel", 200, json!({"id": 7})),
    ]);
    let show = ask(&gateway, &["job", "7"]);
    assert!(show.out.contains("WARN (exit code 1)") && show.out.contains("it passed"), "{}", show.out);
    assert_eq!(ask(&gateway, &["why", "7"]).out, "it is next (place 1 in the queue)\n");
    let cancel = ask(&gateway, &["cancel", "7"]);
    assert!(cancel.code == 0 && cancel.out.contains("job 7 is cancelled"), "{}", cancel.out);
    assert_eq!(ask(&gateway, &["cancel", "7", "--format", "json"]).out, "{\"id\":7}\n");
}

#[test]
fn what_is_not_there_or_not_now_is_one_and_what_is_away_is_six() {
    let gateway = gateway(&[
        ("GET /api/v1/job/8", 404, json!({"error": "there is no job 8"})),
        ("POST /api/v1/job/9/cancel", 409, json!({"error": "job 9 is over: PASS"})),
        ("GET /api/v1/jobs", 200, json!({"no": "jobs"})),
        ("POST /api/v1/job/8/attach", 404, json!({"error": "there is no job 8"})),
    ]);
    for (arguments, code, words) in [
        (&["job", "8"][..], 1, "there is no job 8"),
        (&["cancel", "9"], 1, "job 9 is over: PASS"),
        (&["jobs"], 6, "not that of a gateway"),
        (&["attach", "8"], 6, "there is no job 8"),
        (&["logs", "8"], 1, "nothing at"),
    ] {
        let outcome = ask(&gateway, arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.error);
        assert!(outcome.error.contains(words), "{arguments:?}: {}", outcome.error);
        assert!(!outcome.error.contains("--wait"), "{}", outcome.error);
    }
    let away = run(&["-e", "http://127.0.0.1:1/", "jobs"]);
    assert!(away.code == 6 && away.error.contains("cannot reach the gateway"), "{}", away.error);
}

#[test]
fn machines_are_retired_brought_back_and_checked() {
    let dut =
        |state: &str| json!({"id": "d1", "full_name": "farm-a-1", "state": state, "state_reason": "by hand"});
    let gateway = gateway(&[
        ("GET /api/v1/dut/d1", 200, dut("IDLE")),
        // The change takes effect a moment after the answer.
        ("GET /api/v1/dut/d1", 200, dut("IDLE")),
        ("GET /api/v1/dut/d1", 200, dut("RETIRED")),
        ("GET /api/v1/duts", 200, json!({"duts": {"d1": {"full_name": "farm-a-1", "state": "IDLE"}}})),
        ("POST /api/v1/dut/d1/retire", 200, json!({"id": "d1", "cancelled": true})),
        ("POST /api/v1/dut/d1/activate", 400, json!({"error": "farm-a-1 is not retired"})),
        ("POST /api/v1/dut/d1/quick_check", 200, json!({"id": "d1"})),
    ]);
    assert_eq!(ask(&gateway, &["dut", "retire", "--cancel", "d1"]).out, "farm-a-1 is RETIRED (by hand)\n");
    let line = gateway.seen(|seen| seen.others[1].0.clone());
    assert_eq!(line, "POST /api/v1/dut/d1/retire?cancel=true");
    let refused = ask(&gateway, &["dut", "activate", "d1"]);
    assert_eq!((refused.code, refused.error.as_str()), (1, "executorctl: farm-a-1 is not retired\n"));
    assert_eq!(ask(&gateway, &["dut", "quick-check", "--format", "json", "d1"]).out, "{\"id\":\"d1\"}\n");
    let unknown = ask(&gateway, &["dut", "retire", "farm-a-2"]);
    assert!(unknown.code == 1 && unknown.error.contains("did you mean farm-a-1"), "{}", unknown.error);
}

#[test]
fn the_console_of_a_machine_that_is_not_busy_is_said_to_be_missing() {
    let gateway = gateway(&[
        ("GET /api/v1/dut/farm-a-1", 200, json!({"id": "d1", "full_name": "farm-a-1", "state": "IDLE"})),
        ("GET /api/v1/jobs?dut=d1&kind=all&limit=1&state=active", 200, json!({"jobs": []})),
        ("GET /api/v1/jobs?dut=d1&kind=all&limit=1", 200, json!({"jobs": [a_run()]})),
    ]);
    let outcome = ask(&gateway, &["dut", "console", "farm-a-1"]);
    assert_eq!(outcome.code, 6);
    assert!(
        outcome.error.contains("not supported yet") && outcome.error.contains("executorctl logs 7"),
        "{}",
        outcome.error
    );
}

#[test]
fn the_console_of_a_busy_machine_is_that_of_its_run() {
    let gateway = Ours::start(passing(b"it checks itself\r\n", 64), []);
    gateway.answers(
        "GET /api/v1/dut/farm-a-1",
        200,
        json!({"id": "d1", "full_name": "farm-a-1", "state": "QUICK_CHECK"}),
    );
    let mut check = a_run();
    check["id"] = json!(RUN);
    check["kind"] = json!("quick_check");
    let active = "GET /api/v1/jobs?dut=d1&kind=all&limit=1&state=active";
    gateway.answers(active, 200, json!({"jobs": [check]}));
    let outcome = ask(&gateway, &["dut", "console", "farm-a-1"]);
    assert_eq!((outcome.out.as_str(), outcome.code), ("it checks itself\r\nPASS\n", 0), "{}", outcome.error);
    assert!(outcome.error.contains("busy with job 42 (quick_check"), "{}", outcome.error);
}

#[test]
fn a_token_goes_along_from_the_url_or_the_environment() {
    let gateway = gateway(&[("GET /api/v1/jobs", 200, json!({"jobs": []}))]);
    let with_token = |url: &str| {
        let mut command = client(&["-e", url, "jobs"]);
        command.env("FARMGATE_TOKEN", "fromage");
        assert_eq!(Process::start(&mut command).finish().code, 0);
        gateway.seen(|seen| seen.others.last().unwrap().1.clone().unwrap())
    };
    assert_eq!(with_token(&gateway.url()), "Bearer fromage");
    assert_eq!(with_token(&format!("http://x:TOK@127.0.0.1:{}/", gateway.port)), "Basic eDpUT0s=");
}

/// Chunked, as an answer without a known length is; without its end if it breaks.
fn chunked(request: Request, pieces: &[&[u8]], ends: bool) {
    let mut stream = request.raw("Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n");
    for piece in pieces {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
        stream.write_all(&[piece, &b"\r\n"[..]].concat()).unwrap();
    }
    if ends {
        stream.write_all(b"0\r\n\r\n").unwrap();
    }
}

#[test]
fn the_console_of_a_job_is_printed_byte_for_byte_through_a_cut_and_a_restart() {
    let gateway = StandIn::play(|listener| {
        let request = Request::next(listener);
        assert_eq!(request.line, "GET /api/v1/job/7/console?from=0&follow=1");
        chunked(request, &[b"one\r\n\x1b[0m", b"tw"], false);
        let request = Request::next(listener);
        assert_eq!(request.line, "GET /api/v1/job/7/console?from=11&follow=1");
        // A gateway that is stopped in good order ends the answer, and the job goes on.
        chunked(request, &[b"o"], true);
        let mut detail = a_job();
        detail["state"] = json!("active");
        Request::next(listener).answer_json("200 OK", &detail);
        let request = Request::next(listener);
        assert_eq!(request.line, "GET /api/v1/job/7/console?from=12&follow=1");
        chunked(request, &[b"\n"], true);
        let mut detail = a_job();
        detail["console_bytes"] = json!(13);
        Request::next(listener).answer_json("200 OK", &detail);
    });
    let outcome = run(&["-e", &gateway.url(), "logs", "-f", "7"]);
    assert_eq!((outcome.out.as_str(), outcome.code), ("one\r\n\x1b[0mtwo\n", 0), "{}", outcome.error);
    gateway.done();
}

#[test]
fn shells_get_their_completions() {
    for (shell, words) in
        [("bash", "_executorctl"), ("zsh", "#compdef executorctl"), ("fish", "complete -c executorctl")]
    {
        let outcome = run(&["completions", shell]);
        assert_eq!(outcome.code, 0);
        assert!(outcome.out.contains(words) && outcome.out.contains("quick-check"), "{shell}");
    }
    assert_eq!(run(&["completions", "csh"]).code, 6);
}
