//! Reads rows by offset: from files as far as they reach, then from the log.
//!
//! Only records that survive power loss are returned: a reader waits for a sync if necessary. Otherwise it could read
//! an offset that is assigned again later.

use super::file::{self, NumberedFile, RowQuery};
use super::preview::Preview;
use super::source::FileSource;
use super::value;
use crate::batch::Batch;
use crate::catalog::{Catalog, FileState, RegisteredFile, Stream};
use crate::columns::{BodyOrigin, RowLimits, Rows};
use crate::compactor::sink::Sink;
use crate::compactor::staged_name;
use crate::error::chain;
use crate::offsets::{Numbering, OffsetCounters};
use crate::schema::Column;
use crate::wal::{self, Lsn, LsnRange};
use arrow_array::RecordBatch;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a reader waits after a start for the scan of the frames that earlier starts left in the log.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum number of files and log scans for one answer.
const STEPS_MAX: usize = 16;
/// Bytes of the log that are read further once the answer has a record.
const LOG_BYTES_MAX: usize = 16 << 20;
/// Memory limit of the cache of file metadata.
const CACHE_BYTES_MAX: usize = 64 << 20;

/// Reads records by their offsets.
pub struct RecordReader {
    /// The numbering that gives the offsets.
    pub offsets: Arc<OffsetCounters>,
    wal: wal::Handle,
    catalog: Arc<Catalog>,
    sink: Sink,
    staged_dir: PathBuf,
    cache: Cache,
}

/// What to read of a partition.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub partition: u32,
    /// The first offset.
    pub from: u64,
    /// Maximum number of records.
    pub limit: usize,
    /// Reading stops at this many bytes of JSON.
    pub bytes_max: usize,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: u64,
    /// A JSON object.
    pub value: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offsets of earlier starts are not known yet; a retry succeeds later.
    #[error("the offsets of earlier records are still being loaded after the start; retry")]
    NotReady,
    #[error("cannot read records: {0}")]
    Failed(String),
}

impl ReadError {
    fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed(chain(error))
    }
}

impl RecordReader {
    /// Reads what `places` reads: the log, the files of the catalog, the destination.
    pub fn new(offsets: Arc<OffsetCounters>, places: Preview) -> Self {
        let Preview { wal, catalog, sink, staged_dir } = places;
        Self { offsets, wal, catalog, sink, staged_dir, cache: Cache::default() }
    }

    /// For each partition, the offset after its last record. All records before it survive power loss.
    pub async fn end_offsets(&self, stream: &Stream) -> Result<Vec<u64>, ReadError> {
        Ok(self.settled(stream).await?.1)
    }

    async fn settled(&self, stream: &Stream) -> Result<(Arc<Numbering>, Vec<u64>), ReadError> {
        if !self.offsets.ready(PATIENCE).await {
            return Err(ReadError::NotReady);
        }
        let numbering = self.offsets.numbering(stream.id, stream.settings.partitions);
        let (last, ends) = numbering.ends();
        self.wal.synced(last).await.map_err(|error| ReadError::failed(&error))?;
        Ok((numbering, ends))
    }

    /// Records of a partition in offset order. Empty if no record is at `from` or above; otherwise at least one.
    pub async fn read(&self, stream: &Arc<Stream>, range: Range) -> Result<Vec<Record>, ReadError> {
        let (numbering, ends) = self.settled(stream).await?;
        let end = ends.get(range.partition as usize).copied().unwrap_or(0);
        let mut read = Vec::new();
        let mut left = range;
        for _ in 0..STEPS_MAX {
            if left.from >= end || left.limit == 0 || left.bytes_max == 0 {
                break;
            }
            let more = self.next(stream, &numbering, left).await?;
            let Some(last) = more.last() else { break };
            left.from = last.offset + 1;
            left.limit -= more.len().min(left.limit);
            let bytes = more.iter().map(|record| record.value.len()).sum();
            left.bytes_max = left.bytes_max.saturating_sub(bytes);
            read.extend(more);
        }
        read.retain(|record| record.offset < end);
        Ok(read)
    }

    /// The next records, from one cut or from the log.
    async fn next(
        &self,
        stream: &Arc<Stream>,
        numbering: &Numbering,
        range: Range,
    ) -> Result<Vec<Record>, ReadError> {
        for _ in 0..STEPS_MAX {
            if let Some(records) = self.read_files(stream, range).await? {
                return Ok(records);
            }
            let Some(start) = numbering.locate(range.partition, range.from) else { return Ok(Vec::new()) };
            let records = self.read_log(stream, range, start)?;
            // Records that are no longer in the log are in a file by now.
            let gap = records.first().is_none_or(|first| first.offset > range.from);
            if !gap || self.files(stream, range)?.is_empty() {
                return Ok(records);
            }
        }
        Ok(Vec::new())
    }

    fn files(&self, stream: &Stream, range: Range) -> Result<Vec<RegisteredFile>, ReadError> {
        let files = self.catalog.files_from(stream.id, range.partition, range.from);
        files.map_err(|error| ReadError::failed(&error))
    }

    /// Reads from files. `None` if the files hold nothing from that offset on.
    async fn read_files(&self, stream: &Arc<Stream>, range: Range) -> Result<Option<Vec<Record>>, ReadError> {
        let mut failure = None;
        // A staged file is removed when it is published, a published one when it is rebuilt.
        for _ in 0..3 {
            let files = self.files(stream, range)?;
            if files.is_empty() {
                return Ok(None);
            }
            match self.read_cut(stream, range, &files).await {
                Ok(records) => return Ok(Some(records)),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or(ReadError::NotReady))
    }

    async fn read_cut(
        &self,
        stream: &Stream,
        range: Range,
        files: &[RegisteredFile],
    ) -> Result<Vec<Record>, ReadError> {
        let mut records: Vec<Record> = Vec::new();
        let mut horizon = u64::MAX;
        let Range { partition, from, limit, bytes_max } = range;
        for file in files {
            let (source, metadata) = self.open(file).await?;
            let numbered = NumberedFile::new(source, metadata).map_err(|error| ReadError::failed(&error))?;
            let wanted = RowQuery { partition, from, limit, bytes_max: bytes_max as u64 };
            let (batches, more) = numbered.rows(wanted).await.map_err(|error| ReadError::failed(&error))?;
            for batch in &batches {
                collect(batch, range, &stream.schema.columns, &mut records)?;
            }
            if more {
                // Rows in another file may come after rows that this file still has.
                horizon = horizon.min(records.last().map_or(from, |record| record.offset));
            }
        }
        records.retain(|record| record.offset <= horizon);
        records.sort_unstable_by_key(|record| record.offset);
        truncate(&mut records, range);
        Ok(records)
    }

    async fn open(&self, file: &RegisteredFile) -> Result<(FileSource, ArrowReaderMetadata), ReadError> {
        let local = if file.state == FileState::Staged {
            Some(self.staged_dir.join(staged_name(&file.object)))
        } else {
            self.sink.local_path(&file.object).map_err(|error| ReadError::failed(&error))?
        };
        let source = if let Some(path) = local {
            FileSource::open(&path).map_err(|error| ReadError::failed(&error))?
        } else {
            let object = self.sink.object(&file.object);
            let (store, path) = object.map_err(|error| ReadError::failed(&error))?;
            // The register has its length, which saves a request to the bucket.
            FileSource::Object { store, path, bytes: file.bytes }
        };
        // A rebuilt file has the name of the file that it replaces.
        let key = (file.object.clone(), file.published_at.unwrap_or(0), file.bytes);
        if let Some(metadata) = self.cache.find(&key) {
            return Ok((source, metadata));
        }
        let metadata = file::load(source.clone()).await.map_err(|error| ReadError::failed(&error))?;
        self.cache.put(key, metadata.clone());
        Ok((source, metadata))
    }

    /// Records from a frame on, in the form that the files will have.
    fn read_log(&self, stream: &Stream, range: Range, start: Lsn) -> Result<Vec<Record>, ReadError> {
        let past = self.wal.past();
        let last = self.wal.watch().borrow().lsn;
        let mut frames = past.read(LsnRange { first: start, last });
        let limits = RowLimits {
            columns_max: self.catalog.columns_max(),
            received_at_column: false,
            lsn_column: false,
            record_column: false,
        };
        let mut rows = Rows::new(&stream.rules(), limits);
        let (mut found, mut bytes, mut passed) = (0, 0, 0);
        while let Some(frame) = frames.next().map_err(|error| ReadError::failed(&error))? {
            passed += frame.payload.len();
            if found > 0 && passed > LOG_BYTES_MAX {
                break;
            }
            // The compactor reports a frame that cannot be decoded and sets it aside: it has no rows.
            let Some(batch) = Batch::decode(frame.payload).ok().filter(|b| b.head.stream == stream.id) else {
                continue;
            };
            let wanted = batch.head.offsets.iter().find(|offsets| offsets.partition == range.partition);
            let Some(offsets) = wanted else { continue };
            let end = offsets.first + u64::from(offsets.count);
            if end <= range.from {
                continue;
            }
            rows.begin(&batch.head.offsets);
            rows.append(batch.body, batch.head.kind, BodyOrigin { lsn: frame.lsn.0, received_at: frame.ts });
            drop(rows.take_bad());
            found += end - offsets.first.max(range.from);
            bytes += batch.body.len();
            if found >= range.limit as u64 || bytes >= range.bytes_max {
                break;
            }
        }
        let mut records = Vec::new();
        if !rows.is_empty() {
            let batch = rows.finish(stream.schema.version).map_err(|error| ReadError::failed(&error))?;
            collect(&batch.batch, range, &batch.schema.columns, &mut records)?;
        }
        truncate(&mut records, range);
        Ok(records)
    }
}

/// The wanted records of a batch, as far as they fit.
fn collect(
    batch: &RecordBatch,
    range: Range,
    columns: &[Column],
    records: &mut Vec<Record>,
) -> Result<(), ReadError> {
    let numbers = file::numbers_of(batch).map_err(|error| ReadError::failed(&error))?;
    for (row, (partition, offset)) in numbers.into_iter().enumerate() {
        let Some(offset) = offset.map(i64::cast_unsigned) else { continue };
        if partition != Some(range.partition.cast_signed()) || offset < range.from {
            continue;
        }
        let mut value = String::new();
        value::write_row(&mut value, batch, row, columns);
        records.push(Record { offset, value });
    }
    Ok(())
}

/// Truncates to the requested number of records, but keeps at least one.
fn truncate(records: &mut Vec<Record>, range: Range) {
    records.truncate(range.limit);
    let mut bytes = 0;
    let over = records.iter().position(|record| {
        bytes += record.value.len();
        bytes > range.bytes_max
    });
    if let Some(over) = over {
        records.truncate(over.max(1));
    }
}

/// Name, publication time and length of a file.
type FileKey = (String, i64, u64);

/// The metadata of recently read files, the most recent last.
#[derive(Default)]
pub struct Cache(Mutex<VecDeque<(FileKey, ArrowReaderMetadata)>>);

impl Cache {
    fn find(&self, key: &FileKey) -> Option<ArrowReaderMetadata> {
        let mut kept = self.0.lock();
        let at = kept.iter().position(|(known, _)| known == key)?;
        let found = kept.remove(at)?;
        let metadata = found.1.clone();
        kept.push_back(found);
        Some(metadata)
    }

    fn put(&self, key: FileKey, metadata: ArrowReaderMetadata) {
        let mut kept = self.0.lock();
        kept.push_back((key, metadata));
        let bytes = |metadata: &ArrowReaderMetadata| metadata.metadata().memory_size();
        let mut total: usize = kept.iter().map(|(_, metadata)| bytes(metadata)).sum();
        while total > CACHE_BYTES_MAX && kept.len() > 1 {
            total -= kept.pop_front().map_or(0, |(_, metadata)| bytes(&metadata));
        }
    }
}
