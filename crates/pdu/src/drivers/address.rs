//! Where a PDU is: `HOST`, `HOST:PORT`, `V6` or `[V6]:PORT`, as a farm file writes it.
//!
//! Every driver that speaks over a network takes its `hostname` through here, so that a port may follow the host
//! in all of them.

use super::ConfigError;

/// The address to connect to, always with its port (a literal IPv6 address in brackets).
///
/// # Errors
/// [`ConfigError::Settings`] that names the setting, what was written, and an example.
pub(super) fn with_port(
    driver: &'static str,
    hostname: &str,
    default_port: u16,
) -> Result<String, ConfigError> {
    parse(hostname, default_port).ok_or_else(|| ConfigError::Settings {
        driver,
        what: format!("hostname: {hostname:?} is not HOST or HOST:PORT, like 10.0.0.2:{default_port}"),
    })
}

fn parse(hostname: &str, default_port: u16) -> Option<String> {
    let host_is_fine = |host: &str| {
        !host.is_empty()
            && host.len() <= 253
            && !host.chars().any(|c| c.is_whitespace() || c.is_control() || "/@?#\\".contains(c))
    };
    let v6 = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
    let in_brackets = |host: &str| host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).is_some_and(v6);
    if v6(hostname) {
        return Some(format!("[{hostname}]:{default_port}"));
    }
    if in_brackets(hostname) {
        return Some(format!("{hostname}:{default_port}"));
    }
    match hostname.rsplit_once(':') {
        Some((host, port)) => {
            // "+80" is a number to Rust, but not a port to a person.
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0)?;
            let fine = if host.contains(':') { in_brackets(host) } else { host_is_fine(host) };
            fine.then(|| format!("{host}:{port}"))
        }
        None => host_is_fine(hostname).then(|| format!("{hostname}:{default_port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_carry_its_port() {
        for (text, address) in [
            ("localhost:9000", Some("localhost:9000")),
            ("localhost", Some("localhost:9191")),
            ("[::1]:9000", Some("[::1]:9000")),
            ("[::1]", Some("[::1]:9191")),
            ("::1", Some("[::1]:9191")),
            ("localhost:", None),
            ("localhost:0", None),
            ("localhost:+80", None),
            ("localhost:99999", None),
            ("1::2::3", None),
            ("", None),
            (":1", None),
            ("http://x:1", None),
            ("user@x:1", None),
        ] {
            assert_eq!(parse(text, 9191).as_deref(), address, "{text:?}");
        }
    }

    #[test]
    fn a_bad_host_is_answered_with_an_example() {
        let error = with_port("x", "a b", 161).unwrap_err().to_string();
        assert!(error.contains("\"a b\"") && error.contains("10.0.0.2:161"), "{error}");
    }
}
