//! Extracts the records of a body, one per line. The text of a record stays as written, except line breaks between its
//! tokens, which become blanks.

use super::errors::{error, too_large, wrong};
use crate::contracts::reject::{Reject, RejectKind};
use crate::formats::json::{JsonKind, Parser, Syntax};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Maximum bytes of a record. The vendor says "1 MB"; this is the larger of its two meanings.
pub(super) const RECORD_BYTES_MAX: usize = 1 << 20;

/// The content of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub records: Vec<&'a [u8]>,
    /// The view of the records, if the client names one.
    pub view: Option<String>,
}

/// The format of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeForm {
    /// `{"record": {…}, "viewRid"?: …}`
    Record,
    /// `{"records": [{…}, …], "viewRid"?: …}`
    Records,
    /// `{…}`
    Bare,
    /// `[{"value": {…}}, …]`
    Values,
}

/// Opens a body.
///
/// # Errors
/// A refusal with the reason why the body is invalid.
pub fn open(form: EnvelopeForm, body: &[u8]) -> Result<Envelope<'_>, Reject> {
    if body.trim_ascii().is_empty() {
        let message = "The request has no body.";
        return Err(error(RejectKind::Malformed, "MissingPostBody", message, []));
    }
    if simdutf8::basic::from_utf8(body).is_err() {
        return Err(wrong("The body is not UTF-8."));
    }
    let mut parser = Parser::document(body);
    parser.skip_space();
    let read = match form {
        EnvelopeForm::Record => read_object(&mut parser, "record", false),
        EnvelopeForm::Records => read_object(&mut parser, "records", true),
        EnvelopeForm::Bare => {
            record(&mut parser).map(|record| Envelope { records: vec![record], view: None })
        }
        EnvelopeForm::Values => read_values(&mut parser).map(|records| Envelope { records, view: None }),
    };
    let envelope = read.map_err(EnvelopeError::into_reject)?;
    parser.skip_space();
    if parser.at() < body.len() {
        return Err(wrong("The body is not valid JSON: there is data after its end."));
    }
    if envelope.records.is_empty() {
        let message = "The request has no records.";
        return Err(error(RejectKind::Malformed, "MissingBatchRequest", message, []));
    }
    for (number, record) in envelope.records.iter().enumerate() {
        if record.len() > RECORD_BYTES_MAX {
            return Err(too_large(number, record.len(), RECORD_BYTES_MAX));
        }
    }
    Ok(envelope)
}

enum EnvelopeError {
    Syntax(Syntax),
    Form(String),
}

impl From<Syntax> for EnvelopeError {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}

impl EnvelopeError {
    fn into_reject(self) -> Reject {
        match self {
            Self::Syntax(syntax) => wrong(format!("The body is not valid JSON: {syntax}.")),
            Self::Form(message) => wrong(message),
        }
    }
}

/// Reads the record at the parser.
fn record<'a>(parser: &mut Parser<'a>) -> Result<&'a [u8], EnvelopeError> {
    if parser.kind()? == JsonKind::Object {
        return Ok(parser.skip_value()?);
    }
    parser.skip_value()?;
    Err(EnvelopeError::Form("A record must be a JSON object.".to_owned()))
}

fn records<'a>(parser: &mut Parser<'a>) -> Result<Vec<&'a [u8]>, EnvelopeError> {
    let mut records = Vec::new();
    if parser.kind()? != JsonKind::Array {
        return Err(EnvelopeError::Form("\"records\" must be a list of JSON objects.".to_owned()));
    }
    let mut more = parser.first_element();
    while more {
        records.push(record(parser)?);
        more = parser.next_element()?;
    }
    Ok(records)
}

/// Reads an object with the wanted field and an optional view. Other fields are ignored.
fn read_object<'a>(parser: &mut Parser<'a>, wanted: &str, many: bool) -> Result<Envelope<'a>, EnvelopeError> {
    let missing = || EnvelopeError::Form(format!("The body must be a JSON object with {wanted:?}."));
    if parser.kind()? != JsonKind::Object {
        return Err(missing());
    }
    let (mut found, mut view) = (None, None);
    let mut key = parser.first_key()?;
    while let Some(name) = key {
        match &*name.text() {
            name if name == wanted.as_bytes() => {
                found = Some(if many { records(parser)? } else { vec![record(parser)?] });
            }
            b"viewRid" => match parser.kind()? {
                JsonKind::Null => drop(parser.skip_value()?),
                JsonKind::String => {
                    view = Some(String::from_utf8_lossy(&parser.string()?.text()).into_owned());
                }
                _ => return Err(EnvelopeError::Form("\"viewRid\" must be a string.".to_owned())),
            },
            _ => drop(parser.skip_value()?),
        }
        key = parser.next_key()?;
    }
    Ok(Envelope { records: found.ok_or_else(missing)?, view })
}

/// Reads a list of objects, each with a `value`.
fn read_values<'a>(parser: &mut Parser<'a>) -> Result<Vec<&'a [u8]>, EnvelopeError> {
    let malformed =
        || EnvelopeError::Form("The body must be a JSON list of objects, each with a \"value\".".to_owned());
    if parser.kind()? != JsonKind::Array {
        return Err(malformed());
    }
    let mut records = Vec::new();
    let mut more = parser.first_element();
    while more {
        if parser.kind()? != JsonKind::Object {
            return Err(malformed());
        }
        let mut found = None;
        let mut key = parser.first_key()?;
        while let Some(name) = key {
            if *name.text() == *b"value" {
                found = Some(record(parser)?);
            } else {
                parser.skip_value()?;
            }
            key = parser.next_key()?;
        }
        records.push(found.ok_or_else(malformed)?);
        more = parser.next_element()?;
    }
    Ok(records)
}

/// The records, one per line. Line breaks in a record can only be between its tokens; they become blanks.
pub(super) fn lines(records: &[&[u8]]) -> Vec<u8> {
    let bytes = records.iter().map(|record| record.len().saturating_add(1)).sum();
    let mut lines = Vec::with_capacity(bytes);
    for record in records {
        let start = lines.len();
        lines.extend_from_slice(record);
        let (_, written) = lines.split_at_mut(start);
        for at in memchr::memchr2_iter(b'\n', b'\r', record) {
            if let Some(byte) = written.get_mut(at) {
                *byte = b' ';
            }
        }
        lines.push(b'\n');
    }
    lines
}

/// A record with one binary field, in Base64.
pub(super) fn binary(field: &str, bytes: &[u8]) -> Vec<u8> {
    format!("{{{}:\"{}\"}}\n", Value::from(field), BASE64_STANDARD.encode(bytes)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(form: EnvelopeForm, body: &str) -> Result<(Vec<String>, Option<String>), String> {
        let envelope = open(form, body.as_bytes()).map_err(|reject| reject.external.into_owned())?;
        let text = |record: &&[u8]| String::from_utf8(record.to_vec()).unwrap();
        Ok((envelope.records.iter().map(text).collect(), envelope.view))
    }

    #[test]
    fn records_come_out_as_they_were_written() {
        let record = r#"{ "n":1.50, "n" : 12345678901234567890, "e":"\u00e9\"}" }"#;
        let check = |form, body: String, expected: &[&str], view: Option<&str>| {
            let expected = expected.iter().map(ToString::to_string).collect();
            assert_eq!(records(form, &body), Ok((expected, view.map(str::to_owned))), "{body}");
        };
        check(EnvelopeForm::Record, format!("{{\"record\":{record}}}"), &[record], None);
        check(
            EnvelopeForm::Record,
            format!("{{\"viewRid\":null,\"x\":[1],\"record\":{record}}} "),
            &[record],
            None,
        );
        check(
            EnvelopeForm::Records,
            format!("{{\"records\":[{record} , {{}}],\"viewRid\":\"v\"}}"),
            &[record, "{}"],
            Some("v"),
        );
        check(EnvelopeForm::Bare, format!(" {record}\n"), &[record], None);
        check(
            EnvelopeForm::Values,
            format!("[{{\"value\":{record}}},{{\"x\":1,\"value\":{{}}}}]"),
            &[record, "{}"],
            None,
        );
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for (form, body) in [
            (EnvelopeForm::Record, ""),
            (EnvelopeForm::Record, "[]"),
            (EnvelopeForm::Record, "{}"),
            (EnvelopeForm::Record, "{\"record\":1}"),
            (EnvelopeForm::Record, "{\"record\":{}"),
            (EnvelopeForm::Record, "{\"record\":{}} x"),
            (EnvelopeForm::Record, "{\"record\":{},\"viewRid\":1}"),
            (EnvelopeForm::Records, "{\"records\":{}}"),
            (EnvelopeForm::Records, "{\"records\":[]}"),
            (EnvelopeForm::Records, "{\"records\":[1]}"),
            (EnvelopeForm::Bare, "[{}]"),
            (EnvelopeForm::Values, "{}"),
            (EnvelopeForm::Values, "[{\"n\":1}]"),
            (EnvelopeForm::Values, "[]"),
            (EnvelopeForm::Values, "[1]"),
        ] {
            assert!(records(form, body).is_err(), "{form:?} {body}");
        }
        assert!(open(EnvelopeForm::Bare, b"{\"a\":\"\xff\"}").is_err());
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(RECORD_BYTES_MAX));
        assert_eq!(open(EnvelopeForm::Bare, large.as_bytes()).unwrap_err().kind, RejectKind::TooLarge);
    }

    #[test]
    fn a_line_is_a_record() {
        assert_eq!(lines(&[b"{\"a\":\r\n1}", b"{}"]), b"{\"a\":  1}\n{}\n");
        assert_eq!(binary("a\"b", &[0, 255]), b"{\"a\\\"b\":\"AP8=\"}\n");
    }
}
