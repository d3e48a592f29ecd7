//! How a run is left: what the person is told, and what the gateway is asked to do with the job. A submitter that
//! leaves deliberately cancels its job; a visitor, and who detaches, does not.

use farmgate_protocol::{JobStatus, console::Severity};
use reqwest::StatusCode;

use crate::{
    claim::{Claim, Role},
    drive::{End, ProcessScreen},
    gateway::GatewayError,
    phases::QUEUE,
    session::{Note, Position},
    signals::Signals,
};

/// The keys that are ours, for a person at a terminal.
pub fn keyboard_note(claim: &Claim) -> String {
    let leave = match (claim.role, claim.run) {
        (Role::Visitor, _) => "Ctrl-A Ctrl-C or Ctrl-A Ctrl-D leaves, and the job goes on",
        (Role::Submitter, Some(_)) => {
            "Ctrl-A Ctrl-C leaves and cancels the job, Ctrl-A Ctrl-D leaves and lets it go on"
        }
        (Role::Submitter, None) => "Ctrl-A Ctrl-C leaves and cancels the job",
    };
    format!("the keyboard belongs to the DUT. {leave}, Ctrl-A Ctrl-A sends one Ctrl-A")
}

/// Tells the gateway that the run needs nobody from now on.
///
/// # Errors
/// Why it goes on needing somebody, for a person.
pub async fn let_go(claim: &Claim, position: Position) -> Result<(), String> {
    if claim.role == Role::Visitor {
        return Ok(());
    }
    let Some(run) = claim.run else {
        return Err(
            "this gateway cannot let a job go on without its client; Ctrl-A Ctrl-C leaves and cancels it"
                .to_owned(),
        );
    };
    // The answer is a stream, which is not read: it is asked for only because this is how it is said.
    match claim.attach(run, position, true).await {
        Ok(stream) => {
            drop(stream);
            Ok(())
        }
        Err(error) => Err(format!("the gateway could not be told to let the job go on: {error}")),
    }
}

/// What the report says where the gateway gave no verdict.
#[derive(Debug)]
pub struct Ending {
    /// The verdict.
    pub status: JobStatus,
    /// Whose doing it is, where that is known.
    pub cause: Option<&'static str>,
    /// In a sentence.
    pub reason: String,
}

/// Says how the stream ended in that stage, and cancels the job where that is meant. None: the gateway gave its verdict.
pub async fn farewell(
    end: End,
    stage: Option<&'static str>,
    claim: &Claim,
    screen: &mut ProcessScreen,
    signals: &mut Signals,
) -> Option<Ending> {
    let (severity, status, cause, text) = match end {
        End::Verdict => return None,
        End::Left(who) if claim.role == Role::Visitor => {
            (Severity::Info, JobStatus::Unknown, None, format!("{who}: {}", goes_on(claim)))
        }
        End::Left(who) => {
            let cancelled = tokio::select! {
                cancelled = cancel(claim) => cancelled,
                // The person does not even want to wait for that.
                _ = signals.next() => "the job ends when the gateway misses its client".to_owned(),
            };
            // The gateway's word for a job that never had a machine.
            let queued = stage == Some(QUEUE);
            let status = if queued { JobStatus::SetupFail } else { JobStatus::Incomplete };
            (Severity::Warn, status, Some("cancelled"), format!("{who}: {cancelled}"))
        }
        End::Detached => (Severity::Info, JobStatus::Unknown, None, goes_on(claim)),
        End::Broken(why) | End::Damaged(why) | End::Lost(why) => {
            let back = claim.can_resume().map(|run| format!(". It may still run: executorctl attach {run}"));
            let text = format!(
                "the connection to the gateway ended before the job did ({why}): its verdict is not known{}",
                back.unwrap_or_default()
            );
            (Severity::Error, JobStatus::Incomplete, None, text)
        }
    };
    screen.note(&Note::client(severity, &*text));
    Some(Ending { status, cause, reason: text })
}

/// How to come back to a job that goes on.
pub fn goes_on(claim: &Claim) -> String {
    match claim.run {
        Some(run) => format!(
            "job {run} goes on. Come back: executorctl attach {run}; end it: executorctl cancel {run}"
        ),
        None => "the job goes on".to_owned(),
    }
}

async fn cancel(claim: &Claim) -> String {
    // Without a number the gateway takes the closed connection for it.
    let Some(run) = claim.can_resume() else { return "the job is cancelled".to_owned() };
    match claim.cancel(run).await {
        Ok(()) => "the job is cancelled".to_owned(),
        Err(GatewayError::Refused { status: StatusCode::CONFLICT, text }) => text,
        Err(error) => format!(
            "the gateway could not be told to cancel the job ({error}). Make sure: executorctl cancel {run}"
        ),
    }
}
