//! The console service (SALAD) as a process of its own: only a process that stays can keep consoles. `serve` uses the
//! one that runs, or starts it detached; it outlives the gateway.

use std::{
    fs::File,
    process::{Command, Stdio},
    time::Duration,
};

use farmgate_salad::{Salad, SaladConfig, Server};
use tokio_util::sync::CancellationToken;

use crate::{BoxError, settings::Settings, signals::stop_signals};

/// How long a freshly started console service may take until it answers.
const START: Duration = Duration::from_secs(10);

/// How often the console service is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks without an answer until it is taken for dead.
const SILENT_LOOKS: u32 = 3;

/// `farmgate salad`: runs it until it is told to stop.
pub async fn run(settings: &Settings) -> Result<(), BoxError> {
    let config = SaladConfig {
        rest: settings.salad_rest,
        console: settings.salad_console,
        socket: settings.salad_socket.clone(),
        records: settings.consoles.clone(),
        legacy_host: settings.salad_rest.ip(),
    };
    let server = Server::bind(config).await?;
    let shutdown = CancellationToken::new();
    // It has nothing to hand over: a signal to do so is not for it, and does not end it.
    let signals = tokio::spawn(stop_signals(shutdown.clone(), CancellationToken::new()));
    let result = server.run(shutdown).await;
    signals.abort();
    Ok(result?)
}

/// The console service that runs, or a new one.
pub async fn attach(settings: &Settings) -> Result<Salad, BoxError> {
    let salad = Salad::new(settings.salad_socket.clone());
    if salad.alive().await {
        tracing::info!(socket = %settings.salad_socket.display(), "attached to the console service that runs");
        return Ok(salad);
    }
    let log_path = settings.temporary.join("salad.log");
    let log = File::options().create(true).append(true).open(&log_path)?;
    let mut child = start(settings, log)?;
    let deadline = tokio::time::Instant::now() + START;
    loop {
        if salad.alive().await {
            tracing::info!(pid = child.id(), log = %log_path.display(), "started the console service");
            // It is a process of its own from here on: it is reaped by a thread, and never killed by us.
            std::thread::spawn(move || child.wait());
            return Ok(salad);
        }
        let ended = child.try_wait()?;
        if ended.is_some() || tokio::time::Instant::now() > deadline {
            let said = std::fs::read_to_string(&log_path).unwrap_or_default();
            let last =
                said.lines().rev().find(|l| l.starts_with("farmgate:")).unwrap_or("it does not answer");
            // It has ended already or is of no use.
            let _ = child.kill();
            return Err(format!(
                "the console service (SALAD) does not start: {} (its log: {})",
                last.trim_start_matches("farmgate: "),
                log_path.display()
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts the console service again if it dies: without it no job can run. What machines said meanwhile is lost, and
/// the record says so.
pub async fn keep(settings: Settings, salad: Salad, shutdown: CancellationToken) {
    let mut silent = 0;
    while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        silent = if salad.alive().await { 0 } else { silent + 1 };
        if silent >= SILENT_LOOKS {
            tracing::error!("the console service does not answer any more: starting it again");
            silent = 0;
            if let Err(error) = attach(&settings).await {
                tracing::error!(%error, "the console service cannot be started");
            }
        }
    }
}

fn start(settings: &Settings, log: File) -> std::io::Result<std::process::Child> {
    // setsid: a Ctrl-C in the gateway's terminal, or its end, must not end the consoles.
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe()?).arg("salad");
    command
        .env("SALAD_SOCKET", &settings.salad_socket)
        .env("PERMANENT_MOUNT", &settings.permanent)
        .env("TMP_MOUNT", &settings.temporary)
        .env("SALAD_HOST", settings.salad_rest.ip().to_string())
        .env("EXECUTOR_HOST", settings.salad_console.ip().to_string())
        .env("SALAD_PORT", settings.salad_rest.port().to_string())
        .env("SALAD_TCPCONSOLE_PORT", settings.salad_console.port().to_string())
        .env("FARM_NAME", &settings.executor_config.farm_name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn()
}
