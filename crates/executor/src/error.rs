//! What can go wrong when somebody asks the executor for something.

use farmgate_protocol::DutId;

/// Why a request to the executor was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// No such DUT.
    #[error("no DUT is called {name:?}{nearest}")]
    UnknownDut {
        /// What was asked for.
        name: String,
        /// `; known: ...`, or empty.
        nearest: String,
    },
    /// The DUT's state does not allow it.
    #[error("{dut} is {state}: {why}")]
    WrongState {
        /// Which.
        dut: DutId,
        /// The word of the state.
        state: &'static str,
        /// Why that matters.
        why: String,
    },
    /// No such PDU or port.
    #[error("{0}")]
    UnknownPort(String),
    /// The request is against a rule.
    #[error("{0}")]
    Refused(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The farm file could not be written.
    #[error("the farm file could not be changed")]
    Farm(#[from] farmgate_mars::MarsError),
    /// A PDU did not do it.
    #[error("power")]
    Power(#[from] farmgate_pdu::PowerError),
    /// Consoles are away.
    #[error("the console service (SALAD) does not answer")]
    Console(#[from] farmgate_salad::ClientError),
    /// The DUT's task ended: a bug, or the gateway stops.
    #[error("the task of {0} has ended: the gateway is stopping")]
    Stopped(DutId),
}
