//! Simulated DUTs as a process of their own: virtual PDUs, machines behind their outlets, and the server that their
//! jobs' artifacts come from. All of it speaks the real protocols over real connections, so that a gateway can be
//! killed, started again and judged by what its outlets and machines saw ([`journal`]); faults are injected while it
//! runs ([`http`]). What a machine does is named by its job ([`behaviour`]). DHCP and TFTP are not played: a simulated
//! firmware knows where its script is. What is right and wrong is left to the tests.

pub mod artifact;
pub mod behaviour;
mod farm_file;
pub mod http;
pub mod journal;
mod machine;
pub mod options;
pub mod outlet;
pub mod script;
pub mod seed;
mod wire;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use self::{journal::Journal, options::Options, outlet::Outlet, wire::Pdu};

/// The machines' base name.
pub const BASE_NAME: &str = "sim";

/// The tag that all of them have.
pub const TAG: &str = "sim:family:SIM";

/// Why there are no simulated machines.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A file or folder.
    #[error("cannot write {}; may its folder be written?", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A port or signal.
    #[error("cannot listen on the loopback")]
    Listen(#[source] io::Error),
    /// The HTTP client.
    #[error("cannot make an HTTP client")]
    Http(#[source] reqwest::Error),
}

/// What everybody in here shares.
struct World {
    gateway: String,
    console: String,
    consoles: Option<PathBuf>,
    seed: u64,
    /// Milliseconds, from and to.
    firmware: (u64, u64),
    journal: Journal,
    outlets: Vec<Outlet>,
    pdus: Vec<Arc<Pdu>>,
    http: reqwest::Client,
    counts: Mutex<HashMap<(u32, String), u64>>,
    /// Artifacts that are to be held back are held back.
    hold: watch::Sender<bool>,
}

impl World {
    /// The outlet of a machine, whose number is from 1 to [`World::duts`].
    fn outlet(&self, dut: u32) -> &Outlet {
        &self.outlets[dut as usize - 1]
    }

    fn duts(&self) -> u32 {
        self.outlets.len() as u32
    }

    /// Counts: how many times this was asked before for the same machine and name.
    fn count(&self, dut: u32, name: &str) -> u64 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((dut, name.to_owned())).or_default();
        *count += 1;
        *count - 1
    }
}

/// The MAC address of a machine, and so its id: `52:54:00:11:22:NN` up to 255, like the machines of the vPDU; beyond
/// that locally administered ones, `02:00:00:00:HH:LL`.
pub fn mac(dut: u32) -> String {
    match u8::try_from(dut) {
        Ok(dut) => format!("52:54:00:11:22:{dut:02x}"),
        Err(_) => format!("02:00:00:00:{:02x}:{:02x}", dut >> 8 & 0xff, dut & 0xff),
    }
}

/// Runs until a signal, or the end of standard input where that is asked for. Switches everything off then.
///
/// # Errors
/// See [`SimError`].
pub async fn run(options: Options) -> Result<(), SimError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| SimError::File { path, source }
    };
    fs::create_dir_all(&options.dir).map_err(file(&options.dir))?;
    let journal = options.dir.join("journal.jsonl");
    let per_pdu = u32::from(options.outlets);
    let pdus = (0..options.duts.div_ceil(per_pdu)).map(|n| {
        let first = n * per_pdu + 1;
        let count = per_pdu.min(options.duts - n * per_pdu);
        Arc::new(Pdu::new(first, u8::try_from(count).unwrap_or(u8::MAX)))
    });
    let world = Arc::new(World {
        gateway: options.gateway.clone(),
        console: options.console.clone(),
        consoles: (!options.no_copies).then(|| options.dir.join("consoles")),
        seed: options.seed,
        firmware: (options.firmware_from, options.firmware_to),
        journal: Journal::create(&journal).map_err(file(&journal))?,
        outlets: (0..options.duts).map(|_| Outlet::default()).collect(),
        pdus: pdus.collect(),
        // Each fetch is a connection of its own, as firmware does it.
        http: reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()
            .map_err(SimError::Http)?,
        counts: Mutex::default(),
        hold: watch::Sender::new(false),
    });
    let mut tasks = JoinSet::new();
    let mut named = Vec::new();
    for (number, pdu) in world.pdus.iter().enumerate() {
        let (listener, address) = listen().await?;
        named.push((format!("SIM{}", number + 1), address));
        tasks.spawn(Arc::clone(pdu).serve(listener, Arc::clone(&world)));
    }
    let (listener, artifacts) = listen().await?;
    tasks.spawn(http::serve(listener, Arc::clone(&world)));
    if let Some(path) = options.farm_file.as_deref().filter(|path| !path.exists()) {
        fs::write(path, farm_file::text(&options, &named)).map_err(file(path))?;
    }
    let ready = options.dir.join("sim.json");
    let addresses: Vec<&String> = named.iter().map(|(_, address)| address).collect();
    let text = json!({"http": artifacts, "pdus": addresses}).to_string();
    let part = options.dir.join("sim.json.part");
    fs::write(&part, text).and_then(|()| fs::rename(&part, &ready)).map_err(file(&ready))?;
    tracing::info!(duts = options.duts, pdus = named.len(), artifacts, "simulated machines are ready");
    stopped(options.until_stdin_ends).await?;
    tasks.shutdown().await;
    for dut in 1..=world.duts() {
        world.outlet(dut).switch_off(&world, dut).await;
    }
    Ok(())
}

async fn listen() -> Result<(TcpListener, String), SimError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(SimError::Listen)?;
    let address = listener.local_addr().map_err(SimError::Listen)?.to_string();
    Ok((listener, address))
}

/// Returns when the process shall end.
async fn stopped(until_stdin_ends: bool) -> Result<(), SimError> {
    let mut term = signal(SignalKind::terminate()).map_err(SimError::Listen)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SimError::Listen)?;
    let stdin_ends = async {
        if !until_stdin_ends {
            std::future::pending::<()>().await;
        }
        let mut input = tokio::io::stdin();
        while matches!(input.read(&mut [0; 64]).await, Ok(1..)) {}
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
        () = stdin_ends => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_an_address_of_its_own() {
        assert_eq!(mac(1), "52:54:00:11:22:01");
        assert_eq!(mac(255), "52:54:00:11:22:ff");
        assert_eq!(mac(256), "02:00:00:00:01:00");
        let all: std::collections::BTreeSet<String> = (1..=4000).map(mac).collect();
        assert_eq!(all.len(), 4000);
    }
}
