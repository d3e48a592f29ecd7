//! The gateway's side of SALAD's socket.
//!
//! [`Salad`] is a path and nothing else: each call opens a connection, so a SALAD that was restarted is found again
//! without any state to mend. A [`Subscription`] that breaks says so; the caller subscribes anew from the offset
//! behind its last chunk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::offset::{Chunk, ConsoleOffset};
use crate::wire::{ErrorCode, Frame, FrameError, MAX_WRITE, Op, Request, VERSION};

pub use crate::wire::MachineStatus;

/// How long the server may take for each frame of an answer. Opening a record may read 16 MiB, and typing waits 5 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// Room for what one read of the socket may bring, bytes.
const READ_AHEAD: usize = 64 << 10;

/// How long [`Salad::alive`] waits.
const ALIVE_PATIENCE: Duration = Duration::from_secs(2);

/// A request to SALAD that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error("cannot reach SALAD at {}; is `farmgate salad` running?", socket.display())]
    Away {
        /// Where it should be.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection ended: SALAD stopped or died. Subscribe again from the last offset when it is back.
    #[error("SALAD closed the connection; it was stopped, or died")]
    Closed,
    /// The server said nothing for too long.
    #[error("SALAD does not answer; is its disk stuck?")]
    Silent,
    /// The connection broke.
    #[error("the connection to SALAD broke")]
    Io(#[source] io::Error),
    /// The server is of another release.
    #[error("SALAD is of another release: {0}")]
    Version(String),
    /// The server said something that the protocol does not have.
    #[error("SALAD does not speak our protocol ({0}); restart it with the gateway's release")]
    Protocol(String),
    /// There is no console to type into.
    #[error("cannot type into the console of {machine}: none is connected")]
    NoConsole {
        /// Whose.
        machine: String,
    },
    /// The console does not take what is typed.
    #[error("cannot type into the console of {machine}: it takes no input")]
    Stuck {
        /// Whose.
        machine: String,
    },
    /// The server could not do it.
    #[error("SALAD refused: {0}")]
    Refused(String),
}

/// A SALAD to ask.
#[derive(Debug, Clone)]
pub struct Salad {
    socket: Arc<Path>,
}

impl Salad {
    /// The SALAD that listens at this Unix socket, now or later.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket: socket.into() }
    }

    /// Where the machine's record ends now. Makes the machine if it is new.
    ///
    /// # Errors
    /// When SALAD is away, or the machine cannot be made.
    pub async fn end(&self, machine: &str) -> Result<ConsoleOffset, ClientError> {
        let mut connection = self.ask(Op::End { machine: machine.to_owned() }).await?;
        match connection.next(machine).await? {
            Frame::Answer(answer) => {
                answer.offset.ok_or_else(|| ClientError::Protocol("an answer without its offset".to_owned()))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Everything that the machine's consoles say from this offset on, for ever. Makes the machine if it is new.
    /// What retention has dropped is left out, which the first chunk's offset shows; an offset beyond the end means
    /// the end.
    ///
    /// # Errors
    /// When SALAD is away, or the machine cannot be made.
    pub async fn subscribe(&self, machine: &str, from: ConsoleOffset) -> Result<Subscription, ClientError> {
        let mut connection = self.ask(Op::Subscribe { machine: machine.to_owned(), from }).await?;
        match connection.next(machine).await? {
            Frame::Answer(_) => Ok(Subscription { connection, machine: machine.to_owned(), over: false }),
            other => Err(unexpected(&other)),
        }
    }

    /// What is recorded in `from..to`, or up to the present end; at most 64 MiB (and 1,048,576 chunks). When the
    /// last chunk ends before `to`, go on from there.
    ///
    /// # Errors
    /// When SALAD is away, or cannot read the record.
    pub async fn read(
        &self,
        machine: &str,
        from: ConsoleOffset,
        to: Option<ConsoleOffset>,
    ) -> Result<Vec<Chunk>, ClientError> {
        let mut connection = self.ask(Op::Read { machine: machine.to_owned(), from, to }).await?;
        let mut chunks = Vec::new();
        loop {
            match connection.next(machine).await? {
                Frame::Chunk(chunk) => chunks.push(chunk),
                Frame::Answer(_) => return Ok(chunks),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Types bytes into the machine's console that spoke last. They are queued for it in order when this returns.
    ///
    /// # Errors
    /// When SALAD is away, no console of the machine is connected, or it takes no input for 5 s. When there are more
    /// than 64 KiB, some may have been typed already.
    pub async fn write(&self, machine: &str, bytes: &[u8]) -> Result<(), ClientError> {
        for part in bytes.chunks(MAX_WRITE) {
            let mut connection = self.ask(Op::Write { machine: machine.to_owned() }).await?;
            connection.send(&Frame::Write(Bytes::copy_from_slice(part))).await?;
            match connection.next(machine).await? {
                Frame::Answer(_) => {}
                other => return Err(unexpected(&other)),
            }
        }
        Ok(())
    }

    /// All machines, in the order of their ids.
    ///
    /// # Errors
    /// When SALAD is away.
    pub async fn machines(&self) -> Result<Vec<MachineStatus>, ClientError> {
        let mut connection = self.ask(Op::Machines).await?;
        let mut machines = Vec::new();
        loop {
            match connection.next("").await? {
                Frame::Machine(status) => machines.push(status),
                Frame::Answer(_) => return Ok(machines),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Does a SALAD of our protocol answer within 2 s?
    pub async fn alive(&self) -> bool {
        let asking = async { self.ask(Op::Ping).await?.next("").await };
        matches!(tokio::time::timeout(ALIVE_PATIENCE, asking).await, Ok(Ok(Frame::Answer(_))))
    }

    async fn ask(&self, op: Op) -> Result<Connection, ClientError> {
        let connecting = tokio::time::timeout(PATIENCE, UnixStream::connect(&self.socket));
        let stream = connecting
            .await
            .map_err(|_| ClientError::Silent)?
            .map_err(|source| ClientError::Away { socket: self.socket.to_path_buf(), source })?;
        let mut connection = Connection { stream, arrived: BytesMut::new() };
        connection.send(&Frame::Request(Request { v: VERSION, op })).await?;
        Ok(connection)
    }
}

fn unexpected(frame: &Frame) -> ClientError {
    let kind = match frame {
        Frame::Request(_) => "a request",
        Frame::Write(_) => "bytes to type",
        Frame::Chunk(_) => "a chunk",
        Frame::Machine(_) => "a machine",
        Frame::Answer(_) => "an answer",
        Frame::Failure(_) => "an error",
    };
    ClientError::Protocol(format!("it sent {kind} that was not asked for"))
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// One request's connection.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    arrived: BytesMut,
}

impl Connection {
    async fn send(&mut self, frame: &Frame) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        let sending = tokio::time::timeout(PATIENCE, self.stream.write_all(&out));
        match sending.await.map_err(|_| ClientError::Silent)? {
            // The server may have said why it closed: that is read next.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(broken),
        }
    }

    /// The next frame of an answer.
    async fn next(&mut self, machine: &str) -> Result<Frame, ClientError> {
        tokio::time::timeout(PATIENCE, self.arriving(machine)).await.map_err(|_| ClientError::Silent)?
    }

    /// The next frame, whenever it comes. Cancel safe: what has arrived stays in the buffer.
    async fn arriving(&mut self, machine: &str) -> Result<Frame, ClientError> {
        loop {
            if let Some(frame) = self.arrived_frame(machine)? {
                return Ok(frame);
            }
            if self.arrived.capacity() - self.arrived.len() < READ_AHEAD / 2 {
                self.arrived.reserve(READ_AHEAD);
            }
            if self.stream.read_buf(&mut self.arrived).await.map_err(broken)? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }

    /// A frame that is here already.
    fn arrived_frame(&mut self, machine: &str) -> Result<Option<Frame>, ClientError> {
        match Frame::decode(&mut self.arrived)? {
            Some(Frame::Failure(failure)) => Err(match failure.code {
                ErrorCode::NoConsole => ClientError::NoConsole { machine: machine.to_owned() },
                ErrorCode::Stuck => ClientError::Stuck { machine: machine.to_owned() },
                ErrorCode::Version => ClientError::Version(failure.message),
                ErrorCode::Request | ErrorCode::Failed | ErrorCode::Unknown => {
                    ClientError::Refused(failure.message)
                }
            }),
            other => Ok(other),
        }
    }
}

fn broken(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ClientError::Closed,
        _ => ClientError::Io(error),
    }
}

/// Follows one machine's record.
#[derive(Debug)]
pub struct Subscription {
    connection: Connection,
    machine: String,
    over: bool,
}

impl Subscription {
    /// The next chunk; waits for it as long as it takes. Chunks come in the order of their offsets, without gaps
    /// except where the record has one. After an error there is nothing more: `None`. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Chunk, ClientError>> {
        if self.over {
            return None;
        }
        let result = match self.connection.arriving(&self.machine).await {
            Ok(Frame::Chunk(chunk)) => Ok(chunk),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(error),
        };
        self.over = result.is_err();
        Some(result)
    }
}
