//! Follows a record for ever: what is there, then what comes.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::{Cursor, Record, RecordError};
use crate::offset::{Chunk, ConsoleOffset};

/// Bytes before the end that were written just now, so that they are in the page cache: reading them does not wait
/// for a disk and is done on the spot. Everything older is read on a thread that may wait.
const FRESH: u64 = 1 << 20;

/// One reader of a record. It holds a place and two open files; the writer never waits for it.
#[derive(Debug)]
pub(crate) struct Follower {
    record: Arc<Record>,
    position: ConsoleOffset,
    /// Away while a thread reads with it. When that read was given up, a new one is made at `position`.
    cursor: Option<Cursor>,
    end: watch::Receiver<ConsoleOffset>,
}

impl Follower {
    /// Follows from this offset on.
    pub(crate) fn new(record: Arc<Record>, from: ConsoleOffset) -> Self {
        let end = record.follow();
        Self { record, position: from, cursor: None, end }
    }

    /// The next chunks, at least one; waits for them. Cancel safe: what is not returned is not passed.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Vec<Chunk>, RecordError> {
        loop {
            // Marked as seen before the read: an end that moves during it wakes us again.
            self.end.mark_unchanged();
            let chunks = self.read().await?;
            if !chunks.is_empty() {
                return Ok(chunks);
            }
            if self.end.changed().await.is_err() {
                // `record` holds the sender, so this cannot be; waiting is right if it ever is.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next chunks; none when the present end is reached.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub(crate) async fn read(&mut self) -> Result<Vec<Chunk>, RecordError> {
        let mut cursor =
            self.cursor.take().unwrap_or_else(|| Cursor::new(Arc::clone(&self.record), self.position));
        let fresh = self.record.end().0.saturating_sub(self.position.0) <= FRESH;
        let (cursor, chunks) = if fresh {
            let chunks = cursor.read();
            (cursor, chunks)
        } else {
            let reading = spawn_blocking(move || {
                let chunks = cursor.read();
                (cursor, chunks)
            });
            match reading.await {
                Ok(read) => read,
                // Only a panic or the end of the runtime comes here; the next call begins at the same place.
                Err(_) => return Ok(Vec::new()),
            }
        };
        self.position = cursor.position();
        self.cursor = Some(cursor);
        chunks
    }
}
