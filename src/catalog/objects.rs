//! Documents of the contracts' management APIs: connections, jobs, receivers. One table holds them all; the content of
//! a document is defined by its contract.

use super::{Catalog, CatalogError};
use crate::clock::Micros;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

/// The key of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectKey<'a> {
    /// The name of the contract, which separates the documents of the contracts.
    pub contract: &'a str,
    /// Project, organisation or tenant; empty if the contract has none.
    pub project: &'a str,
    /// `connection`, `job`, ...
    pub kind: &'a str,
    pub name: &'a str,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub name: String,
    pub document: Value,
    /// Starts at 1 and increases with each change.
    pub version: u32,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// Why a change of a document failed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("the document already exists")]
    Exists,
    #[error("the document does not exist")]
    Missing,
    #[error("the document was changed concurrently: its version is now {0}")]
    Stale(u32),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

const COLUMNS: &str = "name, document, version, created_at, updated_at";

impl Catalog {
    /// Creates a document, which must not exist.
    pub fn create_object(&self, key: ObjectKey<'_>, document: &Value) -> Result<Object, ObjectError> {
        let now = self.clock.now();
        let made = self.transaction(|db| {
            let sql = "INSERT INTO objects (dialect, project, kind, name, document, version, created_at, updated_at)
                       VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?6) ON CONFLICT DO NOTHING";
            let ObjectKey { contract, project, kind, name } = key;
            db.execute(sql, params![contract, project, kind, name, document.to_string(), now])
        })?;
        if made == 0 {
            return Err(ObjectError::Exists);
        }
        let (name, document) = (key.name.to_owned(), document.clone());
        Ok(Object { name, document, version: 1, created_at: now, updated_at: now })
    }

    /// Replaces a document: the version `expected`, or any if it is `None`.
    pub fn replace_object(
        &self,
        key: ObjectKey<'_>,
        expected: Option<u32>,
        document: &Value,
    ) -> Result<Object, ObjectError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let Some(found) = find(db, key)? else { return Ok(Err(ObjectError::Missing)) };
            if expected.is_some_and(|expected| expected != found.version) {
                return Ok(Err(ObjectError::Stale(found.version)));
            }
            let sql = "UPDATE objects SET document = ?5, version = version + 1, updated_at = ?6
                       WHERE dialect = ?1 AND project = ?2 AND kind = ?3 AND name = ?4";
            let ObjectKey { contract, project, kind, name } = key;
            db.execute(sql, params![contract, project, kind, name, document.to_string(), now])?;
            let document = document.clone();
            Ok(Ok(Object { document, version: found.version + 1, updated_at: now, ..found }))
        })?
    }

    pub fn object(&self, key: ObjectKey<'_>) -> Result<Option<Object>, CatalogError> {
        self.read(|db| find(db, key))
    }

    /// All documents of a kind, ordered by name.
    pub fn objects(&self, contract: &str, project: &str, kind: &str) -> Result<Vec<Object>, CatalogError> {
        self.read(|db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM objects WHERE dialect = ?1 AND project = ?2 AND kind = ?3 ORDER BY name"
            );
            db.prepare(&sql)?.query_map([contract, project, kind], object_of)?.collect()
        })
    }

    /// The same for all projects, with the project of each.
    pub fn objects_everywhere(
        &self,
        contract: &str,
        kind: &str,
    ) -> Result<Vec<(String, Object)>, CatalogError> {
        self.read(|db| {
            let sql = format!(
                "SELECT {COLUMNS}, project FROM objects WHERE dialect = ?1 AND kind = ?2 ORDER BY project, name"
            );
            let found = |row: &rusqlite::Row<'_>| Ok((row.get(5)?, object_of(row)?));
            db.prepare(&sql)?.query_map([contract, kind], found)?.collect()
        })
    }

    /// Deletes all documents of a kind except the `keep` newest.
    pub fn keep_newest_objects(
        &self,
        contract: &str,
        project: &str,
        kind: &str,
        keep: u32,
    ) -> Result<(), CatalogError> {
        let sql = "DELETE FROM objects WHERE dialect = ?1 AND project = ?2 AND kind = ?3 AND created_at < (
                       SELECT created_at FROM objects WHERE dialect = ?1 AND project = ?2 AND kind = ?3
                       ORDER BY created_at DESC LIMIT 1 OFFSET ?4)";
        self.transaction(|db| {
            db.execute(sql, params![contract, project, kind, keep.saturating_sub(1)]).map(drop)
        })
    }

    /// Deletes all documents of a kind that were created before a time.
    pub fn forget_objects(
        &self,
        contract: &str,
        project: &str,
        kind: &str,
        created_before: Micros,
    ) -> Result<(), CatalogError> {
        let sql = "DELETE FROM objects WHERE dialect = ?1 AND project = ?2 AND kind = ?3 AND created_at < ?4";
        self.transaction(|db| db.execute(sql, params![contract, project, kind, created_before]).map(drop))
    }

    /// Deletes a document. Returns whether it existed.
    pub fn delete_object(&self, key: ObjectKey<'_>) -> Result<bool, CatalogError> {
        let sql = "DELETE FROM objects WHERE dialect = ?1 AND project = ?2 AND kind = ?3 AND name = ?4";
        let deleted =
            self.transaction(|db| db.execute(sql, [key.contract, key.project, key.kind, key.name]))?;
        Ok(deleted > 0)
    }
}

fn find(db: &Connection, key: ObjectKey<'_>) -> rusqlite::Result<Option<Object>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM objects WHERE dialect = ?1 AND project = ?2 AND kind = ?3 AND name = ?4"
    );
    db.query_row(&sql, [key.contract, key.project, key.kind, key.name], object_of).optional()
}

fn object_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Object> {
    let document: String = row.get(1)?;
    let document = serde_json::from_str(&document).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let (version, created_at, updated_at) = (row.get(2)?, row.get(3)?, row.get(4)?);
    Ok(Object { name: row.get(0)?, document, version, created_at, updated_at })
}
