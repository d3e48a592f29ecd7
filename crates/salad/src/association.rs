//! Whose console is it? Pure: what a console's bytes announce, and who wins when two claim one machine.
//!
//! [`Scanner`] finds announcements in a stream that arrives in pieces of any size. [`decide`] is the safety rule:
//! a machine that prints another's id must not take that machine's stream while the other one is connected.

use std::net::IpAddr;

use crate::machine_id::MAX_ID;

const MACHINE_MARK: &[u8] = b"SALAD.machine_id=";
const PING_MARK: &[u8] = b"SALAD.ping";

/// Something that a console said to SALAD.
///
/// `at` is the index, in the piece that was pushed, of the first byte that comes after the announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// It named its machine. The bytes are not checked yet; at most 129 of a longer run are kept.
    Machine {
        /// The id, a run of characters other than blanks and control characters.
        id: Vec<u8>,
        /// Index of the first byte after the id.
        at: usize,
    },
    /// A line ended in `SALAD.ping`.
    Ping {
        /// Index of the first byte of the next line.
        at: usize,
    },
}

/// Finds announcements in a stream of bytes.
#[derive(Debug, Default)]
pub struct Scanner {
    machine: MachineState,
    ping: PingState,
}

#[derive(Debug)]
enum MachineState {
    /// This many bytes of the mark were seen.
    Mark(usize),
    /// The id so far.
    Id(Vec<u8>),
}

impl Default for MachineState {
    fn default() -> Self {
        Self::Mark(0)
    }
}

#[derive(Debug)]
enum PingState {
    /// This many bytes of the mark were seen.
    Mark(usize),
    /// The whole mark and any number of `\r`.
    LineEnd,
}

impl Default for PingState {
    fn default() -> Self {
        Self::Mark(0)
    }
}

/// How many bytes of `mark` are matched after one more byte. Both marks begin with their only `S`, so a match that
/// fails can only begin anew at that very byte.
fn advance(mark: &[u8], matched: usize, byte: u8) -> usize {
    if mark.get(matched) == Some(&byte) { matched + 1 } else { usize::from(byte == b'S') }
}

impl Scanner {
    /// What these next bytes of the stream announce, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Announcement> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if self.is_idle() {
                match bytes[at..].iter().position(|b| *b == b'S') {
                    Some(skip) => at += skip,
                    None => break,
                }
            }
            let byte = bytes[at];
            if let Some(id) = self.machine.step(byte) {
                found.push(Announcement::Machine { id, at });
            }
            at += 1;
            if self.ping.step(byte) {
                found.push(Announcement::Ping { at });
            }
        }
        found
    }

    /// Nothing is half matched, so only an `S` can begin something.
    fn is_idle(&self) -> bool {
        matches!((&self.machine, &self.ping), (MachineState::Mark(0), PingState::Mark(0)))
    }
}

impl MachineState {
    fn step(&mut self, byte: u8) -> Option<Vec<u8>> {
        match self {
            Self::Mark(matched) => {
                *matched = advance(MACHINE_MARK, *matched, byte);
                if *matched == MACHINE_MARK.len() {
                    *self = Self::Id(Vec::new());
                }
                None
            }
            Self::Id(id) if byte.is_ascii_whitespace() || byte.is_ascii_control() => {
                let id = std::mem::take(id);
                *self = Self::Mark(0);
                (!id.is_empty()).then_some(id)
            }
            Self::Id(id) => {
                if id.len() <= MAX_ID {
                    id.push(byte);
                }
                None
            }
        }
    }
}

impl PingState {
    fn step(&mut self, byte: u8) -> bool {
        match self {
            Self::LineEnd if byte == b'\r' => false,
            Self::LineEnd => {
                *self = Self::Mark(usize::from(byte == b'S'));
                byte == b'\n'
            }
            Self::Mark(matched) => {
                *matched = advance(PING_MARK, *matched, byte);
                if *matched == PING_MARK.len() {
                    *self = Self::LineEnd;
                }
                false
            }
        }
    }
}

/// A console that says which machine it speaks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    /// Where it connects from.
    pub(crate) peer: IpAddr,
    /// It speaks for another machine already.
    pub(crate) has_another: bool,
}

/// May the newcomer have the machine?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nobody has it.
    Take,
    /// Yes, and the present one loses it.
    Supersede,
    /// The present one is connected and somebody else.
    Refuse,
}

/// The rule; `present` is the address of the console that has the machine now. A new connection from the same address
/// is the machine's own (all virtual machines of a vPDU share one address, and a restarted one connects anew before
/// its old connection is known to be dead), but not one that speaks for another machine: that is a machine which says
/// the name of its neighbour. This host is believed before the network, where a machine may have connected in the name
/// of one that was off. Silence proves nothing: a test may say nothing for an hour, so whoever is connected keeps its
/// machine. A connection whose other end is gone is found out and closed.
pub(crate) fn decide(present: Option<IpAddr>, claim: Claim) -> Decision {
    match present {
        None => Decision::Take,
        Some(_) if claim.has_another => Decision::Refuse,
        Some(present) if present == claim.peer => Decision::Supersede,
        Some(present) if claim.peer.is_loopback() && !present.is_loopback() => Decision::Supersede,
        Some(_) => Decision::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the rules say of a whole stream, written without any state: `(end, announcement)`.
    fn by_definition(stream: &[u8]) -> Vec<(usize, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(start) = stream[at..].windows(MACHINE_MARK.len()).position(|w| w == MACHINE_MARK) {
            let id = at + start + MACHINE_MARK.len();
            let ends = |b: &u8| b.is_ascii_whitespace() || b.is_ascii_control();
            let Some(length) = stream[id..].iter().position(ends) else { break };
            at = id + length;
            if length > 0 {
                found.push((at, Some(stream[id..at].iter().copied().take(MAX_ID + 1).collect())));
            }
        }
        for (end, _) in stream.iter().enumerate().filter(|(_, b)| **b == b'\n') {
            let mut line = &stream[..end];
            while let Some(shorter) = line.strip_suffix(b"\r") {
                line = shorter;
            }
            if line.ends_with(PING_MARK) {
                found.push((end + 1, None));
            }
        }
        found.sort();
        found
    }

    fn scan(pieces: &[&[u8]]) -> Vec<(usize, Option<Vec<u8>>)> {
        let mut scanner = Scanner::default();
        let mut found = Vec::new();
        let mut before = 0;
        for piece in pieces {
            found.extend(scanner.push(piece).into_iter().map(|a| match a {
                Announcement::Machine { id, at } => (before + at, Some(id)),
                Announcement::Ping { at } => (before + at, None),
            }));
            before += piece.len();
        }
        found
    }

    #[test]
    fn an_id_is_taken_only_when_it_is_whole() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.push(b"ipxe> SALAD.machine_id=52:54:0"), vec![]);
        assert_eq!(scanner.push(b"0:11"), vec![]);
        assert_eq!(
            scanner.push(b"\r\nnext"),
            vec![Announcement::Machine { id: b"52:54:00:11".to_vec(), at: 0 }]
        );
    }

    #[test]
    fn a_ping_may_follow_garbage_and_must_end_its_line() {
        assert_eq!(scan(&[b"\xffgarbSALAD.ping\r\n"]), vec![(17, None)]);
        assert_eq!(scan(&[b"SALAD.ping\n"]), vec![(11, None)]);
        assert_eq!(scan(&[b"SALAD.pings\n", b"SALAD.ping \n", b"SALAD.pong\n"]), vec![]);
        assert_eq!(scan(&[b"SALAD.pinSALAD.ping\n"]), vec![(20, None)]);
    }

    #[test]
    fn an_endless_id_costs_no_memory() {
        let mut scanner = Scanner::default();
        scanner.push(MACHINE_MARK);
        for _ in 0..1000 {
            assert_eq!(scanner.push(&[b'a'; 1000]), vec![]);
        }
        let found = scanner.push(b"\n");
        assert!(matches!(&found[..], [Announcement::Machine { id, .. }] if id.len() == MAX_ID + 1));
    }

    #[test]
    fn a_connected_machine_keeps_its_stream_against_others() {
        let (mine, other): (IpAddr, IpAddr) = ([10, 42, 0, 2].into(), [10, 42, 0, 3].into());
        let host = IpAddr::from([127, 0, 0, 1]);
        for (present, peer, has_another, expected) in [
            (None, other, false, Decision::Take),
            (None, other, true, Decision::Take),
            (Some(mine), mine, false, Decision::Supersede),
            (Some(mine), mine, true, Decision::Refuse),
            (Some(mine), other, false, Decision::Refuse),
            (Some(mine), host, false, Decision::Supersede),
            (Some(mine), host, true, Decision::Refuse),
            (Some(host), mine, false, Decision::Refuse),
            (Some(host), host, false, Decision::Supersede),
            (Some(host), host, true, Decision::Refuse),
        ] {
            let decided = decide(present, Claim { peer, has_another });
            assert_eq!(decided, expected, "{present:?} {peer} {has_another}");
        }
    }

    /// Streams made of what matters: parts of marks, ids, line ends, noise.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just(b"SALAD.machine_id=".to_vec()),
            Just(b"SALAD.ping".to_vec()),
            Just(b"SALAD.".to_vec()),
            Just(b"S".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"52:54:00".to_vec()),
            Just(b" ".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(word, 0..30).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_announces_the_same(stream in streams(), cuts in proptest::collection::vec(0usize..200, 0..20)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            prop_assert_eq!(scan(&pieces), by_definition(&stream));
        }
    }
}
