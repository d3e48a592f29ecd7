//! Reading `fastboot`.

use super::{artifact, fields};
use crate::{
    Fastboot,
    check::{self, Fields},
    error::Report,
    yaml::Node,
};

/// The newest header that `mkbootimg` writes.
const NEWEST_HEADER: u64 = 4;

pub(super) fn read(node: &Node, path: &str, report: &mut Report<'_>) -> Option<Fastboot> {
    let fields = Fields::open(node, &format!("`{path}`"), &fields::FASTBOOT, report)?;
    let mut number = |name: &str| {
        let node = fields.get(name)?;
        let number = check::integer(node, &format!("`{path}.{name}`"), 0..=i64::MAX, report)?;
        u64::try_from(number).ok()
    };
    let mut fastboot = Fastboot {
        header_version: number("header_version"),
        base: number("base"),
        kernel_offset: number("kernel_offset"),
        ramdisk_offset: number("ramdisk_offset"),
        dtb_offset: number("dtb_offset"),
        tags_offset: number("tags_offset"),
        pagesize: number("pagesize"),
        ..Fastboot::default()
    };
    if let (Some(node), Some(version)) = (fields.get("header_version"), fastboot.header_version)
        && version > NEWEST_HEADER
    {
        let text = format!("`{path}.header_version`: {NEWEST_HEADER} is the newest that is known");
        report.warning(node.at, text);
    }
    if let (Some(node), Some(size)) = (fields.get("pagesize"), fastboot.pagesize)
        && !(size.is_power_of_two() && (2048..=16_384).contains(&size))
    {
        let help = "write 2048, 4096, 8192 or 16384";
        report.problem_with_help(node.at, format!("`{path}.pagesize` cannot be {size}"), help);
    }
    let mut text = |name: &str, shape: fn(&str) -> bool, help: &str| {
        let node = fields.get(name)?;
        let what = format!("`{path}.{name}`");
        let text = check::text(node, &what, report)?;
        if !shape(&text) {
            report.problem_with_help(node.at, format!("{what} cannot be {}", node.describe()), help);
            return None;
        }
        Some(text)
    };
    // The header has room for 15 letters.
    fastboot.board = text("board", |t| t.len() < 16, "a board's name has at most 15 letters");
    fastboot.os_version = text("os_version", is_version, "write A, A.B or A.B.C, each at most 127");
    fastboot.os_patch_level = text("os_patch_level", is_month, "write year and month: 2026-11");
    fastboot.boot_image =
        fields.get("boot_image").and_then(|n| artifact::read(n, &format!("{path}.boot_image"), report));
    Some(fastboot)
}

fn is_version(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    parts.len() <= 3 && parts.iter().all(|part| part.parse::<u8>().is_ok_and(|number| number < 128))
}

fn is_month(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let number = |n: usize| parts.get(n).and_then(|part| part.parse::<u16>().ok());
    // The header counts years from 2000 in seven bits; a day is allowed and means nothing.
    number(0).is_some_and(|year| (2000..2128).contains(&year))
        && number(1).is_some_and(|month| (1..=12).contains(&month))
        && (parts.len() == 2 || parts.len() == 3 && number(2).is_some_and(|day| (1..=31).contains(&day)))
}
