//! Runs as others ask for them, those that go on and those that are over: lists, details, consoles, coming back to a
//! stream, ending one.

mod phases;

use std::sync::Arc;

use farmgate_protocol::{
    DutId, JobStatus,
    run::{Run, RunDetail, RunState, Why},
};
use farmgate_salad::ConsoleOffset;
use farmgate_store::{RunQuery, RunRow, StoreError, StoredRun};

use crate::{
    client::{ClientLink, Since},
    dispatch::{Ask, priority_of},
    dut::told,
    executor::Executor,
    run::Command,
    runs::{
        attendance::Policy,
        log::{ConsolePlace, End, RunLog},
    },
    secret::hash_secret,
};

/// Why a run cannot be shown or reached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No run of that number.
    #[error("there is no job {0}: `executorctl jobs` lists them")]
    Unknown(u64),
    /// The token is not that run's.
    #[error("the resume token is not that of job {0}")]
    Token(u64),
    /// It is over.
    #[error("job {run} is over: {status}")]
    Over {
        /// Its number.
        run: u64,
        /// Its verdict.
        status: JobStatus,
    },
    /// What is stored cannot be read.
    #[error("the history cannot be read")]
    Store(#[from] StoreError),
}

/// Where a run's console is in its machine's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleRange {
    /// Whose record; none: the run never had a machine.
    pub machine: Option<DutId>,
    /// Its first byte.
    pub from: ConsoleOffset,
    /// Its end; none while it goes on.
    pub to: Option<ConsoleOffset>,
}

impl Executor {
    /// A page of the list of runs, the newest first.
    ///
    /// # Errors
    /// What is stored cannot be read.
    pub async fn runs(&self, query: RunQuery) -> Result<Vec<Run>, StoreError> {
        let rows = self.shared().store.runs(query).await?;
        Ok(rows.into_iter().map(shown).collect())
    }

    /// Everything about one.
    ///
    /// # Errors
    /// It does not exist, or cannot be read.
    pub async fn run(&self, run: u64) -> Result<RunDetail, AttachError> {
        let stored = self.stored(run).await?;
        let live = self.shared().runs.get(run);
        let said = told(&self.shared().store, run).await;
        let phases = phases::of(&stored.row, &said);
        let console = self.range(&stored);
        let end = match (&console.machine, console.to) {
            (Some(machine), None) => self.shared().salad.end(machine.as_str()).await.unwrap_or(console.from),
            (_, to) => to.unwrap_or(console.from),
        };
        let attempts = stored.outcome.as_ref().and_then(|o| o["attempts"].as_array().cloned());
        Ok(RunDetail {
            attempts: attempts.unwrap_or_default(),
            phases,
            console_bytes: end.0.saturating_sub(console.from.0),
            clients: live.map_or(0, |live| live.attendance.present()),
            why: if stored.row.state == farmgate_store::RunState::Queued {
                self.why_of(run).await
            } else {
                None
            },
            run: shown(stored.row),
        })
    }

    /// What it waits for.
    ///
    /// # Errors
    /// It does not exist, or is over.
    pub async fn why(&self, run: u64) -> Result<Why, AttachError> {
        if let Some(why) = self.why_of(run).await {
            return Ok(why);
        }
        let stored = self.stored(run).await?;
        if let Some(status) = stored.row.status {
            return Err(AttachError::Over { run, status });
        }
        let phase = stored.row.phase.as_deref().unwrap_or("setup").replace('_', " ");
        let dut = stored.row.dut.and_then(|id| self.dut(id.as_str()).ok());
        let name = dut.map_or_else(|| "its machine".to_owned(), |d| d.full_name);
        Ok(Why {
            reason: format!("it has {name}, and is in the phase: {phase}"),
            place: None,
            estimate_seconds: None,
            machines: Vec::new(),
        })
    }

    async fn why_of(&self, run: u64) -> Option<Why> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.shared().queue.ask(Ask::Why { run, reply }).await;
        answer.await.ok().flatten()
    }

    /// Ends a run, wherever it stands.
    ///
    /// # Errors
    /// It does not exist, or is over.
    pub async fn cancel_run(&self, run: u64, by: &str) -> Result<(), AttachError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.shared().queue.ask(Ask::Cancel { run, by: by.to_owned(), reply }).await;
        if answer.await == Ok(true) {
            return Ok(());
        }
        if let Some(live) = self.shared().runs.get(run) {
            // Full: it has been told already.
            let _ = live.commands.try_send(Command::Cancel { by: by.to_owned() });
            return Ok(());
        }
        let status = self.stored(run).await?.row.status.unwrap_or(JobStatus::Unknown);
        Err(AttachError::Over { run, status })
    }

    /// A client's end of a run, also of one that is over. `token`: of the client that submitted it, which takes its
    /// place again; without one the caller must be allowed to. `detach`: the run needs nobody from now on.
    ///
    /// # Errors
    /// It does not exist, cannot be read, or the token is another's.
    pub async fn attach(
        &self,
        run: u64,
        token: Option<&str>,
        since: Since,
        detach: bool,
    ) -> Result<ClientLink, AttachError> {
        let stored = self.stored(run).await?;
        if let Some(token) = token
            && stored.resume_token_hash.as_deref() != Some(hash_secret(token).as_str())
        {
            return Err(AttachError::Token(run));
        }
        if let Some(live) = self.shared().runs.get(run) {
            if detach {
                live.attendance.set_policy(Policy::Detached);
            }
            let present = Some(live.attendance.arrive());
            return Ok(ClientLink { log: live.log, input: Some(live.input), present, since, numbered: true });
        }
        // It is over, perhaps since a moment ago.
        let stored = self.stored(run).await?;
        let log = RunLog::new(run);
        for said in told(&self.shared().store, run).await {
            log.tell(said);
        }
        let range = self.range(&stored);
        if let Some(machine) = range.machine {
            log.set_console(ConsolePlace { machine: machine.to_string(), from: range.from });
        }
        log.end(End {
            at: range.to.unwrap_or(range.from),
            date: stored.row.ended.unwrap_or_default(),
            status: stored.row.status.unwrap_or(JobStatus::Unknown),
            joules: stored.outcome.as_ref().and_then(|outcome| outcome["joules"].as_f64()),
        });
        Ok(ClientLink { log: Arc::new(log), input: None, present: None, since, numbered: true })
    }

    /// Where its console is.
    ///
    /// # Errors
    /// It does not exist, or cannot be read.
    pub async fn run_console(&self, run: u64) -> Result<ConsoleRange, AttachError> {
        Ok(self.range(&self.stored(run).await?))
    }

    /// Returns when the run has its verdict.
    pub async fn run_ended(&self, run: u64) {
        if let Some(live) = self.shared().runs.get(run) {
            live.log.ended().await;
        }
    }

    async fn stored(&self, run: u64) -> Result<StoredRun, AttachError> {
        let shared = self.shared();
        let is_live = shared.runs.get(run).is_some();
        let stored = shared.store.run(run).await?.ok_or(AttachError::Unknown(run))?;
        if is_live || stored.row.state == farmgate_store::RunState::Finished {
            return Ok(stored);
        }
        // It has just ended: what says so is on its way to the disk.
        shared.store.write(Vec::new()).await?;
        shared.store.run(run).await?.ok_or(AttachError::Unknown(run))
    }

    fn range(&self, stored: &StoredRun) -> ConsoleRange {
        let row = &stored.row;
        let from = ConsoleOffset(row.console_from.unwrap_or_default());
        let machine = row.console_from.and(row.dut.clone());
        ConsoleRange { machine, from, to: row.console_to.map(ConsoleOffset) }
    }
}

/// As the API shows it.
fn shown(row: RunRow) -> Run {
    Run {
        id: row.number,
        kind: row.kind,
        state: match row.state {
            farmgate_store::RunState::Queued => RunState::Queued,
            farmgate_store::RunState::Active => RunState::Active,
            farmgate_store::RunState::Finished => RunState::Finished,
        },
        phase: row.phase.filter(|_| row.state == farmgate_store::RunState::Active),
        name: row.name,
        job_id: row.job_id,
        dut: row.dut,
        priority: priority_of(&row.priority),
        submitter: row.submitter,
        created: row.created,
        started: row.started,
        ended: row.ended,
        status: row.status,
        cause: row.cause.as_ref().and_then(|c| c["kind"].as_str().map(str::to_owned)),
        summary: row.summary,
    }
}
