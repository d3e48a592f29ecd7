//! The number of an outlet and everything that follows from it.
//!
//! People count outlets from 1 (`--outlet 1`), the wire counts from 0, and the gateway calls the port `"1"`. This
//! module owns the arithmetic between them, so that no other line of the virtual farm adds or takes one.

use std::{fmt, num::NonZeroU8, str::FromStr};

use farmgate_protocol::{MacAddress, PortId};

/// An outlet of the virtual PDU: 1 to 255, as a person counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outlet(NonZeroU8);

/// The number is no outlet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no outlet: outlets are counted from 1 to 255")]
pub struct NoSuchOutlet(String);

impl Outlet {
    /// From the number a person uses.
    pub const fn new(number: u8) -> Option<Self> {
        match NonZeroU8::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// From the port of the wire protocol, counted from 0.
    pub fn from_wire(index: u16) -> Option<Self> {
        index.checked_add(1).and_then(|number| u8::try_from(number).ok()).and_then(Self::new)
    }

    /// All outlets of a PDU with that many ports, in order.
    pub fn first(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).filter_map(Self::new)
    }

    /// The number a person uses, from 1.
    pub const fn number(self) -> u8 {
        self.0.get()
    }

    /// The port of the wire protocol, from 0.
    pub const fn wire_index(self) -> u16 {
        self.0.get() as u16 - 1
    }

    /// The port's id in the farm file and in the gateway's API.
    pub fn port_id(self) -> PortId {
        PortId::from(u32::from(self.number()))
    }

    /// The Ethernet address of the machine behind the outlet: its last byte is the outlet's number.
    pub const fn mac(self) -> MacAddress {
        MacAddress([0x52, 0x54, 0x00, 0x11, 0x22, self.0.get()])
    }

    /// The outlet's folder below the state directory.
    pub fn folder(self) -> String {
        format!("outlet-{}", self.number())
    }
}

impl fmt::Display for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outlet {} (port_id \"{}\", MAC {})", self.number(), self.port_id(), self.mac())
    }
}

impl FromStr for Outlet {
    type Err = NoSuchOutlet;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| NoSuchOutlet(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_countings_name_the_same_machine() {
        let third = Outlet::new(3).unwrap();
        assert_eq!(third.to_string(), r#"outlet 3 (port_id "3", MAC 52:54:00:11:22:03)"#);
        assert_eq!(third.wire_index(), 2);
        assert_eq!(Outlet::from_wire(2), Some(third));
        assert_eq!(Outlet::new(255).unwrap().mac().to_string(), "52:54:00:11:22:ff");
    }

    #[test]
    fn there_is_no_outlet_zero_and_none_beyond_the_last_byte_of_the_address() {
        assert_eq!(Outlet::new(0), None);
        assert_eq!(Outlet::from_wire(255), None);
        assert_eq!(Outlet::from_wire(u16::MAX), None);
        for text in ["0", "256", "-1", "one", ""] {
            assert!(text.parse::<Outlet>().is_err(), "{text:?}");
        }
    }
}
