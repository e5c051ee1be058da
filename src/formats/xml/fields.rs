//! The fields of an element: attributes, elements and text by name.

use super::local;
use super::record::{Element, XmlRecord};
use hashbrown::HashMap;

/// The field for text that occurs together with attributes or elements.
pub(super) const VALUE: &str = "_VALUE";
/// Up to this many names are compared linearly. Beyond that there is an index, since a document may have any number
/// of names.
const COMPARED_MAX: usize = 16;

/// Fields in order of first occurrence.
pub(super) struct XmlFields<'r> {
    names: Vec<FieldName<'r>>,
    /// Each with the index of its name, by which they are sorted. Every name has at least one.
    values: Vec<(usize, XmlValue<'r>)>,
    index: HashMap<&'r str, usize>,
}

struct FieldName<'r> {
    key: &'r str,
    /// The name in the document, with its prefix.
    full: &'r str,
}

pub(super) enum XmlValue<'r> {
    Text(&'r str),
    Element(&'r Element),
}

impl<'r> XmlFields<'r> {
    pub(super) fn new(record: &'r XmlRecord, element: &'r Element) -> Self {
        let parts = element.parts();
        let mut fields = Self {
            names: Vec::with_capacity(parts.min(COMPARED_MAX)),
            values: Vec::with_capacity(parts),
            index: HashMap::new(),
        };
        for attribute in record.attributes(element).iter().filter(|attribute| !attribute.is_nil()) {
            fields.add(&attribute.key, &attribute.name, XmlValue::Text(&attribute.value));
        }
        for child in record.children(element) {
            fields.add(local(&child.name), &child.name, XmlValue::Element(child));
        }
        if let Some(text) = element.text() {
            fields.add(VALUE, VALUE, XmlValue::Text(text));
        }
        // The sort is stable: values of the same field keep their order.
        fields.values.sort_by_key(|(at, _)| *at);
        fields
    }

    /// Each field with its values, at least one.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'r str, &[(usize, XmlValue<'r>)])> {
        let values = self.values.chunk_by(|(one, _), (next, _)| one == next);
        self.names.iter().map(|name| name.key).zip(values)
    }

    /// Names that differ only in their namespace prefix are kept apart by it.
    fn add(&mut self, key: &'r str, full: &'r str, value: XmlValue<'r>) {
        let is_same = |at: usize| key == full || self.names.get(at).is_some_and(|name| name.full == full);
        let at = match self.find(key) {
            None => self.insert(key, full),
            Some(at) if is_same(at) => at,
            Some(_) => self.find(full).unwrap_or_else(|| self.insert(full, full)),
        };
        self.values.push((at, value));
    }

    fn find(&self, key: &str) -> Option<usize> {
        if self.names.len() <= COMPARED_MAX {
            return self.names.iter().position(|name| name.key == key);
        }
        self.index.get(key).copied()
    }

    fn insert(&mut self, key: &'r str, full: &'r str) -> usize {
        let at = self.names.len();
        self.names.push(FieldName { key, full });
        if at == COMPARED_MAX {
            self.index.extend(self.names.iter().enumerate().map(|(at, name)| (name.key, at)));
        } else if at > COMPARED_MAX {
            self.index.insert(key, at);
        }
        at
    }
}
