//! One column under construction: takes values from a parser and produces an Arrow array.
//!
//! A column may lag behind the rows: a missing value becomes null or the column's default, and is filled in when
//! the next value arrives. The cost of a row therefore depends on the number of its fields, not on the number of
//! columns in the table.
#![deny(clippy::wildcard_enum_match_arm)]

use super::data::{Data, Text, Validity};
use super::infer::Inferred;
use super::{dedupe, scalar, time};
use crate::formats::json::{JsonKind, Number, Parser, Str, Syntax};
use crate::schema::{Column, ColumnType};
use arrow_array::ArrayRef;
use arrow_buffer::i256;
use arrow_schema::ArrowError;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::HashSet;

/// What reading a row yields besides its values.
#[derive(Debug, Default)]
pub(super) struct Row<'a> {
    /// A key occurred twice: the row must be read again so that the last value wins.
    pub(super) duplicate_key: bool,
    /// Values that have no column, or do not fit theirs.
    pub(super) misfits: Vec<MisfitValue<'a>>,
    /// If set, values without a column are counted in `ignored` and not kept as misfits.
    pub(super) ignore_extras: bool,
    pub(super) ignored: u64,
}

#[derive(Debug)]
pub(super) struct MisfitValue<'a> {
    /// Keys from the record down to the value, as their source text between the quotes.
    pub(super) path: Vec<Vec<u8>>,
    pub(super) raw: &'a [u8],
    /// The value has no column, as opposed to one of another type.
    pub(super) extra: bool,
}

/// Up to this many misfits, a key is searched for linearly.
const MISFITS_SEARCHED_MAX: usize = 64;

impl<'a> Row<'a> {
    pub(super) fn new(ignore_extras: bool) -> Self {
        Self { ignore_extras, ..Self::default() }
    }

    /// Takes a value whose key has no column. A null needs no storage unless it overrides an earlier value of the
    /// key.
    pub(super) fn other(&mut self, key: Str<'a>, raw: &'a [u8]) {
        if self.ignore_extras {
            self.ignored += u64::from(raw != b"null");
        } else if raw != b"null" {
            self.misfits.push(MisfitValue { path: Vec::new(), raw, extra: true });
        } else if !self.misfits.is_empty() {
            let came = |misfit: &MisfitValue<'_>| {
                misfit.path.first().is_some_and(|first| first == key.raw || first.contains(&b'\\'))
            };
            // If that is uncertain, the row is read again, which decides it.
            self.duplicate_key |=
                key.escaped || self.misfits.len() > MISFITS_SEARCHED_MAX || self.misfits.iter().any(came);
        }
    }

    /// Records a value that did not go into its column.
    #[cold]
    pub(super) fn misfit(&mut self, fit: Fit<'a>) {
        match fit {
            Fit::Stored => {}
            Fit::Misfit(raw) => self.misfits.push(MisfitValue { path: Vec::new(), raw, extra: false }),
            Fit::Extra(_) if self.ignore_extras => self.ignored += 1,
            Fit::Extra(raw) => self.misfits.push(MisfitValue { path: Vec::new(), raw, extra: true }),
        }
    }
}

/// Whether a value went into its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit<'a> {
    Stored,
    /// The value's source text.
    Misfit(&'a [u8]),
    /// There is no column for it: the place holds an object with columns inside, and the value is not an object.
    Extra(&'a [u8]),
}

#[derive(Debug)]
pub(super) struct ColumnBuilder {
    data: Data,
    kind: Option<ColumnType>,
    valid: Validity,
    /// Number of rows so far, filled or null.
    len: usize,
    terms: Terms,
}

/// What a column's definition specifies besides its type.
#[derive(Debug, Default)]
struct Terms {
    /// See [`ColumnBuilder::new`].
    declared: bool,
    /// Null is not a valid value.
    required: bool,
    epoch_digits: Option<u8>,
    /// The source text that replaces a missing or null value.
    fill: Option<Box<[u8]>>,
}

impl ColumnBuilder {
    /// `declared`: values are converted as the contracts with declared schemas require. A discovered column, in
    /// contrast, only accepts values that it can reproduce.
    pub(super) fn new(kind: &ColumnType, declared: bool) -> Self {
        Self::typed(kind, declared, None)
    }

    /// Like [`ColumnBuilder::new`], but integers may be timestamps.
    pub(super) fn typed(kind: &ColumnType, declared: bool, epoch_digits: Option<u8>) -> Self {
        let terms = Terms { declared, epoch_digits, ..Terms::default() };
        Self {
            data: Data::new(kind, declared, epoch_digits),
            kind: Some(kind.clone()),
            valid: Validity::default(),
            len: 0,
            terms,
        }
    }

    /// `strict`: every row must satisfy the definition.
    pub(super) fn defined(definition: &Column, declared: bool, strict: bool) -> Self {
        // The time of receipt differs from row to row and is filled in once all rows are there.
        let constant = definition.default.as_ref().filter(|_| !definition.is_receipt_time());
        let fill = constant.map(|value| value.to_string().into_bytes().into_boxed_slice());
        let required = strict && !definition.nullable && definition.default.is_none();
        let terms = Terms { declared, required, epoch_digits: definition.epoch_digits, fill };
        Self { terms, ..Self::typed(&definition.kind, declared, definition.epoch_digits) }
    }

    pub(super) fn undecided() -> Self {
        Self::untyped(Data::Undecided(Vec::new()))
    }

    pub(super) fn untyped(data: Data) -> Self {
        Self { data, kind: None, valid: Validity::default(), len: 0, terms: Terms::default() }
    }

    /// Its type, if it has one.
    pub(super) fn kind(&self) -> Option<&ColumnType> {
        self.kind.as_ref()
    }

    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.data, Data::Undecided(_))
    }

    /// Whether the column, or a column within it, rejects nulls.
    pub(super) fn is_required(&self) -> bool {
        self.terms.required || self.branch().is_some_and(super::set::ColumnSet::is_required)
    }

    /// Whether no value has arrived for this row yet.
    #[inline(always)]
    pub(super) fn lacks(&self, row: usize) -> bool {
        self.len <= row
    }

    pub(super) fn branch(&self) -> Option<&super::set::ColumnSet> {
        if let Data::Branch(set) = &self.data { Some(set) } else { None }
    }

    pub(super) fn branch_mut(&mut self) -> Option<&mut super::set::ColumnSet> {
        if let Data::Branch(set) = &mut self.data { Some(set) } else { None }
    }

    /// Its values, if the value of this row is present and not null.
    pub(super) fn value_at(&self, row: usize) -> Option<&Data> {
        (row < self.len && self.valid.is_valid(row)).then_some(&self.data)
    }

    /// The time in a row of a timestamp column.
    pub(super) fn timestamp_at(&self, row: usize) -> Option<i64> {
        let Data::Timestamp(values) = self.value_at(row)? else { return None };
        values.get(row).copied()
    }

    /// Extends the column to `row` rows.
    #[inline(always)]
    fn pad(&mut self, row: usize) {
        if self.len < row {
            self.push_missing(row - self.len);
        }
    }

    #[cold]
    fn push_missing(&mut self, n: usize) {
        let Some(fill) = self.terms.fill.take() else { return self.push_nulls(n) };
        for _ in 0..n {
            let fit = self.push(self.len, &mut Parser::document(&fill), &mut Row::default());
            debug_assert_eq!(fit, Ok(Fit::Stored), "defaults are checked when they are declared");
        }
        self.terms.fill = Some(fill);
    }

    #[cold]
    fn push_nulls(&mut self, n: usize) {
        self.valid.push(self.len, false, n);
        self.len += n;
        self.data.push_nulls(n, self.len);
    }

    /// Discards everything from `row` on.
    pub(super) fn truncate(&mut self, row: usize) {
        self.len = self.len.min(row);
        self.valid.truncate(row);
        self.data.truncate(row);
    }

    /// Takes a text for row number `row` of a string column.
    pub(super) fn push_text(&mut self, row: usize, value: &[u8]) {
        self.pad(row);
        if let Data::String(text) = &mut self.data {
            text.push(value);
            self.valid.push(self.len, true, 1);
            self.len += 1;
        }
    }

    /// Takes the value at the parser for row number `row`.
    #[inline(always)]
    pub(super) fn push<'a>(
        &mut self,
        row: usize,
        parser: &mut Parser<'a>,
        seen: &mut Row<'a>,
    ) -> Result<Fit<'a>, Syntax> {
        self.pad(row);
        if self.len > row {
            seen.duplicate_key = true;
            parser.skip_value()?;
            return Ok(Fit::Stored);
        }
        let start = parser.at();
        let stored = match (&mut self.data, parser.peek()) {
            (Data::String(text), b'"') => {
                let value = parser.string()?;
                if value.escaped {
                    text.push(&value.text());
                } else {
                    text.push(value.raw);
                }
                true
            }
            (Data::Int64(values), b'-' | b'0'..=b'9') => {
                let number = parser.number()?;
                scalar::int64(number.raw).map(|value| values.push(value)).is_some()
            }
            (Data::Float64(values), b'-' | b'0'..=b'9') => {
                let number = parser.number()?;
                let value = if self.terms.declared {
                    scalar::nearest_float64(number.raw)
                } else {
                    scalar::float64(number.raw, number.integer)
                };
                value.map(|value| values.push(value)).is_some()
            }
            (Data::Timestamp(values), b'"') => {
                let text = parser.string()?.text();
                let value = if self.terms.declared {
                    time::declared_timestamp(&text)
                } else {
                    time::timestamp(&text)
                };
                value.map(|value| values.push(value)).is_some()
            }
            _ => return self.push_other(row, parser, seen),
        };
        if stored {
            self.valid.push(self.len, true, 1);
            self.len += 1;
            return Ok(Fit::Stored);
        }
        self.push_nulls(1);
        Ok(Fit::Misfit(&parser.bytes()[start..parser.at()]))
    }

    /// Handles the less common types, nulls, and values that do not fit.
    #[inline(never)]
    fn push_other<'a>(
        &mut self,
        row: usize,
        parser: &mut Parser<'a>,
        seen: &mut Row<'a>,
    ) -> Result<Fit<'a>, Syntax> {
        let kind = parser.kind()?;
        let start = parser.at();
        if kind == JsonKind::Null {
            parser.literal(kind);
            self.push_missing(1);
            let raw = &parser.bytes()[start..parser.at()];
            return Ok(if self.terms.required { Fit::Misfit(raw) } else { Fit::Stored });
        }
        let stored = match kind {
            JsonKind::Object | JsonKind::Array => self.take_nested(row, kind, parser, seen)?,
            JsonKind::String | JsonKind::Number | JsonKind::True | JsonKind::False | JsonKind::Null => {
                self.take_scalar(row, kind, parser)?
            }
        };
        if stored {
            self.valid.push(self.len, true, 1);
            self.len += 1;
            return Ok(Fit::Stored);
        }
        self.push_nulls(1);
        let raw = &parser.bytes()[start..parser.at()];
        Ok(if matches!(self.data, Data::Branch(_)) { Fit::Extra(raw) } else { Fit::Misfit(raw) })
    }

    /// Takes an object or an array. Returns whether it fitted; in either case the parser is past it.
    fn take_nested<'a>(
        &mut self,
        row: usize,
        kind: JsonKind,
        parser: &mut Parser<'a>,
        seen: &mut Row<'a>,
    ) -> Result<bool, Syntax> {
        match &mut self.data {
            Data::Undecided(values) => {
                let raw = parser.skip_value()?;
                // Its keys are examined now: by the time the column has a type, the row has been counted and
                // completed.
                seen.duplicate_key |= dedupe::has_duplicate(&mut Parser::document(raw))?;
                values.push((row, raw.to_owned()));
                Ok(true)
            }
            Data::Json(text) => {
                text.push(parser.skip_value()?);
                Ok(true)
            }
            Data::String(text) if self.terms.declared => {
                text.push(&scalar::compact(parser.skip_value()?));
                Ok(true)
            }
            Data::List(ends, items) if kind == JsonKind::Array => {
                push_list(ends, items, self.terms.declared, parser, seen)
            }
            Data::Map(ends, keys, values) if kind == JsonKind::Object => {
                push_map(ends, keys, values, parser, seen)
            }
            Data::Struct(set) | Data::Branch(set) if kind == JsonKind::Object => {
                set.object(row, parser, seen)?;
                Ok(true)
            }
            // Scalars, and values nested in the other way.
            Data::Bool(_)
            | Data::Int64(_)
            | Data::Int(..)
            | Data::UInt64(_)
            | Data::Float32(_)
            | Data::Float64(_)
            | Data::Decimal128(..)
            | Data::Decimal256(..)
            | Data::Timestamp(_)
            | Data::Date(_)
            | Data::String(_)
            | Data::Fixed(..)
            | Data::Uuid(_)
            | Data::Binary(_)
            | Data::List(..)
            | Data::Map(..)
            | Data::Struct(_)
            | Data::Branch(_) => {
                parser.skip_value()?;
                Ok(false)
            }
        }
    }

    /// Takes a string, a number or a boolean. Returns whether it fitted; in either case the parser is past it.
    fn take_scalar(&mut self, row: usize, kind: JsonKind, parser: &mut Parser<'_>) -> Result<bool, Syntax> {
        let is_truth = matches!(kind, JsonKind::True | JsonKind::False);
        match &mut self.data {
            Data::Undecided(values) => {
                values.push((row, parser.skip_value()?.to_owned()));
                return Ok(true);
            }
            // Any value has a JSON text, any scalar a plain text.
            Data::Json(text) => {
                text.push(parser.skip_value()?);
                return Ok(true);
            }
            Data::String(text) if is_truth || kind == JsonKind::Number => {
                text.push(parser.skip_value()?);
                return Ok(true);
            }
            Data::Bool(bits) if is_truth => {
                parser.literal(kind);
                bits.append(kind == JsonKind::True);
                return Ok(true);
            }
            Data::Bool(_)
            | Data::Int64(_)
            | Data::Int(..)
            | Data::UInt64(_)
            | Data::Float32(_)
            | Data::Float64(_)
            | Data::Decimal128(..)
            | Data::Decimal256(..)
            | Data::Timestamp(_)
            | Data::Date(_)
            | Data::String(_)
            | Data::Fixed(..)
            | Data::Uuid(_)
            | Data::Binary(_)
            | Data::List(..)
            | Data::Map(..)
            | Data::Struct(_)
            | Data::Branch(_) => {}
        }
        Ok(match kind {
            JsonKind::Number => {
                let number = parser.number()?;
                self.take_number(number).is_some()
            }
            JsonKind::String => {
                let text = parser.string()?.text();
                self.take_text(&text).is_some()
            }
            JsonKind::True | JsonKind::False | JsonKind::Null | JsonKind::Object | JsonKind::Array => {
                parser.skip_value()?;
                false
            }
        })
    }

    fn take_number(&mut self, number: Number<'_>) -> Option<()> {
        let raw = number.raw;
        match &mut self.data {
            Data::Int(values, min, max) => {
                let value = scalar::int64(raw).filter(|value| (*min..=*max).contains(value))?;
                values.push(value);
            }
            Data::UInt64(values) => values.push(scalar::uint64(raw)?),
            Data::Float32(values) => values.push(scalar::float32(raw)?),
            Data::Decimal128(values, precision, scale) => {
                values.push(scalar::decimal(raw, *precision, *scale)?.parse().ok()?);
            }
            Data::Decimal256(values, precision, scale) => {
                values.push(i256::from_string(&scalar::decimal(raw, *precision, *scale)?)?);
            }
            Data::Timestamp(values) => {
                values.push(time::epoch(scalar::int64(raw)?, self.terms.epoch_digits?)?);
            }
            Data::Bool(bits) if self.terms.declared => bits.append(scalar::bool(raw)?),
            // 64-bit numbers are handled where they are read.
            Data::Undecided(_)
            | Data::Bool(_)
            | Data::Int64(_)
            | Data::Float64(_)
            | Data::Date(_)
            | Data::String(_)
            | Data::Fixed(..)
            | Data::Uuid(_)
            | Data::Binary(_)
            | Data::Json(_)
            | Data::List(..)
            | Data::Map(..)
            | Data::Struct(_)
            | Data::Branch(_) => return None,
        }
        Some(())
    }

    fn take_text(&mut self, value: &[u8]) -> Option<()> {
        match &mut self.data {
            Data::Date(values) => values.push(time::date(value)?),
            Data::Uuid(text) => text.push(scalar::uuid(value)?.as_bytes()),
            Data::Fixed(text, max) if value.len() <= *max as usize => text.push(value),
            Data::Binary(text) => text.push(&BASE64_STANDARD.decode(value).ok()?),
            // Many clients send decimals as text because their numbers are not exact.
            Data::Decimal128(values, precision, scale) => {
                values.push(scalar::decimal(value, *precision, *scale)?.parse().ok()?);
            }
            Data::Decimal256(values, precision, scale) => {
                values.push(i256::from_string(&scalar::decimal(value, *precision, *scale)?)?);
            }
            Data::Bool(bits) if self.terms.declared => bits.append(scalar::bool(value)?),
            // Texts and timestamps are handled where they are read.
            Data::Undecided(_)
            | Data::Bool(_)
            | Data::Int64(_)
            | Data::Int(..)
            | Data::UInt64(_)
            | Data::Float32(_)
            | Data::Float64(_)
            | Data::Timestamp(_)
            | Data::String(_)
            | Data::Fixed(..)
            | Data::Json(_)
            | Data::List(..)
            | Data::Map(..)
            | Data::Struct(_)
            | Data::Branch(_) => return None,
        }
        Some(())
    }

    /// The type of an undecided column according to its values so far.
    pub(super) fn inferred(&self, leaves_max: usize) -> Option<ColumnType> {
        let Data::Undecided(values) = &self.data else { return None };
        let mut inferred = Inferred::Nothing;
        for (_, raw) in values {
            let value = Inferred::value(&mut Parser::document(raw), 0);
            inferred = inferred.or(value.unwrap_or(Inferred::Json));
        }
        inferred.into_type(leaves_max)
    }

    /// Settles the type of an undecided column. A value that does not fit after all is passed to `rescue` with its
    /// row (`[]` fits a column of lists, `{}` alone determines nothing). Without a type, every value is rescued.
    pub(super) fn decide(
        &mut self,
        kind: Option<ColumnType>,
        mut rescue: impl FnMut(usize, &[Vec<u8>], &[u8]),
    ) {
        let Data::Undecided(values) = &mut self.data else { return };
        let values = std::mem::take(values);
        let Some(kind) = kind else {
            for (row, raw) in &values {
                rescue(*row, &[], raw);
            }
            *self = Self::undecided();
            return;
        };
        let len = self.len;
        *self = Self::new(&kind, false);
        for (row, raw) in &values {
            let mut seen = Row::default();
            match self.push(*row, &mut Parser::document(raw), &mut seen) {
                Ok(Fit::Stored) => {}
                _ => rescue(*row, &[], raw),
            }
            for misfit in &seen.misfits {
                rescue(*row, &misfit.path, misfit.raw);
            }
        }
        self.pad(len);
    }

    /// Returns the array of the first `rows` rows and resets the column. Requires that the column has a type.
    pub(super) fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows);
        self.len = 0;
        let nulls = self.valid.finish();
        let Some(kind) = &self.kind else {
            unreachable!("a column's type is settled before the column is finished")
        };
        self.data.finish(rows, kind, nulls)
    }

    /// Returns the arrays of the columns within an object, with their positions, and resets the columns.
    pub(super) fn finish_branch(
        &mut self,
        rows: usize,
        into: &mut Vec<super::set::FinishedArray>,
    ) -> Result<(), ArrowError> {
        self.len = 0;
        self.valid.finish();
        self.branch_mut().map_or(Ok(()), |set| set.finish_into(rows, into))
    }
}

/// Stores a list completely or not at all. Returns whether it was stored.
fn push_list<'a>(
    ends: &mut Vec<i32>,
    items: &mut ColumnBuilder,
    declared: bool,
    parser: &mut Parser<'a>,
    seen: &mut Row<'a>,
) -> Result<bool, Syntax> {
    let before = items.len;
    let misfits = seen.misfits.len();
    // A rescued value without a column could not be attributed to its element, so such values are ignored here.
    let ignore_extras = seen.ignore_extras;
    seen.ignore_extras |= declared;
    let mut fits = true;
    parser.enter()?;
    let mut more = parser.first_element();
    while more {
        let row = items.len;
        fits &= items.push(row, parser, seen)? == Fit::Stored;
        more = parser.next_element()?;
    }
    parser.leave();
    seen.ignore_extras = ignore_extras;
    fits &= seen.misfits.len() == misfits;
    if fits {
        ends.push(i32::try_from(items.len).unwrap_or(i32::MAX));
    } else {
        items.truncate(before);
        seen.misfits.truncate(misfits);
    }
    Ok(fits)
}

/// Up to this many keys of a map are compared linearly.
const KEYS_SEARCHED_MAX: usize = 16;

/// Stores a map completely or not at all. Returns whether it was stored.
fn push_map<'a>(
    ends: &mut Vec<i32>,
    keys: &mut Text,
    values: &mut ColumnBuilder,
    parser: &mut Parser<'a>,
    seen: &mut Row<'a>,
) -> Result<bool, Syntax> {
    let before = values.len;
    let misfits = seen.misfits.len();
    let ignore_extras = std::mem::replace(&mut seen.ignore_extras, true);
    let mut fits = true;
    let mut few = Vec::new();
    let mut many = HashSet::new();
    parser.enter()?;
    let mut key = parser.first_key()?;
    while let Some(name) = key {
        let text = name.text();
        keys.push(&text);
        let row = values.len;
        fits &= values.push(row, parser, seen)? == Fit::Stored;
        if few.len() < KEYS_SEARCHED_MAX {
            seen.duplicate_key |= few.contains(&text);
            few.push(text);
        } else {
            seen.duplicate_key |= few.contains(&text) || !many.insert(text);
        }
        key = parser.next_key()?;
    }
    parser.leave();
    seen.ignore_extras = ignore_extras;
    fits &= seen.misfits.len() == misfits;
    if fits {
        ends.push(i32::try_from(values.len).unwrap_or(i32::MAX));
    } else {
        keys.truncate(before);
        values.truncate(before);
        seen.misfits.truncate(misfits);
    }
    Ok(fits)
}
