//! Mappings define the columns of a row, in the terms of Keboola's contracts. Each request becomes one row, and all
//! its values are text.
//!
//! Columns of type `path` and `template` depend on the content of the body and can fail, so they are *evaluated*
//! before the answer ([`Evaluator`]) and their values are stored with the request. The other columns follow from
//! the request itself and its position in the log ([`row`]); they cannot fail.
//!
//! Templates are untrusted programs. They run in separate processes under limits of memory and time, never in this
//! one.

mod body;
mod evaluator;
mod form;
pub mod frames;
mod headers;
pub mod jsonnet;
mod message;
mod metrics;
mod path;
mod pool;
mod process;
#[cfg(test)]
mod tests;
pub mod worker;

pub use body::{Body, ParseError};
pub use evaluator::{Evaluator, Outcomes};
pub use headers::{canonical_name, go_json, headers};
pub use metrics::MappingMetrics;
pub use path::Path;
pub use pool::EvaluatorSettings;

use crate::clock::Micros;
use jsonnet::TemplateError;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

/// The maximum number of columns of a mapping.
pub const COLUMNS_MAX: usize = 100;
/// The maximum length of a template, in characters.
pub const TEMPLATE_MAX: usize = 4096;
/// The maximum size of a row's values, in bytes.
pub const ROW_MAX: usize = 1 << 20;

/// The definition of a row's columns. A version of it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mapping {
    pub columns: Vec<MappedColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MappedColumn {
    /// Whether it is part of the table's key. `None` where the contract has no keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<bool>,
    #[serde(flatten)]
    pub kind: ColumnKind,
    pub name: String,
}

/// The source of a column's values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum ColumnKind {
    /// The row's number in its table, from 1.
    Id,
    /// A version 7 UUID: it begins with the time of arrival.
    Uuid,
    /// The time at which the request arrived, in UTC, to the millisecond.
    Datetime,
    /// The client's address.
    Ip,
    /// The body as received.
    Body,
    /// The headers as a JSON object.
    Headers,
    /// The JSON at a path in the body.
    Path {
        /// An empty path is the whole body.
        path: String,
        /// Replaces a missing value; without a default, a record that lacks the value is rejected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default_value: Option<String>,
        /// Strings without their quotes and escapes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        raw_string: bool,
    },
    /// The JSON that a program produces from the request.
    Template {
        template: Template,
        /// Strings without their quotes and escapes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        raw_string: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Template {
    pub language: MappingLanguage,
    pub content: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MappingLanguage {
    Jsonnet,
}

/// The parts of a request that a mapping may use.
#[derive(Debug, Clone, Copy)]
pub struct MappingRequest<'a> {
    pub body: &'a [u8],
    /// The `Content-Type` header; `None` if absent.
    pub content_type: Option<&'a str>,
    /// As returned by [`headers()`]: canonical names, first values, sorted.
    pub headers: &'a [(String, String)],
    pub ip: IpAddr,
    pub received_at: Micros,
}

/// The identity of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowId {
    /// The row's number in its table, from 1.
    pub number: u64,
    /// Unique per row, and the same whenever the row is produced again; see [`RowId::unique`].
    pub unique: [u8; 10],
}

/// The values of a mapping's `path` and `template` columns, in order. Stored with the request as a JSON array.
pub type Evaluated = Vec<String>;

/// Why a mapping is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    #[error("column \"{column}\" template is invalid: {message}")]
    Template { column: String, message: String },
    #[error("column name \"{0}\" is not unique")]
    RepeatedName(String),
    /// Not caused by the mapping: the check may be retried.
    #[error("templates cannot be checked now: {0}")]
    Unavailable(String),
}

/// Why a request does not become a row. The messages are for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingFailure {
    /// A column refers to the content of a body whose type has no fields. 415 in Keboola's contract.
    #[error(
        "unsupported content type \"{0}\", supported types: application/json and application/x-www-form-urlencoded"
    )]
    ContentType(String),
    /// A column refers to the content of a body that does not match its type.
    #[error("{0}")]
    Body(String),
    /// A path or a header that was not found, or an error raised by a template.
    #[error("{message}")]
    Column { column: String, message: String },
    /// More than [`ROW_MAX`] bytes.
    #[error("the row exceeds the limit of 1 MiB")]
    TooLarge,
    /// A template was stopped because it took too much time or memory.
    #[error("{message}")]
    Stopped { column: String, message: String },
    /// Not caused by the request: it may be retried.
    #[error("templates cannot be evaluated now: {0}")]
    Unavailable(String),
}

impl MappingFailure {
    /// Whether a retry may succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The value of the metric's label.
    fn reason(&self) -> &'static str {
        match self {
            Self::ContentType(_) => "content_type",
            Self::Body(_) => "body",
            Self::Column { .. } => "column",
            Self::TooLarge => "too_large",
            Self::Stopped { .. } => "stopped",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl Mapping {
    /// Whether it has values that are evaluated before the answer.
    pub fn is_evaluated(&self) -> bool {
        self.columns.iter().any(|column| column.kind.is_evaluated())
    }

    /// Whether it has templates to run.
    pub fn has_templates(&self) -> bool {
        self.templates().next().is_some()
    }

    /// The columns that templates produce.
    pub fn templates(&self) -> impl Iterator<Item = (&MappedColumn, &Template)> {
        self.columns.iter().filter_map(|column| match &column.kind {
            ColumnKind::Template { template, .. } => Some((column, template)),
            _ => None,
        })
    }

    /// All errors except those in the templates themselves.
    pub fn check_names(&self) -> Vec<CheckError> {
        let mut names = HashSet::new();
        let repeated = self.columns.iter().filter(|column| !names.insert(&column.name));
        repeated.map(|column| CheckError::RepeatedName(column.name.clone())).collect()
    }
}

impl ColumnKind {
    /// Whether its values are evaluated before the answer.
    pub fn is_evaluated(&self) -> bool {
        matches!(self, Self::Path { .. } | Self::Template { .. })
    }
}

impl RowId {
    /// A value that distinguishes a row from every other: derived from the log's identity, the frame, the record in
    /// it and the table.
    pub fn unique(log: &[u8; 16], lsn: u64, record: u32, table: u32) -> [u8; 10] {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update(log);
        hash.update(lsn.to_le_bytes());
        hash.update(record.to_le_bytes());
        hash.update(table.to_le_bytes());
        let hash = hash.finalize();
        std::array::from_fn(|at| hash[at])
    }
}

/// The values of all columns, in order. `evaluated` is the result of [`Evaluator::evaluate`] for this request; a
/// missing value becomes the empty text.
pub fn row<'a>(
    mapping: &'a Mapping,
    request: &MappingRequest<'a>,
    evaluated: &'a [String],
    id: RowId,
) -> Vec<Cow<'a, str>> {
    let mut evaluated = evaluated.iter();
    let values = mapping.columns.iter().map(|column| match &column.kind {
        ColumnKind::Id => Cow::Owned(id.number.to_string()),
        ColumnKind::Uuid => Cow::Owned(uuid_v7(request.received_at, id.unique)),
        ColumnKind::Datetime => Cow::Owned(datetime(request.received_at)),
        ColumnKind::Ip => Cow::Owned(request.ip.to_canonical().to_string()),
        ColumnKind::Body => String::from_utf8_lossy(request.body),
        ColumnKind::Headers => Cow::Owned(go_json(request.headers)),
        ColumnKind::Path { .. } | ColumnKind::Template { .. } => {
            evaluated.next().map_or(Cow::Borrowed(""), |value| Cow::Borrowed(value.as_str()))
        }
    });
    values.collect()
}

/// A time in the contract's format: `2006-01-02T15:04:05.000Z`.
pub fn datetime(at: Micros) -> String {
    static PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    let at = at - at.rem_euclid(1000);
    jiff::Timestamp::from_microsecond(at)
        .map_or_else(|_| at.to_string(), |at| PRINTER.timestamp_to_string(&at))
}

fn uuid_v7(at: Micros, unique: [u8; 10]) -> String {
    let millis = u64::try_from(at.div_euclid(1000)).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &unique).into_uuid().to_string()
}

/// The value of a column of type `path`.
pub fn path_value(
    column: &str,
    (path, default, raw): (&str, Option<&str>, bool),
    body: &Body<'_>,
) -> Result<String, MappingFailure> {
    let found = body.at(&Path::parse(path));
    let json = match (found, default) {
        (Some(json), _) => json,
        (None, Some(default)) if raw => return Ok(default.to_owned()),
        (None, Some(default)) => return Ok(serde_json::Value::from(default).to_string()),
        (None, None) => {
            let message = not_found(path);
            return Err(MappingFailure::Column { column: column.to_owned(), message });
        }
    };
    match json.as_bytes() {
        [b'"', ..] if raw => Ok(serde_json::from_str(json).unwrap_or_else(|_| json.to_owned())),
        _ => Ok(json.to_owned()),
    }
}

/// The message for a client whose path is not in the body.
pub(crate) fn not_found(path: &str) -> String {
    format!("path \"{path}\" not found in the body")
}

impl From<ParseError> for MappingFailure {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::ContentType(of) => Self::ContentType(of),
            ParseError::Invalid(message) => Self::Body(message),
        }
    }
}
