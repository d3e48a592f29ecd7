//! The questions that can be asked, each on a connection that only reads.

use std::{collections::BTreeMap, str::FromStr};

use farmgate_protocol::{DutId, JobStatus, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use serde_json::Value;

use crate::rows::{AuditRow, RunEvent, RunQuery, RunRow, RunState, StoredRun, Token};

/// Why a read failed: SQLite, or a value that nobody of ours wrote.
pub(crate) enum ReadError {
    Sqlite(rusqlite::Error),
    Unreadable { what: &'static str, text: String, reason: String },
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

pub(crate) type Read<T> = Result<T, ReadError>;

/// Most rows that one question answers, where it may ask for a number of them.
const MOST: usize = 1000;
/// Most events that one question answers.
const MOST_EVENTS: usize = 10_000;

const ROW: &str =
    "number, kind, state, dut, created, started, ended, name, priority, submitter, phase, status, cause,
  summary, console_from, console_to,
  (SELECT CASE json_type(t.metadata, '$.job_id') WHEN 'text' THEN json_extract(t.metadata, '$.job_id') END
   FROM run_texts t WHERE t.run = number)";

fn unreadable(what: &'static str, text: &str, reason: impl ToString) -> ReadError {
    ReadError::Unreadable { what, text: text.chars().take(80).collect(), reason: reason.to_string() }
}

fn json(what: &'static str, text: &str) -> Read<Value> {
    serde_json::from_str(text).map_err(|e| unreadable(what, text, e))
}

fn json_opt(what: &'static str, text: Option<String>) -> Read<Option<Value>> {
    text.map(|t| json(what, &t)).transpose()
}

fn dut_id(what: &'static str, text: &str) -> Read<DutId> {
    DutId::new(text).map_err(|e| unreadable(what, text, e))
}

fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

fn time_opt(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

/// The columns of [`ROW`], by their place: to look each up by its name takes seven times as long as all the rest of a list.
fn run_row(row: &Row<'_>) -> Read<RunRow> {
    let time = |column: usize| {
        Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
    };
    let state: String = row.get(2)?;
    let dut: Option<String> = row.get(3)?;
    let status: Option<String> = row.get(11)?;
    Ok(RunRow {
        number: row.get(0)?,
        kind: row.get(1)?,
        state: RunState::from_str(&state).map_err(|e| unreadable("runs.state", &state, e))?,
        dut: dut.map(|text| dut_id("runs.dut", &text)).transpose()?,
        created: Timestamp::from_micros(row.get(4)?),
        started: time(5)?,
        ended: time(6)?,
        name: row.get(7)?,
        priority: row.get(8)?,
        submitter: row.get(9)?,
        phase: row.get(10)?,
        // Any word is readable: what is unknown is UNKNOWN.
        status: status.and_then(|text| JobStatus::from_str(&text).ok()),
        cause: json_opt("runs.cause", row.get(12)?)?,
        summary: row.get(13)?,
        console_from: row.get(14)?,
        console_to: row.get(15)?,
        job_id: row.get(16)?,
    })
}

fn stored_run(row: &Row<'_>) -> Read<StoredRun> {
    let text = |column: &str| row.get::<_, String>(column);
    Ok(StoredRun {
        row: run_row(row)?,
        text: text("text")?,
        metadata: json("run_texts.metadata", &text("metadata")?)?,
        spec: json_opt("run_texts.spec", row.get("spec")?)?,
        variables: json("run_texts.variables", &text("variables")?)?,
        client: json("run_texts.client", &text("client")?)?,
        outcome: json_opt("run_texts.outcome", row.get("outcome")?)?,
        resume_token_hash: row.get("resume_token_hash")?,
        progress: row.get("progress")?,
        feed: row.get("feed")?,
    })
}

/// All rows of a statement, each made by `make`.
fn all<T>(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    make: impl Fn(&Row<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(make(row)?);
    }
    Ok(found)
}

fn stored_runs(connection: &Connection, condition: &str, values: &[&dyn ToSql]) -> Read<Vec<StoredRun>> {
    let sql = format!(
        "SELECT {ROW}, resume_token_hash, text, metadata, spec, variables, client, outcome, progress, feed
           FROM runs JOIN run_texts ON run_texts.run = number LEFT JOIN run_progress ON run_progress.run = number
           WHERE {condition} ORDER BY number"
    );
    all(connection, &sql, values, stored_run)
}

pub(crate) fn open_runs(connection: &Connection) -> Read<Vec<StoredRun>> {
    stored_runs(connection, "ended IS NULL", &[])
}

pub(crate) fn run(connection: &Connection, number: u64) -> Read<Option<StoredRun>> {
    // A number that the file cannot hold is of no run.
    let Ok(number) = i64::try_from(number) else { return Ok(None) };
    Ok(stored_runs(connection, "number = ?1", &[&number])?.pop())
}

pub(crate) fn runs(connection: &Connection, query: &RunQuery) -> Read<Vec<RunRow>> {
    let mut conditions = Vec::new();
    let mut values: Vec<&dyn ToSql> = Vec::new();
    let dut = query.dut.as_ref().map(DutId::as_str);
    let state = query.state.map(RunState::as_str);
    let status = query.status.map(JobStatus::as_str);
    // A number that the file cannot hold is above all of them.
    let before = query.before.and_then(|n| i64::try_from(n).ok());
    let limit = if query.limit == 0 { 100 } else { query.limit.min(MOST) };
    let mut add = |condition: &'static str, value: Option<&'_ dyn ToSql>| {
        if value.is_some() {
            conditions.push(condition);
        }
        value.is_some()
    };
    for (condition, value) in [
        ("dut = ?", dut.as_ref().map(|v| v as &dyn ToSql)),
        ("kind = ?", query.kind.as_ref().map(|v| v as &dyn ToSql)),
        ("status = ?", status.as_ref().map(|v| v as &dyn ToSql)),
        ("number < ?", before.as_ref().map(|v| v as &dyn ToSql)),
        ("state = ?", state.as_ref().map(|v| v as &dyn ToSql)),
    ] {
        if add(condition, value) {
            values.extend(value);
        }
    }
    // Lets SQLite use the index of the few runs that are open.
    if matches!(query.state, Some(RunState::Queued | RunState::Active)) {
        conditions.push("ended IS NULL");
    }
    let condition = if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
    values.push(&limit);
    let sql = format!("SELECT {ROW} FROM runs WHERE {condition} ORDER BY number DESC LIMIT ?");
    all(connection, &sql, &values, run_row)
}

pub(crate) fn run_events(connection: &Connection, run: u64, after: u64, limit: usize) -> Read<Vec<RunEvent>> {
    let Ok(run) = i64::try_from(run) else { return Ok(Vec::new()) };
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    all(
        connection,
        "SELECT seq, time, console, body FROM run_events WHERE run = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        &[&run, &after, &limit.min(MOST_EVENTS)],
        |row| {
            Ok(RunEvent {
                seq: row.get(0)?,
                time: Timestamp::from_micros(row.get(1)?),
                console: row.get(2)?,
                body: json("run_events.body", &row.get::<_, String>(3)?)?,
            })
        },
    )
}

pub(crate) fn dut_memories(connection: &Connection) -> Read<BTreeMap<DutId, Value>> {
    let rows = all(connection, "SELECT dut, memory FROM dut_memory", &[], |row| {
        let dut = dut_id("dut_memory.dut", &row.get::<_, String>("dut")?)?;
        Ok((dut, json("dut_memory.memory", &row.get::<_, String>("memory")?)?))
    })?;
    Ok(rows.into_iter().collect())
}

pub(crate) fn values(connection: &Connection, space: &str) -> Read<BTreeMap<String, Value>> {
    let rows = all(connection, "SELECT key, value FROM small_values WHERE space = ?1", &[&space], |row| {
        Ok((row.get("key")?, json("small_values.value", &row.get::<_, String>("value")?)?))
    })?;
    Ok(rows.into_iter().collect())
}

pub(crate) fn mean_seconds(connection: &Connection, dut: Option<&DutId>, last: u32) -> Read<Option<f64>> {
    let (condition, dut) = match dut {
        Some(dut) => ("dut = ?2", dut.as_str()),
        None => ("?2 = ''", ""),
    };
    let sql = format!(
        "SELECT avg(ended - started) / 1e6 FROM (SELECT started, ended FROM runs
           WHERE kind = 'job' AND {condition} AND started <= ended AND status != 'SETUP_FAIL'
           ORDER BY number DESC LIMIT ?1)"
    );
    let mean = connection.prepare_cached(&sql)?.query_row((last, dut), |row| row.get(0)).optional()?;
    Ok(mean.flatten())
}

pub(crate) fn tokens(connection: &Connection) -> Read<Vec<Token>> {
    all(connection, "SELECT name, role, hash, created, used FROM tokens ORDER BY name", &[], |row| {
        Ok(Token {
            name: row.get("name")?,
            role: row.get("role")?,
            hash: row.get("hash")?,
            created: time(row, "created")?,
            used: time_opt(row, "used")?,
        })
    })
}

pub(crate) fn audit(connection: &Connection, before: Option<u64>, limit: usize) -> Read<Vec<AuditRow>> {
    let before = before.and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX);
    all(
        connection,
        "SELECT id, at, who, origin, what, details FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
        &[&before, &limit.min(MOST)],
        |row| {
            Ok(AuditRow {
                id: row.get("id")?,
                at: time(row, "at")?,
                who: row.get("who")?,
                from: row.get("origin")?,
                what: row.get("what")?,
                details: json("audit.details", &row.get::<_, String>("details")?)?,
            })
        },
    )
}

/// The highest number that a run ever had; 0 before the first.
pub(crate) fn highest_run(connection: &Connection) -> rusqlite::Result<u64> {
    let found = connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'runs'", [], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(0))
}
