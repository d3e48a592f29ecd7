//! Many at the same time: commits are shared, order is kept, one's mistake is nobody else's, reads do not wait.

use farmgate_store::{Health, RunQuery, StoreError};
use serde_json::Value;

use crate::samples::{Place, create, event, step, until, value};

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_far_fewer_commits() {
    let place = Place::new();
    let store = place.open();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..100 {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..10 {
                store.write(vec![value(&format!("{writer}"), n)]).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let counters = store.counters();
    assert_eq!((counters.batches, counters.failed), (1000, 0));
    assert!(counters.commits < 500, "{counters:?}");
    let values = store.values("test").await.unwrap();
    assert_eq!(values.len(), 100);
    assert!(values.values().all(|v| *v == 9), "each writer's last word counts");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_batch_harms_no_other_of_its_commit() {
    let place = Place::new();
    let store = place.open();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..200_u64 {
        let store = store.clone();
        writers.spawn(async move {
            let wrong = writer % 2 == 1;
            let second = if wrong { step(9999, "x") } else { value(&format!("{writer}b"), 1) };
            let result = store.write(vec![value(&format!("{writer}a"), 1), second]).await;
            match result {
                Ok(()) => assert!(!wrong),
                Err(StoreError::UnknownRun { run: 9999 }) => assert!(wrong),
                Err(error) => panic!("{error}"),
            }
        });
    }
    writers.join_all().await;
    let counters = store.counters();
    assert_eq!((counters.batches, counters.failed), (100, 100));
    assert!(counters.commits < 100, "the case is not tested if each had its own commit: {counters:?}");
    let keys: Vec<String> = store.values("test").await.unwrap().into_keys().collect();
    assert_eq!(keys.len(), 200);
    assert!(keys.iter().all(|k| k[..k.len() - 1].parse::<u64>().unwrap().is_multiple_of(2)));
    assert_eq!(*store.health().borrow(), Health::Ok, "a mistake of a caller is no failure of the disk");
    store.close().await;
}

#[tokio::test]
async fn waited_for_or_not_batches_keep_the_order_of_the_calls() {
    let place = Place::new();
    let store = place.open();
    // Each needs the one before it: an event needs its run, a step too.
    for number in 1..=50 {
        store.write_soon(vec![create(number)]);
        store.write_soon(vec![event(number, 1)]);
        store.write(vec![event(number, 2), value("last", number)]).await.unwrap();
        store.write_soon(vec![value("last", Value::Null)]);
    }
    store.write(Vec::new()).await.unwrap();
    assert_eq!(store.counters().failed, 0);
    assert_eq!(
        store.values("test").await.unwrap()["last"],
        Value::Null,
        "an empty batch waits for those before it"
    );
    store.close().await;
}

#[tokio::test]
async fn a_batch_whose_caller_gave_up_is_stored_all_the_same() {
    let place = Place::new();
    let store = place.open();
    {
        let mut write = Box::pin(store.write(vec![value("k", 1)]));
        // Polled once: it is queued. Then nobody waits any more.
        tokio::select! { biased; _ = &mut write => {}, () = std::future::ready(()) => {} }
    }
    store.write(Vec::new()).await.unwrap();
    assert_eq!(store.values("test").await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_refused_when_too_much_waits() {
    let place = Place::new();
    let store = place.open();
    // Another program holds the file, so the writer waits for it.
    let other = rusqlite::Connection::open(place.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..70 {
        store.write_soon((0..1000).map(|n| value(&n.to_string(), n)).collect());
    }
    let counters = store.counters();
    assert!(counters.failed_soon >= 4, "{counters:?}");
    other.execute_batch("ROLLBACK").unwrap();
    store.write(Vec::new()).await.unwrap();
    assert_eq!(store.values("test").await.unwrap().len(), 1000);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_does_not_wait_for_a_write() {
    let place = Place::new();
    let store = place.open();
    store.write(vec![create(1)]).await.unwrap();
    // A write that lasts as long as the test likes: another program holds the write lock.
    let other = rusqlite::Connection::open(place.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM runs").unwrap();
    let mut write = Box::pin(store.write(vec![value("k", 1)]));
    for _ in 0..20 {
        tokio::select! {
            biased;
            done = &mut write => panic!("the write did not have to wait: {done:?}"),
            rows = store.runs(RunQuery::default()) => assert_eq!(rows.unwrap().len(), 1),
        }
    }
    other.execute_batch("ROLLBACK").unwrap();
    write.await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_long_batch_is_never_seen() {
    let place = Place::new();
    let store = place.open();
    store.write(vec![create(1)]).await.unwrap();
    let writing = store.clone();
    let write =
        tokio::spawn(async move { writing.write((1..=10_000).map(|seq| event(1, seq)).collect()).await });
    until("the whole batch is there", async || {
        let seen = store.run_events(1, 0, 10_000).await.unwrap().len();
        assert!(seen == 0 || seen == 10_000, "{seen} events of 10000");
        seen > 0
    })
    .await;
    write.await.unwrap().unwrap();
    store.close().await;
}
