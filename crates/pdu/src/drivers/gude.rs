//! GUDE Expert Power Control and Expert PDU.
//!
//! Manuals: <https://wiki.gude-systems.com/> (HTTP interface: `statusjsn.js` or `status.json`, `ov.html?cmd=1`).
//! `config: {hostname: HOST[:PORT], username, password}`. Ports count from `"1"`, as they are printed on the device.
//! HTTP must be allowed in the device's web page (Configuration, HTTP), with a password if you set one.

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::Deserialize;
use serde_json::Value;

use super::{
    ConfigError, Factory,
    http::{Http, WebConfig},
    round::{Round, number},
    settings,
};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "gude",
    help: "GUDE Expert Power Control and Expert PDU; config: hostname: HOST[:PORT], username (admin), password, https, \
           verify_certificate",
    make,
};

/// Component 1 is the outputs. Newer firmware calls the same document `status.json`.
const STATUS: [&str; 2] = ["/statusjsn.js?components=1", "/status.json?components=1"];

struct Gude {
    http: Http,
    /// Which name of the status this firmware knows.
    status: usize,
    round: Round<Vec<Output>>,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let config: WebConfig = settings("gude", config)?;
    let http = config.client("gude", config.basic("admin"))?;
    Ok(Box::new(Gude { http, status: 0, round: Round::default() }))
}

#[derive(Debug, Deserialize)]
struct Document {
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Output {
    #[serde(default)]
    name: String,
    state: Option<u8>,
}

impl Gude {
    async fn outputs(&mut self) -> Result<Vec<Output>, DriverError> {
        let mut answer = self.http.ask(STATUS[self.status]).await?;
        if answer.status == 404 {
            let other = 1 - self.status;
            answer = self.http.ask(STATUS[other]).await?;
            if answer.is_fine() {
                self.status = other;
            }
        }
        Ok(answer.json::<Document>()?.outputs)
    }
}

/// Ports count from 1, the list from 0.
fn index(port: &PortId) -> Option<usize> {
    number(port)?.checked_sub(1).and_then(|n| usize::try_from(n).ok())
}

fn state(outputs: &[Output], port: &PortId) -> Result<PortState, DriverError> {
    let output = index(port).and_then(|n| outputs.get(n));
    Ok(match output.ok_or_else(|| DriverError::UnknownPort(port.clone()))?.state {
        Some(0) => PortState::Off,
        Some(1) => PortState::On,
        _ => PortState::Unknown,
    })
}

#[async_trait]
impl Driver for Gude {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        self.round.forget();
        let outputs = (1_u32..).zip(self.outputs().await?);
        let label = |n: u32, name: String| if name.is_empty() { format!("Power Port {n}") } else { name };
        Ok(outputs.map(|(n, output)| PortInfo { id: n.into(), label: label(n, output.name) }).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        if let Some(outputs) = self.round.serve(port) {
            return state(outputs, port);
        }
        let outputs = self.outputs().await?;
        state(self.round.begin(outputs, port), port)
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        self.round.forget();
        // The device takes any number without a word.
        state(&self.outputs().await?, port)?;
        let path = format!("/ov.html?cmd=1&p={port}&s={}", u8::from(on));
        self.http.ask(&path).await?.fine()
    }
}
