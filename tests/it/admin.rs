//! The admin listener: every endpoint, its refusals, and the metrics.

use crate::support::{Daemon, Response, Setup, eventually, request};
use crate::wire::{Wire, count, head, refusals};
use serde_json::{Value, json};
use std::net::TcpStream;

const EVENT: &str = r#"{"city":"Chicago"}"#;
/// Settings that are small enough for a test without `--dev`.
const SMALL: &str = "[limits]\nbody_max = \"1MiB\"\ndecoded_max = \"1MiB\"\n[wal]\nsegment_bytes = \"2MiB\"\nmax_bytes = \"64MiB\"\ndisk_reserve = \"1MiB\"\nprepared_segments = 1\n";

fn assert_problem(response: &Response, status: u16, detail: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let body = response.json();
    assert_eq!((&body["type"], &body["status"]), (&json!("about:blank"), &json!(status)), "{body}");
    assert!(body["title"].is_string(), "{body}");
    assert!(body["detail"].as_str().unwrap().contains(detail), "{detail:?} is missing in {body}");
}

/// The body of a `GET` that must succeed.
fn get(daemon: &Daemon, path: &str) -> Value {
    let response = daemon.get(path);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"), "{path}");
    response.json()
}

#[test]
fn every_endpoint_reports_accepted_events() {
    let daemon = Daemon::dev();
    assert_eq!(get(&daemon, "/healthz"), json!({"status": "ok"}));
    assert_eq!(get(&daemon, "/readyz"), json!({"ready": true, "reason": null}));
    assert_eq!(get(&daemon, "/admin/v1/streams"), json!({"streams": []}));
    let first = daemon.post("name=visits", "{\"n\":1}\nbad\n").receipt();
    let last = daemon.post("name=visits&wait=true", "{\"n\":2}\n{\"n\":\"x\"}\n").receipt();
    let published = daemon.admin_post("/admin/v1/publish?stream=visits");
    assert_eq!(published.json(), json!({"published": true, "through": last}));

    let status = get(&daemon, "/admin/v1/status");
    assert_eq!(
        (&status["ready"], &status["reason"], &status["streams"]),
        (&json!(true), &Value::Null, &json!(1))
    );
    for watermark in ["appended", "durable", "checkpoint", "published"] {
        assert_eq!(status["watermarks"][watermark], json!(last), "{watermark}: {status}");
    }
    assert_eq!((&status["accepted"]["rows"], &status["accepted"]["bytes"]), (&json!(3), &json!(30)));
    assert_eq!(status["staged"], json!({"files": 0, "bytes": 0}));

    let streams = get(&daemon, "/admin/v1/streams");
    let stream = get(&daemon, "/admin/v1/streams/visits");
    for listed in [&streams["streams"][0], &stream] {
        assert_eq!((&listed["name"], &listed["policy"]), (&json!("visits"), &json!("evolve")));
        assert_eq!((&listed["rows"]["stored"], &listed["rows"]["quarantined"]), (&json!(3), &json!(1)));
        assert_eq!((&listed["checkpoint"], &listed["id"]), (&json!(last), &stream["id"]));
    }
    assert_eq!(get(&daemon, &format!("/admin/v1/streams/{}", stream["id"].as_str().unwrap())), stream);

    let files = get(&daemon, "/admin/v1/streams/visits/files")["files"].clone();
    let files = files.as_array().unwrap();
    assert_eq!(files.len(), 2);
    for file in files {
        let path = daemon.data_dir().join("tables").join(file["object"].as_str().unwrap());
        assert_eq!(file["bytes"], json!(path.metadata().unwrap().len()), "{file}");
        assert_eq!((&file["state"], &file["first_lsn"]), (&json!("published"), &json!(first)));
        let rows = if file["kind"] == "rows" { 3 } else { 1 };
        assert_eq!(file["rows"], json!(rows), "{file}");
    }
    let files = get(&daemon, "/admin/v1/streams/visits/files?limit=1");
    assert_eq!(files["files"].as_array().unwrap().len(), 1);

    let wal = get(&daemon, "/admin/v1/wal");
    assert_eq!(
        (&wal["appended"], &wal["durable"], &wal["refusing"]),
        (&json!(last), &json!(last), &Value::Null)
    );
    assert_eq!((&wal["appended_frames"], &wal["unsynced_bytes"]), (&json!(2), &json!(0)));
    assert!(wal["segments"].is_array() && wal["recovery"].is_object(), "{wal}");
    assert_eq!(get(&daemon, "/admin/v1/staged"), json!({"staged": []}));

    let receipt = get(&daemon, &format!("/admin/v1/receipts/{first}"));
    assert_eq!(
        (&receipt["lsn"], &receipt["durable"], &receipt["stream"]),
        (&json!(first), &json!(true), &json!("visits"))
    );
    assert_eq!((&receipt["records"], &receipt["quarantined"]), (&json!(1), &json!(1)));
    assert_eq!(receipt["files"].as_array().unwrap().len(), 2, "{receipt}");
}

#[test]
fn newest_records_come_from_the_log_and_after_a_restart_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    for request in 0..3 {
        let lines: Vec<String> = (0..10).map(|n| format!("{{\"n\":{}}}\n", request * 10 + n)).collect();
        daemon.post("name=e&wait=true", lines.concat() + "bad\n");
    }
    let numbers = |daemon: &Daemon, query: &str| {
        let records = get(daemon, &format!("/admin/v1/streams/e/records{query}"))["records"].clone();
        let records = records.as_array().unwrap().clone();
        assert!(
            records
                .iter()
                .all(|r| r["_lsn"].is_u64() && r["_record"].is_u64() && r["_received_at"].is_string())
        );
        records.iter().map(|record| record["n"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let check = |daemon: &Daemon| {
        assert_eq!(numbers(daemon, "?limit=1"), [29]);
        assert_eq!(numbers(daemon, "?limit=12"), (18..30).collect::<Vec<_>>());
        assert_eq!(numbers(daemon, ""), (10..30).collect::<Vec<_>>());
        assert_eq!(numbers(daemon, "?limit=1000"), (0..30).collect::<Vec<_>>());
    };
    check(&daemon);
    daemon.admin_post("/admin/v1/publish");
    check(&daemon);
    assert!(daemon.stop().status.success());
    let daemon = Setup::dev("").start_at(dir.path());
    check(&daemon);
    daemon.post("name=e&wait=true", "{\"n\":30}");
    assert_eq!(numbers(&daemon, "?limit=3"), [28, 29, 30]);
}

#[test]
fn numbers_beyond_64_bits_are_shown_as_text() {
    let daemon = Daemon::dev();
    let lines = [
        r#"{"n":123456789012345678901234567890}"#,
        r#"{"n":-9223372036854775809,"o":[18446744073709551616]}"#,
        r#"{"n":1e999}"#,
    ];
    let exact =
        r#"{"n":18446744073709551615,"m":-9223372036854775808,"t":"123456789012345678901","f":1.5e3}"#;
    daemon.post("name=e&wait=true", [lines.join("\n").as_str(), "\n", exact].concat());
    let records = get(&daemon, "/admin/v1/streams/e/records")["records"].clone();
    assert_eq!(records.as_array().unwrap().len(), 4);
    for (line, record) in lines.iter().zip(records.as_array().unwrap()) {
        assert_eq!(record["_raw"], json!(line), "{record}");
    }
    assert_eq!((&records[3]["n"], &records[3]["m"]), (&json!(u64::MAX), &json!(i64::MIN)));
    assert_eq!((&records[3]["t"], &records[3]["f"]), (&json!("123456789012345678901"), &json!(1500.0)));
}

#[test]
fn what_is_asked_wrongly_is_a_problem() {
    let daemon = Daemon::dev();
    daemon.post("name=e", EVENT);
    for limit in ["0", "1001", "-1", "ten", "", "1.5", "99999999999999999999"] {
        for what in ["records", "files"] {
            let response = daemon.get(&format!("/admin/v1/streams/e/{what}?limit={limit}"));
            assert_problem(&response, 400, "'limit' must be a number from 1 to 1000");
        }
    }
    for receipt in ["abc", "-1", "1.0", "99999999999999999999999"] {
        assert_problem(&daemon.get(&format!("/admin/v1/receipts/{receipt}")), 400, "log sequence number");
    }
    for receipt in ["0", "1", "18446744073709551615"] {
        assert_problem(
            &daemon.get(&format!("/admin/v1/receipts/{receipt}")),
            404,
            "no request has the receipt",
        );
    }
    for unknown in ["nobody", "..", "%2e%2e", "01890000-0000-7000-8000-000000000000", ""] {
        for rest in ["", "/records", "/files"] {
            let response = daemon.get(&format!("/admin/v1/streams/{unknown}{rest}"));
            match (unknown, rest) {
                // A path that ends in a slash is the list.
                ("", "") => assert_eq!(response.status, 200),
                ("", _) => assert_problem(&response, 404, "no such route"),
                _ => assert_problem(&response, 404, "no stream has the name or id"),
            }
        }
    }
    assert_problem(
        &daemon.admin_post("/admin/v1/publish?stream=nobody"),
        404,
        "no stream has the name or id",
    );
    for path in
        ["/nothing", "/admin", "/admin/v1", "/admin/v2/status", "/admin/v1/streams/e/rows", "/v0/events"]
    {
        assert_problem(&daemon.get(path), 404, "no such route");
    }
}

#[test]
fn every_endpoint_lists_its_methods() {
    let daemon = Daemon::dev();
    daemon.post("name=e", EVENT);
    let only_read = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/admin/v1/status",
        "/openapi.json",
        "/admin/v1/streams/e/records",
        "/admin/v1/streams/e/files",
        "/admin/v1/wal",
        "/admin/v1/staged",
        "/admin/v1/receipts/1",
    ];
    for path in only_read {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let refused = request(daemon.admin, method, path, &[], b"{}");
            assert_problem(&refused, 405, &format!("method {method} not allowed"));
            assert_eq!(refused.header("allow"), Some("GET, HEAD"), "{method} {path}");
        }
    }
    for (path, methods) in [
        ("/admin/v1/streams", "GET, HEAD, POST"),
        ("/admin/v1/streams/e", "GET, HEAD, PUT, PATCH, DELETE"),
        ("/admin/v1/tokens", "GET, HEAD, POST"),
        ("/admin/v1/replay", "POST, GET, HEAD"),
    ] {
        let refused = request(daemon.admin, "OPTIONS", path, &[], b"");
        assert_problem(&refused, 405, "method OPTIONS not allowed");
        assert_eq!(refused.header("allow"), Some(methods), "{path}");
    }
    for path in ["/admin/v1/publish", "/admin/v1/drain"] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let mut wire = Wire::connect(daemon.admin);
            wire.send(format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
            let answer = wire.raw();
            assert!(answer.starts_with("HTTP/1.1 405 "), "{method} {path}: {answer}");
            assert!(answer.contains("\r\nallow: POST\r\n"), "{method} {path}: {answer}");
        }
    }
    let mut wire = Wire::connect(daemon.admin);
    wire.send("HEAD /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = wire.raw();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(daemon.get("/readyz").status, 200);
}

#[test]
fn without_dev_a_token_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::with_config(SMALL).start_at(dir.path());
    let token = daemon.token.clone().expect("the first start shows a token");
    let bearer = format!("Bearer {token}");
    for (authorization, allowed) in [
        ("", false),
        ("Bearer", false),
        ("Bearer ", false),
        ("Bearer wrong", false),
        (&token, false),
        (&format!("Basic {token}"), false),
        (&format!("Bearer {}", &token[1..]), false),
        (&bearer, true),
        (&format!("bearer  {token}"), true),
    ] {
        let header = [("authorization", authorization)];
        for path in ["/metrics", "/admin/v1/status", "/admin/v1/streams", "/admin/v1/nothing"] {
            let response = request(daemon.admin, "GET", path, &header, b"");
            if !allowed {
                let some = authorization.trim_end().starts_with("Bearer ");
                let detail = if some { "invalid authentication token" } else { "no authentication token" };
                assert_problem(&response, 401, detail);
                assert_eq!(response.header("www-authenticate"), Some("Bearer"));
            }
            assert_eq!(response.status == 401, !allowed, "{authorization:?} {path}");
        }
        let response = request(daemon.ingest, "POST", "/v0/events?name=e", &header, EVENT.as_bytes());
        assert_eq!(response.status, if allowed { 202 } else { 403 }, "{authorization:?}");
        let log = response.text();
        assert!(allowed || log.contains("\"error\":\"invalid authentication token\""), "{log}");
        // The health check needs no token.
        assert_eq!(request(daemon.admin, "GET", "/healthz", &header, b"").status, 200);
        assert_eq!(request(daemon.admin, "GET", "/readyz", &header, b"").status, 200);
    }
    assert_eq!(request(daemon.admin, "POST", "/admin/v1/drain", &[], b"").status, 401);
    assert_eq!(daemon.post("name=e", EVENT).status, 403, "no token");
    assert_eq!(daemon.post(&format!("name=e&token={token}"), EVENT).status, 202);
    assert_eq!(refusals(&daemon, "unauthenticated"), 8);
    assert_eq!(daemon.rows("e").len(), 3);
    assert!(!daemon.log().contains(&token), "the token is in the log");
    assert!(daemon.stop().status.success());
    // The token is shown only once, but stays valid.
    let daemon = Setup::with_config(SMALL).start_at(dir.path());
    assert_eq!(daemon.token, None);
    assert_eq!(daemon.post(&format!("name=e&token={token}"), EVENT).status, 202);
}

#[test]
fn a_file_that_cannot_be_published_is_shown_and_published_later() {
    let daemon = Setup::dev("[compactor]\nmax_idle = \"50ms\"").start();
    let obstacle = daemon.data_dir().join("tables/blocked");
    std::fs::create_dir_all(obstacle.parent().unwrap()).unwrap();
    std::fs::write(&obstacle, "a file where the table's directory should be").unwrap();
    let receipt = daemon.post("name=blocked", EVENT).receipt();
    let staged = eventually("a failed attempt", || {
        let staged = get(&daemon, "/admin/v1/staged")["staged"].clone();
        staged[0]["last_error"].is_string().then_some(staged)
    });
    assert_eq!((&staged[0]["stream"], &staged[0]["state"]), (&json!("blocked"), &json!("staged")));
    assert_eq!((&staged[0]["rows"], &staged[0]["first_lsn"]), (&json!(1), &json!(receipt)));
    assert!(staged[0]["attempts"].as_u64() >= Some(1), "{staged}");
    let status = get(&daemon, "/admin/v1/status");
    assert_eq!(status["staged"]["files"], 1);
    assert!(
        status["watermarks"]["published"].as_u64() < status["watermarks"]["checkpoint"].as_u64(),
        "{status}"
    );
    assert!(count(&daemon, "forebay_compactor_publish_errors_total") >= 1);
    // Other streams are not delayed.
    assert_eq!(daemon.post("name=free&wait=table", EVENT).status, 200);
    assert_eq!(daemon.admin_post("/admin/v1/publish?stream=free").status, 200);
    std::fs::remove_file(&obstacle).unwrap();
    eventually("the publication", || (get(&daemon, "/admin/v1/staged")["staged"] == json!([])).then_some(()));
    assert_eq!(daemon.rows("blocked").len(), 1);
}

#[test]
fn drain_ends_the_daemon_when_everything_is_answered_and_published() {
    let daemon = Daemon::dev();
    daemon.post("name=e", EVENT);
    let mut pending = Wire::connect(daemon.ingest);
    let headers = format!("expect: 100-continue\r\ncontent-length: {}\r\n\r\n", EVENT.len());
    pending.send(head("name=e", &headers));
    assert_eq!(pending.response().status, 100);
    let drain = daemon.admin_post("/admin/v1/drain");
    assert_eq!((drain.status, drain.json()), (202, json!({"draining": true})));
    let readiness = eventually("the daemon is not ready any more", || {
        let readiness = daemon.get("/readyz");
        (readiness.status == 503).then_some(readiness)
    });
    assert_eq!(readiness.json(), json!({"ready": false, "reason": "draining"}));
    assert_eq!(daemon.get("/healthz").status, 200);
    eventually("the daemon refuses connections", || TcpStream::connect(daemon.ingest).is_err().then_some(()));
    pending.send(EVENT);
    assert_eq!(pending.response().status, 202);
    let tables = daemon.data_dir().join("tables/e");
    let ended = daemon.wait();
    assert!(ended.status.success(), "{}", ended.log);
    assert!(ended.log.contains("nothing is left to recover or publish"), "{}", ended.log);
    assert_eq!(crate::support::read_table(&tables).len(), 2);
}
