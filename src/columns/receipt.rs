//! Columns whose default is the time of receipt.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::clock::Micros;
use crate::schema::ColumnType;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Date32Array, TimestampMicrosecondArray};
use std::sync::Arc;

const MICROS_A_DAY: i64 = 86_400_000_000;

/// Replaces the nulls of the column with each row's time of receipt.
pub(super) fn filled(array: &ArrayRef, kind: &ColumnType, received_at: &[Micros]) -> ArrayRef {
    if array.null_count() == 0 {
        return Arc::clone(array);
    }
    match kind {
        ColumnType::Date => {
            let days = array.as_primitive::<Date32Type>().iter().zip(received_at);
            let days = days.map(|(day, at)| day.or_else(|| i32::try_from(at.div_euclid(MICROS_A_DAY)).ok()));
            Arc::new(days.collect::<Date32Array>())
        }
        ColumnType::Timestamp => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            let filled = times.iter().zip(received_at).map(|(time, at)| time.or(Some(*at)));
            Arc::new(filled.collect::<TimestampMicrosecondArray>().with_data_type(times.data_type().clone()))
        }
        // No other type has this default.
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
        | ColumnType::Binary
        | ColumnType::List(_)
        | ColumnType::Map(_)
        | ColumnType::Struct(_)
        | ColumnType::Json => Arc::clone(array),
    }
}
