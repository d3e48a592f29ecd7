//! The queue of jobs as a pure decision: which waiting job gets which free machine. It knows nothing of tasks, clients
//! or disks; [`crate::dispatch`] keeps it, asks it after each change, and carries out what it says.
//!
//! Priority first, then first come first served, among the jobs that a free machine satisfies. Who waits long rises:
//! one level for each [`AGEING`], so that no stream of more important jobs starves a job for ever. A job that can run
//! anywhere gets the free machine that the fewest others wait for, so that a job which needs one certain machine is not
//! kept from it by jobs that others could run.

use std::time::Duration;

use farmgate_protocol::{DutId, Timestamp, run::Priority};

/// Waiting that long is worth one level of priority.
pub(crate) const AGEING: Duration = Duration::from_secs(15 * 60);

/// A client that asks again and again keeps its place that long after it asked last.
pub(crate) const POLLER_KEEPS: Duration = Duration::from_secs(5);

/// How a job waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It stays until it gets a machine.
    Here,
    /// Its client is told 409 and asks again; known by a name, it keeps its place.
    Asking {
        /// Its job id or cookie.
        name: String,
        /// When it asked last.
        last: Timestamp,
    },
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Number of its run, or, for one that asks, a number of the queue's own.
    pub run: u64,
    pub waits: Waits,
    pub priority: Priority,
    /// Since when.
    pub since: Timestamp,
}

impl Waiting {
    fn rank(&self, now: Timestamp) -> (std::cmp::Reverse<u64>, Timestamp, u64) {
        let levels = now.since(self.since).as_secs() / AGEING.as_secs();
        let rank = (self.priority as u64 + levels).min(Priority::High as u64);
        (std::cmp::Reverse(rank), self.since, self.run)
    }
}

/// A job and the machine it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub run: u64,
    pub dut: DutId,
}

/// The jobs that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Vec<Waiting>,
}

impl Queue {
    pub fn push(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    pub fn remove(&mut self, run: u64) -> Option<Waiting> {
        let index = self.waiting.iter().position(|w| w.run == run)?;
        Some(self.waiting.remove(index))
    }

    /// The place that a client which asks again has kept. It asks now.
    pub fn asks_again(&mut self, name: &str, now: Timestamp) -> Option<u64> {
        self.waiting.iter_mut().find_map(|w| match &mut w.waits {
            Waits::Asking { name: known, last } if known == name => {
                *last = now;
                Some(w.run)
            }
            _ => None,
        })
    }

    /// Clients that have stopped asking lose their place; which.
    pub fn drop_silent(&mut self, now: Timestamp) -> Vec<u64> {
        let silent =
            |w: &Waiting| matches!(&w.waits, Waits::Asking { last, .. } if now.since(*last) > POLLER_KEEPS);
        let gone = self.waiting.iter().filter(|w| silent(w)).map(|w| w.run).collect();
        self.waiting.retain(|w| !silent(w));
        gone
    }

    /// When [`drop_silent`](Self::drop_silent) may find the next one.
    pub fn silent_at(&self) -> Option<Timestamp> {
        let last = |w: &Waiting| match &w.waits {
            Waits::Asking { last, .. } => Some(*last + POLLER_KEEPS),
            Waits::Here => None,
        };
        self.waiting.iter().filter_map(last).min()
    }

    /// All that wait, the next one first.
    pub fn in_order(&self, now: Timestamp) -> Vec<&Waiting> {
        let mut order: Vec<&Waiting> = self.waiting.iter().collect();
        order.sort_by_key(|w| w.rank(now));
        order
    }

    /// Who gets which of the free machines. A client that only asks is not served here: the machine that it would get
    /// is held back for it, and it gets it when it asks (`asking` is its run).
    pub fn assign(
        &self,
        free: &[DutId],
        satisfies: impl Fn(u64, &DutId) -> bool,
        asking: Option<u64>,
        now: Timestamp,
    ) -> Vec<Assignment> {
        let order = self.in_order(now);
        let mut left: Vec<&DutId> = free.iter().collect();
        let mut given = Vec::new();
        for (index, waiting) in order.iter().enumerate() {
            if left.is_empty() {
                break;
            }
            let wanted_by = |dut: &DutId| order[index + 1..].iter().filter(|w| satisfies(w.run, dut)).count();
            let fits = left.iter().enumerate().filter(|(_, dut)| satisfies(waiting.run, dut));
            let Some((at, _)) = fits.min_by_key(|(_, dut)| wanted_by(dut)) else { continue };
            let dut = left.remove(at);
            if waiting.waits == Waits::Here || asking == Some(waiting.run) {
                given.push(Assignment { run: waiting.run, dut: dut.clone() });
            }
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }

    fn dut(name: &str) -> DutId {
        DutId::new(name).unwrap()
    }

    fn waiting(run: u64, priority: Priority, since: u64) -> Waiting {
        Waiting { run, waits: Waits::Here, priority, since: at(since) }
    }

    fn queue(all: &[Waiting]) -> Queue {
        Queue { waiting: all.to_vec() }
    }

    /// Which run gets which machine, as `run>dut`.
    fn assigned(queue: &Queue, free: &[&str], fits: &[(u64, &str)], now: u64) -> Vec<String> {
        let free: Vec<DutId> = free.iter().map(|name| dut(name)).collect();
        let satisfies = |run, dut: &DutId| fits.contains(&(run, dut.as_str()));
        let given = queue.assign(&free, satisfies, None, at(now));
        given.iter().map(|a| format!("{}>{}", a.run, a.dut)).collect()
    }

    #[test]
    fn the_first_come_is_the_first_served_within_a_priority() {
        let q = queue(&[
            waiting(1, Priority::Low, 0),
            waiting(2, Priority::Default, 2),
            waiting(3, Priority::Default, 1),
            waiting(4, Priority::High, 3),
        ]);
        let any: Vec<(u64, &str)> = (1..=4).map(|run| (run, "a")).collect();
        assert_eq!(assigned(&q, &["a"], &any, 4), ["4>a"]);
        let order: Vec<u64> = q.in_order(at(4)).iter().map(|w| w.run).collect();
        assert_eq!(order, [4, 3, 2, 1]);
    }

    #[test]
    fn a_machine_that_the_first_cannot_use_goes_to_the_next_that_can() {
        let q = queue(&[waiting(1, Priority::Default, 0), waiting(2, Priority::Default, 1)]);
        assert_eq!(assigned(&q, &["b"], &[(1, "a"), (2, "b")], 2), ["2>b"]);
    }

    #[test]
    fn a_job_that_can_run_anywhere_leaves_the_machine_that_another_needs() {
        let q = queue(&[waiting(1, Priority::Default, 0), waiting(2, Priority::Default, 1)]);
        let fits = [(1, "a"), (1, "b"), (2, "a")];
        assert_eq!(assigned(&q, &["a", "b"], &fits, 2), ["1>b", "2>a"]);
    }

    #[test]
    fn waiting_long_is_worth_as_much_as_being_important() {
        let old = waiting(1, Priority::Low, 0);
        for (later, first) in [(60, 2), (29 * 60, 2), (31 * 60, 1)] {
            let q = queue(&[old.clone(), waiting(2, Priority::High, later)]);
            assert_eq!(assigned(&q, &["a"], &[(1, "a"), (2, "a")], later), [format!("{first}>a")]);
        }
    }

    #[test]
    fn one_that_asks_keeps_its_place_and_its_machine_until_it_falls_silent() {
        let asking = Waiting {
            waits: Waits::Asking { name: "job".to_owned(), last: at(10) },
            ..waiting(1, Priority::Default, 0)
        };
        let mut q = queue(&[asking, waiting(2, Priority::Default, 1)]);
        let both = [(1, "a"), (2, "a")];
        assert!(assigned(&q, &["a"], &both, 11).is_empty(), "the machine is held back");
        let given = q.assign(&[dut("a")], |_, _| true, Some(1), at(11));
        assert_eq!(given, [Assignment { run: 1, dut: dut("a") }]);
        assert_eq!(q.asks_again("job", at(14)), Some(1));
        assert_eq!(q.asks_again("other", at(14)), None);
        assert_eq!(q.silent_at(), Some(at(19)));
        assert!(q.drop_silent(at(19)).is_empty());
        assert_eq!(q.drop_silent(at(20)), [1]);
        assert_eq!(assigned(&q, &["a"], &both, 20), ["2>a"]);
    }

    #[test]
    fn a_job_for_one_machine_is_served_in_the_end_however_many_others_come() {
        // Machine a is free again and again, b never; important jobs that could use both come all the time.
        let mut q = queue(&[waiting(0, Priority::Low, 0)]);
        for minute in 1..200_u64 {
            q.push(waiting(minute, Priority::High, minute * 60));
            let satisfies = |_: u64, dut: &DutId| dut.as_str() == "a";
            let given = q.assign(&[dut("a")], satisfies, None, at(minute * 60));
            assert_eq!(given.len(), 1);
            if given[0].run == 0 {
                return;
            }
            q.remove(given[0].run);
        }
        panic!("it starved");
    }
}
