//! Scans a body that has more records than fit into one batch for its new columns and their types. They must be
//! known before the first of its rows is written, because the columns of a file are fixed and a body is not split
//! across files.

use super::infer::Inferred;
use super::set::ColumnSet;
use crate::batch::BodyKind;
use crate::formats::json::records::{BadRecord, RecordSink, walk};
use crate::formats::json::{FieldKey, FieldVisitor, Parser, Shape, Str, Syntax};

/// The columns that a body would add, at most `room`, in the order of first occurrence.
pub(super) fn new_columns(
    known: &ColumnSet,
    room: usize,
    body: &[u8],
    kind: BodyKind,
) -> Vec<(String, Inferred)> {
    let mut learner = Learner {
        shape: Shape::default(),
        seen: LearnedFields {
            known,
            room,
            new: Vec::new(),
            slots: hashbrown::HashMap::new(),
            pending: Vec::new(),
        },
        kept: 0,
    };
    match walk(body, kind, 0, &mut learner) {
        // The walk that stores the records does not see those after a syntax error either.
        Ok(_) | Err(_) => learner.seen.new,
    }
}

struct Learner<'c> {
    shape: Shape,
    seen: LearnedFields<'c>,
    /// Number of new columns that come from valid records.
    kept: usize,
}

struct LearnedFields<'c> {
    known: &'c ColumnSet,
    room: usize,
    new: Vec<(String, Inferred)>,
    /// Indexes into `new`.
    slots: hashbrown::HashMap<Vec<u8>, usize>,
    /// Findings from the current record, held back until the record turns out to be valid.
    pending: Vec<(usize, Inferred)>,
}

impl<'a> RecordSink<'a> for Learner<'_> {
    #[inline(always)]
    fn record(&mut self, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        self.shape.object(parser, &mut self.seen)
    }

    #[inline(always)]
    fn accept(&mut self, _index: u64) {
        let LearnedFields { new, pending, .. } = &mut self.seen;
        for (place, value) in pending.drain(..) {
            let known = &mut new[place].1;
            *known = std::mem::replace(known, Inferred::Nothing).or(value);
        }
        self.kept = new.len();
    }

    fn reject(&mut self, _bad: BadRecord<'a>) {
        self.seen.pending.clear();
        if self.seen.new.len() > self.kept {
            for (name, _) in self.seen.new.drain(self.kept..) {
                self.seen.slots.remove(name.as_bytes());
            }
            // The shape refers to columns by index.
            self.shape = Shape::default();
        }
    }
}

impl<'a> FieldVisitor<'a> for LearnedFields<'_> {
    /// Known columns first, then the new ones.
    fn slot(&mut self, key: Str<'a>) -> Option<usize> {
        let text = key.text();
        if let Some(slot) = self.known.find(&text) {
            return Some(slot);
        }
        let base = self.known.len();
        if let Some(place) = self.slots.get(&*text) {
            return Some(base + place);
        }
        let name = std::str::from_utf8(&text).ok()?;
        if self.known.is_reserved(name) || self.new.len() >= self.room {
            return None;
        }
        let place = self.new.len();
        self.new.push((name.to_owned(), Inferred::Nothing));
        self.slots.insert(text.into_owned(), place);
        Some(base + place)
    }

    #[inline(always)]
    fn value(&mut self, field: FieldKey<'a>, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        let raw = parser.skip_value()?;
        if let FieldKey::Slot(slot) = field
            && let Some(place) = slot.checked_sub(self.known.len())
        {
            let value = Inferred::value(&mut Parser::document(raw), 0);
            self.pending.push((place, value.unwrap_or(Inferred::Json)));
        }
        Ok(())
    }
}
