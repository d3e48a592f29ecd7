//! What may be done with one port, and when: a state machine without I/O and without a clock.
//!
//! It is told what somebody wishes ([`PortSafety::wish`]), what the PDU says ([`observe`](PortSafety::observe),
//! [`unreadable`](PortSafety::unreadable)) and what became of a command ([`write_started`](PortSafety::write_started)
//! and [`write_ended`](PortSafety::write_ended)); [`next`](PortSafety::next) says what to do. It promises:
//!
//! * without a wish there is never a command;
//! * ON is commanded only after the port was seen OFF for the whole minimum time, in one piece, counted from when it
//!   was first *seen* OFF: not from the command, and not across a time in which it could not be read
//!   (one or two reads that fail between others do not count: answers get lost);
//! * a new wish replaces the old one at once;
//! * what is read sooner after a command than the PDU needs to show the new state is not believed.
//!
//! Times are lengths since any fixed moment, by a clock that never jumps (the wall clock does). After a restart a port
//! is taken for just switched off, unless a record says since when it is off ([`PortSafety::recall`]) and the
//! first look at it agrees.

use std::time::Duration;

use farmgate_protocol::pdu::PortState;

/// How long a wish is tried before it is given up.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(30);
/// So many failed reads in a row make the state UNKNOWN.
const MISSES: u32 = 3;
/// An OFF that was read longer ago is read again before ON is commanded.
const FRESH: Duration = Duration::from_secs(2);
const FIRST_READ: Duration = Duration::from_millis(10);
const SLOWEST_READ: Duration = Duration::from_millis(500);
/// A command is repeated after this, doubling: the PDU may have lost it, but most are only slow to show the new state.
const FIRST_REPEAT: Duration = Duration::from_secs(2);
const SLOWEST_REPEAT: Duration = Duration::from_secs(8);
/// A command that failed is repeated sooner.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nobody wishes anything.
    Nothing,
    /// Read the port.
    Read,
    /// Switch the port.
    Write(bool),
    /// Nothing before that time.
    WaitUntil(Duration),
    /// The wish came true: tell, and call [`PortSafety::withdraw`].
    Done,
    /// The wish did not come true in time: tell, and call [`PortSafety::withdraw`].
    GiveUp,
}

#[derive(Debug, Clone)]
struct Wish {
    on: bool,
    min_off: Duration,
    made_at: Duration,
    /// When it was last seen to wait for nothing but time.
    patience_from: Duration,
    writes: u32,
    /// A command of this wish was accepted.
    accepted: bool,
    /// The port was read since the wish was made; for an OFF since its command was accepted.
    seen: bool,
    next_write: Duration,
    next_read: Duration,
    reads: u32,
    /// It was given up once, and is tried on: see [`PortSafety::keep_trying`].
    endless: bool,
}

/// One port.
#[derive(Debug, Clone)]
pub struct PortSafety {
    min_off: Duration,
    observed: PortState,
    observed_at: Option<Duration>,
    /// First of the unbroken row of OFFs that was read.
    off_since: Option<Duration>,
    /// ON was commanded, and neither seen nor taken back: an OFF that is read may still turn into ON.
    maybe_on: bool,
    misses: u32,
    wish: Option<Wish>,
    /// How long a state that is read after a command may be the old one.
    settle: Duration,
    /// What is read before is not believed.
    settled_at: Duration,
    /// Since when it is off by the record of a gateway before; believed if the first look finds it OFF.
    recalled: Option<Duration>,
    /// The state of randomness that spreads repeated commands.
    spread: u64,
}

impl PortSafety {
    /// A port of which nothing is known.
    pub fn new(min_off: Duration) -> Self {
        Self {
            min_off,
            observed: PortState::Unknown,
            observed_at: None,
            off_since: None,
            maybe_on: false,
            misses: 0,
            wish: None,
            settle: Duration::ZERO,
            settled_at: Duration::ZERO,
            recalled: None,
            spread: 0,
        }
    }

    /// What this PDU needs to show a new state, and where the randomness of its pauses begins.
    pub fn with_settle_time(self, settle: Duration, spread: u64) -> Self {
        Self { settle, spread, ..self }
    }

    /// A gateway before has stored that the port is off since then, and nothing was commanded after.
    pub fn recall(&mut self, off_since: Duration) {
        if self.observed_at.is_none() {
            self.recalled = Some(off_since);
        }
    }

    /// First of the unbroken row of OFFs; None: it is not off, or may be about to turn on.
    pub fn off_since(&self) -> Option<Duration> {
        self.off_since.filter(|_| !self.maybe_on)
    }

    /// The port's own minimum off time.
    pub fn min_off(&self) -> Duration {
        self.min_off
    }

    /// Sets the port's own minimum off time.
    pub fn set_min_off(&mut self, min_off: Duration) {
        self.min_off = min_off;
    }

    /// As last seen; UNKNOWN when it could not be read lately.
    pub fn observed(&self) -> PortState {
        self.observed
    }

    /// What is wished: ON (true) or OFF.
    pub fn wished(&self) -> Option<bool> {
        self.wish.as_ref().map(|wish| wish.on)
    }

    /// How long the present wish has been tried.
    pub fn waited(&self, now: Duration) -> Duration {
        self.wish.as_ref().map(|wish| now.saturating_sub(wish.made_at)).unwrap_or_default()
    }

    /// Somebody wishes the port ON or OFF. The same wish twice is one wish with the longer off time; the opposite one
    /// replaces the old.
    pub fn wish(&mut self, on: bool, min_off: Duration, now: Duration) {
        match &mut self.wish {
            Some(wish) if wish.on == on => {
                wish.min_off = wish.min_off.max(min_off);
                wish.patience_from = now;
                wish.endless = false;
            }
            _ => {
                self.wish = Some(Wish {
                    on,
                    min_off,
                    made_at: now,
                    patience_from: now,
                    writes: 0,
                    accepted: false,
                    seen: false,
                    next_write: now,
                    next_read: now,
                    reads: 0,
                    endless: false,
                });
            }
        }
    }

    /// Instead of [`withdraw`](Self::withdraw) after [`Step::GiveUp`]: the wish is tried for ever.
    pub fn keep_trying(&mut self) {
        if let Some(wish) = &mut self.wish {
            wish.endless = true;
        }
    }

    /// The command that [`next`](Self::next) asked for has to wait for something that is not the port's fault.
    pub fn held(&mut self, now: Duration) {
        if let Some(wish) = &mut self.wish {
            wish.patience_from = now;
        }
    }

    /// Nobody wishes anything any more.
    pub fn withdraw(&mut self) {
        self.wish = None;
    }

    /// The PDU told the port's state. True when it changed without us.
    pub fn observe(&mut self, state: PortState, now: Duration) -> bool {
        if now < self.settled_at {
            self.misses = 0;
            return false;
        }
        let recalled = self.recalled.take().filter(|_| state == PortState::Off);
        let before = std::mem::replace(&mut self.observed, state);
        self.observed_at = Some(now);
        self.misses = 0;
        let mut ours = self.maybe_on && state == PortState::On;
        if let Some(wish) = &mut self.wish {
            ours |= wish.writes > 0;
            wish.read_again_after(now);
            wish.seen |= wish.on || wish.accepted;
            if state == PortState::Off && wish.writes == 0 {
                wish.patience_from = now;
            }
        }
        match state {
            PortState::Off => {
                // An OFF that is read after our ON was sent proves nothing: the relay may be slow.
                let on_is_due = self.wish.as_ref().is_some_and(|wish| wish.on && wish.writes > 0);
                if self.off_since.is_none() && !on_is_due {
                    self.off_since = Some(recalled.map_or(now, |since| since.min(now)));
                }
            }
            PortState::On => {
                self.off_since = None;
                self.maybe_on = false;
            }
            PortState::Unknown | PortState::Reboot => self.off_since = None,
        }
        let known = |state| matches!(state, PortState::On | PortState::Off);
        known(before) && known(state) && before != state && !ours
    }

    /// The port could not be read.
    pub fn unreadable(&mut self, now: Duration) {
        self.misses = self.misses.saturating_add(1);
        if self.misses >= MISSES {
            self.lost();
        }
        if let Some(wish) = &mut self.wish {
            wish.read_again_after(now);
        }
    }

    /// Nothing is known of the port any more: the PDU does not answer.
    pub fn lost(&mut self) {
        self.observed = PortState::Unknown;
        self.off_since = None;
        self.recalled = None;
    }

    /// A command is about to be sent. From here on the port must be taken to be in either state.
    pub fn write_started(&mut self, on: bool) {
        if on {
            self.recalled = None;
            self.maybe_on = true;
            self.off_since = None;
        } else if self.maybe_on {
            self.off_since = None;
        }
        if let Some(wish) = &mut self.wish {
            wish.writes = wish.writes.saturating_add(1);
            wish.reads = 0;
        }
    }

    /// The PDU accepted the command, or it failed.
    pub fn write_ended(&mut self, on: bool, accepted: bool, now: Duration) {
        if accepted && !on {
            self.maybe_on = false;
        }
        // Also of a command that failed: it may have been carried out.
        self.settled_at = now.saturating_add(self.settle);
        let spread = self.spread();
        if let Some(wish) = &mut self.wish {
            let first = if accepted { FIRST_REPEAT } else { FIRST_RETRY };
            let pause = first.saturating_mul(1 << wish.writes.saturating_sub(1).min(7)).min(SLOWEST_REPEAT);
            wish.next_write = now + pause + pause.mul_f64(spread) + self.settle;
            wish.next_read = now;
            wish.accepted |= accepted;
        }
    }

    /// Up to a quarter: many ports whose commands fail together must not repeat them together.
    fn spread(&mut self) -> f64 {
        // Constants of a linear congruential generator (Knuth, MMIX).
        self.spread =
            self.spread.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((self.spread >> 40) as u32) / f64::from(1_u32 << 24) / 4.0
    }

    /// What to do now.
    pub fn next(&self, now: Duration) -> Step {
        let Some(wish) = &self.wish else { return Step::Nothing };
        let step = if wish.on { self.next_on(wish, now) } else { self.next_off(wish, now) };
        let waits_for_off_time = matches!(step, Step::WaitUntil(due) if wish.on && wish.writes == 0
            && self.observed == PortState::Off && Some(due) == self.on_allowed_at(wish));
        // Where reads are slow the last look may be long ago when ON becomes possible: it is to be tried all the same.
        let possible_at = self
            .on_allowed_at(wish)
            .filter(|due| wish.on && wish.writes == 0 && self.observed == PortState::Off && *due <= now);
        let end = wish
            .patience_from
            .max(possible_at.unwrap_or_default())
            .saturating_add(CONFIRM_WITHIN.saturating_add(self.settle));
        match step {
            Step::Done => Step::Done,
            _ if waits_for_off_time || wish.endless => step,
            _ if now >= end => Step::GiveUp,
            Step::WaitUntil(time) => Step::WaitUntil(time.min(end)),
            other => other,
        }
    }

    fn on_allowed_at(&self, wish: &Wish) -> Option<Duration> {
        self.off_since.map(|since| since.saturating_add(self.min_off.max(wish.min_off)))
    }

    fn next_on(&self, wish: &Wish, now: Duration) -> Step {
        let read = self.read_when_settled(wish, now);
        let Some(seen_at) = self.observed_at.filter(|_| wish.seen) else { return read };
        match self.observed {
            PortState::On => Step::Done,
            PortState::Unknown | PortState::Reboot => read,
            PortState::Off if wish.writes > 0 => match read {
                _ if wish.next_write <= now => Step::Write(true),
                Step::WaitUntil(time) => Step::WaitUntil(time.min(wish.next_write)),
                other => other,
            },
            PortState::Off => match self.on_allowed_at(wish) {
                Some(due) if now < due => Step::WaitUntil(due),
                Some(_) if now.saturating_sub(seen_at) <= FRESH => Step::Write(true),
                _ => read,
            },
        }
    }

    fn next_off(&self, wish: &Wish, now: Duration) -> Step {
        if wish.seen && self.observed == PortState::Off && !self.maybe_on {
            return Step::Done;
        }
        if wish.next_write <= now {
            return Step::Write(false);
        }
        if !wish.accepted {
            return Step::WaitUntil(wish.next_write);
        }
        match self.read_when_settled(wish, now) {
            Step::WaitUntil(time) => Step::WaitUntil(time.min(wish.next_write)),
            read => read,
        }
    }

    fn read_when_settled(&self, wish: &Wish, now: Duration) -> Step {
        let due = wish.next_read.max(self.settled_at);
        if due <= now { Step::Read } else { Step::WaitUntil(due) }
    }
}

impl Wish {
    fn read_again_after(&mut self, now: Duration) {
        let pause = FIRST_READ.saturating_mul(1 << self.reads.min(6)).min(SLOWEST_READ);
        self.reads = self.reads.saturating_add(1);
        self.next_read = now + pause;
    }
}

#[cfg(test)]
mod tests;
