//! Sources and sinks as JSON, for answers.

use super::model::{Entity, EntityPlace, Mark, StoredEntity, Version};
use super::request::StreamRequest;
use crate::clock::Micros;
use crate::mapping::datetime;
use serde_json::{Map, Value, json};

/// Adds a field to an object.
pub(super) fn put(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = object {
        fields.insert(key.to_owned(), value.into());
    }
}

pub(super) fn entity(request: &StreamRequest<'_>, place: &EntityPlace, entity: &Entity) -> Value {
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| shown.insert(key.to_owned(), value);
    put("projectId", request.project_id());
    put("branchId", place.branch.into());
    put("sourceId", place.source.as_str().into());
    if let Some(sink) = &place.sink {
        put("sinkId", sink.as_str().into());
    }
    put("type", entity.content.kind.as_str().into());
    put("name", entity.content.name.as_str().into());
    put("description", entity.content.description.as_str().into());
    match &entity.content.table {
        None => {
            let (key, value) = address(request, place, entity);
            put(key, value);
        }
        Some(table) => {
            if let Some(signals) = &entity.content.signals {
                put("allowedSignals", json!(signals));
            }
            put("table", json!({"type": "keboola", "tableId": table.table_id, "mapping": table.mapping}));
        }
    }
    put("version", version(&entity.version));
    put("created", mark(&entity.created));
    if let Some(deleted) = &entity.deleted {
        put("deleted", mark(deleted));
    }
    if let Some(disabled) = &entity.disabled {
        put("disabled", mark(disabled));
    }
    Value::Object(shown)
}

/// The address where a source takes records.
fn address(request: &StreamRequest<'_>, place: &EntityPlace, entity: &Entity) -> (&'static str, Value) {
    let (base, project, source, secret) = (request.base(), request.project, &place.source, &entity.secret);
    if entity.content.kind == "otlp" {
        let base_url = format!("{base}/otlp/{project}/{source}");
        return (
            "otlp",
            json!({"url": format!("{base_url}/{secret}"), "baseUrl": base_url, "secret": secret}),
        );
    }
    ("http", json!({"url": format!("{base}/stream/{project}/{source}/{secret}")}))
}

pub(super) fn kept(request: &StreamRequest<'_>, kept: &StoredEntity) -> Value {
    entity(request, &kept.place, &kept.entity)
}

pub(super) fn version(version: &Version) -> Value {
    json!({
        "number": version.number,
        "hash": version.hash,
        "description": version.description,
        "at": datetime(version.at),
        "by": version.by,
    })
}

fn mark(mark: &Mark) -> Value {
    let mut shown = json!({"at": datetime(mark.at), "by": mark.by});
    if let Some(reason) = &mark.reason {
        put(&mut shown, "reason", reason.as_str());
    }
    shown
}

pub(super) fn time(at: Option<Micros>) -> Value {
    at.map_or(Value::Null, |at| datetime(at).into())
}
