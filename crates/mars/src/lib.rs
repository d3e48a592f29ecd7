//! MaRS, the farm file: which machines, PDUs and forges exist.
//!
//! `mars_db.yaml` belongs to people, who edit it while the gateway runs; the gateway writes into it what machines say
//! of themselves. This crate owns the file: [`parse`](parse()) reads and checks a text, [`Mars`] follows the file on
//! disk and brings changes into it. It promises: a file that is wrong never takes effect, and the error says where
//! and what to do; a write of ours changes only the values it is about, keeps comments, order and every other byte,
//! is atomic, and gives way to what a person changed meanwhile. What a driver of a PDU accepts is checked by a
//! function that the gateway passes in; what the machines do is left to others.

mod change;
mod check;
mod diagnostic;
mod edit;
mod farm;
mod file;
mod forges;
mod parse;
mod reader;
mod render;
mod store;
mod tree;

pub use change::DutChange;
pub use diagnostic::{Diagnostic, FarmError, Place};
pub use farm::{
    Acl, AclSubjects, DEFAULT_OFF_DELAY, DutEntry, DutGithub, DutGitlab, Farm, Github, GithubQueue, Gitlab,
    Jobs, PduEntry, Power, Runner, RunnerType, Secret,
};
pub use parse::{CheckContext, LARGEST_FILE, Parsed, PduCheck, parse};
pub use store::{Mars, MarsError};
