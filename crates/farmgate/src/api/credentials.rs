//! What a request carries to say who sends it: `Authorization: Bearer TOKEN`, or the password of HTTP Basic with any
//! user name, which a client sends that is given `http://x:TOKEN@host`. RFC 6750, RFC 7617.

use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};

/// The longest header that is looked at; a token is much shorter.
const LONGEST: usize = 512;

/// What a request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A secret.
    Secret(String),
    /// Something that is no secret of ours.
    Unreadable,
}

/// Reads them.
pub fn credentials(headers: &HeaderMap) -> Credentials {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        // Two of them: it is not for us to choose.
        return if headers.contains_key(header::AUTHORIZATION) {
            Credentials::Unreadable
        } else {
            Credentials::None
        };
    };
    value
        .to_str()
        .ok()
        .filter(|text| text.len() <= LONGEST)
        .and_then(secret)
        .map_or(Credentials::Unreadable, Credentials::Secret)
}

fn secret(text: &str) -> Option<String> {
    let (scheme, rest) = text.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Credentials {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        credentials(&headers)
    }

    #[test]
    fn a_token_is_a_bearers_or_the_password_of_anybody() {
        let secret = |text: &str| Credentials::Secret(text.to_owned());
        assert_eq!(of(&[]), Credentials::None);
        assert_eq!(of(&["Bearer abc"]), secret("abc"));
        assert_eq!(of(&["bearer  abc "]), secret("abc"));
        // printf x:abc | base64
        assert_eq!(of(&["Basic eDphYmM="]), secret("abc"));
        // printf :a:b | base64
        assert_eq!(of(&["basic OmE6Yg=="]), secret("a:b"));
    }

    #[test]
    fn what_is_neither_is_no_secret_and_no_panic() {
        let long = format!("Bearer {}", "x".repeat(600));
        for text in ["abc", "Digest a=b", "Basic", "Basic !!!", "Basic YWJj", "Basic //8=", "", &long] {
            assert_eq!(of(&[text]), Credentials::Unreadable, "{text:?}");
        }
        assert_eq!(of(&["Bearer a", "Bearer b"]), Credentials::Unreadable);
    }
}
