//! `POST /admin/v1/streams?name=`: a new stream, whose columns follow from a sample of its records if there is one.

use super::columns::{bad, column_json, stream_json};
use super::problem::{Problem, blocking, created, internal, ok, parameter};
use super::schema::flag;
use super::{AdminRequest, BODY_MAX, Running};
use crate::catalog::{IfExists, NewStream};
use crate::columns::sample::{Field, Limits, Sample};
use crate::contracts::foundry::model::schema_of;
use crate::contracts::request_id::RequestId;
use crate::formats::json::BodyKind;
use crate::http::body::{self, Encoding};
use crate::schema::{Column, ColumnType, Policy, StreamSettings, system};
use bytes::Bytes;
use http::Response;
use http_body_util::Full as FullBody;
use serde_json::{Value, json};
use std::sync::Arc;

/// Records of a sample that are looked at.
const RECORDS_MAX: u64 = 1_000_000;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

impl Running {
    /// Makes a stream, from a sample if there is one in the body: NDJSON, a JSON document, or gzip of either. The sample is
    /// not stored. With `dry`, only says which columns there would be.
    pub(super) async fn sample_stream(
        &self,
        request: &AdminRequest<'_>,
    ) -> Result<Response<FullBody<Bytes>>, Problem> {
        let name = parameter(request.query, "name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| bad("'name' is required in the query"))?;
        let policy = parameter(request.query, "policy").map(|policy| policy.parse::<Policy>());
        // A schema that was fixed by a sample is meant to stay so.
        let default = if request.body.is_empty() { Policy::Evolve } else { Policy::Propose };
        let policy = policy.unwrap_or(Ok(default)).map_err(bad)?;
        let (catalog, body) = (Arc::clone(&self.catalog), request.body.clone());
        let fields_max = catalog.columns_max();
        let found = tokio::task::spawn_blocking(move || columns(body, fields_max));
        let columns = found.await.map_err(|error| internal(&error))??;
        if flag(request.query, "dry")? {
            let foundry = schema_of(&columns);
            let columns: Vec<Value> = columns.iter().map(column_json).collect();
            return Ok(ok(&json!({
                "name": name,
                "policy": policy,
                "schema": {"columns": columns},
                // To be sent to Foundry's own route.
                "foundry_schema": foundry.map(|schema| schema.to_json()),
            })));
        }
        let (name, settings) = named(request.query, name)?;
        let new = NewStream { name, policy, columns, settings, if_exists: IfExists::Error };
        let stream = blocking(move || catalog.create_stream_with(new)).await?;
        Ok(created(&stream_json(&stream)))
    }
}

/// The name and the settings of a new stream: in Amperity's contract clients know it by an id that is made here, and what
/// it was named is for people.
fn named(query: &str, name: String) -> Result<(String, StreamSettings), Problem> {
    let settings = StreamSettings {
        description: parameter(query, "description").unwrap_or_default(),
        project: parameter(query, "project").filter(|project| !project.is_empty()),
        ..StreamSettings::default()
    };
    match parameter(query, "dialect").as_deref() {
        None => Ok((name, settings)),
        Some("amperity") => {
            let id = format!("is-{}", RequestId::next().letters(9));
            let vendor = [("name".to_owned(), Value::from(name))].into_iter().collect();
            Ok((id, StreamSettings { vendor, ..settings }))
        }
        Some(other) => {
            Err(bad(format!("'dialect' is amperity, where a stream has an id of its own, not {other:?}")))
        }
    }
}

fn columns(body: Bytes, fields_max: usize) -> Result<Vec<Column>, Problem> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let body = if body.starts_with(&GZIP_MAGIC) {
        body::decode(vec![body], Encoding::Gzip, BODY_MAX, |_| Ok(()))?.concat().into()
    } else {
        body
    };
    let kind = BodyKind::of(body.iter(), BodyKind::Lines);
    let limits = Limits { records: RECORDS_MAX, fields: fields_max };
    let fields = Sample::of(&body, kind, limits).and_then(|sample| sample.nested());
    let fields = fields.map_err(|error| bad(error.to_string()))?;
    Ok(fields.into_iter().filter_map(column).collect())
}

/// `None` for a field of a system column's name: its values are rescued, as in every stream.
fn column(field: Field) -> Option<Column> {
    let name = field.path.into_iter().next().filter(|name| !system::is_reserved(name))?;
    let kind = match field.kind {
        ColumnType::Int64 if field.integers.unsigned => ColumnType::UInt64,
        kind => kind,
    };
    Some(Column::new(name, kind))
}
