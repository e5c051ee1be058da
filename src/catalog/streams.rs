//! Streams and the versions of their schemas.

use super::{Catalog, CatalogError};
use crate::batch::StreamId;
use crate::clock::Micros;
use crate::schema::{Column, Schema};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::sync::Arc;

/// Longest name of a stream.
const NAME_BYTES_MAX: usize = 128;
/// The table of a stream's bad records has the stream's name with this behind it.
pub const QUARANTINE_SUFFIX: &str = "_quarantine";

/// A stream, as the accept path needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub id: StreamId,
    pub uuid: String,
    pub name: String,
    pub policy: String,
    pub created_at: Micros,
}

/// All streams, by name.
#[derive(Debug, Default)]
pub struct Streams {
    by_name: HashMap<String, Arc<Stream>>,
    by_id: HashMap<StreamId, Arc<Stream>>,
}

/// Why a name is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "a stream's name starts with a letter or '_', has letters, digits, '_', '.' and '-' only, \
         and is at most {NAME_BYTES_MAX} characters long"
    )]
    Characters,
    #[error("names that end in '{QUARANTINE_SUFFIX}' belong to quarantine tables")]
    Reserved,
}

/// Whether a stream may have this name.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if !first || !rest || name.len() > NAME_BYTES_MAX {
        return Err(NameError::Characters);
    }
    if name.ends_with(QUARANTINE_SUFFIX) { Err(NameError::Reserved) } else { Ok(()) }
}

impl Streams {
    pub fn named(&self, name: &str) -> Option<&Arc<Stream>> {
        self.by_name.get(name)
    }

    /// By its name or by its id as users see it (a UUID).
    pub fn find(&self, name_or_uuid: &str) -> Option<&Arc<Stream>> {
        self.named(name_or_uuid).or_else(|| self.by_id.values().find(|stream| stream.uuid == name_or_uuid))
    }

    pub fn get(&self, id: StreamId) -> Option<&Arc<Stream>> {
        self.by_id.get(&id)
    }

    /// In the order of their names.
    pub fn all(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self.by_name.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn with(&self, stream: &Arc<Stream>) -> Self {
        let mut by_name = self.by_name.clone();
        by_name.insert(stream.name.clone(), Arc::clone(stream));
        let mut by_id = self.by_id.clone();
        by_id.insert(stream.id, Arc::clone(stream));
        Self { by_name, by_id }
    }
}

impl Catalog {
    /// The streams as they are now.
    pub fn streams(&self) -> arc_swap::Guard<Arc<Streams>> {
        self.streams.load()
    }

    /// Makes a stream durably, or returns the one that has the name. Blocks on the disk.
    pub fn create_stream(&self, name: &str) -> Result<Arc<Stream>, CatalogError> {
        check_name(name)?;
        let now = self.clock.now();
        let uuid = uuid::Uuid::now_v7().to_string();
        let stream = self.transaction(|db| {
            let sql = "INSERT INTO streams (uuid, name, policy, created_at) VALUES (?1, ?2, 'evolve', ?3)
                       ON CONFLICT (name) DO NOTHING";
            db.execute(sql, params![uuid, name, now])?;
            let sql = "SELECT id, uuid, name, policy, created_at FROM streams WHERE name = ?1";
            db.query_row(sql, [name], stream_of).map(Arc::new)
        })?;
        self.streams.rcu(|streams| {
            if streams.named(name).is_some() { Arc::clone(streams) } else { Arc::new(streams.with(&stream)) }
        });
        Ok(stream)
    }

    /// The latest version of a stream's schema.
    pub fn schema(&self, stream: StreamId) -> Result<Schema, CatalogError> {
        self.read(|db| {
            let sql = "SELECT version, columns FROM schemas WHERE stream = ?1 ORDER BY version DESC LIMIT 1";
            let found: Option<(u32, String)> =
                db.query_row(sql, [stream.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            found.map_or(Ok(Schema::default()), |(version, columns)| {
                Ok(Schema { version, columns: columns_of(&columns)? })
            })
        })
    }
}

pub(super) fn load(db: &Connection) -> rusqlite::Result<Streams> {
    let mut statement = db.prepare("SELECT id, uuid, name, policy, created_at FROM streams")?;
    let mut streams = Streams::default();
    for stream in statement.query_map([], stream_of)? {
        let stream = Arc::new(stream?);
        streams.by_name.insert(stream.name.clone(), Arc::clone(&stream));
        streams.by_id.insert(stream.id, stream);
    }
    Ok(streams)
}

fn stream_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stream> {
    Ok(Stream {
        id: StreamId(row.get(0)?),
        uuid: row.get(1)?,
        name: row.get(2)?,
        policy: row.get(3)?,
        created_at: row.get(4)?,
    })
}

pub(super) fn columns_of(json: &str) -> rusqlite::Result<Vec<Column>> {
    serde_json::from_str(json).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
    })
}
