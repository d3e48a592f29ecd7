//! The artifacts of simulated jobs: bytes that follow from their name and tell by themselves whether they are whole.
//!
//! Eight bytes of length and eight of checksum (both big endian) stand before the rest.

use super::seed::Seed;

const HEAD: usize = 16;

/// The most bytes of one.
pub const MOST: usize = 64 << 20;

/// The artifact of a name, `size` bytes long (at least its head, at most [`MOST`]).
pub fn of(name: &str, size: usize) -> Vec<u8> {
    let size = size.clamp(HEAD, MOST);
    let mut seed = Seed::new(checksum(name.as_bytes()));
    let mut rest = Vec::with_capacity(size);
    while rest.len() < size - HEAD {
        rest.extend_from_slice(&seed.number().to_be_bytes());
    }
    rest.truncate(size - HEAD);
    let mut all = (size as u64).to_be_bytes().to_vec();
    all.extend_from_slice(&checksum(&rest).to_be_bytes());
    all.append(&mut rest);
    all
}

/// Whether these bytes are an artifact, all of it, and undamaged.
pub fn is_whole(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    let Some((sum, rest)) = rest.split_first_chunk::<8>() else { return false };
    u64::from_be_bytes(*length) == bytes.len() as u64 && u64::from_be_bytes(*sum) == checksum(rest)
}

/// FNV-1a, 64 bits: against accidents, not against people.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_or_a_changed_byte_is_not_whole() {
        let whole = of("kernel", 1000);
        assert_eq!(whole.len(), 1000);
        assert!(is_whole(&whole));
        assert!((0..1000).all(|n| !is_whole(&whole[..n])));
        for at in [0, 8, 16, 999] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(!is_whole(&damaged), "{at}");
        }
        assert_eq!(of("kernel", 1000), whole);
        assert_ne!(of("initrd", 1000), whole);
    }
}
