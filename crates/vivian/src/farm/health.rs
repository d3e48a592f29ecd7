//! Do the farm's services answer? Asked from the host, through the forwarded ports, as a person would.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use super::options::Ports;
use crate::vpductl::Client;

/// How long a service may take for an answer.
const TIME: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read; a status line is at its beginning.
const LIMIT: u64 = 4096;

/// Does the vPDU answer? It does once it knows what executes its guests.
pub fn vpdu(ports: &Ports) -> bool {
    Client::new("127.0.0.1", ports.vpdu).outlets().is_ok()
}

/// Does the gateway list its DUTs?
pub fn executor(ports: &Ports) -> bool {
    answers(ports.executor, "/api/v1/duts")
}

/// Does SALAD list its machines?
pub fn salad(ports: &Ports) -> bool {
    answers(ports.salad, "/api/v1/machine")
}

fn answers(port: u16, path: &str) -> bool {
    get(port, path).is_ok_and(|answer| is_success(&answer))
}

fn get(port: u16, path: &str) -> io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIME)?;
    stream.set_read_timeout(Some(TIME))?;
    stream.set_write_timeout(Some(TIME))?;
    // The old version of HTTP has no persistent connections: the answer ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LIMIT).read_to_end(&mut answer)?;
    Ok(answer)
}

fn is_success(answer: &[u8]) -> bool {
    answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(1..5)).is_some_and(|status| status == b" 200")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_200_is_healthy() {
        for (answer, healthy) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n{}"[..], true),
            (b"HTTP/1.0 200 OK\r\n", true),
            (b"HTTP/1.1 500 Internal Server Error\r\n", false),
            (b"HTTP/1.1 2", false),
            (b"SSH-2.0-OpenSSH", false),
            (b"", false),
        ] {
            assert_eq!(is_success(answer), healthy, "{:?}", String::from_utf8_lossy(answer));
        }
    }
}
