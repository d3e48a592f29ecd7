//! The protocol of the virtual PDU (TCP 9191): one request of four bytes, big endian, per connection, one byte back.
//!
//! Bits 0-1: 0 number of ports, 1 on, 2 off, 3 status. Bits 2-12: the port, from 0. Bit 13: shut the vPDU down.
//! The rest must be 0. Answers: the number of ports; 1 done; for a status 3 on, 4 off, 5 error; 0 bad request.

/// The port that a vPDU listens on.
pub const DEFAULT_PORT: u16 = 9191;

/// How many ports a request can name.
pub const MAX_PORTS: u16 = 1 << 11;

const SHUTDOWN: u32 = 1 << 13;

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// How many ports are there? Answered by a number (at most 255 fit).
    NumPorts,
    /// Switch a port on.
    On(u16),
    /// Switch a port off.
    Off(u16),
    /// Is the port on?
    Status(u16),
    /// Switch everything off and end.
    Shutdown,
}

/// The request is none: a reserved bit is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad vPDU request 0x{0:08x}: bits 14 to 31 must be 0")]
pub struct BadRequest(pub u32);

impl Request {
    /// To its four bytes. Ports above 2047 do not fit and wrap; callers check against the number of ports.
    pub const fn encode(self) -> [u8; 4] {
        let (command, port) = match self {
            Self::NumPorts => (0, 0),
            Self::On(port) => (1, port),
            Self::Off(port) => (2, port),
            Self::Status(port) => (3, port),
            Self::Shutdown => (SHUTDOWN, 0),
        };
        (command | ((port as u32 & (MAX_PORTS as u32 - 1)) << 2)).to_be_bytes()
    }

    /// From its four bytes.
    ///
    /// # Errors
    /// A reserved bit is set.
    pub const fn decode(bytes: [u8; 4]) -> Result<Self, BadRequest> {
        let word = u32::from_be_bytes(bytes);
        if word >> 14 != 0 {
            return Err(BadRequest(word));
        }
        if word & SHUTDOWN != 0 {
            return Ok(Self::Shutdown);
        }
        let port = ((word >> 2) & (MAX_PORTS as u32 - 1)) as u16;
        Ok(match word & 3 {
            0 => Self::NumPorts,
            1 => Self::On(port),
            2 => Self::Off(port),
            _ => Self::Status(port),
        })
    }
}

/// The byte that comes back for anything but [`Request::NumPorts`], whose answer is the number itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    /// Not a request, or no such port.
    BadRequest = 0,
    /// Done.
    Ok = 1,
    /// The port is on.
    On = 3,
    /// The port is off.
    Off = 4,
    /// The port's state is not known, or the command failed.
    Error = 5,
}

impl Reply {
    /// From the byte on the wire.
    pub const fn decode(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::BadRequest,
            1 => Self::Ok,
            3 => Self::On,
            4 => Self::Off,
            5 => Self::Error,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_bits_of_the_protocol() {
        assert_eq!(Request::NumPorts.encode(), [0, 0, 0, 0]);
        assert_eq!(Request::On(0).encode(), [0, 0, 0, 1]);
        assert_eq!(Request::Off(3).encode(), [0, 0, 0, 0b1110]);
        assert_eq!(Request::Status(2047).encode(), [0, 0, 0x1f, 0xff]);
        assert_eq!(Request::Shutdown.encode(), [0, 0, 0x20, 0]);
    }

    #[test]
    fn every_word_decodes_to_what_encodes_to_it_or_is_refused() {
        for word in 0..(1u32 << 15) {
            match Request::decode(word.to_be_bytes()) {
                Ok(Request::Shutdown | Request::NumPorts) => {}
                Ok(request) => assert_eq!(request.encode(), word.to_be_bytes()),
                Err(bad) => assert!(bad.0 >> 14 != 0),
            }
        }
    }
}
