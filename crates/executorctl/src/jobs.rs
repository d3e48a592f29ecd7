//! `executorctl jobs`, `job`, `why` and `cancel`: one question, one answer. How it looks is decided in `history`.

use std::io::{self, Write as _};

use farmgate_protocol::{
    Timestamp,
    run::{RunDetail, Runs, Why},
};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;

use crate::{
    args::{Format, JobArgs, JobsArgs},
    failure::Failure,
    gateway::Gateway,
    history, terminal,
};

/// `executorctl jobs`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn list(url: &str, args: &JobsArgs) -> Result<(), Failure> {
    let gateway = Gateway::new(url)?;
    let mut url = gateway.resource(&["jobs"]);
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &args.limit.to_string());
        if let Some(dut) = &args.dut {
            query.append_pair("dut", dut);
        }
        if let Some(state) = args.state {
            query.append_pair("state", state.as_str());
        }
        if args.all {
            query.append_pair("kind", "all");
        }
        if let Some(before) = args.before {
            query.append_pair("before", &before.to_string());
        }
    }
    answer(&gateway, Method::GET, url, args.format, |runs: &Runs, colour| {
        let width = terminal::size().map(|(columns, _)| columns);
        history::list(&runs.jobs, Timestamp::now(), width, colour)
    })
    .await
}

/// `executorctl job JOB`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn show(url: &str, args: &JobArgs) -> Result<(), Failure> {
    let gateway = Gateway::new(url)?;
    let url = gateway.resource(&["job", &args.job.to_string()]);
    answer(&gateway, Method::GET, url, args.format, |detail: &RunDetail, colour| {
        history::detail(detail, Timestamp::now(), colour)
    })
    .await
}

/// `executorctl why JOB`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn why(url: &str, args: &JobArgs) -> Result<(), Failure> {
    let gateway = Gateway::new(url)?;
    let url = gateway.resource(&["job", &args.job.to_string(), "why"]);
    answer(&gateway, Method::GET, url, args.format, |why: &Why, _| history::why(why)).await
}

/// `executorctl cancel JOB`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn cancel(url: &str, args: &JobArgs) -> Result<(), Failure> {
    let gateway = Gateway::new(url)?;
    let job = args.job;
    let url = gateway.resource(&["job", &job.to_string(), "cancel"]);
    answer(&gateway, Method::POST, url, args.format, |_: &serde_json::Value, _| {
        format!("job {job} is cancelled: its machine is switched off now\n")
    })
    .await
}

/// Asks, and writes the answer as it is for programs or in words for people.
async fn answer<T: DeserializeOwned>(
    gateway: &Gateway,
    method: Method,
    url: Url,
    format: Format,
    words: impl FnOnce(&T, bool) -> String,
) -> Result<(), Failure> {
    let body = gateway.ask(method, url).await?;
    // Looked at in both cases: what is no answer of a gateway is passed on to nobody.
    let read: T = gateway.read(&body)?;
    match format {
        Format::Json => write_json(&body)?,
        Format::Human => {
            let text = words(&read, terminal::wants_colour(&io::stdout()));
            io::stdout().write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

/// Writes what the gateway answered, and a line end.
///
/// # Errors
/// Standard output is closed.
pub fn write_json(body: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(body)?;
    if body.last() != Some(&b'\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}
