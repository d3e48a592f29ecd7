//! An HTTP server that misbehaves on demand: each request gets what the test says, down to the way the connection ends.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// What a client asked; names of headers in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: HashMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// How a connection ends after the reply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    Close,
    Reset,
    /// Nothing more comes, until the client goes.
    Hang,
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub end: End,
}

/// A reply with a status line, headers, and a body as it goes over the wire.
pub fn reply(status: &str, headers: &[&str], body: &[u8]) -> Reply {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    Reply { bytes, end: End::Close }
}

impl Reply {
    /// Only the first so many bytes of a body that has `body` of them.
    pub fn cut(mut self, body: usize, keep: usize, end: End) -> Self {
        self.bytes.truncate(self.bytes.len() - body + keep.min(body));
        self.end = end;
        self
    }
}

/// A file of a good server.
#[derive(Debug, Clone)]
pub struct Served {
    pub bytes: Vec<u8>,
    pub etag: Option<String>,
    pub more: Vec<String>,
}

pub fn served(bytes: &[u8], etag: &str) -> Served {
    Served { bytes: bytes.to_vec(), etag: Some(format!("\"{etag}\"")), more: Vec::new() }
}

impl Served {
    pub fn with(mut self, header: &str) -> Self {
        self.more.push(header.to_owned());
        self
    }

    fn headers(&self) -> Vec<String> {
        let etag = self.etag.iter().map(|etag| format!("ETag: {etag}"));
        etag.chain(self.more.iter().cloned()).collect()
    }

    pub fn whole(&self) -> Reply {
        let mut headers = self.headers();
        headers.push(format!("Content-Length: {}", self.bytes.len()));
        self.send("200 OK", &headers, &self.bytes)
    }

    fn send(&self, status: &str, headers: &[String], body: &[u8]) -> Reply {
        reply(status, &headers.iter().map(String::as_str).collect::<Vec<_>>(), body)
    }

    /// As the RFCs have it: conditions and ranges are honoured. Also how long its body is.
    pub fn answer(&self, request: &Request) -> (Reply, usize) {
        if self.etag.is_some() && request.header("if-none-match") == self.etag.as_deref() {
            return (self.send("304 Not Modified", &self.headers(), b""), 0);
        }
        let same = request.header("if-range").is_none_or(|tag| Some(tag) == self.etag.as_deref());
        let from = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        match from.map(|from| from.parse::<usize>().unwrap()).filter(|from| same && *from < self.bytes.len())
        {
            Some(from) => (self.part(from), self.bytes.len() - from),
            None => (self.whole(), self.bytes.len()),
        }
    }

    pub fn part(&self, from: usize) -> Reply {
        let (length, body) = (self.bytes.len(), &self.bytes[from..]);
        let mut headers = self.headers();
        headers.push(format!("Content-Range: bytes {from}-{}/{length}", length - 1));
        headers.push(format!("Content-Length: {}", body.len()));
        self.send("206 Partial Content", &headers, body)
    }
}

type Handler = dyn FnMut(&Request, usize) -> Reply + Send;

pub struct Server {
    pub address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    /// Clients that went before they had everything.
    left: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// `handler` gets each request with its number.
    pub async fn start(handler: impl FnMut(&Request, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(AtomicUsize::new(0));
        let handler: Arc<Mutex<Handler>> = Arc::new(Mutex::new(handler));
        let (seen, gone) = (Arc::clone(&requests), Arc::clone(&left));
        let task = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                clients.spawn(serve(client, Arc::clone(&handler), Arc::clone(&seen), Arc::clone(&gone)));
            }
        });
        Self { address, requests, left, _task: AbortOnDropHandle::new(task) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut client: TcpStream,
    handler: Arc<Mutex<Handler>>,
    seen: Arc<Mutex<Vec<Request>>>,
    left: Arc<AtomicUsize>,
) {
    let Some(request) = read_request(&mut client).await else { return };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let reply = { handler.lock().unwrap()(&request, number) };
    // A client that does not want more closes: then the test sees it in what the client did.
    let _ = client.write_all(&reply.bytes).await;
    match reply.end {
        End::Close => {
            let _ = client.shutdown().await;
            // Closing with unread bytes would reset the connection.
            let _ = client.read(&mut [0; 64]).await;
        }
        End::Reset => {
            // What was sent before is to arrive before the reset does.
            let _ = client.flush().await;
            tokio::task::yield_now().await;
            let _ = socket_linger(&client);
        }
        End::Hang => {
            while matches!(client.read(&mut [0; 64]).await, Ok(1..)) {}
            left.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Closing it resets the connection.
fn socket_linger(client: &TcpStream) -> std::io::Result<()> {
    client.set_zero_linger()
}

async fn read_request(client: &mut TcpStream) -> Option<Request> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(client.read_u8().await.ok()?);
    }
    let text = String::from_utf8(text).unwrap();
    let mut lines = text.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Some(Request { path, headers })
}
