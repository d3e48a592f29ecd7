//! The table that tells a person what was detected.
//!
//! Owns its layout only.

use farmgate_protocol::dut::{PciDevice, Registration};

/// The most PCI functions that are listed; servers have hundreds.
const MOST_FUNCTIONS: usize = 40;

/// The whole table, one row per line.
pub fn table(report: &Registration) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    rows.push(("base name", report.base_name.clone()));
    if let Some(hardware) = &report.hardware {
        rows.push(("CPU", format!("{} ({})", hardware.cpu_model, hardware.arch)));
        rows.push(("cores", hardware.cpu_cores.to_string()));
        rows.push(("memory", format!("{} MiB", hardware.memory_mib)));
        rows.push(("firmware", hardware.firmware.clone()));
        rows.push(("disks", list(hardware.disks.iter().map(|d| format!("{} {} MiB", d.name, d.size_mib)))));
        rows.push(("GPU", list(hardware.pci.iter().filter(|f| f.class.starts_with("03")).map(function))));
        let hidden = hardware.pci.len().saturating_sub(MOST_FUNCTIONS);
        rows.extend(hardware.pci.iter().take(MOST_FUNCTIONS).map(|f| ("PCI", function(f))));
        if hidden > 0 {
            rows.push(("PCI", format!("and {hidden} more")));
        }
    }
    rows.push(("MAC", or_none(report.mac_address.map(|m| m.to_string()))));
    rows.push(("IP", or_none(report.ip_address.map(|a| a.to_string()))));
    rows.push(("tty", or_none(report.local_tty_device.clone())));
    rows.push(("tags", report.tags.join(" ")));
    let mut last = "";
    let lines = rows.into_iter().map(|(name, value)| {
        // A name that repeats is written once.
        let shown = if name == last { "" } else { name };
        last = name;
        format!("  {shown:<10} {value}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn function(f: &PciDevice) -> String {
    format!("{} {}:{} class {}", f.address, f.vendor, f.device, f.class)
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farmgate_protocol::dut::Hardware;

    #[test]
    fn every_fact_has_its_row() {
        let function = |n: usize| PciDevice {
            address: format!("0000:00:{n:02x}.0"),
            vendor: "1af4".to_owned(),
            device: "1050".to_owned(),
            class: if n == 0 { "0380" } else { "0200" }.to_owned(),
        };
        let report = Registration {
            base_name: "virtio".to_owned(),
            tags: vec!["a:b".to_owned(), "c:d".to_owned()],
            local_tty_device: Some("ttyS0".to_owned()),
            hardware: Some(Hardware {
                cpu_model: "QEMU".to_owned(),
                arch: "x86_64".to_owned(),
                pci: (0..42).map(function).collect(),
                ..Hardware::default()
            }),
            ..Registration::default()
        };
        let table = table(&report);
        for row in [
            "  base name  virtio",
            "  CPU        QEMU (x86_64)",
            "  disks      none",
            "  GPU        0000:00:00.0 1af4:1050 class 0380",
            "             and 2 more",
            "  MAC        none",
            "  tty        ttyS0",
            "  tags       a:b c:d",
        ] {
            assert!(table.lines().any(|line| line == row), "{row} is not in\n{table}");
        }
    }
}
