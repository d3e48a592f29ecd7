//! Anything that Home Assistant can switch.
//!
//! Manual: <https://developers.home-assistant.io/docs/api/rest/>. `config: {hostname: HOST[:PORT], token, entities:
//! [switch.rack_1, ...]}`; the port is 8123 unless given, the token is a long-lived access token of a user of its own.
//! A port id is the entity's id. Only the entities that are listed exist for us.

use std::time::Duration;

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ConfigError, Factory,
    http::{Auth, Http, yes},
    secret::Secret,
    settings,
};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "home_assistant",
    help: "switches of Home Assistant; config: hostname: HOST[:PORT], token, entities: [switch.NAME, ...], https, \
           verify_certificate",
    make,
};

const DEFAULT_PORT: u16 = 8123;
const MAX_ENTITIES: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    hostname: String,
    token: Secret,
    entities: Vec<PortId>,
    #[serde(default)]
    https: bool,
    #[serde(default = "yes")]
    verify_certificate: bool,
}

struct HomeAssistant {
    http: Http,
    entities: Vec<PortId>,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let Config { hostname, token, entities, https, verify_certificate } = settings("home_assistant", config)?;
    let wrong = |what: String| ConfigError::Settings { driver: "home_assistant", what };
    if entities.len() > MAX_ENTITIES {
        return Err(wrong(format!("entities: {} are too many, at most {MAX_ENTITIES}", entities.len())));
    }
    if let Some(bad) = entities.iter().find(|entity| domain(entity).is_none()) {
        return Err(wrong(format!("entities: {bad} is not the id of an entity, like switch.rack_1")));
    }
    let auth = Auth::Bearer(token);
    let http = Http::new("home_assistant", &hostname, DEFAULT_PORT, https, verify_certificate, auth)?;
    Ok(Box::new(HomeAssistant { http, entities }))
}

/// `switch` of `switch.rack_1`; `None` if it is no entity id.
fn domain(entity: &PortId) -> Option<&str> {
    let (domain, name) = entity.as_str().split_once('.')?;
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    (plain(domain) && plain(name)).then_some(domain)
}

#[derive(Deserialize)]
struct Entity {
    state: String,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize, Default)]
struct Attributes {
    friendly_name: Option<String>,
}

impl HomeAssistant {
    async fn entity(&mut self, port: &PortId) -> Result<Entity, DriverError> {
        if !self.entities.contains(port) {
            return Err(DriverError::UnknownPort(port.clone()));
        }
        self.http.ask(&format!("/api/states/{port}")).await?.or_unknown(port)?.json()
    }
}

#[async_trait]
impl Driver for HomeAssistant {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        let mut ports = Vec::new();
        for id in self.entities.clone() {
            let label = match self.entity(&id).await {
                Ok(entity) => entity.attributes.friendly_name,
                // Renamed or removed: the others are still there. Reading it says so.
                Err(DriverError::UnknownPort(_)) => None,
                Err(error) => return Err(error),
            };
            ports.push(PortInfo { label: label.unwrap_or_else(|| id.to_string()), id });
        }
        if ports.is_empty() {
            // Nothing was asked yet; a dead server must not look alive.
            self.http.ask("/api/").await?.fine()?;
        }
        Ok(ports)
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        Ok(match self.entity(port).await?.state.as_str() {
            "on" => PortState::On,
            "off" => PortState::Off,
            // unavailable, unknown: Home Assistant does not reach the device.
            _ => PortState::Unknown,
        })
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        // Home Assistant says yes to a service call for an entity that it has not.
        self.entity(port).await?;
        let domain = domain(port).ok_or_else(|| DriverError::UnknownPort(port.clone()))?;
        let path = format!("/api/services/{domain}/turn_{}", if on { "on" } else { "off" });
        self.http.post(&path, &json!({"entity_id": port})).await?.fine()
    }

    /// The state is what the device last reported to Home Assistant.
    fn settle_time(&self) -> Duration {
        Duration::from_secs(2)
    }
}
