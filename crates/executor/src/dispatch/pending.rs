//! A job between its submission and its machine: what is needed to start it, to tell its client, and to have it again
//! after a restart.

use std::sync::Arc;

use farmgate_job::{Cause, Job, Outcome, Target, Variables};
use farmgate_protocol::{
    DutId, JobStatus, Timestamp,
    console::{Control, Severity, Tag},
    dut::Dut,
    run::Priority,
};
use farmgate_salad::ConsoleOffset;
use farmgate_store::{Change, Kept, NewRun, RunState, StoredRun};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::priority_of;
use crate::{
    client::{ClientLink, Since},
    dut::Shared,
    run::{checkpoint::StoredOutcome, control_to_json},
    runs::{
        LiveRun, OwnEnds,
        attendance::{Attendance, Policy},
        log::{End, RunLog, Told},
    },
    submit::{Accepted, Submission, SubmitError},
};

/// Where the submitter waits for an answer.
pub(crate) type Reply = oneshot::Sender<Result<Accepted, SubmitError>>;

/// A job without a machine.
pub(crate) struct Pending {
    pub number: u64,
    pub submission: Submission,
    pub target: Target,
    pub priority: Priority,
    pub since: Timestamp,
    pub deadline: Option<Timestamp>,
    pub live: LiveRun,
    /// The other ends of it; with the machine's task once that has the job.
    pub ends: Option<OwnEnds>,
    /// The client can resume; its token, until it was told.
    pub token: Option<String>,
    pub token_hash: Option<String>,
    /// It is in the store, as a run that waits.
    pub stored: bool,
    pub reply: Option<Reply>,
}

impl Pending {
    /// One that waited when the gateway ended. Its client is lost, which does not end it.
    ///
    /// # Errors
    /// What is stored cannot be read.
    pub fn restore(run: &StoredRun, told: Vec<Told>) -> Result<Self, serde_json::Error> {
        let submission = Submission {
            metadata: serde_json::from_value(run.metadata.clone())?,
            name: run.row.name.clone(),
            text: run.text.clone(),
            submitter: run.row.submitter.clone(),
            resumable: false,
        };
        let client: StoredClient = serde_json::from_value(run.client.clone())?;
        let log = Arc::new(RunLog::new(run.row.number));
        for message in told {
            log.tell(message);
        }
        let ends = OwnEnds::new(log, Arc::new(Attendance::new(client.policy)));
        Ok(Self {
            number: run.row.number,
            submission,
            target: client.target,
            priority: priority_of(&run.row.priority),
            since: run.row.created,
            deadline: client.deadline,
            live: ends.live.clone(),
            ends: Some(ends),
            token: None,
            token_hash: run.resume_token_hash.clone(),
            stored: true,
            reply: None,
        })
    }

    /// What the template sees.
    pub fn variables(&self, shared: &Shared, dut: Option<&Dut>) -> Variables {
        self.submission.variables(&shared.config, dut)
    }

    /// Puts it into the store as one that waits; [`accept_when_stored`](Self::accept_when_stored) waits for that.
    pub fn store_as_waiting(&mut self, shared: &Shared) {
        self.stored = true;
        shared.store.write_soon(vec![self.new_run(RunState::Queued).into()]);
        shared.runs.insert(self.number, self.live.clone());
    }

    /// What makes the run, with its machine, known to the store; and what stays of it when it has ended.
    pub fn creation(
        &self,
        dut: &DutId,
        job: &Job,
        variables: &Variables,
        from: ConsoleOffset,
    ) -> (Vec<Change>, Kept) {
        let spec = serde_json::to_value(job).unwrap_or_default();
        let variables = Value::Object(variables.0.clone());
        let kept = Kept { metadata: self.kept_metadata(), ..Kept::default() };
        let (run, dut) = (self.number, dut.clone());
        let change = if self.stored {
            Change::Dispatch { run, dut, spec, variables, console_from: from.0 }
        } else {
            let new = self.new_run(RunState::Active);
            NewRun { dut: Some(dut), spec: Some(spec), variables, console_from: Some(from.0), ..new }.into()
        };
        let started = Change::Step {
            run,
            progress: None,
            feed: None,
            phase: None,
            started: Some(Timestamp::now()),
            dut: None,
        };
        (vec![change, started], kept)
    }

    fn new_run(&self, state: RunState) -> NewRun {
        let client = StoredClient {
            policy: self.live.attendance.policy(),
            target: self.target.clone(),
            deadline: self.deadline,
        };
        NewRun {
            number: self.number,
            kind: "job".to_owned(),
            dut: None,
            created: self.since,
            name: self.submission.name.clone(),
            text: self.submission.text.clone(),
            metadata: serde_json::to_value(&self.submission.metadata).unwrap_or_default(),
            priority: self.priority.as_str().to_owned(),
            submitter: self.submission.submitter.clone(),
            state,
            spec: None,
            variables: Value::Null,
            console_from: None,
            resume_token_hash: self.token_hash.clone(),
            client: serde_json::to_value(client).unwrap_or_default(),
        }
    }

    /// Without secrets: what people ask for later.
    fn kept_metadata(&self) -> Value {
        json!({"version": 1, "job_id": self.submission.metadata.job_id})
    }

    /// The client's end, for a submitter that still waits for an answer.
    fn answer(&mut self, dut: Option<DutId>) -> Option<(Reply, Accepted)> {
        let reply = self.reply.take()?;
        let client = ClientLink {
            log: Arc::clone(&self.live.log),
            input: Some(self.live.input.clone()),
            present: Some(self.live.attendance.arrive()),
            since: Since::default(),
            numbered: self.submission.resumable,
        };
        Some((reply, Accepted { run: self.number, dut, client, token: self.token.take() }))
    }

    /// The submitter gets its client's end.
    pub fn accept(&mut self, dut: DutId) {
        if let Some((reply, accepted)) = self.answer(Some(dut)) {
            // A submitter that is gone drops the client's end with this, and with it goes the job.
            let _ = reply.send(Ok(accepted));
        }
    }

    /// The same, when everything that was written before is on the disk.
    pub fn accept_when_stored(&mut self, shared: &Arc<Shared>) {
        let Some((reply, accepted)) = self.answer(None) else { return };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let answer = match shared.store.write(Vec::new()).await {
                Ok(()) => Ok(accepted),
                // Its client's end is dropped here: the job leaves the queue.
                Err(error) => Err(SubmitError::Unavailable(format!("the run cannot be stored: {error}"))),
            };
            let _ = reply.send(answer);
        });
    }

    /// The submitter is told why it does not run.
    pub fn refuse(mut self: Box<Self>, error: SubmitError) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(error));
        }
    }

    /// Says where it stands in the queue.
    pub fn tell_place(&self, shared: &Shared, place: u32) {
        let text = match place {
            1 => "The job waits for a machine; it is next".to_owned(),
            place => format!("The job waits for a machine; {} wait before it", place - 1),
        };
        self.tell(shared, Control::info(Tag::Queued, text).with("place", place));
    }

    fn tell(&self, shared: &Shared, control: Control) {
        let log = &self.live.log;
        let told = Told { seq: log.next_seq(), at: ConsoleOffset(0), date: Timestamp::now(), control };
        shared.store.write_soon(vec![Change::Event {
            run: self.number,
            seq: told.seq,
            time: told.date,
            console: 0,
            body: control_to_json(&told.control),
        }]);
        let mut details = Map::new();
        details.insert("run".to_owned(), self.number.into());
        shared.events.emit(None, "queue", told.control.msg.clone(), details);
        log.tell(told);
    }

    /// It gets its verdict without having had a machine.
    pub fn end(self: Box<Self>, shared: &Shared, status: JobStatus, cause: Cause, summary: &str) {
        let outcome =
            Outcome { status, cause: cause.clone(), summary: summary.to_owned(), attempts: Vec::new() };
        let verdict = Control::info(Tag::Verdict, format!("{status}: {summary}"))
            .severity(Severity::Error)
            .with("status", status.as_str())
            .with("cause", cause.as_str())
            .with("summary", summary)
            .with("attempts", Value::Array(Vec::new()));
        self.tell(shared, verdict);
        let now = Timestamp::now();
        let stored = StoredOutcome { outcome, firmware: None, unfit: None, joules: None };
        shared.store.write_soon(vec![Change::Finish {
            run: self.number,
            ended: now,
            status,
            cause: serde_json::to_value(&cause).unwrap_or_default(),
            summary: summary.to_owned(),
            outcome: serde_json::to_value(stored).unwrap_or_default(),
            console_to: 0,
            kept: Kept { metadata: self.kept_metadata(), ..Kept::default() },
        }]);
        self.live.log.end(End { at: ConsoleOffset(0), date: now, status, joules: None });
        shared.runs.remove(self.number);
    }
}

/// What must be known of a waiting job beside its text.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct StoredClient {
    pub policy: Policy,
    pub target: Target,
    pub deadline: Option<Timestamp>,
}
