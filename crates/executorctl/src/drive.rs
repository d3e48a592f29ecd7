//! A run's stream carried out: bytes between the gateway, the session, the outputs and the keyboard, over as many
//! connections as it takes. Nothing here waits for one of them alone: a reader that stops, a gateway that takes no
//! keys, or one that is away leaves Ctrl-C working.

use std::time::{Duration, Instant};

use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{Message, Payload, Severity},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Stderr, Stdout},
    time::{sleep, timeout},
};

use crate::{
    claim::{Claim, is_final},
    gateway::root_cause,
    keyboard::{Command, KeyFilter, Keyboard},
    leave::{self, Ending, keyboard_note},
    patience::Patience,
    progress::{Progress, Shown},
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

/// A connection of a run.
pub type Connection = Box<dyn Duplex>;

/// Why a stream is at its end.
#[derive(Debug)]
pub enum End {
    /// The gateway said so.
    Verdict,
    /// The person, or what speaks for them.
    Left(String),
    /// The person, and the job is to go on.
    Detached,
    /// The connection broke.
    Broken(String),
    /// The bytes have no meaning.
    Damaged(String),
    /// It broke and cannot be had again.
    Lost(String),
}

/// The outputs of this process.
pub type ProcessScreen = Screen<Stdout, Stderr>;

/// Lets the run run until it ends, is lost or is left.
pub async fn drive(
    connection: Connection,
    claim: &Claim,
    patience: Duration,
    screen: &mut ProcessScreen,
    signals: &mut Signals,
) -> Report {
    let keyboard = match Keyboard::take() {
        Ok(keyboard) => keyboard,
        Err(error) => {
            let text = format!("the keyboard does not reach the DUT: {error}");
            screen.note(&Note::client(Severity::Warn, text));
            None
        }
    };
    screen.set_raw(keyboard.is_some());
    if keyboard.is_some() {
        screen.note(&Note::client(Severity::Info, keyboard_note(claim)));
    }
    let style = screen.style();
    let mut ride = Ride {
        claim,
        patience: Patience::new(patience),
        session: Session::default(),
        progress: (!style.quiet).then(|| Progress::new(style.live)),
        filter: KeyFilter::default(),
        keyboard,
        screen: &mut *screen,
        signals: &mut *signals,
    };
    let end = ride.follow(connection).await;
    let Ride { session, keyboard, .. } = ride;
    drop(keyboard);
    screen.clear_live_line();
    screen.set_raw(false);
    match leave::farewell(end, session.stage(), claim, screen, signals).await {
        // The gateway's own verdict stands in the session.
        None => session.finish(JobStatus::Unknown, None),
        Some(Ending { status, cause, reason }) => {
            let mut report = session.finish(status, Some(reason));
            report.cause = report.cause.or_else(|| cause.map(str::to_owned));
            report
        }
    }
}

/// Everything that a run's stream needs over its connections.
struct Ride<'a> {
    claim: &'a Claim,
    patience: Patience,
    session: Session,
    /// None: the person wants quiet.
    progress: Option<Progress>,
    filter: KeyFilter,
    keyboard: Option<Keyboard>,
    screen: &'a mut ProcessScreen,
    signals: &'a mut Signals,
}

impl Ride<'_> {
    /// Connection after connection.
    async fn follow(&mut self, mut connection: Connection) -> End {
        loop {
            let before = self.session.messages();
            let end = self.pump(connection).await;
            if self.session.messages() > before {
                self.patience.progressed();
            }
            let why = match end {
                End::Broken(why) => why,
                End::Damaged(why) => {
                    self.patience.damaged();
                    why
                }
                end => return end,
            };
            let Some(run) = self.claim.can_resume() else { return End::Lost(why) };
            match self.come_back(run, why).await {
                Ok(again) => {
                    self.session.reconnected();
                    connection = again;
                }
                Err(end) => return end,
            }
        }
    }

    /// One connection, until something ends it.
    async fn pump(&mut self, connection: Connection) -> End {
        let (mut reader, mut writer) = tokio::io::split(connection);
        let mut buffer = vec![0; CHUNK];
        let mut typed = TypedFrames::default();
        let mut over = false;
        loop {
            if over && !self.screen.is_pending() {
                // The gateway waits for us to close; it may also be gone.
                let _ = timeout(FAREWELL, writer.shutdown()).await;
                return End::Verdict;
            }
            tokio::select! {
                signal = self.signals.next() => return End::Left(signal.to_owned()),
                shown = self.screen.drain(), if self.screen.is_pending() => if let Err(error) = shown {
                    return closed(&error);
                },
                keys = next_keys(&mut self.keyboard), if !over && typed.has_room() => {
                    if let Some(end) = self.on_keys(keys, &mut typed).await {
                        return end;
                    }
                },
                () = typed.send(&mut writer), if typed.is_due() => {}
                received = reader.read(&mut buffer), if !over && !self.screen.is_pending() => match received {
                    Ok(0) => return End::Broken("closed by the gateway".to_owned()),
                    Ok(count) => match self.receive(&buffer[..count]) {
                        Ok(ends) => over = ends,
                        Err(end) => return end,
                    },
                    Err(error) => return End::Broken(root_cause(&error)),
                },
                shown = next_progress(&mut self.progress, self.claim), if !over && !self.screen.is_pending() => {
                    self.show_progress(shown);
                }
            }
        }
    }

    async fn on_keys(&mut self, keys: Option<Vec<u8>>, typed: &mut TypedFrames) -> Option<End> {
        let Some(keys) = keys else { return Some(End::Left("the terminal is gone".to_owned())) };
        let keys = self.filter.on_keys(&keys);
        if !keys.bytes.is_empty() {
            typed.add(keys.bytes);
        }
        self.command(keys.command?).await
    }

    /// What the person wants. `None`: it cannot be, and the run goes on as it was.
    async fn command(&mut self, command: Command) -> Option<End> {
        match command {
            Command::Leave => Some(End::Left("Ctrl-A Ctrl-C".to_owned())),
            Command::Detach => tokio::select! {
                told = leave::let_go(self.claim, self.session.position()) => match told {
                    Ok(()) => Some(End::Detached),
                    Err(why) => {
                        self.screen.note(&Note::client(Severity::Error, why));
                        None
                    }
                },
                signal = self.signals.next() => Some(End::Left(signal.to_owned())),
            },
        }
    }

    /// Whether the verdict was among it.
    fn receive(&mut self, bytes: &[u8]) -> Result<bool, End> {
        let mut outputs = Vec::new();
        let result = self.session.on_bytes(bytes, &mut outputs);
        for output in outputs {
            self.screen.show(output);
        }
        if let Some(progress) = &mut self.progress {
            let speaks = self.session.position().console > 0;
            progress.observe(self.session.stage(), speaks, Instant::now());
        }
        match result {
            Err(error) => Err(End::Damaged(error.to_string())),
            Ok(()) => Ok(self.session.is_over()),
        }
    }

    fn show_progress(&mut self, shown: Shown) {
        match shown {
            Shown::Live(text) => self.screen.live_line(&format!("[executorctl] {text}")),
            Shown::Line(text) => self.screen.note(&Note::client(Severity::Info, text)),
            Shown::Nothing => {}
        }
    }

    /// Asks for the stream again until the gateway gives it.
    async fn come_back(&mut self, run: u64, mut why: String) -> Result<Connection, End> {
        let text = format!("the connection broke ({why}); job {run} goes on, coming back to it");
        let mut told = false;
        loop {
            let Some(delay) = self.patience.next_try(Instant::now()) else {
                return Err(End::Lost(why));
            };
            if !std::mem::replace(&mut told, true) {
                self.screen.note(&Note::client(Severity::Warn, &*text));
            }
            let (claim, position) = (self.claim, self.session.position());
            let attempt = async move {
                sleep(delay).await;
                claim.attach(run, position, false).await
            };
            tokio::pin!(attempt);
            let mut second = tokio::time::interval(Duration::from_secs(1));
            let result = loop {
                tokio::select! {
                    signal = self.signals.next() => return Err(End::Left(signal.to_owned())),
                    shown = self.screen.drain(), if self.screen.is_pending() => if let Err(error) = shown {
                        return Err(closed(&error));
                    },
                    // Only our commands: what is typed now for the DUT would arrive at another time than it was meant.
                    keys = next_keys(&mut self.keyboard) => match keys {
                        None => return Err(End::Left("the terminal is gone".to_owned())),
                        Some(keys) => match self.filter.on_keys(&keys).command {
                            None => {}
                            Some(Command::Leave) => return Err(End::Left("Ctrl-A Ctrl-C".to_owned())),
                            Some(Command::Detach) => {
                                let text = "the gateway is away and cannot be told to let the job go on: try again when it is back, or leave with Ctrl-A Ctrl-C";
                                self.screen.note(&Note::client(Severity::Warn, text));
                            }
                        },
                    },
                    _ = second.tick() => {
                        let away = self.patience.away(Instant::now()).as_secs();
                        self.screen.live_line(&format!("[executorctl] the gateway is away since {away} s"));
                    }
                    result = &mut attempt => break result,
                }
            };
            match result {
                Ok(stream) => {
                    let away = self.patience.away(Instant::now()).as_secs_f64();
                    let text = format!("connected again after {away:.1} s, nothing was missed");
                    self.screen.note(&Note::client(Severity::Info, text));
                    return Ok(Box::new(stream));
                }
                Err(error) if is_final(&error) => return Err(End::Lost(error.to_string())),
                Err(error) => why = error.to_string(),
            }
        }
    }
}

fn closed(error: &std::io::Error) -> End {
    End::Left(format!("standard output is closed ({error})"))
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

async fn next_progress(progress: &mut Option<Progress>, claim: &Claim) -> Shown {
    match progress {
        Some(progress) => progress.next(&claim.gateway, claim.can_resume()).await,
        None => std::future::pending().await,
    }
}
