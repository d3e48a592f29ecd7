//! Questions to one SNMP agent: bounded in time, repeated where packets get lost, and answered in our own words.
//!
//! This module and [`access`](super::access) are the only ones that know the SNMP library. What it adds to it: a
//! repetition that neither floods a slow agent nor waits long for a quick one (the pause is learned, and doubles),
//! with every answer welcome, also the one to the first packet after the third was sent; one time limit over all
//! questions of a call; and errors that name a remedy.

use std::{io, sync::Arc, time::Duration};

use async_snmp::{
    Auth, Client, ClientBuilder, EngineCache, Error, ErrorStatus, Retry, VarBind, v3::ReportStatus,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    access::{Access, Version},
    oid::Oid,
    pace::Pace,
};
use crate::DriverError;

/// A call of a driver takes no longer, whatever it asks: the PDU's task gives up after 5 s, with less to say.
pub const CALL_WITHIN: Duration = Duration::from_millis(4500);
/// The library's own limits are out of the way: ours are shorter.
const NEVER: Duration = Duration::from_secs(60);
/// An agent of version 3 is asked for its name again after this; it is not asked in parallel.
const DISCOVERY_REPEAT: Duration = Duration::from_millis(1100);
/// How often a packet is sent at most.
const MOST_SENDS: u32 = 6;
/// Rows of a table in one answer, at most: about 1 KB with two columns, so that no answer is cut into fragments.
const ROWS_AT_ONCE: u32 = 10;

/// What an agent holds in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Any kind of number.
    Number(i64),
    /// A text, in bytes as they came.
    Text(Vec<u8>),
    /// Something that no PDU driver reads.
    Other,
    /// Nothing is there.
    Nothing,
}

/// Why there is no answer to use.
#[derive(Debug)]
pub enum Failure {
    /// It answered, and will not do that.
    Status(Status),
    /// Anything else.
    Driver(DriverError),
}

/// What an agent says when it will not (RFC 1157, RFC 3416), as far as it makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There is no such object, or (version 1 has no other word for it) it may not be written.
    NoSuchName,
    /// It may not be written, or not by us.
    MayNotWrite(ErrorStatus),
    /// The value is of the wrong type, or out of range.
    WrongValue(ErrorStatus),
    /// It did not work.
    Failed(ErrorStatus),
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// One agent. Keeps its socket and, for version 3, what it knows of the agent's clock.
pub struct Session {
    access: Access,
    client: Option<Client>,
    engines: Arc<EngineCache>,
    pace: Pace,
    /// It answers GETBULK.
    pub(super) bulk: bool,
    /// How many rows of a table it is asked for at once.
    pub(super) rows_at_once: u32,
}

impl Session {
    pub fn new(access: Access) -> Self {
        let bulk = access.version != Version::V1;
        Self {
            access,
            client: None,
            engines: Arc::new(EngineCache::new()),
            pace: Pace::new(),
            bulk,
            rows_at_once: ROWS_AT_ONCE,
        }
    }

    /// The value of one object.
    pub async fn get(&mut self, oid: &Oid, by: Instant) -> Result<Held, Failure> {
        let wire = wire(oid);
        match self.ask(Question::Get(wire.clone()), by).await {
            Ok(binds) => match binds.into_iter().find(|bind| bind.oid == wire) {
                Some(bind) => Ok(held(&bind.value)),
                None => {
                    Err(self.strange(&format!("the answer to a question for {oid} is about something else")))
                }
            },
            Err(Failure::Status(Status::NoSuchName)) => Ok(Held::Nothing),
            Err(failure) => Err(failure),
        }
    }

    /// The values of several objects, in one packet and in their order.
    pub async fn get_many(&mut self, oids: &[Oid], by: Instant) -> Result<Vec<Held>, Failure> {
        let wires: Vec<_> = oids.iter().map(wire).collect();
        let binds = self.ask(Question::Many(wires.clone()), by).await?;
        let value = |wire: &async_snmp::Oid| {
            binds.iter().find(|bind| bind.oid == *wire).map(|bind| held(&bind.value))
        };
        Ok(wires.iter().map(|wire| value(wire).unwrap_or(Held::Nothing)).collect())
    }

    /// Sets an INTEGER.
    pub async fn set(&mut self, oid: &Oid, value: i32, by: Instant) -> Result<(), Failure> {
        self.ask(Question::Set(wire(oid), value), by).await.map(drop)
    }

    /// What follows each of these, wherever that is; empty where nothing does.
    pub async fn successors(&mut self, oids: &[Oid], by: Instant) -> Result<Vec<(Oid, Held)>, Failure> {
        self.next(oids, 1, by).await
    }

    /// What follows each of these, and `repeat` times so on.
    pub(super) async fn next(
        &mut self,
        oids: &[Oid],
        repeat: u32,
        by: Instant,
    ) -> Result<Vec<(Oid, Held)>, Failure> {
        let wires: Vec<_> = oids.iter().map(wire).collect();
        let question = if repeat == 1 { Question::Next(wires) } else { Question::Bulk(wires, repeat) };
        let binds = self.ask(question, by).await?;
        Ok(binds.iter().map(|bind| (Oid::of(bind.oid.arcs()), held(&bind.value))).collect())
    }

    /// Asks until there is an answer or the time is over.
    ///
    /// An agent of version 3 that lost its clock, or was replaced, is greeted anew, once: it complains, or it signs its
    /// answers in a way that cannot be told from silence.
    async fn ask(&mut self, question: Question, by: Instant) -> Result<Vec<VarBind>, Failure> {
        let now = Instant::now();
        let left = by.saturating_duration_since(now);
        // Later in a call it has just answered.
        let first_of_call = left > CALL_WITHIN * 9 / 10;
        let known = self.access.version == Version::V3 && self.client.is_some() && first_of_call;
        let patience = if known { now + left / 2 } else { by };
        let mut answer = self.exchange(&question, patience).await;
        let estranged = match &answer {
            Err(Lost::Said(error)) => is_estranged(error),
            Err(Lost::Silence) => true,
            _ => false,
        };
        if known && estranged {
            self.forget();
            answer = self.exchange(&question, by).await;
        }
        answer.map_err(|lost| match lost {
            Lost::Said(error) => match error.exchange_source() {
                Error::Snmp { status, .. } => Failure::Status(classify(*status)),
                other => {
                    let failure = self.told(other);
                    self.forget();
                    Failure::Driver(failure)
                }
            },
            Lost::Silence => {
                self.client = None;
                Failure::Driver(self.silent())
            }
            Lost::Driver(error) => Failure::Driver(error),
        })
    }

    async fn exchange(&mut self, question: &Question, by: Instant) -> Result<Vec<VarBind>, Lost> {
        let client = self.client(by).await?;
        let mut pause = self.pace.first_pause();
        let mut sends = 1;
        let send = || question.clone().ask(client.clone());
        let mut underway = FuturesUnordered::from_iter([send()]);
        let mut again = Instant::now() + pause;
        // The library logs each failure itself, as an error; we tell it our own way.
        let answer = async {
            loop {
                tokio::select! {
                    Some((answer, took)) = underway.next() => return (answer, took),
                    () = sleep_until(again), if sends < MOST_SENDS => {
                        underway.push(send());
                        sends += 1;
                        pause *= 2;
                        again = Instant::now() + pause;
                    }
                }
            }
        };
        match timeout_at(by, answer.with_subscriber(NoSubscriber::default())).await {
            Ok((answer, took)) => {
                self.pace.learn(took);
                answer.map_err(Lost::Said)
            }
            Err(_) => Err(Lost::Silence),
        }
    }

    /// The socket; for version 3 also the agent's name and clock.
    async fn client(&mut self, by: Instant) -> Result<Client, Lost> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let connecting = async {
            if self.access.version == Version::V3 {
                let repeat = Retry::fixed(3, Duration::ZERO).unwrap_or_else(|_| Retry::none());
                let greeter = self.builder(DISCOVERY_REPEAT, repeat).connect().await?;
                greeter.rediscover_engine().await?;
            }
            self.builder(NEVER, Retry::none()).connect().await
        };
        let connected = timeout_at(by, connecting.with_subscriber(NoSubscriber::default())).await;
        let client = match connected {
            Ok(Ok(client)) => client,
            Ok(Err(error)) if matches!(error.exchange_source(), Error::Timeout { .. }) => {
                return Err(Lost::Silence);
            }
            Ok(Err(error)) => return Err(Lost::Driver(self.told(error.exchange_source()))),
            Err(_) => return Err(Lost::Silence),
        };
        self.client = Some(client.clone());
        Ok(client)
    }

    fn builder(&self, each: Duration, repeat: Retry) -> async_snmp::client::TargetClientBuilder {
        let auth: Auth = self.access.auth.clone();
        let mut builder =
            ClientBuilder::new(auth).request_timeout(each).retry(repeat).max_oids_per_request(64);
        if self.access.version == Version::V3 {
            builder = builder.engine_cache(self.engines.clone());
            // An agent cannot sign its complaint about a wrong user or password; without this we would not hear it.
            // Who can forge one can also keep the answers from us.
            builder = builder.allow_unauthenticated_v3_time_correction(true);
        }
        if let Some(salt) = &self.access.salt {
            builder = builder.des_salt_state(salt.clone());
        }
        // Another machine must not answer in the PDU's place.
        builder.target(self.access.address.as_str()).construction_timeout(CALL_WITHIN).strict_source(true)
    }

    /// The next question begins from nothing.
    fn forget(&mut self) {
        self.client = None;
        self.engines = Arc::new(EngineCache::new());
    }

    pub(super) fn strange(&self, what: &str) -> Failure {
        Failure::Driver(DriverError::Protocol(format!("{}: {what}", self.access.address)))
    }

    fn silent(&self) -> DriverError {
        let why = match self.access.version {
            Version::V1 | Version::V2c => {
                "no SNMP answer; an agent is also silent when the community is wrong, when this version of SNMP is \
                 switched off, and when the gateway is not on its access list"
            }
            Version::V3 => {
                "no SNMP answer; is version 3 switched on there, and the gateway on its access list? (A wrong user or \
                 password would have been reported)"
            }
        };
        DriverError::unreachable(&*self.access.address, io::Error::new(io::ErrorKind::TimedOut, why))
    }

    /// What the library's error means to a person.
    fn told(&self, error: &Error) -> DriverError {
        let address = &self.access.address;
        let credentials = |what: &str| DriverError::Authentication(format!("{address}: {what}"));
        match error {
            Error::Report { status, .. } => match &**status {
                ReportStatus::UnknownUserName { .. } => credentials("it knows no such user: see `username`"),
                ReportStatus::WrongDigest { .. } => {
                    credentials("the signature is wrong: see `auth_password` and `auth_protocol`")
                }
                ReportStatus::UnsupportedSecurityLevel { .. } => credentials(
                    "its user is set up for another security level: give auth_protocol and auth_password, \
                     privacy_protocol and privacy_password exactly as there",
                ),
                ReportStatus::DecryptionError { .. } => {
                    credentials("it cannot decrypt: see `privacy_password` and `privacy_protocol`")
                }
                other => DriverError::Protocol(format!("{address}: {other}")),
            },
            Error::Auth { .. } => {
                credentials("its answer is not signed as it should be: see `auth_password`")
            }
            Error::Network { source, .. } => {
                DriverError::unreachable(&**address, io::Error::new(source.kind(), source.to_string()))
            }
            Error::Timeout { .. } | Error::ConstructionTimeout { .. } => self.silent(),
            Error::Config(text) => DriverError::unreachable(&**address, io::Error::other(text.to_string())),
            other => DriverError::Protocol(format!("{address}: {other}")),
        }
    }
}

/// What is asked, in one packet.
#[derive(Clone)]
enum Question {
    Get(async_snmp::Oid),
    Many(Vec<async_snmp::Oid>),
    Set(async_snmp::Oid, i32),
    Next(Vec<async_snmp::Oid>),
    Bulk(Vec<async_snmp::Oid>, u32),
}

impl Question {
    /// Sends it once; the answer, and how long it took.
    async fn ask(self, client: Client) -> (async_snmp::Result<Vec<VarBind>>, Duration) {
        let sent = Instant::now();
        let answer = match self {
            Self::Get(oid) => client.get(&oid).await.map(|response| response.varbinds),
            Self::Many(oids) => client.get_many(&oids).await.map(|response| response.varbinds),
            Self::Set(oid, value) => {
                let value = async_snmp::Value::Integer(value);
                client.set(&oid, value).await.map(|response| response.varbinds)
            }
            Self::Next(oids) => client.get_next_many(&oids).await.map(|response| response.varbinds),
            Self::Bulk(oids, repeat) => client.get_bulk(&oids, 0, repeat).await,
        };
        (answer, sent.elapsed())
    }
}

/// Why an exchange has no answer.
enum Lost {
    Said(Box<Error>),
    Silence,
    Driver(DriverError),
}

/// It is not (or no longer) the agent that was greeted: replaced, or its clock was set back.
fn is_estranged(error: &Error) -> bool {
    match error.exchange_source() {
        Error::Report { status, .. } => {
            matches!(**status, ReportStatus::UnknownEngineId { .. } | ReportStatus::NotInTimeWindow { .. })
        }
        Error::Auth { .. } | Error::MalformedResponse { .. } => true,
        _ => false,
    }
}

fn classify(status: ErrorStatus) -> Status {
    use ErrorStatus as E;
    match status {
        E::NoSuchName => Status::NoSuchName,
        E::ReadOnly
        | E::NoAccess
        | E::NotWritable
        | E::AuthorizationError
        | E::NoCreation
        | E::InconsistentName => Status::MayNotWrite(status),
        E::BadValue
        | E::WrongType
        | E::WrongLength
        | E::WrongEncoding
        | E::WrongValue
        | E::InconsistentValue => Status::WrongValue(status),
        _ => Status::Failed(status),
    }
}

fn wire(oid: &Oid) -> async_snmp::Oid {
    async_snmp::Oid::from_slice(oid.arcs())
}

fn held(value: &async_snmp::Value) -> Held {
    use async_snmp::Value as V;
    match value {
        V::Integer(n) => Held::Number(i64::from(*n)),
        V::Counter32(n) | V::Gauge32(n) | V::UInteger32(n) | V::TimeTicks(n) => Held::Number(i64::from(*n)),
        V::Counter64(n) => i64::try_from(*n).map_or(Held::Other, Held::Number),
        V::OctetString(bytes) => Held::Text(bytes.to_vec()),
        V::NoSuchObject | V::NoSuchInstance | V::EndOfMibView => Held::Nothing,
        _ => Held::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_will_not_do_is_told_apart() {
        assert_eq!(classify(ErrorStatus::NoSuchName), Status::NoSuchName);
        assert!(matches!(classify(ErrorStatus::ReadOnly), Status::MayNotWrite(_)));
        assert!(matches!(classify(ErrorStatus::NotWritable), Status::MayNotWrite(_)));
        assert!(matches!(classify(ErrorStatus::WrongType), Status::WrongValue(_)));
        assert!(matches!(classify(ErrorStatus::GenErr), Status::Failed(_)));
        assert!(matches!(classify(ErrorStatus::from_i32(99)), Status::Failed(_)));
    }
}
