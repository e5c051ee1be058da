//! Validates request bodies. Findings have the wording and the order of the framework that the vendor's services use:
//! the missing fields of an object come before the invalid ones, and fields are checked in the order of their
//! declaration. Unknown fields are ignored, and `null` counts as missing.

use super::go;
use crate::contracts::reject::Reject;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// The errors in a request body.
#[derive(Debug, Default)]
pub struct Findings {
    /// The error name of the first finding.
    name: Option<&'static str>,
    messages: Vec<String>,
    /// The first value of the wrong type. It is reported alone, because the vendor's decoder stops there, before any
    /// other check.
    wrong_type: Option<String>,
}

impl Findings {
    fn add(&mut self, name: &'static str, message: String) {
        self.name.get_or_insert(name);
        self.messages.push(message);
    }

    pub fn missing(&mut self, field: &str, at: &str) {
        self.add("missingField", format!("{} is missing from {at}", go::quote(field)));
    }

    /// Checks a length. `value` is formatted as Go would.
    pub fn length(&mut self, field: &str, range: &RangeInclusive<usize>, value: &str, length: usize) {
        let (least, most) = (range.start(), range.end());
        let bound = if length < *least {
            format!("greater or equal than {least}")
        } else if length > *most {
            format!("lesser or equal than {most}")
        } else {
            return;
        };
        let message = format!("length of {field} must be {bound} but got value {value} (len={length})");
        self.add("invalidLength", message);
    }

    pub fn one_of(&mut self, field: &str, words: &[&str], value: &str) {
        if !words.contains(&value) {
            let words: Vec<String> = words.iter().map(|word| go::quote(word)).collect();
            let (words, value) = (words.join(", "), go::quote(value));
            let message = format!("value of {field} must be one of {words} but got value {value}");
            self.add("invalidEnumValue", message);
        }
    }

    /// `kind` is the type of the field: `string`, `integer`, …
    pub fn wrong_type(&mut self, field: &str, value: &str, kind: &str) {
        let field = go::quote(field);
        self.wrong_type.get_or_insert(format!("invalid value {value} for {field}, must be a {kind}"));
    }

    /// Refuses the request if there is any finding.
    pub fn finish(self) -> Result<(), Reject> {
        if let Some(message) = self.wrong_type {
            return Err(Reject::malformed(message).code("invalidFieldType"));
        }
        match self.name {
            Some(name) => Err(Reject::malformed(self.messages.join("; ")).code(name)),
            None => Ok(()),
        }
    }
}

/// Parses a body as JSON. The content type is ignored, because the vendor's own scripts send none.
pub fn parse(body: &[u8]) -> Result<Value, Reject> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Reject::malformed("missing required payload").code("missingPayload"));
    }
    serde_json::from_slice(body)
        .map_err(|error| Reject::malformed(format!("invalid JSON: {error}")).code("decodePayload"))
}

/// An object in a body, with its path.
#[derive(Debug, Clone)]
pub struct ObjectNode<'v> {
    object: &'v Map<String, Value>,
    at: String,
}

impl<'v> ObjectNode<'v> {
    /// The body itself. `None`, with a finding, if it is not an object.
    pub fn root(value: &'v Value, findings: &mut Findings) -> Option<Self> {
        Self::from_value(value, "body".to_owned(), findings)
    }

    fn from_value(value: &'v Value, at: String, findings: &mut Findings) -> Option<Self> {
        let Value::Object(object) = value else {
            findings.wrong_type(&at, &shown(value), "object");
            return None;
        };
        Some(Self { object, at })
    }

    /// The path of a field: `body.exports[0].name`.
    pub fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.at)
    }

    fn get(&self, key: &str) -> Option<&'v Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// Adds a finding for each missing field.
    pub fn require(&self, keys: &[&str], findings: &mut Findings) {
        for key in keys.iter().filter(|key| self.get(key).is_none()) {
            findings.missing(key, &self.at);
        }
    }

    /// A field of any type.
    pub fn value(&self, key: &str) -> Option<&'v Value> {
        self.get(key)
    }

    /// A list of strings.
    pub fn texts(&self, key: &str, findings: &mut Findings) -> Option<Vec<&'v str>> {
        let values = self.get_as(key, "array", findings, Value::as_array)?;
        let texts = values.iter().enumerate().filter_map(|(n, value)| {
            if !value.is_string() {
                findings.wrong_type(&format!("{}[{n}]", self.path(key)), &shown(value), "string");
            }
            value.as_str()
        });
        Some(texts.collect())
    }

    fn get_as<T>(
        &self,
        key: &str,
        kind: &'static str,
        findings: &mut Findings,
        of: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let found = of(value);
        if found.is_none() {
            findings.wrong_type(&self.path(key), &shown(value), kind);
        }
        found
    }

    /// A string whose length in characters is within `range`.
    pub fn text(&self, key: &str, range: &RangeInclusive<usize>, findings: &mut Findings) -> Option<&'v str> {
        let text = self.get_as(key, "string", findings, Value::as_str)?;
        findings.length(&self.path(key), range, &go::quote(text), text.chars().count());
        Some(text)
    }

    /// One of the listed words.
    pub fn word(&self, key: &str, words: &[&str], findings: &mut Findings) -> Option<&'v str> {
        let text = self.get_as(key, "string", findings, Value::as_str)?;
        findings.one_of(&self.path(key), words, text);
        Some(text)
    }

    pub fn flag(&self, key: &str, findings: &mut Findings) -> Option<bool> {
        self.get_as(key, "boolean", findings, Value::as_bool)
    }

    pub fn integer(&self, key: &str, findings: &mut Findings) -> Option<i64> {
        self.get_as(key, "integer", findings, Value::as_i64)
    }

    pub fn object(&self, key: &str, findings: &mut Findings) -> Option<Self> {
        let value = self.get(key)?;
        Self::from_value(value, self.path(key), findings)
    }

    /// The objects of a list; `None` if there is no list.
    pub fn list(&self, key: &str, findings: &mut Findings) -> Option<Vec<Self>> {
        let values = self.get_as(key, "array", findings, Value::as_array)?;
        let at = |n: usize| format!("{}[{n}]", self.path(key));
        Some(
            values
                .iter()
                .enumerate()
                .filter_map(|(n, value)| Self::from_value(value, at(n), findings))
                .collect(),
        )
    }
}

/// A value in a message. Lists and objects are not shown: they may be long.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => go::quote(text),
        Value::Array(_) => "[…]".to_owned(),
        Value::Object(_) => "{…}".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(
        body: &Value,
        read: impl Fn(&ObjectNode<'_>, &mut Findings),
    ) -> (Option<&'static str>, String) {
        let mut findings = Findings::default();
        if let Some(root) = ObjectNode::root(body, &mut findings) {
            read(&root, &mut findings);
        }
        let reject = findings.finish().unwrap_err();
        (reject.code, reject.external.into_owned())
    }

    #[test]
    fn findings_are_worded_and_ordered_as_the_framework_does() {
        let body = json!({"exports": [{"name": ""}, {"mapping": {}}], "description": null});
        let (name, message) = refused(&body, |root, findings| {
            root.require(&["name"], findings);
            for export in root.list("exports", findings).unwrap() {
                export.require(&["name", "mapping"], findings);
                export.text("name", &(1..=40), findings);
            }
        });
        assert_eq!(name, Some("missingField"));
        assert_eq!(
            message,
            "\"name\" is missing from body; \"mapping\" is missing from body.exports[0]; length of body.exports[0].name \
             must be greater or equal than 1 but got value \"\" (len=0); \"name\" is missing from body.exports[1]"
        );
        let long = "ž".repeat(41);
        let (name, message) = refused(&json!({ "name": long }), |root, findings| {
            root.text("name", &(1..=40), findings);
        });
        assert_eq!(name, Some("invalidLength"));
        assert_eq!(
            message,
            format!("length of body.name must be lesser or equal than 40 but got value \"{long}\" (len=41)")
        );
        let (name, message) = refused(&json!({"type": "foo"}), |root, findings| {
            root.word("type", &["http", "otlp"], findings);
        });
        assert_eq!(name, Some("invalidEnumValue"));
        assert_eq!(message, "value of body.type must be one of \"http\", \"otlp\" but got value \"foo\"");
    }

    #[test]
    fn a_wrong_type_ends_the_reading() {
        let read = |root: &ObjectNode<'_>, findings: &mut Findings| {
            root.require(&["name"], findings);
            root.text("id", &(1..=48), findings);
            root.flag("incremental", findings);
        };
        let (name, message) = refused(&json!({"id": 5, "incremental": "x"}), read);
        assert_eq!(name, Some("invalidFieldType"));
        assert_eq!(message, "invalid value 5 for \"body.id\", must be a string");
        let (_, message) = refused(&json!([1]), read);
        assert_eq!(message, "invalid value […] for \"body\", must be a object");
    }

    #[test]
    fn a_body_is_json() {
        assert_eq!(parse(b" \n").unwrap_err().code, Some("missingPayload"));
        assert_eq!(parse(b"{").unwrap_err().code, Some("decodePayload"));
        assert_eq!(parse(b"{}").unwrap(), json!({}));
    }
}
