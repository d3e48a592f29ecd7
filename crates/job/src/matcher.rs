//! From console bytes to lines, and from a line to the patterns found in it.
//!
//! The result does not depend on how the bytes are cut into pieces. A line keeps its `\r` and its `\n`. Beyond
//! [`MAX_LINE`] what there is counts as a line, so that a DUT that never ends one cannot fill the memory.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ConsolePatterns;

/// The longest line, bytes.
pub const MAX_LINE: usize = 64 * 1024;

/// What our initramfs prints once its userspace runs.
const USERSPACE: &[u8] = b"farmgate.stage=userspace";

/// Which pattern of a watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the documentation
pub enum WatchdogEdge {
    Start,
    Reset,
    Stop,
}

/// Which pattern of a job; its display is the name that clients see.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the names are those of the job's fields
pub enum PatternName {
    SessionEnd,
    SessionReboot,
    JobSuccess,
    JobWarn,
    MachineUnfitForService,
    Watchdog { name: String, edge: WatchdogEdge },
}

impl fmt::Display for PatternName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionEnd => f.write_str("session_end"),
            Self::SessionReboot => f.write_str("session_reboot"),
            Self::JobSuccess => f.write_str("job_success"),
            Self::JobWarn => f.write_str("job_warn"),
            Self::MachineUnfitForService => f.write_str("machine_unfit_for_service"),
            Self::Watchdog { name, edge: WatchdogEdge::Start } => write!(f, "{name}.start"),
            Self::Watchdog { name, edge: WatchdogEdge::Reset } => write!(f, "{name}.reset"),
            Self::Watchdog { name, edge: WatchdogEdge::Stop } => write!(f, "{name}.stop"),
        }
    }
}

/// What was found in a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) patterns: Vec<PatternName>,
    /// Patterns whose search was given up.
    pub(crate) too_expensive: Vec<PatternName>,
}

/// All patterns that match the line, but for those that were given up.
pub(crate) fn search(patterns: &ConsolePatterns, given_up: &BTreeSet<String>, line: &[u8]) -> Found {
    let mut found = Found::default();
    let mut one = |pattern: Option<&crate::Pattern>, name: &dyn Fn() -> PatternName| {
        if !given_up.is_empty() && given_up.contains(&name().to_string()) {
            return;
        }
        match pattern.map(|p| p.matches(line)) {
            Some(Ok(true)) => found.patterns.push(name()),
            Some(Err(_)) => found.too_expensive.push(name()),
            Some(Ok(false)) | None => {}
        }
    };
    one(Some(&patterns.session_end), &|| PatternName::SessionEnd);
    one(patterns.session_reboot.as_ref(), &|| PatternName::SessionReboot);
    one(patterns.job_success.as_ref(), &|| PatternName::JobSuccess);
    one(patterns.job_warn.as_ref(), &|| PatternName::JobWarn);
    one(patterns.machine_unfit_for_service.as_ref(), &|| PatternName::MachineUnfitForService);
    for (name, watchdog) in &patterns.watchdogs {
        let named = |edge| PatternName::Watchdog { name: name.clone(), edge };
        one(Some(&watchdog.start), &|| named(WatchdogEdge::Start));
        one(watchdog.reset.as_ref(), &|| named(WatchdogEdge::Reset));
        one(watchdog.stop.as_ref(), &|| named(WatchdogEdge::Stop));
    }
    found
}

/// Does the line announce the userspace of our initramfs?
pub(crate) fn announces_userspace(line: &[u8]) -> bool {
    line.windows(USERSPACE.len()).any(|window| window == USERSPACE)
}

/// The bytes of a line that has not ended yet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes the next line off the input, or keeps what there is of it.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let window = &input[..input.len().min(MAX_LINE - self.rest.len())];
        let end = match window.iter().position(|b| *b == b'\n') {
            Some(at) => at + 1,
            None if self.rest.len() + window.len() == MAX_LINE => window.len(),
            None => {
                self.rest.extend_from_slice(window);
                *input = &[];
                return None;
            }
        };
        let (line, rest) = input.split_at(end);
        *input = rest;
        if self.rest.is_empty() {
            return Some(Cow::Borrowed(line));
        }
        self.rest.extend_from_slice(line);
        Some(Cow::Owned(std::mem::take(&mut self.rest)))
    }

    /// Forgets the line that has not ended.
    pub(crate) fn clear(&mut self) {
        self.rest.clear();
    }
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
            while let Some(line) = lines.next(&mut input) {
                all.push(line.into_owned());
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

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_bytes_are_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let (lines, rest) = split(&pieces);
            prop_assert_eq!(&(lines.clone(), rest.clone()), &split(&[&bytes]));
            let whole: Vec<u8> = lines.concat().into_iter().chain(rest).collect();
            prop_assert_eq!(whole, bytes);
            for line in lines {
                prop_assert_eq!(line.iter().position(|b| *b == b'\n'), Some(line.len() - 1));
            }
        }
    }
}
