//! DHCP for IPv4 (RFC 2131, 2132, 3396, 4578): addresses, and where each firmware finds its boot loader.
//!
//! [`Packet`] is the wire format, [`LeaseTable`] who holds which address, [`firmware`] what each kind of client is
//! given to load, and [`Dhcp`] the server's decisions: a request in, at most one reply out, no socket, no clock.
//! The socket around it is started by [`crate::Boots`].
//!
//! Answers to clients that have no address yet are broadcast. That is right for every client, only noisier than
//! the unicast to a fresh hardware address that RFC 2131 prefers, which needs a packet socket.

mod exchange;
pub mod firmware;
mod leases;
pub mod options;
mod packet;
pub(crate) mod server;

pub use exchange::{Dhcp, DhcpSettings, Outcome};
pub use leases::{Lease, LeaseTable, Leases};
pub use options::Options;
pub use packet::{DecodeError, Op, Packet};
