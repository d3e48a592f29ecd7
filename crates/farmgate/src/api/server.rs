//! The listeners and connections of the API: one listener hears the private interface alone, so that the way in of a
//! connection is known, the other the rest. A connection that is silent, or too slow with its headers, is closed; how
//! many there may be is `admission`'s.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    Guarded,
    admission::{Admission, Limits, Place},
    origin::{Networks, Peers, Via},
};
use crate::{BoxError, serve::notice_dead_peers};

/// How long a client may take for the head of a request, and how long a connection may be idle between two.
const HEAD: Duration = Duration::from_secs(20);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many there may be.
    pub places: Limits,
    /// How long the head of a request may take, or the time between two.
    pub head: Duration,
}

impl Bounds {
    /// With so many connections of one address, and half of the files that this process may have open in all.
    pub fn new(per_address: usize) -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
        let all = usize::try_from(files / 2).unwrap_or(usize::MAX).clamp(64, MOST);
        Self { places: Limits { all, per_address }, head: HEAD }
    }
}

/// Connections that nobody needs more of.
const MOST: usize = 8192;
/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 64 << 10;
/// How often it is looked whether the private interface is (still) the one that is listened on.
const LOOK: Duration = Duration::from_secs(2);
/// How long open connections may take to end when the gateway stops.
const LAST: Duration = Duration::from_secs(2);
/// What a connection is told that finds no place.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 70\r\n\
    connection: close\r\nretry-after: 5\r\n\r\n{\"error\": \"too many connections from your address or network; wait\"}\r\n";

/// Both listeners.
pub struct Listeners {
    rest: TcpListener,
    private: Option<Private>,
    /// The interface that could not be listened on: it is not tried again.
    failed: Option<u32>,
    /// Name of the private interface; none where all is heard by one.
    interface: Option<String>,
}

/// The listener of the private interface.
struct Private {
    listener: TcpListener,
    /// Which interface it was: one of the same name that is made anew is another.
    index: u32,
}

impl Listeners {
    /// Listens on an address. Where the private interface exists, and the address is not the loopback's, it has a
    /// listener of its own, now or when it appears.
    ///
    /// # Errors
    /// Which setting to change.
    pub async fn open(address: SocketAddr, interface: &str) -> Result<Self, BoxError> {
        let rest = listen_soon(address).await?;
        let interface = (!address.ip().is_loopback()).then(|| interface.to_owned());
        let mut listeners = Self { rest, private: None, failed: None, interface };
        listeners.look();
        if listeners.private.is_none()
            && let Some(interface) = &listeners.interface
        {
            tracing::warn!(
                interface,
                "the private interface is not there yet: machines are known by their address alone"
            );
        }
        Ok(listeners)
    }

    /// Where it is listened.
    ///
    /// # Errors
    /// The socket has no address.
    #[cfg(test)]
    fn address(&self) -> std::io::Result<SocketAddr> {
        self.rest.local_addr()
    }

    /// Follows the private interface: it may be made, or made anew, while the gateway runs.
    fn look(&mut self) {
        let Some(interface) = &self.interface else { return };
        let index = rustix::net::netdevice::name_to_index(&self.rest, interface).ok();
        if index == self.private.as_ref().map(|private| private.index)
            || (index.is_some() && index == self.failed)
        {
            return;
        }
        self.private = None;
        let Some(index) = index else {
            tracing::warn!(
                interface,
                "the private interface is not there: machines are known by their address alone"
            );
            return;
        };
        match listen_on_interface(&self.rest, interface) {
            Ok(listener) => self.private = Some(Private { listener, index }),
            Err(error) => {
                self.failed = Some(index);
                tracing::error!(interface, %error, "the private interface has no listener of its own: machines are known by their address alone");
            }
        }
    }

    async fn accept(&self) -> (std::io::Result<(TcpStream, SocketAddr)>, Via) {
        let private = async {
            match &self.private {
                Some(private) => private.listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.rest.accept() => (accepted, Via::Rest),
            accepted = private => (accepted, Via::Private),
        }
    }
}

/// How long a port may be taken by a gateway that was killed and is not wholly gone.
const DYING: Duration = Duration::from_secs(2);

/// Listens on the general address, if need be when a predecessor is gone.
async fn listen_soon(address: SocketAddr) -> Result<TcpListener, BoxError> {
    let begun = tokio::time::Instant::now();
    loop {
        match listen(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && begun.elapsed() < DYING => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            done => return done.map_err(|error| explain(address, &error)),
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    notice_dead_peers(&socket)?;
    socket.bind(address)?;
    socket.listen(1024)
}

fn explain(address: SocketAddr, error: &std::io::Error) -> BoxError {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "port {} is taken: another gateway or web server runs (see `ss -ltnp`); stop it, or set EXECUTOR_PORT",
            address.port()
        )
        .into(),
        std::io::ErrorKind::PermissionDenied => format!(
            "port {} needs root: run as root, or set EXECUTOR_PORT to a port above 1023",
            address.port()
        )
        .into(),
        _ => format!("cannot listen on {address}: {error}; see EXECUTOR_HOST and EXECUTOR_PORT").into(),
    }
}

/// A second listener on the same address and port, which hears one interface. The kernel gives a connection to the
/// listener that fits it best, so the general one does not hear that interface any more.
///
/// Two listeners of one port must agree to share it (SO_REUSEPORT). The general one was bound without, so that a second
/// gateway is told that the port is taken; it agrees only for this moment.
fn listen_on_interface(general: &TcpListener, interface: &str) -> std::io::Result<TcpListener> {
    let address = general.local_addr()?;
    let shared = socket2::SockRef::from(general);
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    notice_dead_peers(&socket)?;
    shared.set_reuse_port(true)?;
    let listener = socket.bind(address).and_then(|()| socket.listen(1024));
    shared.set_reuse_port(false)?;
    let listener = listener?;
    socket2::SockRef::from(&listener).set_reuse_port(false)?;
    Ok(listener)
}

/// Serves until the shutdown; connections that are open then end when they have answered, or soon.
pub async fn serve(
    mut listeners: Listeners,
    service: Guarded,
    networks: Networks,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    let admission = Admission::new(bounds.places);
    let mut connections = JoinSet::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        let (accepted, via) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listeners.accept() => accepted,
            _ = look.tick() => {
                listeners.look();
                continue;
            }
            Some(ended) = connections.join_next() => {
                said(ended);
                continue;
            }
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // No more files: those that are open come to an end.
                tracing::warn!(%error, "a connection is not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let peers = Peers { remote, local, via };
        match admission.enter(remote.ip(), networks.origin(peers)) {
            Some(place) => {
                let shutdown = shutdown.clone();
                connections.spawn(connection(stream, peers, service.clone(), place, bounds.head, shutdown));
            }
            None => {
                tracing::warn!(%remote, "too many connections");
                // What does not go at once is not waited for.
                let _ = stream.try_write(FULL);
            }
        }
    }
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            said(ended);
        }
    };
    // What is left is a reader that does not read; it ends with the set.
    let _ = tokio::time::timeout(LAST, rest).await;
}

fn said(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a bug");
    }
}

/// One connection, to its end, or until it becomes a job's console.
async fn connection(
    stream: TcpStream,
    peers: Peers,
    service: Guarded,
    place: Place,
    head: Duration,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    // A console that the connection becomes keeps its place.
    let place = std::sync::Arc::new(place);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peers));
        request.extensions_mut().insert(Held(std::sync::Arc::clone(&place)));
        service.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(LONGEST_HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(remote = %peers.remote, %error, "a connection ended early");
    }
}

/// Keeps the place of a connection that goes on as a console: whoever takes the connection takes this along.
#[derive(Debug, Clone)]
pub struct Held(#[expect(dead_code, reason = "held, not looked at")] std::sync::Arc<Place>);

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn networks() -> Networks {
        Networks { private: ([10, 42, 0, 1].into(), 24), trusted: Vec::new() }
    }

    fn service() -> Guarded {
        let router = Router::new().route("/", get(|| async { "here" }));
        tower::Layer::layer(&tower::util::MapRequestLayer::new((|r| r) as fn(_) -> _), router)
    }

    async fn start(all: usize) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listeners = Listeners::open(LOOPBACK, "lo").await.unwrap();
        let address = listeners.address().unwrap();
        let shutdown = CancellationToken::new();
        let bounds = Bounds { places: Limits { all, per_address: all }, head: Duration::from_millis(500) };
        let task = tokio::spawn(serve(listeners, service(), networks(), bounds, shutdown.clone()));
        (address, shutdown, task)
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_client_that_vanishes_is_noticed_on_every_connection() {
        let listener = listen(LOOPBACK).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (connection, _) = listener.accept().await.unwrap();
        let socket = socket2::SockRef::from(&connection);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn connections_of_an_interface_come_to_its_own_listener_and_the_port_stays_taken() {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut listeners = Listeners::open(any, "lo").await.unwrap();
        assert!(listeners.private.is_some());
        let address = SocketAddr::from(([127, 0, 0, 1], listeners.address().unwrap().port()));
        let _client = TcpStream::connect(address).await.unwrap();
        let (accepted, via) = listeners.accept().await;
        accepted.unwrap();
        assert_eq!(via, Via::Private);
        let again = listen_soon(SocketAddr::from(([0, 0, 0, 0], address.port()))).await;
        assert!(again.unwrap_err().to_string().contains("is taken"), "a second gateway is told so");
        // An interface that goes away leaves the general listener.
        listeners.interface = Some("no-such-if".to_owned());
        listeners.look();
        assert!(listeners.private.is_none());
        let _client = TcpStream::connect(address).await.unwrap();
        assert_eq!(listeners.accept().await.1, Via::Rest);
    }

    #[tokio::test]
    async fn who_finds_no_place_is_told_so_and_the_next_gets_one() {
        let (address, shutdown, task) = start(1).await;
        let first = TcpStream::connect(address).await.unwrap();
        assert!(ask(address).await.contains("too many connections"));
        drop(first);
        let begun = tokio::time::Instant::now();
        while !ask(address).await.ends_with("here") {
            assert!(begun.elapsed() < Duration::from_secs(30), "the place is free again");
        }
        shutdown.cancel();
        task.await.unwrap();
    }

    #[test]
    fn the_answer_to_who_finds_no_place_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_headers_is_closed() {
        let (address, shutdown, task) = start(10).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
        let mut answer = Vec::new();
        // Its end is waited for, with a bound; whether an answer comes before does not matter.
        let ended = tokio::time::timeout(Duration::from_secs(30), slow.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "it is still open");
        shutdown.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_does_not_keep_the_gateway_from_stopping() {
        let (address, shutdown, task) = start(10).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        assert!(ask(address).await.ends_with("here"));
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
    }
}
