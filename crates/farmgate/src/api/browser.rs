//! Keeps web pages from speaking for the person who looks at them. Who is let in by where they come from, without a
//! token, shows no sign of will: any page that a browser on that host opens could post here (cross-site request
//! forgery), or have its own name point to us (DNS rebinding). Programs send none of what is looked at.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

/// Whether a request without credentials may be what its sender wants. `names`: the gateway's own host names.
///
/// # Errors
/// What is wrong, for the answer.
pub fn intended(headers: &HeaderMap, names: &[String]) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text("origin");
    let site = text("sec-fetch-site");
    let agent = text("user-agent").is_some_and(|agent| agent.starts_with("Mozilla/"));
    if origin.is_none() && site.is_none() && !agent {
        return Ok(());
    }
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name = without_port(host);
    let own = name.parse::<IpAddr>().is_ok() || names.iter().any(|known| known.eq_ignore_ascii_case(name));
    if !own {
        return Err(format!(
            "a browser calls this gateway {name:?}, which is none of its names: use its address, or set EXECUTOR_URL"
        ));
    }
    let same = origin.is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
    });
    if !same || (origin.is_none() && site == Some("cross-site")) {
        return Err("another web site sent this request: it needs a token".to_owned());
    }
    Ok(())
}

/// `host:80`, `[::1]:80`, `host`: the host.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(given: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(*name, value.parse().unwrap());
        }
        intended(&headers, &["ci-gateway".to_owned(), "localhost".to_owned()]).is_ok()
    }

    #[test]
    fn programs_are_left_alone() {
        assert!(may(&[]));
        assert!(may(&[("host", "anything.example"), ("user-agent", "curl/8.0")]));
        assert!(may(&[("host", "gw.lan"), ("user-agent", "python-requests/2")]));
    }

    #[test]
    fn a_page_of_another_site_cannot_post() {
        assert!(may(&[("host", "10.42.0.1"), ("origin", "http://10.42.0.1")]));
        assert!(may(&[("host", "CI-gateway:8000"), ("origin", "http://ci-gateway:8000")]));
        assert!(!may(&[("host", "10.42.0.1"), ("origin", "http://evil.example")]));
        assert!(!may(&[("host", "localhost:8000"), ("origin", "http://localhost:9000")]));
        assert!(!may(&[("host", "localhost"), ("origin", "null")]));
        assert!(!may(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn a_name_that_was_pointed_to_us_is_not_ours() {
        assert!(!may(&[("host", "evil.example"), ("origin", "http://evil.example")]));
        assert!(!may(&[("host", "evil.example"), ("user-agent", "Mozilla/5.0")]));
        assert!(may(&[("host", "[::1]:8000"), ("user-agent", "Mozilla/5.0")]));
        assert!(may(&[
            ("host", "ci-gateway"),
            ("user-agent", "Mozilla/5.0"),
            ("sec-fetch-site", "same-origin")
        ]));
    }
}
