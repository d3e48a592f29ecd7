//! Opening connections: the file's mode, the pragmas that make a commit durable, and what a damaged file looks like.

use std::{
    fs::{OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use crate::{error::StoreError, schema};

/// How long a lock of another program (a person's `sqlite3`) is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// The writing connection, with its schema up to date.
pub(crate) fn writer(path: &Path) -> Result<Connection, StoreError> {
    make_private(path)?;
    let sql = |e| StoreError::sqlite("open the state", path, e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    connection.busy_timeout(BUSY).map_err(sql)?;
    // A file that is no database is noticed here, before anything is written to it.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(sql)?;
    refuse_foreign(&connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(sql)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(sql)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(sql)?;
    // What is deleted is overwritten: it may have been a secret.
    connection.pragma_update(None, "secure_delete", true).map_err(sql)?;
    // The writer checkpoints by itself, after it answered; this (64 MB) is for a row of very large commits.
    connection.pragma_update(None, "wal_autocheckpoint", 16_384).map_err(sql)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(sql)?;
    connection.set_prepared_statement_cache_capacity(64);
    schema::migrate(&mut connection, path)?;
    Ok(connection)
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let sql = |e| StoreError::sqlite("open the state for reading", path, e);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    connection.busy_timeout(BUSY).map_err(sql)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Of another program: noticed before its journal mode is changed.
fn refuse_foreign(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |e| StoreError::sqlite("open the state", path, e);
    let application: i64 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sql)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sql)?;
    if application != schema::APPLICATION_ID && (application, tables) != (0, 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    Ok(())
}

/// The file holds secrets of running jobs: only its owner may read it. SQLite gives its companions (`-wal`, `-shm`)
/// the same mode.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let failed = |operation| {
        let path = path.to_owned();
        move |source| StoreError::Open { operation, path, source: Arc::new(source) }
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("open"))?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed("change the mode of"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_on_the_disk_when_it_returns() {
        let folder = tempfile::tempdir().unwrap();
        let connection = writer(&folder.path().join("state.db")).unwrap();
        let number =
            |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
        // https://www.sqlite.org/pragma.html#pragma_synchronous: 2 is FULL.
        assert_eq!((number("synchronous"), number("foreign_keys"), number("secure_delete")), (2, 1, 1));
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let _writer = writer(&path).unwrap();
        let error = reader(&path).unwrap().execute_batch("DELETE FROM runs").unwrap_err();
        assert!(matches!(StoreError::sqlite("x", &path, error), StoreError::Io { .. }));
    }
}
