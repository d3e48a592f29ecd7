//! What network boot asks of, and tells to, the one who knows the machines.
//!
//! The directory owns the answers to "which address?" and "what does it boot?"; this crate owns the protocols that
//! carry the answers. A directory decides at once, from what it has in memory: a DHCP answer waits for it.

use std::{net::Ipv4Addr, path::PathBuf};

use bytes::Bytes;
use farmgate_protocol::{MacAddress, Timestamp};

/// Who boots what. All calls are quick and never block: they run between a request and its answer.
pub trait BootDirectory: Send + Sync + 'static {
    /// The fixed address (and host name) of a known client.
    fn reservation(&self, mac: MacAddress) -> Option<Reservation>;

    /// Whether the address is reserved for anyone, so that the pool never hands it out.
    fn is_reserved(&self, address: Ipv4Addr) -> bool;

    /// What shall the client boot?
    ///
    /// # Errors
    /// Why it shall boot nothing, in words: they are printed on its console, and it asks again for some minutes.
    fn plan(&self, mac: MacAddress, request: &ScriptRequest) -> Result<BootPlan, String>;

    /// A client got one step further.
    fn saw(&self, sighting: Sighting);
}

/// What a known client always gets from DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Its address; need not lie in the pool.
    pub address: Ipv4Addr,
    /// Its name (option 12); cut after 63 bytes.
    pub host_name: Option<String>,
}

/// What the boot loader said of itself when it asked for its script. The words come from the network: each has at
/// most 32 characters, letters, digits, `-` and `_` only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptRequest {
    /// `pcbios` or `efi`.
    pub platform: Option<String>,
    /// `x86_64`, `i386` or `arm64`.
    pub buildarch: Option<String>,
}

/// What a client boots.
#[derive(Debug, Clone)]
pub struct BootPlan {
    /// The name under which the boot loader announces the client on its console: `SALAD.machine_id=` and this.
    pub console_id: String,
    /// The kernel.
    pub kernel: Content,
    /// Initramfs archives, in order; the client gets them as one file, each padded with zeros to 4 bytes.
    pub initrds: Vec<Content>,
    /// The kernel command line, handed over byte for byte.
    pub cmdline: String,
}

/// Bytes that a client fetches.
#[derive(Debug, Clone)]
pub enum Content {
    /// A regular file. It is opened when it is asked for.
    File(PathBuf),
    /// Bytes in memory.
    Bytes(Bytes),
}

/// A client was seen doing something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Which client.
    pub mac: MacAddress,
    /// When.
    pub time: Timestamp,
    /// What it did.
    pub stage: Stage,
}

/// The steps of a network boot, in the order in which they come. Firmware that loads iPXE goes through the first
/// four and then starts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It looks for an address.
    DhcpDiscover {
        /// What it is, in a few words: `iPXE, BIOS`, `UEFI x86-64 PXE`.
        client: String,
        /// It is a firmware (or iPXE) that wants to boot; false: an operating system that runs already.
        boots: bool,
    },
    /// It has an address.
    DhcpAck {
        /// That address.
        address: Ipv4Addr,
    },
    /// It began to fetch a file over TFTP.
    TftpStart {
        /// The name it asked for.
        file: String,
    },
    /// It acknowledged the last block of a file.
    TftpDone {
        /// The name it asked for.
        file: String,
        /// Length of the file.
        bytes: u64,
    },
    /// It fetched its script.
    Script,
    /// It began to fetch a file of its boot plan over HTTP.
    FileStart {
        /// `kernel` or `initrd`.
        file: String,
        /// Length of what it asked for.
        bytes: u64,
    },
    /// The last byte was handed to its connection.
    FileDone {
        /// `kernel` or `initrd`.
        file: String,
        /// Length of what it asked for.
        bytes: u64,
    },
}
