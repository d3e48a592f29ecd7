//! What a driver must be able to do, and how it may fail.
//!
//! A driver translates; it decides nothing. It keeps no minimum off times, retries nothing and sleeps for nobody's
//! safety: the PDU's task does all that, the same way for every driver (see `docs/pdu-driver.md`).

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};

/// A port as the PDU itself describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// Stable across restarts of the PDU and of the gateway: it is what the farm file names.
    pub id: PortId,
    /// What the PDU, or its front plate, calls it.
    pub label: String,
}

/// Why a PDU could not be read or switched.
///
/// Cheap to clone, because everybody who waits for a port gets to see it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DriverError {
    /// No connection.
    #[error("cannot reach {address}: is the PDU powered, in this network, and is the address right?")]
    Unreachable {
        /// Where we tried.
        address: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// It answered that it will not do that.
    #[error("the PDU refused: {0}")]
    Refused(String),
    /// It does not accept our credentials.
    #[error("the PDU does not accept our credentials ({0}): correct them in the `config` of this PDU")]
    Authentication(String),
    /// It said something that the protocol does not know.
    #[error("the PDU does not speak the protocol of this driver ({0}): is `driver` right for this model?")]
    Protocol(String),
    /// It has no such port.
    #[error("the PDU has no port {0}")]
    UnknownPort(PortId),
    /// No answer within the bound.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The driver, or this model, cannot do that at all.
    #[error("{0} is not available on this PDU")]
    Unavailable(&'static str),
}

impl DriverError {
    /// A failed connection to `address`.
    pub fn unreachable(address: impl Into<String>, source: io::Error) -> Self {
        Self::Unreachable { address: address.into(), source: Arc::new(source) }
    }
}

/// One PDU.
///
/// Contract: every call is idempotent and does one thing on the wire; it may be dropped half way (that is how the
/// task bounds it in time, 5 s), after which the next call must work again; it never blocks the thread.
#[async_trait]
pub trait Driver: Send {
    /// All ports. Asked at the start, and again whenever the PDU comes back from an error.
    ///
    /// # Errors
    /// See [`DriverError`].
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError>;

    /// State of a port, as the PDU says now. A state that the PDU does not tell is [`PortState::Unknown`].
    ///
    /// # Errors
    /// See [`DriverError`].
    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError>;

    /// Switches a port. Returns when the PDU accepted the command; it need not have carried it out.
    ///
    /// # Errors
    /// See [`DriverError`]. After an error the port may be in either state.
    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError>;

    /// How long a port must be off before it may be switched on again, where nobody says otherwise.
    /// 30 s empties the capacitors of an ordinary power supply.
    fn default_min_off_time(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// The pause between two ports that are switched on, where nobody says otherwise: many power supplies that start
    /// together trip a fuse. Zero where nothing draws a current.
    fn power_on_interval(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// How long a state that is read after a command may still be the old one. The driver does not wait for it.
    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    /// What a port draws now, watts.
    ///
    /// # Errors
    /// [`DriverError::Unavailable`] where it is not measured; it is then not asked again.
    async fn power(&mut self, _port: &PortId) -> Result<f64, DriverError> {
        Err(DriverError::Unavailable("power metering"))
    }

    /// What a port drew since the PDU's own counter started, joules.
    ///
    /// # Errors
    /// [`DriverError::Unavailable`] where it is not measured; it is then not asked again.
    async fn energy(&mut self, _port: &PortId) -> Result<f64, DriverError> {
        Err(DriverError::Unavailable("energy metering"))
    }
}
