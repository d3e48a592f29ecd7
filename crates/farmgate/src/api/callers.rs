//! Who may call what. A machine on the private network may boot what is meant for it and register itself, nothing
//! else; the gateway's own host and the networks that the settings trust may do everything; others nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request, State as Extract, connect_info::Connected},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use farmgate_executor::Caller;
use farmgate_protocol::MacAddress;
use tokio::net::TcpListener;

use super::{State, error::ApiError};
use crate::settings::Settings;

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peers {
    /// The caller.
    pub remote: SocketAddr,
    /// Which of our addresses it called.
    pub local: Option<SocketAddr>,
}

impl Connected<IncomingStream<'_, TcpListener>> for Peers {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self { remote: *stream.remote_addr(), local: stream.io().local_addr().ok() }
    }
}

/// Who asks, for the history: a token's name, or where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// `local`, an address, or a name.
    pub name: String,
}

/// What decides.
#[derive(Clone)]
pub struct Rules {
    network: (IpAddr, u8),
    trusted: Vec<(IpAddr, u8)>,
    state: State,
}

impl Rules {
    /// From the settings.
    pub fn new(settings: &Settings, state: State) -> Self {
        let network = (IpAddr::V4(settings.private_address), settings.private_prefix);
        Self { network, trusted: settings.trusted.clone(), state }
    }

    fn caller(&self, peers: Peers) -> Result<Caller, ApiError> {
        let remote = peers.remote.ip().to_canonical();
        // A host that calls one of its own addresses calls from that address.
        if remote.is_loopback() || Some(remote) == peers.local.map(|l| l.ip().to_canonical()) {
            return Ok(Caller::Operator);
        }
        if let IpAddr::V4(address) = remote
            && within(remote, self.network)
        {
            return Ok(Caller::Dut { mac: self.mac_at(address), address });
        }
        if self.trusted.iter().any(|network| within(remote, *network)) {
            return Ok(Caller::Operator);
        }
        let text = format!(
            "{remote} may not use this API: its network is not among TRUSTED_NETWORKS of the gateway"
        );
        Err(ApiError::new(StatusCode::FORBIDDEN, text))
    }

    /// Whose address that is: by its lease, by the farm file, or, for a lease that a gateway before this one gave, by
    /// the kernel's neighbour table. None too if another machine took the address: it must not speak for this one.
    fn mac_at(&self, address: Ipv4Addr) -> Option<MacAddress> {
        let leased = self.state.leases.as_ref().and_then(|leases| leases.mac_at(address));
        let meant = leased.or_else(|| self.state.boot_table.mac_at(address));
        let table = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
        let seen = neighbour(&table, address);
        if let (Some(meant), Some(seen)) = (meant, seen)
            && meant != seen
        {
            tracing::warn!(%address, %meant, %seen, "a machine uses the address of another");
            return None;
        }
        meant.or(seen)
    }
}

/// Whose address it is by the kernel's neighbour table. An entry without an answer is all zeros.
fn neighbour(table: &str, address: Ipv4Addr) -> Option<MacAddress> {
    let wanted = address.to_string();
    let mac = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some(&wanted)).then(|| words.nth(2)?.parse().ok()).flatten()
    };
    table.lines().find_map(mac).filter(|mac: &MacAddress| mac.0 != [0; 6])
}

/// Whether an address is in a network.
fn within(address: IpAddr, (network, length): (IpAddr, u8)) -> bool {
    let (a, n, bits) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(u32::from(a)), u128::from(u32::from(n)), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (u128::from(a), u128::from(n), 128),
        _ => return false,
    };
    let shift = bits - u32::from(length).min(bits);
    a.checked_shr(shift).unwrap_or(0) == n.checked_shr(shift).unwrap_or(0)
}

/// What a machine may do: fetch its own boot files and the firmware's iPXE, and register itself.
fn machine_may(method: &Method, path: &str, mac: Option<MacAddress>) -> bool {
    if let Some(rest) = path.strip_prefix("/boot/") {
        let whose = rest.split('/').next().unwrap_or("");
        // iPXE writes the colons of an address as %3A.
        let own = mac.is_some() && whose.replace("%3A", ":").replace("%3a", ":").parse().ok() == mac;
        return (method == Method::GET || method == Method::HEAD) && (whose == "ipxe" || own);
    }
    let registers = path == "/api/v1/dut" || path == "/api/v1/machine";
    registers && (method == Method::POST || method == Method::PUT)
}

/// The middleware.
pub async fn allow(
    Extract(rules): Extract<Rules>,
    ConnectInfo(peers): ConnectInfo<Peers>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match rules.caller(peers) {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    if let Caller::Dut { mac, address } = caller
        && !machine_may(request.method(), request.uri().path(), mac)
    {
        let (method, path) = (request.method(), request.uri().path());
        tracing::warn!(%address, %method, path, "a machine asked for what it may not");
        let text = format!("a machine on the private network may not {method} {path}");
        return ApiError::new(StatusCode::FORBIDDEN, text).into_response();
    }
    let remote = peers.remote.ip().to_canonical();
    let name = if remote.is_loopback() { "local".to_owned() } else { remote.to_string() };
    request.extensions_mut().insert(Who { name });
    request.extensions_mut().insert(caller);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let net = |text: &str, length| (text.parse().unwrap(), length);
        assert!(within("10.42.0.77".parse().unwrap(), net("10.42.0.1", 24)));
        assert!(!within("10.42.1.77".parse().unwrap(), net("10.42.0.1", 24)));
        assert!(within("1.2.3.4".parse().unwrap(), net("0.0.0.0", 0)));
        assert!(within("fd00::5".parse().unwrap(), net("fd00::", 64)));
        assert!(!within("fd00::5".parse().unwrap(), net("10.0.0.0", 8)));
        assert!(!within("fd01::5".parse().unwrap(), net("fd00::", 128)));
    }

    #[test]
    fn the_neighbour_table_tells_who_uses_an_address() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.42.0.2        0x1         0x2         52:54:00:11:22:02     *        private\n\
                     10.42.0.20       0x1         0x2         52:54:00:11:22:20     *        private\n\
                     10.42.0.3        0x1         0x0         00:00:00:00:00:00     *        private\n";
        let at = |text: &str| neighbour(table, text.parse().unwrap()).map(|mac| mac.to_string());
        assert_eq!(at("10.42.0.2").as_deref(), Some("52:54:00:11:22:02"));
        assert_eq!(at("10.42.0.20").as_deref(), Some("52:54:00:11:22:20"));
        assert_eq!(at("10.42.0.3"), None);
        assert_eq!(at("10.42.0.4"), None);
    }

    #[test]
    fn a_machine_boots_its_own_and_registers_and_nothing_else() {
        let mac: MacAddress = "52:54:00:11:22:01".parse().unwrap();
        let may = |method: Method, path: &str| machine_may(&method, path, Some(mac));
        assert!(may(Method::GET, "/boot/52:54:00:11:22:01/boot.ipxe"));
        assert!(may(Method::GET, "/boot/52%3A54%3A00%3A11%3A22%3A01/kernel"));
        assert!(may(Method::HEAD, "/boot/ipxe/snponly.efi"));
        assert!(may(Method::POST, "/api/v1/dut"));
        assert!(!may(Method::GET, "/boot/52:54:00:11:22:02/boot.ipxe"));
        assert!(!may(Method::POST, "/api/v1/jobs"));
        assert!(!may(Method::GET, "/api/v1/duts"));
        assert!(!may(Method::DELETE, "/api/v1/dut"));
        assert!(!machine_may(&Method::GET, "/boot/52:54:00:11:22:01/boot.ipxe", None));
    }
}
