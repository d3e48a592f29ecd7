//! The gateway's events as they are sent (server-sent events): the parser of the stream, and the stream itself.
//! Comments, unknown fields and events of a shape that this client does not know are passed over.

use std::time::Duration;

use farmgate_protocol::event::Event;
use reqwest::{Response, header};

use crate::gateway::Gateway;

/// The longest line and the longest event that are kept, bytes.
const MAX_EVENT: usize = 1 << 20;
/// How long the gateway may take to begin the stream.
const START: Duration = Duration::from_secs(10);

/// Takes events out of bytes that arrive in pieces.
#[derive(Debug, Default)]
pub struct EventParser {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The line, or the event, is longer than is kept: it is passed over to its end.
    overlong: bool,
}

impl EventParser {
    /// Adds what arrived; gives the events that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() < MAX_EVENT {
                    self.line.push(byte);
                } else {
                    self.overlong = true;
                }
                continue;
            }
            let mut line = std::mem::take(&mut self.line);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            events.extend(self.on_line(&line));
        }
        events
    }

    fn on_line(&mut self, line: &[u8]) -> Option<Event> {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            let overlong = std::mem::take(&mut self.overlong);
            return if overlong { None } else { serde_json::from_slice(&data).ok() };
        }
        let data = line.strip_prefix(b"data:")?;
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if self.data.len() + data.len() > MAX_EVENT {
            self.overlong = true;
        } else {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data);
        }
        None
    }
}

/// The stream of a gateway that has one.
#[derive(Debug)]
pub struct EventStream {
    response: Response,
    parser: EventParser,
}

impl EventStream {
    /// Opens it; `None` where the gateway has none, or is not there: the caller asks for the machines then, and
    /// finds out.
    pub async fn open(gateway: &Gateway) -> Option<Self> {
        let request =
            gateway.client().get(gateway.resource(&["events"])).header(header::ACCEPT, "text/event-stream");
        let response = tokio::time::timeout(START, request.send()).await.ok()?.ok()?;
        let kind =
            response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let is_stream = response.status().is_success() && kind.starts_with("text/event-stream");
        is_stream.then(|| Self { response, parser: EventParser::default() })
    }

    /// The next events; `None` when the stream ended.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        let chunk = self.response.chunk().await.ok()??;
        Some(self.parser.push(&chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = ": hello\n\nid: 1\ndata: {\"seq\": 1, \"time\": \"2024-01-01T00:00:00+00:00\", \"dut\": null, \
                          \"kind\": \"state\", \"text\": \"a\"}\n\ndata: no json\n\nevent: x\r\ndata: {\"seq\": 2,\r\n\
                          data: \"time\": \"2024-01-01T00:00:00+00:00\", \"dut\": \"d\", \"kind\": \"run\", \"text\": \"b\"}\r\n\r\n";

    fn texts(cut: usize) -> Vec<String> {
        let mut parser = EventParser::default();
        let events = STREAM.as_bytes().chunks(cut).flat_map(|piece| parser.push(piece));
        events.map(|event| event.text).collect()
    }

    #[test]
    fn events_are_found_whatever_is_between_them() {
        for cut in [1, 2, 7, 100, 10_000] {
            assert_eq!(texts(cut), ["a", "b"]);
        }
    }

    #[test]
    fn an_endless_line_is_passed_over() {
        let mut parser = EventParser::default();
        assert!(parser.push(b"data: ").is_empty());
        for _ in 0..3 {
            assert!(parser.push(&vec![b'x'; MAX_EVENT]).is_empty());
        }
        assert!(parser.line.len() <= MAX_EVENT);
        let events = parser.push(format!("\n\n{STREAM}").as_bytes());
        assert_eq!(events.len(), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            EventParser::default().push(&bytes);
        }
    }
}
