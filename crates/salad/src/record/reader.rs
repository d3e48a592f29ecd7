//! Reads a record from any offset, a batch at a time, from the files alone.
//!
//! A [`Cursor`] keeps its own files open, so a segment that retention drops meanwhile is still read to its end, and
//! holds nothing that the writer would wait for. Every chunk is verified by its checksum; where files are damaged
//! or gone the cursor goes on behind the damage, and the offsets of the chunks show what is missing.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::segment::{self, ENTRY, Entry};
use super::{Record, RecordError};
use crate::offset::{Chunk, ConsoleOffset, ConsoleTime};

/// The most bytes of one batch.
const BATCH_BYTES: u64 = 256 << 10;

/// The most chunks of one batch.
const BATCH_CHUNKS: usize = 512;

/// A place in a record that moves forward.
#[derive(Debug)]
pub(crate) struct Cursor {
    record: Arc<Record>,
    position: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    start: u64,
    log: File,
    idx: File,
    /// Number of the next entry to read.
    next: u64,
}

impl Cursor {
    /// A cursor before the byte at `from`, or before the first one that is still kept. An offset beyond the end
    /// (of a record that lost its last bytes in a power cut) means the end.
    pub(crate) fn new(record: Arc<Record>, from: ConsoleOffset) -> Self {
        let position = from.0.min(record.end().0);
        Self { record, position, open: None }
    }

    /// Where the next batch begins at the earliest.
    pub(crate) fn position(&self) -> ConsoleOffset {
        ConsoleOffset(self.position)
    }

    /// The next chunks, at most 256 KiB; none when the cursor is at the end. Blocks on the disk.
    ///
    /// # Errors
    /// When the files cannot be read. Damaged contents are no error, they are left out.
    pub(crate) fn read(&mut self) -> Result<Vec<Chunk>, RecordError> {
        let record = Arc::clone(&self.record);
        self.read_batch().map_err(RecordError::at("read", &record.dir))
    }

    fn read_batch(&mut self) -> io::Result<Vec<Chunk>> {
        let end = self.record.end().0;
        while self.position < end {
            let Some(mut open) =
                self.open.take().map_or_else(|| self.open_segment(), |open| Ok(Some(open)))?
            else {
                break;
            };
            let raw = segment::entries(&open.idx, open.next, BATCH_CHUNKS)?;
            let (run, passed) = whole_run(&raw, open.start.max(self.position), end);
            open.next += passed;
            if !run.is_empty() {
                let chunks = self.take(&open, &run)?;
                open.next += run.len() as u64;
                // Only bytes that proved whole move the position: a damaged entry may name any offset.
                self.position = chunks.last().map_or(self.position, |chunk| chunk.end().0);
                self.open = Some(open);
                if !chunks.is_empty() {
                    return Ok(chunks);
                }
            } else if passed > 0 {
                self.open = Some(open);
            } else {
                let Some(next) = self.segment_after(open.start) else {
                    self.open = Some(open);
                    break;
                };
                self.position = self.position.max(next);
            }
        }
        Ok(Vec::new())
    }

    /// The chunks of a run of entries, from the cursor's position on; those whose bytes are damaged are left out.
    fn take(&self, open: &Open, run: &[Entry]) -> io::Result<Vec<Chunk>> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(Vec::new()) };
        let length = usize::try_from(last.end() - first.offset).unwrap_or(usize::MAX);
        let mut buffer = BytesMut::zeroed(length);
        let Some(at) = first.offset.checked_sub(open.start) else { return Ok(Vec::new()) };
        let got = segment::read_at(&open.log, &mut buffer, at)?;
        buffer.truncate(got);
        let bytes = buffer.freeze();
        let mut chunks = Vec::with_capacity(run.len());
        for entry in run {
            let at = usize::try_from(entry.offset - first.offset).unwrap_or(usize::MAX);
            let whole =
                (at + entry.len as usize <= bytes.len()).then(|| bytes.slice(at..at + entry.len as usize));
            match whole.filter(|bytes| entry.describes(bytes)) {
                Some(bytes) => chunks.push(self.rest_of(entry, &bytes)),
                None => tracing::warn!(
                    dir = %self.record.dir.display(), offset = entry.offset, len = entry.len,
                    "recorded console bytes are damaged and left out"
                ),
            }
        }
        Ok(chunks)
    }

    /// The part of a chunk that the cursor has not passed.
    fn rest_of(&self, entry: &Entry, bytes: &Bytes) -> Chunk {
        let skip = self.position.saturating_sub(entry.offset);
        Chunk {
            offset: ConsoleOffset(entry.offset + skip),
            time: ConsoleTime(entry.time),
            bytes: bytes.slice(usize::try_from(skip).unwrap_or(usize::MAX)..),
        }
    }

    /// Opens the segment of the position; `None` when there is none up to the end.
    fn open_segment(&mut self) -> io::Result<Option<Open>> {
        let mut segments = self.record.segments();
        loop {
            let Some(found) = segments.iter().rposition(|start| *start <= self.position) else {
                // Older than everything that is kept.
                let Some(first) = segments.first() else { return Ok(None) };
                self.position = *first;
                continue;
            };
            let start = segments[found];
            let (log, idx) = segment::paths(&self.record.dir, start);
            let files = File::open(log).and_then(|log| Ok((log, File::open(idx)?)));
            match files {
                Ok((log, idx)) if segment::has_header(&idx)? => {
                    let next = find(&idx, self.position)?;
                    return Ok(Some(Open { start, log, idx, next }));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // Dropped since the list was made, or damaged, or taken away by a stranger.
                Ok(_) | Err(_) => {
                    let Some(next) = self.segment_after(start) else { return Ok(None) };
                    self.position = self.position.max(next);
                    segments = self.record.segments();
                }
            }
        }
    }

    fn segment_after(&self, start: u64) -> Option<u64> {
        self.record.segments().into_iter().find(|other| *other > start)
    }
}

/// The longest run of entries that follow each other, hold bytes from `position` on and end by `end`; and how many
/// entries before it are passed over because they are damaged or lie before the position.
fn whole_run(raw: &[[u8; ENTRY]], position: u64, end: u64) -> (Vec<Entry>, u64) {
    let mut run: Vec<Entry> = Vec::new();
    let mut passed = 0;
    for raw in raw {
        match (Entry::decode(raw), run.first().zip(run.last())) {
            // Not published yet: its turn comes when the end has moved.
            (Some(entry), _) if entry.end() > end => break,
            (Some(entry), None) if entry.end() > position => run.push(entry),
            (_, None) => passed += 1,
            (Some(entry), Some((first, last)))
                if entry.offset == last.end() && entry.end() - first.offset <= BATCH_BYTES =>
            {
                run.push(entry);
            }
            _ => break,
        }
    }
    (run, passed)
}

/// The number of the entry that holds the position, or of the first one behind it.
fn find(idx: &File, position: u64) -> io::Result<u64> {
    let count = (idx.metadata()?.len() / ENTRY as u64).saturating_sub(1);
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        match segment::entries(idx, middle, 1)?.first().and_then(Entry::decode) {
            Some(entry) if entry.end() <= position => low = middle + 1,
            Some(_) => high = middle,
            // Damaged: look at every entry instead.
            None => return Ok(0),
        }
    }
    Ok(low)
}
