//! The first process inside the farm: builds the network, serves the forwarded ports, starts the vPDU and the gateway,
//! and buries every process that nobody else waits for.
//!
//! A gateway that was killed is started again after a moment, as a service manager would: its runs survive that. One
//! that ended by itself, and a vPDU that ended, is a finding: it is logged and written down, and stays so. When the
//! supervisor ends, the kernel kills whatever is still inside.

use std::{
    fs::File,
    io,
    net::TcpListener,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
    time::Duration,
};

use farmgate_protocol::Timestamp;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    FarmError, forward,
    handover::{self, Assignment},
    network,
    options::Service,
    process,
    record::{self, ChildRecord, Supervisor},
};

/// The hidden subcommand that makes `vivian` the supervisor.
pub const SUBCOMMAND: &str = "supervise";

/// How long a child may take to end after SIGTERM.
const STOP_TIME: Duration = Duration::from_secs(15);

/// How long a gateway that was killed is away.
const AWAY: Duration = Duration::from_secs(1);

/// How often a gateway is started again; one that is killed more often has another trouble.
const MOST_RESTARTS: u32 = 100;

/// Why the supervisor cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Nothing was handed over.
    #[error("`vivian {SUBCOMMAND}` is for `vivian up` to call: {0}")]
    NoAssignment(#[source] io::Error),
    /// No network.
    #[error("cannot build the farm's network: {0}")]
    Network(#[from] network::SetUpError),
    /// Files or processes.
    #[error(transparent)]
    Farm(#[from] FarmError),
}

/// Runs the farm. The assignment is on standard input.
///
/// # Errors
/// The farm cannot begin; nothing was started then.
pub fn run() -> Result<(), SupervisorError> {
    let no = SupervisorError::NoAssignment;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().map_err(no)?);
    let (assignment, fds) = handover::receive(&socket).map_err(no)?;
    let mut fds = fds.into_iter();
    let (Some(host_proc), Some(lock), Some(uplink_life)) = (fds.next(), fds.next(), fds.next()) else {
        return Err(no(io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing")));
    };
    network::set_up()?;
    network::set_sysfs();
    network::set_resolver(&assignment.state_dir);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(process("start the supervisor's runtime"))?;
    let pid = host_pid(&host_proc)?;
    drop(host_proc);
    let listeners = fds.map(TcpListener::from).collect();
    let result = runtime.block_on(supervise(&assignment, pid, socket, listeners));
    tracing::info!("the farm ended");
    // Only now is the farm gone for those who look, and the way out ends.
    drop((lock, uplink_life));
    result
}

/// This process's number on the host: `self` of the host's `/proc`, which the starter opened.
fn host_pid(host_proc: &OwnedFd) -> Result<i32, FarmError> {
    let number = rustix::fs::readlinkat(host_proc, "self", Vec::new()).map_err(io::Error::from);
    number
        .and_then(|text| {
            text.to_str().ok().and_then(|text| text.parse().ok()).ok_or(io::ErrorKind::InvalidData.into())
        })
        .map_err(process("learn the supervisor's process id on the host"))
}

async fn supervise(
    assignment: &Assignment,
    pid: i32,
    starter: UnixStream,
    listeners: Vec<TcpListener>,
) -> Result<(), SupervisorError> {
    let watch = |kind| signal(kind).map_err(process("watch for signals"));
    let mut term = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut deaths = watch(SignalKind::child())?;
    let mut forwards = JoinSet::new();
    for (service, listener) in Service::ALL.into_iter().zip(listeners) {
        forwards.spawn(forward::forward(listener, service.inside()));
    }
    let mut children =
        Children { assignment, list: Vec::new(), stopping: false, restarts: 0, restart_at: None };
    children.start("vpdu", Command::new(&assignment.vpdu).args(&assignment.vpdu_arguments))?;
    children.start_gateway()?;
    let record = Supervisor { pid, isolation: assignment.isolation, since: Timestamp::now() };
    record::write(&assignment.state_dir, record::SUPERVISOR, &record)?;
    tracing::info!(pid, "the farm runs");

    starter.set_nonblocking(true).map_err(process("watch the starter"))?;
    let mut starter = tokio::net::UnixStream::from_std(starter).map_err(process("watch the starter"))?;
    let mut byte = [0];
    let mut attached = true;
    loop {
        tokio::select! {
            _ = term.recv() => break tracing::info!("asked to end"),
            _ = interrupt.recv() => break tracing::info!("interrupted"),
            said = starter.read(&mut byte), if attached => match said {
                Ok(1) => attached = false,
                _ => break tracing::info!("the starter is gone"),
            },
            _ = deaths.recv() => children.bury(),
            () = sleep_until(children.restart_at) => children.restart_gateway(),
            Some(ended) = forwards.join_next() => tracing::error!(?ended, "a port is no longer forwarded"),
        }
    }
    children.stopping = true;
    // The gateway first: it may want to switch outlets off.
    for name in ["farmgate", "vpdu"] {
        children.stop(name, &mut deaths).await;
    }
    Ok(())
}

/// The programs that the supervisor started.
struct Children<'a> {
    assignment: &'a Assignment,
    list: Vec<ChildRecord>,
    /// Their ends are no findings any more.
    stopping: bool,
    /// How often the gateway was started again.
    restarts: u32,
    /// When it is started again.
    restart_at: Option<Instant>,
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Children<'_> {
    fn start_gateway(&mut self) -> Result<(), FarmError> {
        let Some(farmgate) = &self.assignment.farmgate else { return Ok(()) };
        let environment = self.assignment.environment.iter().map(|(name, value)| (name, value));
        self.start("farmgate", Command::new(farmgate).arg("serve").envs(environment))
    }

    fn restart_gateway(&mut self) {
        self.restart_at = None;
        self.restarts += 1;
        self.list.retain(|child| child.name != "farmgate");
        match self.start_gateway() {
            Ok(()) => tracing::warn!(times = self.restarts, "the gateway was killed, and is started again"),
            Err(error) => tracing::error!(%error, "the gateway cannot be started again"),
        }
    }

    fn start(&mut self, name: &str, command: &mut Command) -> Result<(), FarmError> {
        let log: File = if self.restarts == 0 {
            record::fresh_log(&self.assignment.state_dir, name)?
        } else {
            record::more_log(&self.assignment.state_dir, name)?
        };
        let child = command
            .current_dir(&self.assignment.state_dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(process("copy a descriptor"))?)
            .stderr(log)
            .spawn()
            .map_err(process("start a program of the farm"))?;
        // From here on only `bury` waits for it.
        let pid = Pid::from_child(&child).as_raw_nonzero().get();
        self.list.push(ChildRecord { name: name.to_owned(), pid, ended: None });
        record::write(&self.assignment.state_dir, record::CHILDREN, &self.list)
    }

    /// Takes note of every process that ended, its own children and the orphans of others alike.
    fn bury(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let how = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => continue,
            };
            let killed = status.terminating_signal().is_some();
            let pid = pid.as_raw_nonzero().get();
            let Some(child) = self.list.iter_mut().find(|child| child.pid == pid) else { continue };
            if self.stopping {
                tracing::info!(name = child.name, how, "ended as asked");
            } else if killed && child.name == "farmgate" && self.restarts < MOST_RESTARTS {
                self.restart_at = Some(Instant::now() + AWAY);
            } else {
                tracing::error!(
                    name = child.name,
                    how,
                    "a program of the farm ended by itself; it is not restarted"
                );
            }
            child.ended = Some(how);
            if let Err(e) = record::write(&self.assignment.state_dir, record::CHILDREN, &self.list) {
                tracing::error!(error = %e, "cannot write that down");
            }
        }
    }

    fn alive(&self, name: &str) -> Option<Pid> {
        let child = self.list.iter().find(|child| child.name == name && child.ended.is_none())?;
        Pid::from_raw(child.pid)
    }

    async fn stop(&mut self, name: &str, deaths: &mut SignalStream) {
        let Some(pid) = self.alive(name) else { return };
        if let Err(e) = kill_process(pid, Signal::TERM) {
            tracing::warn!(name, error = %e, "cannot be asked to end");
        }
        let gone = timeout(STOP_TIME, async {
            while self.alive(name).is_some() && deaths.recv().await.is_some() {
                self.bury();
            }
        });
        if gone.await.is_err() {
            tracing::warn!(name, "did not end in time and is killed");
        }
    }
}
