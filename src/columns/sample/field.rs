//! The fields of a sample as a tree, and what is known of each.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::columns::{Inferred, STRUCT_FIELDS_MAX, is_map};
use crate::formats::json::{JsonKind, Number, Parser, Syntax};
use crate::schema::{Column, ColumnType};
use std::collections::HashMap;

/// The maximum nesting depth of objects that is followed; deeper ones stay one field.
const DEPTH_MAX: usize = 12;

/// A field of a sample and what its values have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleField {
    /// Keys from the record down.
    pub path: Vec<String>,
    pub kind: ColumnType,
    /// Number of records in which it has a value other than null.
    pub present: u64,
    /// The integers in it, or in the lists that it holds.
    pub integers: Integers,
    /// The largest number of fractional digits in the seconds of a time.
    pub second_digits: u8,
}

/// The smallest kind of integer that holds every integer seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Integers {
    pub min: i64,
    pub max: i64,
    /// Some exceed the signed 64-bit range.
    pub unsigned: bool,
    /// Some exceed 64 bits.
    pub huge: bool,
}

/// How many more fields may be tracked.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) left: usize,
    /// The limit was exceeded.
    pub(super) exceeded: bool,
}

impl Room {
    fn take(&mut self) -> bool {
        self.exceeded |= self.left == 0;
        self.left = self.left.saturating_sub(1);
        !self.exceeded
    }
}

/// A key and what was seen under it.
#[derive(Debug)]
pub(super) struct SampleNode {
    name: String,
    present: u64,
    /// How often it was an object.
    objects: u64,
    children: Vec<SampleNode>,
    /// Indexes of the children.
    places: HashMap<Vec<u8>, usize>,
    /// Its values that are not objects.
    other: Inferred,
    integers: Integers,
    second_digits: u8,
}

impl SampleNode {
    pub(super) fn root() -> Self {
        Self::named(String::new())
    }

    fn named(name: String) -> Self {
        Self {
            name,
            present: 0,
            objects: 0,
            children: Vec::new(),
            places: HashMap::new(),
            other: Inferred::Nothing,
            integers: Integers::default(),
            second_digits: 0,
        }
    }

    /// Observes one value.
    pub(super) fn observe(
        &mut self,
        parser: &mut Parser<'_>,
        depth: usize,
        room: &mut Room,
    ) -> Result<(), Syntax> {
        let kind = parser.kind()?;
        self.present += u64::from(kind != JsonKind::Null);
        if kind == JsonKind::Object && depth < DEPTH_MAX {
            self.objects += 1;
            return self.observe_fields(parser, depth, room);
        }
        let raw = parser.skip_value()?;
        self.measure(&mut Parser::document(raw))?;
        let value = Inferred::value(&mut Parser::document(raw), depth)?;
        self.other = std::mem::replace(&mut self.other, Inferred::Nothing).or(value);
        Ok(())
    }

    fn observe_fields(
        &mut self,
        parser: &mut Parser<'_>,
        depth: usize,
        room: &mut Room,
    ) -> Result<(), Syntax> {
        let mut key = parser.first_key()?;
        while let Some(name) = key {
            match self.child(&name.text(), depth, room) {
                Some(child) => child.observe(parser, depth + 1, room)?,
                None => drop(parser.skip_value()?),
            }
            key = parser.next_key()?;
        }
        Ok(())
    }

    fn child(&mut self, key: &[u8], depth: usize, room: &mut Room) -> Option<&mut Self> {
        if let Some(place) = self.places.get(key) {
            return self.children.get_mut(*place);
        }
        // One field more than a structure may have is enough to know that it is a map. The record itself is never a
        // map.
        if depth > 0 && self.children.len() > STRUCT_FIELDS_MAX || !room.take() {
            return None;
        }
        self.places.insert(key.to_vec(), self.children.len());
        self.children.push(Self::named(String::from_utf8_lossy(key).into_owned()));
        self.children.last_mut()
    }

    /// Notes the range of numbers and the precision of times in a value that is not an object.
    fn measure(&mut self, parser: &mut Parser<'_>) -> Result<(), Syntax> {
        match parser.kind()? {
            JsonKind::Number => self.integers.add(parser.number()?),
            JsonKind::String => {
                let text = parser.string()?.text();
                self.second_digits = self.second_digits.max(second_digits(&text));
            }
            JsonKind::Array => {
                let mut more = parser.first_element();
                while more {
                    self.measure(parser)?;
                    more = parser.next_element()?;
                }
            }
            JsonKind::Object | JsonKind::True | JsonKind::False | JsonKind::Null => {
                parser.skip_value()?;
            }
        }
        Ok(())
    }

    /// Whether all its values are structures.
    fn is_struct(&self) -> bool {
        let appearances = self.children.iter().map(|child| child.present).sum();
        self.objects > 0
            && self.other == Inferred::Nothing
            && !is_map(self.children.len(), appearances, self.objects)
            && self.children.iter().any(|child| child.kind().is_some())
    }

    /// `None` while no value determines the type.
    fn kind(&self) -> Option<ColumnType> {
        if self.is_struct() {
            let typed = self.children.iter().filter_map(|child| {
                let kind = child.kind()?;
                Some(Column::new(child.name.clone(), kind))
            });
            return Some(ColumnType::Struct(typed.collect()));
        }
        if self.objects > 0 {
            let empty = self.children.is_empty() && self.other == Inferred::Nothing;
            return (!empty).then_some(ColumnType::Json);
        }
        let kind = self.other.clone().into_type(usize::MAX)?;
        Some(if self.integers.huge { without_integers(kind) } else { kind })
    }

    fn field(&self, path: Vec<String>) -> Option<SampleField> {
        let kind = self.kind()?;
        let (present, integers, second_digits) = (self.present, self.integers, self.second_digits);
        Some(SampleField { path, kind, present, integers, second_digits })
    }

    pub(super) fn nested(&self) -> Vec<SampleField> {
        self.children.iter().filter_map(|child| child.field(vec![child.name.clone()])).collect()
    }

    pub(super) fn flat(&self) -> Vec<SampleField> {
        let mut fields = Vec::new();
        for child in &self.children {
            child.collect_flat(&mut vec![], &mut fields);
        }
        fields
    }

    fn collect_flat(&self, above: &mut Vec<String>, fields: &mut Vec<SampleField>) {
        above.push(self.name.clone());
        if self.is_struct() {
            for child in &self.children {
                child.collect_flat(above, fields);
            }
        } else {
            fields.extend(self.field(above.clone()));
        }
        above.pop();
    }
}

impl Integers {
    fn add(&mut self, number: Number<'_>) {
        if !number.integer {
            return;
        }
        let text = std::str::from_utf8(number.raw).expect("a number is made of ASCII characters");
        if let Ok(value) = text.parse::<i64>() {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        } else if text.parse::<u64>().is_ok() {
            self.unsigned = true;
        } else {
            self.huge = true;
        }
        self.huge |= self.unsigned && self.min < 0;
    }
}

/// Integers that no integer column can hold are kept as their text.
fn without_integers(kind: ColumnType) -> ColumnType {
    match kind {
        ColumnType::Int64 | ColumnType::Float64 => ColumnType::String,
        ColumnType::List(item) => ColumnType::List(Box::new(without_integers(*item))),
        other @ (ColumnType::String
        | ColumnType::FixedString(_)
        | ColumnType::Uuid
        | ColumnType::Int8
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::UInt32
        | ColumnType::UInt64
        | ColumnType::Float32
        | ColumnType::Decimal { .. }
        | ColumnType::Bool
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::Binary
        | ColumnType::Map(_)
        | ColumnType::Struct(_)
        | ColumnType::Json) => other,
    }
}

/// Number of digits after the point in `… 12:00:00.123…`, without trailing zeros.
fn second_digits(text: &[u8]) -> u8 {
    let fraction = text.iter().rposition(|byte| *byte == b'.').and_then(|at| text.get(at + 1..));
    let digits = fraction.into_iter().flatten().take_while(|byte| byte.is_ascii_digit());
    let mut significant = 0;
    for (n, digit) in (1..=9_u8).zip(digits) {
        if *digit != b'0' {
            significant = n;
        }
    }
    significant
}
