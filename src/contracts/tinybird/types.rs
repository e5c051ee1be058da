//! Maps the types of Tinybird's schemas (`Array(Nullable(Int16))`) to column types and back.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::schema::ColumnType;

/// The longest `FixedString`, in bytes.
const FIXED_STRING_MAX: u32 = 1 << 20;
/// The deepest nesting of types.
const DEPTH_MAX: usize = 12;

/// The meaning of a type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meaning {
    pub(super) kind: ColumnType,
    pub(super) nullable: bool,
    /// For times, integers count units of 10^-n seconds.
    pub(super) epoch_digits: Option<u8>,
}

/// Parses a type.
pub(super) fn meaning(text: &str) -> Result<Meaning, String> {
    read(text.trim(), 0)
}

/// The type inside `Nullable(…)`, which the contract shows separately, or the type itself.
pub(super) fn without_nullable(text: &str) -> &str {
    match split(text) {
        Ok(("Nullable", Some(inner))) => inner.trim(),
        _ => text,
    }
}

fn read(text: &str, depth: usize) -> Result<Meaning, String> {
    if depth > DEPTH_MAX {
        return Err(format!("types are nested deeper than {DEPTH_MAX}"));
    }
    let deeper = depth.saturating_add(1);
    let (name, arguments) = split(text)?;
    if let Some(kind) = plain(name) {
        return match arguments {
            None => Ok(not_null(kind)),
            Some(_) => Err(format!("'{name}' takes no arguments")),
        };
    }
    let only = || {
        let given = arguments.filter(|text| !text.trim().is_empty());
        given.ok_or_else(|| format!("'{name}' needs an argument"))
    };
    match name {
        // The arguments only affect storage.
        "JSON" => Ok(not_null(ColumnType::Json)),
        "DateTime" | "DateTime32" | "DateTime64" => time(text, name, arguments),
        "FixedString" => {
            let bytes = only()?.trim().parse().ok().filter(|bytes| (1..=FIXED_STRING_MAX).contains(bytes));
            let bytes =
                bytes.ok_or_else(|| format!("'{text}': the length must be 1 to {FIXED_STRING_MAX} bytes"))?;
            Ok(not_null(ColumnType::FixedString(bytes)))
        }
        "Decimal" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => {
            decimal(text, name, only()?).map(not_null)
        }
        "Nullable" => {
            let inner = read(only()?, deeper)?;
            if inner.nullable || matches!(inner.kind, ColumnType::List(_) | ColumnType::Map(_)) {
                return Err(format!("'{text}': this type cannot be inside Nullable"));
            }
            Ok(Meaning { nullable: true, ..inner })
        }
        "LowCardinality" => read(only()?, deeper),
        "Array" => {
            let item = read(only()?, deeper)?;
            Ok(not_null(ColumnType::List(Box::new(item.kind))))
        }
        "Map" => {
            let (key, value) = map(text, only()?)?;
            if !matches!(read(key, deeper)?.kind, ColumnType::String | ColumnType::FixedString(_)) {
                return Err(format!("'{text}': the keys of a Map must be String"));
            }
            let value = read(value, deeper)?;
            Ok(not_null(ColumnType::Map(Box::new(value.kind))))
        }
        _ => Err(format!("'{name}' is not a type that can be ingested")),
    }
}

fn not_null(kind: ColumnType) -> Meaning {
    Meaning { kind, nullable: false, epoch_digits: None }
}

/// The types without arguments.
fn plain(name: &str) -> Option<ColumnType> {
    Some(match name {
        "Int8" => ColumnType::Int8,
        "Int16" => ColumnType::Int16,
        "Int32" => ColumnType::Int32,
        "Int64" => ColumnType::Int64,
        "UInt8" => ColumnType::UInt8,
        "UInt16" => ColumnType::UInt16,
        "UInt32" => ColumnType::UInt32,
        "UInt64" => ColumnType::UInt64,
        // 2^127 has 39 digits. 2^255 has 77, of which 76 fit.
        "Int128" | "UInt128" => ColumnType::Decimal { precision: 39, scale: 0 },
        "Int256" | "UInt256" => ColumnType::Decimal { precision: 76, scale: 0 },
        "Float32" => ColumnType::Float32,
        "Float64" => ColumnType::Float64,
        "Bool" | "Boolean" => ColumnType::Bool,
        "String" => ColumnType::String,
        "UUID" => ColumnType::Uuid,
        "Date" | "Date32" => ColumnType::Date,
        _ => return None,
    })
}

/// A time: the number of fractional digits of the seconds, and a zone.
fn time(text: &str, name: &str, arguments: Option<&str>) -> Result<Meaning, String> {
    let (digits, zone) = match (name, arguments) {
        ("DateTime64", None) => ("3", None),
        ("DateTime64", Some(text)) => text.split_once(',').map_or((text, None), |(n, zone)| (n, Some(zone))),
        (_, zone) => ("0", zone),
    };
    zone.map_or(Ok(()), utc)?;
    let digits: Option<u8> = digits.trim().parse().ok().filter(|digits| *digits <= 9);
    let digits = digits.ok_or_else(|| format!("'{text}': a time must have 0 to 9 fractional digits"))?;
    Ok(Meaning { epoch_digits: Some(digits), ..not_null(ColumnType::Timestamp) })
}

/// Splits `Decimal(10, 2)` into the name and the text in parentheses.
fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    let (name, arguments) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => {
            let inner = rest.strip_suffix(')').ok_or_else(|| format!("'{text}' has no closing bracket"))?;
            (name.trim_end(), Some(inner))
        }
    };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(format!("'{text}' is not a type"));
    }
    Ok((name, arguments))
}

/// Key and value type of a map, split at the first comma outside parentheses.
fn map<'a>(text: &str, arguments: &'a str) -> Result<(&'a str, &'a str), String> {
    let mut depth = 0_u32;
    let comma = arguments.char_indices().find(|(_, character)| {
        match character {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        *character == ',' && depth == 0
    });
    let (key, value) = comma.map_or(("", ""), |(at, _)| arguments.split_at(at));
    let value = value.trim_start_matches(',').trim();
    if key.trim().is_empty() || value.is_empty() {
        return Err(format!("'{text}': a Map needs a key type and a value type"));
    }
    Ok((key.trim(), value))
}

fn decimal(text: &str, name: &str, arguments: &str) -> Result<ColumnType, String> {
    let wrong = || format!("'{text}': a Decimal must have 1 to 76 digits, and a scale no larger than that");
    let number = |text: &str| text.trim().parse::<u8>().map_err(|_| wrong());
    let (precision, scale) = match name {
        "Decimal32" => (9, number(arguments)?),
        "Decimal64" => (18, number(arguments)?),
        "Decimal128" => (38, number(arguments)?),
        "Decimal256" => (76, number(arguments)?),
        _ => match arguments.split_once(',') {
            None => (number(arguments)?, 0),
            Some((precision, scale)) => (number(precision)?, number(scale)?),
        },
    };
    if !(1..=76).contains(&precision) || scale > precision {
        return Err(wrong());
    }
    Ok(ColumnType::Decimal { precision, scale })
}

/// Refuses other zones than UTC. Times without a zone are UTC, so a column in another zone would silently be off by
/// hours.
fn utc(zone: &str) -> Result<(), String> {
    let zone = zone.trim().trim_matches('\'');
    if matches!(zone, "UTC" | "Etc/UTC" | "GMT") {
        return Ok(());
    }
    Err(format!(
        "time zone '{zone}' is not supported: times are stored in UTC, use DateTime or DateTime('UTC')"
    ))
}

/// The type of a column that was not declared in this contract's notation.
pub(super) fn name(kind: &ColumnType, epoch_digits: Option<u8>) -> String {
    match kind {
        ColumnType::String | ColumnType::Binary => "String".to_owned(),
        ColumnType::FixedString(bytes) => format!("FixedString({bytes})"),
        ColumnType::Uuid => "UUID".to_owned(),
        ColumnType::Int8 => "Int8".to_owned(),
        ColumnType::Int16 => "Int16".to_owned(),
        ColumnType::Int32 => "Int32".to_owned(),
        ColumnType::Int64 => "Int64".to_owned(),
        ColumnType::UInt8 => "UInt8".to_owned(),
        ColumnType::UInt16 => "UInt16".to_owned(),
        ColumnType::UInt32 => "UInt32".to_owned(),
        ColumnType::UInt64 => "UInt64".to_owned(),
        ColumnType::Float32 => "Float32".to_owned(),
        ColumnType::Float64 => "Float64".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("Decimal({precision}, {scale})"),
        ColumnType::Bool => "Bool".to_owned(),
        ColumnType::Timestamp => match epoch_digits {
            Some(0) => "DateTime".to_owned(),
            digits => format!("DateTime64({})", digits.unwrap_or(6)),
        },
        ColumnType::Date => "Date".to_owned(),
        ColumnType::List(item) => format!("Array({})", name(item, epoch_digits)),
        ColumnType::Map(value) => format!("Map(String, {})", name(value, epoch_digits)),
        ColumnType::Struct(_) | ColumnType::Json => "JSON".to_owned(),
    }
}
