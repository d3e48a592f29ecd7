//! What a job is once it has been resolved against a machine. It is stored with the run.

use std::{collections::BTreeMap, time::Duration};

use farmgate_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{BootSpec, Pattern, Proxy};

/// Which machine a job asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A DUT's id or full name.
    pub id: Option<String>,
    /// The machine has all of these; none means any machine, where no id is given.
    pub tags: Vec<String>,
}

/// A job, whole and checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Absent where the submission names the machine.
    pub target: Option<Target>,
    /// The job makes no sense after this time. The caller decides.
    pub deadline: Option<Timestamp>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What to look for on the console.
    pub console_patterns: ConsolePatterns,
    /// What the first boot loads.
    pub start: BootSpec,
    /// What every later boot loads.
    pub continue_: BootSpec,
    /// What it may reach through the gateway's proxy.
    #[serde(default)]
    pub proxy: Proxy,
    /// What is allowed, but hardly meant: whole texts for a person.
    pub warnings: Vec<String>,
}

/// How long something may take, and how often it is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeout {
    /// Absent: for ever.
    pub limit: Option<Duration>,
    /// Counted over the whole job.
    pub retries: u32,
}

impl Timeout {
    /// Never ends anything.
    pub const INFINITE: Self = Self { limit: None, retries: 0 };

    /// Of this length, without retries.
    pub const fn of(limit: Duration) -> Self {
        Self { limit: Some(limit), retries: 0 }
    }
}

/// The timeouts of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// The whole run, from its start to the end of the session.
    pub overall: Timeout,
    /// Until everything is prepared for the first boot.
    pub infra_setup: Timeout,
    /// From the end of the session to the end of the run.
    pub infra_teardown: Timeout,
    /// From power on to the end of that boot; its retries are also the number of reboots allowed.
    pub boot_cycle: Timeout,
    /// From power on to the first network boot request. Absent: from the learned time.
    pub firmware_boot: Option<Timeout>,
    /// From power on to the first line end on the console.
    pub first_console_activity: Timeout,
    /// Since the last byte on the console, after the first line end.
    pub console_activity: Timeout,
    /// Armed and disarmed by the console patterns of the same name.
    pub watchdogs: BTreeMap<String, Timeout>,
}

/// What to look for on the console.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsolePatterns {
    /// The test is over.
    pub session_end: Pattern,
    /// The machine wants to be booted again.
    pub session_reboot: Option<Pattern>,
    /// The test passed.
    pub job_success: Option<Pattern>,
    /// It passed, but something is to be looked at.
    pub job_warn: Option<Pattern>,
    /// The machine must not serve other jobs.
    pub machine_unfit_for_service: Option<Pattern>,
    /// By the name of their timeout.
    pub watchdogs: BTreeMap<String, WatchdogPatterns>,
}

/// What arms, restarts and disarms a watchdog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchdogPatterns {
    /// Arms it.
    pub start: Pattern,
    /// Restarts it if it is armed.
    pub reset: Option<Pattern>,
    /// Disarms it.
    pub stop: Option<Pattern>,
}
