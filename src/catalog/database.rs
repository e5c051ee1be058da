//! The connection to the database: transactions, and what happens when one fails.
//!
//! The outcome of a failed COMMIT is unknown: SQLite may have written the whole transaction to its log and failed to
//! sync it, so that this connection does not see it and the next process would. After such an error, or any I/O error,
//! the connection is closed. The next use of the catalog opens a new one, which recovers the log as a new process
//! would, and makes what it found durable before anybody reads it. Until that works, every use of the catalog fails,
//! so nobody acts on a state that may not be the true one.

use super::ballast::Ballast;
use super::schemas::Rollback;
use super::{Catalog, CatalogError, put, streams};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, Transaction, ffi};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

impl Catalog {
    /// Runs `work` in one transaction. If the disk is full, removes the ballast file and runs the work again.
    pub(super) fn transaction<T>(
        &self,
        mut work: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        self.transaction_then(|db| work(db).map_err(Rollback::from), |value| value)
    }

    /// The same for work that may refuse; calls `then` with its value before any other change to the catalog.
    pub(super) fn transaction_then<T, U>(
        &self,
        mut work: impl FnMut(&Transaction<'_>) -> Result<T, Rollback>,
        then: impl FnOnce(T) -> U,
    ) -> Result<U, CatalogError> {
        let mut held = self.connection.lock();
        let outcome = match self.attempt(&mut held, &mut work) {
            Err(Rollback::Sqlite(error)) if is_full(&error) && self.ballast.give_up() => {
                self.attempt(&mut held, &mut work)
            }
            other => other,
        };
        match outcome {
            Ok(value) => Ok(then(value)),
            Err(Rollback::Sqlite(source)) => Err(self.error(source)),
            Err(Rollback::Catalog(error)) => Err(error),
        }
    }

    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let mut held = self.connection.lock();
        let outcome = work(self.connected(&mut held)?);
        if outcome.as_ref().is_err_and(|error| is_doubtful(error, false)) {
            disconnect(&mut held);
        }
        outcome.map_err(|source| self.error(source))
    }

    fn attempt<T>(
        &self,
        held: &mut Option<Connection>,
        work: &mut impl FnMut(&Transaction<'_>) -> Result<T, Rollback>,
    ) -> Result<T, Rollback> {
        let connection = self.connected(held)?;
        let mut committing = false;
        let mut run = || {
            let transaction = connection.transaction()?;
            let value = work(&transaction)?;
            committing = true;
            transaction.commit()?;
            Ok(value)
        };
        let outcome = run();
        if let Err(Rollback::Sqlite(error)) = &outcome
            && is_doubtful(error, committing)
        {
            tracing::error!(
                %error,
                catalog = %self.path.display(),
                "a write to the catalog failed with an unknown outcome; closing the catalog and reading it again"
            );
            disconnect(held);
        }
        outcome
    }

    /// The connection; opens a new one if the last one was closed after an error.
    fn connected<'c>(&self, held: &'c mut Option<Connection>) -> Result<&'c mut Connection, CatalogError> {
        let connection = match held.take() {
            Some(connection) => connection,
            None => self.reopen()?,
        };
        Ok(held.insert(connection))
    }

    /// Opens the catalog again, makes what it holds durable, and reads the streams again.
    fn reopen(&self) -> Result<Connection, CatalogError> {
        let settled = |source| self.error(source);
        let connection = match connect(&self.path).map_err(settled) {
            Err(error) if error.may_be_lack_of_room() && self.ballast.give_up() => connect(&self.path),
            Err(error) => return Err(error),
            Ok(connection) => Ok(connection),
        };
        let connection = connection.map_err(settled)?;
        if !checkpoint(&connection).map_err(settled)? {
            let reason = "another process reads the catalog; end it".to_owned();
            let busy = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), Some(reason));
            return Err(settled(busy));
        }
        // A write to the empty log replaces its header. After it, nothing that the log held before can come back, not
        // even if a power failure undoes the truncation.
        put(&connection, "reopened_at", &self.clock.now()).map_err(settled)?;
        self.streams.store(Arc::new(streams::load(&connection).map_err(settled)?));
        tracing::warn!(catalog = %self.path.display(), "reopened the catalog after a failed write");
        Ok(connection)
    }
}

/// Opens the database. Every commit is synced.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit must be durable when it returns: the log is trimmed because of it.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Ok(connection)
}

/// Moves everything committed from SQLite's log to the database, syncs it, and empties the log. Returns false if another
/// process prevents it.
fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))?;
    Ok(busy == 0)
}

/// Makes what a start found in the catalog durable: the process before may have failed to sync it, and then only the
/// page cache has it. A start needs no free space, and readers in other processes do not stop it.
pub(super) fn make_durable(connection: &Connection, ballast: &Ballast) -> rusqlite::Result<()> {
    match checkpoint(connection) {
        Err(error) if is_full(&error) => match ballast.give_up().then(|| checkpoint(connection)) {
            Some(Err(error)) if !is_full(&error) => Err(error),
            _ => Ok(()),
        },
        other => other.map(drop),
    }
}

/// Closes the connection without a checkpoint: what is in SQLite's log stays there for the next one to recover.
fn disconnect(held: &mut Option<Connection>) {
    if let Some(connection) = held.take() {
        // Without it, closing would decide the outcome by what this connection knows; both outcomes are allowed.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok();
    }
}

/// Whether the disk had no room. A write of the transaction failed then, not the sync after it, so its last page, which
/// makes it valid, is not in the log: the transaction is certainly rolled back.
fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Whether the state of the database is unknown after an error. `committing`: it came from COMMIT.
fn is_doubtful(error: &rusqlite::Error, committing: bool) -> bool {
    match error.sqlite_error_code() {
        None | Some(ErrorCode::DiskFull) => false,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => true,
        Some(_) => committing,
    }
}
