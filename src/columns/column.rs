//! One column being built: values go in from a parser, an Arrow array comes out.
//!
//! A column may lag behind the rows: what is missing at the end of a row is null, and nulls are filled in when the
//! next value comes. So a row costs as much as it has fields, not as much as the table has columns.

use super::infer::Inferred;
use super::{dedupe, scalar};
use crate::json::{Field, Fields, Kind, Parser, Shape, Str, Syntax};
use crate::schema::{Column as Definition, ColumnType};
use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Float64Array, Int64Array, ListArray,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field as ArrowField, Fields as ArrowFields, TimeUnit};
use arrow::error::ArrowError;
use std::sync::Arc;

/// What is learnt about a row besides its values.
#[derive(Debug, Default)]
pub(super) struct Row<'a> {
    /// A key came twice: the row is to be read again, last value first.
    pub(super) duplicate_key: bool,
    /// Values that have no column, or do not fit theirs.
    pub(super) misfits: Vec<Misfit<'a>>,
}

#[derive(Debug)]
pub(super) struct Misfit<'a> {
    /// Keys from the record down to the value, as their source text between the quotes.
    pub(super) path: Vec<Vec<u8>>,
    pub(super) raw: &'a [u8],
}

/// Misfits among which a key is looked for one by one.
const MISFITS_SEARCHED_MAX: usize = 64;

impl<'a> Row<'a> {
    /// Takes a value whose key has no column. A null is nothing to keep, unless it stands for a value before it.
    pub(super) fn other(&mut self, key: Str<'a>, raw: &'a [u8]) {
        if raw != b"null" {
            self.misfits.push(Misfit { path: Vec::new(), raw });
        } else if !self.misfits.is_empty() {
            let came = |misfit: &Misfit<'_>| {
                misfit.path.first().is_some_and(|first| first == key.raw || first.contains(&b'\\'))
            };
            // Where that is not sure, the row is read again, which tells.
            self.duplicate_key |=
                key.escaped || self.misfits.len() > MISFITS_SEARCHED_MAX || self.misfits.iter().any(came);
        }
    }
}

/// Whether a value went into its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit<'a> {
    Stored,
    /// Its source text.
    Misfit(&'a [u8]),
}

/// Columns of an object, the record itself or a struct in it.
#[derive(Debug)]
pub(super) struct ColumnSet {
    columns: Vec<NamedColumn>,
    by_name: hashbrown::HashMap<Vec<u8>, usize>,
    shape: Shape,
}

#[derive(Debug)]
struct NamedColumn {
    name: String,
    /// The name as JSON writes it, without quotes.
    key: Vec<u8>,
    column: Column,
}

#[derive(Debug)]
pub(super) struct Column {
    data: Data,
    valid: Validity,
    /// Rows so far, filled or null.
    len: usize,
}

#[derive(Debug)]
enum Data {
    /// Not typed yet: source texts and their rows.
    Undecided(Vec<(usize, Vec<u8>)>),
    Bool(BooleanBufferBuilder),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Timestamp(Vec<i64>),
    Date(Vec<i32>),
    String(Text),
    Json(Text),
    List(Vec<i32>, Box<Column>),
    Struct(Box<ColumnSet>),
}

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// End of each value.
    ends: Vec<i32>,
}

/// Which rows are not null. Costs nothing until the first null.
#[derive(Debug, Default)]
struct Validity(Option<BooleanBufferBuilder>);

impl Validity {
    #[inline(always)]
    fn push(&mut self, len: usize, valid: bool, n: usize) {
        match &mut self.0 {
            Some(bits) => bits.append_n(n, valid),
            None if valid => {}
            None => {
                let mut bits = BooleanBufferBuilder::new(len + n);
                bits.append_n(len, true);
                bits.append_n(n, false);
                self.0 = Some(bits);
            }
        }
    }

    fn truncate(&mut self, len: usize) {
        if let Some(bits) = &mut self.0
            && bits.len() > len
        {
            bits.truncate(len);
        }
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        self.0.take().map(|mut bits| NullBuffer::new(bits.finish()))
    }
}

impl Text {
    #[inline(always)]
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.close();
    }

    #[inline(always)]
    fn close(&mut self) {
        // A batch is closed long before its text has 2 GiB; one request has at most `limits.decoded_max` bytes.
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    fn push_nulls(&mut self, n: usize) {
        let end = self.ends.last().copied().unwrap_or(0);
        self.ends.resize(self.ends.len() + n, end);
    }

    fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        let end = self.ends.last().copied().unwrap_or(0);
        self.bytes.truncate(usize::try_from(end).unwrap_or(0));
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let rows = self.ends.len();
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        offsets.append(&mut self.ends);
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(0));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?))
    }
}

impl Data {
    fn new(kind: &ColumnType) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool(BooleanBufferBuilder::new(0)),
            ColumnType::Int64 => Self::Int64(Vec::new()),
            ColumnType::Float64 => Self::Float64(Vec::new()),
            ColumnType::Timestamp => Self::Timestamp(Vec::new()),
            ColumnType::Date => Self::Date(Vec::new()),
            ColumnType::Json => Self::Json(Text::default()),
            ColumnType::List(item) => Self::List(Vec::new(), Box::new(Column::new(item))),
            ColumnType::Struct(fields) => Self::Struct(Box::new(ColumnSet::new(fields))),
            _ => Self::String(Text::default()),
        }
    }
}

impl Column {
    pub(super) fn new(kind: &ColumnType) -> Self {
        Self { data: Data::new(kind), valid: Validity::default(), len: 0 }
    }

    pub(super) fn undecided() -> Self {
        Self { data: Data::Undecided(Vec::new()), valid: Validity::default(), len: 0 }
    }

    /// Its type, if it has one.
    pub(super) fn kind(&self) -> Option<ColumnType> {
        Some(match &self.data {
            Data::Undecided(_) => return None,
            Data::Bool(_) => ColumnType::Bool,
            Data::Int64(_) => ColumnType::Int64,
            Data::Float64(_) => ColumnType::Float64,
            Data::Timestamp(_) => ColumnType::Timestamp,
            Data::Date(_) => ColumnType::Date,
            Data::String(_) => ColumnType::String,
            Data::Json(_) => ColumnType::Json,
            Data::List(_, item) => ColumnType::List(Box::new(item.kind()?)),
            Data::Struct(set) => ColumnType::Struct(set.definitions()),
        })
    }

    /// Makes the column `row` rows long, with nulls.
    #[inline(always)]
    fn pad(&mut self, row: usize) {
        if self.len < row {
            self.push_nulls(row - self.len);
        }
    }

    #[cold]
    fn push_nulls(&mut self, n: usize) {
        self.valid.push(self.len, false, n);
        self.len += n;
        match &mut self.data {
            Data::Undecided(_) | Data::Struct(_) => {}
            Data::Bool(bits) => bits.append_n(n, false),
            Data::Int64(values) | Data::Timestamp(values) => values.resize(self.len, 0),
            Data::Float64(values) => values.resize(self.len, 0.0),
            Data::Date(values) => values.resize(self.len, 0),
            Data::String(text) | Data::Json(text) => text.push_nulls(n),
            Data::List(ends, _) => {
                let end = ends.last().copied().unwrap_or(0);
                ends.resize(self.len, end);
            }
        }
    }

    /// Forgets everything from `row` on.
    pub(super) fn truncate(&mut self, row: usize) {
        self.len = self.len.min(row);
        self.valid.truncate(row);
        // Also when nothing of the row was stored: a list or a struct may have taken a part of it.
        match &mut self.data {
            Data::Undecided(values) => values.truncate(values.partition_point(|(at, _)| *at < row)),
            Data::Struct(set) => set.truncate(row),
            Data::Bool(bits) => bits.truncate(row.min(bits.len())),
            Data::Int64(values) | Data::Timestamp(values) => values.truncate(row),
            Data::Float64(values) => values.truncate(row),
            Data::Date(values) => values.truncate(row),
            Data::String(text) | Data::Json(text) => text.truncate(row),
            Data::List(ends, items) => {
                ends.truncate(row);
                items.truncate(usize::try_from(ends.last().copied().unwrap_or(0)).unwrap_or(0));
            }
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
                scalar::float64(number.raw, number.integer).map(|value| values.push(value)).is_some()
            }
            (Data::Timestamp(values), b'"') => {
                let text = parser.string()?;
                scalar::timestamp(&text.text()).map(|value| values.push(value)).is_some()
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
            self.push_nulls(1);
            return Ok(Fit::Stored);
        }
        let stored = match (&mut self.data, kind) {
            (Data::Undecided(values), _) => {
                let raw = parser.skip_value()?;
                // Its keys are looked at now: once the column has a type, the row is counted and done with.
                seen.duplicate_key |= matches!(kind, Kind::Object | Kind::Array)
                    && dedupe::has_duplicate(&mut Parser::document(raw))?;
                values.push((row, raw.to_owned()));
                true
            }
            // Any value has a JSON text, any scalar a text.
            (Data::Json(text), _) | (Data::String(text), Kind::Number | Kind::True | Kind::False) => {
                text.push(parser.skip_value()?);
                true
            }
            (Data::Bool(bits), Kind::True | Kind::False) => {
                parser.literal(kind);
                bits.append(kind == Kind::True);
                true
            }
            (Data::Date(values), Kind::String) => {
                let text = parser.string()?;
                scalar::date(&text.text()).map(|value| values.push(value)).is_some()
            }
            (Data::List(ends, items), Kind::Array) => push_list(ends, items, parser, seen)?,
            (Data::Struct(set), Kind::Object) => {
                set.object(row, parser, seen)?;
                true
            }
            _ => {
                parser.skip_value()?;
                false
            }
        };
        if stored {
            self.valid.push(self.len, true, 1);
            self.len += 1;
            return Ok(Fit::Stored);
        }
        self.push_nulls(1);
        Ok(Fit::Misfit(&parser.bytes()[start..parser.at()]))
    }

    /// Settles the type of an undecided column by its values so far. What does not fit after all (`[]` in a column
    /// of lists fits, `{}` alone tells nothing) is handed to `rescue` with its row.
    pub(super) fn decide(&mut self, leaves_max: usize, mut rescue: impl FnMut(usize, &[Vec<u8>], &[u8])) {
        let Data::Undecided(values) = &mut self.data else { return };
        let values = std::mem::take(values);
        let mut inferred = Inferred::Nothing;
        for (_, raw) in &values {
            let value = Inferred::value(&mut Parser::document(raw), 0);
            inferred = inferred.or(value.unwrap_or(Inferred::Json));
        }
        let Some(kind) = inferred.into_type(leaves_max) else {
            for (row, raw) in &values {
                rescue(*row, &[], raw);
            }
            *self = Self::undecided();
            return;
        };
        let len = self.len;
        *self = Self::new(&kind);
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

    /// The array of the first `rows` rows; the column starts anew. Only for a decided column.
    pub(super) fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows);
        self.len = 0;
        let nulls = self.valid.finish();
        Ok(match &mut self.data {
            Data::Undecided(_) => unreachable!("a column is decided before it is finished"),
            Data::Bool(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Data::Int64(values) => Arc::new(Int64Array::new(take(values), nulls)),
            Data::Float64(values) => Arc::new(Float64Array::new(take(values), nulls)),
            Data::Timestamp(values) => {
                Arc::new(TimestampMicrosecondArray::new(take(values), nulls).with_timezone("UTC"))
            }
            Data::Date(values) => Arc::new(Date32Array::new(take(values), nulls)),
            Data::String(text) | Data::Json(text) => text.finish(nulls)?,
            Data::List(ends, items) => {
                let item_count = usize::try_from(ends.last().copied().unwrap_or(0)).unwrap_or(0);
                let mut offsets = Vec::with_capacity(ends.len() + 1);
                offsets.push(0);
                offsets.append(ends);
                let values = items.finish(item_count)?;
                let field = Arc::new(ArrowField::new_list_field(values.data_type().clone(), true));
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(ListArray::try_new(field, offsets, values, nulls)?)
            }
            Data::Struct(set) => {
                let (fields, arrays) = set.finish(rows)?;
                Arc::new(StructArray::try_new(fields, arrays, nulls)?)
            }
        })
    }
}

fn take<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let capacity = values.len();
    ScalarBuffer::from(std::mem::replace(values, Vec::with_capacity(capacity)))
}

/// A list goes in whole or not at all. Returns whether it did.
fn push_list<'a>(
    ends: &mut Vec<i32>,
    items: &mut Column,
    parser: &mut Parser<'a>,
    seen: &mut Row<'a>,
) -> Result<bool, Syntax> {
    let before = items.len;
    let misfits = seen.misfits.len();
    let mut fits = true;
    parser.enter()?;
    let mut more = parser.first_element();
    while more {
        let row = items.len;
        fits &= items.push(row, parser, seen)? == Fit::Stored;
        more = parser.next_element()?;
    }
    parser.leave();
    fits &= seen.misfits.len() == misfits;
    if fits {
        ends.push(i32::try_from(items.len).unwrap_or(i32::MAX));
    } else {
        items.truncate(before);
        seen.misfits.truncate(misfits);
    }
    Ok(fits)
}

impl ColumnSet {
    pub(super) fn new(definitions: &[Definition]) -> Self {
        let mut set =
            Self { columns: Vec::new(), by_name: hashbrown::HashMap::new(), shape: Shape::default() };
        for definition in definitions {
            set.add(&definition.name, Column::new(&definition.kind));
        }
        set
    }

    pub(super) fn add(&mut self, name: &str, column: Column) -> usize {
        let slot = self.columns.len();
        self.by_name.insert(name.as_bytes().to_owned(), slot);
        let quoted = serde_json::Value::from(name).to_string();
        let key = quoted.as_bytes()[1..quoted.len() - 1].to_owned();
        self.columns.push(NamedColumn { name: name.to_owned(), key, column });
        slot
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn key(&self, slot: usize) -> &[u8] {
        &self.columns[slot].key
    }

    pub(super) fn column(&mut self, slot: usize) -> &mut Column {
        &mut self.columns[slot].column
    }

    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The walk's memory, taken out while the walk borrows the columns.
    pub(super) fn take_shape(&mut self) -> Shape {
        std::mem::take(&mut self.shape)
    }

    pub(super) fn put_shape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// The columns that have a type.
    pub(super) fn definitions(&self) -> Vec<Definition> {
        let typed = self.columns.iter();
        let typed = typed.filter_map(|c| Some(Definition::new(c.name.clone(), c.column.kind()?)));
        typed.collect()
    }

    pub(super) fn truncate(&mut self, row: usize) {
        for named in &mut self.columns {
            named.column.truncate(row);
        }
    }

    /// Takes back the columns that were added when there were `len`. Returns how many.
    pub(super) fn remove_added(&mut self, len: usize) -> usize {
        let added = self.columns.split_off(len.min(self.columns.len()));
        for named in &added {
            self.by_name.remove(named.name.as_bytes());
        }
        if !added.is_empty() {
            // It knows columns by their places.
            self.shape = Shape::default();
        }
        added.len()
    }

    /// Removes the columns without a type. Returns how many there were.
    pub(super) fn remove_untyped(&mut self) -> usize {
        let before = self.columns.len();
        self.columns.retain(|named| !matches!(named.column.data, Data::Undecided(_)));
        let removed = before - self.columns.len();
        if removed > 0 {
            let names = self.columns.iter().enumerate();
            self.by_name = names.map(|(slot, named)| (named.name.clone().into_bytes(), slot)).collect();
            self.shape = Shape::default();
        }
        removed
    }

    /// Takes the object at the parser as row number `row` of a struct.
    fn object<'a>(&mut self, row: usize, parser: &mut Parser<'a>, seen: &mut Row<'a>) -> Result<(), Syntax> {
        let mut shape = self.take_shape();
        let parsed = shape.object(parser, &mut StructFields { set: self, row, seen });
        self.put_shape(shape);
        parsed
    }

    /// The arrays of the columns that have a type.
    pub(super) fn finish(&mut self, rows: usize) -> Result<(ArrowFields, Vec<ArrayRef>), ArrowError> {
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut arrays = Vec::with_capacity(self.columns.len());
        for named in &mut self.columns {
            let Some(kind) = named.column.kind() else { continue };
            let array = named.column.finish(rows)?;
            fields.push(arrow_field(&named.name, &kind));
            arrays.push(array);
        }
        Ok((fields.into(), arrays))
    }
}

struct StructFields<'s, 'a> {
    set: &'s mut ColumnSet,
    row: usize,
    seen: &'s mut Row<'a>,
}

impl<'a> Fields<'a> for StructFields<'_, 'a> {
    fn slot(&mut self, key: Str<'a>) -> Option<usize> {
        self.set.find(&key.text())
    }

    fn value(&mut self, field: Field<'a>, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        let before = self.seen.misfits.len();
        let key = match field {
            Field::Slot(slot) => {
                let fit = self.set.columns[slot].column.push(self.row, parser, self.seen)?;
                if let Fit::Misfit(raw) = fit {
                    self.seen.misfits.push(Misfit { path: Vec::new(), raw });
                }
                &self.set.columns[slot].key
            }
            Field::Other(key) => {
                // A struct's fields are settled with its type; nulls of others are nothing to keep.
                self.seen.other(key, parser.skip_value()?);
                &key.raw.to_owned()
            }
        };
        for misfit in &mut self.seen.misfits[before..] {
            misfit.path.insert(0, key.clone());
        }
        Ok(())
    }
}

/// The Arrow field of a column.
pub(super) fn arrow_field(name: &str, kind: &ColumnType) -> ArrowField {
    ArrowField::new(name, arrow_type(kind), true)
}

fn arrow_type(kind: &ColumnType) -> DataType {
    match kind {
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Date => DataType::Date32,
        ColumnType::List(item) => {
            DataType::List(Arc::new(ArrowField::new_list_field(arrow_type(item), true)))
        }
        ColumnType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| arrow_field(&field.name, &field.kind)).collect())
        }
        _ => DataType::Utf8,
    }
}
