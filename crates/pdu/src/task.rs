//! The task of one PDU: it alone speaks to the driver, one call at a time, each bounded in time.
//!
//! It carries out what the ports' state machines ([`safety`](crate::safety)) say, polls the ports in between, and
//! publishes what it sees. A PDU that fails several times in a row is taken for gone: every port becomes UNKNOWN, and
//! the PDU is contacted again with growing pauses until it answers.

mod ports;

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    sync::Arc,
    time::Duration,
};

use farmgate_protocol::{
    PortId, Timestamp,
    pdu::{PduState, PortState},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::ports::{Port, describe};
use crate::{
    Driver, DriverError, PduOptions, PduSnapshot, PowerError,
    handle::Request,
    safety::{CONFIRM_WITHIN, Step},
};

/// No call of a driver takes longer.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// So many failures in a row mean that the PDU is gone.
const FAILURES: u32 = 3;
const FIRST_CONTACT_PAUSE: Duration = Duration::from_millis(100);
const SLOWEST_CONTACT_PAUSE: Duration = Duration::from_secs(5);
/// While somebody waits for the PDU it is contacted at least this often.
const SLOWEST_WANTED_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Requests kept while the PDU's ports are not known.
const EARLY: usize = 256;

/// Runs the task until the token, the last handle or a panic ends it, and says so in the snapshot.
pub(crate) async fn supervise(
    name: String,
    driver: Box<dyn Driver>,
    options: PduOptions,
    inbox: mpsc::Receiver<Request>,
    publish: watch::Sender<PduSnapshot>,
    shutdown: CancellationToken,
) {
    let publish = Arc::new(publish);
    let mut tasks = JoinSet::new();
    tasks.spawn(Task::new(name.clone(), driver, options, publish.clone()).run(inbox));
    let ended = tokio::select! {
        () = shutdown.cancelled() => { tasks.shutdown().await; None }
        ended = tasks.join_next() => ended,
    };
    let panicked = ended.and_then(Result::err);
    if let Some(error) = &panicked {
        tracing::error!(pdu = name, %error, "the task of a PDU panicked: this is a bug, its ports cannot be switched");
    }
    publish.send_modify(|snapshot| {
        snapshot.pdu.state = if panicked.is_some() { PduState::Error } else { PduState::Stopped };
        snapshot.pdu.error = panicked.map(|error| format!("a bug ended the task of this PDU: {error}"));
        for port in snapshot.pdu.ports.values_mut() {
            port.state = PortState::Unknown;
        }
    });
}

/// What to do next.
enum Job {
    Contact,
    Act(PortId, Step),
    Poll(PortId),
    SleepUntil(Duration),
}

struct Task {
    name: String,
    driver: Box<dyn Driver>,
    options: PduOptions,
    publish: Arc<watch::Sender<PduSnapshot>>,
    /// All `Duration`s are counted from here.
    origin: Instant,
    ports: BTreeMap<PortId, Port>,
    state: PduState,
    error: Option<DriverError>,
    /// Failures in a row.
    failures: u32,
    /// Whether the PDU answers and `ports` are its ports.
    in_contact: bool,
    contact_pause: Duration,
    next_contact: Duration,
    next_poll: Duration,
    /// Ports that this round of polling has still to read.
    to_poll: VecDeque<PortId>,
    /// The port whose read was repeated at once, so that one bad port cannot stop the round.
    repeated: Option<PortId>,
    has_power: bool,
    has_energy: bool,
    /// Requests that came before the ports were known, and when.
    early: VecDeque<(Request, Duration)>,
    /// Counts actions, to serve the port first that waited longest.
    turn: u64,
    /// The snapshot is out of date.
    changed: bool,
}

impl Task {
    fn new(
        name: String,
        driver: Box<dyn Driver>,
        options: PduOptions,
        publish: Arc<watch::Sender<PduSnapshot>>,
    ) -> Self {
        Self {
            name,
            driver,
            options,
            publish,
            origin: Instant::now(),
            ports: BTreeMap::new(),
            state: PduState::Initializing,
            error: None,
            failures: 0,
            in_contact: false,
            contact_pause: FIRST_CONTACT_PAUSE,
            next_contact: Duration::ZERO,
            next_poll: Duration::ZERO,
            to_poll: VecDeque::new(),
            repeated: None,
            has_power: true,
            has_energy: true,
            early: VecDeque::new(),
            turn: 0,
            changed: true,
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            while self.early.len() < EARLY
                && let Ok(request) = inbox.try_recv()
            {
                self.accept(request);
            }
            let job = self.choose();
            if std::mem::take(&mut self.changed) {
                self.publish();
            }
            match job {
                Job::Contact => self.contact().await,
                Job::Act(port, Step::Write(on)) => self.write(&port, on).await,
                Job::Act(port, _) => drop(self.read(&port).await),
                Job::Poll(port) => self.poll(port).await,
                Job::SleepUntil(time) => {
                    let time = self.origin + time.min(self.now() + LONGEST_SLEEP);
                    tokio::select! {
                        request = inbox.recv(), if self.early.len() < EARLY => match request {
                            Some(request) => self.accept(request),
                            None => return,
                        },
                        () = tokio::time::sleep_until(time) => {}
                    }
                }
            }
        }
    }

    /// Settles every wish that came true or has to be given up, and says what is most urgent.
    fn choose(&mut self) -> Job {
        let now = self.now();
        let mut wake = Duration::MAX;
        let mut urgent: Option<(u64, PortId, Step)> = None;
        for (id, port) in &mut self.ports {
            match port.settle(&self.name, id, now) {
                Step::WaitUntil(time) => wake = wake.min(time),
                step @ (Step::Read | Step::Write(_)) => {
                    if urgent.as_ref().is_none_or(|(served, ..)| port.served < *served) {
                        urgent = Some((port.served, id.clone(), step));
                    }
                }
                Step::Nothing | Step::Done | Step::GiveUp => {}
            }
        }
        if !self.in_contact {
            wake = wake.min(self.expire_early(now));
            let wanted = !self.early.is_empty() || urgent.is_some() || wake < Duration::MAX;
            if wanted {
                self.next_contact = self.next_contact.min(now + SLOWEST_WANTED_PAUSE);
            }
            let due = self.next_contact <= now;
            return if due { Job::Contact } else { Job::SleepUntil(wake.min(self.next_contact)) };
        }
        if let Some((_, port, step)) = urgent {
            return Job::Act(port, step);
        }
        if self.to_poll.is_empty() && self.next_poll <= now {
            self.to_poll = self.ports.keys().cloned().collect();
            self.next_poll = now + self.options.poll.max(Duration::from_millis(1));
            self.changed = true;
        }
        match self.to_poll.pop_front() {
            Some(port) => Job::Poll(port),
            None => Job::SleepUntil(wake.min(self.next_poll)),
        }
    }

    /// Answers those that waited long enough for a PDU that never told its ports; says when the next one is due.
    fn expire_early(&mut self, now: Duration) -> Duration {
        while let Some((_, since)) = self.early.front() {
            let due = *since + CONFIRM_WITHIN;
            if due > now {
                return due;
            }
            if let Some((request, since)) = self.early.pop_front() {
                let (port, wanted, done) = match request {
                    Request::Set { port, on, done, .. } => (port, ports::state(on), done),
                    Request::MinOff { port, done, .. } | Request::Reserve { port, done, .. } => {
                        (port, PortState::Unknown, done)
                    }
                };
                let waited = now.saturating_sub(since);
                let (pdu, source) = (self.name.clone(), self.error.clone());
                let seen = PortState::Unknown;
                // The caller may be gone, then nobody needs the answer.
                let _ = done.send(Err(PowerError::NotConfirmed { pdu, port, wanted, seen, waited, source }));
            }
        }
        Duration::MAX
    }

    fn accept(&mut self, request: Request) {
        let now = self.now();
        if self.ports.is_empty() && !self.in_contact {
            self.early.push_back((request, now));
            return;
        }
        self.changed = true;
        let (Request::Set { port: id, .. }
        | Request::MinOff { port: id, .. }
        | Request::Reserve { port: id, .. }) = &request;
        let id = id.clone();
        let Some(port) = self.ports.get_mut(&id) else {
            let (Request::Set { done, .. } | Request::MinOff { done, .. } | Request::Reserve { done, .. }) =
                request;
            let _ = done.send(Err(self.unknown(&id)));
            return;
        };
        let pdu = &self.name;
        match request {
            Request::Set { on, min_off, done, .. } => port.wish(pdu, &id, on, min_off, done, now),
            Request::MinOff { min_off, done, .. } => {
                port.safety.set_min_off(min_off);
                let _ = done.send(Ok(()));
            }
            Request::Reserve { reserved, done, .. } => {
                port.reserve(pdu, &id, reserved);
                if reserved {
                    self.options.reserved.insert(id);
                } else {
                    self.options.reserved.remove(&id);
                }
                let _ = done.send(Ok(()));
            }
        }
    }

    fn unknown(&self, port: &PortId) -> PowerError {
        let mut known: Vec<_> = self.ports.keys().take(64).map(PortId::as_str).collect();
        // Numbers in their order: 2 before 10.
        known.sort_by_key(|id| (id.len(), *id));
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        PowerError::UnknownPort { pdu: self.name.clone(), port: port.clone(), known }
    }

    /// Asks the PDU for its ports: at the start, and after it was gone.
    async fn contact(&mut self) {
        let result = bounded(self.driver.ports()).await;
        let now = self.now();
        self.changed = true;
        match result {
            Ok(infos) => {
                tracing::info!(pdu = self.name, ports = infos.len(), "PDU answers");
                self.in_contact = true;
                self.contact_pause = FIRST_CONTACT_PAUSE;
                self.failures = 0;
                self.state = PduState::Ok;
                self.error = None;
                self.next_poll = now;
                let min_off = self.options.min_off.unwrap_or_else(|| self.driver.default_min_off_time());
                let mut before = std::mem::take(&mut self.ports);
                for info in infos {
                    let reserved = self.options.reserved.contains(&info.id);
                    let mut port = before.remove(&info.id).unwrap_or_else(|| Port::new(min_off, reserved));
                    port.label = info.label;
                    self.ports.insert(info.id, port);
                }
                for (id, port) in before {
                    tracing::warn!(pdu = self.name, port = %id, "the PDU no longer has this port");
                    port.refuse_all(&self.unknown(&id));
                }
                for (request, _) in std::mem::take(&mut self.early) {
                    self.accept(request);
                }
            }
            Err(error) => self.gone(error, now),
        }
    }

    /// The PDU does not answer: nothing is known of its ports from now on.
    fn gone(&mut self, error: DriverError, now: Duration) {
        if self.state != PduState::Error {
            tracing::warn!(pdu = self.name, error = describe(&error), "PDU does not answer as it should");
        }
        self.state = PduState::Error;
        self.in_contact = false;
        self.next_contact = now + self.contact_pause;
        self.contact_pause = (self.contact_pause * 2).min(SLOWEST_CONTACT_PAUSE);
        self.to_poll.clear();
        for port in self.ports.values_mut() {
            port.safety.lost();
            port.power = None;
        }
        self.error = Some(error);
        self.changed = true;
    }

    /// Keeps count of failures; true if the call went well.
    fn note(&mut self, id: &PortId, result: Result<(), DriverError>) -> bool {
        let Err(error) = result else {
            self.failures = 0;
            return true;
        };
        tracing::debug!(pdu = self.name, port = %id, error = describe(&error), "PDU call failed");
        if let Some(port) = self.ports.get_mut(id) {
            port.last_error = Some(error.clone());
        }
        match error {
            // It answers, it only says no.
            DriverError::Refused(_) | DriverError::UnknownPort(_) | DriverError::Unavailable(_) => {
                self.failures = 0
            }
            _ => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.failures = 0;
                    let now = self.now();
                    self.gone(error, now);
                }
            }
        }
        false
    }

    async fn write(&mut self, id: &PortId, on: bool) {
        self.turn += 1;
        let Some(port) = self.ports.get_mut(id) else { return };
        port.served = self.turn;
        port.safety.write_started(on);
        let result = bounded(self.driver.write(id, on)).await;
        let now = self.now();
        if let Some(port) = self.ports.get_mut(id) {
            port.safety.write_ended(on, result.is_ok(), now);
        }
        tracing::info!(pdu = self.name, port = %id, on, accepted = result.is_ok(), "port commanded");
        self.note(id, result);
    }

    async fn read(&mut self, id: &PortId) -> bool {
        self.turn += 1;
        let result = bounded(self.driver.read(id)).await;
        let now = self.now();
        if let Some(port) = self.ports.get_mut(id) {
            port.served = self.turn;
            match &result {
                Ok(state) => self.changed |= port.observe(&self.name, id, *state, now),
                Err(_) => {
                    let before = port.safety.observed();
                    port.safety.unreadable(now);
                    self.changed |= port.safety.observed() != before;
                }
            }
        }
        self.note(id, result.map(drop))
    }

    async fn poll(&mut self, id: PortId) {
        if !self.read(&id).await {
            if self.in_contact && self.repeated.as_ref() != Some(&id) {
                self.repeated = Some(id.clone());
                self.to_poll.push_front(id);
            }
            return;
        }
        self.repeated = None;
        if self.has_power {
            let power = bounded(self.driver.power(&id)).await;
            self.has_power = !matches!(power, Err(DriverError::Unavailable(_)));
            if let Some(port) = self.ports.get_mut(&id) {
                port.power = power.ok().filter(|watts| watts.is_finite());
            }
        }
        if self.has_energy {
            let energy = bounded(self.driver.energy(&id)).await;
            self.has_energy = !matches!(energy, Err(DriverError::Unavailable(_)));
            if let (Some(port), Ok(joules)) = (self.ports.get_mut(&id), energy) {
                port.metered(joules);
            }
        }
    }

    fn publish(&self) {
        let ports = self.ports.iter().map(|(id, port)| (id.as_str().to_owned(), port.shown())).collect();
        let error = self.error.as_ref().map(describe);
        self.publish.send_modify(|snapshot| {
            snapshot.pdu.ports = ports;
            snapshot.pdu.state = self.state;
            snapshot.pdu.error = error;
        });
    }
}

async fn bounded<T>(call: impl Future<Output = Result<T, DriverError>>) -> Result<T, DriverError> {
    tokio::time::timeout(CALL_WITHIN, call).await.unwrap_or(Err(DriverError::Timeout(CALL_WITHIN)))
}

/// The wall clock, for what people read.
fn wall_clock() -> Timestamp {
    Timestamp::now()
}
