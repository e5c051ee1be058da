//! Read-only access to the catalog for commands that inspect a data directory, with or without a running daemon.

use super::{CatalogError, FILE_NAME, get, get_number, runs};
use crate::batch::StreamId;
use crate::wal::{Lsn, LsnRange};
use rusqlite::{Connection, OpenFlags};
use std::collections::HashMap;
use std::path::Path;

/// The names of all streams.
pub fn stream_names(data_dir: &Path) -> Result<HashMap<StreamId, String>, CatalogError> {
    peek(data_dir, |db| {
        let mut statement = db.prepare("SELECT id, name FROM streams")?;
        let names = statement.query_map([], |row| Ok((StreamId(row.get(0)?), row.get(1)?)))?;
        names.collect()
    })
}

/// The LSN up to which the log is in registered files.
pub fn consumed(data_dir: &Path) -> Result<Lsn, CatalogError> {
    peek(data_dir, |db| Ok(Lsn(get_number(db, "consumed")?.unwrap_or(0))))
}

/// How far each run of the daemon was durable, as far as the catalog knows: see [`super::Catalog::note_durable`].
pub fn log_runs(data_dir: &Path) -> Result<Vec<LsnRange>, CatalogError> {
    peek(data_dir, runs)
}

/// The identity of the log that belongs to this catalog.
pub fn wal_uuid(data_dir: &Path) -> Result<Option<[u8; 16]>, CatalogError> {
    peek(data_dir, |db| get(db, "wal_uuid"))
}

fn peek<T>(
    data_dir: &Path,
    look: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, CatalogError> {
    let path = data_dir.join(FILE_NAME);
    let looked =
        Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|db| look(&db));
    looked.map_err(|source| CatalogError::Sqlite { path, source })
}
