//! `executorctl run`: submits, waits for a machine if it may, gets the connection of the run one way or the other,
//! lets it run and says how it ended. The last line on standard output is always the verdict's word.

use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use farmgate_protocol::{JobStatus, Timestamp, console::Severity, submit::RunTicket};
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    args::RunArgs,
    claim::{Claim, Role, is_final},
    drive::{Connection, ProcessScreen, drive},
    gateway::{Gateway, GatewayError},
    patience::Patience,
    recover::{self, Found},
    screen::Screen,
    session::{Note, Position, Report},
    signals::Signals,
    submit::{Admission, Submission, SubmitError},
    summary,
};

/// How long the gateway may take to dial us, as the published client waits.
const CALL_BACK_TIME: Duration = Duration::from_secs(15);
/// Between two tries while every machine is busy.
const RETRY: Duration = Duration::from_secs(1);
/// How often the wait is mentioned where a line cannot be written over.
const REMINDER: Duration = Duration::from_secs(60);
/// While we wait for a machine the gateway may be away for this long: it may just be restarting.
const GATEWAY_AWAY: Duration = Duration::from_secs(60);

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error("cannot listen for the gateway's call: {0}")]
    Listen(std::io::Error),
    #[error("cannot write {}: {source}", path.display())]
    Timings { path: PathBuf, source: std::io::Error },
    #[error(
        "the gateway accepted the job and did not call back on port {port} within {} s. Can it reach this machine? Name it with -c HOST; through a forwarded port it cannot",
        CALL_BACK_TIME.as_secs()
    )]
    NoCall { port: u16 },
    #[error("{0}\nTo wait for a machine: run --wait")]
    Busy(GatewayError),
    #[error(
        "this gateway cannot run a job without its client: submit it without --detach. It may have begun with the job, which ends now"
    )]
    CannotDetach,
    #[error("{0}. Whether the gateway took the job is not known: executorctl jobs")]
    Unanswered(GatewayError),
    #[error("{0}: given up before a machine had the job")]
    GivenUp(&'static str),
}

/// Carries the command out. Gives the exit code.
pub async fn run(url: &str, args: &RunArgs) -> u8 {
    let mut screen = Screen::of_process(args.quiet);
    let mut timings = None;
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("executorctl: cannot listen for signals: {error}");
            return JobStatus::SetupFail.exit_code();
        }
    };
    let started = tokio::select! {
        started = start(url, args, &mut screen, &mut timings) => started,
        signal = signals.next() => Err(StartError::GivenUp(signal)),
    };
    let patience = Duration::from_secs(args.reconnect);
    let report = match started {
        Ok(Started::Stream(connection, claim)) => {
            let report = drive(connection, &claim, patience, &mut screen, &mut signals).await;
            tell_summary(&report, !args.quiet, &mut screen);
            report
        }
        Ok(Started::Alone(run)) => {
            let text = format!(
                "job {run} runs by itself. Come back: executorctl attach {run}; its console: executorctl logs {run}; end it: executorctl cancel {run}"
            );
            screen.note(&Note::client(Severity::Info, text));
            screen.word(&run.to_string());
            write_out(&mut screen, &mut signals).await;
            return 0;
        }
        Err(error) => {
            screen.note(&Note::client(Severity::Error, format!("the job did not start: {error}")));
            Report::not_started(error.to_string())
        }
    };
    if let Some((path, file)) = timings
        && let Err(error) = write_timings(file, &report)
    {
        screen.note(&Note::client(Severity::Warn, format!("cannot write {}: {error}", path.display())));
    }
    screen.verdict(report.status);
    write_out(&mut screen, &mut signals).await;
    report.status.exit_code()
}

/// Says how a run ended, for a person.
pub fn tell_summary(report: &Report, full: bool, screen: &mut ProcessScreen) {
    let text = summary::render(report, full, screen.style().colour);
    screen.error_text(&text);
}

/// Writes what is left. A reader that never reads must not keep us from ending.
pub async fn write_out(screen: &mut ProcessScreen, signals: &mut Signals) {
    tokio::select! {
        _ = screen.drain() => {}
        _ = signals.next() => {}
    }
}

async fn start(
    url: &str,
    args: &RunArgs,
    screen: &mut ProcessScreen,
    timings: &mut Option<(PathBuf, File)>,
) -> Result<Started, StartError> {
    if let Some(path) = &args.timings_json {
        *timings = Some((path.clone(), create(path)?));
    }
    let gateway = Gateway::new(url)?;
    let submission = Submission::new(args, std::env::vars_os(), ticket)?;
    submit(&gateway, &submission, args, screen).await
}

fn create(path: &Path) -> Result<File, StartError> {
    // Now and not at the end: a run is dear, a wrong path is cheap.
    File::create(path).map_err(|source| StartError::Timings { path: path.to_owned(), source })
}

fn write_timings(mut file: File, report: &Report) -> std::io::Result<()> {
    writeln!(file, "{:#}", summary::timings(report))?;
    file.sync_data().or_else(|error| {
        // A pipe or a terminal cannot be synced and need not be.
        if error.kind() == std::io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
    })
}

/// A name for a submission that has none, unique enough among those that wait at one gateway.
fn ticket() -> String {
    format!("executorctl-{}-{}", Timestamp::now().as_micros(), std::process::id())
}

/// What a submission has become.
enum Started {
    /// A stream.
    Stream(Connection, Claim),
    /// A run that needs nobody.
    Alone(u64),
}

/// Until there is a run, and a connection of it if it shall be followed.
async fn submit(
    gateway: &Gateway,
    submission: &Submission,
    args: &RunArgs,
    screen: &mut ProcessScreen,
) -> Result<Started, StartError> {
    let listener = listen().await.map_err(StartError::Listen)?;
    let port = listener.local_addr().map_err(StartError::Listen)?.port();
    let mut waiting: Option<Waiting> = None;
    loop {
        let posted = Instant::now();
        match submission.post(gateway, port).await {
            Ok(Admission::Upgraded { stream, ticket }) => {
                let claim = claim(gateway, ticket);
                if args.detach {
                    return claim.run.map(Started::Alone).ok_or(StartError::CannotDetach);
                }
                let run = claim.run.map(|run| format!(" as job {run}")).unwrap_or_default();
                tell(screen, format!("the gateway took the job{run}")).await;
                return Ok(Started::Stream(Box::new(stream), claim));
            }
            Ok(Admission::CallsBack { run }) => {
                if args.detach {
                    return run.map(Started::Alone).ok_or(StartError::CannotDetach);
                }
                tell(screen, format!("the gateway took the job and calls back on port {port}")).await;
                let claim = Claim { run, ..claim(gateway, None) };
                return Ok(Started::Stream(Box::new(accept(&listener, port).await?), claim));
            }
            Ok(Admission::Busy(error)) => {
                if !args.wait {
                    return Err(StartError::Busy(error));
                }
                waiting.get_or_insert_with(Waiting::new).busy(error, screen);
            }
            Err(SubmitError::Gateway(
                error @ (GatewayError::Unreachable { .. } | GatewayError::Broken { .. }),
            )) => match &mut waiting {
                Some(waiting) if waiting.may_be_away() => waiting.away(&error, screen),
                Some(_) => return Err(error.into()),
                None => {
                    if let Some(run) = recover(gateway, submission, args, posted, error, screen).await? {
                        return join(gateway, run, args, screen).await;
                    }
                }
            },
            Err(error) => return Err(error.into()),
        }
        let _ = screen.drain().await;
        sleep(RETRY).await;
    }
}

fn claim(gateway: &Gateway, ticket: Option<RunTicket>) -> Claim {
    let (run, token) = match ticket {
        Some(ticket) => (Some(ticket.id), Some(ticket.resume_token).filter(|token| !token.is_empty())),
        None => (None, None),
    };
    let resumable = token.is_some();
    Claim { gateway: gateway.clone(), run, token, role: Role::Submitter, resumable }
}

/// The answer to the submission was lost. Gives the run, or None if the gateway never took the job: then it can be
/// submitted again.
async fn recover(
    gateway: &Gateway,
    submission: &Submission,
    args: &RunArgs,
    posted: Instant,
    error: GatewayError,
    screen: &mut ProcessScreen,
) -> Result<Option<u64>, StartError> {
    // One that was not reached has nothing; one that does not wait has given no name to look for.
    let (GatewayError::Broken { .. }, Some(job_id), true) = (&error, submission.job_id(), args.wait) else {
        return Err(match error {
            GatewayError::Broken { .. } => StartError::Unanswered(error),
            error => error.into(),
        });
    };
    screen.note(&Note::client(Severity::Warn, format!("{error}; asking whether the gateway took the job")));
    let mut patience = Patience::new(Duration::from_secs(args.reconnect));
    while let Some(delay) = patience.next_try(Instant::now()) {
        let _ = screen.drain().await;
        sleep(delay).await;
        match recover::find(gateway, job_id, posted).await {
            Ok(Found::Run(run)) => return Ok(Some(run)),
            Ok(Found::Nothing) => return Ok(None),
            Ok(Found::Unknown) => break,
            Err(error) if is_final(&error) => return Err(error.into()),
            Err(_) => {}
        }
    }
    Err(StartError::Unanswered(error))
}

/// The stream of a run that was submitted and whose answer was lost.
async fn join(
    gateway: &Gateway,
    run: u64,
    args: &RunArgs,
    screen: &mut ProcessScreen,
) -> Result<Started, StartError> {
    if args.detach {
        return Ok(Started::Alone(run));
    }
    tell(screen, format!("the gateway took the job as job {run}")).await;
    let claim = Claim { role: Role::Submitter, ..Claim::visitor(gateway.clone(), run) };
    let mut patience = Patience::new(Duration::from_secs(args.reconnect));
    loop {
        match claim.attach(run, Position::default(), false).await {
            Ok(stream) => return Ok(Started::Stream(Box::new(stream), claim)),
            Err(error) if is_final(&error) => return Err(error.into()),
            Err(error) => match patience.next_try(Instant::now()) {
                Some(delay) => sleep(delay).await,
                None => return Err(error.into()),
            },
        }
    }
}

async fn tell(screen: &mut ProcessScreen, text: String) {
    screen.note(&Note::client(Severity::Info, text));
    let _ = screen.drain().await;
}

async fn listen() -> std::io::Result<TcpListener> {
    // One socket for both families, where the machine has IPv6.
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await,
    }
}

async fn accept(listener: &TcpListener, port: u16) -> Result<TcpStream, StartError> {
    let Ok(accepted) = timeout(CALL_BACK_TIME, listener.accept()).await else {
        return Err(StartError::NoCall { port });
    };
    let (stream, _) = accepted.map_err(StartError::Listen)?;
    let _ = stream.set_nodelay(true);
    // As for a connection that was upgraded: a gateway that lost its power is noticed.
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, Duration::from_secs(30));
    let _ = sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(10));
    let _ = sockopt::set_tcp_keepcnt(&stream, 3);
    Ok(stream)
}

/// The wait for a machine, as the person sees it.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    answered: Instant,
    said: Option<Instant>,
}

impl Waiting {
    fn new() -> Self {
        let now = Instant::now();
        Self { since: now, answered: now, said: None }
    }

    fn busy(&mut self, error: GatewayError, screen: &mut ProcessScreen) {
        self.answered = Instant::now();
        if self.said.is_none()
            && let GatewayError::Refused { text, .. } = error
        {
            screen.note(&Note::client(Severity::Info, text));
        }
        self.say("", screen);
    }

    fn may_be_away(&self) -> bool {
        self.answered.elapsed() < GATEWAY_AWAY
    }

    fn away(&mut self, error: &GatewayError, screen: &mut ProcessScreen) {
        self.say(&format!(" ({error})"), screen);
    }

    fn say(&mut self, addition: &str, screen: &mut ProcessScreen) {
        let text =
            format!("waiting for a free machine, since {} s{addition}", self.since.elapsed().as_secs());
        if screen.style().live {
            screen.live_line(&format!("[executorctl] {text}"));
        } else if self.said.is_none_or(|said| said.elapsed() >= REMINDER) {
            screen.note(&Note::client(Severity::Info, text));
        } else {
            return;
        }
        self.said = Some(Instant::now());
    }
}
