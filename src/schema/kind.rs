//! Column types, their names, and which type holds the values of which other.
#![deny(clippy::wildcard_enum_match_arm)]

use super::Column;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::str::FromStr;

/// The maximum number of digits of a decimal: what 256 bits hold.
pub const DECIMAL_DIGITS_MAX: u8 = 76;

/// The maximum nesting depth of a type.
const DEPTH_MAX: usize = 16;

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    String,
    /// Text of at most this many bytes.
    FixedString(u32),
    Uuid,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float32,
    Float64,
    /// Exact: `precision` digits, `scale` of them after the point.
    Decimal {
        precision: u8,
        scale: u8,
    },
    Bool,
    /// Microseconds since the epoch, UTC.
    Timestamp,
    Date,
    /// Bytes; base64 in JSON.
    Binary,
    List(Box<ColumnType>),
    /// A map from text to values.
    Map(Box<ColumnType>),
    Struct(Vec<Column>),
    /// Any JSON value, as its source text.
    Json,
}

impl ColumnType {
    /// The number of Parquet columns that the type takes.
    pub fn leaves(&self) -> usize {
        match self {
            Self::List(item) => item.leaves(),
            Self::Map(value) => value.leaves() + 1,
            Self::Struct(fields) => fields.iter().map(|field| field.kind.leaves()).sum(),
            Self::String
            | Self::FixedString(_)
            | Self::Uuid
            | Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::UInt8
            | Self::UInt16
            | Self::UInt32
            | Self::UInt64
            | Self::Float32
            | Self::Float64
            | Self::Decimal { .. }
            | Self::Bool
            | Self::Timestamp
            | Self::Date
            | Self::Binary
            | Self::Json => 1,
        }
    }

    /// The type that holds this column's values and also JSON values of `kind` (`string`, `number`, `boolean`,
    /// `array`, `object`) that did not fit it.
    pub fn wider(&self, kind: &str) -> &'static str {
        let with_numbers = match self {
            Self::List(_) | Self::Struct(_) | Self::Map(_) => return "json",
            Self::Int64 => "float64",
            Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::UInt8
            | Self::UInt16
            | Self::UInt32
            | Self::UInt64 => "int64",
            Self::String
            | Self::FixedString(_)
            | Self::Uuid
            | Self::Float32
            | Self::Float64
            | Self::Decimal { .. }
            | Self::Bool
            | Self::Timestamp
            | Self::Date
            | Self::Binary
            | Self::Json => "string",
        };
        match kind {
            "array" | "object" => "json",
            "number" => with_numbers,
            _ => "string",
        }
    }

    /// Whether its values may decide a row's partition: scalars that are equal if and only if their texts are
    /// equal.
    pub fn is_key(&self) -> bool {
        match self {
            Self::String
            | Self::FixedString(_)
            | Self::Uuid
            | Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::UInt8
            | Self::UInt16
            | Self::UInt32
            | Self::UInt64
            | Self::Decimal { .. }
            | Self::Bool
            | Self::Timestamp
            | Self::Date => true,
            Self::Float32
            | Self::Float64
            | Self::Binary
            | Self::List(_)
            | Self::Map(_)
            | Self::Struct(_)
            | Self::Json => false,
        }
    }

    /// Whether its values are points in time.
    pub fn is_of_time(&self) -> bool {
        match self {
            Self::Timestamp | Self::Date => true,
            Self::String
            | Self::FixedString(_)
            | Self::Uuid
            | Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::UInt8
            | Self::UInt16
            | Self::UInt32
            | Self::UInt64
            | Self::Float32
            | Self::Float64
            | Self::Decimal { .. }
            | Self::Bool
            | Self::Binary
            | Self::List(_)
            | Self::Map(_)
            | Self::Struct(_)
            | Self::Json => false,
        }
    }

    /// Signedness and width in bits of an integer type.
    pub fn integer_bits(&self) -> Option<(bool, u8)> {
        Some(match self {
            Self::Int8 => (true, 8),
            Self::Int16 => (true, 16),
            Self::Int32 => (true, 32),
            Self::Int64 => (true, 64),
            Self::UInt8 => (false, 8),
            Self::UInt16 => (false, 16),
            Self::UInt32 => (false, 32),
            Self::UInt64 => (false, 64),
            Self::String
            | Self::FixedString(_)
            | Self::Uuid
            | Self::Float32
            | Self::Float64
            | Self::Decimal { .. }
            | Self::Bool
            | Self::Timestamp
            | Self::Date
            | Self::Binary
            | Self::List(_)
            | Self::Map(_)
            | Self::Struct(_)
            | Self::Json => return None,
        })
    }

    /// Whether every value of `other` is also a value of this type, unchanged.
    pub fn holds(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        match self {
            // Any value has a JSON text, any scalar a plain text.
            Self::Json => true,
            Self::String => match other {
                Self::String
                | Self::FixedString(_)
                | Self::Uuid
                | Self::Int8
                | Self::Int16
                | Self::Int32
                | Self::Int64
                | Self::UInt8
                | Self::UInt16
                | Self::UInt32
                | Self::UInt64
                | Self::Float32
                | Self::Float64
                | Self::Decimal { .. }
                | Self::Bool
                | Self::Timestamp
                | Self::Date
                | Self::Json => true,
                Self::List(_) | Self::Map(_) | Self::Struct(_) | Self::Binary => false,
            },
            Self::FixedString(bytes) => matches!(other, Self::FixedString(others) if bytes >= others),
            Self::Decimal { precision, scale } => other.is_within_decimal(*precision, *scale),
            Self::Float64 => {
                *other == Self::Float32 || other.integer_bits().is_some_and(|(_, bits)| bits <= 32)
            }
            Self::Float32 => other.integer_bits().is_some_and(|(_, bits)| bits <= 16),
            Self::List(a) => matches!(other, Self::List(b) if a.holds(b)),
            Self::Map(a) => matches!(other, Self::Map(b) if a.holds(b)),
            Self::Struct(a) => {
                let is_known = |field: &Column| {
                    a.iter().any(|known| known.name == field.name && known.kind.holds(&field.kind))
                };
                matches!(other, Self::Struct(b) if b.iter().all(is_known))
            }
            Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::UInt8
            | Self::UInt16
            | Self::UInt32
            | Self::UInt64 => {
                let Some((signed, bits)) = self.integer_bits() else { return false };
                other.integer_bits().is_some_and(|(other_signed, other_bits)| match (signed, other_signed) {
                    (true, false) => bits > other_bits,
                    (false, true) => false,
                    _ => bits >= other_bits,
                })
            }
            Self::Uuid | Self::Bool | Self::Timestamp | Self::Date | Self::Binary => false,
        }
    }

    /// Whether a decimal with this many digits, `scale` of them after the point, holds its values.
    fn is_within_decimal(&self, precision: u8, scale: u8) -> bool {
        if let Self::Decimal { precision: p, scale: s } = self {
            return scale >= *s && precision - scale >= p - s;
        }
        let digits = |(_, bits)| match bits {
            8 => 3,
            16 => 5,
            32 => 10,
            _ => 20,
        };
        self.integer_bits().is_some_and(|bits| precision - scale >= digits(bits))
    }

    /// The name that users read and write: `list<struct<a: int64>>`. [`ColumnType::from_str`] parses it.
    pub fn name(&self) -> String {
        let mut text = String::new();
        self.write_name(&mut text);
        text
    }

    fn write_name(&self, text: &mut String) {
        match self {
            Self::FixedString(bytes) => drop(write!(text, "fixedstring({bytes})")),
            Self::Decimal { precision, scale } => drop(write!(text, "decimal({precision}, {scale})")),
            Self::List(item) => {
                text.push_str("list<");
                item.write_name(text);
                text.push('>');
            }
            Self::Map(value) => {
                text.push_str("map<string, ");
                value.write_name(text);
                text.push('>');
            }
            Self::Struct(fields) => {
                text.push_str("struct<");
                for (at, field) in fields.iter().enumerate() {
                    text.push_str(if at > 0 { ", " } else { "" });
                    write_field_name(&field.name, text);
                    text.push_str(": ");
                    field.kind.write_name(text);
                }
                text.push('>');
            }
            Self::String
            | Self::Uuid
            | Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::UInt8
            | Self::UInt16
            | Self::UInt32
            | Self::UInt64
            | Self::Float32
            | Self::Float64
            | Self::Bool
            | Self::Timestamp
            | Self::Date
            | Self::Binary
            | Self::Json => {
                let name = SIMPLE.iter().find(|(_, kind)| kind == self).map(|(name, _)| *name);
                text.push_str(name.expect("the list has every type without parameters"));
            }
        }
    }
}

/// The types without parameters.
const SIMPLE: [(&str, ColumnType); 18] = [
    ("string", ColumnType::String),
    ("uuid", ColumnType::Uuid),
    ("int8", ColumnType::Int8),
    ("int16", ColumnType::Int16),
    ("int32", ColumnType::Int32),
    ("int64", ColumnType::Int64),
    ("uint8", ColumnType::UInt8),
    ("uint16", ColumnType::UInt16),
    ("uint32", ColumnType::UInt32),
    ("uint64", ColumnType::UInt64),
    ("float32", ColumnType::Float32),
    ("float64", ColumnType::Float64),
    ("bool", ColumnType::Bool),
    ("timestamp", ColumnType::Timestamp),
    ("date", ColumnType::Date),
    ("binary", ColumnType::Binary),
    ("json", ColumnType::Json),
    ("text", ColumnType::String),
];

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || matches!(byte, b'_' | b'-' | b'.' | b'$')
}

/// Writes a field's name, as a JSON string where the plain name would be ambiguous.
fn write_field_name(name: &str, text: &mut String) {
    if !name.is_empty() && name.bytes().all(is_plain) {
        text.push_str(name);
    } else {
        text.push_str(&serde_json::Value::from(name).to_string());
    }
}

/// Why a text is not a valid type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid column type: {reason}")]
pub struct TypeError {
    pub text: String,
    pub reason: &'static str,
}

impl FromStr for ColumnType {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let mut reader = TypeReader { rest: text };
        let kind = reader.kind(0).and_then(|kind| {
            reader.skip_space();
            if reader.rest.is_empty() { Ok(kind) } else { Err("unexpected text after the type") }
        });
        kind.map_err(|reason| TypeError { text: text.chars().take(200).collect(), reason })
    }
}

struct TypeReader<'a> {
    rest: &'a str,
}

impl TypeReader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn word(&mut self) -> &str {
        self.skip_space();
        let end = self.rest.bytes().position(|byte| !is_plain(byte)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn take(&mut self, mark: char, missing: &'static str) -> Result<(), &'static str> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(mark).ok_or(missing)?;
        Ok(())
    }

    fn number<T: FromStr>(&mut self) -> Result<T, &'static str> {
        self.word().parse().map_err(|_| "a number is missing or too large")
    }

    fn kind(&mut self, depth: usize) -> Result<ColumnType, &'static str> {
        if depth > DEPTH_MAX {
            return Err("it is nested too deeply");
        }
        let word = self.word().to_ascii_lowercase();
        if let Some((_, kind)) = SIMPLE.iter().find(|(name, _)| *name == word) {
            return Ok(kind.clone());
        }
        match word.as_str() {
            "fixedstring" => {
                self.take('(', "'(' is missing")?;
                let bytes = self.number()?;
                self.take(')', "')' is missing")?;
                Ok(ColumnType::FixedString(bytes))
            }
            "decimal" => {
                self.take('(', "'(' is missing")?;
                let precision = self.number()?;
                self.take(',', "',' is missing")?;
                let scale = self.number()?;
                self.take(')', "')' is missing")?;
                Ok(ColumnType::Decimal { precision, scale })
            }
            "list" => {
                self.take('<', "'<' is missing")?;
                let item = self.kind(depth + 1)?;
                self.take('>', "'>' is missing")?;
                Ok(ColumnType::List(Box::new(item)))
            }
            "map" => {
                self.take('<', "'<' is missing")?;
                if self.kind(depth + 1)? != ColumnType::String {
                    return Err("the keys of a map must be strings");
                }
                self.take(',', "',' is missing")?;
                let value = self.kind(depth + 1)?;
                self.take('>', "'>' is missing")?;
                Ok(ColumnType::Map(Box::new(value)))
            }
            "struct" => self.fields(depth).map(ColumnType::Struct),
            _ => Err("unknown type"),
        }
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<Column>, &'static str> {
        self.take('<', "'<' is missing")?;
        let mut fields = Vec::new();
        loop {
            let name = self.field_name()?;
            self.take(':', "':' is missing after a field name")?;
            fields.push(Column::new(name, self.kind(depth + 1)?));
            self.skip_space();
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        self.take('>', "'>' is missing")?;
        Ok(fields)
    }

    fn field_name(&mut self) -> Result<String, &'static str> {
        self.skip_space();
        if !self.rest.starts_with('"') {
            let name = self.word();
            return if name.is_empty() { Err("a field name is missing") } else { Ok(name.to_owned()) };
        }
        let mut names = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        let name = names.next().and_then(Result::ok).ok_or("a field name is not a valid JSON string")?;
        let end = names.byte_offset();
        // The offset just after the closing quote.
        self.rest = self.rest.get(end..).unwrap_or("");
        Ok(name)
    }
}
