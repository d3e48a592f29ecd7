//! What a machine said: an append-only record on disk, which is also the buffer of every reader.
//!
//! A record is a folder of segments (`segment.rs`): raw bytes in `OFFSET.log`, and in `OFFSET.idx` one entry per
//! chunk with its offset, time, length and checksum. `writer.rs` appends, rolls and drops segments; `reader.rs`
//! reads from any offset and never blocks the writer. [`Record`] is the shared handle: bytes are in the files
//! before [`Record::end`] moves, and readers only look below it.
//!
//! Promised: a record survives the death of its process at any instant (a torn last chunk is found by its checksum
//! and cut when the record is opened), and no damage to the files makes a reader return bytes that were not written
//! at that offset. Not promised: a power cut may cost what was not synchronised, which is at most the last segment.

mod follow;
mod reader;
mod segment;
mod writer;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::offset::{ConsoleOffset, ConsoleTime};

pub(crate) use follow::Follower;
pub(crate) use reader::Cursor;
pub(crate) use segment::MAX_CHUNK;
use writer::Writer;

/// How much of a record is kept, and in what pieces.
#[derive(Debug, Clone, Copy)]
pub struct RecordSettings {
    /// Bytes after which a segment is complete.
    pub segment_bytes: u64,
    /// Bytes that a machine's files may take, index included. The oldest complete segments are dropped beyond it.
    pub keep_bytes: u64,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, keep_bytes: 1 << 30 }
    }
}

/// A record that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}; check the disk's free space and the folder's owner", path.display())]
pub struct RecordError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl RecordError {
    fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { operation, path: path.to_owned(), source }
    }
}

/// The files of a segment that is complete. Synchronising them takes long, so it is left to the caller.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) files: [File; 2],
}

impl Sealed {
    /// Waits until the segment is on the disk.
    pub(crate) fn sync(self) -> io::Result<()> {
        self.files.iter().try_for_each(File::sync_all)
    }
}

/// One machine's record. One process at a time may have it open.
#[derive(Debug)]
pub(crate) struct Record {
    dir: PathBuf,
    writer: Mutex<Writer>,
    end: watch::Sender<ConsoleOffset>,
}

impl Record {
    /// Opens the record in this folder or begins one. Blocks: the last segment is read and verified.
    ///
    /// # Errors
    /// When the folder cannot be made, read or written. Damage is no error, it is cut off.
    pub(crate) fn open(dir: &Path, settings: RecordSettings) -> Result<Self, RecordError> {
        let writer = Writer::open(dir, settings)?;
        let end = watch::Sender::new(ConsoleOffset(writer.end()));
        Ok(Self { dir: dir.to_owned(), writer: Mutex::new(writer), end })
    }

    /// Appends bytes and then lets readers see them; gives the segment that this completed, if it did.
    ///
    /// # Errors
    /// When the disk refuses. Up to [`MAX_CHUNK`] bytes are appended wholly or not at all, so they can be tried again.
    pub(crate) fn append(&self, time: ConsoleTime, bytes: &[u8]) -> Result<Option<Sealed>, RecordError> {
        let mut writer = self.lock();
        let result = writer.append(time, bytes);
        self.end.send_replace(ConsoleOffset(writer.end()));
        result.map_err(RecordError::at("append to", &self.dir))
    }

    /// Where the next byte will be.
    pub(crate) fn end(&self) -> ConsoleOffset {
        *self.end.borrow()
    }

    /// Tells when the end moves.
    pub(crate) fn follow(&self) -> watch::Receiver<ConsoleOffset> {
        self.end.subscribe()
    }

    /// Where the segments begin, in order; the last one is being written.
    fn segments(&self) -> Vec<u64> {
        self.lock().segments()
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        // A panic while writing leaves at worst a torn chunk beyond the end, which the next append overwrites.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
