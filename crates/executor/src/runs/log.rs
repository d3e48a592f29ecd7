//! What a run has told so far, in order, for any number of clients that read it at their own pace. It only grows;
//! what is in it is stored, so that it is the same after a restart.

use std::sync::{Arc, Mutex, PoisonError};

use farmgate_protocol::{JobStatus, Timestamp, console::Control};
use farmgate_salad::ConsoleOffset;
use tokio::sync::watch;

/// A message of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// Counts from 1 in its run.
    pub seq: u64,
    /// The console is shown up to here first.
    pub at: ConsoleOffset,
    /// When it was made.
    pub date: Timestamp,
    /// The message.
    pub control: Control,
}

/// How a run ended, as a client is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct End {
    /// Its console ends here.
    pub at: ConsoleOffset,
    /// When.
    pub date: Timestamp,
    /// The verdict.
    pub status: JobStatus,
    /// What its machine drew, joules, where that is measured.
    pub joules: Option<f64>,
}

/// Where a run's console is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsolePlace {
    /// Whose record.
    pub machine: String,
    /// Its first byte there.
    pub from: ConsoleOffset,
}

/// What comes next for a reader.
#[derive(Debug, Clone)]
pub(crate) enum Next {
    /// A message.
    Told(Arc<Told>),
    /// The verdict: the last thing.
    End(End),
    /// Nothing yet.
    Nothing,
}

/// The log of one run.
#[derive(Debug)]
pub(crate) struct RunLog {
    run: u64,
    inner: Mutex<Inner>,
    grown: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    told: Vec<Arc<Told>>,
    console: Option<ConsolePlace>,
    end: Option<End>,
}

impl RunLog {
    /// An empty one.
    pub fn new(run: u64) -> Self {
        Self { run, inner: Mutex::default(), grown: watch::channel(()).0 }
    }

    /// Number of the run.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// The number that the next message gets.
    pub fn next_seq(&self) -> u64 {
        self.lock().told.last().map_or(1, |told| told.seq + 1)
    }

    /// One more message; its `seq` must be [`next_seq`](Self::next_seq).
    pub fn tell(&self, told: Told) {
        self.change(|inner| inner.told.push(Arc::new(told)));
    }

    /// It has a machine: its console begins there.
    pub fn set_console(&self, place: ConsolePlace) {
        self.change(|inner| inner.console = Some(place));
    }

    /// The verdict.
    pub fn end(&self, end: End) {
        self.change(|inner| inner.end = Some(end));
    }

    /// Where its console is.
    pub fn console(&self) -> Option<ConsolePlace> {
        self.lock().console.clone()
    }

    /// What follows the message of that number (0: the beginning).
    pub fn after(&self, seq: u64) -> Next {
        let inner = self.lock();
        let index = inner.told.partition_point(|told| told.seq <= seq);
        match (inner.told.get(index), inner.end) {
            (Some(told), _) => Next::Told(Arc::clone(told)),
            (None, Some(end)) => Next::End(end),
            (None, None) => Next::Nothing,
        }
    }

    /// Returns when the run has its verdict. Cancel safe.
    pub async fn ended(&self) {
        let mut grown = self.watch();
        while self.lock().end.is_none() {
            if grown.changed().await.is_err() {
                // The sender is a field of this value: it cannot be gone.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells of each change.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.grown.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.grown.send_replace(());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use farmgate_protocol::console::Tag;

    use super::*;

    fn told(seq: u64) -> Told {
        let control = Control::info(Tag::None, format!("message {seq}"));
        Told { seq, at: ConsoleOffset(seq * 10), date: Timestamp::default(), control }
    }

    #[test]
    fn a_reader_that_comes_back_gets_what_follows_the_last_message_it_had() {
        let log = RunLog::new(7);
        for seq in 1..=3 {
            assert_eq!(log.next_seq(), seq);
            log.tell(told(seq));
        }
        for had in 0..3 {
            assert!(matches!(log.after(had), Next::Told(next) if next.seq == had + 1));
        }
        assert!(matches!(log.after(3), Next::Nothing));
        log.end(End {
            at: ConsoleOffset(99),
            date: Timestamp::default(),
            status: JobStatus::Pass,
            joules: None,
        });
        assert!(matches!(log.after(3), Next::End(end) if end.status == JobStatus::Pass));
        assert!(matches!(log.after(1), Next::Told(next) if next.seq == 2), "the verdict is the last thing");
    }

    #[tokio::test]
    async fn every_change_wakes_a_reader_that_waits() {
        let log = RunLog::new(1);
        let mut watch = log.watch();
        log.tell(told(1));
        assert!(watch.changed().await.is_ok());
        log.set_console(ConsolePlace { machine: "m".to_owned(), from: ConsoleOffset(5) });
        assert!(watch.changed().await.is_ok());
    }
}
