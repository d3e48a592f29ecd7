//! The life of a machine from its registration to a job's verdict, with real parts but no hardware: a dummy PDU, the
//! real console service, and a machine played by the test, which boots when its outlet is on.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails, in its helpers too

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use farmgate_boots::{BootDirectory, ScriptRequest, Sighting, Stage};
use farmgate_executor::{
    BootTable, BuiltinJob, Caller, ClientLink, Defaults, EventLog, Executor, ExecutorConfig, Parts,
    Submission, SubmitError, serve_client,
};
use farmgate_mars::{CheckContext, Mars};
use farmgate_protocol::{
    JobStatus, MacAddress, Timestamp,
    console::{FrameReader, Payload, Tag},
    dut::DutState,
    pdu::PortState,
    submit::Metadata,
};
use farmgate_salad::{Salad, SaladConfig, Server};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

const MAC: &str = "52:54:00:11:22:01";
/// Far more than anything here takes; the machines that run tests are noisy.
const PATIENCE: Duration = Duration::from_secs(60);

const TEMPLATE: &str = r#"
version: 1
target: {id: "{{ machine_id }}"}
timeouts:
  boot_cycle: {seconds: 20}
console_patterns:
  session_end: {regex: "safe to turn off"}
  job_success: {regex: "status: 0"}
deployment:
  start:
    kernel:
      cmdline: ACTION
"#;

fn template(action: &str) -> BuiltinJob {
    BuiltinJob { name: action.to_owned(), text: TEMPLATE.replace("ACTION", action) }
}

struct Farm {
    executor: Executor,
    boots: Arc<BootTable>,
    console: SocketAddr,
    shutdown: CancellationToken,
    folder: tempfile::TempDir,
}

impl Farm {
    async fn start(farm_file: &str, boot_count: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let (salad, console) = consoles(folder.path(), &shutdown).await;
        let path = folder.path().join("mars_db.yaml");
        std::fs::write(&path, farm_file).unwrap();
        let context = CheckContext {
            extra_pdus: BTreeSet::new(),
            pdu_check: Arc::new(|driver, config| {
                farmgate_pdu::make(driver, config).map(|_| ()).map_err(|e| e.to_string())
            }),
            private_network: None,
        };
        let mars = Arc::new(Mars::open(path, context, shutdown.clone()).await.unwrap());
        let events = EventLog::default();
        let kernel = folder.path().join("vmlinuz");
        std::fs::write(&kernel, "a kernel").unwrap();
        let config = config(folder.path(), &kernel, boot_count);
        let defaults = Defaults { kernel: Some(kernel), initrd: None, cmdline: "register".to_owned() };
        let boots = Arc::new(BootTable::new(defaults, events.clone()));
        let parts =
            Parts { config, mars, salad, boots: Arc::clone(&boots), events, shutdown: shutdown.clone() };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let executor = Executor::start(parts).unwrap();
        Self { executor, boots, console, shutdown, folder }
    }

    fn mac(&self) -> MacAddress {
        MAC.parse().unwrap()
    }

    fn port_state(&self) -> PortState {
        self.executor.pdus().get("P").and_then(|p| p.ports.get("1")).map_or(PortState::Unknown, |p| p.state)
    }

    fn edit(&self, change: impl Fn(&str) -> String) {
        let path = self.folder.path().join("mars_db.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(&text)).unwrap();
    }

    async fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = tokio::time::Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < PATIENCE, "{what} did not happen; duts: {:#?}", self.executor.duts());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn wait_for_state(&self, state: DutState) {
        self.wait_for(state.as_str(), |f| f.executor.duts().iter().any(|d| d.state == state)).await;
    }

    async fn register(&self) {
        let body = json!({"base_name": "virtio", "tags": ["virtio:family:VIRTIO"], "mac_address": MAC});
        let Value::Object(body) = body else { unreachable!() };
        self.executor.register(&body, Caller::Operator, false).await.unwrap();
    }

    async fn submit(&self, job: &str) -> Result<ClientLink, SubmitError> {
        let submission =
            Submission { metadata: Metadata::default(), name: "job.yml".to_owned(), text: job.to_owned() };
        Ok(self.executor.submit(submission).await?.client)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.executor.stopped().await;
    }
}

async fn consoles(folder: &Path, shutdown: &CancellationToken) -> (Salad, SocketAddr) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = SaladConfig {
        rest: any,
        console: any,
        socket: folder.join("salad.sock"),
        records: folder.join("consoles"),
        legacy_host: Ipv4Addr::LOCALHOST.into(),
    };
    let salad = Salad::new(config.socket.clone());
    let server = Server::bind(config).await.unwrap();
    let console = server.console_addr();
    tokio::spawn(server.run(shutdown.clone()));
    (salad, console)
}

fn config(folder: &Path, kernel: &Path, boot_count: u32) -> ExecutorConfig {
    ExecutorConfig {
        farm_name: "f".to_owned(),
        registration_job: template("action=register"),
        bootloop_job: template("action=check"),
        boot_count,
        qualifying_boot_count: boot_count,
        registration_retrial_delay: Duration::from_millis(200),
        quick_check: false,
        default_kernel: Some(kernel.to_owned()),
        default_initrd: None,
        default_cmdline: "register".to_owned(),
        artifact_cache: folder.join("artifacts"),
        unfit_pattern: None,
        job_variables: Map::new(),
        vpdu_endpoint: None,
        console_host: "localhost".to_owned(),
    }
}

/// A machine: whenever its outlet goes on it asks what to boot, and prints what `talk` makes of the command line.
/// Its console is cut when the outlet goes off. It looks at the outlet every few milliseconds, so it must be off for
/// longer than that to be noticed: `pdu_off_delay` in the farm files here.
async fn play_machine(
    boots: Arc<BootTable>,
    executor: Executor,
    console: SocketAddr,
    talk: fn(&str) -> Vec<String>,
) {
    let mac: MacAddress = MAC.parse().unwrap();
    let is_on =
        || executor.pdus().get("P").and_then(|p| p.ports.get("1")).map(|p| p.state) == Some(PortState::On);
    loop {
        while !is_on() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut serial = TcpStream::connect(console).await.unwrap();
        serial.write_all(format!("firmware\r\nSALAD.machine_id={mac}\r\n").as_bytes()).await.unwrap();
        for stage in [Stage::DhcpDiscover { client: "test".into(), boots: true }, Stage::Script] {
            boots.saw(Sighting { mac, time: Timestamp::now(), stage });
        }
        let request = ScriptRequest { platform: None, buildarch: None };
        let cmdline = boots.plan(mac, &request).unwrap().cmdline;
        for line in talk(&cmdline) {
            serial.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        }
        let mut typed = [0; 64];
        while is_on() {
            tokio::select! {
                n = serial.read(&mut typed) => match n {
                    Ok(n) if n > 0 => {
                        let text = String::from_utf8_lossy(&typed[..n]).to_uppercase();
                        serial.write_all(format!("you typed {text}").as_bytes()).await.unwrap();
                    }
                    _ => break,
                },
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    }
}

fn good(cmdline: &str) -> Vec<String> {
    vec![format!("booted with {cmdline}"), "pipeline status: 0".into(), "It's now safe to turn off".into()]
}

/// Reads what a client is told: the console, the messages and the verdict.
async fn attend(link: ClientLink, salad: Salad, typed: &[u8]) -> (String, Vec<(Tag, String)>, JobStatus) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(theirs);
    let server = tokio::spawn(serve_client(link, salad, reader, writer));
    let (mut reader, mut writer) = tokio::io::split(ours);
    let (mut frames, mut console, mut messages) = (FrameReader::default(), Vec::new(), Vec::new());
    let mut buffer = [0; 4096];
    let mut to_type = Some(typed);
    let status = 'read: loop {
        let n = tokio::time::timeout(PATIENCE, reader.read(&mut buffer))
            .await
            .expect("the verdict comes")
            .unwrap();
        assert!(n > 0, "the stream ended without a verdict");
        frames.push(&buffer[..n]);
        while let Some(message) = frames.next_message().unwrap() {
            match message.payload {
                Payload::JobIo(bytes) => console.extend(bytes),
                Payload::Control(control) => messages.push((control.tag, control.msg)),
                Payload::SessionEnd { status, .. } => break 'read status,
            }
        }
        if String::from_utf8_lossy(&console).contains("type now")
            && let Some(text) = to_type.take()
        {
            let payload = Payload::JobIo(text.to_vec());
            let frame = farmgate_protocol::console::Message::new(Timestamp::now(), payload).encode();
            writer.write_all(&frame).await.unwrap();
        }
    };
    drop((reader, writer));
    server.await.unwrap();
    (String::from_utf8(console).unwrap(), messages, status)
}

const WIRED: &str = r#"
pdus:
  P: {driver: dummy, config: {ports: [one]}}
duts:
  "52:54:00:11:22:01":
    base_name: virtio
    tags: [virtio:family:VIRTIO]
    mac_address: 52:54:00:11:22:01
    pdu: P
    pdu_port_id: 1
    pdu_off_delay: 0.2
    ready_for_service: true
"#;

fn job(action: &str) -> String {
    TEMPLATE
        .replace("ACTION", action)
        .replace(r#"{id: "{{ machine_id }}"}"#, "{tags: [virtio:family:VIRTIO]}")
}

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
