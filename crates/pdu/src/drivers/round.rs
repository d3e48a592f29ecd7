//! A device's answer about all of its ports, used for a round of reads.
//!
//! Many devices tell all ports in one answer. Polling 24 ports would ask for the same document 24 times a second, so
//! one answer may serve one read of each port, shortly after it came. A second read of the same port, or a read after
//! a command, always asks the device.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use farmgate_protocol::PortId;

/// How old an answer may get.
const FRESH: Duration = Duration::from_millis(200);

/// The last answer, and which ports were read from it.
#[derive(Debug)]
pub(super) struct Round<T> {
    last: Option<(T, Instant)>,
    served: BTreeSet<PortId>,
}

impl<T> Default for Round<T> {
    fn default() -> Self {
        Self { last: None, served: BTreeSet::new() }
    }
}

impl<T> Round<T> {
    /// The answer, if it may serve a read of this port.
    pub fn serve(&mut self, port: &PortId) -> Option<&T> {
        let fresh = self.last.as_ref().is_some_and(|(_, at)| at.elapsed() < FRESH);
        if !fresh || !self.served.insert(port.clone()) {
            self.forget();
            return None;
        }
        self.last.as_ref().map(|(answer, _)| answer)
    }

    /// The answer that the last read was served from, for what is not a state (power, energy).
    pub fn peek(&self) -> Option<&T> {
        self.last.as_ref().filter(|(_, at)| at.elapsed() < FRESH).map(|(answer, _)| answer)
    }

    /// A new answer, which this port is read from at once.
    pub fn begin(&mut self, answer: T, port: &PortId) -> &T {
        self.served = BTreeSet::from([port.clone()]);
        &self.last.insert((answer, Instant::now())).0
    }

    /// A command is about to change the state: what was read before says nothing.
    pub fn forget(&mut self) {
        self.last = None;
        self.served.clear();
    }
}

/// The number that a port id stands for, if it is written as numbers are.
pub(super) fn number(port: &PortId) -> Option<u32> {
    port.as_str().parse::<u32>().ok().filter(|n| n.to_string() == port.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_serves_each_port_once_and_none_after_a_command() {
        let (one, two) = (PortId::from(1), PortId::from(2));
        let mut round = Round::default();
        assert_eq!(round.serve(&one), None);
        round.begin("first", &one);
        assert_eq!(round.serve(&two), Some(&"first"));
        assert_eq!(round.peek(), Some(&"first"));
        assert_eq!(round.serve(&two), None, "a second read of a port asks again");
        assert_eq!(round.peek(), None);
        round.begin("second", &two);
        round.forget();
        assert_eq!(round.serve(&one), None);
    }

    #[test]
    fn a_port_number_has_one_spelling() {
        assert_eq!(number(&PortId::from(7)), Some(7));
        for bad in ["07", "+7", "-1", "x", "99999999999"] {
            assert_eq!(number(&PortId::new(bad).unwrap()), None, "{bad}");
        }
    }
}
