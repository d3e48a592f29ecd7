//! What can be told of a pattern before any console speaks: that no line can match it, or that every line does.
//!
//! The first is decided by walking the pattern's automaton once, with what stands before and behind each position in
//! place of a line: that is exact for what automata know, and linear in their size.

use std::collections::HashSet;

use regex_automata::{
    Input, MatchKind,
    hybrid::dfa::{Cache, DFA},
    nfa::thompson::{NFA, State, Transition},
    util::{look::Look, primitives::StateID, syntax},
};
use regex_syntax::hir::Hir;

use super::automaton;

/// States that [`matches_every_line`] looks at before it gives up.
const MAX_STATES: usize = 500;

/// What stands on one side of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Edge,
    Newline,
    Word,
    Other,
}

const SIDES: [Side; 4] = [Side::Edge, Side::Newline, Side::Word, Side::Other];

/// What a search may pretend, to find out what is in the way.
#[derive(Debug, Clone, Copy, Default)]
struct Pretend {
    newlines_anywhere: bool,
    no_begin: bool,
    no_end: bool,
    no_words: bool,
}

const NO_ANCHORS: Pretend =
    Pretend { newlines_anywhere: false, no_begin: true, no_end: true, no_words: true };

/// See [`super::Pattern::cannot_match`]. One that is longer than a line is no pattern at all: it is too large.
pub(super) fn cannot_match(pattern: &Hir) -> Option<String> {
    let nfa = automaton(&[pattern], None).ok()?;
    let none = Pretend::default();
    if can_match(&nfa, none) {
        return None;
    }
    let obstacles = [
        (
            Pretend { newlines_anywhere: true, ..none },
            "it wants something after a newline, and a line has its newline at its very end",
        ),
        (Pretend { no_end: true, ..none }, "its `$` or `\\Z` stands where no line ends"),
        (Pretend { no_begin: true, ..none }, "its `^` or `\\A` stands where no line begins"),
        (Pretend { no_words: true, ..none }, "its `\\b` or `\\B` contradicts what stands beside it"),
        (
            NO_ANCHORS,
            "its anchors (`^`, `$`, `\\A`, `\\Z`, `\\b`) contradict each other or what stands beside them",
        ),
        (
            Pretend { newlines_anywhere: true, ..NO_ANCHORS },
            "it wants several lines, and patterns are searched in one line at a time",
        ),
    ];
    let reason = obstacles.into_iter().find(|(pretend, _)| can_match(&nfa, *pretend));
    Some(reason.map_or("it needs a character of a class that has none", |(_, reason)| reason).to_owned())
}

/// A state of the automaton, and what is around the position.
type Node = (StateID, Side, Side);

/// Is there a line that matches?
fn can_match(nfa: &NFA, pretend: Pretend) -> bool {
    let mut seen = vec![0u16; nfa.states().len()];
    let mut open: Vec<Node> = Vec::new();
    let start = nfa.start_unanchored();
    for next in following(Side::Edge, pretend) {
        // No line is empty.
        if next != Side::Edge {
            reach((start, Side::Edge, next), &mut seen, &mut open);
        }
    }
    while let Some((state, before, after)) = open.pop() {
        let step = |to: StateID, seen: &mut Vec<u16>, open: &mut Vec<Node>| {
            for next in following(after, pretend) {
                reach((to, after, next), seen, open);
            }
        };
        match nfa.state(state) {
            State::Match { .. } => return true,
            State::Fail => {}
            State::Look { look, next } => {
                if holds(*look, before, after, pretend) {
                    reach((*next, before, after), &mut seen, &mut open);
                }
            }
            State::Capture { next, .. } => reach((*next, before, after), &mut seen, &mut open),
            State::Union { alternates } => {
                for next in alternates {
                    reach((*next, before, after), &mut seen, &mut open);
                }
            }
            State::BinaryUnion { alt1, alt2 } => {
                reach((*alt1, before, after), &mut seen, &mut open);
                reach((*alt2, before, after), &mut seen, &mut open);
            }
            State::ByteRange { trans } => {
                if takes(trans, after) {
                    step(trans.next, &mut seen, &mut open);
                }
            }
            State::Sparse(sparse) => {
                for trans in sparse.transitions.iter().filter(|trans| takes(trans, after)) {
                    step(trans.next, &mut seen, &mut open);
                }
            }
            State::Dense(dense) => {
                for byte in (0..=u8::MAX).filter(|byte| side_of(*byte) == after) {
                    if let Some(next) = dense.matches_byte(byte) {
                        step(next, &mut seen, &mut open);
                    }
                }
            }
        }
    }
    false
}

fn reach(node: Node, seen: &mut [u16], open: &mut Vec<Node>) {
    let (state, before, after) = node;
    let bit = 1u16 << (4 * before as u16 + after as u16);
    let known = &mut seen[state.as_usize()];
    if *known & bit == 0 {
        *known |= bit;
        open.push(node);
    }
}

/// What can stand behind a byte.
fn following(byte: Side, pretend: Pretend) -> impl Iterator<Item = Side> {
    let is_end = byte == Side::Newline && !pretend.newlines_anywhere;
    SIDES.into_iter().filter(move |side| !is_end || *side == Side::Edge)
}

fn side_of(byte: u8) -> Side {
    match byte {
        b'\n' => Side::Newline,
        b'_' => Side::Word,
        byte if byte.is_ascii_alphanumeric() => Side::Word,
        _ => Side::Other,
    }
}

fn takes(trans: &Transition, side: Side) -> bool {
    (trans.start..=trans.end).any(|byte| side_of(byte) == side)
}

fn holds(look: Look, before: Side, after: Side, pretend: Pretend) -> bool {
    let is_border = (before == Side::Word) != (after == Side::Word);
    match look {
        Look::Start => pretend.no_begin || before == Side::Edge,
        Look::StartLF => pretend.no_begin || matches!(before, Side::Edge | Side::Newline),
        Look::End => pretend.no_end || after == Side::Edge,
        Look::EndLF => pretend.no_end || matches!(after, Side::Edge | Side::Newline),
        Look::WordAscii => pretend.no_words || is_border,
        Look::WordAsciiNegate => pretend.no_words || !is_border,
        // Python has no others.
        _ => true,
    }
}

/// See [`super::Pattern::matches_every_line`].
pub(super) fn matches_every_line(pattern: &Hir) -> bool {
    let config = DFA::config().match_kind(MatchKind::All).skip_cache_capacity_check(true);
    let dfa = automaton(&[pattern], None).ok().and_then(|nfa| {
        DFA::builder().configure(config).syntax(syntax::Config::new()).build_from_nfa(nfa).ok()
    });
    let Some(dfa) = dfa else { return false };
    let mut cache = dfa.create_cache();
    every_line_ends_in_a_match(&dfa, &mut cache).unwrap_or(false)
}

/// `None`: it would take too long to find out.
fn every_line_ends_in_a_match(dfa: &DFA, cache: &mut Cache) -> Option<bool> {
    let start = dfa.start_state_forward(cache, &Input::new(b"")).ok()?;
    let (mut seen, mut open) = (HashSet::new(), vec![start]);
    while let Some(state) = open.pop() {
        for byte in (0..=u8::MAX).filter(|byte| *byte != b'\n') {
            let next = dfa.next_state(cache, state, byte).ok()?;
            // A match before this byte; whatever follows cannot undo it.
            if next.is_match() {
                continue;
            }
            let newline = dfa.next_state(cache, next, b'\n').ok()?;
            if !newline.is_match() && !dfa.next_eoi_state(cache, newline).ok()?.is_match() {
                return Some(false);
            }
            if seen.insert(next) {
                open.push(next);
            }
            // The names of states are gone when the cache was cleared.
            if seen.len() > MAX_STATES || cache.clear_count() > 0 {
                return None;
            }
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Pattern;

    #[test]
    fn what_no_line_can_match_is_told_with_its_reason() {
        let table = [
            (r"a\nb", "after a newline"),
            (r"(?m)a$\n^b", "after a newline"),
            (r"a\n\n", "after a newline"),
            (r"END$ more", "where no line ends"),
            (r"a\Z\n", "where no line ends"),
            (r"x^END", "where no line begins"),
            (r"x\Ay", "where no line begins"),
            (r"a\bb", "`\\b`"),
            (r"a\B-", "`\\b`"),
            (r"\A\Z", "where no line ends"),
            (r"a$^b", "contradict each other"),
            (r"a\n^b$c", "several lines"),
            (r"[^\x00-\xff]", "class"),
            (r"[^\s\S]x", "class"),
            (r"(?!x)a\nb", "after a newline"),
            (r"(a)\1$b", "where no line ends"),
        ];
        for (pattern, reason) in table {
            let told = Pattern::new(pattern).unwrap().cannot_match();
            assert!(told.as_ref().is_some_and(|t| t.contains(reason)), "{pattern}: {told:?}");
        }
        let fine = [
            "a",
            "",
            "^",
            "$",
            r"^$",
            r"a$",
            r"a$\n",
            r"a\r$",
            r"a\n",
            r"a\n\Z",
            r"\n$",
            r"x*^a",
            r"a$b?",
            r"\bok\b",
            r"(?m)^a",
            r"[^\n]*\n",
            r"(a|\nb)",
            r"a{1000}",
            r"\w\b\W",
            r"(?<=a)b",
        ];
        for pattern in fine {
            assert_eq!(Pattern::new(pattern).unwrap().cannot_match(), None, "{pattern}");
        }
    }

    #[test]
    fn what_matches_every_line_is_told() {
        for pattern in [
            "", ".*", ".", ".+", "^", "$", r"^.*$", r"\s", r"\r?$", "(x|)", "[^x]|x", r"\n", r"(?s).$", "^a*",
        ] {
            assert!(Pattern::new(pattern).unwrap().matches_every_line(), "{pattern}");
        }
        for pattern in ["a", "..", r"\S", r"\r$", "^x*$", r"\d*x", r"\b", "(?=a).*", r"a\nb"] {
            assert!(!Pattern::new(pattern).unwrap().matches_every_line(), "{pattern}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn what_cannot_match_never_does_and_what_always_matches_always_does(
            pattern in crate::matcher::tests::patterns(),
            lines in proptest::collection::vec(crate::matcher::tests::lines(), 1..8),
        ) {
            if let Ok(pattern) = Pattern::new(&pattern) {
                let (never, always) = (pattern.cannot_match(), pattern.matches_every_line());
                prop_assert!(never.is_none() || !always);
                for mut line in lines {
                    let matches = pattern.matches(&line);
                    prop_assert!(never.is_none() || matches != Ok(true), "{pattern:?} in {line:?}: {never:?}");
                    if line.last() != Some(&b'\n') {
                        line.push(b'\n');
                    }
                    prop_assert!(!always || line.len() < 2 || pattern.matches(&line) == Ok(true), "{pattern:?} in {line:?}");
                }
            }
        }
    }
}
