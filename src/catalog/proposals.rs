//! Fields without a column, in streams that propose columns for them.

use super::streams::json_at;
use super::{Catalog, CatalogError};
use crate::batch::StreamId;
use crate::columns::Proposal;
use crate::formats::json;
use crate::schema::{Column, ColumnType, Schema};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde_json::Value;

/// The maximum number of proposals of one stream. Further fields are still rescued.
const PROPOSALS_MAX: u32 = 1000;

/// A proposal to be turned into a column.
#[derive(Debug, Clone, Default)]
pub struct AcceptProposal {
    /// The keys of the proposed field.
    pub path: Vec<String>,
    /// The name of the column; by default the keys joined with `_`.
    pub name: Option<String>,
    /// Its type; by default the one proposed.
    pub kind: Option<ColumnType>,
    /// The type in the terms of a contract.
    pub declared: Option<String>,
    pub default: Option<Value>,
    pub epoch_digits: Option<u8>,
}

impl Catalog {
    /// The fields without a column that a stream received, most frequent first, without the dismissed ones.
    pub fn proposals(&self, stream: StreamId) -> Result<Vec<Proposal>, CatalogError> {
        self.read(|db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM proposals WHERE stream = ?1 AND dismissed = 0 ORDER BY count DESC, path"
            );
            db.prepare(&sql)?.query_map([stream.0], proposal_of)?.collect()
        })
    }

    /// Dismisses the proposal of a field, whose keys are joined with `.` here, or all current proposals. The fields are
    /// still rescued and counted, and can still be accepted. Blocks on the disk.
    ///
    /// # Errors
    /// If no such field is proposed.
    pub fn dismiss_proposals(&self, id: StreamId, field: Option<&str>) -> Result<(), CatalogError> {
        let offered = self.proposals(id)?.into_iter().map(|proposal| proposal.path);
        let dismissed: Vec<_> =
            offered.filter(|path| field.is_none_or(|field| path.join(".") == field)).collect();
        if let Some(field) = field.filter(|_| dismissed.is_empty()) {
            return Err(CatalogError::NoSuchProposal(vec![field.to_owned()]));
        }
        self.transaction(|db| {
            for path in &dismissed {
                let sql = "UPDATE proposals SET dismissed = 1 WHERE stream = ?1 AND path = ?2";
                db.execute(sql, params![id.0, json::text(path)])?;
            }
            Ok(())
        })
    }
}

impl AcceptProposal {
    pub(super) fn column(&self, proposal: Proposal) -> Column {
        let name = self.name.clone().unwrap_or_else(|| self.path.join("_"));
        let path = (self.path != [name.clone()]).then(|| self.path.clone());
        Column {
            default: self.default.clone(),
            path,
            declared: self.declared.clone(),
            epoch_digits: self.epoch_digits,
            ..Column::new(name, self.kind.clone().unwrap_or(proposal.kind))
        }
    }
}

const COLUMNS: &str = "path, type, count, first_at, last_at, examples";

fn proposal_of(row: &Row<'_>) -> rusqlite::Result<Proposal> {
    Ok(Proposal {
        path: json_at(row, 0)?,
        kind: json_at(row, 1)?,
        count: row.get::<_, i64>(2)?.cast_unsigned(),
        first_at: row.get(3)?,
        last_at: row.get(4)?,
        examples: json_at(row, 5)?,
    })
}

/// The proposal of a field, even if it was dismissed.
pub(super) fn find(
    db: &Transaction<'_>,
    stream: StreamId,
    path: &[String],
) -> rusqlite::Result<Option<Proposal>> {
    let sql = format!("SELECT {COLUMNS} FROM proposals WHERE stream = ?1 AND path = ?2");
    db.query_row(&sql, params![stream.0, json::text(&path)], proposal_of).optional()
}

/// Adds the fields of the current cut.
pub(super) fn add(db: &Transaction<'_>, stream: StreamId, proposals: &[Proposal]) -> rusqlite::Result<()> {
    if proposals.is_empty() {
        return Ok(());
    }
    let sql = "SELECT count(*) FROM proposals WHERE stream = ?1";
    let mut kept: u32 = db.query_row(sql, [stream.0], |row| row.get(0))?;
    for new in proposals {
        let known = find(db, stream, &new.path)?;
        kept += u32::from(known.is_none());
        if kept > PROPOSALS_MAX {
            break;
        }
        let all = known.map_or_else(|| new.clone(), |known| known.and(new.clone()));
        // Dismissed proposals stay dismissed.
        let sql = "INSERT INTO proposals (stream, path, type, count, first_at, last_at, examples)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT DO UPDATE SET type = excluded.type, count = excluded.count,
                   first_at = excluded.first_at, last_at = excluded.last_at, examples = excluded.examples";
        let (path, kind, examples) =
            (json::text(&all.path), json::text(&all.kind), json::text(&all.examples));
        let count = all.count.cast_signed();
        db.execute(sql, params![stream.0, path, kind, count, all.first_at, all.last_at, examples])?;
    }
    // Fields that have become columns are not proposed, although older records still contain them.
    let columns = db.query_row(
        "SELECT version, columns FROM schemas WHERE stream = ?1 ORDER BY version DESC LIMIT 1",
        [stream.0],
        |row| Ok(Schema { version: row.get(0)?, columns: json_at(row, 1)? }),
    );
    columns.optional()?.map_or(Ok(()), |schema| forget_columns(db, stream, &schema))
}

/// Deletes the proposals of fields that are columns.
pub(super) fn forget_columns(
    db: &Transaction<'_>,
    stream: StreamId,
    schema: &Schema,
) -> rusqlite::Result<()> {
    let sql = "SELECT path FROM proposals WHERE stream = ?1";
    let proposed: Vec<Vec<String>> =
        db.prepare(sql)?.query_map([stream.0], |row| json_at(row, 0))?.collect::<Result<_, _>>()?;
    for path in proposed.iter().filter(|path| schema.columns.iter().any(|column| column.keys() == *path)) {
        db.execute(
            "DELETE FROM proposals WHERE stream = ?1 AND path = ?2",
            params![stream.0, json::text(path)],
        )?;
    }
    Ok(())
}
