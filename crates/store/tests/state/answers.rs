//! What is written is read back, and what is wrong is refused by its name.

use farmgate_protocol::JobStatus;
use farmgate_store::{Change, RunQuery, RunState, StoreError};
use serde_json::{Value, json};

use crate::samples::{Place, at, create, dispatch, dut, event, finish, kept, new_run, step, value};

#[tokio::test]
async fn a_run_is_read_back_as_it_went_on() {
    let place = Place::new();
    let store = place.open();
    let number = store.next_run();
    store.write(vec![create(number)]).await.unwrap();
    let run = store.run(number).await.unwrap().unwrap();
    assert_eq!((run.row.state, run.row.number), (RunState::Queued, number));
    assert_eq!(run.metadata, new_run(number).metadata);
    assert_eq!(run.resume_token_hash.as_deref(), Some("c0ffee"));

    let going_on = Change::Step {
        run: number,
        progress: Some("{\"at\":2}".to_owned()),
        feed: Some(5000),
        phase: Some("firmware".to_owned()),
        started: Some(at(3)),
        dut: None,
    };
    store.write(vec![dispatch(number, "a"), going_on, step(number, "{\"at\":3}")]).await.unwrap();
    let open = store.open_runs().await.unwrap();
    assert_eq!(open.len(), 1);
    let run = &open[0];
    assert_eq!((run.row.state, run.row.dut.as_ref()), (RunState::Active, Some(&dut("a"))));
    assert_eq!((run.progress.as_deref(), run.feed), (Some("{\"at\":3}"), Some(5000)));
    assert_eq!((run.row.phase.as_deref(), run.row.started), (Some("firmware"), Some(at(3))));
    assert_eq!((run.spec.as_ref(), run.row.console_from), (Some(&json!({"kernel": "hunter2"})), Some(4096)));

    store.write(vec![finish(number, at(9), JobStatus::Pass)]).await.unwrap();
    assert!(store.open_runs().await.unwrap().is_empty());
    let run = store.run(number).await.unwrap().unwrap();
    assert_eq!((run.row.state, run.row.status), (RunState::Finished, Some(JobStatus::Pass)));
    assert_eq!((run.row.ended, run.row.console_to), (Some(at(9)), Some(8192)));
    assert_eq!((run.outcome, run.progress, run.spec), (Some(json!({"status": "PASS"})), None, None));
    assert_eq!((run.metadata, run.variables), (kept().metadata, Value::Null));
    store.close().await;
}

#[tokio::test]
async fn a_number_is_never_given_twice() {
    let place = Place::new();
    let store = place.open();
    assert_eq!((store.next_run(), store.next_run()), (1, 2));
    store.write(vec![create(7)]).await.unwrap();
    store.close().await;
    let store = place.open();
    assert_eq!(store.next_run(), 8);
    store.close().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name_and_takes_its_whole_batch_with_it() {
    let place = Place::new();
    let store = place.open();
    store.write(vec![create(1), create(2), finish(2, at(1), JobStatus::Fail), event(1, 1)]).await.unwrap();
    let token = |name: &str| Change::AddToken {
        name: name.to_owned(),
        role: "user".to_owned(),
        hash: "h".to_owned(),
        created: at(0),
    };
    store.write(vec![token("ci")]).await.unwrap();
    let mut over = new_run(9);
    over.state = RunState::Finished;
    let table: Vec<(Change, &str)> = vec![
        (step(99, "x"), "run 99 is not stored"),
        (dispatch(99, "a"), "run 99 is not stored"),
        (event(99, 1), "run 99 is not stored"),
        (finish(99, at(1), JobStatus::Pass), "run 99 is not stored"),
        (Change::Forget { run: 99, kept: kept() }, "run 99 is not stored"),
        (create(1), "run 1 is stored already: take its number from next_run"),
        (step(2, "x"), "run 2 is finished"),
        (dispatch(2, "a"), "run 2 is finished"),
        (finish(2, at(1), JobStatus::Pass), "run 2 is finished"),
        (over.into(), "run 9 cannot begin as finished: a new run is queued or active"),
        (event(1, 1), "run 1 has an event 1 already"),
        (event(1, 0), "event numbers of run 1 must count from 1"),
        (create(u64::MAX), "run 18446744073709551615 is too large to be stored"),
        (token("ci"), "a token named \"ci\" exists: revoke it first, or choose another name"),
        (Change::RevokeToken { name: "x".to_owned() }, "there is no token named \"x\""),
    ];
    for (index, (wrong, message)) in table.into_iter().enumerate() {
        let key = format!("k{index}");
        let error = store.write(vec![value(&key, 1), wrong.clone(), value("z", 1)]).await.unwrap_err();
        assert_eq!(error.to_string(), message, "{wrong:?}");
        assert!(!error.is_of_storage());
        assert!(store.values("test").await.unwrap().is_empty(), "half of a batch is stored: {wrong:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn lists_are_filtered_and_paged_newest_first() {
    let place = Place::new();
    let store = place.open();
    let mut changes = Vec::new();
    for number in 1..=30 {
        let mut run = new_run(number);
        run.kind = if number % 3 == 0 { "training" } else { "job" }.to_owned();
        changes.push(run.into());
        if number % 2 == 0 {
            changes.push(dispatch(number, "even"));
        }
        if number <= 10 {
            let status = if number % 5 == 0 { JobStatus::Fail } else { JobStatus::Pass };
            changes.push(finish(number, at(number as i64), status));
        }
    }
    store.write(changes).await.unwrap();
    let table: Vec<(RunQuery, Vec<u64>)> = vec![
        (RunQuery { limit: 3, ..RunQuery::default() }, vec![30, 29, 28]),
        (RunQuery { limit: 3, before: Some(4), ..RunQuery::default() }, vec![3, 2, 1]),
        (
            RunQuery { dut: Some(dut("even")), kind: Some("training".to_owned()), ..RunQuery::default() },
            vec![30, 24, 18, 12, 6],
        ),
        (RunQuery { status: Some(JobStatus::Fail), ..RunQuery::default() }, vec![10, 5]),
        (RunQuery { state: Some(RunState::Active), limit: 2, ..RunQuery::default() }, vec![30, 28]),
        (RunQuery { state: Some(RunState::Queued), before: Some(14), ..RunQuery::default() }, vec![13, 11]),
        (RunQuery { state: Some(RunState::Finished), limit: 2, ..RunQuery::default() }, vec![10, 9]),
        (RunQuery { dut: Some(dut("odd")), ..RunQuery::default() }, vec![]),
        (RunQuery { before: Some(u64::MAX), limit: 1, ..RunQuery::default() }, vec![30]),
    ];
    for (query, numbers) in table {
        let found: Vec<u64> = store.runs(query.clone()).await.unwrap().iter().map(|r| r.number).collect();
        assert_eq!(found, numbers, "{query:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn events_are_read_from_where_a_client_stopped() {
    let place = Place::new();
    let store = place.open();
    store.write(vec![create(1), create(2)]).await.unwrap();
    store.write((1..=20).flat_map(|seq| [event(1, seq), event(2, seq)]).collect()).await.unwrap();
    let read = store.run_events(1, 5, 3).await.unwrap();
    assert_eq!(read.iter().map(|e| e.seq).collect::<Vec<_>>(), [6, 7, 8]);
    assert_eq!((read[0].console, &read[0].body, read[0].time), (60, &json!({"msg": 6}), at(1)));
    assert_eq!(store.run_events(1, 0, 100).await.unwrap().len(), 20);
    assert!(store.run_events(1, u64::MAX, 3).await.unwrap().is_empty());
    assert!(store.run_events(u64::MAX, 0, 3).await.unwrap().is_empty());
    store.close().await;
}

#[tokio::test]
async fn the_mean_length_is_of_jobs_that_ran() {
    let place = Place::new();
    let store = place.open();
    let ran = |number: u64, kind: &str, machine: &str, seconds: i64, status: JobStatus| {
        let mut run = new_run(number);
        run.kind = kind.to_owned();
        let started = Change::Step {
            run: number,
            progress: None,
            feed: None,
            phase: None,
            started: Some(at(0)),
            dut: Some(dut(machine)),
        };
        vec![run.into(), started, finish(number, at(seconds), status)]
    };
    assert_eq!(store.mean_seconds(None, 10).await.unwrap(), None);
    for batch in [
        ran(1, "job", "a", 1000, JobStatus::Pass),
        ran(2, "job", "a", 10, JobStatus::Pass),
        ran(3, "job", "a", 20, JobStatus::Fail),
        ran(4, "job", "b", 60, JobStatus::Pass),
        ran(5, "training", "a", 5000, JobStatus::Pass),
        ran(6, "job", "a", 1, JobStatus::SetupFail),
    ] {
        store.write(batch).await.unwrap();
    }
    // One that never began.
    store.write(vec![create(7), finish(7, at(1), JobStatus::Unknown)]).await.unwrap();
    assert_eq!(store.mean_seconds(None, 3).await.unwrap(), Some(30.0));
    assert_eq!(store.mean_seconds(Some(&dut("a")), 2).await.unwrap(), Some(15.0));
    assert_eq!(store.mean_seconds(Some(&dut("b")), 2).await.unwrap(), Some(60.0));
    assert_eq!(store.mean_seconds(Some(&dut("c")), 2).await.unwrap(), None);
    store.close().await;
}

#[tokio::test]
async fn memories_values_tokens_and_the_audit_log_are_kept_over_a_restart() {
    let place = Place::new();
    let store = place.open();
    let memory = |machine: &str, memory| Change::DutMemory { dut: dut(machine), memory };
    let token = |name: &str| Change::AddToken {
        name: name.to_owned(),
        role: "admin".to_owned(),
        hash: format!("hash of {name}"),
        created: at(1),
    };
    let audit = |what: &str| Change::Audit {
        at: at(2),
        who: "me".to_owned(),
        from: "127.0.0.1".to_owned(),
        what: what.to_owned(),
        details: json!({}),
    };
    store
        .write(vec![
            memory("a", Some(json!([1]))),
            memory("a", Some(json!([2]))),
            memory("b", Some(json!([3]))),
            memory("b", None),
            value("k", "v"),
            value("gone", 1),
            Change::Value { space: "test".to_owned(), key: "gone".to_owned(), value: None },
            Change::Value { space: "other".to_owned(), key: "k".to_owned(), value: Some(json!(0)) },
            token("x"),
            token("y"),
            Change::RevokeToken { name: "x".to_owned() },
            Change::TokenUsed { name: "x".to_owned(), at: at(5) },
            Change::TokenUsed { name: "y".to_owned(), at: at(6) },
            audit("one"),
            audit("two"),
            audit("three"),
        ])
        .await
        .unwrap();
    store.close().await;
    let store = place.open();
    assert_eq!(store.dut_memories().await.unwrap().into_iter().collect::<Vec<_>>(), [(dut("a"), json!([2]))]);
    assert_eq!(
        store.values("test").await.unwrap().into_iter().collect::<Vec<_>>(),
        [("k".into(), json!("v"))]
    );
    let tokens = store.tokens().await.unwrap();
    assert_eq!(tokens.len(), 1);
    assert_eq!((tokens[0].name.as_str(), tokens[0].used, tokens[0].created), ("y", Some(at(6)), at(1)));
    let newest = store.audit(None, 2).await.unwrap();
    assert_eq!(newest.iter().map(|a| a.what.as_str()).collect::<Vec<_>>(), ["three", "two"]);
    let older = store.audit(Some(newest[1].id), 10).await.unwrap();
    assert_eq!(
        older.iter().map(|a| (a.what.as_str(), a.from.as_str())).collect::<Vec<_>>(),
        [("one", "127.0.0.1")]
    );
    store.close().await;
}

#[tokio::test]
async fn after_close_everything_says_closed_and_nothing_hangs() {
    let place = Place::new();
    let store = place.open();
    let other = store.clone();
    store.write_soon(vec![value("queued", 1)]);
    store.close().await;
    assert!(matches!(other.write(vec![value("a", 1)]).await, Err(StoreError::Closed)));
    assert!(matches!(other.runs(RunQuery::default()).await, Err(StoreError::Closed)));
    other.write_soon(vec![value("a", 1)]);
    assert_eq!(other.counters().failed_soon, 1);
    other.close().await;
    let store = place.open();
    assert_eq!(store.values("test").await.unwrap().keys().collect::<Vec<_>>(), ["queued"]);
    store.close().await;
}

#[tokio::test]
async fn a_hand_edited_value_is_an_error_that_says_where() {
    let place = Place::new();
    let store = place.open();
    store.write(vec![create(1), value("k", 1)]).await.unwrap();
    store.close().await;
    let by_hand = rusqlite::Connection::open(place.database()).unwrap();
    by_hand.execute("UPDATE small_values SET value = '{'", []).unwrap();
    by_hand.execute("UPDATE runs SET dut = 'no id'", []).unwrap();
    drop(by_hand);
    let store = place.open();
    let error = store.values("test").await.unwrap_err().to_string();
    assert!(error.starts_with("small_values.value in state.db is not readable (\"{\")"), "{error}");
    let error = store.run(1).await.unwrap_err().to_string();
    assert!(error.starts_with("runs.dut in state.db is not readable (\"no id\")"), "{error}");
    // The others are still served.
    store.write(vec![value("k", 2)]).await.unwrap();
    assert_eq!(store.values("test").await.unwrap()["k"], 2);
    store.close().await;
}
