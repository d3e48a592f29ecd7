//! The cache's files and what is known of them. Owns the folder: `blobs/` has each content once, under its SHA-256, and
//! never changes one; `index/` says for each URL which blob it was last, and until when that holds; `partial/` has what
//! is not whole yet. A file appears under its name only when it is whole and on the disk. The index is in memory too,
//! so that a fresh artifact costs no more than a look at its blob.

mod room;
mod scan;

use std::{
    collections::HashMap,
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use farmgate_protocol::Timestamp;
use serde::{Deserialize, Serialize};

pub(super) use self::room::Claim;
use super::{error::Problem, freshness::Validators, part::Part, source::Sha};

/// How exactly a blob's time of last use is kept over a restart.
const USE_KEPT: Duration = Duration::from_secs(3600);

/// What a URL was when it was last asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Without its secrets: for people who look into the folder.
    pub url: String,
    /// Its content.
    pub blob: Sha,
    /// Its length, bytes.
    pub size: u64,
    /// What to ask with whether it has changed.
    #[serde(flatten)]
    pub validators: Validators,
    /// Where it came from in the end.
    pub place: Sha,
    /// Whether that is another place than the URL.
    pub redirected: bool,
    /// How long each answer holds, s; None: the server does not say.
    pub lifetime: Option<u64>,
    /// Need not be asked for again until then.
    pub fresh_until: Option<Timestamp>,
    /// When the server last confirmed it.
    pub checked: Timestamp,
}

impl Entry {
    /// Whether it may be used without asking. A clock that was set back makes nothing fresh.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.checked <= now && self.fresh_until.is_some_and(|until| now < until)
    }
}

struct Blob {
    size: u64,
    /// When a job last asked for it.
    used: Timestamp,
    /// What of that its file shows.
    shown: Timestamp,
    /// Runs that need it.
    pins: u32,
}

/// A download that nobody is waiting for.
struct Idle {
    size: u64,
    since: Timestamp,
}

#[derive(Default)]
struct State {
    entries: HashMap<Sha, Entry>,
    blobs: HashMap<Sha, Blob>,
    parts: HashMap<Sha, Idle>,
    /// Bytes that the downloads that go on have, or are to have.
    claimed: u64,
}

/// See the module.
pub(super) struct Store {
    root: PathBuf,
    /// Bytes.
    limit: u64,
    /// Until then nothing is removed: the runs of the gateway before pin theirs again.
    settled: Instant,
    state: Mutex<State>,
    /// For names in `tmp/`.
    number: AtomicU64,
}

/// A blob in the cache, pinned.
#[derive(Debug, Clone)]
pub(super) struct Cached {
    pub entry: Entry,
    pub path: PathBuf,
    pub pin: Pin,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, blob: Sha) -> PathBuf {
        self.root.join("blobs").join(blob.to_string())
    }

    fn entry_path(&self, key: Sha) -> PathBuf {
        self.root.join("index").join(format!("{key}.json"))
    }

    /// Where a download of that URL goes.
    pub fn part_path(&self, key: Sha) -> PathBuf {
        self.root.join("partial").join(key.to_string())
    }

    /// A name that nothing has.
    fn new_name(&self) -> PathBuf {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.folder("tmp").join(format!("{}-{number}", std::process::id()))
    }

    /// Whether a download of that URL was begun, and left.
    pub fn has_part(&self, key: Sha) -> bool {
        self.lock().parts.contains_key(&key)
    }

    /// What there is of a URL, pinned.
    pub fn cached(self: &Arc<Self>, key: Sha) -> Option<Cached> {
        let now = Timestamp::now();
        let (entry, shown) = {
            let mut state = self.lock();
            let entry = state.entries.get(&key)?.clone();
            let blob = state.blobs.get_mut(&entry.blob)?;
            blob.pins += 1;
            blob.used = now;
            (entry, blob.shown)
        };
        let pin = Pin::held(self, vec![entry.blob]);
        let path = self.blob_path(entry.blob);
        // A look at one file of the cache's own folder: handing it to another thread would take longer.
        let there = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() == entry.size);
        if !there {
            tracing::warn!(url = entry.url, blob = %entry.blob, "a file of the artifact cache is gone or cut short");
            self.forget(key);
            return None;
        }
        if now.since(shown) > USE_KEPT {
            self.show_use(entry.blob, &path, now);
        }
        Some(Cached { entry, path, pin })
    }

    /// Lets a blob's file show when it was used.
    fn show_use(&self, blob: Sha, path: &Path, now: Timestamp) {
        let shown = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = shown {
            tracing::debug!(%blob, %error, "the use of a blob cannot be shown in its file");
        }
        if let Some(blob) = self.lock().blobs.get_mut(&blob) {
            blob.shown = now;
        }
    }

    fn forget(&self, key: Sha) {
        let mut state = self.lock();
        state.entries.remove(&key);
        // Without it, the next look at the folder would find that the blob is gone.
        let _ = fs::remove_file(self.entry_path(key));
    }

    /// Makes a download that is whole a blob, pinned. Blocks.
    ///
    /// # Errors
    /// The disk: nothing has changed then.
    pub fn land(self: &Arc<Self>, part: Part, blob: Sha) -> Result<(PathBuf, Pin), Problem> {
        let target = self.blob_path(blob);
        let (size, _) = part.length();
        let now = Timestamp::now();
        part.finish(|path, mut claim| {
            let mut state = self.lock();
            if fs::metadata(&target).is_ok_and(|file| file.len() == size) {
                // The same content came from elsewhere: runs may be reading that file.
                let _ = fs::remove_file(path);
            } else {
                fs::rename(path, &target)?;
            }
            claim.landed(&mut state);
            let known = state.blobs.entry(blob).or_insert(Blob { size, used: now, shown: now, pins: 0 });
            (known.size, known.used) = (size, now);
            known.pins += 1;
            drop(state);
            Ok(())
        })?;
        let pin = Pin::held(self, vec![blob]);
        sync_folder(&self.folder("blobs")).map_err(Problem::disk("naming a blob"))?;
        Ok((target, pin))
    }

    /// Remembers what a URL is now; None: nothing of it. An index that cannot be written costs a download after the
    /// next restart, and no job. Blocks.
    pub fn remember(&self, key: Sha, entry: Option<Entry>) {
        let Some(entry) = entry else { return self.forget(key) };
        let path = self.entry_path(key);
        let written = serde_json::to_vec_pretty(&entry)
            .map_err(io::Error::other)
            .and_then(|text| write_whole(&self.new_name(), &text));
        let mut state = self.lock();
        let written = written.and_then(|written| fs::rename(written, &path));
        if let Err(error) = written {
            tracing::warn!(url = entry.url, %error, "the index of the artifact cache cannot be written");
            // An older one would name another file.
            let _ = fs::remove_file(&path);
        }
        state.entries.insert(key, entry);
        self.bound_entries(&mut state);
        drop(state);
        // Without it an older entry may come back after a loss of power, and is asked about again.
        let _ = sync_folder(&self.folder("index"));
    }

    /// Pins the blobs among these files, and names those that are not there.
    pub fn pin_again(self: &Arc<Self>, paths: &[PathBuf]) -> (Pin, Vec<PathBuf>) {
        let (mut blobs, mut missing) = (Vec::new(), Vec::new());
        let folder = self.folder("blobs");
        let mut state = self.lock();
        for path in paths.iter().filter(|path| path.parent() == Some(&folder)) {
            let blob = path.file_name().and_then(|name| Sha::parse(name.to_str()?));
            match blob.and_then(|blob| Some((blob, state.blobs.get_mut(&blob)?))) {
                Some((name, blob)) if path.is_file() => {
                    blob.pins += 1;
                    blobs.push(name);
                }
                _ => missing.push(path.clone()),
            }
        }
        drop(state);
        (Pin::held(self, blobs), missing)
    }
}

/// Keeps blobs in the cache as long as it lives. A clone is the same pin: the last one that goes takes it away.
#[derive(Clone, Default)]
pub(crate) struct Pin(#[expect(dead_code, reason = "held for what its end does")] Option<Arc<Held>>);

struct Held {
    store: Arc<Store>,
    blobs: Vec<Sha>,
}

impl Pin {
    /// Of blobs whose counts were raised for it.
    fn held(store: &Arc<Store>, blobs: Vec<Sha>) -> Self {
        Self(Some(Arc::new(Held { store: Arc::clone(store), blobs })))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        for blob in &self.blobs {
            if let Some(blob) = state.blobs.get_mut(blob) {
                blob.pins = blob.pins.saturating_sub(1);
            }
        }
    }
}

/// Writes a file that is on the disk when this returns. It has no name yet that means something.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(path.to_owned())
}

/// Names that were given in a folder are on the disk when this returns.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
