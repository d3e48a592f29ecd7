//! `farmgate pdu`: tries and switches PDUs without a running gateway.
//!
//! A PDU is one of the farm file (`--name`) or described by `--driver` and `--config`. Its minimum off time holds here
//! too, counted from the first look, and so does what the farm file says of its ports: a reserved one is
//! refused, one of a machine in service needs `--force`.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use farmgate_mars::{DutEntry, Farm, PduEntry, Power};
use farmgate_pdu::{PduHandle, PduOptions, PortRule, PortRules, PowerMode};
use farmgate_protocol::{
    DutId, PortId,
    pdu::{Pdu, PduState},
};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::{BoxError, check::farm_context, settings::Settings};

/// How long a PDU may take to tell the state of all of its ports.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked.
#[derive(Subcommand)]
pub enum Command {
    /// Every driver, and what it wants in `config`.
    Drivers(Output),
    /// The PDUs of the farm file and whose their ports are. Contacts nobody.
    List(Output),
    /// Ask a PDU for its ports and their states.
    Status(Which),
    /// Switch a port on, after its minimum off time.
    On(Switch),
    /// Switch a port off.
    Off(Switch),
    /// Off, the minimum off time, on.
    Cycle(Switch),
}

/// How it is printed.
#[derive(ClapArgs)]
pub struct Output {
    /// Text for people, or JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// Which PDU.
#[derive(ClapArgs)]
pub struct Which {
    /// A PDU of the farm file.
    #[arg(long, required_unless_present = "driver", conflicts_with = "driver")]
    name: Option<String>,
    /// A driver, for a PDU that need not be in the farm file.
    #[arg(long)]
    driver: Option<String>,
    /// A setting of the driver: `hostname=10.0.0.2:1161`, `ports=["a","b"]`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", requires = "driver", value_parser = setting)]
    config: Vec<(String, Value)>,
    #[command(flatten)]
    output: Output,
}

/// Which port.
#[derive(ClapArgs)]
pub struct Switch {
    /// Id of the port.
    port: String,
    #[command(flatten)]
    which: Which,
    /// Also a port of a machine in service: its job loses its machine.
    #[arg(long)]
    force: bool,
}

/// `key=value`, where the value is JSON or else a text.
fn setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
}

/// The settings, or why there are none: a PDU that is described by `--driver` needs none.
type Loaded = Result<Settings, BoxError>;

/// Does it.
pub async fn run(command: &Command, settings: Loaded) -> Result<ExitCode, BoxError> {
    match command {
        Command::Drivers(output) => drivers(output),
        Command::List(output) => list(&farm(&settings?)?, output),
        Command::Status(which) => {
            let chosen = Chosen::find(which, farm_for(which, settings)?)?;
            return status(&chosen, which).await;
        }
        Command::On(switch) => switch_port(switch, settings, &[true]).await?,
        Command::Off(switch) => switch_port(switch, settings, &[false]).await?,
        Command::Cycle(switch) => switch_port(switch, settings, &[false, true]).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The farm file, if it can be found. Only a PDU that it names cannot do without.
fn farm_for(which: &Which, settings: Loaded) -> Result<Farm, BoxError> {
    match settings {
        Ok(settings) => farm(&settings),
        Err(error) if which.name.is_some() => Err(error),
        Err(error) => {
            eprintln!("farmgate: no farm file is looked at, so nobody's port is known: {error}");
            Ok(Farm::default())
        }
    }
}

/// The farm file; without one there is an empty farm.
fn farm(settings: &Settings) -> Result<Farm, BoxError> {
    let path = &settings.farm_file;
    match std::fs::read_to_string(path) {
        Ok(text) => {
            Ok(farmgate_mars::parse(&path.display().to_string(), &text, &farm_context(settings))?.farm)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Farm::default()),
        Err(error) => Err(format!("the farm file {} cannot be read: {error}", path.display()).into()),
    }
}

fn drivers(output: &Output) {
    let all = farmgate_pdu::drivers();
    match output.format {
        Format::Text => all.iter().for_each(|d| println!("{:<16} {}", d.name, d.help)),
        Format::Json => {
            let all: Vec<_> = all.iter().map(|d| json!({"name": d.name, "help": d.help})).collect();
            println!("{}", Value::from(all));
        }
    }
}

fn list(farm: &Farm, output: &Output) {
    let mut all = Map::new();
    for (name, entry) in &farm.pdus {
        let owners: BTreeMap<&str, &str> = farm
            .duts
            .iter()
            .filter_map(|(id, dut)| Some((port_at(dut, name)?.as_str(), id.as_str())))
            .collect();
        if let Format::Text = output.format {
            println!("{name}: {}, {} reserved", entry.driver, entry.reserved_port_ids.len());
            owners.iter().for_each(|(port, id)| println!("  port {port}: {id}"));
        }
        all.insert(
            name.clone(),
            json!({"driver": entry.driver, "reserved_port_ids": entry.reserved_port_ids, "duts": owners}),
        );
    }
    if let Format::Json = output.format {
        println!("{}", Value::from(all));
    }
}

fn port_at<'a>(dut: &'a DutEntry, pdu: &str) -> Option<&'a PortId> {
    dut.pdu_port_id.as_ref().filter(|_| dut.pdu.as_deref() == Some(pdu))
}

/// The PDU that was meant, and what the farm file says of it.
struct Chosen {
    name: String,
    entry: PduEntry,
    farm: Farm,
}

impl Chosen {
    fn find(which: &Which, farm: Farm) -> Result<Self, BoxError> {
        if let Some(driver) = &which.driver {
            let config = Value::Object(which.config.iter().cloned().collect());
            // The same device under its name is the same device.
            let known = farm.pdus.iter().find(|(_, e)| e.driver == *driver && e.config == config);
            let (name, entry) =
                known.map(|(name, entry)| (name.clone(), entry.clone())).unwrap_or_else(|| {
                    let entry = PduEntry { driver: driver.clone(), config, ..PduEntry::default() };
                    (driver.clone(), entry)
                });
            // A PDU of the file that only has this name is another one.
            let farm = if farm.pdus.get(&name) == Some(&entry) { farm } else { Farm::default() };
            return Ok(Self { name, entry, farm });
        }
        let name = which.name.clone().unwrap_or_default();
        match farm.pdus.get(&name).cloned() {
            Some(entry) => Ok(Self { name, entry, farm }),
            None => {
                let known: Vec<_> = farm.pdus.keys().map(String::as_str).collect();
                let text = format!("the farm file has no PDU {name:?}; it has: {}", known.join(", "));
                Err(text.into())
            }
        }
    }

    fn owner(&self, port: &PortId) -> Option<(&DutId, &DutEntry)> {
        self.farm.duts.iter().find(|(_, dut)| port_at(dut, &self.name) == Some(port))
    }

    /// What keeps a port from being switched, if something does.
    fn objection(&self, port: &PortId, force: bool) -> Option<String> {
        let (id, _) = self.owner(port).filter(|(_, dut)| !dut.is_retired && !force)?;
        Some(format!(
            "port {port} of {} belongs to the machine {id}, which is in service: a job that runs on it would lose its machine. Retire it first, or say --force",
            self.name
        ))
    }

    fn spawn(&self, observe: bool) -> Result<PduHandle, BoxError> {
        let driver = farmgate_pdu::make(&self.entry.driver, &self.entry.config)?;
        let rules: PortRules = self.farm.duts.iter().filter_map(|(id, dut)| self.rule(id, dut)).collect();
        let options = PduOptions {
            reserved: self.entry.reserved_port_ids.iter().cloned().collect(),
            observe,
            rules,
            ..PduOptions::default()
        };
        Ok(PduHandle::spawn(&self.name, driver, options, CancellationToken::new()))
    }

    fn rule(&self, id: &DutId, dut: &DutEntry) -> Option<(PortId, PortRule)> {
        let mode = match dut.power {
            Power::Managed => PowerMode::Managed,
            Power::Manual => PowerMode::Manual,
            Power::NeverOff => PowerMode::NeverOff,
        };
        let rule = PortRule { owner: format!("the machine {id}"), mode, max_on: None };
        Some((port_at(dut, &self.name)?.clone(), rule))
    }
}

/// The PDU when all of its ports were read, or as it is when that takes too long.
async fn seen(handle: &PduHandle) -> Pdu {
    let mut snapshot = handle.snapshot();
    let all_read = snapshot.wait_for(|s| {
        let read = s.pdu.ports.values().all(|port| port.last_polled.is_some());
        matches!(s.pdu.state, PduState::Error | PduState::Stopped) || (s.pdu.state == PduState::Ok && read)
    });
    // What is known by then is shown, whatever it is.
    let _ = tokio::time::timeout(PATIENCE, all_read).await;
    handle.snapshot().borrow().pdu.clone()
}

async fn status(chosen: &Chosen, which: &Which) -> Result<ExitCode, BoxError> {
    let handle = chosen.spawn(true)?;
    let pdu = seen(&handle).await;
    if let Format::Json = which.output.format {
        println!("{}", serde_json::to_string(&pdu)?);
    } else {
        let mut ports: Vec<_> = pdu.ports.iter().collect();
        // Numbers in their order: 2 before 10.
        ports.sort_by_key(|(id, _)| (id.len(), id.as_str()));
        for (id, port) in ports {
            let watts = port.instant_power.map(|watts| format!("  {watts:.1} W")).unwrap_or_default();
            let reserved = if port.reserved { "  reserved" } else { "" };
            let owner = PortId::new(id).ok().and_then(|id| chosen.owner(&id));
            let owner = owner.map(|(id, _)| format!("  {id}")).unwrap_or_default();
            println!("{id:<6} {:<8} {}{watts}{reserved}{owner}", port.state, port.label);
        }
    }
    match pdu.error {
        Some(error) => Err(format!("PDU {}: {error}", chosen.name).into()),
        None if pdu.state != PduState::Ok => {
            Err(format!("PDU {} did not answer within {PATIENCE:?}", chosen.name).into())
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn switch_port(switch: &Switch, settings: Loaded, wishes: &[bool]) -> Result<(), BoxError> {
    let chosen = Chosen::find(&switch.which, farm_for(&switch.which, settings)?)?;
    let port = PortId::new(&switch.port)?;
    if let Some(objection) = chosen.objection(&port, switch.force) {
        return Err(objection.into());
    }
    let handle = chosen.spawn(false)?;
    let delay = chosen.owner(&port).map(|(_, dut)| dut.pdu_off_delay).unwrap_or_default();
    let min_off = Duration::try_from_secs_f64(delay).unwrap_or_default();
    for on in wishes {
        if *on {
            handle.on(&port, min_off).await?
        } else {
            handle.off(&port).await?
        }
        let state = if *on { "ON" } else { "OFF" };
        match switch.which.output.format {
            Format::Text => println!("{} port {port}: {state}", chosen.name),
            Format::Json => println!("{}", json!({"pdu": chosen.name, "port": port, "state": state})),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FARM: &str = "
pdus:
  lab: {driver: dummy, config: {ports: [a, b, c]}, reserved_port_ids: [3]}
duts:
  serving: {pdu: lab, pdu_port_id: 1, mac_address: '00:11:22:33:44:55'}
  retired: {pdu: lab, pdu_port_id: 2, is_retired: true, power: manual, mac_address: '00:11:22:33:44:56'}
";

    fn chosen(name: Option<&str>, config: &str) -> Result<Chosen, BoxError> {
        let context = farmgate_mars::CheckContext {
            extra_pdus: std::collections::BTreeSet::new(),
            pdu_check: std::sync::Arc::new(|_, _| Ok(())),
            private_network: None,
        };
        let farm = farmgate_mars::parse("farm", FARM, &context).unwrap().farm;
        let which = Which {
            name: name.map(str::to_owned),
            driver: name.is_none().then(|| "dummy".to_owned()),
            config: vec![setting(config).unwrap()],
            output: Output { format: Format::Text },
        };
        Chosen::find(&which, farm)
    }

    #[test]
    fn a_setting_is_json_or_else_a_text() {
        assert_eq!(setting("hostname=10.0.0.2:1161").unwrap().1, json!("10.0.0.2:1161"));
        assert_eq!(setting("ports=[\"a\"]").unwrap().1, json!(["a"]));
        assert_eq!(setting("password=a=b").unwrap().1, json!("a=b"));
        assert!(setting("hostname").is_err());
    }

    #[test]
    fn a_port_of_a_machine_in_service_needs_force_however_the_pdu_is_named() {
        for chosen in [chosen(Some("lab"), "x=1"), chosen(None, "ports=[\"a\",\"b\",\"c\"]")] {
            let chosen = chosen.unwrap();
            assert!(chosen.objection(&1.into(), false).unwrap().contains("serving"));
            assert_eq!(chosen.objection(&1.into(), true), None);
            assert_eq!(chosen.objection(&2.into(), false), None);
        }
        let other = chosen(None, "ports=[\"a\"]").unwrap();
        assert_eq!(other.objection(&1.into(), false), None, "another device");
        let error = chosen(Some("laboratory"), "x=1").err().unwrap().to_string();
        assert!(error.contains("lab"), "{error}");
    }

    #[tokio::test]
    async fn what_the_farm_file_forbids_is_refused_even_by_force() {
        let handle = chosen(Some("lab"), "x=1").unwrap().spawn(false).unwrap();
        assert!(handle.off(&2.into()).await.unwrap_err().to_string().contains("power: manual"));
        assert!(handle.off(&3.into()).await.unwrap_err().to_string().contains("reserved"));
        handle.on(&1.into(), Duration::ZERO).await.unwrap();
        assert_eq!(seen(&handle).await.ports["1"].state, farmgate_protocol::pdu::PortState::On);
    }
}
