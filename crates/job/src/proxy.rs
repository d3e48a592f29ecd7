//! What a job may reach through the gateway's proxy.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The job's proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// What it connects to, beside what the farm allows to all jobs.
    pub allowed_endpoints: Vec<Endpoint>,
}

/// A host (a name, an IPv4 address, or an IPv6 address without its brackets) and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// The host.
    pub host: String,
    /// The port; never 0.
    pub port: u16,
}

/// The text is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError(String);

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no endpoint: write host:port, an IPv6 address in brackets", self.0)
    }
}

impl std::error::Error for EndpointError {}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse::<u16>().ok())??;
            let host = match host.strip_prefix('[') {
                Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<Ipv6Addr>().is_ok())?,
                None => host,
            };
            let fine = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            let named = !host.is_empty() && host.len() <= 253 && host.chars().all(fine);
            let fits = port > 0 && (named || host.parse::<Ipv6Addr>().is_ok() && text.starts_with('['));
            fits.then(|| Self { host: host.to_owned(), port })
        };
        parse().ok_or_else(|| EndpointError(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_shown_alike() {
        for text in ["host:123", "f.q.d.n:1", "127.0.0.1:65535", "[::1]:123", "my-host_2:80"] {
            assert_eq!(text.parse::<Endpoint>().map(|e| e.to_string()).as_deref(), Ok(text));
        }
        for text in [
            "host",
            "host:port",
            "host:-1",
            "host:+1",
            "host:0",
            "host:100000",
            "[::1]",
            "::1",
            "::1]:1",
            "[::1:1",
            ":1",
            "a b:1",
            "http://h:1",
            "::1:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
