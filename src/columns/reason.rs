//! Why a record is not stored as a row, as quarantine tables, counters and answers report it.

use crate::clock::Micros;
use crate::formats::json::Syntax;
use std::fmt;

/// The maximum number of characters of a value that a message shows.
const VALUE_CHARS_MAX: usize = 100;

/// Why a record is not stored as a row of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is not a JSON object.
    Record(Syntax),
    /// At least one value does not fit its column.
    Columns(Vec<ColumnFailure>),
    /// Its time is too far before its arrival.
    Late { column: String, at: Micros, by_max: u64 },
    /// Its time is too far after its arrival.
    Early { column: String, at: Micros, by_max: u64 },
    /// It has no time.
    NoTime { column: String },
    /// It is a document in a format other than JSON and cannot be read.
    Document(String),
    /// Its stream's mapping produces no row from it.
    Unmapped(String),
}

/// A column that a record does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnFailure {
    pub column: String,
    pub message: String,
    /// The value is missing, as opposed to having another type.
    pub missing: bool,
}

impl ColumnFailure {
    /// A value that is not valid for its column's type.
    pub(super) fn misfit(column: &str, type_name: &str, raw: &[u8]) -> Self {
        if raw == b"null" {
            return Self::missing(column, "null");
        }
        let text = String::from_utf8_lossy(raw);
        let shown: String = text.chars().take(VALUE_CHARS_MAX).collect();
        let cut = if shown.len() < text.len() { "…" } else { "" };
        let message = format!("value '{shown}{cut}' on column '{column}' is not {type_name}");
        Self { column: column.to_owned(), message, missing: false }
    }

    /// A missing or null value where one is required.
    pub(super) fn missing(column: &str, what: &str) -> Self {
        let message = format!("{what} on column '{column}', which is not nullable and has no default");
        Self { column: column.to_owned(), message, missing: true }
    }
}

/// The kinds of reasons that counters distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonKind {
    Record,
    Misfit,
    Missing,
    Late,
    Early,
    NoTime,
    Unmapped,
}

impl ReasonKind {
    pub const ALL: [Self; 7] =
        [Self::Record, Self::Misfit, Self::Missing, Self::Late, Self::Early, Self::NoTime, Self::Unmapped];

    /// The value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Misfit => "misfit",
            Self::Missing => "missing",
            Self::Late => "late",
            Self::Early => "early",
            Self::NoTime => "no_time",
            Self::Unmapped => "unmapped",
        }
    }
}

/// Number of records of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReasonCounts([u64; ReasonKind::ALL.len()]);

impl ReasonCounts {
    pub fn get(&self, kind: ReasonKind) -> u64 {
        self.0[kind as usize]
    }

    /// `n` records of one kind.
    pub fn just(kind: ReasonKind, n: u64) -> Self {
        let mut counts = Self::default();
        counts.0[kind as usize] = n;
        counts
    }

    pub(super) fn add(&mut self, kind: ReasonKind) {
        self.0[kind as usize] += 1;
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|kind| self.0[kind] + other.0[kind]))
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Reason {
    pub fn kind(&self) -> ReasonKind {
        match self {
            Self::Record(_) | Self::Document(_) => ReasonKind::Record,
            Self::Columns(failures) if failures.iter().all(|failure| failure.missing) => ReasonKind::Missing,
            Self::Columns(_) => ReasonKind::Misfit,
            Self::Late { .. } => ReasonKind::Late,
            Self::Early { .. } => ReasonKind::Early,
            Self::NoTime { .. } => ReasonKind::NoTime,
            Self::Unmapped(_) => ReasonKind::Unmapped,
        }
    }

    /// One column and message per failure; a failure of the whole record has an empty column.
    pub fn failures(&self) -> Vec<ColumnFailure> {
        match self {
            Self::Columns(failures) => failures.clone(),
            Self::Late { column, .. } | Self::Early { column, .. } | Self::NoTime { column } => {
                let missing = matches!(self, Self::NoTime { .. });
                vec![ColumnFailure { column: column.clone(), message: self.to_string(), missing }]
            }
            Self::Record(_) | Self::Document(_) | Self::Unmapped(_) => {
                vec![ColumnFailure { column: String::new(), message: self.to_string(), missing: false }]
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time =
            |at: &Micros| jiff::Timestamp::from_microsecond(*at).map_or(at.to_string(), |at| at.to_string());
        match self {
            Self::Record(syntax) => syntax.fmt(f),
            Self::Columns(failures) => {
                let messages: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
                f.write_str(&messages.join("; "))
            }
            Self::Late { column, at, by_max } => {
                write!(f, "late: '{column}' is {}, more than {by_max} s before its arrival", time(at))
            }
            Self::Early { column, at, by_max } => {
                write!(f, "early: '{column}' is {}, more than {by_max} s after its arrival", time(at))
            }
            Self::Document(reason) | Self::Unmapped(reason) => f.write_str(reason),
            Self::NoTime { column } => write!(f, "no time in column '{column}'"),
        }
    }
}
