//! The promises of the state machine, in tables and against a model of a port that does what it likes.

use proptest::prelude::*;

use super::*;
use crate::Moment;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const MIN_OFF: Duration = Duration::from_secs(30);

#[test]
fn without_a_wish_there_is_no_command_whatever_is_seen() {
    let mut port = PortSafety::new(MIN_OFF);
    for (i, state) in
        [PortState::On, PortState::Off, PortState::Unknown, PortState::On].into_iter().enumerate()
    {
        port.observe(state, ms(i as u64 * 40_000));
        assert_eq!(port.next(ms(i as u64 * 40_000)), Step::Nothing);
    }
}

#[test]
fn an_off_time_that_is_not_known_counts_from_the_first_off_that_is_seen() {
    let mut port = PortSafety::new(MIN_OFF);
    port.wish(true, Duration::ZERO, ms(0));
    assert_eq!(port.next(ms(0)), Step::Read);
    port.observe(PortState::Off, ms(5));
    assert_eq!(port.next(ms(6)), Step::WaitUntil(ms(30_005)));
}

#[test]
fn on_needs_a_fresh_look_at_the_port() {
    let mut port = PortSafety::new(MIN_OFF);
    port.observe(PortState::Off, ms(0));
    port.wish(true, Duration::ZERO, ms(60_000));
    assert_eq!(port.next(ms(60_000)), Step::Read);
    port.observe(PortState::Off, ms(60_001));
    assert_eq!(port.next(ms(60_001)), Step::Write(true));
}

#[test]
fn the_longer_minimum_off_time_holds() {
    let mut port = PortSafety::new(ms(100));
    port.observe(PortState::Off, ms(0));
    port.wish(true, ms(5_000), ms(1));
    port.observe(PortState::Off, ms(2));
    assert_eq!(port.next(ms(3)), Step::WaitUntil(ms(5_000)));
}

#[test]
fn unknown_is_never_taken_for_off() {
    let mut port = PortSafety::new(Duration::ZERO);
    port.wish(true, Duration::ZERO, ms(0));
    port.observe(PortState::Unknown, ms(1));
    for t in 2..29_000 {
        assert!(matches!(port.next(ms(t)), Step::Read | Step::WaitUntil(_)));
    }
    port.wish(false, Duration::ZERO, ms(29_000));
    port.write_started(false);
    port.write_ended(false, true, ms(29_001));
    port.observe(PortState::Unknown, ms(29_002));
    assert_ne!(port.next(ms(29_002)), Step::Done);
}

#[test]
fn a_time_in_which_the_port_could_not_be_read_does_not_count_as_off() {
    let mut port = PortSafety::new(MIN_OFF);
    port.observe(PortState::Off, ms(0));
    port.lost();
    port.observe(PortState::Off, ms(20_000));
    port.wish(true, Duration::ZERO, ms(31_000));
    port.observe(PortState::Off, ms(31_000));
    assert_eq!(port.next(ms(31_000)), Step::WaitUntil(ms(50_000)));
}

#[test]
fn an_off_read_before_the_command_does_not_confirm_it() {
    let mut port = PortSafety::new(MIN_OFF);
    port.observe(PortState::Off, ms(0));
    port.wish(false, Duration::ZERO, ms(1));
    assert_eq!(port.next(ms(1)), Step::Write(false));
    port.write_started(false);
    port.write_ended(false, true, ms(2));
    assert_eq!(port.next(ms(2)), Step::Read);
    port.observe(PortState::Off, ms(3));
    assert_eq!(port.next(ms(3)), Step::Done);
    // It was off all the time: nothing more to wait for.
    port.withdraw();
    port.wish(true, Duration::ZERO, ms(30_001));
    port.observe(PortState::Off, ms(30_001));
    assert_eq!(port.next(ms(30_001)), Step::Write(true));
}

#[test]
fn a_wish_that_does_not_come_true_is_given_up_but_waiting_for_the_off_time_is_not_failing() {
    let mut port = PortSafety::new(Duration::from_secs(600));
    port.wish(true, Duration::ZERO, ms(0));
    for second in 0..600 {
        port.observe(PortState::Off, Duration::from_secs(second));
        assert_eq!(port.next(Duration::from_secs(second)), Step::WaitUntil(Duration::from_secs(600)));
    }
    port.observe(PortState::Off, ms(600_000));
    assert_eq!(port.next(ms(600_000)), Step::Write(true));
    port.write_started(true);
    port.write_ended(true, true, ms(600_001));
    port.observe(PortState::Off, ms(631_000));
    assert_eq!(port.next(ms(631_000)), Step::GiveUp);
}

#[test]
fn an_off_time_that_ends_long_after_the_last_look_is_no_reason_to_give_up() {
    let mut port = PortSafety::new(Duration::from_secs(60));
    port.wish(true, Duration::ZERO, ms(0));
    port.observe(PortState::Off, ms(10));
    assert_eq!(port.next(ms(11)), Step::WaitUntil(ms(60_010)));
    assert_eq!(port.next(ms(60_010)), Step::Read, "no round of polling came by in between");
    port.observe(PortState::Off, ms(61_000));
    assert_eq!(port.next(ms(61_000)), Step::Write(true));
}

#[test]
fn a_change_without_our_command_is_noticed() {
    let mut port = PortSafety::new(MIN_OFF);
    assert!(!port.observe(PortState::On, ms(0)), "the first look is no change");
    assert!(port.observe(PortState::Off, ms(1)));
    assert!(port.observe(PortState::On, ms(2)));
    port.wish(false, Duration::ZERO, ms(3));
    port.write_started(false);
    port.write_ended(false, true, ms(4));
    assert!(!port.observe(PortState::Off, ms(5)), "that was us");
}

#[test]
fn the_longest_possible_off_time_is_just_long() {
    let mut port = PortSafety::new(Duration::MAX);
    port.observe(PortState::Off, ms(1));
    port.wish(true, Duration::MAX, ms(1));
    port.observe(PortState::Off, ms(1));
    assert_eq!(port.next(ms(2)), Step::WaitUntil(Duration::MAX));
}

#[test]
fn what_is_read_while_the_pdu_settles_is_not_believed() {
    let settle = ms(5_000);
    let mut port = PortSafety::new(MIN_OFF).with_settle_time(settle, 7);
    port.observe(PortState::On, ms(0));
    port.wish(false, Duration::ZERO, ms(1));
    port.write_started(false);
    port.write_ended(false, true, ms(10));
    assert!(!port.observe(PortState::Off, ms(20)));
    assert_eq!(port.next(ms(20)), Step::WaitUntil(ms(5_010)), "neither done, nor repeated, nor read");
    assert_eq!(port.next(ms(5_010)), Step::Read);
    port.observe(PortState::Off, ms(5_011));
    assert_eq!(port.next(ms(5_011)), Step::Done);
    assert_eq!(port.off_since(), Some(ms(5_011)));
}

#[test]
fn a_recalled_off_time_counts_if_the_first_look_agrees_and_only_then() {
    for (looks, expected) in [
        (vec![PortState::Off], Some(ms(10_000))),
        (vec![PortState::On, PortState::Off], Some(ms(20_001))),
        (vec![PortState::Unknown, PortState::Off], Some(ms(20_001))),
    ] {
        let mut port = PortSafety::new(MIN_OFF);
        port.recall(ms(10_000));
        for (i, state) in looks.iter().enumerate() {
            port.observe(*state, ms(20_000 + i as u64));
        }
        assert_eq!(port.off_since(), expected, "{looks:?}");
    }
    let mut port = PortSafety::new(MIN_OFF);
    port.recall(ms(10_000));
    port.lost();
    port.observe(PortState::Off, ms(20_000));
    assert_eq!(port.off_since(), Some(ms(20_000)), "a PDU that was away may have lost its mains");
    port.recall(ms(0));
    port.observe(PortState::Off, ms(20_001));
    assert_eq!(port.off_since(), Some(ms(20_000)), "what was seen goes before what was written");
}

#[test]
fn a_wish_that_is_tried_for_ever_is_given_up_again_only_for_somebody_who_waits() {
    let mut port = PortSafety::new(MIN_OFF);
    port.observe(PortState::On, ms(0));
    port.wish(false, Duration::ZERO, ms(0));
    let stubborn = |port: &mut PortSafety, from: u64, to: u64| {
        let (mut writes, mut gave_up) = (0, None);
        for t in (from..to).step_by(100) {
            match port.next(ms(t)) {
                Step::Write(on) => {
                    port.write_started(on);
                    port.write_ended(on, true, ms(t));
                    writes += 1;
                }
                Step::Read => drop(port.observe(PortState::On, ms(t))),
                Step::GiveUp => {
                    gave_up = gave_up.or(Some(t));
                    port.keep_trying();
                }
                _ => {}
            }
        }
        (writes, gave_up)
    };
    let (writes, gave_up) = stubborn(&mut port, 0, 40_000);
    assert!(writes > 3 && gave_up == Some(30_000), "{writes} {gave_up:?}");
    let (writes, gave_up) = stubborn(&mut port, 40_000, 4_000_000);
    assert!(writes > 300 && gave_up.is_none(), "{writes} {gave_up:?}");
    port.wish(false, Duration::ZERO, ms(4_000_000));
    let (_, gave_up) = stubborn(&mut port, 4_000_000, 4_040_000);
    assert_eq!(gave_up, Some(4_030_000));
}

/// What happens to the port and its PDU in one step of the model.
#[derive(Debug, Clone)]
enum Happening {
    Wish {
        on: bool,
        min_off: u64,
    },
    Withdraw,
    Time(u64),
    /// The PDU is asked: does it answer, and does it tell the truth?
    Work {
        answers: bool,
        lies: bool,
    },
    Poll {
        answers: bool,
    },
    Lost,
    /// The gateway dies, with what it had stored or without, and comes back, perhaps with the whole machine and a wall
    /// clock that says anything.
    Restart {
        stored: bool,
        reboot: bool,
        wall: i64,
    },
    /// Somebody presses the button.
    Outside(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (any::<bool>(), 0..200_u64).prop_map(|(on, min_off)| Happening::Wish { on, min_off }),
        1 => Just(Happening::Withdraw),
        6 => (1..120_u64).prop_map(Happening::Time),
        12 => (prop::bool::weighted(0.8), prop::bool::weighted(0.1))
            .prop_map(|(answers, lies)| Happening::Work { answers, lies }),
        4 => prop::bool::weighted(0.9).prop_map(|answers| Happening::Poll { answers }),
        1 => Just(Happening::Lost),
        1 => (any::<bool>(), prop::bool::weighted(0.2), any::<i64>())
            .prop_map(|(stored, reboot, wall)| Happening::Restart { stored, reboot, wall }),
        1 => any::<bool>().prop_map(Happening::Outside),
    ]
}

/// What an onlooker knows who sees all reads and commands: since when the port is surely off.
#[derive(Default)]
struct Onlooker {
    /// First of the unbroken row of OFFs that were read.
    off_since: Option<u64>,
    /// ON was sent, and no OFF was accepted since: what is read as OFF may be about to turn ON.
    on_sent: bool,
    /// The present wish has sent an ON: more of them are the same switching.
    repeats: bool,
    /// Reads before it may show what was.
    settled_at: u64,
}

impl Onlooker {
    fn reads(&mut self, state: PortState, now: u64) {
        if now < self.settled_at {
            return;
        }
        match state {
            PortState::Off if self.off_since.is_none() && !self.repeats => self.off_since = Some(now),
            PortState::Off => {}
            _ => self.off_since = None,
        }
        self.on_sent &= state != PortState::On;
    }

    fn command(&mut self, on: bool, accepted: bool) {
        if on || self.on_sent {
            self.off_since = None;
        }
        self.repeats |= on;
        self.on_sent = on || (self.on_sent && !accepted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

    #[test]
    fn never_on_before_the_minimum_off_time_and_never_without_a_wish(
        steps in prop::collection::vec(happening(), 1..200),
        port_min in 0..200_u64,
        mut relay in any::<bool>(),
        settle in prop_oneof![Just(0), 1..50_u64],
    ) {
        let new = || PortSafety::new(ms(port_min)).with_settle_time(ms(settle), port_min);
        let outsiders = steps.iter().any(|step| matches!(step, Happening::Outside(_)));
        let mut port = new();
        let mut boots = 0;
        // The state before the last command, shown until it settles; and when the outlet really went off.
        let mut stale = (relay, 0);
        let mut off_at = 0;
        let mut seen = Onlooker::default();
        let mut now = 0;
        let mut misses = 0;
        let mut wish: Option<(bool, u64)> = None;
        for step in steps {
            let shown = if now < stale.1 { stale.0 } else { relay };
            let state = if shown { PortState::On } else { PortState::Off };
            // A read: what the PDU says, or nothing.
            let mut read: Option<Option<PortState>> = None;
            match step {
                Happening::Wish { on, min_off } => {
                    port.wish(on, ms(min_off), ms(now));
                    wish = match wish {
                        Some((before, m)) if before == on => Some((on, m.max(min_off))),
                        _ => { seen.repeats = false; Some((on, min_off)) }
                    };
                }
                Happening::Withdraw => { port.withdraw(); wish = None; }
                Happening::Time(t) => now += t,
                Happening::Outside(on) => relay = on,
                Happening::Lost => { port.lost(); seen.off_since = None; }
                Happening::Restart { stored, reboot, wall } => {
                    let clock = |boots: u64, wall| Moment {
                        boot: boots.to_string(),
                        since_boot: now * 1000,
                        wall: farmgate_protocol::Timestamp::from_micros(wall),
                    };
                    let since = port.off_since().filter(|_| stored);
                    let record = since.map(|since| clock(boots, 0).earlier(ms(now) - since));
                    boots += u64::from(reboot);
                    port = new();
                    let age = record.and_then(|since| since.age(&clock(boots, wall)));
                    prop_assert_eq!(age, since.filter(|_| !reboot).map(|since| ms(now) - since));
                    seen = Onlooker { off_since: age.and(seen.off_since), ..Onlooker::default() };
                    if let Some(age) = age {
                        port.recall(ms(now) - age);
                    }
                    misses = 0;
                    wish = None;
                }
                Happening::Poll { answers } => read = Some(answers.then_some(state)),
                Happening::Work { answers, lies } => match port.next(ms(now)) {
                    Step::Nothing => prop_assert!(wish.is_none()),
                    // A PDU that lies says UNKNOWN here: a wrong OFF cannot be told from a right one.
                    Step::Read => read = Some(answers.then_some(if lies { PortState::Unknown } else { state })),
                    Step::Write(on) => {
                        prop_assert_eq!(wish.map(|w| w.0), Some(on), "the last wish wins");
                        if on && !seen.repeats {
                            let needed = port_min.max(wish.map_or(0, |w| w.1));
                            prop_assert!(seen.off_since.is_some_and(|since| now >= since + needed));
                            // Not only by what was read, but in truth.
                            prop_assert!(outsiders || relay || now >= off_at + needed);
                        }
                        port.write_started(on);
                        seen.command(on, answers);
                        // The command may be carried out although the answer is lost, or lost itself.
                        if (answers || lies) && relay != on {
                            stale = (relay, now + settle);
                            relay = on;
                            if !on { off_at = now; }
                        }
                        now += 1;
                        port.write_ended(on, answers, ms(now));
                        seen.settled_at = now + settle;
                    }
                    Step::WaitUntil(time) => prop_assert!(time > ms(now)),
                    Step::Done => {
                        let wanted = wish.map(|w| if w.0 { PortState::On } else { PortState::Off });
                        prop_assert_eq!(wanted, Some(port.observed()));
                        port.withdraw();
                        wish = None;
                    }
                    Step::GiveUp => { port.withdraw(); wish = None; }
                },
            }
            match read {
                Some(Some(state)) => {
                    misses = 0;
                    port.observe(state, ms(now));
                    seen.reads(state, now);
                }
                Some(None) => {
                    misses += 1;
                    port.unreadable(ms(now));
                    if misses >= MISSES { seen.off_since = None; }
                }
                None => {}
            }
            if wish.is_none() { seen.repeats = false; }
        }
    }

    #[test]
    fn a_port_that_works_gets_what_is_wished(on in any::<bool>(), starts_on in any::<bool>(), min_off in 0..100_u64) {
        let mut port = PortSafety::new(ms(min_off));
        let mut relay = starts_on;
        port.wish(on, Duration::ZERO, ms(0));
        let mut now = ms(0);
        for _ in 0..100 {
            now += ms(1);
            match port.next(now) {
                Step::Read => { port.observe(if relay { PortState::On } else { PortState::Off }, now); }
                Step::Write(to) => { port.write_started(to); relay = to; port.write_ended(to, true, now); }
                Step::WaitUntil(time) => now = now.max(time),
                Step::Done => break,
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(relay, on);
        prop_assert_eq!(port.next(now), Step::Done);
    }
}
