//! From the queue to a machine: the job is checked against it, and its task asked to run it.

use std::sync::Arc;

use farmgate_job::{Cause, Source, Variables};
use farmgate_protocol::{DutId, JobStatus, dut::Dut};
use tokio::sync::oneshot;

use super::pending::Pending;
use crate::{
    dut::{Intent, JobStart, Shared},
    submit::SubmitError,
};

/// What became of a job that was given a machine.
pub(super) struct Started {
    pub dut: DutId,
    /// The job, if the machine was not free after all.
    pub back: Option<Box<Pending>>,
}

/// Starts a job on a machine that showed itself free.
pub(super) async fn start(shared: Arc<Shared>, mut pending: Box<Pending>, dut: Dut) -> Started {
    let id = dut.id.clone();
    let done = |back| Started { dut: id.clone(), back };
    let variables = pending.variables(&shared, Some(&dut));
    let source = Source { name: &pending.submission.name, text: &pending.submission.text };
    let job = match shared.config.resolve(&source, &variables) {
        Ok(job) => job,
        Err(error) if pending.stored => {
            pending.end(&shared, JobStatus::SetupFail, Cause::JobError, &error.to_string());
            return done(None);
        }
        Err(error) => {
            pending.refuse(SubmitError::Job(Box::new(error)));
            return done(None);
        }
    };
    let from = match shared.salad.end(id.as_str()).await {
        Ok(from) => from,
        Err(error) => {
            let text = format!("the console service (SALAD) does not answer: {error}");
            if pending.stored {
                // It waits on; the next machine that shows itself free, or this one, tries again.
                tracing::warn!(run = pending.number, %error, "a job cannot start");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                return done(Some(pending));
            }
            pending.refuse(SubmitError::Unavailable(text));
            return done(None);
        }
    };
    let Some(handle) = shared.duts.get(&id) else { return done(Some(pending)) };
    let variables: Arc<Variables> = Arc::new(variables);
    let Some(ends) = pending.ends.take() else { return done(None) };
    let (creation, kept) = pending.creation(&id, &job, &variables, from);
    let (stored, is_stored) = oneshot::channel();
    let start = Box::new(JobStart {
        run: pending.number,
        job: Box::new(job),
        variables,
        from,
        ends,
        creation,
        kept,
        stored,
    });
    let (reply, answer) = oneshot::channel();
    if let Err(unsent) = handle.intents.send(Intent::Start(start, reply)).await {
        if let Intent::Start(start, _) = unsent.0 {
            pending.ends = Some(start.ends);
        }
        return done(Some(pending));
    }
    match answer.await {
        Ok(Ok(())) => {
            // The client is told when the run is on the disk; its machine is being switched on meanwhile.
            match is_stored.await {
                Ok(Ok(())) => pending.accept(id.clone()),
                Ok(Err(error)) => {
                    pending.refuse(SubmitError::Unavailable(format!("the run cannot be stored: {error}")));
                }
                Err(_) => {
                    pending
                        .refuse(SubmitError::Unavailable("the run ended by a bug: see the log".to_owned()));
                }
            }
            done(None)
        }
        Ok(Err(start)) => {
            pending.ends = Some(start.ends);
            done(Some(pending))
        }
        // The machine's task ended with the job: the gateway stops.
        Err(_) => done(None),
    }
}
