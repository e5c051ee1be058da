//! `POST …/test`: shows the rows that the sinks of a source would produce for a request. Nothing is stored.

use super::live;
use super::model::{EntityPlace, StoredEntity};
use super::otlp;
use super::request::StreamRequest;
use super::words::{bad, unprocessable};
use crate::contracts::Reply;
use crate::contracts::keboola::reply::ok;
use crate::contracts::reject::{Reject, RejectKind};
use crate::formats::otlp::{OtlpEncoding, OtlpSignal, records};
use crate::mapping::{self, Mapping, MappingFailure, RowId};
use serde_json::{Value, json};
use std::sync::Arc;

/// Limit of records of an export that are evaluated.
const RECORDS_MAX: usize = 100;

pub(super) fn test(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let source = request.find(place)?;
    let mut sinks = live::live_sinks(request.store(), place)?;
    let body = &request.call.body;
    let bodies: Vec<Vec<u8>> = if source.content.kind == "otlp" {
        let signal = signal(request)?;
        let takes = |sink: &StoredEntity| {
            sink.entity.content.signals.as_ref().is_none_or(|own| own.contains(&signal))
        };
        sinks.retain(takes);
        let form = otlp::content_type(request.call.head.headers)
            .and_then(OtlpEncoding::from_content_type)
            .unwrap_or(OtlpEncoding::Json);
        let bytes_max = usize::try_from(request.call.decoded_max).unwrap_or(usize::MAX);
        let found = records(signal, form, body, bytes_max).map_err(|error| bad(error.to_string()))?;
        found.iter().take(RECORDS_MAX).map(<[u8]>::to_vec).collect()
    } else {
        vec![body.to_vec()]
    };
    let is_json = source.content.kind == "otlp";
    let headers = request.call.head.headers;
    let content_type = if is_json { Some("application/json") } else { otlp::content_type(headers) };
    let kept = headers.iter().filter(|(name, _)| *name != "x-storageapi-token" && *name != "authorization");
    let headers = mapping::headers(kept.map(|(name, value)| (name.as_str(), value.as_bytes())));
    let requests: Vec<mapping::MappingRequest<'_>> = bodies
        .iter()
        .map(|body| mapping::MappingRequest {
            body,
            content_type,
            headers: &headers,
            ip: request.call.peer,
            received_at: request.control().clock.now(),
        })
        .collect();
    let tables = sinks.iter().map(|sink| table(request, sink, &requests)).collect::<Result<Vec<_>, _>>()?;
    Ok(ok(&json!({
        "projectId": request.project_id(),
        "branchId": place.branch,
        "sourceId": place.source,
        "tables": tables,
    })))
}

fn signal(request: &StreamRequest<'_>) -> Result<OtlpSignal, Reject> {
    let Some(name) = request.parameter("signal") else { return Ok(OtlpSignal::Logs) };
    OtlpSignal::named(&name).ok_or_else(|| {
        let message = format!(
            "value of signal must be one of \"logs\", \"metrics\", \"traces\" but got value {}",
            Value::from(name)
        );
        Reject::malformed(message).code("invalidEnumValue")
    })
}

/// The rows of one sink.
fn table(
    request: &StreamRequest<'_>,
    sink: &StoredEntity,
    requests: &[mapping::MappingRequest<'_>],
) -> Result<Value, Reject> {
    let Some(table) = &sink.entity.content.table else { return Ok(Value::Null) };
    let mappings = [Arc::new(table.mapping.clone())];
    let outcomes = request.control().evaluator.evaluate_blocking(&mappings, requests);
    let mut rows = Vec::new();
    for (number, (outcome, asked)) in (1..).zip(outcomes.into_iter().flatten().zip(requests)) {
        let evaluated = outcome.map_err(|failure| refused(&failure))?;
        rows.push(row(&table.mapping, asked, &evaluated, number));
    }
    Ok(json!({"sinkId": sink.place.id(), "tableId": table.table_id, "rows": rows}))
}

fn row(mapping: &Mapping, request: &mapping::MappingRequest<'_>, evaluated: &[String], number: u64) -> Value {
    let [unique @ .., _, _, _, _, _, _] = uuid::Uuid::new_v4().into_bytes();
    let values = mapping::row(mapping, request, evaluated, RowId { number, unique });
    let columns = mapping.columns.iter().zip(&values);
    let columns: Vec<Value> =
        columns.map(|(column, value)| json!({"name": column.name, "value": value})).collect();
    json!({"columns": columns})
}

fn refused(failure: &MappingFailure) -> Reject {
    match failure {
        MappingFailure::Unavailable(_) => {
            Reject::new(RejectKind::Unavailable, failure.to_string()).retry_after(1)
        }
        _ => unprocessable(said(failure)),
    }
}

/// The error of a record, with the column that failed.
pub(super) fn said(failure: &MappingFailure) -> String {
    match failure {
        MappingFailure::Column { column, message } | MappingFailure::Stopped { column, message } => {
            format!("invalid value for column \"{column}\": {message}")
        }
        other => other.to_string(),
    }
}
