//! Network boot as a whole: opens the sockets, owns the servers' tasks, ends them together.

use std::{net::Ipv4Addr, ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    BootDirectory, BootsError,
    dhcp::{self, Dhcp, DhcpSettings, LeaseTable, Leases},
    ra::Advertiser,
    socket,
    tftp::server::{self as tftp, TftpSettings},
};

/// The largest pool: it bounds the memory that strangers can make the server use.
const MAX_POOL: u32 = 65536;

/// What network boot serves and where.
#[derive(Debug, Clone)]
pub struct BootsConfig {
    /// The interface that the clients are on. Nothing is heard or sent on another.
    pub interface: String,
    /// The gateway's address on it.
    pub address: Ipv4Addr,
    /// Bits of the network part of that address.
    pub prefix_len: u8,
    /// Addresses for clients without a reservation; within the network, at most 65536.
    pub pool: RangeInclusive<Ipv4Addr>,
    /// The folder of boot loaders, for TFTP; Debian's package `ipxe` fills `/usr/lib/ipxe`.
    pub tftp_root: PathBuf,
    /// Where [`crate::http::router`] is reached by clients: `http://10.42.0.1`.
    pub base_url: String,
    /// How long an address is given for; at least a minute.
    pub lease_time: Duration,
    /// Serve DHCP.
    pub dhcp: bool,
    /// Serve TFTP.
    pub tftp: bool,
    /// Send IPv6 router advertisements.
    pub router_advertisements: bool,
}

/// The running servers. Dropping it ends them at once.
#[derive(Debug)]
pub struct Boots {
    /// Who has which address.
    pub leases: Leases,
    tasks: JoinSet<&'static str>,
}

impl Boots {
    /// Opens the sockets and starts the servers; they end when `shutdown` is cancelled.
    ///
    /// # Errors
    /// The configuration contradicts itself, or a socket cannot be opened (privileges, a port in use, no such
    /// interface).
    pub async fn start(
        config: BootsConfig,
        directory: Arc<dyn BootDirectory>,
        shutdown: CancellationToken,
    ) -> Result<Self, BootsError> {
        check(&config)?;
        let leases = Leases::new(LeaseTable::new(config.pool.clone(), config.address));
        let mut tasks = JoinSet::new();
        let socket = |server, address, port| {
            socket::udp_on(Some(&config.interface), address, port, server == "DHCP").map_err(
                |(step, source)| BootsError::Socket {
                    server,
                    interface: config.interface.clone(),
                    address,
                    port,
                    step,
                    source,
                },
            )
        };
        if config.dhcp {
            // The wildcard: a socket bound to one address does not hear broadcasts.
            let socket = socket("DHCP", Ipv4Addr::UNSPECIFIED, 67)?;
            let dhcp = Dhcp::new(DhcpSettings {
                address: config.address,
                prefix_len: config.prefix_len,
                lease_time: config.lease_time,
                base_url: config.base_url.trim_end_matches('/').to_owned(),
            });
            let (leases, directory, shutdown) = (leases.clone(), Arc::clone(&directory), shutdown.clone());
            tasks.spawn(async move {
                dhcp::server::serve(socket, dhcp, leases, directory, shutdown).await;
                "DHCP"
            });
        }
        if config.tftp {
            let socket = socket("TFTP", config.address, 69)?;
            let settings = TftpSettings {
                interface: Some(config.interface.clone()),
                address: config.address,
                root: config.tftp_root.clone(),
                largest_block: tftp::largest_block(&config.interface),
            };
            let (leases, shutdown) = (leases.clone(), shutdown.clone());
            tasks.spawn(async move {
                tftp::serve(socket, settings, leases, directory, shutdown).await;
                "TFTP"
            });
        }
        if config.router_advertisements {
            let advertiser = Advertiser::open(&config.interface)?;
            tasks.spawn(async move {
                advertiser.run(shutdown).await;
                "router advertisements"
            });
        }
        tracing::info!(interface = config.interface, address = %config.address, dhcp = config.dhcp,
            tftp = config.tftp, router_advertisements = config.router_advertisements, "network boot serves");
        Ok(Self { leases, tasks })
    }

    /// Waits until every server has ended. Call it as soon as the handle is needed no more, in a task of its own: it
    /// also reports at once a server that ended by a panic. (Keep a clone of [`Boots::leases`].)
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(server) => tracing::debug!(server, "stopped"),
                Err(error) => tracing::error!(%error, "a network boot server ended by a panic"),
            }
        }
    }
}

fn check(config: &BootsConfig) -> Result<(), BootsError> {
    let wrong = |problem: String| Err(BootsError::Config { problem });
    if !(8..=30).contains(&config.prefix_len) {
        return wrong(format!("a network of /{} cannot serve clients; use /8 to /30", config.prefix_len));
    }
    let mask = u32::MAX << (32 - config.prefix_len);
    let network = u32::from(config.address) & mask;
    let (first, last) = (u32::from(*config.pool.start()), u32::from(*config.pool.end()));
    let shown = format!("{}-{}", config.pool.start(), config.pool.end());
    if first > last {
        return wrong(format!("the address pool {shown} is empty; write the lower address first"));
    }
    if first <= network || last >= network | !mask {
        let (low, high) = (Ipv4Addr::from(network + 1), Ipv4Addr::from((network | !mask) - 1));
        return wrong(format!(
            "the address pool {shown} leaves the network; it must lie within {low}-{high}"
        ));
    }
    if last - first >= MAX_POOL {
        return wrong(format!("the address pool {shown} is too large; use at most {MAX_POOL} addresses"));
    }
    if config.lease_time < Duration::from_secs(60) {
        return wrong("the lease time is under a minute; clients would do little but renew".to_owned());
    }
    let url = config.base_url.as_str();
    let plain =
        url.starts_with("http://") && url.bytes().all(|b| b.is_ascii_graphic()) && !url.contains("${");
    // 200: boot file names of DHCP end at 255 bytes.
    if !plain || url.len() > 200 {
        return wrong(format!(
            "{url:?} is no URL that firmware can fetch from; write http:// and an address"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> BootsConfig {
        BootsConfig {
            interface: "private".to_owned(),
            address: Ipv4Addr::new(10, 42, 0, 1),
            prefix_len: 24,
            pool: Ipv4Addr::new(10, 42, 0, 100)..=Ipv4Addr::new(10, 42, 0, 199),
            tftp_root: PathBuf::from("/usr/lib/ipxe"),
            base_url: "http://10.42.0.1".to_owned(),
            lease_time: Duration::from_secs(3600),
            dhcp: true,
            tftp: true,
            router_advertisements: true,
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_what_to_write() {
        assert!(check(&config()).is_ok());
        let address = |last| Ipv4Addr::new(10, 42, 0, last);
        let refused = |change: &dyn Fn(&mut BootsConfig), expected: &str| {
            let mut config = config();
            change(&mut config);
            let error = check(&config).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused(&|c| c.pool = address(9)..=address(2), "lower address first");
        refused(&|c| c.pool = address(0)..=address(9), "within 10.42.0.1-10.42.0.254");
        refused(&|c| c.pool = address(9)..=address(255), "leaves the network");
        refused(&|c| c.prefix_len = 32, "/8 to /30");
        refused(
            &|c| (c.prefix_len, c.pool) = (8, Ipv4Addr::new(10, 0, 0, 1)..=Ipv4Addr::new(10, 2, 0, 0)),
            "too large",
        );
        refused(&|c| c.lease_time = Duration::from_secs(5), "under a minute");
        refused(&|c| c.base_url = "https://gateway".to_owned(), "write http://");
    }
}
