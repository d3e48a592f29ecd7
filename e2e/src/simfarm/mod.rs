//! A farm of simulated machines without QEMU and without root: `simduts`, `farmgate salad` and `farmgate serve`, each a
//! process of its own on loopback ports, so that the gateway can be killed and started again. All are gone when this
//! is dropped.

pub mod http;
pub mod job;
pub mod verdict;

use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use farmgate_vivian::sim::{artifact, mac, outlet::Faults};
use serde_json::{Value, json};

use self::http::Answer;
use crate::program;

/// How long anything of a simulated farm may take: far more than it does.
pub const BOUND: Duration = Duration::from_secs(90);

/// What a farm is like.
#[derive(Debug, Clone, Default)]
pub struct SimOptions {
    /// Machines.
    pub duts: u32,
    /// More settings of the gateway.
    pub env: Vec<(String, String)>,
    /// More arguments of `simduts`.
    pub sim: Vec<String>,
    /// The state's folder is made in this one. None: in the usual place for temporary files.
    pub state_in: Option<PathBuf>,
}

/// See the module.
pub struct SimFarm {
    gateway: Option<Child>,
    salad: Child,
    sim: Child,
    api: SocketAddr,
    console: SocketAddr,
    salad_rest: SocketAddr,
    artifacts: SocketAddr,
    env: Vec<(String, String)>,
    duts: u32,
    state: tempfile::TempDir,
    folder: tempfile::TempDir,
}

impl Drop for SimFarm {
    fn drop(&mut self) {
        let keep = std::thread::panicking();
        for child in self.gateway.iter_mut().chain([&mut self.salad, &mut self.sim]) {
            // One that has ended already cannot be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
        if keep {
            eprintln!("the end of the gateway's log:\n{}", end_of(&self.path("farmgate.log"), 40));
        }
    }
}

fn end_of(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Free ports of the loopback.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    let taken: [TcpListener; N] = std::array::from_fn(|_| {
        TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("no free port: {e}"))
    });
    taken.map(|listener| listener.local_addr().unwrap_or_else(|e| panic!("a port without address: {e}")))
}

impl SimFarm {
    /// Brings a farm up; its machines are IDLE when this returns, unless they are to be trained.
    ///
    /// # Panics
    /// It does not come up; the reason is in the text.
    pub fn start(options: &SimOptions) -> Self {
        let temporary = || tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary folder: {e}"));
        let folder = temporary();
        let state = match &options.state_in {
            Some(parent) => tempfile::tempdir_in(parent)
                .unwrap_or_else(|e| panic!("no folder in {}: {e}", parent.display())),
            None => temporary(),
        };
        let [api, console, salad_rest] = free_ports();
        let env = environment(options, folder.path(), state.path(), [api, console, salad_rest]);
        let made = std::fs::create_dir_all(folder.path().join("tmp"));
        made.unwrap_or_else(|e| panic!("no folder for temporary files: {e}"));
        let mut salad = spawn("farmgate", &["salad"], &env, &folder.path().join("salad.log"));
        // A gateway that finds none starts one of its own, which nobody would end.
        wait_for("the console service listens", || {
            assert!(matches!(salad.try_wait(), Ok(None)), "{}", end_of(&folder.path().join("salad.log"), 20));
            folder.path().join("tmp/salad.sock").exists() && TcpStream::connect(console).is_ok()
        });
        let sim = start_sim(options, folder.path(), state.path(), api, console);
        let artifacts = wait_for_artifacts(&folder.path().join("sim/sim.json"));
        let duts = options.duts;
        let mut farm =
            Self { gateway: None, salad, sim, api, console, salad_rest, artifacts, env, duts, state, folder };
        farm.start_gateway();
        if !options.sim.iter().any(|a| a == "--untrained") {
            farm.wait_until_idle();
        }
        farm
    }

    /// Starts the gateway, and returns how long it took to answer.
    ///
    /// # Panics
    /// It does not answer.
    pub fn start_gateway(&mut self) -> Duration {
        assert!(self.gateway.is_none(), "it runs");
        let begun = Instant::now();
        self.gateway = Some(spawn("farmgate", &["serve"], &self.env, &self.path("farmgate.log")));
        wait_for("the gateway answers", || {
            if let Some(gateway) = &mut self.gateway
                && let Ok(Some(ended)) = gateway.try_wait()
            {
                panic!(
                    "the gateway ended: {ended}\n{}",
                    end_of(&self.folder.path().join("farmgate.log"), 20)
                );
            }
            http::request(self.api, "GET", "/api/v1/jobs?limit=1", &[], &[])
                .is_ok_and(|(a, _)| a.status == 200)
        });
        begun.elapsed()
    }

    /// `kill -9`. It is dead and buried when this returns.
    pub fn kill_gateway(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            // SIGKILL.
            let _ = gateway.kill();
            let _ = gateway.wait();
        }
    }

    /// Process id of the gateway.
    pub fn gateway_pid(&self) -> Option<u32> {
        self.gateway.as_ref().map(Child::id)
    }

    /// A file of this farm.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of what must survive: `state.db`, `consoles/`.
    pub fn state(&self) -> PathBuf {
        self.state.path().to_owned()
    }

    /// Where the gateway listens.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where the artifacts are: `http://HOST:PORT`.
    pub fn artifacts(&self) -> String {
        format!("http://{}", self.artifacts)
    }

    /// How many machines there are.
    pub fn duts(&self) -> u32 {
        self.duts
    }

    /// GET of a path below `/api/v1`.
    ///
    /// # Panics
    /// It fails.
    pub fn get(&self, path: &str) -> Value {
        let answer = self.try_get(path);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// The same, whatever the status.
    ///
    /// # Panics
    /// No answer.
    pub fn try_get(&self, path: &str) -> Answer {
        let path = format!("/api/v1/{path}");
        http::request(self.api, "GET", &path, &[], &[]).unwrap_or_else(|e| panic!("{path}: {e}")).0
    }

    /// POST without a body.
    ///
    /// # Panics
    /// No answer.
    pub fn post(&self, path: &str) -> Answer {
        let path = format!("/api/v1/{path}");
        http::request(self.api, "POST", &path, &[], &[]).unwrap_or_else(|e| panic!("{path}: {e}")).0
    }

    /// The state of each machine, by its number.
    pub fn states(&self) -> Vec<String> {
        let duts = self.get("duts");
        (1..=self.duts)
            .map(|n| duts["duts"][mac(n)]["state"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Waits until all machines are IDLE.
    ///
    /// # Panics
    /// They are not, within [`BOUND`].
    pub fn wait_until_idle(&self) {
        wait_for("all machines are idle", || self.states().iter().all(|s| s == "IDLE"));
    }

    /// Gives a machine these faults, in place of those that it had.
    ///
    /// # Panics
    /// The simulation does not take them.
    pub fn set_faults(&self, dut: u32, faults: &Faults) {
        self.control(&format!("dut/{dut}"), &serde_json::to_value(faults).unwrap_or_default());
    }

    /// A PDU (from 1) does not answer for so long.
    pub fn pdu_away(&self, pdu: u32, time: Duration) {
        self.control(&format!("pdu/{pdu}"), &json!({"unreachable_ms": time.as_millis() as u64}));
    }

    /// Whether artifacts below `/artifact/hold/` are held back.
    pub fn hold_artifacts(&self, hold: bool) {
        self.control("hold", &Value::from(hold));
    }

    fn control(&self, what: &str, body: &Value) {
        let path = format!("/control/{what}");
        let answer = http::request(self.artifacts, "POST", &path, &[], body.to_string().as_bytes());
        let (answer, _) = answer.unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    }

    /// What outlets and machines went through so far.
    pub fn journal(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("sim/journal.jsonl")).unwrap_or_default();
        // A last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What a machine printed in one of its boots (from 1), whether anybody listened or not.
    pub fn printed(&self, dut: u32, boot: u64) -> Vec<u8> {
        std::fs::read(self.path(&format!("sim/consoles/{dut}/{boot}.log"))).unwrap_or_default()
    }

    /// Where the consoles connect to, and SALAD's REST API.
    pub fn salad(&self) -> (SocketAddr, SocketAddr) {
        (self.console, self.salad_rest)
    }
}

fn environment(
    options: &SimOptions,
    folder: &Path,
    state: &Path,
    [api, console, salad_rest]: [SocketAddr; 3],
) -> Vec<(String, String)> {
    let file = |name: &str| {
        let path = folder.join(name);
        std::fs::write(&path, artifact::of(name, 64 << 10))
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path.display().to_string()
    };
    let text = |path: PathBuf| path.display().to_string();
    let mut env: Vec<(String, String)> = [
        ("FARM_NAME", "sim".to_owned()),
        ("PRIVATE_ADDRESS", "127.0.0.1".to_owned()),
        ("EXECUTOR_HOST", "127.0.0.1".to_owned()),
        ("EXECUTOR_PORT", api.port().to_string()),
        ("SALAD_HOST", "127.0.0.1".to_owned()),
        ("SALAD_PORT", salad_rest.port().to_string()),
        ("SALAD_TCPCONSOLE_PORT", console.port().to_string()),
        ("BOOTS_DISABLE_SERVERS", "dhcp,tftp".to_owned()),
        // Sources that fail for good shall be told soon.
        ("EXECUTOR_ARTIFACT_ATTEMPTS", "3".to_owned()),
        ("EXECUTOR_ARTIFACT_STALL", "2".to_owned()),
        ("BOOTS_DEFAULT_KERNEL", file("default-kernel")),
        ("BOOTS_DEFAULT_INITRD", file("default-initrd")),
        ("BOOTS_DEFAULT_CMDLINE", "farmgate.action=register".to_owned()),
        ("MARS_DB_FILE", text(state.join("mars_db.yaml"))),
        ("PERMANENT_MOUNT", text(state.to_owned())),
        ("TMP_MOUNT", text(folder.join("tmp"))),
        ("SERGENT_HARTMAN_QUICK_CHECK", "disabled".to_owned()),
        ("FARMGATE_LOG", "info".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    env.extend(options.env.iter().cloned());
    env
}

fn spawn(name: &str, arguments: &[&str], env: &[(String, String)], log: &Path) -> Child {
    let out = File::options()
        .create(true)
        .append(true)
        .open(log)
        .unwrap_or_else(|e| panic!("{}: {e}", log.display()));
    let mut command = Command::new(program(name));
    command.args(arguments).envs(env.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(out);
    command.spawn().unwrap_or_else(|e| panic!("{name} does not start: {e}"))
}

fn start_sim(
    options: &SimOptions,
    folder: &Path,
    state: &Path,
    api: SocketAddr,
    console: SocketAddr,
) -> Child {
    let log = folder.join("sim.log");
    let out = File::create(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
    let mut command = Command::new(program("simduts"));
    command.arg("--duts").arg(options.duts.to_string());
    command.arg("--gateway").arg(api.to_string()).arg("--console").arg(console.to_string());
    command.arg("--dir").arg(folder.join("sim")).arg("--farm-file").arg(state.join("mars_db.yaml"));
    // It ends with this process, whose end of the pipe nobody else has.
    command.arg("--until-stdin-ends").args(&options.sim);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(out);
    command.spawn().unwrap_or_else(|e| panic!("simduts does not start: {e}"))
}

fn wait_for_artifacts(ready: &Path) -> SocketAddr {
    let mut found = None;
    wait_for("the simulated machines are ready", || {
        let text = std::fs::read_to_string(ready).unwrap_or_default();
        let ready: Value = serde_json::from_str(&text).unwrap_or_default();
        found = ready["http"].as_str().and_then(|address| address.parse().ok());
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("{} names no address", ready.display()))
}

/// Waits for a condition.
///
/// # Panics
/// It does not come true within [`BOUND`].
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < BOUND, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
