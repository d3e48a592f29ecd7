//! What the tests of this crate's binaries have in common: bounded waits, a QEMU that only knows its version, and
//! processes that are looked at from outside.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

/// Waits for a condition, at most half a minute.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Does the process run? One that is dead but not yet buried by its parent does not.
pub fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

pub fn kill_9(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Writes an executable shell script.
pub fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A PATH on which the emulator tells its version, and does `otherwise` when it is to emulate.
pub fn path_with_fake_qemu(folder: &Path, otherwise: &str) -> String {
    let body =
        format!(r#"[ "$1" = --version ] && {{ echo "QEMU emulator version 7.2.0"; exit 0; }}; {otherwise}"#);
    script(&folder.join("qemu-system-x86_64"), &body);
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn vpductl(port: u16, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vpductl"))
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}
