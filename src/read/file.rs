//! Reads the rows of a partition from an offset on out of one file: by the bounds of row groups and pages, then by
//! binary search, since the offsets of a partition only increase within a file.

use super::source::FileSource;
use crate::schema::system;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use futures_util::TryStreamExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use std::ops::Range;

/// Maximum number of pages whose offsets are read at once, for a partition with few rows.
const PAGES_MAX: usize = 64;

/// The rows to find.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowQuery {
    pub(super) partition: u32,
    pub(super) from: u64,
    /// Maximum number of rows.
    pub(super) limit: usize,
    /// Reading stops at this many bytes of decoded rows.
    pub(super) bytes_max: u64,
}

/// A file with numbered rows.
pub(super) struct NumberedFile {
    source: FileSource,
    metadata: ArrowReaderMetadata,
    partition_column: usize,
    offset_column: usize,
}

/// Rows of a row group in the same page of offsets.
#[derive(Debug, Clone)]
struct RowPage {
    rows: Range<usize>,
    /// The highest offset of any partition in it, if known.
    highest: Option<i64>,
}

pub(super) async fn load(mut source: FileSource) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    ArrowReaderMetadata::load_async(&mut source, options).await
}

impl NumberedFile {
    pub(super) fn new(source: FileSource, metadata: ArrowReaderMetadata) -> Result<Self, ParquetError> {
        let columns = metadata.metadata().file_metadata().schema_descr().columns();
        let find = |name: &str| {
            let found = columns.iter().position(|column| column.path().parts() == [name]);
            found.ok_or_else(|| ParquetError::General(format!("column {name} is missing in the file")))
        };
        let (partition_column, offset_column) = (find(system::PARTITION)?, find(system::OFFSET)?);
        Ok(Self { source, metadata, partition_column, offset_column })
    }

    /// The wanted rows in order, with their offsets, and whether the file may have more of them.
    pub(super) async fn rows(&self, wanted: RowQuery) -> Result<(Vec<RecordBatch>, bool), ParquetError> {
        let mut batches = Vec::new();
        let mut left = wanted.limit;
        for group in 0..self.metadata.metadata().num_row_groups() {
            if !self.may_have(group, wanted) {
                continue;
            }
            if left == 0 {
                return Ok((batches, true));
            }
            let most = left.min(self.rows_within(group, wanted.bytes_max));
            let rows = self.find(group, wanted, most).await?;
            if !rows.is_empty() {
                batches.extend(self.read(group, &rows).await?);
            }
            if rows.len() >= most {
                return Ok((batches, true));
            }
            left -= rows.len();
        }
        Ok((batches, false))
    }

    /// Whether a row group may have wanted rows, according to its bounds.
    fn may_have(&self, group: usize, wanted: RowQuery) -> bool {
        let group = self.metadata.metadata().row_group(group);
        let offsets = group.column(self.offset_column).statistics();
        let partitions = group.column(self.partition_column).statistics();
        let reaches = match offsets {
            Some(Statistics::Int64(bounds)) => {
                bounds.max_opt().is_none_or(|max| max.cast_unsigned() >= wanted.from)
            }
            _ => true,
        };
        let has_partition = match partitions {
            Some(Statistics::Int32(bounds)) => {
                let within = |min: &i32, max: &i32| {
                    (min.cast_unsigned()..=max.cast_unsigned()).contains(&wanted.partition)
                };
                bounds.min_opt().zip(bounds.max_opt()).is_none_or(|(min, max)| within(min, max))
            }
            _ => true,
        };
        reaches && has_partition
    }

    /// About how many rows of a row group fit into this many bytes.
    fn rows_within(&self, group: usize, bytes: u64) -> usize {
        let group = self.metadata.metadata().row_group(group);
        let rows = u64::try_from(group.num_rows()).unwrap_or(1).max(1);
        let row_bytes = u64::try_from(group.total_byte_size()).unwrap_or(0) / rows;
        usize::try_from(bytes / row_bytes.max(1)).unwrap_or(usize::MAX).max(1)
    }

    fn pages(&self, group: usize) -> Vec<RowPage> {
        let metadata = self.metadata.metadata();
        let rows = usize::try_from(metadata.row_group(group).num_rows()).unwrap_or(0);
        let index = metadata.page_index_for_row_group(group);
        let Some(locations) = index.page_locations(self.offset_column) else {
            return vec![RowPage { rows: 0..rows, highest: None }];
        };
        let firsts = locations.iter().map(|page| usize::try_from(page.first_row_index).unwrap_or(0));
        let ends = firsts.clone().skip(1).chain([rows]);
        let highest = |page: usize| match index.column_index(self.offset_column) {
            Some(ColumnIndexMetaData::INT64(bounds)) => bounds.max_value(page).copied(),
            _ => None,
        };
        firsts
            .zip(ends)
            .enumerate()
            .map(|(at, (from, to))| RowPage { rows: from..to, highest: highest(at) })
            .collect()
    }

    /// Up to `limit` wanted rows of a row group.
    async fn find(&self, group: usize, wanted: RowQuery, limit: usize) -> Result<Vec<usize>, ParquetError> {
        let pages = self.pages(group);
        let mut at = self.first_page(group, &pages, wanted).await?;
        let (mut found, mut step) = (Vec::new(), 1);
        while at < pages.len() && found.len() < limit {
            let end = (at + step).min(pages.len());
            let numbers = self.numbers(group, pages[at].rows.start..pages[end - 1].rows.end, wanted).await?;
            let above = numbers.into_iter().filter(|(_, offset)| *offset >= wanted.from);
            found.extend(above.map(|(row, _)| row).take(limit - found.len()));
            (at, step) = (end, (step * 2).min(PAGES_MAX));
        }
        Ok(found)
    }

    /// A page at or before the first one with a wanted row, with no row of the partition between them.
    async fn first_page(
        &self,
        group: usize,
        pages: &[RowPage],
        wanted: RowQuery,
    ) -> Result<usize, ParquetError> {
        let reaches =
            |page: &RowPage| page.highest.is_none_or(|highest| highest.cast_unsigned() >= wanted.from);
        let first = pages.iter().position(reaches).unwrap_or(pages.len());
        let Some(page) = pages.get(first) else { return Ok(first) };
        // If the partitions fill evenly, it is this one.
        let numbers = self.numbers(group, page.rows.clone(), wanted).await?;
        if numbers.iter().any(|(_, offset)| *offset >= wanted.from) {
            return Ok(first);
        }
        let (mut low, mut high) = (first + 1, pages.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let (mut at, mut last) = (middle, None);
            while at < high && last.is_none() {
                let numbers = self.numbers(group, pages[at].rows.clone(), wanted).await?;
                last = numbers.last().map(|(_, offset)| *offset);
                at += 1;
            }
            match last {
                Some(last) if last < wanted.from => low = at,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Those of these rows of a row group that belong to the partition, with their offsets.
    async fn numbers(
        &self,
        group: usize,
        rows: Range<usize>,
        wanted: RowQuery,
    ) -> Result<Vec<(usize, u64)>, ParquetError> {
        let columns = ProjectionMask::leaves(
            self.metadata.metadata().file_metadata().schema_descr(),
            [self.partition_column, self.offset_column],
        );
        let first = rows.start;
        let batches = self.select(group, [rows].into_iter(), columns).await?;
        let mut numbers = Vec::new();
        let mut row = first;
        for batch in &batches {
            for (partition, offset) in numbers_of(batch)? {
                if partition == Some(wanted.partition.cast_signed())
                    && let Some(offset) = offset
                {
                    numbers.push((row, offset.cast_unsigned()));
                }
                row += 1;
            }
        }
        Ok(numbers)
    }

    /// Reads these rows of a row group, with the columns of their records and their offsets.
    async fn read(&self, group: usize, rows: &[usize]) -> Result<Vec<RecordBatch>, ParquetError> {
        let schema = self.metadata.metadata().file_metadata().schema_descr();
        let roots = schema.root_schema().get_fields().iter().enumerate();
        let wanted = roots.filter(|(_, field)| !system::is_reserved(field.name())).map(|(root, _)| root);
        let columns = ProjectionMask::roots(schema, wanted.collect::<Vec<_>>());
        self.select(
            group,
            rows.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1),
            columns,
        )
        .await
    }

    async fn select(
        &self,
        group: usize,
        rows: impl Iterator<Item = Range<usize>>,
        columns: ProjectionMask,
    ) -> Result<Vec<RecordBatch>, ParquetError> {
        let total = usize::try_from(self.metadata.metadata().row_group(group).num_rows()).unwrap_or(0);
        let selection = RowSelection::from_consecutive_ranges(rows, total);
        let builder =
            ParquetRecordBatchStreamBuilder::new_with_metadata(self.source.clone(), self.metadata.clone());
        let stream =
            builder.with_row_groups(vec![group]).with_row_selection(selection).with_projection(columns);
        stream.build()?.try_collect().await
    }
}

/// Partition and offset of a row, if it has them.
type RowNumber = (Option<i32>, Option<i64>);

/// The partition and offset of each row of a batch.
pub(super) fn numbers_of(batch: &RecordBatch) -> Result<Vec<RowNumber>, ParquetError> {
    let column = |name: &str| {
        let found = batch.column_by_name(name);
        found.ok_or_else(|| ParquetError::General(format!("column {name} is missing in the batch")))
    };
    let partitions = column(system::PARTITION)?.as_primitive_opt::<Int32Type>();
    let offsets = column(system::OFFSET)?.as_primitive_opt::<Int64Type>();
    let (Some(partitions), Some(offsets)) = (partitions, offsets) else {
        return Err(ParquetError::General("the partition or offset column has the wrong type".to_owned()));
    };
    Ok(partitions.iter().zip(offsets).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compactor::parquet::FileWriter;
    use arrow_array::{ArrayRef, Int32Array, Int64Array};
    use std::sync::Arc;

    const ROWS: usize = 60_000;

    /// The partition of a row: most are in 0, some in 1, and 2 has rows at the beginning and at the end only.
    fn partition(row: usize) -> i32 {
        match row {
            _ if !(50..ROWS - 50).contains(&row) && row.is_multiple_of(2) => 2,
            _ if row.is_multiple_of(97) => 1,
            _ => 0,
        }
    }

    /// A file of several row groups; partition and offset of each of its rows.
    fn write(path: &std::path::Path) -> Vec<(i32, i64)> {
        let mut next = [0_i64; 3];
        let mut numbers = Vec::new();
        for row in 0..ROWS {
            let partition = partition(row);
            let end = &mut next[usize::try_from(partition).unwrap()];
            numbers.push((partition, *end));
            *end += 1;
        }
        let mut writer = None;
        for (at, part) in numbers.chunks(8192).enumerate() {
            let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
            let partitions = Int32Array::from_iter_values(part.iter().map(|(partition, _)| *partition));
            let batch = RecordBatch::try_from_iter([
                ("n", column((at * 8192..).take(part.len()).map(|n| i64::try_from(n).unwrap()).collect())),
                (system::PARTITION, Arc::new(partitions) as ArrayRef),
                (system::OFFSET, column(part.iter().map(|(_, offset)| *offset).collect())),
            ]);
            let batch = batch.unwrap();
            let writer =
                writer.get_or_insert_with(|| FileWriter::create(path.to_owned(), &batch, true).unwrap());
            writer.write(&batch).unwrap();
            if at == 2 {
                writer.end_row_group().unwrap();
            }
        }
        let writer = writer.unwrap();
        let ranges = writer.offsets();
        assert_eq!(ranges.iter().map(|range| range.partition).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(
            ranges
                .iter()
                .zip(next)
                .all(|(range, end)| (range.first, range.last + 1) == (0, end.cast_unsigned()))
        );
        writer.finish(&[]).unwrap();
        numbers
    }

    #[tokio::test]
    async fn rows_are_found_however_unevenly_partitions_fill() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.parquet");
        let numbers = write(&path);
        let source = FileSource::open(&path).unwrap();
        let metadata = load(source.clone()).await.unwrap();
        assert_eq!(metadata.metadata().num_row_groups(), 2);
        let file = NumberedFile::new(source, metadata).unwrap();
        assert!(file.pages(1).len() > 10);
        for partition in 0..4_u32 {
            let of_it = || numbers.iter().enumerate().filter(|(_, (p, _))| p.cast_unsigned() == partition);
            let end = of_it().count() as u64;
            for from in (0..8).map(|eighth| end * eighth / 8).chain([1, end.saturating_sub(1), end, end + 9])
            {
                let wanted = RowQuery { partition, from, limit: 20, bytes_max: 1 << 20 };
                let (batches, more) = file.rows(wanted).await.unwrap();
                let mut found = Vec::new();
                for batch in &batches {
                    let rows = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>();
                    let rows = rows.values().iter().copied();
                    found.extend(
                        rows.zip(numbers_of(batch).unwrap()).map(|(row, (_, offset))| (row, offset.unwrap())),
                    );
                }
                let all: Vec<(i64, i64)> = of_it()
                    .map(|(row, (_, offset))| (i64::try_from(row).unwrap(), *offset))
                    .filter(|(_, offset)| offset.cast_unsigned() >= from)
                    .collect();
                assert_eq!(found, all[..all.len().min(20)], "partition {partition} from {from}");
                assert!(more || all.len() == found.len());
            }
        }
        // A small byte limit returns few rows, but at least one.
        let wanted = RowQuery { partition: 0, from: 7, limit: 1000, bytes_max: 1 };
        let (batches, more) = file.rows(wanted).await.unwrap();
        assert_eq!((batches.iter().map(RecordBatch::num_rows).sum::<usize>(), more), (1, true));
    }
}
