//! A farm for tests, with real parts but no hardware: a PDU, the real console service, and a machine played by the
//! test, which boots when its outlet is on.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use farmgate_boots::{BootDirectory, ScriptRequest, Sighting, Stage};
use farmgate_executor::{
    BootDefault, BootTable, BuiltinJob, Caller, ClientLink, Defaults, EventLog, Executor, ExecutorConfig,
    Parts, Submission, SubmitError, serve_client,
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
use farmgate_store::{Retention, Store};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

pub const MAC: &str = "52:54:00:11:22:01";
/// Far more than anything here takes; the machines that run tests are noisy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const TEMPLATE: &str = r#"
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

pub fn template(action: &str) -> BuiltinJob {
    BuiltinJob { name: action.to_owned(), text: TEMPLATE.replace("ACTION", action) }
}

pub struct Farm {
    pub executor: Executor,
    pub boots: Arc<BootTable>,
    pub console: SocketAddr,
    pub shutdown: CancellationToken,
    pub folder: tempfile::TempDir,
}

impl Farm {
    pub async fn start(farm_file: &str, boot_count: u32) -> Self {
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
        let defaults = config.boot_defaults.clone();
        let boots = Arc::new(BootTable::new(defaults, events.clone()));
        let store = Store::open(&folder.path().join("state.db"), Retention::default()).unwrap();
        let parts = Parts {
            config,
            mars,
            salad,
            boots: Arc::clone(&boots),
            events,
            store,
            after_crash: false,
            shutdown: shutdown.clone(),
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let executor = Executor::start(parts).await.unwrap();
        Self { executor, boots, console, shutdown, folder }
    }

    pub fn mac(&self) -> MacAddress {
        MAC.parse().unwrap()
    }

    pub fn port_state(&self) -> PortState {
        self.executor.pdus().get("P").and_then(|p| p.ports.get("1")).map_or(PortState::Unknown, |p| p.state)
    }

    pub fn edit(&self, change: impl Fn(&str) -> String) {
        let path = self.folder.path().join("mars_db.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(&text)).unwrap();
    }

    pub async fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = tokio::time::Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < PATIENCE, "{what} did not happen; duts: {:#?}", self.executor.duts());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn wait_for_state(&self, state: DutState) {
        self.wait_for(state.as_str(), |f| f.executor.duts().iter().any(|d| d.state == state)).await;
    }

    pub async fn register(&self) {
        let body = json!({"base_name": "virtio", "tags": ["virtio:family:VIRTIO"], "mac_address": MAC});
        let Value::Object(body) = body else { unreachable!() };
        self.executor.register(&body, Caller::Operator, false).await.unwrap();
    }

    pub async fn submit(&self, job: &str) -> Result<ClientLink, SubmitError> {
        let submission = Submission {
            metadata: Metadata::default(),
            name: "job.yml".to_owned(),
            text: job.to_owned(),
            submitter: "test".to_owned(),
            resumable: false,
        };
        Ok(self.executor.submit(submission).await?.client)
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.executor.stopped().await;
    }
}

pub async fn consoles(folder: &Path, shutdown: &CancellationToken) -> (Salad, SocketAddr) {
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

pub fn config(folder: &Path, kernel: &Path, boot_count: u32) -> ExecutorConfig {
    ExecutorConfig {
        farm_name: "f".to_owned(),
        registration_job: template("action=register"),
        bootloop_job: template("action=check"),
        boot_count,
        qualifying_boot_count: boot_count,
        registration_retrial_delay: Duration::from_millis(200),
        quick_check: false,
        boot_defaults: Defaults {
            general: BootDefault {
                kernel: Some(kernel.to_owned()),
                initrd: None,
                cmdline: Some("register".to_owned()),
            },
            ..Defaults::default()
        },
        artifact_cache: folder.join("artifacts"),
        artifact_cache_size: 1 << 30,
        artifact_attempts: 3,
        artifact_stall: Duration::from_secs(5),
        unfit_pattern: None,
        job_variables: Map::new(),
        vpdu_endpoint: None,
        observe: false,
        console_host: "localhost".to_owned(),
    }
}

/// A machine: whenever its outlet goes on it asks what to boot, and prints what `talk` makes of the command line.
/// Its console is cut when the outlet goes off. It looks at the outlet every few milliseconds, so it must be off for
/// longer than that to be noticed: `pdu_off_delay` in the farm files here.
pub async fn play_machine(
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

pub fn good(cmdline: &str) -> Vec<String> {
    vec![format!("booted with {cmdline}"), "pipeline status: 0".into(), "It's now safe to turn off".into()]
}

/// Reads what a client is told: the console, the messages and the verdict.
pub async fn attend(link: ClientLink, salad: Salad, typed: &[u8]) -> (String, Vec<(Tag, String)>, JobStatus) {
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

pub const WIRED: &str = r#"
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

pub fn job(action: &str) -> String {
    TEMPLATE
        .replace("ACTION", action)
        .replace(r#"{id: "{{ machine_id }}"}"#, "{tags: [virtio:family:VIRTIO]}")
}
