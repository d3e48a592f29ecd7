//! Base 85 with the alphabet of RFC 1924, as Python's `base64.b85encode` writes it: four bytes are five digits,
//! a last group of `n` bytes is `n + 1` digits. Carries console bytes inside JSON.

const ALPHABET: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

const fn digits() -> [u8; 256] {
    let mut table = [255; 256];
    let mut i = 0;
    while i < 85 {
        table[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    table
}
static DIGITS: [u8; 256] = digits();

/// The text holds something that is not base 85.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not base 85 (RFC 1924 alphabet) at byte {at}")]
pub struct Base85Error {
    /// Offset in bytes of the digit, or of the start of the group, that is wrong.
    pub at: usize,
}

/// Bytes to text.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(4) * 5);
    for group in bytes.chunks(4) {
        let mut padded = [0; 4];
        padded[..group.len()].copy_from_slice(group);
        let mut value = u32::from_be_bytes(padded);
        let mut out = [0; 5];
        for digit in out.iter_mut().rev() {
            *digit = ALPHABET[(value % 85) as usize];
            value /= 85;
        }
        text.extend(out[..=group.len()].iter().map(|&b| char::from(b)));
    }
    text
}

/// Text to bytes.
///
/// # Errors
/// A character outside the alphabet, a lone last digit, or a group that exceeds 32 bits.
pub fn decode(text: &str) -> Result<Vec<u8>, Base85Error> {
    let mut bytes = Vec::with_capacity(text.len().div_ceil(5) * 4);
    for (index, group) in text.as_bytes().chunks(5).enumerate() {
        let start = index * 5;
        if group.len() == 1 {
            return Err(Base85Error { at: start });
        }
        let mut value: u64 = 0;
        for position in 0..5 {
            let digit = match group.get(position) {
                Some(&b) => DIGITS[b as usize],
                None => 84,
            };
            if digit == 255 {
                return Err(Base85Error { at: start + position });
            }
            value = value * 85 + u64::from(digit);
        }
        let value = u32::try_from(value).map_err(|_| Base85Error { at: start })?;
        bytes.extend_from_slice(&value.to_be_bytes()[..group.len() - 1]);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_agrees_with_python() {
        // python3 -c 'import base64; print(base64.b85encode(b"..."))'
        assert_eq!(encode(b"hello world"), "Xk~0{Zy<MXa%^M");
        assert_eq!(encode(b"\x00\xff\n\r"), "0RIXN");
        assert_eq!(encode(b""), "");
        assert_eq!(decode("Xk~0{Zy<MXa%^M").unwrap(), b"hello world");
    }

    #[test]
    fn what_is_not_base_85_is_refused_with_its_place() {
        assert_eq!(decode("Xk~0{\"aaaa").unwrap_err().at, 5);
        assert_eq!(decode("~~~~~").unwrap_err().at, 0);
        assert_eq!(decode("Xk~0{X").unwrap_err().at, 5);
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = decode(&text);
        }
    }
}
