//! DUTs as the REST API shows them, and what a DUT says when it registers.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{DutId, JobStatus, MacAddress, PortId, Timestamp};

/// Where a DUT stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DutState {
    /// It lacks a PDU and port, or they do not exist.
    WaitForConfig,
    /// Free for jobs.
    Idle,
    /// In the boot loop.
    Training,
    /// A job was given to it and is being prepared.
    Queued,
    /// A job runs.
    Running,
    /// Out of service by a person's wish.
    Retired,
    /// Not known yet, or its PDU does not answer.
    Unknown,
    /// One boot to see that it still works.
    QuickCheck,
    /// It failed to qualify.
    Borked,
}

impl DutState {
    /// The word of the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WaitForConfig => "WAIT_FOR_CONFIG",
            Self::Idle => "IDLE",
            Self::Training => "TRAINING",
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Retired => "RETIRED",
            Self::Unknown => "UNKNOWN",
            Self::QuickCheck => "QUICK_CHECK",
            Self::Borked => "BORKED",
        }
    }
}

impl std::fmt::Display for DutState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What Sergent Hartman does with a DUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrainingState {
    /// Nothing.
    #[default]
    Idle,
    /// The boot loop.
    Enrolling,
    /// One boot.
    QuickCheck,
    /// The registration at the start of the training failed; it is tried again.
    RegistrationFailed,
}

/// One boot of the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingLoop {
    /// Its verdict; null while it runs.
    pub status: Option<JobStatus>,
    /// Length in seconds.
    pub seconds_elapsed: f64,
    /// Whether `dut/ID/training/loop/N` has its console log.
    pub has_log: bool,
    /// Why the verdict is what it is, in a sentence.
    #[serde(default)]
    pub cause: String,
}

/// The training of a DUT.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Training {
    /// What is going on.
    pub state: TrainingState,
    /// Whether a boot of it runs or is due.
    pub is_active: bool,
    /// Whether the registration at its start was done.
    pub is_registered: bool,
    /// How many boots it takes.
    pub boot_loop_counts: u32,
    /// How many of them must pass.
    pub qualifying_rate: u32,
    /// How many are done.
    pub current_loop_count: u32,
    /// Number of boots by verdict.
    pub statuses: BTreeMap<String, u32>,
    /// Each boot, the first first.
    pub loops: Vec<TrainingLoop>,
}

/// The outlet of a DUT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutPort {
    /// Name of the PDU.
    pub name: String,
    /// Its port.
    pub port_id: PortId,
}

/// Where the raw console log of a DUT can be read (TCP).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsEndpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A DUT as `GET /api/v1/dut/ID` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dut {
    /// Key in the farm file.
    pub id: DutId,
    /// Where it stands.
    pub state: DutState,
    /// Why it stands there and what it waits for, in words.
    #[serde(default)]
    pub state_reason: String,
    /// Since when it is in this state.
    #[serde(default)]
    pub state_since: Timestamp,
    /// It qualified.
    pub ready_for_service: bool,
    /// A PDU and port are set.
    pub has_pdu_assigned: bool,
    /// The DUT's own name of the serial port that reaches the gateway.
    pub local_tty_device: Option<String>,
    /// What its hardware is.
    pub tags: Vec<String>,
    /// What a person added.
    pub manual_tags: Vec<String>,
    /// Its kind.
    pub base_name: String,
    /// FARM-BASENAME-N.
    pub full_name: String,
    /// Of the interface that it boots from.
    pub mac_address: Option<MacAddress>,
    /// Its address on the private network.
    pub ip_address: Option<Ipv4Addr>,
    /// Out of service by a person's wish.
    pub is_retired: bool,
    /// Sergent Hartman's report.
    pub training: Training,
    /// Its outlet.
    pub pdu: Option<DutPort>,
    /// Seconds that it must be off before it is switched on again.
    pub pdu_off_delay: f64,
    /// Seconds from power on to its first network boot request, once learned.
    pub firmware_boot_time: Option<f64>,
    /// Power profile of its boot, once learned.
    pub boot_sequence_power: Option<serde_json::Value>,
    /// A person's note.
    pub comment: Option<String>,
    /// Its raw console log.
    pub logs_endpoint: LogsEndpoint,
}

/// What a DUT sends to register itself: POST `/api/v1/dut/`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Registration {
    /// Its kind: `virtio`, `gfx9-navi10`.
    pub base_name: String,
    /// What its hardware is.
    pub tags: Vec<String>,
    /// Of the interface that it booted from.
    pub mac_address: Option<MacAddress>,
    /// Its address.
    pub ip_address: Option<Ipv4Addr>,
    /// The serial port that reaches the gateway, as the DUT names it: `ttyS0`.
    pub local_tty_device: Option<String>,
    /// Everything that it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Hardware>,
}

/// The hardware report of a DUT.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hardware {
    /// Kernel architecture: `x86_64`.
    pub arch: String,
    /// `bios` or `uefi`.
    pub firmware: String,
    /// Model as the processor names itself.
    pub cpu_model: String,
    /// Number of processors.
    pub cpu_cores: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// PCI functions: `0000:00:02.0 1af4:1050 0380`.
    pub pci: Vec<PciDevice>,
    /// Disks: name and size.
    #[serde(default)]
    pub disks: Vec<Disk>,
}

/// A function on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PciDevice {
    /// `0000:00:02.0`.
    pub address: String,
    /// Vendor id, four hexadecimal digits.
    pub vendor: String,
    /// Device id, four hexadecimal digits.
    pub device: String,
    /// Class and subclass, four hexadecimal digits: `0300` is a VGA controller.
    pub class: String,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Disk {
    /// `vda`.
    pub name: String,
    /// Size in MiB.
    pub size_mib: u64,
}

/// `GET /api/v1/duts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Duts {
    /// By id.
    pub duts: BTreeMap<DutId, Dut>,
}
