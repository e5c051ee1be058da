//! Reads the JSON of management calls. Its errors name the field and the reason.

use super::errors::{error, wrong};
use super::model::{StreamType, View};
use crate::contracts::Call;
use crate::contracts::reject::{Reject, RejectKind};
use crate::schema::PARTITIONS_MAX;
use serde_json::{Map, Value, json};

/// The JSON object of a request body.
#[derive(Debug)]
pub(super) struct BodyFields(Map<String, Value>);

/// Options of a stream. Options that are not given keep their values, or have the default.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamOptions {
    pub(super) partitions_count: Option<u32>,
    pub(super) stream_type: Option<StreamType>,
    pub(super) compressed: Option<bool>,
}

impl StreamOptions {
    /// Takes options that are not given from the view before.
    pub(super) fn or(self, before: &View) -> Self {
        Self {
            partitions_count: self.partitions_count.or(Some(before.partitions_count)),
            stream_type: self.stream_type.or(Some(before.stream_type)),
            compressed: self.compressed.or(Some(before.compressed)),
        }
    }
}

impl BodyFields {
    /// Reads the body of a call. `may_be_empty`: every field is optional.
    pub(super) fn from_call(call: &Call<'_>, may_be_empty: bool) -> Result<Self, Reject> {
        if call.body.trim_ascii().is_empty() {
            if may_be_empty {
                return Ok(Self(Map::new()));
            }
            return Err(error(RejectKind::Malformed, "MissingPostBody", "The request has no body.", []));
        }
        match serde_json::from_slice(&call.body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(wrong("The body must be a JSON object.")),
            Err(error) => Err(wrong(format!("The body is not valid JSON: {error}."))),
        }
    }

    /// `null` counts as missing.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, Reject> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| wrong(format!("{key:?} must be a string.")))
    }

    pub(super) fn required(&self, key: &str) -> Result<&str, Reject> {
        self.text(key)?.ok_or_else(|| wrong(format!("{key:?} is missing.")))
    }

    pub(super) fn manner(&self) -> Result<StreamOptions, Reject> {
        let partitions_count = match self.get("partitionsCount") {
            None => None,
            Some(value) => {
                let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
                let count = count.filter(|count| (1..=PARTITIONS_MAX).contains(count));
                let refused =
                    || wrong(format!("\"partitionsCount\" must be an integer from 1 to {PARTITIONS_MAX}."));
                Some(count.ok_or_else(refused)?)
            }
        };
        let stream_type = match self.get("streamType") {
            None => None,
            Some(value) => Some(stream_type(value)?),
        };
        let compressed = match self.get("compressed") {
            None => None,
            Some(Value::Bool(compressed)) => Some(*compressed),
            Some(_) => return Err(wrong("\"compressed\" must be true or false.")),
        };
        Ok(StreamOptions { partitions_count, stream_type, compressed })
    }
}

pub(super) fn stream_type(value: &Value) -> Result<StreamType, Reject> {
    serde_json::from_value(value.clone()).map_err(|_| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let message = format!("Unknown stream type {shown}: expected LOW_LATENCY or HIGH_THROUGHPUT.");
        error(RejectKind::Malformed, "InvalidStreamType", message, [("streamType", json!(shown))])
    })
}
