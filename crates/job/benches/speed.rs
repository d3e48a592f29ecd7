//! How fast consoles are searched, jobs are read, and runs are stored: `cargo bench -p farmgate-job`.
//!
//! The search is a whole run's: what a console said goes in as events. Beside it, in the same minute and on the same
//! lines, one regex after the other in Rust, and Python's `re`, line by line. All times are of the processor.
#![allow(clippy::unwrap_used)] // a bench stops at what it did not expect

use std::{
    fmt::Write as _,
    hint::black_box,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use farmgate_job::{Event, JobRun, RunSpec, RunState, Source, Variables, resolve};
use farmgate_protocol::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Bytes of the console.
const CORPUS: usize = 32 << 20;

/// Bytes that arrive at once, as the console's record gives them.
const CHUNK: usize = 64 << 10;

/// The first ten are a usual job's.
const PATTERNS: [&str; 10] = [
    r"^\[[\d \.]{12}\] reboot: Power [Dd]own\r?$",
    r"GPU hang detected",
    r"Execution is over, pipeline status: 0",
    r"ring .* timeout",
    r"Kernel panic - not syncing: (Fatal|VFS)",
    r"running test \d+ of \d+",
    r"test [\w@-]+ (passed|failed|skipped) in",
    r"all tests are over\r?$",
    r"(?i)out of memory: kill",
    r"nvme\d+: I/O \d+ QID \d+ timeout",
];

const MESSAGES: [&str; 12] = [
    "usb 1-1.4: new high-speed USB device number # using xhci_hcd",
    "pci 0000:0#:00.0: BAR 0: assigned [mem 0xfe00000-0xfe003fff 64bit]",
    "amdgpu 0000:0#:00.0: amdgpu: SMU is initialized successfully!",
    "audit: type=1400 audit(1.#:2): apparmor=\"STATUS\" operation=\"profile_load\" profile=\"unconfined\"",
    "EXT4-fs (nvme0n1p#): mounted filesystem with ordered data mode. Quota mode: none.",
    "systemd[1]: Started session-#.scope - Session # of user root.",
    "[drm] ring gfx_0.0.# uses VM inv eng 0 on hub 0",
    "i2c i2c-#: Successfully instantiated SPD at 0x50",
    "virtio_net virtio#: enp0s2: renamed from eth0",
    "random: crng init done",
    "   #.012345 | Vulkan CTS: dEQP-VK.api.smoke.triangle_# ... ok",
    "clocksource: Switched to clocksource tsc",
];

fn main() {
    println!("console search, MB/s, lines of {} bytes in the mean", mean_line(&console(None)));
    println!("{:<44} {:>8} {:>12} {:>8}", "", "one pass", "one by one", "Python");
    for (count, literal) in [(1, true), (10, true), (30, true), (10, false)] {
        for hits in [None, Some(1000), Some(20)] {
            let (console, patterns) = (console(hits), patterns(count, literal));
            let label = format!(
                "{count} patterns{}, {}",
                if literal { "" } else { ", one without a text" },
                hits.map_or("no line hits".to_owned(), |n| format!("1 line of {n} hits")),
            );
            let (fast, naive) = (one_pass(&console, &patterns), one_by_one(&console, &patterns));
            let python = python(&console, &patterns).map_or("-".to_owned(), |speed| format!("{speed:.0}"));
            println!("{label:<44} {fast:>8.0} {naive:>12.0} {python:>8}");
        }
    }
    println!("\na typical job ({} bytes), microseconds in the median", JOB.len());
    println!("{:<44} {:>8.0}", "render, parse, resolve", median(200, || drop(black_box(job(JOB)))));
    runs();
}

fn runs() {
    let spec = std::sync::Arc::new(RunSpec { job: job(JOB), firmware_boot_time: None });
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let (mut run, _) = JobRun::new(std::sync::Arc::clone(&spec), now);
    for event in [Event::SetupDone, Event::PowerOff, Event::PowerOn] {
        run.on(event, now);
    }
    run.on(Event::Console { bytes: b"farmgate.stage=userspace\nthe beginning of a li" }, now);
    println!(
        "{:<44} {:>8.1}",
        "begin a run",
        median(200, || drop(black_box(JobRun::new(std::sync::Arc::clone(&spec), now))))
    );
    let step =
        median(2000, || drop(black_box(run.on(Event::Console { bytes: b"[    1.000000] a line\n" }, now))));
    println!("{:<44} {step:>8.1}", "one line of a console");
    let stored = serde_json::to_vec(run.state()).unwrap();
    println!(
        "{:<44} {:>8.1}",
        "store its state",
        median(2000, || drop(black_box(serde_json::to_vec(run.state()))))
    );
    let restore = median(200, || {
        let state: RunState = serde_json::from_slice(&stored).unwrap();
        drop(black_box(JobRun::restore(std::sync::Arc::clone(&spec), state)));
    });
    println!("{:<44} {restore:>8.1}   ({} bytes)", "read it back and restore the run", stored.len());
}

const JOB: &str = r#"version: 1
target: {tags: ["amdgpu:generation:10", "farm:{{ farm_name }}"]}
timeouts:
  overall: {minutes: 30}
  boot_cycle: {minutes: 5, retries: 1}
  console_activity: {minutes: 2, retries: 1}
  watchdogs: {gpu: {minutes: 0.3, retries: 5}}
console_patterns:
  session_end: {regex: '^\[[\d \.]{12}\] reboot: Power down\r?$'}
  session_reboot: {regex: 'GPU hang detected'}
  job_success: {regex: 'Execution is over, pipeline status: 0\r?$'}
  job_warn: {regex: 'ring .* timeout'}
  watchdogs:
    gpu: {start: {regex: 'running test'}, reset: {regex: 'test \d+ done'}, stop: {regex: 'tests are over'}}
deployment:
  start:
    kernel:
      url: https://example.org/bzImage
      cmdline:
        console: console={{ machine.local_tty_device }},115200
        env:
{% for name, value in environ | dictsort %}
          - b2c.environ.{{ name }}={{ value }}
{% endfor %}
        run: ['b2c.run="-ti docker://{{ environ.IMAGE | default("alpine", true) }} run-tests"', b2c.ntp_peer=10.42.0.1]
    initramfs:
      base: {url: https://example.org/initramfs.cpio.xz}
      modules: [{url: https://example.org/a.cpio}, {url: https://example.org/b.cpio}]
  continue: {kernel: {cmdline: {run: [b2c.run="-ti docker://alpine resume"]}}}
"#;

fn job(text: &str) -> farmgate_job::Job {
    resolve(&Source { name: "job.yml", text }, &Variables::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// Lines as a kernel prints them; one of so many hits.
fn console(hits: Option<usize>) -> Vec<u8> {
    let (mut text, mut seed, mut line) = (String::with_capacity(CORPUS + 200), 7u32, 0usize);
    while text.len() < CORPUS {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        line += 1;
        let message = match hits {
            Some(every) if line % every == 0 => {
                "amdgpu: [drm] *ERROR* ring gfx_0.0.0 timeout, signaled seq=#"
            }
            _ => MESSAGES[(seed >> 16) as usize % MESSAGES.len()],
        };
        let number = (seed >> 8) % 1000;
        let _ = write!(text, "[{:>5}.{:06}] ", line / 50, number * 997);
        text.push_str(&message.replace('#', &number.to_string()));
        text.push_str("\r\n");
    }
    text.into_bytes()
}

fn mean_line(console: &[u8]) -> usize {
    console.len() / console.iter().filter(|b| **b == b'\n').count()
}

fn patterns(count: usize, literal: bool) -> Vec<String> {
    let mut all: Vec<String> = PATTERNS.iter().map(|p| (*p).to_owned()).collect();
    all.extend((10..count).map(|n| format!(r"subtest {n}\.\d+ of group-{n} (done|lost)")));
    if !literal {
        all[2] = r"^\d+-\d+\r$".to_owned();
    }
    // One alone is the one that hits.
    if count == 1 {
        all.swap(0, 3);
    }
    all.truncate(count);
    all
}

fn one_pass(console: &[u8], patterns: &[String]) -> f64 {
    let quoted: Vec<String> =
        patterns.iter().map(|p| format!("{{regex: '{}'}}", p.replace('\'', "''"))).collect();
    // Nothing here ends the session: the first pattern warns, others start watchdogs without a timeout.
    let mut text = format!(
        "version: 1\ntarget: {{tags: []}}\ntimeouts: {{}}\nconsole_patterns:\n  session_end: {{regex: 'never printed by anyone'}}\n  job_warn: {}\n",
        quoted[0]
    );
    if quoted.len() > 1 {
        text.push_str("  watchdogs:\n");
        for (number, pattern) in quoted.iter().enumerate().skip(1) {
            let _ = writeln!(text, "    w{number}: {{start: {pattern}}}");
        }
    }
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let (mut run, _) = JobRun::new(RunSpec { job: job(&text), firmware_boot_time: None }, now);
    for event in [Event::SetupDone, Event::PowerOff, Event::PowerOn] {
        run.on(event, now);
    }
    best(console.len(), || {
        for chunk in console.chunks(CHUNK) {
            black_box(run.on(Event::Console { bytes: chunk }, now));
        }
    })
}

fn one_by_one(console: &[u8], patterns: &[String]) -> f64 {
    let all: Vec<_> =
        patterns.iter().map(|p| regex::bytes::RegexBuilder::new(p).unicode(false).build().unwrap()).collect();
    best(console.len(), || {
        for line in console.split_inclusive(|b| *b == b'\n') {
            black_box(all.iter().filter(|regex| regex.is_match(line)).count());
        }
    })
}

/// `None`: there is no Python here.
fn python(console: &[u8], patterns: &[String]) -> Option<f64> {
    let script = "import re, sys, time
patterns = [re.compile(p.encode()) for p in sys.argv[1:]]
lines = sys.stdin.buffer.read().splitlines(True)
begun = time.process_time()
for line in lines:
    for p in patterns:
        p.search(line)
print(sum(map(len, lines)) / (time.process_time() - begun) / 1e6)";
    let part = &console[..CORPUS / 8];
    let mut child = Command::new("python3")
        .args(["-c", script])
        .args(patterns)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(part).ok()?;
    String::from_utf8(child.wait_with_output().ok()?.stdout).ok()?.trim().parse().ok()
}

/// MB/s of the best of three.
fn best(bytes: usize, mut work: impl FnMut()) -> f64 {
    let fastest = (0..3).map(|_| timed(&mut work)).min().unwrap();
    bytes as f64 / fastest.as_secs_f64() / 1e6
}

/// Microseconds.
fn median(times: usize, mut work: impl FnMut()) -> f64 {
    let mut all: Vec<Duration> = (0..times).map(|_| timed(&mut work)).collect();
    all.sort_unstable();
    all[times / 2].as_secs_f64() * 1e6
}

/// Time of the processor, of all threads, and not of the wall: others may be busy too.
fn timed(work: &mut impl FnMut()) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap();
    let begun = now();
    work();
    now() - begun
}
