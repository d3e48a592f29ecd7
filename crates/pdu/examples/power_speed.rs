//! What the task of a PDU costs: from the call to the command on the wire, with and without a dead PDU beside it, and the
//! processor time of polling many. The PDU is a server on the loopback that speaks the vPDU's wire format; its own
//! work is in the figures too. `cargo run --release -p farmgate-pdu --example power_speed`
#![allow(clippy::unwrap_used)] // a program for measuring: what goes wrong ends it

use std::time::{Duration, Instant};

use farmgate_pdu::{PduHandle, PduOptions, make};
use farmgate_protocol::{pdu::PduState, vpdu::Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// Tells when each OFF arrived.
async fn serve(listener: TcpListener, ports: u8, heard: mpsc::UnboundedSender<Instant>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 4];
        if stream.read_exact(&mut request).await.is_err() {
            continue;
        }
        let answer = match Request::decode(request) {
            Ok(Request::NumPorts) => ports,
            Ok(Request::Status(_)) => 4,
            Ok(Request::Off(_)) => {
                let _ = heard.send(Instant::now());
                1
            }
            _ => 1,
        };
        let _ = stream.write_all(&[answer]).await;
    }
}

async fn spawn(name: &str, address: &str) -> PduHandle {
    let driver = make("vpdu", &serde_json::json!({"hostname": address})).unwrap();
    PduHandle::spawn(name, driver, PduOptions::default(), CancellationToken::new())
}

async fn live(ports: u8) -> (PduHandle, mpsc::UnboundedReceiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heard, arrivals) = mpsc::unbounded_channel();
    tokio::spawn(serve(listener, ports, heard));
    let pdu = spawn("live", &address).await;
    pdu.snapshot().wait_for(|s| s.pdu.state == PduState::Ok).await.unwrap();
    (pdu, arrivals)
}

async fn latency(what: &str) {
    let (pdu, mut arrivals) = live(24).await;
    let mut times = Vec::new();
    for n in 0..2000_u32 {
        while arrivals.try_recv().is_ok() {}
        let begun = Instant::now();
        pdu.off(&(n % 24 + 1).into()).await.unwrap();
        times.push(arrivals.recv().await.unwrap() - begun);
    }
    times.sort();
    println!("{what}: call to command on the wire p50 {:?}, p99 {:?}", times[1000], times[1980]);
}

/// User and system time of this process, in hundredths of a second.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::main]
async fn main() {
    latency("one PDU").await;
    // It takes connections and never answers.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _dead = spawn("dead", &dead.local_addr().unwrap().to_string()).await;
    latency("beside a dead one").await;
    let mut pdus = Vec::new();
    for _ in 0..64 {
        pdus.push(live(24).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, begun) = (processor_time(), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let used = (processor_time() - before) as f64 / 100.0 / begun.elapsed().as_secs_f64();
    println!(
        "64 PDUs of 24 ports, each port read once a second: {:.1} % of a core, with the PDUs' own side",
        used * 100.0
    );
}
