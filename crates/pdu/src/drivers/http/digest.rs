//! HTTP Digest authentication with SHA-256 ([RFC 7616](https://www.rfc-editor.org/rfc/rfc7616)), the client's half.
//!
//! Only what the devices behind our drivers ask for: `algorithm=SHA-256`, `qop=auth`. A challenge for anything else
//! is not answered.

use std::fmt::Write as _;

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

/// What the server asked us to prove, and how often we did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// Requests answered with this nonce.
    count: u32,
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; `None` for what we cannot answer.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let fields = fields(rest);
        let get = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let sha256 = get("algorithm").is_some_and(|name| name.eq_ignore_ascii_case("SHA-256"));
        let auth = get("qop").is_some_and(|qop| qop.split(',').any(|one| one.trim() == "auth"));
        (sha256 && auth).then(|| {
            Some(Self { realm: get("realm")?, nonce: get("nonce")?, opaque: get("opaque"), count: 0 })
        })?
    }

    /// The `Authorization` header of the next request; `None` if the system gives no random numbers.
    pub fn answer(&mut self, method: &str, uri: &str, user: &str, password: &str) -> Option<String> {
        let mut random = [0_u8; 8];
        SystemRandom::new().fill(&mut random).ok()?;
        self.count += 1;
        Some(self.answer_with(method, uri, user, password, &hex(&random)))
    }

    fn answer_with(&self, method: &str, uri: &str, user: &str, password: &str, cnonce: &str) -> String {
        let Self { realm, nonce, count, .. } = self;
        let ha1 = hash(&format!("{user}:{realm}:{password}"));
        let ha2 = hash(&format!("{method}:{uri}"));
        let response = hash(&format!("{ha1}:{nonce}:{count:08x}:{cnonce}:auth:{ha2}"));
        let (user, realm, nonce) = (quoted(user), quoted(realm), quoted(nonce));
        let mut header = format!(
            "Digest username={user}, realm={realm}, nonce={nonce}, uri=\"{uri}\", algorithm=SHA-256, qop=auth, \
             nc={count:08x}, cnonce=\"{cnonce}\", response=\"{response}\""
        );
        if let Some(opaque) = &self.opaque {
            let _ = write!(header, ", opaque={}", quoted(opaque));
        }
        header
    }
}

fn hash(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// `key=value, key="quoted value"`; keys in lower case.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_ascii_lowercase();
        let mut value = String::new();
        let after = after.trim_start();
        let mut end = after.len();
        if let Some(inside) = after.strip_prefix('"') {
            let mut escaped = false;
            for (at, c) in inside.char_indices() {
                match c {
                    _ if escaped => {
                        value.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = at + 2;
                        break;
                    }
                    _ => value.push(c),
                }
            }
        } else {
            end = after.find(',').unwrap_or(after.len());
            value.push_str(after[..end].trim());
        }
        found.push((key, value));
        rest = &after[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7616, section 3.9.1.
    #[test]
    fn the_rfc_s_example_is_answered_as_the_rfc_says() {
        let header = r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256,
            nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;
        let mut challenge = Challenge::parse(header).unwrap();
        challenge.count = 1;
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let answer = challenge.answer_with("GET", "/dir/index.html", "Mufasa", "Circle of Life", cnonce);
        let expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert!(answer.contains(&format!("response=\"{expected}\"")), "{answer}");
        assert!(answer.contains("nc=00000001") && answer.contains("opaque=\"FQhe/"), "{answer}");
    }

    #[test]
    fn a_challenge_that_cannot_be_answered_is_none() {
        for header in [
            "",
            "Basic realm=\"shelly\"",
            "Digest realm=\"x\", nonce=\"1\", qop=\"auth\", algorithm=MD5",
            "Digest realm=\"x\", nonce=\"1\", algorithm=SHA-256",
            "Digest nonce=\"1\", qop=\"auth\", algorithm=SHA-256",
            "Digest realm=\"x, nonce=",
            "Digest =,=\"\\",
        ] {
            assert_eq!(Challenge::parse(header), None, "{header:?}");
        }
    }

    #[test]
    fn quotes_and_umlauts_in_a_realm_survive() {
        let challenge =
            Challenge::parse(r#"digest qop=auth,nonce=60dc,algorithm=sha-256,realm="a \"b\", ü=1""#).unwrap();
        assert_eq!(challenge.realm, "a \"b\", ü=1");
        assert_eq!(challenge.nonce, "60dc");
        assert!(challenge.answer_with("GET", "/", "admin", "x", "c").contains(r#"realm="a \"b\", ü=1""#));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(header in ".*") {
            let _ = Challenge::parse(&format!("Digest {header}"));
        }
    }
}
