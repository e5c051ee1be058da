//! Creates, alters and deletes streams and the versions of their schemas; turns proposals into columns.
//!
//! A version covers everything that decides how a record is stored: policy, columns, time rule, mapping, directory.
//! Versions are never changed or removed: frames in the log and files in the register refer to them.

#[cfg(test)]
mod tests;

use super::streams::{STREAM, json_at, mapping_at, policy_at, some_json_at, stream_of};
use super::{Catalog, CatalogError, Stream, check_name, proposals};
use crate::batch::StreamId;
use crate::clock::Micros;
use crate::columns;
use crate::formats::json;
use crate::schema::{
    Change, Column, ColumnType, Landing, Policy, RAW_COLUMN, Rules, Schema, SchemaError, StreamSettings,
    change, check_directory, mapped_columns,
};
use rusqlite::{OptionalExtension, Transaction, params};
use std::sync::Arc;

/// What to do if the stream already exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Fail with [`CatalogError::Exists`].
    Error,
    /// Return it unchanged.
    Return,
}

/// A stream to create.
#[derive(Debug, Clone)]
pub struct NewStream {
    pub name: String,
    pub policy: Policy,
    /// May be empty for `evolve`; ignored for `raw`.
    pub columns: Vec<Column>,
    pub settings: StreamSettings,
    pub if_exists: IfExists,
}

/// The changes to a stream. `None`: unchanged.
#[derive(Debug, Clone, Default)]
pub struct Alter {
    pub policy: Option<Policy>,
    /// All columns, including unchanged ones.
    pub columns: Option<Vec<Column>>,
    pub settings: Option<StreamSettings>,
    /// Apply the change even if values that are stored now would be lost.
    pub force: bool,
}

/// A version of a stream's schema.
#[derive(Debug, Clone)]
pub struct SchemaVersion {
    pub rules: Rules,
    pub created_at: Micros,
}

impl Catalog {
    /// Creates a stream that evolves, or returns the existing one. Blocks on the disk.
    pub fn create_stream(&self, name: &str) -> Result<Arc<Stream>, CatalogError> {
        self.create_stream_with(NewStream {
            name: name.to_owned(),
            policy: Policy::Evolve,
            columns: Vec::new(),
            settings: StreamSettings::default(),
            if_exists: IfExists::Return,
        })
    }

    /// Creates a stream durably. Blocks on the disk.
    ///
    /// # Errors
    /// If the name is invalid or taken, or if the columns do not form a valid table.
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

    /// Alters a stream atomically. Blocks on the disk.
    ///
    /// # Errors
    /// If `expected` is given and is not the current version of its schema; if values would be lost and the change is
    /// not forced; if the columns do not form a valid table.
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

    /// The changes that [`Catalog::alter_stream`] would make, without making them.
    ///
    /// # Errors
    /// The same as for that call, except for data loss, which the changes show.
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
        // A mapped table in another directory is a new table, with the columns of its mapping.
        let is_another = policy == Policy::Mapped && settings.directory != stream.settings.directory;
        let kept = if is_another { &Vec::new() } else { &stream.schema.columns };
        let columns = alter.columns.as_ref().unwrap_or(kept);
        check_settings(policy, settings)?;
        let next = rules(policy, found.saturating_add(1), columns.clone(), settings);
        self.check_rules(&next)?;
        stream.rules().keeps_placement(&next)?;
        // The one column of a raw stream holds the data of all the others.
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

    /// Deletes a stream: it accepts no more records, and its name becomes free. Its records in the log are still
    /// written, and its published files stay. Blocks on the disk.
    pub fn delete_stream(&self, id: StreamId) -> Result<Arc<Stream>, CatalogError> {
        let now = self.clock.now();
        self.change_stream(|db| end_stream(db, id, now))
    }

    /// Adds the new columns of records to a stream that evolves: to its current schema, even if that has changed since
    /// these records were answered.
    ///
    /// # Errors
    /// [`CatalogError::Conflict`] if one of them can no longer be added: the stream no longer evolves, or has a
    /// different column of that name.
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

    /// Turns proposals into columns after the existing ones; new records fill them from now on. Blocks on the disk.
    ///
    /// # Errors
    /// If `expected` is given and is not the current version of the schema; if one of them is not proposed; if the
    /// columns do not form a valid table.
    pub fn accept_proposals(
        &self,
        id: StreamId,
        expected: Option<u32>,
        accept: &[proposals::AcceptProposal],
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

    /// A version of the schema of a stream. `None` if that version never existed.
    pub fn rules(&self, stream: StreamId, version: u32) -> Result<Option<Rules>, CatalogError> {
        let versions = self.versions_where("stream = ?1 AND version = ?2", &[&stream.0, &version])?;
        // This is the same for all versions.
        let placement = self.streams().get(stream).and_then(|stream| stream.settings.placement());
        Ok(versions.into_iter().next().map(|version| Rules { placement, ..version.rules }))
    }

    /// All versions of the schema of a stream, oldest first.
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
                let time = some_json_at(row, 3)?;
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

    /// Runs `work` in one transaction, and publishes the stream that it returns to requests before another change to it
    /// can start.
    pub(super) fn change_stream(
        &self,
        work: impl FnMut(&Transaction<'_>) -> Result<Stream, Rollback>,
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
    /// `None`: the schema does not change.
    rules: Option<Rules>,
}

/// Why a transaction was rolled back.
pub(super) enum Rollback {
    Sqlite(rusqlite::Error),
    Catalog(CatalogError),
}

impl From<rusqlite::Error> for Rollback {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<CatalogError> for Rollback {
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

/// The checks of settings that do not depend on other streams.
fn check_settings(policy: Policy, settings: &StreamSettings) -> Result<(), SchemaError> {
    // Its records are not stored as received, and without its table they would not be stored at all.
    if policy == Policy::Mapped && settings.landing != Landing::default() {
        return Err(SchemaError::Landing);
    }
    settings.directory.as_deref().map_or(Ok(()), check_directory)
}

/// Refuses a directory that another stream uses: their files could have the same name.
fn check_directory_free(
    db: &Transaction<'_>,
    id: StreamId,
    name: &str,
    settings: &StreamSettings,
) -> Result<(), Rollback> {
    let directory = settings.directory.as_deref().unwrap_or(name);
    let sql = "SELECT count(*) FROM streams WHERE id != ?1 AND deleted_at IS NULL
               AND coalesce(json_extract(settings, '$.directory'), name) = ?2";
    let taken: u32 = db.query_row(sql, params![id.0, directory], |row| row.get(0))?;
    if taken > 0 {
        return Err(CatalogError::from(SchemaError::DirectoryTaken(directory.to_owned())).into());
    }
    Ok(())
}

/// The settings as JSON, without the time rule and the mapping, which belong to the versions.
fn settings_json(settings: &StreamSettings) -> String {
    let settings = StreamSettings { time: None, mapping: None, ..settings.clone() };
    json::text(&settings)
}

/// Ends a stream: it accepts no more records, and its name becomes free.
pub(super) fn end_stream(db: &Transaction<'_>, id: StreamId, now: Micros) -> Result<Stream, Rollback> {
    // No valid stream name contains a blank.
    let sql = "UPDATE streams SET deleted_name = name, name = name || ' ' || uuid, deleted_at = ?2
               WHERE id = ?1 AND deleted_at IS NULL";
    if db.execute(sql, params![id.0, now])? == 0 {
        return Err(CatalogError::NoSuchStream.into());
    }
    stream_by_id(db, id)
}

fn stream_by_id(db: &Transaction<'_>, id: StreamId) -> Result<Stream, Rollback> {
    let found = db.query_row(&format!("{STREAM} WHERE s.id = ?1"), [id.0], stream_of).optional()?;
    found.ok_or(CatalogError::NoSuchStream.into())
}

fn save_version(db: &Transaction<'_>, stream: StreamId, rules: &Rules, now: Micros) -> rusqlite::Result<()> {
    let columns = json::text(&rules.schema.columns);
    let time = rules.time.as_ref().map(json::text);
    let mapping = rules.mapping.as_deref().map(json::text);
    let sql =
        "INSERT INTO schemas (stream, version, policy, columns, time_rule, mapping, directory, first_lsn, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8)";
    let (version, policy) = (rules.schema.version, rules.policy.name());
    db.execute(sql, params![stream.0, version, policy, columns, time, mapping, rules.directory, now])?;
    proposals::forget_columns(db, stream, &rules.schema)?;
    db.execute("UPDATE streams SET policy = ?2 WHERE id = ?1", params![stream.0, policy]).map(drop)
}
