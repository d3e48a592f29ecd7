//! The farm's way out to the internet, through a program that needs no privileges: `slirp4netns` or `pasta`.
//!
//! It runs outside, where the internet is, under a guard whose pipe only the supervisor holds: so it ends with the farm,
//! however the farm ends. A farm without a way out works, but for what has to be fetched from elsewhere.

use std::{
    ffi::OsString,
    fs,
    io::{self, PipeReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{network::RESOLVER, options::FarmOptions, record};
use crate::guard;

/// How long a program may take to set up its interface.
const TIME: Duration = Duration::from_secs(5);

/// The interface inside the farm.
const INTERFACE: &str = "tap0";

/// No way out.
#[derive(Debug, thiserror::Error)]
#[error(
    "no way out to the internet: {0}. Job files, kernels and images that jobs name by an internet URL cannot be fetched; all else works"
)]
pub struct NoUplink(String);

/// Starts the first program that works for the farm of that supervisor. `life` ends when the farm does. Returns what
/// a person should know.
///
/// # Errors
/// None is installed or works; the farm can go on.
pub fn start(
    options: &FarmOptions,
    state_dir: &Path,
    pid: i32,
    life: PipeReader,
) -> Result<String, NoUplink> {
    if !options.uplink {
        return Ok("no way out to the internet, as asked".to_owned());
    }
    let mut tried = Vec::new();
    for (program, arguments) in [("slirp4netns", slirp4netns(pid)), ("pasta", pasta(pid))] {
        if !is_installed(program) {
            continue;
        }
        match begin(options, state_dir, pid, program, arguments, &life) {
            Ok(()) => return Ok(format!("the way out to the internet is {program}")),
            Err(e) => tried.push(format!("{program}: {e}")),
        }
    }
    Err(NoUplink(if tried.is_empty() {
        "neither slirp4netns nor pasta is installed (apt-get install slirp4netns)".to_owned()
    } else {
        tried.join("; ")
    }))
}

fn slirp4netns(pid: i32) -> Vec<OsString> {
    let pid = pid.to_string();
    ["--configure", "--mtu=65520", "--disable-host-loopback", &pid, INTERFACE].map(OsString::from).into()
}

fn pasta(pid: i32) -> Vec<OsString> {
    let pid = pid.to_string();
    // No port is forwarded into the farm or out of it: that is the supervisor's affair.
    let mut list = Vec::new();
    if rustix::process::geteuid().is_root() {
        // Left to itself it becomes nobody, who may not enter root's namespaces.
        list.extend(["--runas", "0"]);
    }
    list.extend(["--config-net", "--foreground", "--no-map-gw", "--dns-forward", RESOLVER]);
    list.extend(["--ns-ifname", INTERFACE, "-t", "none", "-u", "none", "-T", "none", "-U", "none", &pid]);
    list.into_iter().map(OsString::from).collect()
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn begin(
    options: &FarmOptions,
    state_dir: &Path,
    pid: i32,
    program: &str,
    arguments: Vec<OsString>,
    life: &PipeReader,
) -> io::Result<()> {
    let log = record::fresh_log(state_dir, program).map_err(io::Error::other)?;
    let mut guard = guard::command(&options.program("vivian"), program.as_ref())
        .args(arguments)
        .stdin(Stdio::from(life.try_clone()?))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let begun = Instant::now();
    loop {
        if has_default_route(pid) {
            return Ok(());
        }
        if let Some(status) = guard.try_wait()? {
            return Err(io::Error::other(format!("{status}, {}", record::last_word(state_dir, program))));
        }
        if begun.elapsed() > TIME {
            // The program dies with its guard.
            guard.kill().and_then(|()| guard.wait())?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not set up its interface"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Does the process's network have a default route?
fn has_default_route(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/net/route")).is_ok_and(|table| names_default_route(&table))
}

/// In the kernel's table of routes, one line each: interface, destination (hexadecimal), gateway, ...
fn names_default_route(table: &str) -> bool {
    table.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_found_among_others() {
        let head = "Iface\tDestination\tGateway\tFlags\n";
        assert!(!names_default_route(&format!("{head}private\t00002A0A\t00000000\t0001\n")));
        assert!(names_default_route(&format!(
            "{head}private\t00002A0A\t00000000\t1\ntap0\t00000000\t0202000A\t3\n"
        )));
        assert!(!names_default_route(""));
    }
}
