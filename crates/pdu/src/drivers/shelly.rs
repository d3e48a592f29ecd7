//! Shelly relays and plugs, generation 1 and generation 2 and later.
//!
//! Manuals: <https://shelly-api-docs.shelly.cloud/gen1/> and <https://shelly-api-docs.shelly.cloud/gen2/>.
//! `config: {hostname: HOST[:PORT], username, password}`. The generation is read from `/shelly`, which needs no
//! password. Ports count from `"0"`, as the relays do in the vendor's documents. Generation 1 has Basic
//! authentication, later ones Digest with SHA-256. Power and energy come from devices that meter.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ConfigError, Factory,
    http::{Answer, Auth, Http, WebConfig},
    round::number,
    settings,
};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "shelly",
    help: "Shelly relays and plugs, all generations; config: hostname: HOST[:PORT], username (admin), password, https, \
           verify_certificate",
    make,
};

/// The status of a relay, once read for its state, also answers for its power and energy.
const STATUS_FRESH: Duration = Duration::from_millis(200);
/// JSON-RPC of generation 2: there is no component with that id.
const NO_SUCH_ID: i64 = -105;
const JOULES_PER_WATT_HOUR: f64 = 3600.0;
const JOULES_PER_WATT_MINUTE: f64 = 60.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Generation {
    First,
    Later,
}

struct Shelly {
    http: Http,
    config: WebConfig,
    /// Not known before the device was asked.
    generation: Option<Generation>,
    status: Option<(PortId, Instant, Status)>,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let config: WebConfig = settings("shelly", config)?;
    // `/shelly` is open, and which authentication the rest wants is not known before it was read.
    let http = config.client("shelly", Auth::None)?;
    Ok(Box::new(Shelly { http, config, generation: None, status: None }))
}

/// `/shelly`. Only later generations tell theirs.
#[derive(Deserialize)]
struct Device {
    r#gen: Option<u32>,
    r#type: Option<String>,
}

/// A relay of generation 1 (`/relay/N`) or later (`Switch.GetStatus`).
#[derive(Deserialize)]
struct Status {
    #[serde(alias = "ison")]
    output: Option<bool>,
    /// Watts.
    apower: Option<f64>,
    aenergy: Option<Counter>,
}

/// Watt-hours.
#[derive(Deserialize)]
struct Counter {
    total: f64,
}

/// `/meter/N` of generation 1: watts, and watt-minutes.
#[derive(Deserialize)]
struct Meter {
    #[serde(default)]
    is_valid: bool,
    power: Option<f64>,
    total: Option<f64>,
}

impl Shelly {
    async fn detect(&mut self) -> Result<Generation, DriverError> {
        let device: Device = self.http.get("/shelly").await?;
        let generation = match (device.r#gen, device.r#type) {
            (Some(2..), _) => Generation::Later,
            (None | Some(1), Some(_)) => Generation::First,
            _ => return Err(DriverError::Protocol("/shelly names no Shelly".to_owned())),
        };
        if self.generation != Some(generation) {
            let basic = self.config.basic("admin");
            self.http.authenticate(match (generation, basic) {
                (Generation::Later, Auth::Basic { user, password }) => Auth::Digest { user, password },
                (_, basic) => basic,
            });
            self.generation = Some(generation);
        }
        Ok(generation)
    }

    async fn generation(&mut self) -> Result<Generation, DriverError> {
        match self.generation {
            Some(generation) => Ok(generation),
            None => self.detect().await,
        }
    }

    async fn ask_port(&mut self, path: &str, port: &PortId) -> Result<Answer, DriverError> {
        let answer = self.http.ask(path).await?;
        let code = || serde_json::from_slice::<Value>(&answer.body).ok()?.get("code")?.as_i64();
        if !answer.is_fine() && code() == Some(NO_SUCH_ID) {
            return Err(DriverError::UnknownPort(port.clone()));
        }
        answer.or_unknown(port)
    }

    async fn status(&mut self, port: &PortId) -> Result<Status, DriverError> {
        let n = relay(port)?;
        let path = match self.generation().await? {
            Generation::First => format!("/relay/{n}"),
            Generation::Later => format!("/rpc/Switch.GetStatus?id={n}"),
        };
        self.ask_port(&path, port).await?.json()
    }

    /// The status that was just read, or a new one.
    async fn recent(&mut self, port: &PortId) -> Result<&Status, DriverError> {
        let fresh = |(of, at, _): &(PortId, Instant, Status)| of == port && at.elapsed() < STATUS_FRESH;
        let status = match self.status.take().filter(fresh) {
            Some((_, _, status)) => status,
            None => self.status(port).await?,
        };
        Ok(&self.status.insert((port.clone(), Instant::now(), status)).2)
    }

    async fn meter(&mut self, port: &PortId) -> Result<Meter, DriverError> {
        let answer = self.http.ask(&format!("/meter/{}", relay(port)?)).await?;
        if answer.status == 404 {
            return Err(DriverError::Unavailable("metering"));
        }
        answer.json()
    }
}

fn relay(port: &PortId) -> Result<u32, DriverError> {
    number(port).ok_or_else(|| DriverError::UnknownPort(port.clone()))
}

fn port_info(n: u32, name: Option<&Value>) -> PortInfo {
    let name = name.and_then(Value::as_str).filter(|name| !name.is_empty());
    PortInfo { id: n.into(), label: name.map_or_else(|| format!("relay {n}"), str::to_owned) }
}

#[async_trait]
impl Driver for Shelly {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        match self.detect().await? {
            Generation::First => {
                let settings: Map<String, Value> = self.http.get("/settings").await?;
                if settings.get("mode").and_then(Value::as_str) == Some("roller") {
                    let what = "it is in roller mode: choose relay mode on its web page";
                    return Err(DriverError::Refused(what.to_owned()));
                }
                let relays = settings.get("relays").and_then(Value::as_array).map(Vec::as_slice);
                let relays = (0_u32..).zip(relays.unwrap_or_default());
                Ok(relays.map(|(n, relay)| port_info(n, relay.get("name"))).collect())
            }
            Generation::Later => {
                let config: Map<String, Value> = self.http.get("/rpc/Shelly.GetConfig").await?;
                let switch = |key: &str| key.strip_prefix("switch:")?.parse::<u32>().ok();
                let mut switches: Vec<_> = config
                    .iter()
                    .filter_map(|(key, value)| Some((switch(key)?, value.get("name"))))
                    .collect();
                switches.sort_by_key(|(n, _)| *n);
                Ok(switches.into_iter().map(|(n, name)| port_info(n, name)).collect())
            }
        }
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        self.status = None;
        Ok(match self.recent(port).await?.output {
            Some(true) => PortState::On,
            Some(false) => PortState::Off,
            None => PortState::Unknown,
        })
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        self.status = None;
        let n = relay(port)?;
        let path = match self.generation().await? {
            Generation::First => format!("/relay/{n}?turn={}", if on { "on" } else { "off" }),
            Generation::Later => format!("/rpc/Switch.Set?id={n}&on={on}"),
        };
        self.ask_port(&path, port).await?.fine()
    }

    async fn power(&mut self, port: &PortId) -> Result<f64, DriverError> {
        let none = DriverError::Unavailable("power metering");
        match self.generation().await? {
            Generation::First => self.meter(port).await?.power.ok_or(none),
            Generation::Later => self.recent(port).await?.apower.ok_or(none),
        }
    }

    async fn energy(&mut self, port: &PortId) -> Result<f64, DriverError> {
        let none = DriverError::Unavailable("energy metering");
        match self.generation().await? {
            Generation::First => {
                let meter = self.meter(port).await?;
                meter.total.filter(|_| meter.is_valid).map(|total| total * JOULES_PER_WATT_MINUTE).ok_or(none)
            }
            Generation::Later => {
                let counter = self.recent(port).await?.aenergy.as_ref();
                counter.map(|counter| counter.total * JOULES_PER_WATT_HOUR).ok_or(none)
            }
        }
    }
}
