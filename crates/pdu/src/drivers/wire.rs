//! One short conversation over TCP with a device: connect, ask, hear, hang up.
//!
//! A conversation of its own for each call needs no repair after an error or a call that was dropped half way, and
//! finds a device that restarted.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::DriverError;

/// A whole conversation. Less than the 5 s that the task gives, so that the error can say what happened.
const WITHIN: Duration = Duration::from_secs(4);
/// The longest line of a known device is some 60 bytes.
const MAX_LINE: usize = 512;

/// A connection to a device.
pub(super) struct Wire {
    stream: TcpStream,
    address: String,
    /// Bytes after the last line.
    rest: Vec<u8>,
}

/// Bounds a conversation in time.
pub(super) async fn bounded<T>(
    conversation: impl Future<Output = Result<T, DriverError>>,
) -> Result<T, DriverError> {
    timeout(WITHIN, conversation).await.unwrap_or(Err(DriverError::Timeout(WITHIN)))
}

impl Wire {
    /// Connects.
    pub async fn connect(address: &str) -> Result<Self, DriverError> {
        let failed = |error| DriverError::unreachable(address, error);
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        // A command must leave in one packet, and at once.
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self { stream, address: address.to_owned(), rest: Vec::new() })
    }

    fn broken(&self, error: io::Error) -> DriverError {
        DriverError::unreachable(&*self.address, error)
    }

    /// Sends a whole command.
    pub async fn send(&mut self, command: &[u8]) -> Result<(), DriverError> {
        self.stream.write_all(command).await.map_err(|error| self.broken(error))
    }

    /// Sends a command that is answered with exactly `N` bytes.
    pub async fn ask<const N: usize>(&mut self, command: &[u8]) -> Result<[u8; N], DriverError> {
        self.send(command).await?;
        let mut answer = [0; N];
        self.stream.read_exact(&mut answer).await.map_err(|error| self.broken(error))?;
        Ok(answer)
    }

    /// Hears `count` bytes.
    pub async fn hear(&mut self, count: usize) -> Result<Vec<u8>, DriverError> {
        let mut answer = vec![0; count];
        self.stream.read_exact(&mut answer).await.map_err(|error| self.broken(error))?;
        Ok(answer)
    }

    /// Hears a line, without its end.
    pub async fn line(&mut self) -> Result<String, DriverError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.rest.len() > MAX_LINE {
                return Err(DriverError::Protocol(format!("a line longer than {MAX_LINE} bytes")));
            }
            let mut chunk = [0; 256];
            match self.stream.read(&mut chunk).await.map_err(|error| self.broken(error))? {
                0 => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
                n => self.rest.extend_from_slice(&chunk[..n]),
            }
        }
    }
}
