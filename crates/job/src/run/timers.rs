//! Which timers of a run are armed, and until when.

use std::collections::BTreeMap;

use farmgate_protocol::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Action, TimerId};
use crate::Timeout;

/// The armed timers. Whoever changes them gets the actions to do so at the owner too.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Timers {
    armed: BTreeMap<TimerId, Timestamp>,
}

impl Timers {
    /// Arms a timer, unless its timeout is infinite.
    pub(super) fn arm(&mut self, timer: TimerId, timeout: Timeout, now: Timestamp, out: &mut Vec<Action>) {
        let Some(limit) = timeout.limit else { return };
        let at = now + limit;
        self.armed.insert(timer.clone(), at);
        out.push(Action::ArmTimer { timer, at });
    }

    pub(super) fn disarm(&mut self, timer: &TimerId, out: &mut Vec<Action>) {
        if self.armed.remove(timer).is_some() {
            out.push(Action::DisarmTimer { timer: timer.clone() });
        }
    }

    /// Disarms all but those that `keep` tells.
    pub(super) fn disarm_except(&mut self, keep: fn(&TimerId) -> bool, out: &mut Vec<Action>) {
        self.armed.retain(|timer, _| {
            let kept = keep(timer);
            if !kept {
                out.push(Action::DisarmTimer { timer: timer.clone() });
            }
            kept
        });
    }

    pub(super) fn get(&self, timer: &TimerId) -> Option<Timestamp> {
        self.armed.get(timer).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TimerId, Timestamp)> {
        self.armed.iter().map(|(timer, at)| (timer, *at))
    }

    /// The timer that ran out first, of those whose time is before `now`, and its time. It is no longer armed.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<(TimerId, Timestamp)> {
        let (timer, at) = self.armed.iter().filter(|(_, at)| **at < now).min_by_key(|(_, at)| **at)?;
        let (timer, at) = (timer.clone(), *at);
        self.armed.remove(&timer);
        Some((timer, at))
    }

    /// It ran out.
    pub(super) fn remove(&mut self, timer: &TimerId) {
        self.armed.remove(timer);
    }
}

impl Serialize for Timers {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // Pairs: a key of JSON must be a text.
        s.collect_seq(&self.armed)
    }
}

impl<'de> Deserialize<'de> for Timers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let pairs = Vec::<(TimerId, Timestamp)>::deserialize(d)?;
        Ok(Self { armed: pairs.into_iter().collect() })
    }
}
