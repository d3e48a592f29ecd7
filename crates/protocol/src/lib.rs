//! The words that the gateway, its clients, its DUTs and the virtual farm share.
//!
//! This crate owns data shapes and wire formats only: identifiers ([`MacAddress`], [`DutId`], [`PortId`]),
//! the REST bodies ([`dut`], [`pdu`], [`submit`], [`run`]), the console protocol ([`console`]), the vPDU protocol
//! ([`vpdu`]) and the events that the gateway publishes ([`event`]). It does no I/O and is the one crate that
//! every other may depend on. Each wire format is written once, here, so that both of its ends agree.

pub mod base85;
pub mod console;
pub mod dut;
pub mod event;
mod ids;
mod mac;
pub mod pdu;
pub mod run;
pub mod spelling;
pub mod status;
pub mod submit;
mod timestamp;
pub mod vpdu;

pub use ids::{DutId, IdError, PortId};
pub use mac::{MacAddress, MacParseError};
pub use status::JobStatus;
pub use timestamp::Timestamp;
