//! `executorctl duts` and `executorctl dut info`: one question, one answer.

use std::io::{self, Write as _};

use farmgate_protocol::{JobStatus, Timestamp, spelling};
use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    args::{DutInfoArgs, Format},
    gateway::{Gateway, GatewayError},
    table::{self, Row},
    terminal,
};

/// Why machines are not shown.
#[derive(Debug, thiserror::Error)]
pub enum DutsError {
    /// The gateway was not reached, or refused.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// There is no such machine.
    #[error("no machine has the id or full name {name:?}{}", offer(.nearest))]
    NoSuchDut {
        /// What was asked for.
        name: String,
        /// Names that are like it.
        nearest: Vec<String>,
    },
    /// The answer is shown nowhere.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

fn offer(nearest: &[String]) -> String {
    if nearest.is_empty() {
        "; all names: executorctl duts".to_owned()
    } else {
        format!("; did you mean {}?", nearest.join(", "))
    }
}

impl DutsError {
    /// Of the process.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NoSuchDut { .. } | Self::Output(_) => 1,
            Self::Gateway(_) => JobStatus::SetupFail.exit_code(),
        }
    }
}

/// What the gateway knows of its machines now.
///
/// # Errors
/// It was not reached, or what answers is no gateway.
pub async fn fetch(gateway: &Gateway) -> Result<Value, GatewayError> {
    let answer = parse(gateway, &gateway.get(&["duts"]).await?)?;
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

fn parse(gateway: &Gateway, body: &[u8]) -> Result<Value, GatewayError> {
    serde_json::from_slice(body)
        .map_err(|error| GatewayError::Strange { url: gateway.shown(), reason: error.to_string() })
}

/// `executorctl duts`.
///
/// # Errors
/// As [`DutsError`] says.
pub async fn list(url: &str, format: Format) -> Result<(), DutsError> {
    let answer = fetch(&Gateway::new(url)?).await?;
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
/// As [`DutsError`] says.
pub async fn info(url: &str, args: &DutInfoArgs) -> Result<(), DutsError> {
    let gateway = Gateway::new(url)?;
    let body = match gateway.get(&["dut", &args.name]).await {
        Ok(body) => body,
        // The original answers an unknown name with 400.
        Err(GatewayError::Refused { status: StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST, .. }) => {
            let rows = fetch(&gateway).await.map(|answer| rows(&answer)).unwrap_or_default();
            let names = rows.iter().flat_map(|row| [row.full_name.as_str(), row.id.as_str()]);
            let nearest = spelling::nearest(&args.name, names).into_iter().map(str::to_owned).collect();
            return Err(DutsError::NoSuchDut { name: args.name.clone(), nearest });
        }
        Err(error) => return Err(error.into()),
    };
    let mut stdout = io::stdout();
    match args.format {
        Format::Json => {
            stdout.write_all(&body)?;
            if body.last() != Some(&b'\n') {
                stdout.write_all(b"\n")?;
            }
        }
        Format::Human => stdout.write_all(table::details(&parse(&gateway, &body)?).as_bytes())?,
    }
    Ok(())
}
