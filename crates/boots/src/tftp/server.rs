//! The TFTP server: takes requests on port 69 and runs each transfer in a task of its own.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use farmgate_protocol::{MacAddress, Timestamp};
use tokio::{
    net::UdpSocket,
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Action, ClientPacket, ErrorCode, FileError, Negotiated, OpenFile, PacketError, Request, Transfer,
    encode_data, encode_error, encode_oack, open_below,
};
use crate::{BootDirectory, Leases, Sighting, Stage, socket};

/// Transfers of all clients together.
const MAX_TRANSFERS: usize = 256;
/// Transfers of one client: firmware has one, and leaves dead ones behind when its power is cut.
const MAX_PER_CLIENT: usize = 4;
/// For so long a request that comes twice is one whose answer was not heard; the answer is repeated by its transfer.
/// Later it is of a firmware that was switched off in the middle and uses the same port again.
const REPEATED_WITHIN: Duration = Duration::from_secs(5);
/// Bytes read from a file at a time.
const CHUNK: usize = 256 * 1024;

/// Where and what the server serves.
#[derive(Debug, Clone)]
pub(crate) struct TftpSettings {
    /// The interface that transfers are bound to; none in tests on the loopback.
    pub(crate) interface: Option<String>,
    /// The address that clients asked, which must answer them.
    pub(crate) address: Ipv4Addr,
    /// The folder that is served.
    pub(crate) root: PathBuf,
    /// Bytes of a block that fit the interface in one frame.
    pub(crate) largest_block: u16,
}

struct Running {
    peer: SocketAddr,
    request: Request,
    since: Instant,
    task: AbortHandle,
}

/// Serves until it is told to stop; running transfers end with it.
pub(crate) async fn serve(
    socket: UdpSocket,
    settings: TftpSettings,
    leases: Leases,
    directory: Arc<dyn BootDirectory>,
    shutdown: CancellationToken,
) {
    let settings = Arc::new(settings);
    let mut transfers = JoinSet::new();
    let mut running: VecDeque<Running> = VecDeque::new();
    let mut buffer = [0; 2048];
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return transfers.shutdown().await,
            Some(ended) = transfers.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a TFTP transfer panicked");
                }
            }
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, peer)) = received else {
                    // Errors of earlier sends surface here; the socket stays good.
                    tokio::time::sleep(socket::PAUSE).await;
                    continue;
                };
                running.retain(|r| !r.task.is_finished());
                let request = match admit(&buffer[..length], peer, &mut running) {
                    Ok(Some(request)) => request,
                    Ok(None) => continue,
                    Err((code, message)) => {
                        send(&socket, &encode_error(code, &message), peer).await;
                        continue;
                    }
                };
                let mac = match peer.ip() {
                    IpAddr::V4(ip) => leases.mac_at(ip),
                    IpAddr::V6(_) => None,
                };
                let sightings = Sightings { directory: Arc::clone(&directory), mac, file: request.file.clone() };
                let transfer = transfer(Arc::clone(&settings), request.clone(), peer, sightings);
                let task = transfers.spawn(transfer);
                running.push_back(Running { peer, request, since: Instant::now(), task });
            }
        }
    }
}

/// Decides whether a request starts a transfer. A client that asks for too many loses its oldest.
fn admit(
    bytes: &[u8],
    peer: SocketAddr,
    running: &mut VecDeque<Running>,
) -> Result<Option<Request>, (ErrorCode, String)> {
    let request = match Request::decode(bytes) {
        Ok(request) => request,
        Err(error @ PacketError::Write) => return Err((ErrorCode::Access, error.to_string())),
        // An answer to noise could start a quarrel between two servers.
        Err(PacketError::Malformed) => return Ok(None),
    };
    if request.mode != "octet" {
        return Err((ErrorCode::Illegal, "only mode octet is served".to_owned()));
    }
    if let Some(at) = running.iter().position(|r| r.peer == peer) {
        if running[at].request == request && running[at].since.elapsed() < REPEATED_WITHIN {
            return Ok(None);
        }
        // A port has one transfer: who asks anew has given up the old one, which may not have heard of it.
        if let Some(old) = running.remove(at) {
            old.task.abort();
        }
    }
    if running.iter().filter(|r| r.peer.ip() == peer.ip()).count() >= MAX_PER_CLIENT {
        if let Some(oldest) = running.iter().position(|r| r.peer.ip() == peer.ip())
            && let Some(oldest) = running.remove(oldest)
        {
            oldest.task.abort();
        }
    } else if running.len() >= MAX_TRANSFERS {
        return Err((ErrorCode::Other, "too many transfers, try again".to_owned()));
    }
    Ok(Some(request))
}

/// What one transfer reports; nothing if its client is not known by its lease.
struct Sightings {
    directory: Arc<dyn BootDirectory>,
    mac: Option<MacAddress>,
    file: String,
}

impl Sightings {
    fn saw(&self, stage: impl FnOnce(String) -> Stage) {
        if let Some(mac) = self.mac {
            self.directory.saw(Sighting { mac, time: Timestamp::now(), stage: stage(self.file.clone()) });
        }
    }
}

async fn transfer(settings: Arc<TftpSettings>, request: Request, peer: SocketAddr, sightings: Sightings) {
    // A socket of its own: its port tells this transfer from others (RFC 1350 section 4).
    let socket = match socket::udp_on(settings.interface.as_deref(), settings.address, 0, false) {
        Ok(socket) => socket,
        Err((step, error)) => return tracing::warn!(step, %error, "no socket for a TFTP transfer"),
    };
    let opened = open(settings.root.clone(), request.file.clone()).await;
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            tracing::info!(%peer, file = request.file, %error, "TFTP request refused");
            let code = match &error {
                FileError::Outside(_) => ErrorCode::Access,
                FileError::Open { .. } => ErrorCode::NotFound,
            };
            return send(&socket, &encode_error(code, "no such file here"), peer).await;
        }
    };
    if let Err(error) = socket.connect(peer).await {
        return tracing::debug!(%peer, %error, "TFTP client unreachable");
    }
    sightings.saw(|file| Stage::TftpStart { file });
    let length = file.length;
    let agreed = Negotiated::from_request(&request, length, settings.largest_block);
    match run(&socket, agreed, file).await {
        Ok(End::Done) => sightings.saw(|file| Stage::TftpDone { file, bytes: length }),
        Ok(End::Refused(code)) => tracing::debug!(%peer, code, "TFTP client ended the transfer"),
        Ok(End::Silent) => tracing::info!(%peer, file = request.file, "TFTP client went silent"),
        Err(error) => {
            tracing::warn!(%peer, file = request.file, %error, "TFTP transfer failed");
            let _ = socket.send(&encode_error(ErrorCode::Other, "the file cannot be read")).await;
        }
    }
}

async fn open(root: PathBuf, name: String) -> Result<OpenFile, FileError> {
    let failed = root.clone();
    tokio::task::spawn_blocking(move || open_below(&root, &name))
        .await
        .unwrap_or_else(|error| Err(FileError::Open { path: failed, source: io::Error::other(error) }))
}

enum End {
    Done,
    Refused(u16),
    Silent,
}

/// Carries out what the state machine says until the transfer ends. An error is one of reading the file.
async fn run(socket: &UdpSocket, agreed: Negotiated, file: OpenFile) -> io::Result<End> {
    let oack = encode_oack(&agreed.confirm);
    let length = file.length;
    let mut blocks = Blocks { file: Arc::new(file.file), start: 0, chunk: Vec::new() };
    let mut transfer = Transfer::new(agreed, length);
    let mut action = transfer.start();
    let mut deadline = Instant::now();
    let mut packet = Vec::new();
    loop {
        match action {
            Action::SendOack(wait) => {
                deadline = Instant::now() + wait;
                let _ = socket.send(&oack).await;
            }
            Action::SendBlocks(range, wait) => {
                for number in range {
                    let (offset, size) = transfer.block(number, length);
                    #[allow(clippy::cast_possible_truncation, reason = "the wire carries the low 16 bits")]
                    encode_data(number as u16, blocks.read(offset, size).await?, &mut packet);
                    // What the network refuses now is sent again after the timeout.
                    let _ = socket.send(&packet).await;
                }
                deadline = Instant::now() + wait;
            }
            Action::Wait => {}
            Action::Done => return Ok(End::Done),
            Action::GiveUp => return Ok(End::Silent),
        }
        action = match receive(socket, deadline).await {
            Some(ClientPacket::Ack(number)) => transfer.on_ack(number),
            Some(ClientPacket::Error(code)) => return Ok(End::Refused(code)),
            None => transfer.on_timeout(),
        };
    }
}

/// The next packet of the client, or none at the deadline.
async fn receive(socket: &UdpSocket, deadline: Instant) -> Option<ClientPacket> {
    let mut buffer = [0; 516];
    loop {
        match timeout_at(deadline, socket.recv(&mut buffer)).await {
            Err(_) => return None,
            Ok(Ok(length)) => {
                if let Some(packet) = ClientPacket::decode(&buffer[..length]) {
                    return Some(packet);
                }
            }
            // "Connection refused" and the like: the client's port is closed. It may be powered off; let time tell.
            Ok(Err(_)) => tokio::time::sleep(socket::PAUSE).await,
        }
    }
}

/// A file read in large pieces: blocks follow each other, and resent ones are near.
struct Blocks {
    file: Arc<File>,
    start: u64,
    chunk: Vec<u8>,
}

impl Blocks {
    async fn read(&mut self, offset: u64, size: usize) -> io::Result<&[u8]> {
        let within = |start: u64, length: usize| {
            let at = usize::try_from(offset.checked_sub(start)?).ok()?;
            (at + size <= length).then_some(at)
        };
        if within(self.start, self.chunk.len()).is_none() {
            let file = Arc::clone(&self.file);
            self.chunk = tokio::task::spawn_blocking(move || read_chunk(&file, offset)).await??;
            self.start = offset;
        }
        let at = within(self.start, self.chunk.len())
            .ok_or_else(|| io::Error::other("the file became shorter while it was served"))?;
        Ok(&self.chunk[at..at + size])
    }
}

fn read_chunk(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let mut filled = 0;
    while filled < CHUNK {
        match file.read_at(&mut chunk[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(chunk)
}

async fn send(socket: &UdpSocket, packet: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(packet, peer).await {
        tracing::debug!(%peer, %error, "TFTP packet could not be sent");
    }
}

/// Bytes of a block that fit the interface's frames: its MTU less the headers of IP, UDP and TFTP.
pub(crate) fn largest_block(interface: &str) -> u16 {
    let mtu = std::fs::read_to_string(Path::new("/sys/class/net").join(interface).join("mtu"))
        .ok()
        .and_then(|text| text.trim().parse::<u16>().ok())
        .unwrap_or(1500);
    mtu.saturating_sub(32).clamp(512, 65464)
}

#[cfg(test)]
mod tests;
