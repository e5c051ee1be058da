//! What a stream does with its records, besides their columns.

use super::{Column, ColumnType, Schema};
use crate::batch::{BodyKind, StreamId};
use crate::mapping::Mapping;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::str::FromStr;
use std::sync::Arc;

/// What becomes of records that do not fit the columns.
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
    /// One column with the record as it came.
    Raw,
    /// The texts that a [`Mapping`] makes of a request.
    Mapped,
}

/// The name of the one column of a `raw` stream.
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

    /// Whether its columns are those that were declared, and no others.
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
            format!("no policy is called {text:?}; there are evolve, propose, strict, raw and mapped")
        })
    }
}

/// What becomes of a request with a record that is no JSON object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadLine {
    /// It is quarantined, the others are stored.
    #[default]
    Quarantine,
    /// The request is refused and nothing is stored.
    Reject,
}

/// What the columns of a quarantine table are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuarantineLayout {
    /// `raw`, `reason`, `offset`.
    #[default]
    Plain,
    /// Every column as text, and Tinybird's `c__error_column`, `c__error`, `c__import_id`, `insertion_date`, with the
    /// untouched record in `c__raw`.
    Tinybird,
}

/// Which times are taken. A row outside is quarantined with the reason; the request is not refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRule {
    /// A declared column of timestamps.
    pub column: String,
    /// Seconds by which a row's time may be before its arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    /// Seconds by which it may be after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early: Option<u64>,
    /// Whether a row without a time is quarantined.
    #[serde(default)]
    pub required: bool,
}

/// What a stream's records become, besides frames of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Landing {
    /// Rows of its table.
    pub table: bool,
    /// Files of the records as they came.
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

/// Whether a stream takes records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Active,
    /// They are answered as if they were taken, and counted.
    Drop,
    /// They are refused.
    Reject,
}

/// What the bodies of a stream are, where a contract has streams of one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    Json,
    Xml,
}

impl Payload {
    pub fn of(kind: BodyKind) -> Self {
        if kind == BodyKind::Xml { Self::Xml } else { Self::Json }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Xml => "XML",
        }
    }
}

/// When a stream's file is written: when the first of these holds. In the place of `compactor.max_age`, `max_bytes` and
/// `max_rows`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// Rows.
    pub count: Option<u64>,
    /// Bytes of their source: of the records, or of the values that a mapping made.
    pub bytes: Option<u64>,
    /// Age of the first row.
    pub age_seconds: Option<u64>,
}

/// What may be said of a stream besides its name, policy and columns. Fields that are not given have their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamSettings {
    pub description: String,
    pub on_bad_line: OnBadLine,
    pub time: Option<TimeRule>,
    pub quarantine: QuarantineLayout,
    /// Which of a vendor's projects it belongs to.
    pub project: Option<String>,
    /// Partitions in which its rows are numbered. 0: they are not. Never changes.
    pub partitions: u32,
    /// Declared columns whose values decide a row's partition. None: each request's rows go round. Never changes.
    pub key: Vec<String>,
    pub landing: Landing,
    pub mode: Mode,
    /// `None`: what comes first decides, in contracts where it matters.
    pub payload: Option<Payload>,
    /// Of XML: the name of the elements that are records. `None`: the children of the root are.
    pub row_tag: Option<String>,
    pub conditions: Option<Conditions>,
    /// The table's directory at the destination, if it is not the stream's name. No two streams have the same.
    pub directory: Option<String>,
    /// Of a `mapped` stream: what its columns are made of. It belongs to the versions of its schema.
    #[serde(with = "shared")]
    pub mapping: Option<Arc<Mapping>>,
    /// The receiver that it is an export of: it may be given events that came before there was an export.
    pub receiver: Option<StreamId>,
    /// What a contract must echo: engine, granularity, and so on.
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

/// Partitions of a stream at most: each takes 16 bytes of a frame.
pub const PARTITIONS_MAX: u32 = 1024;

/// Which partition of its stream a row is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// How many there are.
    pub partitions: u32,
    /// The columns whose values decide. None: each request's rows go round.
    pub key: Vec<String>,
}

/// How records become rows: all that a version of a schema stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    pub policy: Policy,
    pub schema: Arc<Schema>,
    pub time: Option<TimeRule>,
    /// If rows are numbered within partitions.
    pub placement: Option<Arc<Placement>>,
    /// Of the policy `mapped`.
    pub mapping: Option<Arc<Mapping>>,
    /// The table's directory at the destination, if it is not the stream's name.
    pub directory: Option<String>,
}

/// What is shared is written as what it is.
mod shared {
    use super::{Arc, Mapping};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde asks for a reference")]
    pub(super) fn serialize<S: Serializer>(value: &Option<Arc<Mapping>>, to: S) -> Result<S::Ok, S::Error> {
        value.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<Mapping>>, D::Error> {
        Ok(Option::<Mapping>::deserialize(from)?.map(Arc::new))
    }
}

/// The columns of a table of this mapping.
pub fn mapped_columns(mapping: &Mapping) -> Vec<Column> {
    mapping.columns.iter().map(|column| Column::new(&column.name, ColumnType::String)).collect()
}

impl Rules {
    /// The same with the columns that rows have: those of the mapping, also where the table has others.
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

    /// Why rows of these rules are no rows of the table as it is `now`; `None` if they are, or belong to another table.
    pub fn misfit(&self, now: &Self) -> Option<String> {
        let mapping = self.mapping.as_deref().filter(|_| self.directory == now.directory)?;
        let table = &now.schema;
        let fits = table.columns.len() == mapping.columns.len()
            && table
                .columns
                .iter()
                .zip(&mapping.columns)
                .all(|(column, mapped)| column.name == mapped.name && column.kind == ColumnType::String);
        let names = |names: Vec<&str>| serde_json::to_string(&names).unwrap_or_default();
        (!fits).then(|| {
            let found = table.columns.iter().map(|column| column.name.as_str()).collect();
            let made = mapping.columns.iter().map(|column| column.name.as_str()).collect();
            format!("the columns of the table are {}, those of the mapping {}", names(found), names(made))
        })
    }

    /// Whether what becomes of a record can be told only with the columns at hand, so that it is decided before the
    /// answer and noted in the frame.
    pub fn are_judged(&self) -> bool {
        self.policy.is_declared() || self.time.is_some()
    }
}
