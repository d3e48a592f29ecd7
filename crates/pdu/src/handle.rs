//! The handle through which the rest of the gateway uses a PDU, and its errors.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use farmgate_protocol::{
    PortId,
    pdu::{Pdu, PortState},
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{Driver, DriverError, Journal, Notice, PortRules, task};

/// How a PDU is treated.
#[derive(Debug, Clone)]
pub struct PduOptions {
    /// How often every port is read.
    pub poll: Duration,
    /// Ports that are never switched.
    pub reserved: BTreeSet<PortId>,
    /// Minimum off time of every port; the driver's default if absent.
    pub min_off: Option<Duration>,
    /// Read, but switch nothing: what would be switched is logged and refused.
    pub observe: bool,
    /// Pause between two ports that are switched on; the driver's default if absent.
    pub on_interval: Option<Duration>,
    /// Where off times survive a restart. None: they do not.
    pub journal: Option<Arc<dyn Journal>>,
    /// What holds for single ports from the start; see [`PduHandle::set_rules`].
    pub rules: PortRules,
}

impl Default for PduOptions {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            reserved: BTreeSet::new(),
            min_off: None,
            observe: false,
            on_interval: None,
            journal: None,
            rules: PortRules::new(),
        }
    }
}

/// A PDU at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PduSnapshot {
    /// Its name in the farm file.
    pub name: String,
    /// As the REST API shows it.
    pub pdu: Pdu,
}

/// Why a port was not switched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PowerError {
    /// The PDU has no such port.
    #[error("PDU {pdu} has no port {port}; it has {known}")]
    UnknownPort {
        /// Name of the PDU.
        pdu: String,
        /// The port asked for.
        port: PortId,
        /// The ids that exist.
        known: String,
    },
    /// The port is reserved.
    #[error(
        "port {port} of PDU {pdu} is reserved: remove it from `reserved_port_ids` of the PDU, if it is yours to switch"
    )]
    Reserved {
        /// Name of the PDU.
        pdu: String,
        /// The port asked for.
        port: PortId,
    },
    /// A person switches it.
    #[error(
        "port {port} of PDU {pdu} is switched by hand: remove the line `power: manual` of {owner} in the farm file, if the gateway shall do it"
    )]
    Manual {
        /// Name of the PDU.
        pdu: String,
        /// The port asked for.
        port: PortId,
        /// Whose it is.
        owner: String,
    },
    /// It must not be switched off.
    #[error(
        "port {port} of PDU {pdu} is never switched off: remove the line `power: never_off` of {owner} in the farm file, if it may be"
    )]
    NeverOff {
        /// Name of the PDU.
        pdu: String,
        /// The port asked for.
        port: PortId,
        /// Whose it is.
        owner: String,
    },
    /// Somebody asked for the opposite before this was done: the last wish wins.
    #[error("port {port} of PDU {pdu} was asked to be {now} before it was {wanted}")]
    Superseded {
        /// Name of the PDU.
        pdu: String,
        /// The port asked for.
        port: PortId,
        /// What this caller asked.
        wanted: PortState,
        /// What was asked later.
        now: PortState,
    },
    /// The wanted state was not seen in time.
    #[error("port {port} of PDU {pdu} did not become {wanted} within {waited:?}: it was last seen {seen}{}", because(.source))]
    NotConfirmed {
        /// Name of the PDU.
        pdu: String,
        /// The port asked for.
        port: PortId,
        /// What was asked.
        wanted: PortState,
        /// What was last read; UNKNOWN if the PDU does not answer.
        seen: PortState,
        /// How long it was tried.
        waited: Duration,
        /// The last failure of the driver, if there was one.
        source: Option<DriverError>,
    },
    /// The gateway only observes.
    #[error(
        "the gateway observes: port {port} of PDU {pdu} would be switched {wanted} now, and is left as it is"
    )]
    Observing {
        /// Name of the PDU.
        pdu: String,
        /// The port asked for.
        port: PortId,
        /// What was asked.
        wanted: PortState,
    },
    /// The PDU is no longer in use: the gateway ends, or the farm file does not name it any more.
    #[error("PDU {pdu} is no longer in use")]
    Stopped {
        /// Name of the PDU.
        pdu: String,
    },
}

/// The cause is also the source, but a person must see it even where only the text is shown.
fn because(source: &Option<DriverError>) -> String {
    source.as_ref().map(|error| format!(" (last failure: {error})")).unwrap_or_default()
}

/// What a handle asks of the task.
pub(crate) enum Request {
    Set { port: PortId, on: bool, min_off: Duration, done: oneshot::Sender<Result<(), PowerError>> },
    MinOff { port: PortId, min_off: Duration, done: oneshot::Sender<Result<(), PowerError>> },
    Reserve { port: PortId, reserved: bool, done: oneshot::Sender<Result<(), PowerError>> },
}

/// Requests that may wait; more make the callers wait.
const QUEUE: usize = 256;
/// Notices that a slow listener finds; older ones are lost to it.
const NOTICES: usize = 256;

/// One PDU. Clones speak to the same task. The task ends with the last handle, or by the token given to `spawn`;
/// it leaves every port as it is.
#[derive(Debug, Clone)]
pub struct PduHandle {
    name: String,
    observe: bool,
    requests: mpsc::Sender<Request>,
    snapshot: watch::Receiver<PduSnapshot>,
    rules: Arc<watch::Sender<PortRules>>,
    notices: broadcast::Sender<Notice>,
}

/// The task's end of a handle.
pub(crate) struct Outlets {
    pub publish: watch::Sender<PduSnapshot>,
    pub rules: watch::Receiver<PortRules>,
    pub notices: broadcast::Sender<Notice>,
}

impl PduHandle {
    /// Starts the PDU's task. The PDU is contacted at once and polled from then on.
    pub fn spawn(
        name: &str,
        driver: Box<dyn Driver>,
        mut options: PduOptions,
        shutdown: CancellationToken,
    ) -> Self {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let observe = options.observe;
        let first = PduSnapshot { name: name.to_owned(), pdu: Pdu::default() };
        let (publish, snapshot) = watch::channel(first);
        let (rules, told) = watch::channel(std::mem::take(&mut options.rules));
        let (notices, _) = broadcast::channel(NOTICES);
        let outlets = Outlets { publish, rules: told, notices: notices.clone() };
        tokio::spawn(task::supervise(name.to_owned(), driver, options, inbox, outlets, shutdown));
        Self { name: name.to_owned(), observe, requests, snapshot, rules: Arc::new(rules), notices }
    }

    /// Name in the farm file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Switches a port off, and returns when OFF was read back. The command is sent even to a port that reads OFF,
    /// because some PDUs lie for a while after a command. Dropping the future does not take the wish back.
    ///
    /// # Errors
    /// [`PowerError`]; `NotConfirmed` after about 30 s. Then the port has an alarm, and OFF is tried for ever.
    pub async fn off(&self, port: &PortId) -> Result<(), PowerError> {
        self.set(port, false, Duration::ZERO).await
    }

    /// Switches a port on, and returns when ON was read back.
    ///
    /// A port that reads ON already is left as it is: whoever needs a fresh boot calls [`off`](Self::off) before.
    /// Waits until the longer of `min_off` and the port's own minimum has passed since the port was first seen OFF;
    /// what is not known (after a restart, or while the PDU did not answer) counts as switched off just now. Dropping
    /// the future takes the wish back, if the command was not sent yet.
    ///
    /// # Errors
    /// [`PowerError`]; `NotConfirmed` about 30 s after the command was first possible.
    pub async fn on(&self, port: &PortId, min_off: Duration) -> Result<(), PowerError> {
        self.set(port, true, min_off).await
    }

    /// Switches a port for a person. The port's minimum off time holds for people too.
    ///
    /// # Errors
    /// As [`on`](Self::on) and [`off`](Self::off). That the port belongs to a DUT in service must be checked before.
    pub async fn set_by_operator(&self, port: &PortId, on: bool) -> Result<(), PowerError> {
        tracing::info!(pdu = self.name, %port, on, "port switched by an operator");
        self.set(port, on, Duration::ZERO).await
    }

    /// Sets a port's own minimum off time. It holds until the gateway restarts.
    ///
    /// # Errors
    /// Unknown port, or stopped.
    pub async fn set_min_off_time(&self, port: &PortId, min_off: Duration) -> Result<(), PowerError> {
        self.ask(|done| Request::MinOff { port: port.clone(), min_off, done }).await
    }

    /// Reserves a port, or frees it. Wishes for it that wait are refused.
    ///
    /// # Errors
    /// Unknown port, or stopped.
    pub async fn set_reserved(&self, port: &PortId, reserved: bool) -> Result<(), PowerError> {
        self.ask(|done| Request::Reserve { port: port.clone(), reserved, done }).await
    }

    /// Says what holds for single ports from now on; it replaces all rules. Wishes against them that wait are refused.
    pub fn set_rules(&self, rules: PortRules) {
        self.rules.send_if_modified(|known| {
            let news = *known != rules;
            *known = rules;
            news
        });
    }

    /// What the owners of ports should know, from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// What is known of the PDU, and every change of it.
    pub fn snapshot(&self) -> watch::Receiver<PduSnapshot> {
        self.snapshot.clone()
    }

    /// Returns when the task has ended; handles then answer [`PowerError::Stopped`].
    pub async fn closed(&self) {
        self.requests.closed().await;
    }

    async fn set(&self, port: &PortId, on: bool, min_off: Duration) -> Result<(), PowerError> {
        if self.observe {
            let wanted = if on { PortState::On } else { PortState::Off };
            tracing::warn!(pdu = self.name, %port, %wanted, "observing: this port would be switched now");
            return Err(PowerError::Observing { pdu: self.name.clone(), port: port.clone(), wanted });
        }
        self.ask(|done| Request::Set { port: port.clone(), on, min_off, done }).await
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<(), PowerError>>) -> Request,
    ) -> Result<(), PowerError> {
        let stopped = || PowerError::Stopped { pdu: self.name.clone() };
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}
