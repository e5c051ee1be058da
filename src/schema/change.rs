//! The difference between two schemas, and whether it loses data.

use super::{Column, Schema};
use serde::Serialize;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    Added {
        column: String,
        #[serde(rename = "type")]
        kind: String,
    },
    Removed {
        column: String,
    },
    Retyped {
        column: String,
        from: String,
        to: String,
        /// Whether the new type holds every value of the old one.
        wider: bool,
    },
    /// Null or missing values, which were stored before, are quarantined from now on.
    Required {
        column: String,
    },
    /// Null or missing values are stored from now on.
    Optional {
        column: String,
    },
    /// Its default, its place in the record, or how integers are read as timestamps.
    Redefined {
        column: String,
    },
    /// The column reads its values from another place in the record.
    Moved {
        column: String,
    },
    Reordered,
}

impl Change {
    /// Whether values that the old schema stored would no longer be stored.
    pub fn loses_data(&self) -> bool {
        match self {
            Self::Removed { .. } | Self::Required { .. } | Self::Moved { .. } => true,
            Self::Retyped { wider, .. } => !wider,
            Self::Added { .. } | Self::Optional { .. } | Self::Redefined { .. } | Self::Reordered => false,
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Added { column, kind } => write!(f, "column '{column}' of type {kind} is added"),
            Self::Removed { column } => write!(f, "column '{column}' is removed"),
            Self::Retyped { column, from, to, .. } => {
                write!(f, "column '{column}' changes from {from} to {to}")
            }
            Self::Required { column } => {
                write!(f, "column '{column}' no longer accepts nulls and has no default")
            }
            Self::Optional { column } => write!(f, "column '{column}' now accepts nulls"),
            Self::Redefined { column } => write!(f, "the definition of column '{column}' changes"),
            Self::Moved { column } => write!(f, "column '{column}' reads its values from a different path"),
            Self::Reordered => write!(f, "the columns are in a different order"),
        }
    }
}

/// The changes from the old columns to the new ones, in the order of the new ones.
pub fn change(old: &Schema, new: &[Column]) -> Vec<Change> {
    let mut changes = Vec::new();
    for column in new {
        let name = column.name.clone();
        match old.named(&column.name) {
            None => changes.push(Change::Added { column: name, kind: column.type_name() }),
            Some(before) => changes.extend(column_changes(before, column)),
        }
    }
    let kept = |column: &&Column| new.iter().any(|other| other.name == column.name);
    let removed = old.columns.iter().filter(|column| !kept(column));
    changes.extend(removed.map(|column| Change::Removed { column: column.name.clone() }));
    let before = old.columns.iter().filter(kept).map(|column| &column.name);
    let after = new.iter().filter(|column| old.named(&column.name).is_some()).map(|column| &column.name);
    if !before.eq(after) {
        changes.push(Change::Reordered);
    }
    changes
}

fn column_changes(before: &Column, after: &Column) -> Vec<Change> {
    let name = || after.name.clone();
    let mut changes = Vec::new();
    if before.kind != after.kind {
        let (from, to) = (before.type_name(), after.type_name());
        let wider = after.kind.holds(&before.kind);
        changes.push(Change::Retyped { column: name(), from, to, wider });
    }
    let required = |column: &Column| !column.nullable && column.default.is_none();
    match (required(before), required(after)) {
        (false, true) => changes.push(Change::Required { column: name() }),
        (true, false) => changes.push(Change::Optional { column: name() }),
        _ => {}
    }
    if before.keys() != after.keys() {
        changes.push(Change::Moved { column: name() });
    }
    let rest = |column: &Column| {
        (column.default.clone(), column.epoch_digits, column.declared.clone(), column.nullable)
    };
    if changes.is_empty() && rest(before) != rest(after) {
        changes.push(Change::Redefined { column: name() });
    }
    changes
}
