//! The farm file on disk: read whole, written atomically, one writer at a time. All of this blocks.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with},
    io::Errno,
};

use crate::parse::LARGEST_FILE;

/// What a farm file holds when nobody wrote one.
pub const EMPTY: &str = "\
# The farm: machines (duts), PDUs, forges. Edit it while the gateway runs: a change takes effect when you save it,
# and a mistake is reported with its line while the last good version stays in force. The gateway adds machines
# that register, and changes only the values it is about; your comments stay.
#
# pdus:
#   RACK: {driver: vpdu, config: {hostname: \"127.0.0.1:9191\"}, reserved_port_ids: []}
# duts:
#   \"52:54:00:11:22:01\":
#     pdu: RACK
#     pdu_port_id: \"1\"
";

/// Others hold the lock only while they write.
const LOCK_WITHIN: Duration = Duration::from_secs(5);

/// The file that is meant, if the path is a link: a rename must not replace the link.
fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Reads the file. Bytes that are no UTF-8 are an error of kind `InvalidData`.
pub fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that is too large is seen to be.
    File::open(path)?.take(LARGEST_FILE as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("line {line} is not UTF-8: save the file as UTF-8"),
        )
    })
}

/// Whether nobody wrote to the file for so long. A file whose times make no sense is still.
pub fn is_still(path: &Path, length: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.ok().and_then(|time| time.elapsed().ok()).is_none_or(|age| age >= length)
}

/// Makes the file with a comment that explains it, unless it is there.
pub fn create_if_absent(path: &Path) -> io::Result<()> {
    // It will hold tokens.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(EMPTY.as_bytes())?;
            file.sync_all()?;
            tracing::info!(path = %path.display(), "made an empty farm file");
            sync_folder(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The right to write; given back when dropped.
pub struct Lock(#[allow(dead_code)] File); // held for its lock only

/// Takes the lock file beside the farm file.
pub fn lock(path: &Path) -> io::Result<Lock> {
    let path = beside(&target(path), "lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock(file)),
            Err(Errno::WOULDBLOCK) if start.elapsed() < LOCK_WITHIN => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => {
                let why = format!("another program holds {}", path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Replaces `old` by `new`: all of it or nothing, keeping mode and owner. False if the file does not hold `old` any
/// more, because somebody saved it meanwhile; it is not touched then.
pub fn replace(path: &Path, old: &str, new: &str, _lock: &Lock) -> io::Result<bool> {
    let path = target(path);
    let temporary = beside(&path, "new");
    let result = write_then_swap(&path, &temporary, old, new);
    // It may never have been made, or be in its place.
    let _ = fs::remove_file(&temporary);
    result
}

fn write_then_swap(path: &Path, temporary: &Path, old: &str, new: &str) -> io::Result<bool> {
    let meta = fs::metadata(path)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    file.write_all(new.as_bytes())?;
    let ours = file.metadata()?;
    if (ours.uid(), ours.gid()) != (meta.uid(), meta.gid()) {
        // Only root may give files away; the person can still read what the mode allows.
        let _ = std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid()));
    }
    file.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    file.sync_all()?;
    // As late as possible: an editor knows nothing of our lock.
    if read(path)? != old {
        return Ok(false);
    }
    swap(path, temporary, old)
}

/// Puts the temporary file in the place of the one that holds `old`. An editor may have saved since we looked, or just
/// have opened the file to write: the two files change places, so that what was there can be looked at again and, if
/// it is not `old`, be put back. False then.
fn swap(path: &Path, temporary: &Path, old: &str) -> io::Result<bool> {
    match renameat_with(CWD, temporary, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        // A file system that cannot do that leaves a gap of microseconds.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::rename(temporary, path)?;
            sync_folder(path)?;
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    }
    // What is no text now is being written, too.
    if !read(temporary).is_ok_and(|text| text == old) {
        fs::rename(temporary, path)?;
        return Ok(false);
    }
    sync_folder(path)?;
    Ok(true)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{ending}"))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_saves_between_our_look_and_our_write_stays() {
        let folder = tempfile::TempDir::new().unwrap();
        let (path, temporary) = (folder.path().join("mars_db.yaml"), folder.path().join(".mars_db.yaml.new"));
        for (saved, expected) in [(&b"old"[..], true), (b"theirs", false), (b"", false), (b"half\xff", false)]
        {
            fs::write(&path, saved).unwrap();
            fs::write(&temporary, "ours").unwrap();
            assert_eq!(swap(&path, &temporary, "old").unwrap(), expected);
            assert_eq!(fs::read(&path).unwrap(), if expected { b"ours" } else { saved });
        }
    }

    #[test]
    fn an_editor_that_has_the_file_open_goes_on_in_the_file_that_is_read() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("mars_db.yaml");
        let temporary = folder.path().join(".mars_db.yaml.new");
        fs::write(&path, "old").unwrap();
        fs::write(&temporary, "ours").unwrap();
        let mut editor = File::create(&path).unwrap();
        assert!(!swap(&path, &temporary, "old").unwrap());
        editor.write_all(b"theirs").unwrap();
        assert_eq!(read(&path).unwrap(), "theirs");
        assert!(!temporary.exists());
    }
}
