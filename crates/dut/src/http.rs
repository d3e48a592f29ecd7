//! As much HTTP/1.1 as a machine needs to talk to its gateway: one POST of JSON per connection, plain text.
//!
//! Owns the bytes on the wire and the addresses in URLs. Whole libraries would double the image, and the private
//! network has neither TLS nor names. Retries are the caller's business.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// The longest answer that is read, bytes.
const LONGEST_ANSWER: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The gateway writes the farm file before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL cannot be used.
    #[error("farmgate.url={0} is not usable: write http:// and an IP address, like http://10.42.0.1:8000")]
    Url(String),
    /// Nobody listens, or the network fails.
    #[error("no connection to {address}: {source}; is the gateway running?")]
    Connection {
        /// Whom we called.
        address: SocketAddr,
        /// What happened.
        source: std::io::Error,
    },
    /// The answer is not HTTP.
    #[error("the answer of {0} is not understood: {1}; is it a farmgate gateway?")]
    Answer(SocketAddr, BadAnswer),
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// No `HTTP/1.x NNN`.
    #[error("it has no HTTP status line")]
    StatusLine,
    /// A length or a chunk that is no number.
    #[error("its length is damaged")]
    Length,
    /// The connection closed too early.
    #[error("it ends too early")]
    Short,
    /// Beyond a mebibyte.
    #[error("it is longer than {LONGEST_ANSWER} bytes")]
    TooLong,
}

/// Where the gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    address: SocketAddr,
    /// Path that all others are appended to, without a last slash.
    prefix: String,
}

impl Gateway {
    /// From `http://ADDRESS[:PORT][/PREFIX]`.
    ///
    /// # Errors
    /// The URL has another scheme or a host name: there is no resolver here.
    pub fn from_url(url: &str) -> Result<Self, HttpError> {
        let wrong = || HttpError::Url(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let address = host
            .parse()
            .or_else(|_| bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 80)))
            .map_err(|_| wrong())?;
        Ok(Self { address, prefix: prefix.trim_end_matches('/').to_owned() })
    }

    /// Port 80 of an address.
    pub fn at(address: Ipv4Addr) -> Self {
        Self { address: SocketAddr::new(address.into(), 80), prefix: String::new() }
    }

    /// Sends JSON and reads the answer.
    ///
    /// # Errors
    /// The connection or the answer failed; an HTTP error status is an [`Answer`].
    pub fn post(&self, path: &str, json: &str) -> Result<Answer, HttpError> {
        let failed = |source| HttpError::Connection { address: self.address, source };
        let mut stream = TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
        stream.write_all(self.request(path, json).as_bytes()).map_err(failed)?;
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let count = stream.read(&mut piece).map_err(failed)?;
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
            match Answer::parse(&bytes, count == 0) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(error) => return Err(HttpError::Answer(self.address, error)),
            }
        }
    }

    fn request(&self, path: &str, json: &str) -> String {
        format!(
            "POST {}{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: farmgate-dut/{}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{json}",
            self.prefix,
            self.address,
            env!("CARGO_PKG_VERSION"),
            json.len(),
        )
    }
}

impl std::fmt::Display for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.address, self.prefix)
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Three digits.
    pub status: u16,
    /// As it came, chunks put together.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads an answer from all bytes that arrived; `None` if more are needed. `closed`: no more will come.
    ///
    /// # Errors
    /// It can never become an answer.
    pub fn parse(bytes: &[u8], closed: bool) -> Result<Option<Self>, BadAnswer> {
        if bytes.len() > LONGEST_ANSWER {
            return Err(BadAnswer::TooLong);
        }
        let more = || if closed { Err(BadAnswer::Short) } else { Ok(None) };
        // Bytes that are not HTTP at all are told apart before their end.
        if !bytes.iter().zip(b"HTTP/1.").all(|(a, b)| a == b) {
            return Err(BadAnswer::StatusLine);
        }
        let mut rest = bytes;
        let (head, status) = loop {
            let Some(end) = find(rest, b"\r\n\r\n") else { return more() };
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            let status = status(&head).ok_or(BadAnswer::StatusLine)?;
            rest = &rest[end + 4..];
            // After an interim answer the real one follows.
            if status / 100 != 1 {
                break (head, status);
            }
        };
        let body = if header(&head, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            unchunk(rest)?
        } else if let Some(length) = header(&head, "content-length") {
            rest.get(..length.parse::<usize>().map_err(|_| BadAnswer::Length)?).map(<[u8]>::to_vec)
        } else {
            closed.then(|| rest.to_vec())
        };
        match body {
            Some(body) => Ok(Some(Self { status, body })),
            None => more(),
        }
    }

    /// What the gateway says went wrong: `{"error": "..."}`, or the beginning of the body.
    pub fn error_text(&self) -> String {
        match serde_json::from_slice::<serde_json::Value>(&self.body) {
            Ok(json) if json["error"].is_string() => json["error"].as_str().unwrap_or_default().to_owned(),
            _ => String::from_utf8_lossy(&self.body).trim().chars().take(300).collect(),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

fn status(head: &str) -> Option<u16> {
    let digits = head.lines().next()?.split(' ').nth(1)?;
    digits.parse().ok().filter(|s| (100..600).contains(s))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Puts chunks together (RFC 9112, section 7.1); `None` if the last one is not there yet.
fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, BadAnswer> {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(rest, b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| BadAnswer::Length)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| BadAnswer::Length)?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Ok(Some(body));
        }
        if size > LONGEST_ANSWER {
            return Err(BadAnswer::TooLong);
        }
        let Some(chunk) = rest.get(..size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        let Some(after) = rest.get(size + 2..) else { return Ok(None) };
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-Length: 5\r\nX: y\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\n{\"e\r\nc\r\nrror\": \"no\"}\r\n0\r\n\r\n";
    const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 201 Created\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        for (bytes, status, body) in
            [(PLAIN, 200, "hello"), (CHUNKED, 400, "{\"error\": \"no\"}"), (INTERIM, 201, "")]
        {
            let answer = Answer::parse(bytes, false).unwrap().unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (status, body.as_bytes()));
            // The end of the last chunk is known a line before the last byte.
            for cut in 0..bytes.len() - 2 {
                assert_eq!(Answer::parse(&bytes[..cut], false), Ok(None), "{cut}");
                assert_eq!(Answer::parse(&bytes[..cut], true), Err(BadAnswer::Short), "{cut}");
            }
        }
    }

    #[test]
    fn without_a_length_the_end_of_the_connection_is_the_end() {
        let bytes = b"HTTP/1.0 200 OK\r\n\r\nabc";
        assert_eq!(Answer::parse(bytes, false), Ok(None));
        assert_eq!(Answer::parse(bytes, true).unwrap().unwrap().body, b"abc");
    }

    #[test]
    fn what_is_not_http_is_refused_at_once() {
        for (bytes, error) in [
            (&b"SSH-2.0-OpenSSH"[..], BadAnswer::StatusLine),
            (b"HTTP/1.1 abc\r\n\r\n", BadAnswer::StatusLine),
            (b"HTTP/1.1 999 x\r\n\r\n", BadAnswer::StatusLine),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", BadAnswer::Length),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", BadAnswer::Length),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", BadAnswer::TooLong),
        ] {
            assert_eq!(Answer::parse(bytes, false), Err(error));
        }
        assert_eq!(Answer::parse(&vec![b'H'; LONGEST_ANSWER + 1], false), Err(BadAnswer::TooLong));
    }

    #[test]
    fn the_gateways_own_words_are_found() {
        let answer = |body: &str| Answer { status: 403, body: body.as_bytes().to_vec() };
        assert_eq!(answer(r#"{"error": "not you"}"#).error_text(), "not you");
        assert_eq!(answer(" plain \n").error_text(), "plain");
        assert_eq!(answer(r#"{"detail": 1}"#).error_text(), r#"{"detail": 1}"#);
    }

    #[test]
    fn urls_are_addresses() {
        for (url, shown) in [
            ("http://10.42.0.1", "http://10.42.0.1:80"),
            ("http://10.42.0.1/", "http://10.42.0.1:80"),
            ("http://10.0.2.2:8000/x/", "http://10.0.2.2:8000/x"),
            ("http://[fe80::1]", "http://[fe80::1]:80"),
            ("http://[fe80::1]:8", "http://[fe80::1]:8"),
        ] {
            assert_eq!(Gateway::from_url(url).unwrap().to_string(), shown);
        }
        for url in ["https://10.42.0.1", "http://ci-gateway", "10.42.0.1", "http://", "http://1.2.3.4:99999"]
        {
            assert!(matches!(Gateway::from_url(url), Err(HttpError::Url(_))), "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), closed: bool) {
            let _ = Answer::parse(&bytes, closed);
            let mut http = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            http.extend_from_slice(&bytes);
            let _ = Answer::parse(&http, closed);
        }
    }
}
