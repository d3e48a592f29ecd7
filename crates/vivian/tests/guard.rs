//! No program outlives the process that wanted it. `sleep` stands in for QEMU.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in what its tests share")]

mod support;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, pipe},
    path::Path,
    process::{Child, Command, Stdio},
};

use farmgate_vivian::{guard, vpdu::guarded::Guarded};
use support::{kill_9, runs, wait_for};

const GUARD: &str = env!("CARGO_BIN_EXE_vpdu");

/// A process of the test that ends with it.
struct Mine(Child);

impl Drop for Mine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn guarded(program: &str, argument: &str) -> Guarded {
    let folder = tempfile::tempdir().unwrap();
    let log = File::create(folder.path().join("log")).unwrap();
    Guarded::spawn(Path::new(GUARD), program.as_ref(), &[argument.into()], folder.path(), log).await.unwrap()
}

#[tokio::test]
async fn a_kill_returns_when_program_and_guard_are_gone() {
    let mut guarded = guarded("sleep", "1000").await;
    let (program, guard) = (guarded.pid(), guarded.guard_pid().unwrap());
    assert!(runs(program) && runs(guard));
    guarded.kill().await.unwrap();
    assert!(!runs(program) && !runs(guard));
    guarded.kill().await.unwrap();
}

#[tokio::test]
async fn a_program_that_ends_by_itself_is_reported_with_its_exit_code() {
    let status = guarded("sleep", "not-a-time").await.gone().await.unwrap();
    assert_eq!(status.code(), Some(1));
}

#[tokio::test]
async fn a_program_that_is_not_installed_is_reported() {
    let status = guarded("/no/such/program", "").await.gone().await.unwrap();
    assert_eq!(status.code(), Some(127));
}

#[tokio::test]
async fn a_killed_guard_takes_its_program_along() {
    let mut guarded = guarded("sleep", "1000").await;
    let program = guarded.pid();
    kill_9(guarded.guard_pid().unwrap());
    guarded.gone().await.unwrap();
    assert!(!runs(program));
}

#[tokio::test]
async fn a_dropped_owner_takes_its_program_along() {
    let guarded = guarded("sleep", "1000").await;
    let (program, guard) = (guarded.pid(), guarded.guard_pid().unwrap());
    drop(guarded);
    wait_for("program and guard to be gone", || !runs(program) && !runs(guard));
}

#[test]
fn a_killed_owner_takes_its_program_along() {
    // The owner is a process of its own, which holds the only other end of the guard's pipe.
    let (guards_end, owners_end) = pipe().unwrap();
    let mut owner = Mine(Command::new("sleep").arg("1000").stdout(owners_end).spawn().unwrap());
    let mut guard = Mine(
        guard::command(Path::new(GUARD), "sleep".as_ref())
            .arg("1000")
            .stdin(guards_end)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut report = String::new();
    BufReader::new(guard.0.stdout.take().unwrap()).read_line(&mut report).unwrap();
    let program: u32 = report.trim().strip_prefix("pid ").unwrap().parse().unwrap();
    wait_for("the program to run", || runs(program));
    owner.0.kill().unwrap();
    owner.0.wait().unwrap();
    wait_for("the program to be gone", || !runs(program));
    assert_eq!(guard.0.wait().unwrap().code(), Some(128 + 9));
}
