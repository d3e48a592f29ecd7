//! The heart of the gateway: the life of each DUT, the jobs that run on them, and their qualification.
//!
//! A job goes one way: submission ([`submit`]) → a DUT's task ([`dut`]) → a run ([`run`]) → its verdict. Decisions are
//! pure ([`life`], [`training`], and `JobRun` of `farmgate-job`); the tasks here carry them out with the handles of
//! `pdu`, `salad` and `boots`, none of which knows what a job is. Everybody outside asks through [`Executor`].

mod artifacts;
mod boot_table;
mod client;
mod config;
mod defaults;
mod dut;
mod error;
mod events;
mod executor;
mod hardware;
mod life;
mod matching;
mod pdus;
pub mod preview;
mod registration;
mod run;
mod submit;
mod training;

pub use boot_table::BootTable;
pub use client::{ClientItem, ClientLink, serve_client};
pub use config::{BuiltinJob, ExecutorConfig};
pub use defaults::{BootDefault, DefaultSetting, DefaultThing, Defaults};
pub use error::ExecutorError;
pub use events::EventLog;
pub use executor::{Executor, Parts, PortChange};
pub use pdus::Pdus;
pub use registration::{Caller, RegistrationReply};
pub use submit::{Accepted, Submission, SubmitError};
