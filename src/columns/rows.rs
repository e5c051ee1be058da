//! The rows of one stream that wait to be written: takes bodies, produces batches.

use super::column::{ColumnBuilder, MisfitValue};
use super::learn;
use super::placement::Placing;
use super::proposal::{Proposal, Proposals};
use super::reason::{Reason, ReasonCounts};
use super::receipt;
use super::rescue::{self, Rescue};
use super::set::{ColumnSet, Location};
use crate::batch::{BodyKind, Offsets};
use crate::clock::Micros;
use crate::schema::{ColumnType, Policy, Rules, Schema, system};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::ArrowError;
use arrow_schema::{DataType, Field as ArrowField, Schema as ArrowSchema, TimeUnit};
use std::sync::Arc;

/// Limits and options that apply to every stream.
#[derive(Debug, Clone, Copy)]
pub struct RowLimits {
    /// The maximum number of Parquet columns of a table; further fields go to `_rescued`.
    pub columns_max: usize,
    pub received_at_column: bool,
    pub lsn_column: bool,
    pub record_column: bool,
}

/// Where a body comes from.
#[derive(Debug, Clone, Copy)]
pub struct BodyOrigin {
    pub lsn: u64,
    pub received_at: Micros,
}

/// The outcome for a number of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    pub stored: u64,
    pub quarantined: ReasonCounts,
    /// Rows with something in `_rescued`.
    pub rescued: u64,
    /// Values dropped because their key occurred again.
    pub duplicate_keys: u64,
    /// Values without a column that the policy ignores.
    pub ignored_fields: u64,
}

impl RowCounts {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            stored: self.stored + other.stored,
            quarantined: self.quarantined.plus(other.quarantined),
            rescued: self.rescued + other.rescued,
            duplicate_keys: self.duplicate_keys + other.duplicate_keys,
            ignored_fields: self.ignored_fields + other.ignored_fields,
        }
    }
}

/// A record that is not stored as a row, on its way to the quarantine table.
#[derive(Debug, Clone)]
pub struct BadRow {
    pub origin: BodyOrigin,
    pub record: u64,
    pub offset: u64,
    pub reason: Reason,
    pub raw: Vec<u8>,
}

pub struct Rows {
    pub(super) limits: RowLimits,
    pub(super) set: ColumnSet,
    pub(super) leaves: usize,
    pub(super) ways: Ways,
    pub(super) count: usize,
    received_at: Vec<Micros>,
    lsn: Vec<i64>,
    record: Vec<i32>,
    pub(super) placing: Option<Placing>,
    /// For rows that are only judged: their partitions, where these follow from the row.
    pub(super) partitions: Vec<u32>,
    rescues: Vec<Rescue>,
    pub(super) bad: Vec<BadRow>,
    /// By path and kind: the count and the first example.
    misfits: hashbrown::HashMap<MisfitKey, (u64, String)>,
    proposals: Proposals,
    pub(super) counts: RowCounts,
    /// Source bytes of the rows: roughly the memory they hold.
    pub(super) bytes: usize,
}

/// How records are handled.
#[derive(Debug, Default)]
pub(super) struct Ways {
    pub(super) policy: Policy,
    /// New fields become columns.
    pub(super) grows: bool,
    pub(super) time: Option<TimeCheck>,
    /// Records are only judged: the rejected ones are not collected.
    pub(super) forgets_bad: bool,
}

/// A [`crate::schema::TimeRule`] with the location of its column.
#[derive(Debug)]
pub(super) struct TimeCheck {
    pub(super) column: String,
    pub(super) at: Location,
    pub(super) late: Option<u64>,
    pub(super) early: Option<u64>,
    pub(super) required: bool,
}

impl Ways {
    fn from_rules(rules: &Rules, set: &ColumnSet) -> Self {
        let time = rules.time.as_ref().and_then(|rule| {
            let column = rules.schema.named(&rule.column)?;
            Some(TimeCheck {
                column: rule.column.clone(),
                at: set.locate(&rule.column)?,
                late: rule.late,
                early: rule.early,
                // The time of receipt replaces a missing time, so none is missing.
                required: rule.required && !column.is_receipt_time(),
            })
        });
        Self { policy: rules.policy, grows: rules.policy == Policy::Evolve, time, forgets_bad: false }
    }
}

/// Values of one field and kind that did not fit: the case for a wider type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MisfitSummary {
    /// Keys from the record down, joined with dots.
    pub path: String,
    /// The JSON type of the values: `string`, `number`, `boolean`, `array`, `object`.
    pub kind: &'static str,
    pub count: u64,
    /// Source text of the first of them, cut to a readable length.
    pub example: String,
}

/// The path to the value and its JSON type.
type MisfitKey = (Vec<Vec<u8>>, &'static str);

/// The maximum number of distinct kinds of misfits tracked between two takes; further ones are rescued without a
/// summary.
const MISFIT_KINDS_MAX: usize = 1000;
const EXAMPLE_CHARS_MAX: usize = 200;

/// Finished rows.
pub struct RowBatch {
    pub batch: RecordBatch,
    /// When each row was received.
    pub received_at: Vec<Micros>,
    /// The columns with a type, as settled so far.
    pub schema: Schema,
    /// Rows that have something in `_rescued` only since types were settled: not included in their [`RowCounts`].
    pub late_rescued: u64,
}

impl Rows {
    pub fn new(rules: &Rules, limits: RowLimits) -> Self {
        let set = ColumnSet::of_record(rules);
        Self {
            limits,
            leaves: rules.schema.leaves(),
            ways: Ways::from_rules(rules, &set),
            placing: Placing::from_rules(rules, &set),
            partitions: Vec::new(),
            set,
            count: 0,
            received_at: Vec::new(),
            lsn: Vec::new(),
            record: Vec::new(),
            rescues: Vec::new(),
            bad: Vec::new(),
            misfits: hashbrown::HashMap::new(),
            proposals: Proposals::default(),
            counts: RowCounts::default(),
            bytes: 0,
        }
    }

    /// No columns are added: new fields are rescued.
    #[must_use]
    pub fn frozen(mut self) -> Self {
        self.ways.grows = false;
        self
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The memory held, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Moves out the rows and what is known of their columns.
    pub fn take(&mut self) -> Self {
        let nothing = Self::new(&Rules::default(), self.limits);
        std::mem::replace(self, nothing)
    }

    /// The number of Parquet columns.
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// The columns with a type.
    pub fn columns(&self) -> Vec<crate::schema::Column> {
        self.set.definitions()
    }

    /// Announces that the next body belongs to a frame with these offsets.
    pub fn begin(&mut self, offsets: &[Offsets]) {
        if let Some(placing) = &mut self.placing {
            placing.begin(offsets);
        }
    }

    /// Adds the columns that a body introduces. Requires that no rows are pending. Returns the added columns.
    pub fn learn(&mut self, body: &[u8], kind: BodyKind) -> Vec<crate::schema::Column> {
        let mut learnt = Vec::new();
        if !self.ways.grows {
            return learnt;
        }
        let room = self.limits.columns_max.saturating_sub(self.leaves);
        let new = learn::new_columns(&self.set, room, body, kind);
        // Each takes one leaf, also a column that gets no type after all, as when a row introduces it.
        self.leaves += new.len();
        let mut untyped = 0;
        for (name, inferred) in new {
            let leaves_max = self.limits.columns_max.saturating_sub(self.leaves) + 1;
            if let Some(kind) = inferred.into_type(leaves_max) {
                self.leaves += kind.leaves() - 1;
                self.set.add(&name, ColumnBuilder::new(&kind, false));
                learnt.push(crate::schema::Column::new(name, kind));
            } else {
                untyped += 1;
            }
        }
        self.leaves -= untyped;
        learnt
    }

    /// Removes the columns that were learnt last because the table has no room for them. No row may have a value in
    /// them.
    pub fn unlearn(&mut self, learnt: &[crate::schema::Column]) {
        self.set.remove_added(self.set.len() - learnt.len());
        self.leaves -= learnt.iter().map(|column| column.kind.leaves()).sum::<usize>();
    }

    /// The partition of each row that was judged good, where it follows from the row.
    pub(super) fn take_partitions(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.partitions)
    }

    /// Discards the rows and everything learnt from them except their columns.
    pub(super) fn clear(&mut self) {
        self.set.truncate(0);
        self.count = 0;
        self.received_at.clear();
        self.lsn.clear();
        self.record.clear();
        self.rescues.clear();
        self.bad.clear();
        self.misfits.clear();
        self.proposals = Proposals::default();
        self.bytes = 0;
    }

    /// The bad records since the last call.
    pub fn take_bad(&mut self) -> Vec<BadRow> {
        std::mem::take(&mut self.bad)
    }

    /// The misfits since the last call.
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

    /// The fields without a column since the last call, if the policy proposes them.
    pub fn take_proposals(&mut self) -> Vec<Proposal> {
        self.proposals.take()
    }

    /// Settles the types of new columns, returns all rows so far, and resets.
    pub fn finish(&mut self, version: u32) -> Result<RowBatch, ArrowError> {
        let late_rescued = self.settle_types();
        let rows = self.count;
        let columns = self.set.definitions();
        let (fields, mut arrays) = self.set.finish(rows)?;
        for (column, array) in columns.iter().zip(&mut arrays).filter(|(column, _)| column.is_receipt_time())
        {
            *array = receipt::filled(array, &column.kind, &self.received_at);
        }
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
        if let Some((partition, offset)) = self.placing.as_mut().map(Placing::finish) {
            add(system::PARTITION, DataType::Int32, true, partition);
            add(system::OFFSET, DataType::Int64, true, offset);
        }
        // Only nulls arrived for them: other columns may use their positions.
        self.leaves -= self.set.remove_untyped();
        self.count = 0;
        self.bytes = 0;
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays)?;
        Ok(RowBatch { batch, received_at, schema: Schema { version, columns }, late_rescued })
    }

    /// The columns that rows introduced since the last call of [`Rows::finish`], with the types it will settle on.
    pub fn found(&self) -> Vec<crate::schema::Column> {
        let typed = self.inferred().into_iter().filter_map(|(slot, kind)| {
            let (name, _) = self.set.named(slot);
            Some(crate::schema::Column::new(name, kind?))
        });
        typed.collect()
    }

    /// The columns without a type, each with the type inferred from its values.
    fn inferred(&self) -> Vec<(usize, Option<ColumnType>)> {
        let mut leaves = self.leaves;
        let undecided = (0..self.set.len()).filter(|slot| self.set.named(*slot).1.is_undecided());
        let inferred = undecided.map(|slot| {
            // The first leaf was counted when the column was created.
            let leaves_max = self.limits.columns_max.saturating_sub(leaves) + 1;
            let kind = self.set.named(slot).1.inferred(leaves_max);
            leaves += kind.as_ref().map_or(0, |kind| kind.leaves() - 1);
            (slot, kind)
        });
        inferred.collect()
    }

    /// Moves the values of all columns that [`Rows::found`] returns to `_rescued` because the table has no room for
    /// them. Returns the number of rows that lost a value for the first time.
    pub fn rescue_found(&mut self) -> u64 {
        let found = self.inferred();
        self.decide(found.into_iter().map(|(slot, _)| (slot, None)).collect())
    }

    /// Returns the number of rows that lost a value to `_rescued` for the first time.
    fn settle_types(&mut self) -> u64 {
        let inferred = self.inferred();
        self.decide(inferred)
    }

    fn decide(&mut self, types: Vec<(usize, Option<ColumnType>)>) -> u64 {
        let mut late = Vec::new();
        for (slot, kind) in types {
            self.leaves += kind.as_ref().map_or(0, |kind| kind.leaves() - 1);
            let key = self.set.key(slot).to_owned();
            self.set.column(slot).decide(kind, |row, path, raw| {
                let path = std::iter::once(key.clone()).chain(path.iter().cloned()).collect();
                late.push(Rescue { row, path, raw: raw.to_owned() });
            });
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

    pub(super) fn push_row(&mut self, origin: BodyOrigin, index: u64, misfits: &mut Vec<MisfitValue<'_>>) {
        if !misfits.is_empty() {
            self.counts.rescued += 1;
            for misfit in misfits.drain(..) {
                if misfit.extra && self.ways.policy == Policy::Propose {
                    self.proposals.add(&misfit.path, misfit.raw, origin.received_at);
                } else {
                    self.sum_up(&misfit.path, misfit.raw);
                }
                self.rescues.push(Rescue { row: self.count, path: misfit.path, raw: misfit.raw.to_owned() });
            }
        }
        self.received_at.push(origin.received_at);
        self.lsn.push(origin.lsn.cast_signed());
        self.record.push(i32::try_from(index).unwrap_or(i32::MAX));
        if let Some(placing) = &mut self.placing {
            if !self.ways.forgets_bad {
                placing.push(&self.set, self.count);
            } else if placing.is_keyed() {
                self.partitions.push(placing.partition_of(&self.set, self.count));
            }
        }
        self.count += 1;
        self.counts.stored += 1;
    }

    /// Takes a row of a table with only text columns: one value for each, in order.
    pub fn append_texts<T: AsRef<str>>(
        &mut self,
        origin: BodyOrigin,
        record: u64,
        values: &[T],
    ) -> RowCounts {
        let before = std::mem::take(&mut self.counts);
        for (slot, value) in (0..self.set.len()).zip(values) {
            self.bytes += value.as_ref().len();
            self.set.column(slot).push_text(self.count, value.as_ref().as_bytes());
        }
        self.push_row(origin, record, &mut Vec::new());
        std::mem::replace(&mut self.counts, before)
    }

    /// Quarantines a record that the mapping cannot turn into a row.
    pub fn append_unmapped(
        &mut self,
        origin: BodyOrigin,
        record: u64,
        raw: &[u8],
        reason: String,
    ) -> RowCounts {
        self.append_bad(origin, record, raw, Reason::Unmapped(reason))
    }

    /// Quarantines an input that is not a valid record.
    pub fn append_bad(&mut self, origin: BodyOrigin, record: u64, raw: &[u8], reason: Reason) -> RowCounts {
        let before = std::mem::take(&mut self.counts);
        self.counts.quarantined.add(reason.kind());
        self.bad.push(BadRow { origin, record, offset: 0, reason, raw: raw.to_owned() });
        std::mem::replace(&mut self.counts, before)
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
}
