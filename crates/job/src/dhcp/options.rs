//! The options of DHCP by name: RFC 2132, and those of later RFCs that boot firmware asks for.

use std::net::Ipv4Addr;

use farmgate_protocol::spelling;
use serde::{Deserialize, Serialize};

/// How the value of an option is written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// One IPv4 address.
    Address,
    /// One or more.
    Addresses,
    /// Pairs of them: destination and router, or address and mask.
    AddressPairs,
    /// Text without an end mark.
    Text,
    /// A byte that is 0 or 1.
    Flag,
    /// An unsigned number of this many bytes (1, 2 or 4).
    Unsigned(u8),
    /// A signed number of four bytes.
    Signed,
    /// One or more unsigned numbers of two bytes.
    Words,
    /// Any bytes: a text stands for its UTF-8 bytes, a list for the bytes themselves.
    Bytes,
}

/// An option that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DhcpOption {
    /// Its number.
    pub code: u8,
    /// Its name here: that of the RFC in lower case.
    pub name: &'static str,
    /// How its value is written.
    pub kind: OptionKind,
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhcpValue {
    /// One or more IPv4 addresses, or pairs of them one after the other.
    Addresses(Vec<Ipv4Addr>),
    /// Text.
    Text(String),
    /// An unsigned number and its length in bytes.
    Unsigned(u32, u8),
    /// A signed number of four bytes.
    Signed(i32),
    /// Unsigned numbers of two bytes.
    Words(Vec<u16>),
    /// Bytes as they are.
    Bytes(Vec<u8>),
}

impl DhcpValue {
    /// The bytes that go into the option.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Addresses(all) => all.iter().flat_map(Ipv4Addr::octets).collect(),
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Unsigned(number, length) => {
                let bytes = number.to_be_bytes();
                bytes[bytes.len().saturating_sub((*length).into())..].to_vec()
            }
            Self::Signed(number) => number.to_be_bytes().to_vec(),
            Self::Words(all) => all.iter().flat_map(|word| word.to_be_bytes()).collect(),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl DhcpOption {
    /// By its name; case, `-` and `_` do not matter.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        let wanted = plain(name);
        let wanted =
            ALIASES.iter().find(|(alias, _)| *alias == wanted).map_or(wanted.as_str(), |(_, name)| name);
        OPTIONS.iter().find(|option| plain(option.name) == plain(wanted))
    }

    /// By its number.
    pub fn by_code(code: u8) -> Option<&'static Self> {
        OPTIONS.iter().find(|option| option.code == code)
    }

    /// All that have a name.
    pub fn all() -> &'static [Self] {
        OPTIONS
    }

    /// The names that are spelt almost like this one.
    pub(crate) fn nearest(name: &str) -> Vec<&'static str> {
        spelling::nearest(&name.replace('-', "_"), OPTIONS.iter().map(|option| option.name))
    }

    /// Whether the server alone writes this option, because the exchange itself stands on it.
    pub(crate) fn is_servers_own(code: u8) -> bool {
        matches!(code, 0 | 50 | 52..=55 | 57 | 61 | 82 | 255)
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Names that other servers give to options.
const ALIASES: [(&str, &str); 8] = [
    ("bootfile", "bootfile_name"),
    ("dns", "domain_name_servers"),
    ("dnsservers", "domain_name_servers"),
    ("filename", "bootfile_name"),
    ("gateway", "router"),
    ("routers", "router"),
    ("tftpserver", "tftp_server_name"),
    ("vendorclass", "vendor_class_identifier"),
];

const fn row(code: u8, name: &'static str, kind: OptionKind) -> DhcpOption {
    DhcpOption { code, name, kind }
}

use OptionKind::{Address, AddressPairs, Addresses, Bytes, Flag, Signed, Text, Unsigned, Words};

/// RFC 2132 unless said otherwise.
const OPTIONS: &[DhcpOption] = &[
    row(1, "subnet_mask", Address),
    row(2, "time_offset", Signed),
    row(3, "router", Addresses),
    row(4, "time_server", Addresses),
    row(5, "name_server", Addresses),
    row(6, "domain_name_servers", Addresses),
    row(7, "log_server", Addresses),
    row(8, "cookie_server", Addresses),
    row(9, "lpr_server", Addresses),
    row(10, "impress_server", Addresses),
    row(11, "resource_location_server", Addresses),
    row(12, "hostname", Text),
    row(13, "boot_file_size", Unsigned(2)),
    row(14, "merit_dump_file", Text),
    row(15, "domain_name", Text),
    row(16, "swap_server", Address),
    row(17, "root_path", Text),
    row(18, "extensions_path", Text),
    row(19, "ip_forwarding", Flag),
    row(20, "non_local_source_routing", Flag),
    row(21, "policy_filter", AddressPairs),
    row(22, "maximum_datagram_reassembly_size", Unsigned(2)),
    row(23, "default_ip_ttl", Unsigned(1)),
    row(24, "path_mtu_aging_timeout", Unsigned(4)),
    row(25, "path_mtu_plateau_table", Words),
    row(26, "interface_mtu", Unsigned(2)),
    row(27, "all_subnets_are_local", Flag),
    row(28, "broadcast_address", Address),
    row(29, "perform_mask_discovery", Flag),
    row(30, "mask_supplier", Flag),
    row(31, "perform_router_discovery", Flag),
    row(32, "router_solicitation_address", Address),
    row(33, "static_route", AddressPairs),
    row(34, "trailer_encapsulation", Flag),
    row(35, "arp_cache_timeout", Unsigned(4)),
    row(36, "ethernet_encapsulation", Flag),
    row(37, "tcp_default_ttl", Unsigned(1)),
    row(38, "tcp_keepalive_interval", Unsigned(4)),
    row(39, "tcp_keepalive_garbage", Flag),
    row(40, "nis_domain", Text),
    row(41, "nis_servers", Addresses),
    row(42, "ntp_servers", Addresses),
    row(43, "vendor_specific_information", Bytes),
    row(44, "netbios_name_server", Addresses),
    row(45, "netbios_datagram_distribution_server", Addresses),
    row(46, "netbios_node_type", Unsigned(1)),
    row(47, "netbios_scope", Text),
    row(48, "x_window_font_server", Addresses),
    row(49, "x_window_display_manager", Addresses),
    row(50, "requested_ip_address", Address),
    row(51, "ip_address_lease_time", Unsigned(4)),
    row(52, "option_overload", Unsigned(1)),
    row(53, "dhcp_message_type", Unsigned(1)),
    row(54, "server_identifier", Address),
    row(55, "parameter_request_list", Bytes),
    row(56, "message", Text),
    row(57, "maximum_dhcp_message_size", Unsigned(2)),
    row(58, "renewal_time", Unsigned(4)),
    row(59, "rebinding_time", Unsigned(4)),
    row(60, "vendor_class_identifier", Text),
    row(61, "client_identifier", Bytes),
    row(64, "nis_plus_domain", Text),
    row(65, "nis_plus_servers", Addresses),
    row(66, "tftp_server_name", Text),
    row(67, "bootfile_name", Text),
    row(68, "mobile_ip_home_agent", Addresses),
    row(69, "smtp_server", Addresses),
    row(70, "pop3_server", Addresses),
    row(71, "nntp_server", Addresses),
    row(72, "www_server", Addresses),
    row(73, "finger_server", Addresses),
    row(74, "irc_server", Addresses),
    row(75, "streettalk_server", Addresses),
    row(76, "streettalk_directory_assistance_server", Addresses),
    // RFC 4833.
    row(100, "posix_timezone", Text),
    row(101, "tzdb_timezone", Text),
    // RFC 3397 and 3442: compressed names and routes of their own form.
    row(119, "domain_search", Bytes),
    row(121, "classless_static_route", Bytes),
    // RFC 5859.
    row(150, "tftp_server_address", Addresses),
    // RFC 5071, as PXELINUX reads them.
    row(209, "pxelinux_configuration_file", Text),
    row(210, "pxelinux_path_prefix", Text),
    row(211, "pxelinux_reboot_time", Unsigned(4)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_stands_once_and_is_found_by_name_and_number() {
        for (n, option) in OPTIONS.iter().enumerate() {
            assert_eq!(DhcpOption::by_name(option.name), Some(option));
            assert_eq!(DhcpOption::by_code(option.code), Some(option));
            assert!(OPTIONS[..n].iter().all(|earlier| earlier.code < option.code), "{}", option.name);
        }
        for (alias, name) in ALIASES {
            assert_eq!(DhcpOption::by_name(alias).map(|o| o.name), Some(name));
        }
        assert_eq!(DhcpOption::by_name("Host-Name").map(|o| o.code), Some(12));
        assert_eq!(DhcpOption::by_name("nonsense"), None);
        assert_eq!(DhcpOption::nearest("ntp-servrs"), ["ntp_servers"]);
    }

    #[test]
    fn values_are_written_as_the_rfc_says() {
        for (value, bytes) in [
            (
                DhcpValue::Addresses(vec![[10, 42, 0, 1].into(), [10, 0, 0, 2].into()]),
                vec![10, 42, 0, 1, 10, 0, 0, 2],
            ),
            (DhcpValue::Text("lab".into()), b"lab".to_vec()),
            (DhcpValue::Unsigned(1, 1), vec![1]),
            (DhcpValue::Unsigned(1500, 2), vec![5, 220]),
            (DhcpValue::Unsigned(3600, 4), vec![0, 0, 14, 16]),
            (DhcpValue::Signed(-3600), vec![255, 255, 241, 240]),
            (DhcpValue::Words(vec![68, 1500]), vec![0, 68, 5, 220]),
            (DhcpValue::Bytes(vec![6, 1, 3]), vec![6, 1, 3]),
        ] {
            assert_eq!(value.encode(), bytes, "{value:?}");
        }
    }
}
