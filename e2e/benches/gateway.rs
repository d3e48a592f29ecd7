//! What a gateway takes, measured from outside at simulated machines: `cargo bench -p farmgate-e2e`. It measures the
//! programs that lie beside it: build them first, with the same profile.
//!
//! `FARMGATE_BENCH_FOLDER`: where the state is (the disk that is measured); `FARMGATE_BENCH_PARTS`: some of
//! `idle,streams,thousand`; `FARMGATE_BENCH_RUNS` (300), `FARMGATE_BENCH_STREAMS` (200).
#![allow(clippy::unwrap_used, clippy::expect_used)] // a measurement that fails ends with a panic

use std::{
    fs::File,
    io::Read as _,
    net::TcpStream,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use farmgate_e2e::simfarm::{
    SimFarm, SimOptions,
    job::{SimJob, submit},
    wait_for,
};
use farmgate_protocol::{
    DutId, JobStatus, MacAddress, Timestamp,
    console::{FrameReader, Payload},
};
use farmgate_store::{Change, Kept, NewRun, Retention, RunState, Store};
use serde_json::{Value, json};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let folder = std::env::var_os("FARMGATE_BENCH_FOLDER").map(PathBuf::from);
    let parts = std::env::var("FARMGATE_BENCH_PARTS").unwrap_or_else(|_| "idle,streams,thousand".to_owned());
    let wanted = |part: &str| parts.split(',').any(|p| p == part);
    if wanted("idle") {
        idle(folder.as_deref());
    }
    if wanted("streams") {
        streams(folder.as_deref());
    }
    if wanted("thousand") {
        thousand(folder.as_deref());
    }
}

/// One line: how long something takes, in milliseconds.
fn report(what: &str, mut each: Vec<f64>) {
    each.sort_by(f64::total_cmp);
    let at =
        |part: f64| each.get(((each.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    let (n, p50, p90, p99, max) = (each.len(), at(0.5), at(0.9), at(0.99), at(1.0));
    println!("{what:<52} n={n:<5} p50 {p50:>7.2} ms  p90 {p90:>7.2}  p99 {p99:>7.2}  max {max:>7.2}");
}

/// What the disk itself takes for 4 KB and an fdatasync: the least that a commit can cost.
fn disk(folder: &Path) {
    let path = folder.join("raw");
    let file = File::create(&path).unwrap();
    file.write_all_at(&vec![1; 4 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let each = (0..300).map(|n| {
        let start = Instant::now();
        file.write_all_at(&[2; 4096], n * 4096).unwrap();
        file.sync_data().unwrap();
        start.elapsed().as_secs_f64() * 1e3
    });
    report("the disk alone: 4 KB and fdatasync", each.collect());
    std::fs::remove_file(path).unwrap();
}

fn farm(folder: Option<&Path>, duts: u32) -> SimFarm {
    let sim = ["--firmware-from", "5", "--firmware-to", "10", "--no-copies"].map(str::to_owned).to_vec();
    let env = vec![("FARMGATE_LOG".to_owned(), "warn".to_owned())];
    SimFarm::start(&SimOptions { duts, env, sim, state_in: folder.map(Path::to_owned) })
}

/// A job that boots what every machine boots by default: nothing is to be fetched.
fn text(dut: u32, play: &str, name: &str) -> String {
    let text = SimJob::new(dut, play, 1, name).text("");
    let (head, _) = text.split_once("deployment:").unwrap();
    format!(
        "{head}deployment:\n  start:\n    kernel: {{cmdline: [\"sim={play}\", \"sim.seed=1\", \"sim.job={name}\"]}}\n"
    )
}

fn micros() -> i64 {
    Timestamp::now().as_micros()
}

/// Reads a run's stream to its verdict; when that came.
fn read(mut stream: TcpStream) -> i64 {
    let (mut frames, mut buffer) = (FrameReader::default(), vec![0; 64 << 10]);
    loop {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "the stream ends before the verdict");
        let now = micros();
        frames.push(&buffer[..n]);
        while let Some(message) = frames.next_message().unwrap() {
            if let Payload::SessionEnd { status, .. } = message.payload {
                assert_eq!(status, JobStatus::Pass);
                return now;
            }
        }
    }
}

/// The last time that a machine's journal has an event, and, of commands, one of ON.
fn last(farm: &SimFarm, dut: u32, event: &str) -> i64 {
    let journal = farm.journal();
    let is = |line: &&Value| {
        line["dut"] == dut && line["event"] == event && (event != "command" || line["on"] == true)
    };
    journal.iter().rev().find(is).and_then(|line| line["t"].as_i64()).unwrap_or_default()
}

/// One run; from the end of the POST to ON, and from the machine's last words to the verdict, in ms.
fn one(farm: &SimFarm, dut: u32, name: &str) -> (f64, f64) {
    let text = text(dut, "brief", name);
    let sent = micros();
    let (_, stream) = submit(farm.api(), name, &text, &json!({"version": 1, "wait": true})).unwrap();
    let told = read(stream);
    let ms = |from: i64, to: i64| (to - from) as f64 / 1e3;
    (ms(sent, last(farm, dut, "command")), ms(last(farm, dut, "quiet"), told))
}

fn latencies(farm: &SimFarm, what: &str, duts: std::ops::RangeInclusive<u32>, runs: u64) {
    let (mut on, mut end) = (Vec::new(), Vec::new());
    let count = u64::from(duts.end() - duts.start() + 1);
    for run in 0..runs {
        let dut = duts.start() + u32::try_from(run % count).unwrap();
        let (to_on, to_end) = one(farm, dut, &format!("{what}-{run}"));
        on.push(to_on);
        end.push(to_end);
    }
    report(&format!("{what}: POST to ON"), on);
    report(&format!("{what}: last line to session_end"), end);
}

fn idle(folder: Option<&Path>) {
    let farm = farm(folder, 10);
    disk(&farm.state());
    let runs = number("FARMGATE_BENCH_RUNS", 300);
    // The first runs warm up.
    for dut in 1..=10 {
        one(&farm, dut, &format!("warm-{dut}"));
    }
    std::thread::sleep(Duration::from_secs(1));
    latencies(&farm, "idle", 1..=10, runs);
    next_job(&farm, runs / 3);
    disk(&farm.state());
}

/// From the end of the off delay of one job to the ON of the next that waits for the machine.
fn next_job(farm: &SimFarm, runs: u64) {
    const OFF_DELAY: i64 = 200_000; // as `simduts` writes it into the farm file
    let mut each = Vec::new();
    for run in 0..runs {
        let dut = u32::try_from(run % 10).unwrap() + 1;
        let metadata = json!({"version": 1, "wait": true});
        let go = |name: String| submit(farm.api(), &name, &text(dut, "brief", &name), &metadata).unwrap().1;
        let (first, second) = (go(format!("first-{run}")), go(format!("second-{run}")));
        read(first);
        let mut off = 0;
        wait_for("OFF", || {
            off = last(farm, dut, "off");
            off > 0
        });
        // Of the first job: the second's machine is not on before its delay is over.
        read(second);
        let journal = farm.journal();
        let own: Vec<&Value> = journal.iter().filter(|line| line["dut"] == dut).collect();
        let time = |line: &Value| line["t"].as_i64().unwrap_or_default();
        let on = own.iter().rposition(|l| l["event"] == "command" && l["on"] == true).unwrap();
        let off = own[..on].iter().rev().find(|line| line["event"] == "off").map(|line| time(line)).unwrap();
        each.push((time(own[on]) - off - OFF_DELAY) as f64 / 1e3);
    }
    report("end of the off delay to the next job's ON", each);
}

fn streams(folder: Option<&Path>) {
    let streams = u32::try_from(number("FARMGATE_BENCH_STREAMS", 200)).unwrap();
    let farm = farm(folder, streams + 10);
    for dut in 1..=10 {
        one(&farm, dut, &format!("warm-{dut}"));
    }
    let clients: Vec<_> = (11..=streams + 10)
        .map(|dut| {
            let name = format!("stream-{dut}");
            let metadata = json!({"version": 1, "wait": true});
            let (_, stream) = submit(farm.api(), &name, &text(dut, "stream:60", &name), &metadata).unwrap();
            std::thread::spawn(move || read(stream))
        })
        .collect();
    wait_for("all stream", || {
        let journal = farm.journal();
        journal.iter().filter(|line| line["event"] == "booted" && line["dut"].as_u64() > Some(10)).count()
            == clients.len()
    });
    let before = cpu(farm.gateway_pid().unwrap());
    let begun = Instant::now();
    let busy = || clients.iter().filter(|client| !client.is_finished()).count();
    let mut runs = 0;
    let (mut on, mut end) = (Vec::new(), Vec::new());
    while busy() == clients.len() && runs < number("FARMGATE_BENCH_RUNS", 300) {
        let (to_on, to_end) = one(&farm, u32::try_from(runs % 10).unwrap() + 1, &format!("beside-{runs}"));
        on.push(to_on);
        end.push(to_end);
        runs += 1;
    }
    let used = (cpu(farm.gateway_pid().unwrap()) - before) / begun.elapsed().as_secs_f64();
    println!("{streams} runs stream 11.5 KB/s each; the gateway takes {:.0} % of a core", used * 100.0);
    report(&format!("beside {streams} streams: POST to ON"), on);
    report(&format!("beside {streams} streams: last line to session_end"), end);
    for client in clients {
        client.join().unwrap();
    }
}

/// Seconds of processor time that a process used.
fn cpu(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = text.rsplit_once(')').unwrap();
    let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap()).collect();
    // USER_HZ is 100 on Linux.
    ticks.iter().sum::<u64>() as f64 / 100.0
}

/// Resident memory, MB.
fn memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn thousand(folder: Option<&Path>) {
    let mut farm = farm(folder, 1000);
    let pid = farm.gateway_pid().unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let (before, begun) = (cpu(pid), Instant::now());
    std::thread::sleep(Duration::from_secs(20));
    let used = (cpu(pid) - before) / begun.elapsed().as_secs_f64();
    println!("1000 machines at 4 PDUs, idle: {} MB, {:.1} % of a core", memory(pid), used * 100.0);
    let empty = restarts(&mut farm);
    report("1000 machines: start to the first answer", empty);
    farm.kill_gateway();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fill(&farm.state()));
    farm.start_gateway();
    let full = restarts(&mut farm);
    report("the same with 100,000 past jobs", full);
    println!("{} MB", memory(farm.gateway_pid().unwrap()));
}

fn restarts(farm: &mut SimFarm) -> Vec<f64> {
    let mut each = Vec::new();
    for _ in 0..5 {
        farm.kill_gateway();
        each.push(farm.start_gateway().as_secs_f64() * 1e3);
        farm.wait_until_idle();
    }
    each
}

/// A history of 100,000 jobs.
async fn fill(state: &Path) {
    let store = Store::open(&state.join("state.db"), Retention::default()).unwrap();
    for first in (1..=100_000_u64).step_by(500) {
        store.write((first..first + 500).flat_map(|_| past(store.next_run())).collect()).await.unwrap();
    }
    store.close().await;
}

fn past(run: u64) -> Vec<Change> {
    let machine = DutId::from(MacAddress([0x52, 0x54, 0, 0x11, 0x22, (run % 200) as u8 + 1]));
    let new = NewRun {
        number: run,
        kind: "job".to_owned(),
        dut: Some(machine),
        created: Timestamp::now(),
        name: "job.yml".to_owned(),
        text: "version: 1 # a job of the usual length\n".repeat(50),
        metadata: json!({}),
        priority: "default".to_owned(),
        submitter: "local".to_owned(),
        state: RunState::Queued,
        spec: None,
        variables: json!({}),
        console_from: Some(0),
        resume_token_hash: None,
        client: Value::Null,
    };
    let event = |seq: u64| Change::Event {
        run,
        seq,
        time: Timestamp::now(),
        console: seq * 100,
        body: json!({"msg": "the machine asked for its boot script", "severity": 1, "tag": 302}),
    };
    let finish = Change::Finish {
        run,
        ended: Timestamp::now(),
        status: JobStatus::Pass,
        cause: json!({"kind": "test_passed"}),
        summary: "the session ended".to_owned(),
        outcome: json!({"status": "PASS", "cause": {"kind": "test_passed"}, "summary": "", "attempts": []}),
        console_to: 1000,
        kept: Kept::default(),
    };
    std::iter::once(new.into()).chain((1..=5).map(event)).chain([finish]).collect()
}
