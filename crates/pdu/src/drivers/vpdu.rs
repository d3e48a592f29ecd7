//! The virtual PDU, whose ports are QEMU machines (wire format: [`farmgate_protocol::vpdu`]).
//!
//! `config: {hostname: HOST:PORT}`; without a port, 9191. Outlets are numbered from `"1"`, the wire counts from 0.
//! Every request is a connection of its own, so that a restarted vPDU is found again by the next request.

use std::time::Duration;

use async_trait::async_trait;
use farmgate_protocol::{
    PortId,
    pdu::PortState,
    vpdu::{DEFAULT_PORT, Reply, Request},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{ConfigError, Factory, address::with_port, settings};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory =
    Factory { name: "vpdu", help: "virtual PDU of QEMU machines; config: hostname: HOST[:PORT]", make };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    hostname: String,
}

struct Vpdu {
    address: String,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let config: Config = settings("vpdu", config)?;
    let address = with_port("vpdu", &config.hostname, DEFAULT_PORT)?;
    Ok(Box::new(Vpdu { address }))
}

impl Vpdu {
    async fn ask(&self, request: Request) -> Result<u8, DriverError> {
        let failed = |error| DriverError::unreachable(&*self.address, error);
        let mut stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.write_all(&request.encode()).await.map_err(failed)?;
        stream.read_u8().await.map_err(failed)
    }

    async fn reply(&self, request: Request) -> Result<Reply, DriverError> {
        let byte = self.ask(request).await?;
        Reply::decode(byte)
            .ok_or_else(|| DriverError::Protocol(format!("unknown answer {byte} to {request:?}")))
    }
}

/// The wire's number of a port.
fn index(port: &PortId) -> Result<u16, DriverError> {
    let number = port.as_str().parse::<u16>().ok().filter(|n| n.to_string() == port.as_str());
    // The answer to "how many" is a byte: there is no port above 255.
    number
        .and_then(|n| n.checked_sub(1))
        .filter(|n| *n < 255)
        .ok_or_else(|| DriverError::UnknownPort(port.clone()))
}

#[async_trait]
impl Driver for Vpdu {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        let count = self.ask(Request::NumPorts).await?;
        Ok((1..=u32::from(count)).map(|n| PortInfo { id: n.into(), label: format!("outlet {n}") }).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        match self.reply(Request::Status(index(port)?)).await? {
            Reply::On => Ok(PortState::On),
            Reply::Off => Ok(PortState::Off),
            Reply::Error => Ok(PortState::Unknown),
            Reply::BadRequest => Err(DriverError::UnknownPort(port.clone())),
            Reply::Ok => Err(DriverError::Protocol("\"done\" is no answer to a status request".to_owned())),
        }
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        let index = index(port)?;
        let request = if on { Request::On(index) } else { Request::Off(index) };
        match self.reply(request).await? {
            Reply::Ok => Ok(()),
            Reply::BadRequest => Err(DriverError::UnknownPort(port.clone())),
            Reply::Error => Err(DriverError::Refused(format!("{request:?} failed, see the vPDU's log"))),
            other => Err(DriverError::Protocol(format!("{other:?} is no answer to {request:?}"))),
        }
    }

    fn default_min_off_time(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn power_on_interval(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlets_count_from_one() {
        assert_eq!(index(&1.into()).unwrap(), 0);
        assert_eq!(index(&255.into()).unwrap(), 254);
        for bad in ["0", "256", "01", "+1", "one"] {
            assert!(index(&PortId::new(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
