//! The gateway as this client reaches it: its URL, the HTTP client, and answers that are errors, turned into text
//! for a person. It promises that no password of the URL appears in any text and that no answer is read without a
//! bound.

use std::time::Duration;

use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long the gateway may take to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long a question about machines may take.
const QUESTION_TIME: Duration = Duration::from_secs(15);
/// A gateway that lost its power is noticed after about this long, even when the console is silent.
const SILENCE: Duration = Duration::from_secs(60);
/// The most that is read of an answer.
const MAX_ANSWER: usize = 32 << 20;

/// Names the environment variable with the token.
const TOKEN_VARIABLE: &str = "FARMGATE_TOKEN";

/// Why the gateway did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// `-e` is no URL of a gateway.
    #[error(
        "{text:?} is no URL of a gateway ({reason}): write it as http://HOST/ or http://x:TOKEN@HOST:PORT/"
    )]
    BadUrl {
        /// What was given, without a password.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token of the environment cannot be sent.
    #[error(
        "{TOKEN_VARIABLE} holds characters that no token has: copy it again, without spaces and line ends"
    )]
    BadToken,
    /// No TLS or no resolver: the machine, not the gateway.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
    /// Nothing answers.
    #[error(
        "cannot reach the gateway at {url}: {cause}. Is it running, and is this its address? Another one: -e URL, or EXECUTORCTL_URL in the environment"
    )]
    Unreachable {
        /// Its URL without a password.
        url: String,
        /// The innermost cause.
        cause: String,
    },
    /// TLS, by a certificate that this machine does not trust.
    #[error(
        "the certificate of {url} is not trusted: {cause}. If it is the gateway's own, name it: SSL_CERT_FILE=FILE in the environment"
    )]
    Untrusted {
        /// Its URL without a password.
        url: String,
        /// The innermost cause.
        cause: String,
    },
    /// The connection broke or took too long.
    #[error("the connection to the gateway at {url} failed: {cause}")]
    Broken {
        /// Its URL without a password.
        url: String,
        /// The innermost cause.
        cause: String,
    },
    /// It answered with an error.
    #[error("{}{text}{}", prefix(*.status), remedy(*.status))]
    Refused {
        /// Of the answer.
        status: StatusCode,
        /// What the gateway said, whole.
        text: String,
    },
    /// It answered with something that is not an answer of a gateway.
    #[error(
        "the answer of {url} is not that of a gateway: {reason}. Is this its address? Another one: -e URL"
    )]
    Strange {
        /// Its URL without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn prefix(status: StatusCode) -> String {
    // 400 is how a job's own faults arrive: their text speaks for itself.
    if status == StatusCode::BAD_REQUEST { String::new() } else { format!("HTTP {}: ", status.as_u16()) }
}

fn remedy(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "\nPresent a token: -e http://x:TOKEN@HOST/, or FARMGATE_TOKEN in the environment"
        }
        _ => "",
    }
}

/// The innermost cause of an error, which is the one a person can act on.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    base: Url,
    client: Client,
}

impl Gateway {
    /// For the URL that a person gave; a missing `http://` is added. A URL without a user gets the token of the
    /// environment (`FARMGATE_TOKEN`).
    ///
    /// # Errors
    /// [`GatewayError::BadUrl`], [`GatewayError::BadToken`], [`GatewayError::Client`].
    pub fn new(text: &str) -> Result<Self, GatewayError> {
        Self::with_token(text, std::env::var(TOKEN_VARIABLE).ok().as_deref())
    }

    fn with_token(text: &str, token: Option<&str>) -> Result<Self, GatewayError> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        // What follows the last `@` holds no password.
        let harmless = || text.rsplit('@').next().unwrap_or_default().to_owned();
        let bad = |reason: String| GatewayError::BadUrl { text: harmless(), reason };
        let base = Url::parse(&whole).map_err(|e| bad(e.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(bad(format!(
                "scheme {:?} with host {:?}",
                base.scheme(),
                base.host_str().unwrap_or("")
            )));
        }
        let in_url = !base.username().is_empty() || base.password().is_some();
        let token = token.filter(|token| !token.is_empty() && !in_url);
        let client = Client::builder()
            .default_headers(authorization(token)?)
            .user_agent(concat!("executorctl/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            // A submission must not be sent again, changed, to somewhere else.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIME)
            .tcp_nodelay(true)
            .tcp_keepalive(SILENCE / 2)
            .tcp_keepalive_interval(SILENCE / 6)
            .tcp_keepalive_retries(3)
            .build()
            .map_err(|e| GatewayError::Client(root_cause(&e)))?;
        Ok(Self { base, client })
    }

    /// The URL for a person: without user and password.
    pub fn shown(&self) -> String {
        let mut url = self.base.clone();
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }

    /// The URL of a resource below `/api/v1`; every segment is escaped.
    pub fn resource(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(segments);
        }
        url
    }

    /// The HTTP client, for requests of another kind than [`Self::get`].
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Asks for a resource.
    ///
    /// # Errors
    /// Everything that is no success, as [`GatewayError`].
    pub async fn get(&self, segments: &[&str]) -> Result<Vec<u8>, GatewayError> {
        self.ask(Method::GET, self.resource(segments)).await
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// Everything that is no success, as [`GatewayError`].
    pub async fn post(&self, url: Url) -> Result<Vec<u8>, GatewayError> {
        self.ask(Method::POST, url).await
    }

    /// A question whose answer is a body.
    ///
    /// # Errors
    /// Everything that is no success, as [`GatewayError`].
    pub async fn ask(&self, method: Method, url: Url) -> Result<Vec<u8>, GatewayError> {
        let request = self.client.request(method, url).timeout(QUESTION_TIME);
        let response = request.send().await.map_err(|e| self.failed(&e))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        self.body(response).await
    }

    /// What an answer means.
    ///
    /// # Errors
    /// [`GatewayError::Strange`]: it is no answer of a gateway.
    pub fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, GatewayError> {
        serde_json::from_slice(body)
            .map_err(|error| GatewayError::Strange { url: self.shown(), reason: error.to_string() })
    }

    /// What a failed request means to a person.
    pub fn failed(&self, error: &reqwest::Error) -> GatewayError {
        let (url, cause) = (self.shown(), root_cause(error));
        // By its words: the error's type is hidden below several others.
        if error.is_connect() && cause.contains("certificate") {
            GatewayError::Untrusted { url, cause }
        } else if error.is_connect() {
            GatewayError::Unreachable { url, cause }
        } else {
            GatewayError::Broken { url, cause }
        }
    }

    /// An answer that is an error, with the whole text that the gateway gave.
    pub async fn refused(&self, response: Response) -> GatewayError {
        let status = response.status();
        if status.is_redirection() {
            let place =
                response.headers().get("location").and_then(|v| v.to_str().ok()).unwrap_or("somewhere else");
            return GatewayError::Strange { url: self.shown(), reason: format!("it redirects to {place}") };
        }
        match self.body(response).await {
            Ok(body) => GatewayError::Refused { status, text: error_text(&body) },
            Err(error) => error,
        }
    }

    /// The whole body of an answer, bounded.
    ///
    /// # Errors
    /// It breaks off or is too long.
    pub async fn body(&self, mut response: Response) -> Result<Vec<u8>, GatewayError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.failed(&e))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                let reason = format!("it is longer than {} MiB", MAX_ANSWER >> 20);
                return Err(GatewayError::Strange { url: self.shown(), reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The header that carries a token; never shown.
fn authorization(token: Option<&str>) -> Result<HeaderMap, GatewayError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut bearer = bearer.map_err(|_| GatewayError::BadToken)?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(headers)
}

/// The text of an error body: `error_msg` of a submission, `error` of the rest of the API, `reason` of old gateways,
/// or the body itself.
fn error_text(body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body).ok().and_then(|json| {
        ["error_msg", "error", "reason"].iter().find_map(|key| {
            json.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        })
    });
    let text = said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    match text.trim_start().chars().next() {
        None => "no reason given".to_owned(),
        // Of a web server or proxy, or of a gateway that does not know such a request.
        Some('<') => "it answers with a web page: this gateway may be too old for this command".to_owned(),
        Some(_) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(url: &str) -> Gateway {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Gateway::new(url).unwrap()
    }

    #[test]
    fn slashes_of_the_url_are_never_doubled() {
        for base in ["http://h", "http://h/", "h"] {
            assert_eq!(gateway(base).resource(&["jobs"]).as_str(), "http://h/api/v1/jobs");
        }
        assert_eq!(
            gateway("http://h/farm/").resource(&["dut", "a/b ?"]).path(),
            "/farm/api/v1/dut/a%2Fb%20%3F"
        );
    }

    #[test]
    fn passwords_are_never_shown() {
        assert_eq!(gateway("http://x:secret@h:8000/").shown(), "http://h:8000/");
        let error = Gateway::new("ftp://x:secret@h/").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        let error = Gateway::new("http://x:secret@").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_without_showing_it() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let error = Gateway::with_token("h", Some("sec\nret")).unwrap_err().to_string();
        assert!(error.contains("FARMGATE_TOKEN") && !error.contains("ret"), "{error}");
        assert!(!format!("{:?}", Gateway::with_token("h", Some("secret")).unwrap()).contains("secret"));
    }

    #[test]
    fn error_texts_are_found_wherever_a_gateway_puts_them() {
        assert_eq!(error_text(br#"{"version": 1, "error_msg": "a\n  b"}"#), "a\n  b");
        assert_eq!(error_text(br#"{"error": "no"}"#), "no");
        assert_eq!(error_text(b"plain"), "plain");
        assert_eq!(error_text(b""), "no reason given");
        assert!(error_text(b"\n<!doctype html>\n<title>404").contains("too old"));
    }
}
