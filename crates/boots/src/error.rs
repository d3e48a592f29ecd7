//! What can keep network boot from starting.

use std::{io, net::Ipv4Addr};

/// Network boot could not start. Once it runs, no error of a client or of the network ends it.
#[derive(Debug, thiserror::Error)]
pub enum BootsError {
    /// The settings contradict each other.
    #[error("network boot: {problem}")]
    Config {
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// A server's socket could not be opened.
    #[error("{server} on {interface} ({address}, port {port}): {step} failed; {}", remedy(source))]
    Socket {
        /// `DHCP` or `TFTP`.
        server: &'static str,
        /// The interface it serves.
        interface: String,
        /// The gateway's address on that interface.
        address: Ipv4Addr,
        /// The UDP port.
        port: u16,
        /// The system call that failed, in words.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The socket for router advertisements could not be opened.
    #[error("router advertisements on {interface}: {step} failed; {}", remedy(source))]
    RouterAdvertisement {
        /// The interface.
        interface: String,
        /// The system call that failed, in words.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run as root, or grant the program CAP_NET_BIND_SERVICE, CAP_NET_RAW and CAP_NET_ADMIN"
        }
        io::ErrorKind::AddrInUse => {
            "another server has the port: stop it (`ss -lunp` shows which it is), or switch this one off in the settings"
        }
        io::ErrorKind::AddrNotAvailable => "give the interface that address first",
        io::ErrorKind::NotFound => "create the interface first, or correct its name in the settings",
        _ if error.raw_os_error() == Some(ENODEV) => {
            "create the interface first, or correct its name in the settings"
        }
        _ => "see the cause",
    }
}

/// `ENODEV` of Linux: the interface does not exist.
const ENODEV: i32 = 19;
