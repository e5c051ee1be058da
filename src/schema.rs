//! What a stream's columns are: types, names, versions. Plain data, kept in the catalog as JSON.

use serde::{Deserialize, Serialize};

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    String,
    Int64,
    Float64,
    Bool,
    /// Microseconds since the epoch, UTC.
    Timestamp,
    Date,
    List(Box<ColumnType>),
    Struct(Vec<Column>),
    /// Any JSON value, as its source text.
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// The columns of a stream's table, without the system columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Grows by one with each change. 0: nothing has come yet.
    pub version: u32,
    pub columns: Vec<Column>,
}

/// Columns that Forebay adds to every table.
pub mod system {
    /// Fields that have no column, or whose value does not fit it: a JSON object as text.
    pub const RESCUED: &str = "_rescued";
    /// When the request was received.
    pub const RECEIVED_AT: &str = "_received_at";
    /// Log sequence number of the request.
    pub const LSN: &str = "_lsn";
    /// Number of the record in its request, from 0.
    pub const RECORD: &str = "_record";

    /// A field of that name in a record goes to [`RESCUED`].
    pub fn is_reserved(name: &str) -> bool {
        [RESCUED, RECEIVED_AT, LSN, RECORD].contains(&name)
    }
}

impl ColumnType {
    /// How many Parquet columns it takes.
    pub fn leaves(&self) -> usize {
        match self {
            Self::List(item) => item.leaves(),
            Self::Struct(fields) => fields.iter().map(|field| field.kind.leaves()).sum(),
            _ => 1,
        }
    }

    /// The type that would hold this column's values and also JSON values of `kind` (`string`, `number`, `boolean`,
    /// `array`, `object`) that did not fit it.
    pub fn wider(&self, kind: &str) -> &'static str {
        match (self, kind) {
            (Self::Int64, "number") => "float64",
            (Self::List(_) | Self::Struct(_), _) | (_, "array" | "object") => "json",
            _ => "string",
        }
    }

    /// As users read it: `list<struct<a: int64>>`.
    pub fn name(&self) -> String {
        match self {
            Self::String => "string".to_owned(),
            Self::Int64 => "int64".to_owned(),
            Self::Float64 => "float64".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Json => "json".to_owned(),
            Self::List(item) => format!("list<{}>", item.name()),
            Self::Struct(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|field| format!("{}: {}", field.name, field.kind.name())).collect();
                format!("struct<{}>", fields.join(", "))
            }
        }
    }
}

impl Schema {
    pub fn leaves(&self) -> usize {
        self.columns.iter().map(|column| column.kind.leaves()).sum()
    }
}
