//! What is kept for how long, and the small steps in which the rest goes.

use std::time::Duration;

use farmgate_protocol::Timestamp;
use rusqlite::{Connection, params};

/// What is kept. A run that is not finished is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// A finished run is removed when its end is longer ago.
    pub age: Duration,
    /// Finished runs beyond so many are removed, the oldest first.
    pub runs: u64,
    /// Entries of the audit log beyond so many are removed, the oldest first.
    pub audit: u64,
}

impl Default for Retention {
    /// 90 days, 100,000 runs, 100,000 entries of the audit log.
    fn default() -> Self {
        Self { age: Duration::from_secs(90 * 86_400), runs: 100_000, audit: 100_000 }
    }
}

/// Events that one step removes at most; a step takes some milliseconds, which a write may have to wait for.
const EVENTS: u32 = 500;
/// Audit entries that one step removes at most.
const AUDIT: u32 = 500;
/// Runs that one step removes at most.
const RUNS: u64 = 50;

/// What a step did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pruned {
    /// Runs that are gone.
    pub(crate) runs: u64,
    /// Whether there is more to do.
    pub(crate) more: bool,
    /// Whether anything was removed.
    pub(crate) changed: bool,
}

/// One small step, inside the caller's transaction.
pub(crate) fn step(connection: &Connection, keep: &Retention, now: Timestamp) -> rusqlite::Result<Pruned> {
    let mut pruned = Pruned::default();
    let mut events = EVENTS;
    for run in candidates(connection, keep, now)? {
        if pruned.runs == RUNS || events == 0 {
            pruned.more = true;
            return Ok(pruned);
        }
        // A run may have told a great deal: its events go first, and the run when none is left.
        let gone = connection
            .prepare_cached(
                "DELETE FROM run_events WHERE run = ?1 AND seq IN
                   (SELECT seq FROM run_events WHERE run = ?1 ORDER BY seq LIMIT ?2)",
            )?
            .execute(params![run, events])?;
        pruned.changed = true;
        events = events.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
        if events > 0 {
            connection.prepare_cached("DELETE FROM runs WHERE number = ?1")?.execute([run])?;
            pruned.runs += 1;
        }
    }
    if events == 0 {
        pruned.more = true;
        return Ok(pruned);
    }
    let (gone, more) = audit_step(connection, keep)?;
    pruned.changed |= gone > 0;
    pruned.more = more;
    Ok(pruned)
}

/// The oldest finished runs that are too old or too many: one more than a step removes, if there are.
fn candidates(connection: &Connection, keep: &Retention, now: Timestamp) -> rusqlite::Result<Vec<i64>> {
    let age = i64::try_from(keep.age.as_micros()).unwrap_or(i64::MAX);
    let limit = now.as_micros().saturating_sub(age);
    let finished: u64 = connection
        .prepare_cached("SELECT count(*) FROM runs WHERE ended IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    let too_many = finished.saturating_sub(keep.runs);
    let mut oldest = connection.prepare_cached(
        "SELECT number, ended FROM runs WHERE ended IS NOT NULL ORDER BY ended, number LIMIT ?1",
    )?;
    let rows = oldest.query_map([RUNS + 1], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut found = Vec::new();
    for (index, row) in (0_u64..).zip(rows) {
        let (number, ended): (i64, i64) = row?;
        if index >= too_many && ended >= limit {
            break;
        }
        found.push(number);
    }
    Ok(found)
}

/// Removes some entries of the audit log: how many, and whether there are more. Its numbers have no gaps.
fn audit_step(connection: &Connection, keep: &Retention) -> rusqlite::Result<(usize, bool)> {
    let (first, last): (Option<i64>, Option<i64>) = connection
        .prepare_cached("SELECT (SELECT min(id) FROM audit), (SELECT max(id) FROM audit)")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = (first, last) else { return Ok((0, false)) };
    let keep_from = last.saturating_sub(i64::try_from(keep.audit).unwrap_or(i64::MAX)).saturating_add(1);
    let until = keep_from.min(first.saturating_add(i64::from(AUDIT)));
    let gone = connection.prepare_cached("DELETE FROM audit WHERE id < ?1")?.execute([until])?;
    Ok((gone, until < keep_from))
}
