//! The `vivian` program: a farm of a network and a vPDU comes up, is entered, and leaves nothing behind. QEMU and the
//! gateway are stand-ins; the namespaces are real.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in what its tests share")]

mod support;

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use farmgate_vivian::{
    farm::{Farm, FarmError, isolation::Isolation, options::FarmOptions, record},
    vpductl::Client,
};
use support::{kill_9, path_with_fake_qemu, runs, script, stderr, stdout, vpductl, wait_for};

/// A folder for a farm, which is ended with the test.
struct Place {
    folder: tempfile::TempDir,
    path: String,
}

impl Place {
    /// None, with a word on the terminal, where a developer's computer has no namespaces; in CI that is a failure.
    fn new() -> Option<Self> {
        if let Err(e) = Isolation::find() {
            assert!(std::env::var_os("CI").is_none(), "{e}");
            eprintln!("skipped: {e}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = path_with_fake_qemu(folder.path(), "exit 1");
        fs::create_dir(folder.path().join("bin")).unwrap();
        for (name, program) in
            [("vivian", env!("CARGO_BIN_EXE_vivian")), ("vpdu", env!("CARGO_BIN_EXE_vpdu"))]
        {
            std::os::unix::fs::symlink(program, folder.path().join("bin").join(name)).unwrap();
        }
        Some(Self { folder, path })
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vivian"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        command.env("PATH", &self.path).env("XDG_CACHE_HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    fn vivian(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn up(&self, arguments: &str) -> Output {
        let fixed = "up --no-gateway --no-uplink --accel tcg --bin-dir bin";
        self.vivian(&format!("{fixed} {arguments}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("var/vivian").join(name)
    }

    fn number(&self, file: &str, key: &str) -> u32 {
        let json: serde_json::Value = serde_json::from_slice(&fs::read(self.file(file)).unwrap()).unwrap();
        u32::try_from(json[key].as_u64().unwrap()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.vivian("down");
    }
}

#[test]
fn a_farm_comes_up_is_used_from_the_host_and_goes_down() {
    let Some(place) = Place::new() else { return };
    assert_eq!(place.vivian("status").status.code(), Some(1));
    let up = place.up("--ephemeral-ports --num-ports 3");
    assert!(up.status.success(), "{}", stderr(&up));
    assert!(stdout(&up).contains("vpductl --port"), "{}", stdout(&up));
    let supervisor = place.number("supervisor.json", "pid");
    assert!(runs(supervisor));

    let port = u16::try_from(place.number("ports.json", "vpdu")).unwrap();
    assert_eq!(stdout(&vpductl(port, "")).lines().count(), 3, "the vPDU answers through the forwarded port");
    let status = place.vivian("status");
    assert!(
        status.status.success() && stdout(&status).contains("outlets   3, all off"),
        "{}",
        stdout(&status)
    );

    let inside = place.vivian("exec -- cat /proc/net/fib_trie /proc/net/dev");
    assert!(
        stdout(&inside).contains("10.42.0.1") && stdout(&inside).contains("private:"),
        "{}",
        stdout(&inside)
    );
    let folder = place.vivian("exec -- pwd");
    assert_eq!(stdout(&folder).trim(), place.folder.path().canonicalize().unwrap().display().to_string());
    assert_eq!(place.vivian("exec -- false").status.code(), Some(1));

    assert!(stdout(&place.up("--ephemeral-ports")).contains("up already"));
    assert_eq!(place.number("supervisor.json", "pid"), supervisor);
    assert!(place.vivian("down").status.success());
    assert!(!runs(supervisor));
    assert!(place.vivian("down").status.success(), "a farm that is down can be put down");
}

#[test]
fn a_program_starts_a_farm_and_has_it_ended_with_its_handle() {
    let Some(place) = Place::new() else { return };
    let folder = place.folder.path();
    // The PATH of this process stays as it is, so the vPDU's is changed on the way to it.
    let bin = folder.join("program-bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vivian"), bin.join("vivian")).unwrap();
    script(&bin.join("vpdu"), &format!("PATH={} exec {} \"$@\"", place.path, env!("CARGO_BIN_EXE_vpdu")));
    let mut options = FarmOptions::new(&folder.join("var/vivian"), folder);
    options.bin_dir = bin;
    options.gateway = false;
    options.uplink = false;
    options.vpdu_arguments = vec!["--accel=tcg".to_owned(), "--num-ports=5".to_owned()];
    for orderly in [true, false] {
        let farm = Farm::start(&options, &mut |_| {}).unwrap();
        assert_eq!(Client::new("127.0.0.1", farm.ports().vpdu).outlets().unwrap(), 5);
        let inside = farm.exec("ls").arg("/sys/class/net").output().unwrap();
        assert!(
            stdout(&inside).contains("private") || stderr(&inside).contains("/sys"),
            "{}",
            stdout(&inside)
        );
        let supervisor = u32::try_from(farm.supervisor().pid).unwrap();
        assert!(Farm::start(&options, &mut |_| {}).is_err(), "the folder is in use");
        assert!(runs(supervisor));
        if orderly {
            farm.stop().unwrap();
        } else {
            drop(farm);
        }
        assert!(!runs(supervisor));
    }
}

#[test]
fn a_farm_that_is_just_starting_is_told_from_one_that_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = record::prepare(folder.path()).unwrap();
    assert!(matches!(Farm::find(&state_dir), Err(FarmError::NotUp(_))));
    let _lock = record::Lock::take(&state_dir).unwrap();
    assert!(matches!(Farm::find(&state_dir), Err(FarmError::Starting(_))));
}

#[test]
fn orphans_inside_are_buried() {
    let Some(place) = Place::new() else { return };
    assert!(place.up("--ephemeral-ports").status.success());
    // Two generations: the grandchild is adopted by the farm's first process.
    place.command("exec -- sh -c").arg("(sleep 0.1 & sleep 0.1 &)").status().unwrap();
    wait_for("no process to be a zombie or asleep", || {
        let look = "grep -l -e 'State:.Z' -e 'Name:.sleep' /proc/[0-9]*/status";
        stdout(&place.command("exec -- sh -c").arg(look).output().unwrap()).is_empty()
    });
}

#[test]
fn a_killed_supervisor_leaves_nothing_and_the_next_farm_comes_up() {
    let Some(place) = Place::new() else { return };
    assert!(place.up("--ephemeral-ports").status.success());
    let supervisor = place.number("supervisor.json", "pid");
    kill_9(supervisor);
    wait_for("the farm to be gone", || place.vivian("status").status.code() == Some(1) && !runs(supervisor));
    assert!(place.up("--ephemeral-ports").status.success());
}

#[test]
fn a_farm_in_the_foreground_ends_with_its_starter() {
    let Some(place) = Place::new() else { return };
    let arguments = "run --no-gateway --no-uplink --ephemeral-ports --accel tcg --bin-dir bin";
    let mut run = place.command(arguments).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the farm to be up", || place.vivian("status").status.success());
    let supervisor = place.number("supervisor.json", "pid");
    run.kill().unwrap();
    run.wait().unwrap();
    wait_for("the farm to be gone", || !runs(supervisor));
}

#[test]
fn a_vpdu_that_dies_is_shown_and_not_restarted() {
    let Some(place) = Place::new() else { return };
    assert!(place.up("--ephemeral-ports").status.success());
    let vpdu = "kill -9 $(grep -l Name:.vpdu /proc/[0-9]*/status | cut -d/ -f3)";
    assert!(place.command("exec -- sh -c").arg(vpdu).status().unwrap().success());
    wait_for("the status to show it", || {
        let status = place.vivian("status");
        status.status.code() == Some(1) && stdout(&status).contains("ENDED (signal 9)")
    });
}

#[test]
fn a_taken_port_is_named_and_nothing_is_started() {
    let Some(place) = Place::new() else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let up = place.up(&format!("--ports executor=0,salad={port},console=0,vpdu=0"));
    assert_eq!(up.status.code(), Some(1));
    let said = stderr(&up);
    assert!(said.contains(&format!("port {port}")) && said.contains("--ports salad=PORT"), "{said}");
    assert!(!place.file("supervisor.json").exists());
}

#[test]
fn a_gateway_that_ends_at_once_is_quoted_and_the_farm_is_taken_down() {
    let Some(place) = Place::new() else { return };
    script(
        &place.folder.path().join("bin/farmgate"),
        "echo \"no $FARM_NAME on port $EXECUTOR_PORT\"; exit 3",
    );
    let arguments =
        "up --no-uplink --ephemeral-ports --accel tcg --bin-dir bin --images images --env FARM_NAME=mine";
    let up = place.vivian(arguments);
    assert!(stderr(&up).contains("make images"), "{}", stderr(&up));
    fs::create_dir(place.folder.path().join("images")).unwrap();
    for image in ["vmlinuz", "initramfs.img"] {
        fs::write(place.folder.path().join("images").join(image), "").unwrap();
    }
    let up = place.vivian(arguments);
    assert_eq!(up.status.code(), Some(1));
    let said = stderr(&up);
    assert!(said.contains("farmgate ended (exit code 3)") && said.contains("no mine on port 80"), "{said}");
    assert_eq!(place.vivian("status").status.code(), Some(1));
}

#[test]
fn a_reset_ends_the_farm_and_forgets_it() {
    let Some(place) = Place::new() else { return };
    assert!(place.up("--ephemeral-ports").status.success());
    fs::write(place.file("permanent/mars_db.yaml"), "duts: {}").unwrap();
    assert!(place.vivian("reset").status.success());
    assert!(!place.file("").exists());
}
