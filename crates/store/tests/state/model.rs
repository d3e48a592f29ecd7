//! Random changes against a model in memory: the same ones are refused, and what is read back is the same, also after
//! closing and opening again.

use std::collections::BTreeMap;

use farmgate_protocol::{DutId, JobStatus, Timestamp};
use farmgate_store::{Change, Kept, RunEvent, RunQuery, RunRow, RunState, Store, StoredRun, Token};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::samples::{Place, new_run};

fn job_id(metadata: &Value) -> Option<String> {
    metadata["job_id"].as_str().map(str::to_owned)
}

/// What the store should hold, in the simplest form.
#[derive(Debug, Clone, Default)]
struct Model {
    runs: BTreeMap<u64, StoredRun>,
    events: BTreeMap<u64, BTreeMap<u64, RunEvent>>,
    memories: BTreeMap<DutId, Value>,
    values: BTreeMap<String, Value>,
    tokens: BTreeMap<String, Token>,
    audit: Vec<String>,
}

/// Refused.
struct Refused;

impl Model {
    /// All of them or none.
    fn write(&mut self, batch: &[Change]) -> Result<(), Refused> {
        let mut next = self.clone();
        batch.iter().try_for_each(|change| next.apply(change.clone()))?;
        *self = next;
        Ok(())
    }

    fn known(&mut self, run: u64) -> Result<&mut StoredRun, Refused> {
        self.runs.get_mut(&run).ok_or(Refused)
    }

    fn open(&mut self, run: u64) -> Result<&mut StoredRun, Refused> {
        self.known(run).and_then(|r| if r.row.state == RunState::Finished { Err(Refused) } else { Ok(r) })
    }

    fn apply(&mut self, change: Change) -> Result<(), Refused> {
        match change {
            Change::CreateRun(new) => {
                if self.runs.contains_key(&new.number) || new.state == RunState::Finished {
                    return Err(Refused);
                }
                let row = RunRow {
                    number: new.number,
                    kind: new.kind,
                    state: new.state,
                    dut: new.dut,
                    created: new.created,
                    started: None,
                    ended: None,
                    name: new.name,
                    priority: new.priority,
                    submitter: new.submitter,
                    phase: None,
                    status: None,
                    cause: None,
                    summary: None,
                    console_from: new.console_from,
                    console_to: None,
                    job_id: job_id(&new.metadata),
                };
                let run = StoredRun {
                    row,
                    text: new.text,
                    metadata: new.metadata,
                    spec: new.spec,
                    variables: new.variables,
                    client: new.client,
                    outcome: None,
                    resume_token_hash: new.resume_token_hash,
                    progress: None,
                    feed: None,
                };
                self.runs.insert(run.row.number, run);
            }
            Change::Dispatch { run, dut, spec, variables, console_from } => {
                let run = self.open(run)?;
                run.row.state = RunState::Active;
                (run.row.dut, run.row.console_from) = (Some(dut), Some(console_from));
                (run.spec, run.variables) = (Some(spec), variables);
            }
            Change::Step { run, progress, feed, phase, started, dut } => {
                let run = self.open(run)?;
                run.progress = progress.or(run.progress.take());
                run.feed = feed.or(run.feed);
                run.row.phase = phase.or(run.row.phase.take());
                run.row.started = started.or(run.row.started);
                run.row.dut = dut.or(run.row.dut.take());
            }
            Change::Event { run, seq, time, console, body } => {
                self.known(run)?;
                let new = RunEvent { seq, time, console, body };
                let old = self.events.entry(run).or_default().insert(seq, new);
                if old.is_some() || seq == 0 {
                    return Err(Refused);
                }
            }
            Change::Finish { run, ended, status, cause, summary, outcome, console_to, kept } => {
                let run = self.open(run)?;
                run.row.state = RunState::Finished;
                (run.row.ended, run.row.status) = (Some(ended), Some(status));
                (run.row.cause, run.row.summary) = (Some(cause), Some(summary));
                (run.outcome, run.row.console_to) = (Some(outcome), Some(console_to));
                (run.progress, run.feed) = (None, None);
                run.row.job_id = job_id(&kept.metadata);
                (run.metadata, run.variables, run.spec) = (kept.metadata, kept.variables, kept.spec);
            }
            Change::Forget { run, kept } => {
                let run = self.known(run)?;
                run.row.job_id = job_id(&kept.metadata);
                (run.metadata, run.variables, run.spec) = (kept.metadata, kept.variables, kept.spec);
            }
            Change::DutMemory { dut, memory: Some(memory) } => drop(self.memories.insert(dut, memory)),
            Change::DutMemory { dut, memory: None } => drop(self.memories.remove(&dut)),
            Change::Value { key, value: Some(value), .. } => drop(self.values.insert(key, value)),
            Change::Value { key, value: None, .. } => drop(self.values.remove(&key)),
            Change::AddToken { name, role, hash, created } => {
                let token = Token { name: name.clone(), role, hash, created, used: None };
                if self.tokens.insert(name, token).is_some() {
                    return Err(Refused);
                }
            }
            Change::RevokeToken { name } => drop(self.tokens.remove(&name).ok_or(Refused)?),
            Change::TokenUsed { name, at } => {
                if let Some(token) = self.tokens.get_mut(&name) {
                    token.used = Some(at);
                }
            }
            Change::Audit { what, .. } => self.audit.push(what),
        }
        Ok(())
    }
}

fn some_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..3)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn some_time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

fn some_dut() -> impl Strategy<Value = DutId> {
    prop::sample::select(vec!["a", "b"]).prop_map(|name| DutId::new(name).unwrap())
}

fn some_offset() -> impl Strategy<Value = u64> {
    0..=i64::MAX as u64
}

fn some_kept() -> impl Strategy<Value = Kept> {
    (some_json(), some_json(), prop::option::of(some_json())).prop_map(|(metadata, variables, spec)| Kept {
        metadata,
        variables,
        spec,
    })
}

fn some_new_run() -> impl Strategy<Value = Change> {
    let state =
        prop::sample::select(vec![RunState::Queued, RunState::Active, RunState::Queued, RunState::Finished]);
    (
        1..6_u64,
        state,
        prop::option::of(some_dut()),
        any::<String>(),
        some_json(),
        prop::option::of(some_json()),
        some_time(),
    )
        .prop_map(|(number, state, dut, text, metadata, spec, created)| {
            let mut run = new_run(number);
            (run.state, run.dut, run.text, run.metadata) = (state, dut, text, metadata);
            (run.spec, run.created) = (spec, created);
            run.into()
        })
}

fn some_verdict() -> impl Strategy<Value = Change> {
    let status = prop::sample::select(JobStatus::ALL.to_vec());
    (1..6_u64, some_time(), status, some_json(), any::<String>(), some_json(), some_offset(), some_kept())
        .prop_map(|(run, ended, status, cause, summary, outcome, console_to, kept)| Change::Finish {
            run,
            ended,
            status,
            cause,
            summary,
            outcome,
            console_to,
            kept,
        })
}

fn some_change() -> impl Strategy<Value = Change> {
    let number = 1..6_u64;
    let name = || prop::sample::select(vec!["x", "y"]).prop_map(str::to_owned);
    prop_oneof![
        6 => some_new_run(),
        2 => (number.clone(), some_dut(), some_json(), some_json(), some_offset()).prop_map(
            |(run, dut, spec, variables, console_from)| Change::Dispatch { run, dut, spec, variables, console_from }),
        6 => (number.clone(), prop::option::of(any::<String>()), prop::option::of(some_offset()),
              prop::option::of(any::<String>()), prop::option::of(some_time()), prop::option::of(some_dut())).prop_map(
            |(run, progress, feed, phase, started, dut)| Change::Step { run, progress, feed, phase, started, dut }),
        6 => (number.clone(), 0..12_u64, some_time(), some_offset(), some_json()).prop_map(
            |(run, seq, time, console, body)| Change::Event { run, seq, time, console, body }),
        2 => some_verdict(),
        1 => (number, some_kept()).prop_map(|(run, kept)| Change::Forget { run, kept }),
        2 => (some_dut(), prop::option::of(some_json())).prop_map(|(dut, memory)| Change::DutMemory { dut, memory }),
        3 => (any::<String>(), prop::option::of(some_json())).prop_map(
            |(key, value)| Change::Value { space: "test".to_owned(), key, value }),
        1 => (name(), any::<String>(), some_time()).prop_map(
            |(name, hash, created)| Change::AddToken { name, role: "user".to_owned(), hash, created }),
        1 => name().prop_map(|name| Change::RevokeToken { name }),
        1 => (name(), some_time()).prop_map(|(name, at)| Change::TokenUsed { name, at }),
        1 => any::<String>().prop_map(|what| Change::Audit {
            at: Timestamp::from_micros(0), who: String::new(), from: String::new(), what, details: json!(null) }),
    ]
}

/// What can be read is what the model says.
async fn same(store: &Store, model: &Model) {
    for number in 0..7 {
        assert_eq!(store.run(number).await.unwrap().as_ref(), model.runs.get(&number));
        let events = store.run_events(number, 0, 1000).await.unwrap();
        let expected: Vec<RunEvent> =
            model.events.get(&number).map(|e| e.values().cloned().collect()).unwrap_or_default();
        assert_eq!(events, expected);
    }
    let open: Vec<StoredRun> =
        model.runs.values().filter(|r| r.row.state != RunState::Finished).cloned().collect();
    assert_eq!(store.open_runs().await.unwrap(), open);
    for state in [None, Some(RunState::Queued), Some(RunState::Finished)] {
        let expected: Vec<RunRow> = model.runs.values().rev().map(|r| r.row.clone()).collect();
        let expected: Vec<RunRow> =
            expected.into_iter().filter(|r| state.is_none_or(|state| r.state == state)).collect();
        assert_eq!(store.runs(RunQuery { state, ..RunQuery::default() }).await.unwrap(), expected);
    }
    assert_eq!(store.dut_memories().await.unwrap(), model.memories);
    assert_eq!(store.values("test").await.unwrap(), model.values);
    assert_eq!(store.tokens().await.unwrap(), model.tokens.values().cloned().collect::<Vec<_>>());
    let audit = store.audit(None, 1000).await.unwrap();
    assert_eq!(audit.into_iter().rev().map(|a| a.what).collect::<Vec<_>>(), model.audit);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn random_changes_do_what_the_model_says(
        batches in prop::collection::vec((prop::collection::vec(some_change(), 1..5), prop::bool::weighted(0.1)), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            // Nothing is removed, however long ago a random end is.
            let keep = farmgate_store::Retention { age: std::time::Duration::MAX, ..Default::default() };
            let mut store = Store::open(&place.database(), keep).unwrap();
            let mut model = Model::default();
            for (batch, reopen) in batches {
                let expected = model.write(&batch).is_ok();
                let result = store.write(batch).await;
                assert_eq!(result.is_ok(), expected, "{result:?}");
                if reopen {
                    store.close().await;
                    store = Store::open(&place.database(), keep).unwrap();
                }
            }
            same(&store, &model).await;
            store.close().await;
        });
    }
}
