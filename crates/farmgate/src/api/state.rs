//! What the handlers use.

use std::sync::Arc;

use farmgate_boots::Leases;
use farmgate_executor::{BootTable, Executor};
use farmgate_mars::Mars;
use farmgate_store::Store;
use tokio_util::task::TaskTracker;

use super::{audit::Audit, tokens::Tokens};

/// Handles to the parts.
#[derive(Clone)]
pub struct State {
    /// Does what is asked.
    pub executor: Executor,
    /// For its problems only.
    pub mars: Arc<Mars>,
    /// Addresses of the known machines.
    pub boot_table: Arc<BootTable>,
    /// Addresses that were handed out; None where DHCP is not ours.
    pub leases: Option<Leases>,
    /// Whose run is whose.
    pub store: Store,
    /// Who may come in.
    pub tokens: Arc<Tokens>,
    /// Who did what.
    pub audit: Arc<Audit>,
    /// Whether a job's console may run on the submitting connection.
    pub console_upgrade: bool,
    /// Whether clients come through a port forwarder.
    pub forwarded: bool,
    /// Fetches jobs that are named by a URL.
    pub http: reqwest::Client,
    /// The clients that watch their jobs, until each has its verdict.
    pub clients: TaskTracker,
}
