//! The virtual farm as one thing: started, looked at, entered and stopped.
//!
//! [`Farm`] is for programs (the command line, tests, demonstrations). It listens on the host's ports first, then starts
//! a supervisor in namespaces of its own and hands it the listeners, so that what the host reaches needs no privileges
//! and touches no firewall. Outside run only the supervisor's parent (`unshare`) and the way out to the internet
//! ([`uplink`]); everything else is inside and ends with the supervisor, which is the first process of its namespace.

pub mod cli;
pub mod forward;
pub mod handover;
pub mod health;
pub mod isolation;
pub mod network;
pub mod options;
pub mod record;
pub mod supervisor;
pub mod uplink;

use std::{
    fs::File,
    io::{self, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use handover::Assignment;
use isolation::Isolation;
use options::{FarmOptions, Ports, Service};
use record::{Lock, Supervisor};

/// How long a farm may take until its services answer. The KVM probe alone may take eight seconds.
const START_TIME: Duration = Duration::from_secs(90);

/// How long a farm may take to end before it is killed: the gateway and the vPDU have shorter bounds inside.
const STOP_TIME: Duration = Duration::from_secs(40);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Why a farm cannot be started, entered or stopped.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// Another one uses the state directory.
    #[error("vivian is up already in {dir}; `vivian --state-dir {dir} status` shows it, with `down` it ends", dir = .0.display())]
    AlreadyUp(PathBuf),
    /// None is there.
    #[error("vivian is not up in {dir}; start it with `vivian --state-dir {dir} up`", dir = .0.display())]
    NotUp(PathBuf),
    /// One is on its way.
    #[error("vivian is just starting in {}; try again when it is up", .0.display())]
    Starting(PathBuf),
    /// A port of the host is taken.
    #[error(
        "port {port} on 127.0.0.1, wanted for {service}, is taken ({source}): see by whom with `ss -ltnp 'sport = :{port}'`, or choose another with --ports {service}=PORT or --ephemeral-ports"
    )]
    PortTaken {
        /// Which port.
        port: u16,
        /// What for.
        service: Service,
        /// What the kernel said.
        source: io::Error,
    },
    /// The DUTs have nothing to boot.
    #[error("{} is missing: build the DUTs' kernel and initramfs with `make images`, or name their folder with --images", .0.display())]
    NoImages(PathBuf),
    /// A program of ours is missing.
    #[error("{} is missing: build it with `cargo build`, or name its folder with --bin-dir", .0.display())]
    NoProgram(PathBuf),
    /// No namespaces.
    #[error(transparent)]
    Isolation(#[from] isolation::Refused),
    /// Files of the state directory.
    #[error("{operation} {}: {source}", path.display())]
    Files {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A system call about processes failed.
    #[error("cannot {operation}: {source}")]
    Process {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// It began, but did not come up.
    #[error("the farm did not come up: {reason}\n{log}")]
    NotHealthy {
        /// What is missing.
        reason: String,
        /// The end of the log that tells why.
        log: String,
    },
}

fn process(operation: &'static str) -> impl FnOnce(io::Error) -> FarmError {
    move |source| FarmError::Process { operation, source }
}

/// A farm that runs. One that this process started ends when this is dropped, and when the process dies, until
/// [`Farm::leave`] lets it go.
#[derive(Debug)]
pub struct Farm {
    state_dir: PathBuf,
    supervisor: Supervisor,
    ports: Ports,
    /// Tells the supervisor's death, and is proof against another process with the same number.
    pidfd: OwnedFd,
    /// Only for a farm that this process started and has not let go: `unshare`, and the socket whose end the
    /// supervisor waits for.
    own: Option<(Child, UnixStream)>,
}

impl Farm {
    /// Starts a farm and waits until its services answer. `say` gets a line for each thing worth knowing.
    ///
    /// # Errors
    /// See [`FarmError`]; then nothing of it is left running.
    pub fn start(options: &FarmOptions, say: &mut dyn FnMut(&str)) -> Result<Self, FarmError> {
        options.check_files()?;
        let state_dir = record::prepare(&options.state_dir)?;
        let lock = Lock::take(&state_dir)?;
        let (listeners, ports) = listen(&options.ports)?;
        let isolation = Isolation::find()?;
        say(isolation.describe());
        if let Err(e) = crate::vpdu::tap::tun_ready() {
            say(&format!("warning: no DUT can be switched on: {e}"));
        }
        record::write(&state_dir, record::PORTS, &ports)?;
        record::forget(&state_dir)?;

        let (uplink_end, uplink_life) = io::pipe().map_err(process("make a pipe"))?;
        let assignment = Assignment::new(options, &state_dir, isolation);
        let mut fds = vec![lock.as_fd(), uplink_life.as_fd()];
        fds.extend(listeners.iter().map(|listener| listener.as_fd()));
        let (mut child, starter) = launch(isolation, options, &state_dir)?;
        let found = hand_over(&starter, &assignment, &fds, &mut child);
        let (supervisor, pidfd) = match found {
            Ok(found) => found,
            Err(e) => {
                // `unshare --kill-child` takes everything inside along.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(e);
            }
        };
        let farm = Self { state_dir, supervisor, ports, pidfd, own: Some((child, starter)) };
        match uplink::start(options, &farm.state_dir, farm.supervisor.pid, uplink_end) {
            Ok(how) => say(&how),
            Err(e) => say(&format!("warning: {e}")),
        }
        match farm.wait_until_healthy(options) {
            Ok(()) => Ok(farm),
            Err(e) => {
                // The reason is more useful than that it also did not stop well.
                let _ = farm.stop();
                Err(e)
            }
        }
    }

    /// The farm that runs in a state directory, whoever started it. Dropping the result leaves it running.
    ///
    /// # Errors
    /// None runs there, or its records cannot be read.
    pub fn find(state_dir: &Path) -> Result<Self, FarmError> {
        let not_up = || FarmError::NotUp(state_dir.to_owned());
        if !Lock::is_held(state_dir)? {
            return Err(not_up());
        }
        let state_dir = state_dir.canonicalize().map_err(|_| not_up())?;
        let supervisor: Supervisor = match record::read(&state_dir, record::SUPERVISOR) {
            Err(FarmError::Files { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(FarmError::Starting(state_dir));
            }
            read => read?,
        };
        let ports = record::read(&state_dir, record::PORTS)?;
        let pid = Pid::from_raw(supervisor.pid).ok_or_else(not_up)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| not_up())?;
        Ok(Self { state_dir, supervisor, ports, pidfd, own: None })
    }

    /// Where the host reaches the services.
    pub const fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Where the farm keeps its files, absolute.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What is known about the supervisor.
    pub const fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// A command that runs `program` inside the farm, in this process's folder; to be completed by its arguments.
    pub fn exec(&self, program: &str) -> Command {
        self.supervisor.isolation.enter(self.supervisor.pid, program)
    }

    /// Lets the farm run on without this process.
    ///
    /// # Errors
    /// It is gone already.
    pub fn leave(mut self) -> Result<(), FarmError> {
        match self.own.take() {
            Some((_, mut supervisor)) => supervisor.write_all(&[1]).map_err(process("let the supervisor go")),
            None => Ok(()),
        }
    }

    /// Waits until the farm ends, at most that long. True: it has.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn ended_within(&self, time: Duration) -> Result<bool, FarmError> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        match poll(&mut fds, Some(&time)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(process("wait for the supervisor")(e.into())),
        }
    }

    /// Ends the farm, in order, and returns when it is gone.
    ///
    /// # Errors
    /// It belongs to somebody else, or does not die.
    pub fn stop(mut self) -> Result<(), FarmError> {
        self.end(Signal::TERM, STOP_TIME).or_else(|_| self.end(Signal::KILL, Duration::from_secs(10)))?;
        if let Some((mut child, _)) = self.own.take() {
            child.wait().map_err(process("wait for `unshare`"))?;
        }
        match Lock::take(&self.state_dir) {
            Ok(_lock) => record::forget(&self.state_dir),
            // The next farm is there already, and what is written down is its own.
            Err(FarmError::AlreadyUp(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn end(&self, signal: Signal, bound: Duration) -> Result<(), FarmError> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(process("end the supervisor")(e.into())),
        }
        let until = Instant::now() + bound;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.ended_within(left)? {
                return Ok(());
            }
            if left.is_zero() {
                let late = io::Error::new(io::ErrorKind::TimedOut, "it does not end");
                return Err(process("end the supervisor")(late));
            }
        }
    }

    fn wait_until_healthy(&self, options: &FarmOptions) -> Result<(), FarmError> {
        let begun = Instant::now();
        loop {
            let sick = |reason: String, log| FarmError::NotHealthy {
                reason,
                log: record::log_end(&self.state_dir, log),
            };
            if self.ended_within(LOOK)? {
                return Err(sick("its supervisor ended".to_owned(), "vivian"));
            }
            for child in record::children(&self.state_dir) {
                if let Some(how) = child.ended {
                    return Err(sick(format!("{} ended ({how})", child.name), &child.name));
                }
            }
            let missing = if !health::vpdu(&self.ports) {
                Some(("the vPDU", "vpdu"))
            } else if options.gateway && !health::executor(&self.ports) {
                Some(("the executor", "farmgate"))
            } else if options.gateway && !health::salad(&self.ports) {
                Some(("SALAD", "farmgate"))
            } else {
                None
            };
            let Some((service, log)) = missing else { return Ok(()) };
            if begun.elapsed() > START_TIME {
                return Err(sick(
                    format!("{service} does not answer within {} s", START_TIME.as_secs()),
                    log,
                ));
            }
        }
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.own.take()
            && self.end(Signal::KILL, Duration::from_secs(10)).is_ok()
        {
            // Its child is gone, so it ends by itself.
            let _ = child.wait();
        }
    }
}

/// Listens on the host's side of every forwarded port. Before anything else is started: a taken port is the most
/// common mistake.
fn listen(wanted: &Ports) -> Result<(Vec<TcpListener>, Ports), FarmError> {
    let mut got = wanted.clone();
    let mut listeners = Vec::new();
    for service in Service::ALL {
        let port = wanted.get(service);
        let taken = |source| FarmError::PortTaken { port, service, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(taken)?;
        got.set(service, listener.local_addr().map_err(taken)?.port());
        listeners.push(listener);
    }
    Ok((listeners, got))
}

/// Starts the supervisor, which then waits for its assignment at the other end of the socket.
fn launch(
    isolation: Isolation,
    options: &FarmOptions,
    state_dir: &Path,
) -> Result<(Child, UnixStream), FarmError> {
    let (ours, theirs) = UnixStream::pair().map_err(process("make a socket pair"))?;
    let log = record::fresh_log(state_dir, "vivian")?;
    let child = isolation
        .unshare(&options.program("vivian"))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log.try_clone().map_err(process("copy a descriptor"))?)
        .stderr(log)
        .spawn()
        .map_err(process("start `setsid unshare`"))?;
    Ok((child, ours))
}

/// Tells the supervisor what to do and waits until it has begun. `fds` are those of its own, then the listeners.
fn hand_over(
    starter: &UnixStream,
    assignment: &Assignment,
    fds: &[BorrowedFd<'_>],
    child: &mut Child,
) -> Result<(Supervisor, OwnedFd), FarmError> {
    // Through it the supervisor learns its number on the host, which is not the one it has inside.
    let host_proc = File::open("/proc").map_err(process("open /proc"))?;
    let fds = [&[host_proc.as_fd()], fds].concat();
    handover::send(starter, assignment, &fds).map_err(process("hand over to the supervisor"))?;
    let supervisor = wait_for_supervisor(&assignment.state_dir, child)?;
    let pid = Pid::from_raw(supervisor.pid).ok_or_else(|| FarmError::NotUp(assignment.state_dir.clone()))?;
    let pidfd =
        pidfd_open(pid, PidfdFlags::empty()).map_err(|e| process("watch the supervisor")(e.into()))?;
    Ok((supervisor, pidfd))
}

fn wait_for_supervisor(state_dir: &Path, child: &mut Child) -> Result<Supervisor, FarmError> {
    let begun = Instant::now();
    loop {
        if let Ok(supervisor) = record::read(state_dir, record::SUPERVISOR) {
            return Ok(supervisor);
        }
        let sick =
            |reason: String| FarmError::NotHealthy { reason, log: record::log_end(state_dir, "vivian") };
        if let Some(status) = child.try_wait().map_err(process("wait for `unshare`"))? {
            return Err(sick(format!("its supervisor ended ({status})")));
        }
        if begun.elapsed() > START_TIME {
            return Err(sick("its supervisor did not report".to_owned()));
        }
        std::thread::sleep(LOOK / 4);
    }
}
