//! `executorctl logs`: the console of a job, byte for byte, on standard output. A connection that breaks is taken up
//! again at the byte where it broke.

use std::time::{Duration, Instant};

use farmgate_protocol::{console::Severity, run::RunState};
use reqwest::Response;
use tokio::{io::AsyncWriteExt, time::sleep};

use crate::{
    args::LogsArgs,
    claim::{Claim, is_final},
    failure::Failure,
    gateway::{Gateway, GatewayError},
    patience::Patience,
    screen::Screen,
    session::Note,
    signals::Signals,
};

/// How long a gateway may be away.
const AWAY: Duration = Duration::from_secs(300);

/// Carries the command out.
///
/// # Errors
/// There is no such job, the gateway is not there or away for too long, standard output is closed.
pub async fn logs(url: &str, args: &LogsArgs) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let claim = Claim::visitor(Gateway::new(url)?, args.job);
    tokio::select! {
        result = copy(&claim, args) => result,
        _ = signals.next() => Ok(()),
    }
}

async fn copy(claim: &Claim, args: &LogsArgs) -> Result<(), Failure> {
    let mut stdout = tokio::io::stdout();
    let mut patience = Patience::new(AWAY);
    let mut at = args.from;
    let mut first = true;
    loop {
        let before = at;
        let result = match open(claim, args, at).await {
            Ok(response) => pour(&claim.gateway, response, &mut stdout, &mut at).await?,
            Err(error) => Err(error),
        };
        if at > before {
            patience.progressed();
        }
        let error = match result {
            Ok(()) if !args.follow || is_whole(claim, args.job, at).await? => return Ok(()),
            // A gateway that stops in good order ends the answer in good order too.
            Ok(()) => None,
            // At the start nobody waits for a gateway that is not there.
            Err(error) if is_final(&error) || (first && at == args.from) => return Err(error.into()),
            Err(error) => Some(error),
        };
        first = false;
        let Some(delay) = patience.next_try(Instant::now()) else {
            return Err(error.map_or_else(
                || Failure::NotNow("the console ended before its job".to_owned()),
                Failure::from,
            ));
        };
        if let Some(error) = error {
            tell(&format!("{error}; going on at byte {at}")).await;
        }
        sleep(delay).await;
    }
}

async fn tell(text: &str) {
    let mut screen = Screen::of_process(false);
    screen.note(&Note::client(Severity::Warn, text));
    // Standard error may be closed: then nobody wants to read it.
    let _ = screen.drain().await;
}

async fn open(claim: &Claim, args: &LogsArgs, from: u64) -> Result<Response, GatewayError> {
    let gateway = &claim.gateway;
    let mut url = gateway.resource(&["job", &args.job.to_string(), "console"]);
    url.query_pairs_mut().append_pair("from", &from.to_string());
    if args.follow {
        url.query_pairs_mut().append_pair("follow", "1");
    }
    let response = gateway.client().get(url).send().await.map_err(|e| gateway.failed(&e))?;
    if response.status().is_success() { Ok(response) } else { Err(gateway.refused(response).await) }
}

/// Copies an answer; `at` counts what was written. The inner error: the gateway's; the outer: standard output's.
async fn pour(
    gateway: &Gateway,
    mut response: Response,
    stdout: &mut tokio::io::Stdout,
    at: &mut u64,
) -> Result<Result<(), GatewayError>, Failure> {
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                stdout.write_all(&bytes).await?;
                stdout.flush().await?;
                *at += bytes.len() as u64;
            }
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(gateway.failed(&error))),
        }
    }
}

/// Whether the job is over and nothing of its console is missing. A gateway that does not answer now is asked again
/// with the rest of the console.
async fn is_whole(claim: &Claim, job: u64, at: u64) -> Result<bool, Failure> {
    match claim.detail(job).await {
        Ok(detail) => Ok(detail.run.state == RunState::Finished && at >= detail.console_bytes),
        Err(error) if is_final(&error) => Err(error.into()),
        Err(_) => Ok(false),
    }
}
