//! A blocking HTTP client of the least that tests need, so that they see what is on the wire and nothing retries.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its transfer encoding.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Sends a request and reads the answer; of one that switches protocols, its head only, and the connection.
///
/// # Errors
/// No connection, or one that breaks in between.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<(Answer, TcpStream)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
        head.push_str("Connection: close\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut all = head.into_bytes();
    all.extend_from_slice(body);
    stream.write_all(&all)?;
    let mut answer = read_head(&mut stream)?;
    if answer.status != 101 {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        let chunked = answer.header("transfer-encoding").is_some_and(|e| e.eq_ignore_ascii_case("chunked"));
        let announced = answer.header("content-length").and_then(|n| n.parse::<usize>().ok());
        answer.body = if chunked { dechunk(&rest)? } else { rest };
        if announced.is_some_and(|length| length != answer.body.len()) {
            return Err(cut());
        }
    }
    Ok((answer, stream))
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ends early")
}

/// Byte by byte, because what follows a 101 belongs to somebody else.
fn read_head(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if head.len() > 64 << 10 || stream.read(&mut byte)? == 0 {
            return Err(cut());
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.trim_end().split("\r\n");
    let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).ok_or_else(cut)?;
    let headers =
        lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    Ok(Answer { status, headers: headers.collect(), body: Vec::new() })
}

fn dechunk(mut rest: &[u8]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").ok_or_else(cut)?;
        let length = std::str::from_utf8(&rest[..end]).ok().and_then(|l| usize::from_str_radix(l, 16).ok());
        let length = length.ok_or_else(cut)?;
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + length).ok_or_else(cut)?);
        rest = rest.get(end + 4 + length..).ok_or_else(cut)?;
    }
}
