//! The options of a DHCP packet: an ordered list of code and bytes.
//!
//! It keeps what it is given, in order, and joins pieces of one option (RFC 3396). What an option means is decided
//! by its readers.

use std::net::Ipv4Addr;

/// Option codes that this server reads or writes (RFC 2132 unless said otherwise).
pub mod code {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const VENDOR_SPECIFIC: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const MESSAGE: u8 = 56;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const TFTP_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    /// RFC 3004.
    pub const USER_CLASS: u8 = 77;
    /// RFC 4578.
    pub const CLIENT_ARCHITECTURE: u8 = 93;
    /// RFC 4578.
    pub const CLIENT_UUID: u8 = 97;
    /// Options of iPXE inside an option (its "encapsulated" options).
    pub const IPXE: u8 = 175;
    pub const END: u8 = 255;
}

/// An ordered list of options; each code occurs once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    /// The bytes of an option.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(c, _)| *c == code).map(|(_, v)| v.as_slice())
    }

    /// The first address of an option; none if it is absent or shorter than an address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.get(code)?.first_chunk::<4>().map(|b| Ipv4Addr::from(*b))
    }

    /// Sets an option, in the place it had or else at the end.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        let value = value.into();
        match self.0.iter_mut().find(|(c, _)| *c == code) {
            Some(entry) => entry.1 = value,
            None => self.0.push((code, value)),
        }
    }

    /// Adds bytes to an option: a long one comes in pieces (RFC 3396).
    pub fn append(&mut self, code: u8, piece: &[u8]) {
        match self.0.iter_mut().find(|(c, _)| *c == code) {
            Some(entry) => entry.1.extend_from_slice(piece),
            None => self.0.push((code, piece.to_vec())),
        }
    }

    /// Code and bytes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(c, v)| (*c, v.as_slice()))
    }

    /// Writes the options without the end mark, long ones in pieces of 255 bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for (code, value) in self.iter() {
            let mut rest = value;
            loop {
                let (piece, tail) = rest.split_at(rest.len().min(255));
                out.push(code);
                out.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
                out.extend_from_slice(piece);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
        }
    }

    /// Reads options up to the end mark or the end of the field. `Err` is the code that is cut off.
    pub(super) fn decode_into(&mut self, mut field: &[u8]) -> Result<(), u8> {
        while let Some((&code, rest)) = field.split_first() {
            match code {
                code::PAD => field = rest,
                code::END => return Ok(()),
                _ => {
                    let (&length, rest) = rest.split_first().ok_or(code)?;
                    let (value, tail) = rest.split_at_checked(usize::from(length)).ok_or(code)?;
                    self.append(code, value);
                    field = tail;
                }
            }
        }
        Ok(())
    }
}
