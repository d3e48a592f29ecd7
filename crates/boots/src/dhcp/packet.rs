//! The DHCP packet on the wire (RFC 2131 section 2).
//!
//! Decoding takes any bytes and never panics; encoding pads to the 300 bytes that old BOOTP clients and relays
//! insist on. Option overload (file and server name fields that hold options) is read and never written.

use std::net::Ipv4Addr;

use farmgate_protocol::MacAddress;

use super::options::{Options, code};

/// The four bytes that tell DHCP from plain BOOTP.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Offset of the cookie: the length of the fixed fields.
const FIXED: usize = 236;
/// RFC 951: a BOOTP packet has at least this many bytes.
const MINIMUM: usize = 300;

/// Direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// From a client.
    Request,
    /// From a server.
    Reply,
}

/// A DHCP packet. Field names are those of RFC 2131.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Direction.
    pub op: Op,
    /// Hardware type; 1 is Ethernet.
    pub htype: u8,
    /// Length of the hardware address.
    pub hlen: u8,
    /// Relays passed.
    pub hops: u8,
    /// The client's number of this exchange.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Bit 15: the client wants a broadcast answer.
    pub flags: u16,
    /// The address that the client uses already.
    pub ciaddr: Ipv4Addr,
    /// The address that the server gives.
    pub yiaddr: Ipv4Addr,
    /// The next server of the boot (TFTP).
    pub siaddr: Ipv4Addr,
    /// The relay that passed the request on.
    pub giaddr: Ipv4Addr,
    /// Hardware address, padded with zeros.
    pub chaddr: [u8; 16],
    /// Server name, without the zeros behind it; at most 64 bytes. Empty where it held options.
    pub sname: Vec<u8>,
    /// Boot file, without the zeros behind it; at most 128 bytes. Empty where it held options.
    pub file: Vec<u8>,
    /// The options.
    pub options: Options,
}

/// Why bytes are no DHCP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than the fixed fields.
    #[error("{0} bytes are too few for a DHCP packet")]
    Short(usize),
    /// Neither a request nor a reply.
    #[error("operation {0} is neither a request (1) nor a reply (2)")]
    Op(u8),
    /// BOOTP without DHCP options.
    #[error("the DHCP cookie is missing: a BOOTP packet")]
    Cookie,
    /// An option says that it is longer than the rest of its field.
    #[error("option {0} is cut off")]
    Option(u8),
}

impl Packet {
    /// A reply to `request` with its number, relay, flags and hardware address; everything else is empty.
    pub fn reply_to(request: &Self) -> Self {
        Self {
            op: Op::Reply,
            hops: 0,
            secs: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            sname: Vec::new(),
            file: Vec::new(),
            options: Options::default(),
            ..request.clone()
        }
    }

    /// The client's Ethernet address, if it has one.
    pub fn mac(&self) -> Option<MacAddress> {
        (self.htype == 1 && self.hlen == 6).then(|| MacAddress::from_slice(&self.chaddr)).flatten()
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// The bytes are no DHCP packet; nothing of it should be answered.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = DecodeError::Short(bytes.len());
        let (fixed, rest) = bytes.split_first_chunk::<FIXED>().ok_or(short)?;
        let (cookie, field) = rest.split_first_chunk::<4>().ok_or(short)?;
        let op = match fixed[0] {
            1 => Op::Request,
            2 => Op::Reply,
            other => return Err(DecodeError::Op(other)),
        };
        if *cookie != COOKIE {
            return Err(DecodeError::Cookie);
        }
        let mut options = Options::default();
        options.decode_into(field).map_err(DecodeError::Option)?;
        let (sname, file) = (&fixed[44..108], &fixed[108..236]);
        // RFC 3396 section 5: the file field comes before the server name.
        let overload = options.get(code::OVERLOAD).and_then(|v| v.first().copied()).unwrap_or(0);
        if overload & 1 != 0 {
            options.decode_into(file).map_err(DecodeError::Option)?;
        }
        if overload & 2 != 0 {
            options.decode_into(sname).map_err(DecodeError::Option)?;
        }
        let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        let mut chaddr = [0; 16];
        chaddr.copy_from_slice(&fixed[28..44]);
        Ok(Self {
            op,
            htype: fixed[1],
            hlen: fixed[2],
            hops: fixed[3],
            xid: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            secs: u16::from_be_bytes([fixed[8], fixed[9]]),
            flags: u16::from_be_bytes([fixed[10], fixed[11]]),
            ciaddr: address(12),
            yiaddr: address(16),
            siaddr: address(20),
            giaddr: address(24),
            chaddr,
            sname: if overload & 2 == 0 { text(sname) } else { Vec::new() },
            file: if overload & 1 == 0 { text(file) } else { Vec::new() },
            options,
        })
    }

    /// Writes the packet. Server name and file are cut to their fields.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(576);
        let op = match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        };
        out.extend_from_slice(&[op, self.htype, self.hlen, self.hops]);
        out.extend_from_slice(&self.xid.to_be_bytes());
        out.extend_from_slice(&self.secs.to_be_bytes());
        out.extend_from_slice(&self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend_from_slice(&address.octets());
        }
        out.extend_from_slice(&self.chaddr);
        for (value, length) in [(&self.sname, 64), (&self.file, 128)] {
            let end = out.len() + length;
            out.extend_from_slice(&value[..value.len().min(length)]);
            out.resize(end, 0);
        }
        out.extend_from_slice(&COOKIE);
        self.options.encode(&mut out);
        out.push(code::END);
        if out.len() < MINIMUM {
            out.resize(MINIMUM, 0);
        }
        out
    }
}

/// A field up to its first zero.
fn text(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|b| *b != 0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain() -> Packet {
        Packet {
            op: Op::Request,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid: 7,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: [0; 16],
            sname: Vec::new(),
            file: Vec::new(),
            options: Options::default(),
        }
    }

    #[test]
    fn a_packet_has_at_least_300_bytes() {
        assert_eq!(plain().encode().len(), 300);
    }

    #[test]
    fn options_in_the_file_and_server_name_fields_are_read_in_that_order() {
        let mut bytes = plain().encode();
        bytes[240..244].copy_from_slice(&[code::OVERLOAD, 1, 3, code::END]);
        bytes[108..113].copy_from_slice(&[code::HOST_NAME, 2, b'a', b'b', code::END]);
        bytes[44..49].copy_from_slice(&[code::HOST_NAME, 2, b'c', b'd', code::END]);
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!(packet.options.get(code::HOST_NAME), Some(&b"abcd"[..]));
        assert!(packet.file.is_empty() && packet.sname.is_empty());
    }

    #[test]
    fn an_option_that_is_cut_off_is_an_error_and_a_missing_end_is_none() {
        let mut bytes = plain().encode();
        bytes.truncate(240);
        assert!(Packet::decode(&bytes).is_ok());
        bytes.extend_from_slice(&[code::CLIENT_ARCHITECTURE, 4, 0]);
        assert_eq!(Packet::decode(&bytes), Err(DecodeError::Option(code::CLIENT_ARCHITECTURE)));
    }

    prop_compose! {
        fn any_packet()(
            fixed in (any::<bool>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u32>(), any::<u16>(), any::<u16>()),
            addresses in any::<[[u8; 4]; 4]>(),
            chaddr in any::<[u8; 16]>(),
            sname in prop::collection::vec(1u8.., 0..=64),
            file in prop::collection::vec(1u8.., 0..=128),
            options in prop::collection::btree_map(
                (1u8..255).prop_filter("overload is never written", |c| *c != code::OVERLOAD),
                prop::collection::vec(any::<u8>(), 0..600), 0..6),
        ) -> Packet {
            let [ciaddr, yiaddr, siaddr, giaddr] = addresses.map(Ipv4Addr::from);
            let (reply, htype, hlen, hops, xid, secs, flags) = fixed;
            let mut list = Options::default();
            for (code, value) in options {
                list.set(code, value);
            }
            let op = if reply { Op::Reply } else { Op::Request };
            Packet { op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file,
                options: list }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(packet in any_packet()) {
            prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let _ = Packet::decode(&bytes);
        }

        #[test]
        fn a_damaged_packet_is_read_or_refused(
            packet in any_packet(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = packet.encode();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = Packet::decode(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = Packet::decode(&bytes);
        }
    }
}
