//! Tinybird's contract beyond sending events: the first requests of its command line, and refused routes.

use crate::support::{Daemon, Setup, request};

#[test]
fn the_workspace_and_the_region_are_this_daemon() {
    let daemon = Setup::with_config("").start();
    let authorization = format!("Bearer {}", daemon.token.clone().unwrap());
    let get = |path: &str| request(daemon.ingest, "GET", path, &[("authorization", &authorization)], b"");
    let workspace = get("/v0/workspace").json();
    assert_eq!(workspace["id"].as_str().unwrap().len(), 36);
    for path in ["/v0/workspace/", "/v1/workspace", "/v1/workspace/?from=cli&cli_version=5"] {
        let response = get(path);
        assert_eq!((response.status, response.json()), (200, workspace.clone()), "{path}");
    }
    let regions = get("/v0/regions").json();
    assert_eq!(regions["regions"][0]["host"], format!("http://{}", daemon.ingest));
    let query_token = format!("/v0/regions?token={}", daemon.token.clone().unwrap());
    assert_eq!(request(daemon.ingest, "GET", &query_token, &[], b"").json(), regions);
    for path in ["/v0/workspace", "/v0/regions", "/v0/regions?token=wrong"] {
        let refused = request(daemon.ingest, "GET", path, &[], b"");
        assert_eq!(refused.status, 403, "{path}");
        assert_eq!(refused.json()["error"], "invalid authentication token", "{path}");
    }
}

#[test]
fn unknown_methods_and_paths_are_refused_as_json() {
    let daemon = Daemon::dev();
    let refused = request(daemon.ingest, "DELETE", "/v0/regions", &[], b"");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(refused.json()["error"], "method DELETE not allowed");
    let refused = request(daemon.ingest, "GET", "/v0/events?name=e", &[], b"");
    assert_eq!(refused.status, 405);
    assert!(refused.header("allow").unwrap().starts_with("POST"), "{refused:?}");
    for path in ["/v0/pipes", "/v0/workspace/x", "/v9/regions"] {
        let refused = request(daemon.ingest, "GET", path, &[], b"");
        assert_eq!(
            (refused.status, refused.header("content-type")),
            (404, Some("application/json; charset=utf-8"))
        );
        assert!(refused.json()["error"].is_string(), "{path}");
    }
}
