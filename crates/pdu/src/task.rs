//! The task of one PDU: it alone speaks to the driver, one call at a time, each bounded in time.
//!
//! It carries out what the ports' state machines ([`safety`](crate::safety)) say, polls the ports in between, and
//! publishes what it sees. A PDU that fails several times in a row is taken for gone: every port becomes UNKNOWN, and
//! the PDU is contacted again with growing pauses until it answers.

mod energy;
mod ports;
mod schedule;

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use farmgate_protocol::{
    PortId, Timestamp,
    pdu::{PduState, PortState},
};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::ports::{Port, describe};
use crate::{
    Driver, DriverError, Moment, Notice, PduOptions, PduSnapshot, PortRecord, PortRules, PowerError,
    handle::{Outlets, Request},
    safety::Step,
};

/// No call of a driver takes longer.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// So many failures in a row mean that the PDU is gone.
const FAILURES: u32 = 3;
const FIRST_CONTACT_PAUSE: Duration = Duration::from_millis(100);
const SLOWEST_CONTACT_PAUSE: Duration = Duration::from_secs(5);
/// While somebody waits for the PDU it is contacted at least this often.
const SLOWEST_WANTED_PAUSE: Duration = Duration::from_secs(1);
/// How long the journal may take before ON is commanded all the same.
const JOURNAL_WITHIN: Duration = Duration::from_secs(2);
/// Our clock stands here when the task starts, so that moments before it can be said.
const START: Duration = Duration::from_secs(100 * 365 * 86_400);
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Requests kept while the PDU's ports are not known.
const EARLY: usize = 256;

/// Runs the task until the token, the last handle or a panic ends it, and says so in the snapshot.
pub(crate) async fn supervise(
    name: String,
    driver: Box<dyn Driver>,
    options: PduOptions,
    inbox: mpsc::Receiver<Request>,
    outlets: Outlets,
    shutdown: CancellationToken,
) {
    let Outlets { publish, rules, notices } = outlets;
    let publish = Arc::new(publish);
    let mut tasks = JoinSet::new();
    let mut task = Task::new(name.clone(), driver, options, publish.clone());
    (task.rules, task.notices) = (rules, notices);
    tasks.spawn(task.run(inbox));
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
    rules: watch::Receiver<PortRules>,
    notices: broadcast::Sender<Notice>,
    /// When our clock stood at [`START`].
    origin: Instant,
    /// What a gateway before left of ports that are not known yet.
    records: BTreeMap<PortId, PortRecord>,
    on_interval: Duration,
    /// When a port was last commanded ON.
    last_on: Option<Duration>,
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
        let on_interval = options.on_interval.unwrap_or_else(|| driver.power_on_interval());
        Self {
            rules: watch::channel(PortRules::new()).1,
            notices: broadcast::channel(1).0,
            records: BTreeMap::new(),
            on_interval,
            last_on: None,
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
        START + self.origin.elapsed()
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        self.load_records().await;
        loop {
            self.apply_rules();
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
                    let time = Instant::now() + time.saturating_sub(self.now()).min(LONGEST_SLEEP);
                    tokio::select! {
                        request = inbox.recv(), if self.early.len() < EARLY => match request {
                            Some(request) => self.accept(request),
                            None => return,
                        },
                        // Where no handle is left the inbox says so.
                        Ok(()) = self.rules.changed() => self.rules.mark_changed(),
                        () = tokio::time::sleep_until(time) => {}
                    }
                }
            }
        }
    }

    /// What a gateway before knew of the ports.
    async fn load_records(&mut self) {
        let Some(journal) = self.options.journal.clone() else { return };
        match tokio::time::timeout(CALL_WITHIN, journal.load()).await {
            Ok(Ok(records)) => self.records = records,
            Ok(Err(error)) => tracing::warn!(pdu = self.name, %error, "off times of before are not known"),
            Err(_) => {
                tracing::warn!(pdu = self.name, "off times of before are not known: the journal is silent")
            }
        }
    }

    fn apply_rules(&mut self) {
        if !self.rules.has_changed().unwrap_or(false) {
            return;
        }
        let rules = self.rules.borrow_and_update();
        for (id, port) in &mut self.ports {
            if port.rule.as_ref() != rules.get(id) {
                port.set_rule(&self.name, id, rules.get(id).cloned());
                self.changed = true;
            }
        }
    }

    fn accept(&mut self, request: Request) {
        self.apply_rules();
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
                let settle = self.driver.settle_time();
                let moment = Moment::now();
                let min_off = self.options.min_off.unwrap_or_else(|| self.driver.default_min_off_time());
                let mut before = std::mem::take(&mut self.ports);
                for info in infos {
                    let reserved = self.options.reserved.contains(&info.id);
                    let mut port = before.remove(&info.id).unwrap_or_else(|| {
                        let mut port = Port::new(min_off, settle, reserved);
                        port.rule = self.rules.borrow().get(&info.id).cloned();
                        if let Some(record) = self.records.remove(&info.id) {
                            port.recall(record, now, &moment);
                        }
                        port
                    });
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
        // Many PDUs that went away together must not be asked together.
        self.next_contact = now + self.contact_pause.mul_f64(1.0 + jitter() / 4.0);
        self.contact_pause = (self.contact_pause * 2).min(SLOWEST_CONTACT_PAUSE);
        self.to_poll.clear();
        for port in self.ports.values_mut() {
            port.safety.lost();
            port.meter.lost();
        }
        for record in self.records.values_mut() {
            // It may have lost its mains: when its ports were switched off last is not known any more.
            record.off_since = None;
        }
        self.record_news();
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
        if on {
            self.last_on = Some(START + self.origin.elapsed());
            if let (Some(record), Some(journal)) = (port.record_before_on(), &self.options.journal) {
                let kept = tokio::time::timeout(JOURNAL_WITHIN, journal.save(id, &record)).await;
                if !matches!(kept, Ok(Ok(()))) {
                    tracing::warn!(pdu = self.name, port = %id, "that the port is not off any more is not stored");
                }
            }
        }
        port.safety.write_started(on);
        let mut result = bounded(self.driver.write(id, on)).await;
        if matches!(result, Err(DriverError::Protocol(_))) {
            // Answers get garbled one by one; to repeat a command at once does no harm.
            result = bounded(self.driver.write(id, on)).await;
        }
        let now = self.now();
        if let Some(port) = self.ports.get_mut(id) {
            port.safety.write_ended(on, result.is_ok(), now);
        }
        tracing::info!(pdu = self.name, port = %id, on, accepted = result.is_ok(), "port commanded");
        self.record_news();
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
        self.record_news();
        self.note(id, result.map(drop))
    }

    /// Keeps what changed for the next gateway.
    fn record_news(&mut self) {
        let Some(journal) = &self.options.journal else { return };
        let now = START + self.origin.elapsed();
        for (id, port) in &mut self.ports {
            if let Some(record) = port.news_for_journal(now) {
                journal.save_soon(id, record);
            }
        }
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
                match power {
                    Ok(watts) => port.meter.draws(watts, START + self.origin.elapsed()),
                    Err(_) => port.meter.lost(),
                }
            }
        }
        if self.has_energy {
            let energy = bounded(self.driver.energy(&id)).await;
            self.has_energy = !matches!(energy, Err(DriverError::Unavailable(_)));
            if let (Some(port), Ok(joules)) = (self.ports.get_mut(&id), energy) {
                port.meter.counts(joules);
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

/// Between 0 and 1.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(0);
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

/// The wall clock, for what people read.
fn wall_clock() -> Timestamp {
    Timestamp::now()
}
