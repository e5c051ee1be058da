//! Parses and checks table declarations in the formats of two generations of the contract. Plain data, without I/O.

use super::TIME;
use super::fields::{RequestFields, wrong};
use super::types;
use crate::contracts::reject::Reject;
use crate::schema::{Column, ColumnType, system};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const DESCRIPTION_CHARS_MAX: usize = 1000;
const GRANULARITIES: [&str; 14] = [
    "day",
    "second",
    "minute",
    "five_minute",
    "ten_minute",
    "fifteen_minute",
    "thirty_minute",
    "hour",
    "six_hour",
    "eight_hour",
    "month",
    "quarter",
    "year",
    "all",
];
/// The fields of a table. Read-only fields are accepted, because clients send back what they received.
const FIELDS: [&str; 26] = [
    "name",
    "type",
    "version",
    "schema",
    "schemaMode",
    "partitioningGranularity",
    "clusteringColumns",
    "description",
    "storagePolicy",
    "timeResolution",
    "queryGranularity",
    "id",
    "availability",
    "createdByUser",
    "createdOnTimestamp",
    "modifiedByUser",
    "modifiedOnTimestamp",
    "queryableSchema",
    "segmentCount",
    "segmentCompactedBytes",
    "segmentTotalBytes",
    "precachedDataSizeBytes",
    "totalDataSizeBytes",
    "totalRows",
    "status",
    "lastModifiedDateTime",
];

/// The generation of the contract that a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    /// `/v2/tables`.
    Middle,
    /// `/v1/projects/{p}/tables`.
    Project,
}

impl Generation {
    fn columns_max(self) -> usize {
        match self {
            Self::Middle => 400,
            Self::Project => 1000,
        }
    }
}

/// The fields of a table that a stream does not have; stored in the stream's vendor settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TableMetadata {
    /// The number of changes made through the contract. Not the schema version, which data changes too.
    pub(super) version: u64,
    /// `detail` or `aggregate`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// New columns are accepted from data.
    pub(super) flexible: bool,
    pub(super) partitioning_granularity: String,
    pub(super) clustering_columns: Vec<String>,
    pub(super) storage_policy: Option<Value>,
    pub(super) time_resolution: Option<Value>,
    pub(super) query_granularity: Option<Value>,
    /// Columns declared as measures.
    pub(super) measures: Vec<String>,
    pub(super) created_by: Option<Value>,
    pub(super) modified_by: Option<Value>,
    /// Microseconds since the epoch.
    pub(super) modified_at: Option<i64>,
}

impl Default for TableMetadata {
    fn default() -> Self {
        Self {
            version: 0,
            kind: "detail".to_owned(),
            flexible: true,
            partitioning_granularity: "day".to_owned(),
            clustering_columns: Vec::new(),
            storage_policy: None,
            time_resolution: None,
            query_granularity: None,
            measures: Vec::new(),
            created_by: None,
            modified_by: None,
            modified_at: None,
        }
    }
}

/// A table declaration of a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declared {
    pub(super) name: String,
    /// The version that the client knows, for changes.
    pub(super) version: Option<u64>,
    /// The columns. `__time` is added in front if it was not declared.
    pub(super) columns: Vec<Column>,
    pub(super) description: String,
    pub(super) about: TableMetadata,
}

impl Declared {
    pub(super) fn parse(body: &Value, generation: Generation) -> Result<Self, Reject> {
        let fields = RequestFields::from_value(body, "the table")?.only(&FIELDS)?;
        let name = fields.required("name")?;
        check_name(name)?;
        let kind = fields.required("type")?;
        if !matches!(kind, "detail" | "aggregate") {
            return Err(wrong(format!("the table's type must be \"detail\" or \"aggregate\", not {kind:?}")));
        }
        let mut columns = Vec::new();
        let mut measures = Vec::new();
        for column in fields.list("schema")? {
            let column = RequestFields::from_value(column, "a column of the schema")?
                .only(&["name", "dataType", "type"])?;
            let name = column.required("name")?;
            check_column_name(name)?;
            match (kind, column.text("type")?) {
                (_, None | Some("dimension")) => {}
                ("aggregate", Some("measure")) => measures.push(name.to_owned()),
                (_, Some(other)) => {
                    return Err(wrong(format!(
                        "column {name:?}: {other:?} is not a column type of this table"
                    )));
                }
            }
            // Only the time column has a default type.
            let data_type = match column.text("dataType")? {
                None if name == TIME => "timestamp",
                _ => column.required("dataType")?,
            };
            columns.push(types::column(name, data_type).map_err(wrong)?);
        }
        // The default mode is flexible without columns, because a strict table without columns would hold nothing.
        let modes: &[&str] =
            if columns.is_empty() { &["flexible", "strict"] } else { &["strict", "flexible"] };
        let flexible = fields.word("schemaMode", modes_of(modes))? == "flexible";
        let columns = with_time(columns, generation)?;
        let description = fields.text("description")?.unwrap_or("");
        if description.chars().count() > DESCRIPTION_CHARS_MAX {
            return Err(wrong(format!("the description has more than {DESCRIPTION_CHARS_MAX} characters")));
        }
        let clustering_columns = fields.texts("clusteringColumns")?;
        let known = |name: &&str| columns.iter().any(|column| column.name == **name);
        if let Some(unknown) = clustering_columns.iter().find(|name| !flexible && !known(name)) {
            return Err(wrong(format!(
                "clusteringColumns refers to {unknown:?}, which is not in the schema"
            )));
        }
        let about = TableMetadata {
            kind: kind.to_owned(),
            flexible,
            partitioning_granularity: fields.word("partitioningGranularity", &GRANULARITIES)?.to_owned(),
            clustering_columns: clustering_columns.into_iter().map(str::to_owned).collect(),
            storage_policy: fields.get("storagePolicy").cloned(),
            time_resolution: fields.get("timeResolution").cloned(),
            query_granularity: fields.get("queryGranularity").cloned(),
            measures,
            ..TableMetadata::default()
        };
        let version = fields.number("version")?;
        Ok(Declared { name: name.to_owned(), version, columns, description: description.to_owned(), about })
    }
}

/// The modes with the default first.
fn modes_of(modes: &[&str]) -> &'static [&'static str] {
    if modes.first() == Some(&"flexible") { &["flexible", "strict"] } else { &["strict", "flexible"] }
}

/// Refuses names that the contract does not allow. The catalog checks the other rules for stream names.
pub(super) fn check_name(name: &str) -> Result<(), Reject> {
    if name.is_empty() || name != name.trim() {
        return Err(wrong("a table's name must not be empty, and must not begin or end with white space"));
    }
    if name.starts_with("__") {
        return Err(wrong(format!("{name:?}: names that begin with \"__\" are reserved")));
    }
    Ok(())
}

pub(super) fn check_column_name(name: &str) -> Result<(), Reject> {
    if name.is_empty() || name != name.trim() {
        return Err(wrong("a column's name must not be empty, and must not begin or end with white space"));
    }
    if (name.starts_with("__") && name != TIME) || system::is_reserved(name) {
        return Err(wrong(format!("column {name:?}: the name is reserved")));
    }
    Ok(())
}

/// Checks the columns as a whole, and adds the time column if it is missing.
fn with_time(mut columns: Vec<Column>, generation: Generation) -> Result<Vec<Column>, Reject> {
    let max = generation.columns_max();
    if columns.len() > max {
        return Err(wrong(format!("a table can have at most {max} columns, not {}", columns.len())));
    }
    let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        return Err(wrong(format!("column {:?} is declared twice", pair.first().unwrap_or(&""))));
    }
    match columns.iter().find(|column| column.name == TIME) {
        Some(time) if time.kind != ColumnType::Timestamp => {
            Err(wrong(format!("column {TIME:?} must have the type timestamp")))
        }
        Some(_) => Ok(columns),
        None => {
            columns.insert(0, types::time());
            Ok(columns)
        }
    }
}
