use std::{process::Stdio, sync::Mutex, time::Duration};

use tempfile::TempDir;
use tokio::process::Command;

use super::*;
use crate::{BootPlan, Reservation, ScriptRequest, dhcp::LeaseTable};

/// Knows every client as one machine and writes down what it did.
#[derive(Default)]
struct Recorder(Mutex<Vec<Stage>>);

impl BootDirectory for Recorder {
    fn reservation(&self, _: MacAddress) -> Option<Reservation> {
        Some(Reservation { address: Ipv4Addr::LOCALHOST, host_name: None })
    }
    fn is_reserved(&self, _: Ipv4Addr) -> bool {
        true
    }
    fn plan(&self, _: MacAddress, _: &ScriptRequest) -> Result<BootPlan, String> {
        Err(String::new())
    }
    fn saw(&self, sighting: Sighting) {
        self.0.lock().unwrap().push(sighting.stage);
    }
}

struct Server {
    port: u16,
    root: TempDir,
    recorder: Arc<Recorder>,
    shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn start() -> Server {
    let root = tempfile::tempdir().unwrap();
    let socket = socket::udp_on(None, Ipv4Addr::LOCALHOST, 0, false).unwrap();
    let port = socket.local_addr().unwrap().port();
    let settings = TftpSettings {
        interface: None,
        address: Ipv4Addr::LOCALHOST,
        root: root.path().to_owned(),
        largest_block: 1468,
    };
    let recorder = Arc::new(Recorder::default());
    let mut table = LeaseTable::new(Ipv4Addr::LOCALHOST..=Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
    let hour = Duration::from_secs(3600);
    assert!(table.take(MacAddress([2; 6]), Ipv4Addr::LOCALHOST, hour, &*recorder, Timestamp::now()));
    let leases = Leases::new(table);
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(socket, settings, leases, recorder.clone(), shutdown.clone()));
    Server { port, root, recorder, shutdown }
}

async fn curl(server: &Server, name: &str, options: &[&str]) -> (bool, Vec<u8>) {
    let url = format!("tftp://127.0.0.1:{}/{name}", server.port);
    let output = Command::new("curl")
        .args(["-s", "--max-time", "20", "--path-as-is"])
        .args(options)
        .arg(url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("curl is needed for this test: apt-get install curl");
    (output.status.success(), output.stdout)
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 257) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_fetches_files_of_every_awkward_length() {
    let server = start();
    for length in [0, 1, 511, 512, 513, 1468, 1_000_000] {
        std::fs::write(server.root.path().join("f"), noise(length)).unwrap();
        for options in [&["--tftp-no-options"][..], &["--tftp-blksize", "1468"], &["--tftp-blksize", "8"]] {
            // curl refuses a size of 0 as an option's value.
            let refused_by_curl = length == 0 && options.len() == 2;
            if refused_by_curl || length == 1_000_000 && options.last() == Some(&"8") {
                continue;
            }
            let (fine, bytes) = curl(&server, "f", options).await;
            assert!(fine && bytes == noise(length), "{length} bytes, {options:?}: got {}", bytes.len());
        }
    }
    let stages = server.recorder.0.lock().unwrap();
    assert_eq!(stages[0], Stage::TftpStart { file: "f".to_owned() });
    assert!(stages.contains(&Stage::TftpDone { file: "f".to_owned(), bytes: 513 }), "{stages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_absent_or_outside_is_refused() {
    let server = start();
    for name in ["absent", "../../etc/passwd", "%2e%2e/x"] {
        let (fine, bytes) = curl(&server, name, &[]).await;
        assert!(!fine && bytes.is_empty(), "{name}");
    }
}

/// What comes back to a raw packet within a second.
async fn ask(client: &UdpSocket, server: &Server, packet: &[u8]) -> Option<(Vec<u8>, SocketAddr)> {
    client.send_to(packet, ("127.0.0.1", server.port)).await.unwrap();
    next(client).await
}

async fn next(client: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2048];
    let received = tokio::time::timeout(Duration::from_secs(1), client.recv_from(&mut buffer)).await.ok()?;
    let (length, from) = received.unwrap();
    Some((buffer[..length].to_vec(), from))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_client_ends_the_transfer_at_once() {
    let server = start();
    std::fs::write(server.root.path().join("f"), noise(5000)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // UEFI asks for the size this way and then aborts.
    let (oack, from) = ask(&client, &server, b"\0\x01f\0octet\0tsize\x000\0").await.unwrap();
    assert_eq!(oack, b"\0\x06tsize\x005000\0");
    client.send_to(b"\0\x05\0\x08User aborted the transfer\0", from).await.unwrap();
    assert_eq!(next(&client).await, None, "nothing is sent again");
    // The same port may ask again at once.
    let (data, _) = ask(&client, &server, b"\0\x01f\0octet\0").await.unwrap();
    assert_eq!(data[..4], [0, 3, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_from_the_port_of_an_unfinished_transfer_is_served_unless_it_is_its_own() {
    let server = start();
    std::fs::write(server.root.path().join("f"), noise(5000)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (oack, old) = ask(&client, &server, b"\0\x01f\0octet\0tsize\x000\0").await.unwrap();
    assert_eq!(oack, b"\0\x06tsize\x005000\0");
    let (again, from) = ask(&client, &server, b"\0\x01f\0octet\0tsize\x000\0").await.unwrap();
    assert_eq!((again, from), (oack, old), "the same request twice is one transfer");
    client.send_to(b"\0\x01f\0octet\0", ("127.0.0.1", server.port)).await.unwrap();
    let data = loop {
        let (packet, from) = next(&client).await.unwrap();
        if from != old {
            break packet;
        }
    };
    assert_eq!(data[..4], [0, 3, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_transfer_does_not_stand_in_the_way_of_the_same_request_after_a_power_cut() {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 2070));
    let bytes = b"\0\x01f\0octet\0";
    let hung = tokio::spawn(std::future::pending::<()>());
    let running = |age| Running {
        peer,
        request: Request::decode(bytes).unwrap(),
        since: Instant::now().checked_sub(age).unwrap(),
        task: hung.abort_handle(),
    };
    let mut young = VecDeque::from([running(Duration::from_secs(1))]);
    assert_eq!(admit(bytes, peer, &mut young), Ok(None));
    let mut old = VecDeque::from([running(Duration::from_secs(30))]);
    assert!(matches!(admit(bytes, peer, &mut old), Ok(Some(_))) && old.is_empty());
    assert!(hung.await.unwrap_err().is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_blocks_is_sent_at_once() {
    let server = start();
    std::fs::write(server.root.path().join("f"), noise(512 * 6)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (oack, from) = ask(&client, &server, b"\0\x01f\0octet\0windowsize\x004\0").await.unwrap();
    assert_eq!(oack, b"\0\x06windowsize\x004\0");
    client.send_to(&[0, 4, 0, 0], from).await.unwrap();
    for number in 1..=4 {
        assert_eq!(next(&client).await.unwrap().0[..4], [0, 3, 0, number]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_and_text_mode_are_refused_and_noise_is_not_answered() {
    let server = start();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    assert_eq!(ask(&client, &server, b"\0\x02f\0octet\0").await.unwrap().0[..4], [0, 5, 0, 2]);
    assert_eq!(ask(&client, &server, b"\0\x01f\0netascii\0").await.unwrap().0[..4], [0, 5, 0, 4]);
    assert_eq!(ask(&client, &server, b"\0\x05\0\0x\0").await, None);
}
