//! The network behind an outlet: a tap interface on the gateway's bridge, made for each ON and removed after.

use std::{io, path::Path, process::Output};

use tokio::process::Command;

use crate::outlet::Outlet;

/// Why an outlet has no network.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The kernel has no tap device here.
    #[error(
        "no /dev/net/tun: load it with `modprobe tun`, or give the container the device (--device /dev/net/tun)"
    )]
    NoTun,
    /// It may not be opened.
    #[error(
        "/dev/net/tun cannot be opened ({0}): run as root, or `chmod 666 /dev/net/tun` as most distributions have it"
    )]
    TunRefused(#[source] io::Error),
    /// The bridge is not there.
    #[error(
        "there is no network bridge {0:?} here: start the vPDU through `vivian up`, which makes one in a namespace of its own, or name another with --bridge"
    )]
    NoBridge(String),
    /// `ip` is missing.
    #[error("cannot run `ip` ({0}): apt-get install iproute2")]
    NoIp(#[source] io::Error),
    /// `ip` refused.
    #[error("`ip {command}` failed: {said}; that needs root or the namespace that `vivian up` makes")]
    Refused {
        /// Its arguments.
        command: String,
        /// What it said.
        said: String,
    },
}

/// May this process use the kernel's tap device?
///
/// # Errors
/// It is absent or refused, with the remedy.
pub fn tun_ready() -> Result<(), TapError> {
    match std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(TapError::NoTun),
        Err(e) => Err(TapError::TunRefused(e)),
    }
}

/// Where taps go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The bridge's name.
    pub bridge: String,
    /// The vPDU's TCP port: one vPDU per port and namespace, so names made from it are ours, also stale ones.
    pub vpdu_port: u16,
}

impl Network {
    /// The name of an outlet's interface, at most 15 bytes.
    pub fn tap(&self, outlet: Outlet) -> String {
        format!("vpdu{}-{}", self.vpdu_port, outlet.number())
    }

    /// Can taps be made at all? Checked before anything is done, for the sake of the message.
    ///
    /// # Errors
    /// What is missing, with the remedy.
    pub fn ready(&self) -> Result<(), TapError> {
        tun_ready()?;
        // The bridge attributes of /sys may be those of another network namespace, where /sys was not mounted
        // anew; /proc/net always is this process's.
        let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
        if interfaces.lines().any(|line| line.split(':').next().map(str::trim) == Some(self.bridge.as_str()))
        {
            Ok(())
        } else {
            Err(TapError::NoBridge(self.bridge.clone()))
        }
    }

    /// Makes the outlet's tap and plugs it into the bridge.
    ///
    /// # Errors
    /// What is missing or refused, with the remedy.
    pub async fn plug(&self, outlet: Outlet) -> Result<String, TapError> {
        self.ready()?;
        let tap = self.tap(outlet);
        self.unplug(outlet).await?;
        ip(&["tuntap", "add", "dev", &tap, "mode", "tap"]).await?;
        // The gateway's end of the cable has no business with IPv6 of its own.
        ip(&["link", "set", &tap, "addrgenmode", "none"]).await?;
        ip(&["link", "set", &tap, "master", &self.bridge, "up"]).await?;
        Ok(tap)
    }

    /// Removes the outlet's tap, if there is one.
    ///
    /// # Errors
    /// `ip` is missing or refused.
    pub async fn unplug(&self, outlet: Outlet) -> Result<(), TapError> {
        let tap = self.tap(outlet);
        let known = run(&["link", "show", "dev", &tap]).await?;
        if known.status.success() { ip(&["link", "del", &tap]).await } else { Ok(()) }
    }
}

async fn run(arguments: &[&str]) -> Result<Output, TapError> {
    // Ordinary users' PATH on Debian lacks the folder of `ip`.
    let program = if Path::new("/usr/sbin/ip").exists() { "/usr/sbin/ip" } else { "ip" };
    Command::new(program).args(arguments).kill_on_drop(true).output().await.map_err(TapError::NoIp)
}

async fn ip(arguments: &[&str]) -> Result<(), TapError> {
    let done = run(arguments).await?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(TapError::Refused { command: arguments.join(" "), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_fits_the_kernels_limit() {
        let network = Network { bridge: "private".into(), vpdu_port: u16::MAX };
        assert!(network.tap(Outlet::new(255).unwrap()).len() <= 15);
    }

    #[test]
    fn a_bridge_that_is_not_there_is_named_with_the_remedy() {
        let network = Network { bridge: "no-such-bridge".into(), vpdu_port: 9191 };
        let e = network.ready().unwrap_err().to_string();
        assert!(e.contains("no-such-bridge") && e.contains("vivian up") || e.contains("/dev/net/tun"), "{e}");
    }
}
