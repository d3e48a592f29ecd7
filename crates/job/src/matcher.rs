//! All patterns of a job, searched in the lines of a console in one pass.
//!
//! One lazy automaton knows all patterns; it reads each line once, whatever their number. Where every pattern has texts
//! that its lines must hold ([`necessary_literals`]) lines without any of them are not even read: a search for the texts,
//! many bytes at a time, runs over them. What automata cannot do (look-around, back references) they only narrow down; the
//! lines that are left are searched by the backtracking engine. What is found is what Python's `re.search` finds in each
//! line by itself, and the tests hold it against searching one pattern after the other.

mod lines;

use std::{collections::BTreeSet, fmt, ops::Range, sync::Arc};

use aho_corasick::AhoCorasick;
use memchr::{memchr, memrchr};
use regex_automata::{
    Input, MatchKind, PatternSet,
    hybrid::dfa::{self, DFA},
    nfa::thompson::pikevm::{self, PikeVM},
};

pub(crate) use self::lines::{Lines, is_longest_line};
use crate::{
    ConsolePatterns, Pattern,
    pattern::{automaton, necessary_literals},
};

/// The longest line, bytes.
pub const MAX_LINE: usize = 64 * 1024;

/// What our initramfs prints once its userspace runs.
const USERSPACE: &str = r"farmgate\.stage=userspace";

/// Bytes that the states of the lazy automaton may take; beyond it begins anew.
const DFA_MEMORY: usize = 4 << 20;

/// Texts that are searched before the patterns at most: more are no faster than the automaton.
const MAX_LITERALS: usize = 500;

/// With more than one candidate in so many bytes, looking for texts first is a waste.
const BYTES_PER_CANDIDATE: usize = 160;

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

/// A line in which something was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The line, in the block.
    pub(crate) line: Range<usize>,
    pub(crate) patterns: Vec<PatternName>,
    /// Patterns whose search was given up.
    pub(crate) too_expensive: Vec<PatternName>,
    /// The userspace of our initramfs announces itself.
    pub(crate) userspace: bool,
}

/// The patterns of one run, with the memory that a search needs.
pub(crate) struct Matcher {
    set: Arc<Set>,
    states: dfa::Cache,
    threads: Option<Box<pikevm::Cache>>,
    matched: PatternSet,
}

struct Set {
    /// In the order of the automaton's pattern numbers; the last, without a name, is [`USERSPACE`].
    patterns: Vec<(Option<PatternName>, Pattern)>,
    dfa: DFA,
    /// For lines on which the lazy automaton gives up.
    nfa: PikeVM,
    literals: Option<AhoCorasick>,
}

impl Matcher {
    pub(crate) fn new(patterns: &ConsolePatterns) -> Self {
        let set = Arc::new(Set::new(named(patterns)));
        Self::of(set)
    }

    fn of(set: Arc<Set>) -> Self {
        let (states, matched) = (set.dfa.create_cache(), PatternSet::new(set.patterns.len()));
        Self { set, states, threads: None, matched }
    }

    /// The first line that begins at or after `from` in which something is found.
    ///
    /// `block` is whole lines, or one line without its end, and `from` the beginning of one.
    pub(crate) fn find(&mut self, block: &[u8], mut from: usize, given_up: &BTreeSet<String>) -> Option<Hit> {
        let set = Arc::clone(&self.set);
        let (begin, mut candidates) = (from, 0);
        while from < block.len() {
            let looks_for_literals = candidates * BYTES_PER_CANDIDATE <= from - begin;
            if let Some(literals) = set.literals.as_ref().filter(|_| looks_for_literals) {
                let at = from + literals.find(&block[from..])?.start();
                from += memrchr(b'\n', &block[from..at]).map_or(0, |newline| newline + 1);
                candidates += 1;
            }
            let end = memchr(b'\n', &block[from..]).map_or(block.len(), |newline| from + newline + 1);
            let line = &block[from..end];
            if self.may_match(line)
                && let Some(hit) = self.hit(line, from..end, given_up)
            {
                return Some(hit);
            }
            from = end;
        }
        None
    }

    fn may_match(&mut self, line: &[u8]) -> bool {
        let input = Input::new(line).earliest(true);
        match self.set.dfa.try_search_fwd(&mut self.states, &input) {
            Ok(found) => found.is_some(),
            Err(_) => {
                let threads = self.threads.get_or_insert_with(|| Box::new(self.set.nfa.create_cache()));
                self.set.nfa.search_slots(threads, &input, &mut []).is_some()
            }
        }
    }

    fn hit(&mut self, line: &[u8], at: Range<usize>, given_up: &BTreeSet<String>) -> Option<Hit> {
        self.find_all(line);
        let mut hit = Hit { line: at, patterns: Vec::new(), too_expensive: Vec::new(), userspace: false };
        for number in self.matched.iter() {
            let (name, pattern) = &self.set.patterns[number.as_usize()];
            let Some(name) = name else {
                hit.userspace = true;
                continue;
            };
            if !pattern.is_exact() && !given_up.is_empty() && given_up.contains(&name.to_string()) {
                continue;
            }
            match pattern.confirms(line) {
                Ok(true) => hit.patterns.push(name.clone()),
                Ok(false) => {}
                Err(_) => hit.too_expensive.push(name.clone()),
            }
        }
        let is_empty = hit.patterns.is_empty() && hit.too_expensive.is_empty() && !hit.userspace;
        (!is_empty).then_some(hit)
    }

    /// Which of the patterns match, as far as automata know.
    fn find_all(&mut self, line: &[u8]) {
        let input = Input::new(line);
        self.matched.clear();
        let lazily = self.set.dfa.try_which_overlapping_matches(&mut self.states, &input, &mut self.matched);
        if lazily.is_err() {
            self.matched.clear();
            let threads = self.threads.get_or_insert_with(|| Box::new(self.set.nfa.create_cache()));
            self.set.nfa.which_overlapping_matches(threads, &input, &mut self.matched);
        }
    }
}

impl Set {
    #[allow(clippy::expect_used)]
    fn new(patterns: Vec<(Option<PatternName>, Pattern)>) -> Self {
        let regular: Vec<_> = patterns.iter().map(|(_, pattern)| pattern.regular()).collect();
        let nfa = automaton(&regular, None)
            .expect("each of the patterns was compiled alone when it was read, and there is no limit here");
        let pike = PikeVM::config().match_kind(MatchKind::All);
        let lazy = DFA::config()
            .match_kind(MatchKind::All)
            .cache_capacity(DFA_MEMORY)
            .skip_cache_capacity_check(true)
            // Where states are made as fast as they are used, following the threads one by one is cheaper.
            .minimum_cache_clear_count(Some(3))
            .minimum_bytes_per_state(Some(10));
        Self {
            dfa: DFA::builder()
                .configure(lazy)
                .build_from_nfa(nfa.clone())
                .expect("without a check of its capacity nothing is left that can fail"),
            nfa: PikeVM::builder()
                .configure(pike)
                .build_from_nfa(nfa)
                .expect("it takes any automaton without Unicode words"),
            literals: literals(&patterns),
            patterns,
        }
    }
}

/// All that must be looked for so that no line of any pattern is missed; `None` where a pattern has nothing of the kind.
fn literals(patterns: &[(Option<PatternName>, Pattern)]) -> Option<AhoCorasick> {
    let mut all = BTreeSet::new();
    for (_, pattern) in patterns {
        // Nothing to miss.
        if pattern.cannot_match().is_none() {
            all.extend(necessary_literals(pattern.regular())?);
        }
    }
    if all.len() > MAX_LITERALS {
        return None;
    }
    AhoCorasick::builder().match_kind(aho_corasick::MatchKind::LeftmostFirst).build(&all).ok()
}

fn named(patterns: &ConsolePatterns) -> Vec<(Option<PatternName>, Pattern)> {
    let mut all = Vec::new();
    let mut add = |name: PatternName, pattern: Option<&Pattern>| {
        all.extend(pattern.map(|pattern| (Some(name), pattern.clone())));
    };
    add(PatternName::SessionEnd, Some(&patterns.session_end));
    add(PatternName::SessionReboot, patterns.session_reboot.as_ref());
    add(PatternName::JobSuccess, patterns.job_success.as_ref());
    add(PatternName::JobWarn, patterns.job_warn.as_ref());
    add(PatternName::MachineUnfitForService, patterns.machine_unfit_for_service.as_ref());
    for (name, watchdog) in &patterns.watchdogs {
        let named = |edge| PatternName::Watchdog { name: name.clone(), edge };
        add(named(WatchdogEdge::Start), Some(&watchdog.start));
        add(named(WatchdogEdge::Reset), watchdog.reset.as_ref());
        add(named(WatchdogEdge::Stop), watchdog.stop.as_ref());
    }
    #[allow(clippy::expect_used)]
    let userspace = Pattern::new(USERSPACE).expect("a constant, and every test of a run compiles it");
    all.push((None, userspace));
    all
}

impl Clone for Matcher {
    /// The same patterns; the memory of the searches is its own.
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.set))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.set.patterns.iter().map(|(name, pattern)| (name, pattern))).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests;
