//! What is too old or too many goes, in idle moments; what is open never.

use std::time::Duration;

use farmgate_protocol::{JobStatus, Timestamp};
use farmgate_store::{Change, Retention, RunQuery, Store};
use serde_json::json;

use crate::samples::{Place, create, event, finish, until};

async fn numbers(store: &Store) -> Vec<u64> {
    let query = RunQuery { limit: 1000, ..RunQuery::default() };
    store.runs(query).await.unwrap().iter().map(|r| r.number).collect()
}

fn ended(ago: Duration) -> Timestamp {
    let ago = i64::try_from(ago.as_micros()).unwrap();
    Timestamp::from_micros(Timestamp::now().as_micros() - ago)
}

#[tokio::test]
async fn finished_runs_beyond_a_number_go_the_oldest_first_and_open_ones_stay() {
    let place = Place::new();
    let keep = Retention { runs: 10, ..Retention::default() };
    let store = Store::open(&place.database(), keep).unwrap();
    let mut changes: Vec<Change> = (1..=200).flat_map(|n| [create(n), event(n, 1)]).collect();
    changes.extend((1..=200).filter(|n| n % 50 != 0).map(|n| {
        // Number 3 ends last: it is not the number that counts but the end.
        finish(n, ended(Duration::from_secs(if n == 3 { 1 } else { 1000 - n })), JobStatus::Pass)
    }));
    store.write(changes).await.unwrap();
    until("all but ten are removed", async || numbers(&store).await.len() <= 14).await;
    let left = numbers(&store).await;
    assert_eq!(left, [200, 199, 198, 197, 196, 195, 194, 193, 192, 191, 150, 100, 50, 3]);
    assert_eq!(store.counters().pruned_runs, 186);
    assert!(store.run_events(7, 0, 10).await.unwrap().is_empty());
    assert_eq!(store.run_events(3, 0, 10).await.unwrap().len(), 1);
    store.close().await;
    // Its rows, in every table: nothing refers to what is gone.
    let by_hand = rusqlite::Connection::open(place.database()).unwrap();
    for table in ["runs", "run_texts", "run_events"] {
        let rows: i64 =
            by_hand.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 14, "{table}");
    }
}

#[tokio::test]
async fn finished_runs_go_by_age_also_of_a_gateway_that_was_off_and_numbers_do_not_return() {
    let place = Place::new();
    let store = place.open();
    let day = Duration::from_secs(86_400);
    store.write(vec![create(1), create(2), create(3)]).await.unwrap();
    store
        .write(vec![finish(3, ended(20 * day), JobStatus::Pass), finish(1, ended(3 * day), JobStatus::Pass)])
        .await
        .unwrap();
    store.close().await;
    let keep = Retention { age: 10 * day, ..Retention::default() };
    let store = Store::open(&place.database(), keep).unwrap();
    until("the old one is removed", async || numbers(&store).await == [2, 1]).await;
    store.close().await;
    let store = place.open();
    assert_eq!(store.next_run(), 4, "run 3 is gone, its number is not free");
    store.close().await;
}

#[tokio::test]
async fn a_run_that_told_a_great_deal_goes_in_small_steps() {
    let place = Place::new();
    let store = place.open();
    store.write(vec![create(1)]).await.unwrap();
    store.write((1..=2300).map(|seq| event(1, seq)).collect()).await.unwrap();
    store.write(vec![finish(1, ended(Duration::ZERO), JobStatus::Pass)]).await.unwrap();
    store.close().await;
    let store = Store::open(&place.database(), Retention { runs: 0, ..Retention::default() }).unwrap();
    let mut seen = Vec::new();
    until("it is removed", async || {
        let left = store.run_events(1, 0, 10_000).await.unwrap().len();
        if seen.last() != Some(&left) {
            seen.push(left);
        }
        numbers(&store).await.is_empty()
    })
    .await;
    assert!(seen.iter().all(|left| left % 500 == 300 || *left == 0), "not in steps of 500: {seen:?}");
    store.close().await;
}

#[tokio::test]
async fn the_audit_log_keeps_its_newest_entries() {
    let place = Place::new();
    let keep = Retention { audit: 100, ..Retention::default() };
    let store = Store::open(&place.database(), keep).unwrap();
    let entry = |n: i64| Change::Audit {
        at: Timestamp::from_micros(n),
        who: "me".to_owned(),
        from: "::1".to_owned(),
        what: n.to_string(),
        details: json!({}),
    };
    store.write((1..=2000).map(entry).collect()).await.unwrap();
    until("a hundred are left", async || store.audit(None, 1000).await.unwrap().len() == 100).await;
    let left = store.audit(None, 1000).await.unwrap();
    assert_eq!((left[0].what.as_str(), left[99].what.as_str()), ("2000", "1901"));
    store.close().await;
}

#[tokio::test]
async fn a_writer_that_is_never_idle_removes_old_runs_too() {
    let place = Place::new();
    let store = place.open();
    for n in 1..=20 {
        store
            .write(vec![create(n), finish(n, ended(Duration::from_secs(100 - n)), JobStatus::Pass)])
            .await
            .unwrap();
    }
    store.close().await;
    let store = Store::open(&place.database(), Retention { runs: 5, ..Retention::default() }).unwrap();
    // Never a pause: an idle moment is one without a write for 100 ms.
    let busy = async {
        while numbers(&store).await.len() > 5 {
            store.write(vec![crate::samples::value("busy", 1)]).await.unwrap();
        }
    };
    tokio::time::timeout(crate::samples::BOUND, busy).await.unwrap();
    assert_eq!(numbers(&store).await, [20, 19, 18, 17, 16]);
    store.close().await;
}
