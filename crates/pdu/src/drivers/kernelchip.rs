//! KernelChip Laurent relay modules (Laurent-2, Laurent-112, Laurent-128).
//!
//! Manual: "Laurent-2, TCP/IP commands", version 2.02, of <https://kernelchip.ru>. `config: {hostname: HOST[:PORT],
//! password}`, port 2424 unless given. Ports count from `"1"`, as the relays do.

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::Deserialize;
use serde_json::Value;

use super::{
    ConfigError, Factory,
    address::with_port,
    round::{Round, number},
    secret::Secret,
    settings,
    wire::{Wire, bounded},
};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "kernelchip",
    help: "KernelChip Laurent relay modules; config: hostname: HOST[:PORT], password",
    make,
};

const DEFAULT_PORT: u16 = 2424;
/// A module that was just started tells about itself before it answers.
const CHATTER: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    hostname: String,
    password: Option<Secret>,
}

struct KernelChip {
    address: String,
    password: Option<Secret>,
    round: Round<String>,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let Config { hostname, password } = settings("kernelchip", config)?;
    let address = with_port("kernelchip", &hostname, DEFAULT_PORT)?;
    if password.as_ref().is_some_and(|p| p.expose().contains(|c: char| c == ',' || c.is_control())) {
        // It would end the command.
        let what = "password: a comma or a control character cannot be sent to this device".to_owned();
        return Err(ConfigError::Settings { driver: "kernelchip", what });
    }
    Ok(Box::new(KernelChip { address, password, round: Round::default() }))
}

/// Sends a command and gives the answer that begins as its answers do.
async fn ask(wire: &mut Wire, command: &str, expected: &str) -> Result<String, DriverError> {
    wire.send(format!("$KE{command}\r\n").as_bytes()).await?;
    for _ in 0..CHATTER {
        let line = wire.line().await?;
        if let Some(answer) = line.strip_prefix(expected) {
            return Ok(answer.to_owned());
        }
        if line.starts_with("#Access denied") {
            return Err(DriverError::Authentication("it wants its password".to_owned()));
        }
        if line == "#ERR" {
            return Err(DriverError::Protocol("it does not know the command (#ERR)".to_owned()));
        }
    }
    Err(DriverError::Protocol(format!("{CHATTER} lines, and none of them {expected}")))
}

/// One digit for each relay.
fn state(states: &str, port: &PortId) -> Result<PortState, DriverError> {
    let n = number(port).and_then(|n| n.checked_sub(1)).and_then(|n| usize::try_from(n).ok());
    match n.and_then(|n| states.as_bytes().get(n)) {
        Some(b'0') => Ok(PortState::Off),
        Some(b'1') => Ok(PortState::On),
        Some(_) => Ok(PortState::Unknown),
        None => Err(DriverError::UnknownPort(port.clone())),
    }
}

impl KernelChip {
    async fn open(&self) -> Result<Wire, DriverError> {
        let mut wire = Wire::connect(&self.address).await?;
        ask(&mut wire, "", "#OK").await?;
        if let Some(password) = &self.password {
            let answer = ask(&mut wire, &format!(",PSW,SET,{}", password.expose()), "#PSW,SET,").await?;
            if answer != "OK" {
                return Err(DriverError::Authentication("wrong password".to_owned()));
            }
        }
        Ok(wire)
    }

    async fn states(&self) -> Result<(Wire, String), DriverError> {
        let mut wire = self.open().await?;
        let states = ask(&mut wire, ",RDR,ALL", "#RDR,ALL,").await?;
        Ok((wire, states))
    }

    async fn switch(&self, port: &PortId, on: bool) -> Result<(), DriverError> {
        let (mut wire, states) = self.states().await?;
        // The module's answer does not tell a missing relay from other mistakes.
        state(&states, port)?;
        let answer = ask(&mut wire, &format!(",REL,{port},{}", u8::from(on)), "#REL,").await?;
        if answer == "OK" { Ok(()) } else { Err(DriverError::Refused(format!("REL,{answer}"))) }
    }
}

#[async_trait]
impl Driver for KernelChip {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        self.round.forget();
        let (_, states) = bounded(self.states()).await?;
        let relays = u32::try_from(states.len()).unwrap_or_default();
        Ok((1..=relays).map(|n| PortInfo { id: n.into(), label: format!("relay {n}") }).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        if let Some(states) = self.round.serve(port) {
            return state(states, port);
        }
        let (_, states) = bounded(self.states()).await?;
        state(self.round.begin(states, port), port)
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        self.round.forget();
        bounded(self.switch(port, on)).await
    }
}
