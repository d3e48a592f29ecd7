//! The real `snmpd` as a PDU: its tables come from `agent.py`, its network from a small UDP relay that delays, swallows
//! and loses on request. Everything lives in a folder of its own and ends with the value.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Seek, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use farmgate_pdu::{Driver, make};
use farmgate_protocol::PortId;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::UdpSocket, task::JoinSet, time::sleep};

use crate::conformance::{Fault, Misbehave};

/// How a PDU is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2c,
    V3,
}

/// The PDU.
pub struct Snmpd {
    folder: TempDir,
    driver: &'static str,
    version: Version,
    /// What a config has beyond the address and the credentials.
    extra: Value,
    /// Where drivers find it: the relay.
    address: SocketAddr,
    program: PathBuf,
    daemon: Option<(Daemon, SocketAddr)>,
    relay: Option<JoinSet<()>>,
    faults: Arc<Mutex<Faults>>,
}

/// What the relay does to packets.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    slow: Duration,
    silent: bool,
    loses_every_second: bool,
    requests: u64,
}

/// A running snmpd, ended with the value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The keys of the users that every agent here knows: name, config.
pub fn users() -> [(&'static str, Value); 8] {
    let user = |name: &str, auth: Value| {
        let mut config = json!({"version": 3, "username": name});
        config.as_object_mut().unwrap().extend(auth.as_object().unwrap().clone());
        config
    };
    let auth = |protocol: &str| json!({"auth_protocol": protocol, "auth_password": "authpass-1"});
    let both = |protocol: &str, privacy: &str| {
        let mut keys = auth(protocol);
        keys["privacy_protocol"] = json!(privacy);
        keys["privacy_password"] = json!("privpass-1");
        keys
    };
    [
        ("open", user("open", json!({}))),
        ("md5", user("md5", auth("MD5"))),
        ("shades", user("shades", both("SHA", "DES"))),
        ("shaaes", user("shaaes", both("SHA", "AES"))),
        ("sha256aes", user("sha256aes", both("SHA256", "AES"))),
        ("sha512aes", user("sha512aes", both("SHA512", "AES"))),
        ("sha256aes256", user("sha256aes256", both("SHA256", "AES256"))),
        ("shaaes192c", user("shaaes192c", both("SHA", "AES192C"))),
    ]
}

const CONFIG: &str = r#"
rocommunity public
rwcommunity private
rwcommunity6 private
rwcommunity outlets default .1.3.6.1.4.1.318.1.1.4
createUser open
rwuser open noauth
createUser md5 MD5 authpass-1
rwuser md5 auth
createUser shades SHA authpass-1 DES privpass-1
rwuser shades priv
createUser shaaes SHA authpass-1 AES privpass-1
rwuser shaaes priv
createUser sha256aes SHA-256 authpass-1 AES privpass-1
rwuser sha256aes priv
createUser sha512aes SHA-512 authpass-1 AES privpass-1
rwuser sha512aes priv
createUser sha256aes256 SHA-256 authpass-1 AES-256 privpass-1
rwuser sha256aes256 priv
createUser shaaes192c SHA authpass-1 AES-192-C privpass-1
rwuser shaaes192c priv
createUser reader SHA authpass-1 AES privpass-1
rouser reader priv
"#;

/// The subtrees that `agent.py` answers for.
const SUBTREES: [&str; 6] = [
    "1.3.6.1.4.1.318.1.1",
    "1.3.6.1.4.1.3808.1.1",
    "1.3.6.1.4.1.11863.6.56",
    "1.3.6.1.2.1.105",
    "1.3.6.1.2.1.2.2",
    "1.3.6.1.2.1.31.1.1",
];

/// snmpd and Python, or None where a developer does not have it. In CI it has to be there.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = |name: &str, folders: &mut dyn Iterator<Item = PathBuf>| {
        folders.map(|folder| folder.join(name)).find(|file| file.is_file())
    };
    let snmpd = found("snmpd", &mut folders.collect::<Vec<_>>().into_iter());
    let python = found("python3", &mut std::env::split_paths(&path));
    if let (Some(snmpd), Some(python)) = (snmpd, python) {
        // Itself, not a wrapper of it that is slow to start.
        let itself =
            Command::new(&python).args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        return Some((snmpd, String::from_utf8(itself.stdout).unwrap().trim().into()));
    }
    let remedy =
        "snmpd or python3 is not installed: apt-get install snmpd python3 (or scripts/install-packages)";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{remedy}");
    eprintln!("skipped: {remedy}");
    None
}

impl Snmpd {
    /// An agent that models `model` (a name of `agent.py`), for `driver`. None: a named skip.
    pub async fn start(model: &str, driver: &'static str, version: Version, extra: Value) -> Option<Self> {
        Self::start_at("127.0.0.1:0", model, driver, version, extra).await
    }

    /// The same on an address of the caller's.
    pub async fn start_at(
        address: &str,
        model: &str,
        driver: &'static str,
        version: Version,
        extra: Value,
    ) -> Option<Self> {
        let (program, python) = programs()?;
        let folder = tempfile::Builder::new().prefix("farmgate-snmpd").tempdir().unwrap();
        let state = json!({"model": model, "outlets": [], "lies": 0, "commands": 0});
        fs::write(folder.path().join("state.json"), state.to_string()).unwrap();
        fs::write(folder.path().join("agent.py"), include_str!("agent.py")).unwrap();
        let shown = |file: &str| folder.path().join(file).display().to_string();
        let script = format!("{} -IS {} {}", python.display(), shown("agent.py"), shown("state.json"));
        let passes: String = SUBTREES.iter().map(|oid| format!("pass_persist .{oid} {script}\n")).collect();
        fs::write(folder.path().join("snmpd.conf"), format!("{CONFIG}{passes}")).unwrap();
        let front = UdpSocket::bind(address).await.unwrap();
        let address = front.local_addr().unwrap();
        let faults = Arc::new(Mutex::new(Faults::default()));
        let (daemon, relay) = (None, None);
        let mut snmpd = Self { folder, driver, version, extra, address, program, daemon, relay, faults };
        snmpd.run(front).await;
        Some(snmpd)
    }

    /// The address with its port, as a farm file names it.
    pub fn hostname(&self) -> String {
        self.address.to_string()
    }

    /// How many packets came from drivers since the last fault was set.
    pub fn requests(&self) -> u64 {
        self.faults.lock().unwrap().requests
    }

    /// The daemon's own address, without the relay.
    pub fn backend(&self) -> String {
        self.daemon.as_ref().unwrap().1.to_string()
    }

    async fn run(&mut self, front: UdpSocket) {
        let backend = match &self.daemon {
            Some((_, backend)) => *backend,
            None => self.launch().await,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(relay(front, backend, self.faults.clone()));
        self.relay = Some(tasks);
        // The first question starts the scripts.
        let (mut driver, start) = (self.driver(), Instant::now());
        while let Err(error) = driver.ports().await {
            assert!(start.elapsed() < Duration::from_secs(60), "the agent does not answer: {error}");
        }
    }

    /// Starts the daemon on a free port of the loopback, and waits until it listens.
    async fn launch(&mut self) -> SocketAddr {
        for _ in 0..5 {
            let backend = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let log = self.folder.path().join("snmpd.log");
            let _ = fs::remove_file(&log);
            let child = Command::new(&self.program)
                .args(["-f", "-C", "-r", "-I", "-smux,mteTrigger,mteTriggerConf,ifTable,ifXTable"])
                .arg("-c")
                .arg(self.folder.path().join("snmpd.conf"))
                .arg(format!("-Lf{}", log.display()))
                .arg(format!("udp:{backend}"))
                .env("SNMP_PERSISTENT_DIR", self.folder.path().join("persistent"))
                .env("SNMPCONFPATH", self.folder.path())
                .env("MIBS", "")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut daemon = Daemon(child);
            let start = Instant::now();
            let listens = loop {
                if fs::read_to_string(&log).unwrap_or_default().contains("NET-SNMP version") {
                    break true;
                }
                if daemon.0.try_wait().unwrap().is_some() {
                    break false;
                }
                assert!(start.elapsed() < Duration::from_secs(30), "snmpd does not start: {}", said(&log));
                sleep(Duration::from_millis(10)).await;
            };
            if listens {
                self.daemon = Some((daemon, backend));
                return backend;
            }
            // Somebody else took the port in between.
            eprintln!("snmpd ended: {}", said(&log));
        }
        panic!("snmpd cannot be started");
    }

    /// Changes the state that the agent shows, under its lock.
    pub fn change<T>(&self, change: impl FnOnce(&mut Value) -> T) -> T {
        let mut file =
            File::options().read(true).write(true).open(self.folder.path().join("state.json")).unwrap();
        file.lock().unwrap();
        let mut state: Value = serde_json::from_reader(&file).unwrap();
        let before = state.clone();
        let result = change(&mut state);
        if state != before {
            file.rewind().unwrap();
            file.set_len(0).unwrap();
            file.write_all(state.to_string().as_bytes()).unwrap();
        }
        result
    }

    /// While it is gone: it comes back with another name (engine id) and a clock of its own, as a replaced one does.
    pub fn forget_engine(&self) {
        let _ = fs::remove_dir_all(self.folder.path().join("persistent"));
    }

    /// A config with the given credentials.
    pub fn config(&self, credentials: &Value) -> Value {
        let mut config = json!({"hostname": self.hostname()});
        for more in [credentials, &self.extra] {
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        config
    }

    fn with(&self, credentials: &Value) -> Box<dyn Driver> {
        make(self.driver, &self.config(credentials)).unwrap()
    }

    fn community(&self, community: &str) -> Value {
        let version = if self.version == Version::V1 { json!(1) } else { json!("2c") };
        json!({"version": version, "community": community})
    }

    fn user(&self, name: &str, password: &str) -> Value {
        json!({
            "version": 3, "username": name, "auth_protocol": "SHA", "auth_password": password,
            "privacy_protocol": "AES", "privacy_password": "privpass-1",
        })
    }
}

fn said(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_else(|error| error.to_string())
}

/// Carries packets between drivers and the daemon, with a socket for each driver's.
async fn relay(front: UdpSocket, backend: SocketAddr, faults: Arc<Mutex<Faults>>) {
    let front = Arc::new(front);
    let mut sockets: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut packet = [0; 65_536];
    loop {
        // A packet that came back as "unreachable" is an error of the next call.
        let Ok((length, client)) = front.recv_from(&mut packet).await else { continue };
        let lost = {
            let mut faults = faults.lock().unwrap();
            faults.requests += 1;
            faults.silent || (faults.loses_every_second && faults.requests % 2 == 1)
        };
        if lost {
            continue;
        }
        let socket = match sockets.get(&client) {
            Some(socket) => socket.clone(),
            None => {
                let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                sockets.insert(client, socket.clone());
                tasks.spawn(back(socket.clone(), front.clone(), client, faults.clone()));
                socket
            }
        };
        let _ = socket.send_to(&packet[..length], backend).await;
    }
}

/// Carries the answers.
async fn back(socket: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr, faults: Arc<Mutex<Faults>>) {
    let mut delayed = JoinSet::new();
    let mut packet = [0; 65_536];
    loop {
        let Ok(length) = socket.recv(&mut packet).await else { continue };
        let (bytes, front, slow) = (packet[..length].to_vec(), front.clone(), faults.lock().unwrap().slow);
        delayed.spawn(async move {
            sleep(slow).await;
            let _ = front.send_to(&bytes, client).await;
        });
        while delayed.try_join_next().is_some() {}
    }
}

#[async_trait]
impl Misbehave for Snmpd {
    fn name(&self) -> String {
        format!("{} over {:?}", self.driver, self.version)
    }

    fn driver(&self) -> Box<dyn Driver> {
        match self.version {
            Version::V1 | Version::V2c => self.with(&self.community("private")),
            Version::V3 => self.with(&self.user("shaaes", "authpass-1")),
        }
    }

    fn with_wrong_credentials(&self) -> Option<Box<dyn Driver>> {
        Some(match self.version {
            Version::V1 | Version::V2c => self.with(&self.community("wrong")),
            Version::V3 => self.with(&self.user("shaaes", "a wrong password")),
        })
    }

    fn with_reading_only(&self) -> Option<Box<dyn Driver>> {
        Some(match self.version {
            Version::V1 | Version::V2c => self.with(&self.community("public")),
            Version::V3 => self.with(&self.user("reader", "authpass-1")),
        })
    }

    fn label(&self, n: usize, given: &str) -> String {
        if self.driver == "snmp_poe_tplink" {
            format!("gigabitEthernet 1/0/{}: {given}", n + 1)
        } else {
            given.into()
        }
    }

    fn unknown_id(&self) -> PortId {
        PortId::from(965)
    }

    async fn outfit(&mut self, labels: &[String]) {
        let outlets: Vec<_> = labels.iter().map(|label| json!({"label": label, "on": false})).collect();
        self.change(|state| {
            state["outlets"] = json!(outlets);
            state["commands"] = json!(0);
        });
        assert!(self.fault(Fault::None).await);
    }

    async fn fault(&mut self, fault: Fault) -> bool {
        let mut faults = Faults::default();
        let mut lies = Duration::ZERO;
        match fault {
            Fault::None => {}
            Fault::Slow(slow) => faults.slow = slow,
            Fault::Silent => faults.silent = true,
            Fault::LosesEverySecond => faults.loses_every_second = true,
            Fault::LiesFor(time) => lies = time,
            Fault::Gone => {
                if let Some(mut relay) = self.relay.take() {
                    relay.shutdown().await;
                }
                self.daemon = None;
                return true;
            }
        }
        *self.faults.lock().unwrap() = faults;
        self.change(|state| state["lies"] = json!(lies.as_secs_f64()));
        if self.relay.is_none() {
            let front = UdpSocket::bind(self.address).await.unwrap();
            self.run(front).await;
        }
        true
    }

    async fn is_on(&mut self, n: usize) -> bool {
        self.change(|state| state["outlets"][n]["on"].as_bool().unwrap())
    }

    async fn press(&mut self, n: usize, on: bool) {
        self.change(|state| state["outlets"][n]["on"] = json!(on));
    }

    async fn commands(&mut self) -> usize {
        self.change(|state| state["commands"].as_u64().unwrap() as usize)
    }
}
