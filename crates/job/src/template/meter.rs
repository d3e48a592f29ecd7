//! What one rendering may take: steps, memory and work.
//!
//! Everything a template makes is counted before it is made, and nothing that is counted is ever given back: so the
//! sum bounds the memory at every moment. Work that makes nothing (comparing, searching) is counted in bytes.

use super::failure::{Failure, Outcome};

/// Steps: each expression, statement, item of a loop. A job of some hundred lines takes some thousand.
pub(crate) const MAX_STEPS: usize = 500_000;
/// Bytes of texts, lists and mappings that a template makes in all.
pub(crate) const MAX_MADE: usize = 64 << 20;
/// Bytes that are looked through.
pub(crate) const MAX_SCANNED: usize = 256 << 20;

/// What is left.
#[derive(Debug)]
pub(crate) struct Meter {
    steps: usize,
    made: usize,
    scanned: usize,
}

impl Default for Meter {
    fn default() -> Self {
        Self { steps: MAX_STEPS, made: MAX_MADE, scanned: MAX_SCANNED }
    }
}

impl Meter {
    /// Some steps.
    pub(crate) fn step(&mut self, steps: usize) -> Outcome<()> {
        take(&mut self.steps, steps, || {
            Failure::limit("the template takes too many steps")
                .helped("a loop runs over too much; a job's template should take some thousand steps")
        })
    }

    /// Memory, before it is taken.
    pub(crate) fn make(&mut self, bytes: usize) -> Outcome<()> {
        take(&mut self.made, bytes, || {
            Failure::limit(format!("the template makes values of more than {} MiB", MAX_MADE >> 20))
                .helped("a text or a list grows without bound")
        })
    }

    /// Work on something that is there.
    pub(crate) fn scan(&mut self, bytes: usize) -> Outcome<()> {
        take(&mut self.scanned, bytes, || {
            Failure::limit("the template looks through too much text")
                .helped("it compares or searches long texts or lists again and again")
        })
    }
}

fn take(left: &mut usize, wanted: usize, failure: impl FnOnce() -> Box<Failure>) -> Outcome<()> {
    match left.checked_sub(wanted) {
        Some(rest) => {
            *left = rest;
            Ok(())
        }
        None => {
            // Nothing is left, so that nobody goes on by catching this.
            *left = 0;
            Err(failure())
        }
    }
}
