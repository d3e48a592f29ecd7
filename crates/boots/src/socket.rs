//! UDP sockets that speak on one interface only.
//!
//! Binding to the device, not just to an address, is what keeps the servers off every other network of the
//! gateway: a request that arrives elsewhere is never seen, and an answer never leaves elsewhere.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// After an error of receiving, so that one that stays (the interface went down) does not spin.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// The step that failed and why.
pub(crate) type StepError = (&'static str, io::Error);

/// A non-blocking UDP socket at `address:port`, bound to `interface` (none: every interface).
pub(crate) fn udp_on(
    interface: Option<&str>,
    address: Ipv4Addr,
    port: u16,
    broadcast: bool,
) -> Result<UdpSocket, StepError> {
    let socket =
        Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).map_err(at("opening a socket"))?;
    if port != 0 {
        // A server that restarts must not wait for the old one's sockets.
        socket.set_reuse_address(true).map_err(at("setting SO_REUSEADDR"))?;
    }
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes())).map_err(at("binding to the interface"))?;
    }
    if broadcast {
        socket.set_broadcast(true).map_err(at("setting SO_BROADCAST"))?;
    }
    socket.bind(&SocketAddrV4::new(address, port).into()).map_err(at("binding to the address"))?;
    socket.set_nonblocking(true).map_err(at("making the socket non-blocking"))?;
    UdpSocket::from_std(socket.into()).map_err(at("registering the socket"))
}

fn at(step: &'static str) -> impl Fn(io::Error) -> StepError {
    move |error| (step, error)
}
