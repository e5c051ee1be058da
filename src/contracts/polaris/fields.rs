//! Reads the JSON of management calls. Errors say which field of which object is wrong.

use crate::contracts::Call;
use crate::contracts::reject::{Reject, RejectKind};
use http::header;
use serde_json::{Map, Value};

/// An object of a request's body.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestFields<'v> {
    object: &'v Map<String, Value>,
    /// The name of the object in messages.
    what: &'static str,
}

/// The refusal of an invalid body.
pub(super) fn wrong(message: impl Into<String>) -> Reject {
    Reject::malformed(message.into())
}

/// Parses the body of a call.
pub(super) fn parse(call: &Call<'_>) -> Result<Value, Reject> {
    if let Some(kind) = call.head.headers.get(header::CONTENT_TYPE) {
        // A value that is not text is not the type, either.
        let kind = kind.to_str().unwrap_or("");
        let essence = kind.split_once(';').map_or(kind, |(essence, _)| essence).trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let message = format!("the content type must be application/json, not {essence:?}");
            return Err(Reject::new(RejectKind::UnsupportedType, message));
        }
    }
    serde_json::from_slice(&call.body).map_err(|error| wrong(format!("the body is not JSON: {error}")))
}

impl<'v> RequestFields<'v> {
    pub(super) fn from_value(value: &'v Value, what: &'static str) -> Result<Self, Reject> {
        let object = value.as_object().ok_or_else(|| wrong(format!("{what} is not a JSON object")))?;
        Ok(Self { object, what })
    }

    /// Refuses unknown fields, because a misspelled field would otherwise be ignored silently.
    pub(super) fn only(self, known: &[&str]) -> Result<Self, Reject> {
        match self.object.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(wrong(format!("{} has no field {key:?}", self.what))),
            None => Ok(self),
        }
    }

    /// The value; `null` counts as absent.
    pub(super) fn get(self, key: &str) -> Option<&'v Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn get_as<T>(
        self,
        key: &str,
        kind: &str,
        of: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Result<Option<T>, Reject> {
        let Some(value) = self.get(key) else { return Ok(None) };
        of(value).map(Some).ok_or_else(|| wrong(format!("{key:?} of {} is not {kind}", self.what)))
    }

    pub(super) fn text(self, key: &str) -> Result<Option<&'v str>, Reject> {
        self.get_as(key, "text", Value::as_str)
    }

    pub(super) fn required(self, key: &str) -> Result<&'v str, Reject> {
        self.text(key)?.ok_or_else(|| wrong(format!("{} has no {key:?}", self.what)))
    }

    pub(super) fn flag(self, key: &str) -> Result<bool, Reject> {
        Ok(self.get_as(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    pub(super) fn number(self, key: &str) -> Result<Option<u64>, Reject> {
        self.get_as(key, "a non-negative integer", Value::as_u64)
    }

    /// A list; empty if absent.
    pub(super) fn list(self, key: &str) -> Result<&'v [Value], Reject> {
        Ok(self.get_as(key, "a list", Value::as_array)?.map_or(&[], Vec::as_slice))
    }

    /// A list of texts; empty if absent.
    pub(super) fn texts(self, key: &str) -> Result<Vec<&'v str>, Reject> {
        let text = |value: &'v Value| {
            value.as_str().ok_or_else(|| wrong(format!("{key:?} of {} is not a list of text", self.what)))
        };
        self.list(key)?.iter().map(text).collect()
    }

    /// One of the given words; the first one if absent.
    pub(super) fn word(self, key: &str, words: &'static [&'static str]) -> Result<&'static str, Reject> {
        let Some(text) = self.text(key)? else { return Ok(words.first().copied().unwrap_or("")) };
        words.iter().find(|word| **word == text).copied().ok_or_else(|| {
            wrong(format!("{key:?} of {} is {text:?}; expected one of: {}", self.what, words.join(", ")))
        })
    }
}
