//! Converts columns to a schema of the contract, if the columns did not come from one: those of a sample, for example.
#![deny(clippy::wildcard_enum_match_arm)]

use super::schema::{FieldType, SchemaField, StreamSchema, ValueType};
use crate::schema::{Column, ColumnType};

/// Maximum digits of a decimal in the contract.
const DECIMAL_DIGITS_MAX: u8 = 38;

/// The schema closest to a table's columns. `None` if the table has no columns yet.
pub fn schema_of(columns: &[Column]) -> Option<StreamSchema> {
    let fields: Vec<SchemaField> = columns.iter().map(field).collect();
    (!fields.is_empty()).then_some(StreamSchema { fields, keys: Vec::new(), capture: None })
}

fn field(column: &Column) -> SchemaField {
    let item = ValueType { nullable: column.nullable, kind: kind(&column.kind) };
    SchemaField { name: column.name.clone(), item, metadata: None }
}

fn kind(of: &ColumnType) -> FieldType {
    let item = |of: &ColumnType| Box::new(ValueType { nullable: true, kind: kind(of) });
    match of {
        ColumnType::Bool => FieldType::Boolean,
        ColumnType::Int8 => FieldType::Byte,
        ColumnType::Int16 | ColumnType::UInt8 => FieldType::Short,
        ColumnType::Int32 | ColumnType::UInt16 => FieldType::Integer,
        ColumnType::Int64 | ColumnType::UInt32 => FieldType::Long,
        ColumnType::UInt64 => FieldType::Decimal { precision: 20, scale: 0 },
        ColumnType::Float32 => FieldType::Float,
        ColumnType::Float64 => FieldType::Double,
        ColumnType::Decimal { precision, scale } if *precision <= DECIMAL_DIGITS_MAX => {
            FieldType::Decimal { precision: *precision, scale: *scale }
        }
        ColumnType::Timestamp => FieldType::Timestamp,
        ColumnType::Date => FieldType::Date,
        ColumnType::Binary => FieldType::Binary,
        ColumnType::List(of) => FieldType::Array(item(of)),
        ColumnType::Map(of) => FieldType::Map(item(of)),
        ColumnType::Struct(fields) => FieldType::Struct(fields.iter().map(field).collect()),
        ColumnType::String
        | ColumnType::FixedString(_)
        | ColumnType::Uuid
        | ColumnType::Json
        | ColumnType::Decimal { .. } => FieldType::String,
    }
}
