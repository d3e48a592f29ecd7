//! A USB hub that can switch the power of each port, by the kernel's sysfs.
//!
//! Which hubs can: <https://github.com/mvp/uhubctl#compatible-usb-hubs>; the kernel's switch is `*-portN/disable` (Linux
//! 6.0 or newer, written as root). A USB 3 hub is two devices, one for USB 2 and one for USB 3, whose ports of one number are one
//! socket: both halves are switched together, and a socket is OFF only when both are. The hub is found by
//! `config: {serial}`, or by where it is plugged in: `config: {controller, devices: [{devpath, idVendor, idProduct,
//! maxchild, speed}, ...]}`, one device for each half. `controller` is a folder below `/sys/devices`, or a PCI
//! address. Ports count from `"1"`, as the kernel's do.

mod sysfs;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use self::sysfs::Hub;
use super::{ConfigError, Factory, round::number, settings};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "usbhub",
    help: "USB hubs with switched ports; config: serial, or controller and devices: [{devpath, idVendor, idProduct, \
           maxchild, speed}]; sysfs (/sys)",
    make,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    serial: Option<String>,
    controller: Option<PathBuf>,
    devices: Option<Vec<Device>>,
    #[serde(default = "sys")]
    sysfs: PathBuf,
}

fn sys() -> PathBuf {
    "/sys".into()
}

/// One half of a hub.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    devpath: String,
    #[serde(rename = "idVendor", deserialize_with = "usb_id")]
    vendor: u32,
    #[serde(rename = "idProduct", deserialize_with = "usb_id")]
    product: u32,
    maxchild: Option<u32>,
    /// Mbit/s.
    speed: Option<u32>,
}

/// A number (`0x2109`), or the hexadecimal text that `lsusb` shows (`"2109"`).
fn usb_id<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number like 0x2109, or a text like \"2109\" as lsusb shows it")]
    enum Id {
        Number(u16),
        Text(String),
    }
    match Id::deserialize(d)? {
        Id::Number(number) => Ok(number.into()),
        Id::Text(text) => u16::from_str_radix(text.trim_start_matches("0x"), 16)
            .map(u32::from)
            .map_err(|_| D::Error::custom(format!("{text:?} is not hexadecimal, like \"2109\""))),
    }
}

/// Which hub is meant.
enum Find {
    Serial(String),
    Plugged { controller: PathBuf, devices: Vec<Device> },
}

struct Search {
    sysfs: PathBuf,
    find: Find,
}

struct UsbHub {
    search: Arc<Search>,
    /// How many halves were ever seen. With fewer of them a socket that reads OFF may have power.
    halves: usize,
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let wrong = |what: &str| ConfigError::Settings { driver: "usbhub", what: what.to_owned() };
    let Config { serial, controller, devices, sysfs } = settings("usbhub", config)?;
    let find = match (serial, controller, devices) {
        (Some(serial), None, None) if !serial.trim().is_empty() => Find::Serial(serial.trim().to_owned()),
        (None, Some(controller), Some(devices)) if !devices.is_empty() => {
            Find::Plugged { controller, devices }
        }
        (Some(_), None, None) => return Err(wrong("serial: it is empty")),
        (None, Some(_), Some(_)) => return Err(wrong("devices: there must be at least one")),
        _ => return Err(wrong("it needs either `serial`, or `controller` and `devices`")),
    };
    Ok(Box::new(UsbHub { search: Arc::new(Search { sysfs, find }), halves: 0 }))
}

impl Search {
    fn name(&self) -> String {
        match &self.find {
            Find::Serial(serial) => format!("the USB hub with serial {serial}"),
            Find::Plugged { controller, .. } => format!("the USB hub at {}", controller.display()),
        }
    }

    fn missing(&self, what: &str) -> DriverError {
        DriverError::unreachable(self.name(), std::io::Error::new(std::io::ErrorKind::NotFound, what))
    }

    /// The halves of the hub that is meant, and the ports that all of them have.
    fn run(&self) -> Result<(Vec<Hub>, Vec<u32>), DriverError> {
        let all = sysfs::hubs(&self.sysfs).map_err(|error| DriverError::unreachable(self.name(), error))?;
        let halves = match &self.find {
            Find::Serial(serial) => {
                all.into_iter().filter(|hub| hub.serial.as_deref() == Some(serial)).collect()
            }
            Find::Plugged { controller, devices } => self.plugged(&all, controller, devices)?,
        };
        let Some(first) = halves.first() else {
            return Err(self.missing("no such hub is plugged in"));
        };
        let same_speed = |(i, hub): (usize, &Hub)| halves[..i].iter().any(|other| other.speed == hub.speed);
        if halves.iter().enumerate().any(same_speed) {
            let what = "several hubs of the same speed match: tell them apart by `controller` and `devices`";
            return Err(DriverError::Refused(what.to_owned()));
        }
        let ports = first.ports();
        if halves.iter().any(|hub| hub.ports() != ports) {
            return Err(DriverError::Refused("the USB 2 and the USB 3 half have different ports".to_owned()));
        }
        if ports.is_empty() && halves.iter().any(|hub| hub.maxchild > 0) {
            let what = "its ports have no `disable` in sysfs: that needs Linux 6.0 or newer";
            return Err(DriverError::Refused(what.to_owned()));
        }
        Ok((halves, ports))
    }

    fn plugged(&self, all: &[Hub], controller: &Path, devices: &[Device]) -> Result<Vec<Hub>, DriverError> {
        // A PCI address has no folder of its own in front.
        let folder = match controller.components().count() {
            1 => self.sysfs.join("bus/pci/devices").join(controller),
            _ => controller.to_owned(),
        };
        let folder = folder.canonicalize().map_err(|error| DriverError::unreachable(self.name(), error))?;
        let below: Vec<_> = all.iter().filter(|hub| hub.place.starts_with(&folder)).collect();
        let mut halves = Vec::new();
        for device in devices {
            let mut fitting = below.iter().filter(|hub| device.fits(hub));
            match (fitting.next(), fitting.next()) {
                (Some(hub), None) => halves.push((**hub).clone()),
                (None, _) => {
                    return Err(
                        self.missing(&format!("nothing fits the device with devpath {}", device.devpath))
                    );
                }
                (Some(one), Some(other)) => {
                    return Err(DriverError::Refused(format!(
                        "both {} and {} fit the device with devpath {}: add its `speed`",
                        one.name, other.name, device.devpath
                    )));
                }
            }
        }
        Ok(halves)
    }
}

impl Device {
    fn fits(&self, hub: &Hub) -> bool {
        hub.devpath == self.devpath
            && hub.vendor == Some(self.vendor)
            && hub.product == Some(self.product)
            && self.maxchild.is_none_or(|maxchild| hub.maxchild == maxchild)
            && (self.speed.is_none() || hub.speed == self.speed)
    }
}

impl UsbHub {
    /// Does something with the halves and the ports of the hub, where it may block.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(Vec<Hub>, Vec<u32>) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let (search, before) = (self.search.clone(), self.halves);
        let work = move || {
            let (halves, ports) = search.run()?;
            let count = halves.len();
            if count < before {
                return Err(search.missing(&format!("only {count} of its {before} halves are there")));
            }
            Ok((count, work(halves, ports)?))
        };
        let done = tokio::task::spawn_blocking(work).await;
        let ended = |error| DriverError::unreachable(self.search.name(), std::io::Error::other(error));
        let (count, result) = done.map_err(ended)??;
        self.halves = count;
        Ok(result)
    }
}

fn known(ports: &[u32], port: &PortId) -> Result<u32, DriverError> {
    number(port).filter(|n| ports.contains(n)).ok_or_else(|| DriverError::UnknownPort(port.clone()))
}

#[async_trait]
impl Driver for UsbHub {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        self.with(|_, ports| {
            Ok(ports.into_iter().map(|n| PortInfo { id: n.into(), label: format!("port {n}") }).collect())
        })
        .await
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        let port = port.clone();
        self.with(move |halves, ports| {
            let n = known(&ports, &port)?;
            let states: Vec<_> = halves.iter().map(|hub| hub.read(n)).collect::<Result<_, _>>()?;
            Ok(if states.iter().all(|state| *state == Some(true)) {
                PortState::On
            } else if states.iter().all(|state| *state == Some(false)) {
                PortState::Off
            } else {
                PortState::Unknown
            })
        })
        .await
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        let port = port.clone();
        self.with(move |halves, ports| {
            let n = known(&ports, &port)?;
            // Each half is tried, also when another one fails: one half less is less power.
            let results: Vec<_> = halves.iter().map(|hub| hub.write(n, on)).collect();
            results.into_iter().collect()
        })
        .await
    }

    /// There is no power supply behind a USB port, only what the device itself holds.
    fn default_min_off_time(&self) -> Duration {
        Duration::from_secs(10)
    }
}
