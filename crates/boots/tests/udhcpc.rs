//! A DHCP client that nobody here wrote gets its address, and a router solicitation its answer, on a network of the
//! test's own.
//!
//! The test runs itself again inside a new user and network namespace, where it may make interfaces and open port
//! 67. The client's end of the cable and the server's are in that same namespace: udhcpc speaks through packet
//! sockets, so its packets really cross the cable.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    io::Read as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6},
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use farmgate_boots::{
    BootDirectory, BootPlan, Boots, BootsConfig, Reservation, ScriptRequest, Sighting, Stage,
};
use farmgate_protocol::MacAddress;
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;

const INSIDE: &str = "FARMGATE_TEST_INSIDE_NAMESPACE";
const KNOWN: MacAddress = MacAddress([0x52, 0x54, 0, 0x11, 0x22, 0x42]);
const STRANGER: MacAddress = MacAddress([0x52, 0x54, 0, 0x11, 0x22, 0x01]);

#[derive(Default)]
struct Farm(Mutex<Vec<Sighting>>);

impl BootDirectory for Farm {
    fn reservation(&self, mac: MacAddress) -> Option<Reservation> {
        let address = Ipv4Addr::new(10, 42, 0, 66);
        (mac == KNOWN).then(|| Reservation { address, host_name: Some("gfx9-1".to_owned()) })
    }
    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        address == Ipv4Addr::new(10, 42, 0, 66)
    }
    fn plan(&self, _: MacAddress, _: &ScriptRequest) -> Result<BootPlan, String> {
        Err("nothing boots here".to_owned())
    }
    fn saw(&self, sighting: Sighting) {
        self.0.lock().unwrap().push(sighting);
    }
}

#[test]
fn udhcpc_gets_an_address_of_the_pool_or_its_own() {
    if std::env::var_os(INSIDE).is_none() {
        return run_inside("udhcpc_gets_an_address_of_the_pool_or_its_own");
    }
    for command in [
        "ip link set lo up",
        "ip link add name private type veth peer name dut",
        "ip address add 10.42.0.1/24 dev private",
        "ip link set private up",
    ] {
        run(command);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(serve_and_ask());
}

async fn serve_and_ask() {
    let farm = Arc::new(Farm::default());
    let shutdown = CancellationToken::new();
    let config = BootsConfig {
        interface: "private".to_owned(),
        address: Ipv4Addr::new(10, 42, 0, 1),
        prefix_len: 24,
        pool: Ipv4Addr::new(10, 42, 0, 100)..=Ipv4Addr::new(10, 42, 0, 199),
        tftp_root: "/usr/lib/ipxe".into(),
        base_url: "http://10.42.0.1".to_owned(),
        lease_time: Duration::from_secs(3600),
        dhcp: true,
        tftp: true,
        router_advertisements: true,
    };
    let boots = Boots::start(config, farm.clone(), shutdown.clone()).await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let first = ask(dir.path(), STRANGER).await;
    let expected = [
        "ip=10.42.0.100",
        "mask=24",
        "router=10.42.0.1",
        "dns=10.42.0.1",
        "lease=3600",
        "serverid=10.42.0.1",
    ];
    for line in expected {
        assert!(first.lines().any(|l| l == line), "no {line} in\n{first}");
    }
    assert!(!first.contains("boot_file="), "no boot firmware:\n{first}");
    let known = ask(dir.path(), KNOWN).await;
    assert!(known.contains("ip=10.42.0.66\n") && known.contains("hostname=gfx9-1\n"), "{known}");
    let again = ask(dir.path(), STRANGER).await;
    assert!(again.contains("ip=10.42.0.100\n"), "it keeps its address:\n{again}");

    assert_eq!(boots.leases.mac_at(Ipv4Addr::new(10, 42, 0, 100)), Some(STRANGER));
    let holders: Vec<_> = boots.leases.all().into_iter().map(|lease| lease.mac).collect();
    assert_eq!(holders, [KNOWN, STRANGER], "by address");
    let seen = farm.0.lock().unwrap().clone();
    assert!(
        matches!(&seen[0].stage, Stage::DhcpDiscover { client, boots: false } if client.starts_with("no boot firmware (udhcp"))
    );
    assert_eq!(seen[1].stage, Stage::DhcpAck { address: Ipv4Addr::new(10, 42, 0, 100) });

    tokio::task::spawn_blocking(a_solicited_advertisement_promises_nothing).await.unwrap();

    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), boots.stopped())
        .await
        .expect("the servers end when told to");
}

/// Asks for a router as iPXE does, until an answer comes: both ends first need their link-local addresses.
fn a_solicited_advertisement_promises_nothing() {
    let mut socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
    socket.bind_device(Some(b"dut")).unwrap();
    socket.set_multicast_hops_v6(255).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let index = rustix::net::netdevice::name_to_index(&socket, "dut").unwrap();
    let routers = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), 0, 0, index);
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut buffer = [0; 1500];
    loop {
        assert!(Instant::now() < deadline, "no router advertisement within 30 s");
        let _ = socket.send_to(&[133, 0, 0, 0, 0, 0, 0, 0], &routers.into());
        let Ok(length) = socket.read(&mut buffer) else { continue };
        if length > 0 && buffer[0] == 134 {
            // Flags, router lifetime, and no options behind the fixed part.
            assert_eq!((length, buffer[5], &buffer[6..8]), (16, 0, &[0, 0][..]));
            return;
        }
    }
}

/// What udhcpc was told, as `name=value` lines.
async fn ask(dir: &Path, mac: MacAddress) -> String {
    let script = dir.join("script");
    std::fs::write(&script, "#!/bin/sh\n[ \"$1\" = bound ] && env\nexit 0\n").unwrap();
    run(&format!("chmod +x {}", script.display()));
    run("ip link set dut down");
    run(&format!("ip link set dut address {mac}"));
    run("ip link set dut up");
    let script = script.display().to_string();
    let output = tokio::task::spawn_blocking(move || {
        command("busybox udhcpc -f -q -n -t 10 -T 1 -i dut -s").arg(script).output()
    })
    .await
    .unwrap()
    .expect("busybox is needed for this test: apt-get install busybox-static");
    checked("udhcpc", &output)
}

fn run(line: &str) -> String {
    let output = command(line).output().unwrap_or_else(|error| panic!("{line}: {error}"));
    checked(line, &output)
}

fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

fn checked(what: &str, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs one test of this program in a namespace of its own. Where namespaces are not allowed it is skipped by name,
/// but in CI it fails.
fn run_inside(test: &str) {
    let possible = command("unshare -Urn true").output().is_ok_and(|output| output.status.success());
    if !possible {
        assert!(
            std::env::var_os("CI").is_none(),
            "user namespaces are needed: kernel.unprivileged_userns_clone=1"
        );
        eprintln!("SKIPPED {test}: `unshare -Urn` is not allowed here");
        return;
    }
    let itself = std::env::current_exe().unwrap();
    let output = command("timeout 120 unshare -Urn")
        .arg(itself)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed") || !output.status.success(), "the test did not run:\n{printed}");
    checked(&format!("{test} in a namespace\n{printed}"), &output);
}
