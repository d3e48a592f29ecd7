//! The life of a machine from its registration to a job's verdict.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic, also in what its tests share")]

mod farm;
mod power;
mod queue;

use std::sync::Arc;

use farmgate_boots::{BootDirectory, ScriptRequest};
use farmgate_executor::SubmitError;
use farmgate_protocol::{JobStatus, console::Tag, dut::DutState, pdu::PortState};

use farm::{Farm, MAC, WIRED, attend, good, job, play_machine};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_registers_waits_trains_and_serves() {
    let farm = Farm::start("pdus:\n  P: {driver: dummy, config: {ports: [one]}}\nduts: {}\n", 2).await;
    farm.register().await;
    farm.wait_for_state(DutState::WaitForConfig).await;
    let reason = farm.executor.duts()[0].state_reason.clone();
    assert!(reason.contains("pdu_port_id"), "{reason}");
    assert_eq!(farm.port_state(), PortState::Off, "a port that no machine names is not touched");

    let machine =
        tokio::spawn(play_machine(Arc::clone(&farm.boots), farm.executor.clone(), farm.console, good));
    // A person wires it up.
    farm.edit(|text| {
        text.replace(
            "    base_name: virtio",
            "    pdu: P\n    pdu_port_id: 1\n    pdu_off_delay: 0.2\n    base_name: virtio",
        )
        .replace("    pdu_off_delay: 30.0\n", "")
        .replace("    pdu_off_delay: 30\n", "")
        .replace("    pdu: null\n", "")
        .replace("    pdu_port_id: null\n", "")
    });
    farm.wait_for_state(DutState::Idle).await;
    let dut = farm.executor.duts().remove(0);
    assert!(dut.ready_for_service);
    assert_eq!(dut.training.current_loop_count, 2);
    assert_eq!(dut.training.statuses["PASS"], 2);
    let (_, range) = farm.executor.training_log(MAC, 0).await.unwrap().unwrap();
    let log = farm.executor.salad().read(MAC, range.start, Some(range.end)).await.unwrap();
    let log: Vec<u8> = log.iter().flat_map(|c| c.bytes.to_vec()).collect();
    assert!(String::from_utf8_lossy(&log).contains("booted with action=check"));
    machine.abort();
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_shows_its_console_and_its_verdict_and_leaves_the_outlet_off() {
    let farm = Farm::start(WIRED, 1).await;
    farm.wait_for_state(DutState::Idle).await;
    let machine =
        tokio::spawn(play_machine(Arc::clone(&farm.boots), farm.executor.clone(), farm.console, good));
    let link = farm.submit(&job("hello")).await.unwrap();
    // The machine is busy at once.
    assert!(matches!(farm.submit(&job("hello")).await, Err(SubmitError::Busy(_))));
    let (console, messages, status) = attend(link, farm.executor.salad().clone(), b"").await;
    assert_eq!(status, JobStatus::Pass);
    assert!(console.contains("booted with hello"), "{console}");
    let tags: Vec<Tag> = messages.iter().map(|(tag, _)| *tag).collect();
    for tag in [
        Tag::InfraSetupStart,
        Tag::InfraSetupComplete,
        Tag::PowerCycleStart,
        Tag::PowerCycleComplete,
        Tag::FirmwareBootComplete,
        Tag::PatternMatched,
        Tag::InfraTeardownComplete,
        Tag::Verdict,
    ] {
        assert!(tags.contains(&tag), "{tag:?} is missing in {tags:?}");
    }
    assert_eq!(farm.port_state(), PortState::Off);
    farm.wait_for_state(DutState::Idle).await;
    // The plan of the job is gone with it.
    let plan = farm.boots.plan(farm.mac(), &ScriptRequest { platform: None, buildarch: None }).unwrap();
    assert_eq!(plan.cmdline, "register");
    machine.abort();
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_types_reaches_the_machine_and_a_job_without_success_fails() {
    fn talk(cmdline: &str) -> Vec<String> {
        vec![format!("booted with {cmdline}"), "type now".into()]
    }
    let farm = Farm::start(WIRED, 1).await;
    farm.wait_for_state(DutState::Idle).await;
    let machine =
        tokio::spawn(play_machine(Arc::clone(&farm.boots), farm.executor.clone(), farm.console, talk));
    let link = farm.submit(&job("hello").replace("safe to turn off", "you typed BYE")).await.unwrap();
    let (console, _, status) = attend(link, farm.executor.salad().clone(), b"bye\n").await;
    assert!(console.contains("you typed BYE"), "{console}");
    assert_eq!(status, JobStatus::Fail);
    machine.abort();
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_its_job_and_the_outlet_goes_off() {
    fn silent(_: &str) -> Vec<String> {
        Vec::new()
    }
    let farm = Farm::start(WIRED, 1).await;
    farm.wait_for_state(DutState::Idle).await;
    let machine =
        tokio::spawn(play_machine(Arc::clone(&farm.boots), farm.executor.clone(), farm.console, silent));
    let link = farm.submit(&job("hello")).await.unwrap();
    farm.wait_for("ON", |f| f.port_state() == PortState::On).await;
    farm.wait_for_state(DutState::Running).await;
    drop(link);
    farm.wait_for_state(DutState::Idle).await;
    assert_eq!(farm.port_state(), PortState::Off);
    machine.abort();
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_never_boots_is_incomplete_and_says_why() {
    let farm = Farm::start(WIRED, 1).await;
    farm.wait_for_state(DutState::Idle).await;
    let text =
        job("hello").replace("boot_cycle: {seconds: 20}", "firmware_boot: {milliseconds: 300, retries: 1}");
    let link = farm.submit(&text).await.unwrap();
    let (_, messages, status) = attend(link, farm.executor.salad().clone(), b"").await;
    assert_eq!(status, JobStatus::Incomplete);
    let (_, verdict) = messages.iter().find(|(tag, _)| *tag == Tag::Verdict).unwrap();
    assert!(verdict.contains("network"), "{verdict}");
    assert_eq!(messages.iter().filter(|(tag, _)| *tag == Tag::TimeoutHit).count(), 2);
    assert_eq!(farm.port_state(), PortState::Off);
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_jobs_are_refused_with_their_reason_before_anything_is_switched() {
    let farm = Farm::start(WIRED, 1).await;
    farm.wait_for_state(DutState::Idle).await;
    let cases = [
        (
            job("x").replace("virtio:family:VIRTIO", "virtio:familly:VIRTIO"),
            406,
            "did you mean virtio:family:VIRTIO",
        ),
        (job("x").replace("{tags: [virtio:family:VIRTIO]}", "{id: f-virtio-9}"), 404, "f-virtio-1"),
        (job("x").replace("timeouts:", "timeout:"), 400, "job.yml:4"),
        (job("x").replace("target: {tags: [virtio:family:VIRTIO]}\n", ""), 400, "target"),
        (format!("{}\ndeadline: 2020-01-01 00:00:00\n", job("x")), 400, "has passed"),
    ];
    for (text, status, words) in cases {
        let error = farm.submit(&text).await.expect_err(&text);
        assert_eq!(error.http_status(), status, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(farm.port_state(), PortState::Off);
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retired_machines_take_no_jobs_until_they_are_activated() {
    let farm = Farm::start(WIRED, 1).await;
    farm.wait_for_state(DutState::Idle).await;
    farm.executor.retire(MAC).await.unwrap();
    farm.wait_for_state(DutState::Retired).await;
    assert!(farm.executor.retire(MAC).await.is_err());
    assert!(matches!(farm.submit(&job("x")).await, Err(SubmitError::Busy(_))));
    let machine =
        tokio::spawn(play_machine(Arc::clone(&farm.boots), farm.executor.clone(), farm.console, good));
    farm.executor.activate("f-virtio-1").await.unwrap();
    // It is checked by one boot before it serves again.
    farm.wait_for_state(DutState::QuickCheck).await;
    farm.wait_for_state(DutState::Idle).await;
    machine.abort();
    farm.stop().await;
}
