//! Transcripts of consoles, replayed as a run would have heard them, with the verdict that each must have.
//!
//! A story (`NAME.story`) tells when which lines of the console (`NAME.log`, as bytes) came, and what the run must make
//! of it; `transcripts/README.md` explains its format. Every story is told three times: as it stands, byte by byte,
//! and with the run stored and restored after each event.
#![allow(clippy::unwrap_used)] // all of it is a test

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use farmgate_job::{Action, BootKind, Event, JobRun, Outcome, RunSpec, Source, TimerId, Variables, resolve};
use farmgate_protocol::{Timestamp, console::Tag};

/// A story, read.
#[derive(Default)]
struct Story {
    learned: Option<Duration>,
    job: String,
    steps: Vec<(f64, String)>,
    expected: Vec<String>,
}

impl Story {
    fn read(text: &str) -> Self {
        let (mut story, mut section) = (Self::default(), "");
        for line in text.lines() {
            match line {
                "job:" | "steps:" | "expected:" => section = line,
                _ if line.starts_with('#') || line.trim().is_empty() => {}
                _ => match section {
                    "job:" => story.job += &format!("{}\n", line.strip_prefix("  ").unwrap()),
                    "expected:" => story.expected.push(line.trim().to_owned()),
                    "steps:" => {
                        let (after, what) = line.trim().split_once(' ').unwrap();
                        let seconds = after.strip_prefix('+').unwrap().parse().unwrap();
                        story.steps.push((seconds, what.to_owned()));
                    }
                    _ => {
                        let seconds = line.strip_prefix("firmware learned ").unwrap();
                        story.learned = Some(Duration::from_secs_f64(seconds.parse().unwrap()));
                    }
                },
            }
        }
        story
    }
}

/// The run and an owner that does what it is told, at once but for power, which takes a second.
struct Stage {
    run: JobRun,
    now: Timestamp,
    timers: BTreeMap<TimerId, Timestamp>,
    console: Vec<u8>,
    read: usize,
    pieces: usize,
    restarts: bool,
    cycling: bool,
    told: Vec<String>,
}

impl Stage {
    fn new(story: &Story, console: Vec<u8>, pieces: usize, restarts: bool) -> Self {
        let job = resolve(&Source { name: "story", text: &story.job }, &Variables::default())
            .unwrap_or_else(|e| panic!("{e}"));
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let (run, actions) = JobRun::new(RunSpec { job, firmware_boot_time: story.learned }, now);
        let (timers, told) = (BTreeMap::new(), Vec::new());
        let mut stage = Self { run, now, timers, console, read: 0, pieces, restarts, cycling: false, told };
        stage.carry_out(actions);
        stage
    }

    fn on(&mut self, event: Event<'_>) {
        if self.restarts {
            let stored = serde_json::to_vec(self.run.state()).unwrap();
            let spec = Arc::new(self.run.spec().clone());
            self.run = JobRun::restore(spec, serde_json::from_slice(&stored).unwrap());
        }
        let actions = self.run.on(event, self.now);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare { .. } => self.on(Event::SetupDone),
                Action::PowerCycle => self.cycling = true,
                Action::PowerOff => self.on(Event::TeardownDone),
                Action::ArmTimer { timer, at } => _ = self.timers.insert(timer, at),
                Action::DisarmTimer { timer } => _ = self.timers.remove(&timer),
                Action::Tell(control) => match control.tag {
                    Tag::PatternMatched => {
                        let names = control.metadata["patterns"].as_array().unwrap();
                        self.told.extend(names.iter().map(|n| format!("matched {}", n.as_str().unwrap())));
                    }
                    Tag::TimeoutHit => {
                        let name = control.metadata["timeout"]["name"].as_str().unwrap();
                        self.told.push(format!("timeout {name}"));
                    }
                    Tag::None => self.told.push(format!("said {}", control.msg)),
                    _ => {}
                },
                Action::UnfitForService { .. } => self.told.push("unfit".to_owned()),
                Action::SetBootPlan { boot } => self.told.push(format!("plan {}", kind(boot))),
                Action::Finish(_) => {}
            }
        }
    }

    /// What the step before had to say came while the machine was still on.
    fn power(&mut self) {
        if std::mem::take(&mut self.cycling) {
            self.on(Event::PowerOff);
            self.now = self.now + Duration::from_secs(1);
            self.on(Event::PowerOn);
        }
    }

    /// Time passes; timers fire when they are due.
    fn wait(&mut self, seconds: f64) {
        self.power();
        let until = self.now + Duration::from_secs_f64(seconds);
        while let Some((timer, at)) =
            self.timers.iter().min_by_key(|(_, at)| **at).map(|(t, at)| (t.clone(), *at))
            && at <= until
        {
            self.timers.remove(&timer);
            self.now = self.now.max(at);
            self.on(Event::Timer { timer });
            self.power();
        }
        self.now = self.now.max(until);
    }

    fn step(&mut self, what: &str) {
        let words: Vec<&str> = what.split(' ').collect();
        match words[..] {
            ["stage", stage] => self.on(Event::BootStage { stage: stage.to_owned() }),
            ["lines", count] => self.lines(count.parse().unwrap()),
            ["bytes", count] => self.say(count.parse().unwrap()),
            ["rest"] => self.say(self.console.len() - self.read),
            ["silence"] => {}
            ["cancel", by] => self.on(Event::Cancel { by: by.to_owned() }),
            ["client", "gone"] => self.on(Event::ClientGone),
            _ => panic!("no such step: {what}"),
        }
    }

    fn lines(&mut self, count: usize) {
        let rest = &self.console[self.read..];
        let bytes: usize = rest.split_inclusive(|b| *b == b'\n').take(count).map(<[u8]>::len).sum();
        self.say(bytes);
    }

    fn say(&mut self, bytes: usize) {
        let said = self.console[self.read..self.read + bytes].to_vec();
        self.read += bytes;
        for piece in said.chunks(self.pieces) {
            self.on(Event::Console { bytes: piece });
        }
    }
}

fn kind(boot: BootKind) -> &'static str {
    match boot {
        BootKind::Start => "start",
        BootKind::Continue => "continue",
    }
}

fn described(outcome: &Outcome) -> Vec<String> {
    let mut all = vec![format!("verdict {} {}", outcome.status, outcome.cause)];
    all.push(format!("summary {}", outcome.summary));
    for attempt in &outcome.attempts {
        let userspace = if attempt.userspace { ", userspace" } else { "" };
        let stage = attempt.last_stage.as_deref().unwrap_or("no stage");
        let (number, boot) = (attempt.number, kind(attempt.boot));
        all.push(format!("attempt {number} {boot}: {} ({stage}{userspace})", attempt.end));
    }
    all
}

/// Lines that are the same after each other are one, with their number.
fn counted(lines: Vec<String>) -> Vec<String> {
    let mut all: Vec<(String, usize)> = Vec::new();
    for line in lines {
        match all.last_mut() {
            Some((last, times)) if *last == line => *times += 1,
            _ => all.push((line, 1)),
        }
    }
    all.into_iter().map(|(line, times)| if times == 1 { line } else { format!("{line} x{times}") }).collect()
}

fn told(story: &Story, console: &[u8], pieces: usize, restarts: bool) -> Vec<String> {
    let mut stage = Stage::new(story, console.to_vec(), pieces, restarts);
    for (seconds, what) in &story.steps {
        stage.wait(*seconds);
        stage.step(what);
    }
    let outcome = stage.run.outcome().cloned();
    assert!(stage.timers.is_empty() || outcome.is_none(), "timers after the end");
    let ends =
        outcome.as_ref().map_or_else(|| vec![format!("no verdict: {:?}", stage.run.phase())], described);
    assert_eq!(stage.read, console.len(), "a story tells all of its console");
    counted(stage.told).into_iter().chain(ends).collect()
}

#[test]
fn consoles_mean_what_their_stories_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".story").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 15, "stories are missing: {names:?}");
    for name in names {
        let story = Story::read(&std::fs::read_to_string(folder.join(format!("{name}.story"))).unwrap());
        let console = std::fs::read(folder.join(format!("{name}.log"))).unwrap();
        let ways = [(usize::MAX, false), (usize::MAX, true), (1, false), (7, false)];
        for (pieces, restarts) in ways {
            let told = told(&story, &console, pieces, restarts);
            assert!(
                told == story.expected,
                "{name}, in pieces of {pieces}, restarted {restarts}:\n  {}\nexpected:\n  {}",
                told.join("\n  "),
                story.expected.join("\n  ")
            );
        }
    }
}
