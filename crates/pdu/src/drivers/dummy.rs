//! A PDU that switches nothing: for trying farm files and for tests.
//!
//! `config: {ports: [labels]}`. Port ids count from `"1"` in the order of the labels. Every port starts OFF and
//! remembers what it was told until the gateway ends.

use std::time::Duration;

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::Deserialize;
use serde_json::Value;

use super::{ConfigError, Factory, settings};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "dummy",
    help: "switches nothing, for trying things out; config: ports: [LABEL, ...]",
    make,
};

/// More than any PDU has; a longer list is a mistake.
const MAX_PORTS: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    ports: Vec<String>,
}

struct Dummy {
    ports: Vec<(PortInfo, bool)>,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let config: Config = settings("dummy", config)?;
    if config.ports.len() > MAX_PORTS {
        let what = format!("ports: {} labels are too many, at most {MAX_PORTS}", config.ports.len());
        return Err(ConfigError::Settings { driver: "dummy", what });
    }
    let ports = (1_u32..).zip(config.ports).map(|(n, label)| (PortInfo { id: n.into(), label }, false));
    Ok(Box::new(Dummy { ports: ports.collect() }))
}

impl Dummy {
    fn port(&mut self, id: &PortId) -> Result<&mut bool, DriverError> {
        let found = self.ports.iter_mut().find(|(info, _)| info.id == *id);
        found.map(|(_, on)| on).ok_or_else(|| DriverError::UnknownPort(id.clone()))
    }
}

#[async_trait]
impl Driver for Dummy {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        Ok(self.ports.iter().map(|(info, _)| info.clone()).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        Ok(if *self.port(port)? { PortState::On } else { PortState::Off })
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        *self.port(port)? = on;
        Ok(())
    }

    fn default_min_off_time(&self) -> Duration {
        Duration::ZERO
    }

    fn power_on_interval(&self) -> Duration {
        Duration::ZERO
    }
}
