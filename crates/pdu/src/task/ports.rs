//! What the task keeps of each port: its state machine, those who wait for it, and what is shown of it.

use std::{error::Error, time::Duration};

use farmgate_protocol::{
    PortId, Timestamp,
    pdu::{Port as ShownPort, PortState},
};
use tokio::sync::oneshot;

use super::wall_clock;
use crate::{
    DriverError, PowerError,
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
    /// Watts.
    pub power: Option<f64>,
    /// Joules: the PDU's counter when it was first read, and now.
    energy: Option<(f64, f64)>,
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
    pub fn new(min_off: Duration, reserved: bool) -> Self {
        Self {
            label: String::new(),
            safety: PortSafety::new(min_off),
            reserved,
            waiters: Vec::new(),
            last_shutdown: None,
            last_polled: None,
            power: None,
            energy: None,
            last_error: None,
            served: 0,
        }
    }

    pub fn wish(&mut self, pdu: &str, id: &PortId, on: bool, min_off: Duration, done: Done, now: Duration) {
        // The caller gave up before we heard of its wish. An OFF is carried out all the same.
        if on && done.is_closed() {
            return;
        }
        if self.reserved {
            let _ = done.send(Err(PowerError::Reserved { pdu: pdu.to_owned(), port: id.clone() }));
            return;
        }
        if let Some(before) = self.safety.wished().filter(|before| *before != on) {
            self.refuse(&PowerError::Superseded {
                pdu: pdu.to_owned(),
                port: id.clone(),
                wanted: state(before),
                now: state(on),
            });
        }
        if self.waiters.is_empty() {
            self.last_error = None;
        }
        self.safety.wish(on, min_off, now);
        self.waiters.push(done);
    }

    pub fn reserve(&mut self, pdu: &str, id: &PortId, reserved: bool) {
        self.reserved = reserved;
        if reserved {
            self.safety.withdraw();
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
                self.safety.withdraw();
                self.refuse(&error);
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
        }
        self.last_polled = Some(wall_clock());
        if state == PortState::Off
            && before != PortState::Off
            && (before == PortState::On || self.safety.wished() == Some(false))
        {
            self.last_shutdown = Some(wall_clock());
        }
        before != state
    }

    /// The PDU's own counter says so many joules.
    pub fn metered(&mut self, joules: f64) {
        if joules.is_finite() {
            // A counter that went back was reset.
            let first = self.energy.map(|(first, _)| first).filter(|first| *first <= joules);
            self.energy = Some((first.unwrap_or(joules), joules));
        }
    }

    pub fn shown(&self) -> ShownPort {
        ShownPort {
            label: self.label.clone(),
            min_off_time: self.safety.min_off().as_secs_f64(),
            state: self.safety.observed(),
            last_shutdown: self.last_shutdown,
            last_polled: self.last_polled,
            reserved: self.reserved,
            instant_power: self.power,
            energy: self.energy.map(|(first, now)| now - first),
        }
    }
}
