//! Answers. Accepted records are answered without a body. A refusal has the vendor's general error object; refusals
//! that concern a stream have an error object that names the stream.

use super::events;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::{Reply, RequestHead};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

static JSON: HeaderValue = HeaderValue::from_static("application/json");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub fn accepted(head: &RequestHead<'_>) -> Reply {
    with_id(Reply::empty(StatusCode::ACCEPTED), head)
}

/// The answer for a stream that drops its records. The Streaming Ingest API has no code for it, so its clients get the
/// usual answer.
pub fn dropped(head: &RequestHead<'_>) -> Reply {
    let newer = events::is_newer(head.path);
    with_id(Reply::empty(if newer { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED }), head)
}

pub(super) fn ok(body: &Value) -> Reply {
    reply(StatusCode::OK, body)
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    Reply { status, headers: vec![(header::CONTENT_TYPE, JSON.clone())], body: body.to_string().into() }
}

/// An answer that must not be cached (RFC 6749, 5.1).
pub(super) fn uncached(mut reply: Reply) -> Reply {
    reply.headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    reply
}

/// Adds the request id.
pub(super) fn with_id(mut reply: Reply, head: &RequestHead<'_>) -> Reply {
    if let Ok(id) = HeaderValue::from_str(&events::name(head)) {
        reply.headers.push((REQUEST_ID.clone(), id));
    }
    reply
}

pub fn rejected(head: &RequestHead<'_>, reject: &Reject) -> Reply {
    let newer = events::is_newer(head.path);
    let status = match reject.kind {
        // The Streaming Ingest API has no code of its own for this.
        RejectKind::UnsupportedType | RejectKind::UnsupportedEncoding if !newer => 400,
        kind => kind.status(),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let path = head.path.trim_end_matches('/');
    let stream = path.rsplit_once('/').map_or(path, |(_, last)| last);
    let body = match reject.kind {
        RejectKind::NoSuchStream => {
            let tenant = super::tenant(head).unwrap_or("tenant");
            let message = format!("No stream {stream} for {tenant}");
            json!({"error": "stream-not-found", "message": message, "stream": stream})
        }
        RejectKind::Conflict if reject.code.is_some() => {
            json!({"error": reject.code, "message": reject.external, "stream": stream})
        }
        kind => {
            let message = match kind {
                RejectKind::TooLarge if is_json(head) => "JSON content too large",
                RejectKind::TooLarge => "Content too large",
                _ => &*reject.external,
            };
            json!({"status": status.as_u16(), "message": message, "request_id": events::name(head)})
        }
    };
    with_id(reply(status, &body), head)
}

fn is_json(head: &RequestHead<'_>) -> bool {
    let value = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.to_ascii_lowercase().starts_with("application/json"))
}
