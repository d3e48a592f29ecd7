//! `kill -9` of the gateway: every run goes on to the verdict that it would have had, no byte of a console is lost, no
//! outlet is switched without need. The oracle is the same job with the same seed and no kill; what outlets and
//! machines saw is told by themselves.
//!
//! `FARMGATE_SURVIVE_KILLS` (50), `FARMGATE_SURVIVE_SEED` (from the clock, printed) for longer or repeated runs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails, in its helpers too

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::{SocketAddr, TcpStream},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use farmgate_e2e::simfarm::{
    BOUND, SimFarm, SimOptions, http,
    job::{SimJob, submit},
    verdict::Verdict,
    wait_for,
};
use farmgate_protocol::{
    JobStatus,
    console::{FrameReader, Payload},
};
use farmgate_vivian::sim::{outlet::Faults, seed::Seed};
use serde_json::{Value, json};

/// Two cores serve one farm at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => default,
    }
}

fn wait_until_over(farm: &SimFarm, run: u64) {
    wait_for(&format!("run {run} is over"), || farm.get(&format!("job/{run}"))["state"] == "finished");
}

/// Whether the journal has this event of a machine, `after` lines in.
fn happened(farm: &SimFarm, after: usize, dut: u32, event: &str) -> bool {
    farm.journal().iter().skip(after).any(|line| line["dut"] == dut && line["event"] == event)
}

/// Does a job once with a kill when `is_time` says so, and once without; both must come to the same.
fn killed(farm: &mut SimFarm, phase: &str, job: &SimJob, mut at: impl FnMut(&mut SimFarm, usize)) -> Verdict {
    let reference = {
        let run = farm.submit(&SimJob {
            name: format!("{phase}-reference"),
            served: "ok".to_owned(),
            ..job.clone()
        });
        wait_until_over(farm, run);
        farm.verdict(run)
    };
    let before = farm.journal().len();
    let run = farm.submit(&SimJob { name: format!("{phase}-killed"), ..job.clone() });
    at(farm, before);
    wait_until_over(farm, run);
    let verdict = farm.verdict(run);
    assert_eq!(verdict.differs(&reference), None, "killed in the phase {phase}");
    assert_eq!(verdict.status, "PASS", "{phase}");
    // An answer of the journal for this run alone.
    let ons = farm.journal().iter().skip(before).filter(|line| line["event"] == "on").count();
    assert_eq!(ons, verdict.attempts.len(), "switched on once for each boot: {phase}");
    verdict
}

fn restart(farm: &mut SimFarm) {
    farm.kill_gateway();
    farm.start_gateway();
}

#[test]
fn a_gateway_that_is_killed_in_any_phase_of_a_run_comes_back_to_the_same_verdict() {
    let _alone = alone();
    let sim = ["--off-delay", "1.5", "--firmware-boot-time", "0.3"].map(str::to_owned).to_vec();
    let mut farm = SimFarm::start(&SimOptions { duts: 1, sim, ..SimOptions::default() });
    // What tells when a firmware is late is not what this is about.
    let job = SimJob::new(1, "pass", 11, "").timeout("firmware_boot: {minutes: 2}");
    let faults = |change: fn(&mut Faults)| {
        let mut faults = Faults::default();
        change(&mut faults);
        faults
    };

    let held = SimJob { served: "hold".to_owned(), ..job.clone() };
    farm.hold_artifacts(true);
    killed(&mut farm, "setup", &held, |farm, _| {
        let phase =
            |farm: &SimFarm| farm.runs().last().map(|run| run.0).map(|run| farm.get(&format!("job/{run}")));
        wait_for("setup", || phase(farm).is_some_and(|run| run["phase"] == "setup"));
        farm.kill_gateway();
        farm.hold_artifacts(false);
        farm.start_gateway();
    });
    killed(&mut farm, "off-wait", &job, |farm, before| {
        wait_for("OFF", || happened(farm, before, 1, "command"));
        assert!(!happened(farm, before, 1, "on"), "it waits for its off delay");
        restart(farm);
    });
    farm.set_faults(1, &faults(|f| f.slow_boot = 700));
    killed(&mut farm, "boot", &job, |farm, before| {
        wait_for("the kernel is there", || happened(farm, before, 1, "kernel"));
        restart(farm);
    });
    farm.set_faults(1, &Faults::default());
    killed(&mut farm, "console", &job, |farm, before| {
        wait_for("half of the session", || happened(farm, before, 1, "half"));
        restart(farm);
    });
    farm.set_faults(1, &faults(|f| f.slow_off = 1000));
    killed(&mut farm, "teardown", &job, |farm, before| {
        wait_for("the machine's last words", || happened(farm, before, 1, "quiet"));
        let off = |farm: &SimFarm| {
            let journal = farm.journal();
            let quiet = journal.iter().rposition(|line| line["event"] == "quiet").unwrap_or(usize::MAX);
            journal.iter().skip(quiet).any(|line| line["event"] == "holds")
        };
        wait_for("the last OFF is on its way", || off(farm));
        restart(farm);
    });

    // The one exception: a firmware that does not try again lost the files that were being served. Its boot is repeated.
    farm.set_faults(1, &faults(|f| (f.slow_boot, f.fragile) = (700, true)));
    let lost = killed(&mut farm, "served-boot", &job, |farm, before| {
        wait_for("the kernel is there", || happened(farm, before, 1, "kernel"));
        farm.kill_gateway();
        wait_for("the firmware gave up", || happened(farm, before, 1, "lost"));
        farm.start_gateway();
    });
    assert_eq!(lost.lost(), 1, "{lost:?}");
    assert_eq!(farm.states(), ["IDLE"]);
}

/// What each machine does in the long test, and what it takes to end.
fn plays() -> Vec<SimJob> {
    // Longer than the gateway is ever away, so that only a machine that hangs is silent for so long.
    const SILENT: &str = "console_activity: {seconds: 12, retries: 1}";
    let one = |play: &str, timeouts: &[&str]| {
        let job = SimJob::new(0, play, 0, "");
        timeouts.iter().fold(job, |job, line| job.timeout(line))
    };
    vec![
        one("pass", &[]),
        one("fail", &[]),
        one("warn", &[]),
        one("reboot:2", &[]),
        one("watchdog-ok", &[]),
        one("slow:4", &[]),
        one("flood:1", &[]),
        one("binary", &[]),
        one("stream:4", &[]),
        one("end", &[]),
        one("watchdog", &["watchdogs: {sim: {seconds: 3, retries: 1}}"]),
        one("wrongfirst:1", &[SILENT]),
        one("trapfail:1", &[SILENT]),
        one("trap", &["console_activity: {seconds: 12}"]),
        // This one's firmware never asks for anything.
        one("pass", &["firmware_boot: {seconds: 3, retries: 1}"]),
    ]
}

/// A farm in which machine N plays the N-th of [`plays`], again and again.
struct Shelf {
    farm: SimFarm,
    seed: u64,
    submitted: BTreeMap<u32, u64>,
}

impl Shelf {
    fn start(seed: u64) -> Self {
        let duts = u32::try_from(plays().len()).unwrap();
        let farm = SimFarm::start(&SimOptions { duts, ..SimOptions::default() });
        farm.set_faults(duts, &Faults { noboot: u32::MAX, ..Faults::default() });
        Self { farm, seed, submitted: BTreeMap::new() }
    }

    fn job(&self, dut: u32, name: String) -> SimJob {
        SimJob { dut, seed: self.seed + u64::from(dut), name, ..plays()[dut as usize - 1].clone() }
    }

    fn submit(&mut self, dut: u32) {
        let number = self.submitted.entry(dut).or_default();
        *number += 1;
        let job = self.job(dut, format!("{dut}-{}", self.submitted[&dut]));
        self.farm.submit(&job);
    }

    /// Every machine has a job, and one that waits.
    fn top_up(&mut self) {
        let mut open: BTreeMap<u32, u32> = BTreeMap::new();
        for (_, name, _, over) in self.farm.runs() {
            if !over {
                *open.entry(dut_of(&name)).or_default() += 1;
            }
        }
        for dut in 1..=self.farm.duts() {
            for _ in open.get(&dut).copied().unwrap_or_default()..2 {
                self.submit(dut);
            }
        }
    }

    fn wait_until_over(&self) {
        wait_for("all runs are over", || self.farm.runs().iter().all(|(.., over)| *over));
    }

    /// All verdicts in the order of the runs.
    fn verdicts(&self) -> Vec<(u32, Verdict)> {
        self.farm.runs().iter().map(|(run, name, ..)| (dut_of(name), self.farm.verdict(*run))).collect()
    }
}

fn dut_of(name: &str) -> u32 {
    name.split('-')
        .next()
        .and_then(|dut| dut.parse().ok())
        .unwrap_or_else(|| panic!("{name} is no name of ours"))
}

/// A client that reads a run's stream to its end and comes back whenever the connection breaks.
struct Reader {
    console: Vec<u8>,
    last_seq: u64,
    status: Option<JobStatus>,
    returns: u32,
}

impl Reader {
    fn spawn(api: SocketAddr, run: u64, stream: TcpStream) -> JoinHandle<Self> {
        thread::spawn(move || {
            let mut reader = Self { console: Vec::new(), last_seq: 0, status: None, returns: 0 };
            let mut stream = Some(stream);
            let begun = std::time::Instant::now();
            while reader.status.is_none() && begun.elapsed() < BOUND {
                match stream.take().or_else(|| reader.attach(api, run)) {
                    Some(mut connection) => reader.read(&mut connection),
                    None => thread::sleep(Duration::from_millis(50)),
                }
            }
            reader
        })
    }

    fn attach(&mut self, api: SocketAddr, run: u64) -> Option<TcpStream> {
        let path = format!("/api/v1/job/{run}/attach?console={}&event={}", self.console.len(), self.last_seq);
        let headers = [("Connection", "Upgrade"), ("Upgrade", "ci-tron-console")];
        let (answer, stream) = http::request(api, "POST", &path, &headers, &[]).ok()?;
        assert_eq!(answer.status, 101, "{path}: {}", String::from_utf8_lossy(&answer.body));
        self.returns += 1;
        Some(stream)
    }

    /// To the end of the run or of the connection.
    fn read(&mut self, stream: &mut TcpStream) {
        let mut frames = FrameReader::default();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            frames.push(&buffer[..n]);
            while let Some(message) = frames.next_message().expect("frames of the protocol") {
                match message.payload {
                    Payload::JobIo(bytes) => self.console.extend_from_slice(&bytes),
                    Payload::Control(control) => {
                        let seq = control.metadata["seq"].as_u64().expect("each message has its number");
                        assert_eq!(seq, self.last_seq + 1, "none is missing, none comes twice: {control:?}");
                        self.last_seq = seq;
                    }
                    Payload::SessionEnd { status, .. } => {
                        self.status = Some(status);
                        return;
                    }
                }
            }
        }
    }
}

#[test]
fn fifty_kills_at_random_moments_change_no_verdict_no_console_and_no_outlet() {
    let _alone = alone();
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (seed, kills) = (number("FARMGATE_SURVIVE_SEED", clock), number("FARMGATE_SURVIVE_KILLS", 50));
    eprintln!("FARMGATE_SURVIVE_SEED={seed} FARMGATE_SURVIVE_KILLS={kills}");
    let mut dice = Seed::new(seed);

    let mut shelf = Shelf::start(seed);
    for dut in 1..=shelf.farm.duts() {
        shelf.submit(dut);
    }
    shelf.wait_until_over();
    let reference: BTreeMap<u32, Verdict> = shelf.verdicts().into_iter().collect();
    let words: Vec<&str> = reference.values().map(|v| v.status.as_str()).collect();
    assert_eq!(
        words,
        [
            "PASS",
            "FAIL",
            "WARN",
            "PASS",
            "PASS",
            "PASS",
            "PASS",
            "PASS",
            "PASS",
            "FAIL",
            "INCOMPLETE",
            "PASS",
            "FAIL",
            "INCOMPLETE",
            "INCOMPLETE"
        ],
        "the reference itself: {:?}",
        reference.values().map(|v| &v.summary).collect::<Vec<_>>()
    );
    assert_eq!(shelf.farm.compare_with_journal(&shelf.verdicts()), Vec::<String>::new(), "without any kill");

    let mut readers: BTreeMap<u64, JoinHandle<Reader>> = BTreeMap::new();
    let mut away = Duration::ZERO;
    for kill in 0..kills {
        shelf.top_up();
        // One run of its own with a client that listens from its beginning to its end.
        if readers.values().all(JoinHandle::is_finished) {
            let dut = u32::try_from(dice.between(1, u64::from(shelf.farm.duts()))).unwrap();
            let job = shelf.job(dut, format!("{dut}-read-{kill}"));
            let metadata = json!({"version": 1, "wait": true, "detach": true});
            let text = job.text(&shelf.farm.artifacts());
            let (run, stream) = submit(shelf.farm.api(), &job.name, &text, &metadata).unwrap();
            readers.insert(run, Reader::spawn(shelf.farm.api(), run, stream));
        }
        // Somebody submits in the very moment of the kill: accepted means that the run exists.
        let hasty = (kill % 4 == 0).then(|| {
            let dut = u32::try_from(dice.between(1, 3)).unwrap();
            let job = shelf.job(dut, format!("{dut}-hasty-{kill}"));
            let (api, text) = (shelf.farm.api(), job.text(&shelf.farm.artifacts()));
            thread::spawn(move || {
                submit(api, &job.name, &text, &json!({"version": 1, "wait": true, "detach": true}))
                    .map(|(run, _)| run)
            })
        });
        let up = if hasty.is_some() { dice.between(0, 30) } else { dice.between(0, 1500) };
        thread::sleep(Duration::from_millis(up));
        shelf.farm.kill_gateway();
        thread::sleep(Duration::from_millis(dice.between(0, 200)));
        away = away.max(shelf.farm.start_gateway());
        if let Some(Ok(run)) = hasty.map(|thread| thread.join().unwrap()) {
            assert_eq!(
                shelf.farm.try_get(&format!("job/{run}")).status,
                200,
                "it was accepted, so it exists"
            );
        }
    }
    shelf.wait_until_over();
    shelf.farm.wait_until_idle();

    let runs = shelf.verdicts();
    let mut wrong: Vec<String> = Vec::new();
    for (dut, verdict) in &runs {
        if let Some(difference) = verdict.differs(&reference[dut]) {
            wrong.push(format!("machine {dut} ({}): {difference}", plays()[*dut as usize - 1].play));
        }
    }
    wrong.extend(shelf.farm.compare_with_journal(&runs));
    let mut returns = 0;
    for (run, reader) in readers {
        let reader = reader.join().unwrap();
        let verdict = shelf.farm.verdict(run);
        returns += reader.returns;
        if reader.console != verdict.console {
            wrong.push(format!(
                "a client of run {run} has {} bytes of {}",
                reader.console.len(),
                verdict.console.len()
            ));
        }
        if reader.status.map(|s| s.to_string()) != Some(verdict.status.clone()) {
            wrong.push(format!("a client of run {run} was told {:?}, not {}", reader.status, verdict.status));
        }
    }
    let lost: usize = runs.iter().map(|(_, verdict)| verdict.lost()).sum();
    let again = |line: &&Value| line["event"] == "command" && line["on"] == true && line["was"] == true;
    let redundant = shelf.farm.journal().iter().filter(again).count();
    eprintln!(
        "{kills} kills, {} runs, {lost} boots repeated, {redundant} ON to an outlet that was on, clients came back {returns} times, longest start {away:?}",
        runs.len()
    );
    assert!(wrong.is_empty(), "seed {seed}: {} faults:\n{}", wrong.len(), wrong.join("\n"));
    assert!(returns > 0, "no client lost its connection: nothing was shown");
}

/// The moments around ON are the shortest of a run, and the ones in which a step that is not stored yet costs most.
#[test]
fn a_gateway_that_is_killed_while_it_switches_idle_machines_on_switches_none_twice() {
    const MACHINES: u32 = 24;
    let _alone = alone();
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (seed, kills) = (number("FARMGATE_SURVIVE_SEED", clock), number("FARMGATE_SURVIVE_KILLS", 50) / 4);
    eprintln!("FARMGATE_SURVIVE_SEED={seed}");
    let mut dice = Seed::new(seed);
    let mut farm = SimFarm::start(&SimOptions {
        duts: MACHINES,
        sim: ["--firmware-from", "0", "--firmware-to", "5"].map(str::to_owned).to_vec(),
        ..SimOptions::default()
    });
    let job =
        |dut: u32, name: &str| SimJob::new(dut, "pass", seed + u64::from(dut), &format!("{dut}-{name}"));
    for dut in 1..=MACHINES {
        farm.submit(&job(dut, "reference"));
    }
    let over = |farm: &SimFarm| farm.runs().iter().all(|(.., over)| *over);
    wait_for("the references", || over(&farm));
    for kill in 0..kills {
        farm.wait_until_idle();
        // Longer than their off delay: they may be switched on at once.
        thread::sleep(Duration::from_millis(300));
        let threads: Vec<_> = (1..=MACHINES)
            .map(|dut| {
                let job = job(dut, &format!("kill{kill}"));
                let (api, text) = (farm.api(), job.text(&farm.artifacts()));
                let metadata = json!({"version": 1, "wait": true, "detach": true});
                // Those after the kill are refused: that is fine.
                thread::spawn(move || submit(api, &job.name, &text, &metadata).is_ok())
            })
            .collect();
        thread::sleep(Duration::from_millis(dice.between(30, 700)));
        farm.kill_gateway();
        farm.start_gateway();
        let accepted =
            threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|accepted| *accepted).count();
        let exist = farm.runs().iter().filter(|(_, name, ..)| name.ends_with(&format!("kill{kill}"))).count();
        assert!(exist >= accepted, "{accepted} jobs were accepted, {exist} exist");
        wait_for("all runs are over", || over(&farm));
    }
    let runs: Vec<(u32, Verdict)> =
        farm.runs().iter().map(|(run, name, ..)| (dut_of(name), farm.verdict(*run))).collect();
    let mut reference: BTreeMap<u32, &Verdict> = BTreeMap::new();
    let mut wrong = farm.compare_with_journal(&runs);
    for (dut, verdict) in &runs {
        let reference = reference.entry(*dut).or_insert(verdict);
        wrong.extend(verdict.differs(reference).map(|difference| format!("machine {dut}: {difference}")));
    }
    eprintln!("{kills} kills, {} runs", runs.len());
    assert!(wrong.is_empty(), "seed {seed}: {} faults:\n{}", wrong.len(), wrong.join("\n"));
}
