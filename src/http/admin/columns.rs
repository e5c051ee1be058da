//! Columns, policies and settings in the bodies of the admin API.

use super::problem::Problem;
use crate::catalog::Stream;
use crate::schema::{Column, ColumnType, Policy, Rules, StreamSettings};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// A column in a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnBody {
    name: String,
    /// The name of the type, as returned by [`ColumnType::name`].
    #[serde(rename = "type")]
    kind: String,
    nullable: Option<bool>,
    default: Option<Value>,
    path: Option<Vec<String>>,
    declared: Option<String>,
    epoch_digits: Option<u8>,
}

impl ColumnBody {
    pub(super) fn column(self) -> Result<Column, Problem> {
        Ok(Column {
            nullable: self.nullable.unwrap_or(true),
            default: self.default,
            path: self.path,
            declared: self.declared,
            epoch_digits: self.epoch_digits,
            ..Column::new(self.name, column_type(&self.kind)?)
        })
    }
}

pub(super) fn column_type(name: &str) -> Result<ColumnType, Problem> {
    name.parse().map_err(|error: crate::schema::TypeError| bad(error.to_string()))
}

pub(super) fn columns(bodies: Vec<ColumnBody>) -> Result<Vec<Column>, Problem> {
    bodies.into_iter().map(ColumnBody::column).collect()
}

pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// Parses a request body.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would also accept an array for a struct.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(bad("invalid body: expected a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader);
    let value = value.map_err(|error| bad(format!("invalid body: {error}")))?;
    reader.end().map_err(|error| bad(format!("the body is not a single JSON document: {error}")))?;
    Ok(value)
}

/// Merges changes into the settings; null resets a field to its default (RFC 7396, on the outermost level only).
pub(super) fn merged(now: &StreamSettings, changes: Map<String, Value>) -> Result<StreamSettings, Problem> {
    let mut merged = json!(now);
    for (name, value) in changes {
        if let Some(fields) = merged.as_object_mut() {
            // An unknown name is refused with null as with any other value.
            let is_reset = value.is_null() && fields.remove(&name).is_some();
            if !is_reset {
                fields.insert(name, value);
            }
        }
    }
    settings(&merged)
}

pub(super) fn settings(value: &Value) -> Result<StreamSettings, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| bad(format!("settings: {error}")))
}

pub(super) fn column_json(column: &Column) -> Value {
    let mut value = json!(column);
    value["type"] = json!(column.kind.name());
    value
}

/// A schema version as JSON.
pub(super) fn rules_json(rules: &Rules) -> Value {
    json!({
        "version": rules.schema.version,
        "policy": rules.policy,
        "columns": rules.schema.columns.iter().map(column_json).collect::<Vec<_>>(),
        "time": rules.time,
    })
}

/// A stream as JSON, the same in every response.
pub(super) fn stream_json(stream: &Stream) -> Value {
    json!({
        "id": stream.uuid,
        "name": stream.name,
        "policy": stream.policy,
        "created_at": super::problem::timestamp(stream.created_at),
        "settings": *stream.settings,
        "schema": rules_json(&stream.rules()),
    })
}

/// The body of a request that creates or changes a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StreamBody {
    pub(super) policy: Option<Policy>,
    pub(super) columns: Option<Vec<ColumnBody>>,
    pub(super) settings: Option<Map<String, Value>>,
    /// The schema version that the change is based on.
    pub(super) version: Option<u32>,
}
