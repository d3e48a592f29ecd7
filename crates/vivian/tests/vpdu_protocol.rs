//! The vPDU as its clients see it: raw bytes over TCP, and `vpductl`. The machines are fakes that can be told to fail,
//! to be slow and to die.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in what its tests share")]

mod support;

use std::{
    future::pending,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use farmgate_vivian::{
    outlet::Outlet,
    vpdu::{
        machine::{Machine, MachineError},
        port, server,
    },
};
use support::{stderr, stdout, vpductl, wait_for};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// What a test sees of a fake machine, and does to it.
#[derive(Debug, Default)]
struct Controls {
    power: AtomicBool,
    starts: AtomicU32,
    fail: AtomicBool,
    crash: Notify,
    crashed: AtomicBool,
    slow: Mutex<Option<Arc<Notify>>>,
}

#[derive(Debug)]
struct Fake(Arc<Controls>);

impl Fake {
    fn outcome(&self) -> Result<(), MachineError> {
        if self.0.fail.load(Ordering::SeqCst) { Err(MachineError::NotReady(0)) } else { Ok(()) }
    }
}

impl Machine for Fake {
    async fn start(&mut self) -> Result<(), MachineError> {
        self.outcome()?;
        let slow = self.0.slow.lock().unwrap().clone();
        if let Some(slow) = slow {
            slow.notified().await;
        }
        self.0.starts.fetch_add(1, Ordering::SeqCst);
        self.0.power.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), MachineError> {
        self.outcome()?;
        self.0.power.store(false, Ordering::SeqCst);
        Ok(())
    }

    async fn died(&mut self) -> String {
        self.0.crash.notified().await;
        if self.0.crashed.swap(true, Ordering::SeqCst) {
            return pending().await;
        }
        "it was told to".to_owned()
    }
}

struct Vpdu {
    port: u16,
    machines: Vec<Arc<Controls>>,
    runtime: Option<tokio::runtime::Runtime>,
    served: Arc<AtomicBool>,
}

impl Vpdu {
    fn with(count: u8) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let machines: Vec<Arc<Controls>> = (0..count).map(|_| Arc::default()).collect();
        let fakes: Vec<_> = machines.iter().cloned().map(Fake).collect();
        let served = Arc::new(AtomicBool::new(false));
        let ended = served.clone();
        runtime.spawn(async move {
            let mut tasks = JoinSet::new();
            let ports =
                Outlet::first(count).zip(fakes).map(|(o, fake)| port::spawn(&mut tasks, o, fake)).collect();
            server::serve(listener, ports, CancellationToken::new()).await;
            tasks.join_all().await;
            ended.store(true, Ordering::SeqCst);
        });
        Self { port, machines, runtime: Some(runtime), served }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// All that comes back for these bytes.
    fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        reply
    }

    fn power(&self, index: usize) -> bool {
        self.machines[index].power.load(Ordering::SeqCst)
    }
}

impl Drop for Vpdu {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[test]
fn the_bytes_on_the_wire_are_those_of_the_protocol() {
    let vpdu = Vpdu::with(3);
    for (request, reply) in [
        ([0, 0, 0, 0b0000], &[3][..]),    // number of ports
        ([0, 0, 0, 0b0111], &[4]),        // status of the second: off
        ([0, 0, 0, 0b0101], &[1]),        // second on
        ([0, 0, 0, 0b0111], &[3]),        // status: on
        ([0, 0, 0, 0b0011], &[4]),        // the first still is off
        ([0, 0, 0, 0b0101], &[1]),        // on again: fine
        ([0, 0, 0, 0b0110], &[1]),        // off
        ([0, 0, 0, 0b0110], &[1]),        // off again: fine
        ([0, 0, 0, 0b0111], &[4]),        // off
        ([0, 0, 0, 0b1101], &[0]),        // a fourth port there is not
        ([0, 0, 0x1f, 0xff], &[0]),       // nor a 2048th
        ([0, 0, 0x40, 0], &[0]),          // a reserved bit
        ([0xff, 0xff, 0xff, 0xff], &[0]), // all of them
        ([0, 0, 0, 0b0000], &[3]),        // and it still answers
    ] {
        assert_eq!(vpdu.raw(&request), reply, "{request:?}");
    }
    assert_eq!(vpdu.machines[1].starts.load(Ordering::SeqCst), 1);
}

#[test]
fn clients_that_say_little_much_or_nothing_hurt_nobody() {
    let vpdu = Vpdu::with(1);
    let silent: Vec<_> = (0..20).map(|_| vpdu.connect()).collect();
    let half = vpdu.connect();
    (&half).write_all(&[0, 0]).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&half).read(&mut [0]).unwrap(), 0, "half a request is not answered");
    let mut chatty = vpdu.connect();
    chatty.write_all(&[[0, 0, 0, 0b11]; 100].concat()).unwrap();
    let mut first = [0];
    chatty.read_exact(&mut first).unwrap();
    assert_eq!(first, [4]);
    assert_eq!(vpdu.raw(&[0; 4]), [1]);
    drop(silent);
}

#[test]
fn a_client_that_leaves_does_not_undo_what_it_asked_for() {
    let vpdu = Vpdu::with(1);
    let slow = Arc::new(Notify::new());
    *vpdu.machines[0].slow.lock().unwrap() = Some(slow.clone());
    let mut client = vpdu.connect();
    client.write_all(&[0, 0, 0, 0b01]).unwrap();
    drop(client);
    slow.notify_one();
    wait_for("the machine to have power", || vpdu.power(0));
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b11]), [3]);
}

#[test]
fn a_slow_port_does_not_hold_up_another() {
    let vpdu = Vpdu::with(2);
    let slow = Arc::new(Notify::new());
    *vpdu.machines[0].slow.lock().unwrap() = Some(slow.clone());
    let mut waiting = vpdu.connect();
    waiting.write_all(&[0, 0, 0, 0b0001]).unwrap();
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b0101]), [1]);
    slow.notify_one();
    let mut reply = [0];
    waiting.read_exact(&mut reply).unwrap();
    assert_eq!(reply, [1]);
}

#[test]
fn a_failed_on_leaves_the_port_off_and_a_failed_off_leaves_it_unknown() {
    let vpdu = Vpdu::with(1);
    let fail = &vpdu.machines[0].fail;
    fail.store(true, Ordering::SeqCst);
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b01]), [5]);
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b11]), [4]);
    fail.store(false, Ordering::SeqCst);
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b01]), [1]);
    fail.store(true, Ordering::SeqCst);
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b10]), [5]);
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b11]), [5], "something may still run");
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b01]), [5], "a second machine beside it would be worse");
    fail.store(false, Ordering::SeqCst);
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b10]), [1]);
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b11]), [4]);
}

#[test]
fn a_machine_that_dies_leaves_its_port_on_until_it_is_switched_off_and_on() {
    let vpdu = Vpdu::with(1);
    vpdu.raw(&[0, 0, 0, 0b01]);
    vpdu.machines[0].crash.notify_one();
    wait_for("the crash to be seen", || vpdu.machines[0].crashed.load(Ordering::SeqCst));
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b11]), [3]);
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b01]), [1]);
    assert_eq!(vpdu.machines[0].starts.load(Ordering::SeqCst), 1, "ON again does nothing");
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b10]), [1]);
    assert_eq!(vpdu.raw(&[0, 0, 0, 0b01]), [1]);
    assert_eq!(vpdu.machines[0].starts.load(Ordering::SeqCst), 2);
}

#[test]
fn a_shutdown_switches_everything_off_and_ends_the_service() {
    let vpdu = Vpdu::with(3);
    vpdu.raw(&[0, 0, 0, 0b0001]);
    vpdu.raw(&[0, 0, 0, 0b1001]);
    assert_eq!(vpdu.raw(&[0, 0, 0x20, 0]), [1]);
    assert!((0..3).all(|index| !vpdu.power(index)));
    wait_for("the service to end", || vpdu.served.load(Ordering::SeqCst));
}

#[test]
fn vpductl_speaks_plain_words_and_counts_from_one() {
    let vpdu = Vpdu::with(2);
    let on = vpductl(vpdu.port, "--outlet 2 --on");
    assert!(on.status.success());
    assert_eq!(stdout(&on), "outlet 2 (port_id \"2\", MAC 52:54:00:11:22:02): ON\n");
    assert!(vpdu.power(1) && !vpdu.power(0));
    assert_eq!(
        stdout(&vpductl(vpdu.port, "")),
        "outlet 1 (port_id \"1\", MAC 52:54:00:11:22:01): OFF\noutlet 2 (port_id \"2\", MAC 52:54:00:11:22:02): ON\n"
    );
    assert!(vpductl(vpdu.port, "--outlet 2 --reboot").status.success());
    assert_eq!(vpdu.machines[1].starts.load(Ordering::SeqCst), 2);
    assert!(vpductl(vpdu.port, "--all --off").status.success());
    assert!(!vpdu.power(1));
    for (arguments, hint) in
        [("--outlet 3 --on", "this vPDU has 2"), ("--on", "--outlet N or --all"), ("--outlet 0", "1 to 255")]
    {
        let refused = vpductl(vpdu.port, arguments);
        assert!(!refused.status.success());
        assert!(stderr(&refused).contains(hint), "{arguments}: {}", stderr(&refused));
    }
    vpdu.machines[0].fail.store(true, Ordering::SeqCst);
    let failed = vpductl(vpdu.port, "--all --on");
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        stderr(&failed).contains("outlet 1") && stderr(&failed).contains("ON failed"),
        "{}",
        stderr(&failed)
    );
    assert!(vpdu.power(1), "the others are switched all the same");
    vpdu.machines[0].fail.store(false, Ordering::SeqCst);
    assert!(vpductl(vpdu.port, "--shutdown").status.success());
}

#[test]
fn vpductl_says_how_to_start_a_vpdu_that_is_not_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = vpductl(port, "--outlet 1 --on");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("vivian up"), "{}", stderr(&refused));
}
