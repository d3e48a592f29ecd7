//! One download, decided without a socket or a clock.
//!
//! The machine is told what arrived and that time has passed; it says what to send, by the full number of each
//! block. The edge reads the blocks' bytes and carries the packets. It promises that a client that hears any of
//! its packets now and then gets the file exactly, and that a silent one is given up after a bounded time.

use std::time::Duration;

use super::packet::Request;

/// Without progress for this long, a transfer is over (longer only where the client asked for long timeouts).
const GIVE_UP: Duration = Duration::from_secs(60);
/// Resend after this long at first, twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait before a resend, unless the client asked for one.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// More blocks than this in flight overrun the receive buffers of firmware.
const MAX_WINDOW: u16 = 64;

/// What client and server agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Bytes in a block (RFC 2348).
    pub block_size: u16,
    /// Blocks between two acknowledgements (RFC 7440).
    pub window: u16,
    /// Wait before a resend, if the client asked for one (RFC 2349).
    pub timeout: Option<Duration>,
    /// The options to confirm; empty if the client sent none that is known.
    pub confirm: Vec<(&'static str, u64)>,
}

impl Negotiated {
    /// Takes the options of a request that are known and sane; the rest is ignored, as RFC 2347 wants.
    /// `largest_block` is what fits the network in one frame.
    pub fn from_request(request: &Request, length: u64, largest_block: u16) -> Self {
        let mut agreed = Self { block_size: 512, window: 1, timeout: None, confirm: Vec::new() };
        for (name, value) in &request.options {
            let Ok(value) = value.parse::<u64>() else { continue };
            match name.as_str() {
                "blksize" if (8..=65464).contains(&value) && !agreed.confirmed("blksize") => {
                    agreed.block_size = u16::try_from(value).unwrap_or(u16::MAX).min(largest_block);
                    agreed.confirm.push(("blksize", agreed.block_size.into()));
                }
                "windowsize" if (1..=65535).contains(&value) && !agreed.confirmed("windowsize") => {
                    agreed.window = u16::try_from(value).unwrap_or(u16::MAX).min(MAX_WINDOW);
                    agreed.confirm.push(("windowsize", agreed.window.into()));
                }
                "timeout" if (1..=255).contains(&value) && !agreed.confirmed("timeout") => {
                    agreed.timeout = Some(Duration::from_secs(value));
                    agreed.confirm.push(("timeout", value));
                }
                "tsize" if !agreed.confirmed("tsize") => agreed.confirm.push(("tsize", length)),
                _ => {}
            }
        }
        agreed
    }

    fn confirmed(&self, name: &str) -> bool {
        self.confirm.iter().any(|(known, _)| *known == name)
    }
}

/// What the edge has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send the confirmed options, then wait this long for a packet.
    SendOack(Duration),
    /// Send these blocks (full numbers, from 1), then wait this long for a packet.
    SendBlocks(std::ops::RangeInclusive<u64>, Duration),
    /// Nothing to send: go on waiting until the time that was set before.
    Wait,
    /// The client has everything.
    Done,
    /// The client went silent.
    GiveUp,
}

/// The state of one download.
#[derive(Debug, Clone)]
pub struct Transfer {
    agreed: Negotiated,
    /// Number of the last block; it is shorter than the block size, possibly empty.
    last: u64,
    /// The client has all blocks up to this one.
    acknowledged: u64,
    /// The last block of the window in flight; 0 while the options are not yet acknowledged.
    sent: u64,
    started: bool,
    /// Resends since the last progress.
    resends: u32,
    /// Time spent waiting since the last progress.
    waited: Duration,
    /// The window was already repeated because of a repeated acknowledgement.
    repeated: bool,
}

impl Transfer {
    /// A download of `length` bytes.
    pub fn new(agreed: Negotiated, length: u64) -> Self {
        let last = length / u64::from(agreed.block_size) + 1;
        Self {
            agreed,
            last,
            acknowledged: 0,
            sent: 0,
            started: false,
            resends: 0,
            waited: Duration::ZERO,
            repeated: false,
        }
    }

    /// The first thing to send.
    pub fn start(&mut self) -> Action {
        if self.agreed.confirm.is_empty() {
            self.started = true;
            self.next_window()
        } else {
            Action::SendOack(self.wait())
        }
    }

    /// The client acknowledged up to the block with these low 16 bits.
    pub fn on_ack(&mut self, number: u16) -> Action {
        if !self.started {
            if number != 0 {
                return Action::Wait;
            }
            self.started = true;
            return self.progress(0);
        }
        // The number's place within the window in flight; block numbers roll over after 65535.
        #[allow(clippy::cast_possible_truncation, reason = "the low bits are what is compared")]
        let ahead = u64::from(number.wrapping_sub(self.acknowledged as u16));
        match ahead {
            // Answering each repeated acknowledgement in lock-step would double every packet from there on
            // (RFC 1123 section 4.2.3.1). With a window it says that the window's first block was lost.
            0 if self.agreed.window > 1 && !self.repeated => {
                self.repeated = true;
                self.resend()
            }
            0 => Action::Wait,
            _ if self.acknowledged + ahead <= self.sent => self.progress(self.acknowledged + ahead),
            _ => Action::Wait,
        }
    }

    /// Nothing arrived for as long as the last action said.
    pub fn on_timeout(&mut self) -> Action {
        self.waited += self.wait();
        if self.waited >= GIVE_UP.max(self.agreed.timeout.unwrap_or_default() * 5) {
            return Action::GiveUp;
        }
        self.resends += 1;
        if self.started { self.resend() } else { Action::SendOack(self.wait()) }
    }

    /// Where a block's bytes are in the file: offset and length.
    pub fn block(&self, number: u64, length: u64) -> (u64, usize) {
        let size = u64::from(self.agreed.block_size);
        let offset = number.saturating_sub(1) * size;
        (offset, usize::try_from(length.saturating_sub(offset).min(size)).unwrap_or(0))
    }

    fn progress(&mut self, acknowledged: u64) -> Action {
        self.acknowledged = acknowledged;
        self.resends = 0;
        self.waited = Duration::ZERO;
        self.repeated = false;
        if acknowledged >= self.last { Action::Done } else { self.next_window() }
    }

    fn next_window(&mut self) -> Action {
        self.sent = (self.acknowledged + u64::from(self.agreed.window)).min(self.last);
        self.resend()
    }

    fn resend(&self) -> Action {
        Action::SendBlocks(self.acknowledged + 1..=self.sent, self.wait())
    }

    fn wait(&self) -> Duration {
        self.agreed.timeout.unwrap_or_else(|| (FIRST_WAIT * (1 << self.resends.min(4))).min(LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests;
