//! The SALAD server: binds everything, runs until it is told to stop, owns all tasks.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::record::RecordSettings;
use crate::spawner::Tasks;
use crate::{rest, socket, source};

/// How long connections may take to end when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where a SALAD listens and keeps what it hears.
#[derive(Debug, Clone)]
pub struct SaladConfig {
    /// REST, usually `0.0.0.0:8005`.
    pub rest: SocketAddr,
    /// Consoles over TCP, usually `0.0.0.0:8100`.
    pub console: SocketAddr,
    /// The Unix socket for the gateway.
    pub socket: PathBuf,
    /// The folder of all records, usually `PERMANENT_MOUNT/consoles`. One SALAD at a time may use it.
    pub records: PathBuf,
    /// Address on which the raw TCP ports of machines listen.
    pub legacy_host: IpAddr,
}

/// Why a SALAD cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaladError {
    /// Another one serves this socket, or uses this folder.
    #[error("SALAD already runs: it holds {}; stop it first, or attach to it", path.display())]
    AlreadyRuns {
        /// The socket, or the lock file in the records folder.
        path: PathBuf,
    },
    /// An address cannot be listened at.
    #[error("cannot listen for {what} at {address}; is the address ours and the port free?")]
    Listen {
        /// What would have come there.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("cannot make the socket {}; does its folder exist, and is it ours?", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The records folder cannot be used.
    #[error("cannot use the folder {} for console records; check its owner and the disk", path.display())]
    Records {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Serving REST ended by itself.
    #[error("SALAD's REST server failed")]
    Rest(#[source] io::Error),
}

/// A server that is bound and will serve when it is run. Connections made before that wait.
#[derive(Debug)]
pub struct Server {
    rest: TcpListener,
    console: TcpListener,
    socket: UnixListener,
    addresses: (SocketAddr, SocketAddr),
    socket_path: PathBuf,
    hub: Arc<Hub>,
    tasks: Tasks,
    /// Released with the server; the kernel does so even when we are killed.
    lock: File,
}

impl Server {
    /// Takes the records folder and all addresses, with the default retention.
    ///
    /// # Errors
    /// [`SaladError`] says what is not to be had.
    pub async fn bind(config: SaladConfig) -> Result<Self, SaladError> {
        Self::bind_with(config, RecordSettings::default()).await
    }

    /// The same with the retention that is given, which holds for each machine.
    ///
    /// # Errors
    /// As for [`Server::bind`].
    pub async fn bind_with(config: SaladConfig, settings: RecordSettings) -> Result<Self, SaladError> {
        raise_file_limit();
        let records = |source| SaladError::Records { path: config.records.clone(), source };
        fs::create_dir_all(&config.records).map_err(records)?;
        let lock = take_lock(&config.records)?;
        let (spawner, tasks) = Tasks::new();
        let hub =
            Hub::open(config.records.clone(), settings, config.legacy_host, spawner).map_err(records)?;
        let rest = listen("REST", config.rest).await?;
        let console = listen("consoles", config.console).await?;
        let socket = socket::bind(&config.socket).map_err(|error| match error {
            socket::BindError::Live => SaladError::AlreadyRuns { path: config.socket.clone() },
            socket::BindError::Io(source) => SaladError::Socket { path: config.socket.clone(), source },
        })?;
        Ok(Self {
            addresses: (rest.1, console.1),
            rest: rest.0,
            console: console.0,
            socket,
            socket_path: config.socket,
            hub: Arc::new(hub),
            tasks,
            lock,
        })
    }

    /// Where REST is served; tells the port when the configured one was 0.
    pub fn rest_addr(&self) -> SocketAddr {
        self.addresses.0
    }

    /// Where consoles connect; tells the port when the configured one was 0.
    pub fn console_addr(&self) -> SocketAddr {
        self.addresses.1
    }

    /// Serves until `shutdown`. Dropping this future instead is like a kill: nothing recorded is lost.
    ///
    /// # Errors
    /// When REST cannot be served any more. Whatever goes wrong with one console or client is theirs.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), SaladError> {
        let Self { rest, console, socket, socket_path, hub, mut tasks, lock, .. } = self;
        let stop = hub.stop.clone();
        // Also when this future is dropped: nothing may linger that answers in our name.
        let _stopping = stop.clone().drop_guard();
        hub.spawner.spawn(source::tcp::accept(console, Arc::clone(&hub)));
        hub.spawner.spawn(socket::accept(socket, Arc::clone(&hub)));
        let serving = axum::serve(rest::Door::new(rest), rest::router(Arc::clone(&hub)))
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        let mut serving = std::pin::pin!(serving.into_future());
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            result = &mut serving => result.map_err(SaladError::Rest),
            () = tasks.look_after() => Ok(()),
        };
        stop.cancel();
        // The name first: a gateway that finds no socket starts a new SALAD, which waits for nothing but the lock.
        if let Err(error) = fs::remove_file(&socket_path) {
            tracing::warn!(path = %socket_path.display(), %error, "cannot remove the socket");
        }
        if tokio::time::timeout(FAREWELL, tasks.drain()).await.is_err() {
            tracing::warn!("some connections did not end in time and were cut");
        }
        drop(lock);
        result
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), SaladError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let actual = listener.local_addr()?;
        Ok((listener, actual))
    };
    bound.await.map_err(|source| SaladError::Listen { what, address, source })
}

/// Makes sure that no other SALAD writes these records.
fn take_lock(records: &Path) -> Result<File, SaladError> {
    let path = records.join(".lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|source| SaladError::Records { path: records.to_owned(), source })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(SaladError::AlreadyRuns { path }),
        Err(errno) => Err(SaladError::Records { path: records.to_owned(), source: errno.into() }),
    }
}

/// Consoles, records and readers are all descriptors; the usual soft limit of 1024 is for programs that use select.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files; many consoles may not fit");
    }
}
