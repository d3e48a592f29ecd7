//! Devantech ETH and WIFI relay modules (ETH002, ETH008, ETH484, ETH8020, ETH1610, ETH1620, WIFI002 ... WIFI8020).
//!
//! Manual: <https://www.robot-electronics.co.uk/htm/eth008tech.htm> (TCP/IP commands; the others have the same).
//! `config: {hostname: HOST[:PORT], password}`, port 17494 unless given. Ports count from `"0"`, although the modules'
//! commands count relays from 1: so do the farm files that exist. Only relays are ports, no digital outputs.

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
    name: "devantech",
    help: "Devantech ETH and WIFI relay modules; config: hostname: HOST[:PORT], password",
    make,
};

const DEFAULT_PORT: u16 = 17494;
const MODULE_INFO: u8 = 0x10;
const ACTIVE: u8 = 0x20;
const INACTIVE: u8 = 0x21;
const OUTPUTS: u8 = 0x24;
const PASSWORD: u8 = 0x79;
const UNLOCK_TIME: u8 = 0x7a;
/// Until told otherwise, not a pulse.
const PERMANENT: u8 = 0;

/// Module id, name, relays, bytes of the answer to [`OUTPUTS`].
const MODULES: [(u8, &str, u8, usize); 10] = [
    (18, "ETH002", 2, 1),
    (19, "ETH008", 8, 1),
    (20, "ETH484", 4, 2),
    (21, "ETH8020", 20, 3),
    (22, "WIFI484", 4, 2),
    (24, "WIFI8020", 20, 3),
    (26, "WIFI002", 2, 1),
    (28, "WIFI008", 8, 1),
    (51, "ETH1620", 20, 3),
    (52, "ETH1610", 10, 2),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    hostname: String,
    password: Option<Secret>,
}

struct Devantech {
    address: String,
    password: Option<Secret>,
    round: Round<Outputs>,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let Config { hostname, password } = settings("devantech", config)?;
    let address = with_port("devantech", &hostname, DEFAULT_PORT)?;
    Ok(Box::new(Devantech { address, password, round: Round::default() }))
}

#[derive(Clone, Copy)]
struct Module {
    name: &'static str,
    relays: u8,
    bytes: usize,
}

/// States of all relays, one bit each, relay 1 lowest in the first byte.
struct Outputs {
    relays: u8,
    bits: Vec<u8>,
}

impl Outputs {
    fn state(&self, port: &PortId) -> Result<PortState, DriverError> {
        let n = usize::from(relay(port, self.relays)? - 1);
        let byte = self.bits.get(n / 8).copied().unwrap_or_default();
        Ok(if byte >> (n % 8) & 1 == 1 { PortState::On } else { PortState::Off })
    }
}

/// The number of a relay in commands, from 1.
fn relay(port: &PortId, relays: u8) -> Result<u8, DriverError> {
    let n = number(port).and_then(|n| u8::try_from(n).ok()).filter(|n| *n < relays);
    n.map(|n| n + 1).ok_or_else(|| DriverError::UnknownPort(port.clone()))
}

impl Devantech {
    /// A conversation with a module that we know, logged in if we have a password and it wants one.
    async fn open(&self) -> Result<(Wire, Module), DriverError> {
        let mut wire = Wire::connect(&self.address).await?;
        let [id, _hardware, _firmware] = wire.ask(&[MODULE_INFO]).await?;
        let Some((_, name, relays, bytes)) = MODULES.into_iter().find(|module| module.0 == id) else {
            let known: Vec<_> = MODULES.iter().map(|module| module.1).collect();
            return Err(DriverError::Protocol(format!("module id {id}, known are {}", known.join(", "))));
        };
        if let Some(password) = &self.password
            && is_locked(&mut wire).await?
        {
            let command = [&[PASSWORD], password.expose().as_bytes()].concat();
            let [answer] = wire.ask(&command).await?;
            if answer != 1 {
                return Err(DriverError::Authentication("wrong TCP password".to_owned()));
            }
        }
        Ok((wire, Module { name, relays, bytes }))
    }

    async fn outputs(&self) -> Result<Outputs, DriverError> {
        let (mut wire, module) = self.open().await?;
        wire.send(&[OUTPUTS]).await?;
        Ok(Outputs { relays: module.relays, bits: wire.hear(module.bytes).await? })
    }

    async fn switch(&self, port: &PortId, on: bool) -> Result<(), DriverError> {
        let (mut wire, module) = self.open().await?;
        let relay = relay(port, module.relays)?;
        if self.password.is_none() && is_locked(&mut wire).await? {
            return Err(DriverError::Authentication("it wants its TCP password".to_owned()));
        }
        match wire.ask(&[if on { ACTIVE } else { INACTIVE }, relay, PERMANENT]).await? {
            [0] => Ok(()),
            [1] => Err(DriverError::Refused(format!("relay {relay} was not switched"))),
            [other] => Err(DriverError::Protocol(format!("{other} is no answer to a switch command"))),
        }
    }
}

/// Whether the module wants its password before it switches: 0 is locked, then come seconds, 255 is no password.
async fn is_locked(wire: &mut Wire) -> Result<bool, DriverError> {
    Ok(wire.ask(&[UNLOCK_TIME]).await? == [0])
}

#[async_trait]
impl Driver for Devantech {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        self.round.forget();
        let (_, module) = bounded(self.open()).await?;
        let label = |n: u32| format!("{} relay {}", module.name, n + 1);
        Ok((0..u32::from(module.relays)).map(|n| PortInfo { id: n.into(), label: label(n) }).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        if let Some(outputs) = self.round.serve(port) {
            return outputs.state(port);
        }
        let outputs = bounded(self.outputs()).await?;
        self.round.begin(outputs, port).state(port)
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        self.round.forget();
        bounded(self.switch(port, on)).await
    }
}
