//! What of a run is stored after each step, so that a gateway that was killed goes on with it: the state machine, and
//! what the run's edge knows beside it.

use std::{path::PathBuf, time::Duration};

use farmgate_boots::Content;
use farmgate_job::{Outcome, RunState};
use farmgate_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use super::{boundary::PowerStage, prepare::Plans};
use crate::boot_table::RunPlan;

/// A run between two steps. The console that it has seen ends at the offset that is stored beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// What of the state machine changes; the job itself is stored once.
    pub machine: RunState,
    /// How long the machine's firmware took, as it was known when the run began.
    pub firmware_time: Option<Duration>,
    /// What its boots load; the files are in the cache.
    pub plans: Option<StoredPlans>,
    /// Where its port stands in a power cycle.
    pub power: PowerStage,
    /// When the last power cycle or the last OFF was asked for.
    pub power_asked: Timestamp,
    /// When ON was confirmed, until the firmware has asked to boot.
    pub on_since: Option<Timestamp>,
    /// The longest that its firmware took.
    pub firmware: Option<Duration>,
    /// The line by which the machine said that it is unfit.
    pub unfit: Option<String>,
}

/// What is kept of a run that has ended, for the DUT's task: it may have died before it heard of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredOutcome {
    /// The verdict and what led there.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// See [`Checkpoint::firmware`].
    pub firmware: Option<Duration>,
    /// See [`Checkpoint::unfit`].
    pub unfit: Option<String>,
    /// What its machine drew, joules, where that is measured.
    #[serde(default)]
    pub joules: Option<f64>,
}

/// Both plans of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredPlans {
    start: StoredPlan,
    /// None: as `start`.
    next: Option<StoredPlan>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredPlan {
    kernel: Option<StoredContent>,
    initrds: Option<Vec<StoredContent>>,
    cmdline: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredContent {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl From<&Content> for StoredContent {
    fn from(content: &Content) -> Self {
        match content {
            Content::File(path) => Self::File(path.clone()),
            Content::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }
}

impl From<StoredContent> for Content {
    fn from(content: StoredContent) -> Self {
        match content {
            StoredContent::File(path) => Self::File(path),
            StoredContent::Bytes(bytes) => Self::Bytes(bytes.into()),
        }
    }
}

impl From<&RunPlan> for StoredPlan {
    fn from(plan: &RunPlan) -> Self {
        Self {
            kernel: plan.kernel.as_ref().map(Into::into),
            initrds: plan.initrds.as_ref().map(|all| all.iter().map(Into::into).collect()),
            cmdline: plan.cmdline.clone(),
        }
    }
}

impl From<StoredPlan> for RunPlan {
    fn from(plan: StoredPlan) -> Self {
        Self {
            kernel: plan.kernel.map(Into::into),
            initrds: plan.initrds.map(|all| all.into_iter().map(Into::into).collect()),
            cmdline: plan.cmdline,
        }
    }
}

impl From<&Plans> for StoredPlans {
    fn from(plans: &Plans) -> Self {
        let (start, next) = (StoredPlan::from(&plans.start), StoredPlan::from(&plans.next));
        Self { next: (next != start).then_some(next), start }
    }
}

impl From<StoredPlans> for Plans {
    fn from(plans: StoredPlans) -> Self {
        let next = plans.next.unwrap_or_else(|| plans.start.clone());
        Self { start: plans.start.into(), next: next.into(), pins: Vec::new() }
    }
}
