//! Writes values as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::value::Number;

/// An object that is being written.
pub(super) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> ObjectWriter<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// A field whose value `write` writes.
    pub(super) fn put(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        text(self.out, key);
        self.out.push(b':');
        write(self.out);
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.put(key, |out| text(out, value));
    }

    pub(super) fn raw(&mut self, key: &str, json: &[u8]) {
        self.put(key, |out| out.extend_from_slice(json));
    }

    pub(super) fn number(&mut self, key: &str, value: impl Into<Number>) {
        let value = value.into().to_string();
        self.raw(key, value.as_bytes());
    }

    pub(super) fn double(&mut self, key: &str, value: f64) {
        self.put(key, |out| double(out, value));
    }

    pub(super) fn null(&mut self, key: &str) {
        self.raw(key, b"null");
    }

    /// The bytes of an id, as hexadecimal digits.
    pub(super) fn id(&mut self, key: &str, bytes: &[u8]) {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
        self.text(key, &digits);
    }

    /// Nanoseconds since the epoch as a time; null if the time is unknown.
    pub(super) fn time(&mut self, key: &str, nanos: u64) {
        match jiff::Timestamp::from_nanosecond(nanos.into()) {
            Ok(time) if nanos > 0 => self.text(key, &format!("{time:.9}")),
            _ => self.null(key),
        }
    }

    pub(super) fn attributes(&mut self, key: &str, values: &[KeyValue]) {
        self.put(key, |out| attributes(out, values));
    }
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

/// JSON has no literals for these values; they have the names that protobuf's JSON mapping gives them.
pub(super) fn double(out: &mut Vec<u8>, value: f64) {
    match Number::from_f64(value) {
        Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
        None if value.is_nan() => text(out, "NaN"),
        None if value > 0.0 => text(out, "Infinity"),
        None => text(out, "-Infinity"),
    }
}

pub(super) fn list<T>(out: &mut Vec<u8>, values: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (n, value) in values.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(out, value);
    }
    out.push(b']');
}

/// Attributes as an object. Duplicate keys are not allowed; if one occurs, the last value wins for readers.
pub(super) fn attributes(out: &mut Vec<u8>, values: &[KeyValue]) {
    let mut object = ObjectWriter::begin(out);
    for pair in values {
        object.put(&pair.key, |out| any(out, pair.value.as_ref()));
    }
    object.end();
}

/// Recursion is safe: decoding has bounded the depth.
pub(super) fn any(out: &mut Vec<u8>, value: Option<&AnyValue>) {
    match value.and_then(|value| value.value.as_ref()) {
        // An index into a string table occurs only in profiles.
        None | Some(Value::StringValueStrindex(_)) => out.extend_from_slice(b"null"),
        Some(Value::StringValue(value)) => text(out, value),
        Some(Value::BoolValue(value)) => out.extend_from_slice(value.to_string().as_bytes()),
        Some(Value::IntValue(value)) => out.extend_from_slice(value.to_string().as_bytes()),
        Some(Value::DoubleValue(value)) => double(out, *value),
        Some(Value::BytesValue(bytes)) => text(out, &STANDARD.encode(bytes)),
        Some(Value::ArrayValue(array)) => list(out, &array.values, |out, value| any(out, Some(value))),
        Some(Value::KvlistValue(pairs)) => attributes(out, &pairs.values),
    }
}

/// The attributes of a resource.
pub(super) fn resource(resource: &Resource) -> Vec<u8> {
    let mut out = Vec::new();
    attributes(&mut out, &resource.attributes);
    out
}

pub(super) fn scope(scope: &InstrumentationScope) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = ObjectWriter::begin(&mut out);
    object.text("name", &scope.name);
    object.text("version", &scope.version);
    object.attributes("attributes", &scope.attributes);
    object.end();
    out
}
