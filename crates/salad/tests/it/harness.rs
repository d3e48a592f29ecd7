//! A server in a folder of its own, and plain sockets to be its consoles. All of it ends with the test.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farmgate_salad::{
    Chunk, ConsoleOffset, RecordSettings, Salad, SaladConfig, SaladError, Server, Subscription,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// About ten times what the slowest step takes on a noisy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits with a bound.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits until something holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub struct Farm {
    pub salad: Salad,
    pub console: SocketAddr,
    pub rest: SocketAddr,
    pub dir: Arc<TempDir>,
    pub stop: CancellationToken,
    pub task: JoinHandle<Result<(), SaladError>>,
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn config(dir: &Path) -> SaladConfig {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    SaladConfig {
        rest: anywhere,
        console: anywhere,
        socket: dir.join("salad.sock"),
        records: dir.join("consoles"),
        legacy_host: IpAddr::from(Ipv4Addr::LOCALHOST),
    }
}

pub async fn farm() -> Farm {
    farm_in(Arc::new(tempfile::tempdir().unwrap())).await
}

pub async fn farm_in(dir: Arc<TempDir>) -> Farm {
    let settings = RecordSettings { segment_bytes: 1 << 20, keep_bytes: 1 << 30 };
    let server = Server::bind_with(config(dir.path()), settings).await.unwrap();
    let (rest, console) = (server.rest_addr(), server.console_addr());
    let stop = CancellationToken::new();
    let task = tokio::spawn(server.run(stop.clone()));
    let salad = Salad::new(dir.path().join("salad.sock"));
    Farm { salad, console, rest, dir, stop, task }
}

impl Farm {
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("salad.sock")
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.console).await.unwrap()
    }

    /// A console of another host: all of 127/8 is ours.
    pub async fn connect_from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(self.console).await.unwrap()
    }

    /// A console that has named its machine, which is told so in its record.
    pub async fn console_of(&self, machine: &str) -> TcpStream {
        let before = self.salad.end(machine).await.unwrap();
        let mut console = self.connect().await;
        say(&mut console, format!("SALAD.machine_id={machine}\n").as_bytes()).await;
        until("the console is associated", async || self.salad.end(machine).await.unwrap() > before).await;
        console
    }

    /// Everything that is recorded.
    pub async fn record(&self, machine: &str) -> Vec<u8> {
        let mut from = ConsoleOffset(0);
        let mut all = Vec::new();
        loop {
            let chunks = self.salad.read(machine, from, None).await.unwrap();
            let Some(last) = chunks.last() else { return all };
            from = last.end();
            all.extend(joined(&chunks));
        }
    }

    /// Waits until a machine's record ends like this.
    pub async fn wait_for(&self, machine: &str, ending: &[u8]) {
        until("the record has it", async || self.record(machine).await.ends_with(ending)).await;
    }

    /// What REST answers: the status line and the body.
    pub async fn http(&self, method: &str, path: &str) -> (String, serde_json::Value) {
        let mut stream = TcpStream::connect(self.rest).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: salad\r\nConnection: close\r\n\r\n");
        say(&mut stream, request.as_bytes()).await;
        let mut answer = String::new();
        soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap().split(' ').nth(1).unwrap().to_owned();
        (status, serde_json::from_str(body).unwrap())
    }
}

pub fn joined(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect()
}

pub async fn say(stream: &mut TcpStream, bytes: &[u8]) {
    soon("bytes are taken", stream.write_all(bytes)).await.unwrap();
}

pub async fn hear(stream: &mut TcpStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    soon("bytes come", stream.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, expected);
}

/// The next bytes of a subscription, exactly this many or a few more; checks that offsets have no gap.
pub async fn take(subscription: &mut Subscription, from: ConsoleOffset, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        let chunk = soon("a chunk", subscription.next()).await.unwrap().unwrap();
        assert_eq!(chunk.offset.0, from.0 + all.len() as u64);
        all.extend_from_slice(&chunk.bytes);
    }
    all
}

/// Numbers that look random and are the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll(256) as u8).collect()
    }
}
