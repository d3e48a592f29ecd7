//! `simduts` against a gateway and a console service of the test's own: what a machine does on the wire.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails, in its helpers too

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use farmgate_protocol::vpdu::{Reply, Request};
use farmgate_vivian::sim::artifact;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

const SCRIPT: &str = "#!ipxe\nset console-id:uristring box\necho SALAD.machine_id=${console-id:string}\n\
    set cmdline0:uristring sim=pass%20sim.seed=3\nkernel --name BOOT_IMAGE=kernel kernel?platform=${platform} ${cmdline0:string} && goto x ||\n\
    initrd --name initrd initrd?platform=${platform} && goto y ||\n";

struct Sim {
    child: Child,
    pdu: SocketAddr,
    http: SocketAddr,
    console: TcpListener,
    folder: tempfile::TempDir,
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the script and both files; each is asked for three times before it is given.
fn gateway() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut asked = 0;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap();
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            asked += 1;
            if asked % 3 != 0 {
                continue; // closed without an answer, like a gateway that was killed
            }
            let body = match head.split(' ').nth(1).unwrap() {
                path if path.contains("/boot.ipxe?platform=pcbios&buildarch=x86_64") => {
                    SCRIPT.as_bytes().to_vec()
                }
                path if path.contains("/kernel?platform=pcbios") => artifact::of("kernel", 5000),
                path if path.contains("/initrd?platform=pcbios") => artifact::of("initrd", 5000),
                path => panic!("a firmware does not ask for {path}"),
            };
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(answer.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    address
}

impl Sim {
    fn start() -> Self {
        let console = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display().to_string();
        let (gateway, at) = (gateway().to_string(), console.local_addr().unwrap().to_string());
        let child = Command::new(env!("CARGO_BIN_EXE_simduts"))
            .args(["--duts", "3", "--outlets", "2", "--gateway", &gateway, "--console", &at, "--dir", &dir])
            .args(["--until-stdin-ends"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let ready = folder.path().join("sim.json");
        let ready: Value = eventually(|| serde_json::from_str(&std::fs::read_to_string(&ready).ok()?).ok());
        let address = |value: &Value| value.as_str().unwrap().parse().unwrap();
        let (pdu, http) = (address(&ready["pdus"][0]), address(&ready["http"]));
        assert_eq!(ready["pdus"].as_array().unwrap().len(), 2);
        Self { child, pdu, http, console, folder }
    }

    fn ask(&self, request: Request) -> Option<u8> {
        let mut stream = TcpStream::connect(self.pdu).unwrap();
        stream.write_all(&request.encode()).unwrap();
        let mut byte = [0];
        (stream.read(&mut byte).unwrap_or(0) == 1).then_some(byte[0])
    }

    fn control(&self, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        write!(stream, "POST /control/{path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn events(&self, dut: u32) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("journal.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|l| l["dut"] == dut).map(|l| l["event"].as_str().unwrap().to_owned()).collect()
    }
}

fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_machine_that_is_switched_on_boots_speaks_and_is_gone_when_it_is_switched_off() {
    let sim = Sim::start();
    assert_eq!(sim.ask(Request::NumPorts), Some(2));
    assert_eq!(sim.ask(Request::Status(0)), Some(Reply::Off as u8));
    assert_eq!(sim.ask(Request::On(2)), Some(Reply::BadRequest as u8), "the third is at the second PDU");
    assert_eq!(sim.ask(Request::On(0)), Some(Reply::Ok as u8));
    let (mut console, _) = sim.console.accept().unwrap();
    let mut said = Vec::new();
    eventually(|| {
        let mut piece = [0; 4096];
        let n = console.read(&mut piece).unwrap();
        said.extend_from_slice(&piece[..n]);
        String::from_utf8_lossy(&said).contains("safe to turn off your computer\r\n").then_some(())
    });
    let text = String::from_utf8_lossy(&said).into_owned();
    for part in ["iPXE", "SALAD.machine_id=box\r\n", "Linux version", "pipeline status: 0\r\n"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("try"), "a firmware that tries again says nothing: {text}");
    assert_eq!(sim.ask(Request::Off(0)), Some(Reply::Ok as u8));
    assert_eq!(console.read(&mut [0; 16]).unwrap(), 0, "its console is gone with it");
    let copy = std::fs::read(sim.folder.path().join("consoles/1/1.log")).unwrap();
    assert_eq!(copy, said);
    let events = sim.events(1);
    let wanted = ["command", "on", "script", "kernel", "initrd", "booted", "half", "quiet", "command", "off"];
    assert_eq!(events, wanted);
}

#[test]
fn faults_come_and_go_as_they_are_told() {
    let sim = Sim::start();
    assert!(sim.control("dut/2", r#"{"ignore_on": 1, "refuse": 1}"#).starts_with("HTTP/1.1 200"));
    assert_eq!(sim.ask(Request::On(1)), Some(Reply::Error as u8));
    assert_eq!(sim.ask(Request::On(1)), Some(Reply::Ok as u8));
    assert_eq!(sim.ask(Request::Status(1)), Some(Reply::Off as u8), "it said yes and did nothing");
    assert_eq!(sim.ask(Request::On(1)), Some(Reply::Ok as u8));
    assert_eq!(sim.ask(Request::Status(1)), Some(Reply::On as u8));
    assert_eq!(sim.events(2).iter().filter(|e| *e == "on").count(), 1);
    assert!(sim.control("pdu/1", r#"{"unreachable_ms": 300}"#).starts_with("HTTP/1.1 200"));
    assert_eq!(sim.ask(Request::Status(1)), None);
    eventually(|| sim.ask(Request::Status(1)));
    for (path, body) in
        [("dut/9", "{}"), ("dut/1", r#"{"stuk": true}"#), ("pdu/7", r#"{"unreachable_ms": 1}"#), ("x", "")]
    {
        assert!(sim.control(path, body).starts_with("HTTP/1.1 400"), "{path} {body}");
    }
}

#[test]
fn artifacts_are_whole_or_not_as_their_path_says() {
    let sim = Sim::start();
    let get = |path: &str, more: &str| {
        let mut stream = TcpStream::connect(sim.http).unwrap();
        write!(stream, "GET /artifact/{path} HTTP/1.1\r\n{more}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        (String::from_utf8_lossy(&answer[9..12]).into_owned(), answer[end..].to_vec())
    };
    let whole = artifact::of("k", 1000);
    assert_eq!(get("ok/k?size=1000", ""), ("200".to_owned(), whole.clone()));
    assert_eq!(get("ok/k?size=1000", "Range: bytes=900-\r\n"), ("206".to_owned(), whole[900..].to_vec()));
    assert_eq!(get("half/k?size=1000", ""), ("200".to_owned(), whole[..500].to_vec()));
    assert_eq!(get("half/k?size=1000", "Range: bytes=500-\r\n"), ("206".to_owned(), Vec::new()));
    assert_eq!(get("404/k", "").0, "404");
    let flaky: Vec<_> = (0..3).map(|_| get("flaky/k?size=1000", "")).collect();
    assert_eq!(flaky[0].0, "500");
    assert_eq!(flaky[1].1.len(), 500);
    assert_eq!(flaky[2].1, whole);
}
