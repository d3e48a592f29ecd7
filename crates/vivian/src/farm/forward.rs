//! Forwarded ports: a listener that was made in the host's network, served from inside the farm.
//!
//! A socket stays in the network it was made in. So the supervisor accepts the host's connections and connects onward
//! to its own 127.0.0.1: no privileges, no firewall. What is inside need not listen yet, or any more; then the host's
//! connection is closed at once.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    sync::Arc,
    time::Duration,
};

use tokio::{io::copy_bidirectional, net::TcpStream, sync::Semaphore, task::JoinSet};

/// Connections that one port carries at a time; more wait to be accepted.
const CONNECTIONS: usize = 512;

/// Serves `listener` for ever, each connection being joined to `127.0.0.1:inside`. Ends with its task.
///
/// # Errors
/// The listener cannot be used.
pub async fn forward(listener: TcpListener, inside: u16) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut joined = JoinSet::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
        let accepted = listener.accept().await;
        while joined.try_join_next().is_some() {}
        match accepted {
            Ok((outer, _)) => {
                joined.spawn(async move {
                    if let Err(e) = join(outer, inside).await {
                        tracing::debug!(inside, error = %e, "a forwarded connection ended");
                    }
                    drop(place);
                });
            }
            Err(e) => {
                tracing::warn!(inside, error = %e, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn join(mut outer: TcpStream, inside: u16) -> io::Result<()> {
    let mut inner = TcpStream::connect((Ipv4Addr::LOCALHOST, inside)).await?;
    // A console's keystrokes are single bytes.
    outer.set_nodelay(true)?;
    inner.set_nodelay(true)?;
    copy_bidirectional(&mut outer, &mut inner).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Shutdown, TcpStream},
    };

    use super::*;

    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    fn client(port: u16) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bytes_go_both_ways_and_each_end_is_passed_on() {
        let (inside, inside_port) = listener();
        let (outside, port) = listener();
        tokio::spawn(forward(outside, inside_port));
        let server = std::thread::spawn(move || {
            let mut all = Vec::new();
            let mut peer = inside.accept().unwrap().0;
            peer.read_to_end(&mut all).unwrap();
            peer.write_all(&all).unwrap();
        });
        let echo = tokio::task::spawn_blocking(move || {
            let mut client = client(port);
            client.write_all(&[7; 100_000]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut echo = Vec::new();
            client.read_to_end(&mut echo).unwrap();
            echo
        });
        assert_eq!(echo.await.unwrap(), [7; 100_000]);
        server.join().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_that_is_not_there_closes_the_connection() {
        let (inside, inside_port) = listener();
        drop(inside);
        let (outside, port) = listener();
        tokio::spawn(forward(outside, inside_port));
        let read = tokio::task::spawn_blocking(move || client(port).read(&mut [0]));
        assert!(matches!(read.await.unwrap(), Ok(0) | Err(_)));
    }
}
