//! Power: switched outlets of power delivery units (PDUs), safe by construction.
//!
//! [`drivers()`] is the table of everything that can be driven, one file per [`Driver`]; [`PduHandle::spawn`] gives
//! one PDU a task of its own, and the handle switches ports through it. The task promises: `off` returns when OFF was
//! read back, `on` when ON was; a port stays off for its minimum time before it is switched on; a port that nobody
//! asked for is never commanded; a PDU that fails is reported, retried and recovers by itself, and slows no other.
//! Those promises are kept by [`safety`], a state machine without I/O. Which ports belong to which machine, and who
//! may ask, is left to the callers; this crate knows ports, and the rules that it is given for them. What must survive
//! a restart goes to a [`Journal`] of the callers.

mod driver;
mod drivers;
mod handle;
mod journal;
mod rules;
pub mod safety;
mod task;

pub use driver::{Driver, DriverError, PortInfo};
pub use drivers::{ConfigError, Factory, drivers, make};
pub use handle::{PduHandle, PduOptions, PduSnapshot, PowerError};
pub use journal::{Journal, JournalError, Moment, PortRecord};
pub use rules::{Notice, NoticeKind, PortRule, PortRules, PowerMode};
