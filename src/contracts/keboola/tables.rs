//! The tables that exports write to. The first export that names a table creates it, and its columns never change:
//! different columns require another table.

use super::{KeboolaContext, go};
use crate::catalog::ObjectError;
use crate::contracts::reject::Reject;
use crate::mapping::MappedColumn;
use serde::{Deserialize, Serialize};

/// The longest id of a table, in characters.
const ID_CHARS_MAX: usize = 200;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredTable {
    columns: Vec<String>,
    primary_key: Vec<String>,
}

/// Refuses a text that is not a valid table id such as `in.c-bucket.table`.
pub fn check_id(id: &str) -> Result<(), Reject> {
    let parts: Vec<&str> = id.split('.').collect();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let good = match parts.as_slice() {
        [stage, bucket, table] => {
            matches!(*stage, "in" | "out")
                && [bucket, table].iter().all(|part| !part.is_empty() && part.bytes().all(is_plain))
        }
        _ => false,
    };
    if good && id.len() <= ID_CHARS_MAX {
        return Ok(());
    }
    let id = go::quote(id);
    let message = format!("invalid mapping: {id} is not a table ID such as \"in.c-bucket.table\"");
    Err(Reject::malformed(message).code("badRequest"))
}

/// Creates the table, or checks that the existing table has the columns of the mapping. A mismatch fails the task.
pub fn ensure(
    common: &KeboolaContext,
    project: &str,
    id: &str,
    columns: &[MappedColumn],
) -> Result<(), Reject> {
    let name = |column: &MappedColumn| column.name.clone();
    let keys = columns.iter().filter(|column| column.primary_key == Some(true));
    let new =
        StoredTable { columns: columns.iter().map(name).collect(), primary_key: keys.map(name).collect() };
    match common.tables.create(project, id, &new) {
        Ok(_) => return Ok(()),
        Err(ObjectError::Exists) => {}
        Err(error) => return Err(Reject::internal(&error)),
    }
    let Some(kept) = common.tables.get(project, id)? else { return Ok(()) };
    let same = |what: &str, expected: &[String], found: &[String]| {
        if expected == found {
            return Ok(());
        }
        let list = |names: &[String]| go::list(names.iter().map(String::as_str));
        let (expected, found) = (list(expected), list(found));
        let message = format!("{what} of the table \"{id}\" do not match expected {expected}, found {found}");
        Err(Reject::malformed(message))
    };
    same("columns", &new.columns, &kept.value.columns)?;
    same("primary keys", &new.primary_key, &kept.value.primary_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_tables() {
        for id in ["in.c-bucket.table", "out.c-b.my_table-2", "in.bucket.t"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in
            ["", "table", "in.table", "in.c-b.", "in..t", "x.c-b.t", "in.c-b.t.u", "in.c-b./", "in.c-b.ž"]
        {
            assert!(check_id(id).is_err(), "{id}");
        }
        assert!(check_id(&format!("in.c-b.{}", "t".repeat(ID_CHARS_MAX))).is_err());
    }
}
