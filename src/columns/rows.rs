//! The rows of one stream that wait to be written: takes bodies, gives batches.

use super::column::{Column, ColumnSet, Fit, Misfit, Row};
use super::rescue::{self, Rescue};
use super::{dedupe, learn};
use crate::clock::Micros;
use crate::json::records::{BadRecord, RecordSink, walk};
use crate::json::{BodyKind, Field, Fields, Parser, Str, Syntax};
use crate::schema::{Schema, system};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema, TimeUnit};
use arrow::error::ArrowError;
use std::sync::Arc;

/// Limits and choices that hold for every stream.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Parquet columns of a table at most; further fields go to `_rescued`.
    pub columns_max: usize,
    pub received_at_column: bool,
    pub lsn_column: bool,
    pub record_column: bool,
}

/// Where a body comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub lsn: u64,
    pub received_at: Micros,
}

/// What became of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    pub stored: u64,
    pub quarantined: u64,
    /// Rows with something in `_rescued`.
    pub rescued: u64,
    /// Values dropped because their key came again.
    pub duplicate_keys: u64,
}

/// A record that is none, on its way to the quarantine table.
#[derive(Debug, Clone)]
pub struct BadRow {
    pub origin: Origin,
    pub record: u64,
    pub offset: u64,
    pub reason: Syntax,
    pub raw: Vec<u8>,
}

pub struct Rows {
    limits: Limits,
    set: ColumnSet,
    leaves: usize,
    /// No columns are added: a part of the body is written already.
    fixed: bool,
    count: usize,
    received_at: Vec<Micros>,
    lsn: Vec<i64>,
    record: Vec<i32>,
    rescues: Vec<Rescue>,
    bad: Vec<BadRow>,
    /// By path and kind: how many, and the first of them.
    misfits: hashbrown::HashMap<MisfitKey, (u64, String)>,
    counts: RowCounts,
    /// Source bytes of the rows: what they hold of memory, roughly.
    bytes: usize,
}

/// Values of one field and kind that did not fit: what a wider type would be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MisfitSummary {
    /// Keys from the record down, joined with dots.
    pub path: String,
    /// What JSON calls the values: `string`, `number`, `boolean`, `array`, `object`.
    pub kind: &'static str,
    pub count: u64,
    /// Source text of the first of them, cut to a readable length.
    pub example: String,
}

/// The path to the value, and what JSON calls it.
type MisfitKey = (Vec<Vec<u8>>, &'static str);

/// Kinds of misfits told apart until they are taken; further ones are rescued without being summed up.
const MISFIT_KINDS_MAX: usize = 1000;
const EXAMPLE_CHARS_MAX: usize = 200;

/// Finished rows.
pub struct Batch {
    pub batch: RecordBatch,
    /// When each row was received.
    pub received_at: Vec<Micros>,
    /// The columns with a type, as far as they are settled now.
    pub schema: Schema,
    /// Rows that have something in `_rescued` only since types were settled: not in their [`RowCounts`].
    pub late_rescued: u64,
}

impl Rows {
    pub fn new(schema: &Schema, limits: Limits) -> Self {
        Self {
            limits,
            set: ColumnSet::new(&schema.columns),
            leaves: schema.leaves(),
            fixed: false,
            count: 0,
            received_at: Vec::new(),
            lsn: Vec::new(),
            record: Vec::new(),
            rescues: Vec::new(),
            bad: Vec::new(),
            misfits: hashbrown::HashMap::new(),
            counts: RowCounts::default(),
            bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Memory held, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows and what is known of their columns, leaving nothing behind.
    pub fn take(&mut self) -> Self {
        let nothing = Self::new(&Schema::default(), self.limits);
        std::mem::replace(self, nothing)
    }

    /// How many Parquet columns there are.
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// The columns with a type.
    pub fn columns(&self) -> Vec<crate::schema::Column> {
        self.set.definitions()
    }

    /// Takes the records of one body. Says what became of them.
    pub fn append(&mut self, body: &[u8], kind: BodyKind, origin: Origin) -> RowCounts {
        self.walk(body, kind, origin, usize::MAX, &mut |_| {})
    }

    /// Adds the columns that a body brings, of which no row may wait.
    pub fn learn(&mut self, body: &[u8], kind: BodyKind) {
        let room = self.limits.columns_max.saturating_sub(self.leaves);
        let new = learn::new_columns(&self.set, room, body, kind);
        // Each has a place, also one that gets no type after all, as it has when a row brings it.
        self.leaves += new.len();
        let mut untyped = 0;
        for (name, inferred) in new {
            let leaves_max = self.limits.columns_max.saturating_sub(self.leaves) + 1;
            if let Some(kind) = inferred.into_type(leaves_max) {
                self.leaves += kind.leaves() - 1;
                self.set.add(&name, Column::new(&kind));
            } else {
                untyped += 1;
            }
        }
        self.leaves -= untyped;
    }

    /// Takes the records of a body that was learnt from, and calls `full` whenever there are `rows_max` rows or bad
    /// records to be taken away.
    pub fn append_in_parts(
        &mut self,
        body: &[u8],
        kind: BodyKind,
        origin: Origin,
        rows_max: usize,
        full: &mut dyn FnMut(&mut Self),
    ) -> RowCounts {
        self.fixed = true;
        let counts = self.walk(body, kind, origin, rows_max, full);
        self.fixed = false;
        counts
    }

    fn walk(
        &mut self,
        body: &[u8],
        kind: BodyKind,
        origin: Origin,
        rows_max: usize,
        full: &mut dyn FnMut(&mut Self),
    ) -> RowCounts {
        let before = std::mem::take(&mut self.counts);
        self.bytes += body.len();
        let columns = self.set.len();
        let mut sink = Sink { rows: self, origin, seen: Row::default(), raw: &[], columns, rows_max, full };
        // A document that is no JSON was refused before it came into the log.
        if let Err(reason) = walk(body, kind, 0, &mut sink) {
            sink.reject(BadRecord { index: 0, offset: 0, raw: body, reason });
        }
        std::mem::replace(&mut self.counts, before)
    }

    /// The records since the last call that are none.
    pub fn take_bad(&mut self) -> Vec<BadRow> {
        std::mem::take(&mut self.bad)
    }

    /// What did not fit since the last call.
    pub fn take_misfits(&mut self) -> Vec<MisfitSummary> {
        let join = |path: &[Vec<u8>]| String::from_utf8_lossy(&path.join(&b'.')).into_owned();
        let summary = |((path, kind), (count, example)): ((Vec<Vec<u8>>, _), _)| MisfitSummary {
            path: join(&path),
            kind,
            count,
            example,
        };
        self.misfits.drain().map(summary).collect()
    }

    /// Settles the types of new columns and returns all rows so far; starts anew.
    pub fn finish(&mut self, version: u32) -> Result<Batch, ArrowError> {
        let late_rescued = self.settle_types();
        let rows = self.count;
        let columns = self.set.definitions();
        let (fields, mut arrays) = self.set.finish(rows)?;
        let mut fields: Vec<Arc<ArrowField>> = fields.iter().cloned().collect();
        let mut add = |name: &str, kind: DataType, nullable: bool, array: ArrayRef| {
            fields.push(Arc::new(ArrowField::new(name, kind, nullable)));
            arrays.push(array);
        };
        add(system::RESCUED, DataType::Utf8, true, rescue::column(&mut self.rescues, rows));
        let received_at = std::mem::take(&mut self.received_at);
        if self.limits.received_at_column {
            let kind = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let array = TimestampMicrosecondArray::from(received_at.clone()).with_timezone("UTC");
            add(system::RECEIVED_AT, kind, false, Arc::new(array));
        }
        let lsn = std::mem::take(&mut self.lsn);
        if self.limits.lsn_column {
            add(system::LSN, DataType::Int64, false, Arc::new(Int64Array::from(lsn)));
        }
        let record = std::mem::take(&mut self.record);
        if self.limits.record_column {
            add(system::RECORD, DataType::Int32, false, Arc::new(Int32Array::from(record)));
        }
        // Nothing but nulls came for them: their places are free for others.
        self.leaves -= self.set.remove_untyped();
        self.count = 0;
        self.bytes = 0;
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays)?;
        Ok(Batch { batch, received_at, schema: Schema { version, columns }, late_rescued })
    }

    /// Returns how many rows lost a value to `_rescued` that had lost none before.
    fn settle_types(&mut self) -> u64 {
        let Self { set, leaves, limits, .. } = self;
        let mut late = Vec::new();
        for slot in 0..set.len() {
            if set.column(slot).kind().is_some() {
                continue;
            }
            // The place of one leaf was taken when the column was made.
            let leaves_max = limits.columns_max.saturating_sub(*leaves) + 1;
            let key = set.key(slot).to_owned();
            set.column(slot).decide(leaves_max, |row, path, raw| {
                let path = std::iter::once(key.clone()).chain(path.iter().cloned()).collect();
                late.push(Rescue { row, path, raw: raw.to_owned() });
            });
            if let Some(kind) = set.column(slot).kind() {
                *leaves += kind.leaves() - 1;
            }
        }
        if late.is_empty() {
            return 0;
        }
        let counted: hashbrown::HashSet<usize> = self.rescues.iter().map(|rescue| rescue.row).collect();
        let rows: hashbrown::HashSet<usize> = late.iter().map(|rescue| rescue.row).collect();
        for rescue in &late {
            self.sum_up(&rescue.path, &rescue.raw);
        }
        self.rescues.append(&mut late);
        rows.difference(&counted).count() as u64
    }

    fn push_row(&mut self, origin: Origin, index: u64, misfits: &mut Vec<Misfit<'_>>) {
        if !misfits.is_empty() {
            self.counts.rescued += 1;
            for misfit in misfits.drain(..) {
                self.sum_up(&misfit.path, misfit.raw);
                self.rescues.push(Rescue { row: self.count, path: misfit.path, raw: misfit.raw.to_owned() });
            }
        }
        self.received_at.push(origin.received_at);
        self.lsn.push(origin.lsn.cast_signed());
        self.record.push(i32::try_from(index).unwrap_or(i32::MAX));
        self.count += 1;
        self.counts.stored += 1;
    }

    #[cold]
    fn sum_up(&mut self, path: &[Vec<u8>], raw: &[u8]) {
        let kind = match raw.first() {
            Some(b'"') => "string",
            Some(b't' | b'f') => "boolean",
            Some(b'[') => "array",
            Some(b'{') => "object",
            _ => "number",
        };
        let key = (path.to_vec(), kind);
        if let Some((count, _)) = self.misfits.get_mut(&key) {
            *count += 1;
        } else if self.misfits.len() < MISFIT_KINDS_MAX {
            let example = String::from_utf8_lossy(raw).chars().take(EXAMPLE_CHARS_MAX).collect();
            self.misfits.insert(key, (1, example));
        }
    }

    fn read_row<'a>(&mut self, parser: &mut Parser<'a>, seen: &mut Row<'a>) -> Result<(), Syntax> {
        let mut shape = self.set.take_shape();
        let parsed = shape.object(parser, &mut RecordFields { rows: self, seen });
        self.set.put_shape(shape);
        parsed
    }
}

/// One body on its way into the rows.
struct Sink<'r, 'a> {
    rows: &'r mut Rows,
    origin: Origin,
    seen: Row<'a>,
    raw: &'a [u8],
    /// How many there are because of good records.
    columns: usize,
    rows_max: usize,
    full: &'r mut dyn FnMut(&mut Rows),
}

impl<'a> RecordSink<'a> for Sink<'_, 'a> {
    #[inline(always)]
    fn record(&mut self, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        let start = parser.at();
        let parsed = self.rows.read_row(parser, &mut self.seen);
        self.raw = &parser.bytes()[start..parser.at()];
        parsed
    }

    #[inline(always)]
    fn accept(&mut self, index: u64) {
        if self.seen.duplicate_key || (self.seen.misfits.len() > 1 && has_duplicate(&self.seen.misfits)) {
            self.accept_duplicate(index);
        } else {
            self.rows.push_row(self.origin, index, &mut self.seen.misfits);
        }
        self.columns = self.rows.set.len();
        if self.rows.count >= self.rows_max {
            (self.full)(self.rows);
        }
    }

    #[cold]
    fn reject(&mut self, bad: BadRecord<'a>) {
        self.forget_row();
        self.rows.counts.quarantined += 1;
        self.rows.bad.push(BadRow {
            origin: self.origin,
            record: bad.index,
            offset: bad.offset as u64,
            reason: bad.reason,
            raw: bad.raw.to_owned(),
        });
        if self.rows.bad.len() >= self.rows_max {
            (self.full)(self.rows);
        }
    }
}

impl Sink<'_, '_> {
    fn forget_row(&mut self) {
        self.rows.leaves -= self.rows.set.remove_added(self.columns);
        self.rows.set.truncate(self.rows.count);
        self.seen = Row::default();
    }

    /// Reads the record again with each key once.
    #[cold]
    fn accept_duplicate(&mut self, index: u64) {
        self.forget_row();
        let mut dropped = 0;
        let Ok(unique) = dedupe::last_wins(&mut Parser::document(self.raw), &mut dropped) else {
            unreachable!("the record was parsed a moment ago");
        };
        self.rows.counts.duplicate_keys += dropped;
        let mut seen = Row::default();
        let parsed = self.rows.read_row(&mut Parser::document(&unique), &mut seen);
        debug_assert!(parsed.is_ok(), "{parsed:?}");
        self.rows.push_row(self.origin, index, &mut seen.misfits);
    }
}

/// Whether a key without a column came twice, or may have.
#[cold]
fn has_duplicate(misfits: &[Misfit<'_>]) -> bool {
    let mut seen = hashbrown::HashSet::new();
    // Keys are compared as they are written: an escape may hide that two are one.
    let escaped = |misfit: &Misfit<'_>| misfit.path.iter().any(|key| key.contains(&b'\\'));
    misfits.iter().any(|misfit| escaped(misfit) || !seen.insert(&misfit.path))
}

struct RecordFields<'r, 'a> {
    rows: &'r mut Rows,
    seen: &'r mut Row<'a>,
}

impl<'a> Fields<'a> for RecordFields<'_, 'a> {
    fn slot(&mut self, key: Str<'a>) -> Option<usize> {
        let text = key.text();
        if let Some(slot) = self.rows.set.find(&text) {
            return Some(slot);
        }
        let name = std::str::from_utf8(&text).ok()?;
        let full = self.rows.leaves >= self.rows.limits.columns_max;
        if system::is_reserved(name) || full || self.rows.fixed {
            return None;
        }
        self.rows.leaves += 1;
        Some(self.rows.set.add(name, Column::undecided()))
    }

    #[inline(always)]
    fn value(&mut self, field: Field<'a>, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        let before = self.seen.misfits.len();
        let key = match field {
            Field::Slot(slot) => {
                let fit = self.rows.set.column(slot).push(self.rows.count, parser, self.seen)?;
                if let Fit::Misfit(raw) = fit {
                    self.seen.misfits.push(Misfit { path: Vec::new(), raw });
                }
                if self.seen.misfits.len() == before {
                    return Ok(());
                }
                self.rows.set.key(slot).to_owned()
            }
            Field::Other(key) => {
                self.seen.other(key, parser.skip_value()?);
                if self.seen.misfits.len() == before {
                    return Ok(());
                }
                key.raw.to_owned()
            }
        };
        for misfit in &mut self.seen.misfits[before..] {
            misfit.path.insert(0, key.clone());
        }
        Ok(())
    }
}
