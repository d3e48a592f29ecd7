//! `kill -9` at any moment: what was answered is there, and nothing is there by halves.
//!
//! The test binary starts itself again as the victim (`crash::victim`, which does nothing unless it is told where).

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use farmgate_store::{Retention, Store};

use crate::samples::{BOUND, Place, create, event, step, value};

/// Where the victim writes.
const WHERE: &str = "FARMGATE_STORE_VICTIM";
/// Tasks that write at the same time.
const WRITERS: u64 = 4;

/// Writes batches until it is killed, and prints the number of each after it was stored.
#[test]
fn victim() {
    let Some(database) = std::env::var_os(WHERE) else { return };
    let store = Store::open(database.as_ref(), Retention::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..WRITERS {
            let store = store.clone();
            writers.spawn(async move {
                loop {
                    let n = store.next_run();
                    let batch = vec![
                        create(n),
                        event(n, 1),
                        value(&format!("a{n}"), n),
                        step(n, "some state"),
                        event(n, 2),
                        value(&format!("b{n}"), n),
                    ];
                    store.write(batch).await.unwrap();
                    // One write call per line, so that a kill does not tear it.
                    std::io::stdout().write_all(format!("stored {n}\n").as_bytes()).unwrap();
                }
            });
        }
        writers.join_all().await;
    });
}

/// Killed and waited for, however the test ends.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(place: &Place) -> Victim {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::victim", "--nocapture", "--test-threads=1"])
        .env(WHERE, place.database())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    Victim(child)
}

/// Lets it store `count` batches and kills it a moment later; the numbers it had printed.
fn kill_after(place: &Place, count: usize, moment: Duration) -> Vec<u64> {
    let mut victim = start(place);
    let mut output = BufReader::new(victim.0.stdout.take().unwrap());
    let began = Instant::now();
    let mut stored = Vec::new();
    let mut line = String::new();
    let mut read = |stored: &mut Vec<u64>| {
        line.clear();
        let some = output.read_line(&mut line).unwrap() > 0;
        // The first line may follow what the test harness says in the same line.
        if let Some((_, number)) = line.trim_end().split_once("stored ") {
            stored.push(number.parse().unwrap());
        }
        some
    };
    while stored.len() < count {
        assert!(read(&mut stored), "the victim ended by itself");
        assert!(began.elapsed() < BOUND, "the victim is too slow");
    }
    // Not waiting for a condition: the moment of the kill is what varies.
    std::thread::sleep(moment);
    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    while read(&mut stored) {}
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_everything_answered_is_there_and_whole_batches_only() {
    let place = Place::new();
    let mut promised: Vec<u64> = Vec::new();
    for round in 0..30_u64 {
        // Spread over what a round of commits takes, and over the moments after the start.
        let moment = Duration::from_micros(round * 777 % 5000);
        promised.extend(kill_after(&place, 1 + (round as usize * 7) % 40, moment));
        let store = place.open();
        let runs = store.open_runs().await.unwrap();
        let values = store.values("test").await.unwrap();
        let found: std::collections::BTreeSet<u64> = runs.iter().map(|r| r.row.number).collect();
        for number in &promised {
            assert!(found.contains(number), "round {round}: run {number} was answered and is lost");
        }
        assert_eq!(values.len(), 2 * found.len(), "round {round}: a batch is stored by halves");
        for run in &runs {
            let number = run.row.number;
            assert_eq!(run.progress.as_deref(), Some("some state"), "run {number}");
            assert_eq!(
                (&values[&format!("a{number}")], &values[&format!("b{number}")]),
                (&number.into(), &number.into())
            );
        }
        let last = found.last().copied().unwrap();
        assert_eq!(store.run_events(last, 0, 10).await.unwrap().len(), 2);
        // At most one batch of each writer was stored and not yet printed.
        assert!(found.len() as u64 <= promised.len() as u64 + WRITERS * (round + 1));
        assert!(store.next_run() > last);
        store.close().await;
    }
    let by_hand = rusqlite::Connection::open(place.database()).unwrap();
    let sound: String = by_hand.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}
