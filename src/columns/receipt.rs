//! Columns whose default is the time of receipt.

use crate::clock::Micros;
use crate::schema::ColumnType;
use arrow::array::{Array, ArrayRef, AsArray, Date32Array, TimestampMicrosecondArray};
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};
use std::sync::Arc;

const MICROS_A_DAY: i64 = 86_400_000_000;

/// The column with the time of receipt of each row in place of null.
pub(super) fn filled(array: &ArrayRef, kind: &ColumnType, received_at: &[Micros]) -> ArrayRef {
    if array.null_count() == 0 {
        return Arc::clone(array);
    }
    if *kind == ColumnType::Date {
        let days = array.as_primitive::<Date32Type>().iter().zip(received_at);
        let days = days.map(|(day, at)| day.or_else(|| i32::try_from(at.div_euclid(MICROS_A_DAY)).ok()));
        return Arc::new(days.collect::<Date32Array>());
    }
    let times = array.as_primitive::<TimestampMicrosecondType>();
    let filled = times.iter().zip(received_at).map(|(time, at)| time.or(Some(*at)));
    Arc::new(filled.collect::<TimestampMicrosecondArray>().with_data_type(times.data_type().clone()))
}
