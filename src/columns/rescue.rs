//! The `_rescued` column: for each row, the values that have no column or do not fit theirs, as one JSON object.

use arrow_array::ArrayRef;
use arrow_array::builder::StringBuilder;
use std::sync::Arc;

/// One rescued value.
#[derive(Debug)]
pub(super) struct Rescue {
    pub(super) row: usize,
    /// Keys from the record down, as JSON source between quotes.
    pub(super) path: Vec<Vec<u8>>,
    /// The value's source text.
    pub(super) raw: Vec<u8>,
}

/// Builds the column for `rows` rows. Most rows are null.
pub(super) fn column(rescues: &mut Vec<Rescue>, rows: usize) -> ArrayRef {
    // Values of undecided columns are added last; the stable sort keeps the order within a row.
    rescues.sort_by_key(|rescue| rescue.row);
    let mut column = StringBuilder::with_capacity(rows, 0);
    for row in rescues.chunk_by(|a, b| a.row == b.row) {
        let at = row.first().map_or(0, |rescue| rescue.row);
        column.append_nulls(at - arrow_array::builder::ArrayBuilder::len(&column));
        let mut object = Vec::new();
        write_object(&mut object, row, 0);
        // The source text of a record that was checked to be UTF-8.
        column.append_value(String::from_utf8_lossy(&object));
    }
    column.append_nulls(rows - arrow_array::builder::ArrayBuilder::len(&column));
    rescues.clear();
    Arc::new(column.finish())
}

/// Writes the values, which share the first `depth` keys, as an object.
fn write_object(object: &mut Vec<u8>, rescues: &[Rescue], depth: usize) {
    // Where a key occurs twice, one value may lie above the other: an empty key keeps both.
    let key = |rescue: &Rescue| rescue.path.get(depth).cloned().unwrap_or_default();
    object.push(b'{');
    for (index, group) in rescues.chunk_by(|a, b| key(a) == key(b)).enumerate() {
        if index > 0 {
            object.push(b',');
        }
        object.push(b'"');
        object.extend_from_slice(&key(&group[0]));
        object.extend_from_slice(b"\":");
        match group {
            [only] if only.path.len() <= depth + 1 => object.extend_from_slice(&only.raw),
            deeper => write_object(object, deeper, depth + 1),
        }
    }
    object.push(b'}');
}
