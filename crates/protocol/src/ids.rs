//! Names of things: a DUT's id and the id of a PDU's port.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Why a text cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {text:?} is not usable: it must have 1 to 128 characters, none of them a slash, a quote, a blank or a control character"
)]
pub struct IdError {
    what: &'static str,
    text: String,
}

fn checked(what: &'static str, text: &str) -> Result<String, IdError> {
    // The id becomes a path segment of URLs and a directory of console logs.
    let fine = !text.is_empty()
        && text.len() <= 128
        && text != "."
        && text != ".."
        && text.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"/\\\"'`?#%".contains(c));
    if fine { Ok(text.to_owned()) } else { Err(IdError { what, text: text.to_owned() }) }
}

/// The id of a DUT: the key of `duts` in the farm file. By default its MAC address in lower case with colons.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DutId(String);

impl DutId {
    /// Checks that the text can be an id: it names a folder and a URL segment.
    pub fn new(text: &str) -> Result<Self, IdError> {
        checked("DUT id", text).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<crate::MacAddress> for DutId {
    fn from(mac: crate::MacAddress) -> Self {
        Self(mac.to_string())
    }
}

impl<'de> Deserialize<'de> for DutId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// The id of a switched outlet of a PDU. Ids are texts; a person may write a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PortId(String);

impl PortId {
    /// Any text that can stand in a URL.
    pub fn new(text: &str) -> Result<Self, IdError> {
        checked("port id", text).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<u32> for PortId {
    fn from(number: u32) -> Self {
        Self(number.to_string())
    }
}

impl<'de> Deserialize<'de> for PortId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = PortId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port id: a text or a number")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<PortId, E> {
                PortId::new(v).map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<PortId, E> {
                Ok(PortId(v.to_string()))
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<PortId, E> {
                Ok(PortId(v.to_string()))
            }
        }
        d.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_leave_its_folder_is_refused() {
        for bad in ["", "..", ".", "a/b", "a\\b", "a b", "a\n", "a?b", "a\"b"] {
            assert!(DutId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["52:54:00:11:22:01", "gfx9-navi10", "rpi4.1"] {
            assert!(DutId::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_port_id_may_be_written_as_a_number() {
        let id: PortId = serde_json::from_str("3").unwrap();
        assert_eq!(id, PortId::new("3").unwrap());
        let id: PortId = serde_json::from_str("\"3\"").unwrap();
        assert_eq!(id.as_str(), "3");
    }
}
