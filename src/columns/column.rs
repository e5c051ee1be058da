//! One column being built: values go in from a parser, an Arrow array comes out.
//!
//! A column may lag behind the rows: what is missing at the end of a row is null, or the column's default, and is filled
//! in when the next value comes. So a row costs as much as it has fields, not as much as the table has columns.
#![deny(clippy::wildcard_enum_match_arm)]

use super::data::{Data, Text, Validity};
use super::infer::Inferred;
use super::{dedupe, scalar, time};
use crate::formats::json::{Kind, Number, Parser, Str, Syntax};
use crate::schema::{Column as Definition, ColumnType};
use arrow::array::ArrayRef;
use arrow::datatypes::i256;
use arrow::error::ArrowError;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::HashSet;

/// What is learnt about a row besides its values.
#[derive(Debug, Default)]
pub(super) struct Row<'a> {
    /// A key came twice: the row is to be read again, last value first.
    pub(super) duplicate_key: bool,
    /// Values that have no column, or do not fit theirs.
    pub(super) misfits: Vec<Misfit<'a>>,
    /// Values without a column are counted here instead.
    pub(super) ignore_extras: bool,
    pub(super) ignored: u64,
}

#[derive(Debug)]
pub(super) struct Misfit<'a> {
    /// Keys from the record down to the value, as their source text between the quotes.
    pub(super) path: Vec<Vec<u8>>,
    pub(super) raw: &'a [u8],
    /// It has no column, rather than a column of another type.
    pub(super) extra: bool,
}

/// Misfits among which a key is looked for one by one.
const MISFITS_SEARCHED_MAX: usize = 64;

impl<'a> Row<'a> {
    pub(super) fn new(ignore_extras: bool) -> Self {
        Self { ignore_extras, ..Self::default() }
    }

    /// Takes a value whose key has no column. A null is nothing to keep, unless it stands for a value before it.
    pub(super) fn other(&mut self, key: Str<'a>, raw: &'a [u8]) {
        if self.ignore_extras {
            self.ignored += u64::from(raw != b"null");
        } else if raw != b"null" {
            self.misfits.push(Misfit { path: Vec::new(), raw, extra: true });
        } else if !self.misfits.is_empty() {
            let came = |misfit: &Misfit<'_>| {
                misfit.path.first().is_some_and(|first| first == key.raw || first.contains(&b'\\'))
            };
            // Where that is not sure, the row is read again, which tells.
            self.duplicate_key |=
                key.escaped || self.misfits.len() > MISFITS_SEARCHED_MAX || self.misfits.iter().any(came);
        }
    }

    /// Takes what did not go into its column.
    #[cold]
    pub(super) fn misfit(&mut self, fit: Fit<'a>) {
        match fit {
            Fit::Stored => {}
            Fit::Misfit(raw) => self.misfits.push(Misfit { path: Vec::new(), raw, extra: false }),
            Fit::Extra(_) if self.ignore_extras => self.ignored += 1,
            Fit::Extra(raw) => self.misfits.push(Misfit { path: Vec::new(), raw, extra: true }),
        }
    }
}

/// Whether a value went into its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit<'a> {
    Stored,
    /// Its source text.
    Misfit(&'a [u8]),
    /// There is no column for it: columns are within an object at its place, and it is none.
    Extra(&'a [u8]),
}

#[derive(Debug)]
pub(super) struct Column {
    data: Data,
    kind: Option<ColumnType>,
    valid: Validity,
    /// Rows so far, filled or null.
    len: usize,
    terms: Terms,
}

/// What a column's definition says besides its type.
#[derive(Debug, Default)]
struct Terms {
    /// See [`Column::new`].
    declared: bool,
    /// Null does not fit.
    required: bool,
    epoch_digits: Option<u8>,
    /// The source text of what stands for a missing or null value.
    fill: Option<Box<[u8]>>,
}

impl Column {
    /// `declared`: values are taken as the contracts of declared schemas have it, where a column that was found takes
    /// only what it can give back.
    pub(super) fn new(kind: &ColumnType, declared: bool) -> Self {
        Self::typed(kind, declared, None)
    }

    /// The same, where integers may be times.
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

    /// `strict`: what its definition asks for is asked of every row.
    pub(super) fn defined(definition: &Definition, declared: bool, strict: bool) -> Self {
        // The time of receipt differs from row to row, and is filled in when all of them are there.
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

    /// Whether it takes no nulls, or a column within it.
    pub(super) fn is_required(&self) -> bool {
        self.terms.required || self.branch().is_some_and(super::set::ColumnSet::is_required)
    }

    /// Whether nothing came for this row yet.
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

    /// Its values, if the one of this row is there and not null.
    pub(super) fn value_at(&self, row: usize) -> Option<&Data> {
        (row < self.len && self.valid.is_valid(row)).then_some(&self.data)
    }

    /// The time in a row of a column of timestamps.
    pub(super) fn timestamp_at(&self, row: usize) -> Option<i64> {
        let Data::Timestamp(values) = self.value_at(row)? else { return None };
        values.get(row).copied()
    }

    /// Makes the column `row` rows long.
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

    /// Forgets everything from `row` on.
    pub(super) fn truncate(&mut self, row: usize) {
        self.len = self.len.min(row);
        self.valid.truncate(row);
        self.data.truncate(row);
    }

    /// Takes a text for row number `row` of a column of strings.
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

    /// The less usual types, nulls, and what does not fit.
    #[inline(never)]
    fn push_other<'a>(
        &mut self,
        row: usize,
        parser: &mut Parser<'a>,
        seen: &mut Row<'a>,
    ) -> Result<Fit<'a>, Syntax> {
        let kind = parser.kind()?;
        let start = parser.at();
        if kind == Kind::Null {
            parser.literal(kind);
            self.push_missing(1);
            let raw = &parser.bytes()[start..parser.at()];
            return Ok(if self.terms.required { Fit::Misfit(raw) } else { Fit::Stored });
        }
        let stored = match kind {
            Kind::Object | Kind::Array => self.take_nested(row, kind, parser, seen)?,
            Kind::String | Kind::Number | Kind::True | Kind::False | Kind::Null => {
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

    /// Takes an object or an array. Says whether it fitted; the parser is behind it in any case.
    fn take_nested<'a>(
        &mut self,
        row: usize,
        kind: Kind,
        parser: &mut Parser<'a>,
        seen: &mut Row<'a>,
    ) -> Result<bool, Syntax> {
        match &mut self.data {
            Data::Undecided(values) => {
                let raw = parser.skip_value()?;
                // Its keys are looked at now: once the column has a type, the row is counted and done with.
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
            Data::List(ends, items) if kind == Kind::Array => {
                push_list(ends, items, self.terms.declared, parser, seen)
            }
            Data::Map(ends, keys, values) if kind == Kind::Object => {
                push_map(ends, keys, values, parser, seen)
            }
            Data::Struct(set) | Data::Branch(set) if kind == Kind::Object => {
                set.object(row, parser, seen)?;
                Ok(true)
            }
            // Scalars, and what is nested in the other way.
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

    /// Takes a string, a number or a truth value. Says whether it fitted; the parser is behind it in any case.
    fn take_scalar(&mut self, row: usize, kind: Kind, parser: &mut Parser<'_>) -> Result<bool, Syntax> {
        let is_truth = matches!(kind, Kind::True | Kind::False);
        match &mut self.data {
            Data::Undecided(values) => {
                values.push((row, parser.skip_value()?.to_owned()));
                return Ok(true);
            }
            // Any value has a JSON text, any scalar a text.
            Data::Json(text) => {
                text.push(parser.skip_value()?);
                return Ok(true);
            }
            Data::String(text) if is_truth || kind == Kind::Number => {
                text.push(parser.skip_value()?);
                return Ok(true);
            }
            Data::Bool(bits) if is_truth => {
                parser.literal(kind);
                bits.append(kind == Kind::True);
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
            Kind::Number => {
                let number = parser.number()?;
                self.take_number(number).is_some()
            }
            Kind::String => {
                let text = parser.string()?.text();
                self.take_text(&text).is_some()
            }
            Kind::True | Kind::False | Kind::Null | Kind::Object | Kind::Array => {
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
            // Numbers of 64 bits are taken where they are read.
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
            // Many clients send decimals as text, because their numbers are not exact.
            Data::Decimal128(values, precision, scale) => {
                values.push(scalar::decimal(value, *precision, *scale)?.parse().ok()?);
            }
            Data::Decimal256(values, precision, scale) => {
                values.push(i256::from_string(&scalar::decimal(value, *precision, *scale)?)?);
            }
            Data::Bool(bits) if self.terms.declared => bits.append(scalar::bool(value)?),
            // Texts and timestamps are taken where they are read.
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

    /// The type of an undecided column by its values so far.
    pub(super) fn inferred(&self, leaves_max: usize) -> Option<ColumnType> {
        let Data::Undecided(values) = &self.data else { return None };
        let mut inferred = Inferred::Nothing;
        for (_, raw) in values {
            let value = Inferred::value(&mut Parser::document(raw), 0);
            inferred = inferred.or(value.unwrap_or(Inferred::Json));
        }
        inferred.into_type(leaves_max)
    }

    /// Settles the type of an undecided column. What does not fit after all (`[]` in a column of lists fits, `{}` alone
    /// tells nothing) is handed to `rescue` with its row; without a type nothing does.
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

    /// The array of the first `rows` rows; the column starts anew. Only for a column with a type.
    pub(super) fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows);
        self.len = 0;
        let nulls = self.valid.finish();
        let Some(kind) = &self.kind else { unreachable!("a column is decided before it is finished") };
        self.data.finish(rows, kind, nulls)
    }

    /// The arrays of the columns within an object, with their places; they start anew.
    pub(super) fn finish_branch(
        &mut self,
        rows: usize,
        into: &mut Vec<super::set::Finished>,
    ) -> Result<(), ArrowError> {
        self.len = 0;
        self.valid.finish();
        self.branch_mut().map_or(Ok(()), |set| set.finish_into(rows, into))
    }
}

/// A list goes in whole or not at all. Returns whether it did.
fn push_list<'a>(
    ends: &mut Vec<i32>,
    items: &mut Column,
    declared: bool,
    parser: &mut Parser<'a>,
    seen: &mut Row<'a>,
) -> Result<bool, Syntax> {
    let before = items.len;
    let misfits = seen.misfits.len();
    // What has no column within an element could not be told apart from the same in another one.
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

/// Keys of a map that are compared with one another one by one.
const KEYS_SEARCHED_MAX: usize = 16;

/// So does a map.
fn push_map<'a>(
    ends: &mut Vec<i32>,
    keys: &mut Text,
    values: &mut Column,
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
