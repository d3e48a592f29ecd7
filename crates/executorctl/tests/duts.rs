//! `executorctl duts` and `executorctl dut info` as processes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test a panic is the failure

mod stand_in;

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use stand_in::*;

/// A machine as the original shows it: no reasons.
fn legacy(name: &str, state: &str) -> Value {
    json!({"id": name, "full_name": name, "state": state, "ip_address": "10.42.0.9", "comment": null, "tags": ["a", "b"]})
}

fn answers(status: &'static str, body: Value) -> StandIn {
    StandIn::play(move |listener| {
        let request = Request::next(listener);
        assert_eq!(request.line, "GET /api/v1/duts");
        request.answer_json(status, &body);
    })
}

#[test]
fn the_machines_are_listed_for_people_and_for_programs() {
    let body = json!({"duts": {"b": legacy("farm-b-1", "RUNNING"), "a": legacy("farm-a-1", "IDLE")}});
    let gateway = answers("200 OK", body.clone());
    let outcome = run(&["-e", &gateway.url(), "duts"]);
    assert_eq!(outcome.code, 0, "{}", outcome.error);
    let expected = "\
Full name  State    IP address  Comment
farm-a-1   IDLE     10.42.0.9
farm-b-1   RUNNING  10.42.0.9
";
    assert_eq!(outcome.out, expected);
    gateway.done();
    let gateway = answers("200 OK", body.clone());
    let outcome = run(&["-e", &gateway.url(), "duts", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&outcome.out).unwrap(), body);
    gateway.done();
}

#[test]
fn something_else_than_a_gateway_is_told_apart() {
    for (status, body) in
        [("200 OK", json!({"x": 1})), ("200 OK", json!([])), ("404 Not Found", json!("nothing"))]
    {
        let gateway = answers(status, body);
        let outcome = run(&["-e", &gateway.url(), "duts"]);
        assert_eq!((outcome.code, outcome.out.as_str()), (6, ""), "{}", outcome.error);
        gateway.done();
    }
}

#[test]
fn the_environment_may_name_the_gateway_and_the_command_line_wins() {
    let body = || json!({"duts": {}});
    let gateway = answers("200 OK", body());
    let outcome = Process::start(client(&["duts"]).env("EXECUTORCTL_URL", gateway.url())).finish();
    assert_eq!(outcome.code, 0, "{}", outcome.error);
    gateway.done();
    let gateway = answers("200 OK", body());
    let url = gateway.url();
    let outcome =
        Process::start(client(&["-e", &url, "duts"]).env("EXECUTORCTL_URL", "http://127.0.0.1:1/")).finish();
    assert_eq!(outcome.code, 0, "{}", outcome.error);
    gateway.done();
}

#[test]
fn one_machine_is_shown_with_all_its_fields() {
    let gateway = StandIn::play(|listener| {
        for _ in 0..2 {
            let request = Request::next(listener);
            assert_eq!(request.line, "GET /api/v1/dut/52:54:00:11:22:01");
            request.answer_json("200 OK", &legacy("farm-a-1", "IDLE"));
        }
    });
    let outcome = run(&["-e", &gateway.url(), "dut", "info", "52:54:00:11:22:01"]);
    assert!(outcome.out.contains("tags                  a, b\n"), "{}", outcome.out);
    let outcome = run(&["-e", &gateway.url(), "dut", "info", "--format", "json", "52:54:00:11:22:01"]);
    assert_eq!(serde_json::from_str::<Value>(&outcome.out).unwrap(), legacy("farm-a-1", "IDLE"));
    gateway.done();
}

#[test]
fn an_unknown_machine_brings_up_the_nearest_names() {
    let gateway = StandIn::play(|listener| {
        Request::next(listener).answer_json("404 Not Found", &json!({"error": "no such DUT"}));
        let duts =
            json!({"duts": {"a": legacy("farm-virtio-1", "IDLE"), "b": legacy("farm-gfx9-1", "IDLE")}});
        Request::next(listener).answer_json("200 OK", &duts);
    });
    let outcome = run(&["-e", &gateway.url(), "dut", "info", "farm-virtoi-1"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.error.contains("did you mean farm-virtio-1?"), "{}", outcome.error);
    gateway.done();
}

fn states(listener: &TcpListener, state: &str) {
    let request = Request::next(listener);
    if request.line.ends_with("/events") {
        request.answer_json("404 Not Found", &json!({"error": "no such thing"}));
        return states(listener, state);
    }
    request.answer_json("200 OK", &json!({"duts": {"a": legacy("farm-a-1", state)}}));
}

#[test]
fn a_gateway_without_events_is_watched_by_asking() {
    let gateway = StandIn::play(|listener| {
        for state in ["IDLE", "IDLE", "RUNNING"] {
            states(listener, state);
        }
    });
    let mut client = Process::start(&mut client(&["-e", &gateway.url(), "duts", "--watch"]));
    let mut lines = BufReader::new(client.0.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().ends_with("farm-a-1 IDLE"));
    assert!(
        lines.next().unwrap().unwrap().ends_with("farm-a-1 RUNNING"),
        "unchanged states are not repeated"
    );
    gateway.done();
    client.signal(Signal::INT);
    assert_eq!(client.code(), 0);
}
