//! Relays and plugs with the Tasmota firmware.
//!
//! Manual: <https://tasmota.github.io/docs/Commands/>. `config: {hostname: HOST[:PORT], username, password}`. Ports
//! count from `"0"`, although Tasmota's own commands count from 1 (`Power1`): so do the farm files that exist. The
//! firmware takes credentials in the query of each request only.

use std::sync::Arc;

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ConfigError, Factory,
    http::{Auth, Http, WebConfig, encoded},
    round::number,
    settings,
};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "tasmota",
    help: "relays with Tasmota firmware; config: hostname: HOST[:PORT], username (admin), password, https, \
           verify_certificate",
    make,
};

const JOULES_PER_KILOWATT_HOUR: f64 = 3_600_000.0;
/// The firmware's own bound.
const MAX_RELAYS: usize = 32;

struct Tasmota {
    http: Http,
    /// `user=...&password=...&`, or nothing.
    login: Arc<str>,
    /// How many relays there are. What versions answer to a command for another one differs.
    relays: Option<u32>,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let config: WebConfig = settings("tasmota", config)?;
    let (login, auth) = match config.basic("admin") {
        Auth::Basic { user, password } => {
            let login = format!("user={}&password={}&", encoded(&user), encoded(password.expose()));
            (login, Auth::InPath(password))
        }
        auth => (String::new(), auth),
    };
    let http = config.client("tasmota", auth)?;
    Ok(Box::new(Tasmota { http, login: login.into(), relays: None }))
}

/// `Status`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    /// One for each relay; a text in old firmware.
    friendly_name: Option<Value>,
}

impl Tasmota {
    async fn command(&mut self, command: &str) -> Result<Map<String, Value>, DriverError> {
        let path = format!("/cm?{}cmnd={}", self.login, encoded(command));
        let answer: Map<String, Value> = self.http.get(&path).await?;
        // Without the right credentials it is a warning, whose status depends on the version.
        match answer.get("WARNING").and_then(Value::as_str) {
            Some(warning) => Err(DriverError::Authentication(warning.chars().take(100).collect())),
            None => Ok(answer),
        }
    }

    /// Asks how many relays there are: each has its state in `State`.
    async fn count(&mut self) -> Result<u32, DriverError> {
        let state = self.command("State").await?;
        let is_relay = |key: &String| {
            key.strip_prefix("POWER").is_some_and(|n| n.is_empty() || n.parse::<u32>().is_ok())
        };
        let count = state.keys().filter(|key| is_relay(key)).take(MAX_RELAYS).count();
        let count = u32::try_from(count).unwrap_or_default();
        self.relays = Some(count);
        Ok(count)
    }

    /// The names of the first eight relays.
    async fn names(&mut self) -> Result<Vec<String>, DriverError> {
        let mut answer = self.command("Status").await?;
        let status = answer.remove("Status").ok_or_else(|| unexpected("Status", &answer))?;
        let status: Status = serde_json::from_value(status)
            .map_err(|error| DriverError::Protocol(format!("Status: {error}")))?;
        Ok(match status.friendly_name {
            Some(Value::Array(names)) => {
                names.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect()
            }
            Some(Value::String(name)) => vec![name],
            _ => return Err(DriverError::Protocol("Status tells no FriendlyName".to_owned())),
        })
    }

    /// The number in Tasmota's commands, which count from 1.
    async fn relay(&mut self, port: &PortId) -> Result<u32, DriverError> {
        let relays = match self.relays {
            Some(relays) => relays,
            None => self.count().await?,
        };
        number(port)
            .filter(|n| *n < relays)
            .map(|n| n + 1)
            .ok_or_else(|| DriverError::UnknownPort(port.clone()))
    }

    /// Sends `PowerN` or `PowerN ON`, and gives the state that is answered.
    async fn switch(&mut self, port: &PortId, wish: &str) -> Result<PortState, DriverError> {
        let n = self.relay(port).await?;
        let answer = self.command(&format!("Power{n}{wish}")).await?;
        // A single relay may be called POWER.
        let single = (n == 1).then(|| answer.get("POWER")).flatten();
        let state = answer.get(&format!("POWER{n}")).or(single);
        let state = state.and_then(Value::as_str).ok_or_else(|| unexpected("Power", &answer))?;
        Ok(match state.to_ascii_lowercase().as_str() {
            "on" | "1" | "true" => PortState::On,
            "off" | "0" | "false" => PortState::Off,
            // The words can be changed with StateText.
            _ => PortState::Unknown,
        })
    }

    /// A value of the energy sensor: one for all, or one for each relay.
    async fn metered(&mut self, port: &PortId, key: &str) -> Result<f64, DriverError> {
        let n = self.relay(port).await?;
        let status = self.command("Status 8").await?;
        let value = status.get("StatusSNS").and_then(|sns| sns.get("ENERGY")?.get(key));
        let value = match value {
            Some(Value::Array(each)) => each.get(n as usize - 1).and_then(Value::as_f64),
            Some(value) if self.relays == Some(1) => value.as_f64(),
            _ => None,
        };
        value.ok_or(DriverError::Unavailable("metering"))
    }
}

fn unexpected(what: &str, answer: &Map<String, Value>) -> DriverError {
    let keys: Vec<_> = answer.keys().take(4).map(|key| key.chars().take(32).collect::<String>()).collect();
    DriverError::Protocol(format!("an answer to {what} with only {}", keys.join(", ")))
}

#[async_trait]
impl Driver for Tasmota {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        let names = self.names().await?;
        let count = self.count().await?;
        let name = |n: u32| names.get(n as usize).filter(|name| !name.is_empty()).cloned();
        let label = |n: u32| name(n).unwrap_or_else(|| format!("relay {n}"));
        Ok((0..count).map(|n| PortInfo { id: n.into(), label: label(n) }).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        self.switch(port, "").await
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        // What is answered is what was asked; whether it happened is read back.
        self.switch(port, if on { " ON" } else { " OFF" }).await.map(drop)
    }

    async fn power(&mut self, port: &PortId) -> Result<f64, DriverError> {
        self.metered(port, "Power").await
    }

    async fn energy(&mut self, port: &PortId) -> Result<f64, DriverError> {
        Ok(self.metered(port, "Total").await? * JOULES_PER_KILOWATT_HOUR)
    }
}
