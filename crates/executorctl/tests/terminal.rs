//! The client on a pseudo terminal: keys reach the DUT, and the terminal is as before however it ends.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test a panic is the failure

mod stand_in;

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::TcpListener,
    os::fd::OwnedFd,
    process::Stdio,
    sync::{Arc, Mutex},
};

use farmgate_protocol::{
    JobStatus,
    console::{Control, Tag},
};
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::json;
use stand_in::{
    ours::{Ours, TOKEN, running},
    *,
};

/// A pseudo terminal with somebody who reads it.
struct Terminal {
    master: File,
    slave: File,
    before: Termios,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open() -> Self {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        use std::os::unix::fs::OpenOptionsExt as _;
        let no_control = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
        let slave = OpenOptions::new().read(true).write(true).custom_flags(no_control).open(name).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut source, sink) = (master.try_clone().unwrap(), Arc::clone(&shown));
        // It ends when the last slave is closed: reading gives EIO then.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { master, slave, before, shown }
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let end = || Stdio::from(self.slave.try_clone().unwrap());
        Process::start(client(arguments).stdin(end()).stdout(end()).stderr(end()))
    }

    fn keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn wait_text(&self, wanted: &str) {
        wait_for(wanted, || self.text().contains(wanted).then_some(()));
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ISIG | LocalModes::ECHO)
    }

    fn assert_restored(&self) {
        let now = tcgetattr(&self.slave).unwrap();
        assert_eq!(now.local_modes, self.before.local_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
        assert_eq!(now.input_modes, self.before.input_modes);
    }
}

fn job_path(job: &tempfile::NamedTempFile) -> &str {
    job.path().to_str().unwrap()
}

fn ready(listener: &TcpListener) -> Console {
    let mut console = Request::next(listener).upgrade(b"");
    console.send(&io(b"login: "));
    console
}

#[test]
fn every_key_reaches_the_dut_and_ctrl_c_is_one() {
    let gateway = StandIn::play(|listener| {
        let mut console = ready(listener);
        console.expect_typed(b"root\r\x03\x04\x1b[A\x01\xff");
        console.send(&[mark(1, Tag::None, "noted"), io(b"bye\r\n"), end(2, JobStatus::Pass)].concat());
        console.expect_close();
    });
    let (mut terminal, job) = (Terminal::open(), job());
    let mut client = terminal.start(&["-e", &gateway.url(), "run", job_path(&job)]);
    terminal.wait_text("login: ");
    assert!(terminal.is_raw());
    terminal.keys(b"root\r\x03\x04\x1b[A\x01");
    terminal.keys(b"\x01\xff");
    assert_eq!(client.code(), 0, "{}", terminal.text());
    terminal.assert_restored();
    terminal.wait_text("PASS\r\n");
    let text = terminal.text();
    assert!(text.contains("login: \r\n"), "a note begins its own line: {text:?}");
    assert!(text.contains("noted\x1b[0m\r\nbye\r\n"), "{text:?}");
    assert!(text.contains("Ctrl-A Ctrl-C leaves"), "{text:?}");
    gateway.done();
}

#[test]
fn ctrl_a_ctrl_c_leaves_and_cancels() {
    let gateway = StandIn::play(|listener| ready(listener).expect_close());
    let (mut terminal, job) = (Terminal::open(), job());
    let mut client = terminal.start(&["-e", &gateway.url(), "run", job_path(&job)]);
    terminal.wait_text("login: ");
    terminal.keys(b"\x01\x03");
    assert_eq!(client.code(), 4, "{}", terminal.text());
    terminal.assert_restored();
    terminal.wait_text("INCOMPLETE\r\n");
    assert!(terminal.text().contains("the job is cancelled"), "{}", terminal.text());
    gateway.done();
}

#[test]
fn ctrl_a_ctrl_d_leaves_and_the_job_goes_on() {
    let gateway = Ours::start(running(b"login: "), []);
    let (mut terminal, job) = (Terminal::open(), job());
    let mut client = terminal.start(&["-e", &gateway.url(), "run", job_path(&job)]);
    terminal.wait_text("login: ");
    assert!(terminal.is_raw());
    terminal.keys(b"\x01\x04");
    assert_eq!(client.code(), 5, "{}", terminal.text());
    terminal.assert_restored();
    terminal.wait_text("UNKNOWN\r\n");
    assert!(terminal.text().contains("executorctl attach 42"), "{}", terminal.text());
    gateway.seen(|seen| {
        assert_eq!(seen.attaches, [("console=7&event=1&detach=1".to_owned(), Some(TOKEN.to_owned()))]);
        assert_eq!(seen.cancels, 0);
    });
}

#[test]
fn where_a_job_cannot_go_on_alone_ctrl_a_ctrl_d_says_so_and_stays() {
    let gateway = StandIn::play(|listener| {
        let mut console = ready(listener);
        console.expect_typed(b"x");
        console.send(&end(2, JobStatus::Pass));
        console.expect_close();
    });
    let (mut terminal, job) = (Terminal::open(), job());
    let mut client = terminal.start(&["-e", &gateway.url(), "run", job_path(&job)]);
    terminal.wait_text("login: ");
    terminal.keys(b"\x01\x04");
    terminal.wait_text("cannot let a job go on");
    terminal.keys(b"x");
    assert_eq!(client.code(), 0, "{}", terminal.text());
    gateway.done();
}

#[test]
fn while_the_gateway_is_away_the_terminal_can_be_left() {
    let gateway = Ours::start(running(b"login: "), []);
    let (mut terminal, job) = (Terminal::open(), job());
    let mut client = terminal.start(&["-e", &gateway.url(), "run", job_path(&job)]);
    terminal.wait_text("login: ");
    drop(gateway);
    terminal.wait_text("the gateway is away since");
    terminal.keys(b"not for the DUT\x01\x03");
    assert_eq!(client.code(), 4, "{}", terminal.text());
    terminal.assert_restored();
}

#[test]
fn in_the_queue_the_place_is_shown_in_one_line() {
    let mut queued = running(b"");
    queued.messages = vec![(0, Control::info(Tag::Queued, "The job waits for a machine; it is next"))];
    let gateway = Ours::start(queued, []);
    let why = json!({"reason": "the machine is busy", "place": 3, "estimate_seconds": 65.0, "machines": []});
    gateway.answers("GET /api/v1/job/42/why", 200, why);
    let (mut terminal, job) = (Terminal::open(), job());
    let mut client = terminal.start(&["-e", &gateway.url(), "run", "--wait", job_path(&job)]);
    terminal.wait_text("place 3, the machine is busy (about 1m05s more)");
    terminal.keys(b"\x01\x03");
    assert_eq!(client.code(), 6, "{}", terminal.text());
    assert_eq!(gateway.seen(|seen| seen.cancels), 1);
    terminal.assert_restored();
}

#[test]
fn a_signal_or_a_lost_gateway_restores_the_terminal() {
    for signal in [Some(Signal::TERM), Some(Signal::HUP), None] {
        let gateway = StandIn::play(move |listener| {
            let mut console = ready(listener);
            if signal.is_some() {
                console.expect_close();
            } else {
                console.expect_typed(b"x");
            }
        });
        let (mut terminal, job) = (Terminal::open(), job());
        let mut client = terminal.start(&["-e", &gateway.url(), "run", job_path(&job)]);
        terminal.wait_text("login: ");
        match signal {
            Some(signal) => client.signal(signal),
            None => terminal.keys(b"x"),
        }
        assert_eq!(client.code(), 4, "{}", terminal.text());
        terminal.assert_restored();
        gateway.done();
    }
}

#[test]
fn a_waiting_submission_can_be_given_up_with_ctrl_c_of_the_terminal() {
    let gateway = StandIn::play(|listener| {
        let busy = json!({"version": 1, "error_msg": "busy"});
        Request::next(listener).answer_json("409 Conflict", &busy);
    });
    let (terminal, job) = (Terminal::open(), job());
    let mut client = terminal.start(&["-e", &gateway.url(), "run", "-w", job_path(&job)]);
    terminal.wait_text("waiting for a free machine");
    assert!(!terminal.is_raw());
    client.signal(Signal::INT);
    assert_eq!(client.code(), 6, "{}", terminal.text());
    terminal.wait_text("SETUP_FAIL\r\n");
    gateway.done();
}

#[test]
fn a_watched_table_is_drawn_in_place_and_leaves_the_terminal_as_it_was() {
    let gateway = StandIn::play(|listener| {
        let duts = |state: &str| json!({"duts": {"a": {"full_name": "farm-a-1", "state": state}}});
        Request::next(listener).answer_json("200 OK", &duts("IDLE"));
        let mut events = Request::next(listener).stream("text/event-stream");
        let event = json!({"seq": 1, "time": "2024-01-01T00:00:00+00:00", "dut": "a", "kind": "state", "text": "it runs"});
        events.write_all(format!("id: 1\ndata: {event}\n\n").as_bytes()).unwrap();
        Request::next(listener).answer_json("200 OK", &duts("RUNNING"));
        assert_eq!(events.read(&mut [0; 1]).unwrap_or(0), 0, "the client closes");
    });
    let terminal = Terminal::open();
    let mut client = terminal.start(&["-e", &gateway.url(), "duts", "--watch"]);
    terminal.wait_text("RUNNING");
    terminal.wait_text("a it runs");
    client.signal(Signal::INT);
    assert_eq!(client.code(), 0);
    gateway.done();
    terminal.wait_text("\x1b[?25h\x1b[?1049l");
    let text = terminal.text();
    let after = text.rsplit("\x1b[?1049l").next().unwrap();
    assert!(after.contains("farm-a-1"), "what was seen last stays: {text:?}");
}
