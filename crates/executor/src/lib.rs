//! The heart of the gateway: the life of each DUT, the jobs that run on them, and their qualification.
//!
//! A job goes one way: submission ([`submit`]) → the queue ([`dispatch`]) → a DUT's task ([`dut`]) → a run ([`run`]) →
//! its verdict. Decisions are pure ([`life`], [`queue`], [`training`], and `JobRun` of `farmgate-job`); the tasks here carry them out with the handles of
//! `pdu`, `salad` and `boots`, none of which knows what a job is. Everybody outside asks through [`Executor`].

mod artifacts;
mod boot_table;
mod client;
mod config;
mod defaults;
mod dispatch;
mod dut;
mod dut_table;
mod error;
mod estate;
mod events;
mod executor;
mod hardware;
mod history;
mod life;
mod matching;
mod pdus;
pub mod preview;
mod queue;
mod registration;
mod run;
mod runs;
pub mod secret;
mod submit;
mod training;

pub use boot_table::BootTable;
pub use client::{ClientLink, Since, serve_client};
pub use config::{BuiltinJob, ExecutorConfig};
pub use defaults::{BootDefault, DefaultSetting, DefaultThing, Defaults};
pub use error::ExecutorError;
pub use events::EventLog;
pub use executor::{Executor, Parts, PortChange, StartError};
pub use history::{AttachError, ConsoleRange};
pub use pdus::Pdus;
pub use registration::{Caller, RegistrationReply};
pub use submit::{Accepted, Submission, SubmitError};
