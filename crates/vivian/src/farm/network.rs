//! The network inside the farm: the loopback, the gateway's bridge to its DUTs, and address translation for DUTs that
//! want out. Runs once, as root of the namespace, before anything else does.

use std::{
    fs, io,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// The gateway's interface to its DUTs.
pub const BRIDGE: &str = "private";

/// The bridge's Ethernet address. Without one of its own it would take that of its lowest port, and change it, and its
/// link-local address, with every DUT that comes and goes.
const BRIDGE_MAC: &str = "52:54:00:11:21:00";

/// The gateway's address.
const ADDRESS: &str = "10.42.0.1/24";

/// Where names are resolved: both ways out answer there.
pub const RESOLVER: &str = "10.0.2.3";

const NAT: &str = r#"
table ip vivian {
    chain way_out {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 10.42.0.0/24 oifname != "private" masquerade
    }
}
"#;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` failed: {said}")]
pub struct SetUpError {
    command: String,
    said: String,
}

/// Builds the network.
///
/// # Errors
/// The bridge cannot be made. What only a way out needs is logged instead.
pub fn set_up() -> Result<(), SetUpError> {
    let steps = [
        "link set lo up".to_owned(),
        format!("link add {BRIDGE} address {BRIDGE_MAC} type bridge stp_state 0 forward_delay 0"),
    ];
    for step in &steps {
        ip(step)?;
    }
    // Nobody else is on this bridge yet: its link-local address need not be probed for a second first.
    optional(fs::write(format!("/proc/sys/net/ipv6/conf/{BRIDGE}/accept_dad"), "0"), "no IPv6 on the bridge");
    ip(&format!("addr add {ADDRESS} dev {BRIDGE}"))?;
    ip(&format!("link set {BRIDGE} up"))?;
    optional(fs::write("/proc/sys/net/ipv4/ip_forward", "1"), "DUTs reach the gateway only");
    optional(nft(NAT), "DUTs reach the gateway only");
    Ok(())
}

/// Makes names resolve through the way out: the host's own resolver may listen on a loopback that is not ours.
pub fn set_resolver(state_dir: &Path) {
    let file = state_dir.join("resolv.conf");
    let done = fs::write(&file, format!("nameserver {RESOLVER}\n")).and_then(|()| {
        let file = file.display().to_string();
        run("mount", &["--bind", &file, "/etc/resolv.conf"]).map_err(io::Error::other)
    });
    optional(done, "names of the internet may not resolve inside the farm");
}

/// Shows the farm's own interfaces in `/sys/class/net`. The one that is there shows those of the network it was mounted
/// in, the host's.
pub fn set_sysfs() {
    let done = run("mount", &["-t", "sysfs", "-o", "nosuid,nodev,noexec", "sysfs", "/sys"]);
    optional(done.map_err(io::Error::other), "/sys shows the host's interfaces");
}

fn optional(done: io::Result<()>, consequence: &str) {
    if let Err(e) = done {
        tracing::warn!(error = %e, "{consequence}");
    }
}

fn ip(arguments: &str) -> Result<(), SetUpError> {
    run("ip", &arguments.split(' ').collect::<Vec<_>>())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), SetUpError> {
    let failed = |said: String| SetUpError { command: format!("{program} {}", arguments.join(" ")), said };
    let done = administration(program).args(arguments).stdin(Stdio::null()).output();
    let done = done.map_err(|e| failed(format!("{e}; apt-get install iproute2")))?;
    if done.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
    }
}

fn nft(rules: &str) -> io::Result<()> {
    let mut nft =
        administration("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(rules.as_bytes())?;
    }
    let done = nft.wait_with_output()?;
    if done.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()))
    }
}

/// A program that Debian keeps in a folder which an ordinary user's PATH lacks.
pub fn administration(program: &str) -> Command {
    let path = Path::new("/usr/sbin").join(program);
    if path.exists() { Command::new(path) } else { Command::new(program) }
}
