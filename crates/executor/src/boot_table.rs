//! Who boots what: the table that BOOTS asks (its `BootDirectory`), filled from the farm file and by the runs. A
//! machine without a run of its own boots the default kernel and initramfs, which register it.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{PoisonError, RwLock},
};

use farmgate_boots::{BootDirectory, BootPlan, Content, Reservation, ScriptRequest, Sighting, Stage};
use farmgate_protocol::{DutId, MacAddress};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::{defaults::Defaults, events::EventLog};

/// Sightings that a run has not read yet. A machine that asks more often than that is not told apart any better.
const SIGHTINGS_WAITING: usize = 256;

/// What a run's machine boots; what is None is the default for how the machine asks.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The kernel.
    pub kernel: Option<Content>,
    /// The initramfs, in pieces.
    pub initrds: Option<Vec<Content>>,
    /// The kernel command line.
    pub cmdline: Option<String>,
}

#[derive(Default)]
struct Client {
    dut: Option<DutId>,
    address: Option<Ipv4Addr>,
    host_name: Option<String>,
    /// The run that has the machine now, by its number.
    run: Option<u64>,
    plan: Option<RunPlan>,
    /// The run is taken over from a gateway that died, and has not said yet what the machine boots.
    awaited: bool,
    watcher: Option<mpsc::Sender<Sighting>>,
}

/// A device that the farm file names.
#[derive(Debug, Clone)]
pub struct Known {
    /// Of the interface that asks for an address.
    pub mac: MacAddress,
    /// The machine; None for another device.
    pub dut: Option<DutId>,
    /// Its fixed address; None: one of the pool.
    pub address: Option<Ipv4Addr>,
    /// Its host name.
    pub host_name: String,
}

/// The table.
pub struct BootTable {
    clients: RwLock<HashMap<MacAddress, Client>>,
    defaults: Defaults,
    events: EventLog,
}

impl BootTable {
    /// An empty table: everybody is a stranger.
    pub fn new(defaults: Defaults, events: EventLog) -> Self {
        Self { clients: RwLock::new(HashMap::new()), defaults, events }
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<MacAddress, Client>> {
        self.clients.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<MacAddress, Client>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose addresses are fixed, from the farm file: machines, and other devices such as PDUs. What belongs to runs
    /// stays.
    pub fn set_known(&self, known: Vec<Known>) {
        let mut clients = self.write();
        for client in clients.values_mut() {
            (client.dut, client.address, client.host_name) = (None, None, None);
        }
        for Known { mac, dut, address, host_name } in known {
            let client = clients.entry(mac).or_default();
            client.dut = dut;
            client.address = address;
            client.host_name = Some(host_name);
        }
        clients.retain(|_, c| c.host_name.is_some() || c.run.is_some());
    }

    /// A gateway that died left this run, which will be gone on with: until it says what its machine boots, that boots
    /// nothing. The default would be another system, whose words count for the run.
    pub fn expect(&self, mac: MacAddress, run: u64) {
        let mut clients = self.write();
        let client = clients.entry(mac).or_default();
        (client.run, client.plan, client.awaited) = (Some(run), None, true);
    }

    /// A run takes the machine, and gets what BOOTS sees of it. One that had it before has no say any more: the
    /// machine may have left the farm file and come back while that one still tidied up.
    pub fn begin(&self, mac: MacAddress, run: u64) -> mpsc::Receiver<Sighting> {
        let (sender, receiver) = mpsc::channel(SIGHTINGS_WAITING);
        let mut clients = self.write();
        let client = clients.entry(mac).or_default();
        client.awaited &= client.run == Some(run);
        (client.run, client.plan, client.watcher) = (Some(run), None, Some(sender));
        receiver
    }

    /// What a machine boots from now on; None: the default.
    pub fn set_plan(&self, mac: MacAddress, run: u64, plan: Option<RunPlan>) {
        if let Some(client) = self.write().get_mut(&mac).filter(|c| c.run == Some(run)) {
            (client.plan, client.awaited) = (plan, false);
        }
    }

    /// The run is over: the machine boots the default again.
    pub fn end(&self, mac: MacAddress, run: u64) {
        if let Some(client) = self.write().get_mut(&mac).filter(|c| c.run == Some(run)) {
            (client.run, client.plan, client.watcher, client.awaited) = (None, None, None, false);
        }
    }

    /// Whose fixed address that is.
    pub fn mac_at(&self, address: Ipv4Addr) -> Option<MacAddress> {
        self.read().iter().find(|(_, c)| c.address == Some(address)).map(|(mac, _)| *mac)
    }

    /// The settings that apply where a job says nothing.
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// What a machine boots that asks like that, with the plan of its run, if it has one.
    fn complete(
        &self,
        console_id: String,
        plan: Option<RunPlan>,
        request: &ScriptRequest,
    ) -> Result<BootPlan, String> {
        let default = self.defaults.of(request);
        let plan = plan.unwrap_or(RunPlan { kernel: None, initrds: None, cmdline: None });
        let initrds = plan.initrds.unwrap_or_else(|| default.initrds());
        let kernel = match (plan.kernel, default.kernel) {
            (Some(kernel), _) => kernel,
            (None, Some(path)) if path.is_file() => Content::File(path),
            (None, Some(path)) => {
                return Err(format!(
                    "the default kernel {} does not exist: see BOOTS_DEFAULT_KERNEL",
                    path.display()
                ));
            }
            (None, None) => {
                return Err("the gateway has no default kernel: set BOOTS_DEFAULT_KERNEL".to_owned());
            }
        };
        let cmdline = plan.cmdline.or(default.cmdline).unwrap_or_default();
        Ok(BootPlan { console_id, kernel, initrds, cmdline })
    }
}

impl BootDirectory for BootTable {
    fn reservation(&self, mac: MacAddress) -> Option<Reservation> {
        let clients = self.read();
        let client = clients.get(&mac)?;
        Some(Reservation { address: client.address?, host_name: client.host_name.clone() })
    }

    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.read().values().any(|c| c.address == Some(address))
    }

    fn plan(&self, mac: MacAddress, request: &ScriptRequest) -> Result<BootPlan, String> {
        let (plan, id) = {
            let clients = self.read();
            let client = clients.get(&mac);
            if client.is_some_and(|c| c.awaited) {
                return Err("the gateway has just restarted and comes back to this machine's run".to_owned());
            }
            (client.and_then(|c| c.plan.clone()), client.and_then(|c| c.dut.clone()))
        };
        self.complete(id.map_or_else(|| mac.to_string(), |id| id.to_string()), plan, request)
    }

    fn saw(&self, sighting: Sighting) {
        let (dut, watcher) = {
            let clients = self.read();
            let client = clients.get(&sighting.mac);
            (client.and_then(|c| c.dut.clone()), client.and_then(|c| c.watcher.clone()))
        };
        let dut = dut.unwrap_or_else(|| DutId::from(sighting.mac));
        let (stage, text) = describe(&sighting.stage);
        let mut details = Map::new();
        details.insert("stage".to_owned(), Value::from(stage));
        self.events.emit(Some(&dut), "boot", text, details);
        if let Some(watcher) = watcher {
            // Full: the run has plenty to read already.
            let _ = watcher.try_send(sighting);
        }
    }
}

/// The word for programs and the words for people of a stage.
pub(crate) fn describe(stage: &Stage) -> (&'static str, String) {
    match stage {
        Stage::DhcpDiscover { client, boots: true } => ("dhcp", format!("asks for an address ({client})")),
        Stage::DhcpDiscover { client, boots: false } => {
            ("os-dhcp", format!("asks for an address, from its operating system ({client})"))
        }
        Stage::DhcpAck { address } => ("dhcp-ack", format!("has the address {address}")),
        Stage::TftpStart { file } => ("tftp", format!("fetches {file} over TFTP")),
        Stage::TftpDone { file, bytes } => ("tftp-done", format!("has {file} ({bytes} bytes)")),
        Stage::Script => ("script", "got its iPXE script".to_owned()),
        Stage::FileStart { file, bytes } if file == "kernel" => {
            ("kernel", format!("fetches the kernel ({bytes} bytes)"))
        }
        Stage::FileStart { file, bytes } => ("initrd", format!("fetches the {file} ({bytes} bytes)")),
        Stage::FileDone { file, .. } if file == "kernel" => ("kernel-done", "has the kernel".to_owned()),
        Stage::FileDone { file, .. } => ("initrd-done", format!("has the {file}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::defaults::BootDefault;

    fn mac(n: u8) -> MacAddress {
        MacAddress([0x52, 0x54, 0, 0x11, 0x22, n])
    }
    fn table() -> BootTable {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let general = BootDefault { kernel: Some(here), initrd: None, cmdline: Some("register".into()) };
        BootTable::new(Defaults { general, ..Defaults::default() }, EventLog::default())
    }
    fn runs(cmdline: &str) -> RunPlan {
        RunPlan { kernel: None, initrds: None, cmdline: Some(cmdline.to_owned()) }
    }
    fn known(dut: &str, address: Option<Ipv4Addr>) -> Known {
        Known { mac: mac(1), dut: Some(DutId::new(dut).unwrap()), address, host_name: format!("f-{dut}-1") }
    }
    fn ask(t: &BootTable, n: u8) -> Result<BootPlan, String> {
        t.plan(mac(n), &ScriptRequest { platform: None, buildarch: None })
    }

    #[test]
    fn a_stranger_and_a_machine_without_a_run_boot_the_default() {
        let t = table();
        assert_eq!(ask(&t, 9).unwrap().console_id, mac(9).to_string());
        t.set_known(vec![known("gfx9", None)]);
        let plan = ask(&t, 1).unwrap();
        assert_eq!((plan.console_id.as_str(), plan.cmdline.as_str()), ("gfx9", "register"));
    }

    #[test]
    fn an_edit_of_the_farm_file_does_not_take_a_runs_plan_away() {
        let t = table();
        let _sightings = t.begin(mac(1), 7);
        t.set_plan(mac(1), 7, Some(runs("job")));
        t.set_known(vec![known("my-box", Some(Ipv4Addr::new(10, 42, 0, 7)))]);
        assert_eq!(ask(&t, 1).unwrap().cmdline, "job");
        assert!(t.is_reserved(Ipv4Addr::new(10, 42, 0, 7)));
        t.end(mac(1), 7);
        assert_eq!(ask(&t, 1).unwrap().cmdline, "register");
    }

    #[test]
    fn a_run_that_still_tidies_up_takes_nothing_from_the_one_after_it() {
        let t = table();
        let _old = t.begin(mac(1), 1);
        t.set_plan(mac(1), 1, Some(runs("old")));
        let _new = t.begin(mac(1), 2);
        assert_eq!(ask(&t, 1).unwrap().cmdline, "register");
        t.set_plan(mac(1), 2, Some(runs("new")));
        t.set_plan(mac(1), 1, Some(runs("old")));
        t.end(mac(1), 1);
        assert_eq!(ask(&t, 1).unwrap().cmdline, "new");
    }

    #[test]
    fn a_machine_whose_run_is_taken_over_boots_nothing_until_that_says_what() {
        let t = table();
        t.set_known(vec![known("my-box", None)]);
        t.expect(mac(1), 7);
        assert!(ask(&t, 1).unwrap_err().contains("restarted"));
        let _sightings = t.begin(mac(1), 7);
        assert!(ask(&t, 1).is_err(), "not before its plan is known");
        t.set_plan(mac(1), 7, Some(runs("job")));
        assert_eq!(ask(&t, 1).unwrap().cmdline, "job");
        t.expect(mac(1), 8);
        t.end(mac(1), 8);
        assert_eq!(ask(&t, 1).unwrap().cmdline, "register", "it was given up");
        t.expect(mac(1), 9);
        let _sightings = t.begin(mac(1), 10);
        assert_eq!(ask(&t, 1).unwrap().cmdline, "register", "another run has it");
    }

    #[test]
    fn a_pdu_with_a_mac_address_gets_its_own_and_nobody_else_does() {
        let t = table();
        let address = Ipv4Addr::new(10, 42, 0, 2);
        t.set_known(vec![Known { mac: mac(9), dut: None, address: Some(address), host_name: "APC".into() }]);
        assert_eq!(t.reservation(mac(9)).unwrap().address, address);
        assert!(t.is_reserved(address));
        t.set_known(Vec::new());
        assert!(t.reservation(mac(9)).is_none());
    }

    #[test]
    fn a_gateway_without_a_kernel_says_which_setting_is_missing() {
        let t = BootTable::new(Defaults::default(), EventLog::default());
        assert!(ask(&t, 1).unwrap_err().contains("BOOTS_DEFAULT_KERNEL"));
    }
}
