//! Opening the cache's folder: what is there is read, and what a gateway that died left half done is removed.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use farmgate_protocol::Timestamp;

use super::{Blob, Entry, Idle, State, Store};
use crate::artifacts::source::Sha;

/// A download that nobody went on with for so long is not gone on with any more.
const PART_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Nobody writes an entry of that length, bytes.
const LONGEST_ENTRY: u64 = 64 * 1024;

impl Store {
    /// Reads the folder, which is made if it is not there. A folder that cannot be read is an empty cache, and each
    /// download says what is wrong with it. Blocks.
    pub fn open(root: PathBuf, limit: u64, settle: Duration) -> Arc<Self> {
        let state = scan(&root).unwrap_or_else(|error| {
            tracing::warn!(folder = %root.display(), %error, "the artifact cache cannot be read");
            State::default()
        });
        let (blobs, urls) = (state.blobs.len(), state.entries.len());
        tracing::info!(folder = %root.display(), blobs, urls, "the artifact cache is open");
        Self::with(state, root, limit, settle)
    }

    /// Of which nothing is known.
    pub fn empty(root: PathBuf, limit: u64, settle: Duration) -> Arc<Self> {
        Self::with(State::default(), root, limit, settle)
    }

    fn with(state: State, root: PathBuf, limit: u64, settle: Duration) -> Arc<Self> {
        let settled = Instant::now() + settle;
        Arc::new(Self { root, limit, settled, state: Mutex::new(state), number: AtomicU64::new(0) })
    }

    /// Makes the folders again if somebody has removed them. Blocks.
    pub fn make_folders(&self) -> io::Result<()> {
        make_folders(&self.root)
    }
}

fn make_folders(root: &Path) -> io::Result<()> {
    ["blobs", "index", "partial", "tmp"].iter().try_for_each(|name| fs::create_dir_all(root.join(name)))
}

fn scan(root: &Path) -> io::Result<State> {
    make_folders(root)?;
    for (path, _) in files(&root.join("tmp"))? {
        discard(&path);
    }
    let mut state = State::default();
    for (path, data) in files(&root.join("blobs"))? {
        match name(&path) {
            Some(name) if data.is_file() => {
                let used = modified(&data);
                state.blobs.insert(name, Blob { size: data.len(), used, shown: used, pins: 0 });
            }
            _ => discard(&path),
        }
    }
    for (path, data) in files(&root.join("index"))? {
        let entry = (data.len() <= LONGEST_ENTRY).then(|| read_entry(&path, &state.blobs)).flatten();
        match (name(&path.with_extension("")), entry) {
            (Some(key), Some(entry)) => {
                state.entries.insert(key, entry);
            }
            _ => discard(&path),
        }
    }
    scan_parts(&root.join("partial"), &mut state)?;
    Ok(state)
}

/// The entry, if it can be read, and its blob is there.
fn read_entry(path: &Path, blobs: &HashMap<Sha, Blob>) -> Option<Entry> {
    let entry: Entry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (blobs.get(&entry.blob)?.size == entry.size).then_some(entry)
}

fn scan_parts(folder: &Path, state: &mut State) -> io::Result<()> {
    let now = Timestamp::now();
    let (known, parts): (Vec<_>, Vec<_>) =
        files(folder)?.into_iter().partition(|(path, _)| path.extension().is_some_and(|e| e == "json"));
    for (path, data) in parts {
        let since = modified(&data);
        match name(&path) {
            // Without what it belongs to it cannot be gone on with.
            Some(key) if now.since(since) < PART_KEPT && path.with_extension("json").is_file() => {
                state.parts.insert(key, Idle { size: data.len(), since });
            }
            _ => discard(&path),
        }
    }
    for (path, _) in known {
        if name(&path.with_extension("")).is_none_or(|key| !state.parts.contains_key(&key)) {
            discard(&path);
        }
    }
    Ok(())
}

fn files(folder: &Path) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        files.push((file.path(), file.metadata()?));
    }
    Ok(files)
}

fn name(path: &Path) -> Option<Sha> {
    Sha::parse(path.file_name()?.to_str()?)
}

fn modified(data: &fs::Metadata) -> Timestamp {
    let since = data.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH);
    Timestamp::default() + since.unwrap_or_default()
}

fn discard(path: &Path) {
    // A folder is nobody's leftover: it stays, and harms nothing.
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(file = %path.display(), %error, "a leftover in the artifact cache cannot be removed");
    }
}
