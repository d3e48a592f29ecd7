//! TFTP (RFC 1350, 2347, 2348, 2349, 7440), read only: boot ROMs fetch their boot loader with it.
//!
//! [`Request`] and [`ClientPacket`] are what clients send, [`Transfer`] decides what one download sends when,
//! without a socket or a clock, and [`open_below`] keeps clients inside the TFTP root. The server around them
//! gives each transfer its own socket and task, and bounds how many there are.

mod files;
mod packet;
pub(crate) mod server;
mod transfer;

pub use files::{FileError, OpenFile, open_below};
pub use packet::{ClientPacket, ErrorCode, PacketError, Request, encode_data, encode_error, encode_oack};
pub use transfer::{Action, Negotiated, Transfer};
