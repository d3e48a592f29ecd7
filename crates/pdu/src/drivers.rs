//! The table of drivers. A new driver is one file below this module and one line in [`drivers`].

mod address;
mod apc;
mod command;
mod cyberpower;
mod devantech;
mod dummy;
mod gude;
mod home_assistant;
mod http;
mod ipmi;
mod kernelchip;
mod netio;
mod poe;
mod program;
mod redfish;
mod round;
mod secret;
mod shelly;
mod snmp;
mod tasmota;
mod usbhub;
mod vpdu;
mod wire;

use farmgate_protocol::spelling;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Driver;

/// The settings of a PDU in the farm file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such driver.
    #[error("there is no PDU driver {name:?}; {hint}")]
    UnknownDriver {
        /// As written.
        name: String,
        /// The nearest names, or all.
        hint: String,
    },
    /// The driver does not understand its `config`.
    #[error("the config of PDU driver {driver} is wrong: {what}")]
    Settings {
        /// Name of the driver.
        driver: &'static str,
        /// What is wrong and what it should be.
        what: String,
    },
}

type Make = fn(&Value) -> Result<Box<dyn Driver>, ConfigError>;

/// How to make one kind of driver.
#[derive(Debug, Clone, Copy)]
pub struct Factory {
    /// What `driver:` says in the farm file.
    pub name: &'static str,
    /// One line for people: which devices, and the keys of `config`.
    pub help: &'static str,
    make: Make,
}

impl Factory {
    /// Makes a driver from the `config` of the farm file. Contacts nobody.
    ///
    /// # Errors
    /// [`ConfigError::Settings`]: a key is missing, unknown or of the wrong kind.
    pub fn make(&self, config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
        (self.make)(config)
    }

    /// Whether [`make`](Self::make) would succeed.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, config: &Value) -> Result<(), ConfigError> {
        self.make(config).map(drop)
    }
}

/// Every driver, sorted by name.
pub fn drivers() -> &'static [Factory] {
    const {
        &[
            apc::MASTERSWITCH,
            command::FACTORY,
            cyberpower::PDU15SWHVIEC12ATNET,
            cyberpower::PDU41004,
            devantech::FACTORY,
            dummy::FACTORY,
            gude::FACTORY,
            home_assistant::FACTORY,
            ipmi::FACTORY,
            kernelchip::FACTORY,
            netio::FACTORY,
            redfish::FACTORY,
            shelly::FACTORY,
            snmp::FACTORY,
            poe::STANDARD,
            poe::TP_LINK,
            tasmota::FACTORY,
            usbhub::FACTORY,
            vpdu::FACTORY,
        ]
    }
}

/// Makes a driver by name. Contacts nobody.
///
/// # Errors
/// The name is unknown (the error names the nearest ones), or the config is wrong.
pub fn make(driver: &str, config: &Value) -> Result<Box<dyn Driver>, ConfigError> {
    match drivers().iter().find(|factory| factory.name == driver) {
        Some(factory) => factory.make(config),
        None => Err(ConfigError::UnknownDriver { name: driver.to_owned(), hint: hint(driver) }),
    }
}

fn hint(name: &str) -> String {
    let near = spelling::nearest(name, drivers().iter().map(|f| f.name));
    if near.is_empty() {
        let all: Vec<_> = drivers().iter().map(|f| f.name).collect();
        format!("known are {}", all.join(", "))
    } else {
        format!("did you mean {}?", near.join(" or "))
    }
}

/// Reads the `config` of a driver into its own type. No config is an empty one.
fn settings<T: DeserializeOwned>(driver: &'static str, config: &Value) -> Result<T, ConfigError> {
    let config = if config.is_null() { Value::Object(serde_json::Map::new()) } else { config.clone() };
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = error.path().to_string();
        let text = error.into_inner().to_string();
        let what = match text.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
            Some((field, known)) => format!("{text}{}", meant(field, known)),
            None if path == "." => text,
            None => format!("{path}: {text}"),
        };
        ConfigError::Settings { driver, what }
    })
}

/// The setting that was probably meant, among several that stand between back quotes in `known`.
fn meant(field: &str, known: &str) -> String {
    let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    let near = spelling::nearest(field, known.iter().copied());
    if known.len() < 2 || near.is_empty() {
        String::new()
    } else {
        format!("; did you mean `{}`?", near.join("` or `"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_are_unique() {
        assert!(drivers().windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn an_unknown_driver_is_answered_with_the_nearest_name() {
        let error = make("VPDU", &Value::Null).err().unwrap();
        assert_eq!(error.to_string(), "there is no PDU driver \"VPDU\"; did you mean vpdu?");
        let error = make("toaster", &Value::Null).err().unwrap();
        let all: Vec<_> = drivers().iter().map(|factory| factory.name).collect();
        let known = format!("there is no PDU driver \"toaster\"; known are {}", all.join(", "));
        assert_eq!(error.to_string(), known);
    }

    #[test]
    fn a_misspelt_setting_is_named_with_what_is_expected() {
        let error = make("vpdu", &serde_json::json!({"hostnam": "x:1"})).err().unwrap().to_string();
        assert!(error.contains("hostnam") && error.contains("`hostname`"), "{error}");
        let error = make("shelly", &serde_json::json!({"hostname": "x", "pasword": 1})).err().unwrap();
        assert!(error.to_string().ends_with("; did you mean `password`?"), "{error}");
    }

    #[test]
    fn a_setting_of_the_wrong_kind_or_a_missing_one_is_named() {
        for (driver, config, expected) in [
            ("vpdu", serde_json::json!({"hostname": 7}), "hostname: invalid type: integer `7`"),
            ("vpdu", Value::Null, "missing field `hostname`"),
            ("shelly", serde_json::json!({"hostname": "a b"}), "hostname: \"a b\" is not HOST or HOST:PORT"),
            ("redfish", serde_json::json!({"hostname": "x", "username": "u"}), "missing field `password`"),
            ("usbhub", serde_json::json!({}), "either `serial`, or `controller` and `devices`"),
            (
                "usbhub",
                serde_json::json!({"controller": "/sys/x", "devices": [{"devpath": 1}]}),
                "devices[0].devpath: invalid type",
            ),
            (
                "home_assistant",
                serde_json::json!({"hostname": "x", "token": "t", "entities": ["x"]}),
                "x is not the id",
            ),
        ] {
            let error = make(driver, &config).err().unwrap().to_string();
            assert!(error.contains(driver) && error.contains(expected), "{error}");
        }
    }

    /// `docs/pdu-driver.md` walks through two drivers. A block with `...` in it is a sketch.
    #[test]
    fn the_manual_quotes_the_drivers_as_they_are() {
        let manual = include_str!("../../../docs/pdu-driver.md");
        let sources = concat!(include_str!("drivers/dummy.rs"), include_str!("drivers/gude.rs"));
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let sources = squeezed(sources);
        let blocks = manual.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next());
        let quotes: Vec<_> = blocks.filter(|block| !block.contains("...")).map(squeezed).collect();
        assert!(quotes.len() >= 2, "{}", quotes.len());
        for quote in quotes {
            assert!(sources.contains(&quote), "no driver says {quote}");
        }
    }
}
