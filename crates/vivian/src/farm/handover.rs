//! What the starter gives to the supervisor: what to do, and open descriptors to do it with.
//!
//! Descriptors travel in a message over the socket that is the supervisor's standard input, not by inheritance: so no
//! other process that happens to be started at the same moment gets a copy, and a socket made outside keeps accepting
//! the host's connections while the supervisor lives in another network.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::{isolation::Isolation, options::FarmOptions};

/// Descriptors in a handover, at most.
const MAX_FDS: usize = 16;

/// Bytes of an assignment, at most: mostly the environment that a person typed.
const MAX_BYTES: usize = 1 << 20;

/// What the supervisor shall do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Absolute.
    pub state_dir: PathBuf,
    /// How its namespaces were made, for the record.
    pub isolation: Isolation,
    /// The vPDU's program.
    pub vpdu: PathBuf,
    /// The vPDU's arguments.
    pub vpdu_arguments: Vec<String>,
    /// The gateway's program, if one is wanted.
    pub farmgate: Option<PathBuf>,
    /// What is added to the gateway's environment, the later the stronger.
    pub environment: Vec<(String, String)>,
}

impl Assignment {
    /// What follows from a person's options.
    pub fn new(options: &FarmOptions, state_dir: &Path, isolation: Isolation) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            isolation,
            vpdu: absolute(&options.program("vpdu")),
            vpdu_arguments: vpdu_arguments(options, state_dir),
            farmgate: options.gateway.then(|| absolute(&options.program("farmgate"))),
            environment: environment(options, state_dir),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn vpdu_arguments(options: &FarmOptions, state_dir: &Path) -> Vec<String> {
    let mut list = vec!["--state-dir".to_owned(), state_dir.join("vpdu").display().to_string()];
    let kernel = absolute(&options.kernel());
    if kernel.is_file() {
        list.extend(["--kernel-for-probe".to_owned(), kernel.display().to_string()]);
    }
    list.extend(options.vpdu_arguments.iter().cloned());
    list
}

fn environment(options: &FarmOptions, state_dir: &Path) -> Vec<(String, String)> {
    let below = |path: &str| state_dir.join(path).display().to_string();
    let mut list: Vec<(String, String)> = [
        ("FARM_NAME", "vivian".to_owned()),
        ("EXECUTOR_PORT", "80".to_owned()),
        ("EXECUTOR_VPDU_ENDPOINT", format!("127.0.0.1:{}", farmgate_protocol::vpdu::DEFAULT_PORT)),
        ("PRIVATE_INTERFACE", super::network::BRIDGE.to_owned()),
        ("PERMANENT_MOUNT", below("permanent")),
        ("TMP_MOUNT", below("tmp")),
        ("MARS_DB_FILE", below("permanent/mars_db.yaml")),
        ("BOOTS_DEFAULT_KERNEL", absolute(&options.kernel()).display().to_string()),
        ("BOOTS_DEFAULT_INITRD", absolute(&options.initramfs()).display().to_string()),
        // Clients come through a forwarded port: calling them back cannot work.
        ("FARMGATE_FORWARDED", "1".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if let Some(boots) = options.boot_count {
        for name in ["SERGENT_HARTMAN_BOOT_COUNT", "SERGENT_HARTMAN_QUALIFYING_BOOT_COUNT"] {
            list.push((name.to_owned(), boots.to_string()));
        }
    }
    list.extend(options.env.iter().cloned());
    list
}

/// Sends an assignment with its descriptors.
///
/// # Errors
/// The supervisor is gone already, or there is too much to send.
pub fn send(socket: &UnixStream, assignment: &Assignment, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let json = serde_json::to_vec(assignment)?;
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= MAX_BYTES && fds.len() <= MAX_FDS);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too much to hand over"))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors to hand over"));
    }
    // Four bytes always fit into the socket's buffer, so the descriptors go with them.
    sendmsg(socket, &[IoSlice::new(&length.to_be_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    (&mut &*socket).write_all(&json)
}

/// Receives an assignment with its descriptors, which are closed on exec.
///
/// # Errors
/// The other side is gone, or sends something else.
pub fn receive(socket: &UnixStream) -> io::Result<(Assignment, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if got.bytes != 4 || length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "nobody handed anything over"));
    }
    let mut json = vec![0; length];
    (&mut &*socket).read_exact(&mut json)?;
    Ok((serde_json::from_slice(&json)?, fds))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, pipe},
        os::fd::AsFd as _,
    };

    use super::*;

    fn assignment() -> Assignment {
        let mut options = FarmOptions::new(Path::new("s"), Path::new("i"));
        options.boot_count = Some(2);
        options.env = vec![("FARM_NAME".into(), "mine".into())];
        options.vpdu_arguments = vec!["--memory".into(), "256".into()];
        Assignment::new(&options, Path::new("/s"), Isolation::User)
    }

    #[test]
    fn descriptors_arrive_open_and_in_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut read, write) = pipe().unwrap();
        let (read2, write2) = pipe().unwrap();
        send(&ours, &assignment(), &[write.as_fd(), write2.as_fd()]).unwrap();
        drop((write, write2));
        let (got, mut fds) = receive(&theirs).unwrap();
        assert_eq!(got, assignment());
        assert_eq!(fds.len(), 2);
        drop(fds.pop());
        std::fs::File::from(fds.remove(0)).write_all(b"hello").unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        drop(read2);
    }

    #[test]
    fn a_starter_that_is_gone_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert!(receive(&theirs).is_err());
    }

    #[test]
    fn the_gateway_learns_its_surroundings_and_the_person_has_the_last_word() {
        let assignment = assignment();
        let last = |name: &str| {
            assignment.environment.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(last("FARM_NAME"), Some("mine"));
        assert_eq!(last("MARS_DB_FILE"), Some("/s/permanent/mars_db.yaml"));
        assert_eq!(last("EXECUTOR_VPDU_ENDPOINT"), Some("127.0.0.1:9191"));
        assert_eq!(last("SERGENT_HARTMAN_QUALIFYING_BOOT_COUNT"), Some("2"));
        assert_eq!(last("FARMGATE_FORWARDED"), Some("1"));
        assert!(assignment.vpdu_arguments.ends_with(&["--memory".into(), "256".into()]));
    }
}
