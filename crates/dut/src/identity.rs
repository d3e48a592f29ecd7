//! What a machine is called: its base name and its tags, derived from the hardware report.
//!
//! Owns naming only and knows PCI numbers, not code names: the tables of GPU generations live in the gateway,
//! where they can be renewed without a new image.

use farmgate_protocol::dut::{Hardware, PciDevice};

/// How the GPUs of a vendor are named.
struct GpuVendor {
    pci_vendor: &'static str,
    base_name: &'static str,
    tag_prefix: &'static str,
}

/// The best first: a server's management chip shows a picture too, but is not what the machine is for.
const GPU_VENDORS: [GpuVendor; 3] = [
    GpuVendor { pci_vendor: "1002", base_name: "amd", tag_prefix: "amdgpu" },
    GpuVendor { pci_vendor: "10de", base_name: "nvidia", tag_prefix: "nvidia" },
    GpuVendor { pci_vendor: "8086", base_name: "intel", tag_prefix: "intelgpu" },
];

const OTHER_GPU: GpuVendor = GpuVendor { pci_vendor: "", base_name: "pci", tag_prefix: "gpu" };

const VIRTIO_GPU: GpuVendor = GpuVendor { pci_vendor: "1af4", base_name: "virtio", tag_prefix: "virtio" };

fn is_virtio_gpu(function: &PciDevice) -> bool {
    function.vendor == "1af4" && function.device == "1050"
}

fn gpu_vendor(function: &PciDevice) -> &'static GpuVendor {
    if is_virtio_gpu(function) {
        return &VIRTIO_GPU;
    }
    GPU_VENDORS.iter().find(|v| v.pci_vendor == function.vendor).unwrap_or(&OTHER_GPU)
}

/// The display controllers, the one that names the machine first.
fn gpus(hardware: &Hardware) -> Vec<&PciDevice> {
    let mut gpus: Vec<_> =
        hardware.pci.iter().filter(|f| f.class.starts_with("03") || is_virtio_gpu(f)).collect();
    let rank = |f: &&PciDevice| match gpu_vendor(f).base_name {
        "pci" => usize::MAX,
        "virtio" => GPU_VENDORS.len(),
        name => GPU_VENDORS.iter().position(|v| v.base_name == name).unwrap_or(usize::MAX),
    };
    gpus.sort_by_key(rank);
    gpus
}

/// The kind of this machine: after its GPU, or `generic`.
pub fn base_name(hardware: &Hardware) -> &'static str {
    gpus(hardware).first().map_or("generic", |gpu| gpu_vendor(gpu).base_name)
}

/// Its tags, each once, in a stable order.
pub fn tags(hardware: &Hardware) -> Vec<String> {
    let mut tags = vec![
        format!("cpu:arch:{}", hardware.arch),
        format!("cpu:cores:{}", hardware.cpu_cores),
        format!("mem:size:{}", memory_size(hardware.memory_mib)),
        format!("firmware:{}", hardware.firmware),
    ];
    for gpu in gpus(hardware) {
        let prefix = gpu_vendor(gpu).tag_prefix;
        if is_virtio_gpu(gpu) {
            tags.push("virtio:family:VIRTIO".to_owned());
        }
        tags.push(format!("{prefix}:pciid:0x{}:0x{}", gpu.vendor, gpu.device));
    }
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// The size that was bought: the next power of two, or that and a half (24, 48 GiB). The kernel and an integrated
/// GPU keep a part, so what the kernel counts is always less. Below 1 GiB in MiB.
fn memory_size(mib: u64) -> String {
    match [64, 128, 256, 512, 768].into_iter().find(|size| mib <= *size) {
        Some(size) => format!("{size}MiB"),
        None => format!("{}GiB", memory_gib(mib)),
    }
}

fn memory_gib(mib: u64) -> u64 {
    let mut size = 1_u64;
    while size < 1 << 32 {
        if mib <= size * 1024 {
            return size;
        }
        if size >= 2 && mib <= size * 1536 {
            return size * 3 / 2;
        }
        size *= 2;
    }
    mib / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(gpus: &[(&str, &str, &str)]) -> Hardware {
        let pci = gpus.iter().map(|&(vendor, device, class)| PciDevice {
            address: String::new(),
            vendor: vendor.to_owned(),
            device: device.to_owned(),
            class: class.to_owned(),
        });
        Hardware {
            arch: "x86_64".to_owned(),
            firmware: "uefi".to_owned(),
            cpu_cores: 8,
            memory_mib: 15_300,
            pci: pci.collect(),
            ..Hardware::default()
        }
    }

    #[test]
    fn the_gpu_names_the_machine() {
        let nic = ("8086", "1533", "0200");
        for (functions, expected) in [
            (vec![], "generic"),
            (vec![nic], "generic"),
            (vec![nic, ("1af4", "1050", "0380")], "virtio"),
            (vec![("1234", "1111", "0300")], "pci"),
            (vec![("1a03", "2000", "0300"), ("1002", "164c", "0300")], "amd"),
            (vec![("8086", "9a49", "0300"), ("10de", "2684", "0302")], "nvidia"),
            (vec![("8086", "9a49", "0300")], "intel"),
        ] {
            assert_eq!(base_name(&machine(&functions)), expected);
        }
    }

    #[test]
    fn tags_tell_processor_memory_firmware_and_every_gpu() {
        assert_eq!(
            tags(&machine(&[
                ("1002", "164c", "0300"),
                ("8086", "9a49", "0380"),
                ("10de", "1", "0300"),
                ("1234", "1111", "0300")
            ])),
            [
                "amdgpu:pciid:0x1002:0x164c",
                "cpu:arch:x86_64",
                "cpu:cores:8",
                "firmware:uefi",
                "gpu:pciid:0x1234:0x1111",
                "intelgpu:pciid:0x8086:0x9a49",
                "mem:size:16GiB",
                "nvidia:pciid:0x10de:0x1",
            ]
        );
        let virtio = tags(&machine(&[("1af4", "1050", "0300"), ("1af4", "1050", "0300")]));
        assert_eq!(virtio.iter().filter(|t| t.starts_with("virtio:")).count(), 2);
        assert!(virtio.contains(&"virtio:pciid:0x1af4:0x1050".to_owned()));
        assert!(virtio.contains(&"virtio:family:VIRTIO".to_owned()));
    }

    #[test]
    fn memory_is_rounded_up_to_what_is_sold() {
        for (mib, gib) in [
            (0, 1),
            (470, 1),
            (1024, 1),
            (1025, 2),
            (2900, 3),
            (3900, 4),
            (5900, 6),
            (7800, 8),
            (13_600, 16),
            (23_800, 24),
            (31_900, 32),
            (64_000, 64),
            (95_000, 96),
            (u64::MAX, u64::MAX / 1024),
        ] {
            assert_eq!(memory_gib(mib), gib, "{mib}");
        }
    }
}
