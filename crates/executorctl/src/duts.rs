//! `executorctl duts` and `executorctl dut info`: one question, one answer.

use std::io::{self, Write as _};

use farmgate_protocol::{JobStatus, Timestamp};
use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    args::{DutInfoArgs, Format},
    gateway::{Gateway, GatewayError},
    table::{self, Row},
    terminal,
};

/// How many names are offered for one that does not exist.
const OFFERS: usize = 3;
/// Longer names are not compared: nobody mistypes them.
const LONGEST_NAME: usize = 200;

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
            let names = rows.into_iter().flat_map(|row| [row.full_name, row.id]);
            return Err(DutsError::NoSuchDut {
                name: args.name.clone(),
                nearest: nearest(&args.name, names),
            });
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

/// The names most like the wanted one, the nearest first.
fn nearest(wanted: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let near = (wanted.chars().count() / 3).max(2);
    let mut found: Vec<(usize, String)> = names
        .filter(|name| !name.is_empty() && name.len() <= LONGEST_NAME && wanted.len() <= LONGEST_NAME)
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let distance = if lower.contains(&wanted) { 1 } else { edits(&wanted, &lower) };
            (distance <= near).then_some((distance, name))
        })
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().take(OFFERS).map(|(_, name)| name).collect()
}

/// How many letters must be added, removed or changed to get from one to the other (Levenshtein's distance).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_letters() {
        for (a, b, distance) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(edits(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn mistyped_names_are_offered() {
        let names = || {
            ["farm-virtio-1", "farm-virtio-2", "farm-gfx9-1", "52:54:00:11:22:01"]
                .map(str::to_owned)
                .into_iter()
        };
        assert_eq!(nearest("farm-virtoi-1", names())[0], "farm-virtio-1");
        assert_eq!(nearest("GFX9", names()), ["farm-gfx9-1"]);
        assert!(nearest("something else entirely", names()).is_empty());
    }
}
