//! The virtual farm: a gateway, a virtual PDU and virtual DUTs on one computer, without privileges where possible.
//!
//! [`vpdu`] is a PDU whose outlets are QEMU machines, [`vpductl`] its remote control, and [`farm`] the network
//! namespace around the gateway and the vPDU, with its forwarded ports. [`demo`] tells the whole story on such a farm. [`guard`] keeps programs from outliving the
//! process that wanted them, and [`outlet`] owns the two ways of counting outlets. [`sim`] plays many machines
//! without QEMU, for tests. The gateway itself is another
//! program; this crate only starts it.

pub mod demo;
pub mod farm;
pub mod guard;
pub mod outlet;
pub mod sim;
pub mod vpdu;
pub mod vpductl;

use std::io::IsTerminal as _;

/// Sends the log to standard error. `RUST_LOG` chooses what is logged; the default is everything from `info`.
pub fn init_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
