//! Turns rejected records into rows of their stream's quarantine table.

use super::parquet::WriteError;
use super::partition::{self, PartitionBy};
use crate::clock::Micros;
use crate::columns::{BadRow, ColumnFailure};
use crate::formats::json::{JsonKind, Parser, Syntax};
use crate::schema::{Column, QuarantineLayout, system};
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Schema};
use std::collections::HashMap;
use std::sync::Arc;

/// The rows of a quarantine table, by day of receipt. `columns` are the stream's columns.
pub(super) fn batches(
    bad: &[BadRow],
    layout: QuarantineLayout,
    columns: &[Column],
) -> Result<Vec<(String, RecordBatch)>, WriteError> {
    if bad.is_empty() {
        return Ok(Vec::new());
    }
    let received_at: Vec<Micros> = bad.iter().map(|bad| bad.origin.received_at).collect();
    let offset = Int64Array::from_iter_values(bad.iter().map(|bad| bad.offset.cast_signed()));
    let mut table = match layout {
        QuarantineLayout::Plain => vec![
            array("raw", BinaryArray::from_iter_values(bad.iter().map(|bad| &bad.raw))),
            array("reason", StringArray::from_iter_values(bad.iter().map(|bad| bad.reason.to_string()))),
            array("offset", offset),
        ],
        QuarantineLayout::Tinybird => tinybird(bad, columns, &received_at, offset),
    };
    let record = bad.iter().map(|bad| i32::try_from(bad.record).unwrap_or(i32::MAX));
    let lsn = bad.iter().map(|bad| bad.origin.lsn.cast_signed());
    table.extend([
        array(system::RECEIVED_AT, times(&received_at)),
        array(system::LSN, Int64Array::from_iter_values(lsn)),
        array(system::RECORD, Int32Array::from_iter_values(record)),
    ]);
    // The same columns for every file, whether or not they contain nulls.
    let fields = table.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema, table.into_iter().map(|(_, array)| array).collect())?;
    Ok(partition::split(&batch, &received_at, &PartitionBy::ReceivedAt)?)
}

type Named = (String, ArrayRef);

fn array(name: &str, array: impl arrow_array::Array + 'static) -> Named {
    (name.to_owned(), Arc::new(array))
}

fn times(micros: &[Micros]) -> TimestampMicrosecondArray {
    TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("UTC")
}

/// Every column as text, followed by Tinybird's columns. `c__import_id` identifies the request by its receipt.
fn tinybird(bad: &[BadRow], columns: &[Column], received_at: &[Micros], offset: Int64Array) -> Vec<Named> {
    let mut texts: Vec<StringBuilder> = columns.iter().map(|_| StringBuilder::new()).collect();
    for row in bad {
        let values = values(&row.raw);
        for (column, texts) in columns.iter().zip(&mut texts) {
            texts.append_option(values.as_ref().ok().and_then(|values| text_at(values, column.keys())));
        }
    }
    let named = columns.iter().zip(texts);
    // Tinybird's own columns take precedence over a column with the same name.
    let named =
        named.filter(|(column, _)| !column.name.starts_with("c__") && column.name != "insertion_date");
    let mut table: Vec<Named> =
        named.map(|(column, mut texts)| array(&column.name, texts.finish())).collect();
    let (mut names, mut messages) =
        (ListBuilder::new(StringBuilder::new()), ListBuilder::new(StringBuilder::new()));
    for row in bad {
        for ColumnFailure { column, message, .. } in row.reason.failures() {
            names.values().append_value(column);
            messages.values().append_value(message);
        }
        names.append(true);
        messages.append(true);
    }
    let receipts = bad.iter().map(|bad| bad.origin.lsn.to_string());
    let raw = bad.iter().map(|bad| String::from_utf8_lossy(&bad.raw));
    table.extend([
        array("c__error_column", names.finish()),
        array("c__error", messages.finish()),
        array("c__import_id", StringArray::from_iter_values(receipts)),
        array("insertion_date", times(received_at)),
        array("c__raw", StringArray::from_iter_values(raw)),
        array("c__offset", offset),
    ]);
    table
}

/// The fields of a record and their source texts; the last of duplicate keys wins. An error if it is not a record.
fn values(record: &[u8]) -> Result<HashMap<String, &[u8]>, Syntax> {
    std::str::from_utf8(record).map_err(|_| Syntax::InvalidUtf8)?;
    let mut values = HashMap::new();
    let mut parser = Parser::document(record);
    if parser.kind()? != JsonKind::Object {
        return Err(Syntax::ExpectedObject);
    }
    parser.enter()?;
    let mut key = parser.first_key()?;
    while let Some(name) = key {
        let value = parser.skip_value()?;
        values.insert(String::from_utf8_lossy(&name.text()).into_owned(), value);
        key = parser.next_key()?;
    }
    Ok(values)
}

/// The value at the end of these keys: the text of a string, the source of anything else.
fn text_at(record: &HashMap<String, &[u8]>, keys: &[String]) -> Option<String> {
    let (first, rest) = keys.split_first()?;
    let raw = *record.get(first)?;
    if !rest.is_empty() {
        return text_at(&values(raw).ok()?, rest);
    }
    match raw.first() {
        Some(b'n') => None,
        Some(b'"') => {
            let text = Parser::document(raw).string().ok()?.text().into_owned();
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        _ => Some(String::from_utf8_lossy(raw).into_owned()),
    }
}
