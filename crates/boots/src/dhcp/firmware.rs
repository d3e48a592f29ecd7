//! What each kind of boot firmware is, and what it is given to load.
//!
//! A client tells its architecture in option 93 (RFC 4578; the numbers are IANA's "Processor Architecture Types").
//! The table is data, so that a new board is a new line.

use super::{
    options::{Options, code},
    packet::Packet,
};

/// How a kind of firmware gets its boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    /// A file below the TFTP root, fetched over TFTP.
    Tftp(&'static str),
    /// The same file, fetched over HTTP: the firmware wants a URL and "HTTPClient" back.
    Http(&'static str),
    /// An address only: no boot loader of ours runs there.
    None,
}

/// One kind of firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware {
    /// The number in option 93.
    pub architecture: u16,
    /// A few words for people.
    pub name: &'static str,
    /// What it loads.
    pub loader: Loader,
}

const fn row(architecture: u16, name: &'static str, loader: Loader) -> Firmware {
    Firmware { architecture, name, loader }
}

/// All kinds that are known.
pub const FIRMWARE: &[Firmware] = &[
    // undionly drives the card through the ROM that is running already, so one file fits every card.
    row(0, "BIOS", Loader::Tftp("undionly.kpxe")),
    // A 32-bit firmware runs 32-bit programs only, whatever the processor can do.
    row(6, "UEFI x86 PXE", Loader::Tftp("i386/snponly.efi")),
    // snponly uses the firmware's own driver of the very card that it was loaded from.
    row(7, "UEFI x86-64 PXE", Loader::Tftp("snponly.efi")),
    // IANA calls 9 x86-64 and 7 byte code; firmware uses both for x86-64.
    row(9, "UEFI x86-64 PXE", Loader::Tftp("snponly.efi")),
    // Debian packages no ARM build: the operator puts one into a folder of the TFTP root.
    row(10, "UEFI ARM PXE", Loader::Tftp("arm32/snponly.efi")),
    row(11, "UEFI ARM64 PXE", Loader::Tftp("arm64/snponly.efi")),
    row(15, "UEFI x86 HTTP", Loader::Http("i386/snponly.efi")),
    row(16, "UEFI x86-64 HTTP", Loader::Http("snponly.efi")),
    row(18, "UEFI ARM HTTP", Loader::Http("arm32/snponly.efi")),
    row(19, "UEFI ARM64 HTTP", Loader::Http("arm64/snponly.efi")),
    // A BIOS that speaks HTTP still runs BIOS programs.
    row(20, "BIOS HTTP", Loader::Http("undionly.kpxe")),
    // U-Boot wants its own kind of script, which is not served: it gets an address and goes on by itself.
    row(21, "U-Boot ARM", Loader::None),
    row(22, "U-Boot ARM64", Loader::None),
    row(23, "U-Boot ARM HTTP", Loader::None),
    row(24, "U-Boot ARM64 HTTP", Loader::None),
    // RISC-V builds, like ARM ones, come from the operator.
    row(25, "UEFI RISC-V 32 PXE", Loader::Tftp("riscv32/snponly.efi")),
    row(26, "UEFI RISC-V 32 HTTP", Loader::Http("riscv32/snponly.efi")),
    row(27, "UEFI RISC-V 64 PXE", Loader::Tftp("riscv64/snponly.efi")),
    row(28, "UEFI RISC-V 64 HTTP", Loader::Http("riscv64/snponly.efi")),
    // The boot ROM of a Raspberry Pi asks for its files by name over TFTP; the boot file means nothing to it.
    row(41, "Raspberry Pi", Loader::None),
];

/// What a request tells of its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// iPXE runs already: it gets the script.
    Ipxe(Option<Firmware>),
    /// Firmware that knows how to boot from the network.
    Firmware(Firmware),
    /// Boot firmware of a kind that the table does not have.
    UnknownFirmware(Vec<u16>),
    /// Not boot firmware: an operating system, a PDU. The vendor class, if it sent one.
    Other(Option<String>),
}

impl Client {
    /// Reads the sender's kind from its request.
    pub fn of(request: &Packet) -> Self {
        let options = &request.options;
        let architectures = architectures(options);
        // Several may be given, the preferred one first.
        let firmware =
            architectures.iter().find_map(|a| FIRMWARE.iter().find(|f| f.architecture == *a)).copied();
        if options.get(code::IPXE).is_some() || options.get(code::USER_CLASS).is_some_and(is_ipxe) {
            return Self::Ipxe(firmware);
        }
        match (firmware, architectures.is_empty()) {
            (Some(firmware), _) => Self::Firmware(firmware),
            (None, false) => Self::UnknownFirmware(architectures),
            (None, true) => Self::Other(options.get(code::VENDOR_CLASS).map(printable)),
        }
    }

    /// Whether it wants to boot, rather than being an operating system that wants an address.
    pub const fn boots(&self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// What it is, in a few words.
    pub fn words(&self) -> String {
        match self {
            Self::Ipxe(Some(firmware)) => format!("iPXE, {}", firmware.name.trim_end_matches(" PXE")),
            Self::Ipxe(None) => "iPXE".to_owned(),
            Self::Firmware(firmware) => firmware.name.to_owned(),
            Self::UnknownFirmware(architectures) => {
                format!("firmware of unknown architecture {architectures:?}")
            }
            Self::Other(Some(class)) => format!("no boot firmware ({class})"),
            Self::Other(None) => "no boot firmware".to_owned(),
        }
    }
}

/// The architectures of option 93, or the one in an older ROM's vendor class (`PXEClient:Arch:00000:UNDI:002001`).
fn architectures(options: &Options) -> Vec<u16> {
    if let Some(list) = options.get(code::CLIENT_ARCHITECTURE) {
        // A packet holds a few; more is noise.
        return list.chunks_exact(2).take(16).map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
    }
    options
        .get(code::VENDOR_CLASS)
        .and_then(|class| class.strip_prefix(b"PXEClient:Arch:"))
        .and_then(|rest| std::str::from_utf8(rest.get(..5)?).ok()?.parse().ok())
        .into_iter()
        .collect()
}

/// RFC 3004 puts a length before each class; iPXE and others send the bare word.
fn is_ipxe(mut user_class: &[u8]) -> bool {
    if user_class == b"iPXE" {
        return true;
    }
    while let Some((&length, rest)) = user_class.split_first() {
        let Some((class, tail)) = rest.split_at_checked(usize::from(length)) else { return false };
        if class == b"iPXE" {
            return true;
        }
        user_class = tail;
    }
    false
}

/// At most 64 characters that can stand in a log.
fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(64)
        .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipxe_is_known_by_both_forms_of_its_user_class() {
        for class in [&b"iPXE"[..], b"\x04iPXE", b"\x03foo\x04iPXE"] {
            assert!(is_ipxe(class), "{class:?}");
        }
        for class in [&b""[..], b"iPXEx", b"\x04iPX", b"\x03foo", b"\xff"] {
            assert!(!is_ipxe(class), "{class:?}");
        }
    }

    #[test]
    fn no_architecture_is_listed_twice() {
        for (at, row) in FIRMWARE.iter().enumerate() {
            assert!(FIRMWARE[..at].iter().all(|other| other.architecture != row.architecture), "{row:?}");
        }
    }

    #[test]
    fn the_first_known_of_several_architectures_counts() {
        let mut options = Options::default();
        options.set(code::CLIENT_ARCHITECTURE, [0xff, 0xfe, 0, 16, 0, 7]);
        assert_eq!(architectures(&options), [0xfffe, 16, 7]);
        options = Options::default();
        options.set(code::VENDOR_CLASS, *b"PXEClient:Arch:00007:UNDI:003016");
        assert_eq!(architectures(&options), [7]);
        options.set(code::VENDOR_CLASS, *b"PXEClient:Arch:7");
        assert!(architectures(&options).is_empty());
    }
}
