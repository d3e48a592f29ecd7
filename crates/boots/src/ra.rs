//! IPv6 router advertisements (RFC 4861) that promise nothing.
//!
//! iPXE configures IPv6 beside IPv4 and waits 13 s for a router to speak. An advertisement with lifetime 0, no
//! prefix and no managed addresses ends that wait and changes nothing else: nobody takes the gateway for an IPv6
//! router. The gateway's link-local address is the sender, so until the interface has one (it needs a port with a
//! link) sending is tried again.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{BootsError, socket};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const SOLICITATION: u8 = 133;
/// Unasked, this often.
const PERIOD: Duration = Duration::from_secs(10);
/// Asked, no more often than this: whoever asked in between heard the last one or hears the next.
const SPACING: Duration = Duration::from_millis(100);
/// While the interface has no usable address.
const RETRY: Duration = Duration::from_millis(250);
/// Failing for this long deserves a word to the operator, once.
const PATIENCE: Duration = Duration::from_secs(30);

/// Type 134, code 0, checksum (the kernel fills it in), hop limit unspecified, flags M=0 O=0, router lifetime 0,
/// reachable time and retransmission timer unspecified; no options.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The socket, bound to one interface.
pub(crate) struct Advertiser {
    socket: UdpSocket,
    interface: String,
    scope: u32,
}

impl Advertiser {
    pub(crate) fn open(interface: &str) -> Result<Self, BootsError> {
        let at = |step| {
            move |source| BootsError::RouterAdvertisement { interface: interface.to_owned(), step, source }
        };
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))
            .map_err(at("opening a raw socket"))?;
        let scope =
            name_to_index(&socket, interface).map_err(|e| at("looking up the interface")(e.into()))?;
        socket.bind_device(Some(interface.as_bytes())).map_err(at("binding to the interface"))?;
        // RFC 4861 section 6.1: other values are dropped by receivers, to keep routers from afar out.
        socket.set_multicast_hops_v6(255).map_err(at("setting the hop limit"))?;
        socket.set_multicast_loop_v6(false).map_err(at("switching multicast loop off"))?;
        socket.join_multicast_v6(&ALL_ROUTERS, scope).map_err(at("joining the routers' group"))?;
        socket.set_nonblocking(true).map_err(at("making the socket non-blocking"))?;
        // Only the name is UDP's: the type does what every datagram socket can, and tokio can wait for it.
        let socket = UdpSocket::from_std(socket.into()).map_err(at("registering the socket"))?;
        Ok(Self { socket, interface: interface.to_owned(), scope })
    }

    /// Advertises until it is told to stop.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut next = Instant::now();
        let mut last_sent: Option<Instant> = None;
        let mut failing_since: Option<Instant> = None;
        let mut warned = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.solicitation() => {
                    let earliest = last_sent.map_or_else(Instant::now, |t| (t + SPACING).max(Instant::now()));
                    next = next.min(earliest);
                }
                () = sleep_until(next) => {
                    let now = Instant::now();
                    match self.send().await {
                        Ok(()) => {
                            (last_sent, failing_since, warned) = (Some(now), None, false);
                            next = now + PERIOD;
                        }
                        Err(error) => {
                            let since = *failing_since.get_or_insert(now);
                            if !warned && now - since > PATIENCE {
                                warned = true;
                                tracing::warn!(interface = self.interface, %error,
                                    "cannot send router advertisements: iPXE waits 13 s at each boot; \
                                     the interface needs IPv6 and a port with a link");
                            }
                            next = now + RETRY;
                        }
                    }
                }
            }
        }
    }

    async fn send(&self) -> io::Result<()> {
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, self.scope);
        self.socket.send_to(&ADVERTISEMENT, to).await.map(|_| ())
    }

    /// Waits for a router solicitation; everything else that a raw socket hears is dropped.
    async fn solicitation(&self) {
        let mut buffer = [0; 1500];
        loop {
            match self.socket.recv(&mut buffer).await {
                Ok(length) if length >= 8 && buffer[0] == SOLICITATION => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "router solicitation could not be received");
                    tokio::time::sleep(socket::PAUSE).await;
                }
            }
        }
    }
}
