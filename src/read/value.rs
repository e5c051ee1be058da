//! Rows as JSON objects, in the form in which reads by offset return them wherever they are stored: times as
//! milliseconds since the epoch, dates as text, decimals as text, bytes in base64, nulls as nulls.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::formats::json;
use crate::schema::{Column, ColumnType};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DecimalType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt::Write;

/// Appends a row as a JSON object with the fields of `columns`.
pub(super) fn write_row(out: &mut String, batch: &RecordBatch, row: usize, columns: &[Column]) {
    let fields = columns.iter().map(|column| (column, batch.column_by_name(&column.name)));
    write_object(out, fields, row);
}

fn write_object<'a>(
    out: &mut String,
    fields: impl Iterator<Item = (&'a Column, Option<&'a ArrayRef>)>,
    row: usize,
) {
    out.push('{');
    for (at, (column, array)) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(out, &column.name);
        out.push(':');
        match array {
            Some(array) => write_value(out, array, row, &column.kind),
            // The file was written before the column existed.
            None => out.push_str("null"),
        }
    }
    out.push('}');
}

fn write_text(out: &mut String, text: &str) {
    out.push_str(&json::text(&text));
}

fn write_value(out: &mut String, array: &ArrayRef, row: usize, kind: &ColumnType) {
    if array.is_null(row) {
        out.push_str("null");
        return;
    }
    let found = array.data_type();
    match kind {
        ColumnType::List(item) if matches!(found, DataType::List(_)) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for at in 0..items.len() {
                if at > 0 {
                    out.push(',');
                }
                write_value(out, &items, at, item);
            }
            out.push(']');
        }
        ColumnType::Map(value) if matches!(found, DataType::Map(..)) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            out.push('{');
            for at in 0..entries.len() {
                if at > 0 {
                    out.push(',');
                }
                write_text(out, keys.value(at));
                out.push(':');
                write_value(out, values, at, value);
            }
            out.push('}');
        }
        ColumnType::Struct(fields) if matches!(found, DataType::Struct(_)) => {
            let value = array.as_struct();
            write_object(out, fields.iter().map(|field| (field, value.column_by_name(&field.name))), row);
        }
        ColumnType::Json if *found == DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        // This includes values in a file from when the column had another type.
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
        | ColumnType::List(_)
        | ColumnType::Map(_)
        | ColumnType::Struct(_)
        | ColumnType::Json => write_scalar(out, array, row),
    }
}

/// The JSON text of a value that is not null and not nested.
pub(super) fn scalar_text(array: &ArrayRef, row: usize) -> String {
    let mut text = String::new();
    write_scalar(&mut text, array, row);
    text
}

#[expect(clippy::wildcard_enum_match_arm, reason = "Arrow has types that no column is of")]
fn write_scalar(out: &mut String, array: &ArrayRef, row: usize) {
    macro_rules! number {
        ($of:ty) => {
            show(out, array.as_primitive::<$of>().value(row))
        };
    }
    match array.data_type() {
        // The shortest text that parses to the same number.
        DataType::Float32 => out.push_str(&json::text(&array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => out.push_str(&json::text(&array.as_primitive::<Float64Type>().value(row))),
        DataType::Boolean => show(out, array.as_boolean().value(row)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Decimal128(precision, scale) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            write_text(out, &Decimal128Type::format_decimal(value, *precision, *scale));
        }
        DataType::Decimal256(precision, scale) => {
            let value = array.as_primitive::<Decimal256Type>().value(row);
            write_text(out, &Decimal256Type::format_decimal(value, *precision, *scale));
        }
        DataType::Timestamp(..) => {
            show(out, array.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1000));
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days));
            write_text(out, &date.map_or_else(|_| days.to_string(), |date| date.to_string()));
        }
        DataType::Binary => write_text(out, &BASE64_STANDARD.encode(array.as_binary::<i32>().value(row))),
        DataType::Utf8 => write_text(out, array.as_string::<i32>().value(row)),
        // No column has another type.
        _ => out.push_str("null"),
    }
}

fn show(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BodyKind;
    use crate::columns::{BodyOrigin, RowLimits, Rows};
    use crate::schema::{Policy, Rules, Schema};
    use std::sync::Arc;

    #[test]
    fn every_type_comes_back_as_the_contract_has_it() {
        let columns = [
            ("i8", "int8", "-128", "-128"),
            ("i64", "int64", "12345678901234567", "12345678901234567"),
            ("u64", "uint64", "18446744073709551615", "18446744073709551615"),
            ("f32", "float32", "0.1", "0.1"),
            ("f64", "float64", "1e300", "1e+300"),
            ("b", "bool", "true", "true"),
            ("s", "string", r#""a \"quoted\" \u00e9""#, r#""a \"quoted\" é""#),
            ("dec", "decimal(38, 2)", "-12.5", r#""-12.50""#),
            ("big", "decimal(76, 0)", "123", r#""123""#),
            ("t", "timestamp", r#""1969-12-31T23:59:59.9996Z""#, "-1"),
            ("d", "date", r#""2026-11-21""#, r#""2026-11-21""#),
            ("bin", "binary", r#""AAEC""#, r#""AAEC""#),
            ("l", "list<decimal(3, 1)>", "[1.5, null]", r#"["1.5",null]"#),
            ("m", "map<string, int32>", r#"{"k": 1}"#, r#"{"k":1}"#),
            ("o", "struct<x: date, y: string>", r#"{"x": "2020-01-01"}"#, r#"{"x":"2020-01-01","y":null}"#),
            ("j", "json", r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            ("n", "int32", "null", "null"),
        ];
        let definitions: Vec<Column> =
            columns.iter().map(|(name, kind, ..)| Column::new(*name, kind.parse().unwrap())).collect();
        let schema = Arc::new(Schema { version: 1, columns: definitions.clone() });
        let rules = Rules { policy: Policy::Strict, schema, ..Rules::default() };
        let limits =
            RowLimits { columns_max: 100, received_at_column: true, lsn_column: true, record_column: true };
        let mut rows = Rows::new(&rules, limits);
        let fields: Vec<String> =
            columns.iter().map(|(name, _, sent, _)| format!("\"{name}\":{sent}")).collect();
        let counts = rows.append(
            format!("{{{}}}", fields.join(",")).as_bytes(),
            BodyKind::Lines,
            BodyOrigin { lsn: 1, received_at: 0 },
        );
        assert_eq!(counts.stored, 1, "{:?}", rows.take_bad());
        let mut out = String::new();
        write_row(&mut out, &rows.finish(1).unwrap().batch, 0, &definitions);
        let expected: Vec<String> =
            columns.iter().map(|(name, _, _, back)| format!("\"{name}\":{back}")).collect();
        assert_eq!(out, format!("{{{}}}", expected.join(",")));
    }
}
