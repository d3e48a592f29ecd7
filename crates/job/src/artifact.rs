//! Files of a job: where they come from, and what is done to them before a machine gets them.

use serde::{Deserialize, Serialize};

use crate::words::words;

/// A file of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Artifact {
    /// To be fetched: an address with `http://` or `https://`. Below a [`crate::StorageFile`] it may hold `\1`.
    Url(String),
    /// Its content: a template, see [`crate::render_data`].
    Data(String),
    /// Packed by the gateway from other files.
    Archive(Archive),
    /// Another artifact (never itself one of this kind) that goes through these steps in order; never none.
    Formatted(Box<Artifact>, Vec<Format>),
}

impl Artifact {
    /// The same after these steps.
    #[must_use]
    pub fn formatted(self, steps: &[Format]) -> Self {
        match self {
            this if steps.is_empty() => this,
            Self::Formatted(source, mut first) => {
                first.extend_from_slice(steps);
                Self::Formatted(source, first)
            }
            source => Self::Formatted(Box::new(source), steps.to_vec()),
        }
    }

    /// Where it comes from, without what is done to it.
    pub fn source(&self) -> &Self {
        match self {
            Self::Formatted(source, _) => source,
            this => this,
        }
    }

    /// What is done to it.
    pub fn format(&self) -> &[Format] {
        match self {
            Self::Formatted(_, steps) => steps,
            _ => &[],
        }
    }
}

/// An archive that the gateway packs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Its format; never [`ArchiveExtension::None`].
    pub extension: ArchiveExtension,
    /// How the whole is compressed.
    pub compression: ArchiveCompression,
    /// What it holds.
    pub add: Vec<ArchiveMember>,
}

/// A file that goes into an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveMember {
    /// Its name there.
    pub path: String,
    /// Its content.
    pub artifact: Artifact,
    /// Type and permissions as in a Unix `st_mode`: `0o100000` (a regular file) and at most `0o7777`.
    pub mode: u32,
}

/// A step of a `format` pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Wrapped into a legacy U-Boot image ("uImage").
    Uboot(UbootFormat),
    /// Unpacked, filtered and packed again.
    Archive(ArchiveFormat),
}

/// The header of a legacy U-Boot image. What is absent is chosen by where the file is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UbootFormat {
    /// Absent: that of the machine.
    pub architecture: Option<UbootArchitecture>,
    /// What U-Boot is told of the file's compression; the file is not compressed by it. Absent: none.
    pub compression: Option<UbootCompression>,
    /// Absent: Linux.
    pub os: Option<UbootOs>,
    /// Absent: `kernel` for a kernel, `ramdisk` for an initramfs, `flat_dt` for a device tree, else `standalone`.
    pub kind: Option<UbootType>,
}

/// What is done to an archive. The input may be compressed with gz, bz2, xz or zstd: that is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFormat {
    /// Format of the output; [`ArchiveExtension::None`]: a single file, not an archive.
    pub extension: ArchiveExtension,
    /// How the output is compressed.
    pub compression: ArchiveCompression,
    /// Which members are kept; none named: all.
    pub keep: Vec<Keep>,
    /// What is added after that.
    pub add: Vec<ArchiveMember>,
}

/// Members of an archive to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// A regex that matches a member's whole name. Below a [`crate::StorageFile`], `\1` stands for what a group of
    /// its path matched.
    pub path: String,
    /// Its new name; `\1` stands for a group of `path`. Absent: it keeps its own.
    pub rewrite: Option<String>,
}

words! {
    /// Formats of archives.
    ArchiveExtension {
        /// No archive, a single file.
        None = "none",
        /// As the kernel reads it ("newc").
        Cpio = "cpio",
        /// ISO 9660.
        Iso = "iso",
        /// POSIX tar.
        Tar = "tar",
        /// ZIP.
        Zip = "zip",
    }
}

words! {
    /// How an archive is compressed.
    ArchiveCompression {
        /// It is not.
        None = "none",
        /// gzip.
        Gz = "gz" | "gzip",
        /// bzip2.
        Bz2 = "bz2" | "bzip2",
        /// xz.
        Xz = "xz",
        /// Zstandard.
        Zstd = "zstd" | "zst",
    }
}

words! {
    /// Architectures of U-Boot images, as `mkimage -A` names them.
    UbootArchitecture {
        /// 32-bit ARM.
        Arm = "arm" | "arm32",
        /// AArch64.
        Arm64 = "arm64" | "aarch64",
        /// 32-bit MIPS.
        Mips = "mips",
        /// 64-bit MIPS.
        Mips64 = "mips64",
        /// PowerPC.
        Ppc = "ppc" | "powerpc",
        /// RISC-V of either width.
        Riscv = "riscv" | "riscv32" | "riscv64",
        /// 32-bit x86.
        X86 = "x86" | "i386",
        /// AMD64.
        X86_64 = "x86_64" | "amd64",
    }
}

words! {
    /// Compressions that U-Boot undoes, as `mkimage -C` names them.
    UbootCompression {
        /// None.
        None = "none",
        /// gzip.
        Gzip = "gzip" | "gz",
        /// bzip2.
        Bzip2 = "bzip2" | "bz2",
        /// LZMA.
        Lzma = "lzma",
        /// LZO.
        Lzo = "lzo",
        /// LZ4.
        Lz4 = "lz4",
        /// Zstandard.
        Zstd = "zstd" | "zst",
    }
}

words! {
    /// Operating systems of U-Boot images, as `mkimage -O` names them.
    UbootOs {
        /// Trusted Firmware-A.
        ArmTrustedFirmware = "arm-trusted-firmware",
        /// An EFI program.
        Efi = "efi",
        /// FreeBSD.
        Freebsd = "freebsd",
        /// None.
        Invalid = "invalid",
        /// Linux.
        Linux = "linux",
        /// NetBSD.
        Netbsd = "netbsd",
        /// OpenBSD.
        Openbsd = "openbsd",
        /// OpenSBI.
        Opensbi = "opensbi",
        /// A trusted execution environment.
        Tee = "tee",
        /// U-Boot itself.
        Uboot = "u-boot" | "uboot" | "u_boot",
    }
}

words! {
    /// Kinds of U-Boot images, as `mkimage -T` names them.
    UbootType {
        /// Any file.
        Filesystem = "filesystem",
        /// Firmware.
        Firmware = "firmware",
        /// A device tree.
        FlatDt = "flat_dt",
        /// A kernel.
        Kernel = "kernel",
        /// A kernel that runs where it was loaded.
        KernelNoload = "kernel_noload",
        /// Several files in one.
        Multi = "multi",
        /// An initramfs.
        Ramdisk = "ramdisk",
        /// A script of U-Boot commands.
        Script = "script",
        /// A program without an operating system.
        Standalone = "standalone",
    }
}
