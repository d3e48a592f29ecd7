//! Network boot: everything between "a machine was switched on" and "its kernel runs".
//!
//! This crate owns the DHCP server ([`dhcp`]), the TFTP server ([`tftp`]), the HTTP routes that firmware fetches
//! from ([`http`]), the iPXE scripts ([`script`]) and the IPv6 router advertisements ([`ra`]). It asks a
//! [`BootDirectory`] what a client shall boot, and tells it what it saw. It knows clients by their MAC address and
//! nothing of why they boot: jobs, power and consoles belong to others.
//!
//! Decisions are made in code without sockets ([`dhcp::Dhcp`], [`tftp::Transfer`], [`script::ipxe`]); the servers
//! only carry them out. No packet, however malformed, stops a server.

pub mod dhcp;
mod directory;
mod error;
pub mod http;
pub mod ra;
pub mod script;
mod server;
mod socket;
pub mod tftp;

pub use dhcp::{Lease, Leases};
pub use directory::{BootDirectory, BootPlan, Content, Reservation, ScriptRequest, Sighting, Stage};
pub use error::BootsError;
pub use http::{firmware_router, router};
pub use server::{Boots, BootsConfig};
