//! `POST /admin/v1/streams?name=`: creates a stream, with columns inferred from a sample of its records, if given.

use super::columns::{bad, column_json, stream_json};
use super::problem::{Problem, blocking, created, internal, ok, parameter};
use super::schema::flag;
use super::{AdminRequest, AdminResult, BODY_MAX, RunningDaemon};
use crate::batch::BodyKind;
use crate::catalog::{IfExists, NewStream};
use crate::columns::sample::{Sample, SampleField, SampleLimits};
use crate::formats::json::kind_of;
use crate::http::body::{self, Encoding};
use crate::schema::{Column, ColumnType, Policy, StreamSettings, system};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

/// The most records of a sample that are analyzed.
const RECORDS_MAX: u64 = 1_000_000;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

impl RunningDaemon {
    /// Creates a stream, from a sample if the body has one: NDJSON, a JSON document, or gzip of either. The sample is
    /// not stored. With `dry`, only returns the inferred columns.
    pub(super) async fn sample_stream(&self, request: &AdminRequest<'_>) -> AdminResult {
        let name = parameter(request.query, "name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| bad("the query parameter 'name' is required"))?;
        let policy = parameter(request.query, "policy").map(|policy| policy.parse::<Policy>());
        // A schema inferred from a sample should only change on request.
        let default = if request.body.is_empty() { Policy::Evolve } else { Policy::Propose };
        let policy = policy.unwrap_or(Ok(default)).map_err(bad)?;
        let (catalog, body) = (Arc::clone(&self.catalog), request.body.clone());
        let fields_max = catalog.columns_max();
        let found = tokio::task::spawn_blocking(move || columns(body, fields_max));
        let columns = found.await.map_err(|error| internal(&error))??;
        if flag(request.query, "dry")? {
            let shown: Vec<Value> = columns.iter().map(column_json).collect();
            let mut answer = json!({"name": name, "policy": policy, "schema": {"columns": shown}});
            for (field, schema) in self.contracts.extras().filter_map(|(_, extras)| extras.schema(&columns)) {
                answer[field] = schema;
            }
            return Ok(ok(&answer));
        }
        let (name, settings) = self.named(request.query, name)?;
        let new = NewStream { name, policy, columns, settings, if_exists: IfExists::Error };
        let stream = blocking(move || catalog.create_stream_with(new)).await?;
        Ok(created(&stream_json(&stream)))
    }

    /// Returns the name and the settings of a new stream. In a contract whose streams have their own ids, the name is
    /// an id that is generated here, and the requested name is kept as a label for people.
    fn named(&self, query: &str, name: String) -> Result<(String, StreamSettings), Problem> {
        let settings = StreamSettings {
            description: parameter(query, "description").unwrap_or_default(),
            project: parameter(query, "project").filter(|project| !project.is_empty()),
            ..StreamSettings::default()
        };
        let Some(contract) = parameter(query, "dialect") else { return Ok((name, settings)) };
        let mut extras = self.contracts.extras().filter(|(name, _)| *name == contract);
        let made = extras.find_map(|(_, extras)| extras.new_stream(&name));
        let (id, vendor) = made.ok_or_else(|| {
            bad(format!("'dialect' must name a contract whose streams have their own ids, not {contract:?}"))
        })?;
        Ok((id, StreamSettings { vendor, ..settings }))
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
    let kind = kind_of(body.iter(), BodyKind::Lines);
    let limits = SampleLimits { records: RECORDS_MAX, fields: fields_max };
    let fields = Sample::read(&body, kind, limits).and_then(|sample| sample.nested());
    let fields = fields.map_err(|error| bad(error.to_string()))?;
    Ok(fields.into_iter().filter_map(column).collect())
}

/// Returns `None` for a field named like a system column: its values are rescued, as in every stream.
fn column(field: SampleField) -> Option<Column> {
    let name = field.path.into_iter().next().filter(|name| !system::is_reserved(name))?;
    let unsigned = field.kind == ColumnType::Int64 && field.integers.unsigned;
    let kind = if unsigned { ColumnType::UInt64 } else { field.kind };
    Some(Column::new(name, kind))
}
