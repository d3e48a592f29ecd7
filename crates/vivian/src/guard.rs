//! A guard: a tiny process that sees to it that a program ends when the process that wanted it is gone.
//!
//! The owner starts the guard with a pipe as its standard input and keeps the other end, which nobody else has. When
//! the owner dies, by whatever signal, the pipe ends and the guard kills its program. The program itself is started so
//! that the kernel kills it when the guard dies. So neither `kill -9` of the owner nor of the guard leaves the program
//! behind. The guard is the same binary under a hidden subcommand and stays single-threaded, because the kernel ties
//! the death signal to the thread that started the program. This module leaves to others what the program is.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, set_parent_process_death_signal},
};

/// The hidden subcommand that makes a binary of this crate a guard.
const GUARD: &str = "guarded-run";

/// The hidden subcommand between the guard and its program: ties itself to the guard, then becomes the program.
const TIE: &str = "guarded-exec";

/// The running program, as a path that stays good when the file is replaced by a newer build.
pub const SELF: &str = "/proc/self/exe";

/// A guard for `program`, to be completed by its arguments, folder and outputs, and by the pipe as standard input.
/// The guard writes `pid N` and a line end to its standard output once the program is started, and its exit code is
/// the program's, or 128 and the number of the signal that ended it.
pub fn command(guard: &Path, program: &OsStr) -> Command {
    let mut command = Command::new(guard);
    // Its own process group: a Ctrl-C at the terminal is for the owner, who then ends its programs in order.
    command.arg0("farmgate-guard").arg(GUARD).arg(program).process_group(0);
    command
}

/// Acts as a guard when this process was started as one. Call it first in `main`, before any thread exists.
pub fn dispatch() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next()?;
    if role == GUARD {
        return Some(outcome(GUARD, guard(arguments.collect())));
    }
    if role == TIE {
        return Some(outcome(TIE, tie(arguments).map(|never| match never {})));
    }
    None
}

fn outcome(role: &str, result: io::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|e| {
        // 127 is what a shell says for a program that cannot be started.
        let _ = writeln!(io::stderr(), "{role}: {e}");
        ExitCode::from(127)
    })
}

fn guard(program: Vec<OsString>) -> io::Result<ExitCode> {
    // What `ps` shows; the path that it was started by says nothing.
    rustix::thread::set_name(c"farmgate-guard")?;
    let mut child = Command::new(SELF)
        .arg0("farmgate-guard")
        .arg(TIE)
        .arg(std::process::id().to_string())
        .args(program)
        .stdin(Stdio::null())
        .stdout(io::stderr().as_fd().try_clone_to_owned()?)
        .spawn()?;
    let watched = watch(&mut child);
    if watched.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    watched?;
    let _ = writeln!(io::stderr(), "guard: the program ended: {status}");
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Returns when the program has ended or was killed because the owner is gone.
fn watch(child: &mut Child) -> io::Result<()> {
    let pid = Pid::from_child(child);
    let program = pidfd_open(pid, PidfdFlags::empty())?;
    let mut out = io::stdout().lock();
    // The owner may be gone already; then the poll below says so.
    let _ = writeln!(out, "pid {}", pid.as_raw_nonzero()).and_then(|()| out.flush());
    let owner = io::stdin();
    loop {
        let mut fds = [PollFd::new(&program, PollFlags::IN), PollFd::new(&owner, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        if !fds[1].revents().is_empty() {
            // Nobody ever writes to the pipe: readable means that its other end is closed.
            return child.kill();
        }
    }
}

enum Never {}

fn tie(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Never> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "only a guard calls this");
    let guard: i32 = arguments.next().and_then(|pid| pid.to_str()?.parse().ok()).ok_or_else(missing)?;
    let program = arguments.next().ok_or_else(missing)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The guard may have died before the line above: then no signal will ever come.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(guard) {
        return Err(io::Error::other("the guard died before its program was started"));
    }
    Err(Command::new(program).args(arguments).exec())
}
