//! Moves one body into the rows: each record is read, judged, and stored or quarantined.

use super::column::{Fit, MisfitValue, Row};
use super::dedupe;
use super::reason::{ColumnFailure, Reason};
use super::rows::{BadRow, BodyOrigin, RowCounts, Rows};
use crate::batch::BodyKind;
use crate::clock::Micros;
use crate::formats::json::records::{BadRecord, RecordSink, walk};
use crate::formats::json::{FieldKey, FieldVisitor, Parser, Str, Syntax};
use crate::schema::Policy;

struct RowSink<'r, 'a> {
    rows: &'r mut Rows,
    body: &'a [u8],
    origin: BodyOrigin,
    seen: Row<'a>,
    raw: &'a [u8],
    /// Number of columns that come from valid records.
    columns: usize,
    rows_max: usize,
    full: &'r mut dyn FnMut(&mut Rows),
    /// The first bad record: its number and what is wrong with it.
    first_bad: Option<(u64, Syntax)>,
}

impl<'r, 'a> RowSink<'r, 'a> {
    /// `full` is called whenever `rows_max` rows or bad records are ready to be taken.
    fn new(
        rows: &'r mut Rows,
        body: &'a [u8],
        origin: BodyOrigin,
        rows_max: usize,
        full: &'r mut dyn FnMut(&mut Rows),
    ) -> Self {
        let (columns, seen) = (rows.set.len(), Row::new(rows.ways.policy == Policy::Strict));
        Self { rows, body, origin, seen, raw: &[], columns, rows_max, full, first_bad: None }
    }
}

impl<'a> RecordSink<'a> for RowSink<'_, 'a> {
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
            match self.rows.verdict(&self.seen, self.origin) {
                None => {
                    self.rows.push_row(self.origin, index, &mut self.seen.misfits);
                    self.rows.counts.ignored_fields += std::mem::take(&mut self.seen.ignored);
                }
                Some(reason) => self.put_aside(index, reason),
            }
        }
        self.columns = self.rows.set.len();
        if self.rows.count >= self.rows_max {
            (self.full)(self.rows);
        }
    }

    #[cold]
    fn reject(&mut self, bad: BadRecord<'a>) {
        self.forget_row();
        self.first_bad.get_or_insert((bad.index, bad.reason));
        self.quarantine(bad.index, bad.offset, bad.raw, Reason::Record(bad.reason));
    }
}

impl RowSink<'_, '_> {
    fn forget_row(&mut self) {
        self.rows.leaves -= self.rows.set.remove_added(self.columns);
        self.rows.set.truncate(self.rows.count);
        self.seen = Row::new(self.rows.ways.policy == Policy::Strict);
    }

    /// Quarantines the current record, which is valid JSON but not a valid row.
    #[cold]
    fn put_aside(&mut self, index: u64, reason: Reason) {
        self.forget_row();
        // The record is a slice of the body.
        let offset = self.raw.as_ptr() as usize - self.body.as_ptr() as usize;
        self.quarantine(index, offset, self.raw, reason);
    }

    fn quarantine(&mut self, record: u64, offset: usize, raw: &[u8], reason: Reason) {
        self.rows.counts.quarantined.add(reason.kind());
        if self.rows.ways.forgets_bad {
            return;
        }
        let (origin, offset) = (self.origin, offset as u64);
        self.rows.bad.push(BadRow { origin, record, offset, reason, raw: raw.to_owned() });
        if self.rows.bad.len() >= self.rows_max {
            (self.full)(self.rows);
        }
    }

    /// Reads the record again with duplicate keys removed.
    #[cold]
    fn accept_duplicate(&mut self, index: u64) {
        self.forget_row();
        let mut dropped = 0;
        let Ok(unique) = dedupe::last_wins(&mut Parser::document(self.raw), &mut dropped) else {
            unreachable!("the record was parsed a moment ago");
        };
        let mut seen = Row::new(self.rows.ways.policy == Policy::Strict);
        let parsed = self.rows.read_row(&mut Parser::document(&unique), &mut seen);
        debug_assert!(parsed.is_ok(), "{parsed:?}");
        match self.rows.verdict(&seen, self.origin) {
            None => {
                self.rows.counts.duplicate_keys += dropped;
                self.rows.push_row(self.origin, index, &mut seen.misfits);
                self.rows.counts.ignored_fields += seen.ignored;
            }
            Some(reason) => self.put_aside(index, reason),
        }
    }
}

/// Whether a key without a column occurred twice, or may have.
#[cold]
fn has_duplicate(misfits: &[MisfitValue<'_>]) -> bool {
    let mut seen = hashbrown::HashSet::new();
    // Keys are compared as written: an escape may hide that two are equal.
    let escaped = |misfit: &MisfitValue<'_>| misfit.path.iter().any(|key| key.contains(&b'\\'));
    misfits.iter().any(|misfit| escaped(misfit) || !seen.insert(&misfit.path))
}

impl Rows {
    /// Takes the records of one body. Returns their outcome.
    pub fn append(&mut self, body: &[u8], kind: BodyKind, origin: BodyOrigin) -> RowCounts {
        self.walk(body, kind, origin, usize::MAX, &mut |_| {})
    }

    /// Takes the records of a body whose columns were learnt before, and calls `full` whenever `rows_max` rows or
    /// bad records are ready to be taken.
    pub fn append_in_parts(
        &mut self,
        body: &[u8],
        kind: BodyKind,
        origin: BodyOrigin,
        rows_max: usize,
        full: &mut dyn FnMut(&mut Self),
    ) -> RowCounts {
        let grows = std::mem::replace(&mut self.ways.grows, false);
        let counts = self.walk(body, kind, origin, rows_max, full);
        self.ways.grows = grows;
        counts
    }

    fn walk(
        &mut self,
        body: &[u8],
        kind: BodyKind,
        origin: BodyOrigin,
        rows_max: usize,
        full: &mut dyn FnMut(&mut Self),
    ) -> RowCounts {
        let before = std::mem::take(&mut self.counts);
        self.bytes += body.len();
        let mut sink = RowSink::new(self, body, origin, rows_max, full);
        // A document that is not valid JSON was rejected before it reached the log.
        if let Err(reason) = walk(body, kind, 0, &mut sink) {
            sink.reject(BadRecord { index: 0, offset: 0, raw: body, reason });
        }
        std::mem::replace(&mut self.counts, before)
    }

    /// Returns the outcome for the records of one body without keeping anything.
    ///
    /// # Errors
    /// For a document that is not valid JSON.
    pub(super) fn judge(
        &mut self,
        body: &[u8],
        kind: BodyKind,
        received_at: Micros,
        rows_max: usize,
    ) -> Result<(RowCounts, Option<(u64, Syntax)>), Syntax> {
        self.ways.forgets_bad = true;
        self.partitions.clear();
        let mut forget = Self::clear;
        let mut sink = RowSink::new(self, body, BodyOrigin { lsn: 0, received_at }, rows_max, &mut forget);
        let walked = walk(body, kind, 0, &mut sink);
        let first_bad = sink.first_bad;
        self.clear();
        let counts = std::mem::take(&mut self.counts);
        walked.map(|_| (counts, first_bad))
    }

    #[inline(always)]
    fn read_row<'a>(&mut self, parser: &mut Parser<'a>, seen: &mut Row<'a>) -> Result<(), Syntax> {
        if self.ways.policy == Policy::Raw {
            return self.read_raw(parser, seen);
        }
        let mut shape = self.set.take_shape();
        let parsed = shape.object(parser, &mut RecordFields { rows: self, seen });
        self.set.put_shape(shape);
        parsed
    }

    /// The whole record is the value of the only column.
    #[inline(never)]
    fn read_raw<'a>(&mut self, parser: &mut Parser<'a>, seen: &mut Row<'a>) -> Result<(), Syntax> {
        if parser.peek() != b'{' {
            return Err(Syntax::ExpectedObject);
        }
        self.set.column(0).push(self.count, parser, seen).map(drop)
    }

    /// Why the row just read is rejected, if it is.
    #[inline(always)]
    fn verdict(&self, seen: &Row<'_>, origin: BodyOrigin) -> Option<Reason> {
        if self.ways.policy.is_declared()
            && (!seen.misfits.is_empty() || self.set.lacks_required(self.count))
            && let Some(reason) = self.failures(seen)
        {
            return Some(reason);
        }
        if self.ways.time.is_some() { self.out_of_time(origin) } else { None }
    }

    #[cold]
    fn failures(&self, seen: &Row<'_>) -> Option<Reason> {
        let mut failures = Vec::new();
        for misfit in seen.misfits.iter().filter(|misfit| !misfit.extra) {
            if let Some(column) = self.set.declared_at(&misfit.path) {
                failures.push(ColumnFailure::misfit(&column.name, &column.type_name(), misfit.raw));
            }
        }
        let mut missing = Vec::new();
        self.set.missing(self.count, &mut missing);
        failures.extend(missing.into_iter().map(|column| ColumnFailure::missing(&column.name, "no value")));
        (!failures.is_empty()).then_some(Reason::Columns(failures))
    }

    fn out_of_time(&self, origin: BodyOrigin) -> Option<Reason> {
        let time = self.ways.time.as_ref()?;
        let column = || time.column.clone();
        let Some(at) = self.set.at(&time.at).and_then(|column| column.timestamp_at(self.count)) else {
            return time.required.then(|| Reason::NoTime { column: column() });
        };
        let micros = |seconds: u64| i64::try_from(seconds).ok()?.checked_mul(1_000_000);
        let before = origin.received_at.saturating_sub(at);
        match (time.late, time.early) {
            (Some(by_max), _) if micros(by_max).is_some_and(|max| before > max) => {
                Some(Reason::Late { column: column(), at, by_max })
            }
            (_, Some(by_max)) if micros(by_max).is_some_and(|max| before < -max) => {
                Some(Reason::Early { column: column(), at, by_max })
            }
            _ => None,
        }
    }
}

struct RecordFields<'r, 'a> {
    rows: &'r mut Rows,
    seen: &'r mut Row<'a>,
}

impl<'a> FieldVisitor<'a> for RecordFields<'_, 'a> {
    fn slot(&mut self, key: Str<'a>) -> Option<usize> {
        let text = key.text();
        if let Some(slot) = self.rows.set.find(&text) {
            return Some(slot);
        }
        let name = std::str::from_utf8(&text).ok()?;
        let full = self.rows.leaves >= self.rows.limits.columns_max;
        if self.rows.set.is_reserved(name) || full || !self.rows.ways.grows {
            return None;
        }
        self.rows.leaves += 1;
        Some(self.rows.set.add(name, super::column::ColumnBuilder::undecided()))
    }

    #[inline(always)]
    fn value(&mut self, field: FieldKey<'a>, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        let before = self.seen.misfits.len();
        let key = match field {
            FieldKey::Slot(slot) => {
                let fit = self.rows.set.column(slot).push(self.rows.count, parser, self.seen)?;
                if fit != Fit::Stored {
                    self.seen.misfit(fit);
                }
                if self.seen.misfits.len() == before {
                    return Ok(());
                }
                self.rows.set.key(slot).to_owned()
            }
            FieldKey::Other(key) => {
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
