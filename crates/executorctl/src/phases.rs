//! How long each part of a run took, from the dates of the gateway's control messages. Pure: it is told each mark
//! and its date. Only the gateway's clock counts, so that a slow connection or another time of day here does not
//! change a figure.

use std::time::Duration;

use farmgate_protocol::{Timestamp, console::Tag};
use serde::Serialize;

/// The part in which a run has no machine yet.
pub const QUEUE: &str = "queue";

/// A part of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// `queue`, `setup`, `power`, `firmware`, `network boot`, `kernel`, `job`, `teardown`.
    pub name: &'static str,
    /// Its length; the sum over all boots.
    pub seconds: f64,
    /// How often it took place: the number of boots, for what belongs to a boot.
    pub times: u32,
}

/// The open part of the run, and since when.
#[derive(Debug, Clone, Copy)]
enum Open {
    Nothing,
    Plain(&'static str, Timestamp),
    /// After the first request of the network boot. Where it ends and the kernel starts is known only afterwards: at
    /// the last stage that was seen.
    NetworkBoot {
        from: Timestamp,
        last_stage: Option<Timestamp>,
    },
}

/// Collects the parts.
#[derive(Debug)]
pub struct Phases {
    list: Vec<(&'static str, Duration, u32)>,
    open: Open,
    first: Option<Timestamp>,
    last: Timestamp,
}

impl Default for Phases {
    fn default() -> Self {
        Self { list: Vec::new(), open: Open::Nothing, first: None, last: Timestamp::default() }
    }
}

impl Phases {
    /// A message of the gateway, whatever it says, shows that the run still went on at `date`.
    pub fn alive(&mut self, date: Timestamp) {
        self.first.get_or_insert(date);
        self.last = self.last.max(date);
    }

    /// A control message.
    pub fn mark(&mut self, tag: Tag, date: Timestamp) {
        self.alive(date);
        match tag {
            Tag::Queued => self.begin(QUEUE, date),
            Tag::InfraSetupStart => self.begin("setup", date),
            Tag::InfraSetupComplete | Tag::InfraSetupError | Tag::InfraTeardownComplete => self.close(date),
            Tag::PowerCycleStart => self.begin("power", date),
            Tag::PowerCycleComplete => self.begin("firmware", date),
            Tag::FirmwareBootComplete => {
                self.close(date);
                self.open = Open::NetworkBoot { from: date, last_stage: None };
            }
            Tag::BootStage => match &mut self.open {
                Open::NetworkBoot { last_stage, .. } => *last_stage = Some(date),
                // A stage without the first request: the message was lost or never sent.
                _ => {
                    self.close(date);
                    self.open = Open::NetworkBoot { from: date, last_stage: Some(date) };
                }
            },
            Tag::UserspaceStarted => {
                self.close_boot("kernel", date);
                self.open = Open::Plain("job", date);
            }
            Tag::InfraTeardownStart => self.begin("teardown", date),
            Tag::None
            | Tag::PowerSequenceDetected
            | Tag::TimeoutHit
            | Tag::PatternMatched
            | Tag::Verdict
            | Tag::Resumed => {}
        }
    }

    /// The part that is open: its name.
    pub const fn now(&self) -> Option<&'static str> {
        match self.open {
            Open::Nothing => None,
            Open::Plain(name, _) => Some(name),
            Open::NetworkBoot { .. } => Some("network boot"),
        }
    }

    /// The run is over.
    pub fn end(&mut self, date: Timestamp) {
        self.alive(date);
        self.close(date);
    }

    /// The parts in the order in which they first took place, and the time from the first message to the last. What
    /// is still open ends with the last message.
    pub fn finish(mut self) -> (Vec<Phase>, Option<Duration>) {
        let last = self.last;
        self.close(last);
        let phase = |(name, length, times): (&'static str, Duration, u32)| Phase {
            name,
            // Milliseconds: the dates are no better than that.
            seconds: (length.as_secs_f64() * 1000.0).round() / 1000.0,
            times,
        };
        (self.list.into_iter().map(phase).collect(), self.first.map(|first| last.since(first)))
    }

    fn begin(&mut self, name: &'static str, date: Timestamp) {
        self.close(date);
        self.open = Open::Plain(name, date);
    }

    /// Ends what is open. A network boot that nothing but the end follows is a job from a gateway that does not see
    /// userspace start.
    fn close(&mut self, date: Timestamp) {
        self.close_boot("job", date);
    }

    fn close_boot(&mut self, after_network_boot: &'static str, date: Timestamp) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Plain(name, from) => self.add(name, date.since(from)),
            Open::NetworkBoot { from, last_stage: None } => self.add(after_network_boot, date.since(from)),
            Open::NetworkBoot { from, last_stage: Some(stage) } => {
                self.add("network boot", stage.since(from));
                self.add(after_network_boot, date.since(stage));
            }
        }
    }

    fn add(&mut self, name: &'static str, length: Duration) {
        match self.list.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, sum, times)) => {
                *sum += length;
                *times += 1;
            }
            None => self.list.push((name, length, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(tenths: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + tenths * 100_000)
    }

    fn table(marks: &[(u16, i64)], end: Option<i64>) -> Vec<(&'static str, f64, u32)> {
        let mut phases = Phases::default();
        for (tag, date) in marks {
            phases.mark(Tag::from_number(i64::from(*tag)), at(*date));
        }
        if let Some(end) = end {
            phases.end(at(end));
        }
        phases.finish().0.into_iter().map(|p| (p.name, p.seconds, p.times)).collect()
    }

    #[test]
    fn every_part_of_a_run_has_its_length() {
        let marks = [
            (100, 0),
            (101, 5),
            (200, 6),
            (201, 16),
            (301, 40),
            (302, 41),
            (302, 50),
            (303, 80),
            (401, 99),
            (105, 200),
            (106, 210),
        ];
        assert_eq!(
            table(&marks, Some(211)),
            [
                ("setup", 0.5, 1),
                ("power", 1.0, 1),
                ("firmware", 2.4, 1),
                ("network boot", 1.0, 1),
                ("kernel", 3.0, 1),
                ("job", 12.0, 1),
                ("teardown", 1.0, 1)
            ]
        );
    }

    #[test]
    fn a_gateway_that_sends_only_the_first_tags_still_gives_a_job_time() {
        let marks = [(100, 0), (101, 10), (200, 10), (201, 20), (301, 30)];
        let expected = [("setup", 1.0, 1), ("power", 1.0, 1), ("firmware", 1.0, 1), ("job", 7.0, 1)];
        assert_eq!(table(&marks, Some(100)), expected);
    }

    #[test]
    fn boots_are_summed_and_counted() {
        let boot =
            |from| [(200, from), (201, from + 10), (301, from + 30), (302, from + 31), (303, from + 40)];
        let marks = [boot(0), boot(100)].concat();
        let sums = table(&marks, Some(150));
        assert!(sums.contains(&("firmware", 4.0, 2)), "{sums:?}");
        assert!(sums.contains(&("job", 6.0 + 1.0, 2)), "{sums:?}");
    }

    #[test]
    fn a_run_that_hangs_in_its_firmware_says_so() {
        assert_eq!(table(&[(200, 0), (201, 10)], Some(310)), [("power", 1.0, 1), ("firmware", 30.0, 1)]);
        // Broken off: up to the last message.
        assert_eq!(table(&[(200, 0), (201, 10), (400, 20)], None), [("power", 1.0, 1), ("firmware", 1.0, 1)]);
    }

    proptest! {
        #[test]
        fn the_parts_never_exceed_the_whole(steps in proptest::collection::vec((0usize..15, 0i64..50), 0..40)) {
            let tags = [0u16, 100, 101, 102, 105, 106, 200, 201, 300, 301, 302, 303, 400, 401, 500];
            let mut phases = Phases::default();
            let mut now = 0;
            for (tag, step) in steps {
                now += step;
                phases.mark(Tag::from_number(i64::from(tags[tag])), at(now));
            }
            let (list, total) = phases.finish();
            let sum: f64 = list.iter().map(|p| p.seconds).sum();
            prop_assert!(sum <= total.unwrap_or_default().as_secs_f64() + 0.01);
        }
    }
}
