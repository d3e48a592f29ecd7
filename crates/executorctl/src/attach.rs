//! `executorctl attach` and `executorctl dut console`: comes to a job that somebody submitted, from the beginning of
//! its stream, and stays until its verdict. Leaving never ends the job.

use std::time::Duration;

use farmgate_protocol::{
    console::Severity,
    run::{Run, RunState, Runs},
};

use crate::{
    args::{AttachArgs, DutConsoleArgs},
    claim::Claim,
    drive::drive,
    duts,
    failure::Failure,
    gateway::Gateway,
    run::{tell_summary, write_out},
    screen::Screen,
    session::{Note, Position},
    signals::Signals,
};

/// Carries `attach` out. Gives the exit code.
///
/// # Errors
/// There is no such job, or the gateway is not there.
pub async fn attach(url: &str, args: &AttachArgs) -> Result<u8, Failure> {
    let claim = Claim::visitor(Gateway::new(url)?, args.job);
    follow(&claim, args.job, args.detach, args.quiet, Duration::from_secs(args.reconnect)).await
}

/// Carries `dut console` out: the stream of whatever the machine is busy with.
///
/// # Errors
/// There is no such machine, it is not busy, or the gateway is not there.
pub async fn console(url: &str, args: &DutConsoleArgs) -> Result<u8, Failure> {
    let gateway = Gateway::new(url)?;
    let dut = duts::find(&gateway, &args.name).await?;
    let id = dut.get("id").and_then(serde_json::Value::as_str).unwrap_or(&args.name);
    let list = |state: &str, limit: &str| {
        let mut url = gateway.resource(&["jobs"]);
        url.query_pairs_mut().append_pair("dut", id).append_pair("kind", "all").append_pair("limit", limit);
        if !state.is_empty() {
            url.query_pairs_mut().append_pair("state", state);
        }
        url
    };
    let asked = gateway.ask(reqwest::Method::GET, list(RunState::Active.as_str(), "1")).await?;
    let busy: Runs = gateway.read(&asked)?;
    let Some(run) = busy.jobs.first() else {
        let asked = gateway.ask(reqwest::Method::GET, list("", "1")).await?;
        let last: Runs = gateway.read(&asked)?;
        return Err(Failure::NotNow(nothing_to_see(&args.name, last.jobs.first())));
    };
    eprintln!("executorctl: {} is busy with job {} ({}, {})", args.name, run.id, run.kind, run.name);
    let claim = Claim::visitor(gateway.clone(), run.id);
    follow(&claim, run.id, false, false, Duration::from_secs(args.reconnect)).await
}

fn nothing_to_see(name: &str, last: Option<&Run>) -> String {
    let last =
        last.map(|run| format!(". What it said last: executorctl logs {}", run.id)).unwrap_or_default();
    format!("{name} is not busy; the console of a machine without a job is not supported yet{last}")
}

async fn follow(
    claim: &Claim,
    run: u64,
    detach: bool,
    quiet: bool,
    patience: Duration,
) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let stream = claim.attach(run, Position::default(), detach).await?;
    let mut screen = Screen::of_process(quiet);
    if detach {
        screen.note(&Note::client(Severity::Info, format!("job {run} needs nobody from now on")));
    }
    let report = drive(Box::new(stream), claim, patience, &mut screen, &mut signals).await;
    tell_summary(&report, !quiet, &mut screen);
    screen.verdict(report.status);
    write_out(&mut screen, &mut signals).await;
    Ok(report.status.exit_code())
}
