//! From bytes to lines: blocks of whole lines, and the beginning of one that has not ended yet.

use std::borrow::Cow;

use memchr::{memchr, memrchr};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::MAX_LINE;

/// The bytes of a line that has not ended yet: less than [`MAX_LINE`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes the next block off the input, or keeps what there is of a line: whole lines, at most [`MAX_LINE`] bytes in
    /// all; or a piece of that size of a line that is longer. The lines do not depend on how the input is cut.
    pub(crate) fn next_block<'a>(&mut self, input: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let window = &input[..input.len().min(MAX_LINE - self.rest.len())];
        // Only the first line belongs to what was kept.
        let newline = if self.rest.is_empty() { memrchr(b'\n', window) } else { memchr(b'\n', window) };
        let end = match newline {
            Some(at) => at + 1,
            None if self.rest.len() + window.len() == MAX_LINE => window.len(),
            None => {
                self.rest.extend_from_slice(window);
                *input = &[];
                return None;
            }
        };
        let (block, rest) = input.split_at(end);
        *input = rest;
        if self.rest.is_empty() {
            return Some(Cow::Borrowed(block));
        }
        self.rest.extend_from_slice(block);
        Some(Cow::Owned(std::mem::take(&mut self.rest)))
    }

    /// Forgets the line that has not ended.
    pub(crate) fn clear(&mut self) {
        self.rest.clear();
    }
}

/// Whether a block is a line, or a piece of one, of the greatest length.
pub(crate) fn is_longest_line(block: &[u8]) -> bool {
    block.len() >= MAX_LINE && memchr(b'\n', block).is_none_or(|at| at + 1 == block.len())
}

impl Serialize for Lines {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&farmgate_protocol::base85::encode(&self.rest))
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut rest =
            farmgate_protocol::base85::decode(&String::deserialize(d)?).map_err(serde::de::Error::custom)?;
        // Less than a line, whatever was stored.
        rest.truncate(MAX_LINE - 1);
        Ok(Self { rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(block) = lines.next_block(&mut input) {
                assert!(!block.is_empty() && block.len() <= MAX_LINE);
                all.extend(block.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec));
            }
        }
        (all, lines.rest)
    }

    #[test]
    fn a_line_that_never_ends_is_cut_at_the_limit() {
        let bytes = vec![b'x'; MAX_LINE * 2 + 10];
        for size in [1000, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, bytes.len()] {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let (lines, rest) = split(&pieces);
            assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, MAX_LINE], "{size}");
            assert_eq!(rest.len(), 10);
        }
    }

    #[test]
    fn only_a_line_of_the_greatest_length_is_one() {
        let mut block = vec![b'x'; MAX_LINE];
        assert!(is_longest_line(&block) && !is_longest_line(&block[1..]));
        block[MAX_LINE - 1] = b'\n';
        assert!(is_longest_line(&block));
        block[17] = b'\n';
        assert!(!is_longest_line(&block));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_bytes_are_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
            stretched in proptest::option::of((0usize..200, MAX_LINE - 300..MAX_LINE * 2)),
        ) {
            // Some have a line that is too long.
            let mut bytes = bytes;
            if let Some((at, length)) = stretched {
                let at = at.min(bytes.len());
                bytes.splice(at..at, std::iter::repeat_n(b'x', length));
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c * bytes.len() / 200).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let (lines, rest) = split(&pieces);
            prop_assert_eq!(&(lines.clone(), rest.clone()), &split(&[&bytes]));
            let whole: Vec<u8> = lines.concat().into_iter().chain(rest).collect();
            prop_assert!(whole == bytes);
            for line in lines {
                let newline = line.iter().position(|b| *b == b'\n');
                prop_assert!(newline == Some(line.len() - 1) || newline.is_none() && line.len() == MAX_LINE);
            }
        }
    }
}
