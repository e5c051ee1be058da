//! Errors in the contract's format and under the contract's names.

use super::model::{SchemaPlace, Wrong};
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::route::Access;
use crate::contracts::{Reply, RequestHead};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The error of a record that does not match its stream's schema.
pub(super) const MISMATCH: &str = "RecordDoesNotMatchStreamSchema";

/// An error under one of the contract's names, with its parameters.
pub(super) fn error<'p>(
    kind: RejectKind,
    name: &'static str,
    description: impl Into<Cow<'static, str>>,
    parameters: impl IntoIterator<Item = (&'p str, Value)>,
) -> Reject {
    let parameters = Some(Box::new(map_of(parameters)));
    Reject { parameters, ..Reject::new(kind, description).code(name) }
}

fn map_of<'p>(parameters: impl IntoIterator<Item = (&'p str, Value)>) -> Map<String, Value> {
    parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An invalid request for which the contract has no name of its own.
pub(super) fn wrong(message: impl Into<String>) -> Reject {
    Reject::malformed(message.into())
}

pub(super) fn stream_not_found(dataset: &str, branch: &str) -> Reject {
    let parameters = [("datasetRid", json!(dataset)), ("streamBranchName", json!(branch))];
    error(RejectKind::NoSuchStream, "StreamNotFound", "The given stream could not be found.", parameters)
}

pub(super) fn dataset_not_found(dataset: &str) -> Reject {
    let parameters = [("datasetRid", json!(dataset))];
    error(RejectKind::NotFound, "DatasetNotFound", "The given dataset could not be found.", parameters)
}

pub(super) fn branch_not_found(dataset: &str, branch: &str) -> Reject {
    let parameters = [("datasetRid", json!(dataset)), ("branchName", json!(branch))];
    error(RejectKind::NoSuchStream, "BranchNotFound", "The given branch could not be found.", parameters)
}

pub(super) fn view_not_found(view: &str) -> Reject {
    let message = "The view does not exist on this branch, or it no longer takes records.";
    error(RejectKind::NotFound, "ViewNotFound", message, [("viewRid", json!(view))])
}

pub(super) fn trashed(dataset: &str) -> Reject {
    let message = "Cannot write to a stream that is in the trash.";
    error(RejectKind::Malformed, "CannotWriteToTrashedStream", message, [("datasetRid", json!(dataset))])
}

pub(super) fn too_large(record: usize, bytes: usize, max: usize) -> Reject {
    let number = record.saturating_add(1);
    let message = format!("Record {number} is too large: it has {bytes} bytes, the limit is {max}.");
    error(RejectKind::TooLarge, "RecordTooLarge", message, [])
}

/// One error for everything that is wrong with a schema.
pub(super) fn invalid_schema(wrong: &[Wrong]) -> Reject {
    let all: Vec<String> = wrong.iter().map(Wrong::to_string).collect();
    let description = all.join("; ");
    let errors: Vec<Value> =
        wrong.iter().map(|one| json!({"fieldName": one.field, "message": one.message})).collect();
    let only = |place: SchemaPlace| wrong.iter().all(|one| one.place == place);
    if only(SchemaPlace::ChangeDataCapture) {
        let parameters = [("message", json!(description)), ("errors", json!(errors))];
        let name = "InvalidChangeDataCaptureConfiguration";
        return error(RejectKind::Malformed, name, description.clone(), parameters);
    }
    match wrong {
        [one] if one.place == SchemaPlace::Field => {
            let parameters =
                [("fieldName", json!(one.field)), ("message", json!(one.message)), ("errors", json!(errors))];
            error(RejectKind::Malformed, "InvalidFieldSchema", description, parameters)
        }
        _ => {
            let kind = if only(SchemaPlace::Field) { "InvalidFieldSchemas" } else { "InvalidSchema" };
            let parameters =
                [("errorType", json!(kind)), ("message", json!(description)), ("errors", json!(errors))];
            error(RejectKind::Malformed, "InvalidSchema", description.clone(), parameters)
        }
    }
}

pub(super) fn rejected(head: &RequestHead<'_>, reject: &Reject) -> Reply {
    let (name, parameters) = named(head, reject);
    let (code, status) = code(reject.kind);
    // A client reports this id; it leads to the line in the log.
    let instance = uuid::Uuid::new_v4();
    if let Some(internal) = &reject.internal {
        tracing::warn!(error = internal, error_instance_id = %instance, name, "a request failed");
    }
    let body = json!({
        "errorCode": code,
        "errorName": name,
        "errorDescription": reject.external,
        "errorInstanceId": instance.to_string(),
        "parameters": parameters,
    });
    super::reply(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &body)
}

/// The name and the parameters of an error: those of the refusal, or else those that the call has for its kind.
fn named(head: &RequestHead<'_>, reject: &Reject) -> (&'static str, Map<String, Value>) {
    // An unknown path has no parameters.
    let found = super::find(head);
    let (route, of_path) = found.map_or((None, Vec::new()), |(route, of_path)| (Some(route), of_path));
    if let Some(name) = reject.code {
        let nth = |nth: usize| json!(of_path.get(nth).map_or("", |parameter| &**parameter));
        let whole = || map_of([("datasetRid", nth(0)), ("branchName", nth(1))]);
        return (name, reject.parameters.as_deref().cloned().unwrap_or_else(whole));
    }
    let about = || route.map_or_else(Map::new, |route| map_of(named_in(route.template, &of_path)));
    match reject.kind {
        RejectKind::Unauthenticated => ("Default:Unauthorized", map_of([("error", json!("INVALID"))])),
        RejectKind::TokenExpired => ("Default:Unauthorized", map_of([("error", json!("EXPIRED"))])),
        RejectKind::Forbidden => match route.and_then(|route| route.call.denied) {
            Some(name) => (name, about()),
            None => ("Default:PermissionDenied", Map::new()),
        },
        RejectKind::NoSuchStream => ("StreamNotFound", about()),
        RejectKind::TooLarge if route.is_some_and(|route| route.access == Access::Ingest) => {
            ("RecordTooLarge", Map::new())
        }
        RejectKind::TooLarge => ("Default:RequestEntityTooLarge", Map::new()),
        RejectKind::NotFound | RejectKind::NoSuchRoute => ("Default:NotFound", Map::new()),
        RejectKind::Conflict => ("Default:Conflict", Map::new()),
        RejectKind::TooManyRequests => ("Default:TooManyRequests", Map::new()),
        RejectKind::Full | RejectKind::Unavailable => ("Default:ServiceUnavailable", Map::new()),
        RejectKind::TooSlow => ("Default:Timeout", Map::new()),
        RejectKind::Unknown | RejectKind::Internal => ("Default:Internal", Map::new()),
        // The rest are errors in what the client sent.
        _ => ("Default:InvalidArgument", Map::new()),
    }
}

/// The parameters of a path under the names that errors use.
fn named_in<'p>(
    template: &'p str,
    values: &'p [Cow<'_, str>],
) -> impl Iterator<Item = (&'static str, Value)> {
    let names = template.split('/').filter(|segment| segment.starts_with('{'));
    names.zip(values).filter_map(|(name, value)| {
        let name = match name {
            "{dataset}" => "datasetRid",
            "{branch}" | "{view}" => "streamBranchName",
            "{subscriber}" => "subscriberSubscriberId",
            _ => return None,
        };
        Some((name, json!(value)))
    })
}

/// The contract's error code and the HTTP status of a kind.
fn code(kind: RejectKind) -> (&'static str, u16) {
    let code = match kind {
        RejectKind::Unauthenticated | RejectKind::TokenExpired => "UNAUTHORIZED",
        RejectKind::Forbidden => "PERMISSION_DENIED",
        RejectKind::NoSuchStream | RejectKind::NotFound | RejectKind::NoSuchRoute => "NOT_FOUND",
        RejectKind::Conflict => "CONFLICT",
        RejectKind::TooLarge => "REQUEST_ENTITY_TOO_LARGE",
        RejectKind::TooManyRequests => "CUSTOM_CLIENT",
        RejectKind::Full | RejectKind::Unavailable => "CUSTOM_SERVER",
        RejectKind::TooSlow => "TIMEOUT",
        RejectKind::Unknown | RejectKind::Internal => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    (code, kind.status())
}
