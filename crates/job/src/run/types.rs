//! The words of a run: what happens to it, what it asks for, how it ends.

use std::{fmt, time::Duration};

use farmgate_protocol::{JobStatus, Timestamp, console::Control};
use serde::{Deserialize, Serialize};

use crate::Job;

/// What a run is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The resolved job.
    pub job: Job,
    /// How long the machine takes from power on to its first network boot request, once that was learned.
    pub firmware_boot_time: Option<Duration>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// [`Action::Prepare`] is done.
    SetupDone,
    /// [`Action::Prepare`] failed.
    SetupFailed {
        /// Whose fault it is.
        cause: Cause,
        /// One sentence.
        message: String,
    },
    /// The port was seen OFF, as asked by [`Action::PowerCycle`].
    PowerOff,
    /// The port was seen ON, as asked by [`Action::PowerCycle`].
    PowerOn,
    /// The port does not do as it is told.
    PowerFailed {
        /// One sentence.
        message: String,
    },
    /// The gateway cannot go on with the run: its disk is full, or a part of it has failed.
    GatewayFailed {
        /// One sentence.
        message: String,
    },
    /// The network boot came to a stage. The first one of a boot means that the firmware is done.
    BootStage {
        /// `dhcp`, `script`, `kernel`, `initrd`.
        stage: String,
    },
    /// Bytes of the machine's console, in order.
    Console {
        /// As they came.
        bytes: &'a [u8],
    },
    /// A timer that [`Action::ArmTimer`] set has run out.
    Timer {
        /// Which.
        timer: TimerId,
    },
    /// The client is gone and will not come back.
    ClientGone,
    /// Somebody wants the run to end.
    Cancel {
        /// Who.
        by: String,
    },
    /// [`Action::PowerOff`] and whatever else belongs to tidying up is done.
    TeardownDone,
    /// Tidying up failed.
    TeardownFailed {
        /// One sentence.
        message: String,
    },
}

/// Something that the run asks its owner to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make everything ready that the boots of the job load. Answered by [`Event::SetupDone`] or [`Event::SetupFailed`].
    Prepare {
        /// The boot that comes first, or that goes on.
        boot: BootKind,
    },
    /// From now on the machine boots this.
    SetBootPlan {
        /// Which of the job's two boots.
        boot: BootKind,
    },
    /// OFF, wait the off delay, ON. Answered by [`Event::PowerOff`] and [`Event::PowerOn`], or by [`Event::PowerFailed`].
    PowerCycle,
    /// OFF for good. Answered by [`Event::TeardownDone`] or [`Event::TeardownFailed`].
    PowerOff,
    /// Send [`Event::Timer`] at this time. Replaces an earlier time of the same timer.
    ArmTimer {
        /// Which.
        timer: TimerId,
        /// When.
        at: Timestamp,
    },
    /// Forget the timer.
    DisarmTimer {
        /// Which.
        timer: TimerId,
    },
    /// Tell the client.
    Tell(Control),
    /// The machine says of itself that it must not serve other jobs.
    UnfitForService {
        /// The line that says so.
        line: String,
    },
    /// The run is over; nothing follows.
    Finish(Outcome),
}

/// Which of the two boots that a job describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootKind {
    /// The first.
    Start,
    /// Every later one.
    Continue,
}

/// The timers of a run, named after the job's timeouts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // explained at crate::Timeouts
pub enum TimerId {
    Overall,
    InfraSetup,
    InfraTeardown,
    BootCycle,
    FirmwareBoot,
    FirstConsoleActivity,
    ConsoleActivity,
    /// After a restart of the gateway: no new boot stage.
    Restart,
    Watchdog(String),
}

impl fmt::Display for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overall => f.write_str("overall"),
            Self::InfraSetup => f.write_str("infra_setup"),
            Self::InfraTeardown => f.write_str("infra_teardown"),
            Self::BootCycle => f.write_str("boot_cycle"),
            Self::FirmwareBoot => f.write_str("firmware_boot"),
            Self::FirstConsoleActivity => f.write_str("first_console_activity"),
            Self::ConsoleActivity => f.write_str("console_activity"),
            Self::Restart => f.write_str("restart"),
            Self::Watchdog(name) => write!(f, "watchdogs.{name}"),
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Things are being prepared.
    Setup,
    /// The machine is being switched off and on.
    PoweringOn,
    /// It is on; its firmware has asked for nothing yet.
    Firmware,
    /// It boots over the network, or what it booted has not announced itself.
    Booting,
    /// Its userspace announced itself.
    Session,
    /// The verdict is decided; things are being tidied up.
    Teardown,
    /// Over.
    Done,
}

/// Why a run ended as it did: whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// The test came to its end, and nothing says that it failed.
    TestPassed,
    /// The test came to its end without success.
    TestFailed,
    /// The job is wrong: an artifact, its template.
    JobError,
    /// The farm: power, network boot, console, a machine that does not boot.
    Infrastructure,
    /// The settings of the farm.
    Configuration,
    /// Somebody ended it.
    Cancelled {
        /// Who.
        by: String,
    },
    /// A timeout of the job, without retries left.
    Timeout {
        /// Its name in the job.
        name: String,
    },
    /// A fault of the gateway.
    Bug,
}

impl Cause {
    /// The word for programs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TestPassed => "test_passed",
            Self::TestFailed => "test_failed",
            Self::JobError => "job_error",
            Self::Infrastructure => "infrastructure",
            Self::Configuration => "configuration",
            Self::Cancelled { .. } => "cancelled",
            Self::Timeout { .. } => "timeout",
            Self::Bug => "bug",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { name } => write!(f, "timeout ({name})"),
            Self::Cancelled { by } => write!(f, "cancelled by {by}"),
            other => f.write_str(&other.as_str().replace('_', " ")),
        }
    }
}

/// One boot of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// What it booted.
    pub boot: BootKind,
    /// When the machine was seen on.
    pub powered_at: Option<Timestamp>,
    /// When this boot was over.
    pub ended_at: Timestamp,
    /// The last stage of the network boot that was seen.
    pub last_stage: Option<String>,
    /// Whether the userspace of our initramfs announced itself.
    pub userspace: bool,
    /// What ended it: `session_end`, `session_reboot`, `timeout NAME`, `cancelled` and the like.
    pub end: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The verdict.
    pub status: JobStatus,
    /// Whose fault.
    pub cause: Cause,
    /// One sentence for people.
    pub summary: String,
    /// The boots that led there, the first first; of very many the middle ones are left out.
    pub attempts: Vec<Attempt>,
}
