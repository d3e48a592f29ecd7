//! The format of a segment: two files named after the offset of the segment's first byte, 20 decimal digits.
//!
//! `.log` holds the raw bytes of the console and nothing else. `.idx` holds a header of 32 bytes and then one entry
//! of 32 bytes per chunk, little endian:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0-7 | offset of the chunk's first byte, since the record began |
//! | 8-15 | time of arrival, microseconds since 1970 UTC |
//! | 16-19 | length of the chunk, 1 to 65536 bytes |
//! | 20-23 | zero |
//! | 24-31 | checksum over the three numbers and the chunk's bytes |
//!
//! The bytes are written first, the entry second: an entry whose checksum holds has all of its bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The longest chunk, in bytes.
pub(crate) const MAX_CHUNK: usize = 64 << 10;

/// Bytes of an index entry, and of the header before the first.
pub(super) const ENTRY: usize = 32;

/// First bytes of every index; the digit is the format's version.
pub(super) const HEADER: [u8; ENTRY] = *b"farmgate console index, form 1\n\n";

/// What the index says of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Offset of the first byte, since the record began.
    pub(super) offset: u64,
    /// Microseconds since 1970.
    pub(super) time: i64,
    /// Bytes, at most [`MAX_CHUNK`].
    pub(super) len: u32,
    sum: u64,
}

impl Entry {
    /// Describes a chunk of 1 to [`MAX_CHUNK`] bytes.
    pub(super) fn of(offset: u64, time: i64, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self { offset, time, len, sum: checksum(offset, time, bytes) }
    }

    /// Are these the bytes that were described?
    pub(super) fn describes(&self, bytes: &[u8]) -> bool {
        self.len as usize == bytes.len() && self.sum == checksum(self.offset, self.time, bytes)
    }

    /// Offset of the byte after the last one.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.len))
    }

    pub(super) fn encode(&self) -> [u8; ENTRY] {
        let mut raw = [0; ENTRY];
        raw[..8].copy_from_slice(&self.offset.to_le_bytes());
        raw[8..16].copy_from_slice(&self.time.to_le_bytes());
        raw[16..20].copy_from_slice(&self.len.to_le_bytes());
        raw[24..].copy_from_slice(&self.sum.to_le_bytes());
        raw
    }

    /// `None` when it cannot be an entry.
    pub(super) fn decode(raw: &[u8; ENTRY]) -> Option<Self> {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&raw[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let len = word(16);
        let fits = (1..=MAX_CHUNK as u64).contains(&len);
        fits.then(|| Self {
            offset: word(0),
            time: word(8).cast_signed(),
            len: u32::try_from(len).unwrap_or(u32::MAX),
            sum: word(24),
        })
    }
}

/// A checksum against accidents, not against forgers: each step is a bijection of the state, so any change within
/// one word is always seen, and the length counts, so a cut is seen too.
fn checksum(offset: u64, time: i64, bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |state: u64, word: u64| (state ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    let mut state = step(step(bytes.len() as u64, offset), time.cast_unsigned());
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = step(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(state, u64::from_le_bytes(last))
}

/// The two files of the segment that begins at `start`: bytes and index.
pub(super) fn paths(dir: &Path, start: u64) -> (PathBuf, PathBuf) {
    (dir.join(format!("{start:020}.log")), dir.join(format!("{start:020}.idx")))
}

/// The segment that a file of this name belongs to.
pub(super) fn start_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").or_else(|| name.strip_suffix(".idx"))?;
    let fine = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    // No record grows so long; a stray file with such a name must not make offsets overflow.
    digits.parse().ok().filter(|start| fine && *start < 1 << 60)
}

/// Reads at a place until the buffer is full or the file ends; gives the bytes read.
pub(super) fn read_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match file.read_at(buffer, at) {
            Ok(0) => break,
            Ok(n) => {
                buffer = &mut buffer[n..];
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - buffer.len())
}

/// Reads up to `count` raw entries from number `first` on.
pub(super) fn entries(idx: &File, first: u64, count: usize) -> io::Result<Vec<[u8; ENTRY]>> {
    let mut raw = vec![0; count * ENTRY];
    let length = read_at(idx, &mut raw, (first + 1).saturating_mul(ENTRY as u64))?;
    Ok(raw[..length].as_chunks::<ENTRY>().0.to_vec())
}

/// Does the index begin as one must?
pub(super) fn has_header(idx: &File) -> io::Result<bool> {
    let mut header = [0; ENTRY];
    Ok(read_at(idx, &mut header, 0)? == ENTRY && header == HEADER)
}
