//! What this machine consists of, read from sysfs and procfs.
//!
//! Owns the reading only: every function takes the root of a file tree, so that tests bring their own. What is
//! not there is left empty, never an error: a report with a gap is worth more than none. Names and tags are
//! derived from the report in `identity`.

use std::{fs, path::Path};

use farmgate_protocol::dut::{Disk, Hardware, PciDevice};

/// Block devices that are no disks of the machine.
const NO_DISKS: [&str; 8] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"];

/// Reads the whole report. `arch` is the kernel's name of the architecture, as in uname(2).
pub fn detect(root: &Path, arch: &str) -> Hardware {
    let cpuinfo = text(root, "proc/cpuinfo");
    Hardware {
        arch: arch.to_owned(),
        firmware: firmware(root).to_owned(),
        cpu_model: cpu_model(&cpuinfo, root),
        cpu_cores: cpu_cores(&cpuinfo),
        memory_mib: memory_mib(&text(root, "proc/meminfo")),
        pci: pci_functions(root),
        disks: disks(root),
    }
}

fn text(root: &Path, path: &str) -> String {
    let bytes = fs::read(root.join(path)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn names(root: &Path, path: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(path)).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn firmware(root: &Path) -> &'static str {
    if root.join("sys/firmware/efi").is_dir() { "uefi" } else { "bios" }
}

/// The value of the first `key : value` line.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// x86 names the processor; boards with a device tree name the board.
fn cpu_model(cpuinfo: &str, root: &Path) -> String {
    match field(cpuinfo, "model name") {
        Some(model) => model.to_owned(),
        None => text(root, "proc/device-tree/model").trim_end_matches('\0').to_owned(),
    }
}

fn cpu_cores(cpuinfo: &str) -> u32 {
    let is_processor = |line: &&str| line.split(':').next().is_some_and(|key| key.trim() == "processor");
    u32::try_from(cpuinfo.lines().filter(is_processor).count()).unwrap_or(u32::MAX)
}

/// What the kernel can use, MiB, rounded. It is some percent less than what is plugged in.
fn memory_mib(meminfo: &str) -> u64 {
    let kib = field(meminfo, "MemTotal")
        .and_then(|v| v.split_whitespace().next())
        .and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_add(512) / 1024
}

/// `0x1af4` as `1af4`; for a class the two upper bytes of three: `0x030000` as `0300`.
fn pci_id(root: &Path, address: &str, file: &str) -> String {
    let id = text(root, &format!("sys/bus/pci/devices/{address}/{file}"));
    id.strip_prefix("0x").unwrap_or(&id).chars().take(4).collect::<String>().to_ascii_lowercase()
}

fn pci_functions(root: &Path) -> Vec<PciDevice> {
    let addresses = names(root, "sys/bus/pci/devices").into_iter();
    let function = |address: String| PciDevice {
        vendor: pci_id(root, &address, "vendor"),
        device: pci_id(root, &address, "device"),
        class: pci_id(root, &address, "class"),
        address,
    };
    addresses.map(function).filter(|f| !f.vendor.is_empty() && !f.device.is_empty()).collect()
}

fn disks(root: &Path) -> Vec<Disk> {
    let of_the_machine = |name: &String| !NO_DISKS.iter().any(|prefix| name.starts_with(prefix));
    let disk = |name: String| {
        // sysfs counts sectors of 512 bytes, whatever the disk's own are.
        let sectors: u64 = text(root, &format!("sys/block/{name}/size")).parse().ok()?;
        (sectors > 0).then_some(Disk { size_mib: sectors / 2048, name })
    };
    names(root, "sys/block").into_iter().filter(of_the_machine).filter_map(disk).collect()
}

/// Whether a SATA or NVMe controller has its driver but no disk showed up yet: their drivers look for disks in
/// the background.
pub fn disks_may_come(root: &Path) -> bool {
    disks(root).is_empty()
        && pci_functions(root).iter().any(|f| {
            matches!(f.class.as_str(), "0106" | "0108")
                && root.join(format!("sys/bus/pci/devices/{}/driver", f.address)).exists()
        })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Writes files below a root; the folders come by themselves.
    pub fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_virtual_machine_is_read_completely() {
        let root = tree(&[
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: QEMU Virtual CPU\n\nprocessor\t: 1\nmodel name\t: other\n",
            ),
            ("proc/meminfo", "MemTotal:         481234 kB\nMemFree:  1 kB\n"),
            ("sys/bus/pci/devices/0000:00:02.0/vendor", "0x1AF4\n"),
            ("sys/bus/pci/devices/0000:00:02.0/device", "0x1050\n"),
            ("sys/bus/pci/devices/0000:00:02.0/class", "0x038000\n"),
            ("sys/bus/pci/devices/0000:00:01.0/vendor", "0x8086\n"),
            ("sys/bus/pci/devices/0000:00:01.0/device", "0x7000\n"),
            ("sys/bus/pci/devices/0000:00:01.0/class", "0x060100\n"),
            ("sys/bus/pci/devices/0000:00:09.0/class", "0x060100\n"),
            ("sys/block/vda/size", "2097152\n"),
            ("sys/block/loop0/size", "8\n"),
            ("sys/block/sr0/size", "2097151\n"),
            ("sys/block/sdb/size", "0\n"),
        ]);
        let pci = |address: &str, vendor: &str, device: &str, class: &str| PciDevice {
            address: address.to_owned(),
            vendor: vendor.to_owned(),
            device: device.to_owned(),
            class: class.to_owned(),
        };
        assert_eq!(
            detect(root.path(), "x86_64"),
            Hardware {
                arch: "x86_64".to_owned(),
                firmware: "bios".to_owned(),
                cpu_model: "QEMU Virtual CPU".to_owned(),
                cpu_cores: 2,
                memory_mib: 470,
                pci: vec![
                    pci("0000:00:01.0", "8086", "7000", "0601"),
                    pci("0000:00:02.0", "1af4", "1050", "0380")
                ],
                disks: vec![Disk { name: "vda".to_owned(), size_mib: 1024 }],
            }
        );
    }

    #[test]
    fn an_empty_tree_gives_an_empty_report() {
        let root = tree(&[]);
        let report = detect(root.path(), "riscv64");
        assert_eq!((report.cpu_cores, report.memory_mib, report.pci.len(), report.disks.len()), (0, 0, 0, 0));
    }

    #[test]
    fn a_board_with_uefi_and_a_device_tree_is_named() {
        let root = tree(&[
            ("proc/device-tree/model", "Raspberry Pi 4 Model B\0"),
            ("proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 108\n"),
            ("sys/firmware/efi/runtime", ""),
        ]);
        let report = detect(root.path(), "aarch64");
        assert_eq!((report.cpu_model.as_str(), report.firmware.as_str()), ("Raspberry Pi 4 Model B", "uefi"));
    }

    #[test]
    fn damaged_files_do_no_harm() {
        let root = tree(&[
            ("proc/meminfo", "MemTotal: 99999999999999999999999 kB"),
            ("proc/cpuinfo", ":::\n\u{0}processor"),
            ("sys/bus/pci/devices/0000:00:01.0/vendor", "ünïcode"),
            ("sys/bus/pci/devices/0000:00:01.0/device", "0x"),
            ("sys/block/sda/size", "many"),
        ]);
        let report = detect(root.path(), "x86_64");
        assert_eq!((report.memory_mib, report.disks.len()), (0, 0));
    }

    #[test]
    fn a_controller_with_a_driver_and_no_disk_is_waited_for() {
        let nvme = |driver: &str, disk: &str| {
            tree(&[
                ("sys/bus/pci/devices/0000:01:00.0/vendor", "0x144d"),
                ("sys/bus/pci/devices/0000:01:00.0/device", "0xa808"),
                ("sys/bus/pci/devices/0000:01:00.0/class", "0x010802"),
                (&format!("sys/bus/pci/devices/0000:01:00.0/{driver}"), ""),
                (&format!("sys/block/{disk}/size"), "2048"),
            ])
        };
        assert!(disks_may_come(nvme("driver", "loop0").path()));
        assert!(!disks_may_come(nvme("driver", "nvme0n1").path()));
        assert!(!disks_may_come(nvme("x", "loop0").path()));
    }
}
