//! The tables, as the list of steps that lead to them. A step, once released, is never changed: what is wrong with it is
//! mended by the next. Going back is not possible; a file of a newer program is refused.

use std::path::Path;

use rusqlite::Connection;

use crate::error::StoreError;

/// Marks the file as ours (`PRAGMA application_id`): "FGst".
pub(crate) const APPLICATION_ID: i64 = 0x4647_7374;

/// Version 1: runs, what they told, and small memories.
///
/// What a list shows (`runs`) is apart from the long texts and from the state machine that is written at each step:
/// lists stay quick, and a step does not write the job's text again. `AUTOINCREMENT` remembers the highest number
/// even when its run was removed, so no number is given twice.
const RUNS: &str = "
CREATE TABLE runs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('queued', 'active', 'finished')),
  dut TEXT,
  created INTEGER NOT NULL,
  started INTEGER,
  ended INTEGER,
  name TEXT NOT NULL,
  priority TEXT NOT NULL,
  submitter TEXT NOT NULL,
  phase TEXT,
  status TEXT,
  cause TEXT,
  summary TEXT,
  console_from INTEGER,
  console_to INTEGER,
  resume_token_hash TEXT,
  CHECK ((state = 'finished') = (ended IS NOT NULL))
) STRICT;
CREATE INDEX runs_open ON runs (number) WHERE ended IS NULL;
CREATE INDEX runs_ended ON runs (ended) WHERE ended IS NOT NULL;
CREATE INDEX runs_dut_kind ON runs (dut, kind, number);
CREATE INDEX runs_dut_status ON runs (dut, status, number);
CREATE INDEX runs_kind_status ON runs (kind, status, number);
CREATE INDEX runs_dut ON runs (dut, number);
CREATE INDEX runs_kind ON runs (kind, number);
CREATE INDEX runs_status ON runs (status, number);
CREATE TABLE run_texts (
  run INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
  text TEXT NOT NULL,
  metadata TEXT NOT NULL,
  variables TEXT NOT NULL,
  client TEXT NOT NULL,
  spec TEXT,
  outcome TEXT
) STRICT;
CREATE TABLE run_progress (
  run INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
  progress TEXT,
  feed INTEGER
) STRICT;
CREATE TABLE run_events (
  run INTEGER NOT NULL REFERENCES runs (number) ON DELETE CASCADE,
  seq INTEGER NOT NULL,
  time INTEGER NOT NULL,
  console INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE dut_memory (
  dut TEXT PRIMARY KEY,
  memory TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE small_values (
  space TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (space, key)
) STRICT, WITHOUT ROWID;
";

/// Version 2: who may come in, and who did what.
const ACCESS: &str = "
CREATE TABLE tokens (
  name TEXT PRIMARY KEY,
  role TEXT NOT NULL,
  hash TEXT NOT NULL,
  created INTEGER NOT NULL,
  used INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  who TEXT NOT NULL,
  origin TEXT NOT NULL,
  what TEXT NOT NULL,
  details TEXT NOT NULL
) STRICT;
";

/// Step N makes version N + 1 out of version N.
pub(crate) const STEPS: [&str; 2] = [RUNS, ACCESS];

/// The schema version that this program writes.
pub const SCHEMA_VERSION: i64 = STEPS.len() as i64;

/// Brings the file to the newest version, in one transaction.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |e| StoreError::sqlite("bring the schema up to date", path, e);
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(sql)?;
    let number = |pragma: &str| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, found) = (number("application_id").map_err(sql)?, number("user_version").map_err(sql)?);
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sql)?;
    // New is what has nothing in it. Everything else must say that it is ours.
    if application != APPLICATION_ID && (tables, found, application) != (0, 0, 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    let done = usize::try_from(found).map_err(|_| StoreError::Foreign { path: path.to_owned() })?;
    for step in &STEPS[done..] {
        transaction.execute_batch(step).map_err(sql)?;
    }
    if found < SCHEMA_VERSION {
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(sql)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        tracing::info!(path = %path.display(), from = found, to = SCHEMA_VERSION, "the state's schema is up to date");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as a program of that version made it.
    fn of_version(path: &Path, version: usize) -> Connection {
        let connection = Connection::open(path).unwrap();
        for step in &STEPS[..version] {
            connection.execute_batch(step).unwrap();
        }
        connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        connection.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
        connection
    }

    fn schema_of(connection: &Connection) -> Vec<(String, String)> {
        let mut statement =
            connection.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn a_file_of_any_older_version_becomes_what_a_new_one_is_and_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = crate::open::writer(&folder.path().join("fresh.db")).unwrap();
        for version in 1..=STEPS.len() {
            let path = folder.path().join(format!("{version}.db"));
            let old = of_version(&path, version);
            old.execute_batch(
                "INSERT INTO runs (number, kind, state, created, name, priority, submitter)
                   VALUES (41, 'job', 'queued', 0, 'n', 'p', 's');
                 INSERT INTO run_texts (run, text, metadata, variables, client) VALUES (41, 't', '{}', '{}', 'null')",
            )
            .unwrap();
            drop(old);
            let new = crate::open::writer(&path).unwrap();
            assert_eq!(schema_of(&new), schema_of(&fresh), "from version {version}");
            let now: i64 = new.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            assert_eq!(now, SCHEMA_VERSION);
            let Ok(open) = crate::reads::open_runs(&new) else { panic!("not readable") };
            assert_eq!((open.len(), open[0].row.number), (1, 41));
            assert_eq!(crate::reads::highest_run(&new).unwrap(), 41);
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let old = of_version(&path, 1);
        // In the way of version 2.
        old.execute_batch("CREATE TABLE audit (x)").unwrap();
        let before = schema_of(&old);
        drop(old);
        assert!(matches!(crate::open::writer(&path), Err(StoreError::Sql { .. })));
        let after = Connection::open(&path).unwrap();
        assert_eq!(schema_of(&after), before);
        let version: i64 = after.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
    }

    #[test]
    fn the_manual_names_every_table_and_the_version() {
        let folder = tempfile::tempdir().unwrap();
        let connection = crate::open::writer(&folder.path().join("state.db")).unwrap();
        let manual = include_str!("../../../docs/state.md");
        let mut statement = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            .unwrap();
        let tables = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        for table in tables.map(Result::unwrap) {
            assert!(manual.contains(&format!("| `{table}` |")), "docs/state.md lacks the table {table}");
        }
        assert!(manual.contains(&format!("version {SCHEMA_VERSION}")), "docs/state.md names another version");
    }
}
