//! One console: reads what it says, finds out whose it is, brings every byte to the right record, and types into it.
//!
//! Until a console has named its machine its bytes wait in memory, with their times, and join that machine's record
//! then. Those of a console that was refused, or that left without naming any machine, go to the quarantine record.
//! A full disk holds the console up, it loses no byte.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::association::{Announcement, Decision, Scanner};
use crate::hub::Hub;
use crate::machine::{Attached, ConsoleNumber, Machine};
use crate::machine_id::MachineId;
use crate::offset::ConsoleTime;
use crate::record::MAX_CHUNK;

/// Bytes that one console may say before it names its machine.
const MAX_PENDING: usize = 1 << 20;

/// Pieces typed that a console has not taken yet.
const INPUT_QUEUE: usize = 64;

/// A read of fewer bytes is a trickle: when another came within [`TRICKLE`], we wait for [`GATHER`] to let more
/// arrive, or a chatty serial port would get an index entry of 32 bytes for each byte. Lone bytes are not delayed.
const SMALL: usize = 512;
const TRICKLE: Duration = Duration::from_millis(2);
const GATHER: Duration = Duration::from_millis(1);

/// How long to wait before a full disk is tried again.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Complaints about one console that are logged; a hostile one could print them for ever.
const MAX_COMPLAINTS: u32 = 20;

/// Where a console comes from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// Consoles of one peer trust each other.
    pub(crate) peer: IpAddr,
    /// For people, for instance `tcp:10.42.0.7:4321`.
    pub(crate) label: String,
}

/// Serves a console until it ends or the hub stops.
pub(crate) async fn serve<R, W>(hub: Arc<Hub>, origin: Origin, reader: R, writer: W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (input, typed) = mpsc::channel(INPUT_QUEUE);
    let mut pump = Pump {
        number: hub.next_console(),
        pending: Pending::new(Arc::clone(&hub)),
        hub,
        origin,
        input,
        place: Place::Nowhere,
        scanner: Scanner::default(),
        complaints: 0,
    };
    tracing::info!(console = %pump.origin.label, "connected");
    tokio::select! {
        () = pump.run(reader) => {}
        () = type_in(writer, typed) => {}
    }
    pump.leave().await;
    tracing::info!(console = %pump.origin.label, "gone");
}

/// Types what is asked for. Never ends: a console that cannot be written to may still have much to say.
async fn type_in(mut writer: impl AsyncWrite + Unpin, mut typed: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = typed.recv().await {
        if let Err(error) = writer.write_all(&bytes).await {
            tracing::debug!(%error, "a console takes no input any more");
            break;
        }
    }
    drop(typed);
    std::future::pending::<()>().await;
}

/// Where a console's bytes go.
#[derive(Debug)]
enum Place {
    /// They wait.
    Nowhere,
    /// Into the record of its machine.
    Machine(Arc<Machine>),
    /// It named a machine that it may not have.
    Quarantine(Arc<Machine>),
}

#[derive(Debug)]
struct Pump {
    hub: Arc<Hub>,
    origin: Origin,
    number: ConsoleNumber,
    input: mpsc::Sender<Bytes>,
    place: Place,
    pending: Pending,
    scanner: Scanner,
    complaints: u32,
}

impl Pump {
    async fn run(&mut self, mut reader: impl AsyncRead + Unpin) {
        let stop = self.hub.stop.clone();
        let mut buffer = BytesMut::with_capacity(MAX_CHUNK);
        let mut last = Instant::now();
        loop {
            buffer.clear();
            let read = stop.run_until_cancelled(reader.read_buf(&mut buffer)).await;
            if !matches!(read, Some(Ok(1..))) {
                return;
            }
            if buffer.len() < SMALL && last.elapsed() < TRICKLE {
                tokio::time::sleep(GATHER).await;
                // Nothing more, or an end that the next read will see as well: both are fine.
                let _ = tokio::time::timeout(Duration::ZERO, reader.read_buf(&mut buffer)).await;
            }
            self.on_bytes(ConsoleTime::now(), &buffer).await;
            last = Instant::now();
        }
    }

    async fn on_bytes(&mut self, time: ConsoleTime, bytes: &[u8]) {
        let mut done = 0;
        for announcement in self.scanner.push(bytes) {
            match announcement {
                Announcement::Ping { .. } => {
                    // A console that takes no input does not get its answer; it will ask again.
                    let _ = self.input.try_send(Bytes::from_static(b"SALAD.pong\n"));
                }
                Announcement::Machine { id, at } => {
                    self.deliver(time, &bytes[done..at]).await;
                    done = at;
                    match MachineId::announced(&id) {
                        Ok(id) => self.associate(id, time).await,
                        Err(error) => self.complain(&error.to_string()),
                    }
                }
            }
        }
        self.deliver(time, &bytes[done..]).await;
    }

    /// The console named its machine.
    async fn associate(&mut self, id: MachineId, time: ConsoleTime) {
        let machine = match self.hub.announced(&id, self.origin.peer).await {
            Ok(machine) => machine,
            Err(error) => return self.complain(&format!("it named {id}: {error}")),
        };
        let attached = Attached { console: self.number, peer: self.origin.peer, input: self.input.clone() };
        let has_another = matches!(&self.place, Place::Machine(other) if !Arc::ptr_eq(other, &machine));
        match machine.attach(attached, has_another) {
            Decision::Refuse => return self.refused(&id, time).await,
            Decision::Supersede => {
                tracing::warn!(machine = %id, console = %self.origin.label, "it takes over from another console");
            }
            Decision::Take => {}
        }
        match std::mem::replace(&mut self.place, Place::Machine(Arc::clone(&machine))) {
            Place::Machine(same) if Arc::ptr_eq(&same, &machine) => return,
            Place::Machine(other) => {
                other.detach(self.number);
                tracing::warn!(from = %other.id(), to = %id, console = %self.origin.label, "moved to another machine");
            }
            Place::Nowhere | Place::Quarantine(_) => {
                tracing::info!(machine = %id, console = %self.origin.label, "associated");
            }
        }
        self.deliver_pending().await;
    }

    /// The machine that it named has a live console of somebody else.
    async fn refused(&mut self, id: &MachineId, time: ConsoleTime) {
        self.complain(&format!("it claims {id}, which has a console already: refused"));
        if !matches!(self.place, Place::Nowhere) {
            return;
        }
        self.enter_quarantine().await;
        let note = format!("\r\n[SALAD: {} was refused as {id}]\r\n", self.origin.label);
        self.deliver(time, note.as_bytes()).await;
        self.deliver_pending().await;
    }

    async fn enter_quarantine(&mut self) {
        match self.hub.machine(&MachineId::quarantine()).await {
            Ok(machine) => self.place = Place::Quarantine(machine),
            Err(error) => self.complain(&format!("no quarantine for it: {error}")),
        }
    }

    async fn deliver_pending(&mut self) {
        for (time, bytes) in self.pending.take() {
            self.deliver(time, &bytes).await;
        }
    }

    /// Brings bytes to where the console's bytes go.
    async fn deliver(&mut self, time: ConsoleTime, bytes: &[u8]) {
        for chunk in bytes.chunks(MAX_CHUNK) {
            let mut failed = false;
            loop {
                let appended = match &self.place {
                    Place::Nowhere => {
                        self.pending.push(time, chunk);
                        break;
                    }
                    Place::Machine(machine) => machine.append_from(self.number, time, chunk),
                    Place::Quarantine(machine) => machine.append(time, chunk).map(|()| true),
                };
                match appended {
                    Ok(true) => break,
                    Ok(false) => {
                        self.complain("another console has its machine now");
                        self.place = Place::Nowhere;
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut failed, true) {
                            tracing::error!(console = %self.origin.label, error = %with_cause(&error), "it is held up until its bytes can be recorded");
                        }
                        let wait = tokio::time::sleep(DISK_RETRY);
                        if self.hub.stop.run_until_cancelled(wait).await.is_none() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// The console is gone: its machine has none, and what nobody claimed is kept apart.
    async fn leave(&mut self) {
        match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::Machine(machine) => machine.detach(self.number),
            Place::Nowhere if !self.pending.is_empty() => {
                self.enter_quarantine().await;
                if matches!(self.place, Place::Quarantine(_)) {
                    let note = format!("\r\n[SALAD: {} named no machine]\r\n", self.origin.label);
                    self.deliver(ConsoleTime::now(), note.as_bytes()).await;
                    self.deliver_pending().await;
                }
            }
            Place::Nowhere | Place::Quarantine(_) => {}
        }
    }

    fn complain(&mut self, about: &str) {
        self.complaints += 1;
        if self.complaints <= MAX_COMPLAINTS {
            tracing::warn!(console = %self.origin.label, last = self.complaints == MAX_COMPLAINTS, about, "a console is not trusted");
        }
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// What a console said before it named its machine: the first MiB, and how much more there was.
#[derive(Debug)]
struct Pending {
    hub: Arc<Hub>,
    pieces: VecDeque<(ConsoleTime, Vec<u8>)>,
    bytes: usize,
    dropped: u64,
}

impl Pending {
    fn new(hub: Arc<Hub>) -> Self {
        Self { hub, pieces: VecDeque::new(), bytes: 0, dropped: 0 }
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.dropped == 0
    }

    fn push(&mut self, time: ConsoleTime, bytes: &[u8]) {
        let room = if self.dropped > 0 { 0 } else { (MAX_PENDING - self.bytes).min(bytes.len()) };
        let kept = if self.hub.reserve_waiting(room) { room } else { 0 };
        self.bytes += kept;
        self.dropped += (bytes.len() - kept) as u64;
        if kept == 0 {
            return;
        }
        // Bytes that trickle in share a piece, or their times would take more room than they do.
        match self.pieces.back_mut() {
            Some((since, piece)) if piece.len() + kept <= 4096 && time.0 - since.0 < 20_000 => {
                piece.extend_from_slice(&bytes[..kept]);
            }
            _ => self.pieces.push_back((time, bytes[..kept].to_vec())),
        }
    }

    fn take(&mut self) -> VecDeque<(ConsoleTime, Vec<u8>)> {
        let mut pieces = std::mem::take(&mut self.pieces);
        self.hub.release_waiting(std::mem::take(&mut self.bytes));
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let note = format!(
                "\r\n[SALAD: {dropped} bytes were dropped here: the console had named no machine]\r\n"
            );
            pieces.push_back((ConsoleTime::now(), note.into_bytes()));
        }
        pieces
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.hub.release_waiting(self.bytes);
    }
}
