//! What a stream does with its records, besides their columns.

use super::Schema;
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
}

/// The name of the one column of a `raw` stream.
pub const RAW_COLUMN: &str = "data";

impl Policy {
    pub const ALL: [Self; 4] = [Self::Evolve, Self::Propose, Self::Strict, Self::Raw];

    pub fn name(self) -> &'static str {
        match self {
            Self::Evolve => "evolve",
            Self::Propose => "propose",
            Self::Strict => "strict",
            Self::Raw => "raw",
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
        found
            .ok_or_else(|| format!("no policy is called {text:?}; there are evolve, propose, strict and raw"))
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
}

impl Rules {
    /// Whether what becomes of a record can be told only with the columns at hand, so that it is decided before the
    /// answer and noted in the frame.
    pub fn are_judged(&self) -> bool {
        self.policy.is_declared() || self.time.is_some()
    }
}
