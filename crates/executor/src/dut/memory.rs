//! What a DUT's task keeps over a restart of the gateway: its training, what it was found to be, and the run that was
//! on it. The farm file says what a machine *is*; this says what was going on.

use std::sync::Arc;

use farmgate_job::{Cause, Job, Outcome, Variables};
use farmgate_protocol::{JobStatus, Timestamp, console::Control};
use farmgate_salad::ConsoleOffset;
use farmgate_store::{Change, Kept, RunQuery, RunState, StoredRun};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DutTask, Kind};
use crate::{
    run::{
        Begin, RunReport,
        checkpoint::{Checkpoint, StoredOutcome},
        control_from_json,
    },
    runs::{
        OwnEnds,
        attendance::{Attendance, Policy},
        log::{ConsolePlace, RunLog, Told},
    },
    training::Round,
};

/// Runs that can have ended between what was stored of a machine last and the end of the gateway.
const LAST_RUNS: usize = 20;

/// What is stored of a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Remembered {
    pub quick_check_due: bool,
    pub borked: Option<String>,
    pub round: Option<Round>,
    /// Where the training's boots are in the console record.
    pub logs: Vec<(u64, u64)>,
    /// Runs up to this number are counted in the above.
    pub settled: u64,
}

/// What a machine's task begins with.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// Of the gateway before.
    pub memory: Option<Remembered>,
    /// A run that it had not ended.
    pub run: Option<Box<StoredRun>>,
    /// The gateway before did not stop, it died, on this same host's uptime.
    pub after_crash: bool,
}

impl DutTask {
    /// Stores what has changed.
    pub(super) fn remember(&mut self) {
        let now = Remembered {
            quick_check_due: self.memory.quick_check_due,
            borked: self.memory.borked.clone(),
            round: self.round.clone(),
            logs: self.logs.iter().map(|range| (range.start.0, range.end.0)).collect(),
            settled: self.settled,
        };
        if self.remembered.as_ref() == Some(&now) {
            return;
        }
        let memory = serde_json::to_value(&now).ok();
        self.shared.store.write_soon(vec![Change::DutMemory { dut: self.id.clone(), memory }]);
        self.remembered = Some(now);
    }

    /// Counts the runs whose end the gateway before stored, but did not come to count.
    pub(super) async fn settle_past_runs(&mut self) {
        if self.remembered.is_none() {
            return;
        }
        let query = RunQuery {
            dut: Some(self.id.clone()),
            state: Some(RunState::Finished),
            limit: LAST_RUNS,
            ..RunQuery::default()
        };
        let mut rows = match self.shared.store.runs(query).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(dut = %self.id, %error, "the last runs of a machine cannot be read");
                return;
            }
        };
        rows.retain(|row| row.number > self.settled);
        rows.sort_by_key(|row| row.number);
        for row in rows {
            let Ok(Some(run)) = self.shared.store.run(row.number).await else { continue };
            if let Some(report) = report_of(&run) {
                self.count(Kind::from_word(&run.row.kind), report).await;
            }
        }
    }

    /// Goes on with the run that the gateway before had on this machine.
    pub(super) async fn take_up(&mut self, run: StoredRun) {
        let (number, kind) = (run.row.number, Kind::from_word(&run.row.kind));
        let checkpoint = run.progress.as_deref().map(serde_json::from_str::<Checkpoint>);
        let job = run.spec.clone().map(serde_json::from_value::<Job>);
        let stored = checkpoint.zip(job).map(|(checkpoint, job)| Ok((checkpoint?, job?)));
        let variables: Variables = match run.variables.clone() {
            Value::Object(map) => Variables(map),
            _ => Variables::default(),
        };
        let kept = Kept { metadata: run.metadata.clone(), ..Kept::default() };
        let context = self.context(number, kind, Arc::new(variables), without_secrets(kept));
        match (stored, context) {
            (Some(Ok((checkpoint, job))), Some(context)) => {
                let from = ConsoleOffset(run.row.console_from.unwrap_or_default());
                let fed = ConsoleOffset(run.feed.unwrap_or(from.0));
                let ends = self.ends_of(&run, from).await;
                let begin = Begin::Again { job: Box::new(job), checkpoint: Box::new(checkpoint), from, fed };
                self.emit("run", format!("job {number} goes on on {}", self.full_name));
                self.start(kind, context, begin, ends);
            }
            (_, None) => {
                let why = "the machine lost its outlet or its MAC address in the farm file while the gateway was down";
                self.give_up(&run, Cause::Infrastructure, why);
            }
            (Some(Err::<_, serde_json::Error>(error)), _) => {
                self.give_up(&run, Cause::Bug, &format!("what is stored of the run cannot be read: {error}"));
                self.switch_off_left_on().await;
            }
            (None, _) => {
                self.give_up(&run, Cause::Bug, "nothing is stored of where the run stood");
                self.switch_off_left_on().await;
            }
        }
    }

    async fn ends_of(&self, run: &StoredRun, from: ConsoleOffset) -> OwnEnds {
        let log = Arc::new(RunLog::new(run.row.number));
        for told in told(&self.shared.store, run.row.number).await {
            log.tell(told);
        }
        log.set_console(ConsolePlace { machine: self.id.to_string(), from });
        // Its client is lost with the gateway, which does not end it; one that comes back is asked to stay again.
        let policy = serde_json::from_value::<crate::dispatch::StoredClient>(run.client.clone())
            .map_or(Policy::Detached, |client| client.policy);
        OwnEnds::new(log, Arc::new(Attendance::new(policy)))
    }

    fn give_up(&self, run: &StoredRun, cause: Cause, why: &str) {
        if let Some(mac) = self.entry.mac_address {
            self.shared.boots.end(mac, run.row.number);
        }
        self.emit("run", format!("job {} is over: {why}", run.row.number));
        self.shared.store.write_soon(vec![lost(run, cause, why)]);
    }
}

/// The end of a run that nobody can go on with.
pub(crate) fn lost(run: &StoredRun, cause: Cause, why: &str) -> Change {
    let status = JobStatus::Incomplete;
    let outcome = Outcome { status, cause: cause.clone(), summary: why.to_owned(), attempts: Vec::new() };
    let stored = StoredOutcome { outcome, firmware: None, unfit: None, joules: None };
    Change::Finish {
        run: run.row.number,
        ended: Timestamp::now(),
        status,
        cause: serde_json::to_value(&cause).unwrap_or_default(),
        summary: why.to_owned(),
        outcome: serde_json::to_value(stored).unwrap_or_default(),
        console_to: run.feed.or(run.row.console_from).unwrap_or_default(),
        kept: without_secrets(Kept { metadata: run.metadata.clone(), ..Kept::default() }),
    }
}

/// What stays of a submission when its run has ended.
fn without_secrets(kept: Kept) -> Kept {
    let job_id = kept.metadata["job_id"].clone();
    Kept { metadata: serde_json::json!({"version": 1, "job_id": job_id}), ..kept }
}

/// What a run has told, as it is stored.
pub(crate) async fn told(store: &farmgate_store::Store, run: u64) -> Vec<Told> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map_or(0, |told: &Told| told.seq);
        let page = match store.run_events(run, after, 10_000).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(run, %error, "the messages of a run cannot be read");
                return all;
            }
        };
        if page.is_empty() {
            return all;
        }
        all.extend(page.into_iter().map(|event| {
            let control: Control = control_from_json(&event.body);
            Told { seq: event.seq, at: ConsoleOffset(event.console), date: event.time, control }
        }));
    }
}

/// A run that has ended, as its machine's task would have been told.
fn report_of(run: &StoredRun) -> Option<RunReport> {
    let stored: StoredOutcome = serde_json::from_value(run.outcome.clone()?).ok()?;
    let from = run.row.console_from.unwrap_or_default();
    let begun = run.row.started.unwrap_or(run.row.created);
    Some(RunReport {
        run: run.row.number,
        outcome: stored.outcome,
        unfit: stored.unfit,
        firmware: stored.firmware,
        console: ConsoleOffset(from)..ConsoleOffset(run.row.console_to.unwrap_or(from)),
        elapsed: run.row.ended.map(|ended| ended.since(begun)).unwrap_or_default(),
    })
}
