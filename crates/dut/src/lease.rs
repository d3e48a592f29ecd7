//! The address that DHCP gave, as our udhcpc script writes it down.
//!
//! Owns the format of the lease file (`key=value` lines, the names of udhcpc) and the gateway's default address
//! that follows from it. The script `images/dut/udhcpc.script` is the other end.

use std::net::Ipv4Addr;

/// An address on the farm's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Ours.
    pub address: Ipv4Addr,
    /// Length of the network's prefix, bits.
    pub prefix: u8,
    /// The first router.
    pub router: Option<Ipv4Addr>,
    /// Who gave the address.
    pub server: Option<Ipv4Addr>,
}

/// The file does not tell an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the DHCP answer has no usable address ({0:?}): look at the DHCP server's settings")]
pub struct LeaseError(String);

impl Lease {
    /// Reads the lease file.
    ///
    /// # Errors
    /// There is no address in it.
    pub fn parse(text: &str) -> Result<Self, LeaseError> {
        let value = |key: &str| {
            let of_key =
                |line: &str| line.trim().strip_prefix(key)?.strip_prefix('=').map(|v| v.trim().to_owned());
            text.lines().find_map(of_key).unwrap_or_default()
        };
        // udhcpc separates several routers by blanks; 0.0.0.0 stands for none.
        let address = |key: &str| -> Option<Ipv4Addr> {
            value(key).split_whitespace().next()?.parse().ok().filter(|a: &Ipv4Addr| !a.is_unspecified())
        };
        Ok(Self {
            address: address("ip").ok_or_else(|| LeaseError(value("ip").chars().take(60).collect()))?,
            prefix: value("mask").parse().ok().filter(|p| *p <= 32).unwrap_or(24),
            router: address("router"),
            server: address("serverid"),
        })
    }

    /// Where the gateway is if nobody says otherwise: it gives the addresses, or routes.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.server.or(self.router)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_whole_lease_is_read() {
        let lease =
            Lease::parse("ip=10.42.0.17\nmask=24\nrouter=10.42.0.1 10.42.0.2\nserverid=10.42.0.9\ndns=\n")
                .unwrap();
        assert_eq!(lease.address, Ipv4Addr::new(10, 42, 0, 17));
        assert_eq!((lease.prefix, lease.router), (24, Some(Ipv4Addr::new(10, 42, 0, 1))));
        assert_eq!(lease.gateway(), Some(Ipv4Addr::new(10, 42, 0, 9)));
    }

    #[test]
    fn without_a_server_the_router_is_the_gateway() {
        let lease = Lease::parse("serverid=\nrouter=10.0.2.2\nip=10.0.2.15\nmask=99").unwrap();
        assert_eq!((lease.gateway(), lease.prefix), (Some(Ipv4Addr::new(10, 0, 2, 2)), 24));
        assert_eq!(Lease::parse("ip=10.0.2.15").unwrap().gateway(), None);
    }

    #[test]
    fn no_address_is_an_error() {
        for text in ["", "ip=", "ip=0.0.0.0", "ip=example", "ipx=10.0.0.1", "zip=10.0.0.1"] {
            assert!(Lease::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = Lease::parse(&text);
        }
    }
}
