//! What SALAD and its gateway say to each other over the Unix socket.
//!
//! A connection carries one request. Both ways a frame is: its length (4 bytes, big endian, counting what follows),
//! one byte that tells its kind, and a body.
//!
//! | kind | from | body |
//! |---|---|---|
//! | `Q` | client | JSON, the request: `{v: 1, op: ...}`, see [`Request`]; always the first frame |
//! | `W` | client | bytes to type; exactly one follows a `write` request |
//! | `C` | server | a chunk: offset (8 bytes, big endian), time (8 bytes, big endian, microseconds), bytes |
//! | `M` | server | JSON, one [`MachineStatus`] |
//! | `A` | server | JSON, the answer, which is also the last frame of `read` and `machines`: `{offset: n}` or `{}` |
//! | `E` | server | JSON, an error: `{code, message}`; the last frame |
//!
//! A `subscribe` is answered by an `A` and then by `C` frames for ever; the client ends it by closing. No frame is
//! longer than [`MAX_FRAME`]. The two ends may be of different releases, since a gateway can be restarted while its
//! SALAD stays: a server refuses another `v` with the code `version`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::offset::{Chunk, ConsoleOffset, ConsoleTime};

/// The version of this protocol.
pub(crate) const VERSION: u32 = 1;

/// The longest frame, without its length.
pub(crate) const MAX_FRAME: usize = 128 << 10;

/// The most bytes that one `write` types.
pub(crate) const MAX_WRITE: usize = 64 << 10;

/// The most bytes that one `read` gives.
pub(crate) const MAX_READ: usize = 64 << 20;

/// The most chunks that one `read` gives.
pub(crate) const MAX_READ_CHUNKS: usize = 1 << 20;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// [`VERSION`].
    pub(crate) v: u32,
    #[serde(flatten)]
    pub(crate) op: Op,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Op {
    /// Is anybody there?
    Ping,
    /// Where does the machine's record end?
    End { machine: String },
    /// Everything from here on, for ever.
    Subscribe { machine: String, from: ConsoleOffset },
    /// What is recorded from here to there, or to the present end.
    Read { machine: String, from: ConsoleOffset, to: Option<ConsoleOffset> },
    /// Type what follows into the machine's console.
    Write { machine: String },
    /// All machines.
    Machines,
}

/// What can be said of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Its id.
    pub id: String,
    /// TCP port with raw bytes both ways, for one client; 0 when it has none.
    pub tcp_port: u16,
    /// TCP port with raw bytes, read-only; 0 when it has none.
    pub tcp_port_logs: u16,
    /// Is `tcp_port` in use?
    pub has_client: bool,
    /// Does a console speak for it?
    pub connected: bool,
}

/// The body of an `A` frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Where the record ends, when that was the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<ConsoleOffset>,
}

/// Why a request fails, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorCode {
    /// Another version of this protocol.
    Version,
    /// Not a request.
    Request,
    /// No console is connected.
    NoConsole,
    /// The console does not take input.
    Stuck,
    /// The server cannot.
    Failed,
    /// A code of a later release.
    #[serde(other)]
    Unknown,
}

/// The body of an `E` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Request(Request),
    Write(Bytes),
    Chunk(Chunk),
    Machine(MachineStatus),
    Answer(Answer),
    Failure(Failure),
}

/// Bytes that are no frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes: there are 1 to {MAX_FRAME}")]
    Length(usize),
    #[error("unknown kind of frame {0:?}")]
    Kind(char),
    #[error("a chunk of {0} bytes")]
    Chunk(usize),
    #[error("the body is not what the protocol says: {0}")]
    Body(#[from] serde_json::Error),
}

impl Frame {
    /// Appends the frame to what will be sent.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let begin = out.len();
        out.put_u32(0);
        match self {
            Self::Request(request) => put_json(out, b'Q', request),
            Self::Write(bytes) => {
                out.put_u8(b'W');
                out.put_slice(bytes);
            }
            Self::Chunk(chunk) => {
                out.put_u8(b'C');
                out.put_u64(chunk.offset.0);
                out.put_i64(chunk.time.0);
                out.put_slice(&chunk.bytes);
            }
            Self::Machine(status) => put_json(out, b'M', status),
            Self::Answer(answer) => put_json(out, b'A', answer),
            Self::Failure(failure) => put_json(out, b'E', failure),
        }
        let length = u32::try_from(out.len() - begin - 4).unwrap_or(u32::MAX);
        out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Takes the next whole frame off what has arrived.
    ///
    /// # Errors
    /// After an error the stream has no meaning any more: close it.
    pub(crate) fn decode(arrived: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(head) = arrived.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if !(1..=MAX_FRAME).contains(&length) {
            return Err(FrameError::Length(length));
        }
        if arrived.len() < 4 + length {
            // Room for the rest at once, or a long frame would be copied again and again.
            arrived.reserve(4 + length - arrived.len());
            return Ok(None);
        }
        arrived.advance(4);
        let mut body = arrived.split_to(length).freeze();
        Ok(Some(match body.get_u8() {
            b'Q' => Self::Request(serde_json::from_slice(&body)?),
            b'W' => Self::Write(body),
            b'C' if body.len() > 16 => Self::Chunk(Chunk {
                offset: ConsoleOffset(body.get_u64()),
                time: ConsoleTime(body.get_i64()),
                bytes: body,
            }),
            b'C' => return Err(FrameError::Chunk(body.len())),
            b'M' => Self::Machine(serde_json::from_slice(&body)?),
            b'A' => Self::Answer(serde_json::from_slice(&body)?),
            b'E' => Self::Failure(serde_json::from_slice(&body)?),
            other => return Err(FrameError::Kind(char::from(other))),
        }))
    }
}

/// JSON of our own types cannot fail to be written; an empty body would be refused by the other end.
fn put_json(out: &mut BytesMut, kind: u8, body: &impl Serialize) {
    out.put_u8(kind);
    out.put_slice(&serde_json::to_vec(body).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<Frame> {
        let machine = "52:54:00:11:22:01".to_owned();
        vec![
            Frame::Request(Request {
                v: VERSION,
                op: Op::Read { machine: machine.clone(), from: ConsoleOffset(1), to: None },
            }),
            Frame::Request(Request { v: VERSION, op: Op::Machines }),
            Frame::Write(Bytes::from_static(b"\x00\xff")),
            Frame::Chunk(Chunk {
                offset: ConsoleOffset(u64::MAX),
                time: ConsoleTime(-1),
                bytes: Bytes::from(vec![7; 64 << 10]),
            }),
            Frame::Machine(MachineStatus { id: machine, tcp_port: 1, ..MachineStatus::default() }),
            Frame::Answer(Answer { offset: Some(ConsoleOffset(9)) }),
            Frame::Failure(Failure { code: ErrorCode::NoConsole, message: "no".to_owned() }),
        ]
    }

    #[test]
    fn frames_survive_any_cut_of_the_stream() {
        let mut stream = BytesMut::new();
        all().iter().for_each(|frame| frame.encode(&mut stream));
        for step in [1, 3, 7, 100_000] {
            let (mut arrived, mut seen) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(step) {
                arrived.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut arrived).unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, all());
        }
    }

    #[test]
    fn an_error_code_of_a_later_release_is_read() {
        let failure: Failure = serde_json::from_str(r#"{"code": "on_fire", "message": "m"}"#).unwrap();
        assert_eq!(failure.code, ErrorCode::Unknown);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut arrived = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::decode(&mut arrived) {}
        }
    }
}
