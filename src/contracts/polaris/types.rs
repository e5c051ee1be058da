//! Maps the contract's data types to columns and back.
#![deny(clippy::wildcard_enum_match_arm)]

use super::TIME;
use crate::schema::{Column, ColumnType};

/// Integers in a time column are milliseconds.
const MILLIS: u8 = 3;

/// The column of a declaration.
///
/// # Errors
/// A message for the client if the type is unknown or does not hold plain values.
pub(super) fn column(name: &str, data_type: &str) -> Result<Column, String> {
    let kind = kind(data_type).map_err(|why| format!("column {name:?}: {why}"))?;
    let epoch_digits = (kind == ColumnType::Timestamp).then_some(MILLIS);
    Ok(Column { declared: Some(data_type.to_owned()), epoch_digits, ..Column::new(name, kind) })
}

/// The column that every table has.
pub(super) fn time() -> Column {
    let declared = Some("timestamp".to_owned());
    Column { declared, epoch_digits: Some(MILLIS), ..Column::new(TIME, ColumnType::Timestamp) }
}

fn kind(data_type: &str) -> Result<ColumnType, String> {
    let list = |item| ColumnType::List(Box::new(item));
    Ok(match data_type {
        "long" | "bigint" => ColumnType::Int64,
        "double" => ColumnType::Float64,
        "float" => ColumnType::Float32,
        "string" | "varchar" | "ipAddress" | "ipPrefix" => ColumnType::String,
        "timestamp" => ColumnType::Timestamp,
        "json" | "complex<json>" => ColumnType::Json,
        "longArray" => list(ColumnType::Int64),
        "doubleArray" => list(ColumnType::Float64),
        "floatArray" => list(ColumnType::Float32),
        "stringArray" => list(ColumnType::String),
        "HLLSketch"
        | "thetaSketch"
        | "quantilesDoublesSketch"
        | "longStringPair"
        | "variance"
        | "ingest_timeseries"
        | "geo" => {
            return Err(format!("{data_type} requires aggregation, but events are stored as received"));
        }
        _ => {
            return Err(format!(
                "{data_type:?} is not a data type; use long, bigint, float, double, string, varchar, ipAddress, \
                 ipPrefix, timestamp, json, longArray, floatArray, doubleArray or stringArray"
            ));
        }
    })
}

/// The contract's type of a column: the declared one if this contract declared it, otherwise the nearest.
pub(super) fn data_type(column: &Column) -> &str {
    let declared = column.declared.as_deref();
    declared.filter(|word| kind(word).as_ref() == Ok(&column.kind)).unwrap_or_else(|| nearest(&column.kind))
}

/// Returns whether this contract declared the column. Others were discovered in data or declared by another contract.
pub(super) fn is_declared(column: &Column) -> bool {
    column.declared.as_deref().is_some_and(|word| kind(word).as_ref() == Ok(&column.kind))
}

/// The nearest type of the contract. Columns of other origin may have types that the contract does not have.
fn nearest(kind: &ColumnType) -> &'static str {
    match kind {
        ColumnType::Int8
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::UInt32
        | ColumnType::UInt64 => "long",
        ColumnType::Float32 => "float",
        ColumnType::Float64 | ColumnType::Decimal { .. } => "double",
        ColumnType::Timestamp | ColumnType::Date => "timestamp",
        ColumnType::String
        | ColumnType::FixedString(_)
        | ColumnType::Uuid
        | ColumnType::Bool
        | ColumnType::Binary => "string",
        ColumnType::List(item) => match nearest(item) {
            "long" => "longArray",
            "float" => "floatArray",
            "double" => "doubleArray",
            "string" => "stringArray",
            _ => "json",
        },
        ColumnType::Map(_) | ColumnType::Struct(_) | ColumnType::Json => "json",
    }
}

/// The data type of a new column for the SQL type of a `CAST`.
pub(super) fn of_sql(sql_type: &str) -> Option<&'static str> {
    Some(match sql_type {
        "bigint" | "integer" | "int" => "long",
        "double" => "double",
        "float" | "real" => "float",
        "varchar" | "char" => "string",
        "timestamp" => "timestamp",
        _ => return None,
    })
}

/// Returns whether a cast to the SQL type yields values of the column type.
pub(super) fn is_cast_to(sql_type: &str, kind: &ColumnType) -> bool {
    match sql_type {
        "bigint" | "integer" | "int" => *kind == ColumnType::Int64,
        "double" => *kind == ColumnType::Float64,
        "float" | "real" => matches!(kind, ColumnType::Float32 | ColumnType::Float64),
        "varchar" | "char" => *kind == ColumnType::String,
        "timestamp" => *kind == ColumnType::Timestamp,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_come_back_as_they_were_said() {
        for known in [
            "long",
            "bigint",
            "float",
            "double",
            "string",
            "varchar",
            "ipAddress",
            "ipPrefix",
            "timestamp",
            "json",
            "complex<json>",
            "longArray",
            "floatArray",
            "doubleArray",
            "stringArray",
        ] {
            assert_eq!(data_type(&column("c", known).unwrap()), known);
        }
        for refused in ["thetaSketch", "geo", "Long", "", "int64"] {
            assert!(column("c", refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn found_types_have_the_nearest_word() {
        let word = |kind| data_type(&Column::new("c", kind)).to_owned();
        assert_eq!(word(ColumnType::Int64), "long");
        assert_eq!(word(ColumnType::List(Box::new(ColumnType::String))), "stringArray");
        assert_eq!(word(ColumnType::Struct(Vec::new())), "json");
        // Declared by another contract.
        let foreign =
            Column { declared: Some("Nullable(Int32)".to_owned()), ..Column::new("c", ColumnType::Int32) };
        assert_eq!((data_type(&foreign), is_declared(&foreign)), ("long", false));
    }
}
