//! The web server of a small device: one request for each connection, as many of them do it.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::device::{Shared, State};

/// What was asked.
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    /// As sent.
    pub uri: String,
    pub query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What is answered.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

pub type Handler = fn(&mut State, &Request) -> Response;

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether it comes with `Basic` and these credentials, already encoded.
    pub fn is_basic(&self, encoded: &str) -> bool {
        self.header("authorization") == Some(&format!("Basic {encoded}"))
    }
}

impl Response {
    pub fn json(body: Value) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type", "application/json".into())],
            body: body.to_string().into(),
        }
    }

    pub fn text(status: u16, body: &str) -> Self {
        Self { status, headers: vec![("Content-Type", "text/plain".into())], body: body.into() }
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// `%41` and `+`, as browsers encode them.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// Reads one request; none if the peer hangs up first.
pub async fn request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut chunk).await.ok()? {
            0 => return None,
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, uri) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| line.split_once(": ").map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()));
    let headers: Vec<_> = lines.filter_map(header).collect();
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let pair = |text: &str| text.split_once('=').map(|(k, v)| (decoded(k), decoded(v)));
    let query = query.split('&').filter_map(pair).collect();
    let mut request =
        Request { method, path: path.to_owned(), uri: uri.clone(), query, headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
    request.body = bytes[end..].to_vec();
    while request.body.len() < length {
        match stream.read(&mut chunk).await.ok()? {
            0 => return None,
            n => request.body.extend_from_slice(&chunk[..n]),
        }
    }
    Some(request)
}

/// Answers one request and hangs up.
pub async fn talk(mut stream: TcpStream, state: Shared, handler: Handler) {
    let Some(request) = request(&mut stream).await else { return };
    let delay = state.lock().unwrap().delay();
    tokio::time::sleep(delay).await;
    let response = handler(&mut state.lock().unwrap(), &request);
    let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", response.body.len()));
    // The peer may be gone, then nobody waits for the answer.
    let _ = stream.write_all(&[head.as_bytes(), &response.body].concat()).await;
    let _ = stream.shutdown().await;
}
