//! Runs, changes and stores for the tests.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use farmgate_protocol::{DutId, JobStatus, Timestamp};
use farmgate_store::{Change, Kept, NewRun, Retention, RunState, Store};
use serde_json::{Value, json};

/// Nothing a test waits for takes longer.
pub const BOUND: Duration = Duration::from_secs(30);

/// A folder of its own with a store in it.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    pub fn open(&self) -> Store {
        Store::open(&self.database(), Retention::default()).unwrap()
    }
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000)
}

pub fn dut(name: &str) -> DutId {
    DutId::new(name).unwrap()
}

pub fn new_run(number: u64) -> NewRun {
    NewRun {
        number,
        kind: "job".to_owned(),
        dut: None,
        created: at(0),
        name: "hello.yml".to_owned(),
        text: "version: 1\n".to_owned(),
        metadata: json!({"environ": {"PASSWORD": "hunter2"}}),
        priority: "default".to_owned(),
        submitter: "local".to_owned(),
        state: RunState::Queued,
        spec: None,
        variables: json!({"secret": "hunter2"}),
        console_from: None,
        resume_token_hash: Some("c0ffee".to_owned()),
        client: json!({"upgrade": true}),
    }
}

pub fn create(number: u64) -> Change {
    new_run(number).into()
}

pub fn dispatch(run: u64, machine: &str) -> Change {
    Change::Dispatch {
        run,
        dut: dut(machine),
        spec: json!({"kernel": "hunter2"}),
        variables: json!({"machine_id": machine}),
        console_from: 4096,
    }
}

pub fn step(run: u64, progress: &str) -> Change {
    Change::Step {
        run,
        progress: Some(progress.to_owned()),
        feed: None,
        phase: None,
        started: None,
        dut: None,
    }
}

pub fn event(run: u64, seq: u64) -> Change {
    Change::Event { run, seq, time: at(1), console: seq * 10, body: json!({"msg": seq}) }
}

pub fn kept() -> Kept {
    Kept { metadata: json!({"environ": {"PASSWORD": "***"}}), variables: Value::Null, spec: None }
}

pub fn finish(run: u64, ended: Timestamp, status: JobStatus) -> Change {
    Change::Finish {
        run,
        ended,
        status,
        cause: json!("session"),
        summary: "it ended".to_owned(),
        outcome: json!({"status": status.as_str()}),
        console_to: 8192,
        kept: kept(),
    }
}

pub fn value(key: &str, value: impl Into<Value>) -> Change {
    Change::Value { space: "test".to_owned(), key: key.to_owned(), value: Some(value.into()) }
}

/// Waits until it holds, asking again and again.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, all).await.unwrap_or_else(|_| panic!("never: {what}"));
}
