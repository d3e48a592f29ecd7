//! One change becomes rows. Everything is checked here, against what the same transaction wrote before it.

use std::path::Path;

use farmgate_protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    change::{Change, Kept, NewRun},
    error::StoreError,
    rows::RunState,
};

/// The writing connection with what its errors need.
pub(crate) struct Tables<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) path: &'a Path,
}

const OPERATION: &str = "store a change";

/// A number as the file holds it.
fn stored(what: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::TooLarge { what, value })
}

fn stored_opt(what: &'static str, value: Option<u64>) -> Result<Option<i64>, StoreError> {
    value.map(|v| stored(what, v)).transpose()
}

impl Tables<'_> {
    /// Runs one statement; how many rows it changed.
    fn run(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<usize, StoreError> {
        let changed = self.connection.prepare_cached(sql).and_then(|mut s| s.execute(values));
        changed.map_err(|e| StoreError::sqlite(OPERATION, self.path, e))
    }

    /// Applies a change.
    pub(crate) fn apply(&self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::CreateRun(run) => self.create(run),
            Change::Dispatch { run, dut, spec, variables, console_from } => {
                self.must_be_open(*run)?;
                let from = stored("console offset", *console_from)?;
                let number = stored("run", *run)?;
                self.run(
                    "UPDATE runs SET state = 'active', dut = ?2, console_from = ?3 WHERE number = ?1",
                    params![number, dut.as_str(), from],
                )?;
                self.run(
                    "UPDATE run_texts SET spec = ?2, variables = ?3 WHERE run = ?1",
                    params![number, spec.to_string(), variables.to_string()],
                )?;
                Ok(())
            }
            Change::Step { .. } => self.step(change),
            Change::Event { run, seq: 0, .. } => Err(StoreError::EventZero { run: *run }),
            Change::Event { run, seq, time, console, body } => {
                if self.state(*run)?.is_none() {
                    return Err(StoreError::UnknownRun { run: *run });
                }
                let added = self.run(
                    "INSERT INTO run_events (run, seq, time, console, body) VALUES (?1, ?2, ?3, ?4, ?5)
                       ON CONFLICT DO NOTHING",
                    params![
                        stored("run", *run)?,
                        stored("event", *seq)?,
                        time.as_micros(),
                        stored("console offset", *console)?,
                        body.to_string()
                    ],
                )?;
                if added == 0 { Err(StoreError::EventExists { run: *run, seq: *seq }) } else { Ok(()) }
            }
            Change::Finish { .. } => self.finish(change),
            Change::Forget { run, kept } => {
                if self.state(*run)?.is_none() {
                    return Err(StoreError::UnknownRun { run: *run });
                }
                self.keep(*run, kept)
            }
            Change::DutMemory { .. } | Change::Value { .. } => self.remember(change),
            Change::AddToken { .. } | Change::RevokeToken { .. } | Change::TokenUsed { .. } => {
                self.token(change)
            }
            Change::Audit { at, who, from, what, details } => self
                .run(
                    "INSERT INTO audit (at, who, origin, what, details) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![at.as_micros(), who, from, what, details.to_string()],
                )
                .map(drop),
        }
    }

    /// The state of a run, if it is stored.
    fn state(&self, run: u64) -> Result<Option<String>, StoreError> {
        let number = stored("run", run)?;
        self.connection
            .prepare_cached("SELECT state FROM runs WHERE number = ?1")
            .and_then(|mut s| s.query_row([number], |row| row.get(0)).optional())
            .map_err(|e| StoreError::sqlite(OPERATION, self.path, e))
    }

    fn must_be_open(&self, run: u64) -> Result<(), StoreError> {
        match self.state(run)? {
            None => Err(StoreError::UnknownRun { run }),
            Some(state) if state == RunState::Finished.as_str() => Err(StoreError::RunFinished { run }),
            Some(_) => Ok(()),
        }
    }

    fn create(&self, run: &NewRun) -> Result<(), StoreError> {
        if run.state == RunState::Finished {
            return Err(StoreError::NotNew { run: run.number, state: run.state.as_str() });
        }
        if self.state(run.number)?.is_some() {
            return Err(StoreError::RunExists { run: run.number });
        }
        let number = stored("run", run.number)?;
        self.run(
            "INSERT INTO runs (number, kind, state, dut, created, name, priority, submitter, console_from,
               resume_token_hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                number,
                run.kind,
                run.state.as_str(),
                run.dut.as_ref().map(|d| d.as_str()),
                run.created.as_micros(),
                run.name,
                run.priority,
                run.submitter,
                stored_opt("console offset", run.console_from)?,
                run.resume_token_hash,
            ],
        )?;
        self.run(
            "INSERT INTO run_texts (run, text, metadata, variables, client, spec) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                number,
                run.text,
                run.metadata.to_string(),
                run.variables.to_string(),
                run.client.to_string(),
                run.spec.as_ref().map(ToString::to_string),
            ],
        )?;
        Ok(())
    }

    fn step(&self, change: &Change) -> Result<(), StoreError> {
        let Change::Step { run, progress, feed, phase, started, dut } = change else { return Ok(()) };
        self.must_be_open(*run)?;
        let number = stored("run", *run)?;
        if progress.is_some() || feed.is_some() {
            self.run(
                "INSERT INTO run_progress (run, progress, feed) VALUES (?1, ?2, ?3) ON CONFLICT (run) DO UPDATE
                   SET progress = coalesce(excluded.progress, progress), feed = coalesce(excluded.feed, feed)",
                params![number, progress, stored_opt("console offset", *feed)?],
            )?;
        }
        if phase.is_some() || started.is_some() || dut.is_some() {
            self.run(
                "UPDATE runs SET phase = coalesce(?2, phase), started = coalesce(?3, started),
                   dut = coalesce(?4, dut) WHERE number = ?1",
                params![number, phase, started.map(Timestamp::as_micros), dut.as_ref().map(|d| d.as_str())],
            )?;
        }
        Ok(())
    }

    fn finish(&self, change: &Change) -> Result<(), StoreError> {
        let Change::Finish { run, ended, status, cause, summary, outcome, console_to, kept } = change else {
            return Ok(());
        };
        self.must_be_open(*run)?;
        let number = stored("run", *run)?;
        self.run(
            "UPDATE runs SET state = 'finished', ended = ?2, status = ?3, cause = ?4, summary = ?5, console_to = ?6
               WHERE number = ?1",
            params![
                number,
                ended.as_micros(),
                status.as_str(),
                cause.to_string(),
                summary,
                stored("console offset", *console_to)?
            ],
        )?;
        self.run("UPDATE run_texts SET outcome = ?2 WHERE run = ?1", params![number, outcome.to_string()])?;
        self.run("DELETE FROM run_progress WHERE run = ?1", params![number])?;
        self.keep(*run, kept)
    }

    /// Replaces what may hold secrets.
    fn keep(&self, run: u64, kept: &Kept) -> Result<(), StoreError> {
        self.run(
            "UPDATE run_texts SET metadata = ?2, variables = ?3, spec = ?4 WHERE run = ?1",
            params![
                stored("run", run)?,
                kept.metadata.to_string(),
                kept.variables.to_string(),
                kept.spec.as_ref().map(ToString::to_string)
            ],
        )
        .map(drop)
    }

    fn remember(&self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::DutMemory { dut, memory: Some(memory) } => self.run(
                "INSERT INTO dut_memory (dut, memory) VALUES (?1, ?2)
                   ON CONFLICT (dut) DO UPDATE SET memory = excluded.memory",
                params![dut.as_str(), memory.to_string()],
            ),
            Change::DutMemory { dut, memory: None } => {
                self.run("DELETE FROM dut_memory WHERE dut = ?1", params![dut.as_str()])
            }
            Change::Value { space, key, value: Some(value) } => self.run(
                "INSERT INTO small_values (space, key, value) VALUES (?1, ?2, ?3)
                   ON CONFLICT (space, key) DO UPDATE SET value = excluded.value",
                params![space, key, value.to_string()],
            ),
            Change::Value { space, key, value: None } => {
                self.run("DELETE FROM small_values WHERE space = ?1 AND key = ?2", params![space, key])
            }
            _ => Ok(0),
        }
        .map(drop)
    }

    fn token(&self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::AddToken { name, role, hash, created } => {
                let added = self.run(
                    "INSERT INTO tokens (name, role, hash, created) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                    params![name, role, hash, created.as_micros()],
                )?;
                if added == 0 { Err(StoreError::TokenExists { name: name.clone() }) } else { Ok(()) }
            }
            Change::RevokeToken { name } => {
                let gone = self.run("DELETE FROM tokens WHERE name = ?1", params![name])?;
                if gone == 0 { Err(StoreError::UnknownToken { name: name.clone() }) } else { Ok(()) }
            }
            Change::TokenUsed { name, at } => self
                .run("UPDATE tokens SET used = ?2 WHERE name = ?1", params![name, at.as_micros()])
                .map(drop),
            _ => Ok(()),
        }
    }
}
