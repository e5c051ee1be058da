//! Answers: JSON, and errors in the contract's shape.

use crate::contracts::Reply;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

static JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn reply(status: StatusCode, body: &Value) -> Reply {
    Reply { status, headers: vec![(header::CONTENT_TYPE, JSON.clone())], body: body.to_string().into() }
}

pub(super) fn ok(body: &Value) -> Reply {
    reply(StatusCode::OK, body)
}

/// 200 without a body.
pub(super) fn empty() -> Reply {
    Reply { status: StatusCode::OK, headers: Vec::new(), body: bytes::Bytes::new() }
}

/// 201 with the address of the new resource.
pub(super) fn created(location: &str, body: &Value) -> Reply {
    let mut reply = reply(StatusCode::CREATED, body);
    if let Ok(location) = HeaderValue::from_str(location) {
        reply.headers.push((header::LOCATION, location));
    }
    reply
}

/// An error in the contract's shape. `code` is set for errors of the vendor's control plane.
pub(super) fn error(status: u16, code: Option<&str>, message: &str) -> Reply {
    let mut body = Map::new();
    if let Some(code) = code {
        body.insert("code".to_owned(), code.into());
    }
    body.insert("message".to_owned(), message.into());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, &Value::Object(body))
}
