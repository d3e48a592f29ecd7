//! The person's keys: a thread that reads the raw terminal, and the small machine that finds our own commands in
//! them (Ctrl-A Ctrl-C, Ctrl-A Ctrl-D, Ctrl-A Ctrl-A). What is left belongs to the DUT.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    thread::JoinHandle,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, read},
    pipe::{PipeFlags, pipe_with},
};
use tokio::sync::mpsc;

use crate::terminal::RawMode;

const CTRL_A: u8 = 0x01;
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
/// Bytes taken from the terminal at once.
const CHUNK: usize = 1024;
/// Chunks that wait while the gateway does not take them; then the terminal waits.
const WAITING_CHUNKS: usize = 16;

/// What the person wants of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Ctrl-A Ctrl-C.
    Leave,
    /// Ctrl-A Ctrl-D: leave, and let the job go on.
    Detach,
}

/// What typed bytes mean.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// For the DUT.
    pub bytes: Vec<u8>,
    /// For us. What was typed after it is dropped.
    pub command: Option<Command>,
}

/// Finds the commands in what is typed.
#[derive(Debug, Default)]
pub struct KeyFilter {
    after_ctrl_a: bool,
}

impl KeyFilter {
    /// Takes typed bytes. Ctrl-A and then any other key than the commands sends that key alone, as the published
    /// client does.
    pub fn on_keys(&mut self, keys: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for &key in keys {
            match (std::mem::take(&mut self.after_ctrl_a), key) {
                (true, CTRL_C) => typed.command = Some(Command::Leave),
                (true, CTRL_D) => typed.command = Some(Command::Detach),
                (false, CTRL_A) => self.after_ctrl_a = true,
                _ => typed.bytes.push(key),
            }
            if typed.command.is_some() {
                break;
            }
        }
        typed
    }
}

/// The keyboard while it belongs to the DUT; when it is dropped, the terminal is as it was before.
#[derive(Debug)]
pub struct Keyboard {
    keys: mpsc::Receiver<Vec<u8>>,
    // Dropped in this order: the thread ends before the terminal leaves raw mode.
    reader: Reader,
    _raw: RawMode,
}

#[derive(Debug)]
struct Reader {
    /// Its closing wakes the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Keyboard {
    /// Takes the keyboard, where there is one.
    ///
    /// # Errors
    /// The terminal refuses raw mode.
    pub fn take() -> io::Result<Option<Self>> {
        let Some(raw) = RawMode::enter()? else { return Ok(None) };
        let (woken, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let (sender, keys) = mpsc::channel(WAITING_CHUNKS);
        // A thread of its own and not a non-blocking descriptor: that property would be shared with the shell, and
        // a read of the runtime could not be taken back at the end.
        let thread =
            std::thread::Builder::new().name("keyboard".into()).spawn(move || read_keys(&woken, &sender))?;
        Ok(Some(Self { keys, reader: Reader { stop: Some(stop), thread: Some(thread) }, _raw: raw }))
    }

    /// The next typed bytes; `None` when the terminal is gone.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.keys.recv().await
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        // A thread that waits for room in the channel is let go first.
        self.keys.close();
        while self.keys.try_recv().is_ok() {}
        self.reader.end();
    }
}

impl Reader {
    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_keys(woken: &OwnedFd, keys: &mpsc::Sender<Vec<u8>>) {
    let stdin = io::stdin();
    let mut buffer = [0; CHUNK];
    loop {
        let mut ready =
            [PollFd::new(&stdin, PollFlags::IN), PollFd::from_borrowed_fd(woken.as_fd(), PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !ready[1].revents().is_empty() => return,
            Ok(_) => {}
        }
        // Not through std's buffered reader: bytes in its buffer would not be seen by poll.
        match read(&stdin, &mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if keys.blocking_send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(keys: &[u8]) -> (Vec<u8>, Option<Command>) {
        let typed = KeyFilter::default().on_keys(keys);
        (typed.bytes, typed.command)
    }

    #[test]
    fn only_three_combinations_are_ours() {
        assert_eq!(typed(b"ls\r\x03\x04"), (b"ls\r\x03\x04".to_vec(), None), "Ctrl-C alone is the DUT's");
        assert_eq!(typed(b"\x01"), (vec![], None));
        assert_eq!(typed(b"a\x01\x01b"), (b"a\x01b".to_vec(), None));
        assert_eq!(typed(b"\x01x"), (b"x".to_vec(), None));
        assert_eq!(typed(b"a\x01\x03b"), (b"a".to_vec(), Some(Command::Leave)));
        assert_eq!(typed(b"a\x01\x04b"), (b"a".to_vec(), Some(Command::Detach)));
        assert_eq!(typed(b"\x01\x01\x03"), (b"\x01\x03".to_vec(), None), "a sent Ctrl-A is no prefix");
    }

    proptest! {
        #[test]
        fn the_cut_of_the_keys_does_not_matter(keys in proptest::collection::vec(0u8..6, 0..20), cut in 0usize..20) {
            let cut = cut.min(keys.len());
            let mut filter = KeyFilter::default();
            let mut first = filter.on_keys(&keys[..cut]);
            if first.command.is_none() {
                let second = filter.on_keys(&keys[cut..]);
                first.bytes.extend(second.bytes);
                first.command = second.command;
            }
            prop_assert_eq!((first.bytes, first.command), typed(&keys));
        }
    }
}
