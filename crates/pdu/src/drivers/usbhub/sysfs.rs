//! USB hubs as the kernel shows them in sysfs, and the power switches of their ports.
//!
//! Kernel documents: `Documentation/ABI/testing/sysfs-bus-usb` (`<hub_interface>/port<X>/disable`, since Linux 6.0;
//! `devpath`, `maxchild`, `speed`). All of it blocks: a write waits until the hub has answered.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::DriverError;

/// `bDeviceClass` of hubs.
const HUB_CLASS: u32 = 9;
/// USB 2 and 3 allow 15 ports, a root hub may have more.
const MAX_PORTS: u32 = 255;

/// One hub device: a USB 3 hub in a box is two of them.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    /// `1-1.4`, `usb1`.
    pub name: String,
    /// Where it is on its bus: `1.4`; `0` for a root hub.
    pub devpath: String,
    pub vendor: Option<u32>,
    pub product: Option<u32>,
    pub serial: Option<String>,
    /// Mbit/s.
    pub speed: Option<u32>,
    pub maxchild: u32,
    /// Where it is in the tree of devices, below its controller.
    pub place: PathBuf,
}

/// Every hub of the machine.
pub(super) fn hubs(sysfs: &Path) -> io::Result<Vec<Hub>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sysfs.join("bus/usb/devices"))? {
        // A device that is pulled out meanwhile is no error.
        let Ok(entry) = entry else { continue };
        found.extend(hub(&entry.path(), entry.file_name().to_str().unwrap_or_default()));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn hub(path: &Path, name: &str) -> Option<Hub> {
    let text = |file: &str| fs::read_to_string(path.join(file)).ok().map(|text| text.trim().to_owned());
    let hex = |file: &str| u32::from_str_radix(&text(file)?, 16).ok();
    let decimal = |file: &str| text(file)?.parse::<u32>().ok();
    // Interfaces (`1-1:1.0`) have no device class.
    (hex("bDeviceClass")? == HUB_CLASS).then_some(())?;
    Some(Hub {
        name: name.to_owned(),
        devpath: text("devpath")?,
        vendor: hex("idVendor"),
        product: hex("idProduct"),
        serial: text("serial"),
        speed: decimal("speed"),
        maxchild: decimal("maxchild")?,
        place: fs::canonicalize(path).ok()?,
    })
}

impl Hub {
    /// The power switch of a port, whether it exists or not. The interface of a root hub is called `1-0:1.0`.
    fn switch(&self, port: u32) -> PathBuf {
        let interface = match self.name.strip_prefix("usb") {
            Some(bus) => format!("{bus}-0:1.0"),
            None => format!("{}:1.0", self.name),
        };
        self.place.join(interface).join(format!("{}-port{port}", self.name)).join("disable")
    }

    /// The ports that can be switched.
    pub fn ports(&self) -> Vec<u32> {
        (1..=self.maxchild.min(MAX_PORTS)).filter(|port| self.switch(*port).is_file()).collect()
    }

    /// Whether a port has power; `None` for what the kernel does not say.
    pub fn read(&self, port: u32) -> Result<Option<bool>, DriverError> {
        let path = self.switch(port);
        match fs::read_to_string(&path).map_err(|error| failed(&path, error))?.trim() {
            "0" => Ok(Some(true)),
            "1" => Ok(Some(false)),
            _ => Ok(None),
        }
    }

    /// Switches the power of a port.
    pub fn write(&self, port: u32, on: bool) -> Result<(), DriverError> {
        let path = self.switch(port);
        let mut file =
            fs::OpenOptions::new().write(true).open(&path).map_err(|error| failed(&path, error))?;
        file.write_all(if on { b"0" } else { b"1" }).map_err(|error| failed(&path, error))
    }
}

fn failed(path: &Path, error: io::Error) -> DriverError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => DriverError::Refused(format!(
            "no permission for {}: the gateway must run as root, or own this file",
            path.display()
        )),
        // The hub is gone, or the cable.
        _ => DriverError::unreachable(path.display().to_string(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_refused_with_what_to_do_and_a_missing_file_is_a_missing_hub() {
        let path = Path::new("/sys/x/1-1-port1/disable");
        let error = failed(path, io::ErrorKind::PermissionDenied.into());
        assert!(matches!(&error, DriverError::Refused(what) if what.contains("as root")), "{error:?}");
        let error = failed(path, io::ErrorKind::NotFound.into());
        assert!(matches!(error, DriverError::Unreachable { .. }), "{error:?}");
    }
}
