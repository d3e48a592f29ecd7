//! A server's management controller (BMC) that speaks IPMI, by the program `ipmitool`: a PDU of one port, the server.
//!
//! Manual: `man ipmitool`; IPMI v2.0, section 28.3. `config: {hostname: HOST[:PORT], username, password}`, port 623
//! unless given; optional: `interface` (`lanplus`, or `lan` for IPMI 1.5), `privilege` (`OPERATOR` is enough to
//! switch), `cipher_suite` (17 on new BMCs, 3 on old ones), `program` (where `ipmitool` is). The password goes by the
//! environment, never by the command line, which every user of the gateway could read. The port is `"1"`.

use std::time::Duration;

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::Deserialize;
use serde_json::Value;

use super::{ConfigError, Factory, address::with_port, program, secret::Secret, settings};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "ipmi",
    help: "a server's BMC by ipmitool; config: hostname: HOST[:PORT], username, password, interface (lanplus), \
           privilege, cipher_suite, program",
    make,
};

const DEFAULT_PORT: u16 = 623;
/// Less than the 5 s that the task gives, so that the error can say what happened.
const WITHIN: Duration = Duration::from_millis(4500);
const REMEDY: &str = "install the package ipmitool, or set `program` to where it is";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    hostname: String,
    username: String,
    password: Secret,
    #[serde(default)]
    interface: Interface,
    privilege: Option<Privilege>,
    cipher_suite: Option<u8>,
    #[serde(default = "ipmitool")]
    program: String,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum Interface {
    #[default]
    Lanplus,
    Lan,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "UPPERCASE")]
enum Privilege {
    Operator,
    Administrator,
}

fn ipmitool() -> String {
    "ipmitool".to_owned()
}

struct Ipmi {
    program: String,
    address: String,
    /// All but the command.
    arguments: Vec<String>,
    password: Secret,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let config: Config = settings("ipmi", config)?;
    let address = with_port("ipmi", &config.hostname, DEFAULT_PORT)?;
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, "623"));
    let interface = match config.interface {
        Interface::Lanplus => "lanplus",
        Interface::Lan => "lan",
    };
    let host = host.trim_matches(['[', ']']);
    // One try of a second and one repetition: the task repeats the call.
    let mut arguments: Vec<String> =
        ["-I", interface, "-H", host, "-p", port, "-U", &config.username, "-E", "-N", "1", "-R", "2"]
            .map(str::to_owned)
            .into();
    if let Some(privilege) = config.privilege {
        let level = match privilege {
            Privilege::Operator => "OPERATOR",
            Privilege::Administrator => "ADMINISTRATOR",
        };
        arguments.extend(["-L".to_owned(), level.to_owned()]);
    }
    if let Some(suite) = config.cipher_suite {
        arguments.extend(["-C".to_owned(), suite.to_string()]);
    }
    Ok(Box::new(Ipmi { program: config.program, arguments, password: config.password, address }))
}

impl Ipmi {
    async fn chassis_power(&self, verb: &str) -> Result<String, DriverError> {
        let mut arguments = self.arguments.clone();
        arguments.extend(["chassis", "power", verb].map(str::to_owned));
        let environment = [("IPMI_PASSWORD", self.password.expose()), ("LC_ALL", "C")];
        let ended = program::run(&self.program, &arguments, &environment, WITHIN, REMEDY).await?;
        if ended.code == Some(0) { Ok(ended.stdout) } else { Err(self.failure(&ended)) }
    }

    /// What ipmitool's words mean; it has one exit code for all.
    fn failure(&self, ended: &program::Ended) -> DriverError {
        let all = format!("{}\n{}", ended.stderr, ended.stdout).to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| all.contains(word));
        let words = ended.words();
        if says(&["hmac is invalid", "unauthorized name", "invalid user name", "password", "privilege level"])
        {
            return DriverError::Authentication(words);
        }
        if says(&[
            "unable to establish",
            "no response",
            "timeout",
            "timed out",
            "address lookup",
            "unreachable",
        ]) {
            let what =
                format!("{words} (some BMCs are silent when the password or the cipher suite is wrong)");
            return DriverError::unreachable(&*self.address, std::io::Error::other(what));
        }
        DriverError::Refused(words)
    }

    async fn status(&self) -> Result<PortState, DriverError> {
        let said = self.chassis_power("status").await?;
        let said = said.trim().to_lowercase();
        match said.strip_prefix("chassis power is ") {
            Some("on") => Ok(PortState::On),
            Some("off") => Ok(PortState::Off),
            _ => Err(DriverError::Protocol(format!(
                "ipmitool says {:?} of the power",
                said.chars().take(80).collect::<String>()
            ))),
        }
    }
}

fn is_the_port(port: &PortId) -> Result<(), DriverError> {
    if port.as_str() == "1" { Ok(()) } else { Err(DriverError::UnknownPort(port.clone())) }
}

#[async_trait]
impl Driver for Ipmi {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        self.status().await?;
        Ok(vec![PortInfo { id: 1.into(), label: format!("server of the BMC {}", self.address) }])
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        is_the_port(port)?;
        self.status().await
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        is_the_port(port)?;
        self.chassis_power(if on { "on" } else { "off" }).await.map(drop)
    }

    /// A BMC tells the old state for some seconds.
    fn settle_time(&self) -> Duration {
        Duration::from_secs(10)
    }
}
