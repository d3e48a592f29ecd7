//! Running a program for a driver: bounded in time and output, and never left behind.
//!
//! The program gets a process group of its own, no input, and an environment of `PATH`, `HOME` and what it is given.
//! When its time is over, it says too much, or the call is dropped, the whole group is killed: a script's children too.

use std::{io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};

use crate::DriverError;

/// More is a mistake: 1024 ports with their labels are some 40 KB.
const MAX_OUTPUT: usize = 64 * 1024;
const EXCERPT: usize = 200;

/// What a program said and how it ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A process group that dies with this value, unless the leader was waited for.
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self { leader: pid.and_then(Pid::from_raw) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // The leader was not waited for, so the id is still its own. It may be gone already, then all is well.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// `Refused` if it cannot be started (with `remedy`), `Timeout` if it takes longer than `within`, `Protocol` if it says
/// more than 64 KiB. How it ended is for the caller to judge.
pub(super) async fn run(
    program: &str,
    arguments: &[String],
    environment: &[(&str, &str)],
    within: Duration,
    remedy: &str,
) -> Result<Ended, DriverError> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| DriverError::Refused(format!("cannot start {program}: {error}; {remedy}")))?;
    let mut group = Group::of(&child);
    let ended = timeout(within, finish(&mut child)).await;
    match ended {
        Ok(Ok(ended)) => {
            group.leader = None;
            Ok(ended)
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(DriverError::Protocol(format!("{program} says more than {MAX_OUTPUT} bytes")))
        }
        Ok(Err(error)) => Err(DriverError::Refused(format!("{program}: {error}"))),
        Err(_) => Err(DriverError::Timeout(within)),
    }
}

async fn finish(child: &mut Child) -> io::Result<Ended> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(capped(stdout), capped(stderr))?;
    let status = child.wait().await?;
    Ok(Ended { code: status.code(), stdout, stderr })
}

async fn capped(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(pipe) = pipe else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    pipe.take(MAX_OUTPUT as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > MAX_OUTPUT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Ended {
    /// How it ended, and the last line that it had to say: errors first.
    pub fn words(&self) -> String {
        let said = [&self.stderr, &self.stdout].into_iter().find(|text| !text.trim().is_empty());
        let last = said.and_then(|text| text.trim().lines().last()).unwrap_or("it says nothing");
        let end = self.code.map_or_else(|| "killed".to_owned(), |code| format!("exit code {code}"));
        let last: String = last.chars().filter(|c| !c.is_control()).take(EXCERPT).collect();
        format!("{end}: {last}")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn sh(script: &str) -> Vec<String> {
        vec!["-c".to_owned(), script.to_owned()]
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_program_s_output_and_exit_code_are_told() {
        let ended = run("sh", &sh("echo on; echo 'no such relay' >&2; exit 3"), &[], LONG, "").await.unwrap();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), "on\n"));
        assert_eq!(ended.words(), "exit code 3: no such relay");
    }

    #[tokio::test]
    async fn the_environment_is_what_was_given_and_nothing_of_ours() {
        let ended = run("sh", &sh("env"), &[("SECRET", "x y")], LONG, "").await.unwrap();
        assert!(ended.stdout.contains("SECRET=x y\n") && ended.stdout.contains("PATH="), "{}", ended.stdout);
        assert!(!ended.stdout.contains("CARGO"), "{}", ended.stdout);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_refused_with_the_remedy() {
        let error = run("/nonexistent/x", &[], &[], LONG, "install it").await.unwrap_err().to_string();
        assert!(error.contains("/nonexistent/x") && error.contains("install it"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_talks_without_end_is_stopped() {
        let error =
            run("sh", &sh("while :; do echo yyyyyyyyyyyyyyyy; done"), &[], LONG, "").await.unwrap_err();
        assert!(matches!(error, DriverError::Protocol(_)), "{error}");
    }

    async fn gone(pid: &str) {
        let path = format!("/proc/{pid}/stat");
        let dead = || std::fs::read_to_string(&path).map_or(true, |stat| stat.contains(") Z "));
        for _ in 0..1000 {
            if dead() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("process {pid} is still there");
    }

    async fn written(path: &Path) -> String {
        for _ in 0..1000 {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("{} was never written", path.display());
    }

    #[tokio::test]
    async fn when_its_time_is_over_its_children_die_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = sh(&format!("sleep 600 & echo $! > {}; wait", file.display()));
        let error = run("sh", &script, &[], Duration::from_secs(2), "").await.unwrap_err();
        assert!(matches!(error, DriverError::Timeout(_)), "{error}");
        gone(&written(&file).await).await;
    }

    #[tokio::test]
    async fn a_dropped_call_leaves_no_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = sh(&format!("sleep 600 & echo $! > {}; wait", file.display()));
        let pid = {
            let running = run("sh", &script, &[], LONG, "");
            tokio::pin!(running);
            tokio::select! {
                _ = &mut running => panic!("it ended by itself"),
                pid = written(&file) => pid,
            }
        };
        gone(&pid).await;
    }
}
