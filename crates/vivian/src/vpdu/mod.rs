//! The virtual PDU: a TCP server whose ports are QEMU machines.
//!
//! [`server`] speaks the wire protocol, [`port`] owns one outlet each and decides what a command means for it, and
//! [`machine`] is what a port switches: a trait, with [`qemu`] behind it in earnest and a fake in tests. What QEMU is
//! told is decided without I/O in [`arguments`]. The vPDU promises that a port answered OFF has no process left, and
//! that no machine outlives the vPDU.

pub mod accel;
pub mod arguments;
pub mod disk;
pub mod firmware;
pub mod guarded;
pub mod machine;
pub mod options;
pub mod port;
pub mod qemu;
pub mod qmp;
pub mod server;
pub mod tap;

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::{net::TcpListener, signal::unix::SignalKind, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::outlet::Outlet;
use options::Options;

/// Why the vPDU does not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum VpduError {
    /// Somebody else has the TCP port.
    #[error(
        "cannot listen on {address}: {source}; see who does with `ss -ltnp 'sport = :{}'`, or choose another --port",
        address.port()
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// QEMU is not there or does not run.
    #[error(transparent)]
    Qemu(#[from] qemu::Unusable),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {}: {source}; choose another with --state-dir", path.display())]
    StateDir {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// No signal handler.
    #[error("cannot watch for signals: {0}")]
    Signals(#[source] io::Error),
}

/// Runs the vPDU until SIGTERM, SIGINT or a shutdown request; then switches everything off.
///
/// # Errors
/// QEMU, the state directory or the TCP port cannot be used.
pub async fn run(options: Options) -> Result<(), VpduError> {
    options.check().map_err(VpduError::Options)?;
    let state = |source| VpduError::StateDir { path: options.state_dir.clone(), source };
    fs::create_dir_all(&options.state_dir).map_err(state)?;
    let state_dir = options.state_dir.canonicalize().map_err(state)?;
    let version = qemu::probe(options::QEMU).await?;
    let address = SocketAddr::new(options.bind, options.port);
    let listen = |source| VpduError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    if !options.bind.is_loopback() {
        tracing::warn!(%address, "whoever reaches this address can switch every outlet");
    }

    let stop = CancellationToken::new();
    let mut signals = JoinSet::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signal = tokio::signal::unix::signal(kind).map_err(VpduError::Signals)?;
        let stop = stop.clone();
        signals.spawn(async move {
            signal.recv().await;
            stop.cancel();
        });
    }

    let plan = Arc::new(options.clone().plan(state_dir.clone(), address.port(), version));
    if let Some(network) = &plan.network
        && let Err(e) = network.ready()
    {
        tracing::warn!(remedy = %e, "no outlet can be switched on yet");
    }
    // Before the first client is served, so that no ON has to wait for it.
    let accel = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        accel = accel::choose(&plan) => accel,
    };
    let mut tasks = JoinSet::new();
    let ports = Outlet::first(options.num_ports)
        .map(|outlet| port::spawn(&mut tasks, outlet, qemu::QemuMachine::new(plan.clone(), outlet, accel)))
        .collect();
    tracing::info!(%address, ports = options.num_ports, state_dir = %state_dir.display(), "vPDU ready");
    server::serve(listener, ports, stop).await;
    // The ports' handles are gone now, so each task switches its machine off and ends.
    while let Some(ended) = tasks.join_next().await {
        if let Err(e) = ended {
            tracing::error!(error = %e, "the task of a port failed");
        }
    }
    tracing::info!("vPDU ended, every outlet is off");
    Ok(())
}
