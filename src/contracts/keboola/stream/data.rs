//! The address that records are sent to: `POST /stream/{project}/{source}/{secret}`, any body, one record.

use super::live::{self, SourceInfo};
use super::request::project_id;
use super::test_call::said;
use super::words::DATA;
use crate::contracts::keboola::go::GoSize;
use crate::contracts::keboola::{KeboolaContext, reply};
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::receivers::Receiver;
use crate::contracts::{Accepted, Durability, Receive, Reply, RequestHead, Wait};
use crate::mapping::MappingFailure;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;

const PREFIX: &str = "/stream/";
static TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
static SERVER: HeaderValue = HeaderValue::from_static("Keboola/Stream/HTTPSource");
static RECEIPT: HeaderName = HeaderName::from_static("forebay-receipt");

/// Mappings cannot be evaluated now. A retry after a second may succeed.
pub(super) const EXHAUSTED: &str = "resourceExhausted";

/// Project, source and secret of an address.
pub(super) fn address(path: &str) -> Option<[&str; 3]> {
    let path = path.strip_prefix(PREFIX)?;
    let mut parts = path.strip_suffix('/').unwrap_or(path).split('/');
    let address = [parts.next()?, parts.next()?, parts.next()?];
    let is_whole = parts.next().is_none() && address.iter().all(|part| !part.is_empty());
    is_whole.then_some(address)
}

/// Refuses a path that is not the address of a source, or a method other than POST.
pub(super) fn no_route() -> Reject {
    let message = "not found, please send data using POST /stream/<projectID>/<sourceID>/<secret>";
    Reject::new(RejectKind::NoSuchRoute, message).code("routeNotFound")
}

/// Answers the preflight request of a browser.
pub(super) fn options() -> Reply {
    let headers = vec![
        (header::ALLOW, HeaderValue::from_static("OPTIONS, POST")),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("OPTIONS, POST")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*")),
    ];
    signed(Reply { status: StatusCode::OK, headers, body: Bytes::new() })
}

/// Adds the `Server` header of the contract.
fn signed(mut reply: Reply) -> Reply {
    reply.headers.push((header::SERVER, SERVER.clone()));
    reply
}

/// Refuses an address whose project is not a number.
pub(super) fn check_project(project: &str) -> Result<(), Reject> {
    match project.parse::<u64>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Reject::malformed(format!("invalid project ID \"{project}\"")).code("badRequest")),
    }
}

/// Finds the source that an address names, and how it takes a record.
pub(super) fn receive(common: &KeboolaContext, head: &RequestHead<'_>) -> Result<Receive, Reject> {
    let address = address(head.path).ok_or_else(no_route)?;
    let (receiver, about) = find(common, address, "http")?;
    Ok(received(receiver, &about))
}

/// How a source takes records.
pub(super) fn received(receiver: Arc<Receiver>, about: &SourceInfo) -> Receive {
    let wait = if about.waits { Wait::Sync } else { Wait::Append };
    // A secret belongs in no table.
    Receive { receiver, wait, hides: &["authorization"], unmapped }
}

/// Finds the live source of an address.
pub(super) fn find(
    common: &KeboolaContext,
    [project, source, secret]: [&str; 3],
    kind: &str,
) -> Result<(Arc<Receiver>, SourceInfo), Reject> {
    check_project(project)?;
    let found = live::find(common, project, source, secret);
    let found = found.and_then(|receiver| live::about(&receiver).map(|about| (receiver, about)));
    let Some((receiver, about)) = found.filter(|(_, about)| about.kind == kind) else {
        let message = "the specified combination of projectID, sourceID and secret was not found";
        return Err(Reject::new(RejectKind::NoSuchStream, message).code("noSourceFound"));
    };
    if about.is_disabled {
        let message = "the specified source is disabled in all branches";
        return Err(Reject::new(RejectKind::NotFound, message).code("disabledSource"));
    }
    Ok((receiver, about))
}

fn is_verbose(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "verbose" && value == "true")
}

/// 200: the record survives power loss. 202: it survives a crash of the process.
pub(super) fn accepted(head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
    let status = match accepted.state {
        Durability::Appended | Durability::SyncPending => StatusCode::ACCEPTED,
        Durability::Synced | Durability::Published(_) | Durability::PublishPending => StatusCode::OK,
    };
    let mut reply = if is_verbose(head.query) {
        reply::json(status, &told(head, accepted, status))
    } else {
        Reply { status, headers: vec![(header::CONTENT_TYPE, TEXT.clone())], body: Bytes::from_static(b"OK") }
    };
    reply.headers.push((RECEIPT.clone(), HeaderValue::from(accepted.lsn)));
    signed(reply)
}

/// `?verbose=true`: the result for each sink.
fn told(head: &RequestHead<'_>, accepted: &Accepted, status: StatusCode) -> Value {
    let [project, source, _] = address(head.path).unwrap_or([""; 3]);
    let about = accepted.receiver.as_deref().and_then(live::about);
    let said = if status == StatusCode::OK { "processed" } else { "accepted" };
    let status = status.as_u16();
    let sink = |label: &String| json!({"sinkId": label, "statusCode": status, "message": said});
    let sinks: Vec<Value> = accepted.exports.iter().map(sink).collect();
    let message = match sinks.len() {
        0 => "No enabled sink found.".to_owned(),
        n => format!("Successfully written to {n}/{n} sinks."),
    };
    json!({
        "statusCode": status,
        "message": message,
        "sources": [{
            "projectId": project_id(project),
            "sourceId": source,
            "branchId": about.map(|about| about.branch),
            "statusCode": status,
            "message": message,
            "sinks": sinks,
        }],
    })
}

/// Refuses a record that some sinks cannot map. Nothing is stored for any sink. The message names each failed sink.
fn unmapped(failures: &[(String, MappingFailure)]) -> Reject {
    let kind = match failures {
        [(_, MappingFailure::Unavailable(_)), ..] => RejectKind::Unavailable,
        [(_, MappingFailure::TooLarge), ..] => RejectKind::TooLarge,
        _ => RejectKind::Unprocessable,
    };
    let message: Vec<String> =
        failures.iter().map(|(label, failure)| format!("sink \"{label}\": {}", said(failure))).collect();
    let reject = Reject::new(kind, message.join("; "));
    match kind {
        RejectKind::Unavailable => reject.retry_after(1).code(EXHAUSTED),
        RejectKind::Unprocessable => reject.code("unprocessableContent"),
        _ => reject,
    }
}

pub(super) fn rejected(head: &RequestHead<'_>, reject: &Reject) -> Reply {
    let (status, code) = match reject.kind {
        RejectKind::Malformed => (400, "badRequest"),
        RejectKind::Unauthenticated | RejectKind::TokenExpired => (401, "unauthorized"),
        RejectKind::Forbidden => (403, "forbidden"),
        RejectKind::NoSuchRoute | RejectKind::MethodNotAllowed => (404, "routeNotFound"),
        RejectKind::NoSuchStream | RejectKind::NotFound => (404, "noSourceFound"),
        RejectKind::TooSlow => (408, "requestTimeout"),
        RejectKind::Conflict => (409, "conflict"),
        RejectKind::LengthRequired => (411, "lengthRequired"),
        RejectKind::TooLarge => (413, "bodyTooLarge"),
        RejectKind::UnsupportedType | RejectKind::UnsupportedEncoding => (415, "unsupportedMediaType"),
        RejectKind::Unprocessable => (422, "unprocessableContent"),
        RejectKind::TooManyRequests => (429, "tooManyRequests"),
        RejectKind::Unknown | RejectKind::Internal => (500, "writeFailed"),
        RejectKind::Full => (507, "insufficientStorage"),
        RejectKind::Unavailable => (503, "shutdown"),
    };
    let message = match reject.kind {
        RejectKind::TooLarge => {
            format!("request body size is over the maximum \"{}\"", GoSize(head.named.body_max))
        }
        RejectKind::Unavailable if reject.code.is_none() => DATA.application_error(&head.named),
        RejectKind::Internal | RejectKind::Unknown => DATA.application_error(&head.named),
        _ => reject.external.clone().into_owned(),
    };
    let mut reply = DATA.error(head, status, reject.code.unwrap_or(code), &message);
    if head.method == http::Method::HEAD {
        reply.body = Bytes::new();
    }
    signed(reply)
}
