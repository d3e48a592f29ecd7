//! An empty disk for a virtual DUT: a qcow2 image, written by hand because it is four clusters of mostly zeros and
//! saves everyone the package with `qemu-img`.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
};

/// Bytes in a cluster, as `qemu-img` chooses.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 16;

/// Bytes that one entry of the first-level table covers: a cluster of 8-byte second-level entries.
const PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;

/// The largest disk that this module makes, bytes: its first-level table fills one cluster.
pub const MAX_SIZE: u64 = CLUSTER / 8 * PER_L1_ENTRY;

/// Makes an empty image of `size` bytes (a multiple of 512, at most [`MAX_SIZE`]) unless `path` exists.
/// Layout, QEMU's `docs/interop/qcow2.txt`, version 3: header, reference count table, reference count block,
/// first-level table, one cluster each.
///
/// # Errors
/// The file cannot be written.
pub fn create_if_absent(path: &Path, size: u64) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    // Written beside and renamed: a crash half-way must not leave an image that QEMU refuses for ever.
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(&header(size))?;
    file.seek(SeekFrom::Start(CLUSTER))?;
    file.write_all(&(2 * CLUSTER).to_be_bytes())?;
    file.seek(SeekFrom::Start(2 * CLUSTER))?;
    for _used_cluster in 0..4 {
        file.write_all(&1u16.to_be_bytes())?;
    }
    file.set_len(4 * CLUSTER)?;
    std::fs::rename(partial, path)
}

fn header(size: u64) -> Vec<u8> {
    let l1_entries = u32::try_from(size.div_ceil(PER_L1_ENTRY)).unwrap_or(u32::MAX);
    let mut header = Vec::with_capacity(104);
    header.extend_from_slice(b"QFI\xfb");
    header.extend_from_slice(&3u32.to_be_bytes()); // version
    header.extend_from_slice(&[0; 12]); // no backing file
    header.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
    header.extend_from_slice(&size.to_be_bytes());
    header.extend_from_slice(&0u32.to_be_bytes()); // no encryption
    header.extend_from_slice(&l1_entries.to_be_bytes());
    header.extend_from_slice(&(3 * CLUSTER).to_be_bytes()); // first-level table
    header.extend_from_slice(&CLUSTER.to_be_bytes()); // reference count table
    header.extend_from_slice(&1u32.to_be_bytes()); // its clusters
    header.extend_from_slice(&[0; 12]); // no snapshots
    header.extend_from_slice(&[0; 24]); // no features
    header.extend_from_slice(&4u32.to_be_bytes()); // reference counts of 16 bits
    header.extend_from_slice(&104u32.to_be_bytes()); // length of this header
    header
}

/// Bytes from a size as people write it for QEMU: `512M`, `4G`, a plain number of bytes.
///
/// # Errors
/// The text is no size, or not one this module can make.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no disk size: write a whole number with K, M, G or T, like 4G (1M to 4T)");
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let size = number.checked_mul(1 << shift).ok_or_else(wrong)?;
    if (1 << 20..=MAX_SIZE).contains(&size) && size.is_multiple_of(512) { Ok(size) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_qemu_reads_them() {
        for (text, size) in
            [("1M", 1 << 20), ("4G", 4 << 30), ("2097152", 2 << 20), ("4t", 4 << 40), ("1024k", 1 << 20)]
        {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "G", "0", "-1G", "5T", "4 G", "1048577", "99999999999T", "4é"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_image_starts_as_the_format_says_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.qcow2");
        create_if_absent(&path, 4 << 30).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, 4 * CLUSTER);
        assert_eq!(&bytes[..8], b"QFI\xfb\0\0\0\x03");
        assert_eq!(&bytes[24..32], &(4u64 << 30).to_be_bytes());
        assert_eq!(&bytes[36..40], &8u32.to_be_bytes(), "one entry for each 512 MiB");
        std::fs::write(&path, "the guest's data").unwrap();
        create_if_absent(&path, 4 << 30).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"the guest's data");
    }
}
