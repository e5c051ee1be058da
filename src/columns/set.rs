//! The columns of an object: the record itself, a struct in it, or an object that leads to columns further down.

use super::column::{ColumnBuilder, Fit, Row};
use super::data::{Data, arrow_field};
use crate::formats::json::{FieldKey, FieldVisitor, Parser, Shape, Str, Syntax};
use crate::schema::{Column, Rules, system};
use arrow_array::ArrayRef;
use arrow_schema::ArrowError;
use arrow_schema::{Field as ArrowField, Fields as ArrowFields};

#[derive(Debug, Default)]
pub(super) struct ColumnSet {
    columns: Vec<NamedColumn>,
    /// Slots by key.
    slots: hashbrown::HashMap<Vec<u8>, usize>,
    shape: Shape,
    /// The table position of the next column to be added.
    next_place: usize,
    /// Slots of non-nullable columns, and of objects that contain such columns.
    required: Vec<usize>,
    /// Rows have a partition and an offset.
    numbered: bool,
}

#[derive(Debug)]
struct NamedColumn {
    /// The last key on the path to its values.
    name: String,
    /// The same key as JSON writes it, without quotes.
    key: Vec<u8>,
    column: ColumnBuilder,
    /// Set if it was declared.
    definition: Option<Box<Column>>,
    /// Its position among the columns of the table.
    place: usize,
}

/// A finished array with its position.
pub(super) struct FinishedArray {
    place: usize,
    field: ArrowField,
    array: ArrayRef,
}

/// Slots from the record down to a column.
pub(super) type Location = Vec<usize>;

impl ColumnSet {
    /// The columns of a record.
    pub(super) fn of_record(rules: &Rules) -> Self {
        let mut set = Self::default();
        let strict = rules.policy.is_declared();
        let times = rules.time.as_ref().map(|time| time.column.as_str());
        for (place, definition) in rules.schema.columns.iter().enumerate() {
            // Also where columns evolve: columns that a contract declared, and columns that rows are judged by.
            let declared = strict || definition.declared.is_some() || times == Some(&definition.name);
            set.define(
                definition.keys(),
                place,
                &|| ColumnBuilder::defined(definition, declared, strict),
                definition,
            );
        }
        set.next_place = rules.schema.columns.len();
        set.numbered = rules.placement.is_some();
        set
    }

    /// Whether no column of a record can have this name.
    pub(super) fn is_reserved(&self, name: &str) -> bool {
        system::is_reserved(name) || (self.numbered && system::is_of_placement(name))
    }

    /// The fields of a struct.
    pub(super) fn of_struct(fields: &[Column], declared: bool) -> Self {
        let mut set = Self::default();
        for field in fields {
            set.add(&field.name, ColumnBuilder::typed(&field.kind, declared, field.epoch_digits));
        }
        set
    }

    fn define(
        &mut self,
        keys: &[String],
        place: usize,
        column: &dyn Fn() -> ColumnBuilder,
        definition: &Column,
    ) {
        let Some((first, rest)) = keys.split_first() else { return };
        let slot = if rest.is_empty() {
            let slot = self.add(first, column());
            self.columns[slot].definition = Some(Box::new(definition.clone()));
            self.columns[slot].place = place;
            slot
        } else {
            let known = self.find(first.as_bytes());
            let slot = known
                .unwrap_or_else(|| self.add(first, ColumnBuilder::untyped(Data::Branch(Box::default()))));
            if let Some(branch) = self.columns[slot].column.branch_mut() {
                branch.define(rest, place, column, definition);
            }
            slot
        };
        if self.columns[slot].column.is_required() && !self.required.contains(&slot) {
            self.required.push(slot);
        }
    }

    pub(super) fn add(&mut self, name: &str, column: ColumnBuilder) -> usize {
        let slot = self.columns.len();
        self.slots.insert(name.as_bytes().to_owned(), slot);
        let quoted = serde_json::Value::from(name).to_string();
        let key = quoted.as_bytes()[1..quoted.len() - 1].to_owned();
        let place = self.next_place;
        self.next_place += 1;
        self.columns.push(NamedColumn { name: name.to_owned(), key, column, definition: None, place });
        slot
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        self.slots.get(key).copied()
    }

    pub(super) fn key(&self, slot: usize) -> &[u8] {
        &self.columns[slot].key
    }

    /// A column with the last key on the path to its values.
    pub(super) fn named(&self, slot: usize) -> (&str, &ColumnBuilder) {
        let named = &self.columns[slot];
        (&named.name, &named.column)
    }

    pub(super) fn column(&mut self, slot: usize) -> &mut ColumnBuilder {
        &mut self.columns[slot].column
    }

    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The walk's memory, moved out while the walk borrows the columns.
    pub(super) fn take_shape(&mut self) -> Shape {
        std::mem::take(&mut self.shape)
    }

    pub(super) fn put_shape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// The columns that have a type, in table order.
    pub(super) fn definitions(&self) -> Vec<Column> {
        let mut definitions = Vec::with_capacity(self.columns.len());
        self.collect(&mut definitions);
        definitions.sort_by_key(|(place, _)| *place);
        definitions.into_iter().map(|(_, definition)| definition).collect()
    }

    fn collect(&self, into: &mut Vec<(usize, Column)>) {
        for named in &self.columns {
            if let Some(branch) = named.column.branch() {
                branch.collect(into);
            } else if let Some(definition) = &named.definition {
                into.push((named.place, Column::clone(definition)));
            } else if let Some(kind) = named.column.kind() {
                into.push((named.place, Column::new(named.name.clone(), kind.clone())));
            }
        }
    }

    /// Finds the column with this name.
    pub(super) fn locate(&self, name: &str) -> Option<Location> {
        for (slot, named) in self.columns.iter().enumerate() {
            if let Some(branch) = named.column.branch() {
                if let Some(rest) = branch.locate(name) {
                    return Some([vec![slot], rest].concat());
                }
            } else if named.definition.as_ref().map_or(named.name == name, |known| known.name == name) {
                return Some(vec![slot]);
            }
        }
        None
    }

    pub(super) fn at(&self, location: &[usize]) -> Option<&ColumnBuilder> {
        let (slot, rest) = location.split_first()?;
        let column = &self.columns.get(*slot)?.column;
        if rest.is_empty() { Some(column) } else { column.branch()?.at(rest) }
    }

    /// The declared column on the path to a value.
    pub(super) fn declared_at(&self, path: &[Vec<u8>]) -> Option<&Column> {
        let (first, rest) = path.split_first()?;
        let named = self.columns.iter().find(|named| named.key == *first)?;
        named.column.branch().map_or(named.definition.as_deref(), |branch| branch.declared_at(rest))
    }

    /// Whether it contains a non-nullable column.
    pub(super) fn is_required(&self) -> bool {
        !self.required.is_empty()
    }

    /// Whether a non-nullable column lacks a value for this row.
    #[inline(always)]
    pub(super) fn lacks_required(&self, row: usize) -> bool {
        self.required.iter().any(|slot| {
            let column = &self.columns[*slot].column;
            column.branch().map_or_else(|| column.lacks(row), |branch| branch.lacks_required(row))
        })
    }

    /// Collects the non-nullable columns that lack a value for this row.
    pub(super) fn missing<'s>(&'s self, row: usize, into: &mut Vec<&'s Column>) {
        for slot in &self.required {
            let named = &self.columns[*slot];
            match (named.column.branch(), &named.definition) {
                (Some(branch), _) => branch.missing(row, into),
                (None, Some(definition)) if named.column.lacks(row) => into.push(definition),
                _ => {}
            }
        }
    }

    pub(super) fn truncate(&mut self, row: usize) {
        for named in &mut self.columns {
            named.column.truncate(row);
        }
    }

    /// Removes the columns that were added beyond the first `len`. Returns how many.
    pub(super) fn remove_added(&mut self, len: usize) -> usize {
        let added = self.columns.split_off(len.min(self.columns.len()));
        for named in &added {
            self.slots.remove(named.name.as_bytes());
        }
        if !added.is_empty() {
            // The shape refers to columns by index.
            self.shape = Shape::default();
        }
        added.len()
    }

    /// Removes the columns that have no type after all. Returns how many were removed.
    pub(super) fn remove_untyped(&mut self) -> usize {
        let before = self.columns.len();
        self.columns.retain(|named| !named.column.is_undecided());
        let removed = before - self.columns.len();
        if removed > 0 {
            let names = self.columns.iter().enumerate();
            self.slots = names.map(|(slot, named)| (named.name.clone().into_bytes(), slot)).collect();
            self.shape = Shape::default();
        }
        removed
    }

    /// Takes the object at the parser as row number `row`.
    pub(super) fn object<'a>(
        &mut self,
        row: usize,
        parser: &mut Parser<'a>,
        seen: &mut Row<'a>,
    ) -> Result<(), Syntax> {
        let mut shape = self.take_shape();
        let parsed = shape.object(parser, &mut ObjectFields { set: self, row, seen });
        self.put_shape(shape);
        parsed
    }

    /// Returns the arrays of the columns that have a type, in table order, and resets the columns.
    pub(super) fn finish(&mut self, rows: usize) -> Result<(ArrowFields, Vec<ArrayRef>), ArrowError> {
        let mut finished = Vec::with_capacity(self.columns.len());
        self.finish_into(rows, &mut finished)?;
        finished.sort_by_key(|column| column.place);
        let (fields, arrays): (Vec<_>, Vec<_>) =
            finished.into_iter().map(|column| (column.field, column.array)).unzip();
        Ok((fields.into(), arrays))
    }

    pub(super) fn finish_into(
        &mut self,
        rows: usize,
        into: &mut Vec<FinishedArray>,
    ) -> Result<(), ArrowError> {
        for named in &mut self.columns {
            let Some(kind) = named.column.kind() else {
                named.column.finish_branch(rows, into)?;
                continue;
            };
            let name = named.definition.as_ref().map_or(&named.name, |definition| &definition.name);
            let field = arrow_field(name, kind);
            into.push(FinishedArray { place: named.place, field, array: named.column.finish(rows)? });
        }
        Ok(())
    }
}

struct ObjectFields<'s, 'a> {
    set: &'s mut ColumnSet,
    row: usize,
    seen: &'s mut Row<'a>,
}

impl<'a> FieldVisitor<'a> for ObjectFields<'_, 'a> {
    fn slot(&mut self, key: Str<'a>) -> Option<usize> {
        self.set.find(&key.text())
    }

    fn value(&mut self, field: FieldKey<'a>, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        let before = self.seen.misfits.len();
        let key = match field {
            FieldKey::Slot(slot) => {
                let fit = self.set.columns[slot].column.push(self.row, parser, self.seen)?;
                if fit != Fit::Stored {
                    self.seen.misfit(fit);
                }
                &self.set.columns[slot].key
            }
            FieldKey::Other(key) => {
                // A struct's fields are fixed with its type; nulls of other fields need no storage.
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
