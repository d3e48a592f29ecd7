//! TFTP packets (RFC 1350 section 5, options after RFC 2347).

/// What a TFTP server says when it cannot go on (RFC 1350 and 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the message.
    Other = 0,
    /// No such file.
    NotFound = 1,
    /// The file may not be had.
    Access = 2,
    /// Not a request that this server takes.
    Illegal = 4,
}

/// A read request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The file's name, at most 255 bytes.
    pub file: String,
    /// `octet` or `netascii`, in lower case.
    pub mode: String,
    /// Option names in lower case, and values, in the order given.
    pub options: Vec<(String, String)>,
}

/// What a client sends during a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientPacket {
    /// It has everything up to this block (the low 16 bits of its number).
    Ack(u16),
    /// It gives up, with this code.
    Error(u16),
}

/// Why bytes are no packet that a read-only server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// It wants to write.
    #[error("files can only be read here")]
    Write,
    /// Not a request at all, or a broken one.
    #[error("malformed request")]
    Malformed,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// It is none that can be served.
    pub fn decode(bytes: &[u8]) -> Result<Self, PacketError> {
        let body = match bytes.split_first_chunk::<2>() {
            Some(([0, 1], body)) => body,
            Some(([0, 2], _)) => return Err(PacketError::Write),
            _ => return Err(PacketError::Malformed),
        };
        let mut words = body
            .split_inclusive(|b| *b == 0)
            .map_while(|word| word.strip_suffix(&[0]))
            .map(|word| std::str::from_utf8(word).map_err(|_| PacketError::Malformed));
        let mut word = || words.next().transpose();
        let file = word()?.filter(|f| !f.is_empty() && f.len() <= 255).ok_or(PacketError::Malformed)?;
        let mode = word()?.ok_or(PacketError::Malformed)?.to_ascii_lowercase();
        let mut options = Vec::new();
        while let (Some(name), Some(value)) = (word()?, word()?) {
            options.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Ok(Self { file: file.to_owned(), mode, options })
    }
}

impl ClientPacket {
    /// Reads a packet of a transfer; none if it is neither kind.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<4>()?;
        let number = u16::from_be_bytes([head[2], head[3]]);
        match (head[0], head[1]) {
            (0, 4) => Some(Self::Ack(number)),
            (0, 5) => Some(Self::Error(number)),
            _ => None,
        }
    }
}

/// A DATA packet; `number` is the low 16 bits of the block's number.
pub fn encode_data(number: u16, data: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0, 3]);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(data);
}

/// An OACK packet: the options that were accepted.
pub fn encode_oack(options: &[(&'static str, u64)]) -> Vec<u8> {
    let mut out = vec![0, 6];
    for (name, value) in options {
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(value.to_string().as_bytes());
        out.push(0);
    }
    out
}

/// An ERROR packet.
pub fn encode_error(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut out = vec![0, 5];
    out.extend_from_slice(&(code as u16).to_be_bytes());
    out.extend_from_slice(message.as_bytes());
    out.push(0);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_read_with_its_options_in_any_case() {
        let request = Request::decode(b"\0\x01snponly.efi\0OCTET\0TSize\x000\0blksize\x001468\0cut").unwrap();
        assert_eq!((request.file.as_str(), request.mode.as_str()), ("snponly.efi", "octet"));
        assert_eq!(request.options, [("tsize".into(), "0".into()), ("blksize".into(), "1468".into())]);
    }

    #[test]
    fn what_is_no_read_request_is_refused() {
        assert_eq!(Request::decode(b"\0\x02a\0octet\0"), Err(PacketError::Write));
        for bad in [
            &b""[..],
            b"\0",
            b"\0\x01",
            b"\0\x01a",
            b"\0\x01a\0octet",
            b"\0\x01\0octet\0",
            b"\0\x03a\0octet\0",
        ] {
            assert_eq!(Request::decode(bad), Err(PacketError::Malformed), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = (Request::decode(&bytes), ClientPacket::decode(&bytes));
            let _ = Request::decode(&[&[0, 1], &bytes[..]].concat());
        }
    }
}
