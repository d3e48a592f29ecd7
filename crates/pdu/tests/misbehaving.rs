//! The task against PDUs that are slow, lie, fail every second call, die and come back. Time is virtual.
#![allow(clippy::unwrap_used)] // all of this file is tests

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use farmgate_pdu::{Driver, DriverError, PduHandle, PduOptions, PortInfo, PowerError};
use farmgate_protocol::{
    PortId,
    pdu::{PduState, PortState},
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// What a fake PDU does wrong, and what it was told.
#[derive(Default)]
struct Fake {
    ports: BTreeMap<PortId, bool>,
    commands: Vec<(PortId, bool, Instant)>,
    /// Every call takes so long.
    latency: Duration,
    /// After a command the old state is shown for so long.
    lies_for: Duration,
    lie: Option<(PortId, bool, Instant)>,
    fails_every_second_call: bool,
    calls: u64,
    dead: bool,
    ignores_commands: bool,
}

type Shared = Arc<Mutex<Fake>>;

struct FakeDriver(Shared);

impl FakeDriver {
    async fn call(&self) -> Result<(), DriverError> {
        let (latency, dead, fails) = {
            let mut fake = self.0.lock().unwrap();
            fake.calls += 1;
            (fake.latency, fake.dead, fake.fails_every_second_call && fake.calls % 2 == 1)
        };
        tokio::time::sleep(latency).await;
        if dead {
            std::future::pending::<()>().await;
        }
        if fails { Err(DriverError::Protocol("garbage".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Driver for FakeDriver {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        self.call().await?;
        let fake = self.0.lock().unwrap();
        Ok(fake.ports.keys().map(|id| PortInfo { id: id.clone(), label: format!("Dose {id} ü") }).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        self.call().await?;
        let fake = self.0.lock().unwrap();
        let mut on = *fake.ports.get(port).ok_or_else(|| DriverError::UnknownPort(port.clone()))?;
        if let Some((lying, old, until)) = &fake.lie
            && lying == port
            && Instant::now() < *until
        {
            on = *old;
        }
        Ok(if on { PortState::On } else { PortState::Off })
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        self.call().await?;
        let mut fake = self.0.lock().unwrap();
        fake.commands.push((port.clone(), on, Instant::now()));
        if fake.ignores_commands {
            return Ok(());
        }
        let until = Instant::now() + fake.lies_for;
        let Some(old) = fake.ports.insert(port.clone(), on) else {
            return Err(DriverError::UnknownPort(port.clone()));
        };
        if old != on {
            fake.lie = Some((port.clone(), old, until));
        }
        Ok(())
    }
}

/// A PDU with ports "1" to `n`, all ON.
fn fake(n: u32, change: impl FnOnce(&mut Fake)) -> Shared {
    let mut fake = Fake { ports: (1..=n).map(|i| (i.into(), true)).collect(), ..Fake::default() };
    change(&mut fake);
    Arc::new(Mutex::new(fake))
}

fn spawn(fake: &Shared) -> PduHandle {
    spawn_with(fake, PduOptions::default())
}

fn spawn_with(fake: &Shared, options: PduOptions) -> PduHandle {
    PduHandle::spawn("APC", Box::new(FakeDriver(fake.clone())), options, CancellationToken::new())
}

async fn state(pdu: &PduHandle, wanted: PduState) {
    let mut snapshot = pdu.snapshot();
    let seen = timeout(Duration::from_secs(120), snapshot.wait_for(|s| s.pdu.state == wanted)).await;
    assert!(seen.is_ok(), "never became {wanted:?}: {:?}", pdu.snapshot().borrow().pdu);
}

async fn port_state(pdu: &PduHandle, port: &str, wanted: PortState) {
    let mut snapshot = pdu.snapshot();
    let seen = snapshot.wait_for(|s| s.pdu.ports.get(port).is_some_and(|p| p.state == wanted));
    assert!(timeout(Duration::from_secs(60), seen).await.is_ok(), "{port} never became {wanted}");
}

fn port(n: u32) -> PortId {
    n.into()
}

async fn cycles(fake: Shared) -> (Duration, Vec<(PortId, bool, Instant)>) {
    let pdu = spawn(&fake);
    let start = Instant::now();
    pdu.off(&port(2)).await.unwrap();
    let seen_off = Instant::now();
    assert!(!fake.lock().unwrap().ports[&port(2)]);
    pdu.on(&port(2), Duration::from_secs(40)).await.unwrap();
    assert!(fake.lock().unwrap().ports[&port(2)]);
    let commands = fake.lock().unwrap().commands.clone();
    let (_, on, when) = commands.iter().find(|(_, on, _)| *on).unwrap();
    // OFF is seen a moment before the caller hears of it.
    assert!(
        *on && *when + Duration::from_millis(5) >= seen_off + Duration::from_secs(40),
        "ON came too early"
    );
    (start.elapsed(), commands)
}

#[tokio::test(start_paused = true)]
async fn a_port_is_off_for_the_longer_minimum_before_it_is_on() {
    let (took, commands) = cycles(fake(4, |_| {})).await;
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(took < Duration::from_secs(41), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_pdu_is_waited_for() {
    cycles(fake(4, |f| f.latency = Duration::from_secs(2))).await;
}

#[tokio::test(start_paused = true)]
async fn a_pdu_that_shows_the_old_state_for_three_seconds_is_believed_in_the_end() {
    cycles(fake(4, |f| f.lies_for = Duration::from_secs(3))).await;
}

#[tokio::test(start_paused = true)]
async fn a_pdu_that_fails_every_second_call_works() {
    let (took, _) = cycles(fake(3, |f| f.fails_every_second_call = true)).await;
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_but_the_wished_port_is_commanded() {
    let fake = fake(24, |f| f.lies_for = Duration::from_secs(1));
    let pdu = spawn_with(&fake, PduOptions { min_off: Some(Duration::ZERO), ..PduOptions::default() });
    let mut seed = 7_u64;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (wished, on) = (port((seed >> 33) as u32 % 6 + 1), seed >> 63 == 1);
        let pdu = pdu.clone();
        tasks.spawn(async move {
            let _ = if on { pdu.on(&wished, Duration::ZERO).await } else { pdu.off(&wished).await };
        });
        tokio::time::sleep(Duration::from_millis(seed >> 56)).await;
    }
    tasks.join_all().await;
    let fake = fake.lock().unwrap();
    let touched: BTreeSet<_> = fake.commands.iter().map(|(id, ..)| id.clone()).collect();
    assert_eq!(touched, (1..=6).map(port).collect());
    assert!((7..=24).all(|n| fake.ports[&port(n)]));
}

#[tokio::test(start_paused = true)]
async fn the_last_wish_wins_and_the_earlier_caller_is_told() {
    let fake = fake(2, |_| {});
    let pdu = spawn(&fake);
    pdu.off(&port(1)).await.unwrap();
    let first = tokio::spawn({
        let pdu = pdu.clone();
        async move { pdu.on(&port(1), Duration::ZERO).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    pdu.off(&port(1)).await.unwrap();
    assert!(matches!(first.await.unwrap(), Err(PowerError::Superseded { now: PortState::Off, .. })));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(fake.lock().unwrap().commands.iter().all(|(_, on, _)| !on));
}

#[tokio::test(start_paused = true)]
async fn dropping_on_takes_the_wish_back() {
    let fake = fake(1, |_| {});
    let pdu = spawn(&fake);
    pdu.off(&port(1)).await.unwrap();
    assert!(timeout(Duration::from_secs(10), pdu.on(&port(1), Duration::ZERO)).await.is_err());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!fake.lock().unwrap().ports[&port(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_does_not_obey_ends_in_an_error_with_what_was_seen() {
    let fake = fake(1, |f| f.ignores_commands = true);
    let pdu = spawn(&fake);
    let start = Instant::now();
    let error = pdu.off(&port(1)).await.unwrap_err();
    assert!(matches!(&error, PowerError::NotConfirmed { seen: PortState::On, .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(35));
    let tries = fake.lock().unwrap().commands.len();
    assert!((3..10).contains(&tries), "{tries} commands");
}

#[tokio::test(start_paused = true)]
async fn a_dead_pdu_is_shown_its_ports_are_unknown_and_it_recovers_by_itself() {
    let fake = fake(2, |_| {});
    let pdu = spawn(&fake);
    state(&pdu, PduState::Ok).await;
    port_state(&pdu, "2", PortState::On).await;
    fake.lock().unwrap().dead = true;
    state(&pdu, PduState::Error).await;
    let shown = pdu.snapshot().borrow().pdu.clone();
    assert_eq!(shown.ports["2"].state, PortState::Unknown);
    assert!(shown.error.unwrap().contains("no answer within 5s"));
    let error = pdu.off(&port(2)).await.unwrap_err();
    assert!(error.to_string().contains("last seen UNKNOWN"), "{error}");
    fake.lock().unwrap().dead = false;
    state(&pdu, PduState::Ok).await;
    pdu.off(&port(2)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pdu_that_never_answered_refuses_wishes_after_a_bound_and_takes_them_when_it_comes() {
    let fake = fake(2, |f| f.dead = true);
    let pdu = spawn(&fake);
    let start = Instant::now();
    let error = pdu.off(&port(1)).await.unwrap_err();
    assert!(matches!(error, PowerError::NotConfirmed { source: Some(DriverError::Timeout(_)), .. }));
    assert!(start.elapsed() < Duration::from_secs(40));
    let waiting = tokio::spawn({
        let pdu = pdu.clone();
        async move { pdu.off(&port(1)).await }
    });
    tokio::time::sleep(Duration::from_secs(7)).await;
    fake.lock().unwrap().dead = false;
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn reserved_and_unknown_ports_are_refused() {
    let fake = fake(12, |_| {});
    let options = PduOptions { reserved: BTreeSet::from([port(8)]), ..PduOptions::default() };
    let pdu = spawn_with(&fake, options);
    assert!(matches!(pdu.off(&port(8)).await, Err(PowerError::Reserved { .. })));
    assert!(matches!(pdu.set_by_operator(&port(8), false).await, Err(PowerError::Reserved { .. })));
    let error = pdu.off(&port(13)).await.unwrap_err().to_string();
    assert_eq!(error, "PDU APC has no port 13; it has 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12");
    pdu.set_reserved(&port(8), false).await.unwrap();
    pdu.set_min_off_time(&port(8), Duration::from_secs(3)).await.unwrap();
    pdu.set_by_operator(&port(8), false).await.unwrap();
    let start = Instant::now();
    pdu.set_by_operator(&port(8), true).await.unwrap();
    assert!((2900..4000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(pdu.snapshot().borrow().pdu.ports["8"].last_shutdown.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_state_that_changes_behind_our_back_is_seen_and_restarts_the_off_time() {
    let fake = fake(1, |_| {});
    let pdu = spawn(&fake);
    pdu.off(&port(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(25)).await;
    fake.lock().unwrap().ports.insert(port(1), true);
    port_state(&pdu, "1", PortState::On).await;
    fake.lock().unwrap().ports.insert(port(1), false);
    port_state(&pdu, "1", PortState::Off).await;
    let start = Instant::now();
    pdu.on(&port(1), Duration::ZERO).await.unwrap();
    assert!(start.elapsed() > Duration::from_secs(29), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_is_shown_and_callers_are_answered() {
    struct Panics;
    #[async_trait]
    impl Driver for Panics {
        async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
            panic!("a bug in a driver");
        }
        async fn read(&mut self, _: &PortId) -> Result<PortState, DriverError> {
            Ok(PortState::On)
        }
        async fn write(&mut self, _: &PortId, _: bool) -> Result<(), DriverError> {
            Ok(())
        }
    }
    let token = CancellationToken::new();
    let pdu = PduHandle::spawn("BUG", Box::new(Panics), PduOptions::default(), token);
    state(&pdu, PduState::Error).await;
    assert!(matches!(pdu.off(&port(1)).await, Err(PowerError::Stopped { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_token_stops_the_task_and_leaves_the_ports_alone() {
    let fake = fake(3, |_| {});
    let token = CancellationToken::new();
    let driver = Box::new(FakeDriver(fake.clone()));
    let pdu = PduHandle::spawn("APC", driver, PduOptions::default(), token.clone());
    state(&pdu, PduState::Ok).await;
    token.cancel();
    state(&pdu, PduState::Stopped).await;
    assert!(fake.lock().unwrap().commands.is_empty());
    assert!(matches!(pdu.off(&port(1)).await, Err(PowerError::Stopped { .. })));
}
