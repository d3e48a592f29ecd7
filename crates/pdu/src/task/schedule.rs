//! What a PDU's task does next: wishes before polling, the port first that waited longest, and switching on with a
//! pause between two ports.

use std::time::Duration;

use farmgate_protocol::{PortId, pdu::PortState};

use super::{Job, SLOWEST_WANTED_PAUSE, Task, ports};
use crate::{
    PowerError,
    handle::Request,
    safety::{CONFIRM_WITHIN, Step},
};

impl Task {
    /// Settles every wish that came true or has to be given up, and says what is most urgent.
    pub(super) fn choose(&mut self) -> Job {
        let now = self.now();
        let mut wake = Duration::MAX;
        let mut urgent: Option<(u64, PortId, Step)> = None;
        let on_from = self.last_on.map_or(Duration::ZERO, |last| last.saturating_add(self.on_interval));
        for (id, port) in &mut self.ports {
            let limit = port.limit(&self.name, id, now);
            let step = port.settle(&self.name, id, now);
            wake = wake.min(limit.unwrap_or(Duration::MAX));
            port.announce(id, &self.notices);
            match step {
                // Many machines that start together trip a fuse.
                Step::Write(true) if now < on_from => {
                    port.safety.held(now);
                    wake = wake.min(on_from);
                }
                Step::WaitUntil(time) => wake = wake.min(time),
                step @ (Step::Read | Step::Write(_)) => {
                    if urgent.as_ref().is_none_or(|(served, ..)| port.served < *served) {
                        urgent = Some((port.served, id.clone(), step));
                    }
                }
                Step::Nothing | Step::Done | Step::GiveUp => {}
            }
        }
        if !self.in_contact {
            wake = wake.min(self.expire_early(now));
            let wanted = !self.early.is_empty() || urgent.is_some() || wake < Duration::MAX;
            if wanted {
                self.next_contact = self.next_contact.min(now + SLOWEST_WANTED_PAUSE);
            }
            let due = self.next_contact <= now;
            return if due { Job::Contact } else { Job::SleepUntil(wake.min(self.next_contact)) };
        }
        if let Some((_, port, step)) = urgent {
            return Job::Act(port, step);
        }
        if self.to_poll.is_empty() && self.next_poll <= now {
            self.to_poll = self.ports.keys().cloned().collect();
            self.next_poll = now + self.options.poll.max(Duration::from_millis(1));
            self.changed = true;
        }
        match self.to_poll.pop_front() {
            Some(port) => Job::Poll(port),
            None => Job::SleepUntil(wake.min(self.next_poll)),
        }
    }

    /// Answers those that waited long enough for a PDU that never told its ports; says when the next one is due.
    fn expire_early(&mut self, now: Duration) -> Duration {
        while let Some((_, since)) = self.early.front() {
            let due = *since + CONFIRM_WITHIN;
            if due > now {
                return due;
            }
            if let Some((request, since)) = self.early.pop_front() {
                let (port, wanted, done) = match request {
                    Request::Set { port, on, done, .. } => (port, ports::state(on), done),
                    Request::MinOff { port, done, .. } | Request::Reserve { port, done, .. } => {
                        (port, PortState::Unknown, done)
                    }
                };
                let waited = now.saturating_sub(since);
                let (pdu, source) = (self.name.clone(), self.error.clone());
                let seen = PortState::Unknown;
                // The caller may be gone, then nobody needs the answer.
                let _ = done.send(Err(PowerError::NotConfirmed { pdu, port, wanted, seen, waited, source }));
            }
        }
        Duration::MAX
    }
}
