//! What QEMU is told for an outlet. Pure: the same specification gives the same command line.
//!
//! QEMU runs in the outlet's folder, so files of the outlet are named without a path. That keeps the control socket
//! below the 108 bytes that a Unix socket's path may have, wherever the state directory is.

use std::{net::SocketAddr, path::Path};

use clap::ValueEnum;

use super::firmware::Ovmf;
use crate::outlet::Outlet;

/// The machine's disk, in the outlet's folder.
pub const DISK: &str = "disk.qcow2";
/// The machine's UEFI variables, in the outlet's folder.
pub const UEFI_VARS: &str = "uefi-vars.fd";
/// QEMU's control socket, in the outlet's folder.
pub const QMP: &str = "qmp.sock";
/// All that the machine said on its serial port since it was last switched on, in the outlet's folder.
pub const CONSOLE_LOG: &str = "console.log";
/// The machine's screen, with `--display vnc`, in the outlet's folder.
pub const VNC: &str = "vnc.sock";

/// How long a machine without anything to boot waits before it tries again, milliseconds.
const BOOT_RETRY: u32 = 3000;

/// The machine's network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Nic {
    /// Paravirtual; its ROM is iPXE.
    Virtio,
    /// A gigabit card of old; with BIOS its ROM does plain PXE.
    E1000,
}

/// Where a person sees the machine's screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Display {
    /// Nowhere, but in screenshots.
    None,
    /// Over VNC, on a Unix socket in the outlet's folder.
    Vnc,
    /// In a window.
    Gtk,
}

/// Something wrong with a machine, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// It has no network card and nothing to boot: a DUT that never comes up.
    Noboot,
}

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// A QEMU release, as far as its options differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

/// A machine, decided in every respect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Behind which outlet.
    pub outlet: Outlet,
    /// Which QEMU reads the command line.
    pub version: Version,
    /// MiB.
    pub memory: u32,
    /// None: SeaBIOS.
    pub ovmf: Option<Ovmf>,
    /// The card.
    pub nic: Nic,
    /// The tap behind the card; none: the cable is unplugged.
    pub tap: Option<String>,
    /// The listener that the serial port connects to, again and again.
    pub console: SocketAddr,
    /// What executes.
    pub accel: Accel,
    /// The screen.
    pub display: Display,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// QEMU's arguments for a machine.
pub fn arguments(spec: &Spec) -> Vec<String> {
    let mut list = List(Vec::new());
    // `-no-shutdown`: a guest that powers itself off leaves its QEMU, and so its port, as it is.
    list.add(&["-nodefaults", "-no-user-config", "-no-shutdown"]);
    list.pair("-name", format!("farmgate-outlet-{0},process=farmgate-outlet-{0}", spec.outlet.number()));
    list.accel(spec.accel);
    list.pair("-m", spec.memory.to_string());
    list.firmware(spec.ovmf.as_ref());
    list.pair("-drive", format!("file={DISK},format=qcow2,if=none,id=disk0,cache=unsafe"));
    list.pair("-device", "virtio-blk-pci,drive=disk0");
    list.nic(spec);
    list.pair("-device", "virtio-vga");
    list.pair("-device", "virtio-rng-pci");
    list.console(spec);
    list.pair("-qmp", format!("unix:{QMP},server=on,wait=off"));
    match spec.display {
        Display::None => list.pair("-display", "none"),
        Display::Vnc => list.pair("-vnc", format!("unix:{VNC}")),
        Display::Gtk => list.pair("-display", "gtk"),
    }
    list.0
}

/// QEMU's arguments for the proof that KVM works: the kernel, no root, its console in `log`; it ends at the panic.
pub fn kvm_probe(kernel: &Path, log: &Path) -> Vec<String> {
    let mut list = List(Vec::new());
    list.add(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "pc"]);
    list.pair("-name", "farmgate-kvm-probe");
    list.accel(Accel::Kvm);
    list.pair("-m", "256");
    list.pair("-kernel", kernel.display().to_string());
    list.pair("-append", "console=ttyS0 panic=-1");
    list.pair("-chardev", format!("file,id=con0,path={}", escaped(log)));
    list.pair("-serial", "chardev:con0");
    list.0
}

/// A path as a value inside one of QEMU's comma lists.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

struct List(Vec<String>);

impl List {
    fn add(&mut self, arguments: &[&str]) {
        self.0.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    fn pair(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }

    fn accel(&mut self, accel: Accel) {
        match accel {
            Accel::Kvm => self.add(&["-accel", "kvm", "-cpu", "host"]),
            Accel::Tcg => self.add(&["-accel", "tcg,thread=multi"]),
        }
    }

    fn firmware(&mut self, ovmf: Option<&Ovmf>) {
        match ovmf {
            None => {
                // `graphics=off` sends the firmware's words to the serial port as well.
                self.pair("-machine", "pc,graphics=off");
                // Network or nothing, again and again, like a test machine in a rack: never a stale disk.
                self.pair("-boot", format!("strict=on,reboot-timeout={BOOT_RETRY}"));
            }
            Some(ovmf) => {
                self.pair("-machine", "q35");
                self.pair("-boot", "strict=on");
                self.pair(
                    "-drive",
                    format!("if=pflash,format=raw,unit=0,readonly=on,file={}", escaped(&ovmf.code)),
                );
                self.pair("-drive", format!("if=pflash,format=raw,unit=1,file={UEFI_VARS}"));
            }
        }
    }

    fn nic(&mut self, spec: &Spec) {
        if spec.fault == Some(Fault::Noboot) {
            return;
        }
        let model = match spec.nic {
            Nic::Virtio => "virtio-net-pci",
            Nic::E1000 => "e1000",
        };
        let mut device = format!("{model},mac={},bootindex=1", spec.outlet.mac());
        if let Some(tap) = &spec.tap {
            self.pair("-netdev", format!("tap,id=net0,ifname={tap},script=no,downscript=no"));
            device.push_str(",netdev=net0");
        }
        if spec.ovmf.is_some() {
            // OVMF has its own driver and PXE; the ROM would hide them behind iPXE.
            device.push_str(",romfile=");
        }
        self.pair("-device", device);
    }

    fn console(&mut self, spec: &Spec) {
        // Seconds until 9.1, milliseconds since 9.2, which later drops the old word.
        let again = if spec.version >= (Version { major: 9, minor: 2 }) {
            "reconnect-ms=1000"
        } else {
            "reconnect=1"
        };
        let (host, port) = (spec.console.ip(), spec.console.port());
        self.pair(
            "-chardev",
            format!("socket,id=con0,host={host},port={port},{again},logfile={CONSOLE_LOG},logappend=on"),
        );
        self.pair("-serial", "chardev:con0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            outlet: Outlet::new(1).unwrap(),
            version: Version { major: 7, minor: 2 },
            memory: 512,
            ovmf: None,
            nic: Nic::Virtio,
            tap: Some("vpdu9191-1".into()),
            console: "10.42.0.1:8100".parse().unwrap(),
            accel: Accel::Tcg,
            display: Display::None,
            fault: None,
        }
    }

    fn line(change: impl FnOnce(&mut Spec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        arguments(&spec).join(" ")
    }

    #[test]
    fn each_choice_shows_on_the_command_line() {
        let ovmf = Ovmf { code: "/o,1/code.fd".into(), vars: "/o/vars.fd".into() };
        type Change = Box<dyn FnOnce(&mut Spec)>;
        let table: Vec<(Change, &[&str], &[&str])> = vec![
            (
                Box::new(|_| {}),
                &[
                    "-machine pc,graphics=off",
                    "-boot strict=on,reboot-timeout=3000",
                    "-device virtio-net-pci,mac=52:54:00:11:22:01,bootindex=1,netdev=net0",
                    "-netdev tap,id=net0,ifname=vpdu9191-1,script=no,downscript=no",
                    "host=10.42.0.1,port=8100,reconnect=1,logfile=console.log,logappend=on",
                    "-accel tcg,thread=multi",
                    "-no-shutdown",
                    "-name farmgate-outlet-1",
                    "-m 512",
                    "-display none",
                ],
                &["pflash", "kvm", "-no-reboot"],
            ),
            (
                Box::new(|s| s.ovmf = Some(ovmf)),
                &["-machine q35", "file=/o,,1/code.fd", "unit=1,file=uefi-vars.fd", "netdev=net0,romfile="],
                &["graphics=off", "/o/vars.fd"],
            ),
            (
                Box::new(|s| s.version = Version { major: 9, minor: 2 }),
                &["reconnect-ms=1000"],
                &["reconnect=1"],
            ),
            (
                Box::new(|s| s.version = Version { major: 10, minor: 0 }),
                &["reconnect-ms=1000"],
                &["reconnect=1"],
            ),
            (Box::new(|s| s.nic = Nic::E1000), &["-device e1000,mac="], &["virtio-net-pci"]),
            (Box::new(|s| s.accel = Accel::Kvm), &["-accel kvm -cpu host"], &["tcg"]),
            (Box::new(|s| s.tap = None), &["virtio-net-pci"], &["netdev"]),
            (Box::new(|s| s.fault = Some(Fault::Noboot)), &["-serial chardev:con0"], &["net-pci", "netdev"]),
            (Box::new(|s| s.display = Display::Vnc), &["-vnc unix:vnc.sock"], &["-display"]),
        ];
        for (change, present, absent) in table {
            let line = line(change);
            for part in present {
                assert!(line.contains(part), "{part:?} is not in {line}");
            }
            for part in absent {
                assert!(!line.contains(part), "{part:?} is in {line}");
            }
        }
    }

    #[test]
    fn the_probe_runs_on_kvm_and_ends_at_the_panic() {
        let line = kvm_probe(Path::new("/k/vmlinuz"), Path::new("/s/probe.log")).join(" ");
        for part in
            ["-accel kvm", "-kernel /k/vmlinuz", "console=ttyS0 panic=-1", "-no-reboot", "path=/s/probe.log"]
        {
            assert!(line.contains(part), "{part:?} is not in {line}");
        }
    }
}
