//! A gateway of the other kind: raw sockets that speak what the interface says, played by a script of the test; and
//! the client as a process that is ended whatever happens. All waits are bounded.
#![allow(dead_code)] // each test binary uses its part

pub mod ours;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{Control, FrameReader, Message, Payload, Tag},
};

/// About ten times what the slowest step takes.
pub const BOUND: Duration = Duration::from_secs(45);

/// A stand-in on a free port of the loopback.
pub struct StandIn {
    pub port: u16,
    thread: JoinHandle<()>,
}

impl StandIn {
    /// Plays the script.
    pub fn play(script: impl FnOnce(&TcpListener) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        Self { port, thread: std::thread::spawn(move || script(&listener)) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Waits for the end of the script; what failed in it fails the test.
    pub fn done(self) {
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < BOUND, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    let stream = wait_for("a connection", || match listener.accept() {
        Ok((stream, _)) => Some(stream),
        Err(e) if e.kind() == ErrorKind::WouldBlock => None,
        Err(e) => panic!("{e}"),
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}

/// One part of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub file_name: String,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// A request of the client.
pub struct Request {
    /// `POST /api/v1/jobs`.
    pub line: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    stream: TcpStream,
}

impl Request {
    pub fn next(listener: &TcpListener) -> Self {
        Self::of(accept(listener))
    }

    /// The request on a connection.
    pub fn of(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        let head_end = loop {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "closed within the head");
            bytes.extend_from_slice(&buffer[..count]);
            if let Some(end) = find(&bytes, b"\r\n\r\n") {
                break end;
            }
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|l| l.split_once(": "))
            .map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()))
            .collect();
        let mut body = bytes.split_off(head_end + 4);
        let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
        while body.len() < length {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "closed within the body");
            body.extend_from_slice(&buffer[..count]);
        }
        Self { line, headers, body, stream }
    }

    /// The parts of a multipart body by name.
    pub fn parts(&self) -> BTreeMap<String, Part> {
        let kind = &self.headers["content-type"];
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
        let delimiter = format!("--{boundary}");
        let mut parts = BTreeMap::new();
        let mut rest = &self.body[..];
        while let Some(start) = find(rest, delimiter.as_bytes()) {
            rest = &rest[start + delimiter.len()..];
            let Some(end) = find(rest, delimiter.as_bytes()) else { break };
            let part = &rest[2..end - 2];
            let head_end = find(part, b"\r\n\r\n").unwrap();
            let head = std::str::from_utf8(&part[..head_end]).unwrap();
            let field = |name: &str| {
                let start = head.find(name).unwrap_or_else(|| panic!("no {name} in {head}")) + name.len();
                head[start..].split(['"', '\r']).next().unwrap().to_owned()
            };
            let content = Part {
                file_name: field("filename=\""),
                content_type: field("Content-Type: "),
                body: part[head_end + 4..].to_vec(),
            };
            parts.insert(field("; name=\""), content);
        }
        parts
    }

    pub fn metadata(&self) -> serde_json::Value {
        serde_json::from_slice(&self.parts()["metadata"].body).unwrap()
    }

    /// Answers and closes.
    pub fn answer(mut self, status: &str, kind: &str, body: &str) {
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&jiff::Timestamp::now())
            .unwrap();
        let head = format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        self.stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    }

    pub fn answer_json(self, status: &str, body: &serde_json::Value) {
        self.answer(status, "application/json", &body.to_string());
    }

    /// Switches to the console protocol; `first` goes out in the same segment.
    pub fn upgrade(self, first: &[u8]) -> Console {
        let (mut stream, head) = self.switch("");
        stream.write_all(&[&head[..], first].concat()).unwrap();
        Console { stream, frames: FrameReader::default() }
    }

    /// The connection, and the head that switches it to the console protocol.
    pub fn switch(self, headers: &str) -> (TcpStream, Vec<u8>) {
        assert_eq!(self.headers["upgrade"], "ci-tron-console");
        assert!(self.headers["connection"].eq_ignore_ascii_case("upgrade"));
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ci-tron-console\r\nCi_tron_version: 1\r\n{headers}\r\n"
        );
        (self.stream, head.into_bytes())
    }

    /// A stream that stays open: the head only.
    pub fn stream(self, kind: &str) -> TcpStream {
        self.raw(&format!("Content-Type: {kind}\r\n"))
    }

    /// The head only, with these headers.
    pub fn raw(mut self, headers: &str) -> TcpStream {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}Connection: close\r\n\r\n");
        self.stream.write_all(head.as_bytes()).unwrap();
        self.stream
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The gateway's end of a run.
pub struct Console {
    pub stream: TcpStream,
    frames: FrameReader,
}

impl Console {
    /// Calls the client back.
    pub fn dial(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        Self { stream, frames: FrameReader::default() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// What the client types next; `None` when it closed.
    pub fn typed(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(message) = self.frames.next_message().unwrap() {
                match message.payload {
                    Payload::JobIo(bytes) => return Some(bytes),
                    other => panic!("a client says {other:?}"),
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.frames.push(&buffer[..count]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("waiting for keys: {e}"),
            }
        }
    }

    /// Reads keys until all of `wanted` were typed.
    pub fn expect_typed(&mut self, wanted: &[u8]) {
        let mut typed = Vec::new();
        while typed.len() < wanted.len() {
            typed.extend(self.typed().expect("the client closed"));
        }
        assert_eq!(typed, wanted);
    }

    /// The client closes.
    pub fn expect_close(&mut self) {
        assert_eq!(self.typed(), None);
    }
}

/// A date `tenths` tenths of a second into the run.
pub fn at(tenths: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + tenths * 100_000)
}

pub fn io(text: &[u8]) -> Vec<u8> {
    Message::new(at(0), Payload::JobIo(text.to_vec())).encode()
}

pub fn control(tenths: i64, control: Control) -> Vec<u8> {
    Message::new(at(tenths), Payload::Control(control)).encode()
}

pub fn mark(tenths: i64, tag: Tag, text: &str) -> Vec<u8> {
    control(tenths, Control::info(tag, text))
}

pub fn end(tenths: i64, status: JobStatus) -> Vec<u8> {
    Message::new(at(tenths), Payload::SessionEnd { status, joules_consumed: None, job_bucket: None }).encode()
}

/// The client's command, in an environment of its own.
pub fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_executorctl"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("CI_TRON_TEST", "forwarded");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that does not outlive the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How the client ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub error: String,
}

impl Outcome {
    /// The last line of standard output.
    pub fn last_word(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.0.id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for its end only.
    pub fn code(&mut self) -> i32 {
        let status = wait_for("the client's end", || self.0.try_wait().unwrap());
        status.code().expect("killed by a signal")
    }

    /// Reads both outputs to the end.
    pub fn finish(mut self) -> Outcome {
        let out = reader(self.0.stdout.take().unwrap());
        let error = reader(self.0.stderr.take().unwrap());
        let code = self.code();
        Outcome { code, out: out.join().unwrap(), error: error.join().unwrap() }
    }
}

fn reader(mut source: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs the client to its end.
pub fn run(arguments: &[&str]) -> Outcome {
    Process::start(&mut client(arguments)).finish()
}

/// A job file.
pub fn job() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"version: 1\n").unwrap();
    file
}
