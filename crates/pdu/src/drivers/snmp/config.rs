//! The `config` of the SNMP drivers, checked as far as it can be without asking the device.

use std::{collections::BTreeMap, fmt};

use farmgate_protocol::pdu::PortState;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::{
    access::{Access, Authentication, Credentials, Privacy},
    oid::Oid,
    outlets::{Mapping, Metered, Table},
};
use crate::drivers::{ConfigError, address, secret::Secret, settings};

/// The port of SNMP agents.
const PORT: u16 = 161;

/// Every key that an SNMP driver may know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    hostname: String,
    version: Option<Version>,
    community: Option<Secret>,
    #[serde(alias = "user", alias = "security_username")]
    username: Option<String>,
    security_level: Option<Level>,
    auth_protocol: Option<Authentication>,
    #[serde(alias = "auth_key")]
    auth_password: Option<Secret>,
    #[serde(alias = "priv_protocol")]
    privacy_protocol: Option<Privacy>,
    #[serde(alias = "priv_password", alias = "priv_key", alias = "privacy_key")]
    privacy_password: Option<Secret>,
    context: Option<String>,
    system_id: Option<String>,
    outlet_labels: Option<String>,
    outlet_status: Option<String>,
    outlet_ctrl: Option<String>,
    state_mapping: Option<StateMapping>,
    inverse_state_mapping: Option<BTreeMap<String, Value>>,
    outlet_power: Option<String>,
    power_unit: Option<f64>,
    outlet_energy: Option<String>,
    energy_unit: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Version {
    #[default]
    V1,
    V2c,
    V3,
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match text.trim_start_matches('v') {
            "1" => Ok(Self::V1),
            "2" | "2c" => Ok(Self::V2c),
            "3" => Ok(Self::V3),
            _ => Err(D::Error::custom(format!("{text} is no version of SNMP: 1, 2 or 3"))),
        }
    }
}

/// How much of a message is protected (RFC 3414).
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
enum Level {
    #[serde(rename = "noAuthNoPriv", alias = "no_auth_or_privacy", alias = "noauthnopriv")]
    Open,
    #[serde(rename = "authNoPriv", alias = "auth_without_privacy", alias = "authnopriv")]
    Signed,
    #[serde(rename = "authPriv", alias = "auth_with_privacy", alias = "authpriv")]
    Encrypted,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "noAuthNoPriv",
            Self::Signed => "authNoPriv",
            Self::Encrypted => "authPriv",
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateMapping {
    on: i32,
    off: i32,
    reboot: Option<i32>,
}

/// What a driver for one kind of device has in common with the generic one: how to reach it, and what it measures.
pub fn of_model(
    driver: &'static str,
    config: &Value,
    mut table: Table,
) -> Result<(Access, Table), ConfigError> {
    let config: Config = settings(driver, config)?;
    let given = [
        ("system_id", config.system_id.is_some()),
        ("outlet_labels", config.outlet_labels.is_some()),
        ("outlet_status", config.outlet_status.is_some()),
        ("outlet_ctrl", config.outlet_ctrl.is_some()),
        ("state_mapping", config.state_mapping.is_some()),
        ("inverse_state_mapping", config.inverse_state_mapping.is_some()),
    ];
    if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
        let what =
            format!("{key}: this driver knows it; leave it out, or use the driver `snmp` and say it all");
        return Err(ConfigError::Settings { driver, what });
    }
    metering(driver, &config, None, &mut table)?;
    Ok((access(driver, &config)?, table))
}

/// Everything from the farm file.
pub fn generic(driver: &'static str, config: &Value) -> Result<(Access, Table), ConfigError> {
    let config: Config = settings(driver, config)?;
    let wrong = |what: String| ConfigError::Settings { driver, what };
    let system = match &config.system_id {
        Some(text) => Some(Oid::parse_system(text).ok_or_else(|| {
            wrong(format!("system_id: {text:?} is no object identifier like 1.3.6.1.4.1.318.1.1.4"))
        })?),
        None => None,
    };
    let column = |key, text| oid(driver, key, text, system.as_ref());
    let Some(status) = &config.outlet_status else {
        return Err(wrong(
            "missing field `outlet_status`: the column of the table with the states".to_owned(),
        ));
    };
    let status = column("outlet_status", status)?;
    let control = match &config.outlet_ctrl {
        Some(text) => column("outlet_ctrl", text)?,
        None => status.clone(),
    };
    let labels = match &config.outlet_labels {
        Some(text) => Some(column("outlet_labels", text)?),
        None => None,
    };
    let Some(states) = &config.state_mapping else {
        return Err(wrong("missing field `state_mapping`, like {on: 1, off: 2, reboot: 3}".to_owned()));
    };
    if states.on == states.off {
        return Err(wrong(format!("state_mapping: on and off are both {}", states.on)));
    }
    let mut mapping = Mapping::new(states.on, states.off, states.reboot);
    if let Some(inverse) = &config.inverse_state_mapping {
        mapping.read =
            inverse_mapping(inverse).map_err(|what| wrong(format!("inverse_state_mapping: {what}")))?;
    }
    let mut table = Table { labels, control, ..Table::new(status, mapping) };
    metering(driver, &config, system.as_ref(), &mut table)?;
    Ok((access(driver, &config)?, table))
}

fn oid(driver: &'static str, key: &str, text: &str, system: Option<&Oid>) -> Result<Oid, ConfigError> {
    Oid::parse(text, system).ok_or_else(|| {
        let relative = if system.is_some() { " (or what follows system_id)" } else { "" };
        let what =
            format!("{key}: {text:?} is no object identifier like 1.3.6.1.4.1.318.1.1.4.4.2.1.3{relative}");
        ConfigError::Settings { driver, what }
    })
}

fn metering(
    driver: &'static str,
    config: &Config,
    system: Option<&Oid>,
    table: &mut Table,
) -> Result<(), ConfigError> {
    let wrong = |what: String| Err(ConfigError::Settings { driver, what });
    let columns = [
        ("outlet_power", &config.outlet_power, "power_unit", config.power_unit, &mut table.power),
        ("outlet_energy", &config.outlet_energy, "energy_unit", config.energy_unit, &mut table.energy),
    ];
    for (key, column, unit_key, unit, place) in columns {
        match (column, unit) {
            (None, None) => {}
            (None, Some(_)) => return wrong(format!("{unit_key}: {key} is missing")),
            (Some(_), Some(unit)) if !(unit.is_finite() && unit > 0.0) => {
                return wrong(format!("{unit_key}: {unit} is not above 0"));
            }
            (Some(text), unit) => {
                let column = oid(driver, key, text, system)?;
                *place = Some(Metered { column, unit: unit.unwrap_or(1.0) });
            }
        }
    }
    Ok(())
}

/// `{1: on, 2: off}`, or the other way round, `{on: 1, off: 2}`.
fn inverse_mapping(given: &BTreeMap<String, Value>) -> Result<BTreeMap<i64, PortState>, String> {
    let state = |word: &str| match word.to_lowercase().as_str() {
        "on" => Some(PortState::On),
        "off" => Some(PortState::Off),
        "reboot" => Some(PortState::Reboot),
        "unknown" => Some(PortState::Unknown),
        _ => None,
    };
    let mut mapping = BTreeMap::new();
    for (key, value) in given {
        let pair = match (key.parse::<i64>(), value) {
            (Ok(number), Value::String(word)) => state(word).map(|state| (number, state)),
            // To older YAML a bare `on` is true.
            (Ok(number), Value::Bool(on)) => Some((number, if *on { PortState::On } else { PortState::Off })),
            (Err(_), Value::Number(number)) => number.as_i64().zip(state(key)),
            _ => None,
        };
        let Some((number, state)) = pair else {
            return Err(format!(
                "{key}: {value} is not understood; write it like {{1: on, 2: off, 3: reboot}}"
            ));
        };
        if mapping.insert(number, state).is_some() {
            return Err(format!("{number} is named twice"));
        }
    }
    let has = |wanted| mapping.values().any(|state| *state == wanted);
    if has(PortState::On) && has(PortState::Off) {
        Ok(mapping)
    } else {
        Err("it must name an on and an off".to_owned())
    }
}

fn access(driver: &'static str, config: &Config) -> Result<Access, ConfigError> {
    let wrong = |what: String| ConfigError::Settings { driver, what };
    let address = address::with_port(driver, &config.hostname, PORT)?;
    let version = config.version.unwrap_or_default();
    let credentials = match version {
        Version::V1 | Version::V2c => {
            if let Some(key) = of_version_3(config) {
                return Err(wrong(format!(
                    "{key}: that is of `version: 3`; this PDU is asked with an older one"
                )));
            }
            let community = config.community.as_ref().map_or("private", Secret::expose).to_owned();
            if community.is_empty() {
                return Err(wrong("community: it is empty".to_owned()));
            }
            if version == Version::V1 { Credentials::V1(community) } else { Credentials::V2c(community) }
        }
        Version::V3 => version_3(config).map_err(wrong)?,
    };
    Access::new(address, &credentials).map_err(wrong)
}

fn of_version_3(config: &Config) -> Option<&'static str> {
    let given = [
        ("username", config.username.is_some()),
        ("security_level", config.security_level.is_some()),
        ("auth_protocol", config.auth_protocol.is_some()),
        ("auth_password", config.auth_password.is_some()),
        ("privacy_protocol", config.privacy_protocol.is_some()),
        ("privacy_password", config.privacy_password.is_some()),
        ("context", config.context.is_some()),
    ];
    given.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
}

fn version_3(config: &Config) -> Result<Credentials, String> {
    let Some(username) = config.username.clone().filter(|name| (1..=32).contains(&name.len())) else {
        return Err("username: version 3 needs one, of 1 to 32 bytes".to_owned());
    };
    let key = |name: &str, password: &Option<Secret>| match password.as_ref().map(Secret::expose) {
        None => Ok(None),
        // RFC 3414, section 11.2.
        Some(password) if password.len() < 8 => Err(format!("{name}: version 3 wants 8 characters or more")),
        Some(password) => Ok(Some(password.to_owned())),
    };
    let auth = match (config.auth_protocol, key("auth_password", &config.auth_password)?) {
        (Some(protocol), Some(password)) => Some((protocol, password)),
        (None, None) => None,
        (Some(_), None) => return Err("auth_password: it is missing beside auth_protocol".to_owned()),
        (None, Some(_)) => {
            return Err("auth_protocol: it is missing beside auth_password (MD5, SHA, ...)".to_owned());
        }
    };
    let privacy = match (config.privacy_protocol, key("privacy_password", &config.privacy_password)?) {
        (Some(protocol), Some(password)) => Some((protocol, password)),
        (None, None) => None,
        (Some(_), None) => return Err("privacy_password: it is missing beside privacy_protocol".to_owned()),
        (None, Some(_)) => {
            return Err("privacy_protocol: it is missing beside privacy_password (DES, AES, ...)".to_owned());
        }
    };
    let level = match (&auth, &privacy) {
        (None, None) => Level::Open,
        (Some(_), None) => Level::Signed,
        (Some(_), Some(_)) => Level::Encrypted,
        (None, Some(_)) => return Err("auth_protocol: privacy needs authentication too".to_owned()),
    };
    if let Some(wanted) = config.security_level.filter(|wanted| *wanted != level) {
        return Err(format!("security_level: {wanted} is wanted, but the passwords given make it {level}"));
    }
    Ok(Credentials::V3 { username, auth, privacy, context: config.context.clone().unwrap_or_default() })
}

#[cfg(test)]
mod tests;
