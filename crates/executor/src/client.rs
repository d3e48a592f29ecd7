//! A job's connection to the person or forge that waits for it. The run never waits for a client: what it tells is in
//! its log, the console is in SALAD's record, and each client reads both at its own pace, from where it left off.

use std::{sync::Arc, time::Duration};

use farmgate_protocol::{
    Timestamp,
    console::{FrameReader, Message, Payload},
};
use farmgate_salad::{Chunk, ClientError, ConsoleOffset, Salad, Subscription};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use crate::runs::{
    attendance::Present,
    log::{Next, RunLog},
};

/// Where a client begins to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Since {
    /// Bytes of the run's console that it has already.
    pub console: u64,
    /// Number of the last message that it has; 0: none.
    pub event: u64,
}

/// A client's end of a run.
#[derive(Debug)]
pub struct ClientLink {
    pub(crate) log: Arc<RunLog>,
    /// What the client types. None: the run has ended, nobody reads it.
    pub(crate) input: Option<mpsc::Sender<Vec<u8>>>,
    /// Dropping it tells the run that the client is gone.
    pub(crate) present: Option<Present>,
    pub(crate) since: Since,
    /// Messages carry their number (`metadata.seq`), because the client can resume.
    pub(crate) numbered: bool,
}

impl ClientLink {
    /// Number of the run.
    pub fn run(&self) -> u64 {
        self.log.run()
    }
}

/// How long a client may take to close after the verdict (it fetches its files first).
const CLOSING: Duration = Duration::from_secs(60);

/// Speaks the console protocol with a client until the run or the connection ends.
pub async fn serve_client<R, W>(link: ClientLink, salad: Salad, mut reader: R, mut writer: W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let ClientLink { log, input, present, since, numbered } = link;
    let run = log.run();
    let typed = read_keyboard(&mut reader, input);
    tokio::pin!(typed);
    let mut view = View { log: &log, salad, console: None, since, numbered };
    let shown = view.show(&mut writer);
    tokio::pin!(shown);
    tokio::select! {
        () = &mut typed => tracing::info!(run, "client closed its side"),
        result = &mut shown => match result {
            Ok(()) => {
                // The verdict is told; the client closes when it has its files.
                let _ = tokio::time::timeout(CLOSING, typed).await;
            }
            Err(error) => tracing::info!(run, %error, "client connection failed"),
        },
    }
    drop(present);
}

async fn read_keyboard<R: AsyncRead + Unpin>(reader: &mut R, input: Option<mpsc::Sender<Vec<u8>>>) {
    let mut frames = FrameReader::default();
    let mut buffer = vec![0; 4096];
    loop {
        let n = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => n,
        };
        frames.push(&buffer[..n]);
        loop {
            match frames.next_message() {
                Ok(Some(Message { payload: Payload::JobIo(bytes), .. })) => {
                    if let Some(input) = &input {
                        // The run has ended: what is typed now reaches nobody, but the connection stays to its end.
                        let _ = input.send(bytes).await;
                    }
                }
                Ok(Some(_)) => {} // clients of version 1 send nothing else; a newer one may
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "client sent bytes that are no frames");
                    return;
                }
            }
        }
    }
}

/// What one client is shown.
struct View<'a> {
    log: &'a RunLog,
    salad: Salad,
    /// None: the run has no machine yet.
    console: Option<Console>,
    since: Since,
    numbered: bool,
}

impl View<'_> {
    /// Shows everything up to the verdict.
    async fn show<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> std::io::Result<()> {
        let mut grown = self.log.watch();
        loop {
            grown.mark_unchanged();
            self.find_console();
            match self.log.after(self.since.event) {
                Next::Told(told) => {
                    self.show_until(told.at, false, writer).await?;
                    self.since.event = told.seq;
                    let mut control = told.control.clone();
                    if self.numbered {
                        control = control.with("seq", told.seq);
                    }
                    writer.write_all(&Message::new(told.date, Payload::Control(control)).encode()).await?;
                    writer.flush().await?;
                }
                Next::End(end) => {
                    self.show_until(end.at, true, writer).await?;
                    let last = Payload::SessionEnd {
                        status: end.status,
                        joules_consumed: end.joules,
                        job_bucket: None,
                    };
                    writer.write_all(&Message::new(end.date, last).encode()).await?;
                    return writer.flush().await;
                }
                Next::Nothing => tokio::select! {
                    changed = grown.changed() => if changed.is_err() { return Ok(()) },
                    chunk = next_chunk(&mut self.console) => send_chunk(&chunk, writer).await?,
                },
            }
        }
    }

    fn find_console(&mut self) {
        if self.console.is_none()
            && let Some(place) = self.log.console()
        {
            let at = ConsoleOffset(place.from.0.saturating_add(self.since.console));
            self.console = Some(Console::new(self.salad.clone(), place.machine, at));
        }
    }

    /// Shows the console up to `end`, and, where the run ends there, not a byte more.
    async fn show_until<W: AsyncWrite + Unpin>(
        &mut self,
        end: ConsoleOffset,
        ends: bool,
        writer: &mut W,
    ) -> std::io::Result<()> {
        let Some(console) = &mut self.console else { return Ok(()) };
        while console.at < end {
            // The bytes are in the record already, so this wait is short; it is bounded because SALAD may be away.
            // Only the wait is: a frame that a slow client has half of must be written to its end.
            let Ok(mut chunk) = tokio::time::timeout(Duration::from_secs(5), console.next()).await else {
                break;
            };
            // What the machine said after the run is not the run's: one that is over is shown as it was.
            let wanted = end.0.saturating_sub(chunk.offset.0);
            if chunk.bytes.len() as u64 > wanted && ends {
                chunk.bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
            }
            send_chunk(&chunk, writer).await?;
        }
        Ok(())
    }
}

async fn next_chunk(console: &mut Option<Console>) -> Chunk {
    match console {
        Some(console) => console.next().await,
        None => std::future::pending().await,
    }
}

async fn send_chunk<W: AsyncWrite + Unpin>(chunk: &Chunk, writer: &mut W) -> std::io::Result<()> {
    for piece in chunk.bytes.chunks(64 * 1024) {
        writer.write_all(&Message::new(Timestamp::now(), Payload::JobIo(piece.to_vec())).encode()).await?;
    }
    writer.flush().await
}

/// Between two tries to reach a console service that is away.
const AGAIN: Duration = Duration::from_millis(500);

/// A machine's console from an offset on; finds its way back when SALAD was away. [`Console::next`] is cancel-safe.
pub(crate) struct Console {
    salad: Salad,
    machine: String,
    /// The next byte that is wanted.
    pub at: ConsoleOffset,
    feed: Option<Subscription>,
    retry_at: tokio::time::Instant,
}

impl Console {
    /// Nothing is opened before the first [`Console::next`].
    pub fn new(salad: Salad, machine: String, at: ConsoleOffset) -> Self {
        Self { salad, machine, at, feed: None, retry_at: tokio::time::Instant::now() }
    }

    /// The next bytes. Waits for ever where there are none.
    pub async fn next(&mut self) -> Chunk {
        loop {
            let Some(feed) = &mut self.feed else {
                tokio::time::sleep_until(self.retry_at).await;
                // This may be dropped by something else that happens; then it is begun again at once. Only a failure has
                // to wait.
                match self.salad.subscribe(&self.machine, self.at).await {
                    Ok(feed) => self.feed = Some(feed),
                    Err(error) => self.lost(&error),
                }
                continue;
            };
            match feed.next().await {
                Some(Ok(chunk)) => {
                    self.at = ConsoleOffset(chunk.offset.0 + chunk.bytes.len() as u64);
                    return chunk;
                }
                Some(Err(error)) => self.lost(&error),
                None => self.pause(),
            }
        }
    }

    fn lost(&mut self, error: &ClientError) {
        tracing::warn!(machine = self.machine, %error, "console is away");
        self.pause();
    }

    fn pause(&mut self) {
        self.feed = None;
        self.retry_at = tokio::time::Instant::now() + AGAIN;
    }
}
