//! Rows as people see them: a JSON object without the fields that are null, times and dates as text, bytes in
//! hexadecimal.

use super::value::scalar_text;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use serde_json::{Map, Value};
use std::fmt::Write;

/// The rows of a batch.
pub(super) fn rows(batch: &RecordBatch) -> Vec<Value> {
    let names = batch.schema();
    let names: Vec<&str> = names.fields().iter().map(|field| field.name().as_str()).collect();
    (0..batch.num_rows()).map(|row| object(&names, batch.columns(), row)).collect()
}

fn object(names: &[&str], columns: &[ArrayRef], row: usize) -> Value {
    let present = names.iter().zip(columns).filter(|(_, column)| !column.is_null(row));
    Value::Object(present.map(|(name, column)| ((*name).to_owned(), shown(column, row))).collect())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other type is a scalar")]
fn shown(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Value::Array((0..items.len()).map(|at| shown(&items, at)).collect())
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            let pairs = (0..entries.len()).map(|at| (keys.value(at).to_owned(), shown(values, at)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        DataType::Struct(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            object(&names, array.as_struct().columns(), row)
        }
        DataType::Timestamp(..) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            // The columns of files hold times within the range of the calendar.
            let time = jiff::Timestamp::from_microsecond(micros);
            Value::String(time.map_or_else(|_| micros.to_string(), |time| time.to_string()))
        }
        DataType::Binary => {
            let mut text = String::new();
            for byte in array.as_binary::<i32>().value(row) {
                write!(text, "{byte:02x}").expect("a string takes everything");
            }
            Value::String(text)
        }
        _ => {
            let text = scalar_text(array, row);
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
    }
}
