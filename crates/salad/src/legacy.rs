//! The TCP ports per machine that older tools use: raw bytes, from now on.
//!
//! `raw` carries bytes both ways for one client; a second one is told to come back. `logs` is read-only for many.
//! Both read from the record like everybody else, so a client that does not read holds up nobody.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::machine::Machine;
use crate::source::pause_after_failed_accept;
use crate::spawner::Spawner;

/// What a second client of the raw port reads before it is closed. Wire format: tools look for it.
pub(crate) const BUSY: &[u8] = b"A client is already connected, re-try later!";

/// Connections of one listener at a time: readers of the logs, or refusals under way.
const MAX_CONNECTIONS: usize = 64;

/// How long a refused client may take to read why.
const REFUSAL: Duration = Duration::from_secs(2);

/// The ports of a machine; 0 means none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ports {
    /// Both ways, one client.
    pub(crate) raw: u16,
    /// Read-only.
    pub(crate) logs: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    Logs,
}

/// Opens both ports of a machine and serves them until `stop`.
pub(crate) async fn open(
    host: IpAddr,
    machine: &Arc<Machine>,
    spawner: &Spawner,
    stop: &CancellationToken,
) -> io::Result<Ports> {
    let (raw, logs) = (TcpListener::bind((host, 0)).await?, TcpListener::bind((host, 0)).await?);
    let ports = Ports { raw: raw.local_addr()?.port(), logs: logs.local_addr()?.port() };
    for (kind, listener) in [(Kind::Raw, raw), (Kind::Logs, logs)] {
        spawner.spawn(accept(kind, listener, Arc::clone(machine), spawner.clone(), stop.clone()));
    }
    Ok(ports)
}

async fn accept(
    kind: Kind,
    listener: TcpListener,
    machine: Arc<Machine>,
    spawner: Spawner,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after_failed_accept("legacy port", &error).await;
                continue;
            }
        };
        // Beyond the bound the connection is closed at once.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (machine, stop) = (Arc::clone(&machine), stop.clone());
        spawner.spawn(async move {
            let _place = place;
            let served = match kind {
                Kind::Raw => raw(stream, &machine, &stop).await,
                Kind::Logs => logs(stream, &machine, &stop).await,
            };
            if let Err(error) = served {
                tracing::debug!(machine = %machine.id(), %error, "a legacy connection ended");
            }
        });
    }
}

async fn raw(mut stream: TcpStream, machine: &Arc<Machine>, stop: &CancellationToken) -> io::Result<()> {
    let Some(_place) = machine.take_client_place() else {
        let refusal = async {
            stream.write_all(BUSY).await?;
            stream.shutdown().await?;
            // Closing with unread input would reset the connection and with it what we just said.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        return tokio::time::timeout(REFUSAL, refusal).await.map_or(Ok(()), |done| done.map(|_| ()));
    };
    let (reader, writer) = stream.into_split();
    tokio::select! {
        done = show(writer, machine) => done,
        done = type_in(reader, machine) => done,
        () = stop.cancelled() => Ok(()),
    }
}

async fn logs(stream: TcpStream, machine: &Machine, stop: &CancellationToken) -> io::Result<()> {
    let (mut reader, writer) = stream.into_split();
    tokio::select! {
        done = show(writer, machine) => done,
        // What a reader types is nobody's; reading it shows when it is gone.
        done = async { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await } => done.map(|_| ()),
        () = stop.cancelled() => Ok(()),
    }
}

async fn show(mut writer: OwnedWriteHalf, machine: &Machine) -> io::Result<()> {
    let mut follower = machine.follow(machine.end());
    loop {
        for chunk in follower.next().await.map_err(io::Error::other)? {
            writer.write_all(&chunk.bytes).await?;
        }
    }
}

async fn type_in(mut reader: OwnedReadHalf, machine: &Machine) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            length => {
                if let Err(error) = machine.write(Bytes::copy_from_slice(&buffer[..length])).await {
                    tracing::debug!(machine = %machine.id(), ?error, length, "typed bytes went nowhere");
                }
            }
        }
    }
}
