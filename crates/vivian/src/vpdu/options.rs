//! The vPDU's command line, and what follows from it for every machine.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::{Parser, ValueEnum};

use super::{
    arguments::{Display, Fault, Nic, Version},
    disk,
    firmware::Firmware,
    tap::Network,
};
use crate::outlet::Outlet;

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";

/// Where the vPDU keeps its outlets' files unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "var/vpdu";

/// A virtual PDU: every outlet that is switched on starts a QEMU machine that boots from the network.
#[derive(Debug, Clone, Parser)]
#[command(name = "vpdu", version)]
pub struct Options {
    /// Address to listen on. Whoever reaches it can switch every outlet
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// TCP port to listen on; 0 takes a free one
    #[arg(long, default_value_t = farmgate_protocol::vpdu::DEFAULT_PORT)]
    pub port: u16,
    /// Number of outlets
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..))]
    pub num_ports: u8,
    /// Network bridge that the machines are plugged into
    #[arg(long, default_value = "private", value_parser = interface)]
    pub bridge: String,
    /// Folder for disks, logs and control sockets
    #[arg(long, default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// Where the machines' serial ports connect to: SALAD's TCP console port
    #[arg(long, default_value = "10.42.0.1:8100")]
    pub console_endpoint: SocketAddr,
    /// Memory of a machine, MiB
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(64..))]
    pub memory: u32,
    /// Size of a machine's disk; a disk that exists stays as it is
    #[arg(long, default_value = "4G", value_parser = disk::parse_size)]
    pub disk_size: u64,
    /// Firmware of the machines
    #[arg(long, value_enum, default_value = "bios")]
    pub firmware: Firmware,
    /// Another firmware for one outlet, as N=bios or N=uefi (again for more)
    #[arg(long, value_name = "N=FIRMWARE", value_parser = for_outlet::<Firmware>)]
    pub outlet_firmware: Vec<(Outlet, Firmware)>,
    /// Make one outlet's machine faulty, as N=noboot (again for more)
    #[arg(long, value_name = "N=FAULT", value_parser = for_outlet::<Fault>)]
    pub outlet_fault: Vec<(Outlet, Fault)>,
    /// Network card of the machines
    #[arg(long, value_enum, default_value = "virtio")]
    pub nic: Nic,
    /// What executes the guests; auto takes KVM where a small guest proves that it works
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: Acceleration,
    /// Linux kernel for the proof that KVM works
    #[arg(long)]
    pub kernel_for_probe: Option<PathBuf>,
    /// Where the machines' screens are shown
    #[arg(long, value_enum, default_value = "none")]
    pub display: Display,
    /// Whether the machines have a network
    #[arg(long, value_enum, default_value = "tap")]
    pub network: NetworkKind,
}

/// What the person wants to execute the guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Acceleration {
    /// KVM where it provably works, else TCG.
    Auto,
    /// KVM, unproven.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// Whether the machines' cards are plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkKind {
    /// A tap on the bridge.
    Tap,
    /// No cable.
    None,
}

/// What all machines of a vPDU have in common.
#[derive(Debug)]
pub struct Plan {
    /// The options as given.
    pub options: Options,
    /// The state directory, absolute.
    pub state_dir: PathBuf,
    /// Where taps go; none: no network.
    pub network: Option<Network>,
    /// Which QEMU it is.
    pub version: Version,
    /// The binary that acts as guard.
    pub guard: PathBuf,
}

impl Options {
    /// Are outlets named that do not exist?
    ///
    /// # Errors
    /// Which, in words.
    pub fn check(&self) -> Result<(), String> {
        let named = self.outlet_firmware.iter().map(|(outlet, _)| (outlet, "--outlet-firmware"));
        let faulty = self.outlet_fault.iter().map(|(outlet, _)| (outlet, "--outlet-fault"));
        match named.chain(faulty).find(|(outlet, _)| outlet.number() > self.num_ports) {
            Some((outlet, option)) => Err(format!(
                "{option} names outlet {}, but --num-ports is {}",
                outlet.number(),
                self.num_ports
            )),
            None => Ok(()),
        }
    }

    /// Fixes what is only known once the vPDU listens.
    pub fn plan(self, state_dir: PathBuf, vpdu_port: u16, version: Version) -> Plan {
        let network =
            (self.network == NetworkKind::Tap).then(|| Network { bridge: self.bridge.clone(), vpdu_port });
        Plan { options: self, state_dir, network, version, guard: crate::guard::SELF.into() }
    }
}

impl Plan {
    /// The firmware of an outlet's machine.
    pub fn firmware(&self, outlet: Outlet) -> Firmware {
        last_for(&self.options.outlet_firmware, outlet).unwrap_or(self.options.firmware)
    }

    /// What is wrong with an outlet's machine.
    pub fn fault(&self, outlet: Outlet) -> Option<Fault> {
        last_for(&self.options.outlet_fault, outlet)
    }
}

fn last_for<T: Copy>(list: &[(Outlet, T)], outlet: Outlet) -> Option<T> {
    list.iter().rev().find(|(of, _)| *of == outlet).map(|(_, value)| *value)
}

/// Reads `N=VALUE`.
///
/// # Errors
/// In words, with what would be right.
pub fn for_outlet<T: ValueEnum + Clone>(text: &str) -> Result<(Outlet, T), String> {
    let (outlet, value) = text.split_once('=').ok_or_else(|| "write OUTLET=VALUE, like 2=uefi".to_owned())?;
    let outlet = Outlet::from_str(outlet).map_err(|e| e.to_string())?;
    let value = T::from_str(value, true).map_err(|_| {
        let known: Vec<_> = T::value_variants()
            .iter()
            .filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned()))
            .collect();
        format!("{value:?} is not one of: {}", known.join(", "))
    })?;
    Ok((outlet, value))
}

/// The name ends up in QEMU's and `ip`'s arguments.
fn interface(text: &str) -> Result<String, String> {
    let fine = (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !text.starts_with('-');
    if fine {
        Ok(text.to_owned())
    } else {
        Err("an interface name has 1 to 15 letters, digits, . _ -".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words = std::iter::once("vpdu").chain(line.split_whitespace());
        let options = Options::try_parse_from(words).map_err(|e| e.to_string())?;
        options.check().map(|()| options)
    }

    #[test]
    fn an_outlet_may_differ_from_the_others() {
        let options = parse("--outlet-firmware 2=uefi --outlet-fault 3=noboot").unwrap();
        let plan = options.plan("/s".into(), 9191, Version { major: 7, minor: 2 });
        let outlet = |n| Outlet::new(n).unwrap();
        assert_eq!(plan.firmware(outlet(1)), Firmware::Bios);
        assert_eq!(plan.firmware(outlet(2)), Firmware::Uefi);
        assert_eq!(plan.fault(outlet(3)), Some(Fault::Noboot));
        assert_eq!(plan.fault(outlet(2)), None);
    }

    #[test]
    fn bad_options_are_refused_with_what_would_be_right() {
        for (line, hint) in [
            ("--outlet-firmware 17=uefi", "--num-ports is 16"),
            ("--outlet-firmware 0=uefi", "1 to 255"),
            ("--outlet-firmware 1=coreboot", "bios, uefi"),
            ("--outlet-fault 1", "OUTLET=VALUE"),
            ("--num-ports 256", "num-ports"),
            ("--num-ports 0", "num-ports"),
            ("--disk-size big", "like 4G"),
            ("--bridge a,b", "interface name"),
            ("--memory 1", "memory"),
        ] {
            let e = parse(line).unwrap_err();
            assert!(e.contains(hint), "{line}: {e}");
        }
    }
}
