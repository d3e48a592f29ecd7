//! Loads the drivers of the devices that are there.
//!
//! Owns the walk over `/sys/bus` and the loading itself; `modules` says what belongs to what. Loading a driver
//! makes new devices appear (a virtio PCI function carries a virtio device), so a pass repeats until nothing new
//! is asked for, and may be run again at any time for devices that come later (USB).

use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::modules::{Catalogue, is_urgent};

/// A device that needs this many drivers to be loaded one after another does not exist.
const MOST_ROUNDS: usize = 16;

/// Which devices a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// The network only, because the machine waits for its address.
    Urgent,
    /// All.
    All,
}

/// The drivers of this boot.
#[derive(Debug)]
pub struct Coldplug {
    sys: PathBuf,
    folder: PathBuf,
    catalogue: Catalogue,
    /// Modaliases whose drivers were asked for.
    served: HashSet<String>,
    loaded: HashSet<String>,
    failures: Vec<String>,
}

impl Coldplug {
    /// For the devices below `sys` with the modules in `folder` (`/lib/modules/RELEASE`).
    pub fn new(sys: &Path, folder: &Path) -> Self {
        // An image without modules is fine: its kernel has them built in.
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        Self {
            sys: sys.to_owned(),
            folder: folder.to_owned(),
            catalogue: Catalogue::parse(
                &text("modules.alias"),
                &text("modules.dep"),
                &text("modules.softdep"),
            ),
            served: HashSet::new(),
            loaded: HashSet::new(),
            failures: Vec::new(),
        }
    }

    /// Loads what devices ask for; returns how many modules were loaded.
    pub fn pass(&mut self, which: Devices) -> usize {
        let before = self.loaded.len();
        for _ in 0..MOST_ROUNDS {
            let new: Vec<_> = modaliases(&self.sys)
                .into_iter()
                .filter(|m| (which == Devices::All || is_urgent(m)) && !self.served.contains(m))
                .collect();
            if new.is_empty() {
                break;
            }
            for modalias in new {
                self.serve(&modalias);
                self.served.insert(modalias);
            }
        }
        self.loaded.len() - before
    }

    /// What went wrong since the last call, a sentence each.
    pub fn take_failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failures)
    }

    fn serve(&mut self, modalias: &str) {
        for module in self.catalogue.modules_for(modalias) {
            for path in self.catalogue.load_order(module) {
                if self.loaded.contains(path) {
                    continue;
                }
                if let Err(error) = load(&self.folder.join(path)) {
                    self.failures.push(format!("cannot load {path} for {modalias}: {error}"));
                }
                // A failed one counts too: it would fail again.
                self.loaded.insert(path.to_owned());
            }
        }
    }
}

fn load(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The modaliases of all devices on all buses, each once, in a stable order.
fn modaliases(sys: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for bus in entries(&sys.join("bus")) {
        for device in entries(&bus.join("devices")) {
            if let Some(modalias) = modalias(&device) {
                found.push(modalias);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn modalias(device: &Path) -> Option<String> {
    let text = fs::read_to_string(device.join("modalias")).ok().or_else(|| {
        // Some buses say it in the event only.
        let event = fs::read_to_string(device.join("uevent")).ok()?;
        event.lines().find_map(|line| line.strip_prefix("MODALIAS=").map(str::to_owned))
    })?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn modaliases_come_from_the_file_or_from_the_event() {
        let root = tempfile::tempdir().unwrap();
        let bus = root.path().join("bus");
        write(bus.join("pci/devices/0000:00:02.0/modalias"), "pci:v00001AF4\n");
        write(bus.join("pci/devices/0000:00:03.0/modalias"), "pci:v00001AF4\n");
        write(bus.join("mdio_bus/devices/x/uevent"), "OF_NAME=phy\nMODALIAS=mdio:0101\n");
        write(bus.join("cpu/devices/cpu0/uevent"), "DRIVER=processor\n");
        assert_eq!(modaliases(root.path()), ["mdio:0101", "pci:v00001AF4"]);
    }

    #[test]
    fn a_module_that_is_missing_is_a_failure_said_once() {
        let root = tempfile::tempdir().unwrap();
        write(root.path().join("sys/bus/pci/devices/a/modalias"), "pci:x");
        write(root.path().join("m/modules.alias"), "alias pci:* absent\n");
        write(root.path().join("m/modules.dep"), "kernel/absent.ko:\n");
        let mut coldplug = Coldplug::new(&root.path().join("sys"), &root.path().join("m"));
        coldplug.pass(Devices::Urgent);
        assert!(coldplug.take_failures().is_empty());
        coldplug.pass(Devices::All);
        coldplug.pass(Devices::All);
        let failures = coldplug.take_failures();
        assert_eq!(failures.len(), 1);
        assert!(failures[0].contains("kernel/absent.ko"), "{failures:?}");
    }
}
