//! Assigns rows to directories: decided per record, never per batch.

use super::name;
use crate::clock::Micros;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_schema::ArrowError;
use arrow_schema::DataType;
use arrow_select::take::take_record_batch;
use std::collections::BTreeMap;

/// The default partitioning of rows.
const RECEIVED: &str = "received";
const MICROS_A_DAY: i64 = 86_400_000_000;

/// How a table is partitioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionBy {
    /// One directory.
    Nothing,
    /// By receive time: `received_date=YYYY-MM-DD`.
    ReceivedAt,
    /// By a column: `<column>_date=YYYY-MM-DD` of a timestamp or date, `<column>=<value>` of text. The directory
    /// key must not equal the name of a column with other values: readers would take it for that column.
    Column(String),
}

/// Splits a batch. Every row is in exactly one part.
pub(super) fn split(
    batch: &RecordBatch,
    received_at: &[Micros],
    by: &PartitionBy,
) -> Result<Vec<(String, RecordBatch)>, ArrowError> {
    let parts = match by {
        PartitionBy::Nothing => return Ok(vec![(String::new(), batch.clone())]),
        PartitionBy::ReceivedAt => {
            by_day(RECEIVED, received_at.iter().map(|at| Some(at.div_euclid(MICROS_A_DAY))))
        }
        PartitionBy::Column(column) => by_column(batch, column),
    };
    if let [(partition, _)] = &parts[..] {
        return Ok(vec![(partition.clone(), batch.clone())]);
    }
    let part = |(partition, rows)| Ok((partition, take_record_batch(batch, &UInt32Array::from(rows))?));
    parts.into_iter().map(part).collect()
}

type Parts = Vec<(String, Vec<u32>)>;

fn group<K: Ord>(keys: impl Iterator<Item = K>, name: impl Fn(K) -> String) -> Parts {
    let mut rows: BTreeMap<K, Vec<u32>> = BTreeMap::new();
    for (row, key) in (0..).zip(keys) {
        rows.entry(key).or_default().push(row);
    }
    rows.into_iter().map(|(key, rows)| (name(key), rows)).collect()
}

fn by_day(of: &str, days: impl Iterator<Item = Option<i64>>) -> Parts {
    let key = format!("{of}_date");
    group(days, |day| name::partition(&key, day.and_then(date).as_deref()))
}

fn by_column(batch: &RecordBatch, column: &str) -> Parts {
    let rows = batch.num_rows();
    let Some(values) = batch.column_by_name(column) else {
        return group(std::iter::repeat_n((), rows), |()| name::partition(column, None));
    };
    match values.data_type() {
        DataType::Timestamp(..) => {
            let values = values.as_primitive::<TimestampMicrosecondType>();
            by_day(column, values.iter().map(|at| at.map(|at| at.div_euclid(MICROS_A_DAY))))
        }
        DataType::Date32 => {
            by_day(column, values.as_primitive::<Date32Type>().iter().map(|day| day.map(i64::from)))
        }
        DataType::Utf8 => group(values.as_string::<i32>().iter(), |value| name::partition(column, value)),
        _ => group(std::iter::repeat_n((), rows), |()| name::partition(column, None)),
    }
}

/// The date of a day since the epoch, like `2026-11-20`.
pub(super) fn date(day: i64) -> Option<String> {
    let span = jiff::Span::new().try_days(day).ok()?;
    Some(jiff::civil::date(1970, 1, 1).checked_add(span).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("k", column, true)]).unwrap()
    }

    fn split_by(column: ArrayRef, received_at: &[i64], by: &PartitionBy) -> Vec<(String, usize)> {
        let parts = split(&batch(column), received_at, by).unwrap();
        parts.into_iter().map(|(name, rows)| (name, rows.num_rows())).collect()
    }

    #[test]
    fn each_row_goes_to_its_own_day() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let midnight = 20_000 * MICROS_A_DAY;
        let received = [midnight - 1, midnight, midnight + 5];
        let parts = split_by(column, &received, &PartitionBy::ReceivedAt);
        assert_eq!(
            parts,
            [("received_date=2024-10-03".to_owned(), 1), ("received_date=2024-10-04".to_owned(), 2)]
        );
    }

    #[test]
    fn a_column_divides_by_its_values() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("x/y"), None, Some("x/y"), Some("")]));
        let by = PartitionBy::Column("k".to_owned());
        let parts = split_by(column, &[0; 4], &by);
        let expected =
            [("k=__HIVE_DEFAULT_PARTITION__", 1), ("k=__HIVE_DEFAULT_PARTITION__", 1), ("k=x%2Fy", 2)];
        assert_eq!(parts, expected.map(|(name, rows)| (name.to_owned(), rows)));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]));
        let parts = split_by(times, &[0; 2], &by);
        assert_eq!(
            parts,
            [("k_date=__HIVE_DEFAULT_PARTITION__".to_owned(), 1), ("k_date=1969-12-31".to_owned(), 1)]
        );
        let parts =
            split_by(Arc::new(StringArray::from(vec!["a"])), &[0], &PartitionBy::Column("z".to_owned()));
        assert_eq!(parts, [("z=__HIVE_DEFAULT_PARTITION__".to_owned(), 1)]);
    }
}
