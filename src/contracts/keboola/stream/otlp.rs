//! The OTLP source: `POST /otlp/{project}/{source}[/{secret}]/v1/{logs,metrics,traces}`. Each log record, data point and
//! span is a separate record, and a row of each sink that takes the signal.

use super::data;
use super::live::SourceInfo;
use crate::auth::Credential;
use crate::batch::BodyKind;
use crate::contracts::credential;
use crate::contracts::keboola::KeboolaContext;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::receivers::Receiver;
use crate::contracts::{
    Accepted, Append, Bodies, Call, CallDestination, Durability, Managed, Reply, RequestHead,
};
use crate::formats::otlp::{DecodeError, OtlpEncoding, OtlpSignal, records};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use prost::Message;
use serde_json::json;
use std::sync::Arc;

const PREFIX: &str = "/otlp/";
static PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
static JSON: HeaderValue = HeaderValue::from_static("application/json");
static RECEIPT: HeaderName = HeaderName::from_static("forebay-receipt");

/// The parts of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address<'a> {
    project: &'a str,
    source: &'a str,
    /// `None`: the secret is in the `Authorization` header.
    secret: Option<&'a str>,
    signal: OtlpSignal,
}

impl<'a> Address<'a> {
    pub(super) fn from_path(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix(PREFIX)?.split('/').collect();
        let (project, source, secret, signal) = match parts.as_slice() {
            [project, source, "v1", signal] => (project, source, None, signal),
            [project, source, secret, "v1", signal] => (project, source, Some(*secret), signal),
            _ => return None,
        };
        Some(Self { project, source, secret, signal: OtlpSignal::named(signal)? })
    }
}

pub(super) fn no_route() -> Reject {
    let message = "not found, please send data using POST /otlp/<projectID>/<sourceID>/<secret>/v1/{logs,metrics,traces}";
    Reject::new(RejectKind::NoSuchRoute, message).code("routeNotFound")
}

pub(super) fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

fn form(headers: &HeaderMap) -> Result<OtlpEncoding, Reject> {
    let content_type = content_type(headers).unwrap_or("");
    OtlpEncoding::from_content_type(content_type).ok_or_else(|| {
        let message = format!(
            "unsupported content type \"{content_type}\", supported types: application/x-protobuf and application/json"
        );
        Reject::new(RejectKind::UnsupportedType, message)
    })
}

/// Checks the address. Needs neither the secret nor the body.
pub(super) fn check(head: &RequestHead<'_>) -> Result<(), Reject> {
    let address = Address::from_path(head.path).ok_or_else(no_route)?;
    data::check_project(address.project)
}

/// Checks the secret and the content type, before the body is read.
pub(super) fn receiver(common: &KeboolaContext, head: &RequestHead<'_>) -> Result<Arc<Receiver>, Reject> {
    let (_, receiver, _) = find(common, head)?;
    form(head.headers)?;
    Ok(receiver)
}

fn find<'a>(
    common: &KeboolaContext,
    head: &RequestHead<'a>,
) -> Result<(Address<'a>, Arc<Receiver>, SourceInfo), Reject> {
    let address = Address::from_path(head.path).ok_or_else(no_route)?;
    let header = match credential(head.headers) {
        Credential::Bearer(secret) => Some(secret),
        _ => None,
    };
    let secret = address.secret.or(header.as_deref()).unwrap_or("");
    let (receiver, about) = data::find(common, [address.project, address.source, secret], "otlp")?;
    Ok((address, receiver, about))
}

/// Receives an export.
pub(super) fn export(common: &KeboolaContext, call: &Call<'_>) -> Result<Managed, Reject> {
    let (address, receiver, about) = find(common, &call.head)?;
    let form = form(call.head.headers)?;
    let bytes_max = usize::try_from(call.decoded_max).unwrap_or(usize::MAX);
    let found = records(address.signal, form, &call.body, bytes_max).map_err(|error| undecoded(&error))?;
    if found.is_empty() {
        return Ok(Managed::Reply(success(address.signal, form, &[])));
    }
    let mut lines = Vec::new();
    for record in found.iter() {
        lines.extend_from_slice(record);
        lines.push(b'\n');
    }
    let signal = address.signal;
    let answer = move |accepted: &Accepted| {
        let mut reply = success(signal, form, &accepted.refused);
        reply.headers.push((RECEIPT.clone(), HeaderValue::from(accepted.lsn)));
        if matches!(accepted.state, Durability::SyncPending) {
            reply
                .headers
                .push((HeaderName::from_static("forebay-durable"), HeaderValue::from_static("false")));
        }
        reply
    };
    let receive = data::received(Arc::new(of_signal(&receiver, &about, signal)), &about);
    Ok(Managed::Append(Append {
        wait: receive.wait,
        to: CallDestination::Receiver(receive),
        body: lines.into(),
        kind: BodyKind::Lines,
        bodies: Bodies::default(),
        reply: Box::new(answer),
    }))
}

/// The receiver with only those sinks that take a signal.
fn of_signal(receiver: &Receiver, about: &SourceInfo, signal: OtlpSignal) -> Receiver {
    let mut signals = about.signals.iter();
    let mut takes = || signals.next().is_none_or(|own| own.as_ref().is_none_or(|own| own.contains(&signal)));
    let mut of_signal = receiver.clone();
    of_signal.exports.retain(|_| takes());
    of_signal
}

fn undecoded(error: &DecodeError) -> Reject {
    match error {
        DecodeError::TooLarge { .. } => Reject::new(RejectKind::TooLarge, error.to_string()),
        _ => Reject::malformed(error.to_string()).code("badRequest"),
    }
}

/// 200, with the rejected records if there are any.
fn success(signal: OtlpSignal, form: OtlpEncoding, refused: &[String]) -> Reply {
    let message = match refused {
        [] => String::new(),
        [first] => first.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    };
    let body = match form {
        OtlpEncoding::Protobuf => {
            let partial = (!refused.is_empty())
                .then(|| Partial { rejected: i64::try_from(refused.len()).unwrap_or(i64::MAX), message });
            Response { partial }.encode_to_vec()
        }
        OtlpEncoding::Json if refused.is_empty() => b"{}".to_vec(),
        OtlpEncoding::Json => {
            let rejected = match signal {
                OtlpSignal::Logs => "rejectedLogRecords",
                OtlpSignal::Metrics => "rejectedDataPoints",
                OtlpSignal::Traces => "rejectedSpans",
            };
            // Protobuf's JSON writes 64-bit integers as strings.
            let partial = json!({rejected: refused.len().to_string(), "errorMessage": message});
            json!({"partialSuccess": partial}).to_string().into_bytes()
        }
    };
    reply(StatusCode::OK, form, body.into())
}

fn reply(status: StatusCode, form: OtlpEncoding, body: Bytes) -> Reply {
    let content_type = match form {
        OtlpEncoding::Protobuf => PROTOBUF.clone(),
        OtlpEncoding::Json => JSON.clone(),
    };
    Reply { status, headers: vec![(header::CONTENT_TYPE, content_type)], body }
}

/// `Export{Logs,Metrics,Trace}ServiceResponse`, which have the same fields.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// `google.rpc.Status`, which the protocol requires in errors.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The answer to a refused request: protobuf if the request was protobuf.
pub(super) fn rejected(head: &RequestHead<'_>, reject: &Reject) -> Reply {
    // Clients of this protocol retry after 429, 502, 503 and 504 only.
    let kind = match reject.kind {
        RejectKind::Unavailable if reject.code == Some(data::EXHAUSTED) => RejectKind::TooManyRequests,
        RejectKind::Full => RejectKind::Unavailable,
        kind => kind,
    };
    // Without its own code, a full log would be reported as a shutdown, because both are 503.
    let code = reject.code.or((reject.kind == RejectKind::Full).then_some("insufficientStorage"));
    let reject = &Reject { kind, code, ..reject.clone() };
    let reply = data::rejected(head, reject);
    if content_type(head.headers).and_then(OtlpEncoding::from_content_type) != Some(OtlpEncoding::Protobuf) {
        return reply;
    }
    let said: serde_json::Value = match &*reply.body {
        // An answer to HEAD has no body.
        [] => serde_json::Value::Null,
        body => serde_json::from_slice(body).expect("the answer was just written as JSON"),
    };
    let message = said.get("message").and_then(serde_json::Value::as_str).unwrap_or("").to_owned();
    let status = RpcStatus { code: grpc_code(reply.status.as_u16()), message };
    self::reply(reply.status, OtlpEncoding::Protobuf, status.encode_to_vec().into())
}

/// The `google.rpc.Code` for an HTTP status.
fn grpc_code(status: u16) -> i32 {
    match status {
        400 | 413 | 415 | 422 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        429 => 8,
        503 => 14,
        _ => 13,
    }
}

pub(super) fn takes(path: &str) -> bool {
    path.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;

    #[test]
    fn addresses() {
        let address = |secret| Address { project: "1", source: "s", secret, signal: OtlpSignal::Logs };
        assert_eq!(Address::from_path("/otlp/1/s/v1/logs"), Some(address(None)));
        assert_eq!(Address::from_path("/otlp/1/s/x/v1/logs"), Some(address(Some("x"))));
        for path in
            ["/otlp/1/s/v1/profiles", "/otlp/1/s/x/y/v1/logs", "/otlp/1/v1/logs", "/stream/1/s/v1/logs"]
        {
            assert_eq!(Address::from_path(path), None, "{path}");
        }
    }

    #[test]
    fn partial_success_is_told_in_the_form_that_was_asked_in() {
        let refused = ["a".to_owned(), "b".to_owned()];
        let json = success(OtlpSignal::Traces, OtlpEncoding::Json, &refused);
        let said: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(said, json!({"partialSuccess": {"rejectedSpans": "2", "errorMessage": "a (and 1 more)"}}));
        assert_eq!(&success(OtlpSignal::Logs, OtlpEncoding::Json, &[]).body[..], b"{}");
        let protobuf = success(OtlpSignal::Logs, OtlpEncoding::Protobuf, &refused);
        let partial = ExportLogsServiceResponse::decode(&protobuf.body[..]).unwrap().partial_success.unwrap();
        assert_eq!((partial.rejected_log_records, &*partial.error_message), (2, "a (and 1 more)"));
        assert!(success(OtlpSignal::Logs, OtlpEncoding::Protobuf, &[]).body.is_empty());
    }
}
