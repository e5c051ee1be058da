//! The columns of a stream, and the rules for records that do not fit them. Plain data, stored in the catalog as
//! JSON.

mod change;
mod check;
mod kind;
mod settings;
#[cfg(test)]
mod tests;

pub use change::{Change, change};
pub use check::{SchemaError, check_directory};
pub use kind::{ColumnType, DECIMAL_DIGITS_MAX, TypeError};
pub use settings::{
    FileConditions, Landing, Mode, OnBadLine, PARTITIONS_MAX, Payload, Placement, Policy, QuarantineLayout,
    RAW_COLUMN, RawFormat, Rules, StreamSettings, TimeRule, mapped_columns,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether a row may lack a value here. Applies to incoming records; in files every column is nullable.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub nullable: bool,
    /// Replaces a missing or null value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Keys from the record down to the value. `None`: the record's top-level field with the column's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Vec<String>>,
    /// The type as the declaring contract spells it, echoed back to clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    /// For a timestamp: an integer counts units of 10^-n seconds since the epoch. `None`: integers are not valid
    /// timestamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_digits: Option<u8>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde requires a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

fn yes() -> bool {
    true
}

impl Column {
    /// A nullable column that reads the record's field with its own name.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Self {
            name: name.into(),
            kind,
            nullable: true,
            default: None,
            path: None,
            declared: None,
            epoch_digits: None,
        }
    }

    /// The type as its users know it.
    pub fn type_name(&self) -> String {
        self.declared.clone().unwrap_or_else(|| self.kind.name())
    }

    /// Whether the time of receipt replaces a missing value.
    pub fn is_receipt_time(&self) -> bool {
        self.kind.is_of_time() && self.default.as_ref().is_some_and(|default| default == RECEIPT_TIME)
    }

    /// Keys from the record down to the value.
    pub fn keys(&self) -> &[String] {
        self.path.as_deref().unwrap_or_else(|| std::slice::from_ref(&self.name))
    }
}

/// The columns of a stream's table, without the system columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Grows by one with each change. 0: no record has arrived yet.
    pub version: u32,
    pub columns: Vec<Column>,
}

/// As the default of a timestamp or a date: the time at which the record was received.
pub const RECEIPT_TIME: &str = "now()";

/// Columns that Forebay adds to every table.
pub mod system {
    /// Fields without a column, or with a value that does not fit it: a JSON object as text.
    pub const RESCUED: &str = "_rescued";
    /// When the request was received.
    pub const RECEIVED_AT: &str = "_received_at";
    /// The request's log sequence number.
    pub const LSN: &str = "_lsn";
    /// The record's index in its request, from 0.
    pub const RECORD: &str = "_record";
    /// Where rows are numbered: the row's partition.
    pub const PARTITION: &str = "_partition";
    /// Where rows are numbered: the row's offset in its partition, from 0.
    pub const OFFSET: &str = "_offset";

    /// A record's field with a reserved name goes to [`RESCUED`].
    pub fn is_reserved(name: &str) -> bool {
        [RESCUED, RECEIVED_AT, LSN, RECORD].contains(&name)
    }

    /// The same for the names that only streams with numbered rows reserve.
    pub fn is_of_placement(name: &str) -> bool {
        [PARTITION, OFFSET].contains(&name)
    }
}

impl Schema {
    /// The number of Parquet columns.
    pub fn leaves(&self) -> usize {
        self.columns.iter().map(|column| column.kind.leaves()).sum()
    }

    pub fn named(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}
