//! The limit of the cache: downloads claim what they need, and what no run pins makes room, the longest unused first.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use farmgate_protocol::Timestamp;

use super::{Idle, State, Store};
use crate::artifacts::{error::Problem, source::Sha};

/// What a file takes on the disk beside its bytes, rounded up: its block, and its entry in the index.
const BLOCK: u64 = 4096;

/// URLs that are remembered at most.
const ENTRIES: usize = 16_384;

/// A download whose length nobody knows claims so much at a time, bytes.
const STEP: u64 = 16 << 20;

fn cost(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_add(1).saturating_mul(BLOCK)
}

impl State {
    fn used(&self) -> u64 {
        let blobs: u64 = self.blobs.values().map(|blob| cost(blob.size)).sum();
        let parts: u64 = self.parts.values().map(|part| cost(part.size)).sum();
        blobs.saturating_add(parts).saturating_add(self.claimed)
    }
}

impl Store {
    /// Bytes that the limit counts.
    #[cfg(test)]
    pub(in crate::artifacts) fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Removes what is not needed until there are `need` bytes within the limit; nothing, if that is not enough. What
    /// it returns is to be deleted, without the lock.
    fn make_room(&self, state: &mut State, need: u64) -> Result<Vec<PathBuf>, Problem> {
        let excess = state.used().saturating_add(need).saturating_sub(self.limit);
        if excess == 0 || Instant::now() < self.settled {
            return Ok(Vec::new());
        }
        let parts: u64 = state.parts.values().map(|part| cost(part.size)).sum();
        let loose: u64 = state.blobs.values().filter(|blob| blob.pins == 0).map(|blob| cost(blob.size)).sum();
        if parts.saturating_add(loose) < excess {
            return Err(Problem::CacheFull { limit: self.limit });
        }
        Ok(self.remove(state, excess).0)
    }

    /// Takes so many bytes out of the cache, or as many as there are that nobody needs.
    fn remove(&self, state: &mut State, bytes: u64) -> (Vec<PathBuf>, u64) {
        let (mut out, mut freed) = (Vec::new(), 0);
        let mut parts: Vec<(Timestamp, Sha)> = state.parts.iter().map(|(key, p)| (p.since, *key)).collect();
        parts.sort();
        for (_, key) in parts {
            if freed >= bytes {
                return (out, freed);
            }
            let Some(part) = state.parts.remove(&key) else { continue };
            freed += cost(part.size);
            let path = self.part_path(key);
            out.extend(self.set_aside(&path.with_extension("json")));
            out.extend(self.set_aside(&path));
        }
        // What no URL leads to any more goes first.
        let known: std::collections::HashSet<Sha> = state.entries.values().map(|e| e.blob).collect();
        let mut blobs: Vec<(bool, Timestamp, Sha)> = state
            .blobs
            .iter()
            .filter(|(_, blob)| blob.pins == 0)
            .map(|(name, blob)| (known.contains(name), blob.used, *name))
            .collect();
        blobs.sort();
        for (_, _, name) in blobs {
            if freed >= bytes {
                break;
            }
            let Some(blob) = state.blobs.remove(&name) else { continue };
            tracing::info!(blob = %name, size = blob.size, "the artifact cache makes room");
            freed += cost(blob.size);
            out.extend(self.set_aside(&self.blob_path(name)));
            state.entries.retain(|key, entry| {
                if entry.blob == name {
                    // One that stays leads to nothing, and is removed at the next start.
                    let _ = fs::remove_file(self.entry_path(*key));
                }
                entry.blob != name
            });
        }
        (out, freed)
    }

    /// Takes a file's name away at once; deleting a large one takes longer than the lock should be held.
    fn set_aside(&self, path: &Path) -> Option<PathBuf> {
        let aside = self.new_name();
        // What is not there needs no removing.
        fs::rename(path, &aside).ok().map(|()| aside)
    }

    /// The disk is full, whatever the limit says: takes so many bytes out of the cache. Returns how many there were.
    /// Blocks.
    pub fn relieve(&self, bytes: u64) -> u64 {
        if Instant::now() < self.settled {
            return 0;
        }
        let (files, freed) = self.remove(&mut self.lock(), bytes);
        delete(&files);
        freed
    }

    /// Forgets the URLs that were not asked for the longest.
    pub(super) fn bound_entries(&self, state: &mut State) {
        while state.entries.len() > ENTRIES {
            let Some(oldest) = state.entries.iter().min_by_key(|(_, e)| e.checked).map(|(key, _)| *key)
            else {
                return;
            };
            state.entries.remove(&oldest);
            let _ = fs::remove_file(self.entry_path(oldest));
        }
    }
}

fn delete(files: &[PathBuf]) {
    for file in files {
        if let Err(error) = fs::remove_file(file) {
            tracing::warn!(file = %file.display(), %error, "a file of the artifact cache cannot be removed");
        }
    }
}

/// What a download takes of the limit. When it ends without becoming a blob, what is there of it stays as an idle part.
pub(in crate::artifacts) struct Claim {
    store: Arc<Store>,
    key: Sha,
    bytes: u64,
    landed: bool,
}

impl Claim {
    /// Takes over what there is of a download.
    pub fn new(store: &Arc<Store>, key: Sha) -> Self {
        let mut state = store.lock();
        let bytes = state.parts.remove(&key).map_or(0, |part| cost(part.size));
        state.claimed = state.claimed.saturating_add(bytes);
        drop(state);
        Self { store: Arc::clone(store), key, bytes, landed: false }
    }

    /// The download is to have so many bytes. `known`: and no more. Blocks.
    pub fn cover(&mut self, size: u64, known: bool) -> Result<(), Problem> {
        let wanted = if known { cost(size) } else { cost(size.next_multiple_of(STEP)) };
        let more = wanted.saturating_sub(self.bytes);
        if cost(size) <= self.bytes || more == 0 {
            return Ok(());
        }
        let mut state = self.store.lock();
        let files = self.store.make_room(&mut state, more)?;
        state.claimed = state.claimed.saturating_add(more);
        drop(state);
        self.bytes += more;
        delete(&files);
        Ok(())
    }

    /// It became a blob, which is counted from here on.
    pub(super) fn landed(&mut self, state: &mut State) {
        state.claimed = state.claimed.saturating_sub(self.bytes);
        self.landed = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let path = self.store.part_path(self.key);
        let mut state = self.store.lock();
        state.claimed = state.claimed.saturating_sub(self.bytes);
        if let Ok(file) = fs::metadata(&path) {
            state.parts.insert(self.key, Idle { size: file.len(), since: Timestamp::now() });
        }
    }
}
