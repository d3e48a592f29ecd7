//! Any executable as a PDU: for every device that has no driver here.
//!
//! `config: {on, off, state, ports or list, state_mapping, env, timeout, settle_time, min_off_time}`. `on`, `off`,
//! `state` and `list` are lists: the program and its arguments, without a shell. `{port}` in an argument is replaced by
//! the port's id, which is also in the environment as `FARMGATE_PORT`. What the programs must do is told in
//! `docs/pdu-driver.md`: exit code 0 means done, another one is an error with the last line of stderr; `state` prints
//! `on` or `off` (or a text of `state_mapping`), everything else is UNKNOWN; `list` prints `ID LABEL` lines.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use farmgate_protocol::{PortId, pdu::PortState};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{ConfigError, Factory, program, secret::Secret, settings};
use crate::{Driver, DriverError, PortInfo};

pub(super) const FACTORY: Factory = Factory {
    name: "command",
    help: "any executable; config: on, off, state: [PROGRAM, ARGUMENT, ...] with {port}, ports: [ID, ...] | {ID: \
           LABEL} or list: [PROGRAM, ...], state_mapping: {on, off}, env, timeout (4 s), settle_time (0 s), \
           min_off_time (30 s)",
    make,
};

const MAX_PORTS: usize = 1024;
/// The task gives a call 5 s.
const LONGEST_TIMEOUT: f64 = 4.8;
const DEFAULT_TIMEOUT: f64 = 4.0;
const LONGEST_WAIT: f64 = 3600.0;
const REMEDY: &str = "is it there, with its whole path, and executable?";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    on: Vec<String>,
    off: Vec<String>,
    state: Vec<String>,
    list: Option<Vec<String>>,
    ports: Option<Ports>,
    state_mapping: Option<Mapping>,
    #[serde(default)]
    env: BTreeMap<String, Secret>,
    /// Seconds.
    timeout: Option<f64>,
    /// Seconds.
    settle_time: Option<f64>,
    /// Seconds.
    min_off_time: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of ids, or ids with their labels")]
enum Ports {
    Ids(Vec<PortId>),
    Labels(BTreeMap<String, String>),
    Other(IgnoredAny),
}

/// What `state` prints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    on: String,
    off: String,
}

struct Command {
    on: Vec<String>,
    off: Vec<String>,
    state: Vec<String>,
    ports: Known,
    mapping: Option<Mapping>,
    env: BTreeMap<String, Secret>,
    timeout: Duration,
    settle_time: Duration,
    min_off_time: Duration,
}

/// Which ports there are.
enum Known {
    Fixed(Vec<PortInfo>),
    /// Asked from this program; what it last said.
    Listed {
        list: Vec<String>,
        last: Option<Vec<PortInfo>>,
    },
}

fn wrong(what: String) -> ConfigError {
    ConfigError::Settings { driver: "command", what }
}

fn make(config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    let config: Config = settings("command", config)?;
    for (name, command) in [("on", &config.on), ("off", &config.off), ("state", &config.state)] {
        checked(name, command)?;
    }
    let ports = match (config.ports, config.list) {
        (Some(ports), None) => Known::Fixed(fixed(ports)?),
        (None, Some(list)) => {
            checked("list", &list)?;
            Known::Listed { list, last: None }
        }
        _ => return Err(wrong("it needs either `ports` or `list`".to_owned())),
    };
    if matches!(&ports, Known::Fixed(ports) if ports.len() != 1) || matches!(ports, Known::Listed { .. }) {
        for (name, command) in [("on", &config.on), ("off", &config.off), ("state", &config.state)] {
            names_the_port(name, command)?;
        }
    }
    if let Some(mapping) = config.state_mapping.as_ref().filter(|m| m.on.trim() == m.off.trim()) {
        return Err(wrong(format!("state_mapping: {:?} stands for both on and off", mapping.on)));
    }
    if let Some(bad) = config.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(wrong(format!("env: {bad:?} cannot be the name of a variable")));
    }
    Ok(Box::new(Command {
        on: config.on,
        off: config.off,
        state: config.state,
        ports,
        mapping: config.state_mapping,
        env: config.env,
        timeout: seconds("timeout", config.timeout, DEFAULT_TIMEOUT, 0.1..=LONGEST_TIMEOUT)?,
        settle_time: seconds("settle_time", config.settle_time, 0.0, 0.0..=LONGEST_WAIT)?,
        min_off_time: seconds("min_off_time", config.min_off_time, 30.0, 0.0..=LONGEST_WAIT)?,
    }))
}

fn checked(name: &str, command: &[String]) -> Result<(), ConfigError> {
    if command.first().is_none_or(String::is_empty) {
        return Err(wrong(format!("{name}: it must begin with a program")));
    }
    match command.iter().any(|argument| argument.contains('\0')) {
        true => Err(wrong(format!("{name}: an argument cannot contain a null byte"))),
        false => Ok(()),
    }
}

/// A command that switches all ports alike would switch the wrong one.
fn names_the_port(name: &str, command: &[String]) -> Result<(), ConfigError> {
    // A script may take it from the environment.
    let named = |argument: &String| argument.contains("{port}") || argument.contains("FARMGATE_PORT");
    if command.iter().any(named) {
        return Ok(());
    }
    Err(wrong(format!("{name}: no argument names the port: add \"{{port}}\"")))
}

fn fixed(ports: Ports) -> Result<Vec<PortInfo>, ConfigError> {
    let infos: Vec<PortInfo> = match ports {
        Ports::Ids(ids) => ids.into_iter().map(|id| PortInfo { label: id.to_string(), id }).collect(),
        Ports::Labels(labels) => labels
            .into_iter()
            .map(|(id, label)| Ok(PortInfo { id: PortId::new(&id)?, label }))
            .collect::<Result<_, farmgate_protocol::IdError>>()
            .map_err(|error| wrong(format!("ports: {error}")))?,
        Ports::Other(_) => {
            return Err(wrong("ports: it must be a list of ids, or ids with their labels".to_owned()));
        }
    };
    distinct(&infos).map_err(|what| wrong(format!("ports: {what}")))?;
    Ok(infos)
}

fn distinct(infos: &[PortInfo]) -> Result<(), String> {
    if infos.len() > MAX_PORTS {
        return Err(format!("{} are too many, at most {MAX_PORTS}", infos.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    match infos.iter().find(|info| !seen.insert(&info.id)) {
        Some(twice) => Err(format!("{} stands there twice", twice.id)),
        None => Ok(()),
    }
}

fn seconds(
    name: &str,
    value: Option<f64>,
    default: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<Duration, ConfigError> {
    let value = value.unwrap_or(default);
    if !range.contains(&value) {
        let (least, most) = (range.start(), range.end());
        return Err(wrong(format!("{name}: {value} is not between {least} and {most} seconds")));
    }
    Ok(Duration::from_secs_f64(value))
}

/// `ID LABEL` lines; the label may be missing.
fn listed(text: &str) -> Result<Vec<PortInfo>, DriverError> {
    let mut infos = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (id, label) = line.split_once(char::is_whitespace).unwrap_or((line, line));
        let id = PortId::new(id).map_err(|error| DriverError::Protocol(format!("list: {error}")))?;
        infos.push(PortInfo { id, label: label.trim().to_owned() });
    }
    distinct(&infos).map_err(|what| DriverError::Protocol(format!("list: {what}")))?;
    Ok(infos)
}

impl Command {
    async fn run(&self, command: &[String], port: Option<&PortId>) -> Result<String, DriverError> {
        let replaced =
            |text: &String| port.map_or_else(|| text.clone(), |p| text.replace("{port}", p.as_str()));
        let (Some(program), arguments) = (command.first(), command.iter().skip(1)) else {
            return Err(DriverError::Unavailable("this command"));
        };
        let arguments: Vec<String> = arguments.map(replaced).collect();
        let mut environment: Vec<_> =
            self.env.iter().map(|(name, value)| (&**name, value.expose())).collect();
        environment.extend(port.map(|port| ("FARMGATE_PORT", port.as_str())));
        let ended = program::run(program, &arguments, &environment, self.timeout, REMEDY).await?;
        if ended.code == Some(0) {
            return Ok(ended.stdout);
        }
        let mut words = ended.words();
        for secret in self.env.values().map(Secret::expose).filter(|secret| secret.len() > 3) {
            words = words.replace(secret, "(hidden)");
        }
        Err(DriverError::Refused(format!("{program}: {words}")))
    }

    async fn known(&mut self, port: &PortId) -> Result<(), DriverError> {
        if matches!(&self.ports, Known::Listed { last: None, .. }) {
            self.ports().await?;
        }
        let infos = match &self.ports {
            Known::Fixed(infos) => Some(infos),
            Known::Listed { last, .. } => last.as_ref(),
        };
        let found = infos.is_some_and(|infos| infos.iter().any(|info| info.id == *port));
        if found { Ok(()) } else { Err(DriverError::UnknownPort(port.clone())) }
    }
}

#[async_trait]
impl Driver for Command {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        let list = match &self.ports {
            Known::Fixed(infos) => return Ok(infos.clone()),
            Known::Listed { list, .. } => list.clone(),
        };
        let infos = listed(&self.run(&list, None).await?)?;
        self.ports = Known::Listed { list, last: Some(infos.clone()) };
        Ok(infos)
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        self.known(port).await?;
        let said = self.run(&self.state, Some(port)).await?;
        let said = said.trim();
        let (is_on, is_off) = match &self.mapping {
            Some(mapping) => (said == mapping.on.trim(), said == mapping.off.trim()),
            None => (said.eq_ignore_ascii_case("on"), said.eq_ignore_ascii_case("off")),
        };
        Ok(match (is_on, is_off) {
            (true, _) => PortState::On,
            (_, true) => PortState::Off,
            _ => PortState::Unknown,
        })
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        self.known(port).await?;
        self.run(if on { &self.on } else { &self.off }, Some(port)).await.map(drop)
    }

    fn settle_time(&self) -> Duration {
        self.settle_time
    }

    fn default_min_off_time(&self) -> Duration {
        self.min_off_time
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_has_ids_and_labels_in_any_script() {
        let infos = listed("1 Dose ü\n\n  2\t機器 zwei  \nthird\n").unwrap();
        let shown: Vec<_> = infos.iter().map(|info| (info.id.as_str(), info.label.as_str())).collect();
        assert_eq!(shown, [("1", "Dose ü"), ("2", "機器 zwei"), ("third", "third")]);
        for bad in ["a/b x", "1 x\n1 y"] {
            assert!(matches!(listed(bad), Err(DriverError::Protocol(_))), "{bad:?}");
        }
    }

    #[test]
    fn what_is_wrong_in_the_config_is_named() {
        let good =
            json!({"on": ["r", "{port}"], "off": ["r", "{port}"], "state": ["r", "{port}"], "ports": [1, 2]});
        assert!(make(&good).is_ok());
        for (key, value, expected) in [
            ("on", json!([]), "on: it must begin with a program"),
            ("off", json!(["relay"]), "off: no argument names the port"),
            ("state", json!("relay state"), "state: invalid type"),
            ("ports", json!([1, "1"]), "ports: 1 stands there twice"),
            ("ports", json!({"a b": "x"}), "ports: port id \"a b\""),
            ("ports", json!(7), "ports: it must be a list of ids"),
            ("list", json!(["relay"]), "either `ports` or `list`"),
            ("timeout", json!(60), "timeout: 60 is not between 0.1 and 4.8 seconds"),
            ("state_mapping", json!({"on": "1", "off": " 1"}), "stands for both"),
            ("env", json!({"A=B": "x"}), "cannot be the name of a variable"),
            ("timout", json!(1), "did you mean `timeout`?"),
        ] {
            let mut config = good.clone();
            config[key] = value;
            let error = make(&config).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{key}: {error}");
        }
    }
}
