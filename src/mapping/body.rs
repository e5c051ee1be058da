//! Parses the body of a request for mappings that use its content.

use super::{Path, form};
use crate::formats::json::{JsonKind, Parser};
use std::borrow::Cow;

/// A body that is an object: JSON as received, or a form converted to equivalent JSON.
#[derive(Debug, Clone)]
pub struct Body<'a>(Cow<'a, str>);

/// Why a body has no fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// Its type has no fields.
    ContentType(String),
    /// It does not match its type.
    Invalid(String),
}

impl<'a> Body<'a> {
    /// Parses a body: a JSON object, or a form.
    pub fn parse(body: &'a [u8], content_type: Option<&str>) -> Result<Self, ParseError> {
        let of = content_type.unwrap_or("");
        let is_json = is_json(of);
        if !is_json && !is_form(of) {
            return Err(ParseError::ContentType(of.to_owned()));
        }
        let text = simdutf8::basic::from_utf8(body);
        let text = text.map_err(|_| invalid("invalid UTF-8"))?;
        if !is_json {
            return Ok(Self(Cow::Owned(serde_json::Value::from(form::parse(text)?).to_string())));
        }
        let mut parser = Parser::document(body);
        parser.skip_space();
        if parser.kind() != Ok(JsonKind::Object) {
            let what = if parser.at() == body.len() { "it is empty" } else { "expected a JSON object" };
            return Err(invalid(what));
        }
        parser.skip_value().map_err(|error| invalid(&error.to_string()))?;
        parser.skip_space();
        if parser.at() < body.len() {
            return Err(invalid("trailing characters after the object"));
        }
        Ok(Self(Cow::Borrowed(text)))
    }

    /// The JSON of the whole body.
    pub fn json(&self) -> &str {
        &self.0
    }

    /// The JSON at a path.
    pub fn at(&self, path: &Path<'_>) -> Option<&str> {
        path.find(&self.0)
    }
}

fn invalid(what: &str) -> ParseError {
    ParseError::Invalid(format!("cannot parse request body: {what}"))
}

/// `application/json`, and types with the suffix `+json` such as `application/cloudevents+json`, with any
/// parameters.
fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    match subtype.strip_suffix("+json") {
        None => subtype == "json",
        Some(prefix) => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
            !prefix.is_empty() && prefix.bytes().all(allowed)
        }
    }
}

fn is_form(content_type: &str) -> bool {
    essence(content_type) == "application/x-www-form-urlencoded"
}

fn essence(content_type: &str) -> String {
    content_type.split_once(';').map_or(content_type, |(essence, _)| essence).trim().to_ascii_lowercase()
}
