//! Writes a record's tree as one line of JSON.

use super::fields::{VALUE, XmlFields, XmlValue};
use super::known::{Known, Scalar};
use super::record::{Element, XmlRecord};
use crate::formats::json::{JsonKind, Parser};
use hashbrown::{DefaultHashBuilder, HashSet};
use std::hash::BuildHasher;

pub(super) struct RecordWriter<'k> {
    known: &'k Known,
    lines: Vec<u8>,
    records: u64,
    hasher: DefaultHashBuilder,
    /// Fields that are arrays, and fields that are objects, somewhere in the document: hashes of the keys down to
    /// them.
    lists: HashSet<u64>,
    objects: HashSet<u64>,
    /// Fields that were written before.
    seen: HashSet<u64>,
    /// Those of them that contained only text.
    texts: HashSet<u64>,
    late: bool,
}

/// The place of a field: the hash of the keys down to it, and what its table knows of it.
#[derive(Clone, Copy)]
struct FieldPlace<'k> {
    hash: u64,
    known: Option<&'k Known>,
}

impl<'k> RecordWriter<'k> {
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

    /// Whether something was learnt that affects records already written.
    pub(super) fn learned_late(&self) -> bool {
        self.late
    }

    /// Discards the lines, but keeps what was learnt.
    pub(super) fn again(&mut self) {
        self.lines.clear();
        self.seen.clear();
        self.texts.clear();
        (self.records, self.late) = (0, false);
    }

    pub(super) fn into_lines(self) -> Vec<u8> {
        self.lines
    }

    pub(super) fn record(&mut self, record: &XmlRecord) {
        if let Some(root) = record.root() {
            self.object(record, root, FieldPlace { hash: 0, known: Some(self.known) });
            self.lines.push(b'\n');
            self.records = self.records.saturating_add(1);
        }
    }

    fn object(&mut self, record: &XmlRecord, element: &Element, place: FieldPlace<'k>) {
        self.lines.push(b'{');
        for (at, (key, values)) in XmlFields::new(record, element).iter().enumerate() {
            if at > 0 {
                self.lines.push(b',');
            }
            self.string(key);
            self.lines.push(b':');
            let hash = self.hasher.hash_one((place.hash, key));
            let place = FieldPlace { hash, known: place.known.and_then(|known| known.field(key)) };
            let is_new = self.seen.insert(hash);
            if values.len() > 1 && self.lists.insert(hash) {
                self.late |= !is_new;
            }
            let is_list = place.known.is_some_and(|known| known.list) || self.lists.contains(&hash);
            if !is_list {
                values.iter().take(1).for_each(|(_, value)| self.value(record, value, place));
                continue;
            }
            // A field that is present but empty is an array without elements, not an array with an empty value.
            self.lines.push(b'[');
            for (at, (_, value)) in values.iter().enumerate() {
                if at > 0 {
                    self.lines.push(b',');
                }
                self.value(record, value, place);
            }
            self.lines.push(b']');
        }
        self.lines.push(b'}');
    }

    fn value(&mut self, record: &XmlRecord, value: &XmlValue<'_>, place: FieldPlace<'k>) {
        let element = match value {
            XmlValue::Text(text) => return self.scalar(text, place.known),
            XmlValue::Element(element) => element,
        };
        if is_nil(record, element) {
            return self.lines.extend_from_slice(b"null");
        }
        if !element.is_plain() {
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
        // Of an unknown element, the text stays text.
        match known.map_or(Scalar::Text, |known| known.scalar) {
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

/// Whether the element has `xsi:nil="true"`.
fn is_nil(record: &XmlRecord, element: &Element) -> bool {
    let mut nils = record.attributes(element).iter().filter(|attribute| attribute.is_nil());
    nils.any(|nil| matches!(nil.value.trim(), "true" | "1"))
}

fn is_number(text: &str) -> bool {
    let mut parser = Parser::document(text.as_bytes());
    matches!(parser.kind(), Ok(JsonKind::Number)) && parser.number().is_ok() && parser.at() == text.len()
}
