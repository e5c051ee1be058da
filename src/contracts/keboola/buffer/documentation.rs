//! The service's documentation: its detail, its `OpenAPI` document, and an HTML page of that document.

use super::request::BufferRequest;
use crate::contracts::Reply;
use crate::contracts::keboola::reply;
use crate::contracts::openapi::{self, Addressed};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// `/` redirects to `/v1`.
pub(super) fn redirect() -> Reply {
    let mut reply = reply::text("text/html; charset=utf-8", "<a href=\"/v1\">Moved Permanently</a>.\n");
    reply.status = StatusCode::MOVED_PERMANENTLY;
    reply.headers.push((header::LOCATION, HeaderValue::from_static("/v1")));
    reply
}

pub(super) fn health() -> Reply {
    reply::text("text/plain", "OK")
}

pub(super) fn detail(request: &BufferRequest<'_>) -> Reply {
    let documentation = format!("{}/v1/documentation", request.base());
    reply::ok(&json!({"api": "buffer", "documentation": documentation}))
}

/// The `OpenAPI` document and its page, built once.
pub(super) struct Documentation {
    document: Addressed,
    page: Bytes,
}

impl Documentation {
    pub(super) fn new() -> Self {
        let document = openapi::alone(super::OPENAPI);
        Self { page: html(&document).into(), document: Addressed::new(document, reply::rendered) }
    }

    pub(super) fn json(&self, request: &BufferRequest<'_>) -> Reply {
        reply::text("application/json", self.document.at(&request.base()))
    }

    /// JSON is valid YAML.
    pub(super) fn yaml(&self, request: &BufferRequest<'_>) -> Reply {
        reply::text("application/yaml", self.document.at(&request.base()))
    }

    pub(super) fn page(&self) -> Reply {
        reply::text("text/html; charset=utf-8", self.page.clone())
    }
}

/// A page of every operation with its description. It loads nothing from elsewhere.
fn html(document: &Value) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Buffer API</title>\n<style>\n\
         body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\n\
         details{border:1px solid #ddd;border-radius:4px;margin:.5rem 0;padding:.5rem 1rem}\n\
         summary{cursor:pointer}\ncode{font-size:14px}\n.method{display:inline-block;min-width:5rem;font-weight:600}\n\
         </style>\n</head>\n<body>\n<h1>Buffer API</h1>\n\
         <p>OpenAPI document: <a href=\"/v1/documentation/openapi3.json\">JSON</a>, \
         <a href=\"/v1/documentation/openapi3.yaml\">YAML</a>.</p>\n",
    );
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for (method, operation) in METHODS.iter().filter_map(|method| Some((method, item.get(method)?))) {
            let text = |key: &str| escaped(operation.get(key).and_then(Value::as_str).unwrap_or(""));
            let (summary, description) = (text("summary"), text("description"));
            let (method, path) = (method.to_ascii_uppercase(), escaped(path));
            let statuses = operation.get("responses").and_then(Value::as_object).into_iter().flatten();
            let statuses: Vec<&str> = statuses.map(|(status, _)| status.as_str()).collect();
            let statuses = statuses.join(", ");
            page.extend([format!(
                "<details>\n<summary><span class=\"method\">{method}</span> <code>{path}</code> {summary}</summary>\n\
                 <p>{description}</p>\n<p>Responses: {statuses}</p>\n</details>\n"
            )]);
        }
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
