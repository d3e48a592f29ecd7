//! What a farm writes down about itself in its state directory, and the lock that says whether it runs.
//!
//! The lock is held by the supervisor alone (its starter hands it over), so it is free exactly when the farm is gone,
//! however it ended. The other files are only believed while the lock is held.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use farmgate_protocol::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{FarmError, isolation::Isolation};

/// Where the host reaches the services: [`super::options::Ports`].
pub const PORTS: &str = "ports.json";
/// The running supervisor: [`Supervisor`].
pub const SUPERVISOR: &str = "supervisor.json";
/// The supervisor's children: a list of [`ChildRecord`].
pub const CHILDREN: &str = "children.json";

const LOCK: &str = "lock";
const LOG: &str = "log";

/// Everything that a farm leaves in its state directory. A reset removes this and nothing else, so that a wrong
/// `--state-dir` costs nobody a home directory. The lock goes last: it is held until then.
const TRACES: [&str; 9] = [PORTS, SUPERVISOR, CHILDREN, LOG, "resolv.conf", "permanent", "tmp", "vpdu", LOCK];

/// How often the lock is tried, and the pause between: whoever only looks whether it is held has it for an instant.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Bytes of a log that are read for its last lines.
const LOG_TAIL: u64 = 16 << 10;

/// Lines of a log that a person is shown.
const LOG_LINES: usize = 15;

/// The supervisor, as others need to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// Its process id on the host.
    pub pid: i32,
    /// How to enter its namespaces.
    pub isolation: Isolation,
    /// When it began.
    pub since: Timestamp,
}

/// A program that the supervisor started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildRecord {
    /// `vpdu` or `farmgate`; its log has this name.
    pub name: String,
    /// Its process id inside the farm.
    pub pid: i32,
    /// How it ended, if it has.
    pub ended: Option<String>,
}

fn files(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FarmError {
    let path = path.to_owned();
    move |source| FarmError::Files { operation, path, source }
}

/// Makes the state directory with its folders and returns its absolute path.
///
/// # Errors
/// It cannot be made or written.
pub fn prepare(state_dir: &Path) -> Result<PathBuf, FarmError> {
    for folder in ["permanent", "tmp", "vpdu", LOG] {
        let path = state_dir.join(folder);
        fs::create_dir_all(&path).map_err(files("cannot make", &path))?;
    }
    state_dir.canonicalize().map_err(files("cannot find", state_dir))
}

/// The lock of a state directory, held.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// A farm runs there, or the file cannot be made.
    pub fn take(state_dir: &Path) -> Result<Self, FarmError> {
        let path = state_dir.join(LOCK);
        for _ in 0..LOCK_TRIES {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(files("cannot open", &path))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, &path) => return Ok(Self(file)),
                // A reset removed it since it was opened: nobody else would ever see this lock.
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
                Err(e) => return Err(files("cannot lock", &path)(e.into())),
            }
        }
        Err(FarmError::AlreadyUp(state_dir.to_owned()))
    }

    /// Does a farm run there? Does not need the right to write, so that everyone may ask.
    ///
    /// # Errors
    /// The lock cannot be looked at.
    pub fn is_held(state_dir: &Path) -> Result<bool, FarmError> {
        let path = state_dir.join(LOCK);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(files("cannot open", &path)(e)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(e) => Err(files("cannot lock", &path)(e.into())),
        }
    }
}

/// Is it this open file that has the name?
fn is_at(file: &File, path: &Path) -> bool {
    let number = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if number(&a) == number(&b))
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Writes a record, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write(state_dir: &Path, name: &str, value: &impl Serialize) -> Result<(), FarmError> {
    let path = state_dir.join(name);
    let partial = path.with_extension("partial");
    serde_json::to_vec_pretty(value)
        .map_err(io::Error::from)
        .and_then(|json| fs::write(&partial, json))
        .and_then(|()| fs::rename(&partial, &path))
        .map_err(files("cannot write", &path))
}

/// Reads a record.
///
/// # Errors
/// It is absent or damaged.
pub fn read<T: DeserializeOwned>(state_dir: &Path, name: &str) -> Result<T, FarmError> {
    let path = state_dir.join(name);
    fs::read(&path)
        .and_then(|json| serde_json::from_slice(&json).map_err(io::Error::from))
        .map_err(files("cannot read", &path))
}

/// The supervisor's children, as far as it has written them down.
pub fn children(state_dir: &Path) -> Vec<ChildRecord> {
    read(state_dir, CHILDREN).unwrap_or_default()
}

/// Removes what is only true of a running farm, but the ports, which people look up afterwards too.
///
/// # Errors
/// A file cannot be removed.
pub fn forget(state_dir: &Path) -> Result<(), FarmError> {
    for name in [SUPERVISOR, CHILDREN] {
        remove(&state_dir.join(name))?;
    }
    Ok(())
}

/// Removes all that farms left in the state directory, and the directory if it is empty then. No farm can start there
/// meanwhile.
///
/// # Errors
/// A farm runs there, or a file cannot be removed.
pub fn reset(state_dir: &Path) -> Result<(), FarmError> {
    if !state_dir.exists() {
        return Ok(());
    }
    let _lock = Lock::take(state_dir)?;
    for name in TRACES {
        remove(&state_dir.join(name))?;
    }
    // Somebody else's file in it keeps it.
    let _ = fs::remove_dir(state_dir);
    Ok(())
}

fn remove(path: &Path) -> Result<(), FarmError> {
    let removed =
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(files("cannot remove", path)(e)),
        _ => Ok(()),
    }
}

fn log_path(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(LOG).join(format!("{name}.log"))
}

/// An empty log; that of the farm before is kept as `NAME.previous.log`.
///
/// # Errors
/// It cannot be made.
pub fn fresh_log(state_dir: &Path, name: &str) -> Result<File, FarmError> {
    let path = log_path(state_dir, name);
    if path.exists() {
        fs::rename(&path, path.with_extension("previous.log")).map_err(files("cannot rename", &path))?;
    }
    more_log(state_dir, name)
}

/// The log of a program that is started again: the same one.
///
/// # Errors
/// It cannot be made.
pub fn more_log(state_dir: &Path, name: &str) -> Result<File, FarmError> {
    let path = log_path(state_dir, name);
    File::options().create(true).append(true).open(&path).map_err(files("cannot make", &path))
}

/// The last lines of a log, under its path. For people, so it says what it cannot read.
pub fn log_end(state_dir: &Path, name: &str) -> String {
    let path = log_path(state_dir, name);
    let text = tail(&path).unwrap_or_else(|e| format!("({e})"));
    let text = if text.trim().is_empty() { "(it is empty)" } else { &text };
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
    format!("the end of {}:\n  {}", path.display(), shown.join("\n  "))
}

/// The last line of a log, for a sentence.
pub fn last_word(state_dir: &Path, name: &str) -> String {
    let text = tail(&log_path(state_dir, name)).unwrap_or_default();
    let words =
        text.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("guard: "));
    words.unwrap_or("it said nothing").to_owned()
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_free_when_its_last_holder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Lock::is_held(folder.path()).unwrap());
        let lock = Lock::take(folder.path()).unwrap();
        assert!(Lock::is_held(folder.path()).unwrap());
        assert!(matches!(Lock::take(folder.path()), Err(FarmError::AlreadyUp(_))));
        let handed_over = lock.as_fd().try_clone_to_owned().unwrap();
        drop(lock);
        assert!(Lock::is_held(folder.path()).unwrap());
        drop(handed_over);
        assert!(!Lock::is_held(folder.path()).unwrap());
    }

    #[test]
    fn a_reset_takes_only_what_a_farm_made() {
        let folder = tempfile::tempdir().unwrap();
        let state = prepare(&folder.path().join("farm")).unwrap();
        fs::write(state.join("permanent/mars_db.yaml"), "duts: {}").unwrap();
        fs::write(state.join("thesis.tex"), "").unwrap();
        reset(&state).unwrap();
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        fs::remove_file(state.join("thesis.tex")).unwrap();
        reset(&state).unwrap();
        assert!(!state.exists());
        reset(&state).unwrap();
    }

    #[test]
    fn a_reset_touches_nothing_of_a_farm_that_runs() {
        let folder = tempfile::tempdir().unwrap();
        let state = prepare(&folder.path().join("farm")).unwrap();
        fs::write(state.join("permanent/mars_db.yaml"), "duts: {}").unwrap();
        let lock = Lock::take(&state).unwrap();
        assert!(matches!(reset(&state), Err(FarmError::AlreadyUp(_))));
        assert!(state.join("permanent/mars_db.yaml").exists() && Lock::is_held(&state).unwrap());
        drop(lock);
        reset(&state).unwrap();
        assert!(!state.exists());
    }

    #[test]
    fn who_only_looks_at_the_lock_keeps_nobody_from_taking_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = prepare(folder.path()).unwrap();
        drop(Lock::take(&state).unwrap());
        let looking = File::open(state.join(LOCK)).unwrap();
        flock(&looking, FlockOperation::NonBlockingLockShared).unwrap();
        let ends = std::thread::spawn(move || {
            std::thread::sleep(LOCK_PAUSE);
            drop(looking);
        });
        Lock::take(&state).unwrap();
        ends.join().unwrap();
    }

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let state = prepare(folder.path()).unwrap();
        fs::write(log_path(&state, "vpdu"), (0..1000).map(|n| format!("line {n}\n")).collect::<String>())
            .unwrap();
        let end = log_end(&state, "vpdu");
        assert!(end.ends_with("line 999") && end.contains("line 985") && !end.contains("line 984"), "{end}");
        fresh_log(&state, "vpdu").unwrap();
        assert!(state.join("log/vpdu.previous.log").exists());
    }
}
