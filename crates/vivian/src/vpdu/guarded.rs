//! A program under a guard, as the vPDU's tasks hold it: killed and waited for on request, watched otherwise.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdin},
    time::timeout,
};

use crate::guard;

/// How long a guard may take to start its program, and to end it.
const GUARD_TIME: Duration = Duration::from_secs(10);

/// A running program and its guard. Dropping it kills the program, without waiting.
#[derive(Debug)]
pub struct Guarded {
    guard: Child,
    /// The pipe whose end tells the guard that nobody wants the program any more. Only this process has it.
    lifeline: Option<ChildStdin>,
    pid: u32,
    /// Readable when the program is gone; none when it already was at the first look.
    program: Option<OwnedFd>,
}

impl Guarded {
    /// Starts `program` in `folder` under a guard, both writing to `log`. `guard` is a binary of this crate.
    ///
    /// # Errors
    /// The guard cannot be started, or did not report the program in time.
    pub async fn spawn(
        guard: &Path,
        program: &OsStr,
        arguments: &[OsString],
        folder: &Path,
        log: File,
    ) -> io::Result<Self> {
        let mut command = tokio::process::Command::from(guard::command(guard, program));
        command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut guard = command.spawn()?;
        let lifeline = guard.stdin.take();
        let Some(mut report) = guard.stdout.take() else {
            return Err(io::Error::other("the guard has no output"));
        };
        let mut said = Vec::new();
        let pid = match timeout(GUARD_TIME, read_line(&mut report, &mut said)).await {
            Ok(Ok(())) => parse_report(&said),
            Ok(Err(e)) => return Err(e),
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the guard did not report")),
        };
        let Some(pid) = pid else {
            let status = guard.wait().await?;
            return Err(io::Error::other(format!("the guard ended: {status}")));
        };
        let program = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Some(fd),
            Err(rustix::io::Errno::SRCH) => None,
            Err(e) => return Err(e.into()),
        };
        Ok(Self { guard, lifeline, pid: pid.as_raw_nonzero().get().unsigned_abs(), program })
    }

    /// The program's process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The guard's process id, while it runs.
    pub fn guard_pid(&self) -> Option<u32> {
        self.guard.id()
    }

    /// Waits until guard and program are gone. The status is the guard's, which passes on the program's.
    ///
    /// # Errors
    /// The guard cannot be waited for.
    pub async fn gone(&mut self) -> io::Result<ExitStatus> {
        let status = self.guard.wait().await?;
        if let Some(program) = &self.program {
            // A guard that was killed leaves its program to the kernel, which kills it a moment later.
            while !is_gone(program)? {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(status)
    }

    /// Kills the program and returns when it and its guard are gone.
    ///
    /// # Errors
    /// A process survived its kill for ten seconds: it hangs in the kernel.
    pub async fn kill(&mut self) -> io::Result<()> {
        drop(self.lifeline.take());
        if let Ok(gone) = timeout(GUARD_TIME, self.gone()).await {
            return gone.map(|_| ());
        }
        self.guard.start_kill()?;
        if let Some(program) = &self.program {
            // It fails when the program is gone, which is what is wanted.
            let _ = pidfd_send_signal(program, Signal::KILL);
        }
        match timeout(GUARD_TIME, self.gone()).await {
            Ok(gone) => gone.map(|_| ()),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("process {} does not die from SIGKILL; look at its state with `ps`", self.pid),
            )),
        }
    }
}

fn is_gone(program: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(program, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

async fn read_line(from: &mut (impl tokio::io::AsyncRead + Unpin), line: &mut Vec<u8>) -> io::Result<()> {
    // A report is short; a guard that says more is none.
    while line.len() < 32 {
        match from.read_u8().await {
            Ok(b'\n') => return Ok(()),
            Ok(byte) => line.push(byte),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn parse_report(line: &[u8]) -> Option<Pid> {
    let pid = std::str::from_utf8(line).ok()?.strip_prefix("pid ")?.parse().ok()?;
    Pid::from_raw(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_report_of_a_guard_is_read_as_a_pid() {
        assert_eq!(
            parse_report(b"pid 42").and_then(|p| Pid::from_raw(p.as_raw_nonzero().get())),
            Pid::from_raw(42)
        );
        for line in [&b""[..], b"pid", b"pid 0", b"pid x", b"42", b"pid \xff"] {
            assert_eq!(parse_report(line), None, "{line:?}");
        }
    }
}
