//! CORS: the headers that allow pages of other origins to call, and origins that are refused.

use crate::support::{Daemon, Response, Setup, eventually, request, signal};
use crate::wire::{refusals, streams};
use serde_json::json;
use std::net::SocketAddr;

const EVENT: &str = r#"{"city":"Chicago"}"#;
const PAGE: &str = "https://www.example.com";
const EXPOSED: [&str; 8] = [
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Retry-After",
    "Forebay-Receipt",
    "Forebay-Durable",
    "Forebay-Published",
    "Idempotency-Replayed",
];

/// The preflight request of a browser.
fn preflight(address: SocketAddr, path: &str, origin: &str) -> Response {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    request(address, "OPTIONS", path, &headers, b"")
}

fn allowed(response: &Response) -> Option<&str> {
    response.header("access-control-allow-origin")
}

fn list(value: Option<&str>) -> Vec<String> {
    value.unwrap_or_default().split(',').map(|item| item.trim().to_ascii_lowercase()).collect()
}

#[test]
fn pages_can_read_every_answer_including_errors() {
    let daemon = Setup::dev("[limits]\nbody_max = \"1KiB\"").start();
    let large = "x".repeat(2000);
    let (plain, snappy): (&[(&str, &str)], &[_]) = (&[], &[("content-encoding", "snappy")]);
    let answers = [
        ("POST", "/v0/events?name=e", plain, EVENT, 202),
        ("POST", "/v0/events?name=e&wait=true", plain, EVENT, 200),
        ("HEAD", "/v0/events", plain, "", 200),
        ("POST", "/v0/events", plain, EVENT, 400),
        ("POST", "/v0/events?name=e", plain, "no record", 400),
        ("GET", "/v0/events?name=e", plain, "", 405),
        ("POST", "/v0/events?name=e", plain, &large, 413),
        ("POST", "/v0/events?name=e", snappy, EVENT, 415),
        ("GET", "/v0/workspace", plain, "", 200),
    ];
    for (method, path, headers, body, status) in answers {
        for origin in [None, Some(("origin", PAGE)), Some(("origin", "null"))] {
            let headers: Vec<_> = headers.iter().copied().chain(origin).collect();
            let response = request(daemon.ingest, method, path, &headers, body.as_bytes());
            assert_eq!(response.status, status, "{method} {path}: {}", response.text());
            assert_eq!((allowed(&response), response.header("vary")), (Some("*"), None), "{method} {path}");
            let exposed = list(response.header("access-control-expose-headers"));
            assert_eq!(exposed, EXPOSED.map(str::to_ascii_lowercase), "{method} {path}");
            assert_eq!(response.header("access-control-allow-credentials"), None);
        }
    }
    let refused = request(daemon.ingest, "DELETE", "/v0/events", &[], b"");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("POST, OPTIONS, HEAD")));
    // A page over the rate limit must see how long to wait.
    let daemon = Setup::dev("[limits.tinybird]\nrequests_per_second = 1").start();
    let over = eventually("a refusal", || {
        Some(daemon.post_with("name=e", &[("origin", PAGE)], EVENT)).filter(|response| response.status == 429)
    });
    assert_eq!(allowed(&over), Some("*"));
    let exposed = list(over.header("access-control-expose-headers"));
    for (name, _) in
        over.headers.iter().filter(|(name, _)| name.contains("ratelimit") || name == "retry-after")
    {
        assert!(exposed.contains(name), "{name}");
    }
    assert!(over.header("retry-after").is_some() && over.header("x-ratelimit-reset").is_some());
    // A missing token, too.
    let daemon = Setup::with_config("").start();
    let refused = daemon.post("name=e", EVENT);
    assert_eq!((refused.status, allowed(&refused)), (403, Some("*")));
    // The admin listener and the other contracts do not serve web pages.
    assert_eq!(allowed(&daemon.get("/admin/v1/status")), None);
    let other = request(daemon.ingest, "POST", "/v1/projects/p/events/t", &[("origin", PAGE)], b"{}");
    assert_eq!(allowed(&other), None);
}

#[test]
fn a_preflight_needs_no_credential() {
    let daemon = Setup::with_config("").start();
    for (path, methods) in [
        ("/v0/events?name=e", &["post", "options"][..]),
        ("/v0/events", &["post", "options"]),
        ("/v0/events/", &["post", "options"]),
        ("/v0/workspace", &["get", "head", "options"]),
    ] {
        for origin in [PAGE, "null"] {
            let response = preflight(daemon.ingest, path, origin);
            assert_eq!((response.status, &response.body[..]), (204, &b""[..]), "{path}");
            assert_eq!(allowed(&response), Some("*"));
            assert_eq!(list(response.header("access-control-allow-methods")), methods, "{path}");
            let headers = list(response.header("access-control-allow-headers"));
            let known = ["authorization", "content-type", "content-encoding", "idempotency-key"];
            assert_eq!(headers, known);
            assert_eq!(response.header("access-control-max-age"), Some("86400"));
        }
    }
    // An OPTIONS request that is not a preflight needs no credential either.
    assert_eq!(request(daemon.ingest, "OPTIONS", "/v0/events", &[], b"").status, 204);
    let nowhere = preflight(daemon.ingest, "/v0/nowhere", PAGE);
    assert_eq!(nowhere.status, 404);
    assert_eq!(streams(&daemon), Vec::<String>::new());
}

#[test]
fn pages_of_unlisted_origins_are_refused() {
    let list = "[server]\nallowed_origins = [\"https://www.example.com\", \"http://*.localhost:3000\"]";
    let daemon = Setup::dev(list).start();
    let post = |origin: &str| daemon.post_with("name=e", &[("origin", origin)], EVENT);
    for origin in [PAGE, "http://shop.localhost:3000"] {
        let asked = preflight(daemon.ingest, "/v0/events?name=e", origin);
        assert_eq!(
            (asked.status, allowed(&asked), asked.header("vary")),
            (204, Some(origin), Some("Origin"))
        );
        let sent = post(origin);
        assert_eq!((sent.status, allowed(&sent), sent.header("vary")), (202, Some(origin), Some("Origin")));
        let bad = daemon.post_with("name=", &[("origin", origin)], EVENT);
        assert_eq!((bad.status, allowed(&bad)), (400, Some(origin)));
    }
    let strangers = [
        "http://www.example.com",
        "https://www.example.com:8443",
        "https://www.example.com.evil.com",
        "null",
    ];
    for origin in strangers {
        let asked = preflight(daemon.ingest, "/v0/events?name=e", origin);
        assert_eq!(
            (asked.status, allowed(&asked), asked.header("vary")),
            (403, None, Some("Origin")),
            "{origin}"
        );
        let sent = post(origin);
        assert_eq!((sent.status, allowed(&sent)), (403, None), "{origin}");
        assert!(sent.json()["error"].as_str().unwrap().contains("origin"), "{}", sent.text());
    }
    assert_eq!(refusals(&daemon, "forbidden"), 2 * strangers.len() as u64);
    // Programs send no origin.
    let program = daemon.post("name=e", EVENT);
    assert_eq!((program.status, allowed(&program), program.header("vary")), (202, None, Some("Origin")));
    assert_eq!(daemon.rows("e").len(), 3);
}

#[test]
fn an_empty_origin_list_refuses_every_page_until_reloaded() {
    let daemon = Setup::dev("[server]\nallowed_origins = []").start();
    let status = |daemon: &Daemon| daemon.post_with("name=e", &[("origin", PAGE)], EVENT).status;
    assert_eq!((status(&daemon), daemon.post("name=e", EVENT).status), (403, 202));
    let config = format!("[server]\nallowed_origins = [\"{PAGE}\"]");
    std::fs::write(daemon.dir().join("forebay.toml"), config).unwrap();
    signal(daemon.pid(), "HUP");
    eventually("the new list", || (status(&daemon) == 202).then_some(()));
}

#[test]
fn an_origin_bound_token_gets_its_origin_in_the_answer() {
    let daemon = Setup::with_config("").start();
    let about = json!({"name": "page", "scopes": ["ingest:e", "create"], "origins": [PAGE, "http://*.localhost:3000"]});
    let token = daemon.token_with(&about);
    let send = |headers: &[(&str, &str)], by_query: bool| {
        let authorization = format!("Bearer {token}");
        let query = if by_query { format!("name=e&token={token}") } else { "name=e".to_owned() };
        let credential = (!by_query).then_some(("authorization", authorization.as_str()));
        let headers: Vec<_> = headers.iter().copied().chain(credential).collect();
        daemon.post_with(&query, &headers, EVENT)
    };
    // A preflight carries no credential, so every origin gets an answer.
    assert_eq!(allowed(&preflight(daemon.ingest, "/v0/events?name=e", "https://evil.com")), Some("*"));
    for origin in [PAGE, "http://a.localhost:3000"] {
        for by_query in [false, true] {
            let sent = send(&[("origin", origin)], by_query);
            assert_eq!(
                (sent.status, allowed(&sent), sent.header("vary")),
                (202, Some(origin), Some("Origin"))
            );
        }
    }
    for origin in [&[("origin", "https://evil.com")][..], &[("origin", "null")], &[]] {
        for by_query in [false, true] {
            let refused = send(origin, by_query);
            assert_eq!((refused.status, allowed(&refused)), (403, None), "{origin:?}");
        }
    }
    // Other tokens are not affected.
    let other = daemon.token.clone().unwrap();
    let sent = daemon.post_with(&format!("name=e&token={other}"), &[("origin", "https://evil.com")], EVENT);
    assert_eq!((sent.status, allowed(&sent)), (202, Some("*")));
    assert_eq!(daemon.rows("e").len(), 5);
}
