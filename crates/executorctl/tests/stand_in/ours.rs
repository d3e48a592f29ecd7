//! A gateway of our kind with one job: it numbers the run, gives its stream again from any position, lists it and lets
//! it be cancelled. A plan says where each of its streams breaks.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{Control, Message, Payload, Tag},
};
use serde_json::{Value, json};

use super::{BOUND, Request, at, io};

/// Number of the one run.
pub const RUN: u64 = 42;
/// Its resume token.
pub const TOKEN: &str = "s3cret";

/// What becomes of one stream that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The connection closes without an answer.
    NoAnswer,
    /// An answer that is an error.
    Status(u16),
    /// So many bytes of the answer, its head included, and the end of the connection.
    CutAfter(usize),
    /// The same, as a reset.
    ResetAfter(usize),
    /// Everything, and then a frame that is none.
    Damaged,
    /// Everything that there is; then it stays open.
    Whole,
}

/// A run's stream: console bytes, and messages that each stand at an offset of the console.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    pub console: Vec<u8>,
    /// Offset, message; the number of a message is its index + 1.
    pub messages: Vec<(usize, Control)>,
    /// None: the run goes on.
    pub end: Option<JobStatus>,
    /// Console bytes in a frame.
    pub piece: usize,
}

impl Stream {
    /// What a client gets that has so many bytes and messages already, frame by frame.
    pub fn frames(&self, console: usize, event: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut shown = console;
        let mut show = |until: usize, frames: &mut Vec<Vec<u8>>| {
            if shown < until {
                frames.extend(self.console[shown..until].chunks(self.piece.max(1)).map(io));
                shown = until;
            }
        };
        for (index, (offset, control)) in self.messages.iter().enumerate().skip(event) {
            show(*offset, &mut frames);
            let control = control.clone().with("seq", (index + 1) as u64);
            frames.push(Message::new(at(index as i64), Payload::Control(control)).encode());
        }
        show(self.console.len(), &mut frames);
        if let Some(status) = self.end {
            frames.push(super::end(99, status));
        }
        frames
    }
}

/// What happened to the gateway.
#[derive(Debug, Default)]
pub struct Seen {
    /// The metadata of each submission.
    pub posts: Vec<Value>,
    /// The query, and the token, of each attach.
    pub attaches: Vec<(String, Option<String>)>,
    /// How often the run was cancelled.
    pub cancels: usize,
    /// Each other request, and its `Authorization`.
    pub others: Vec<(String, Option<String>)>,
}

#[derive(Debug)]
struct State {
    stream: Stream,
    plan: VecDeque<Fate>,
    seen: Seen,
    /// The run exists, under that name.
    accepted: Option<(Value, Timestamp)>,
    /// Answers of other paths: `GET /api/v1/...` to status and body; used up one after the other, the last one stays.
    answers: Vec<(String, VecDeque<(u16, Value)>)>,
    stopped: bool,
}

/// The gateway.
pub struct Ours {
    pub port: u16,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Ours {
    /// On a free port. A submission that is cut short was taken all the same, but for [`Fate::Status`].
    pub fn start(stream: Stream, plan: impl IntoIterator<Item = Fate>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), stream, plan)
    }

    /// On the port of one that is gone; the run is known there.
    pub fn again(port: u16, stream: Stream) -> Self {
        let gateway = Self::on(TcpListener::bind(("127.0.0.1", port)).unwrap(), stream, []);
        gateway.take_run(Value::Null);
        gateway
    }

    fn on(listener: TcpListener, stream: Stream, plan: impl IntoIterator<Item = Fate>) -> Self {
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let state = State {
            stream,
            plan: plan.into_iter().collect(),
            seen: Seen::default(),
            accepted: None,
            answers: Vec::new(),
            stopped: false,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || serve(&listener, &shared));
        Self { port, state, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The run exists already, as somebody's job of that name.
    pub fn take_run(&self, job_id: Value) {
        self.lock().accepted = Some((job_id, Timestamp::now()));
    }

    /// Answers `GET /api/v1/duts` and the like.
    pub fn answers(&self, line: &str, status: u16, body: Value) {
        let mut state = self.lock();
        match state.answers.iter_mut().find(|(known, _)| known == line) {
            Some((_, answers)) => answers.push_back((status, body)),
            None => state.answers.push((line.to_owned(), [(status, body)].into())),
        }
    }

    /// The run goes on like this.
    pub fn set_stream(&self, stream: Stream) {
        self.lock().stream = stream;
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.lock().seen)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.lock().stopped = true;
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = ended
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn serve(listener: &TcpListener, state: &Arc<Mutex<State>>) {
    std::thread::scope(|scope| {
        while !state.lock().unwrap().stopped {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(BOUND)).unwrap();
                    scope.spawn(|| answer(stream, state));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
                Err(e) => panic!("{e}"),
            }
        }
    });
}

fn answer(stream: TcpStream, state: &Mutex<State>) {
    let request = Request::of(stream);
    let line = request.line.clone();
    let (path, query) = line.split_once('?').unwrap_or((&line, ""));
    let run = format!("/api/v1/job/{RUN}");
    match path.split_once(' ').unwrap() {
        ("POST", "/api/v1/jobs") => submit(request, state),
        ("POST", path) if path == format!("{run}/attach") => attach(request, query, state),
        ("POST", path) if path == format!("{run}/cancel") => {
            state.lock().unwrap().seen.cancels += 1;
            request.answer_json("200 OK", &json!({"id": RUN}));
        }
        ("GET", "/api/v1/jobs") if state.lock().unwrap().answers.is_empty() => {
            request.answer_json("200 OK", &json!({"jobs": runs(&state.lock().unwrap())}));
        }
        ("GET", path) if path == run && state.lock().unwrap().answers.is_empty() => {
            let mut runs = runs(&state.lock().unwrap());
            match runs.pop() {
                Some(run) => request.answer_json("200 OK", &run),
                None => request.answer_json("404 Not Found", &json!({"error": "there is no such job"})),
            }
        }
        _ => other(request, path, state),
    }
}

fn other(request: Request, path: &str, state: &Mutex<State>) {
    let mut state = state.lock().unwrap();
    let token = request.headers.get("authorization").cloned();
    state.seen.others.push((request.line.clone(), token));
    let answer = state.answers.iter_mut().find(|(known, _)| *known == request.line || known == path);
    let (status, body) = match answer {
        Some((_, answers)) if answers.len() > 1 => answers.pop_front().unwrap(),
        Some((_, answers)) => answers[0].clone(),
        None => (404, json!({"error": format!("there is nothing at {path}")})),
    };
    drop(state);
    request.answer_json(&format!("{status} Said"), &body);
}

fn runs(state: &State) -> Vec<Value> {
    let run = state.accepted.iter().map(|(job_id, created)| {
        json!({"id": RUN, "kind": "job", "state": "active", "phase": "setup", "name": "job", "job_id": job_id,
            "dut": null, "priority": "default", "submitter": "local", "created": created, "started": null,
            "ended": null, "status": null, "cause": null, "summary": null, "attempts": [], "phases": [],
            "console_bytes": 0, "clients": 1, "why": null})
    });
    run.collect()
}

fn submit(request: Request, state: &Mutex<State>) {
    assert_eq!(request.headers["farmgate-resume"], "yes");
    let metadata = request.metadata();
    let fate = {
        let mut state = state.lock().unwrap();
        state.seen.posts.push(metadata.clone());
        let fate = state.plan.pop_front().unwrap_or(Fate::Whole);
        if !matches!(fate, Fate::Status(_)) {
            state.accepted = Some((metadata["job_id"].clone(), Timestamp::now()));
        }
        fate
    };
    let head = format!("Farmgate-Run: {RUN}\r\nFarmgate-Resume: {TOKEN}\r\n");
    give(request, fate, &head, 0, 0, state);
}

fn attach(request: Request, query: &str, state: &Mutex<State>) {
    let number = |name: &str| {
        let pair =
            query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")).map(str::to_owned));
        pair.unwrap().parse::<usize>().unwrap()
    };
    let token = request.headers.get("farmgate-resume").cloned();
    let fate = {
        let mut state = state.lock().unwrap();
        state.seen.attaches.push((query.to_owned(), token));
        state.plan.pop_front().unwrap_or(Fate::Whole)
    };
    give(request, fate, "", number("console"), number("event"), state);
}

fn give(request: Request, fate: Fate, headers: &str, console: usize, event: usize, state: &Mutex<State>) {
    let body = |state: &Mutex<State>| state.lock().unwrap().stream.frames(console, event).concat();
    match fate {
        Fate::NoAnswer => {}
        Fate::Status(status) => {
            request.answer_json(&format!("{status} Said"), &json!({"error": "not now"}));
        }
        Fate::CutAfter(bytes) | Fate::ResetAfter(bytes) => {
            let (mut stream, head) = request.switch(headers);
            let answer = [head, body(state)].concat();
            let _ = stream.write_all(&answer[..bytes.min(answer.len())]);
            if matches!(fate, Fate::ResetAfter(_)) {
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            }
        }
        Fate::Damaged => {
            let (mut stream, head) = request.switch(headers);
            let _ = stream.write_all(&[&head[..], &body(state), &[0xff; 8]].concat());
        }
        Fate::Whole => {
            let (mut stream, head) = request.switch(headers);
            let _ = stream.write_all(&[head, body(state)].concat());
            hold(stream, state);
        }
    }
}

/// Until the client closes, or the gateway dies.
fn hold(mut stream: TcpStream, state: &Mutex<State>) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 1024];
    while !state.lock().unwrap().stopped {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// A run with messages between its console bytes, that passes.
pub fn passing(console: &[u8], piece: usize) -> Stream {
    let place = |tenths: usize| console.len() * tenths / 10;
    let message = |tenths: usize, tag, text: &str| (place(tenths), Control::info(tag, text));
    let matched = Control::info(Tag::PatternMatched, "matched")
        .with("patterns", json!(["job_success"]))
        .with("line", "all good\r\n");
    let verdict =
        Control::info(Tag::Verdict, "passed").with("cause", "test_passed").with("summary", "it passed");
    Stream {
        console: console.to_vec(),
        messages: vec![
            message(0, Tag::InfraSetupStart, "note one"),
            message(0, Tag::InfraSetupComplete, "note two"),
            message(3, Tag::None, "note three"),
            (place(8), matched),
            message(10, Tag::InfraTeardownStart, "note five"),
            (place(10), verdict),
        ],
        end: Some(JobStatus::Pass),
        piece,
    }
}

/// One that goes on.
pub fn running(console: &[u8]) -> Stream {
    let messages = vec![(0, Control::info(Tag::InfraSetupStart, "note one"))];
    Stream { console: console.to_vec(), messages, end: None, piece: 64 }
}
