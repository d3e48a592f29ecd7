//! A simulated device on the loopback: its outlets, what it does wrong, and when it listens.
//!
//! What it says is left to a `Talk` of one protocol. Each device has a loopback address of its own, so that it can go
//! and come back at the same one while other tests run.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use farmgate_pdu::{Driver, make};
use farmgate_protocol::PortId;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::conformance::{Fault, Misbehave};

/// One outlet.
pub struct Outlet {
    pub label: String,
    on: bool,
    /// What is shown instead, and until when.
    lie: Option<(bool, Instant)>,
}

/// What the device is and does.
pub struct State {
    pub outlets: Vec<Outlet>,
    pub fault: Fault,
    /// Commands carried out.
    pub commands: usize,
    /// For protocols that count something: nonces, tokens.
    pub counter: u32,
    connections: u64,
}

impl State {
    /// A command; false if there is no such outlet.
    pub fn switch(&mut self, n: usize, on: bool) -> bool {
        let Some(outlet) = self.outlets.get_mut(n) else { return false };
        self.commands += 1;
        if let Fault::LiesFor(time) = self.fault
            && outlet.on != on
        {
            outlet.lie = Some((outlet.on, Instant::now() + time));
        }
        outlet.on = on;
        true
    }

    /// What the device says of an outlet.
    pub fn shown(&self, n: usize) -> Option<bool> {
        let outlet = self.outlets.get(n)?;
        let lie = outlet.lie.filter(|(_, until)| Instant::now() < *until);
        Some(lie.map_or(outlet.on, |(old, _)| old))
    }

    /// How long it thinks before it answers.
    pub fn delay(&self) -> Duration {
        if let Fault::Slow(time) = self.fault { time } else { Duration::ZERO }
    }
}

pub type Shared = Arc<Mutex<State>>;

/// One conversation in the device's protocol.
pub type Talk = fn(TcpStream, Shared) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// How the suite gets a driver for the device: name of the driver, and its config for an address.
pub type Config = fn(&str, &State) -> Value;

/// A device for the conformance suite.
pub struct Device {
    pub state: Shared,
    pub driver: &'static str,
    pub config: Config,
    pub wrong: Option<Config>,
    pub reading: Option<Config>,
    pub outlets: (usize, usize),
    pub id: fn(usize) -> PortId,
    pub label: fn(usize, &str) -> String,
    talk: Talk,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

/// An address that no other device of this process has.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, 77, high, low), 0))
}

async fn serve(listener: TcpListener, state: Shared, talk: Talk) {
    let mut conversations = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (silent, lost) = {
            let mut state = state.lock().unwrap();
            state.connections += 1;
            let second = state.connections.is_multiple_of(2);
            (state.fault == Fault::Silent, state.fault == Fault::LosesEverySecond && second)
        };
        if silent {
            conversations.spawn(async move {
                let _held = stream;
                std::future::pending::<()>().await;
            });
        } else if !lost {
            conversations.spawn(talk(stream, state.clone()));
        }
        while conversations.try_join_next().is_some() {}
    }
}

impl Device {
    /// A device with no outlets that listens.
    pub async fn start(driver: &'static str, talk: Talk, config: Config) -> Self {
        let listener = TcpListener::bind(own_address()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            State { outlets: Vec::new(), fault: Fault::None, commands: 0, counter: 0, connections: 0 };
        let state = Arc::new(Mutex::new(state));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, state.clone(), talk));
        Self {
            state,
            driver,
            config,
            wrong: None,
            reading: None,
            outlets: (0, 64),
            id: |n| PortId::from(n as u32 + 1),
            label: |_, given| given.to_owned(),
            talk,
            address,
            tasks,
        }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many conversations there were.
    pub fn connections(&self) -> u64 {
        self.state.lock().unwrap().connections
    }

    /// A driver with this config.
    pub fn made(&self, config: Config) -> Box<dyn Driver> {
        let config = config(&self.address(), &self.state.lock().unwrap());
        make(self.driver, &config).unwrap()
    }
}

#[async_trait]
impl Misbehave for Device {
    fn name(&self) -> String {
        self.driver.to_owned()
    }

    fn driver(&self) -> Box<dyn Driver> {
        self.made(self.config)
    }

    fn with_wrong_credentials(&self) -> Option<Box<dyn Driver>> {
        self.wrong.map(|config| self.made(config))
    }

    fn with_reading_only(&self) -> Option<Box<dyn Driver>> {
        self.reading.map(|config| self.made(config))
    }

    fn outlets(&self) -> (usize, usize) {
        self.outlets
    }

    fn id(&self, n: usize) -> PortId {
        (self.id)(n)
    }

    fn label(&self, n: usize, given: &str) -> String {
        (self.label)(n, given)
    }

    /// The one after the last.
    fn unknown_id(&self) -> PortId {
        (self.id)(self.state.lock().unwrap().outlets.len())
    }

    async fn outfit(&mut self, labels: &[String]) {
        self.fault(Fault::None).await;
        let outlet = |label: &String| Outlet { label: label.clone(), on: false, lie: None };
        let mut state = self.state.lock().unwrap();
        state.outlets = labels.iter().map(outlet).collect();
        state.commands = 0;
    }

    async fn fault(&mut self, fault: Fault) -> bool {
        self.state.lock().unwrap().fault = fault;
        if fault == Fault::Gone {
            self.tasks.shutdown().await;
        } else if self.tasks.is_empty() {
            let listener = TcpListener::bind(self.address).await.unwrap();
            self.tasks.spawn(serve(listener, self.state.clone(), self.talk));
        }
        true
    }

    async fn is_on(&mut self, n: usize) -> bool {
        self.state.lock().unwrap().outlets[n].on
    }

    async fn press(&mut self, n: usize, on: bool) {
        self.state.lock().unwrap().outlets[n].on = on;
    }

    async fn commands(&mut self) -> usize {
        self.state.lock().unwrap().commands
    }
}
