//! One stream in the compactor: its waiting rows, its open files, and the frames that they cover.

mod mapped;
mod raw;
#[cfg(test)]
mod tests;
mod xml;

use super::name;
use super::parquet::{FileWriter, WriteError};
use super::partition::{self, PartitionBy};
use super::quarantine;
use super::rules::Applied;
use crate::batch::{Batch, BodyKind, Target};
use crate::catalog::{Catalog, CatalogError, Counts, Cut, FileKind, Misfit, StagedFile, Stream};
use crate::clock::Micros;
use crate::columns::{BadRow, BodyOrigin, ReasonKind, RowCounts, RowLimits, Rows};
use crate::formats::xml::Known;
use crate::mapping::{self, Evaluator};
use crate::progress::quarantined::{self, Quarantined};
use crate::progress::{OpenRows, Progress};
use crate::schema::{Column, Schema};
use crate::wal::{Lsn, LsnRange};
use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Rows are encoded when there are this many: a batch that fits the cache.
const BATCH_ROWS: usize = 8192;
/// ... or this many values, if each row had one in every column,
const BATCH_CELLS: usize = 1 << 21;
/// ... or this many bytes of source.
const BATCH_BYTES: usize = 4 << 20;
/// A row group that holds more memory than this is ended.
const ROW_GROUP_BYTES: usize = 24 << 20;
/// The maximum number of directories that one cut writes to, each with its own open file.
const PARTITIONS_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Templates cannot be evaluated at the moment.
    #[error(transparent)]
    Mapping(#[from] mapping::MappingFailure),
}

impl From<ArrowError> for TableError {
    fn from(error: ArrowError) -> Self {
        Self::Write(error.into())
    }
}

/// Options that apply to every table.
#[derive(Clone)]
pub(super) struct TableConfig {
    pub(super) partition_by: PartitionBy,
    /// The directory where files are written before they are staged.
    pub(super) scratch_dir: PathBuf,
    pub(super) node: String,
    /// Stores the columns that records introduce.
    pub(super) catalog: Arc<Catalog>,
    pub(super) progress: Arc<Progress>,
    /// Needed for frames that were answered before the mapping had its current form.
    pub(super) evaluator: Arc<Evaluator>,
    /// The log's identity.
    pub(super) log: [u8; 16],
}

pub(super) struct StreamTable {
    pub(super) stream: Arc<Stream>,
    /// The schema version noted in the last frame.
    version: Option<u32>,
    applied: Applied,
    /// Every frame up to here is in a registered file.
    pub(super) checkpoint: Lsn,
    rows: Rows,
    /// The frames that the open files cover.
    written: Option<FrameSpan>,
    /// The frames that the waiting rows cover, which follow those of `written`.
    waiting: Option<FrameSpan>,
    files: BTreeMap<(FileKind, String), FileWriter>,
    raw: raw::RawFiles,
    bad: Vec<BadRow>,
    bad_bytes: usize,
    /// Rows of the open files that turned out to be rescued after they were counted.
    late_rescued: u64,
    /// The number of the last row, where rows are numbered.
    pub(super) numbered: u64,
    /// What the columns of a version determine about the text of XML.
    known: Option<(u32, Known)>,
    /// An older version of the schema, and whether it has the same mapping as the current one.
    answered: Option<(u32, bool)>,
    /// Its frames were written to files before: see [`StreamTable::again`].
    is_past: bool,
}

/// Consecutive frames of one stream.
#[derive(Debug, Clone, Copy)]
struct FrameSpan {
    lsns: LsnRange,
    first_received_at: Micros,
    last_received_at: Micros,
    opened_at: Instant,
    last_at: Instant,
    counts: Counts,
}

/// Whether a table has the columns that records introduced.
enum Evolved {
    /// It does; these files were finished to make way for them.
    Has(Option<Box<FinishedCut>>),
    /// The stream was changed in the meantime, so it cannot.
    HasNoPlace,
}

/// Files finished and synced under scratch names, with the data to register for them.
pub(super) struct FinishedCut {
    pub(super) cut: Cut,
    /// In the order of the cut's files.
    pub(super) paths: Vec<PathBuf>,
    /// The part of the cut's counts that [`StreamTable::append`] did not know yet.
    pub(super) late_rescued: u64,
    /// When the oldest of its frames was received.
    pub(super) first_received_at: Micros,
}

impl StreamTable {
    pub(super) fn new(stream: Arc<Stream>, checkpoint: Lsn, limits: RowLimits) -> Self {
        let applied = Applied::now(&stream);
        Self {
            rows: Rows::new(&applied.rules, limits),
            version: Some(applied.rules.schema.version),
            applied,
            stream,
            checkpoint,
            written: None,
            waiting: None,
            files: BTreeMap::new(),
            raw: raw::RawFiles::default(),
            bad: Vec::new(),
            bad_bytes: 0,
            late_rescued: 0,
            numbered: 0,
            known: None,
            answered: None,
            is_past: false,
        }
    }

    /// A table for past frames: everything under the rules of `stream`, and no new columns.
    pub(super) fn again(stream: Arc<Stream>, limits: RowLimits) -> Self {
        let mut table = Self::new(stream, Lsn::NONE, limits);
        table.is_past = true;
        table.applied.frozen = true;
        table.rows = table.rows.take().frozen();
        table
    }

    /// Takes the records of a frame. Returns their outcome, and a cut if new columns ended the open files.
    pub(super) fn append(
        &mut self,
        lsn: Lsn,
        received_at: Micros,
        (batch, target): (&Batch<'_>, &Target),
        config: &TableConfig,
    ) -> Result<(RowCounts, Vec<FinishedCut>), TableError> {
        let origin = BodyOrigin { lsn: lsn.0, received_at };
        if let Some(mapping) = self.applied.rules.mapping.clone() {
            return self.append_mapped(origin, (batch, target), &mapping, config);
        }
        let own = batch.head.stream == self.stream.id;
        self.rows.begin(if own { &batch.head.offsets } else { &[] });
        if batch.head.kind == BodyKind::Xml {
            return self.append_xml(origin, batch, config);
        }
        self.keep_raw(lsn, received_at, batch, None);
        let records = u64::from(target.good) + u64::from(target.bad);
        if records > self.batch_rows() as u64 {
            return self.append_in_parts(origin, batch, config);
        }
        let counts = self.rows.append(batch.body, batch.head.kind, origin);
        self.took(origin, counts, counts_of(counts, batch.body.len()), config)
    }

    /// Accounts for a frame whose rows were added to the waiting ones.
    fn took(
        &mut self,
        origin: BodyOrigin,
        counts: RowCounts,
        of_cut: Counts,
        config: &TableConfig,
    ) -> Result<(RowCounts, Vec<FinishedCut>), TableError> {
        let bad = self.rows.take_bad();
        self.show(&bad, config);
        self.bad_bytes += bad.iter().map(|bad| bad.raw.len() + size_of::<BadRow>()).sum::<usize>();
        self.bad.extend(bad);
        self.raw.took(counts.stored);
        let new = FrameSpan::new(origin, of_cut);
        self.waiting = Some(self.waiting.map_or(new, |waiting| waiting.then(&new)));
        let full = self.rows.len() >= self.batch_rows();
        if full || self.rows.bytes() + self.bad_bytes + self.raw.waiting_bytes() >= BATCH_BYTES {
            return Ok((counts, self.encode(config)?.into_iter().collect()));
        }
        Ok((counts, Vec::new()))
    }

    /// Takes the records of a frame with more records than may be in memory as columns: learns its columns first,
    /// then writes batch after batch.
    fn append_in_parts(
        &mut self,
        origin: BodyOrigin,
        batch: &Batch<'_>,
        config: &TableConfig,
    ) -> Result<(RowCounts, Vec<FinishedCut>), TableError> {
        let mut cuts: Vec<FinishedCut> = self.encode(config)?.into_iter().collect();
        let learnt = self.rows.learn(batch.body, batch.head.kind);
        match self.evolve(&learnt, config)? {
            Evolved::Has(cut) => cuts.extend(cut.map(|cut| *cut)),
            Evolved::HasNoPlace => self.rows.unlearn(&learnt),
        }
        let rows_max = self.batch_rows();
        let mut rows = self.rows.take();
        let mut written = Ok(());
        let counts = rows.append_in_parts(batch.body, batch.head.kind, origin, rows_max, &mut |rows| {
            // After an error everything is read again; until then rows must not pile up.
            let now = self.write_part(rows, config);
            written = std::mem::replace(&mut written, Ok(())).and(now);
        });
        let last = self.write_part(&mut rows, config);
        self.rows = rows;
        written.and(last)?;
        self.raw.took(counts.stored);
        self.raw.write(config)?;
        let new = FrameSpan::new(origin, counts_of(counts, batch.body.len()));
        self.written = Some(self.written.map_or(new, |written| written.then(&new)));
        Ok((counts, cuts))
    }

    /// Adds the columns that records introduced to the catalog, and finishes the open files, which lack them.
    fn evolve(&mut self, found: &[Column], config: &TableConfig) -> Result<Evolved, TableError> {
        if found.is_empty() {
            return Ok(Evolved::Has(None));
        }
        // The stream may have changed since these records were answered, and even since this table last looked: the
        // records must not override its current state.
        let version = match config.catalog.evolve_stream(self.stream.id, found) {
            Ok(stream) => stream.schema.version,
            Err(CatalogError::Conflict) => return Ok(Evolved::HasNoPlace),
            Err(error) => return Err(error.into()),
        };
        let cut = self.finish_files(config)?;
        let columns = self.schema().columns.iter().chain(found).cloned().collect();
        // The next frame is taken under the stream's current settings, whatever else has changed.
        self.applied.rules.schema = Arc::new(Schema { version, columns });
        Ok(Evolved::Has(cut.map(Box::new)))
    }

    fn schema(&self) -> &Schema {
        &self.applied.rules.schema
    }

    /// Applies the rules under which the next frame was answered. If they differ, finishes everything before: all
    /// rows of a file have the same columns.
    pub(super) fn follow(
        &mut self,
        stream: &Arc<Stream>,
        version: Option<u32>,
        config: &TableConfig,
        limits: RowLimits,
    ) -> Result<Vec<FinishedCut>, TableError> {
        if Arc::ptr_eq(&self.stream, stream) && self.version == version {
            return Ok(Vec::new());
        }
        let mut applied = Applied::to(stream, version, &config.catalog)?;
        applied.frozen |= self.is_past;
        (self.stream, self.version) = (Arc::clone(stream), version);
        let alike = |a: &Applied, b: &Applied| {
            let of = |it: &Applied| (it.frozen, it.quarantine, it.landing, it.rules.policy);
            of(a) == of(b)
                && a.rules.directory == b.rules.directory
                && a.rules.time == b.rules.time
                && a.rules.schema.columns == b.rules.schema.columns
        };
        if alike(&applied, &self.applied) {
            self.applied = applied;
            return Ok(Vec::new());
        }
        let cuts = self.finish(config)?;
        let rows = Rows::new(&applied.rules, limits);
        self.rows = if applied.frozen { rows.frozen() } else { rows };
        // The next frame also sees the columns that finishing added to the catalog.
        self.stream = Arc::clone(stream);
        self.applied = applied;
        Ok(cuts)
    }

    /// Shows rejected records to users before they are in the quarantine table.
    fn show(&self, bad: &[BadRow], config: &TableConfig) {
        let shown = bad.iter().map(|bad| Quarantined {
            lsn: bad.origin.lsn,
            record: bad.record,
            offset: bad.offset,
            received_at: bad.origin.received_at,
            reason: bad.reason.to_string(),
            excerpt: quarantined::excerpt(&bad.raw),
        });
        config.progress.quarantined.add(self.stream.id, shown);
    }

    fn write_part(&mut self, rows: &mut Rows, config: &TableConfig) -> Result<(), TableError> {
        let bad = rows.take_bad();
        self.show(&bad, config);
        if !rows.is_empty() {
            let part = rows.finish(self.schema().version)?;
            assert_eq!(part.schema.columns, self.schema().columns, "the columns were learnt before");
            for (partition, rows) in partition::split(&part.batch, &part.received_at, &config.partition_by)? {
                self.write(FileKind::Rows, partition, &rows, config)?;
            }
        }
        for (partition, rows) in
            quarantine::batches(&bad, self.applied.quarantine, &self.applied.rules.schema.columns)?
        {
            self.write(FileKind::Quarantine, partition, &rows, config)?;
        }
        Ok(())
    }

    /// The number of rows that go into one batch.
    fn batch_rows(&self) -> usize {
        (BATCH_CELLS / self.rows.leaves().max(1)).clamp(1, BATCH_ROWS)
    }

    /// Writes the waiting rows to the open files. If they have columns that the open files lack, finishes those
    /// files first.
    pub(super) fn encode(&mut self, config: &TableConfig) -> Result<Option<FinishedCut>, TableError> {
        let Some(mut waiting) = self.waiting.take() else { return Ok(None) };
        let mut finished = None;
        if !self.rows.is_empty() {
            let mut late_rescued = 0;
            match self.evolve(&self.rows.found(), config)? {
                Evolved::Has(cut) => finished = cut.map(|cut| *cut),
                Evolved::HasNoPlace => late_rescued = self.rows.rescue_found(),
            }
            let finish = self.rows.finish(self.schema().version)?;
            assert_eq!(finish.schema.columns, self.schema().columns, "the columns were found before");
            late_rescued += finish.late_rescued;
            waiting.counts.rescued += late_rescued;
            self.late_rescued += late_rescued;
            for (partition, rows) in
                partition::split(&finish.batch, &finish.received_at, &config.partition_by)?
            {
                self.write(FileKind::Rows, partition, &rows, config)?;
            }
        }
        for (partition, rows) in self.quarantined()? {
            self.write(FileKind::Quarantine, partition, &rows, config)?;
        }
        self.bad_bytes = 0;
        self.raw.write(config)?;
        self.written = Some(self.written.map_or(waiting, |written| written.then(&waiting)));
        Ok(finished)
    }

    /// The bad records so far, as rows of the quarantine table.
    fn quarantined(&mut self) -> Result<Vec<(String, RecordBatch)>, WriteError> {
        let bad = std::mem::take(&mut self.bad);
        quarantine::batches(&bad, self.applied.quarantine, &self.schema().columns)
    }

    fn write(
        &mut self,
        kind: FileKind,
        partition: String,
        rows: &RecordBatch,
        config: &TableConfig,
    ) -> Result<(), TableError> {
        if kind == FileKind::Rows && !self.applied.landing.table {
            return Ok(());
        }
        let file = match self.files.entry((kind, partition)) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let path = scratch_path(&config.scratch_dir);
                let numbered = kind == FileKind::Rows && self.applied.rules.placement.is_some();
                entry.insert(FileWriter::create(path, rows, numbered)?)
            }
        };
        debug_assert_eq!(file.schema(), &rows.schema(), "a file's columns are fixed");
        file.write(rows)?;
        if file.memory() > ROW_GROUP_BYTES {
            file.end_row_group()?;
        }
        Ok(())
    }

    /// Finishes everything, including the waiting rows. At most two cuts, in order.
    pub(super) fn finish(&mut self, config: &TableConfig) -> Result<Vec<FinishedCut>, TableError> {
        let before = self.encode(config)?;
        let last = self.finish_files(config)?;
        Ok(before.into_iter().chain(last).collect())
    }

    fn finish_files(&mut self, config: &TableConfig) -> Result<Option<FinishedCut>, TableError> {
        let Some(span) = self.written.take() else { return Ok(None) };
        let mut files = Vec::new();
        let mut paths = Vec::new();
        let landing = self.applied.landing;
        for raw in self.raw.finish()? {
            let object = format!("{}/{}", self.directory(), raw.name);
            // Records that are also in the table are counted there.
            let rows = if landing.table { 0 } else { raw.records };
            files.push(StagedFile { rows, ..StagedFile::raw(object, raw.sum.bytes, raw.sum.checksum) });
            paths.push(raw.path);
        }
        for ((kind, partition), writer) in std::mem::take(&mut self.files) {
            let (rows, offsets) = (writer.rows(), writer.offsets());
            let about = self.about(kind, span.lsns, config);
            let (path, sum) = writer.finish(&about)?;
            let object = name::object(self.directory(), kind, &partition, &config.node, span.lsns);
            let (bytes, checksum) = (sum.bytes, Some(sum.checksum));
            files.push(StagedFile { kind, object, rows, bytes, checksum, offsets });
            paths.push(path);
        }
        let misfits = self.rows.take_misfits().into_iter();
        let misfits =
            misfits.map(|m| Misfit { path: m.path, kind: m.kind, count: m.count, example: m.example });
        let cut = Cut {
            stream: self.stream.id,
            lsns: span.lsns,
            first_at: span.first_received_at,
            last_at: span.last_received_at,
            files,
            counts: span.counts,
            schema_version: self.schema().version,
            misfits: misfits.collect(),
            proposals: self.rows.take_proposals(),
            // The files contain all rows so far: they were encoded before.
            first_number: self.is_numbered().then(|| self.numbered + 1 - span.counts.stored),
            given: false,
        };
        let late_rescued = std::mem::take(&mut self.late_rescued);
        Ok(Some(FinishedCut { cut, paths, late_rescued, first_received_at: span.first_received_at }))
    }

    fn about(&self, kind: FileKind, lsns: LsnRange, config: &TableConfig) -> [(&'static str, String); 6] {
        [
            ("forebay.stream", self.stream.name.clone()),
            ("forebay.table", name::table(self.directory(), kind)),
            ("forebay.node", config.node.clone()),
            ("forebay.first_lsn", lsns.first.to_string()),
            ("forebay.last_lsn", lsns.last.to_string()),
            ("forebay.schema_version", self.schema().version.to_string()),
        ]
    }

    /// The table's directory at the destination.
    fn directory(&self) -> &str {
        self.applied.rules.directory.as_deref().unwrap_or(&self.stream.name)
    }

    fn is_numbered(&self) -> bool {
        self.applied.rules.mapping.is_some()
    }

    /// The first frame that is not in a registered file.
    pub(super) fn first_open(&self) -> Option<Lsn> {
        self.written.or(self.waiting).map(|span| span.lsns.first)
    }

    /// When the oldest of its frames that are not in a registered file was received.
    pub(super) fn first_received_at(&self) -> Option<Micros> {
        self.written.or(self.waiting).map(|span| span.first_received_at)
    }

    /// The last frame taken.
    pub(super) fn last_open(&self) -> Option<Lsn> {
        self.waiting.or(self.written).map(|span| span.lsns.last)
    }

    pub(super) fn opened_at(&self) -> Option<Instant> {
        self.written.or(self.waiting).map(|span| span.opened_at)
    }

    pub(super) fn last_at(&self) -> Option<Instant> {
        self.waiting.or(self.written).map(|span| span.last_at)
    }

    pub(super) fn open_rows(&self) -> u64 {
        let stored = |span: Option<FrameSpan>| span.map_or(0, |span| span.counts.stored);
        stored(self.written) + stored(self.waiting)
    }

    /// Source bytes of the open rows.
    pub(super) fn source_bytes(&self) -> u64 {
        let bytes = |span: Option<FrameSpan>| span.map_or(0, |span| span.counts.source_bytes);
        bytes(self.written) + bytes(self.waiting)
    }

    /// The rows that are not in a registered file, as [`crate::progress::Progress`] reports them.
    pub(super) fn open(&self) -> Option<OpenRows> {
        let (first, last) = (self.written.or(self.waiting)?, self.waiting.or(self.written)?);
        Some(OpenRows {
            rows: self.open_rows(),
            bytes: self.source_bytes(),
            first_at: first.first_received_at,
            last_at: last.last_received_at,
        })
    }

    /// The encoded size of the largest open file.
    pub(super) fn largest_file_bytes(&self) -> u64 {
        self.files.values().map(FileWriter::bytes).max().unwrap_or(0)
    }

    pub(super) fn has_too_many_files(&self) -> bool {
        self.open_files() > PARTITIONS_MAX
    }

    pub(super) fn open_files(&self) -> usize {
        self.files.len() + self.raw.open_files()
    }

    /// The memory held, roughly. `written`: held by open files, which ending their row groups would free.
    pub(super) fn memory(&self) -> Memory {
        Memory {
            waiting: self.rows.bytes() * 2 + self.bad_bytes + self.raw.waiting_bytes(),
            written: self.files.values().map(FileWriter::memory).sum(),
        }
    }

    /// Frees the memory of open files.
    pub(super) fn end_row_groups(&mut self) -> Result<(), TableError> {
        Ok(self.files.values_mut().try_for_each(FileWriter::end_row_group)?)
    }

    /// Removes unfinished files when everything is discarded to be read from the log again.
    pub(super) fn abandon(self) {
        for path in self.files.values().map(FileWriter::path).chain(self.raw.paths()) {
            // The next start removes what is left.
            drop(std::fs::remove_file(path));
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) waiting: usize,
    pub(super) written: usize,
}

impl Memory {
    pub(super) fn total(self) -> usize {
        self.waiting + self.written
    }
}

impl FrameSpan {
    /// The span of one frame, taken now.
    fn new(origin: BodyOrigin, counts: Counts) -> Self {
        let (lsn, now) = (Lsn(origin.lsn), Instant::now());
        let lsns = LsnRange { first: lsn, last: lsn };
        let at = origin.received_at;
        Self { lsns, first_received_at: at, last_received_at: at, opened_at: now, last_at: now, counts }
    }

    fn then(self, next: &Self) -> Self {
        Self {
            lsns: LsnRange { first: self.lsns.first, last: next.lsns.last },
            first_received_at: self.first_received_at.min(next.first_received_at),
            last_received_at: self.last_received_at.max(next.last_received_at),
            opened_at: self.opened_at,
            last_at: next.last_at,
            counts: self.counts.plus(next.counts),
        }
    }
}

/// The counts of a frame that a cut keeps.
fn counts_of(counts: RowCounts, source_bytes: usize) -> Counts {
    let RowCounts { stored, quarantined, rescued, duplicate_keys, ignored_fields } = counts;
    let (late, early) = (quarantined.get(ReasonKind::Late), quarantined.get(ReasonKind::Early));
    let quarantined = quarantined.total();
    let source_bytes = source_bytes as u64;
    Counts { stored, quarantined, late, early, rescued, duplicate_keys, ignored_fields, source_bytes }
}

fn scratch_path(dir: &Path) -> PathBuf {
    dir.join(format!("{}.tmp", uuid::Uuid::new_v4().simple()))
}
