//! Submitting a job: the `metadata` part of POST `/api/v1/jobs` and the answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::run::Priority;

/// Which DUT a submission wants; overrides the job's own target. Every field may be null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSpec {
    /// A DUT's id or full name.
    #[serde(default)]
    pub id: Option<String>,
    /// All of these.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
}

/// Where the executor dials when the connection was not upgraded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// Default: the address the request came from.
    #[serde(default)]
    pub host: Option<String>,
    /// TCP port of the waiting client.
    #[serde(default)]
    pub port: Option<u16>,
}

/// S3 credentials of the submitter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinioCredentials {
    /// User.
    #[serde(default)]
    pub access_key: Option<String>,
    /// Password.
    #[serde(default)]
    pub secret_key: Option<String>,
}

/// S3 access that the job asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minio {
    /// Of the submitter.
    #[serde(default)]
    pub credentials: Option<MinioCredentials>,
    /// Groups that the job's own user joins.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
}

/// The `metadata` part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// 1.
    pub version: u32,
    /// The submitter's own name for the job.
    #[serde(default)]
    pub job_id: Option<String>,
    /// Credential of a forge's runner.
    #[serde(default)]
    pub job_cookie: Option<String>,
    /// The job's text is there, instead of in the `job` part.
    #[serde(default)]
    pub job_desc_url: Option<String>,
    /// Overrides the job's own target.
    #[serde(default)]
    pub target: Option<TargetSpec>,
    /// For clients that listen.
    #[serde(default)]
    pub callback: Option<Callback>,
    /// S3.
    #[serde(default)]
    pub minio: Option<Minio>,
    /// The template variable `environ`.
    #[serde(default)]
    pub environ: Option<BTreeMap<String, String>>,
    /// Ours: wait in the queue for a machine, instead of being told that none is free (409).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
    /// Ours: how much it matters in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Ours: the run goes on when its client leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detach: Option<bool>,
    /// Ours: run it although its deadline has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_deadline: Option<bool>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            version: 1,
            job_id: None,
            job_cookie: None,
            job_desc_url: None,
            target: None,
            callback: None,
            minio: None,
            environ: None,
            wait: None,
            priority: None,
            detach: None,
            ignore_deadline: None,
        }
    }
}

/// The JSON answer to a submission that was not upgraded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitReply {
    /// 1.
    pub version: u32,
    /// Empty when the job was accepted.
    pub error_msg: String,
    /// Ours: the run that was made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunTicket>,
}

/// How a client finds its run again; in an answer that upgrades the connection it stands in the headers
/// [`RUN_HEADER`] and [`RESUME_HEADER`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTicket {
    /// Number of the run.
    pub id: u64,
    /// The secret with which `job/ID/attach` takes the client's place again.
    pub resume_token: String,
}

/// Names the run.
pub const RUN_HEADER: &str = "Farmgate-Run";

/// In a request: `yes`, the client can resume its stream. In an answer: the token with which it does.
pub const RESUME_HEADER: &str = "Farmgate-Resume";
