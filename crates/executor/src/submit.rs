//! From a submission to a run: which DUT, is the job right for it, is it free.

use std::sync::Arc;

use farmgate_job::{JobError, Source, Target, Variables};
use farmgate_protocol::{
    DutId,
    dut::{Dut, DutState},
    submit::Metadata,
};
use tokio::sync::oneshot;

use crate::{
    client::{ClientLink, link},
    dut::{Intent, JobStart},
    executor::Executor,
    matching::{NoMatch, candidates},
};

/// A job as it arrives.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The `metadata` part.
    pub metadata: Metadata,
    /// Name of the job's file, for messages.
    pub name: String,
    /// The job's text.
    pub text: String,
}

/// Why a job is not accepted; each has its HTTP status.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The job, or what came with it, is wrong (400).
    #[error("{0}")]
    BadRequest(String),
    /// The job is wrong, with the place (400).
    #[error("{0}")]
    Job(#[from] Box<JobError>),
    /// No DUT of that id (404).
    #[error("{0}")]
    UnknownDut(String),
    /// No DUT with those tags (406).
    #[error("{0}")]
    NoSuchTags(String),
    /// All DUTs that could run it are busy or out of service (409).
    #[error("{0}")]
    Busy(String),
    /// The gateway cannot run anything now (503).
    #[error("{0}")]
    Unavailable(String),
}

impl SubmitError {
    /// The HTTP status of the answer.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::Job(_) => 400,
            Self::UnknownDut(_) => 404,
            Self::NoSuchTags(_) => 406,
            Self::Busy(_) => 409,
            Self::Unavailable(_) => 503,
        }
    }
}

/// An accepted job: it runs.
#[derive(Debug)]
pub struct Accepted {
    /// Its number.
    pub run: u64,
    /// Where it runs.
    pub dut: DutId,
    /// The client's end of it. Dropping it cancels the job.
    pub client: ClientLink,
}

impl Executor {
    /// Checks a job, finds a free DUT for it and starts it there.
    ///
    /// # Errors
    /// [`SubmitError`] says which part of it did not go.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, SubmitError> {
        let source = Source { name: &submission.name, text: &submission.text };
        let target = self.target(&submission, &source)?;
        let duts = self.duts();
        let farm = &self.shared().config.farm_name;
        let matching = candidates(&duts, &target, farm).map_err(|e| match e {
            NoMatch::UnknownId(text) => SubmitError::UnknownDut(text),
            NoMatch::Tags(text) => SubmitError::NoSuchTags(text),
        })?;
        // Check the job against a DUT before anything else: a wrong job is wrong even while all are busy.
        let mut idle = Vec::new();
        for (index, dut) in matching.iter().enumerate() {
            if index == 0 || dut.state == DutState::Idle {
                let variables = self.variables(&submission, Some(dut));
                let job = self.shared().config.resolve(&source, &variables).map_err(Box::new)?;
                if job.target.is_none() && submission.metadata.target.is_none() {
                    return Err(SubmitError::BadRequest("the job names no target".to_owned()));
                }
                if let Some(deadline) = job.deadline
                    && deadline < farmgate_protocol::Timestamp::now()
                {
                    return Err(SubmitError::BadRequest(format!(
                        "the job's deadline, {deadline}, has passed"
                    )));
                }
                if dut.state == DutState::Idle {
                    idle.push((dut.id.clone(), job, Arc::new(variables)));
                }
            }
        }
        for (id, job, variables) in idle {
            if let Some(accepted) = self.start_on(id, job, variables).await? {
                return Ok(accepted);
            }
        }
        Err(SubmitError::Busy(busy_text(&matching)))
    }

    async fn start_on(
        &self,
        id: DutId,
        job: farmgate_job::Job,
        variables: Arc<Variables>,
    ) -> Result<Option<Accepted>, SubmitError> {
        let Some(handle) = self.handle(&id) else { return Ok(None) };
        let shared = self.shared();
        let from = shared.salad.end(id.as_str()).await.map_err(|e| {
            SubmitError::Unavailable(format!("the console service (SALAD) does not answer: {e}"))
        })?;
        let run = shared.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let (client, run_client) = link(run, id.to_string(), from);
        let start = Box::new(JobStart { run, job, variables, from, client: run_client });
        let (reply, answer) = oneshot::channel();
        if handle.intents.send(Intent::Start(start, reply)).await.is_err() {
            return Ok(None);
        }
        match answer.await {
            Ok(Ok(())) => Ok(Some(Accepted { run, dut: id, client })),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    fn target(&self, submission: &Submission, source: &Source<'_>) -> Result<Target, SubmitError> {
        if let Some(target) = &submission.metadata.target
            && (target.id.is_some() || target.tags.is_some())
        {
            return Ok(Target { id: target.id.clone(), tags: target.tags.clone().unwrap_or_default() });
        }
        let variables = self.variables(submission, None);
        let target = farmgate_job::target_of(source, &variables).map_err(Box::new)?;
        target.ok_or_else(|| {
            SubmitError::BadRequest(
                "the job names no target: add `target: {tags: [...]}` to it, or name one when you submit it (-t, -i)"
                    .to_owned(),
            )
        })
    }

    fn variables(&self, submission: &Submission, dut: Option<&Dut>) -> Variables {
        let environ = submission.metadata.environ.clone().unwrap_or_default();
        self.shared().config.submission_variables(dut, environ)
    }
}

fn busy_text(matching: &[&Dut]) -> String {
    let say = |d: &&Dut| format!("{} is {} ({})", d.full_name, d.state, d.state_reason);
    let states: Vec<String> = matching.iter().map(say).collect();
    format!("all machines that could run the job are busy or out of service: {}", states.join("; "))
}
