//! Consoles over TCP: each connection to the console port is one. QEMU's serial ports come this way.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};

use super::pause_after_failed_accept;
use crate::console::{self, Origin};
use crate::hub::Hub;

/// The most consoles.
const MAX_CONSOLES: usize = 4096;

/// The most consoles of one address. The loopback is exempt: a vPDU brings all of its machines from there.
const MAX_FROM_ADDRESS: usize = 64;

/// A peer that vanished without a word is found out after about 30 + 3 x 10 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Accepts consoles until the hub stops.
pub(crate) async fn accept(listener: TcpListener, hub: Arc<Hub>) {
    let places = Arc::new(Places::default());
    while let Some(accepted) = hub.stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after_failed_accept("consoles", &error).await;
                continue;
            }
        };
        let Some(place) = places.take(peer.ip().to_canonical()) else {
            tracing::warn!(%peer, "refused a console: too many are connected");
            continue;
        };
        let hub = Arc::clone(&hub);
        hub.clone().spawner.spawn(async move {
            let _place = place;
            serve(stream, peer, hub).await;
        });
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, hub: Arc<Hub>) {
    if let Err(error) = configure(&stream) {
        tracing::debug!(%peer, %error, "cannot set socket options of a console");
    }
    let (reader, writer) = stream.into_split();
    let origin = Origin { peer: peer.ip().to_canonical(), label: format!("tcp:{peer}") };
    console::serve(hub, origin, reader, writer).await;
}

fn configure(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

/// Who has how many connections.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<IpAddr, usize>>);

impl Places {
    fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let mine = counts.get(&peer).copied().unwrap_or(0);
        if all >= MAX_CONSOLES || (mine >= MAX_FROM_ADDRESS && !peer.is_loopback()) {
            return None;
        }
        counts.insert(peer, mine + 1);
        Some(Place { places: Arc::clone(self), peer })
    }
}

/// One connection's place, free again when this is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place() {
        let places = Arc::new(Places::default());
        let (greedy, other) = (IpAddr::from([10, 42, 0, 2]), IpAddr::from([10, 42, 0, 3]));
        let held: Vec<Place> = (0..MAX_FROM_ADDRESS).filter_map(|_| places.take(greedy)).collect();
        assert_eq!(held.len(), MAX_FROM_ADDRESS);
        assert!(places.take(greedy).is_none());
        assert!(places.take(other).is_some());
        drop(held);
        assert!(places.take(greedy).is_some());
        assert!(places.0.lock().unwrap().is_empty(), "no address is remembered without a connection");
    }
}
