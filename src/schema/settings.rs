//! Everything a stream configures about its records except the columns.

use super::{Column, ColumnType, Schema};
use crate::batch::{BodyKind, StreamId};
use crate::formats::json;
use crate::mapping::Mapping;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::str::FromStr;
use std::sync::Arc;

/// How a stream treats records that do not fit its columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// New fields become columns at once; values that do not fit are rescued.
    #[default]
    Evolve,
    /// New fields are rescued and proposed; rows with a value that does not fit are quarantined.
    Propose,
    /// New fields are ignored and counted; rows with a value that does not fit are quarantined.
    Strict,
    /// One column with the record exactly as received.
    Raw,
    /// The texts that a [`Mapping`] produces from a request.
    Mapped,
}

/// The name of the only column of a `raw` stream.
pub const RAW_COLUMN: &str = "data";

impl Policy {
    pub const ALL: [Self; 5] = [Self::Evolve, Self::Propose, Self::Strict, Self::Raw, Self::Mapped];

    pub fn name(self) -> &'static str {
        match self {
            Self::Evolve => "evolve",
            Self::Propose => "propose",
            Self::Strict => "strict",
            Self::Raw => "raw",
            Self::Mapped => "mapped",
        }
    }

    /// Whether its columns are exactly the declared ones.
    pub fn is_declared(self) -> bool {
        matches!(self, Self::Propose | Self::Strict)
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|policy| policy.name() == text);
        found.ok_or_else(|| {
            format!("unknown policy {text:?}: expected evolve, propose, strict, raw or mapped")
        })
    }
}

/// How a request with a record that is not a JSON object is handled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadLine {
    /// The bad record is quarantined, the others are stored.
    #[default]
    Quarantine,
    /// The request is rejected and nothing is stored.
    Reject,
}

/// The columns of a quarantine table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuarantineLayout {
    /// `raw`, `reason`, `offset`.
    #[default]
    Plain,
    /// Every column as text, plus Tinybird's `c__error_column`, `c__error`, `c__import_id` and `insertion_date`,
    /// with the untouched record in `c__raw`.
    Tinybird,
}

/// The accepted range of row times. A row outside it is quarantined with the reason; the request is not rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRule {
    /// A declared timestamp column.
    pub column: String,
    /// The maximum number of seconds by which a row's time may precede its arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    /// The maximum number of seconds by which it may follow its arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early: Option<u64>,
    /// Whether a row without a time is quarantined.
    #[serde(default)]
    pub required: bool,
}

/// What Forebay writes for a stream's records besides the frames of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Landing {
    /// Rows of the stream's table.
    pub table: bool,
    /// Files with the records as received.
    pub raw: Option<RawFormat>,
}

impl Default for Landing {
    fn default() -> Self {
        Self { table: true, raw: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawFormat {
    Ndjson,
    Cbor,
}

/// Whether a stream accepts records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Active,
    /// Records are acknowledged as if they were stored, and counted.
    Drop,
    /// Records are rejected.
    Reject,
}

/// The body format of a stream, in contracts where each stream has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    Json,
    Xml,
}

impl Payload {
    pub fn for_kind(kind: BodyKind) -> Self {
        if kind == BodyKind::Xml { Self::Xml } else { Self::Json }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Xml => "XML",
        }
    }
}

/// When a stream's file is written: as soon as one of these holds. Replaces `compactor.max_age`, `max_bytes` and
/// `max_rows`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileConditions {
    /// Rows.
    pub count: Option<u64>,
    /// Bytes of their source: of the records, or of the values that a mapping produced.
    pub bytes: Option<u64>,
    /// Age of the first row.
    pub age_seconds: Option<u64>,
}

/// The settings of a stream besides its name, policy and columns. Settings that are not given have their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamSettings {
    pub description: String,
    pub on_bad_line: OnBadLine,
    pub time: Option<TimeRule>,
    pub quarantine: QuarantineLayout,
    /// The vendor's project that the stream belongs to.
    pub project: Option<String>,
    /// The number of partitions in which its rows are numbered. 0: rows are not numbered. Never changes.
    pub partitions: u32,
    /// Declared columns whose values decide a row's partition. Empty: the rows of each request are distributed
    /// round-robin. Never changes.
    pub key: Vec<String>,
    pub landing: Landing,
    pub mode: Mode,
    /// `None`: the first request decides, in contracts where it matters.
    pub payload: Option<Payload>,
    /// For XML: the name of the elements that are records. `None`: the children of the root element.
    pub row_tag: Option<String>,
    pub conditions: Option<FileConditions>,
    /// The table's directory at the destination, if it differs from the stream's name. Unique among streams.
    pub directory: Option<String>,
    /// For a `mapped` stream: how its columns are produced. Part of the versions of its schema.
    #[serde(with = "shared")]
    pub mapping: Option<Arc<Mapping>>,
    /// The receiver that this stream exports: it may be given events that arrived before the export existed.
    pub receiver: Option<StreamId>,
    /// Vendor settings that a contract must echo: engine, granularity, and so on.
    pub vendor: Map<String, Value>,
}

impl StreamSettings {
    /// How rows are divided among partitions, if they are.
    pub fn placement(&self) -> Option<Arc<Placement>> {
        let Self { partitions, key, .. } = self;
        (*partitions > 0 || !key.is_empty())
            .then(|| Arc::new(Placement { partitions: *partitions, key: key.clone() }))
    }
}

/// The maximum number of partitions of a stream: each takes 16 bytes of a frame.
pub const PARTITIONS_MAX: u32 = 1024;

/// How the partition of a row is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The number of partitions.
    pub partitions: u32,
    /// The columns whose values decide. Empty: the rows of each request are distributed round-robin.
    pub key: Vec<String>,
}

/// How records become rows: everything that a version of a schema covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    pub policy: Policy,
    pub schema: Arc<Schema>,
    pub time: Option<TimeRule>,
    /// Set if rows are numbered within partitions.
    pub placement: Option<Arc<Placement>>,
    /// Set for the policy `mapped`.
    pub mapping: Option<Arc<Mapping>>,
    /// The table's directory at the destination, if it differs from the stream's name.
    pub directory: Option<String>,
}

/// Serializes the shared value itself.
mod shared {
    use super::{Arc, Mapping};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde requires a reference")]
    pub(super) fn serialize<S: Serializer>(value: &Option<Arc<Mapping>>, to: S) -> Result<S::Ok, S::Error> {
        value.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<Mapping>>, D::Error> {
        Ok(Option::<Mapping>::deserialize(from)?.map(Arc::new))
    }
}

/// The columns of a table with this mapping.
pub fn mapped_columns(mapping: &Mapping) -> Vec<Column> {
    mapping.columns.iter().map(|column| Column::new(&column.name, ColumnType::String)).collect()
}

impl Rules {
    /// The same rules with the columns that rows have: those of the mapping, even where the table has others.
    #[must_use]
    pub fn of_rows(self) -> Self {
        match &self.mapping {
            Some(mapping) => {
                let columns = mapped_columns(mapping);
                let version = self.schema.version;
                Self { schema: Arc::new(Schema { version, columns }), ..self }
            }
            None => self,
        }
    }

    /// Why rows under these rules do not fit the table as it is `now`. `None` if they fit, or belong to another
    /// table.
    pub fn misfit(&self, now: &Self) -> Option<String> {
        let mapping = self.mapping.as_deref().filter(|_| self.directory == now.directory)?;
        let table = &now.schema;
        let fits = table.columns.len() == mapping.columns.len()
            && table
                .columns
                .iter()
                .zip(&mapping.columns)
                .all(|(column, mapped)| column.name == mapped.name && column.kind == ColumnType::String);
        let names = |names: Vec<&str>| json::text(&names);
        (!fits).then(|| {
            let found = table.columns.iter().map(|column| column.name.as_str()).collect();
            let made = mapping.columns.iter().map(|column| column.name.as_str()).collect();
            format!("the table has the columns {}, the mapping has {}", names(found), names(made))
        })
    }

    /// Whether the outcome of a record depends on the columns of the moment, so that it is decided before the
    /// answer and noted in the frame.
    pub fn are_judged(&self) -> bool {
        self.policy.is_declared() || self.time.is_some()
    }
}
