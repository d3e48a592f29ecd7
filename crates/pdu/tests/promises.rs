//! What the task promises beyond one switching: off times that survive a restart, alarms, changes by others, pauses
//! between machines that start, rules of single ports, and no command to a port that nobody asked for. Time is virtual.
#![allow(clippy::unwrap_used)] // all of this file is tests

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use farmgate_pdu::{
    Driver, DriverError, Journal, JournalError, Moment, NoticeKind, PduHandle, PduOptions, PortInfo,
    PortRecord, PortRule, PowerError, PowerMode,
};
use farmgate_protocol::{
    PortId,
    pdu::{PduState, Port, PortState},
};
use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// A shelf of outlets, what it was told, and what is broken about it.
#[derive(Default)]
struct Shelf {
    on: BTreeMap<PortId, bool>,
    commands: Vec<(PortId, bool, Instant)>,
    dead: bool,
    /// The relay of this port sticks.
    stuck: Option<PortId>,
    watts: Option<f64>,
    /// One call of so many fails.
    fails: u64,
    calls: u64,
}

#[derive(Clone)]
struct Pdu(Arc<Mutex<Shelf>>);

impl Pdu {
    fn new(ports: u32, on: bool) -> Self {
        let on = (1..=ports).map(|n| (n.into(), on)).collect();
        Self(Arc::new(Mutex::new(Shelf { on, ..Shelf::default() })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shelf) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn call<T>(&self, act: impl FnOnce(&mut Shelf) -> Option<T>, port: &PortId) -> Result<T, DriverError> {
        self.with(|shelf| {
            shelf.calls += 1;
            if shelf.dead || (shelf.fails > 0 && shelf.calls % shelf.fails == 0) {
                return Err(DriverError::Protocol("dead".into()));
            }
            act(shelf).ok_or_else(|| DriverError::UnknownPort(port.clone()))
        })
    }

    fn commands(&self, port: u32) -> Vec<(bool, Instant)> {
        let all = self.with(|shelf| shelf.commands.clone());
        all.into_iter().filter(|(id, ..)| *id == port.into()).map(|(_, on, at)| (on, at)).collect()
    }

    fn spawn(&self, options: PduOptions) -> PduHandle {
        PduHandle::spawn("SHELF", Box::new(self.clone()), options, CancellationToken::new())
    }
}

#[async_trait]
impl Driver for Pdu {
    async fn ports(&mut self) -> Result<Vec<PortInfo>, DriverError> {
        let all = |shelf: &mut Shelf| Some(shelf.on.keys().cloned().collect::<Vec<_>>());
        let ids = self.call(all, &1.into())?;
        Ok(ids.into_iter().map(|id| PortInfo { id, label: String::new() }).collect())
    }

    async fn read(&mut self, port: &PortId) -> Result<PortState, DriverError> {
        let on = self.call(|shelf| shelf.on.get(port).copied(), port)?;
        Ok(if on { PortState::On } else { PortState::Off })
    }

    async fn write(&mut self, port: &PortId, on: bool) -> Result<(), DriverError> {
        let command = |shelf: &mut Shelf| {
            shelf.commands.push((port.clone(), on, Instant::now()));
            let relay = shelf.on.get_mut(port)?;
            if shelf.stuck.as_ref() != Some(port) {
                *relay = on;
            }
            Some(())
        };
        self.call(command, port)
    }

    async fn power(&mut self, port: &PortId) -> Result<f64, DriverError> {
        let watts = self.with(|shelf| shelf.watts.map(|w| if shelf.on[port] { w } else { 0.0 }));
        watts.ok_or(DriverError::Unavailable("power metering"))
    }
}

/// Keeps records as the state file does, and can be full.
#[derive(Debug, Default)]
struct Notebook {
    records: Mutex<BTreeMap<PortId, PortRecord>>,
    full: bool,
}

#[async_trait]
impl Journal for Notebook {
    async fn load(&self) -> Result<BTreeMap<PortId, PortRecord>, JournalError> {
        Ok(self.records.lock().unwrap().clone())
    }

    fn save_soon(&self, port: &PortId, record: &PortRecord) {
        if !self.full {
            self.records.lock().unwrap().insert(port.clone(), record.clone());
        }
    }

    async fn save(&self, port: &PortId, record: &PortRecord) -> Result<(), JournalError> {
        if self.full {
            let source: Arc<dyn std::error::Error + Send + Sync> = Arc::new(std::io::Error::other("full"));
            return Err(JournalError { operation: "store the record", source });
        }
        self.save_soon(port, record);
        Ok(())
    }
}

fn journaled(journal: &Arc<Notebook>) -> PduOptions {
    PduOptions { journal: Some(journal.clone()), ..PduOptions::default() }
}

async fn until(pdu: &PduHandle, port: u32, what: &str, condition: impl Fn(&Port) -> bool) {
    let mut snapshot = pdu.snapshot();
    let id = PortId::from(port);
    let seen = snapshot.wait_for(|s| s.pdu.ports.get(id.as_str()).is_some_and(&condition));
    let seen = timeout(Duration::from_secs(600), seen).await.map(drop);
    assert!(seen.is_ok(), "{what}: {:?}", pdu.snapshot().borrow().pdu.ports.get(id.as_str()));
}

/// How long ON takes for a gateway that starts now.
async fn seconds_to_on(pdu: &Pdu, options: PduOptions) -> u64 {
    let start = Instant::now();
    pdu.spawn(options).on(&1.into(), Duration::ZERO).await.unwrap();
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn an_off_time_goes_on_over_a_restart_of_the_gateway_but_not_of_its_machine() {
    let record = |off_since| PortRecord { off_since: Some(off_since), cycles: 7 };
    let twenty_ago = Moment::now().earlier(Duration::from_secs(20));
    let other_boot = Moment { boot: "another".into(), ..twenty_ago.clone() };
    for (off_since, expected) in [(twenty_ago, 9..=10), (other_boot, 30..=30)] {
        let journal = Arc::new(Notebook::default());
        journal.save_soon(&1.into(), &record(off_since));
        let took = seconds_to_on(&Pdu::new(1, false), journaled(&journal)).await;
        assert!(expected.contains(&took), "{took}");
        let kept = journal.records.lock().unwrap()[&1.into()].clone();
        assert_eq!((kept.off_since, kept.cycles), (None, 8), "it is on, and that is a cycle more");
    }
    assert_eq!(seconds_to_on(&Pdu::new(1, false), PduOptions::default()).await, 30, "without a journal");
}

#[tokio::test(start_paused = true)]
async fn a_record_never_says_off_for_a_port_that_on_was_sent_to() {
    let (pdu, journal) = (Pdu::new(1, true), Arc::new(Notebook::default()));
    pdu.with(|shelf| shelf.stuck = Some(1.into()));
    journal.save_soon(&1.into(), &PortRecord::default());
    pdu.with(|shelf| shelf.on.insert(1.into(), false));
    let gateway = pdu.spawn(journaled(&journal));
    until(&gateway, 1, "seen off", |port| port.state == PortState::Off).await;
    let since = |journal: &Notebook| journal.records.lock().unwrap()[&1.into()].off_since.clone();
    assert!(since(&journal).is_some());
    let asked = gateway.clone();
    let wish = tokio::spawn(async move { asked.on(&1.into(), Duration::ZERO).await });
    let sent = timeout(Duration::from_secs(60), async {
        while pdu.commands(1).is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    sent.await.unwrap();
    // It reads OFF still; a gateway that is killed now must not leave that it is safely off.
    assert_eq!(since(&journal), None);
    wish.abort();
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_full_keeps_nobody_from_power() {
    let (pdu, journal) = (Pdu::new(1, false), Arc::new(Notebook { full: true, ..Notebook::default() }));
    assert_eq!(seconds_to_on(&pdu, journaled(&journal)).await, 30);
}

#[tokio::test(start_paused = true)]
async fn an_off_that_cannot_be_confirmed_raises_an_alarm_and_is_tried_until_it_is() {
    let pdu = Pdu::new(2, true);
    pdu.with(|shelf| shelf.stuck = Some(1.into()));
    let gateway = pdu.spawn(PduOptions::default());
    let mut notices = gateway.notices();
    let error = gateway.off(&1.into()).await.unwrap_err();
    assert!(matches!(error, PowerError::NotConfirmed { .. }), "{error}");
    until(&gateway, 1, "the alarm", |port| port.alarm.as_ref().is_some_and(|a| a.contains("ALARM"))).await;
    assert_eq!(notices.recv().await.unwrap().what, NoticeKind::Alarm);
    let tried = pdu.commands(1).len();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(pdu.commands(1).len() > tried + 100, "it is tried on");
    gateway.off(&2.into()).await.unwrap();
    let error = gateway.off(&1.into()).await.unwrap_err();
    assert!(matches!(error, PowerError::NotConfirmed { .. }), "who asks again is answered too: {error}");
    pdu.with(|shelf| shelf.stuck = None);
    until(&gateway, 1, "its end", |port| port.alarm.is_none() && port.state == PortState::Off).await;
    assert_eq!(notices.recv().await.unwrap().what, NoticeKind::AlarmOver);
    assert!(notices.try_recv().is_err(), "one alarm is told once");
}

#[tokio::test(start_paused = true)]
async fn on_ends_an_alarm_because_the_last_wish_wins() {
    let pdu = Pdu::new(1, true);
    pdu.with(|shelf| shelf.stuck = Some(1.into()));
    let gateway = pdu.spawn(PduOptions::default());
    assert!(gateway.off(&1.into()).await.is_err());
    gateway.on(&1.into(), Duration::ZERO).await.unwrap();
    until(&gateway, 1, "no alarm", |port| port.alarm.is_none()).await;
    let commands = pdu.commands(1).len();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(pdu.commands(1).len(), commands, "OFF is forgotten");
}

#[tokio::test(start_paused = true)]
async fn who_switches_behind_our_back_is_noticed_and_we_are_not_taken_for_others() {
    let pdu = Pdu::new(2, true);
    let gateway = pdu.spawn(PduOptions::default());
    let mut notices = gateway.notices();
    until(&gateway, 2, "seen", |port| port.state == PortState::On).await;
    gateway.off(&1.into()).await.unwrap();
    pdu.with(|shelf| shelf.on.insert(2.into(), false));
    let notice = notices.recv().await.unwrap();
    assert_eq!((notice.port.as_str(), notice.what), ("2", NoticeKind::ChangedByOthers));
    assert!(notice.text.contains("somebody else switched port 2 of PDU SHELF OFF"), "{}", notice.text);
    assert!(pdu.commands(2).is_empty(), "it is left as it is");
    assert!(notices.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn machines_are_switched_on_one_by_one_however_many_are_asked_at_once() {
    const PORTS: u32 = 64;
    let pdu = Pdu::new(PORTS, false);
    let gateway = pdu.spawn(PduOptions { min_off: Some(Duration::ZERO), ..PduOptions::default() });
    let mut tasks = JoinSet::new();
    for n in 1..=PORTS {
        let gateway = gateway.clone();
        tasks.spawn(async move { gateway.on(&n.into(), Duration::ZERO).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let times: Vec<Instant> = pdu.with(|shelf| shelf.commands.iter().map(|(_, _, at)| *at).collect());
    assert_eq!(times.len(), PORTS as usize);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(1)), "{times:?}");
    assert!(times[PORTS as usize - 1] - times[0] < Duration::from_secs(80), "and not slower than need be");
    let start = Instant::now();
    for n in 1..=PORTS {
        gateway.off(&n.into()).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(5), "OFF waits for nobody");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_on_for_too_long_is_switched_off_once() {
    let pdu = Pdu::new(2, true);
    let rule = PortRule { owner: "m".into(), max_on: Some(Duration::from_secs(300)), ..PortRule::default() };
    let rules = BTreeMap::from([(1.into(), rule)]);
    let gateway = pdu.spawn(PduOptions { rules, ..PduOptions::default() });
    let mut notices = gateway.notices();
    let start = Instant::now();
    until(&gateway, 1, "off", |port| port.state == PortState::Off).await;
    assert!((300..305).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let notice = notices.recv().await.unwrap();
    assert_eq!(notice.what, NoticeKind::OnTooLong);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((pdu.commands(1).len(), pdu.commands(2).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_port_that_others_own_is_refused_with_the_line_that_says_so() {
    let pdu = Pdu::new(3, true);
    let rule = |mode| PortRule { owner: "the machine m".into(), mode, max_on: Some(Duration::from_secs(5)) };
    let rules = BTreeMap::from([(1.into(), rule(PowerMode::Manual)), (2.into(), rule(PowerMode::NeverOff))]);
    let gateway = pdu.spawn(PduOptions { rules, ..PduOptions::default() });
    for (port, on, line) in
        [(1_u32, true, "power: manual"), (1, false, "power: manual"), (2, false, "power: never_off")]
    {
        let error = gateway.set_by_operator(&port.into(), on).await.unwrap_err().to_string();
        assert!(error.contains(line) && error.contains("the machine m"), "{error}");
    }
    gateway.on(&2.into(), Duration::ZERO).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(pdu.with(|shelf| shelf.commands.is_empty()), "not even for a maximum on time");
    gateway.set_rules(BTreeMap::new());
    gateway.off(&1.into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_a_new_rule_forbids_is_taken_back() {
    let pdu = Pdu::new(1, false);
    let gateway = pdu.spawn(PduOptions::default());
    let asked = gateway.clone();
    let wish = tokio::spawn(async move { asked.on(&1.into(), Duration::from_secs(900)).await });
    tokio::time::sleep(Duration::from_secs(100)).await;
    let rule = PortRule { owner: "m".into(), mode: PowerMode::Manual, ..PortRule::default() };
    gateway.set_rules(BTreeMap::from([(1.into(), rule)]));
    assert!(matches!(wish.await.unwrap(), Err(PowerError::Manual { .. })));
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert!(pdu.commands(1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn energy_is_summed_up_from_power_where_the_pdu_has_no_counter() {
    let pdu = Pdu::new(2, true);
    pdu.with(|shelf| {
        shelf.watts = Some(50.0);
        shelf.on.insert(2.into(), false);
    });
    let gateway = pdu.spawn(PduOptions::default());
    until(&gateway, 1, "500 J", |port| port.energy.is_some_and(|joules| (500.0..600.0).contains(&joules)))
        .await;
    until(&gateway, 2, "nothing", |port| port.energy == Some(0.0) && port.instant_power == Some(0.0)).await;
}

#[tokio::test(start_paused = true)]
async fn cycles_are_counted_when_they_are_seen() {
    let pdu = Pdu::new(1, true);
    let gateway = pdu.spawn(PduOptions { min_off: Some(Duration::ZERO), ..PduOptions::default() });
    for n in 0..3 {
        until(&gateway, 1, "cycles", |port| port.cycles == n).await;
        gateway.off(&1.into()).await.unwrap();
        gateway.off(&1.into()).await.unwrap();
        gateway.on(&1.into(), Duration::ZERO).await.unwrap();
        gateway.on(&1.into(), Duration::ZERO).await.unwrap();
    }
    until(&gateway, 1, "cycles", |port| port.cycles == 3).await;
}

/// 24 ports, 6 of them of machines that do what they like with theirs, on a PDU that fails, dies and is restarted
/// under the gateway: the other 18 never get a command. The model counts calls of the driver as steps.
#[tokio::test(start_paused = true)]
async fn no_port_without_an_owner_ever_gets_a_command() {
    let steps: u64 = std::env::var("FARMGATE_STEPS").ok().and_then(|n| n.parse().ok()).unwrap_or(60_000);
    let owned: Vec<PortId> = [2_u32, 3, 7, 12, 18, 24].into_iter().map(PortId::from).collect();
    let pdu = Pdu::new(24, true);
    pdu.with(|shelf| shelf.fails = 97);
    let journal = Arc::new(Notebook::default());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut gateway = pdu.spawn(journaled(&journal));
    let mut wishes = JoinSet::new();
    let mut restarts = 0;
    while pdu.with(|shelf| shelf.calls) < steps {
        let dice = rng.next_u32();
        let port = owned[(dice >> 8) as usize % owned.len()].clone();
        match dice % 64 {
            0 => pdu.with(|shelf| shelf.dead = !shelf.dead),
            1 => {
                restarts += 1;
                gateway = pdu.spawn(journaled(&journal));
            }
            // Somebody presses the button of any port.
            2 | 3 => pdu.with(|shelf| {
                let id = PortId::from((dice >> 12) % 24 + 1);
                shelf.on.insert(id, dice & 64 == 0);
            }),
            4 => pdu.with(|shelf| shelf.stuck = (dice & 64 == 0).then_some(port)),
            5 => wishes.abort_all(),
            6 => {
                let rule = PortRule { max_on: Some(Duration::from_secs(30)), ..PortRule::default() };
                let rules = if dice & 64 == 0 { BTreeMap::from([(port, rule)]) } else { BTreeMap::new() };
                gateway.set_rules(rules);
            }
            n => {
                let gateway = gateway.clone();
                wishes.spawn(async move {
                    // What becomes of it does not matter here.
                    let _ = if n % 2 == 0 {
                        gateway.on(&port, Duration::from_secs(u64::from(dice >> 26))).await
                    } else {
                        gateway.off(&port).await
                    };
                });
            }
        }
        while wishes.try_join_next().is_some() {}
        tokio::time::sleep(Duration::from_millis(u64::from(dice >> 22))).await;
        if pdu.with(|shelf| shelf.dead) && dice.is_multiple_of(7) {
            pdu.with(|shelf| shelf.dead = false);
        }
    }
    let commands = pdu.with(|shelf| std::mem::take(&mut shelf.commands));
    assert!(commands.iter().all(|(id, ..)| owned.contains(id)), "a port of nobody was switched");
    let each = owned.iter().all(|id| commands.iter().any(|(to, on, _)| to == id && *on));
    assert!(each && restarts > 0, "the model does not do what it is for: {} commands", commands.len());
    let mut snapshot = gateway.snapshot();
    pdu.with(|shelf| (shelf.dead, shelf.fails) = (false, 0));
    let fine = snapshot.wait_for(|s| s.pdu.state == PduState::Ok);
    assert!(timeout(Duration::from_secs(600), fine).await.is_ok());
}
