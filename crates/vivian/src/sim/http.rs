//! A small HTTP server with bad manners: the artifacts of simulated jobs, whole or not as their path says, and the
//! control of faults.
//!
//! | path | answer |
//! |---|---|
//! | `GET /artifact/ok/NAME?size=N` | the artifact, with ranges |
//! | `.../404/...`, `.../500/...` | that status |
//! | `.../half/...` | half of it, though its whole length is announced; never more |
//! | `.../stall/...` | a quarter of it, then nothing |
//! | `.../hold/...` | the artifact, but no answer as long as `/control/hold` says so |
//! | `.../flaky/...` | 500 to the first that asks for the name, half of it to the second, then the artifact |
//! | `POST /control/dut/N` | a JSON object: the machine's faults from now on |
//! | `POST /control/pdu/N` | `{"unreachable_ms": N}` |
//! | `POST /control/hold` | `true` or `false` |

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::{World, artifact, outlet::Faults};

/// The longest head of a request, and the longest body.
const MOST: usize = 16 << 10;

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that an answer is held back or stalls.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// Bytes of an artifact whose path names no size.
const SIZE: usize = 32 << 10;

#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    method: String,
    path: String,
    query: String,
    /// First byte that is wanted, by `Range: bytes=N-`.
    from: Option<usize>,
    body: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Away {
    unreachable_ms: u64,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, world: Arc<World>) {
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let world = Arc::clone(&world);
                clients.spawn(async move {
                    // A client that leaves early gets no more; that is all there is to it.
                    let _ = client(stream, &world).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn client(mut stream: TcpStream, world: &World) -> std::io::Result<()> {
    let Ok(Some(request)) = timeout(PATIENCE, read(&mut stream)).await else { return Ok(()) };
    if let Some(path) = request.path.strip_prefix("/artifact/") {
        return send(&mut stream, world, path, &request).await;
    }
    let (status, text) = match control(world, &request) {
        Ok(()) => ("200 OK", String::new()),
        Err(why) => ("400 Bad Request", why),
    };
    answer(&mut stream, status, "", text.as_bytes()).await
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some((request, length)) = head(&bytes) {
            let start = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
            if bytes.len() >= start + length {
                return Some(Request { body: bytes[start..start + length].to_vec(), ..request });
            }
        }
        if bytes.len() > 2 * MOST || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// The head of a request and the length of its body, once all of the head is there.
fn head(bytes: &[u8]) -> Option<(Request, usize)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (mut length, mut from) = (0_usize, None);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "range" => {
                from = value.trim().strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')?.parse().ok())
            }
            _ => {}
        }
    }
    let request = Request { method, path: path.to_owned(), query: query.to_owned(), from, body: Vec::new() };
    (length <= MOST).then_some((request, length))
}

fn control(world: &World, request: &Request) -> Result<(), String> {
    let wrong = |error: serde_json::Error| error.to_string();
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no number"));
    if request.method != "POST" {
        return Err("only POST /control/... and GET /artifact/... are here".to_owned());
    }
    match request.path.split('/').collect::<Vec<_>>().as_slice() {
        ["", "control", "hold"] => {
            world.hold.send_replace(serde_json::from_slice(&request.body).map_err(wrong)?);
        }
        ["", "control", "dut", dut] => {
            let faults: Faults = serde_json::from_slice(&request.body).map_err(wrong)?;
            let dut = number(dut)?;
            if !(1..=world.duts()).contains(&dut) {
                return Err(format!("there is no machine {dut}"));
            }
            world.outlet(dut).set_faults(faults);
        }
        ["", "control", "pdu", pdu] => {
            let away: Away = serde_json::from_slice(&request.body).map_err(wrong)?;
            let pdu = usize::try_from(number(pdu)?).unwrap_or(usize::MAX);
            let pdu = world.pdus.get(pdu.wrapping_sub(1)).ok_or("there is no such PDU")?;
            pdu.go_away(Duration::from_millis(away.unreachable_ms));
        }
        _ => return Err(format!("there is nothing at {}", request.path)),
    }
    Ok(())
}

/// What is sent of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    All,
    Half,
    QuarterThenNothing,
    Status(&'static str),
}

async fn send(stream: &mut TcpStream, world: &World, path: &str, request: &Request) -> std::io::Result<()> {
    let (kind, name) = path.split_once('/').unwrap_or((path, ""));
    let size = request.query.strip_prefix("size=").and_then(|n| n.parse().ok()).unwrap_or(SIZE);
    let sent = match kind {
        "ok" => Sent::All,
        "hold" => {
            let mut hold = world.hold.subscribe();
            // The sender lives as long as the world; an end of patience is as good as a release.
            let _ = timeout(LONGEST_HOLD, hold.wait_for(|hold| !hold)).await;
            Sent::All
        }
        "half" => Sent::Half,
        "stall" => Sent::QuarterThenNothing,
        "500" => Sent::Status("500 Internal Server Error"),
        "flaky" => match world.count(0, path) {
            0 => Sent::Status("500 Internal Server Error"),
            1 => Sent::Half,
            _ => Sent::All,
        },
        _ => Sent::Status("404 Not Found"),
    };
    let whole = artifact::of(name, size);
    let until = match sent {
        Sent::Status(status) => return answer(stream, status, "", b"no\n").await,
        Sent::All => whole.len(),
        Sent::Half => whole.len() / 2,
        Sent::QuarterThenNothing => whole.len() / 4,
    };
    let from = request.from.unwrap_or_default().min(whole.len());
    let mut head = String::from(if request.from.is_some() {
        "HTTP/1.1 206 Partial Content\r\n"
    } else {
        "HTTP/1.1 200 OK\r\n"
    });
    if request.from.is_some() {
        let last = whole.len().saturating_sub(1);
        head.push_str(&format!("Content-Range: bytes {from}-{last}/{}\r\n", whole.len()));
    }
    let (length, tag) = (whole.len() - from, name.len() ^ size);
    head.push_str(&format!("Content-Length: {length}\r\nETag: \"{tag:x}\"\r\nAccept-Ranges: bytes\r\n"));
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    if request.method == "HEAD" {
        return Ok(());
    }
    stream.write_all(&whole[from.min(until)..until]).await?;
    if sent == Sent::QuarterThenNothing {
        // Until the client has had enough.
        let _ = timeout(LONGEST_HOLD, stream.read_u8()).await;
    }
    stream.flush().await
}

async fn answer(stream: &mut TcpStream, status: &str, more: &str, body: &[u8]) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{more}Connection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_once_its_head_is_whole() {
        let text = b"GET /artifact/ok/kernel?size=9 HTTP/1.1\r\nHost: x\r\nRange: bytes=100-\r\n\r\n";
        assert!((0..text.len()).all(|n| head(&text[..n]).is_none()));
        let (request, length) = head(text).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/artifact/ok/kernel"));
        assert_eq!((request.query.as_str(), request.from, length), ("size=9", Some(100), 0));
        assert!(head(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n").is_none());
    }
}
