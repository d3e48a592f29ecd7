//! What the end-to-end tests share: a farm of their own that is gone when the test is, and the programs that a person
//! would use, run as a person would run them.

pub mod simfarm;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use farmgate_vivian::farm::{Farm, options::FarmOptions};
use serde_json::Value;

/// Far more than anything takes on a slow machine without KVM.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Virtual machines are slow enough one at a time.
static ONE_FARM_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// One of our programs, as `make build` leaves it. Panics with the remedy where it is missing.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap_or_default();
    // target/debug/deps/TEST
    let path = path.ancestors().nth(2).unwrap_or(Path::new(".")).join(name);
    assert!(
        path.is_file(),
        "{} is missing: `make build` builds it, `make test` does so by itself",
        path.display()
    );
    path
}

/// The folder with the DUTs' kernel and initramfs.
pub fn images() -> PathBuf {
    let path = root().join("var/images/dut");
    assert!(path.join("vmlinuz").is_file(), "{} is empty: `make images` fills it", path.display());
    path
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output, whatever bytes it is.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end, with a bound.
///
/// # Panics
/// It does not start, or does not end in time.
pub fn run(command: &mut Command) -> Said {
    let what = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|e| panic!("{what}: {e}"));
    let pid = child.id().to_string();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    // By its id, which is its own until it is waited for below.
    let guard = std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE).is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    });
    let output = child.wait_with_output().unwrap_or_else(|e| panic!("{what}: {e}"));
    drop(done);
    let _ = guard.join();
    Said::from(output)
}

/// A virtual farm of a test.
pub struct TestFarm {
    farm: Option<Farm>,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl TestFarm {
    /// Brings a farm up. `farm_file`: what it knows at the start.
    ///
    /// # Panics
    /// It does not come up; the reason is in the text.
    pub fn start(farm_file: Option<&str>, change: impl FnOnce(&mut FarmOptions)) -> Self {
        // A test that failed with the lock poisons it; the next has a farm of its own all the same.
        let alone = ONE_FARM_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary folder: {e}"));
        let mut options = FarmOptions::new(&folder.path().join("farm"), &images());
        options.bin_dir = program("vivian").parent().map(Path::to_owned).unwrap_or_default();
        options.boot_count = Some(1);
        options.uplink = false;
        change(&mut options);
        if let Some(text) = farm_file {
            let permanent = options.state_dir.join("permanent");
            write(&permanent.join("mars_db.yaml"), text);
        }
        let farm = Farm::start(&options, &mut |line| eprintln!("{line}"));
        let farm = farm.unwrap_or_else(|e| panic!("the farm does not come up: {e}"));
        Self { farm: Some(farm), folder, _alone: alone }
    }

    fn farm(&self) -> &Farm {
        self.farm.as_ref().unwrap_or_else(|| panic!("the farm was stopped"))
    }

    /// URL of the gateway.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.farm().ports().executor)
    }

    /// Path of a file of the farm.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("farm").join(name)
    }

    /// A command that runs inside the farm's network.
    pub fn inside(&self, program: &str) -> Command {
        self.farm().exec(program)
    }

    /// `vpductl` with these arguments.
    pub fn vpductl(&self, arguments: &[&str]) -> Said {
        let port = self.farm().ports().vpdu.to_string();
        run(Command::new(program("vpductl")).args(["--port", &port]).args(arguments))
    }

    /// `executorctl` with these arguments.
    pub fn executorctl(&self, arguments: &[&str]) -> Said {
        run(Command::new(program("executorctl")).args(["-e", &self.url()]).args(arguments))
    }

    /// Runs a job, with arguments before its file.
    pub fn job(&self, text: &str, arguments: &[&str]) -> Said {
        let file = self.folder.path().join("job.yml");
        write(&file, text);
        let mut all = vec!["run"];
        all.extend(arguments);
        let file = file.display().to_string();
        all.push(&file);
        self.executorctl(&all)
    }

    /// GET of a path of the API, by curl.
    pub fn get(&self, path: &str) -> Value {
        let said = run(Command::new("curl").args(["-sSL", &format!("{}{path}", self.url())]));
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{path}: {e}: {} {}", said.out, said.err))
    }

    /// Waits until the machine of an outlet is in a state.
    ///
    /// # Panics
    /// It is not, within [`PATIENCE`]; the end of its console is in the text.
    pub fn wait_for_state(&self, outlet: u32, state: &str) -> Value {
        let begun = Instant::now();
        let mut seen = String::new();
        while begun.elapsed() < PATIENCE {
            let duts = self.get("/api/v1/duts");
            let dut = &duts["duts"][mac(outlet)];
            seen = format!("{}: {}", dut["state"], dut["state_reason"]);
            if dut["state"] == state {
                return dut.clone();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("outlet {outlet} is not {state} but {seen}\n{}", self.console_end(outlet));
    }

    /// The last lines of a machine's console.
    pub fn console_end(&self, outlet: u32) -> String {
        let log = self.path(&format!("vpdu/outlet-{outlet}/console.log"));
        let text = std::fs::read(log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Changes the farm file as a person with an editor does.
    pub fn edit_farm_file(&self, change: impl FnOnce(&str) -> String) {
        let path = self.path("permanent/mars_db.yaml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        write(&path, &change(&text));
    }

    /// Stops the farm in order, and says so if that fails.
    pub fn stop(mut self) {
        if let Some(farm) = self.farm.take()
            && let Err(error) = farm.stop()
        {
            panic!("the farm does not stop: {error}");
        }
    }
}

/// MAC address, and so the id, of an outlet's machine.
pub fn mac(outlet: u32) -> String {
    format!("52:54:00:11:22:{outlet:02x}")
}

/// A farm file entry of an outlet's machine that has qualified.
pub fn qualified(outlet: u32) -> String {
    let mac = mac(outlet);
    format!(
        "  \"{mac}\":\n    base_name: virtio\n    tags: [virtio:family:VIRTIO]\n    mac_address: \"{mac}\"\n    ip_address: 10.42.0.{}\n    local_tty_device: ttyS0\n    pdu: VPDU\n    pdu_port_id: {outlet}\n    pdu_off_delay: 1\n    ready_for_service: true\n",
        20 + outlet
    )
}

fn write(path: &Path, text: &str) {
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written =
        made.and_then(|()| std::fs::File::create(path)).and_then(|mut f| f.write_all(text.as_bytes()));
    written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
