//! From a submission to a run: which DUT, is the job right for it, is it free.

use std::sync::Arc;

use farmgate_job::{JobError, Source, Target, Variables};
use farmgate_protocol::{DutId, Timestamp, dut::Dut, submit::Metadata};
use tokio::sync::oneshot;

use crate::{
    client::ClientLink,
    config::ExecutorConfig,
    dispatch::{Ask, Pending, Reply},
    executor::Executor,
    matching::{NoMatch, candidates},
    runs::{
        OwnEnds,
        attendance::{Attendance, Policy},
        log::RunLog,
    },
    secret::{hash_secret, new_secret},
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
    /// Who submits it: a token's name, or where it comes from.
    pub submitter: String,
    /// Its client can come back to its stream.
    pub resumable: bool,
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

/// An accepted job: it runs, or waits for a machine.
#[derive(Debug)]
pub struct Accepted {
    /// Its number.
    pub run: u64,
    /// Where it runs; none while it waits.
    pub dut: Option<DutId>,
    /// The client's end of it. Dropping it tells the run that the client is gone.
    pub client: ClientLink,
    /// With this its client can come back.
    pub token: Option<String>,
}

impl Submission {
    /// What the template sees: the machine, the farm's settings, the submitter's environment.
    pub(crate) fn variables(&self, config: &ExecutorConfig, dut: Option<&Dut>) -> Variables {
        let environ = self.metadata.environ.clone().unwrap_or_default();
        config.submission_variables(dut, environ)
    }
}

impl Executor {
    /// Checks a job, and gives it to a machine; or, if none is free and the client waits, to the queue.
    ///
    /// # Errors
    /// [`SubmitError`] says which part of it did not go.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, SubmitError> {
        let shared = self.shared();
        let source = Source { name: &submission.name, text: &submission.text };
        let target = self.target(&submission, &source)?;
        let duts = self.duts();
        let farm = &shared.config.farm_name;
        let matching = candidates(&duts, &target, farm).map_err(|e| match e {
            NoMatch::UnknownId(text) => SubmitError::UnknownDut(text),
            NoMatch::Tags(text) => SubmitError::NoSuchTags(text),
        })?;
        if shared.config.observe {
            let machine = matching.first().map_or("a machine", |dut| dut.full_name.as_str());
            let text = format!("the gateway observes: it would run this job on {machine}, and does nothing");
            return Err(SubmitError::Unavailable(text));
        }
        let deadline = self.check(&submission, &source, matching.first().copied())?;
        let busy = busy_text(&matching);
        let metadata = &submission.metadata;
        let wait = metadata.wait.unwrap_or_default();
        let name = metadata.job_cookie.clone().or_else(|| metadata.job_id.clone());
        let (reply, answer) = oneshot::channel();
        let pending = Box::new(self.pending(submission, target, deadline, reply));
        shared.queue.ask(Ask::Submit { pending, wait, name, busy }).await;
        answer.await.map_err(|_| SubmitError::Unavailable("the gateway is stopping".to_owned()))?
    }

    /// Checks the job against one machine before anything else: a wrong job is wrong even while all are busy. What
    /// depends on the machine is checked again when it has its own.
    fn check(
        &self,
        submission: &Submission,
        source: &Source<'_>,
        dut: Option<&Dut>,
    ) -> Result<Option<Timestamp>, SubmitError> {
        let config = &self.shared().config;
        let job = config.resolve(source, &submission.variables(config, dut)).map_err(Box::new)?;
        if job.target.is_none() && submission.metadata.target.is_none() {
            return Err(SubmitError::BadRequest("the job names no target".to_owned()));
        }
        if submission.metadata.ignore_deadline.unwrap_or_default() {
            return Ok(None);
        }
        match job.deadline {
            Some(deadline) if deadline < Timestamp::now() => Err(SubmitError::BadRequest(format!(
                "the job's deadline, {deadline}, has passed; submit it with ignore_deadline to run it all the same"
            ))),
            deadline => Ok(deadline),
        }
    }

    fn pending(
        &self,
        submission: Submission,
        target: Target,
        deadline: Option<Timestamp>,
        reply: Reply,
    ) -> Pending {
        let number = self.shared().store.next_run();
        let policy = match (submission.metadata.detach.unwrap_or_default(), submission.resumable) {
            (true, _) => Policy::Detached,
            (false, true) => Policy::Resumable,
            (false, false) => Policy::Bound,
        };
        let token = if submission.resumable { new_secret().ok() } else { None };
        let ends = OwnEnds::new(Arc::new(RunLog::new(number)), Arc::new(Attendance::new(policy)));
        Pending {
            number,
            target,
            priority: submission.metadata.priority.unwrap_or_default(),
            since: Timestamp::now(),
            deadline,
            live: ends.live.clone(),
            ends: Some(ends),
            token_hash: token.as_deref().map(hash_secret),
            token,
            stored: false,
            reply: Some(reply),
            submission,
        }
    }

    fn target(&self, submission: &Submission, source: &Source<'_>) -> Result<Target, SubmitError> {
        if let Some(target) = &submission.metadata.target
            && (target.id.is_some() || target.tags.is_some())
        {
            return Ok(Target { id: target.id.clone(), tags: target.tags.clone().unwrap_or_default() });
        }
        let variables = submission.variables(&self.shared().config, None);
        let target = farmgate_job::target_of(source, &variables).map_err(Box::new)?;
        target.ok_or_else(|| {
            SubmitError::BadRequest(
                "the job names no target: add `target: {tags: [...]}` to it, or name one when you submit it (-t, -i)"
                    .to_owned(),
            )
        })
    }
}

fn busy_text(matching: &[&Dut]) -> String {
    let say = |d: &&Dut| format!("{} is {} ({})", d.full_name, d.state, d.state_reason);
    let states: Vec<String> = matching.iter().map(say).collect();
    format!("all machines that could run the job are busy or out of service: {}", states.join("; "))
}
