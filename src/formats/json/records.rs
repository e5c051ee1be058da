//! The walk over a body's records: NDJSON, or one JSON document.

use super::parser::{Parser, Str, Syntax};
use super::shape::{FieldKey, FieldVisitor, Shape};
use crate::batch::BodyKind;
use bytes::Bytes;
use std::cell::RefCell;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// The maximum number of keys that the checker remembers.
const CHECKED_KEYS_MAX: usize = 64;

/// Receives the records of a body.
pub trait RecordSink<'a> {
    /// Parses one record. [`RecordSink::accept`] or [`RecordSink::reject`] follows and decides whether it counts.
    fn record(&mut self, parser: &mut Parser<'a>) -> Result<(), Syntax>;
    /// The record just parsed is valid.
    fn accept(&mut self, index: u64);
    /// The record is not valid: `raw` holds its bytes.
    fn reject(&mut self, bad: BadRecord<'a>);
}

/// A record that cannot be stored as a row.
#[derive(Debug, Clone, Copy)]
pub struct BadRecord<'a> {
    /// Its index among the records of its body, good and bad, from 0.
    pub index: u64,
    /// Where it starts in the body.
    pub offset: usize,
    pub raw: &'a [u8],
    pub reason: Syntax,
}

/// How a body is split, judged by the first byte that is not white space: an array is a document, whatever was
/// requested.
pub fn kind_of<'b>(mut body: impl Iterator<Item = &'b u8> + Clone, asked: BodyKind) -> BodyKind {
    let mut behind_mark = body.clone();
    if behind_mark.by_ref().take(BYTE_ORDER_MARK.len()).eq(BYTE_ORDER_MARK) {
        body = behind_mark;
    }
    match body.find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') if matches!(asked, BodyKind::Lines) => BodyKind::Document,
        _ => asked,
    }
}

/// Passes every record of a body to the sink, in order. Indexes start at `first`; returns the next one.
///
/// # Errors
/// For a document that is not valid JSON: its records cannot be told apart, so it fails as a whole.
pub fn walk<'a, S: RecordSink<'a>>(
    body: &'a [u8],
    kind: BodyKind,
    first: u64,
    sink: &mut S,
) -> Result<u64, Syntax> {
    match kind {
        BodyKind::Lines => Ok(walk_lines(body, mark_bytes(body), first, sink)),
        BodyKind::Document => walk_document(body, first, sink),
        BodyKind::Xml | BodyKind::Opaque => {
            // The callers that know these formats have already converted them to rows.
            let reason = Syntax::ExpectedObject;
            sink.reject(BadRecord { index: first, offset: 0, raw: body, reason });
            Ok(first + 1)
        }
    }
}

/// The length of the byte order mark at the start of a body; elsewhere the same bytes are not a mark.
fn mark_bytes(body: &[u8]) -> usize {
    if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 }
}

/// Walks lines from byte offset `from` on.
fn walk_lines<'a, S: RecordSink<'a>>(body: &'a [u8], from: usize, first: u64, sink: &mut S) -> u64 {
    let all_utf8 = simdutf8::basic::from_utf8(body).is_ok();
    let mut parser = Parser::line(body);
    parser.advance(from);
    let mut index = first;
    loop {
        while matches!(parser.peek(), b'\n' | b'\r' | b' ' | b'\t') && parser.at() < body.len() {
            parser.advance(1);
        }
        let start = parser.at();
        if start >= body.len() {
            return index;
        }
        let parsed = if all_utf8 || line_is_utf8(&body[start..]) {
            sink.record(&mut parser).and_then(|()| end_of_line(&mut parser))
        } else {
            Err(Syntax::InvalidUtf8)
        };
        match parsed {
            Ok(()) => sink.accept(index),
            Err(reason) => {
                let raw = line_of(&body[start..]);
                sink.reject(BadRecord { index, offset: start, raw, reason });
                parser.set_at(start + raw.len());
            }
        }
        index += 1;
    }
}

/// The bytes up to the line feed, without a preceding carriage return.
fn line_of(rest: &[u8]) -> &[u8] {
    let line = memchr::memchr(b'\n', rest).map_or(rest, |end| &rest[..end]);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn line_is_utf8(rest: &[u8]) -> bool {
    simdutf8::basic::from_utf8(line_of(rest)).is_ok()
}

#[inline(always)]
fn end_of_line(parser: &mut Parser<'_>) -> Result<(), Syntax> {
    parser.skip_space();
    match parser.peek() {
        b'\n' => {
            parser.advance(1);
            Ok(())
        }
        _ if parser.rest().is_empty() => Ok(()),
        _ => Err(Syntax::TrailingCharacters),
    }
}

fn walk_document<'a, S: RecordSink<'a>>(body: &'a [u8], first: u64, sink: &mut S) -> Result<u64, Syntax> {
    simdutf8::basic::from_utf8(body).map_err(|_| Syntax::InvalidUtf8)?;
    let mut parser = Parser::document(body);
    parser.advance(mark_bytes(body));
    parser.skip_space();
    let mut index = first;
    if parser.rest().is_empty() {
        return Ok(index);
    }
    if parser.peek() == b'[' {
        let mut more = parser.first_element();
        while more {
            element(&mut parser, index, sink)?;
            index += 1;
            more = parser.next_element()?;
        }
    } else {
        element(&mut parser, index, sink)?;
        index += 1;
    }
    parser.skip_space();
    if parser.rest().is_empty() { Ok(index) } else { Err(Syntax::TrailingCharacters) }
}

fn element<'a, S: RecordSink<'a>>(parser: &mut Parser<'a>, index: u64, sink: &mut S) -> Result<(), Syntax> {
    let offset = parser.at();
    if parser.peek() == b'{' {
        sink.record(parser)?;
        sink.accept(index);
    } else {
        let raw = parser.skip_value()?;
        sink.reject(BadRecord { index, offset, raw, reason: Syntax::ExpectedObject });
    }
    Ok(())
}

/// What a body contains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordsVerdict {
    pub good: u64,
    pub bad: u64,
    /// The first bad record: its index and what is wrong with it.
    pub first_bad: Option<(u64, Syntax)>,
}

thread_local! {
    /// Each thread keeps what it learnt about keys: consecutive bodies often belong to the same stream.
    static CHECKER: RefCell<RecordChecker> = RefCell::default();
}

/// Checks every record of a body as received, in pieces, and copies only the records that straddle two pieces.
///
/// # Errors
/// See [`walk`].
pub fn check(pieces: &[Bytes], kind: BodyKind) -> Result<RecordsVerdict, Syntax> {
    CHECKER.with_borrow_mut(|checker| {
        checker.verdict = RecordsVerdict::default();
        checker.learning = true;
        match (pieces, kind) {
            ([whole], _) => walk(whole, kind, 0, checker).map(drop)?,
            (_, BodyKind::Lines) => checker.lines(pieces),
            _ => walk(&pieces.concat(), kind, 0, checker).map(drop)?,
        }
        Ok(checker.verdict)
    })
}

/// Checks records and discards them.
#[derive(Default)]
struct RecordChecker {
    shape: Shape,
    keys: Vec<u64>,
    learning: bool,
    verdict: RecordsVerdict,
}

impl RecordChecker {
    fn lines(&mut self, pieces: &[Bytes]) {
        let mut straddling: Vec<u8> = Vec::new();
        let mut index = 0;
        let mut at_start = true;
        let mut walk = |lines: &[u8]| {
            if !lines.is_empty() {
                let from = if std::mem::take(&mut at_start) { mark_bytes(lines) } else { 0 };
                index = walk_lines(lines, from, index, self);
            }
        };
        for piece in pieces {
            let mut rest: &[u8] = piece;
            if !straddling.is_empty() {
                let Some(end) = memchr::memchr(b'\n', rest) else {
                    straddling.extend_from_slice(rest);
                    continue;
                };
                let (head, tail) = rest.split_at(end + 1);
                straddling.extend_from_slice(head);
                walk(&straddling);
                straddling.clear();
                rest = tail;
            }
            let whole = memchr::memrchr(b'\n', rest).map_or(0, |end| end + 1);
            let (head, tail) = rest.split_at(whole);
            walk(head);
            straddling.extend_from_slice(tail);
        }
        walk(&straddling);
    }
}

impl<'a> RecordSink<'a> for RecordChecker {
    #[inline(always)]
    fn record(&mut self, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        if self.learning {
            let mut fields = SkipFields { keys: &mut self.keys, full: false };
            let parsed = self.shape.object(parser, &mut fields);
            if fields.full {
                // More keys than are worth remembering: forget them, and use the slow path for the rest of the
                // body.
                (self.shape, self.learning) = (Shape::default(), false);
                self.keys.clear();
            }
            return parsed;
        }
        if parser.peek() == b'{' { parser.skip_value().map(drop) } else { Err(Syntax::ExpectedObject) }
    }

    #[inline(always)]
    fn accept(&mut self, _index: u64) {
        self.verdict.good += 1;
    }

    fn reject(&mut self, bad: BadRecord<'a>) {
        self.verdict.bad += 1;
        self.verdict.first_bad.get_or_insert((bad.index, bad.reason));
    }
}

struct SkipFields<'k> {
    /// A hash of each key. Colliding keys share a slot of the shape, which only costs time.
    keys: &'k mut Vec<u64>,
    full: bool,
}

impl<'a> FieldVisitor<'a> for SkipFields<'_> {
    #[cold]
    fn slot(&mut self, key: Str<'a>) -> Option<usize> {
        let hash =
            key.raw.iter().fold(0_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let known = self.keys.iter().position(|known| *known == hash);
        if known.is_none() && self.keys.len() < CHECKED_KEYS_MAX {
            self.keys.push(hash);
            return Some(self.keys.len() - 1);
        }
        self.full |= known.is_none();
        known
    }

    #[inline(always)]
    fn value(&mut self, _field: FieldKey<'a>, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        parser.skip_value().map(drop)
    }
}
