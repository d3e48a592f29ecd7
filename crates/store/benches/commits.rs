//! What storing costs on this disk, beside what the disk itself takes: `cargo bench -p farmgate-store`.
//!
//! Writes below the build folder, or in the folder that `FARMGATE_BENCH_FOLDER` names; removes what it wrote.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use farmgate_protocol::{DutId, JobStatus, Timestamp};
use farmgate_store::{Change, Kept, NewRun, Retention, RunQuery, RunState, Store};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const RUNS: u64 = 100_000;
const OPEN: u64 = 50;
const MACHINES: u64 = 40;

fn main() -> Result<(), Failure> {
    let parent = std::env::var_os("FARMGATE_BENCH_FOLDER")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = tempfile::tempdir_in(parent)?;
    raw(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(writes(folder.path(), 1, 500))?;
    runtime.block_on(writes(folder.path(), 200, 50))?;
    // Again, because the disk may have changed its mind meanwhile.
    raw(folder.path())?;
    runtime.block_on(many_runs(folder.path()))
}

/// One line: how many per second, and how long one takes.
fn report(what: &str, elapsed: Duration, mut each: Vec<Duration>) {
    each.sort();
    let at = |part: f64| each[((each.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{what:<48} {:>9.0}/s   p50 {:>8.3} ms   p99 {:>8.3} ms   max {:>8.3} ms",
        each.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

/// What the disk takes for 4 KB and an fdatasync, into blocks that exist: the least that a commit can cost.
fn raw(folder: &Path) -> Result<(), Failure> {
    let path = folder.join("raw");
    let file = File::create(&path)?;
    file.write_all_at(&vec![1; 4 << 20], 0)?;
    file.sync_all()?;
    let (began, mut each) = (Instant::now(), Vec::new());
    for n in 0..500 {
        let start = Instant::now();
        file.write_all_at(&[2; 4096], n * 4096)?;
        file.sync_data()?;
        each.push(start.elapsed());
    }
    report("raw: 4 KB and fdatasync", began.elapsed(), each);
    std::fs::remove_file(path)?;
    Ok(())
}

/// A step of a run and one event: what a run stores most often.
fn typical(run: u64, seq: u64) -> Vec<Change> {
    let progress = Some("x".repeat(600));
    let started = (seq == 1).then(Timestamp::now);
    vec![
        Change::Step { run, progress, feed: Some(seq * 100), phase: None, started, dut: None },
        Change::Event {
            run,
            seq,
            time: Timestamp::now(),
            console: seq * 100,
            body: json!({"msg": "the machine asked for its boot script", "severity": 1, "tag": 0}),
        },
    ]
}

async fn writes(folder: &Path, writers: u64, each: u64) -> Result<(), Failure> {
    let store = Store::open(&folder.join(format!("writes{writers}.db")), Retention::default())?;
    store.write((1..=writers).map(|n| new_run(n).into()).collect()).await?;
    let (before, began) = (store.counters(), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for run in 1..=writers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            for seq in 1..=each {
                let start = Instant::now();
                store.write(typical(run, seq)).await?;
                took.push(start.elapsed());
            }
            Ok::<_, farmgate_store::StoreError>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    let elapsed = began.elapsed();
    let commits = store.counters().commits - before.commits;
    report(&format!("write (step + event), {writers} at the same time"), elapsed, all);
    println!(
        "{:<48} {:>9.0}/s   {commits} commits for {} batches",
        "  commits",
        commits as f64 / elapsed.as_secs_f64(),
        writers * each
    );
    store.close().await;
    Ok(())
}

fn machine(number: u64) -> DutId {
    DutId::from(farmgate_protocol::MacAddress([0x52, 0x54, 0, 0, 0, (number % MACHINES) as u8]))
}

fn new_run(number: u64) -> NewRun {
    NewRun {
        number,
        kind: if number.is_multiple_of(10) { "training" } else { "job" }.to_owned(),
        dut: Some(machine(number)),
        created: Timestamp::now(),
        name: "job.yml".to_owned(),
        text: "version: 1 # a job of the usual length\n".repeat(50),
        metadata: json!({}),
        priority: "default".to_owned(),
        submitter: "local".to_owned(),
        state: RunState::Queued,
        spec: Some(json!({"text": "x".repeat(2000)})),
        variables: json!({}),
        console_from: Some(0),
        resume_token_hash: None,
        client: Value::Null,
    }
}

fn history(number: u64) -> Vec<Change> {
    let mut changes = vec![new_run(number).into()];
    changes.extend((1..=5).flat_map(|seq| typical(number, seq)));
    if number <= RUNS - OPEN {
        let status = if number.is_multiple_of(100) { JobStatus::Fail } else { JobStatus::Pass };
        changes.push(Change::Finish {
            run: number,
            ended: Timestamp::now(),
            status,
            cause: json!("session"),
            summary: "the session ended".to_owned(),
            outcome: json!({"status": status.as_str()}),
            console_to: 1000,
            kept: Kept { spec: Some(json!({"text": "x".repeat(2000)})), ..Kept::default() },
        });
    }
    changes
}

async fn many_runs(folder: &Path) -> Result<(), Failure> {
    let path = folder.join("many.db");
    let store = Store::open(&path, Retention::default())?;
    for first in (1..=RUNS).step_by(500) {
        store.write((first..first + 500).flat_map(history).collect()).await?;
    }
    store.close().await;
    println!("with {RUNS} runs, {OPEN} of them open; file of {} MB:", std::fs::metadata(&path)?.len() >> 20);

    let mut opening = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let store = Store::open(&path, Retention::default())?;
        let open = store.open_runs().await?;
        opening.push(start.elapsed());
        assert_eq!(open.len() as u64, OPEN);
        store.close().await;
    }
    report("  open, and read the open runs", opening.iter().sum(), opening);

    let store = Store::open(&path, Retention::default())?;
    let fail = Some(JobStatus::Fail);
    let training = Some("training".to_owned());
    let none = Some("quick_check".to_owned());
    for (what, query) in [
        ("newest", RunQuery::default()),
        ("before the middle", RunQuery { before: Some(RUNS / 2), ..RunQuery::default() }),
        ("of a machine", RunQuery { dut: Some(machine(7)), ..RunQuery::default() }),
        ("FAIL of a machine", RunQuery { dut: Some(machine(20)), status: fail, ..RunQuery::default() }),
        ("training, FAIL", RunQuery { kind: training, status: fail, ..RunQuery::default() }),
        ("queued", RunQuery { state: Some(RunState::Queued), ..RunQuery::default() }),
        ("nothing matches", RunQuery { kind: none, status: fail, ..RunQuery::default() }),
        ("1000 rows", RunQuery { limit: 1000, ..RunQuery::default() }),
    ] {
        let (began, mut each) = (Instant::now(), Vec::new());
        for _ in 0..100 {
            let start = Instant::now();
            store.runs(query.clone()).await?;
            each.push(start.elapsed());
        }
        report(&format!("  list: {what}"), began.elapsed(), each);
    }
    let (began, mut each) = (Instant::now(), Vec::new());
    for _ in 0..100 {
        let start = Instant::now();
        store.mean_seconds(Some(&machine(3)), 20).await?;
        each.push(start.elapsed());
    }
    report("  mean length of a machine's jobs", began.elapsed(), each);
    store.close().await;
    Ok(())
}
