//! The wire protocol: one request of four bytes per connection, one byte back.
//!
//! Strangers may hold connections open, send half requests or leave early; each costs one bounded task and nothing
//! else. What a request does to a port is the port's own task's affair.

use std::{sync::Arc, time::Duration};

use farmgate_protocol::vpdu::{Reply, Request};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::port::{Command, Port};

/// How long a client may take for its four bytes.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How many clients are served at once; more wait to be accepted.
const CLIENTS: usize = 64;

/// Serves until `stop` is cancelled, by a shutdown request or from outside. `ports` are in the order of the wire.
/// Requests that are being carried out at that time are finished first.
pub async fn serve(listener: TcpListener, ports: Vec<Port>, stop: CancellationToken) {
    let ports: Arc<[Port]> = ports.into();
    let room = Arc::new(Semaphore::new(CLIENTS));
    let mut clients = JoinSet::new();
    loop {
        // The semaphore is never closed; were it, no client would be let in, which ends the loop cleanly.
        let Ok(place) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while clients.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (ports, stop) = (ports.clone(), stop.clone());
                clients.spawn(async move {
                    client(stream, &ports, &stop).await;
                    drop(place);
                });
            }
            Err(e) => {
                // Out of descriptors, most likely: give those in use time to be closed.
                tracing::warn!(error = %e, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    clients.join_all().await;
}

async fn client(mut stream: TcpStream, ports: &[Port], stop: &CancellationToken) {
    let mut request = [0; 4];
    let read = tokio::select! {
        () = stop.cancelled() => return,
        read = timeout(REQUEST_TIME, stream.read_exact(&mut request)) => read,
    };
    if !matches!(read, Ok(Ok(_))) {
        // A port scanner, a health check, or half a request: there is nobody to answer.
        return;
    }
    let reply = match Request::decode(request) {
        Ok(request) => answer(request, ports).await,
        Err(bad) => {
            tracing::warn!(error = %bad, "bad request");
            Reply::BadRequest as u8
        }
    };
    if let Err(e) = timeout(REQUEST_TIME, stream.write_all(&[reply])).await {
        tracing::debug!(error = %e, "the client did not take its answer");
    }
    if Request::decode(request) == Ok(Request::Shutdown) {
        tracing::info!("a client asked for the shutdown");
        stop.cancel();
    }
}

async fn answer(request: Request, ports: &[Port]) -> u8 {
    let (index, command) = match request {
        Request::NumPorts => return u8::try_from(ports.len()).unwrap_or(u8::MAX),
        Request::Shutdown => return all_off(ports).await as u8,
        Request::On(index) => (index, Command::On),
        Request::Off(index) => (index, Command::Off),
        Request::Status(index) => (index, Command::Status),
    };
    match ports.get(usize::from(index)) {
        Some(port) => port.ask(command).await as u8,
        None => {
            tracing::warn!(index, ports = ports.len(), "request for a port that does not exist");
            Reply::BadRequest as u8
        }
    }
}

async fn all_off(ports: &[Port]) -> Reply {
    let mut off = JoinSet::new();
    for port in ports {
        let port = port.clone();
        off.spawn(async move { port.ask(Command::Off).await });
    }
    if off.join_all().await.iter().all(|reply| *reply == Reply::Ok) { Reply::Ok } else { Reply::Error }
}
