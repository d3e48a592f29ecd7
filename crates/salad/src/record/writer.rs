//! Appends to a record: owns its last segment, begins new ones, drops the oldest, and mends what a killed process
//! left behind.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::segment::{self, ENTRY, Entry, HEADER, MAX_CHUNK};
use super::{RecordError, RecordSettings, Sealed};
use crate::offset::ConsoleTime;

/// What a record says where SALAD was away: a reader must not take two ends of a gap for one line.
pub(super) const RESTARTED: &[u8] = b"\r\n[SALAD was restarted: bytes may be missing here]\r\n";

/// Entries that are verified with one read when a record is opened.
const BATCH: usize = 512;

/// The writing end of a record.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    settings: RecordSettings,
    /// Complete segments, oldest first: where each begins and the bytes of its files.
    sealed: VecDeque<(u64, u64)>,
    last: Last,
    /// The record has bytes of an earlier process; said before the first new ones.
    gap: bool,
}

/// The segment that is written. `entries` and `end` count what is whole; what lies beyond in the files is
/// overwritten.
#[derive(Debug)]
struct Last {
    start: u64,
    end: u64,
    entries: u64,
    log: File,
    idx: File,
}

impl Writer {
    pub(super) fn open(dir: &Path, settings: RecordSettings) -> Result<Self, RecordError> {
        fs::create_dir_all(dir).map_err(RecordError::at("make", dir))?;
        let mut starts = list(dir).map_err(RecordError::at("list", dir))?;
        let start = starts.pop().unwrap_or(0);
        let last = Last::mend(dir, start).map_err(RecordError::at("open", dir))?;
        let sealed = starts.into_iter().map(|start| (start, size(dir, start))).collect();
        let gap = last.end > 0;
        Ok(Self { dir: dir.to_owned(), settings, sealed, last, gap })
    }

    pub(super) fn end(&self) -> u64 {
        self.last.end
    }

    pub(super) fn segments(&self) -> Vec<u64> {
        self.sealed.iter().map(|(start, _)| *start).chain([self.last.start]).collect()
    }

    pub(super) fn append(&mut self, time: ConsoleTime, bytes: &[u8]) -> io::Result<Option<Sealed>> {
        let sealed = if self.last.bytes() >= self.settings.segment_bytes { Some(self.roll()?) } else { None };
        if self.gap && !bytes.is_empty() {
            self.last.append(time, RESTARTED)?;
            self.gap = false;
        }
        for chunk in bytes.chunks(MAX_CHUNK) {
            self.last.append(time, chunk)?;
        }
        Ok(sealed)
    }

    /// Completes the last segment, begins the next one and drops what is beyond the limit.
    fn roll(&mut self) -> io::Result<Sealed> {
        let next = Last::create(&self.dir, self.last.end)?;
        let done = std::mem::replace(&mut self.last, next);
        self.sealed.push_back((done.start, done.bytes()));
        let mut total: u64 = self.sealed.iter().map(|(_, bytes)| bytes).sum();
        // The segment that begins now is counted as if it were full, so that the limit holds at any time.
        let limit = self.settings.keep_bytes.saturating_sub(self.settings.segment_bytes);
        while total > limit
            && let Some((start, bytes)) = self.sealed.pop_front()
        {
            total -= bytes;
            let (log, idx) = segment::paths(&self.dir, start);
            for path in [idx, log] {
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "cannot drop an old console segment");
                }
            }
        }
        Ok(Sealed { files: [done.log, done.idx] })
    }
}

impl Last {
    fn create(dir: &Path, start: u64) -> io::Result<Self> {
        let (log, idx) = segment::paths(dir, start);
        let open =
            |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let last = Self { start, end: start, entries: 0, log: open(&log)?, idx: open(&idx)? };
        last.idx.write_all_at(&HEADER, 0)?;
        Ok(last)
    }

    /// Opens the segment that an earlier process wrote last and cuts off what is not whole.
    fn mend(dir: &Path, start: u64) -> io::Result<Self> {
        let (log, idx) = segment::paths(dir, start);
        let open =
            |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut last = Self { start, end: start, entries: 0, log: open(&log)?, idx: open(&idx)? };
        if segment::has_header(&last.idx)? {
            last.verify()?;
        } else {
            last.idx.write_all_at(&HEADER, 0)?;
        }
        let torn = last.log.metadata()?.len().saturating_sub(last.end - start);
        if torn > 0 {
            tracing::warn!(path = %log.display(), torn, "cut off console bytes that were not wholly written");
        }
        last.idx.set_len((last.entries + 1) * ENTRY as u64)?;
        last.log.set_len(last.end - start)?;
        Ok(last)
    }

    /// Counts the whole chunks, from the first to the first that is not.
    fn verify(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_CHUNK];
        loop {
            let raw = segment::entries(&self.idx, self.entries, BATCH)?;
            for raw in &raw {
                let Some(entry) = Entry::decode(raw).filter(|e| e.offset == self.end) else { return Ok(()) };
                let bytes = &mut buffer[..entry.len as usize];
                let length = segment::read_at(&self.log, bytes, self.end - self.start)?;
                if length < bytes.len() || !entry.describes(bytes) {
                    return Ok(());
                }
                self.entries += 1;
                self.end = entry.end();
            }
            if raw.len() < BATCH {
                return Ok(());
            }
        }
    }

    /// Bytes of both files.
    fn bytes(&self) -> u64 {
        self.end - self.start + (self.entries + 1) * ENTRY as u64
    }

    fn append(&mut self, time: ConsoleTime, chunk: &[u8]) -> io::Result<()> {
        let entry = Entry::of(self.end, time.0, chunk);
        self.log.write_all_at(chunk, self.end - self.start)?;
        self.idx.write_all_at(&entry.encode(), (self.entries + 1) * ENTRY as u64)?;
        self.entries += 1;
        self.end = entry.end();
        Ok(())
    }
}

/// The segments in the folder, in order.
fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut starts = Vec::new();
    for entry in fs::read_dir(dir)? {
        if let Some(start) = entry?.file_name().to_str().and_then(segment::start_of) {
            starts.push(start);
        }
    }
    starts.sort_unstable();
    starts.dedup();
    Ok(starts)
}

/// Bytes of both files of a segment; a file that is missing takes none.
fn size(dir: &Path, start: u64) -> u64 {
    let (log, idx) = segment::paths(dir, start);
    [log, idx].iter().filter_map(|path| fs::metadata(path).ok()).map(|m| m.len()).sum()
}
