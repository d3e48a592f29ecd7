//! A SALAD on loopback addresses, with plain sockets as consoles.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic where it stands

mod consoles;
mod harness;
mod ports;
mod process;
