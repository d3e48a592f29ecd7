//! Getting an address on the farm's network.
//!
//! Owns the choice of the interface and the life of udhcpc, which keeps renewing the lease in the background. The
//! address itself is set by `/etc/udhcpc.script`, whose last act is to write the lease file that is read here.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use farmgate_protocol::MacAddress;

use crate::{
    coldplug::{Coldplug, Devices},
    lease::{Lease, LeaseError},
    processes::{Child, Children},
};

/// Drivers of USB adapters and slow firmware take this long at most.
const INTERFACE_PATIENCE: Duration = Duration::from_secs(10);
/// DHCP requests, one per second: a switch with spanning tree is deaf for 30 s after a link comes up.
const DHCP_TRIES: &str = "45";
/// For the case that udhcpc itself hangs.
const DHCP_PATIENCE: Duration = Duration::from_secs(60);
const LEASE_FILE: &str = "/run/farmgate/lease";
const DHCP_LOG: &str = "/run/farmgate/udhcpc.log";
const STEP: Duration = Duration::from_millis(10);

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Nothing to ask for an address on.
    #[error("no Ethernet interface{0}: is its driver in the initramfs, and its cable plugged in?")]
    NoInterface(String),
    /// udhcpc is missing or cannot start.
    #[error("cannot start DHCP on {interface}: {source}; the initramfs needs busybox and /etc/udhcpc.script")]
    Start {
        /// Name of the interface.
        interface: String,
        /// What happened.
        source: std::io::Error,
    },
    /// Nobody answered.
    #[error("no DHCP answer on {interface}: is it plugged into the farm's switch? udhcpc says:\n{log}")]
    NoAnswer {
        /// Name of the interface.
        interface: String,
        /// The end of udhcpc's output.
        log: String,
    },
    /// An answer that is of no use.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// An Ethernet interface of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// Its hardware address.
    pub mac: MacAddress,
}

/// The wired Ethernet interfaces that have hardware, by name.
pub fn ethernet_interfaces(sys: &Path) -> Vec<Interface> {
    let class = sys.join("class/net");
    let mut found: Vec<_> = fs::read_dir(&class)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let text = |file: &str| fs::read_to_string(path.join(file)).ok();
            // ARPHRD_ETHER is 1; bridges and the like have no device, radios have a phy.
            let wired = text("type")?.trim() == "1"
                && path.join("device").exists()
                && !path.join("wireless").exists()
                && !path.join("phy80211").exists();
            let mac = text("address")?.trim().parse().ok()?;
            wired.then(|| Interface { name: entry.file_name().to_string_lossy().into_owned(), mac })
        })
        .collect();
    found.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    found
}

/// Brings an interface up, as `ip link set up` does; sysfs lets us do it without another process.
fn bring_up(sys: &Path, interface: &Interface) -> std::io::Result<()> {
    let file = sys.join("class/net").join(&interface.name).join("flags");
    let text = fs::read_to_string(&file)?;
    let flags =
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).map_err(std::io::Error::other)?;
    const IFF_UP: u32 = 1;
    fs::write(&file, format!("{:#x}", flags | IFF_UP))
}

fn has_carrier(sys: &Path, interface: &Interface) -> bool {
    let file = sys.join("class/net").join(&interface.name).join("carrier");
    fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
}

/// The interface to use now: the one that the firmware booted from, whatever its cable says; without that
/// knowledge the first that has a carrier.
fn usable(sys: &Path, interfaces: &[Interface], boot_mac: Option<MacAddress>) -> Option<Interface> {
    let fits = |i: &&Interface| boot_mac.map_or_else(|| has_carrier(sys, i), |mac| mac == i.mac);
    interfaces.iter().find(fits).cloned()
}

/// Waits for the interface to use; drivers that new devices ask for are loaded meanwhile.
///
/// # Errors
/// None came in time.
pub fn wait_for_interface(
    sys: &Path,
    boot_mac: Option<MacAddress>,
    coldplug: &mut Coldplug,
) -> Result<Interface, NetworkError> {
    let start = Instant::now();
    let mut next_look = start;
    loop {
        if Instant::now() >= next_look {
            coldplug.pass(if start == next_look { Devices::Urgent } else { Devices::All });
            next_look = Instant::now() + Duration::from_millis(250);
        }
        let interfaces = ethernet_interfaces(sys);
        for interface in &interfaces {
            // Without being up it has no carrier. A failure shows as an interface that never becomes usable.
            let _ = bring_up(sys, interface);
        }
        if let Some(interface) = usable(sys, &interfaces, boot_mac) {
            return Ok(interface);
        }
        if start.elapsed() > INTERFACE_PATIENCE {
            return last_resort(interfaces, boot_mac);
        }
        sleep(STEP);
    }
}

/// A wrong BOOTIF or a driver that cannot tell the carrier shall not end the boot if there is only one choice.
fn last_resort(interfaces: Vec<Interface>, boot_mac: Option<MacAddress>) -> Result<Interface, NetworkError> {
    match <[Interface; 1]>::try_from(interfaces) {
        Ok([only]) => Ok(only),
        Err(several) if several.is_empty() => Err(NetworkError::NoInterface(String::new())),
        Err(several) => {
            let names: Vec<_> = several.iter().map(|i| format!("{} {}", i.name, i.mac)).collect();
            let wish = boot_mac.map_or("a carrier".to_owned(), |mac| format!("the address {mac}"));
            Err(NetworkError::NoInterface(format!(" with {wish} among {}", names.join(", "))))
        }
    }
}

/// udhcpc at work.
#[derive(Debug)]
pub struct Dhcp {
    interface: Interface,
    child: Child,
    start: Instant,
    lease_file: PathBuf,
}

impl Dhcp {
    /// Starts asking for an address.
    ///
    /// # Errors
    /// udhcpc cannot be started.
    pub fn start(interface: Interface, children: &mut Children) -> Result<Self, NetworkError> {
        let failed = |source| NetworkError::Start { interface: interface.name.clone(), source };
        fs::create_dir_all("/run/farmgate").map_err(failed)?;
        // Its words go into a file: the search for our tty needs a silent console.
        let log = File::create(DHCP_LOG).map_err(failed)?;
        let mut command = Command::new("/bin/udhcpc");
        command
            .args([
                "-f",
                "-n",
                "-t",
                DHCP_TRIES,
                "-T",
                "1",
                "-V",
                "farmgate-dut",
                "-s",
                "/etc/udhcpc.script",
                "-i",
            ])
            .arg(&interface.name)
            .env("LEASE_FILE", LEASE_FILE)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        let child = children.spawn(&mut command).map_err(failed)?;
        Ok(Self { interface, child, start: Instant::now(), lease_file: LEASE_FILE.into() })
    }

    /// Where the address is asked for.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Waits for the address.
    ///
    /// # Errors
    /// Nobody gave one.
    pub fn lease(&self, children: &mut Children) -> Result<Lease, NetworkError> {
        loop {
            // The script renames the file into place, so it is whole once it is there.
            if let Ok(text) = fs::read_to_string(&self.lease_file) {
                return Ok(Lease::parse(&text)?);
            }
            if children.ended(self.child).is_some() || self.start.elapsed() > DHCP_PATIENCE {
                let log = fs::read_to_string(DHCP_LOG).unwrap_or_default();
                return Err(NetworkError::NoAnswer {
                    interface: self.interface.name.clone(),
                    log: last_lines(&log),
                });
            }
            sleep(STEP);
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::tests::tree;

    fn machine() -> tempfile::TempDir {
        tree(&[
            ("class/net/lo/type", "772\n"),
            ("class/net/lo/address", "00:00:00:00:00:00\n"),
            ("class/net/br0/type", "1\n"),
            ("class/net/br0/address", "52:54:00:00:00:09\n"),
            ("class/net/wlan0/type", "1\n"),
            ("class/net/wlan0/address", "52:54:00:00:00:08\n"),
            ("class/net/wlan0/device/x", ""),
            ("class/net/wlan0/phy80211/x", ""),
            ("class/net/eth10/type", "1\n"),
            ("class/net/eth10/address", "52:54:00:00:00:0a\n"),
            ("class/net/eth10/device/x", ""),
            ("class/net/eth10/carrier", "1\n"),
            ("class/net/eth10/flags", "0x1002\n"),
            ("class/net/eth2/type", "1\n"),
            ("class/net/eth2/address", "52:54:00:00:00:02\n"),
            ("class/net/eth2/device/x", ""),
            ("class/net/eth2/carrier", "0\n"),
        ])
    }

    #[test]
    fn only_wired_hardware_counts() {
        let names: Vec<_> = ethernet_interfaces(machine().path()).into_iter().map(|i| i.name).collect();
        assert_eq!(names, ["eth2", "eth10"]);
    }

    #[test]
    fn the_boot_interface_goes_before_a_carrier() {
        let root = machine();
        let all = ethernet_interfaces(root.path());
        let boot_mac = Some(all[0].mac);
        assert_eq!(usable(root.path(), &all, boot_mac).unwrap().name, "eth2");
        assert_eq!(usable(root.path(), &all, None).unwrap().name, "eth10");
        assert_eq!(usable(root.path(), &all, Some(MacAddress([0; 6]))), None);
    }

    #[test]
    fn an_interface_is_brought_up_through_its_flags() {
        let root = machine();
        let all = ethernet_interfaces(root.path());
        bring_up(root.path(), &all[1]).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("class/net/eth10/flags")).unwrap(), "0x1003");
        assert!(bring_up(root.path(), &all[0]).is_err());
    }

    #[test]
    fn a_single_interface_is_taken_in_the_end_and_several_are_listed() {
        let all = ethernet_interfaces(machine().path());
        assert_eq!(last_resort(vec![all[0].clone()], None).unwrap().name, "eth2");
        let error = last_resort(all, None).unwrap_err().to_string();
        assert!(error.contains("eth2") && error.contains("eth10") && error.contains("carrier"), "{error}");
        assert!(last_resort(vec![], None).unwrap_err().to_string().starts_with("no Ethernet interface:"));
    }

    #[test]
    fn of_a_long_log_the_end_is_shown() {
        assert_eq!(last_lines("1\n2\n3\n4\n5\n6\n7\n"), "3\n4\n5\n6\n7");
        assert_eq!(last_lines(""), "");
    }
}
