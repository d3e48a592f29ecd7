//! Verdicts do not lie: many runs with faults of the PDU, the boot, the console, the artifacts and the gateway itself,
//! each with the verdict and the cause that it must have.
//!
//! `FARMGATE_FAULT_RUNS` (300), `FARMGATE_FAULT_DUTS` (30), `FARMGATE_FAULT_SEED` (from the clock, printed). From 2000
//! runs on, faults that take minutes belong to it too.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails, in its helpers too

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant, SystemTime},
};

use farmgate_e2e::simfarm::{SimFarm, SimOptions, job::SimJob};
use farmgate_vivian::sim::{outlet::Faults, seed::Seed};

/// Outlets of one PDU: several PDUs, so that one which is away leaves others.
const OUTLETS: u32 = 10;

/// A kind of run: what happens, and what it must come to.
struct Kind {
    name: &'static str,
    /// How often among all.
    weight: u64,
    play: &'static str,
    more: &'static str,
    served: &'static str,
    timeouts: &'static [&'static str],
    faults: Faults,
    status: &'static str,
    cause: &'static str,
    /// It takes minutes.
    slow: bool,
}

fn kind(
    name: &'static str,
    weight: u64,
    play: &'static str,
    status: &'static str,
    cause: &'static str,
) -> Kind {
    Kind {
        name,
        weight,
        play,
        more: "",
        served: "ok",
        timeouts: &[],
        faults: Faults::default(),
        status,
        cause,
        slow: false,
    }
}

/// Longer than the gateway is ever away.
const SILENT: &[&str] = &["console_activity: {seconds: 15}"];
const SILENT_TWICE: &[&str] = &["console_activity: {seconds: 15, retries: 1}"];
const FIRMWARE: &[&str] = &["firmware_boot: {seconds: 8, retries: 3}"];
const NO_FIRMWARE: &[&str] = &["firmware_boot: {seconds: 3, retries: 1}"];

fn kinds() -> Vec<Kind> {
    let passes = |name, weight, play| kind(name, weight, play, "PASS", "test_passed");
    let no_artifact =
        |name, weight, served, cause| Kind { served, ..kind(name, weight, "pass", "SETUP_FAIL", cause) };
    let infra = "infrastructure";
    vec![
        passes("none", 40, "pass"),
        kind("the test fails", 20, "fail", "FAIL", "test_failed"),
        kind("the test ends without a word", 5, "end", "FAIL", "test_failed"),
        kind("the test warns", 6, "warn", "WARN", "test_passed"),
        passes("the job reboots", 5, "reboot:1"),
        passes("a watchdog that is stopped", 3, "watchdog-ok"),
        passes("1 MB of console", 2, "flood:1"),
        passes("a console of no text", 3, "binary"),
        Kind { timeouts: SILENT, ..kind("the machine hangs", 4, "hang", "INCOMPLETE", "timeout") },
        Kind { timeouts: SILENT, ..kind("the kernel panics", 3, "panic", "INCOMPLETE", "timeout") },
        Kind { timeouts: SILENT, ..kind("hangs after success", 4, "trap", "INCOMPLETE", "timeout") },
        Kind { timeouts: SILENT_TWICE, ..passes("hangs after success, then passes", 4, "wrongfirst:1") },
        Kind {
            timeouts: SILENT_TWICE,
            ..kind("hangs after success, then fails", 4, "trapfail:1", "FAIL", "test_failed")
        },
        Kind {
            timeouts: &["watchdogs: {sim: {seconds: 3}}"],
            ..kind("a watchdog bites", 4, "watchdog", "INCOMPLETE", "timeout")
        },
        kind("the machine is unfit", 2, "unfit", "INCOMPLETE", infra),
        Kind {
            faults: Faults { ignore_on: 1, ..Faults::default() },
            ..passes("the PDU loses an ON", 5, "pass")
        },
        Kind {
            faults: Faults { ignore_off: 1, ..Faults::default() },
            ..passes("the PDU loses an OFF", 5, "pass")
        },
        Kind {
            faults: Faults { refuse: 2, ..Faults::default() },
            ..passes("the PDU refuses twice", 5, "pass")
        },
        Kind {
            faults: Faults { stuck: true, ..Faults::default() },
            slow: true,
            ..kind("the outlet is stuck OFF", 1, "pass", "SETUP_FAIL", infra)
        },
        Kind {
            faults: Faults { noboot: 1, ..Faults::default() },
            timeouts: FIRMWARE,
            ..passes("one boot does not boot", 4, "pass")
        },
        Kind {
            faults: Faults { noboot: u32::MAX, ..Faults::default() },
            timeouts: NO_FIRMWARE,
            ..kind("no boot boots", 5, "pass", "INCOMPLETE", infra)
        },
        Kind { more: "sim.console=drop-back", ..passes("the console breaks and comes back", 4, "pass") },
        Kind {
            more: "sim.console=drop",
            timeouts: SILENT,
            ..kind("the console breaks for good", 3, "pass", "INCOMPLETE", "timeout")
        },
        no_artifact("artifact: 404", 4, "404", "job_error"),
        no_artifact("artifact: 500", 4, "500", infra),
        no_artifact("artifact: half a file", 4, "half", infra),
        Kind {
            timeouts: &["infra_setup: {seconds: 4}"],
            ..no_artifact("artifact: stalls", 4, "stall", "timeout")
        },
    ]
}

/// What a kind of run came to, and how often.
type Table = BTreeMap<usize, BTreeMap<(String, String), u64>>;

struct Campaign {
    farm: SimFarm,
    kinds: Vec<Kind>,
    dice: Seed,
    /// Kinds that are still to be run.
    plan: Vec<usize>,
    /// What runs on each machine: run, kind.
    running: BTreeMap<u32, (u64, usize)>,
    table: Table,
    restarts: u64,
    pdus_away: u64,
    examples: Vec<String>,
}

impl Campaign {
    fn start(runs: u64, duts: u32, seed: u64) -> Self {
        let env = [
            ("SERGENT_HARTMAN_BOOT_COUNT", "1"),
            ("SERGENT_HARTMAN_QUALIFYING_BOOT_COUNT", "1"),
            ("SERGENT_HARTMAN_REGISTRATION_RETRIAL_DELAY", "1"),
            ("FARMGATE_LOG", "warn"),
        ];
        let farm = SimFarm::start(&SimOptions {
            duts,
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            sim: ["--outlets".to_owned(), OUTLETS.to_string(), "--no-copies".to_owned()].into(),
            state_in: None,
        });
        let kinds: Vec<Kind> = kinds().into_iter().filter(|kind| runs >= 2000 || !kind.slow).collect();
        let mut dice = Seed::new(seed);
        let bag: Vec<usize> = kinds
            .iter()
            .enumerate()
            .flat_map(|(n, kind)| vec![n; usize::try_from(kind.weight).unwrap()])
            .collect();
        // Each kind at least once.
        let mut plan: Vec<usize> = (0..kinds.len()).collect();
        plan.extend((plan.len() as u64..runs).filter_map(|_| dice.one_of(&bag).copied()));
        plan.truncate(usize::try_from(runs).unwrap());
        // What takes longest goes first.
        plan.sort_by_key(|n| kinds[*n].slow);
        Self {
            farm,
            kinds,
            dice,
            plan,
            running: BTreeMap::new(),
            table: Table::new(),
            restarts: 0,
            pdus_away: 0,
            examples: Vec::new(),
        }
    }

    fn submit_to_the_free(&mut self) {
        let mut given: Vec<(SimJob, usize)> = Vec::new();
        if self.plan.is_empty() {
            return;
        }
        let states = self.farm.states();
        for dut in 1..=self.farm.duts() {
            // The faults of a job are not for the training of a machine that was unfit.
            if self.running.contains_key(&dut) || states[dut as usize - 1] != "IDLE" {
                continue;
            }
            let Some(number) = self.plan.pop() else { break };
            let (kind, left) = (&self.kinds[number], self.plan.len());
            let job = SimJob {
                dut,
                play: kind.play.to_owned(),
                seed: self.dice.number() >> 1,
                name: format!("{left}"),
                more: kind.more.to_owned(),
                // A URL of its own, or an older copy would do.
                served: if kind.served == "ok" { "ok".to_owned() } else { format!("{}/{left}", kind.served) },
                timeouts: kind.timeouts.iter().map(|line| (*line).to_owned()).collect(),
            };
            given.push((job, number));
        }
        let (farm, kinds) = (&self.farm, &self.kinds);
        let started: Vec<(u32, (u64, usize))> = thread::scope(|scope| {
            let threads = given.iter().map(|(job, number)| {
                scope.spawn(move || {
                    farm.set_faults(job.dut, &kinds[*number].faults);
                    (job.dut, (farm.submit(job), *number))
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        self.running.extend(started);
    }

    fn take_the_finished(&mut self) {
        let page = self.farm.get("jobs?state=finished&limit=300");
        let mut rows = page["jobs"].as_array().cloned().unwrap_or_default();
        // Those that take long are no longer on the first page when they end.
        let oldest = rows.last().and_then(|row| row["id"].as_u64()).unwrap_or_default();
        let old = self.running.values().map(|(run, _)| *run).filter(|run| *run < oldest);
        let old =
            old.map(|run| self.farm.get(&format!("job/{run}"))).filter(|run| run["state"] == "finished");
        rows.extend(old);
        for row in rows {
            let dut = self.running.iter().find(|(_, (run, _))| row["id"] == *run).map(|(dut, _)| *dut);
            let Some((dut, (run, number))) = dut.and_then(|dut| Some((dut, self.running.remove(&dut)?)))
            else {
                continue;
            };
            self.farm.set_faults(dut, &Faults::default());
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let kind = &self.kinds[number];
            let came_to = (text("status"), text("cause"));
            if (came_to.0.as_str(), came_to.1.as_str()) != (kind.status, kind.cause) {
                self.examples.push(format!(
                    "run {run}, {}: {} {}: {}",
                    kind.name,
                    came_to.0,
                    came_to.1,
                    text("summary")
                ));
            }
            *self.table.entry(number).or_default().entry(came_to).or_default() += 1;
        }
    }

    fn run(&mut self) {
        let all = self.plan.len();
        // The slowest kinds take three minutes; 5 runs a second is slow even for a busy machine without optimisation.
        let bound = Duration::from_secs(300) + Duration::from_millis(400) * u32::try_from(all).unwrap();
        let begun = Instant::now();
        let mut restart_at = begun + Duration::from_secs(3);
        let mut away_at = begun + Duration::from_secs(2);
        while !self.plan.is_empty() || !self.running.is_empty() {
            assert!(
                begun.elapsed() < bound,
                "{} runs of {all} are not over: {:?}",
                self.running.len(),
                self.running
            );
            self.submit_to_the_free();
            let now = Instant::now();
            if now > away_at {
                let pdu = self.dice.between(1, u64::from(self.farm.duts().div_ceil(OUTLETS)));
                let time = Duration::from_millis(self.dice.between(500, 6000));
                self.farm.pdu_away(u32::try_from(pdu).unwrap(), time);
                self.pdus_away += 1;
                away_at = now + Duration::from_millis(self.dice.between(4000, 12_000));
            }
            // Each start begins the patience with an outlet anew: those runs would never end.
            let only_slow = self.plan.is_empty() && self.running.values().all(|(_, n)| self.kinds[*n].slow);
            if now > restart_at && !only_slow {
                self.farm.kill_gateway();
                self.farm.start_gateway();
                self.restarts += 1;
                restart_at = Instant::now() + Duration::from_millis(self.dice.between(5000, 15_000));
            }
            thread::sleep(Duration::from_millis(100));
            self.take_the_finished();
        }
    }

    /// The table as it stands in the documentation.
    fn markdown(&self) -> String {
        let mut text = String::from("| fault | must come to | came to | runs |\n|---|---|---|---|\n");
        for (number, came_to) in &self.table {
            let kind = &self.kinds[*number];
            for ((status, cause), count) in came_to {
                let must = format!("{}, {}", kind.status, kind.cause);
                text.push_str(&format!("| {} | {must} | {status}, {cause} | {count} |\n", kind.name));
            }
        }
        text
    }

    /// Runs whose end satisfies a condition on what it must be and what it came to.
    fn count(&self, counts: impl Fn(&Kind, &str, &str) -> bool) -> u64 {
        let rows =
            self.table.iter().flat_map(|(n, row)| row.iter().map(|(came_to, count)| (*n, came_to, *count)));
        rows.filter(|(n, (status, cause), _)| counts(&self.kinds[*n], status, cause))
            .map(|(.., count)| count)
            .sum()
    }
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => default,
    }
}

#[test]
fn verdicts_do_not_lie_whatever_fails_around_a_run() {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (runs, duts) = (number("FARMGATE_FAULT_RUNS", 300), number("FARMGATE_FAULT_DUTS", 30));
    let seed = number("FARMGATE_FAULT_SEED", clock);
    eprintln!("FARMGATE_FAULT_SEED={seed} FARMGATE_FAULT_RUNS={runs} FARMGATE_FAULT_DUTS={duts}");
    let mut campaign = Campaign::start(runs, u32::try_from(duts).unwrap(), seed);
    let begun = Instant::now();
    campaign.run();
    let all = campaign.count(|_, _, _| true);
    let good = |status: &str| matches!(status, "PASS" | "WARN" | "COMPLETE");
    let false_pass = campaign.count(|kind, status, _| good(status) && status != kind.status);
    let false_fail = campaign.count(|kind, status, _| status == "FAIL" && kind.status != "FAIL");
    let right = campaign.count(|kind, status, cause| (status, cause) == (kind.status, kind.cause));
    eprintln!(
        "{all} runs in {:.0} s, {} restarts of the gateway, {} times a PDU away: {false_pass} false PASS, \
         {false_fail} faults called FAIL, the right verdict and cause in {right}\n{}",
        begun.elapsed().as_secs_f64(),
        campaign.restarts,
        campaign.pdus_away,
        campaign.markdown()
    );
    let examples: Vec<&String> = campaign.examples.iter().take(20).collect();
    eprintln!("{examples:#?}");
    assert_eq!(all, runs, "every run has its verdict");
    assert_eq!(false_pass, 0, "a false PASS");
    assert_eq!(false_fail, 0, "an infrastructure fault called FAIL");
    assert!(right * 100 >= all * 99, "the right cause in {right} of {all}");
    assert!(campaign.restarts > 0 && campaign.pdus_away > 0, "nothing was restarted: nothing was shown");
}
