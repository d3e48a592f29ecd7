//! USB hubs in a folder that looks like sysfs, written from `Documentation/ABI/testing/sysfs-bus-usb` and from what
//! Linux 6.1 shows: devices below their controller, links to them in `bus/usb/devices`, interfaces, ports.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use farmgate_pdu::{Driver, DriverError, make};
use farmgate_protocol::{PortId, pdu::PortState};
use serde_json::{Value, json};

use crate::conformance::{self, Fault, Misbehave, labels};

const CONTROLLER: &str = "devices/pci0000:00/0000:00:14.0";

/// A sysfs with two buses of one controller; a hub in socket 1.4 of both.
struct Machine {
    folder: tempfile::TempDir,
    ports: u32,
}

/// One half of a hub.
#[derive(Clone, Copy)]
struct Half {
    bus: u32,
    devpath: &'static str,
    speed: &'static str,
    product: &'static str,
    serial: &'static str,
}

const USB2: Half = Half { bus: 1, devpath: "1.4", speed: "480", product: "2817", serial: "ABC123" };
const USB3: Half = Half { bus: 2, devpath: "1.4", speed: "5000", product: "0817", serial: "ABC123" };

impl Half {
    fn name(&self) -> String {
        format!("{}-{}", self.bus, self.devpath)
    }
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap(), ports: 0 };
        machine.reset();
        machine
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn reset(&self) {
        for entry in fs::read_dir(self.root()).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        fs::create_dir_all(self.root().join("bus/usb/devices")).unwrap();
        fs::create_dir_all(self.root().join("bus/pci/devices")).unwrap();
        fs::create_dir_all(self.root().join(CONTROLLER)).unwrap();
        symlink(self.root().join(CONTROLLER), self.root().join("bus/pci/devices/0000:00:14.0")).unwrap();
        for (bus, speed) in [(1, "480"), (2, "5000")] {
            let root = self.place(bus, "0");
            self.device(&root, &format!("usb{bus}"), "0", speed, ("1d6b", "0002", "0000:00:14.0"), 2);
            // A keyboard, which is no hub, and its interface, which is no device.
            let keyboard = root.join(format!("{bus}-2"));
            self.device(&keyboard, &format!("{bus}-2"), "2", "1.5", ("046d", "c31c", "ABC123"), 0);
            fs::write(keyboard.join("bDeviceClass"), "00\n").unwrap();
            symlink(root.join(format!("{bus}-0:1.0")), self.link(&format!("{bus}-0:1.0"))).unwrap();
        }
    }

    fn link(&self, name: &str) -> PathBuf {
        self.root().join("bus/usb/devices").join(name)
    }

    /// Where a device is: a hub in socket 1.4 is inside of what is in socket 1.
    fn place(&self, bus: u32, devpath: &str) -> PathBuf {
        let mut place = self.root().join(CONTROLLER).join(format!("usb{bus}"));
        if devpath != "0" {
            let ends = devpath.match_indices('.').map(|(at, _)| at).chain([devpath.len()]);
            for end in ends {
                place = place.join(format!("{bus}-{}", &devpath[..end]));
            }
        }
        place
    }

    fn device(
        &self,
        place: &Path,
        name: &str,
        devpath: &str,
        speed: &str,
        ids: (&str, &str, &str),
        ports: u32,
    ) {
        fs::create_dir_all(place).unwrap();
        let (vendor, product, serial) = ids;
        for (file, text) in [
            ("bDeviceClass", "09"),
            ("devpath", devpath),
            ("speed", speed),
            ("idVendor", vendor),
            ("idProduct", product),
            ("serial", serial),
            ("maxchild", &ports.to_string()),
        ] {
            fs::write(place.join(file), format!("{text}\n")).unwrap();
        }
        let interface = if devpath == "0" { format!("{}-0:1.0", &name[3..]) } else { format!("{name}:1.0") };
        for port in 1..=ports {
            let port = place.join(&interface).join(format!("{name}-port{port}"));
            fs::create_dir_all(&port).unwrap();
            fs::write(port.join("disable"), "1\n").unwrap();
        }
        symlink(place, self.link(name)).unwrap();
    }

    fn plug(&self, half: Half, ports: u32) {
        let place = self.place(half.bus, half.devpath);
        let ids = ("2109", half.product, half.serial);
        self.device(&place, &half.name(), half.devpath, half.speed, ids, ports);
    }

    fn unplug(&self, half: Half) {
        fs::remove_dir_all(self.place(half.bus, half.devpath)).unwrap();
        fs::remove_file(self.link(&half.name())).unwrap();
    }

    fn switch(&self, half: Half, port: u32) -> PathBuf {
        let name = half.name();
        self.place(half.bus, half.devpath).join(format!("{name}:1.0/{name}-port{port}/disable"))
    }

    fn has_power(&self, half: Half, port: u32) -> bool {
        fs::read_to_string(self.switch(half, port)).unwrap().trim() == "0"
    }

    fn set(&self, half: Half, port: u32, on: bool) {
        fs::write(self.switch(half, port), if on { "0\n" } else { "1\n" }).unwrap();
    }

    fn made(&self, mut config: Value) -> Box<dyn Driver> {
        config["sysfs"] = json!(self.root());
        make("usbhub", &config).unwrap()
    }

    fn by_serial(&self) -> Box<dyn Driver> {
        self.made(json!({"serial": "ABC123"}))
    }

    fn by_place(&self, controller: &str) -> Box<dyn Driver> {
        let devices = json!([
            {"devpath": "1.4", "idVendor": 0x2109, "idProduct": "2817", "speed": 480},
            {"devpath": "1.4", "idVendor": "0x2109", "idProduct": "0817", "maxchild": 4},
        ]);
        self.made(json!({"controller": controller, "devices": devices}))
    }
}

#[async_trait]
impl Misbehave for Machine {
    fn name(&self) -> String {
        "usbhub".to_owned()
    }

    fn driver(&self) -> Box<dyn Driver> {
        self.by_serial()
    }

    fn outlets(&self) -> (usize, usize) {
        (0, 15)
    }

    fn label(&self, n: usize, _: &str) -> String {
        format!("port {}", n + 1)
    }

    /// The one after the last.
    fn unknown_id(&self) -> PortId {
        self.id(self.ports as usize)
    }

    async fn outfit(&mut self, labels: &[String]) {
        self.reset();
        self.ports = labels.len() as u32;
        self.plug(USB2, self.ports);
        self.plug(USB3, self.ports);
    }

    async fn fault(&mut self, fault: Fault) -> bool {
        // The relays keep their state while the hub is away from the bus.
        let away = |half: Half| self.root().join(format!("away-{}", half.name()));
        match fault {
            Fault::Gone => {
                for half in [USB2, USB3] {
                    fs::rename(self.place(half.bus, half.devpath), away(half)).unwrap();
                }
            }
            Fault::None => {
                for half in [USB2, USB3].into_iter().filter(|half| away(*half).exists()) {
                    fs::rename(away(half), self.place(half.bus, half.devpath)).unwrap();
                }
            }
            _ => return false,
        }
        true
    }

    async fn is_on(&mut self, n: usize) -> bool {
        let port = n as u32 + 1;
        let powered = [USB2, USB3].map(|half| self.has_power(half, port));
        assert_eq!(powered[0], powered[1], "the halves of port {port} differ");
        powered[0]
    }

    async fn press(&mut self, n: usize, on: bool) {
        self.set(USB2, n as u32 + 1, on);
        self.set(USB3, n as u32 + 1, on);
    }

    async fn commands(&mut self) -> usize {
        let ports = 1..=self.ports;
        ports.filter(|port| self.has_power(USB2, *port) || self.has_power(USB3, *port)).count()
    }
}

pub async fn conforms() {
    conformance::all(&mut Machine::new()).await;
}

#[tokio::test]
async fn a_hub_is_found_by_where_it_is_plugged_in() {
    let mut machine = Machine::new();
    machine.outfit(&labels(4)).await;
    // The same model elsewhere must not be touched.
    let other = Half { devpath: "1.3", serial: "", ..USB2 };
    machine.plug(other, 4);
    let folder = machine.root().join(CONTROLLER);
    for controller in ["0000:00:14.0", folder.to_str().unwrap()] {
        let mut driver = machine.by_place(controller);
        assert_eq!(driver.ports().await.unwrap().len(), 4);
        for on in [true, false] {
            driver.write(&3.into(), on).await.unwrap();
            assert_eq!([machine.has_power(USB2, 3), machine.has_power(USB3, 3)], [on, on]);
        }
        assert!(!machine.has_power(other, 3));
    }
}

#[tokio::test]
async fn a_socket_with_power_in_one_half_is_neither_on_nor_off() {
    let mut machine = Machine::new();
    machine.outfit(&labels(4)).await;
    let mut driver = machine.by_serial();
    for half in [USB2, USB3] {
        machine.set(half, 2, true);
        assert_eq!(driver.read(&2.into()).await.unwrap(), PortState::Unknown);
        machine.set(half, 2, false);
        assert_eq!(driver.read(&2.into()).await.unwrap(), PortState::Off);
    }
    fs::write(machine.switch(USB2, 2), "maybe\n").unwrap();
    assert_eq!(driver.read(&2.into()).await.unwrap(), PortState::Unknown);
}

#[tokio::test]
async fn a_hub_of_which_one_half_vanished_is_not_taken_for_off() {
    let mut machine = Machine::new();
    machine.outfit(&labels(4)).await;
    let mut driver = machine.by_serial();
    driver.ports().await.unwrap();
    machine.unplug(USB3);
    let error = driver.read(&1.into()).await.unwrap_err();
    assert!(matches!(error, DriverError::Unreachable { .. }), "{error:?}");
    assert!(driver.write(&1.into(), false).await.is_err());
    machine.plug(USB3, 4);
    assert_eq!(driver.read(&1.into()).await.unwrap(), PortState::Off);
}

#[tokio::test]
async fn a_hub_that_has_only_one_half_is_fine() {
    let machine = Machine::new();
    machine.plug(USB2, 4);
    let mut driver = machine.by_serial();
    driver.write(&4.into(), true).await.unwrap();
    assert_eq!(driver.read(&4.into()).await.unwrap(), PortState::On);
}

#[tokio::test]
async fn what_is_not_clear_is_refused_with_what_to_do() {
    let mut machine = Machine::new();
    machine.outfit(&labels(4)).await;
    machine.plug(Half { devpath: "1.3", ..USB2 }, 4);
    let error = machine.by_serial().ports().await.unwrap_err().to_string();
    assert!(error.contains("`controller` and `devices`"), "{error}");

    machine.reset();
    machine.plug(USB2, 4);
    machine.plug(USB3, 3);
    let error = machine.by_serial().ports().await.unwrap_err().to_string();
    assert!(error.contains("different ports"), "{error}");

    // A kernel before 6.0.
    machine.reset();
    machine.plug(USB2, 2);
    for port in [1, 2] {
        fs::remove_file(machine.switch(USB2, port)).unwrap();
    }
    let error = machine.by_serial().ports().await.unwrap_err().to_string();
    assert!(error.contains("Linux 6.0"), "{error}");

    let error = machine.made(json!({"serial": "nobody"})).ports().await.unwrap_err();
    assert!(matches!(error, DriverError::Unreachable { .. }), "{error:?}");
    let error = machine.by_place("0000:00:99.0").ports().await.unwrap_err();
    assert!(matches!(error, DriverError::Unreachable { .. }), "{error:?}");
}
