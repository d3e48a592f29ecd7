//! The Unix socket of the gateway: one request per connection, as [`crate::wire`] describes.
//!
//! The socket file is made for its owner only. A file left by a dead server is replaced; a live server is an error.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::hub::{Hub, HubError};
use crate::machine::{InputError, Machine};
use crate::machine_id::MachineId;
use crate::offset::{Chunk, ConsoleOffset};
use crate::record::Follower;
use crate::source::pause_after_failed_accept;
use crate::wire::{
    Answer, ErrorCode, Failure, Frame, MAX_READ, MAX_READ_CHUNKS, MAX_WRITE, Op, Request, VERSION,
};

/// Requests under way at a time, subscriptions included.
const MAX_CONNECTIONS: usize = 4096;

/// How long a client may take to say what it wants.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// Why the socket could not be made.
#[derive(Debug)]
pub(crate) enum BindError {
    /// Somebody answers there.
    Live,
    Io(io::Error),
}

/// Makes the socket. It gets its name only when its permissions are set.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, BindError> {
    if StdUnixStream::connect(path).is_ok() {
        return Err(BindError::Live);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let bound = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&temporary)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
        fs::rename(&temporary, path)?;
        Ok(listener)
    };
    bound().map_err(BindError::Io)
}

/// Serves requests until the hub stops.
pub(crate) async fn accept(listener: UnixListener, hub: Arc<Hub>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some(accepted) = hub.stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after_failed_accept("gateway socket", &error).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("refused a request of the gateway: {MAX_CONNECTIONS} are under way");
            continue;
        };
        let hub = Arc::clone(&hub);
        hub.clone().spawner.spawn(async move {
            let _place = place;
            let stop = hub.stop.clone();
            if let Some(Err(error)) = stop.run_until_cancelled(serve(stream, &hub)).await {
                tracing::debug!(%error, "a request of the gateway ended early");
            }
        });
    }
}

/// One client and what was read of it.
struct Connection {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    arrived: BytesMut,
    out: BytesMut,
}

async fn serve(stream: UnixStream, hub: &Hub) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let mut connection = Connection { reader, writer, arrived: BytesMut::new(), out: BytesMut::new() };
    let result = match connection.receive().await? {
        Frame::Request(Request { v: VERSION, op }) => connection.answer(op, hub).await,
        Frame::Request(Request { v, .. }) => Err(Refusal::new(
            ErrorCode::Version,
            format!(
                "this SALAD speaks version {VERSION} of its protocol, not {v}; restart it with the gateway's release"
            ),
        )),
        _ => Err(Refusal::new(ErrorCode::Request, "the first frame must be a request")),
    };
    match result {
        Ok(()) => Ok(()),
        Err(Refusal::Say(failure)) => connection.send(&[Frame::Failure(failure)]).await,
        Err(Refusal::Gone(error)) => Err(error),
    }
}

/// Why a request was not answered.
enum Refusal {
    Say(Failure),
    Gone(io::Error),
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Say(Failure { code, message: message.into() })
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<HubError> for Refusal {
    fn from(error: HubError) -> Self {
        Self::new(ErrorCode::Failed, error.to_string())
    }
}

async fn machine(hub: &Hub, id: &str) -> Result<Arc<Machine>, Refusal> {
    let id = MachineId::new(id).map_err(|error| Refusal::new(ErrorCode::Request, error.to_string()))?;
    Ok(hub.machine(&id).await?)
}

impl Connection {
    async fn answer(&mut self, op: Op, hub: &Hub) -> Result<(), Refusal> {
        let done = Frame::Answer(Answer::default());
        match op {
            Op::Ping => self.send(&[done]).await?,
            Op::End { machine: id } => {
                let offset = Some(machine(hub, &id).await?.end());
                self.send(&[Frame::Answer(Answer { offset })]).await?;
            }
            Op::Machines => {
                let all = hub.list().await.into_iter().map(Frame::Machine);
                self.send(&all.chain([done]).collect::<Vec<_>>()).await?;
            }
            Op::Write { machine: id } => {
                let machine = machine(hub, &id).await?;
                self.write(&machine).await?;
                self.send(&[done]).await?;
            }
            Op::Read { machine: id, from, to } => {
                let machine = machine(hub, &id).await?;
                let to = to.map_or(machine.end(), |to| to.min(machine.end()));
                self.read(machine.follow(from), to).await?;
                self.send(&[done]).await?;
            }
            Op::Subscribe { machine: id, from } => {
                let machine = machine(hub, &id).await?;
                self.send(&[done]).await?;
                self.follow(machine.follow(from)).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, machine: &Machine) -> Result<(), Refusal> {
        let bytes = match self.receive().await? {
            Frame::Write(bytes) if bytes.len() <= MAX_WRITE => bytes,
            _ => {
                return Err(Refusal::new(
                    ErrorCode::Request,
                    format!("expected up to {MAX_WRITE} bytes to type"),
                ));
            }
        };
        machine.write(bytes).await.map_err(|error| match error {
            InputError::NoConsole => Refusal::new(ErrorCode::NoConsole, "no console of it is connected"),
            InputError::Stuck => Refusal::new(ErrorCode::Stuck, "its console has taken no input for 5 s"),
        })
    }

    /// Sends what is recorded up to `to`.
    async fn read(&mut self, mut follower: Follower, to: ConsoleOffset) -> Result<(), Refusal> {
        let (mut bytes, mut count) = (0, 0);
        while bytes < MAX_READ && count < MAX_READ_CHUNKS {
            let chunks = follower.read().await.map_err(|e| Refusal::new(ErrorCode::Failed, e.to_string()))?;
            let mut frames: Vec<Frame> = Vec::with_capacity(chunks.len());
            for chunk in &chunks {
                let room = to.0.saturating_sub(chunk.offset.0).min((MAX_READ - bytes) as u64);
                let length = usize::try_from(room).unwrap_or(usize::MAX).min(chunk.bytes.len());
                if length == 0 || count == MAX_READ_CHUNKS {
                    break;
                }
                bytes += length;
                count += 1;
                frames.push(Frame::Chunk(Chunk { bytes: chunk.bytes.slice(..length), ..*chunk }));
            }
            let more = frames.len() == chunks.len() && !frames.is_empty();
            self.send(&frames).await?;
            if !more {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends what comes, until the client closes.
    async fn follow(&mut self, mut follower: Follower) -> Result<(), Refusal> {
        loop {
            let chunks = tokio::select! {
                chunks = follower.next() => chunks.map_err(|e| Refusal::new(ErrorCode::Failed, e.to_string()))?,
                // A subscriber has nothing more to say: whatever comes means that it is done.
                _ = self.reader.read_buf(&mut self.arrived) => return Ok(()),
            };
            self.send(&chunks.into_iter().map(Frame::Chunk).collect::<Vec<_>>()).await?;
        }
    }

    async fn receive(&mut self) -> io::Result<Frame> {
        let receiving = async {
            loop {
                if let Some(frame) = Frame::decode(&mut self.arrived).map_err(io::Error::other)? {
                    return Ok(frame);
                }
                if self.reader.read_buf(&mut self.arrived).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        tokio::time::timeout(REQUEST_PATIENCE, receiving).await?
    }

    async fn send(&mut self, frames: &[Frame]) -> io::Result<()> {
        self.out.clear();
        frames.iter().for_each(|frame| frame.encode(&mut self.out));
        self.writer.write_all(&self.out).await
    }
}
