//! A server's management controller (BMC) that speaks Redfish, as a PDU: a port is the server itself.
//!
//! Standard: DMTF [DSP0266](https://www.dmtf.org/dsp/DSP0266), resources `ComputerSystem` and `Chassis` of DSP0268.
//! `config: {hostname: HOST[:PORT], username, password}`, HTTPS unless `https: false`; the certificate is not verified
//! unless `verify_certificate: true`, because a BMC signs its own. `collection: Systems` (default) or `Chassis`. The
//! port id is the name of the member, for example `1`, `System.Embedded.1`, `Self`. Only `On` and `ForceOff` are used:
//! a polite shutdown would wait for an operating system that may hang. Basic authentication on each request: no
//! session is left behind. Power and energy are not read, because most BMCs need a second for each request.

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
    name: "redfish",
    help: "a server's BMC by Redfish; config: hostname: HOST[:PORT], username, password, collection (Systems | \
           Chassis), https (true), verify_certificate (false)",
    make,
};

/// More than any enclosure holds.
const MAX_MEMBERS: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    hostname: String,
    username: String,
    password: Secret,
    #[serde(default)]
    collection: Collection,
    #[serde(default = "yes")]
    https: bool,
    #[serde(default)]
    verify_certificate: bool,
}

#[derive(Deserialize, Clone, Copy, Default)]
enum Collection {
    #[default]
    Systems,
    Chassis,
}

struct Redfish {
    http: Http,
    collection: Collection,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let Config { hostname, username, password, collection, https, verify_certificate } =
        settings("redfish", config)?;
    let auth = Auth::Basic { user: username, password };
    let default_port = if https { 443 } else { 80 };
    let http = Http::new("redfish", &hostname, default_port, https, verify_certificate, auth)?;
    Ok(Box::new(Redfish { http, collection }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members {
    members: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(rename = "@odata.id")]
    id: String,
}

/// A `ComputerSystem` or a `Chassis`, as far as power is concerned.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Resource {
    power_state: Option<String>,
    host_name: Option<String>,
    name: Option<String>,
    #[serde(default)]
    actions: Actions,
}

#[derive(Deserialize, Default)]
struct Actions {
    #[serde(rename = "#ComputerSystem.Reset", alias = "#Chassis.Reset")]
    reset: Option<Reset>,
}

#[derive(Deserialize)]
struct Reset {
    target: String,
    #[serde(rename = "ResetType@Redfish.AllowableValues")]
    allowed: Option<Vec<String>>,
}

impl Collection {
    fn path(self) -> &'static str {
        match self {
            Self::Systems => "/redfish/v1/Systems",
            Self::Chassis => "/redfish/v1/Chassis",
        }
    }
}

impl Redfish {
    async fn resource(&mut self, port: &PortId) -> Result<Resource, DriverError> {
        let path = format!("{}/{port}", self.collection.path());
        self.http.ask(&path).await?.or_unknown(port)?.json()
    }
}

fn state(resource: &Resource) -> PortState {
    match resource.power_state.as_deref() {
        Some("On") => PortState::On,
        Some("Off") => PortState::Off,
        // PoweringOn, PoweringOff, Paused, or not told.
        _ => PortState::Unknown,
    }
}

/// Where to post the reset, and whether the BMC knows this kind of it.
fn reset_target<'a>(resource: &'a Resource, kind: &str) -> Result<&'a str, DriverError> {
    let Some(reset) = &resource.actions.reset else {
        return Err(DriverError::Refused(
            "it offers no reset action: has this user the right to?".to_owned(),
        ));
    };
    if let Some(allowed) = reset.allowed.as_ref().filter(|allowed| !allowed.iter().any(|one| one == kind)) {
        let allowed: Vec<_> = allowed.iter().take(16).map(String::as_str).collect();
        return Err(DriverError::Refused(format!("it does not know {kind}, only {}", allowed.join(", "))));
    }
    // Our credentials go nowhere else.
    if !reset.target.starts_with("/redfish/") || reset.target.contains(['?', '#']) {
        return Err(DriverError::Protocol("a reset target that is no path below /redfish/".to_owned()));
    }
    Ok(&reset.target)
}

#[async_trait]
impl Driver for Redfish {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        let members: Members = self.http.get(self.collection.path()).await?;
        let mut ports = Vec::new();
        for Link { id: path } in members.members.into_iter().take(MAX_MEMBERS) {
            let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let id = PortId::new(name).map_err(|error| DriverError::Protocol(error.to_string()))?;
            let resource = self.resource(&id).await?;
            let label =
                [resource.host_name, resource.name].into_iter().flatten().find(|name| !name.is_empty());
            ports.push(PortInfo { label: label.unwrap_or_else(|| id.to_string()), id });
        }
        Ok(ports)
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        Ok(state(&self.resource(port).await?))
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        let (kind, wanted) = if on { ("On", PortState::On) } else { ("ForceOff", PortState::Off) };
        let resource = self.resource(port).await?;
        let answer = self.http.post(reset_target(&resource, kind)?, &json!({"ResetType": kind})).await?;
        // Many BMCs refuse what is so already; that is no failure.
        if answer.is_fine() || (answer.status != 401 && answer.status != 403 && state(&resource) == wanted) {
            return Ok(());
        }
        Err(answer.refusal())
    }

    /// The state is what the BMC last saw of the power good signal.
    fn settle_time(&self) -> Duration {
        Duration::from_secs(10)
    }
}
