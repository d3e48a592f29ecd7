//! The console protocol, version 1: what runs on a job's connection between gateway and client.
//!
//! A frame is its length (4 bytes, big endian) and that many bytes of JSON `{msg_type, date, payload}`, both ways.
//! For clients of version 1 `metadata` is always an object, `msg` and `date` are always present, and there are
//! three message types only: new things are new tags.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{JobStatus, Timestamp, base85};

/// The token of the `Upgrade` header.
pub const UPGRADE_TOKEN: &str = "ci-tron-console";

/// The header that names the protocol's version in a `101` answer.
pub const VERSION_HEADER: &str = "Ci_tron_version";

/// The longest frame that is read. Longer ones are an error: a length is four bytes that a stranger chose.
pub const MAX_FRAME: usize = 1 << 20;

/// How much a control message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Severity {
    /// For those who debug the gateway.
    Debug = 0,
    /// What happens.
    Info = 1,
    /// What a person should know.
    Warn = 2,
    /// What went wrong.
    Error = 3,
}

/// What a control message is about. Numbers are wire format: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[allow(missing_docs)] // the names are the documentation
pub enum Tag {
    None = 0,
    InfraSetupStart = 100,
    InfraSetupComplete = 101,
    InfraSetupError = 102,
    InfraTeardownStart = 105,
    InfraTeardownComplete = 106,
    /// Ours: the job waits for a machine; metadata `{place, reason}`.
    Queued = 110,
    PowerCycleStart = 200,
    PowerCycleComplete = 201,
    PowerSequenceDetected = 300,
    FirmwareBootComplete = 301,
    /// Ours: a later stage of the network boot was seen; metadata `{stage}`.
    BootStage = 302,
    /// Ours: the DUT's userspace announced itself.
    UserspaceStarted = 303,
    TimeoutHit = 400,
    PatternMatched = 401,
    /// Ours, right before `session_end`: metadata `{status, cause, summary, attempts}`.
    Verdict = 500,
    /// Ours: the gateway was restarted, and the run goes on.
    Resumed = 501,
}

impl Tag {
    const ALL: [Self; 17] = [
        Self::None,
        Self::InfraSetupStart,
        Self::InfraSetupComplete,
        Self::InfraSetupError,
        Self::InfraTeardownStart,
        Self::InfraTeardownComplete,
        Self::Queued,
        Self::PowerCycleStart,
        Self::PowerCycleComplete,
        Self::PowerSequenceDetected,
        Self::FirmwareBootComplete,
        Self::BootStage,
        Self::UserspaceStarted,
        Self::TimeoutHit,
        Self::PatternMatched,
        Self::Verdict,
        Self::Resumed,
    ];

    /// From the wire; a tag that we do not know is no tag.
    pub fn from_number(number: i64) -> Self {
        Self::ALL.into_iter().find(|t| i64::from(*t as u16) == number).unwrap_or(Self::None)
    }
}

/// A message that explains what goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// One or more lines for a person.
    pub msg: String,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub tag: Tag,
    /// More, for programs.
    pub metadata: Map<String, Value>,
}

impl Control {
    /// An [`Severity::Info`] message.
    pub fn info(tag: Tag, msg: impl Into<String>) -> Self {
        Self { msg: msg.into(), severity: Severity::Info, tag, metadata: Map::new() }
    }

    /// The same with another severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same with one more entry of metadata.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }
}

/// Where a job's files are; the URL holds the credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobBucket {
    /// `http://ACCESS:SECRET@HOST:PORT`.
    pub minio_access_url: String,
    /// Name of the bucket.
    pub bucket_name: String,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// `ctrl`.
    Control(Control),
    /// `job_io`: raw bytes of the console; from the client: bytes to type.
    JobIo(Vec<u8>),
    /// `session_end`: nothing but the verdict follows.
    SessionEnd {
        /// The verdict.
        status: JobStatus,
        /// Energy of the whole run, joules, where the PDU measures it.
        joules_consumed: Option<f64>,
        /// The job's files.
        job_bucket: Option<JobBucket>,
    },
}

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// When the sender made it.
    pub date: Timestamp,
    /// What it says.
    pub payload: Payload,
}

/// Bytes that are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is beyond [`MAX_FRAME`].
    #[error("a console frame of {0} bytes: the most is {MAX_FRAME}")]
    TooLong(usize),
    /// Not JSON, or not of the right shape.
    #[error("a console frame is not what the protocol says: {0}")]
    Shape(#[from] serde_json::Error),
    /// A type of message that version 1 does not have.
    #[error("unknown console message type {0:?}")]
    UnknownType(String),
    /// Console bytes are not base 85.
    #[error("console bytes are damaged: {0}")]
    Bytes(#[from] base85::Base85Error),
}

#[derive(Serialize, Deserialize)]
struct Wire {
    msg_type: String,
    date: Timestamp,
    payload: Value,
}

#[derive(Serialize, Deserialize)]
struct ControlWire {
    #[serde(default)]
    msg: String,
    #[serde(default)]
    severity: u8,
    #[serde(default)]
    tag: i64,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

#[derive(Serialize, Deserialize)]
struct SessionEndWire {
    status: String,
    #[serde(default)]
    joules_consumed: Option<f64>,
    #[serde(default)]
    job_bucket: Option<JobBucket>,
}

impl Message {
    /// A frame made now by the caller's clock.
    pub fn new(date: Timestamp, payload: Payload) -> Self {
        Self { date, payload }
    }

    /// The whole frame, length included.
    pub fn encode(&self) -> Vec<u8> {
        let (msg_type, payload) = match &self.payload {
            Payload::Control(c) => (
                "ctrl",
                serde_json::json!({"msg": c.msg, "severity": c.severity as u8, "tag": c.tag as u16, "metadata": c.metadata}),
            ),
            Payload::JobIo(bytes) => ("job_io", Value::String(base85::encode(bytes))),
            Payload::SessionEnd { status, joules_consumed, job_bucket } => (
                "session_end",
                serde_json::json!({"status": status.as_str(), "joules_consumed": joules_consumed, "job_bucket": job_bucket}),
            ),
        };
        let body =
            serde_json::json!({"msg_type": msg_type, "date": self.date, "payload": payload}).to_string();
        let mut frame = Vec::with_capacity(4 + body.len());
        frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend_from_slice(body.as_bytes());
        frame
    }

    /// The JSON of a frame, without its length.
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong with it.
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let wire: Wire = serde_json::from_slice(body)?;
        let payload = match wire.msg_type.as_str() {
            "ctrl" => {
                let c: ControlWire = serde_json::from_value(wire.payload)?;
                Payload::Control(Control {
                    msg: c.msg,
                    severity: match c.severity {
                        0 => Severity::Debug,
                        1 => Severity::Info,
                        2 => Severity::Warn,
                        _ => Severity::Error,
                    },
                    tag: Tag::from_number(c.tag),
                    metadata: c.metadata.unwrap_or_default(),
                })
            }
            "job_io" => Payload::JobIo(base85::decode(&serde_json::from_value::<String>(wire.payload)?)?),
            "session_end" => {
                let s: SessionEndWire = serde_json::from_value(wire.payload)?;
                Payload::SessionEnd {
                    status: s.status.parse().unwrap_or(JobStatus::Unknown),
                    joules_consumed: s.joules_consumed,
                    job_bucket: s.job_bucket,
                }
            }
            other => return Err(FrameError::UnknownType(other.to_owned())),
        };
        Ok(Self { date: wire.date, payload })
    }
}

/// Takes frames out of a stream of bytes that arrives in pieces.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
}

impl FrameReader {
    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// After an error the stream has no meaning any more: close it.
    pub fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = self.buffer.get(4..4 + length) else { return Ok(None) };
        let message = Message::decode(body)?;
        self.buffer.drain(..4 + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<Message> {
        let date = Timestamp::from_micros(1_640_192_228_146_275);
        vec![
            Message::new(date, Payload::Control(Control::info(Tag::TimeoutHit, "hit").with("timeout", 3))),
            Message::new(date, Payload::JobIo(b"\x00\xffhello\r\n".to_vec())),
            Message::new(
                date,
                Payload::SessionEnd { status: JobStatus::Pass, joules_consumed: Some(1.5), job_bucket: None },
            ),
        ]
    }

    #[test]
    fn frames_survive_any_cut_of_the_stream() {
        let bytes: Vec<u8> = all().iter().flat_map(Message::encode).collect();
        for step in [1, 2, 3, 7, 1000] {
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                reader.push(piece);
                while let Some(message) = reader.next_message().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, all());
        }
    }

    #[test]
    fn metadata_is_an_object_even_when_it_is_empty() {
        let frame =
            Message::new(Timestamp::default(), Payload::Control(Control::info(Tag::None, ""))).encode();
        let json: Value = serde_json::from_slice(&frame[4..]).unwrap();
        assert_eq!(json["payload"]["metadata"], serde_json::json!({}));
    }

    #[test]
    fn a_frame_too_long_is_refused_before_it_is_awaited() {
        let mut reader = FrameReader::default();
        reader.push(&[0xff; 4]);
        assert!(matches!(reader.next_message(), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = FrameReader::default();
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next_message() {}
        }
    }
}
