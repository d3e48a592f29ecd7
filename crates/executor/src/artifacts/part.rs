//! A download that is not whole yet: its bytes, and what they are the beginning of. It survives the gateway, and is
//! used by one download at a time: its file is locked. All of it blocks.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    answer::Ask,
    checksum::Expected,
    error::Problem,
    freshness::Validators,
    source::Sha,
    store::{Claim, Store, write_whole},
};

/// A download of the same file that was given up just now may still write its last piece.
const OTHER_ENDS: Duration = Duration::from_secs(10);

/// What has arrived is brought to the disk each time that so many bytes have, so that a loss of power does not cost all.
const SYNC: u64 = 64 << 20;

/// What the bytes are the beginning of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Beginning {
    #[serde(flatten)]
    pub validators: Validators,
    /// Length of the whole, bytes, where that is known.
    pub total: Option<u64>,
    /// What the whole must hash to.
    pub expected: Expected,
    /// Where it came from.
    pub place: Sha,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    of: Beginning,
    /// The boot of this machine in which it was written: until the next, no byte that was written is lost.
    boot: String,
    /// So many bytes are on the disk.
    synced: u64,
}

/// See the module.
pub(super) struct Part {
    /// Dropped before the lock of the file: whoever gets that counts anew.
    claim: Claim,
    file: File,
    path: PathBuf,
    length: u64,
    synced: u64,
    of: Option<Beginning>,
    /// What is on the disk says what it is the beginning of.
    kept: bool,
}

impl Part {
    /// The download of a URL, with what an earlier one left.
    pub fn open(store: &Arc<Store>, key: Sha) -> Result<Self, Problem> {
        store.make_folders().map_err(Problem::disk("making its folders"))?;
        let path = store.part_path(key);
        let file = lock(&path).map_err(Problem::disk("opening a download"))?;
        let length = file.metadata().map_err(Problem::disk("opening a download"))?.len();
        let claim = Claim::new(store, key);
        let mut part = Self { claim, file, path, length: 0, synced: 0, of: None, kept: false };
        if let Some(stored) = part.stored() {
            let sure = if stored.boot == boot() { length } else { stored.synced.min(length) };
            (part.of, part.length, part.synced) = (Some(stored.of), sure, stored.synced.min(sure));
        }
        part.cut(part.length).map_err(Problem::disk("opening a download"))?;
        Ok(part)
    }

    fn stored(&self) -> Option<Stored> {
        serde_json::from_slice(&fs::read(self.beside()).ok()?).ok()
    }

    fn beside(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length))?;
        self.length = length;
        self.synced = self.synced.min(length);
        Ok(())
    }

    /// How to ask for the rest; None: it can only be begun again.
    pub fn rest(&mut self) -> Result<Option<Ask>, Problem> {
        let Some(of) = self.of.clone().filter(|of| of.validators.strong().is_some()) else { return Ok(None) };
        if let Some(total) = of.total
            && self.length >= total
        {
            // Whole, but its server must say once more that it is this.
            self.cut(total.saturating_sub(1)).map_err(Problem::disk("opening a download"))?;
        }
        let Beginning { validators, total, place, .. } = of;
        Ok((self.length > 0).then_some(Ask::Rest { from: self.length, validators, total, place }))
    }

    /// What arrives from here on follows after `from` bytes.
    pub fn begin(&mut self, from: u64, of: Beginning) -> Result<(), Problem> {
        let of = match &self.of {
            Some(before) if from > 0 => Beginning {
                expected: of.expected.and(&before.expected),
                // A part need not repeat what the whole had.
                validators: before.validators.clone(),
                ..of
            },
            _ => of,
        };
        if from == 0 {
            self.clear()?;
        }
        if let Some(total) = of.total {
            self.claim.cover(total, true)?;
        }
        self.of = Some(of);
        Ok(())
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// The disk, or the cache, is full: then it is as before.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let longer = self.length.saturating_add(bytes.len() as u64);
        self.claim.cover(longer, false)?;
        if let Err(error) = self.file.write_all(bytes) {
            self.cut(self.length).map_err(Problem::disk("writing a download"))?;
            return Err(Problem::disk("writing a download")(error));
        }
        self.length = longer;
        if self.length - self.synced >= SYNC {
            self.file.sync_data().map_err(Problem::disk("writing a download"))?;
            (self.synced, self.kept) = (self.length, false);
        }
        Ok(())
    }

    /// Lets another download, also of the next gateway, go on with it, if that is possible at all.
    pub fn keep(&mut self) -> Result<(), Problem> {
        let Some(of) = self.of.clone().filter(|of| of.validators.strong().is_some() && !self.kept) else {
            return Ok(());
        };
        let stored = Stored { of, boot: boot(), synced: self.synced };
        let text = serde_json::to_vec(&stored).map_err(|_| Problem::Bug)?;
        let next = self.path.with_extension("next.json");
        write_whole(&next, &text)
            .and_then(|next| fs::rename(next, self.beside()))
            .map_err(Problem::disk("writing a download"))?;
        self.kept = true;
        Ok(())
    }

    /// How many bytes are there, and of how many.
    pub fn length(&self) -> (u64, Option<u64>) {
        (self.length, self.of.as_ref().and_then(|of| of.total))
    }

    /// Of what it is the beginning.
    pub fn validators(&self) -> Validators {
        self.of.as_ref().map(|of| of.validators.clone()).unwrap_or_default()
    }

    /// Begins again.
    pub fn clear(&mut self) -> Result<(), Problem> {
        self.of = None;
        self.kept = false;
        self.forget_beginning();
        self.cut(0).map_err(Problem::disk("writing a download"))
    }

    fn forget_beginning(&self) {
        // Mostly it is not there.
        let _ = fs::remove_file(self.beside());
    }

    /// Its SHA-256, or which of the checksums that the server gave it does not have.
    pub fn check(&mut self) -> Result<Result<Sha, &'static str>, Problem> {
        let expected = self.of.as_ref().map(|of| of.expected.clone()).unwrap_or_default();
        let checked = expected.check(&mut self.file).map_err(Problem::disk("reading a download"))?;
        self.file.seek(SeekFrom::Start(self.length)).map_err(Problem::disk("reading a download"))?;
        Ok(checked)
    }

    /// Brings it to the disk, and gives it another name; or removes it, where that file is there already. It stays
    /// locked until then.
    pub fn finish(self, target: impl FnOnce(&Path, Claim) -> io::Result<()>) -> Result<(), Problem> {
        self.file.sync_all().map_err(Problem::disk("writing a download"))?;
        self.forget_beginning();
        target(&self.path, self.claim).map_err(Problem::disk("naming a blob"))?;
        // Nobody writes to it any more.
        self.file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(Problem::disk("naming a blob"))
    }

    /// Removes it.
    pub fn discard(self) {
        self.forget_beginning();
        // The next start removes what could not be removed now.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens the file of a download, and waits until nobody else has it.
fn lock(path: &Path) -> io::Result<File> {
    let patience = Instant::now() + OTHER_ENDS;
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            // It may have become a blob, or have been removed, since it was opened.
            Ok(())
                if fs::metadata(path)
                    .is_ok_and(|now| file.metadata().is_ok_and(|f| f.ino() == now.ino())) =>
            {
                return Ok(file);
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another gateway uses this folder"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// The name of this boot of the machine; empty, and never the same, where the kernel does not say.
fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match text.trim() {
        "" => format!("unknown to process {}", std::process::id()),
        boot => boot.to_owned(),
    }
}
