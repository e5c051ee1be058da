//! Infers a schema from a sample of records: the fields in order of first occurrence, and the type of each from all
//! of its values.
//!
//! Pure, and bounded: by the bytes and records of the sample, and by the number of fields tracked. An object is
//! followed field by field while it looks like a structure; one with too many keys, or with keys that few of its
//! siblings have, is a map and stays one field.

mod field;
#[cfg(test)]
mod tests;

pub use field::{Integers, SampleField};

use crate::batch::BodyKind;
use crate::formats::json::records::{BadRecord, RecordSink, walk};
use crate::formats::json::{Parser, Syntax};
use field::{Room, SampleNode};

/// How much of a sample is read.
#[derive(Debug, Clone, Copy)]
pub struct SampleLimits {
    pub records: u64,
    /// Number of fields, at all levels together.
    pub fields: usize,
}

/// The result of reading a sample.
#[derive(Debug)]
pub struct Sample<'a> {
    /// Number of records read.
    pub records: u64,
    /// Number of those that are not valid records.
    pub bad: u64,
    root: SampleNode,
    /// The first records, as received.
    pub first: Vec<&'a [u8]>,
}

/// Why no schema can be inferred from a sample.
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

/// Number of records kept for a preview.
const FIRST_MAX: usize = 10;

impl<'a> Sample<'a> {
    /// Reads the records of a body.
    ///
    /// The sample may end in the middle of its last line: the line counts if it is a valid record, and is not
    /// counted as bad otherwise.
    pub fn read(body: &'a [u8], kind: BodyKind, limits: SampleLimits) -> Result<Self, SampleError> {
        let mut reader = SampleReader {
            limits,
            looked: 0,
            room: Room { left: limits.fields, exceeded: false },
            record: &[],
            first_bad: None,
            last_bad_end: 0,
            sample: Self { records: 0, bad: 0, root: SampleNode::root(), first: Vec::new() },
        };
        walk(body, kind, 0, &mut reader).map_err(SampleError::Document)?;
        let SampleReader { room, first_bad, last_bad_end, mut sample, .. } = reader;
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

    /// The top-level fields of the records, with objects as structures.
    pub fn nested(&self) -> Result<Vec<SampleField>, SampleError> {
        some(self.root.nested())
    }

    /// The leaf fields of all objects, with their paths.
    pub fn flat(&self) -> Result<Vec<SampleField>, SampleError> {
        some(self.root.flat())
    }
}

fn some(fields: Vec<SampleField>) -> Result<Vec<SampleField>, SampleError> {
    if fields.is_empty() { Err(SampleError::NoFields) } else { Ok(fields) }
}

struct SampleReader<'a> {
    limits: SampleLimits,
    /// Number of records read, good and bad.
    looked: u64,
    room: Room,
    /// The current record.
    record: &'a [u8],
    first_bad: Option<(u64, Syntax)>,
    /// Where the last bad record ends.
    last_bad_end: usize,
    sample: Sample<'a>,
}

impl<'a> RecordSink<'a> for SampleReader<'a> {
    fn record(&mut self, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        if parser.peek() != b'{' {
            return Err(Syntax::ExpectedObject);
        }
        self.record = parser.skip_value()?;
        Ok(())
    }

    /// Only now is the record known to be valid.
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
        // The same grammar has parsed it before.
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
