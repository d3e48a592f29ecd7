//! How long to wait for an answer before the packet is sent again: learned from the answers, as TCP does (RFC 6298).

use std::time::Duration;

/// Before anything is known.
const INITIAL: Duration = Duration::from_millis(300);
/// A quicker repetition gains nothing.
const SHORTEST: Duration = Duration::from_millis(60);
/// A slower one would not fit into a call.
const LONGEST: Duration = Duration::from_secs(1);

/// The pace of one agent.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// Mean and deviation of the time to an answer.
    smoothed: Option<(Duration, Duration)>,
}

impl Pace {
    pub fn new() -> Self {
        Self::default()
    }

    /// An answer took so long, counted from the packet that it answers.
    pub fn learn(&mut self, took: Duration) {
        let took = took.min(LONGEST);
        self.smoothed = Some(match self.smoothed {
            None => (took, took / 2),
            Some((mean, deviation)) => (mean * 7 / 8 + took / 8, deviation * 3 / 4 + mean.abs_diff(took) / 4),
        });
    }

    /// The pause before the first repetition; each further one doubles it.
    pub fn first_pause(&self) -> Duration {
        match self.smoothed {
            None => INITIAL,
            Some((mean, deviation)) => (mean + deviation * 4).clamp(SHORTEST, LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quick_agent_is_asked_again_soon_and_a_slow_one_is_given_time() {
        let mut pace = Pace::new();
        assert_eq!(pace.first_pause(), INITIAL);
        for _ in 0..20 {
            pace.learn(Duration::from_millis(2));
        }
        assert_eq!(pace.first_pause(), SHORTEST);
        for _ in 0..20 {
            pace.learn(Duration::from_millis(400));
        }
        let pause = pace.first_pause();
        assert!(pause > Duration::from_millis(400) && pause < Duration::from_millis(700), "{pause:?}");
    }

    proptest! {
        #[test]
        fn the_pause_stays_in_its_bounds(took in proptest::collection::vec(0_u64..100_000, 0..50)) {
            let mut pace = Pace::new();
            for took in took {
                pace.learn(Duration::from_millis(took));
            }
            prop_assert!((SHORTEST..=LONGEST).contains(&pace.first_pause()));
        }
    }
}
