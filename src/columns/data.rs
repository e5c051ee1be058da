//! The values of a column under construction: how they are stored, truncated, and converted to an Arrow array.
#![deny(clippy::wildcard_enum_match_arm)]

use super::ColumnBuilder;
use super::set::ColumnSet;
use crate::schema::ColumnType;
use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray,
    StructArray, TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::i256;
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use arrow_schema::{DataType, Field as ArrowField, Fields as ArrowFields, TimeUnit};
use std::sync::Arc;

/// The number of decimal digits that 128 bits hold.
const DECIMAL128_DIGITS_MAX: u8 = 38;

#[derive(Debug)]
pub(super) enum Data {
    /// Not typed yet: source texts and their rows.
    Undecided(Vec<(usize, Vec<u8>)>),
    Bool(BooleanBufferBuilder),
    Int64(Vec<i64>),
    /// A narrower integer: its values are within the bounds.
    Int(Vec<i64>, i64, i64),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal128(Vec<i128>, u8, u8),
    Decimal256(Vec<i256>, u8, u8),
    Timestamp(Vec<i64>),
    Date(Vec<i32>),
    String(Text),
    /// At most this many bytes long.
    Fixed(Text, u32),
    Uuid(Text),
    Binary(Text),
    Json(Text),
    List(Vec<i32>, Box<ColumnBuilder>),
    /// Ends of the rows, keys, values.
    Map(Vec<i32>, Text, Box<ColumnBuilder>),
    Struct(Box<ColumnSet>),
    /// Not a column itself: an object with columns somewhere inside.
    Branch(Box<ColumnSet>),
}

#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    /// End of each value.
    ends: Vec<i32>,
}

/// Which rows are not null. Costs nothing until the first null.
#[derive(Debug, Default)]
pub(super) struct Validity(Option<BooleanBufferBuilder>);

impl Validity {
    #[inline(always)]
    pub(super) fn push(&mut self, len: usize, valid: bool, n: usize) {
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

    pub(super) fn is_valid(&self, row: usize) -> bool {
        self.0.as_ref().is_none_or(|bits| row < bits.len() && bits.get_bit(row))
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if let Some(bits) = &mut self.0
            && bits.len() > len
        {
            bits.truncate(len);
        }
    }

    pub(super) fn finish(&mut self) -> Option<NullBuffer> {
        self.0.take().map(|mut bits| NullBuffer::new(bits.finish()))
    }
}

impl Text {
    #[inline(always)]
    pub(super) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.close();
    }

    /// The text of a row, empty if the row has no text.
    pub(super) fn get(&self, row: usize) -> &[u8] {
        let end = |row: usize| self.ends.get(row).and_then(|end| usize::try_from(*end).ok());
        let from = row.checked_sub(1).and_then(end).unwrap_or(0);
        end(row).and_then(|to| self.bytes.get(from..to)).unwrap_or(&[])
    }

    #[inline(always)]
    fn close(&mut self) {
        // A batch is closed long before its text reaches 2 GiB; one request has at most `limits.decoded_max` bytes.
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    fn push_nulls(&mut self, n: usize) {
        let end = self.ends.last().copied().unwrap_or(0);
        self.ends.resize(self.ends.len() + n, end);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        let end = self.ends.last().copied().unwrap_or(0);
        self.bytes.truncate(usize::try_from(end).unwrap_or(0));
    }

    fn parts(&mut self) -> (OffsetBuffer<i32>, Vec<u8>) {
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(0));
        (offsets(&mut self.ends), bytes)
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let (offsets, bytes) = self.parts();
        Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?))
    }
}

/// The ends of values in Arrow's form: with a leading zero.
fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

/// The number of items in lists or maps with these ends.
fn item_count(ends: &[i32]) -> usize {
    usize::try_from(ends.last().copied().unwrap_or(0)).unwrap_or(0)
}

impl Data {
    /// `declared`: see [`ColumnBuilder::new`]. `epoch_digits` applies to the times inside.
    pub(super) fn new(kind: &ColumnType, declared: bool, epoch_digits: Option<u8>) -> Self {
        match kind {
            ColumnType::Int8 => Self::Int(Vec::new(), i8::MIN.into(), i8::MAX.into()),
            ColumnType::Int16 => Self::Int(Vec::new(), i16::MIN.into(), i16::MAX.into()),
            ColumnType::Int32 => Self::Int(Vec::new(), i32::MIN.into(), i32::MAX.into()),
            ColumnType::Int64 => Self::Int64(Vec::new()),
            ColumnType::UInt8 => Self::Int(Vec::new(), 0, u8::MAX.into()),
            ColumnType::UInt16 => Self::Int(Vec::new(), 0, u16::MAX.into()),
            ColumnType::UInt32 => Self::Int(Vec::new(), 0, u32::MAX.into()),
            ColumnType::UInt64 => Self::UInt64(Vec::new()),
            ColumnType::Bool => Self::Bool(BooleanBufferBuilder::new(0)),
            ColumnType::Float32 => Self::Float32(Vec::new()),
            ColumnType::Float64 => Self::Float64(Vec::new()),
            ColumnType::Decimal { precision, scale } if *precision <= DECIMAL128_DIGITS_MAX => {
                Self::Decimal128(Vec::new(), *precision, *scale)
            }
            ColumnType::Decimal { precision, scale } => Self::Decimal256(Vec::new(), *precision, *scale),
            ColumnType::Timestamp => Self::Timestamp(Vec::new()),
            ColumnType::Date => Self::Date(Vec::new()),
            ColumnType::FixedString(bytes) => Self::Fixed(Text::default(), *bytes),
            ColumnType::Uuid => Self::Uuid(Text::default()),
            ColumnType::Binary => Self::Binary(Text::default()),
            ColumnType::Json => Self::Json(Text::default()),
            ColumnType::List(item) => {
                Self::List(Vec::new(), Box::new(ColumnBuilder::typed(item, declared, epoch_digits)))
            }
            ColumnType::Map(value) => Self::Map(
                Vec::new(),
                Text::default(),
                Box::new(ColumnBuilder::typed(value, declared, epoch_digits)),
            ),
            ColumnType::Struct(fields) => Self::Struct(Box::new(ColumnSet::of_struct(fields, declared))),
            ColumnType::String => Self::String(Text::default()),
        }
    }

    /// Appends `n` nulls, after which it has `len` values.
    pub(super) fn push_nulls(&mut self, n: usize, len: usize) {
        match self {
            Self::Undecided(_) | Self::Struct(_) | Self::Branch(_) => {}
            Self::Bool(bits) => bits.append_n(n, false),
            Self::Int64(values) | Self::Int(values, ..) | Self::Timestamp(values) => values.resize(len, 0),
            Self::UInt64(values) => values.resize(len, 0),
            Self::Float32(values) => values.resize(len, 0.0),
            Self::Float64(values) => values.resize(len, 0.0),
            Self::Decimal128(values, ..) => values.resize(len, 0),
            Self::Decimal256(values, ..) => values.resize(len, i256::ZERO),
            Self::Date(values) => values.resize(len, 0),
            Self::String(text)
            | Self::Fixed(text, _)
            | Self::Uuid(text)
            | Self::Binary(text)
            | Self::Json(text) => {
                text.push_nulls(n);
            }
            Self::List(ends, _) | Self::Map(ends, ..) => {
                let end = ends.last().copied().unwrap_or(0);
                ends.resize(len, end);
            }
        }
    }

    /// Discards everything from `row` on, also what a list or a struct took from a row that was not stored after
    /// all.
    pub(super) fn truncate(&mut self, row: usize) {
        match self {
            Self::Undecided(values) => values.truncate(values.partition_point(|(at, _)| *at < row)),
            Self::Struct(set) | Self::Branch(set) => set.truncate(row),
            Self::Bool(bits) => bits.truncate(row.min(bits.len())),
            Self::Int64(values) | Self::Int(values, ..) | Self::Timestamp(values) => values.truncate(row),
            Self::UInt64(values) => values.truncate(row),
            Self::Float32(values) => values.truncate(row),
            Self::Float64(values) => values.truncate(row),
            Self::Decimal128(values, ..) => values.truncate(row),
            Self::Decimal256(values, ..) => values.truncate(row),
            Self::Date(values) => values.truncate(row),
            Self::String(text)
            | Self::Fixed(text, _)
            | Self::Uuid(text)
            | Self::Binary(text)
            | Self::Json(text) => {
                text.truncate(row);
            }
            Self::List(ends, items) => {
                ends.truncate(row);
                items.truncate(item_count(ends));
            }
            Self::Map(ends, keys, values) => {
                ends.truncate(row);
                keys.truncate(item_count(ends));
                values.truncate(item_count(ends));
            }
        }
    }

    /// Returns the array of its first `rows` values and resets it.
    pub(super) fn finish(
        &mut self,
        rows: usize,
        kind: &ColumnType,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Undecided(_) | Self::Branch(_) => unreachable!("only a column with a type is finished"),
            Self::Bool(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Self::Int64(values) => Arc::new(Int64Array::new(take(values), nulls)),
            Self::Int(values, ..) => integers(values, kind, nulls),
            Self::UInt64(values) => Arc::new(UInt64Array::new(take(values), nulls)),
            Self::Float32(values) => Arc::new(Float32Array::new(take(values), nulls)),
            Self::Float64(values) => Arc::new(Float64Array::new(take(values), nulls)),
            Self::Decimal128(values, precision, scale) => {
                let array = Decimal128Array::new(take(values), nulls);
                Arc::new(array.with_precision_and_scale(*precision, scale.cast_signed())?)
            }
            Self::Decimal256(values, precision, scale) => {
                let array = Decimal256Array::new(take(values), nulls);
                Arc::new(array.with_precision_and_scale(*precision, scale.cast_signed())?)
            }
            Self::Timestamp(values) => {
                Arc::new(TimestampMicrosecondArray::new(take(values), nulls).with_timezone("UTC"))
            }
            Self::Date(values) => Arc::new(Date32Array::new(take(values), nulls)),
            Self::String(text) | Self::Fixed(text, _) | Self::Uuid(text) | Self::Json(text) => {
                text.finish(nulls)?
            }
            Self::Binary(text) => {
                let (offsets, bytes) = text.parts();
                Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?)
            }
            Self::List(ends, items) => {
                let values = items.finish(item_count(ends))?;
                let field = Arc::new(ArrowField::new_list_field(values.data_type().clone(), true));
                Arc::new(ListArray::try_new(field, offsets(ends), values, nulls)?)
            }
            Self::Map(ends, keys, values) => {
                let values = values.finish(item_count(ends))?;
                let fields = map_fields(values.data_type().clone());
                let entries = StructArray::try_new(fields, vec![keys.finish(None)?, values], None)?;
                let field = Arc::new(ArrowField::new("entries", entries.data_type().clone(), false));
                Arc::new(MapArray::try_new(field, offsets(ends), entries, nulls, false)?)
            }
            Self::Struct(set) => {
                let (fields, arrays) = set.finish(rows)?;
                Arc::new(StructArray::try_new(fields, arrays, nulls)?)
            }
        })
    }
}

fn take<T: arrow_buffer::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let capacity = values.len();
    ScalarBuffer::from(std::mem::replace(values, Vec::with_capacity(capacity)))
}

/// Integers of fewer than 64 bits.
fn integers(values: &mut Vec<i64>, kind: &ColumnType, nulls: Option<NullBuffer>) -> ArrayRef {
    fn narrow<T: TryFrom<i64, Error: std::fmt::Debug>>(values: &mut Vec<i64>) -> Vec<T> {
        let fit = |value| T::try_from(value).expect("a value out of the range of its type is not stored");
        values.drain(..).map(fit).collect()
    }
    match kind {
        ColumnType::Int8 => Arc::new(Int8Array::new(narrow(values).into(), nulls)),
        ColumnType::Int16 => Arc::new(Int16Array::new(narrow(values).into(), nulls)),
        ColumnType::UInt8 => Arc::new(UInt8Array::new(narrow(values).into(), nulls)),
        ColumnType::UInt16 => Arc::new(UInt16Array::new(narrow(values).into(), nulls)),
        ColumnType::UInt32 => Arc::new(UInt32Array::new(narrow(values).into(), nulls)),
        // No other type is stored as integers.
        ColumnType::String
        | ColumnType::FixedString(_)
        | ColumnType::Uuid
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt64
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. }
        | ColumnType::Bool
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::Binary
        | ColumnType::List(_)
        | ColumnType::Map(_)
        | ColumnType::Struct(_)
        | ColumnType::Json => Arc::new(Int32Array::new(narrow(values).into(), nulls)),
    }
}

fn map_fields(value: DataType) -> ArrowFields {
    vec![ArrowField::new("key", DataType::Utf8, false), ArrowField::new("value", value, true)].into()
}

/// The Arrow field of a column.
pub(super) fn arrow_field(name: &str, kind: &ColumnType) -> ArrowField {
    ArrowField::new(name, arrow_type(kind), true)
}

fn arrow_type(kind: &ColumnType) -> DataType {
    match kind {
        ColumnType::String | ColumnType::FixedString(_) | ColumnType::Uuid | ColumnType::Json => {
            DataType::Utf8
        }
        ColumnType::Int8 => DataType::Int8,
        ColumnType::Int16 => DataType::Int16,
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::UInt8 => DataType::UInt8,
        ColumnType::UInt16 => DataType::UInt16,
        ColumnType::UInt32 => DataType::UInt32,
        ColumnType::UInt64 => DataType::UInt64,
        ColumnType::Float32 => DataType::Float32,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Decimal { precision, scale } if *precision <= DECIMAL128_DIGITS_MAX => {
            DataType::Decimal128(*precision, scale.cast_signed())
        }
        ColumnType::Decimal { precision, scale } => DataType::Decimal256(*precision, scale.cast_signed()),
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Date => DataType::Date32,
        ColumnType::Binary => DataType::Binary,
        ColumnType::List(item) => {
            DataType::List(Arc::new(ArrowField::new_list_field(arrow_type(item), true)))
        }
        ColumnType::Map(value) => {
            let entries = DataType::Struct(map_fields(arrow_type(value)));
            DataType::Map(Arc::new(ArrowField::new("entries", entries, false)), false)
        }
        ColumnType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| arrow_field(&field.name, &field.kind)).collect())
        }
    }
}
