//! Runs of jobs as the REST API shows them: `GET jobs`, `job/ID`, `job/ID/why`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{DutId, JobStatus, Timestamp, dut::DutState};

/// How much a job matters beside others that wait for the same machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After all others.
    Low,
    /// Where nothing is said.
    #[default]
    Default,
    /// Before all others.
    High,
}

impl Priority {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Default => "default",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a run stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for a machine.
    Queued,
    /// It has one.
    Active,
    /// It has its verdict.
    Finished,
}

impl RunState {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Active => "active",
            Self::Finished => "finished",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Counts from 1, over the life of the gateway's state.
    pub id: u64,
    /// `job`; or of the gateway's own: `registration`, `training`, `quick_check`.
    pub kind: String,
    /// Where it stands.
    pub state: RunState,
    /// What goes on: `setup`, `powering_on`, `firmware`, `booting`, `session`, `teardown`; absent before and after.
    pub phase: Option<String>,
    /// Name of the job's file.
    pub name: String,
    /// The submitter's own name for it.
    pub job_id: Option<String>,
    /// Its machine; none while it waits.
    pub dut: Option<DutId>,
    /// How much it matters in the queue.
    pub priority: Priority,
    /// Who submitted it.
    pub submitter: String,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it got its machine.
    pub started: Option<Timestamp>,
    /// When it got its verdict.
    pub ended: Option<Timestamp>,
    /// The verdict.
    pub status: Option<JobStatus>,
    /// Whose fault the verdict is: `test_passed`, `test_failed`, `job_error`, `infrastructure`, `configuration`,
    /// `cancelled`, `timeout`, `bug`.
    pub cause: Option<String>,
    /// Why, in one sentence.
    pub summary: Option<String>,
}

/// How long a part of a run took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// Which boot it belongs to, from 1; none before the first.
    pub boot: Option<u32>,
    /// `queued`, and the words of [`Run::phase`].
    pub phase: String,
    /// When it began.
    pub begun: Timestamp,
    /// Its length; none while it lasts.
    pub seconds: Option<f64>,
}

/// `GET job/ID`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub run: Run,
    /// The boots that it took, the first first: `{number, boot, powered_at, ended_at, last_stage, userspace, end}`.
    pub attempts: Vec<Value>,
    /// Where its time went.
    pub phases: Vec<PhaseTime>,
    /// Bytes of console that it has so far.
    pub console_bytes: u64,
    /// Clients that are connected to it now.
    pub clients: u32,
    /// What it waits for; absent when it waits for nothing.
    pub why: Option<Why>,
}

/// `GET job/ID/why`: what a run waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// In a sentence.
    pub reason: String,
    /// Its place among the jobs that wait for the same machines, from 1; none if it does not wait in the queue.
    pub place: Option<u32>,
    /// How many seconds it may still wait, by how long jobs took lately; none where nothing is known.
    pub estimate_seconds: Option<f64>,
    /// The machines that could run it.
    pub machines: Vec<WhyMachine>,
}

/// A machine that a job waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyMachine {
    /// Which.
    pub dut: DutId,
    /// FARM-BASENAME-N.
    pub full_name: String,
    /// Where it stands.
    pub state: DutState,
    /// Why.
    pub reason: String,
    /// The run that it is busy with.
    pub run: Option<u64>,
}

/// `GET jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// The newest first.
    pub jobs: Vec<Run>,
}
