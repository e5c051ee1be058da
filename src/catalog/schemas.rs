//! Making, changing and deleting streams, and the versions of their schemas; making columns of what is proposed.
//!
//! A version stands for all that decides what becomes of a record: policy, columns, time rule, mapping, directory. Versions are never
//! changed and never removed: frames in the log and files in the register name them.

#[cfg(test)]
mod tests;

use super::streams::{STREAM, json_at, mapping_at, policy_at, stream_of};
use super::{Catalog, CatalogError, Stream, check_name, proposals};
use crate::batch::StreamId;
use crate::clock::Micros;
use crate::columns;
use crate::schema::{
    Change, Column, ColumnType, Landing, Policy, RAW_COLUMN, Rules, Schema, SchemaError, StreamSettings,
    change, check_directory, mapped_columns,
};
use rusqlite::{OptionalExtension, Transaction, params};
use std::sync::Arc;

/// What to do if there is a stream of that name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// [`CatalogError::Exists`].
    Error,
    /// Return it as it is.
    Return,
}

/// A stream to be made.
#[derive(Debug, Clone)]
pub struct NewStream {
    pub name: String,
    pub policy: Policy,
    /// May be empty for `evolve`; for `raw` it is not looked at.
    pub columns: Vec<Column>,
    pub settings: StreamSettings,
    pub if_exists: IfExists,
}

/// What to change of a stream. `None`: stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Alter {
    pub policy: Option<Policy>,
    /// All columns, those that stay too.
    pub columns: Option<Vec<Column>>,
    pub settings: Option<StreamSettings>,
    /// Also if values that were stored would not be any more.
    pub force: bool,
}

/// A version of a stream's schema.
#[derive(Debug, Clone)]
pub struct SchemaVersion {
    pub rules: Rules,
    pub created_at: Micros,
}

impl Catalog {
    /// Makes a stream that evolves, or returns the one that has the name. Blocks on the disk.
    pub fn create_stream(&self, name: &str) -> Result<Arc<Stream>, CatalogError> {
        self.create_stream_with(NewStream {
            name: name.to_owned(),
            policy: Policy::Evolve,
            columns: Vec::new(),
            settings: StreamSettings::default(),
            if_exists: IfExists::Return,
        })
    }

    /// Makes a stream durably. Blocks on the disk.
    ///
    /// # Errors
    /// For a name that is none or taken, and for columns that make no table.
    pub fn create_stream_with(&self, new: NewStream) -> Result<Arc<Stream>, CatalogError> {
        check_name(&new.name)?;
        let version = u32::from(!new.columns.is_empty() || new.policy != Policy::Evolve);
        let version = version.max(u32::from(new.settings.time.is_some()));
        let rules = rules(new.policy, version, new.columns, &new.settings);
        self.check_rules(&rules)?;
        check_settings(new.policy, &new.settings)?;
        let (now, uuid) = (self.clock.now(), uuid::Uuid::now_v7().to_string());
        self.change_stream(|db| {
            let named =
                db.query_row(&format!("{STREAM} WHERE s.name = ?1"), [&new.name], stream_of).optional()?;
            if let Some(found) = named {
                return match new.if_exists {
                    IfExists::Return => Ok(found),
                    IfExists::Error => Err(CatalogError::Exists(new.name.clone()).into()),
                };
            }
            let sql =
                "INSERT INTO streams (uuid, name, policy, settings, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
                       RETURNING id";
            let values = params![uuid, new.name, new.policy.name(), settings_json(&new.settings), now];
            let id = StreamId(db.query_row(sql, values, |row| row.get(0))?);
            check_directory_free(db, id, &new.name, &new.settings)?;
            if version > 0 {
                save_version(db, id, &rules, now)?;
            }
            stream_by_id(db, id)
        })
    }

    /// Changes a stream, all at once or not at all. Blocks on the disk.
    ///
    /// # Errors
    /// If `expected` is given and not the version of its schema now; if values would be lost and that is not forced;
    /// if the columns make no table.
    pub fn alter_stream(
        &self,
        id: StreamId,
        expected: Option<u32>,
        alter: &Alter,
    ) -> Result<Arc<Stream>, CatalogError> {
        let now = self.clock.now();
        self.change_stream(|db| {
            let stream = stream_by_id(db, id)?;
            let planned = self.plan(&stream, expected, alter)?;
            if !alter.force && planned.changes.iter().any(Change::loses_data) {
                return Err(CatalogError::LosesData(planned.changes).into());
            }
            if let Some(rules) = &planned.rules {
                save_version(db, id, rules, now)?;
            }
            if let Some(settings) = &alter.settings {
                check_directory_free(db, id, &stream.name, settings)?;
                let sql = "UPDATE streams SET settings = ?2 WHERE id = ?1";
                db.execute(sql, params![id.0, settings_json(settings)])?;
            }
            stream_by_id(db, id)
        })
    }

    /// What [`Catalog::alter_stream`] would change, without changing it.
    ///
    /// # Errors
    /// As it would have, but for loss of data, which the changes tell.
    pub fn changes(
        &self,
        id: StreamId,
        expected: Option<u32>,
        alter: &Alter,
    ) -> Result<Vec<Change>, CatalogError> {
        let stream = self.streams().get(id).cloned().ok_or(CatalogError::NoSuchStream)?;
        Ok(self.plan(&stream, expected, alter)?.changes)
    }

    fn plan(&self, stream: &Stream, expected: Option<u32>, alter: &Alter) -> Result<Planned, CatalogError> {
        if stream.deleted_at.is_some() {
            return Err(CatalogError::NoSuchStream);
        }
        let found = stream.schema.version;
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(CatalogError::StaleVersion { expected, found });
        }
        let policy = alter.policy.unwrap_or(stream.policy);
        let settings = alter.settings.as_ref().unwrap_or(&stream.settings);
        // A mapped table that begins elsewhere has the columns of its mapping.
        let is_another = policy == Policy::Mapped && settings.directory != stream.settings.directory;
        let kept = if is_another { &Vec::new() } else { &stream.schema.columns };
        let columns = alter.columns.as_ref().unwrap_or(kept);
        check_settings(policy, settings)?;
        let next = rules(policy, found.saturating_add(1), columns.clone(), settings);
        self.check_rules(&next)?;
        stream.rules().keeps_placement(&next)?;
        // The one column of a raw stream holds what all the others did.
        let changes = if policy == Policy::Raw && stream.policy != policy {
            Vec::new()
        } else {
            change(&stream.schema, &next.schema.columns)
        };
        let before = stream.rules();
        let same = next.policy == before.policy
            && next.schema.columns == before.schema.columns
            && next.time == before.time
            && next.mapping == before.mapping
            && next.directory == before.directory;
        Ok(Planned { changes, rules: (!same).then_some(next) })
    }

    /// Deletes a stream: it takes no more records and its name is free. What the log has of it is still written, and
    /// files that are published stay where they are. Blocks on the disk.
    pub fn delete_stream(&self, id: StreamId) -> Result<Arc<Stream>, CatalogError> {
        let now = self.clock.now();
        self.change_stream(|db| end_stream(db, id, now))
    }

    /// Adds columns that records brought to a stream that evolves: to what its schema is now, also if others have changed
    /// it since these records were answered.
    ///
    /// # Errors
    /// [`CatalogError::Conflict`] if by now there is no place for one of them: the stream does not evolve any more, or
    /// has a column of that name with other values.
    pub fn evolve_stream(&self, id: StreamId, found: &[Column]) -> Result<Arc<Stream>, CatalogError> {
        let now = self.clock.now();
        self.change_stream(|db| {
            let stream = stream_by_id(db, id)?;
            if stream.policy != Policy::Evolve {
                return Err(CatalogError::Conflict.into());
            }
            let mut all = stream.schema.columns.clone();
            for column in found {
                match all.iter().find(|known| known.name == column.name) {
                    Some(known) if known.kind == column.kind && known.keys() == column.keys() => {}
                    Some(_) => return Err(CatalogError::Conflict.into()),
                    None => all.push(column.clone()),
                }
            }
            if all != stream.schema.columns {
                let schema = Schema { version: stream.schema.version.saturating_add(1), columns: all };
                save_version(db, id, &Rules { schema: Arc::new(schema), ..stream.rules() }, now)?;
            }
            stream_by_id(db, id)
        })
    }

    /// Makes columns of proposals, behind those that are there: new records fill them from now on. Blocks on the disk.
    ///
    /// # Errors
    /// If `expected` is given and not the version of the schema now; if one of them is not proposed; if the columns
    /// make no table.
    pub fn accept_proposals(
        &self,
        id: StreamId,
        expected: Option<u32>,
        accept: &[proposals::Accept],
    ) -> Result<Arc<Stream>, CatalogError> {
        let now = self.clock.now();
        self.change_stream(|db| {
            let stream = stream_by_id(db, id)?;
            if stream.deleted_at.is_some() {
                return Err(CatalogError::NoSuchStream.into());
            }
            let found = stream.schema.version;
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(CatalogError::StaleVersion { expected, found }.into());
            }
            let mut columns = stream.schema.columns.clone();
            for accept in accept {
                let proposal = proposals::find(db, id, &accept.path)?;
                let proposal = proposal.ok_or_else(|| CatalogError::NoSuchProposal(accept.path.clone()))?;
                columns.push(accept.column(proposal));
            }
            if accept.is_empty() {
                return Ok(stream);
            }
            let schema = Arc::new(Schema { version: found.saturating_add(1), columns });
            let rules = Rules { schema, ..stream.rules() };
            self.check_rules(&rules)?;
            save_version(db, id, &rules, now)?;
            stream_by_id(db, id)
        })
    }

    /// The latest version of a stream's schema.
    pub fn schema(&self, stream: StreamId) -> Result<Schema, CatalogError> {
        let streams = self.streams();
        Ok(streams.get(stream).map(|stream| (*stream.schema).clone()).unwrap_or_default())
    }

    /// A version of a stream's schema. `None` if there never was one of that number.
    pub fn rules(&self, stream: StreamId, version: u32) -> Result<Option<Rules>, CatalogError> {
        let versions = self.versions_where("stream = ?1 AND version = ?2", &[&stream.0, &version])?;
        // It is the same for all versions.
        let placement = self.streams().get(stream).and_then(|stream| stream.settings.placement());
        Ok(versions.into_iter().next().map(|version| Rules { placement, ..version.rules }))
    }

    /// Every version of a stream's schema, oldest first.
    pub fn schema_versions(&self, stream: StreamId) -> Result<Vec<SchemaVersion>, CatalogError> {
        self.versions_where("stream = ?1 ORDER BY version", &[&stream.0])
    }

    fn versions_where(
        &self,
        condition: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<SchemaVersion>, CatalogError> {
        self.read(|db| {
            let sql = format!(
                "SELECT policy, version, columns, time_rule, created_at, mapping, directory FROM schemas WHERE {condition}"
            );
            let version = |row: &rusqlite::Row<'_>| {
                let schema = Schema { version: row.get(1)?, columns: json_at(row, 2)? };
                let time = row.get::<_, Option<String>>(3)?.map(|_| json_at(row, 3)).transpose()?;
                let (policy, schema, mapping) = (policy_at(row, 0)?, Arc::new(schema), mapping_at(row, 5)?);
                let directory = row.get(6)?;
                let rules = Rules { policy, schema, time, placement: None, mapping, directory };
                Ok(SchemaVersion { rules, created_at: row.get(4)? })
            };
            db.prepare(&sql)?.query_map(values, version)?.collect()
        })
    }

    fn check_rules(&self, rules: &Rules) -> Result<(), CatalogError> {
        rules.check(self.columns_max)?;
        columns::check_defaults(&rules.schema.columns)?;
        Ok(())
    }

    /// Runs `work` in one transaction, and shows the stream that it returns to requests before anybody else may change
    /// it.
    pub(super) fn change_stream(
        &self,
        work: impl FnMut(&Transaction<'_>) -> Result<Stream, Refused>,
    ) -> Result<Arc<Stream>, CatalogError> {
        self.transaction_then(work, |stream| {
            let stream = Arc::new(stream);
            self.streams.rcu(|streams| streams.with(&stream));
            stream
        })
    }
}

struct Planned {
    changes: Vec<Change>,
    /// `None`: records become rows as before.
    rules: Option<Rules>,
}

/// Why a transaction was given up.
pub(super) enum Refused {
    Sqlite(rusqlite::Error),
    Catalog(CatalogError),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<CatalogError> for Refused {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}

fn rules(policy: Policy, version: u32, columns: Vec<Column>, settings: &StreamSettings) -> Rules {
    let mapping = settings.mapping.clone();
    let columns = match (policy, &mapping) {
        (Policy::Raw, _) => vec![Column::new(RAW_COLUMN, ColumnType::Json)],
        (Policy::Mapped, Some(mapping)) if columns.is_empty() => mapped_columns(mapping),
        _ => columns,
    };
    let (schema, time) = (Arc::new(Schema { version, columns }), settings.time.clone());
    let (placement, directory) = (settings.placement(), settings.directory.clone());
    Rules { policy, schema, time, placement, mapping, directory }
}

/// What can be said of settings without looking at others.
fn check_settings(policy: Policy, settings: &StreamSettings) -> Result<(), SchemaError> {
    // What it takes is not as it came, and would land nowhere without its table.
    if policy == Policy::Mapped && settings.landing != Landing::default() {
        return Err(SchemaError::Landing);
    }
    settings.directory.as_deref().map_or(Ok(()), check_directory)
}

/// Files of two streams in one directory could have the same name.
fn check_directory_free(
    db: &Transaction<'_>,
    id: StreamId,
    name: &str,
    settings: &StreamSettings,
) -> Result<(), Refused> {
    let directory = settings.directory.as_deref().unwrap_or(name);
    let sql = "SELECT count(*) FROM streams WHERE id != ?1 AND deleted_at IS NULL
               AND coalesce(json_extract(settings, '$.directory'), name) = ?2";
    let taken: u32 = db.query_row(sql, params![id.0, directory], |row| row.get(0))?;
    if taken > 0 {
        return Err(CatalogError::from(SchemaError::DirectoryTaken(directory.to_owned())).into());
    }
    Ok(())
}

/// The time rule and the mapping belong to the versions.
fn settings_json(settings: &StreamSettings) -> String {
    let settings = StreamSettings { time: None, mapping: None, ..settings.clone() };
    serde_json::to_string(&settings).unwrap_or_default()
}

/// A stream takes no more records, and its name is free.
pub(super) fn end_stream(db: &Transaction<'_>, id: StreamId, now: Micros) -> Result<Stream, Refused> {
    // No stream's name has a blank in it.
    let sql = "UPDATE streams SET deleted_name = name, name = name || ' ' || uuid, deleted_at = ?2
               WHERE id = ?1 AND deleted_at IS NULL";
    if db.execute(sql, params![id.0, now])? == 0 {
        return Err(CatalogError::NoSuchStream.into());
    }
    stream_by_id(db, id)
}

fn stream_by_id(db: &Transaction<'_>, id: StreamId) -> Result<Stream, Refused> {
    let found = db.query_row(&format!("{STREAM} WHERE s.id = ?1"), [id.0], stream_of).optional()?;
    found.ok_or(CatalogError::NoSuchStream.into())
}

fn save_version(db: &Transaction<'_>, stream: StreamId, rules: &Rules, now: Micros) -> rusqlite::Result<()> {
    let columns = serde_json::to_string(&rules.schema.columns).unwrap_or_default();
    let time = rules.time.as_ref().map(|time| serde_json::to_string(time).unwrap_or_default());
    let mapping = rules.mapping.as_deref().map(|mapping| serde_json::to_string(mapping).unwrap_or_default());
    let sql =
        "INSERT INTO schemas (stream, version, policy, columns, time_rule, mapping, directory, first_lsn, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8)";
    let (version, policy) = (rules.schema.version, rules.policy.name());
    db.execute(sql, params![stream.0, version, policy, columns, time, mapping, rules.directory, now])?;
    proposals::forget_columns(db, stream, &rules.schema)?;
    db.execute("UPDATE streams SET policy = ?2 WHERE id = ?1", params![stream.0, policy]).map(drop)
}
