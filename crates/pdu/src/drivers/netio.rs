//! NETIO smart sockets and PDUs by their JSON API.
//!
//! Manual: <https://wiki.netio-products.com/index.php?title=JSON_API>. `config: {hostname: HOST[:PORT],
//! username, password}`. The API must be enabled in the device's web page (M2M API Protocols, JSON API) with read and
//! write access; it has credentials of its own (`netio`/`netio` on a new device). Port ids are the device's output
//! numbers.

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ConfigError, Factory,
    http::{Http, WebConfig},
    round::{Round, number},
    settings,
};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "netio",
    help: "NETIO sockets and PDUs (JSON API); config: hostname: HOST[:PORT], username (netio), password, https, \
           verify_certificate",
    make,
};

const PATH: &str = "/netio.json";
const JOULES_PER_WATT_HOUR: f64 = 3600.0;

struct Netio {
    http: Http,
    round: Round<Vec<Output>>,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let config: WebConfig = settings("netio", config)?;
    let http = config.client("netio", config.basic("netio"))?;
    Ok(Box::new(Netio { http, round: Round::default() }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    #[serde(rename = "ID")]
    id: u32,
    #[serde(default)]
    name: String,
    state: Option<u8>,
    /// Watts; only models that meter each output.
    load: Option<f64>,
    /// Watt-hours.
    energy: Option<f64>,
}

fn find<'a>(outputs: &'a [Output], port: &PortId) -> Result<&'a Output, DriverError> {
    let n = number(port);
    outputs.iter().find(|output| Some(output.id) == n).ok_or_else(|| DriverError::UnknownPort(port.clone()))
}

fn state(output: &Output) -> PortState {
    match output.state {
        Some(0) => PortState::Off,
        Some(1) => PortState::On,
        _ => PortState::Unknown,
    }
}

impl Netio {
    async fn outputs(&mut self) -> Result<Vec<Output>, DriverError> {
        Ok(self.http.get::<Document>(PATH).await?.outputs)
    }

    /// A value of a port, from the document that its state was just read from.
    async fn metered(
        &mut self,
        port: &PortId,
        value: fn(&Output) -> Option<f64>,
    ) -> Result<f64, DriverError> {
        let found = match self.round.peek() {
            Some(outputs) => value(find(outputs, port)?),
            None => value(find(&self.outputs().await?, port)?),
        };
        found.ok_or(DriverError::Unavailable("metering"))
    }
}

#[async_trait]
impl Driver for Netio {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        self.round.forget();
        let outputs = self.outputs().await?.into_iter();
        let label = |n: u32, name: String| if name.is_empty() { format!("output_{n}") } else { name };
        Ok(outputs.map(|o| PortInfo { id: o.id.into(), label: label(o.id, o.name) }).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        if let Some(outputs) = self.round.serve(port) {
            return find(outputs, port).map(state);
        }
        let outputs = self.outputs().await?;
        find(self.round.begin(outputs, port), port).map(state)
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        self.round.forget();
        let n = number(port).ok_or_else(|| DriverError::UnknownPort(port.clone()))?;
        let answer = self.http.post(PATH, &json!({"Outputs": [{"ID": n, "Action": u8::from(on)}]})).await?;
        // The answer is the new state of all outputs; the device ignores an output that it has not.
        find(&answer.json::<Document>()?.outputs, port).map(drop)
    }

    async fn power(&mut self, port: &PortId) -> Result<f64, DriverError> {
        self.metered(port, |output| output.load).await
    }

    async fn energy(&mut self, port: &PortId) -> Result<f64, DriverError> {
        let watt_hours = self.metered(port, |output| output.energy).await?;
        Ok(watt_hours * JOULES_PER_WATT_HOUR)
    }
}
