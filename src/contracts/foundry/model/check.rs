//! Checks that a record matches its stream's schema: all of its fields, no others, and every value in the JSON form of
//! its type. This is stricter than the columns, which accept strings for numbers if a contract asks for that. A record
//! that passes fits the columns.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::schema::{FieldType, SchemaField, StreamSchema, ValueType};
use crate::columns::{decimal, int64, time};
use crate::formats::json::{JsonKind, Parser, Syntax};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Maximum number of reasons reported for a record.
const REASONS_MAX: usize = 20;
/// Maximum number of characters of a value in a message.
const VALUE_CHARS_MAX: usize = 60;
/// The range of a timestamp.
const YEARS: &str = "the years 1 to 9999";

/// The reasons why a record does not match, one per value; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch(pub Vec<String>);

impl StreamSchema {
    /// Checks a record: the text of a JSON object, in the grammar of [`Parser`].
    ///
    /// # Errors
    /// All values that do not match.
    pub fn check(&self, record: &[u8]) -> Result<(), Mismatch> {
        let mut checker = SchemaChecker { path: Vec::new(), reasons: Vec::new() };
        if let Err(error) = checker.object(&self.fields, &mut Parser::document(record)) {
            checker.reasons.push(error.to_string());
        }
        if checker.reasons.is_empty() { Ok(()) } else { Err(Mismatch(checker.reasons)) }
    }
}

struct SchemaChecker<'s> {
    path: Vec<&'s str>,
    reasons: Vec<String>,
}

impl<'s> SchemaChecker<'s> {
    #[cold]
    fn refuse(&mut self, reason: &str) {
        if self.reasons.len() < REASONS_MAX {
            let path = self.path.join(".");
            self.reasons.push(format!("field '{path}': {reason}"));
        }
    }

    /// Expects the parser at the `{`.
    fn object(&mut self, fields: &'s [SchemaField], parser: &mut Parser<'_>) -> Result<(), Syntax> {
        let mut seen = vec![false; fields.len()];
        // Fields are usually in the order of the schema.
        let mut expected = 0;
        let mut key = parser.first_key()?;
        while let Some(name) = key {
            let text = name.text();
            let is_it = |field: &SchemaField| field.name.as_bytes() == &*text;
            let at = match fields.get(expected) {
                Some(field) if is_it(field) => Some(expected),
                _ => fields.iter().position(is_it),
            };
            if let Some((at, field)) = at.and_then(|at| Some((at, fields.get(at)?))) {
                expected = at.saturating_add(1);
                if let Some(seen) = seen.get_mut(at) {
                    *seen = true;
                }
                self.path.push(&field.name);
                self.value(&field.item, parser)?;
                self.path.pop();
            } else {
                let raw = parser.skip_value()?;
                if raw != b"null" {
                    self.unknown(&text);
                }
            }
            key = parser.next_key()?;
        }
        for (field, seen) in fields.iter().zip(seen) {
            if !seen && !field.item.nullable {
                self.path.push(&field.name);
                self.refuse("the field is missing and not nullable");
                self.path.pop();
            }
        }
        Ok(())
    }

    #[cold]
    fn unknown(&mut self, name: &[u8]) {
        if self.reasons.len() < REASONS_MAX {
            let name: String = String::from_utf8_lossy(name).chars().take(VALUE_CHARS_MAX).collect();
            let mut path: Vec<&str> = self.path.clone();
            path.push(&name);
            self.reasons.push(format!("field '{}': the field is not in the schema", path.join(".")));
        }
    }

    fn value(&mut self, item: &'s ValueType, parser: &mut Parser<'_>) -> Result<(), Syntax> {
        match (&item.kind, parser.kind()?) {
            (_, JsonKind::Null) => {
                parser.literal(JsonKind::Null);
                if !item.nullable {
                    self.refuse("the value is null, but its type is not nullable");
                }
                Ok(())
            }
            (FieldType::Struct(fields), JsonKind::Object) => self.object(fields, parser),
            (FieldType::Array(items), JsonKind::Array) => {
                let mut more = parser.first_element();
                while more {
                    self.value(items, parser)?;
                    more = parser.next_element()?;
                }
                Ok(())
            }
            (FieldType::Map(values), JsonKind::Object) => {
                let mut key = parser.first_key()?;
                while key.is_some() {
                    self.value(values, parser)?;
                    key = parser.next_key()?;
                }
                Ok(())
            }
            (kind, found) => self.scalar(kind, found, parser),
        }
    }

    fn scalar(&mut self, kind: &FieldType, found: JsonKind, parser: &mut Parser<'_>) -> Result<(), Syntax> {
        let raw = parser.skip_value()?;
        let reason = match (kind, found) {
            (FieldType::String, JsonKind::String)
            | (FieldType::Boolean, JsonKind::True | JsonKind::False) => {
                return Ok(());
            }
            (FieldType::Byte, JsonKind::Number) => integer(raw, i8::MIN.into(), i8::MAX.into()),
            (FieldType::Short, JsonKind::Number) => integer(raw, i16::MIN.into(), i16::MAX.into()),
            (FieldType::Integer, JsonKind::Number) => integer(raw, i32::MIN.into(), i32::MAX.into()),
            (FieldType::Long, JsonKind::Number) => integer(raw, i64::MIN, i64::MAX),
            (FieldType::Float, JsonKind::Number) => {
                let number = text(raw).parse::<f32>().ok().filter(|number| number.is_finite());
                number.is_none().then(|| "is out of range for".to_owned())
            }
            (FieldType::Double, JsonKind::Number) => {
                let number = text(raw).parse::<f64>().ok().filter(|number| number.is_finite());
                number.is_none().then(|| "is out of range for".to_owned())
            }
            (FieldType::Decimal { precision, scale }, JsonKind::Number | JsonKind::String) => {
                decimal(&unquoted(raw), *precision, *scale).is_none().then(|| "does not fit".to_owned())
            }
            (FieldType::Timestamp, JsonKind::Number) => {
                let millis = int64(raw);
                let known = millis.and_then(|millis| time::epoch(millis, 3));
                known.is_none().then(|| match millis {
                    Some(_) => format!("is not within {YEARS}, in milliseconds since 1970, as required by"),
                    None => "is not an integer number of milliseconds since 1970, as required by".to_owned(),
                })
            }
            (FieldType::Timestamp, JsonKind::String) => time::declared_timestamp(&unquoted(raw))
                .is_none()
                .then(|| format!("is not an RFC 3339 time within {YEARS}, as required by")),
            (FieldType::Date, JsonKind::String) => time::date(&unquoted(raw))
                .is_none()
                .then(|| "is not a date such as 2026-01-31, as required by".to_owned()),
            (FieldType::Binary, JsonKind::String) => BASE64_STANDARD
                .decode(&*unquoted(raw))
                .is_err()
                .then(|| "is not valid Base64, as required by".to_owned()),
            _ => Some("is not of".to_owned()),
        };
        if let Some(reason) = reason {
            self.refuse(&format!("{} {reason} type {}", shown(raw), kind.word()));
        }
        Ok(())
    }
}

fn integer(raw: &[u8], min: i64, max: i64) -> Option<String> {
    match int64(raw) {
        Some(value) if (min..=max).contains(&value) => None,
        _ if raw.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => {
            Some("is not an integer, as required by".to_owned())
        }
        _ => Some("is out of range for".to_owned()),
    }
}

fn text(raw: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(raw)
}

/// The text of a JSON string, or a number as written.
fn unquoted(raw: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if raw.first() == Some(&b'"') {
        Parser::document(raw).string().expect("the string was read before").text()
    } else {
        raw.into()
    }
}

fn shown(raw: &[u8]) -> String {
    let text = text(raw);
    let cut: String = text.chars().take(VALUE_CHARS_MAX).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}
