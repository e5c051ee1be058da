//! The `OpenAPI` document and the daemon have the same routes. Responses are checked in every test, see `document.rs`.

use crate::support::Daemon;
use crate::support::document::DOCUMENT;
use forebay::contracts::route::RouteInfo;
use forebay::contracts::{TABLE, openapi};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The methods and paths that a document describes.
fn described(document: &Value) -> BTreeSet<(String, String)> {
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "patch", "options"] {
            if let Some(operation) = item.get(method) {
                described.insert((method.to_uppercase(), path.clone()));
                let tags = operation["tags"].as_array().map_or(0, Vec::len);
                assert_eq!(tags, 1, "{method} {path} must have one tag");
                assert!(operation["operationId"].is_string(), "{method} {path} must have an operationId");
            }
        }
    }
    described
}

/// Asserts that every route is described, and every described route exists.
fn agree(whose: &str, document: &Value, routes: Vec<RouteInfo>) {
    let described = described(document);
    let owned = |route: RouteInfo| (route.method.to_owned(), route.template.to_owned());
    let served: BTreeSet<(String, String)> = routes.into_iter().map(owned).collect();
    let missing: Vec<_> = served.difference(&described).collect();
    let untrue: Vec<_> = described.difference(&served).collect();
    assert!(
        missing.is_empty() && untrue.is_empty(),
        "{whose}: not described: {missing:#?}\nnot served: {untrue:#?}"
    );
}

#[test]
fn the_document_and_the_routes_agree() {
    agree("all", &DOCUMENT, forebay::http::routes());
}

#[test]
fn each_contract_describes_its_own_routes() {
    for entry in TABLE {
        let (name, part) = (entry.tag.name(), openapi::parse(entry.openapi));
        agree(name, &part, (entry.served)());
        let tags: Vec<&Value> = part["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
        assert_eq!(tags, [name]);
        for (path, item) in part["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values().filter(|value| value["responses"].is_object())
            {
                assert_eq!(operation["tags"], json!([name]), "{path}");
            }
        }
    }
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
