//! What the task keeps of each port: its state machine, those who wait for it, and what is shown of it.

use std::{
    error::Error,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use farmgate_protocol::{
    PortId, Timestamp,
    pdu::{Port as ShownPort, PortState},
};
use tokio::sync::{broadcast, oneshot};

use super::{energy::Meter, wall_clock};
use crate::{
    DriverError, Moment, Notice, NoticeKind, PortRecord, PortRule, PowerError, PowerMode,
    safety::{PortSafety, Step},
};

pub(super) type Done = oneshot::Sender<Result<(), PowerError>>;

pub(super) struct Port {
    pub label: String,
    pub safety: PortSafety,
    pub reserved: bool,
    /// Those who wait for the present wish.
    waiters: Vec<Done>,
    last_shutdown: Option<Timestamp>,
    last_polled: Option<Timestamp>,
    pub meter: Meter,
    pub rule: Option<PortRule>,
    /// OFF was not confirmed, and is tried on: why.
    alarm: Option<String>,
    /// Since when it is on, in one piece as far as we know.
    on_since: Option<Duration>,
    /// OFF or ON, whichever was seen last.
    last_known: PortState,
    cycles: u64,
    /// As it is in the journal.
    recorded: PortRecord,
    /// Its `off_since` by our clock.
    recorded_since: Option<Duration>,
    /// What others are to be told.
    notices: Vec<(NoticeKind, String)>,
    /// The last failure since the wish was made.
    pub last_error: Option<DriverError>,
    /// The turn in which the PDU was last asked something about this port.
    pub served: u64,
}

/// ON or OFF as a state.
pub(super) fn state(on: bool) -> PortState {
    if on { PortState::On } else { PortState::Off }
}

/// An error with its causes, in one line.
pub(super) fn describe(error: &DriverError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Port {
    pub fn new(min_off: Duration, settle: Duration, reserved: bool) -> Self {
        let spread = RandomState::new().hash_one(0);
        Self {
            label: String::new(),
            safety: PortSafety::new(min_off).with_settle_time(settle, spread),
            reserved,
            waiters: Vec::new(),
            last_shutdown: None,
            last_polled: None,
            meter: Meter::default(),
            rule: None,
            alarm: None,
            on_since: None,
            last_known: PortState::Unknown,
            cycles: 0,
            recorded: PortRecord::default(),
            recorded_since: None,
            notices: Vec::new(),
            last_error: None,
            served: 0,
        }
    }

    /// Takes up what a gateway before knew of it. `now` is the same moment by both clocks.
    pub fn recall(&mut self, record: PortRecord, now: Duration, moment: &Moment) {
        self.cycles = record.cycles;
        self.recorded.cycles = record.cycles;
        // A record of another boot is worth nothing, for us and for those after us.
        let Some(age) = record.off_since.as_ref().and_then(|since| since.age(moment)) else { return };
        let since = now.saturating_sub(age);
        self.safety.recall(since);
        self.last_known = PortState::Off;
        self.last_shutdown = record.off_since.as_ref().map(|since| since.wall);
        (self.recorded, self.recorded_since) = (record, Some(since));
    }

    /// What is to be in the journal, if something else is there.
    pub fn news_for_journal(&mut self, now: Duration) -> Option<&PortRecord> {
        let off_since = self.safety.off_since();
        // Before the first look it is as it was recorded.
        let same = off_since == self.recorded_since || self.last_polled.is_none();
        if same && self.cycles == self.recorded.cycles {
            return None;
        }
        if !same {
            let moment = |since| Moment::now().earlier(now.saturating_sub(since));
            (self.recorded.off_since, self.recorded_since) = (off_since.map(moment), off_since);
        }
        self.recorded.cycles = self.cycles;
        Some(&self.recorded)
    }

    /// What is to be in the journal before ON is commanded, if something else is there.
    pub fn record_before_on(&mut self) -> Option<PortRecord> {
        self.recorded_since.take()?;
        self.recorded.off_since = None;
        Some(self.recorded.clone())
    }

    /// What the farm's owner says of it has changed.
    pub fn set_rule(&mut self, pdu: &str, id: &PortId, rule: Option<PortRule>) {
        self.rule = rule;
        if let Some(on) = self.safety.wished()
            && let Err(error) = self.allowed(pdu, id, on)
        {
            self.safety.withdraw();
            self.alarm = None;
            self.refuse(&error);
        }
    }

    fn allowed(&self, pdu: &str, id: &PortId, on: bool) -> Result<(), PowerError> {
        let (pdu, port) = (pdu.to_owned(), id.clone());
        let owner = || self.rule.as_ref().map(|rule| rule.owner.clone()).unwrap_or_default();
        match self.rule.as_ref().map(|rule| rule.mode).unwrap_or_default() {
            _ if self.reserved => Err(PowerError::Reserved { pdu, port }),
            PowerMode::Manual => Err(PowerError::Manual { pdu, port, owner: owner() }),
            PowerMode::NeverOff if !on => Err(PowerError::NeverOff { pdu, port, owner: owner() }),
            PowerMode::Managed | PowerMode::NeverOff => Ok(()),
        }
    }

    /// Switches it off when it was on for too long; says when that will be.
    pub fn limit(&mut self, pdu: &str, id: &PortId, now: Duration) -> Option<Duration> {
        let max = self.rule.as_ref()?.max_on?;
        let due = self.on_since?.saturating_add(max);
        if now < due {
            return Some(due);
        }
        if self.safety.wished() != Some(false) && self.allowed(pdu, id, false).is_ok() {
            let text = format!(
                "port {id} of PDU {pdu} was on for longer than {max:?} (max_on_time): it is switched off"
            );
            tracing::warn!(pdu, port = %id, ?max, "port was on for too long");
            self.notices.push((NoticeKind::OnTooLong, text));
            self.replace_wish(pdu, id, false);
            self.safety.wish(false, Duration::ZERO, now);
        }
        None
    }

    pub fn wish(&mut self, pdu: &str, id: &PortId, on: bool, min_off: Duration, done: Done, now: Duration) {
        // The caller gave up before we heard of its wish. An OFF is carried out all the same.
        if on && done.is_closed() {
            return;
        }
        if let Err(error) = self.allowed(pdu, id, on) {
            // The caller may be gone, then nobody needs the answer.
            let _ = done.send(Err(error));
            return;
        }
        self.replace_wish(pdu, id, on);
        if self.waiters.is_empty() {
            self.last_error = None;
        }
        self.safety.wish(on, min_off, now);
        self.waiters.push(done);
    }

    /// The last wish wins: those who wait for the opposite are told.
    fn replace_wish(&mut self, pdu: &str, id: &PortId, on: bool) {
        if let Some(before) = self.safety.wished().filter(|before| *before != on) {
            self.refuse(&PowerError::Superseded {
                pdu: pdu.to_owned(),
                port: id.clone(),
                wanted: state(before),
                now: state(on),
            });
        }
        if on {
            self.end_alarm("OFF is no longer wanted");
        }
    }

    fn end_alarm(&mut self, why: &str) {
        if let Some(alarm) = self.alarm.take() {
            self.notices.push((NoticeKind::AlarmOver, format!("{why}; it was: {alarm}")));
        }
    }

    pub fn reserve(&mut self, pdu: &str, id: &PortId, reserved: bool) {
        self.reserved = reserved;
        if reserved {
            self.safety.withdraw();
            self.alarm = None;
            self.refuse(&PowerError::Reserved { pdu: pdu.to_owned(), port: id.clone() });
        }
    }

    /// Tells those who wait if the wish came true or is given up, forgets an ON that nobody waits for any more, and
    /// says what is left to do.
    pub fn settle(&mut self, pdu: &str, id: &PortId, now: Duration) -> Step {
        self.waiters.retain(|waiter| !waiter.is_closed());
        if self.waiters.is_empty() && self.safety.wished() == Some(true) {
            self.safety.withdraw();
        }
        let step = self.safety.next(now);
        match step {
            Step::Done => {
                self.safety.withdraw();
                self.end_alarm("OFF is confirmed");
                for waiter in self.waiters.drain(..) {
                    let _ = waiter.send(Ok(()));
                }
            }
            Step::GiveUp => {
                let error = PowerError::NotConfirmed {
                    pdu: pdu.to_owned(),
                    port: id.clone(),
                    wanted: self.safety.wished().map(state).unwrap_or_default(),
                    seen: self.safety.observed(),
                    waited: self.safety.waited(now),
                    source: self.last_error.clone(),
                };
                tracing::error!(%error, "port could not be switched");
                self.refuse(&error);
                if self.safety.wished() == Some(false) {
                    self.safety.keep_trying();
                    let text = format!("ALARM: {error}; OFF is tried for ever");
                    if self.alarm.is_none() {
                        self.notices.push((NoticeKind::Alarm, text.clone()));
                    }
                    self.alarm = Some(text);
                } else {
                    self.safety.withdraw();
                }
            }
            _ => {}
        }
        step
    }

    fn refuse(&mut self, error: &PowerError) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Tells everybody who listens.
    pub fn announce(&mut self, id: &PortId, listeners: &broadcast::Sender<Notice>) {
        for (what, text) in self.notices.drain(..) {
            // Nobody may listen.
            let _ = listeners.send(Notice { port: id.clone(), what, text });
        }
    }

    /// The port is gone.
    pub fn refuse_all(mut self, error: &PowerError) {
        self.refuse(error);
    }

    /// Takes in what was read; true if that is news.
    pub fn observe(&mut self, pdu: &str, id: &PortId, state: PortState, now: Duration) -> bool {
        let before = self.safety.observed();
        let surprising = self.safety.observe(state, now);
        if surprising {
            tracing::warn!(pdu, port = %id, %before, now = %state, "port changed its state without our command");
            let text = format!("somebody else switched port {id} of PDU {pdu} {state}: it was {before}");
            self.notices.push((NoticeKind::ChangedByOthers, text));
        }
        self.note_duty(now);
        self.last_polled = Some(wall_clock());
        if state == PortState::Off
            && before != PortState::Off
            && (before == PortState::On || self.safety.wished() == Some(false))
        {
            self.last_shutdown = Some(wall_clock());
        }
        before != state
    }

    /// Counts what wears a relay, and how long it is on.
    fn note_duty(&mut self, now: Duration) {
        let observed = self.safety.observed();
        match observed {
            PortState::On => {
                self.cycles += u64::from(self.last_known == PortState::Off);
                self.on_since = self.on_since.or(Some(now));
            }
            PortState::Off => self.on_since = None,
            // It may still be on: that time counts too.
            PortState::Unknown | PortState::Reboot => return,
        }
        self.last_known = observed;
    }

    pub fn shown(&self) -> ShownPort {
        ShownPort {
            label: self.label.clone(),
            min_off_time: self.safety.min_off().as_secs_f64(),
            state: self.safety.observed(),
            last_shutdown: self.last_shutdown,
            last_polled: self.last_polled,
            reserved: self.reserved,
            instant_power: self.meter.watts(),
            energy: self.meter.joules(),
            cycles: self.cycles,
            alarm: self.alarm.clone(),
        }
    }
}
