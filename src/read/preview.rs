//! The newest records of a stream: from the log while it has them, then from the newest files, or from the archive if
//! the stream has no files of rows.

use crate::batch::{Batch, BodyKind, StreamId};
use crate::catalog::{Catalog, CatalogError, FileKind, FileState, Stream};
use crate::clock::Micros;
use crate::columns;
use crate::compactor::landing;
use crate::compactor::sink::Sink;
use crate::compactor::staged_name;
use crate::error::chain;
use crate::formats::json::records::{BadRecord, RecordSink, walk};
use crate::formats::json::{JsonKind, Parser, Syntax};
use crate::mapping::frames;
use crate::mapping::{ColumnKind, Mapping};
use crate::progress::Progress;
use crate::progress::quarantined::{self, Quarantined, RecentlyQuarantined};
use crate::read::shown;
use crate::read::source::FileSource;
use crate::wal::{Handle, Lsn, LsnRange};
use arrow_array::RecordBatch;
use futures_util::TryStreamExt;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// Number of newest files that are searched for files of a quarantine table.
const ERROR_FILES_MAX: u32 = 100;
/// Maximum number of files read.
const FILES_MAX: u32 = 4;
/// Maximum number of archived frames that are searched for each file.
const PAST_FRAMES_MAX: u64 = 4096;
/// Maximum number of bytes kept of these frames.
const PAST_BYTES_MAX: usize = 16 << 20;

/// The parts needed to read records back.
#[derive(Clone)]
pub struct Preview {
    pub wal: Handle,
    pub catalog: Arc<Catalog>,
    pub sink: Sink,
    pub staged_dir: PathBuf,
}

impl Preview {
    /// The last `limit` records that were accepted as good, oldest first, each with its `_lsn`, `_record` and
    /// `_received_at`.
    pub async fn recent(self, stream: Arc<Stream>, limit: usize) -> Result<Vec<Value>, String> {
        let (wal, id) = (self.wal.clone(), stream.id);
        let (catalog, of) = (Arc::clone(&self.catalog), Arc::clone(&stream));
        let from_log = tokio::task::spawn_blocking(move || {
            let mut newest_first: Vec<Value> = Vec::new();
            let mut lowest: Option<Lsn> = None;
            let mut failure = None;
            wal.look_back(
                |lsn, ts, payload| {
                    let batch = readable(payload)?;
                    let target = batch.head.share_of(id)?;
                    let mapping = mapping_of(&catalog, &of, target.version);
                    let records = mapping.map(|mapping| match mapping {
                        Some(mapping) => mapped_records(lsn, ts, &batch, (id, wal.uuid(), &mapping), limit),
                        None => of_batch(lsn, ts, &batch, &of, limit),
                    });
                    Some((lsn, records))
                },
                |frames| {
                    for (lsn, records) in frames.into_iter().rev() {
                        let records = match records {
                            Ok(records) => records,
                            Err(error) => {
                                failure = Some(chain(&error));
                                return false;
                            }
                        };
                        lowest = Some(lowest.map_or(lsn, |lowest| lowest.min(lsn)));
                        newest_first.extend(records.into_iter().rev());
                        if newest_first.len() >= limit {
                            return false;
                        }
                    }
                    true
                },
            );
            failure.map_or(Ok((newest_first, lowest)), Err)
        });
        let (mut newest_first, lowest) = from_log.await.map_err(|error| error.to_string())??;
        if newest_first.len() < limit {
            let missing = limit - newest_first.len();
            newest_first.extend(if stream.settings.landing.table {
                self.read_files(&stream, lowest, missing).await?
            } else {
                self.read_past(&stream, lowest, missing).await?
            });
        }
        newest_first.truncate(limit);
        newest_first.reverse();
        Ok(newest_first)
    }

    /// The last records below `before` of a stream without a table, newest first.
    async fn read_past(
        &self,
        stream: &Arc<Stream>,
        before: Option<Lsn>,
        limit: usize,
    ) -> Result<Vec<Value>, String> {
        let (preview, stream) = (self.clone(), Arc::clone(stream));
        let read = move || {
            let records = |lsn: Lsn, ts: Micros, batch: &Batch<'_>| of_batch(lsn, ts, batch, &stream, limit);
            preview.past(stream.id, before, limit, records)
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
    }

    /// The results of `keep` for the frames of a stream below `before`, newest first, from the end of the newest cuts.
    /// Blocks.
    fn past<T>(
        &self,
        stream: StreamId,
        before: Option<Lsn>,
        limit: usize,
        keep: impl Fn(Lsn, Micros, &Batch<'_>) -> Vec<T>,
    ) -> Result<Vec<T>, String> {
        let mut before = before.unwrap_or(Lsn(u64::MAX));
        let mut newest_first = Vec::new();
        for file in self.catalog.files(stream, FILES_MAX).map_err(|error| chain(&error))? {
            // A cut may have several files, but is read once.
            let last = file.last_lsn.min(Lsn(before.0.saturating_sub(1)));
            if last < file.first_lsn || newest_first.len() >= limit {
                continue;
            }
            let first = file.first_lsn.max(Lsn(last.0.saturating_sub(PAST_FRAMES_MAX)));
            before = first;
            let mut frames = self.wal.past().read(LsnRange { first, last });
            let (mut kept, mut bytes) = (VecDeque::new(), 0);
            while let Some(frame) = frames.next().map_err(|error| chain(&error))? {
                let batch = readable(frame.payload);
                let Some(batch) = batch.filter(|batch| batch.head.share_of(stream).is_some()) else {
                    continue;
                };
                let found = keep(frame.lsn, frame.ts, &batch);
                bytes += frame.payload.len();
                kept.push_back((found, frame.payload.len()));
                while bytes > PAST_BYTES_MAX && kept.len() > 1 {
                    bytes -= kept.pop_front().map_or(0, |(_, bytes)| bytes);
                }
            }
            newest_first.extend(kept.into_iter().rev().flat_map(|(found, _)| found.into_iter().rev()));
        }
        newest_first.truncate(limit);
        Ok(newest_first)
    }

    /// The last rows below `before`, newest first.
    async fn read_files(
        &self,
        stream: &Stream,
        before: Option<Lsn>,
        limit: usize,
    ) -> Result<Vec<Value>, String> {
        let (catalog, id) = (Arc::clone(&self.catalog), stream.id);
        let files = tokio::task::spawn_blocking(move || catalog.files(id, FILES_MAX)).await;
        let files = files.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
        let mut newest_first = Vec::new();
        for file in files.iter().filter(|file| file.kind == FileKind::Rows && !file.state.is_gone()) {
            if before.is_some_and(|before| file.first_lsn >= before) {
                continue;
            }
            let rows = match file.state {
                FileState::Staged => self.staged_rows(&file.object, limit).await,
                _ => self.published_rows(&file.object, limit).await,
            };
            let below = |row: &Value| {
                before.is_none_or(|before| row["_lsn"].as_u64().is_none_or(|lsn| lsn < before.0))
            };
            newest_first.extend(rows?.into_iter().rev().filter(below));
            if newest_first.len() >= limit {
                break;
            }
        }
        Ok(newest_first)
    }

    async fn published_rows(&self, object: &str, limit: usize) -> Result<Vec<Value>, String> {
        let (store, path) = self.sink.object(object).map_err(|error| chain(&error))?;
        let object = FileSource::of_object(store, path).await.map_err(|error| chain(&error))?;
        last_rows(object, limit).await
    }

    async fn staged_rows(&self, object: &str, limit: usize) -> Result<Vec<Value>, String> {
        let path = self.staged_dir.join(staged_name(object));
        let file = FileSource::open(&path).map_err(|error| error.to_string())?;
        last_rows(file, limit).await
    }
}

/// The result of a [`Finder`].
type Found<T> = Pin<Box<dyn Future<Output = Result<Vec<T>, String>> + Send>>;

/// A function that finds the newest items of a stream.
type Finder<T> = Arc<dyn Fn(Arc<Stream>, usize) -> Found<T> + Send + Sync>;

impl Preview {
    /// [`Preview::recent`] for callers that do not know about files.
    pub fn recent_records(self) -> Arc<dyn Fn(Arc<Stream>, usize) -> Found<Value> + Send + Sync> {
        Arc::new(move |stream, limit| Box::pin(self.clone().recent(stream, limit)))
    }

    /// The last requests in the log and the archive, as [`landing::cbor`] encodes them, for the same callers. The
    /// newest is last.
    pub fn recent_requests(self) -> Finder<Vec<u8>> {
        Arc::new(move |stream, limit| {
            let (preview, id) = (self.clone(), stream.id);
            let read = move || preview.requests(id, limit);
            Box::pin(async { tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())? })
        })
    }

    fn requests(&self, stream: StreamId, limit: usize) -> Result<Vec<Vec<u8>>, String> {
        let cbor = |ts: Micros, batch: &Batch<'_>| {
            let mut bytes = Vec::new();
            landing::cbor(batch, ts, &mut bytes);
            bytes
        };
        let (mut newest_first, mut lowest) = (Vec::new(), None);
        self.wal.look_back(
            |lsn, ts, payload| {
                let batch = readable(payload).filter(|batch| batch.head.stream == stream)?;
                Some((lsn, cbor(ts, &batch)))
            },
            |requests| {
                for (lsn, bytes) in requests.into_iter().rev() {
                    lowest = Some(lsn);
                    newest_first.push(bytes);
                }
                newest_first.len() < limit
            },
        );
        if newest_first.len() < limit {
            let missing = limit - newest_first.len();
            let own = |ts: Micros, batch: &Batch<'_>| (batch.head.stream == stream).then(|| cbor(ts, batch));
            let past =
                self.past(stream, lowest, missing, |_, ts, batch| own(ts, batch).into_iter().collect())?;
            newest_first.extend(past);
        }
        newest_first.truncate(limit);
        newest_first.reverse();
        Ok(newest_first)
    }

    /// [`Preview::errors`] for the same callers.
    pub fn recent_errors(
        self,
        progress: &Arc<Progress>,
    ) -> Arc<dyn Fn(Arc<Stream>, usize) -> Found<Quarantined> + Send + Sync> {
        let progress = Arc::clone(progress);
        Arc::new(move |stream, limit| {
            let (preview, progress) = (self.clone(), Arc::clone(&progress));
            Box::pin(async move { preview.errors(&progress.quarantined, stream, limit).await })
        })
    }

    /// The newest quarantined records, newest first: those of this start, then those in the newest files.
    pub async fn errors(
        self,
        recent: &RecentlyQuarantined,
        stream: Arc<Stream>,
        limit: usize,
    ) -> Result<Vec<Quarantined>, String> {
        let mut errors = recent.newest(stream.id, limit);
        if errors.len() >= limit {
            return Ok(errors);
        }
        let (catalog, id) = (Arc::clone(&self.catalog), stream.id);
        let files = tokio::task::spawn_blocking(move || catalog.files(id, ERROR_FILES_MAX)).await;
        let files = files.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
        let wanted = files
            .iter()
            .filter(|file| file.kind == FileKind::Quarantine && !file.state.is_gone())
            .take(FILES_MAX as usize);
        for file in wanted {
            let rows = match file.state {
                FileState::Staged => self.staged_rows(&file.object, limit).await,
                _ => self.published_rows(&file.object, limit).await,
            };
            for error in rows?.iter().rev().map(quarantined_row) {
                if !errors.iter().any(|known| (known.lsn, known.record) == (error.lsn, error.record)) {
                    errors.push(error);
                }
            }
            if errors.len() >= limit {
                break;
            }
        }
        errors.sort_by_key(|error| std::cmp::Reverse((error.lsn, error.record)));
        errors.truncate(limit);
        Ok(errors)
    }
}

/// A row of a quarantine table, of either layout.
fn quarantined_row(row: &Value) -> Quarantined {
    let number = |name: &str| row[name].as_u64().unwrap_or(0);
    let received_at = row["_received_at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let reason = match (&row["reason"], &row["c__error"]) {
        (Value::String(reason), _) => reason.clone(),
        (_, Value::Array(messages)) => {
            messages.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
        }
        _ => String::new(),
    };
    // Bytes are written as two hexadecimal digits each.
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).filter_map(|two| std::str::from_utf8(two).ok());
        digits.filter_map(|two| u8::from_str_radix(two, 16).ok()).collect()
    };
    let raw = row["raw"].as_str().map(bytes);
    let raw = raw.unwrap_or_else(|| row["c__raw"].as_str().unwrap_or("").as_bytes().to_vec());
    Quarantined {
        lsn: number("_lsn"),
        record: number("_record"),
        offset: number("offset").max(number("c__offset")),
        received_at: received_at.map_or(0, jiff::Timestamp::as_microsecond),
        reason,
        excerpt: quarantined::excerpt(&raw),
    }
}

/// The last rows of the last row group.
async fn last_rows(reader: FileSource, limit: usize) -> Result<Vec<Value>, String> {
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|error| chain(&error))?;
    let Some(last) = builder.metadata().num_row_groups().checked_sub(1) else { return Ok(Vec::new()) };
    let rows = usize::try_from(builder.metadata().row_group(last).num_rows()).unwrap_or(0);
    let stream = builder.with_row_groups(vec![last]).with_offset(rows.saturating_sub(limit)).build();
    let batches: Vec<RecordBatch> =
        stream.map_err(|error| chain(&error))?.try_collect().await.map_err(|error| chain(&error))?;
    Ok(batches.iter().flat_map(shown::rows).collect())
}

/// The batch in a frame. One that cannot be decoded has nothing to show: the compactor reports it and sets it aside.
fn readable(payload: &[u8]) -> Option<Batch<'_>> {
    Batch::decode(payload).ok()
}

/// The mapping that was in effect when a frame was answered.
fn mapping_of(
    catalog: &Catalog,
    stream: &Stream,
    version: Option<u32>,
) -> Result<Option<Arc<Mapping>>, CatalogError> {
    Ok(match version {
        Some(version) if version != stream.schema.version => {
            catalog.rules(stream.id, version)?.and_then(|rules| rules.mapping)
        }
        _ => stream.settings.mapping.clone(),
    })
}

/// The last `limit` rows that a mapping makes of a batch. Their row numbers are assigned with their files.
fn mapped_records(
    lsn: Lsn,
    ts: i64,
    batch: &Batch<'_>,
    (stream, log, mapping): (StreamId, [u8; 16], &Arc<Mapping>),
    limit: usize,
) -> Vec<Value> {
    let received_at = jiff::Timestamp::from_microsecond(ts).map(|at| at.to_string()).ok();
    let mut rows = Vec::new();
    let mapped = frames::FrameMapper { stream, mapping, log, evaluator: None };
    let made = mapped.each(lsn.0, ts, batch, true, 0, |record, _, made| {
        let Ok(values) = made else { return };
        let named = mapping.columns.iter().zip(values).map(|(column, value)| {
            let numbered = matches!(column.kind, ColumnKind::Id);
            (column.name.clone(), if numbered { Value::Null } else { json!(value) })
        });
        let mut row: serde_json::Map<String, Value> = named.collect();
        row.insert("_lsn".to_owned(), json!(lsn));
        row.insert("_record".to_owned(), json!(record));
        row.insert("_received_at".to_owned(), json!(received_at));
        rows.push(Value::Object(row));
    });
    if made.is_err() {
        return Vec::new();
    }
    rows.split_off(rows.len().saturating_sub(limit))
}

/// The last `limit` good records of a batch, for any kind of body.
fn of_batch(lsn: Lsn, ts: i64, batch: &Batch<'_>, stream: &Stream, limit: usize) -> Vec<Value> {
    if batch.head.kind != BodyKind::Xml {
        return records(lsn, ts, batch, limit);
    }
    // Unreadable records are listed among the errors.
    let known = columns::known(&stream.schema.columns);
    let Ok(lines) = landing::xml_lines(batch, stream, &known) else { return Vec::new() };
    let mut batch = Batch { body: &lines, ..batch.clone() };
    batch.head.kind = BodyKind::Lines;
    records(lsn, ts, &batch, limit)
}

/// The last `limit` good records of a batch of JSON.
fn records(lsn: Lsn, ts: i64, batch: &Batch<'_>, limit: usize) -> Vec<Value> {
    struct Collect<'a> {
        raw: &'a [u8],
        records: Vec<(u64, &'a [u8])>,
    }
    impl<'a> RecordSink<'a> for Collect<'a> {
        fn record(&mut self, parser: &mut Parser<'a>) -> Result<(), Syntax> {
            if parser.peek() != b'{' {
                return Err(Syntax::ExpectedObject);
            }
            self.raw = parser.skip_value()?;
            Ok(())
        }
        fn accept(&mut self, index: u64) {
            self.records.push((index, self.raw));
        }
        fn reject(&mut self, _bad: BadRecord<'a>) {}
    }
    let mut collect = Collect { raw: &[], records: Vec::new() };
    if walk(batch.body, batch.head.kind, 0, &mut collect).is_err() {
        // It was checked before it was appended; a document that fails now has no records to show.
        return Vec::new();
    }
    let received_at = jiff::Timestamp::from_microsecond(ts).map(|at| at.to_string()).ok();
    let from = collect.records.len().saturating_sub(limit);
    let records = collect.records.into_iter().skip(from).map(|(index, raw)| {
        // Numbers that JSON tools cannot represent are shown as text instead of wrongly.
        let value = if holds_large_integer(raw) { None } else { serde_json::from_slice(raw).ok() };
        let mut value = value.unwrap_or_else(|| json!({"_raw": String::from_utf8_lossy(raw)}));
        value["_lsn"] = json!(lsn);
        value["_record"] = json!(index);
        value["_received_at"] = json!(received_at);
        value
    });
    records.collect()
}

/// Whether the record, which is known to be valid, has an integer beyond 64 bits.
fn holds_large_integer(raw: &[u8]) -> bool {
    let mut parser = Parser::document(raw);
    while parser.at() < raw.len() {
        let number = match parser.kind() {
            // This includes keys.
            Ok(JsonKind::String) => parser.string().map(|_| None),
            Ok(JsonKind::Number) => parser.number().map(Some),
            _ => {
                parser.set_at(parser.at() + 1);
                continue;
            }
        };
        let Ok(number) = number else { return true };
        let text = number.filter(|number| number.integer).and_then(|n| std::str::from_utf8(n.raw).ok());
        if text.is_some_and(|text| text.parse::<i64>().is_err() && text.parse::<u64>().is_err()) {
            return true;
        }
    }
    false
}
