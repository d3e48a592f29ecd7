//! `farmgate serve`: puts the parts together and runs them until a signal.

use std::{sync::Arc, time::Duration};

use farmgate_boots::{BootDirectory, Boots, BootsConfig, Leases};
use farmgate_executor::{BootTable, EventLog, Executor, Parts};
use farmgate_mars::Mars;
use farmgate_store::{Change, Retention, Store};
use socket2::{SockRef, TcpKeepalive};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BoxError,
    api::{
        self, Audit,
        server::{self, Bounds, Listeners},
        tokens::Tokens,
    },
    check::farm_context,
    console_process,
    settings::Settings,
    signals::stop_signals,
};

/// How long the clients of jobs may take for their verdict when the gateway stops.
const VERDICTS: Duration = Duration::from_secs(2);

/// Runs the gateway.
pub async fn serve(settings: &Settings) -> Result<(), BoxError> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    settings.executor_config.check_templates()?;
    for folder in [&settings.permanent, &settings.temporary] {
        std::fs::create_dir_all(folder).map_err(|e| {
            format!("cannot make the folder {}: {e}; see PERMANENT_MOUNT and TMP_MOUNT", folder.display())
        })?;
    }
    // The port first: whoever starts a second gateway by mistake must not disturb the first.
    let listeners = Listeners::open(settings.executor, &settings.private_interface).await?;
    if settings.dhcp || settings.tftp {
        interface_exists(&settings.private_interface)?;
    }
    let shutdown = CancellationToken::new();
    let mars =
        Arc::new(Mars::open(settings.farm_file.clone(), farm_context(settings), shutdown.clone()).await?);
    let salad = console_process::attach(settings).await?;
    let keeper = tokio::spawn(console_process::keep(settings.clone(), salad.clone(), shutdown.clone()));
    let store = Store::open(&settings.permanent.join("state.db"), Retention::default())?;
    // Who only looks is not the gateway that a restart goes on from.
    let after_crash = !settings.executor_config.observe && mark_running(&store).await?;
    let events = EventLog::default();
    let boot_table = Arc::new(BootTable::new(settings.executor_config.boot_defaults.clone(), events.clone()));
    let executor = Executor::start(Parts {
        config: settings.executor_config.clone(),
        mars: Arc::clone(&mars),
        salad,
        boots: Arc::clone(&boot_table),
        events: events.clone(),
        store: store.clone(),
        after_crash,
        shutdown: shutdown.clone(),
    })
    .await?;
    let boots = match start_boots(settings, Arc::clone(&boot_table), &shutdown).await {
        Ok(boots) => boots,
        Err(error) => {
            // Its tasks may have switched something on already.
            shutdown.cancel();
            executor.stopped().await;
            return Err(error);
        }
    };
    let leases = boots.as_ref().map(|b| b.leases.clone());
    // Waited for from now on, so that a server that ends by a panic is reported when it does.
    let boots = boots.map(|boots| tokio::spawn(boots.stopped()));
    let problems = tokio::spawn(announce_farm_problems(Arc::clone(&mars), events, shutdown.clone()));

    let directory: Arc<dyn BootDirectory> = Arc::clone(&boot_table) as _;
    let state = api_state(settings, executor.clone(), store.clone(), mars, boot_table, leases).await?;
    let clients = state.clients.clone();
    let router = api::router(state.clone())
        .merge(farmgate_boots::router(directory))
        .merge(farmgate_boots::firmware_router(settings.tftp_root.clone()));
    let router = api::guard(router, settings, state);
    tracing::info!(farm = settings.executor_config.farm_name, address = %settings.executor, url = settings.public_url, "farmgate serves");

    let hand_over = CancellationToken::new();
    let signals = tokio::spawn(stop_signals(shutdown.clone(), hand_over.clone()));
    let bounds = Bounds::new(settings.connections_per_address);
    let networks = api::networks(settings);
    let mut server = tokio::spawn(server::serve(listeners, router, networks, bounds, shutdown.clone()));
    let ended = tokio::select! {
        ended = &mut server => Some(ended),
        () = shutdown.cancelled() => None,
        () = hand_over.cancelled() => leave(&store).await,
    };
    shutdown.cancel();
    // Runs end first: they switch their machines off and tell their clients. Open connections then get a moment.
    executor.stopped().await;
    clients.close();
    if tokio::time::timeout(VERDICTS, clients.wait()).await.is_err() {
        tracing::warn!(clients = clients.len(), "not every client took its verdict in time");
    }
    match ended {
        Some(ended) => ended?,
        None => server.await?,
    }
    if let Some(boots) = boots {
        boots.await?;
    }
    problems.abort();
    keeper.await?;
    signals.abort();
    if !settings.executor_config.observe {
        store.write_soon(vec![running_mark(None)]);
    }
    store.close().await;
    tracing::info!("farmgate has stopped; the console service goes on");
    Ok(())
}

/// Notes that a gateway runs, and tells whether the one before died: then it does not start, it goes on. After a
/// restart of the host it starts: its machines may have lost their power too.
async fn mark_running(store: &Store) -> Result<bool, BoxError> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = boot.trim();
    let before = store.values("gateway").await?;
    store.write(vec![running_mark(Some(boot))]).await?;
    Ok(before.get("running").and_then(serde_json::Value::as_str) == Some(boot))
}

/// Ends the process as it is, for another gateway (of a newer release) that goes on with its runs: machines stay on.
/// What is not on the disk by now is decided again by that one.
async fn leave<T>(store: &Store) -> T {
    if let Err(error) = store.write(Vec::new()).await {
        tracing::error!(%error, "the last steps are not stored");
    }
    tracing::info!("farmgate leaves its runs to the gateway that is started next");
    std::process::exit(0)
}

fn running_mark(boot: Option<&str>) -> Change {
    Change::Value { space: "gateway".to_owned(), key: "running".to_owned(), value: boot.map(Into::into) }
}

async fn api_state(
    settings: &Settings,
    executor: Executor,
    store: Store,
    mars: Arc<Mars>,
    boot_table: Arc<BootTable>,
    leases: Option<Leases>,
) -> Result<api::State, BoxError> {
    let tokens = Arc::new(Tokens::read(store.clone()).await?);
    let audit = Arc::new(Audit::new(store.clone()));
    Ok(api::State {
        executor,
        store,
        tokens,
        audit,
        mars,
        boot_table,
        leases,
        console_upgrade: settings.console_upgrade,
        forwarded: settings.forwarded,
        http: reqwest::Client::new(),
        clients: TaskTracker::new(),
    })
}

async fn start_boots(
    settings: &Settings,
    table: Arc<BootTable>,
    shutdown: &CancellationToken,
) -> Result<Option<Boots>, BoxError> {
    if !settings.dhcp && !settings.tftp {
        tracing::info!("BOOTS_DISABLE_SERVERS: neither DHCP nor TFTP is served");
        return Ok(None);
    }
    let config = BootsConfig {
        interface: settings.private_interface.clone(),
        address: settings.private_address,
        prefix_len: settings.private_prefix,
        pool: settings.pool(),
        tftp_root: settings.tftp_root.clone(),
        base_url: settings.boot_url.clone(),
        lease_time: Duration::from_secs(3600),
        dhcp: settings.dhcp,
        tftp: settings.tftp,
        router_advertisements: settings.dhcp,
    };
    Ok(Some(Boots::start(config, table, shutdown.clone()).await?))
}

/// Asked before anything is started: a misspelt interface is the first mistake on a new gateway.
fn interface_exists(name: &str) -> Result<(), BoxError> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::netdevice::name_to_index(&socket, name).map(|_| ()).map_err(|_| {
        format!(
            "the network interface {name:?} does not exist: create it, or set PRIVATE_INTERFACE to the one that the \
             machines are behind (`ip link` lists them)"
        )
        .into()
    })
}

/// A client whose host vanished closes nothing: without this its job would keep a machine until a timeout of hours.
pub fn notice_dead_peers<'a>(socket: impl Into<SockRef<'a>>) -> std::io::Result<()> {
    let after = Duration::from_secs(30);
    let keepalive =
        TcpKeepalive::new().with_time(after).with_interval(Duration::from_secs(10)).with_retries(3);
    socket.into().set_tcp_keepalive(&keepalive)
}

/// A broken farm file is said once for each way in which it is broken, and once when it is fine again.
async fn announce_farm_problems(mars: Arc<Mars>, events: EventLog, shutdown: CancellationToken) {
    let mut problem = mars.problem();
    let mut was_wrong = false;
    loop {
        let now = problem.borrow_and_update().clone();
        let wrong = std::mem::replace(&mut was_wrong, now.is_some());
        match now {
            Some(text) => events.emit(
                None,
                "farm-file",
                format!("the farm file is wrong, the last good one stays in force: {text}"),
                serde_json::Map::new(),
            ),
            None if wrong => {
                events.emit(None, "farm-file", "the farm file is fine again", serde_json::Map::new());
            }
            None => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = problem.changed() => if changed.is_err() { return },
        }
    }
}
