//! Converts CSV to records. A cell becomes a number, a list or a boolean where its column has that type, and text
//! otherwise. A cell that does not fit stays text, so that the rules for records decide what happens to it.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::contracts::reject::{Reject, RejectKind};
use crate::schema::{Column, ColumnType};
use csv::{ByteRecord, ReaderBuilder};
use std::borrow::Cow;
use std::str::Utf8Error;

/// The delimiter and the escape character.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notation {
    pub(super) delimiter: u8,
    pub(super) escape: Option<u8>,
}

/// The most columns of CSV without a schema.
const COLUMNS_MAX: usize = 10_000;

/// How to convert the cells of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Text,
    /// JSON if the cell is valid JSON, text otherwise.
    Literal,
    /// The type is guessed from the cell.
    Guess,
}

struct CsvField {
    /// The JSON key, with quotes and colon.
    key: String,
    cell: Cell,
}

/// Converts CSV for declared columns, matched by name if the first line has the columns' names, otherwise by position.
/// Returns at most `bytes_max` bytes.
pub(super) fn records(
    text: &[u8],
    columns: &[Column],
    notation: Notation,
    bytes_max: u64,
) -> Result<Vec<u8>, Reject> {
    let first = first_line(text, notation)?;
    let named = |name: &str| columns.iter().find(|column| column.name == name);
    let header: Option<Vec<&Column>> = first.iter().map(|cell| named(cell)).collect();
    let by_name = header.filter(|found| !found.is_empty());
    let skip = by_name.is_some();
    let columns = by_name.unwrap_or_else(|| columns.iter().collect());
    let targets = columns.into_iter().map(target).collect::<Result<Vec<_>, _>>()?;
    write(text, &targets, skip, notation, bytes_max)
}

/// Converts CSV without a schema. The first line has the names, unless one of its cells looks like a value.
pub(super) fn guessed(text: &[u8], notation: Notation, bytes_max: u64) -> Result<Vec<u8>, Reject> {
    let first = first_line(text, notation)?;
    if first.len() > COLUMNS_MAX {
        return Err(Reject::malformed(format!("The CSV has more than {COLUMNS_MAX} columns")));
    }
    let is_name = |cell: &String| !cell.is_empty() && literal(cell.as_bytes(), Cell::Guess).is_none();
    let unique: std::collections::HashSet<&String> = first.iter().collect();
    let header = first.iter().all(is_name) && unique.len() == first.len();
    let name =
        |(place, cell): (usize, &String)| if header { cell.clone() } else { format!("column_{place:02}") };
    let targets: Vec<CsvField> = first
        .iter()
        .enumerate()
        .map(name)
        .map(|name| CsvField { key: key(&name), cell: Cell::Guess })
        .collect();
    write(text, &targets, header, notation, bytes_max)
}

fn target(column: &Column) -> Result<CsvField, Reject> {
    let cell = match column.kind {
        ColumnType::String | ColumnType::FixedString(_) | ColumnType::Uuid | ColumnType::Binary => Cell::Text,
        ColumnType::Int8
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
        | ColumnType::List(_)
        | ColumnType::Map(_)
        | ColumnType::Struct(_)
        | ColumnType::Json => Cell::Literal,
    };
    match column.keys() {
        [name] => Ok(CsvField { key: key(name), cell }),
        _ => Err(Reject::malformed(format!(
            "CSV cannot hold column '{}', because its JSON path leads into an object; send ndjson",
            column.name
        ))),
    }
}

fn key(name: &str) -> String {
    format!("{}:", serde_json::Value::from(name))
}

fn reader(text: &[u8], notation: Notation) -> csv::Reader<&[u8]> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(notation.delimiter)
        .escape(notation.escape)
        .double_quote(notation.escape.is_none())
        .from_reader(text)
}

fn first_line(text: &[u8], notation: Notation) -> Result<Vec<String>, Reject> {
    let mut first = ByteRecord::new();
    let found = reader(text, notation).read_byte_record(&mut first).map_err(|error| broken(&error))?;
    if !found {
        return Err(Reject::malformed("The CSV has no lines"));
    }
    Ok(first.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect())
}

fn broken(error: &csv::Error) -> Reject {
    Reject::malformed(format!("The CSV cannot be read: {error}"))
}

fn write(
    text: &[u8],
    targets: &[CsvField],
    skip_first: bool,
    notation: Notation,
    bytes_max: u64,
) -> Result<Vec<u8>, Reject> {
    let mut reader = reader(text, notation);
    let mut line = ByteRecord::new();
    let mut records = Vec::new();
    let mut first = true;
    while reader.read_byte_record(&mut line).map_err(|error| broken(&error))? {
        if std::mem::take(&mut first) && skip_first {
            continue;
        }
        let start = records.len();
        if line.len() != targets.len() || write_record(&line, targets, &mut records).is_err() {
            records.truncate(start);
            write_bad(&line, notation, &mut records);
        }
        records.push(b'\n');
        if records.len() as u64 > bytes_max {
            return Err(Reject::new(
                RejectKind::TooLarge,
                format!("the CSV exceeds {bytes_max} bytes when converted to records; split it"),
            ));
        }
    }
    Ok(records)
}

/// Writes a line as a JSON object. Empty cells are left out, except in text columns.
///
/// # Errors
/// If a cell is not UTF-8. The cells of a line together may be although none of them is.
fn write_record(line: &ByteRecord, targets: &[CsvField], records: &mut Vec<u8>) -> Result<(), Utf8Error> {
    records.push(b'{');
    let mut separate = false;
    for (cell, target) in line.iter().zip(targets) {
        let text = std::str::from_utf8(cell)?;
        if text.is_empty() && target.cell != Cell::Text || text == "\\N" {
            continue;
        }
        if std::mem::replace(&mut separate, true) {
            records.push(b',');
        }
        records.extend_from_slice(target.key.as_bytes());
        let value = literal(cell, target.cell);
        let quoted = || Cow::Owned(serde_json::Value::from(text).to_string().into_bytes());
        records.extend_from_slice(&value.map_or_else(quoted, Cow::Borrowed));
    }
    records.push(b'}');
    Ok(())
}

/// Writes a line with the wrong number of cells, or with one that is not UTF-8, as a JSON string of its text, which is
/// later rejected as a record.
fn write_bad(line: &ByteRecord, notation: Notation, records: &mut Vec<u8>) {
    let mut text = Vec::new();
    for (n, cell) in line.iter().enumerate() {
        if n > 0 {
            text.push(notation.delimiter);
        }
        text.extend_from_slice(cell);
    }
    // A JSON string is never an object, and it has no line feeds.
    let text = String::from_utf8_lossy(&text).into_owned();
    records.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

/// The cell's own text, if it is JSON other than a string.
fn literal(cell: &[u8], kind: Cell) -> Option<&[u8]> {
    let cell = cell.trim_ascii();
    match (kind, cell.first()?) {
        (Cell::Text, _) => return None,
        (_, b'-' | b'0'..=b'9' | b't' | b'f') | (Cell::Literal, b'[' | b'{' | b'n') => {}
        _ => return None,
    }
    let mut parser = crate::formats::json::Parser::line(cell);
    parser.skip_value().ok()?;
    (parser.at() == cell.len()).then_some(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_are_utf8_only_together_are_no_record() {
        let notation = Notation { delimiter: b',', escape: None };
        let records = guessed(b"a,b\nx,\xC3\xA9\n\xC3,\xA9\n", notation, 1000).unwrap();
        let records = String::from_utf8(records).unwrap();
        assert_eq!(records, "{\"a\":\"x\",\"b\":\"é\"}\n\"\u{FFFD},\u{FFFD}\"\n");
    }
}
