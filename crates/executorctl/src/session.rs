//! A job's stream as a pure state machine: bytes of the gateway in; console bytes, notes for the person and in
//! the end a report out. It owns what is remembered of a run (patterns, verdict, times) and how far the stream was
//! read, so that it can go on over another connection without missing or doubling a byte. It knows neither sockets nor
//! terminals.

use farmgate_protocol::{
    JobStatus,
    console::{Control, FrameError, FrameReader, Message, Payload, Severity, Tag},
};
use serde_json::Value;

use crate::phases::{Phase, Phases};

/// How many different patterns the report names.
const MAX_PATTERNS: usize = 200;
/// How much of a matched line the report keeps, characters.
const MAX_LINE: usize = 300;

/// What becomes of received bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Bytes of the DUT's console, untouched.
    Console(Vec<u8>),
    /// Something to tell the person.
    Note(Note),
}

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The gateway, about the run.
    Gateway,
    /// This client.
    Client,
}

/// A message for the person, beside the console.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Who says it.
    pub origin: Origin,
    /// How much it matters.
    pub severity: Severity,
    /// A timeout or a matched pattern: what decides the run.
    pub highlight: bool,
    /// One or more lines.
    pub text: String,
}

impl Note {
    /// Of this client.
    pub fn client(severity: Severity, text: impl Into<String>) -> Self {
        Self { origin: Origin::Client, severity, highlight: false, text: text.into() }
    }
}

/// A console pattern that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternMatches {
    /// `job_success`, `NAME.start`...
    pub name: String,
    /// How often.
    pub count: u64,
    /// The line of the first time.
    pub first_line: Option<String>,
}

/// How a run ended and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The verdict.
    pub status: JobStatus,
    /// Whose fault or merit it is, in the gateway's word.
    pub cause: Option<String>,
    /// The verdict in a sentence.
    pub summary: Option<String>,
    /// How many boots it took.
    pub attempts: Option<u64>,
    /// In the order of their first match.
    pub patterns: Vec<PatternMatches>,
    /// In the order in which they took place.
    pub phases: Vec<Phase>,
    /// From the first message to the last, seconds.
    pub total_seconds: Option<f64>,
    /// Energy of the run.
    pub joules: Option<f64>,
}

impl Report {
    /// Of a job that never ran.
    pub fn not_started(summary: String) -> Self {
        Session::default().finish(JobStatus::SetupFail, Some(summary))
    }
}

/// How far a run's stream was read: where another connection goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Bytes of console.
    pub console: u64,
    /// Number of the last control message; 0: none, or a gateway that does not number them.
    pub event: u64,
}

/// The state of a run's stream.
#[derive(Debug, Default)]
pub struct Session {
    frames: FrameReader,
    position: Position,
    /// Whole messages so far.
    messages: u64,
    phases: Phases,
    patterns: Vec<PatternMatches>,
    cause: Option<String>,
    summary: Option<String>,
    attempts: Option<u64>,
    end: Option<(JobStatus, Option<f64>)>,
}

impl Session {
    /// Takes what arrived and adds to `outputs` what becomes of it. After the end of the session nothing more is
    /// looked at.
    ///
    /// # Errors
    /// The stream has lost its meaning: the connection is to be closed. What came before is in `outputs`.
    pub fn on_bytes(&mut self, bytes: &[u8], outputs: &mut Vec<Output>) -> Result<(), FrameError> {
        self.frames.push(bytes);
        while self.end.is_none() {
            let Some(message) = self.frames.next_message()? else { break };
            self.on_message(message, outputs);
        }
        Ok(())
    }

    /// Another connection goes on from [`Self::position`]: what the last one had of a frame is void.
    pub fn reconnected(&mut self) {
        self.frames = FrameReader::default();
    }

    /// How far the stream was read.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Whole messages so far: it grows while the connection is good for something.
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// What goes on, in the word of the table of phases.
    pub const fn stage(&self) -> Option<&'static str> {
        self.phases.now()
    }

    /// Whether the session's end arrived.
    pub const fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// The report: of the gateway's verdict if it arrived, else with `status` and `reason` of whoever gave up.
    pub fn finish(self, status: JobStatus, reason: Option<String>) -> Report {
        let (status, joules, summary) = match self.end {
            Some((status, joules)) => (status, joules, self.summary),
            None => (status, None, reason),
        };
        let (phases, total) = self.phases.finish();
        Report {
            status,
            cause: self.cause,
            summary,
            attempts: self.attempts,
            patterns: self.patterns,
            phases,
            total_seconds: total.map(|t| (t.as_secs_f64() * 1000.0).round() / 1000.0),
            joules,
        }
    }

    fn on_message(&mut self, message: Message, outputs: &mut Vec<Output>) {
        self.messages += 1;
        match message.payload {
            Payload::JobIo(bytes) => {
                self.position.console += bytes.len() as u64;
                self.phases.alive(message.date);
                if let Some(Output::Console(last)) = outputs.last_mut() {
                    last.extend_from_slice(&bytes);
                } else {
                    outputs.push(Output::Console(bytes));
                }
            }
            Payload::Control(control) => {
                if let Some(seq) = control.metadata.get("seq").and_then(Value::as_u64) {
                    if seq <= self.position.event {
                        return; // it was told already
                    }
                    self.position.event = seq;
                }
                self.phases.mark(control.tag, message.date);
                match control.tag {
                    // The summary says it, after everything else.
                    Tag::Verdict => return self.remember_verdict(&control),
                    Tag::PatternMatched => self.remember_match(&control),
                    _ => {}
                }
                outputs.push(Output::Note(Note {
                    origin: Origin::Gateway,
                    severity: control.severity,
                    highlight: matches!(control.tag, Tag::TimeoutHit | Tag::PatternMatched),
                    text: control.msg,
                }));
            }
            Payload::SessionEnd { status, joules_consumed, .. } => {
                self.phases.end(message.date);
                self.end = Some((status, joules_consumed));
            }
        }
    }

    fn remember_match(&mut self, control: &Control) {
        let line = control.metadata.get("line").and_then(Value::as_str);
        let line =
            line.map(|l| l.trim().chars().take(MAX_LINE).collect::<String>()).filter(|l| !l.is_empty());
        let names = control.metadata.get("patterns").and_then(Value::as_array);
        for name in names.into_iter().flatten().filter_map(Value::as_str) {
            if let Some(known) = self.patterns.iter_mut().find(|p| p.name == name) {
                known.count += 1;
                known.first_line = known.first_line.take().or_else(|| line.clone());
            } else if self.patterns.len() < MAX_PATTERNS {
                self.patterns.push(PatternMatches {
                    name: name.to_owned(),
                    count: 1,
                    first_line: line.clone(),
                });
            }
        }
    }

    fn remember_verdict(&mut self, control: &Control) {
        let text = |key| control.metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        self.cause = text("cause");
        self.summary = text("summary").or_else(|| Some(control.msg.clone())).filter(|s| !s.trim().is_empty());
        self.attempts = control.metadata.get("attempts").and_then(|attempts| match attempts {
            Value::Array(list) => u64::try_from(list.len()).ok(),
            other => other.as_u64(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farmgate_protocol::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    fn frame(payload: Payload) -> Vec<u8> {
        Message::new(Timestamp::from_micros(1_700_000_000_000_000), payload).encode()
    }

    fn end(status: JobStatus) -> Vec<u8> {
        frame(Payload::SessionEnd { status, joules_consumed: Some(2.5), job_bucket: None })
    }

    fn control(control: Control) -> Vec<u8> {
        frame(Payload::Control(control))
    }

    fn outputs_into(session: &mut Session, bytes: &[u8], outputs: &mut Vec<Output>) {
        session.on_bytes(bytes, outputs).unwrap();
    }

    fn outputs_of(session: &mut Session, bytes: &[u8]) -> Vec<Output> {
        let mut outputs = Vec::new();
        outputs_into(session, bytes, &mut outputs);
        outputs
    }

    #[test]
    fn the_console_comes_out_untouched_between_the_notes() {
        let mut session = Session::default();
        let bytes = [
            frame(Payload::JobIo(b"\x1b[2Jone\xff".to_vec())),
            frame(Payload::JobIo(b"two\r\n".to_vec())),
            control(Control::info(Tag::TimeoutHit, "hit").severity(Severity::Warn)),
            frame(Payload::JobIo(b"three".to_vec())),
        ]
        .concat();
        let outputs = outputs_of(&mut session, &bytes);
        assert_eq!(outputs[0], Output::Console(b"\x1b[2Jone\xfftwo\r\n".to_vec()));
        assert!(
            matches!(&outputs[1], Output::Note(n) if n.highlight && n.severity == Severity::Warn && n.text == "hit")
        );
        assert_eq!(outputs[2], Output::Console(b"three".to_vec()));
    }

    #[test]
    fn the_gateways_verdict_is_the_report() {
        let mut session = Session::default();
        let matched = |line: &str| {
            Control::info(Tag::PatternMatched, "m")
                .with("patterns", json!(["job_success"]))
                .with("line", line)
        };
        let verdict = Control::info(Tag::Verdict, "v")
            .with("cause", "job")
            .with("summary", "it passed")
            .with("attempts", json!([{}, {}]));
        let bytes = [
            control(matched("  ok\r\n")),
            control(matched("again\r\n")),
            control(verdict),
            end(JobStatus::Pass),
            frame(Payload::JobIo(b"late".to_vec())),
        ]
        .concat();
        let outputs = outputs_of(&mut session, &bytes);
        assert_eq!(outputs.len(), 2, "neither the verdict nor what follows the end is shown: {outputs:?}");
        assert!(session.is_over());
        let report = session.finish(JobStatus::Incomplete, Some("not used".to_owned()));
        assert_eq!((report.status, report.attempts, report.joules), (JobStatus::Pass, Some(2), Some(2.5)));
        assert_eq!(report.cause.as_deref(), Some("job"));
        assert_eq!(report.summary.as_deref(), Some("it passed"));
        let expected = PatternMatches { name: "job_success".into(), count: 2, first_line: Some("ok".into()) };
        assert_eq!(report.patterns, [expected]);
    }

    #[test]
    fn damage_ends_the_session_after_what_was_whole() {
        let mut session = Session::default();
        let bytes = [frame(Payload::JobIo(b"x".to_vec())), vec![0, 0, 0, 2, b'{', b'}']].concat();
        let mut outputs = Vec::new();
        assert!(session.on_bytes(&bytes, &mut outputs).is_err());
        assert_eq!(outputs, [Output::Console(b"x".to_vec())]);
    }

    #[test]
    fn the_position_counts_whole_messages_only_and_nothing_is_told_twice() {
        let numbered = |seq: u64| control(Control::info(Tag::None, format!("n{seq}")).with("seq", seq));
        let mut session = Session::default();
        let bytes = [numbered(1), frame(Payload::JobIo(b"abc".to_vec())), numbered(2)].concat();
        let mut outputs = outputs_of(&mut session, &bytes[..bytes.len() - 1]);
        assert_eq!(session.position(), Position { console: 3, event: 1 });
        session.reconnected();
        outputs.extend(outputs_of(
            &mut session,
            &[numbered(1), numbered(2), frame(Payload::JobIo(b"d".to_vec()))].concat(),
        ));
        assert_eq!(session.position(), Position { console: 4, event: 2 });
        let told: Vec<_> = outputs.iter().filter(|o| matches!(o, Output::Note(_))).collect();
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn metadata_of_any_shape_is_survived() {
        let mut session = Session::default();
        for metadata in
            [json!(null), json!(3), json!({"patterns": 3, "line": null}), json!({"patterns": [1, null]})]
        {
            for tag in [401, 400, 500, 12345] {
                let body = json!({"msg_type": "ctrl", "date": "2024-01-01T00:00:00+00:00",
                    "payload": {"msg": "m", "severity": 1, "tag": tag, "metadata": metadata}});
                let body = body.to_string();
                let head = u32::try_from(body.len()).unwrap().to_be_bytes();
                let mut one = Session::default();
                let _ = one.on_bytes(&[&head[..], body.as_bytes()].concat(), &mut Vec::new());
            }
        }
        assert!(outputs_of(&mut session, &end(JobStatus::Fail)).is_empty());
    }

    /// What a gateway sends to a client that stands at `from`: `None` is a message, `Some` console bytes.
    fn rest_of(items: &[Option<Vec<u8>>], from: Position) -> Vec<u8> {
        let (mut console, mut seq, mut bytes) = (0, 0, Vec::new());
        for item in items {
            match item {
                Some(said) => {
                    let had = usize::try_from(from.console.saturating_sub(console)).unwrap().min(said.len());
                    console += said.len() as u64;
                    if had < said.len() {
                        bytes.extend(frame(Payload::JobIo(said[had..].to_vec())));
                    }
                }
                None => {
                    seq += 1;
                    if seq > from.event {
                        bytes.extend(control(Control::info(Tag::None, format!("<{seq}>")).with("seq", seq)));
                    }
                }
            }
        }
        bytes.extend(end(JobStatus::Pass));
        bytes
    }

    /// Console bytes and messages in the order in which they are shown.
    fn shown(outputs: &[Output]) -> Vec<u8> {
        let shown = outputs.iter().map(|output| match output {
            Output::Console(bytes) => bytes.clone(),
            Output::Note(note) => note.text.clone().into_bytes(),
        });
        shown.collect::<Vec<_>>().concat()
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Session::default().on_bytes(&bytes, &mut Vec::new());
        }

        #[test]
        fn wherever_connections_break_the_stream_is_shown_once_and_in_order(
            items in proptest::collection::vec(
                proptest::option::of(proptest::collection::vec(any::<u8>(), 1..40)), 0..12),
            cuts in proptest::collection::vec(0.0f64..1.0, 0..8),
        ) {
            let mut whole = Vec::new();
            outputs_into(&mut Session::default(), &rest_of(&items, Position::default()), &mut whole);
            let (mut session, mut outputs) = (Session::default(), Vec::new());
            for cut in cuts {
                let rest = rest_of(&items, session.position());
                outputs_into(&mut session, &rest[..(rest.len() as f64 * cut) as usize], &mut outputs);
                session.reconnected();
            }
            let rest = rest_of(&items, session.position());
            outputs_into(&mut session, &rest, &mut outputs);
            prop_assert!(session.is_over());
            prop_assert_eq!(shown(&outputs), shown(&whole));
        }
    }
}
