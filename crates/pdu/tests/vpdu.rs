//! The vPDU driver against a server that speaks the wire format, written from its description.
#![allow(clippy::unwrap_used)] // all of this file is tests

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use farmgate_pdu::{DriverError, PduHandle, PduOptions, make};
use farmgate_protocol::{
    PortId,
    pdu::{PduState, PortState},
    vpdu::Request,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

type Ports = Arc<Mutex<Vec<bool>>>;

async fn serve(listener: TcpListener, ports: Ports) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4];
        if stream.read_exact(&mut request).await.is_err() {
            continue;
        }
        let answer = {
            let mut ports = ports.lock().unwrap();
            let mut set = |port: u16, on| match ports.get_mut(usize::from(port)) {
                Some(state) => {
                    *state = on;
                    1
                }
                None => 0,
            };
            match Request::decode(request).unwrap() {
                Request::NumPorts => ports.len() as u8,
                Request::On(port) => set(port, true),
                Request::Off(port) => set(port, false),
                Request::Status(port) => match ports.get(usize::from(port)) {
                    Some(true) => 3,
                    Some(false) => 4,
                    None => 0,
                },
                Request::Shutdown => 1,
            }
        };
        let _ = stream.write_all(&[answer]).await;
    }
}

async fn vpdu(ports: usize) -> (String, Ports, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ports = Arc::new(Mutex::new(vec![false; ports]));
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, ports.clone()));
    (address, ports, tasks)
}

#[tokio::test]
async fn outlets_are_listed_read_and_switched() {
    let (address, ports, _server) = vpdu(3).await;
    let mut driver = make("vpdu", &serde_json::json!({"hostname": address})).unwrap();
    let infos = driver.ports().await.unwrap();
    let shown: Vec<_> = infos.iter().map(|info| (info.id.as_str(), info.label.as_str())).collect();
    assert_eq!(shown, [("1", "outlet 1"), ("2", "outlet 2"), ("3", "outlet 3")]);
    let second = PortId::from(2);
    assert_eq!(driver.read(&second).await.unwrap(), PortState::Off);
    driver.write(&second, true).await.unwrap();
    assert_eq!(*ports.lock().unwrap(), [false, true, false]);
    assert_eq!(driver.read(&second).await.unwrap(), PortState::On);
    driver.write(&second, false).await.unwrap();
    assert_eq!(driver.read(&second).await.unwrap(), PortState::Off);
    for unknown in ["0", "4", "x"] {
        let id = PortId::new(unknown).unwrap();
        assert!(matches!(driver.read(&id).await, Err(DriverError::UnknownPort(_))), "{unknown}");
    }
}

#[tokio::test]
async fn a_vpdu_that_comes_back_is_found_again_and_a_cycle_is_quick() {
    let (address, ports, mut server) = vpdu(2).await;
    let driver = make("vpdu", &serde_json::json!({"hostname": address})).unwrap();
    let options = PduOptions { poll: Duration::from_millis(50), ..PduOptions::default() };
    let pdu = PduHandle::spawn("VPDU", driver, options, CancellationToken::new());
    let mut snapshot = pdu.snapshot();
    let wait = Duration::from_secs(20);
    timeout(wait, snapshot.wait_for(|s| s.pdu.state == PduState::Ok)).await.unwrap().unwrap();
    server.shutdown().await;
    timeout(wait, snapshot.wait_for(|s| s.pdu.state == PduState::Error)).await.unwrap().unwrap();
    assert!(snapshot.borrow().pdu.error.as_ref().unwrap().contains(&address));
    server.spawn(serve(TcpListener::bind(&address).await.unwrap(), ports.clone()));
    timeout(wait, snapshot.wait_for(|s| s.pdu.state == PduState::Ok)).await.unwrap().unwrap();

    let one = PortId::from(1);
    pdu.off(&one).await.unwrap();
    let start = Instant::now();
    pdu.on(&one, Duration::from_millis(300)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(250) && start.elapsed() < Duration::from_secs(3));
    assert_eq!(*ports.lock().unwrap(), [true, false]);
}
