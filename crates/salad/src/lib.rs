//! Consoles: what the machines under test say, kept and shared.
//!
//! SALAD listens for consoles, finds out which machine each belongs to, writes every byte to that machine's
//! record and only then shows it to readers. It runs as a process of its own ([`Server`]), so that the gateway may
//! die and come back without losing a byte; the gateway is its client over a Unix socket ([`Salad`]).
//!
//! ```text
//!  source ──► console ──► association ──► machine ──► record (files) ──► cursor ──► socket  ──► Salad
//!  (TCP)      (pump)      (whose is it?)  (who may    (the buffer of                legacy ports
//!                                          write)      every reader)
//! ```
//!
//! Sources are TCP connections to the console port; a serial device will be one more file in `source/`, as the pump
//! asks only for something to read from and something to write to. Bytes are numbered from the beginning of a
//! machine's record by [`ConsoleOffset`]; an offset stays true for as long as the record exists. What is recorded
//! survives the death of the process, at any instant; a power cut may cost what was written since the last segment
//! was completed and synchronised.

mod association;
pub mod client;
mod console;
mod hub;
mod legacy;
mod machine;
mod machine_id;
mod offset;
mod record;
mod rest;
mod server;
mod socket;
mod source;
mod spawner;
mod wire;

pub use association::{Announcement, Scanner};
pub use client::{ClientError, MachineStatus, Salad, Subscription};
pub use machine_id::{MachineId, MachineIdError};
pub use offset::{Chunk, ConsoleOffset, ConsoleTime};
pub use record::{RecordError, RecordSettings};
pub use server::{SaladConfig, SaladError, Server};
