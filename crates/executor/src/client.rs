//! A job's connection to the person or forge that waits for it. The run never waits for a client: control messages
//! queue here with the console offset at which they were made, and the console itself is read from SALAD's record,
//! at the client's own pace.

use std::time::Duration;

use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{Control, FrameReader, Message, Payload},
};
use farmgate_salad::{Chunk, ClientError, ConsoleOffset, Salad, Subscription};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

/// Something to tell a client once it has the console up to an offset.
#[derive(Debug)]
pub struct ClientItem {
    /// The console is shown up to here first.
    pub at: ConsoleOffset,
    /// When it happened.
    pub date: Timestamp,
    /// What is told.
    pub news: News,
}

/// What is told.
#[derive(Debug)]
pub enum News {
    /// A control message.
    Control(Control),
    /// The verdict: the last thing.
    End {
        /// The verdict.
        status: JobStatus,
    },
}

/// The client's end of a run.
#[derive(Debug)]
pub struct ClientLink {
    /// The run's number, for logs.
    pub run: u64,
    /// Whose console.
    pub machine: String,
    /// Where the run's console begins.
    pub from: ConsoleOffset,
    /// What the run tells.
    pub items: mpsc::UnboundedReceiver<ClientItem>,
    /// What the client types. Dropping it tells the run that the client is gone.
    pub input: mpsc::Sender<Vec<u8>>,
}

/// The run's end of it.
#[derive(Debug)]
pub(crate) struct RunClient {
    pub items: mpsc::UnboundedSender<ClientItem>,
    pub input: mpsc::Receiver<Vec<u8>>,
}

/// Both ends.
pub(crate) fn link(run: u64, machine: String, from: ConsoleOffset) -> (ClientLink, RunClient) {
    // The run bounds its messages (retries, boots, and matches that are told), so the queue needs no bound of its own.
    let (items_in, items) = mpsc::unbounded_channel();
    let (input, input_out) = mpsc::channel(64);
    (ClientLink { run, machine, from, items, input }, RunClient { items: items_in, input: input_out })
}

/// How long a client may take to close after the verdict (it fetches its files first).
const CLOSING: Duration = Duration::from_secs(60);

/// Speaks the console protocol with a client until the run or the connection ends.
pub async fn serve_client<R, W>(link: ClientLink, salad: Salad, mut reader: R, mut writer: W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // The input's sender lives in the keyboard's future alone: when this function ends, the run sees that the
    // client is gone.
    let ClientLink { run, machine, from, mut items, input } = link;
    let typed = read_keyboard(&mut reader, input);
    tokio::pin!(typed);
    let mut console = Console::new(salad, machine, from);
    let shown = show(&mut items, &mut console, &mut writer);
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
}

async fn read_keyboard<R: AsyncRead + Unpin>(reader: &mut R, input: mpsc::Sender<Vec<u8>>) {
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
                    // The run has ended: what is typed now reaches nobody, but the connection stays to its end.
                    let _ = input.send(bytes).await;
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

async fn show<W: AsyncWrite + Unpin>(
    items: &mut mpsc::UnboundedReceiver<ClientItem>,
    console: &mut Console,
    writer: &mut W,
) -> std::io::Result<()> {
    loop {
        tokio::select! {
            item = items.recv() => {
                let Some(item) = item else { return Ok(()) };
                console.show_until(item.at, writer).await?;
                let (payload, last) = match item.news {
                    News::Control(control) => (Payload::Control(control), false),
                    News::End { status } => (Payload::SessionEnd { status, joules_consumed: None, job_bucket: None }, true),
                };
                writer.write_all(&Message::new(item.date, payload).encode()).await?;
                writer.flush().await?;
                if last {
                    return Ok(());
                }
            }
            chunk = console.next() => send_chunk(&chunk, writer).await?,
        }
    }
}

async fn send_chunk<W: AsyncWrite + Unpin>(chunk: &Chunk, writer: &mut W) -> std::io::Result<()> {
    for piece in chunk.bytes.chunks(64 * 1024) {
        writer.write_all(&Message::new(Timestamp::now(), Payload::JobIo(piece.to_vec())).encode()).await?;
    }
    writer.flush().await
}

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
                self.retry_at = tokio::time::Instant::now() + Duration::from_millis(500);
                match self.salad.subscribe(&self.machine, self.at).await {
                    Ok(feed) => self.feed = Some(feed),
                    Err(error) => tracing::warn!(machine = self.machine, %error, "console is away"),
                }
                continue;
            };
            match feed.next().await {
                Some(Ok(chunk)) => {
                    self.at = ConsoleOffset(chunk.offset.0 + chunk.bytes.len() as u64);
                    return chunk;
                }
                Some(Err(error)) => self.lost(&error),
                None => self.feed = None,
            }
        }
    }

    fn lost(&mut self, error: &ClientError) {
        tracing::warn!(machine = self.machine, %error, "console is away");
        self.feed = None;
    }

    async fn show_until<W: AsyncWrite + Unpin>(
        &mut self,
        end: ConsoleOffset,
        writer: &mut W,
    ) -> std::io::Result<()> {
        while self.at < end {
            // The bytes are in the record already, so this wait is short; it is bounded because SALAD may be away.
            // Only the wait is: a frame that a slow client has half of must be written to its end.
            let Ok(chunk) = tokio::time::timeout(Duration::from_secs(5), self.next()).await else { break };
            send_chunk(&chunk, writer).await?;
        }
        Ok(())
    }
}
