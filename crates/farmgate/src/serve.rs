//! `farmgate serve`: puts the parts together and runs them until a signal.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::ServiceExt;
use farmgate_boots::{BootDirectory, Boots, BootsConfig, Leases};
use farmgate_executor::{BootTable, EventLog, Executor, Parts};
use farmgate_mars::Mars;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Peers},
    check::farm_context,
    console_process,
    settings::Settings,
};

type BoxError = Box<dyn std::error::Error>;

/// Runs the gateway.
pub async fn serve(settings: &Settings) -> Result<(), BoxError> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    for folder in [&settings.permanent, &settings.temporary] {
        std::fs::create_dir_all(folder).map_err(|e| {
            format!("cannot make the folder {}: {e}; see PERMANENT_MOUNT and TMP_MOUNT", folder.display())
        })?;
    }
    // The port first: whoever starts a second gateway by mistake must not disturb the first.
    let listener = listen(settings.executor)?;
    if settings.dhcp || settings.tftp {
        interface_exists(&settings.private_interface)?;
    }
    let shutdown = CancellationToken::new();
    let mars =
        Arc::new(Mars::open(settings.farm_file.clone(), farm_context(settings), shutdown.clone()).await?);
    let salad = console_process::attach(settings).await?;
    let events = EventLog::default();
    let boot_table = Arc::new(BootTable::new(settings.executor_config.boot_defaults(), events.clone()));
    let executor = Executor::start(Parts {
        config: settings.executor_config.clone(),
        mars: Arc::clone(&mars),
        salad,
        boots: Arc::clone(&boot_table),
        events: events.clone(),
        shutdown: shutdown.clone(),
    })?;
    let boots = start_boots(settings, Arc::clone(&boot_table), &shutdown).await?;
    let leases = boots.as_ref().map(|b| b.leases.clone());
    // Waited for from now on, so that a server that ends by a panic is reported when it does.
    let boots = boots.map(|boots| tokio::spawn(boots.stopped()));
    let problems = tokio::spawn(announce_farm_problems(Arc::clone(&mars), events, shutdown.clone()));

    let directory: Arc<dyn BootDirectory> = Arc::clone(&boot_table) as _;
    let state = api_state(settings, executor.clone(), mars, boot_table, leases);
    let router = api::router(state.clone())
        .merge(farmgate_boots::router(directory))
        .merge(farmgate_boots::firmware_router(settings.tftp_root.clone()));
    let router = api::guard(router, settings, state);
    tracing::info!(farm = settings.executor_config.farm_name, address = %settings.executor, url = settings.public_url, "farmgate serves");

    let signals = tokio::spawn(stop_signals(shutdown.clone()));
    let stopping = shutdown.clone();
    let server = axum::serve(listener, router.into_make_service_with_connect_info::<Peers>())
        .with_graceful_shutdown(async move { stopping.cancelled().await });
    let mut server = tokio::spawn(async move { server.await });
    tokio::select! {
        ended = &mut server => { ended??; shutdown.cancel(); }
        () = shutdown.cancelled() => {}
    }
    // Runs end first: they switch their machines off and tell their clients. Open connections then get a moment.
    executor.stopped().await;
    if tokio::time::timeout(Duration::from_secs(2), &mut server).await.is_err() {
        server.abort();
    }
    if let Some(boots) = boots {
        boots.await?;
    }
    problems.abort();
    signals.abort();
    tracing::info!("farmgate has stopped; the console service goes on");
    Ok(())
}

fn api_state(
    settings: &Settings,
    executor: Executor,
    mars: Arc<Mars>,
    boot_table: Arc<BootTable>,
    leases: Option<Leases>,
) -> api::State {
    api::State {
        executor,
        mars,
        boot_table,
        leases,
        console_upgrade: settings.console_upgrade,
        forwarded: settings.forwarded,
        http: reqwest::Client::new(),
    }
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

fn listen(address: SocketAddr) -> Result<TcpListener, BoxError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    let explain = |error: std::io::Error| -> BoxError {
        match error.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "port {} is taken: another gateway or web server runs (see `ss -ltnp`); stop it, or set EXECUTOR_PORT",
                address.port()
            )
            .into(),
            std::io::ErrorKind::PermissionDenied => format!(
                "port {} needs root: run as root, or set EXECUTOR_PORT to a port above 1023",
                address.port()
            )
            .into(),
            _ => format!("cannot listen on {address}: {error}; see EXECUTOR_HOST and EXECUTOR_PORT").into(),
        }
    };
    socket.bind(address).map_err(explain)?;
    socket.listen(1024).map_err(explain)
}

/// Cancels on SIGTERM or SIGINT.
pub async fn stop_signals(shutdown: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be handled: the gateway stops by kill -9 only");
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping");
    shutdown.cancel();
}

/// A broken farm file is said once for each way in which it is broken, and once when it is fine again.
async fn announce_farm_problems(mars: Arc<Mars>, events: EventLog, shutdown: CancellationToken) {
    let mut problem = mars.problem();
    loop {
        let now = problem.borrow_and_update().clone();
        match now {
            Some(text) => events.emit(
                None,
                "farm-file",
                format!("the farm file is wrong, the last good one stays in force: {text}"),
                serde_json::Map::new(),
            ),
            None => tracing::debug!("the farm file is fine"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = problem.changed() => if changed.is_err() { return },
        }
    }
}
