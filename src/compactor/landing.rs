//! Records as received, in the formats in which they land next to a table or are shown: NDJSON, or a CBOR sequence
//! (RFC 8742) with one map per request.

use crate::batch::{Batch, BodyKind};
use crate::catalog::Stream;
use crate::clock::Micros;
use crate::formats::json::records::{BadRecord, RecordSink, walk};
use crate::formats::json::{Parser, Syntax};
use crate::formats::xml::{self, XmlError};
use crate::mapping::frames;

/// The records of an XML document as NDJSON; `known` is what the columns determine about its text.
///
/// # Errors
/// For a document that cannot be parsed.
pub fn xml_lines(batch: &Batch<'_>, stream: &Stream, known: &xml::Known) -> Result<Vec<u8>, XmlError> {
    let content_type = frames::kept(&batch.head, "Content-Type");
    let row_tag = stream.settings.row_tag.as_deref();
    xml::transcribe(batch.body, xml::XmlOptions { content_type: content_type.as_deref(), row_tag }, known)
}

/// Appends the records of a batch that are JSON objects, one per line.
pub fn ndjson(body: &[u8], kind: BodyKind, to: &mut Vec<u8>) {
    // A document that is not valid JSON has none.
    walk(body, kind, 0, &mut Lines { raw: &[], to }).ok();
}

struct Lines<'a, 't> {
    raw: &'a [u8],
    to: &'t mut Vec<u8>,
}

impl<'a> RecordSink<'a> for Lines<'a, '_> {
    fn record(&mut self, parser: &mut Parser<'a>) -> Result<(), Syntax> {
        if parser.peek() != b'{' {
            return Err(Syntax::ExpectedObject);
        }
        self.raw = parser.skip_value()?;
        Ok(())
    }

    fn accept(&mut self, _index: u64) {
        // JSON has raw line breaks only between tokens.
        let blank = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
        self.to.extend(self.raw.iter().map(blank));
        self.to.push(b'\n');
    }

    fn reject(&mut self, _bad: BadRecord<'a>) {}
}

/// Appends a request as one map: `received_at`, `request_id`, `content_type`, and `body`, exactly as received.
pub fn cbor(batch: &Batch<'_>, received_at: Micros, to: &mut Vec<u8>) {
    let text = |name: &str| frames::kept(&batch.head, name);
    let content_type = text("Content-Type").unwrap_or_else(|| {
        let xml = batch.head.kind == BodyKind::Xml;
        if xml { "application/xml" } else { "application/json" }.to_owned()
    });
    let received_at = jiff::Timestamp::from_microsecond(received_at)
        .map_or_else(|_| received_at.to_string(), |at| at.to_string());
    let mut encoder = minicbor::Encoder::new(to);
    let written = (|| {
        encoder.map(4)?.str("received_at")?.str(&received_at)?.str("request_id")?;
        match text("X-Request-Id") {
            Some(id) => encoder.str(&id)?,
            None => encoder.null()?,
        };
        encoder.str("content_type")?.str(&content_type)?.str("body")?.bytes(batch.body)?;
        Ok::<(), minicbor::encode::Error<std::convert::Infallible>>(())
    })();
    written.expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchHead, StreamId, Tag};

    #[test]
    fn records_are_lines() {
        let mut lines = Vec::new();
        ndjson(b"[{\"a\":\n 1}, 2, {\"b\":\"x\\ny\"}]", BodyKind::Document, &mut lines);
        assert_eq!(lines, b"{\"a\":  1}\n{\"b\":\"x\\ny\"}\n");
        lines.clear();
        ndjson(b"{\"a\":1}\r\nno\n", BodyKind::Lines, &mut lines);
        assert_eq!(lines, b"{\"a\":1}\n");
    }

    #[test]
    fn a_request_is_a_map() {
        let mut head = BatchHead::new(StreamId(1), Tag::Amperity, BodyKind::Xml);
        head.request = Some("{\"headers\":{\"X-Request-Id\":\"r\",\"Content-Type\":\"text/xml\"}}");
        let batch = Batch { head, body: b"<r/>\xff", results: b"" };
        let mut bytes = Vec::new();
        cbor(&batch, 1_700_000_000_000_000, &mut bytes);
        let mut decoder = minicbor::Decoder::new(&bytes);
        assert_eq!(decoder.map().unwrap(), Some(4));
        for (key, value) in
            [("received_at", "2023-11-14T22:13:20Z"), ("request_id", "r"), ("content_type", "text/xml")]
        {
            assert_eq!((decoder.str().unwrap(), decoder.str().unwrap()), (key, value));
        }
        assert_eq!((decoder.str().unwrap(), decoder.bytes().unwrap()), ("body", &b"<r/>\xff"[..]));
        assert_eq!(decoder.position(), bytes.len());
    }
}
