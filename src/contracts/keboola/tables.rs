//! The tables that exports write to. A table is made by the first export that names it, and has its columns for ever:
//! who wants other columns wants another table.

use super::model::Table;
use super::{DIALECT, go};
use crate::contracts::reject::Reject;
use crate::contracts::shared::control::{Control, ObjectError, ObjectKey};
use serde::{Deserialize, Serialize};

const KIND: &str = "table";
/// Longest id of a table.
const ID_CHARS_MAX: usize = 200;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    columns: Vec<String>,
    primary_key: Vec<String>,
}

/// Whether it is the id of a table: `in.c-bucket.table`.
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
    let message = format!("invalid mapping: {id} is no table ID, it should be like \"in.c-bucket.table\"");
    Err(Reject::malformed(message).code("badRequest"))
}

/// Makes the table, or sees whether the one that there is has the same columns. The error is one of the task.
pub(super) fn ensure(control: &Control, project: &str, table: &Table) -> Result<(), Reject> {
    ensure_columns(control, project, &table.id, &table.column_names(), &table.key_names())
}

/// The same by the names of its columns, and of those that are its key.
pub fn ensure_columns(
    control: &Control,
    project: &str,
    id: &str,
    columns: &[&str],
    keys: &[&str],
) -> Result<(), Reject> {
    let key = ObjectKey { dialect: DIALECT, project, kind: KIND, name: id };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let new = Kept { columns: owned(columns), primary_key: owned(keys) };
    match control.catalog.create_object(key, &serde_json::to_value(&new).unwrap_or_default()) {
        Ok(_) => return Ok(()),
        Err(ObjectError::Exists) => {}
        Err(error) => return Err(Reject::internal(&error)),
    }
    let found = control.catalog.object(key).map_err(|error| Reject::internal(&error))?;
    let kept = found.map(|object| serde_json::from_value::<Kept>(object.document)).transpose();
    let Some(kept) = kept.map_err(|error| Reject::internal(&error))? else { return Ok(()) };
    let differ = |what: &str, expected: &[&str], found: &[String]| {
        let (expected, found) =
            (go::list(expected.iter().copied()), go::list(found.iter().map(String::as_str)));
        let message = format!("{what} of the table \"{id}\" do not match expected {expected}, found {found}");
        Err(Reject::malformed(message))
    };
    if kept.columns != columns {
        return differ("columns", columns, &kept.columns);
    }
    if kept.primary_key != keys {
        return differ("primary keys", keys, &kept.primary_key);
    }
    Ok(())
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
