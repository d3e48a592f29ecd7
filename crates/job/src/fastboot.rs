//! How an Android boot image is made for a machine that boots over fastboot.

use serde::{Deserialize, Serialize};

use crate::Artifact;

/// The header of the boot image, with the names of `mkbootimg`, or a ready image. What is absent is the default of the
/// machine's boot method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fastboot {
    /// Version of the header.
    pub header_version: Option<u64>,
    /// Address that the offsets count from.
    pub base: Option<u64>,
    /// Where the kernel is loaded, from `base`.
    pub kernel_offset: Option<u64>,
    /// Where the initramfs is loaded, from `base`.
    pub ramdisk_offset: Option<u64>,
    /// Where the device tree is loaded, from `base`.
    pub dtb_offset: Option<u64>,
    /// Where the kernel's tags are put, from `base`.
    pub tags_offset: Option<u64>,
    /// Bytes of a page of the image; a power of two from 2048 to 16384.
    pub pagesize: Option<u64>,
    /// Name of the board.
    pub board: Option<String>,
    /// `A.B.C`.
    pub os_version: Option<String>,
    /// `YYYY-MM`.
    pub os_patch_level: Option<String>,
    /// A ready image: kernel, initramfs and device tree are not used.
    pub boot_image: Option<Artifact>,
}

impl Fastboot {
    /// Field by field: what `later` names replaces what was there.
    #[must_use]
    pub fn updated_by(&self, later: &Self) -> Self {
        fn newer<T: Clone>(later: &Option<T>, before: &Option<T>) -> Option<T> {
            later.as_ref().or(before.as_ref()).cloned()
        }
        Self {
            header_version: later.header_version.or(self.header_version),
            base: later.base.or(self.base),
            kernel_offset: later.kernel_offset.or(self.kernel_offset),
            ramdisk_offset: later.ramdisk_offset.or(self.ramdisk_offset),
            dtb_offset: later.dtb_offset.or(self.dtb_offset),
            tags_offset: later.tags_offset.or(self.tags_offset),
            pagesize: later.pagesize.or(self.pagesize),
            board: newer(&later.board, &self.board),
            os_version: newer(&later.os_version, &self.os_version),
            os_patch_level: newer(&later.os_patch_level, &self.os_patch_level),
            boot_image: newer(&later.boot_image, &self.boot_image),
        }
    }
}
