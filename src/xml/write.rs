//! A record's tree as one line of JSON.

use super::known::{Known, Scalar};
use super::local;
use super::record::{Element, Record};
use crate::json::{Kind, Parser};
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use std::hash::BuildHasher;

/// The field of the text that stands beside attributes or elements.
const VALUE: &str = "_VALUE";

pub(super) struct Writer<'k> {
    known: &'k Known,
    lines: Vec<u8>,
    records: u64,
    hasher: DefaultHashBuilder,
    /// Fields that are arrays, and that are objects, somewhere in the document: hashes of the keys down to them.
    lists: HashSet<u64>,
    objects: HashSet<u64>,
    /// Fields that were written before.
    seen: HashSet<u64>,
    /// Those of them that were but text.
    texts: HashSet<u64>,
    late: bool,
}

/// A field's values.
enum Value<'r> {
    Text(&'r str),
    Element(&'r Element),
}

/// The place of a field: the hash of the keys down to it, and what its table knows of it.
#[derive(Clone, Copy)]
struct Place<'k> {
    hash: u64,
    known: Option<&'k Known>,
}

impl<'k> Writer<'k> {
    pub(super) fn new(known: &'k Known, document_bytes: usize) -> Self {
        Self {
            known,
            lines: Vec::with_capacity(document_bytes),
            records: 0,
            hasher: DefaultHashBuilder::default(),
            lists: HashSet::new(),
            objects: HashSet::new(),
            seen: HashSet::new(),
            texts: HashSet::new(),
            late: false,
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Whether something was learnt that concerns records written before.
    pub(super) fn learned_late(&self) -> bool {
        self.late
    }

    /// Forgets the lines, not what was learnt.
    pub(super) fn again(&mut self) {
        self.lines.clear();
        self.seen.clear();
        self.texts.clear();
        (self.records, self.late) = (0, false);
    }

    pub(super) fn into_lines(self) -> Vec<u8> {
        self.lines
    }

    pub(super) fn record(&mut self, record: &Record) {
        if let Some(root) = record.root() {
            self.object(record, root, Place { hash: 0, known: Some(self.known) });
            self.lines.push(b'\n');
            self.records = self.records.saturating_add(1);
        }
    }

    fn object(&mut self, record: &Record, element: &Element, place: Place<'k>) {
        self.lines.push(b'{');
        for (at, (key, values)) in fields(record, element).into_iter().enumerate() {
            if at > 0 {
                self.lines.push(b',');
            }
            self.string(&key);
            self.lines.push(b':');
            let hash = self.hasher.hash_one((place.hash, &*key));
            let place = Place { hash, known: place.known.and_then(|known| known.field(&key)) };
            let is_new = self.seen.insert(hash);
            if values.len() > 1 && self.lists.insert(hash) {
                self.late |= !is_new;
            }
            let is_list = place.known.is_some_and(|known| known.list) || self.lists.contains(&hash);
            if !is_list {
                values.first().into_iter().for_each(|value| self.value(record, value, place));
                continue;
            }
            // A field that is there and empty is an array without elements, not one with nothing.
            self.lines.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    self.lines.push(b',');
                }
                self.value(record, value, place);
            }
            self.lines.push(b']');
        }
        self.lines.push(b'}');
    }

    fn value(&mut self, record: &Record, value: &Value<'_>, place: Place<'k>) {
        let element = match value {
            Value::Text(text) => return self.scalar(text, place.known),
            Value::Element(element) => element,
        };
        if is_nil(element) {
            return self.lines.extend_from_slice(b"null");
        }
        if !element.attributes.is_empty() || !element.children.is_empty() {
            let is_known = place.known.is_some_and(|known| known.object);
            if !is_known && self.objects.insert(place.hash) {
                self.late |= self.texts.contains(&place.hash);
            }
            return self.object(record, element, place);
        }
        let Some(text) = element.text() else { return self.lines.extend_from_slice(b"null") };
        if place.known.is_some_and(|known| known.object) || self.objects.contains(&place.hash) {
            self.lines.push(b'{');
            self.string(VALUE);
            self.lines.push(b':');
            self.scalar(text, place.known.and_then(|known| known.field(VALUE)));
            return self.lines.push(b'}');
        }
        self.texts.insert(place.hash);
        self.scalar(text, place.known);
    }

    fn scalar(&mut self, text: &str, known: Option<&Known>) {
        let trimmed = text.trim();
        match known.map(|known| known.scalar).unwrap_or_default() {
            Scalar::Number if is_number(trimmed) => self.lines.extend_from_slice(trimmed.as_bytes()),
            Scalar::Bool if matches!(trimmed, "true" | "1") => self.lines.extend_from_slice(b"true"),
            Scalar::Bool if matches!(trimmed, "false" | "0") => self.lines.extend_from_slice(b"false"),
            _ => self.string(text),
        }
    }

    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.lines, text).expect("text in memory can be written as JSON");
    }
}

/// `xsi:nil="true"`.
fn is_nil(element: &Element) -> bool {
    element.attributes.iter().any(|(name, value)| name == "xsi:nil" && matches!(value.trim(), "true" | "1"))
}

fn is_number(text: &str) -> bool {
    let mut parser = Parser::document(text.as_bytes());
    matches!(parser.kind(), Ok(Kind::Number)) && parser.number().is_ok() && parser.at() == text.len()
}

/// The fields of an element in the order in which they first come: attributes, elements, text.
fn fields<'r>(record: &'r Record, element: &'r Element) -> Vec<(String, Vec<Value<'r>>)> {
    let mut fields = Fields { list: Vec::new(), index: HashMap::new() };
    for (name, value) in &element.attributes {
        if name != "xsi:nil" {
            fields.add(&format!("_{}", local(name)), name, Value::Text(value));
        }
    }
    for child in element.children.iter().filter_map(|at| record.element(*at)) {
        fields.add(local(&child.name), &child.name, Value::Element(child));
    }
    if let Some(text) = element.text() {
        fields.add(VALUE, VALUE, Value::Text(text));
    }
    fields.list.into_iter().map(|field| (field.key, field.values)).collect()
}

struct Fields<'r> {
    list: Vec<FieldOf<'r>>,
    index: HashMap<String, usize>,
}

struct FieldOf<'r> {
    key: String,
    /// The name in the document, with its prefix.
    name: &'r str,
    values: Vec<Value<'r>>,
}

impl<'r> Fields<'r> {
    /// Names of other namespaces that are alike behind the prefix are kept apart by it.
    fn add(&mut self, key: &str, name: &'r str, value: Value<'r>) {
        let known = self.index.get(key).copied();
        if let Some(field) = known.and_then(|at| self.list.get_mut(at)) {
            if field.name == name || key == name {
                field.values.push(value);
                return;
            }
            return self.add(name, name, value);
        }
        self.index.insert(key.to_owned(), self.list.len());
        self.list.push(FieldOf { key: key.to_owned(), name, values: vec![value] });
    }
}
