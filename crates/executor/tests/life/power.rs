//! Ports are off when no run uses them, whatever happens to the gateway, the farm file and the runs. The outlet here
//! is a server of the test's own, so that its state is known even when the gateway has ended.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use farmgate_protocol::{JobStatus, dut::DutState, pdu::PortState};
use serde_json::Map;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::farm::{Farm, MAC, WIRED, attend, good, job, play_machine};

/// A vPDU with one outlet.
struct Outlet {
    on: Arc<AtomicBool>,
    /// It takes connections and says nothing.
    dumb: Arc<AtomicBool>,
    port: u16,
}

impl Outlet {
    async fn start() -> Self {
        let on = Arc::new(AtomicBool::new(false));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::clone(&on);
        let dumb = Arc::new(AtomicBool::new(false));
        let silent = Arc::clone(&dumb);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if silent.load(Ordering::SeqCst) {
                    continue; // closed without an answer
                }
                let Ok(request) = client.read_u32().await else { continue };
                let answer = match request & 3 {
                    0 => 1,
                    command @ (1 | 2) => {
                        state.store(command == 1, Ordering::SeqCst);
                        1
                    }
                    _ if state.load(Ordering::SeqCst) => 3,
                    _ => 4,
                };
                let _ = client.write_u8(answer).await;
            }
        });
        Self { on, dumb, port }
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// A farm whose machine is at this outlet and in service.
    async fn farm(&self) -> Farm {
        let pdu = format!("{{driver: vpdu, config: {{hostname: \"127.0.0.1:{}\"}}}}", self.port);
        let farm = Farm::start(&WIRED.replace("{driver: dummy, config: {ports: [one]}}", &pdu), 1).await;
        farm.wait_for_state(DutState::Idle).await;
        farm
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_switches_the_machine_of_a_job_off() {
    let outlet = Outlet::start().await;
    let farm = outlet.farm().await;
    let _client = farm.submit(&job("hello")).await.unwrap();
    farm.wait_for("ON", |f| f.port_state() == PortState::On).await;
    farm.stop().await;
    assert!(!outlet.is_on());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pdu_that_is_edited_while_a_job_runs_is_still_switched_off_at_its_end() {
    let outlet = Outlet::start().await;
    let farm = outlet.farm().await;
    let _client = farm.submit(&job("hello")).await.unwrap();
    farm.wait_for("ON", |_| outlet.is_on()).await;
    farm.edit(|text| text.replace("{driver: vpdu,", "{driver: vpdu, reserved_port_ids: [\"9\"],"));
    // The PDU as edited is another one: nothing is known of it at first, then its port is seen on.
    farm.wait_for("the new PDU", |f| {
        f.executor.pdus()["P"].ports.get("1").is_some_and(|p| p.last_shutdown.is_none())
    })
    .await;
    farm.executor.cancel_job(MAC, "the test").await.unwrap();
    farm.wait_for_state(DutState::Idle).await;
    assert!(!outlet.is_on());
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_forgotten_while_a_job_runs_is_switched_off() {
    let outlet = Outlet::start().await;
    let farm = outlet.farm().await;
    let _client = farm.submit(&job("hello")).await.unwrap();
    farm.wait_for("ON", |_| outlet.is_on()).await;
    farm.edit(|_| "pdus: {}\nduts: {}\n".to_owned());
    farm.wait_for("OFF", |_| !outlet.is_on()).await;
    farm.stop().await;
}

/// What was said of the trainings, from the first text that contains `from` on.
fn trainings(farm: &Farm, from: &str) -> Vec<String> {
    let (events, _) = farm.executor.events().since(0);
    let texts = events.into_iter().filter(|e| e.kind == "training").map(|e| e.text);
    texts.skip_while(|text| !text.contains(from)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_says_it_is_unfit_serves_only_after_a_whole_new_training() {
    fn talk(cmdline: &str) -> Vec<String> {
        if cmdline.contains("action=") { good(cmdline) } else { vec!["my fan is broken".into()] }
    }
    let farm = Farm::start(&WIRED.replace("ready_for_service: true", "ready_for_service: false"), 1).await;
    let machine =
        tokio::spawn(play_machine(Arc::clone(&farm.boots), farm.executor.clone(), farm.console, talk));
    farm.wait_for_state(DutState::Idle).await;
    let text = job("hello").replace(
        "console_patterns:",
        "console_patterns:\n  machine_unfit_for_service: {regex: \"fan is broken\"}",
    );
    let link = farm.submit(&text).await.unwrap();
    let (_, _, status) = attend(link, farm.executor.salad().clone(), b"").await;
    assert_eq!(status, JobStatus::Incomplete);
    let has = |f: &Farm, word: &str| trainings(f, "leaves service").iter().position(|t| t.contains(word));
    farm.wait_for("qualified again", |f| has(f, "qualified").is_some()).await;
    assert!(
        has(&farm, "boot 1 ended: PASS") < has(&farm, "qualified")
            && has(&farm, "boot 1 ended: PASS").is_some(),
        "{:?}",
        trainings(&farm, "leaves service")
    );
    machine.abort();
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_retired_during_its_quick_check_stays_qualified() {
    let outlet = Outlet::start().await;
    let farm = outlet.farm().await;
    farm.executor.quick_check(MAC).await.unwrap();
    farm.wait_for("ON", |_| outlet.is_on()).await;
    farm.executor.retire(MAC).await.unwrap();
    farm.wait_for("OFF", |_| !outlet.is_on()).await;
    let mut nothing = Map::new();
    nothing.insert("comment".to_owned(), "seen".into());
    // The answer comes when the machine's task has dealt with what came before.
    assert!(farm.executor.quick_check(MAC).await.is_err());
    farm.executor.patch_dut(MAC, &nothing).await.unwrap();
    farm.wait_for("the comment", |f| f.executor.duts()[0].comment.is_some()).await;
    assert!(farm.executor.duts()[0].ready_for_service);
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_pdu_is_dead_takes_no_jobs_until_it_answers_again() {
    let outlet = Outlet::start().await;
    let farm = outlet.farm().await;
    outlet.dumb.store(true, Ordering::SeqCst);
    farm.wait_for_state(DutState::Unknown).await;
    let reason = farm.executor.duts()[0].state_reason.clone();
    assert!(reason.contains("PDU P does not answer"), "{reason}");
    let error = farm.submit(&job("x")).await.expect_err("no job is taken");
    assert_eq!(error.http_status(), 409);
    assert!(error.to_string().contains("does not answer"), "{error}");
    outlet.dumb.store(false, Ordering::SeqCst);
    farm.wait_for_state(DutState::Idle).await;
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_forgotten_in_a_job_and_comes_back_begins_anew_when_its_run_has_ended() {
    let outlet = Outlet::start().await;
    let farm = outlet.farm().await;
    let link = farm.submit(&job("x")).await.unwrap();
    farm.wait_for("ON", |_| outlet.is_on()).await;
    farm.edit(|text| {
        let at = text.find("duts:").unwrap();
        format!("{}duts: {{}}\n", &text[..at])
    });
    farm.wait_for("it is forgotten", |f| f.executor.duts().is_empty()).await;
    farm.edit(|text| {
        let at = WIRED.find("duts:").unwrap();
        text.replace("duts: {}\n", &WIRED[at..])
    });
    let (_, _, status) = attend(link, farm.executor.salad().clone(), b"").await;
    assert_eq!(status, JobStatus::Incomplete);
    farm.wait_for_state(DutState::Idle).await;
    assert!(!outlet.is_on());
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_machine_somebody_else_switches_off_ends_at_once_and_says_who_did_it() {
    let outlet = Outlet::start().await;
    let farm = outlet.farm().await;
    let link = farm.submit(&job("hello")).await.unwrap();
    farm.wait_for("ON", |f| outlet.is_on() && f.port_state() == PortState::On).await;
    outlet.on.store(false, Ordering::SeqCst);
    let (_, _, status) = attend(link, farm.executor.salad().clone(), b"").await;
    assert_eq!(status, JobStatus::Incomplete);
    let (events, _) = farm.executor.events().since(0);
    let said = |kind: &str| {
        let mut of_machine = events.iter().filter(|e| e.kind == kind && e.dut.is_some());
        of_machine.any(|e| e.text.contains("somebody else switched port 1 of PDU P OFF"))
    };
    assert!(said("power-changed") && said("run"), "{events:#?}");
    farm.wait_for_state(DutState::Idle).await;
    farm.stop().await;
}
