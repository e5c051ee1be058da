//! The catalog: streams, schemas and their versions, checkpoints, the register of staged and published files.
//!
//! One SQLite database in the data directory, behind one connection; every commit is synced. An in-memory snapshot
//! also holds what the accept path needs (streams by name), so that no request waits for the database.

mod ballast;
mod clients;
mod database;
mod drops;
mod files;
mod keys;
mod migrations;
mod objects;
mod offsets;
mod peek;
mod proposals;
mod replays;
mod revoked;
mod schemas;
mod streams;
#[cfg(test)]
mod tests;
mod tokens;

pub use clients::{Client, ClientSecret, ClientToken};
pub use files::{
    Counts, Cut, FileKind, FileState, FileTotals, KnownMisfit, Loss, Misfit, RegisteredFile, StagedFile,
    StreamProgress,
};
pub use keys::SigningKey;
pub use objects::{Object, ObjectError, ObjectKey};
pub use offsets::{EndOffset, OffsetRange};
pub use peek::{consumed, log_runs, stream_names, wal_uuid};
pub use proposals::AcceptProposal;
pub use replays::{Action, CutRecord, NewReplay, Replacement, Replay, ReplayState, Swap};
pub use schemas::{Alter, IfExists, NewStream, SchemaVersion};
pub use streams::{NameError, QUARANTINE_SUFFIX, Stream, Streams, check_name};
pub use tokens::{NewToken, Token, TokenValue};

use crate::clock::Clock;
use crate::error::{IoContext, IoError};
use crate::schema::{Change, SchemaError};
use crate::wal;
use arc_swap::ArcSwap;
use ballast::Ballast;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The database file in the data directory.
pub const FILE_NAME: &str = "catalog.db";

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("cannot use the catalog {}", .path.display())]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("the catalog {} has format {found}, but this version reads up to {}", .path.display(), migrations::LATEST)]
    Newer { path: PathBuf, found: u32 },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("stream '{0}' already exists")]
    Exists(String),
    #[error("the stream does not exist")]
    NoSuchStream,
    #[error("the schema has version {found}, not {expected}")]
    StaleVersion { expected: u32, found: u32 },
    #[error("the change would lose values that are stored now: {}", lost(.0))]
    LosesData(Vec<Change>),
    #[error("no field is proposed at {0:?}")]
    NoSuchProposal(Vec<String>),
    #[error("the schema was changed concurrently and cannot hold the new columns of these records")]
    Conflict,
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("cannot decode the document {contract}/{kind}/{name} in the catalog")]
    Document {
        contract: &'static str,
        kind: Cow<'static, str>,
        name: String,
        #[source]
        source: serde_json::Error,
    },
}

fn lost(changes: &[Change]) -> String {
    let lost = changes.iter().filter(|change| change.loses_data());
    lost.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl CatalogError {
    fn may_be_lack_of_room(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, DiskFull, SystemIoFailure};
        let Self::Sqlite { source: rusqlite::Error::SqliteFailure(failure, _), .. } = self else {
            return false;
        };
        matches!(failure.code, CannotOpen | DiskFull | SystemIoFailure)
    }
}

pub struct Catalog {
    path: PathBuf,
    /// `None` after an error that leaves the state of the database unknown: see [`database`].
    connection: Mutex<Option<Connection>>,
    ballast: Ballast,
    streams: ArcSwap<Streams>,
    columns_max: usize,
    clock: Arc<dyn Clock>,
}

/// The default limit of declared columns, nested fields included: see [`Catalog::with_columns_max`].
const COLUMNS_MAX: usize = 1000;

impl Catalog {
    /// Opens the catalog in the data directory, or creates one, and migrates it to the latest format.
    pub fn open(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, CatalogError> {
        match Self::try_open(data_dir, Arc::clone(&clock)) {
            // SQLite needs some free space even to read it.
            Err(error) if error.may_be_lack_of_room() && Ballast::new(data_dir).give_up() => {
                Self::try_open(data_dir, clock)
            }
            other => other,
        }
    }

    fn try_open(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, CatalogError> {
        let path = data_dir.join(FILE_NAME);
        let sqlite = |source| CatalogError::Sqlite { path: path.clone(), source };
        keep_private(&path).context("keep others from reading", &path)?;
        let mut connection = database::connect(&path).map_err(sqlite)?;
        let ballast = Ballast::new(data_dir);
        database::make_durable(&connection, &ballast).map_err(sqlite)?;
        migrations::run(&mut connection, &path)?;
        std::fs::File::open(data_dir).and_then(|dir| dir.sync_all()).context("sync directory", data_dir)?;
        let streams = streams::load(&connection).map_err(sqlite)?;
        Ok(Self {
            ballast,
            connection: Mutex::new(Some(connection)),
            streams: ArcSwap::from_pointee(streams),
            columns_max: COLUMNS_MAX,
            clock,
            path,
        })
    }

    /// The limit of declared columns, nested fields included.
    pub fn columns_max(&self) -> usize {
        self.columns_max
    }

    /// Sets the limit of declared columns.
    #[must_use]
    pub fn with_columns_max(self, columns_max: usize) -> Self {
        Self { columns_max, ..self }
    }

    fn error(&self, source: rusqlite::Error) -> CatalogError {
        CatalogError::Sqlite { path: self.path.clone(), source }
    }

    /// Recreates the ballast file once there is room again.
    pub fn restore_ballast(&self, free_bytes: u64) {
        self.ballast.restore(free_bytes);
    }

    /// What the log needs to open: where reading starts, and the identity of the log.
    pub fn floor(&self) -> Result<wal::Floor, CatalogError> {
        self.read(|db| {
            let consumed = get_number(db, "consumed")?.unwrap_or(0);
            let registered: Option<i64> =
                db.query_row("SELECT max(last_lsn) FROM files", [], |row| row.get(0))?;
            let highest = registered.unwrap_or(0).cast_unsigned().max(consumed);
            Ok(wal::Floor {
                runs: runs(db)?,
                consumed: wal::Lsn(consumed),
                highest: wal::Lsn(highest),
                wal_uuid: get(db, "wal_uuid")?,
            })
        })
    }

    /// Notes how far the log is durable in the run that began with `run`, so that a start sees what is missing even if
    /// the log's directory is empty. Runs that are consumed are forgotten.
    pub fn note_durable(&self, run: wal::Lsn, durable: wal::Lsn) -> Result<(), CatalogError> {
        let floor = self.floor()?;
        let mut runs = floor.runs;
        runs.retain(|noted| noted.first != run && noted.last > floor.consumed);
        runs.push(wal::LsnRange { first: run, last: durable });
        let runs = crate::formats::json::text(&runs);
        self.transaction(|db| put(db, "log_runs", &runs))
    }

    /// Binds the catalog to its log, once.
    pub fn set_wal_uuid(&self, uuid: [u8; 16]) -> Result<(), CatalogError> {
        // Writes only if the value is new, so that a start needs no free space.
        match self.read(|db| get::<[u8; 16]>(db, "wal_uuid"))? {
            Some(known) if known == uuid => Ok(()),
            _ => self.transaction(|db| put(db, "wal_uuid", &uuid)),
        }
    }
}

/// Makes the catalog private, since it holds the keys that sign tokens. SQLite gives its auxiliary files the same
/// permissions.
fn keep_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let permissions = file.metadata()?.permissions();
    let private = permissions.mode() & !0o077;
    if permissions.mode() == private {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(private))
}

fn get<T: rusqlite::types::FromSql>(db: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

fn put(db: &Connection, key: &str, value: &dyn rusqlite::ToSql) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
    db.execute(sql, params![key, value]).map(drop)
}

/// For each run of the daemon with frames that are not consumed: its first LSN, and how far it was durable.
fn runs(db: &Connection) -> rusqlite::Result<Vec<wal::LsnRange>> {
    let Some(text) = get::<String>(db, "log_runs")? else { return Ok(Vec::new()) };
    serde_json::from_str(&text).map_err(|error| streams::unreadable(0, error.into()))
}

fn get_number(db: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    Ok(get::<i64>(db, key)?.map(i64::cast_unsigned))
}
