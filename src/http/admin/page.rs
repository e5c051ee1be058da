//! Serves the files of the console.

use super::AdminResult;
use super::problem::{Problem, respond};
use crate::http::console::{self, Asset};
use http::{HeaderValue, Method, StatusCode, header};

/// Serves a file of the console. It requires no token, since the files contain no data.
pub(super) fn page(head: &http::request::Parts, asset: &Asset, ingest_url: &str) -> AdminResult {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let detail = format!("method {} not allowed", head.method);
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).header(header::ALLOW, "GET, HEAD"));
    }
    let mut response = respond(StatusCode::OK, asset.content_type, asset.body.to_owned());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A new version of the daemon may contain a new console.
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&console::content_security_policy(ingest_url)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}
