//! Heads of requests, of any bytes that the HTTP layer lets through: every contract understands or refuses them, and
//! words a refusal.
#![no_main]

use forebay::contracts::{DIALECTS, Named, RequestHead};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

/// Those that contracts look at.
const HEADERS: [&str; 8] = [
    "authorization", "content-type", "content-length", "content-encoding", "x-storageapi-token", "x-amperity-tenant",
    "x-request-id", "origin",
];

fuzz_target!(|input: (u8, String, Vec<(u8, Vec<u8>)>)| {
    let (method, target, fields) = input;
    let methods = [Method::POST, Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH, Method::HEAD];
    let method = &methods[usize::from(method) % methods.len()];
    let Ok(uri) = target.parse::<http::Uri>() else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in &fields {
        let name = HeaderName::from_static(HEADERS[usize::from(*name) % HEADERS.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let head = RequestHead { method, path: uri.path(), query: uri.query().unwrap_or_default(), headers: &headers, named: Named::default() };
    for dialect in DIALECTS {
        // A contract is asked only for paths of its own.
        if !dialect.takes(head.path) {
            continue;
        }
        if let Err(reject) = dialect.parse(head) {
            let status = dialect.rejected(&head, &reject).status;
            assert!(status.is_client_error(), "{status}: {reject:?}");
        }
    }
});
