//! Whether declared columns make a table.
#![deny(clippy::wildcard_enum_match_arm)]

use super::{Column, ColumnType, DECIMAL_DIGITS_MAX, PARTITIONS_MAX, Placement, TimeRule, system};
use std::collections::{HashMap, HashSet};

/// Longest directory of a stream.
const DIRECTORY_BYTES_MAX: usize = 512;
/// Longest name of a declared column.
const NAME_BYTES_MAX: usize = 255;
/// Keys from the record to a value at most.
const PATH_KEYS_MAX: usize = 32;
/// Types within one another at most.
const DEPTH_MAX: usize = 16;
/// Bytes of a fixed string at most.
const FIXED_BYTES_MAX: u32 = 1 << 20;
/// Finer than nanoseconds no contract counts.
const EPOCH_DIGITS_MAX: u8 = 9;

/// Why columns make no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("a column's name has 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    #[error("the name '{0}' belongs to a system column")]
    Reserved(String),
    #[error("there are two columns of the name '{0}'")]
    Twice(String),
    #[error("column '{column}': {reason}")]
    Column { column: String, reason: String },
    #[error("columns '{first}' and '{second}' take their values from the same place in the record")]
    SamePath { first: String, second: String },
    #[error("the value of column '{inner}' is within that of column '{outer}'")]
    WithinPath { outer: String, inner: String },
    #[error("the columns take {found} places of {max}")]
    TooMany { found: usize, max: usize },
    #[error("a schema of this policy needs at least one column")]
    Empty,
    #[error("a mapped stream has a mapping, and no other stream has one")]
    Mapping,
    #[error("a mapped stream lands in its table and nowhere else")]
    Landing,
    #[error(
        "'{0}' is no directory: it has letters, digits, '_', '.', '-', '=' and '/' only, and none of its parts is empty, '.' or '..'"
    )]
    Directory(String),
    #[error("the directory '{0}' is that of another stream")]
    DirectoryTaken(String),
    #[error("the time rule's column '{0}' is no declared column of timestamps")]
    Time(String),
    #[error("a stream has 1 to {PARTITIONS_MAX} partitions")]
    Partitions,
    #[error("column '{column}' cannot be a key: {reason}")]
    Key { column: String, reason: &'static str },
    #[error("partitions, keys and the types of keys stay as they were when the stream was made")]
    Placement,
}

impl SchemaError {
    /// Something is wrong with one column.
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
            return Err(SchemaError::column(column, format!("a path has 1 to {PATH_KEYS_MAX} keys")));
        }
        if column.epoch_digits.is_some_and(|digits| digits > EPOCH_DIGITS_MAX) {
            let reason = format!("epoch_digits is {EPOCH_DIGITS_MAX} at most");
            return Err(SchemaError::column(column, reason));
        }
        if column.epoch_digits.is_some() && !has_times(&column.kind) {
            return Err(SchemaError::column(column, "epoch_digits is for timestamps"));
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

/// Whether it is one of times, or of lists or maps of them.
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
        return Err("its type is nested too deep".to_owned());
    }
    match of {
        ColumnType::FixedString(bytes) if !(1..=FIXED_BYTES_MAX).contains(bytes) => {
            Err(format!("a fixed string has 1 to {FIXED_BYTES_MAX} bytes"))
        }
        ColumnType::Decimal { precision, scale }
            if !(1..=DECIMAL_DIGITS_MAX).contains(precision) || scale > precision =>
        {
            Err(format!("a decimal has 1 to {DECIMAL_DIGITS_MAX} digits, not more of them behind the point"))
        }
        ColumnType::List(item) | ColumnType::Map(item) => kind(item, depth + 1),
        ColumnType::Struct(fields) if fields.is_empty() => Err("a struct has fields".to_owned()),
        ColumnType::Struct(fields) => {
            let mut names = HashSet::new();
            for field in fields {
                if !names.insert(&field.name) {
                    return Err(format!("there are two fields of the name '{}'", field.name));
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

/// Whether files may stand there.
pub fn check_directory(path: &str) -> Result<(), SchemaError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'=');
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_plain);
    let good = path.len() <= DIRECTORY_BYTES_MAX && path.split('/').all(is_part);
    if good { Ok(()) } else { Err(SchemaError::Directory(path.to_owned())) }
}

impl super::Rules {
    /// Whether these rules can be kept; `places_max` is `limits.columns_max`. Defaults are checked where values are
    /// read: `columns::check_defaults`.
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
                _ if !self.policy.is_declared() => "the policy of the stream has no declared columns",
                None => "there is no such column",
                Some(_) if placement.key[..at].contains(key) => "it is one already",
                Some(column) if !column.kind.is_key() => "values of its type cannot be keys",
                Some(column) if column.default.is_some() => "it has a default",
                Some(_) => continue,
            };
            return Err(SchemaError::Key { column: key.clone(), reason });
        }
        Ok(())
    }

    /// Whether every row would be in the same partition under `next`.
    ///
    /// # Errors
    /// If it would not.
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
        // A raw stream has no columns that a time could be in.
        if timestamp && self.policy != super::Policy::Raw {
            return Ok(());
        }
        Err(SchemaError::Time(rule.column.clone()))
    }
}
