//! How often, and for how long, a broken stream is asked for again. Pure: it is told what happened and when. A stream
//! that gives nothing new does not count as back, so that a connection which breaks at the same place each time ends.

use std::time::{Duration, Instant};

/// Before the first try.
const FIRST: Duration = Duration::from_millis(100);
/// Between two tries at most: a gateway that was restarted has its client back this soon.
const LONGEST: Duration = Duration::from_secs(2);
/// Streams that may be damaged one after the other without anything new in between.
const MOST_DAMAGED: u32 = 3;

/// The state of an outage.
#[derive(Debug)]
pub struct Patience {
    /// How long an outage may be.
    limit: Duration,
    since: Option<Instant>,
    delay: Duration,
    damaged: u32,
}

impl Patience {
    /// For outages of at most `limit`.
    pub const fn new(limit: Duration) -> Self {
        Self { limit, since: None, delay: FIRST, damaged: 0 }
    }

    /// The stream gave something new: the outage, if there was one, is over.
    pub const fn progressed(&mut self) {
        self.since = None;
        self.delay = FIRST;
        self.damaged = 0;
    }

    /// The stream lost its meaning.
    pub const fn damaged(&mut self) {
        self.damaged += 1;
    }

    /// It is away: how long to wait before the next try. None: it was away for too long.
    pub fn next_try(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        if self.damaged > MOST_DAMAGED || now.saturating_duration_since(since) >= self.limit {
            return None;
        }
        let delay = self.delay;
        self.delay = (delay * 2).min(LONGEST);
        Some(delay)
    }

    /// How long it is away.
    pub fn away(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the tries are, milliseconds after the break.
    fn tries(patience: &mut Patience, start: Instant) -> Vec<u128> {
        let mut now = start;
        std::iter::from_fn(|| {
            now += patience.next_try(now)?;
            Some(now.duration_since(start).as_millis())
        })
        .collect()
    }

    #[test]
    fn tries_are_quick_at_first_and_go_on_until_the_limit() {
        let mut patience = Patience::new(Duration::from_secs(300));
        let tries = tries(&mut patience, Instant::now());
        assert_eq!(tries[..6], [100, 300, 700, 1500, 3100, 5100]);
        assert!((298_000..=302_000).contains(tries.last().unwrap()), "{tries:?}");
        assert!(tries.iter().filter(|&&t| t < 30_000).count() > 10, "well within what the gateway allows");
    }

    #[test]
    fn only_something_new_ends_an_outage() {
        let mut patience = Patience::new(Duration::from_secs(10));
        let start = Instant::now();
        assert!(patience.next_try(start).is_some());
        assert_eq!(patience.next_try(start + Duration::from_secs(10)), None);
        patience.progressed();
        assert_eq!(patience.next_try(start + Duration::from_secs(11)), Some(FIRST));
    }

    #[test]
    fn a_stream_that_is_damaged_again_and_again_is_given_up() {
        let mut patience = Patience::new(Duration::from_secs(300));
        let now = Instant::now();
        for _ in 0..MOST_DAMAGED {
            patience.damaged();
            assert!(patience.next_try(now).is_some());
        }
        patience.damaged();
        assert_eq!(patience.next_try(now), None);
    }

    #[test]
    fn with_no_patience_nothing_is_tried() {
        assert_eq!(Patience::new(Duration::ZERO).next_try(Instant::now()), None);
    }
}
