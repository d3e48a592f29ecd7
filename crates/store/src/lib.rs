//! What must survive the gateway: runs, what they told their clients, what is known of machines, small values of other
//! parts, tokens and the audit log, in one SQLite file, `state.db`.
//!
//! The crate owns that file. It promises that [`Store::write`] answers after the changes are on the disk, all of a
//! batch or none, in the order in which batches were queued; that reads never wait for writes; and that a full or
//! failing disk is an error and no end. It knows tables, not jobs: the state machine of a run, its resolved job and its
//! verdict's cause are JSON texts of the caller's. What a console said is not here: that is the console record's.

mod apply;
mod change;
mod error;
mod health;
mod lock;
mod open;
mod reader;
mod reads;
mod retention;
mod rows;
mod schema;
mod store;
mod writer;

pub use change::{Change, Kept, NewRun};
pub use error::StoreError;
pub use health::{Counters, Health};
pub use retention::Retention;
pub use rows::{AuditRow, RunEvent, RunQuery, RunRow, RunState, StoredRun, Token};
pub use schema::SCHEMA_VERSION;
pub use store::Store;
