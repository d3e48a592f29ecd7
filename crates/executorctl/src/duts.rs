//! `executorctl duts` and `executorctl dut ...`: one question, one answer.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use farmgate_protocol::{Timestamp, spelling};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    args::{DutNameArgs, Format},
    failure::Failure,
    gateway::{Gateway, GatewayError},
    jobs::write_json,
    table::{self, Row},
    terminal,
};

/// How long a change of a machine's state may take to be seen.
const EFFECT: Duration = Duration::from_secs(2);

/// What the gateway knows of its machines now.
///
/// # Errors
/// It was not reached, or what answers is no gateway.
pub async fn fetch(gateway: &Gateway) -> Result<Value, GatewayError> {
    let answer: Value = gateway.read(&gateway.get(&["duts"]).await?)?;
    if table::machines(&answer).is_none() {
        let reason = "there are no machines in it".to_owned();
        return Err(GatewayError::Strange { url: gateway.shown(), reason });
    }
    Ok(answer)
}

/// The rows of an answer.
pub fn rows(answer: &Value) -> Vec<Row> {
    table::machines(answer).unwrap_or_default().into_iter().map(|(row, _)| row).collect()
}

/// `executorctl duts`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn list(url: &str, format: Format) -> Result<(), Failure> {
    // Whatever is refused here: a gateway always has a list of machines.
    let answer = fetch(&Gateway::new(url)?).await.map_err(Failure::Gateway)?;
    let mut stdout = io::stdout();
    match format {
        Format::Json => writeln!(stdout, "{answer:#}")?,
        Format::Human => {
            let width = terminal::size().map(|(columns, _)| columns);
            let colour = terminal::wants_colour(&stdout);
            let text = table::render(&rows(&answer), Timestamp::now(), width, colour);
            stdout.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

/// `executorctl dut info NAME`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn info(url: &str, args: &DutNameArgs) -> Result<(), Failure> {
    let gateway = Gateway::new(url)?;
    let body = ask_dut(&gateway, Method::GET, &args.name, None, false).await?;
    match args.format {
        Format::Json => write_json(&body)?,
        Format::Human => io::stdout().write_all(table::details(&gateway.read(&body)?).as_bytes())?,
    }
    Ok(())
}

/// What the gateway knows of one machine.
///
/// # Errors
/// There is none of that name, or the gateway is not there.
pub async fn find(gateway: &Gateway, name: &str) -> Result<Value, Failure> {
    let body = ask_dut(gateway, Method::GET, name, None, false).await?;
    Ok(gateway.read(&body)?)
}

/// What can be done with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Out of service; at once, or when its job is over.
    Retire {
        /// End the job that runs on it.
        cancel: bool,
    },
    /// Into service.
    Activate,
    /// One boot, to see.
    QuickCheck,
}

/// `executorctl dut retire|activate|quick-check NAME`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn act(url: &str, action: Action, args: &DutNameArgs) -> Result<(), Failure> {
    let gateway = Gateway::new(url)?;
    let (verb, cancel) = match action {
        Action::Retire { cancel } => ("retire", cancel),
        Action::Activate => ("activate", false),
        Action::QuickCheck => ("quick_check", false),
    };
    // Asked for before: what is asked for takes effect a moment after the answer, and shall be seen.
    let before = match args.format {
        Format::Human => Some(standing(&gateway, &args.name).await?),
        Format::Json => None,
    };
    let body = ask_dut(&gateway, Method::POST, &args.name, Some(verb), cancel).await?;
    let Some(before) = before else { return Ok(write_json(&body)?) };
    let deadline = Instant::now() + EFFECT;
    let mut now = standing(&gateway, &args.name).await?;
    while now == before && Instant::now() < deadline {
        sleep(EFFECT / 20).await;
        now = standing(&gateway, &args.name).await?;
    }
    writeln!(io::stdout(), "{} is {} ({})", now.full_name, now.state, now.reason)?;
    Ok(())
}

/// Where a machine stands, as the table shows it.
async fn standing(gateway: &Gateway, name: &str) -> Result<Row, Failure> {
    let dut = find(gateway, name).await?;
    let answer = serde_json::json!({"duts": {name: dut}});
    rows(&answer).pop().ok_or_else(|| Failure::NotNow(format!("the gateway says nothing of {name}")))
}

/// A request about one machine; where there is none of that name, the names that are like it.
async fn ask_dut(
    gateway: &Gateway,
    method: Method,
    name: &str,
    verb: Option<&str>,
    cancel: bool,
) -> Result<Vec<u8>, Failure> {
    let mut segments = vec!["dut", name];
    segments.extend(verb);
    let mut url = gateway.resource(&segments);
    if cancel {
        url.query_pairs_mut().append_pair("cancel", "true");
    }
    match gateway.ask(method, url).await {
        Ok(body) => Ok(body),
        Err(error @ GatewayError::Refused { status, .. }) => {
            let unknown = match status {
                StatusCode::NOT_FOUND => true,
                // The original answers an unknown name with 400, as it does a wrong state.
                StatusCode::BAD_REQUEST => !is_known(gateway, name).await,
                _ => false,
            };
            Err(if unknown { no_such_dut(gateway, name).await } else { error.into() })
        }
        Err(error) => Err(error.into()),
    }
}

async fn names(gateway: &Gateway) -> Vec<String> {
    let rows = fetch(gateway).await.map(|answer| rows(&answer)).unwrap_or_default();
    rows.into_iter().flat_map(|row| [row.full_name, row.id]).collect()
}

async fn is_known(gateway: &Gateway, name: &str) -> bool {
    names(gateway).await.iter().any(|known| known == name)
}

async fn no_such_dut(gateway: &Gateway, name: &str) -> Failure {
    let names = names(gateway).await;
    let nearest = spelling::nearest(name, names.iter().map(String::as_str));
    Failure::NoSuchDut { name: name.to_owned(), nearest: nearest.into_iter().map(str::to_owned).collect() }
}
