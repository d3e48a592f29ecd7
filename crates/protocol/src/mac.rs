//! Ethernet addresses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An Ethernet address (EUI-48). Shown in lower case with colons: `52:54:00:11:22:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// The text is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: write six pairs of hexadecimal digits, like 52:54:00:11:22:01")]
pub struct MacParseError(String);

impl MacAddress {
    /// From the first six bytes of a hardware address field.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk::<6>().map(|b| Self(*b))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddress {
    type Err = MacParseError;

    /// Accepts colons or dashes between the pairs, either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || MacParseError(text.to_owned());
        let mut bytes = [0; 6];
        let mut pairs = text.split([':', '-']);
        for byte in &mut bytes {
            let pair = pairs.next().ok_or_else(wrong)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        if pairs.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_and_both_cases_are_read_and_one_form_is_written() {
        for text in ["DE:AD:BE:EF:CA:FE", "de-ad-be-ef-ca-fe"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), "de:ad:be:ef:ca:fe");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "de:ad:be:ef:ca", "de:ad:be:ef:ca:fe:00", "de:ad:be:ef:ca:+e", "gg:ad:be:ef:ca:fe"] {
            assert!(text.parse::<MacAddress>().is_err(), "{text:?}");
        }
    }
}
