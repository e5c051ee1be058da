//! Checks that declared columns form a valid table.
#![deny(clippy::wildcard_enum_match_arm)]

use super::{Column, ColumnType, DECIMAL_DIGITS_MAX, PARTITIONS_MAX, Placement, TimeRule, system};
use std::collections::{HashMap, HashSet};

/// The maximum length of a stream's directory.
const DIRECTORY_BYTES_MAX: usize = 512;
/// The maximum length of a declared column's name.
const NAME_BYTES_MAX: usize = 255;
/// The maximum number of keys from the record to a value.
const PATH_KEYS_MAX: usize = 32;
/// The maximum nesting depth of a type.
const DEPTH_MAX: usize = 16;
/// The maximum length of a fixed string, in bytes.
const FIXED_BYTES_MAX: u32 = 1 << 20;
/// No contract counts in units finer than nanoseconds.
const EPOCH_DIGITS_MAX: u8 = 9;

/// Why a set of columns is not a valid table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("a column name must be 1 to {NAME_BYTES_MAX} bytes long")]
    Name,
    #[error("the name '{0}' is reserved for a system column")]
    Reserved(String),
    #[error("duplicate column name '{0}'")]
    Twice(String),
    #[error("column '{column}': {reason}")]
    Column { column: String, reason: String },
    #[error("columns '{first}' and '{second}' read their values from the same place in the record")]
    SamePath { first: String, second: String },
    #[error("the value of column '{inner}' lies inside the value of column '{outer}'")]
    WithinPath { outer: String, inner: String },
    #[error("too many Parquet columns: {found}, the limit is {max}")]
    TooMany { found: usize, max: usize },
    #[error("the stream's policy requires at least one column")]
    Empty,
    #[error("a mapped stream requires a mapping, and no other stream may have one")]
    Mapping,
    #[error("a mapped stream can land only in its table")]
    Landing,
    #[error(
        "'{0}' is not a valid directory: use only letters, digits, '_', '.', '-', '=' and '/', and no path segment that is empty, '.' or '..'"
    )]
    Directory(String),
    #[error("the directory '{0}' already belongs to another stream")]
    DirectoryTaken(String),
    #[error("the time rule's column '{0}' is not a declared timestamp column")]
    Time(String),
    #[error("a stream must have 1 to {PARTITIONS_MAX} partitions")]
    Partitions,
    #[error("column '{column}' cannot be a key: {reason}")]
    Key { column: String, reason: &'static str },
    #[error("the partitions, the keys and the types of the keys cannot change after the stream is created")]
    Placement,
}

impl SchemaError {
    /// An error about one column.
    pub fn column(column: &Column, reason: impl Into<String>) -> Self {
        Self::Column { column: column.name.clone(), reason: reason.into() }
    }
}

/// Checks declared columns; `places_max` is `limits.columns_max`.
pub(super) fn columns(columns: &[Column], places_max: usize) -> Result<(), SchemaError> {
    let found = columns.iter().map(|column| column.kind.leaves()).sum();
    if found > places_max {
        return Err(SchemaError::TooMany { found, max: places_max });
    }
    let mut names = HashSet::new();
    for column in columns {
        if column.name.is_empty() || column.name.len() > NAME_BYTES_MAX {
            return Err(SchemaError::Name);
        }
        if system::is_reserved(&column.name) {
            return Err(SchemaError::Reserved(column.name.clone()));
        }
        if !names.insert(&column.name) {
            return Err(SchemaError::Twice(column.name.clone()));
        }
        kind(&column.kind, 0).map_err(|reason| SchemaError::column(column, reason))?;
        let keys = column.keys().len();
        if keys == 0 || keys > PATH_KEYS_MAX {
            return Err(SchemaError::column(column, format!("a path must have 1 to {PATH_KEYS_MAX} keys")));
        }
        if column.epoch_digits.is_some_and(|digits| digits > EPOCH_DIGITS_MAX) {
            let reason = format!("epoch_digits must be at most {EPOCH_DIGITS_MAX}");
            return Err(SchemaError::column(column, reason));
        }
        if column.epoch_digits.is_some() && !has_times(&column.kind) {
            return Err(SchemaError::column(column, "epoch_digits is valid only for timestamps"));
        }
    }
    paths(columns)
}

fn paths(columns: &[Column]) -> Result<(), SchemaError> {
    let mut taken: HashMap<&[String], &Column> = HashMap::new();
    for column in columns {
        if let Some(first) = taken.insert(column.keys(), column) {
            let (first, second) = (first.name.clone(), column.name.clone());
            return Err(SchemaError::SamePath { first, second });
        }
    }
    for inner in columns {
        let keys = inner.keys();
        for depth in 1..keys.len() {
            if let Some(outer) = keys.get(..depth).and_then(|keys| taken.get(keys)) {
                let (outer, inner) = (outer.name.clone(), inner.name.clone());
                return Err(SchemaError::WithinPath { outer, inner });
            }
        }
    }
    Ok(())
}

/// Whether the type is a timestamp, or a list or map of timestamps.
fn has_times(kind: &ColumnType) -> bool {
    match kind {
        ColumnType::Timestamp => true,
        ColumnType::List(item) | ColumnType::Map(item) => has_times(item),
        ColumnType::String
        | ColumnType::FixedString(_)
        | ColumnType::Uuid
        | ColumnType::Int8
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::UInt32
        | ColumnType::UInt64
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. }
        | ColumnType::Bool
        | ColumnType::Date
        | ColumnType::Binary
        | ColumnType::Struct(_)
        | ColumnType::Json => false,
    }
}

fn kind(of: &ColumnType, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err("its type is nested too deeply".to_owned());
    }
    match of {
        ColumnType::FixedString(bytes) if !(1..=FIXED_BYTES_MAX).contains(bytes) => {
            Err(format!("a fixed string must be 1 to {FIXED_BYTES_MAX} bytes long"))
        }
        ColumnType::Decimal { precision, scale }
            if !(1..=DECIMAL_DIGITS_MAX).contains(precision) || scale > precision =>
        {
            Err(format!(
                "a decimal must have a precision of 1 to {DECIMAL_DIGITS_MAX} and a scale no larger than it"
            ))
        }
        ColumnType::List(item) | ColumnType::Map(item) => kind(item, depth + 1),
        ColumnType::Struct(fields) if fields.is_empty() => {
            Err("a struct must have at least one field".to_owned())
        }
        ColumnType::Struct(fields) => {
            let mut names = HashSet::new();
            for field in fields {
                if !names.insert(&field.name) {
                    return Err(format!("duplicate field name '{}'", field.name));
                }
                kind(&field.kind, depth + 1)?;
            }
            Ok(())
        }
        ColumnType::String
        | ColumnType::FixedString(_)
        | ColumnType::Uuid
        | ColumnType::Int8
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::UInt32
        | ColumnType::UInt64
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. }
        | ColumnType::Bool
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::Binary
        | ColumnType::Json => Ok(()),
    }
}

/// Checks that the path is a valid directory for a stream's files.
pub fn check_directory(path: &str) -> Result<(), SchemaError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'=');
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_plain);
    let good = path.len() <= DIRECTORY_BYTES_MAX && path.split('/').all(is_part);
    if good { Ok(()) } else { Err(SchemaError::Directory(path.to_owned())) }
}

impl super::Rules {
    /// Checks that these rules are valid; `places_max` is `limits.columns_max`. Defaults are checked where values
    /// are parsed: `columns::check_defaults`.
    pub fn check(&self, places_max: usize) -> Result<(), SchemaError> {
        columns(&self.schema.columns, places_max)?;
        if self.policy.is_declared() && self.schema.columns.is_empty() {
            return Err(SchemaError::Empty);
        }
        if (self.policy == super::Policy::Mapped) != self.mapping.is_some() {
            return Err(SchemaError::Mapping);
        }
        if let Some(mapping) = &self.mapping {
            columns(&super::mapped_columns(mapping), places_max)?;
        }
        if let Some(placement) = &self.placement {
            self.check_placement(placement)?;
        }
        match &self.time {
            Some(rule) => self.check_time(rule),
            None => Ok(()),
        }
    }

    fn check_placement(&self, placement: &Placement) -> Result<(), SchemaError> {
        if !(1..=PARTITIONS_MAX).contains(&placement.partitions) {
            return Err(SchemaError::Partitions);
        }
        let columns = &self.schema.columns;
        if let Some(column) = columns.iter().find(|column| system::is_of_placement(&column.name)) {
            return Err(SchemaError::Reserved(column.name.clone()));
        }
        for (at, key) in placement.key.iter().enumerate() {
            let reason = match self.schema.named(key) {
                _ if !self.policy.is_declared() => "the stream's policy has no declared columns",
                None => "the stream has no such column",
                Some(_) if placement.key[..at].contains(key) => "it is listed twice",
                Some(column) if !column.kind.is_key() => "its type is not valid for a key",
                Some(column) if column.default.is_some() => "it has a default",
                Some(_) => continue,
            };
            return Err(SchemaError::Key { column: key.clone(), reason });
        }
        Ok(())
    }

    /// Checks that every row would be in the same partition under `next`.
    ///
    /// # Errors
    /// If some row would be in another partition.
    pub fn keeps_placement(&self, next: &Self) -> Result<(), SchemaError> {
        let key = self.placement.iter().flat_map(|placement| &placement.key);
        let kind = |rules: &Self, name: &str| rules.schema.named(name).map(|column| column.kind.clone());
        let same = self.placement == next.placement
            && key.into_iter().all(|name| kind(self, name) == kind(next, name));
        if same { Ok(()) } else { Err(SchemaError::Placement) }
    }

    fn check_time(&self, rule: &TimeRule) -> Result<(), SchemaError> {
        let column = self.schema.named(&rule.column);
        let timestamp = column.is_some_and(|column| column.kind == ColumnType::Timestamp);
        // A raw stream has no column that could hold a time.
        if timestamp && self.policy != super::Policy::Raw {
            return Ok(());
        }
        Err(SchemaError::Time(rule.column.clone()))
    }
}
