//! `/admin/v1/streams`: lists the streams, with their columns, newest records and files.

use super::columns::stream_json;
use super::problem::{Problem, blocking, limit, ok, parameter, timestamp};
use super::state::file;
use super::{AdminRequest, AdminResult, RunningDaemon};
use crate::catalog::{KnownMisfit, Stream};
use crate::schema::{Schema, system};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full as FullBody;
use serde_json::{Value, json};
use std::sync::Arc;

const RECORDS_DEFAULT: usize = 20;
const RECORDS_MAX: usize = 1000;
const FILES_MAX: u32 = 1000;

impl RunningDaemon {
    pub(super) async fn streams(&self) -> AdminResult {
        let catalog = Arc::clone(&self.catalog);
        let progress = blocking(move || catalog.progress()).await?;
        let streams = self.catalog.streams();
        let streams: Vec<Value> = streams
            .all()
            .iter()
            .map(|stream| {
                let progress = progress.iter().find(|progress| progress.stream == stream.id);
                // A stream made after the progress was read has stored nothing yet.
                let counts = progress.map(|progress| progress.counts).unwrap_or_default();
                json!({
                    "id": stream.uuid,
                    "name": stream.name,
                    "policy": stream.policy,
                    "created_at": timestamp(stream.created_at),
                    "checkpoint": progress.map(|progress| progress.checkpoint),
                    "rows": counts,
                })
            })
            .collect();
        Ok(ok(&json!({"streams": streams})))
    }

    pub(super) fn find(&self, id: &str) -> Result<Arc<Stream>, Problem> {
        let stream = self.catalog.streams().find(id).cloned();
        stream.ok_or_else(|| {
            Problem::new(StatusCode::NOT_FOUND, format!("no stream has the name or id {id:?}"))
        })
    }

    pub(super) async fn stream(&self, request: &AdminRequest<'_>) -> AdminResult {
        let stream = self.find(request.id())?;
        let (catalog, id) = (Arc::clone(&self.catalog), stream.id);
        let (misfits, proposals, progress, totals) = blocking(move || {
            let proposals = catalog.proposals(id)?.len();
            Ok((catalog.misfits(id)?, proposals, catalog.stream_progress(id)?, catalog.totals(id)?))
        })
        .await?;
        let mut answer = stream_json(&stream);
        answer["checkpoint"] = json!(progress.checkpoint);
        answer["rows"] = json!(progress.counts);
        answer["files"] = json!(totals);
        answer["misfits"] = misfits.iter().map(|m| misfit(m, &stream.schema)).collect();
        answer["proposals"] = json!(proposals);
        Ok(ok(&answer))
    }

    /// Returns the records that failed: counts by kind, the newest with their reasons, and the ingest latency.
    pub(super) async fn errors(&self, request: &AdminRequest<'_>) -> AdminResult {
        let stream = self.find(request.id())?;
        let limit = limit(request.query, RECORDS_DEFAULT, RECORDS_MAX)?;
        let (catalog, id) = (Arc::clone(&self.catalog), stream.id);
        let counts = blocking(move || Ok(catalog.stream_progress(id)?.counts)).await?;
        let errors = (self.control.errors)(stream, limit).await;
        let errors = errors.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
        let errors: Vec<Value> = errors
            .iter()
            .map(|error| {
                json!({
                    "lsn": error.lsn,
                    "record": error.record,
                    "offset": error.offset,
                    "received_at": timestamp(error.received_at),
                    "reason": error.reason,
                    "excerpt": error.excerpt,
                })
            })
            .collect();
        let latency = self.progress.latency(id).map(|micros| micros as f64 / 1e6);
        Ok(ok(&json!({
            "rows": counts,
            "ingest_latency_seconds": latency,
            "errors": errors,
        })))
    }

    pub(super) async fn records(&self, request: &AdminRequest<'_>) -> AdminResult {
        let stream = self.find(request.id())?;
        let limit = limit(request.query, RECORDS_DEFAULT, RECORDS_MAX)?;
        let records = (self.control.newest)(stream, limit).await;
        let records = records.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
        Ok(ok(&json!({"records": records})))
    }

    /// Returns the newest records as JSON, NDJSON or CBOR, in the formats that raw landing uses.
    pub(super) async fn sample(&self, request: &AdminRequest<'_>) -> AdminResult {
        let stream = self.find(request.id())?;
        let bad = |message| Problem::new(StatusCode::BAD_REQUEST, message);
        let n = match parameter(request.query, "n") {
            None => RECORDS_DEFAULT,
            Some(text) => {
                let n = text.parse().ok().filter(|n| (1..=RECORDS_MAX).contains(n));
                n.ok_or_else(|| bad(format!("'n' must be a number from 1 to {RECORDS_MAX}")))?
            }
        };
        let failed = |error: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error);
        let format = parameter(request.query, "format");
        let (kind, body) = match format.as_deref().unwrap_or("json") {
            "cbor" => {
                let requests = (self.control.requests)(stream, n).await.map_err(failed)?;
                ("application/cbor-seq", requests.concat())
            }
            format @ ("json" | "ndjson") => {
                let records = (self.control.newest)(stream, n).await.map_err(failed)?;
                let records: Vec<Value> = records.into_iter().map(without_system_columns).collect();
                if format == "json" {
                    ("application/json", Value::Array(records).to_string().into_bytes())
                } else {
                    let lines = records.iter().flat_map(|record| [record.to_string(), "\n".to_owned()]);
                    ("application/x-ndjson", lines.collect::<String>().into_bytes())
                }
            }
            other => return Err(bad(format!("'format' must be json, ndjson or cbor, not {other:?}"))),
        };
        let mut response = Response::new(FullBody::new(Bytes::from(body)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(response)
    }

    /// Returns code snippets that send a record to the stream, in several languages.
    pub(super) fn snippets(&self, request: &AdminRequest<'_>) -> AdminResult {
        let stream = self.find(request.id())?;
        let base = self.control.public_url.as_deref().unwrap_or(&request.handler.ingest_url);
        let code = self.contracts.extras().find_map(|(_, extras)| extras.code(&stream, base));
        code.map(|code| ok(&code)).ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                format!("no code snippets exist for the stream {:?}", stream.name),
            )
        })
    }

    pub(super) async fn files(&self, request: &AdminRequest<'_>) -> AdminResult {
        let stream = self.find(request.id())?;
        let limit = limit(request.query, 100, FILES_MAX as usize)?;
        let limit = u32::try_from(limit).unwrap_or(FILES_MAX);
        let catalog = Arc::clone(&self.catalog);
        let files = blocking(move || catalog.files(stream.id, limit)).await?;
        Ok(ok(&json!({"files": files.iter().map(file).collect::<Vec<_>>()})))
    }
}

fn without_system_columns(mut record: Value) -> Value {
    if let Some(fields) = record.as_object_mut() {
        fields.retain(|name, _| !system::is_reserved(name));
    }
    record
}

/// A misfit, with the column type that would fit it.
fn misfit(misfit: &KnownMisfit, schema: &Schema) -> Value {
    let column = schema.columns.iter().find(|column| column.name == misfit.path);
    json!({
        "path": misfit.path,
        "values": misfit.kind,
        "count": misfit.count,
        "example": misfit.example,
        "column_type": column.map(|column| column.kind.name()),
        "proposed_type": column.map_or("json", |column| column.kind.wider(&misfit.kind)),
    })
}
