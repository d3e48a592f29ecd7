//! How fast is one console? Measures, in one process on the loopback: megabytes per second from a TCP console
//! through the record to one subscriber, and the time from a written line to its chunk at the subscriber.
//!
//! `cargo run -p farmgate-salad --example speed [MEGABYTES]`; the records go to `TMPDIR` and are removed.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use farmgate_salad::{ConsoleOffset, Salad, SaladConfig, Server};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const LINES: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let megabytes: usize = std::env::args().nth(1).map_or(Ok(512), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = dir.path().join("salad.sock");
    let server = Server::bind(SaladConfig {
        rest: anywhere,
        console: anywhere,
        socket: socket.clone(),
        records: dir.path().join("consoles"),
        legacy_host: IpAddr::from(Ipv4Addr::LOCALHOST),
    })
    .await?;
    let address = server.console_addr();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.run(stop.clone()));
    let salad = Salad::new(socket);

    throughput(&salad, address, megabytes).await?;
    latency(&salad, address).await?;
    stop.cancel();
    serving.await??;
    Ok(())
}

/// A console that belongs to the machine, and where its record went on from there.
async fn console(
    salad: &Salad,
    address: SocketAddr,
    machine: &str,
) -> Result<(TcpStream, ConsoleOffset), Box<dyn Error>> {
    let before = salad.end(machine).await?;
    let mut console = TcpStream::connect(address).await?;
    console.set_nodelay(true)?;
    let name = format!("SALAD.machine_id={machine}\n");
    console.write_all(name.as_bytes()).await?;
    let named = ConsoleOffset(before.0 + name.len() as u64);
    while salad.end(machine).await? < named {
        tokio::task::yield_now().await;
    }
    Ok((console, named))
}

async fn throughput(salad: &Salad, address: SocketAddr, megabytes: usize) -> Result<(), Box<dyn Error>> {
    let (mut console, from) = console(salad, address, "fast").await?;
    let mut subscription = salad.subscribe("fast", from).await?;
    let line: Vec<u8> =
        b"[   12.345678] a line of a kernel's log, as long as most of them are\r\n".repeat(1000);
    let total = megabytes * 1_000_000;
    let begin = Instant::now();
    let talking = tokio::spawn(async move {
        let mut left = total;
        while left > 0 {
            let length = left.min(line.len());
            console.write_all(&line[..length]).await?;
            left -= length;
        }
        // Held until all is said: a console that closes is gone.
        Ok::<_, std::io::Error>(console)
    });
    let mut heard = 0;
    while heard < total {
        heard += subscription.next().await.ok_or("the subscription ended")??.bytes.len();
    }
    let seconds = begin.elapsed().as_secs_f64();
    talking.await??;
    println!("one console, record, one subscriber: {:.0} MB/s", total as f64 / seconds / 1e6);
    Ok(())
}

async fn latency(salad: &Salad, address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let (mut console, from) = console(salad, address, "prompt").await?;
    let mut subscription = salad.subscribe("prompt", from).await?;
    let mut times = Vec::with_capacity(LINES);
    for _ in 0..LINES {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let begin = Instant::now();
        console.write_all(b"a line of forty bytes is long enough...\n").await?;
        let mut heard = 0;
        while heard < 40 {
            heard += subscription.next().await.ok_or("the subscription ended")??.bytes.len();
        }
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    println!("line to chunk: p50 {:?}, p99 {:?}", times[LINES / 2], times[LINES * 99 / 100]);
    Ok(())
}
