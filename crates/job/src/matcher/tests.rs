//! The fast way finds what the slow way finds: one pattern after the other, in one line after the other.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::WatchdogPatterns;

/// Patterns of all that the language has, over few characters, so that they often match.
pub(crate) fn patterns() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "ab", "END", "panic", " ", "1", ".", "_"]),
        4 => prop::sample::select(vec![r"\n", r"\r", r"\w", r"\d", r"\s", r"\S", "[ab]", "[^a]", r"\xff", "[^\n]"]),
        3 => prop::sample::select(vec!["^", "$", r"\b", r"\B", r"\A", r"\Z", "(?:)", "()"]),
    ]
    .prop_map(str::to_owned);
    let tree = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            4 => vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(?:{a}|{b})")),
            2 => (inner.clone(), prop::sample::select(vec!["*", "+", "?", "*?", "{2}", "{,3}", "{1,}"]))
                .prop_map(|(a, times)| format!("(?:{a}){times}")),
            1 => inner.clone().prop_map(|a| format!("({a})")),
            1 => (inner.clone(), prop::sample::select(vec!["(?=", "(?!", "(?>", "(?i:", "(?s:", "(?m:"]))
                .prop_map(|(a, open)| format!("{open}{a})")),
            1 => prop::sample::select(vec!["(?<=a)", "(?<!a)", "(?<!ab|1b)", r"(a|b)\1", "(?P<x>.)(?P=x)", "a++", "(?:ab)?+"])
                .prop_map(str::to_owned),
        ]
    });
    (prop::sample::select(vec!["", "", "", "(?i)", "(?m)", "(?s)", "(?x)"]), tree)
        .prop_map(|(flags, tree)| flags.to_owned() + &tree)
}

fn words() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "a", "b", "A", "ab", "aab", "END", "end", "panic", "PANIC", " ", "1", "_", "-", "\r", "abab",
    ]);
    prop_oneof![9 => word.prop_map(|w| w.as_bytes().to_vec()), 1 => vec(any::<u8>(), 1..3)]
}

/// A line, with or without its end, never empty.
pub(crate) fn lines() -> impl Strategy<Value = Vec<u8>> {
    (vec(words(), 0..8), any::<bool>()).prop_map(|(words, ended)| {
        let mut line: Vec<u8> = words.concat().into_iter().filter(|b| *b != b'\n').collect();
        if ended || line.is_empty() {
            line.push(b'\n');
        }
        line
    })
}

fn set_of(patterns: &[Pattern]) -> ConsolePatterns {
    let watchdogs = patterns.iter().enumerate().skip(1).map(|(number, pattern)| {
        (format!("{number:02}"), WatchdogPatterns { start: pattern.clone(), reset: None, stop: None })
    });
    ConsolePatterns {
        session_end: patterns[0].clone(),
        session_reboot: None,
        job_success: None,
        job_warn: None,
        machine_unfit_for_service: None,
        watchdogs: watchdogs.collect::<BTreeMap<_, _>>(),
    }
}

fn name(number: usize) -> PatternName {
    match number {
        0 => PatternName::SessionEnd,
        number => PatternName::Watchdog { name: format!("{number:02}"), edge: WatchdogEdge::Start },
    }
}

/// Lines in which something is found.
type Told = Vec<(Vec<u8>, Vec<PatternName>)>;

/// Also the patterns whose search was given up on some line.
fn slowly(patterns: &[Pattern], text: &[u8]) -> (Told, BTreeSet<usize>) {
    let (mut told, mut expensive) = (Vec::new(), BTreeSet::new());
    for line in text.split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n")) {
        let mut found = Vec::new();
        for (number, pattern) in patterns.iter().enumerate() {
            match pattern.matches(line) {
                Ok(true) => found.push(name(number)),
                Ok(false) => {}
                Err(_) => _ = expensive.insert(number),
            }
        }
        if !found.is_empty() {
            told.push((line.to_vec(), found));
        }
    }
    (told, expensive)
}

fn fast(matcher: &mut Matcher, text: &[u8], pieces: usize) -> Told {
    let (mut told, mut lines) = (Vec::new(), Lines::default());
    for mut piece in text.chunks(pieces) {
        while let Some(block) = lines.next_block(&mut piece) {
            let mut at = 0;
            while let Some(hit) = matcher.find(&block, at, &BTreeSet::new()) {
                at = hit.line.end;
                if !hit.patterns.is_empty() {
                    told.push((block[hit.line].to_vec(), hit.patterns));
                }
            }
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_way_finds_what_the_slow_way_finds(
        texts in vec(patterns(), 1..6),
        console in vec(lines(), 0..40),
        pieces in prop_oneof![1usize..40, Just(usize::MAX)],
        literal_only in any::<bool>(),
    ) {
        // Half of them only with patterns that have a text to look for: else it is rarely looked for.
        let mut usable: Vec<Pattern> = texts.iter().filter_map(|text| Pattern::new(text).ok()).collect();
        if literal_only {
            usable.retain(|pattern| necessary_literals(pattern.regular()).is_some());
        }
        prop_assume!(!usable.is_empty());
        let text = console.concat();
        let (expected, expensive) = slowly(&usable, &text);
        prop_assume!(expensive.is_empty());
        let mut matcher = Matcher::new(&set_of(&usable));
        prop_assert_eq!(&fast(&mut matcher, &text, pieces), &expected);
        // Without the literals and with what its automaton remembers, too.
        let mut all: Vec<_> = usable.iter().enumerate().map(|(n, p)| (Some(name(n)), p.clone())).collect();
        let mut set = Set::new(std::mem::take(&mut all));
        set.literals = None;
        let mut matcher = Matcher::of(Arc::new(set));
        prop_assert_eq!(&fast(&mut matcher, &text, pieces), &expected);
        prop_assert_eq!(&fast(&mut matcher, &text, usize::MAX), &expected);
    }
}

#[test]
fn all_patterns_of_a_line_are_found_in_their_order() {
    let patterns: Vec<Pattern> =
        ["b$", "^a", "(?<!x)a", "q", "a.*b"].map(|p| Pattern::new(p).unwrap()).into();
    let mut matcher = Matcher::new(&set_of(&patterns));
    let hit = matcher.find(b"zzz\nfarmgate.stage=userspace a b\nc\n", 0, &BTreeSet::new()).unwrap();
    assert_eq!((hit.line, hit.userspace), (4..33, true));
    assert_eq!(hit.patterns, [name(0), name(2), name(4)]);
    let given_up = BTreeSet::from([name(2).to_string()]);
    let hit = matcher.find(b"ab\n", 0, &given_up).unwrap();
    assert_eq!(hit.patterns, [name(0), name(1), name(4)], "one that was given up is not searched");
    assert_eq!(matcher.find(b"zzz\nyyy", 0, &given_up), None);
}

#[test]
fn a_text_that_crosses_the_cut_of_a_long_line_is_in_neither_piece() {
    let pattern = [Pattern::new("needle").unwrap()];
    let mut text = vec![b'x'; MAX_LINE - 3];
    text.extend(b"needle needle\n");
    let mut matcher = Matcher::new(&set_of(&pattern));
    let found = fast(&mut matcher, &text, usize::MAX);
    assert_eq!(found, [(b"dle needle\n".to_vec(), vec![name(0)])]);
}

#[test]
fn an_automaton_that_gives_up_is_no_reason_to_miss_a_line() {
    // So many states that the lazy automaton throws them away again and again.
    let patterns: Vec<Pattern> =
        ["a[ab]{400}c", "b[ab]{300}c", "[ab]{200}d"].map(|p| Pattern::new(p).unwrap()).into();
    let mut seed = 1u32;
    let mut text: Vec<u8> = (0..MAX_LINE - 10)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if seed >> 31 == 0 { b'a' } else { b'b' }
        })
        .collect();
    text.extend(b"c\n");
    let mut set = Set::new(patterns.iter().enumerate().map(|(n, p)| (Some(name(n)), p.clone())).collect());
    let small =
        DFA::config().match_kind(MatchKind::All).cache_capacity(64 << 10).skip_cache_capacity_check(true);
    let small = small.minimum_cache_clear_count(Some(1)).minimum_bytes_per_state(Some(1000));
    set.dfa = DFA::builder().configure(small).build_from_nfa(set.nfa.get_nfa().clone()).unwrap();
    let mut matcher = Matcher::of(Arc::new(set));
    let found = fast(&mut matcher, &text, usize::MAX);
    assert!(matcher.threads.is_some(), "it gave up");
    assert_eq!(found, slowly(&patterns, &text).0);
}
