//! `docs/openapi.yaml` and the daemon agree; that every answer is as described is looked at in each request of each test.

use crate::support::Daemon;
use crate::support::document::DOCUMENT;
use std::collections::BTreeSet;

/// Neither describes a route that is not there, nor is there one that is not described.
#[test]
fn the_document_and_the_routes_agree() {
    let mut described = BTreeSet::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "patch", "options"] {
            if let Some(operation) = item.get(method) {
                described.insert((path.clone(), method.to_uppercase()));
                let tags = operation["tags"].as_array().map_or(0, Vec::len);
                assert_eq!(tags, 1, "{method} {path} has one tag");
                assert!(operation["operationId"].is_string(), "{method} {path} has an operationId");
            }
        }
    }
    let served: BTreeSet<(String, String)> = forebay::http::routes()
        .into_iter()
        .map(|route| (route.template.to_owned(), route.method.to_owned()))
        .collect();
    let missing: Vec<_> = served.difference(&described).collect();
    let untrue: Vec<_> = described.difference(&served).collect();
    assert!(missing.is_empty() && untrue.is_empty(), "not described: {missing:#?}\nnot served: {untrue:#?}");
}

#[test]
fn the_daemon_serves_it() {
    let daemon = Daemon::dev();
    let served = daemon.get("/openapi.json");
    assert_eq!((served.status, served.header("content-type")), (200, Some("application/json")));
    let document = served.json();
    assert_eq!(document["components"], DOCUMENT["components"]);
    let url = format!("http://{}", daemon.ingest);
    assert_eq!(document["paths"]["/v0/events"]["servers"][0]["url"], url);
}
