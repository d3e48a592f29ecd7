//! The `vpdu` program when something it needs is not there: one line that says what to do. No real QEMU is needed.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in what its tests share")]

mod support;

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output},
};

use support::{path_with_fake_qemu, runs, stderr, stdout, vpductl, wait_for};

fn vpdu(folder: &Path, path: &str, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vpdu"));
    command.args(arguments.split_whitespace()).arg("--state-dir").arg(folder.join("state"));
    command.env("PATH", path).env("XDG_CACHE_HOME", folder).env("RUST_LOG", "info").current_dir(folder);
    command
}

fn refused(folder: &Path, path: &str, arguments: &str) -> Output {
    let output = vpdu(folder, path, arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    output
}

/// A vPDU that runs, with its log; ends with the test.
struct Running {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(qemu: &str, arguments: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = path_with_fake_qemu(folder.path(), qemu);
        let log = File::create(folder.path().join("log")).unwrap();
        let arguments = format!("--port 0 --accel tcg {arguments}");
        let child = vpdu(folder.path(), &path, &arguments).stderr(log).spawn().unwrap();
        let mut running = Self { child, port: 0, folder };
        wait_for("the vPDU to be ready", || running.log().contains("vPDU ready"));
        let log = running.log();
        let address = log.split("address=127.0.0.1:").nth(1).unwrap();
        running.port = address.split_whitespace().next().unwrap().parse().unwrap();
        running
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_missing_qemu_is_named_with_its_package() {
    let folder = tempfile::tempdir().unwrap();
    let output = refused(folder.path(), &folder.path().display().to_string(), "--port 0");
    assert!(stderr(&output).contains("apt-get install qemu-system-x86"), "{}", stderr(&output));
}

#[test]
fn a_taken_port_is_named_with_the_way_to_find_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = path_with_fake_qemu(folder.path(), "exit 1");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = refused(folder.path(), &path, &format!("--port {port}"));
    let said = stderr(&output);
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("ss -ltnp"), "{said}");
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = path_with_fake_qemu(folder.path(), "exit 1");
    fs::write(folder.path().join("state"), "a file").unwrap();
    let output = refused(folder.path(), &path, "--port 0");
    assert!(stderr(&output).contains("--state-dir"), "{}", stderr(&output));
}

#[test]
fn an_on_without_a_bridge_fails_and_the_log_says_why() {
    let vpdu = Running::start("exit 1", "--bridge no-such-bridge");
    let on = vpductl(vpdu.port, "--outlet 1 --on");
    assert_eq!(on.status.code(), Some(1));
    let log = vpdu.log();
    assert!(log.contains("outlet 1 (port_id") && log.contains("not switched ON"), "{log}");
    assert!(log.contains("no-such-bridge") || log.contains("/dev/net/tun"), "{log}");
    assert!(stdout(&vpductl(vpdu.port, "--outlet 1")).ends_with("OFF\n"));
}

#[test]
fn a_qemu_that_refuses_is_quoted_with_the_remedy() {
    let vpdu =
        Running::start(r#"echo "failed to find romfile efi-virtio.rom" >&2; exit 1"#, "--network none");
    assert_eq!(vpductl(vpdu.port, "--outlet 1 --on").status.code(), Some(1));
    let log = vpdu.log();
    assert!(log.contains("efi-virtio.rom") && log.contains("apt-get install ipxe-qemu"), "{log}");
}

#[test]
fn a_shutdown_ends_the_program_well() {
    let mut vpdu = Running::start("exit 1", "--network none --num-ports 2");
    assert_eq!(stdout(&vpductl(vpdu.port, "")).lines().count(), 2);
    assert!(vpductl(vpdu.port, "--shutdown").status.success());
    let id = vpdu.child.id();
    wait_for("the vPDU to end", || !runs(id));
    assert!(vpdu.child.wait().unwrap().success());
}
