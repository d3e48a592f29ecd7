//! Which serial port of this machine reaches the gateway.
//!
//! Owns the search: every port that really exists is asked `SALAD.ping`, all at once, and the one that hears
//! `SALAD.pong` is it. Each port gets its settings back afterwards: one of them usually is our own console.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::OFlags,
    termios::{self, ControlModes, OptionalActions, QueueSelector, Termios},
};

/// A newline first: whatever stands on the line before then is a line of its own.
const PING: &[u8] = b"\nSALAD.ping\n";
const PONG: &[u8] = b"SALAD.pong";
/// How long an answer may take; the gateway is a few milliseconds away.
const PATIENCE: Duration = Duration::from_secs(1);
/// A ping into which the kernel printed a message is lost, so it is repeated.
const PING_EVERY: Duration = Duration::from_millis(300);
/// What adapters between serial port and network are set to by default.
const SPEED: u32 = 115_200;

/// Finds the pong in bytes that arrive in pieces, between others.
#[derive(Debug, Default)]
pub struct PongFinder {
    /// The end of what came before, shorter than a pong.
    tail: Vec<u8>,
}

impl PongFinder {
    /// Adds what arrived; true once a pong is complete.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.tail.extend_from_slice(bytes);
        let found = self.tail.windows(PONG.len()).any(|w| w == PONG);
        let keep_from = self.tail.len().saturating_sub(PONG.len() - 1);
        self.tail.drain(..keep_from);
        found
    }
}

/// Names of the serial ports that exist, the system console first.
pub fn candidates(sys: &Path) -> Vec<String> {
    let class = sys.join("class/tty");
    let consoles = fs::read_to_string(class.join("console/active")).unwrap_or_default();
    let entries = fs::read_dir(&class).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| is_serial(name) && exists(&class.join(name))).collect();
    names.sort_by_key(|name| (!is_console(&consoles, name), name.len(), name.clone()));
    names
}

fn is_console(consoles: &str, name: &str) -> bool {
    consoles.split_whitespace().any(|console| console == name)
}

fn is_serial(name: &str) -> bool {
    ["ttyS", "ttyAMA", "ttyUSB", "hvc"].iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The 8250 driver makes more ports than there are; those without a chip have type 0 (PORT_UNKNOWN). Other
/// drivers have no such file and make a port only when there is one.
fn exists(port: &Path) -> bool {
    fs::read_to_string(port.join("type")).map_or(true, |kind| kind.trim() != "0")
}

/// A port in raw mode; dropping it brings its old settings back.
struct Port {
    name: String,
    file: File,
    before: Termios,
    finder: PongFinder,
    dead: bool,
}

impl Port {
    fn open(dev: &Path, name: &str, is_console: bool) -> std::io::Result<Self> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).map_err(std::io::Error::other)?;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(dev.join(name))?;
        let before = termios::tcgetattr(&file)?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        if !is_console {
            raw.set_speed(SPEED)?;
        }
        termios::tcsetattr(&file, OptionalActions::Now, &raw)?;
        Ok(Self { name: name.to_owned(), file, before, finder: PongFinder::default(), dead: false })
    }

    fn ping(&mut self) {
        match self.file.write(PING) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.dead = true,
        }
    }

    /// Reads what is there; true if it completes a pong.
    fn hears(&mut self) -> bool {
        let mut piece = [0; 512];
        match self.file.read(&mut piece) {
            Ok(count) if count > 0 => self.finder.push(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            // A port that hung up would be ready for ever.
            _ => {
                self.dead = true;
                false
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Not the actions that wait for the output: a port with flow control and no peer never drains.
        let _ = termios::tcflush(&self.file, QueueSelector::IFlush);
        let _ = termios::tcsetattr(&self.file, OptionalActions::Now, &self.before);
    }
}

/// Asks all ports, and returns the first that the gateway answers on. Nothing may be printed meanwhile.
pub fn find(sys: &Path, dev: &Path, names: &[String]) -> Option<String> {
    let consoles = fs::read_to_string(sys.join("class/tty/console/active")).unwrap_or_default();
    let open = |name: &String| Port::open(dev, name, is_console(&consoles, name)).ok();
    let mut ports: Vec<_> = names.iter().filter_map(open).collect();
    let start = Instant::now();
    let mut next_ping = start;
    while start.elapsed() < PATIENCE {
        if Instant::now() >= next_ping {
            ports.iter_mut().for_each(Port::ping);
            next_ping += PING_EVERY;
        }
        ports.retain(|port| !port.dead);
        if ports.is_empty() {
            return None;
        }
        let until = next_ping.min(start + PATIENCE);
        if let Some(name) = listen(&mut ports, until.saturating_duration_since(Instant::now())) {
            return Some(name);
        }
    }
    None
}

/// Waits for bytes on any port, no longer than `patience`.
fn listen(ports: &mut [Port], patience: Duration) -> Option<String> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
    let mut polled: Vec<_> = ports.iter().map(|port| PollFd::new(&port.file, PollFlags::IN)).collect();
    if rustix::event::poll(&mut polled, Some(&timeout)).is_err() {
        return None;
    }
    let ready: Vec<_> = polled.iter().map(|p| !p.revents().is_empty()).collect();
    let mut ready = ports.iter_mut().zip(ready).filter(|(_, ready)| *ready);
    ready.find_map(|(port, _)| port.hears().then(|| port.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::tests::tree;
    use proptest::prelude::*;

    #[test]
    fn a_pong_is_found_between_garbage() {
        for text in
            ["SALAD.pong\n", "\r\n[ 1.23] foo: barSALAD.pong\r\n", "SALAD.SALAD.pongSALAD", "SASALAD.pong"]
        {
            assert!(PongFinder::default().push(text.as_bytes()), "{text}");
        }
        for text in ["SALAD.ping\n", "SALAD.\npong", "", "SALAD.pon", "salad.pong"] {
            assert!(!PongFinder::default().push(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn only_ports_with_hardware_are_asked_and_the_console_first() {
        let root = tree(&[
            ("class/tty/console/active", "tty0 ttyS1\n"),
            ("class/tty/ttyS0/type", "4\n"),
            ("class/tty/ttyS1/type", "4\n"),
            ("class/tty/ttyS2/type", "0\n"),
            ("class/tty/ttyS10/type", "4\n"),
            ("class/tty/ttyUSB0/dev", "188:0\n"),
            ("class/tty/hvc0/dev", "229:0\n"),
            ("class/tty/tty1/dev", "4:1\n"),
            ("class/tty/ttySx/dev", ""),
            ("class/tty/ptmx/dev", ""),
        ]);
        assert_eq!(candidates(root.path()), ["ttyS1", "hvc0", "ttyS0", "ttyS10", "ttyUSB0"]);
    }

    #[test]
    fn ports_that_cannot_be_opened_cost_no_time() {
        let root = tree(&[("dev/plain", "not a tty")]);
        let start = Instant::now();
        assert_eq!(
            find(root.path(), &root.path().join("dev"), &["plain".to_owned(), "absent".to_owned()]),
            None
        );
        assert!(start.elapsed() < PATIENCE);
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_finds_the_pong(
            before in proptest::collection::vec(any::<u8>(), 0..60),
            after in proptest::collection::vec(any::<u8>(), 0..60),
            step in 1usize..20,
        ) {
            let stream: Vec<u8> = [&before[..], PONG, &after[..]].concat();
            let mut finder = PongFinder::default();
            let mut found = false;
            for piece in stream.chunks(step) {
                found |= finder.push(piece);
                prop_assert!(finder.tail.len() < PONG.len());
            }
            prop_assert!(found);
        }
    }
}
