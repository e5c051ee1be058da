//! What a sample of records says about a schema: the fields in the order in which they first come, and the type of
//! each from all of its values.
//!
//! Pure, and bounded: by the bytes and records of the sample, and by the fields that are remembered. An object is
//! followed field by field while it looks like a structure; one with too many keys, or with keys that few of its
//! siblings have, is a map and stays one field.

mod field;
#[cfg(test)]
mod tests;

pub use field::{Field, Integers};

use crate::batch::BodyKind;
use crate::formats::json::records::{BadRecord, RecordSink, walk};
use crate::formats::json::{Parser, Syntax};
use field::{Node, Room};

/// How much of a sample is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub records: u64,
    /// Fields, at all levels together.
    pub fields: usize,
}

/// What was found.
#[derive(Debug)]
pub struct Sample<'a> {
    /// Records that were looked at.
    pub records: u64,
    /// Those that are none.
    pub bad: u64,
    root: Node,
    /// The first records, as they came.
    pub first: Vec<&'a [u8]>,
}

/// Why a sample says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    #[error("the sample has no records")]
    Empty,
    #[error("no line of the sample is a JSON object (first bad line: {line}: {reason})")]
    NoRecord { line: u64, reason: Syntax },
    #[error("the sample is not a JSON document: {0}")]
    Document(Syntax),
    #[error("the records of the sample have no fields")]
    NoFields,
    #[error("the sample has more than {0} fields")]
    TooManyFields(usize),
}

/// Records kept for a preview.
const FIRST_MAX: usize = 10;

impl<'a> Sample<'a> {
    /// Looks at the records of a body.
    ///
    /// The last line may have been cut off where the sample ends: it counts if it is a record, and is not held
    /// against the sample if it is none.
    pub fn of(body: &'a [u8], kind: BodyKind, limits: Limits) -> Result<Self, SampleError> {
        let mut reader = Reader {
            limits,
            looked: 0,
            room: Room { left: limits.fields, exceeded: false },
            record: &[],
            first_bad: None,
            last_bad_end: 0,
            sample: Self { records: 0, bad: 0, root: Node::root(), first: Vec::new() },
        };
        walk(body, kind, 0, &mut reader).map_err(SampleError::Document)?;
        let Reader { room, first_bad, last_bad_end, mut sample, .. } = reader;
        if sample.records == 0 {
            let none = |(line, reason): (u64, Syntax)| SampleError::NoRecord {
                line: line.saturating_add(1),
                reason,
            };
            return Err(first_bad.map_or(SampleError::Empty, none));
        }
        if room.exceeded {
            return Err(SampleError::TooManyFields(limits.fields));
        }
        if kind == BodyKind::Lines && last_bad_end == body.len() {
            sample.bad = sample.bad.saturating_sub(1);
        }
        Ok(sample)
    }

    /// The fields of the records themselves, objects as structures.
    pub fn nested(&self) -> Result<Vec<Field>, SampleError> {
        some(self.root.nested())
    }

    /// The fields at the ends of all objects, with their paths.
    pub fn flat(&self) -> Result<Vec<Field>, SampleError> {
        some(self.root.flat())
    }
}

fn some(fields: Vec<Field>) -> Result<Vec<Field>, SampleError> {
    if fields.is_empty() { Err(SampleError::NoFields) } else { Ok(fields) }
}

struct Reader<'a> {
    limits: Limits,
    /// Records seen, good and bad.
    looked: u64,
    room: Room,
    /// The one at hand.
    record: &'a [u8],
    first_bad: Option<(u64, Syntax)>,
    /// Where the last bad record ends.
    last_bad_end: usize,
    sample: Sample<'a>,
}

impl<'a> RecordSink<'a> for Reader<'a> {
    fn record(&mut self, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        if parser.peek() != b'{' {
            return Err(Syntax::ExpectedObject);
        }
        self.record = parser.skip_value()?;
        Ok(())
    }

    /// Only now is it known to be one.
    fn accept(&mut self, _index: u64) {
        self.looked += 1;
        if self.looked > self.limits.records {
            return;
        }
        self.sample.records += 1;
        if self.sample.first.len() < FIRST_MAX {
            self.sample.first.push(self.record);
        }
        let mut parser = Parser::document(self.record);
        // It was parsed before, by the same grammar.
        self.sample.root.observe(&mut parser, 0, &mut self.room).expect("a record that was checked");
    }

    fn reject(&mut self, bad: BadRecord<'a>) {
        self.looked += 1;
        if self.looked > self.limits.records {
            return;
        }
        self.sample.bad += 1;
        self.first_bad.get_or_insert((bad.index, bad.reason));
        self.last_bad_end = bad.offset + bad.raw.len();
    }
}
