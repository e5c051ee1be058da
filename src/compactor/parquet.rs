//! Writes batches to one Parquet file: zstd, dictionaries where they pay off, statistics, and the file's identity
//! in its metadata.

use super::checksum::{Sum, Summed};
use crate::catalog::OffsetRange;
use crate::schema::system;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::ArrowError;
use arrow_schema::{DataType, Schema};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, Hash};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The number of rows examined to decide whether a column gets a dictionary.
const SAMPLE_ROWS: usize = 4096;
/// A dictionary that would grow beyond this is not started. (The writer gives up at 1 MiB, after the work is done.)
const DICTIONARY_BYTES_MAX: f64 = 512.0 * 1024.0;
/// The maximum number of rows in a row group.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// The maximum number of rows in a page if rows are looked up by number.
const NUMBERED_PAGE_ROWS: usize = 2048;

/// A Parquet file being written.
pub struct FileWriter {
    path: PathBuf,
    schema: Arc<Schema>,
    writer: ArrowWriter<Summed<File>>,
    rows: u64,
    /// Where rows are numbered: the first and the last offset of each partition.
    offsets: Option<BTreeMap<i32, (i64, i64)>>,
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot create {}", .path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: ParquetError,
    },
    #[error("cannot write {}", .path.display())]
    Raw {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot sync {}", .path.display())]
    Sync {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot build a record batch from the rows")]
    Batch(#[from] ArrowError),
}

impl FileWriter {
    /// Starts a file for batches like `first`, whose values decide the encodings. `first` itself is not written
    /// yet. `numbered`: its rows have partitions and offsets, and will be looked up by them.
    pub fn create(path: PathBuf, first: &RecordBatch, numbered: bool) -> Result<Self, WriteError> {
        let write_error = |source| WriteError::Write { path: path.clone(), source };
        let properties = properties(first, numbered).map_err(write_error)?;
        let file = File::create(&path).map_err(|source| WriteError::Create { path: path.clone(), source })?;
        let writer = ArrowWriter::try_new(Summed::new(file), first.schema(), Some(properties));
        let writer = writer.map_err(|source| WriteError::Write { path: path.clone(), source })?;
        let offsets = numbered.then(BTreeMap::new);
        Ok(Self { path, schema: first.schema(), writer, rows: 0, offsets })
    }

    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.rows += batch.num_rows() as u64;
        if let Some(offsets) = &mut self.offsets {
            note_offsets(batch, offsets);
        }
        self.writer.write(batch).map_err(|source| WriteError::Write { path: self.path.clone(), source })
    }

    /// The offsets in the file, by partition.
    pub fn offsets(&self) -> Vec<OffsetRange> {
        let ranges = self.offsets.iter().flatten().map(|(partition, (first, last))| OffsetRange {
            partition: partition.cast_unsigned(),
            first: first.cast_unsigned(),
            last: last.cast_unsigned(),
        });
        ranges.collect()
    }

    /// Encoded bytes so far, including those waiting in memory.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Memory held by the current row group.
    pub fn memory(&self) -> usize {
        self.writer.memory_size()
    }

    /// Ends the current row group and frees its memory.
    pub fn end_row_group(&mut self) -> Result<(), WriteError> {
        self.writer.flush().map_err(|source| WriteError::Write { path: self.path.clone(), source })
    }

    /// Finishes the file, with `about` in its metadata, and syncs it.
    pub fn finish(mut self, about: &[(&str, String)]) -> Result<(PathBuf, Sum), WriteError> {
        let path = self.path;
        for (key, value) in about {
            self.writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), value.clone()));
        }
        let file = self.writer.into_inner();
        let (file, sum) = file.map_err(|source| WriteError::Write { path: path.clone(), source })?.finish();
        file.sync_all().map_err(|source| WriteError::Sync { path: path.clone(), source })?;
        Ok((path, sum))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn note_offsets(batch: &RecordBatch, ranges: &mut BTreeMap<i32, (i64, i64)>) {
    let partitions = batch.column_by_name(system::PARTITION).and_then(|c| c.as_primitive_opt::<Int32Type>());
    let offsets = batch.column_by_name(system::OFFSET).and_then(|c| c.as_primitive_opt::<Int64Type>());
    for (partition, offset) in partitions.into_iter().flatten().zip(offsets.into_iter().flatten()) {
        let (Some(partition), Some(offset)) = (partition, offset) else { continue };
        let (first, last) = ranges.entry(partition).or_insert((offset, offset));
        (*first, *last) = ((*first).min(offset), (*last).max(offset));
    }
}

fn properties(first: &RecordBatch, numbered: bool) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_created_by(concat!("forebay ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    if numbered {
        // A lookup by offset reads a whole page: use smaller pages, with bounds for each.
        properties = properties.set_data_page_row_count_limit(NUMBERED_PAGE_ROWS);
        for column in [system::PARTITION, system::OFFSET] {
            properties =
                properties.set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Page);
        }
    }
    let parquet = ArrowSchemaConverter::new().convert(&first.schema())?;
    let mut leaves = Vec::new();
    for column in first.columns() {
        flatten(column, &mut leaves);
    }
    for (column, values) in parquet.columns().iter().zip(&leaves) {
        if dictionary_pays(values) {
            continue;
        }
        let path = column.path().clone();
        properties = properties.set_column_dictionary_enabled(path.clone(), false);
        if matches!(values.data_type(), DataType::Int64 | DataType::Int32 | DataType::Timestamp(..)) {
            properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(properties.build())
}

/// The arrays of the Parquet columns, in order.
fn flatten(array: &ArrayRef, leaves: &mut Vec<ArrayRef>) {
    match array.data_type() {
        DataType::Struct(_) => array.as_struct().columns().iter().for_each(|field| flatten(field, leaves)),
        DataType::List(_) => flatten(array.as_list::<i32>().values(), leaves),
        DataType::Map(..) => array.as_map().entries().columns().iter().for_each(|part| flatten(part, leaves)),
        _ => leaves.push(Arc::clone(array)),
    }
}

/// Whether a column's values repeat so often that their dictionary stays small.
fn dictionary_pays(values: &ArrayRef) -> bool {
    match values.data_type() {
        DataType::Utf8 => {
            let text = values.as_string::<i32>();
            let bytes = text.values().len() as f64 / (text.len().max(1) as f64) + 4.0;
            distinct(text.iter().flatten()).is_none_or(|distinct| distinct * bytes < DICTIONARY_BYTES_MAX)
        }
        DataType::Int64 => {
            let values = values.as_primitive::<Int64Type>();
            distinct(values.iter().flatten()).is_none_or(|distinct| distinct * 8.0 < DICTIONARY_BYTES_MAX)
        }
        DataType::Float64 => {
            let values = values.as_primitive::<arrow_array::types::Float64Type>();
            let bits = values.iter().flatten().map(f64::to_bits);
            distinct(bits).is_none_or(|distinct| distinct * 8.0 < DICTIONARY_BYTES_MAX)
        }
        // Mostly counters and times: delta encoding beats any dictionary.
        DataType::Timestamp(..) => {
            let values = values.as_primitive::<TimestampMicrosecondType>();
            distinct(values.iter().flatten()).is_none()
        }
        DataType::Int32 => distinct(values.as_primitive::<Int32Type>().iter().flatten()).is_none(),
        _ => true,
    }
}

/// The number of distinct values of the column, estimated from a sample. `None` if the sample does not allow an
/// estimate.
fn distinct<T: Hash>(values: impl Iterator<Item = T>) -> Option<f64> {
    let hasher = hashbrown::DefaultHashBuilder::default();
    let mut seen = hashbrown::HashSet::new();
    let mut sampled = 0_usize;
    for value in values.take(SAMPLE_ROWS) {
        sampled += 1;
        seen.insert(hasher.hash_one(value));
    }
    if sampled < SAMPLE_ROWS / 8 {
        return None;
    }
    let (sampled, seen) = (sampled as f64, seen.len() as f64);
    if seen >= sampled * 0.98 {
        return Some(f64::INFINITY);
    }
    // n draws from N values show N (1 - exp(-n / N)) of them: solved for N by bisection.
    let (mut low, mut high) = (seen, sampled * 64.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if middle * (1.0 - (-sampled / middle).exp()) < seen { low = middle } else { high = middle }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, StringArray};

    fn pays(values: impl IntoIterator<Item = String>) -> bool {
        dictionary_pays(&(Arc::new(StringArray::from_iter_values(values)) as ArrayRef))
    }

    #[test]
    fn a_dictionary_is_for_values_that_come_again() {
        assert!(pays((0..8192).map(|n| format!("city {}", n % 20))));
        assert!(pays((0..8192_u64).map(|n| format!("https://example.com/{}", n * 7919 % 3000))));
        assert!(!pays((0..8192).map(|n| format!("session {n}"))));
        assert!(pays((0..10).map(|n| format!("few {n}"))), "too few to know");
        let ids: Vec<i64> = (0..8192).map(|n| n * 48_271 % 1_000_003).collect();
        assert!(!dictionary_pays(&(Arc::new(Int64Array::from(ids)) as ArrayRef)));
    }
}
