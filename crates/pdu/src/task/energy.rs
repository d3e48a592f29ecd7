//! What a port drew: by the PDU's own counter where it has one, else summed up from the power that it shows.

use std::time::Duration;

/// Between two readings further apart nobody knows what was drawn.
const LONGEST_GAP: Duration = Duration::from_secs(10);

/// The meter of one port.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The last reading, watts, and when.
    power: Option<(f64, Duration)>,
    /// Joules summed up from it.
    summed: Option<f64>,
    /// Joules: the PDU's counter when it was last read.
    counter: Option<f64>,
    /// Joules that the counter went up since it was first read.
    counted: Option<f64>,
}

impl Meter {
    /// The PDU shows so many watts.
    pub fn draws(&mut self, watts: f64, now: Duration) {
        if !watts.is_finite() {
            self.power = None;
            return;
        }
        let mut joules = self.summed.unwrap_or_default();
        if let Some((before, at)) = self.power {
            let gap = now.saturating_sub(at);
            if gap <= LONGEST_GAP {
                joules += (before + watts) / 2.0 * gap.as_secs_f64();
            }
        }
        self.summed = Some(joules);
        self.power = Some((watts, now));
    }

    /// What it draws is not known at the moment.
    pub fn lost(&mut self) {
        self.power = None;
    }

    /// The PDU's own counter stands at so many joules.
    pub fn counts(&mut self, joules: f64) {
        if joules.is_finite() {
            // A counter that went back was reset, and has counted from zero since.
            let more =
                self.counter.map_or(0.0, |before| if joules >= before { joules - before } else { joules });
            self.counted = Some(self.counted.unwrap_or_default() + more.max(0.0));
            self.counter = Some(joules);
        }
    }

    /// What it draws now, watts.
    pub fn watts(&self) -> Option<f64> {
        self.power.map(|(watts, _)| watts)
    }

    /// What it drew since it is known, joules.
    pub fn joules(&self) -> Option<f64> {
        self.counted.or(self.summed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn power_is_summed_up_between_readings_but_not_over_a_gap() {
        let mut meter = Meter::default();
        assert_eq!(meter.joules(), None);
        meter.draws(10.0, s(0));
        meter.draws(20.0, s(2));
        assert_eq!(meter.joules(), Some(30.0));
        meter.draws(20.0, s(100));
        assert_eq!(meter.joules(), Some(30.0), "nobody knows what it drew meanwhile");
        meter.lost();
        meter.draws(20.0, s(101));
        assert_eq!((meter.joules(), meter.watts()), (Some(30.0), Some(20.0)));
        meter.draws(f64::NAN, s(102));
        assert_eq!((meter.joules(), meter.watts()), (Some(30.0), None));
    }

    #[test]
    fn the_counter_of_the_pdu_goes_before_and_may_be_reset() {
        let mut meter = Meter::default();
        meter.draws(10.0, s(0));
        meter.counts(1000.0);
        meter.draws(10.0, s(1));
        meter.counts(1012.0);
        assert_eq!(meter.joules(), Some(12.0));
        meter.counts(3.0);
        assert_eq!(meter.joules(), Some(15.0));
        meter.counts(f64::INFINITY);
        assert_eq!(meter.joules(), Some(15.0));
    }
}
