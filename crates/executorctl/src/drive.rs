//! A run's connection carried out: bytes between the gateway, the session, the outputs and the keyboard. Nothing
//! here waits for one of them alone: a reader that stops, or a gateway that takes no keys, leaves Ctrl-C working.

use std::time::Duration;

use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{Message, Payload, Severity},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Stderr, Stdout},
    time::timeout,
};

use crate::{
    gateway::root_cause,
    keyboard::{KeyFilter, Keyboard},
    screen::Screen,
    session::{Note, Report, Session},
    signals::Signals,
};

/// Taken from the connection at once.
const CHUNK: usize = 64 << 10;
/// Keys in frames that the gateway has not taken yet; beyond that the keyboard waits.
const MAX_TYPED: usize = 64 << 10;
/// How long a farewell to the gateway may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What carries the console protocol.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The connection of a run.
pub type Connection = Box<dyn Duplex>;

/// Why the connection is at its end.
#[derive(Debug)]
enum End {
    /// The gateway said so.
    Verdict,
    /// The person, or what speaks for them.
    Left(String),
    /// Something broke.
    Broken(String),
}

/// Lets the run run until it ends, breaks off or is left.
pub async fn drive(
    connection: Connection,
    screen: &mut Screen<Stdout, Stderr>,
    signals: &mut Signals,
) -> Report {
    let mut keyboard = match Keyboard::take() {
        Ok(keyboard) => keyboard,
        Err(error) => {
            let text = format!("the keyboard does not reach the DUT: {error}");
            screen.note(&Note::client(Severity::Warn, text));
            None
        }
    };
    screen.set_raw(keyboard.is_some());
    if keyboard.is_some() {
        let text = "the keyboard belongs to the DUT. Ctrl-A Ctrl-C leaves and cancels the job, Ctrl-A Ctrl-A sends one Ctrl-A";
        screen.note(&Note::client(Severity::Info, text));
    }
    let mut session = Session::default();
    let end = pump(connection, &mut session, &mut keyboard, screen, signals).await;
    drop(keyboard);
    screen.set_raw(false);
    let reason = match end {
        End::Verdict => None,
        End::Left(who) => {
            let text = format!("{who}: the job is cancelled");
            screen.note(&Note::client(Severity::Warn, text.clone()));
            Some(text)
        }
        End::Broken(why) => {
            let text = format!(
                "the connection to the gateway ended before the job did ({why}): its verdict is not known"
            );
            screen.note(&Note::client(Severity::Error, text.clone()));
            Some(text)
        }
    };
    session.finish(JobStatus::Incomplete, reason)
}

async fn pump(
    connection: Connection,
    session: &mut Session,
    keyboard: &mut Option<Keyboard>,
    screen: &mut Screen<Stdout, Stderr>,
    signals: &mut Signals,
) -> End {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut buffer = vec![0; CHUNK];
    let mut filter = KeyFilter::default();
    let mut typed = TypedFrames::default();
    let mut over: Option<End> = None;
    loop {
        if !screen.is_pending()
            && let Some(end) = over.take()
        {
            // The gateway waits for us to close; it may also be gone.
            let _ = timeout(FAREWELL, writer.shutdown()).await;
            return end;
        }
        tokio::select! {
            signal = signals.next() => return End::Left(signal.to_owned()),
            shown = screen.drain(), if screen.is_pending() => if let Err(error) = shown {
                return End::Left(format!("standard output is closed ({error})"));
            },
            keys = next_keys(keyboard), if over.is_none() && typed.has_room() => match keys {
                None => return End::Left("the terminal is gone".to_owned()),
                Some(keys) => {
                    let keys = filter.on_keys(&keys);
                    if !keys.bytes.is_empty() {
                        typed.add(keys.bytes);
                    }
                    if keys.leave {
                        return End::Left("Ctrl-A Ctrl-C".to_owned());
                    }
                }
            },
            () = typed.send(&mut writer), if typed.is_due() => {}
            received = reader.read(&mut buffer), if over.is_none() && !screen.is_pending() => {
                over = match received {
                    Ok(0) => Some(End::Broken("closed by the gateway".to_owned())),
                    Ok(count) => receive(session, &buffer[..count], screen),
                    Err(error) => Some(End::Broken(root_cause(&error))),
                };
            }
        }
    }
}

fn receive(session: &mut Session, bytes: &[u8], screen: &mut Screen<Stdout, Stderr>) -> Option<End> {
    let mut outputs = Vec::new();
    let result = session.on_bytes(bytes, &mut outputs);
    for output in outputs {
        screen.show(output);
    }
    match result {
        Err(error) => Some(End::Broken(error.to_string())),
        Ok(()) => session.is_over().then_some(End::Verdict),
    }
}

/// Keys on their way to the gateway.
#[derive(Debug, Default)]
struct TypedFrames {
    bytes: Vec<u8>,
    flush_due: bool,
}

impl TypedFrames {
    fn add(&mut self, keys: Vec<u8>) {
        self.bytes.extend(Message::new(Timestamp::now(), Payload::JobIo(keys)).encode());
        self.flush_due = true;
    }

    fn has_room(&self) -> bool {
        self.bytes.len() < MAX_TYPED
    }

    fn is_due(&self) -> bool {
        self.flush_due
    }

    /// Sends them all; may be given up at any await and called again. A broken connection is not told: reading finds
    /// it, after what the gateway said last.
    async fn send(&mut self, writer: &mut (impl AsyncWrite + Unpin)) {
        while !self.bytes.is_empty() {
            match writer.write(&self.bytes).await {
                Ok(0) | Err(_) => self.bytes.clear(),
                Ok(sent) => {
                    self.bytes.drain(..sent);
                }
            }
        }
        let _ = writer.flush().await;
        self.flush_due = false;
    }
}

/// Without a keyboard there is never a key.
async fn next_keys(keyboard: &mut Option<Keyboard>) -> Option<Vec<u8>> {
    match keyboard {
        Some(keyboard) => keyboard.next().await,
        None => std::future::pending().await,
    }
}
