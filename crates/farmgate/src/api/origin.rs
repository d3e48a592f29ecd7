//! Where a connection comes from. The incoming interface decides, not the address that the sender claims: a machine
//! behind the private interface stays a machine whatever it calls itself. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// By which of our listeners a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The one that hears the private interface alone.
    Private,
    /// The one that hears the rest. Where there is no private interface, all.
    Rest,
}

/// Both ends of a connection, and its way in.
#[derive(Debug, Clone, Copy)]
pub struct Peers {
    /// The caller.
    pub remote: SocketAddr,
    /// Which of our addresses it called.
    pub local: SocketAddr,
    /// Its way in.
    pub via: Via,
}

/// Who that is, as far as the way in tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A machine under test, at that address (unspecified: it has none of IPv4).
    Machine(Ipv4Addr),
    /// The gateway's own host.
    Local,
    /// A network that the settings trust.
    Trusted,
    /// Anybody.
    Stranger,
}

/// An address and the length of its network's prefix.
pub type Network = (IpAddr, u8);

/// The networks that matter.
#[derive(Debug, Clone)]
pub struct Networks {
    /// Of the machines.
    pub private: Network,
    /// Those that the settings trust.
    pub trusted: Vec<Network>,
}

impl Networks {
    /// Tells who is at the other end.
    pub fn origin(&self, peers: Peers) -> Origin {
        let remote = peers.remote.ip().to_canonical();
        // A host that calls one of its own addresses calls from that address, and the kernel counts that to the
        // interface that has it. From outside it cannot come: the kernel drops packets that claim to be from us, and
        // the answers to them would stay here.
        if remote.is_loopback() || remote == peers.local.ip().to_canonical() {
            return Origin::Local;
        }
        let address = match remote {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        // Such an address elsewhere has no more rights than at its place.
        if peers.via == Via::Private || within(remote, self.private) {
            return Origin::Machine(address);
        }
        if self.trusted.iter().any(|network| within(remote, *network)) {
            return Origin::Trusted;
        }
        Origin::Stranger
    }
}

/// Whether an address is in a network.
fn within(address: IpAddr, (network, length): Network) -> bool {
    let (a, n, bits) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(u32::from(a)), u128::from(u32::from(n)), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (u128::from(a), u128::from(n), 128),
        _ => return false,
    };
    let shift = bits - u32::from(length).min(bits);
    a.checked_shr(shift).unwrap_or(0) == n.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str, length: u8) -> Network {
        (text.parse().unwrap(), length)
    }

    #[test]
    fn networks_contain_their_addresses() {
        assert!(within("10.42.0.77".parse().unwrap(), net("10.42.0.1", 24)));
        assert!(!within("10.42.1.77".parse().unwrap(), net("10.42.0.1", 24)));
        assert!(within("1.2.3.4".parse().unwrap(), net("0.0.0.0", 0)));
        assert!(within("fd00::5".parse().unwrap(), net("fd00::", 64)));
        assert!(!within("fd00::5".parse().unwrap(), net("10.0.0.0", 8)));
        assert!(!within("fd01::5".parse().unwrap(), net("fd00::", 128)));
    }

    #[test]
    fn the_way_in_decides_and_not_the_address() {
        let networks = Networks {
            private: net("10.42.0.1", 24),
            trusted: vec![net("10.8.0.0", 24), net("10.0.0.0", 8), net("fd00::", 64)],
        };
        let of = |via, remote: &str, local: &str| {
            let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 1);
            networks.origin(Peers { remote: at(remote), local: at(local), via })
        };
        let machine = |text: &str| Origin::Machine(text.parse().unwrap());
        for (via, remote, local, origin) in [
            (Via::Private, "10.42.0.99", "10.42.0.1", machine("10.42.0.99")),
            (Via::Private, "10.8.0.2", "10.42.0.1", machine("10.8.0.2")),
            (Via::Private, "203.0.113.9", "198.51.100.1", machine("203.0.113.9")),
            (Via::Private, "fe80::1", "fe80::2", machine("0.0.0.0")),
            (Via::Private, "fd00::7", "fe80::2", machine("0.0.0.0")),
            // The host's own processes, and containers on its network.
            (Via::Private, "10.42.0.1", "10.42.0.1", Origin::Local),
            (Via::Rest, "127.0.0.1", "127.0.0.1", Origin::Local),
            (Via::Rest, "::1", "::1", Origin::Local),
            (Via::Rest, "::ffff:127.0.0.1", "::ffff:127.0.0.1", Origin::Local),
            (Via::Rest, "198.51.100.1", "198.51.100.1", Origin::Local),
            // A machine's address on another interface is worth no more, though its network be within a trusted one.
            (Via::Rest, "10.42.0.99", "198.51.100.1", machine("10.42.0.99")),
            (Via::Rest, "10.8.0.2", "198.51.100.1", Origin::Trusted),
            (Via::Rest, "::ffff:10.8.0.2", "::ffff:198.51.100.1", Origin::Trusted),
            (Via::Rest, "fd00::7", "fd00::1", Origin::Trusted),
            (Via::Rest, "203.0.113.9", "198.51.100.1", Origin::Stranger),
            (Via::Rest, "2001:db8::1", "2001:db8::2", Origin::Stranger),
        ] {
            assert_eq!(of(via, remote, local), origin, "{via:?} {remote} -> {local}");
        }
    }
}
