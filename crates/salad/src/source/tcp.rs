//! Consoles over TCP: each connection to the console port is one. QEMU's serial ports come this way.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};

use super::pause_after_failed_accept;
use crate::console::{self, Origin};
use crate::hub::Hub;

/// The most consoles.
const MAX_CONSOLES: usize = 4096;

/// The most consoles of one address. This host is exempt: a vPDU brings all of its machines from it.
const MAX_FROM_ADDRESS: usize = 64;

/// A peer that vanished without a word is found out after about 10 + 3 x 3 s: sooner than a machine that was off for
/// the usual 30 s comes back, perhaps with another address.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
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
        let host = host_of(&stream, peer);
        let Some(place) = places.take(host) else {
            tracing::warn!(%peer, "refused a console: too many are connected");
            continue;
        };
        let hub = Arc::clone(&hub);
        hub.clone().spawner.spawn(async move {
            let _place = place;
            serve(stream, peer, host, hub).await;
        });
    }
}

/// The address of the other end; the loopback for whoever calls from this host, by whichever of its addresses: a vPDU
/// on the gateway reaches SALAD over the private network's address.
fn host_of(stream: &TcpStream, peer: SocketAddr) -> IpAddr {
    let peer = peer.ip().to_canonical();
    match stream.local_addr() {
        Ok(local) if local.ip().to_canonical() == peer => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => peer,
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, host: IpAddr, hub: Arc<Hub>) {
    if let Err(error) = configure(&stream) {
        tracing::debug!(%peer, %error, "cannot set socket options of a console");
    }
    let (reader, writer) = stream.into_split();
    let origin = Origin { peer: host, label: format!("tcp:{peer}") };
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
