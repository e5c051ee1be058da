//! Streams: their names, and the in-memory snapshot that requests read.

use super::Catalog;
use crate::batch::StreamId;
use crate::clock::Micros;
use crate::mapping::Mapping;
use crate::schema::{Column, Policy, Rules, Schema, StreamSettings};
use rusqlite::Connection;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

/// Maximum length of a stream name.
const NAME_BYTES_MAX: usize = 128;
/// The name of a stream's quarantine table is the name of the stream with this suffix.
pub const QUARANTINE_SUFFIX: &str = "_quarantine";

/// The current state of a stream, as the accept path needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub id: StreamId,
    pub uuid: String,
    pub name: String,
    pub policy: Policy,
    pub settings: Arc<StreamSettings>,
    /// The latest version of its schema.
    pub schema: Arc<Schema>,
    pub created_at: Micros,
    /// It accepts no more records; its records in the log are still written.
    pub deleted_at: Option<Micros>,
    /// It was deleted with its table: all its files must be removed.
    pub dropped: bool,
}

impl Stream {
    /// See [`Rules::are_judged`].
    pub fn is_judged(&self) -> bool {
        self.policy.is_declared() || self.settings.time.is_some()
    }

    /// Whether frames record the version under which they were answered, even if it decides only the rows and not the
    /// answer.
    pub fn is_versioned(&self) -> bool {
        self.is_judged() || matches!(self.policy, Policy::Raw | Policy::Mapped)
    }

    /// How its records are turned into rows.
    pub fn rules(&self) -> Rules {
        let (schema, time) = (Arc::clone(&self.schema), self.settings.time.clone());
        let (placement, mapping) = (self.settings.placement(), self.settings.mapping.clone());
        let directory = self.settings.directory.clone();
        Rules { policy: self.policy, schema, time, placement, mapping, directory }
    }
}

/// All streams. Cheap to change: an index is split into parts, and a change copies only one of them.
#[derive(Debug, Default)]
pub struct Streams {
    names: StreamIndex<Arc<str>>,
    uuids: StreamIndex<Arc<str>>,
    ids: StreamIndex<StreamId>,
}

/// Why a name is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "a stream's name starts with a letter or '_', contains only letters, digits, '_', '.' and '-', \
         and is at most {NAME_BYTES_MAX} characters long"
    )]
    Characters,
    #[error("names that end in '{QUARANTINE_SUFFIX}' belong to quarantine tables")]
    Reserved,
}

/// Checks whether a stream may have this name.
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
        self.names.get(name)
    }

    /// Finds a stream by its name or by its user-visible id: a UUID, with or without hyphens, or with the `t_` prefix
    /// of Tinybird's ids.
    pub fn find(&self, name_or_id: &str) -> Option<&Arc<Stream>> {
        self.named(name_or_id).or_else(|| {
            let id = name_or_id.strip_prefix("t_").unwrap_or(name_or_id);
            let uuid = uuid::Uuid::try_parse(id).ok()?;
            self.uuids.get(&*uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
        })
    }

    /// Finds a stream by its id, even if it was deleted.
    pub fn get(&self, id: StreamId) -> Option<&Arc<Stream>> {
        self.ids.get(&id)
    }

    /// All streams, ordered by name.
    pub fn all(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self.names.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The ids of all streams, including deleted ones: the log may still hold records of them.
    pub fn every_id(&self) -> Vec<StreamId> {
        self.ids.values().map(|stream| stream.id).collect()
    }

    /// The number of streams.
    pub fn len(&self) -> usize {
        self.names.values().count()
    }

    pub fn is_empty(&self) -> bool {
        self.names.values().next().is_none()
    }

    /// A copy with this stream added or updated.
    pub(super) fn with(&self, stream: &Arc<Stream>) -> Self {
        let (name, uuid) = (Arc::from(stream.name.as_str()), Arc::from(stream.uuid.as_str()));
        let ids = self.ids.with(stream.id, Some(stream));
        if stream.deleted_at.is_none() {
            let uuids = self.uuids.with(uuid, Some(stream));
            return Self { names: self.names.with(name, Some(stream)), uuids, ids };
        }
        // Its name may now belong to another stream.
        let its_own = self.named(&name).is_none_or(|named| named.id == stream.id);
        let names = if its_own { self.names.with(name, None) } else { self.names.clone() };
        Self { names, uuids: self.uuids.with(uuid, None), ids }
    }
}

/// The number of parts of an index. With 10,000 streams, each part holds about 40.
const PARTS: usize = 256;

/// Streams by a key. A copy shares all parts, so the cost of an insert does not depend on the number of streams.
#[derive(Debug, Clone)]
struct StreamIndex<K> {
    hasher: RandomState,
    parts: Vec<Arc<HashMap<K, Arc<Stream>>>>,
}

impl<K> Default for StreamIndex<K> {
    fn default() -> Self {
        let empty = Arc::new(HashMap::default());
        Self { hasher: RandomState::new(), parts: vec![empty; PARTS] }
    }
}

impl<K: Hash + Eq + Clone> StreamIndex<K> {
    fn part<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The maps have their own hashers.
        usize::try_from(self.hasher.hash_one(key) % PARTS as u64).unwrap_or(0)
    }

    fn get<Q>(&self, key: &Q) -> Option<&Arc<Stream>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.parts.get(self.part(key))?.get(key)
    }

    fn values(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.parts.iter().flat_map(|part| part.values())
    }

    fn put(&mut self, key: K, stream: Option<&Arc<Stream>>) {
        let at = self.part(&key);
        let Some(part) = self.parts.get_mut(at) else { return };
        let part = Arc::make_mut(part);
        match stream {
            Some(stream) => part.insert(key, Arc::clone(stream)),
            None => part.remove(&key),
        };
    }

    fn with(&self, key: K, stream: Option<&Arc<Stream>>) -> Self {
        let mut index = self.clone();
        index.put(key, stream);
        index
    }
}

impl Catalog {
    /// The current snapshot of the streams.
    pub fn streams(&self) -> arc_swap::Guard<Arc<Streams>> {
        self.streams.load()
    }
}

/// A stream with the latest version of its schema.
pub(super) const STREAM: &str = "
    SELECT s.id, s.uuid, coalesce(s.deleted_name, s.name), s.settings, s.created_at, s.deleted_at,
        coalesce(v.policy, s.policy), v.time_rule, coalesce(v.version, 0), v.columns, v.mapping, s.dropped
    FROM streams s LEFT JOIN schemas v ON v.stream = s.id
        AND v.version = (SELECT max(version) FROM schemas WHERE stream = s.id)";

pub(super) fn load(db: &Connection) -> rusqlite::Result<Streams> {
    let mut statement = db.prepare(STREAM)?;
    let mut streams = Streams::default();
    for stream in statement.query_map([], stream_of)? {
        let stream = Arc::new(stream?);
        streams.ids.put(stream.id, Some(&stream));
        if stream.deleted_at.is_none() {
            streams.names.put(Arc::from(stream.name.as_str()), Some(&stream));
            streams.uuids.put(Arc::from(stream.uuid.as_str()), Some(&stream));
        }
    }
    Ok(streams)
}

pub(super) fn stream_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stream> {
    let mut settings: StreamSettings = json_at(row, 3)?;
    settings.time = some_json_at(row, 7)?;
    settings.mapping = mapping_at(row, 10)?;
    // A stream without a version of its schema has no columns yet.
    let columns: Vec<Column> = some_json_at(row, 9)?.unwrap_or_default();
    Ok(Stream {
        id: StreamId(row.get(0)?),
        uuid: row.get(1)?,
        name: row.get(2)?,
        policy: policy_at(row, 6)?,
        settings: Arc::new(settings),
        schema: Arc::new(Schema { version: row.get(8)?, columns }),
        created_at: row.get(4)?,
        deleted_at: row.get(5)?,
        dropped: row.get(11)?,
    })
}

pub(super) fn mapping_at(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<Arc<Mapping>>> {
    Ok(some_json_at(row, at)?.map(Arc::new))
}

/// Decodes a JSON text in a row.
pub(super) fn json_at<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    at: usize,
) -> rusqlite::Result<T> {
    let text: String = row.get(at)?;
    serde_json::from_str(&text).map_err(|error| unreadable(at, Box::new(error)))
}

/// The same for a column that may be null.
pub(super) fn some_json_at<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    at: usize,
) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(at)?.map(|_| json_at(row, at)).transpose()
}

pub(super) fn policy_at(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Policy> {
    row.get::<_, String>(at)?.parse().map_err(|error: String| unreadable(at, error.into()))
}

pub(super) fn unreadable(at: usize, error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(n: u32) -> Arc<Stream> {
        Arc::new(Stream {
            id: StreamId(n),
            uuid: uuid::Uuid::from_u128(n.into()).to_string(),
            name: format!("s{n}"),
            policy: Policy::Evolve,
            settings: Arc::default(),
            schema: Arc::default(),
            created_at: 0,
            deleted_at: None,
            dropped: false,
        })
    }

    #[test]
    fn one_more_of_many_streams_copies_a_small_part_of_them() {
        let mut streams = Streams::default();
        for n in 0..10_000 {
            streams = streams.with(&stream(n));
        }
        let more = streams.with(&stream(10_000));
        assert_eq!((streams.len(), more.len()), (10_000, 10_001));
        let copied = streams.names.parts.iter().zip(&more.names.parts).filter(|(a, b)| !Arc::ptr_eq(a, b));
        let copied: Vec<usize> = copied.map(|(_, part)| part.len()).collect();
        assert!(copied.len() == 1 && copied[0] < 200, "{copied:?}");
        for key in ["s0", "00000000-0000-0000-0000-00000000270f", "s10000"] {
            assert!(more.find(key).is_some(), "{key}");
        }
        assert_eq!(more.get(StreamId(77)).unwrap().name, "s77");
        assert_eq!((streams.find("s10000"), more.find("s10001")), (None, None));
    }
}
