//! Bounded JSON over HTTP for devices that speak it.
//!
//! Owns how a request becomes a typed failure: no connection is `Unreachable`, silence is `Timeout`, 401 and 403 are
//! `Authentication`, another refusal is `Refused` with the device's words, and what is no HTTP or no JSON is
//! `Protocol`. A connection that breaks before an answer came is tried once more. Bodies are capped, redirects and
//! proxies are not followed, and neither credentials nor query strings (some devices want the password there) appear
//! in an error. What the paths and documents mean is left to the drivers.

mod digest;

use std::{error::Error as _, io, time::Duration};

use farmgate_protocol::PortId;
use reqwest::{Method, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use self::digest::Challenge;
use super::{ConfigError, address::with_port, secret::Secret};
use crate::DriverError;

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A whole exchange. Less than the 5 s that the task gives, so that the error can say what happened.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// The longest document of a known device is some 30 KB (the system resource of a large server's BMC).
const MAX_BODY: usize = 512 * 1024;
/// How much of a device's words is shown.
const EXCERPT: usize = 160;

/// The settings that most devices with a web interface share.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebConfig {
    pub hostname: String,
    #[serde(default)]
    pub https: bool,
    /// Only with `https`; most devices come with a certificate that nobody signed.
    #[serde(default = "yes")]
    pub verify_certificate: bool,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

pub(super) fn yes() -> bool {
    true
}

impl WebConfig {
    /// Basic authentication with the configured credentials, if there are any.
    pub fn basic(&self, default_user: &str) -> Auth {
        match (&self.username, &self.password) {
            (None, None) => Auth::None,
            (user, password) => Auth::Basic {
                user: user.clone().unwrap_or_else(|| default_user.to_owned()),
                password: password.clone().unwrap_or_default(),
            },
        }
    }

    /// A client for the device. Contacts nobody.
    pub fn client(&self, driver: &'static str, auth: Auth) -> Result<Http, ConfigError> {
        let default_port = if self.https { 443 } else { 80 };
        Http::new(driver, &self.hostname, default_port, self.https, self.verify_certificate, auth)
    }
}

/// How we say who we are.
#[derive(Debug, Clone)]
pub(super) enum Auth {
    None,
    Basic {
        user: String,
        password: Secret,
    },
    /// Digest with SHA-256.
    Digest {
        user: String,
        password: Secret,
    },
    Bearer(Secret),
    /// In the path of each request; known here only to be kept out of errors.
    InPath(Secret),
}

impl Auth {
    fn secret(&self) -> &str {
        match self {
            Self::None => "",
            Self::Basic { password: secret, .. }
            | Self::Digest { password: secret, .. }
            | Self::Bearer(secret)
            | Self::InPath(secret) => secret.expose(),
        }
    }
}

/// One device.
#[derive(Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    base: String,
    address: String,
    auth: Auth,
    challenge: Option<Challenge>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The path asked for, without its query.
    path: String,
    location: Option<String>,
    secret: String,
}

impl Http {
    /// A client for `hostname`. Contacts nobody.
    pub fn new(
        driver: &'static str,
        hostname: &str,
        default_port: u16,
        https: bool,
        verify: bool,
        auth: Auth,
    ) -> Result<Self, ConfigError> {
        let address = with_port(driver, hostname, default_port)?;
        // A second installation is refused, and the first serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // Small devices have few connections and forget them when they restart; only TLS is worth keeping one.
            .pool_max_idle_per_host(usize::from(https))
            // Without TLS there is nothing to verify, and the system's certificates need not be loaded.
            .tls_danger_accept_invalid_certs(!(https && verify))
            .build()
            .map_err(|error| ConfigError::Settings { driver, what: format!("no HTTP client: {error}") })?;
        let scheme = if https { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        if let Err(error) = base.parse::<reqwest::Url>() {
            return Err(ConfigError::Settings { driver, what: format!("hostname: {hostname:?}: {error}") });
        }
        Ok(Self { client, base, address, auth, challenge: None })
    }

    /// Says who we are in another way from now on.
    pub fn authenticate(&mut self, auth: Auth) {
        self.auth = auth;
        self.challenge = None;
    }

    /// GET, where the answer must be a JSON document of this shape.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, DriverError> {
        self.exchange(Method::GET, path, None).await?.json()
    }

    /// POST of a JSON document; what is answered is left to the caller.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Answer, DriverError> {
        self.exchange(Method::POST, path, Some(body)).await
    }

    /// GET, where any status is an answer.
    pub async fn ask(&mut self, path: &str) -> Result<Answer, DriverError> {
        self.exchange(Method::GET, path, None).await
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, DriverError> {
        let fresh = self.challenge.is_none();
        let (answer, asked) = self.send(&method, path, body).await?;
        let digest = matches!(self.auth, Auth::Digest { .. });
        if answer.status != 401 || !digest {
            return Ok(answer);
        }
        // The first request has no nonce yet, and a nonce gets old: once is normal, twice is a wrong password.
        self.challenge = asked.as_deref().and_then(Challenge::parse);
        if self.challenge.is_none() {
            let what = "it asks for another authentication than Digest with SHA-256";
            return Err(if fresh { DriverError::Protocol(what.to_owned()) } else { answer.refusal() });
        }
        let (answer, _) = self.send(&method, path, body).await?;
        if answer.status == 401 {
            self.challenge = None;
        }
        Ok(answer)
    }

    /// One request. Also gives what `WWW-Authenticate` says.
    async fn send(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Answer, Option<String>), DriverError> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        request = match (&self.auth, &mut self.challenge) {
            (Auth::Basic { user, password }, _) => request.basic_auth(user, Some(password.expose())),
            (Auth::Bearer(token), _) => request.bearer_auth(token.expose()),
            (Auth::Digest { user, password }, Some(challenge)) => {
                let answer = challenge.answer(method.as_str(), path, user, password.expose());
                request.header(header::AUTHORIZATION, answer.unwrap_or_default())
            }
            _ => request,
        };
        if let Some(body) = body {
            request = request.json(body);
        }
        let again = request.try_clone();
        let mut response = match (request.send().await, again) {
            // Small devices drop a connection now and then. Whatever we ask may be asked twice.
            (Err(error), Some(again)) if !error.is_timeout() && !error.is_connect() => again.send().await,
            (result, _) => result,
        }
        .map_err(|error| self.failure(error))?;
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (asked, location) = (text(header::WWW_AUTHENTICATE), text(header::LOCATION));
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(DriverError::Protocol(format!("an answer longer than {MAX_BODY} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let secret = self.auth.secret().to_owned();
        Ok((Answer { status, body, path, location, secret }, asked))
    }

    fn failure(&self, error: reqwest::Error) -> DriverError {
        // The URL may hold the password.
        let error = error.without_url();
        if error.is_timeout() {
            return DriverError::Timeout(ANSWER_WITHIN);
        }
        let (mut no_http, mut cause, mut kind) = (false, error.to_string(), io::ErrorKind::Other);
        let mut next = error.source();
        while let Some(source) = next {
            no_http |= source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
            cause = source.to_string();
            kind = source.downcast_ref::<io::Error>().map_or(kind, io::Error::kind);
            match tls_failure(source) {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    cause = format!(
                        "its certificate is not trusted ({why}): add its authority to those of the system, or set \
                         `verify_certificate: false`"
                    );
                    break;
                }
                Some(rustls::Error::InvalidMessage(_)) => {
                    return DriverError::Protocol("no TLS where `https: true` expects it".to_owned());
                }
                _ => {}
            }
            next = source.source();
        }
        if no_http {
            return DriverError::Protocol(format!("no HTTP from {}: {cause}", self.address));
        }
        DriverError::unreachable(&*self.address, io::Error::new(kind, cause))
    }
}

impl Answer {
    /// Whether the device says that it did what it was asked.
    pub fn is_fine(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The JSON document of a successful answer.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, DriverError> {
        self.fine()?;
        serde_json::from_slice(&self.body)
            .map_err(|error| DriverError::Protocol(format!("{}: {error}", self.path)))
    }

    /// Any successful answer.
    pub fn fine(&self) -> Result<(), DriverError> {
        if self.is_fine() { Ok(()) } else { Err(self.refusal()) }
    }

    /// As an error, where it is known that a missing page means a missing port.
    pub fn or_unknown(self, port: &PortId) -> Result<Self, DriverError> {
        if self.status == 404 { Err(DriverError::UnknownPort(port.clone())) } else { Ok(self) }
    }

    /// What an unsuccessful answer means.
    pub fn refusal(&self) -> DriverError {
        let Self { status, path, .. } = self;
        match status {
            401 | 403 => DriverError::Authentication(format!("{status} for {path}{}", self.words())),
            404 => DriverError::Protocol(format!("it has no {path}")),
            300..=399 => {
                let remedy = match &self.location {
                    Some(to) if to.starts_with("https:") => "it wants TLS, set `https: true`",
                    _ => "it redirects, which is not followed",
                };
                DriverError::Protocol(format!("{status} for {path}: {remedy}"))
            }
            _ => DriverError::Refused(format!("{} for {path}{}", named(*status), self.words())),
        }
    }

    /// What the device says, shortened to a line.
    fn words(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.body[..self.body.len().min(4 * EXCERPT)]).into_owned();
        if !self.secret.is_empty() {
            text = text.replace(&self.secret, "(hidden)");
        }
        let line: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
        let line: String = line.join(" ").chars().take(EXCERPT).collect();
        if line.trim().is_empty() { String::new() } else { format!(": {}", line.trim()) }
    }
}

/// What TLS says, which an I/O error hides: its inner error is not its source.
fn tls_failure<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    loop {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        error = error.downcast_ref::<io::Error>()?.get_ref()?;
    }
}

fn named(status: u16) -> String {
    let name = StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    name.map_or_else(|| status.to_string(), |name| format!("{status} {name}"))
}

/// A text as it may stand in a query or a path segment.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let (path, secret) = ("/cm".to_owned(), "hunter2".to_owned());
        Answer { status, body: body.as_bytes().to_vec(), path, location: None, secret }
    }

    #[test]
    fn a_status_becomes_the_error_that_helps() {
        assert!(matches!(answer(401, "").refusal(), DriverError::Authentication(_)));
        assert!(matches!(answer(403, "").refusal(), DriverError::Authentication(_)));
        assert!(matches!(answer(404, "").refusal(), DriverError::Protocol(_)));
        assert!(matches!(answer(302, "").refusal(), DriverError::Protocol(_)));
        assert_eq!(
            answer(503, "over\n loaded").refusal().to_string(),
            "the PDU refused: 503 Service Unavailable for /cm: over  loaded"
        );
    }

    #[test]
    fn a_device_that_repeats_our_password_does_not_get_it_into_the_log() {
        let error = answer(400, "bad password hunter2").refusal().to_string();
        assert!(error.contains("(hidden)") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_query_value_is_encoded() {
        assert_eq!(encoded("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }

    #[test]
    fn a_client_is_not_shown_with_its_password() {
        let password = serde_json::from_value(serde_json::json!("hunter2")).unwrap();
        let auth = Auth::Basic { user: "u".to_owned(), password };
        let http = Http::new("x", "10.0.0.2", 80, false, true, auth).unwrap();
        assert!(!format!("{http:?}").contains("hunter2"));
    }
}
