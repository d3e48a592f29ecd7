//! The event log: what happened lately, for people and programs that watch. Bounded, in memory, never waits for a
//! reader: whoever lags misses old events and sees it in the sequence numbers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use farmgate_protocol::{DutId, Timestamp, event::Event};
use serde_json::{Map, Value};
use tokio::sync::broadcast;

/// How many events are remembered.
const REMEMBERED: usize = 4096;

/// Handle to the event log.
#[derive(Clone)]
pub struct EventLog {
    inner: Arc<Inner>,
}

struct Inner {
    recent: Mutex<(u64, VecDeque<Event>)>,
    live: broadcast::Sender<Event>,
}

impl Default for EventLog {
    fn default() -> Self {
        let (live, _) = broadcast::channel(1024);
        Self { inner: Arc::new(Inner { recent: Mutex::new((0, VecDeque::new())), live }) }
    }
}

impl EventLog {
    /// Records an event and shows it to all who watch.
    pub fn emit(
        &self,
        dut: Option<&DutId>,
        kind: &str,
        text: impl Into<String>,
        details: Map<String, Value>,
    ) {
        let text = text.into();
        tracing::info!(dut = dut.map(DutId::as_str), kind, "{text}");
        // The lock is held while sending, so that live readers see the order of the sequence numbers.
        let mut recent = self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.0 += 1;
        let event = Event {
            seq: recent.0,
            time: Timestamp::now(),
            dut: dut.cloned(),
            kind: kind.to_owned(),
            text,
            details,
        };
        if recent.1.len() == REMEMBERED {
            recent.1.pop_front();
        }
        recent.1.push_back(event.clone());
        // No receiver is no error: nobody watches.
        let _ = self.inner.live.send(event);
    }

    /// The remembered events after `seq`, and a receiver of all that follow them.
    pub fn since(&self, seq: u64) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let recent = self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.inner.live.subscribe();
        (recent.1.iter().filter(|e| e.seq > seq).cloned().collect(), live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_gets_what_was_and_then_what_comes_without_a_gap() {
        let log = EventLog::default();
        log.emit(None, "state", "one", Map::new());
        log.emit(None, "state", "two", Map::new());
        let (old, mut live) = log.since(1);
        log.emit(None, "state", "three", Map::new());
        assert_eq!(old.iter().map(|e| e.seq).collect::<Vec<_>>(), [2]);
        assert_eq!(live.recv().await.unwrap().seq, 3);
    }

    #[test]
    fn memory_is_bounded() {
        let log = EventLog::default();
        for _ in 0..REMEMBERED + 10 {
            log.emit(None, "x", "x", Map::new());
        }
        assert_eq!(log.since(0).0.len(), REMEMBERED);
    }
}
