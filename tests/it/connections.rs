//! Connections: refusals, timeouts, and both HTTP versions.

use crate::support::{Daemon, Setup, eventually, request};
use crate::wire::{Wire, count, event, head, post_chunked, refusals, streams};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::time::Duration;

const EVENT: &str = r#"{"city":"Chicago"}"#;

#[test]
fn every_method_and_path_is_answered() {
    let daemon = Daemon::dev();
    let answers = [
        ("POST", "/v0/events?name=e", 202),
        ("POST", "/v0/events/?name=e", 202),
        ("HEAD", "/v0/events", 200),
        ("HEAD", "/v0/events?name=e", 200),
        ("GET", "/v0/events?name=e", 405),
        ("PUT", "/v0/events?name=e", 405),
        ("DELETE", "/v0/events?name=e", 405),
        ("PATCH", "/v0/events?name=e", 405),
        ("POST", "/v0/events", 400),
        ("POST", "/v0/events?name=", 400),
        ("POST", "/v0/events?nam=e", 400),
        ("POST", "/v0/events?name=a&name=b", 400),
        ("POST", "/v0/events?name=e&format=csv", 400),
        ("POST", "/nothing", 404),
        ("GET", "/nothing", 404),
        ("POST", "/v0/event?name=e", 404),
        ("POST", "/v0/events/x?name=e", 404),
        ("POST", "/v0/EVENTS?name=e", 404),
        ("GET", "/metrics", 404),
        ("GET", "/admin/v1/status", 404),
    ];
    for (method, path, status) in answers {
        let response = request(daemon.ingest, method, path, &[], EVENT.as_bytes());
        assert_eq!(response.status, status, "{method} {path}: {}", response.text());
        match status {
            200 => assert_eq!(response.body, b"", "{method} {path}"),
            202 => assert_eq!(response.counts(), (1, 0)),
            _ => assert!(response.json()["error"].is_string(), "{method} {path}"),
        }
        let allow = (status == 405).then_some("POST, OPTIONS, HEAD");
        assert_eq!(response.header("allow"), allow, "{method} {path}");
        assert_eq!(response.header("retry-after"), None, "{method} {path}");
    }
    let refused = |status| answers.iter().filter(|(.., answer)| *answer == status).count() as u64;
    assert_eq!(refusals(&daemon, "method_not_allowed"), refused(405));
    assert_eq!(refusals(&daemon, "malformed"), refused(400));
    assert_eq!(refusals(&daemon, "no_such_route"), refused(404));
    let counted = count(&daemon, "forebay_http_responses_total");
    assert_eq!(counted, answers.len() as u64);
    assert_eq!((streams(&daemon), daemon.rows("e").len()), (vec!["e".to_owned()], 2));
}

#[test]
fn connections_are_reused_and_requests_may_be_pipelined() {
    let daemon = Daemon::dev();
    let mut wire = Wire::connect(daemon.ingest);
    let ahead: String = (0..50).map(|n| event("name=e", &format!("{{\"n\":{n}}}"))).collect();
    wire.send(ahead);
    let receipts: Vec<u64> = (0..50)
        .map(|n| {
            let response = wire.response();
            assert_eq!((response.status, response.counts()), (202, (1, 0)), "request {n}");
            response.receipt()
        })
        .collect();
    assert!(receipts.is_sorted(), "{receipts:?}");
    // After a refusal whose body was read, the connection stays usable.
    wire.send(event("name=e", "no record"));
    assert_eq!(wire.response().status, 400);
    wire.send(event("name=e&wait=true", "{\"n\":50}"));
    assert_eq!(wire.response().status, 200);
    // A request in two parts, split within the head.
    let (first, second) = (event("name=e", "{\"n\":51}"), event("name=e", "{\"n\":52}"));
    wire.send([first.as_str(), &second[..30]].concat());
    assert_eq!(wire.response().status, 202);
    wire.send(&second[30..]);
    assert_eq!(wire.response().status, 202);
    let numbers: Vec<_> = daemon.rows("e").iter().map(|row| row["n"].clone()).collect();
    assert_eq!(json!(numbers), json!((0..53).collect::<Vec<_>>()));
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let daemon = Daemon::dev();
    let ask = |query: &str, extra: &str, bytes: usize| {
        let mut wire = Wire::connect(daemon.ingest);
        let headers = format!("expect: 100-continue\r\n{extra}content-length: {bytes}\r\n\r\n");
        wire.send(head(query, &headers));
        wire
    };
    let mut wire = ask("name=e", "", EVENT.len());
    assert_eq!(wire.response().status, 100);
    wire.send(EVENT);
    assert_eq!(wire.response().status, 202);
    for (query, extra, bytes, status) in [
        ("name=e", "", (10 << 20) + 1, 413),
        ("name=e", "content-encoding: snappy\r\n", 10, 415),
        ("name=a%2Fb", "", 10, 400),
    ] {
        let mut wire = ask(query, extra, bytes);
        let refused = wire.response();
        assert_eq!(refused.status, status, "{}", refused.text());
    }
    assert_eq!(daemon.rows("e").len(), 1);
}

#[test]
fn a_late_body_is_408_after_body_timeout() {
    let daemon = Setup::dev("[server]\nbody_timeout = \"300ms\"").start();
    let mut never = Wire::connect(daemon.ingest);
    never.send(head("name=e", "content-length: 100\r\n\r\n{\"city\":"));
    let mut chunks = Wire::connect(daemon.ingest);
    chunks.send(head("name=e", "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"));
    // Sending a byte now and then does not extend the timeout.
    let mut drips = Wire::connect(daemon.ingest);
    drips.send(head("name=e", "content-length: 100000\r\n\r\n"));
    eventually("the refusal of a slowly sent body", || {
        let open = drips.try_send(" ");
        (drips.has_answer() || !open).then_some(())
    });
    for wire in [&mut never, &mut chunks, &mut drips] {
        let refused = wire.response();
        assert_eq!(refused.status, 408, "{}", refused.text());
        assert!(refused.json()["error"].as_str().unwrap().contains("300ms"), "{}", refused.text());
        assert_eq!(refused.header("connection"), Some("close"));
        assert!(wire.is_closed());
    }
    assert_eq!(refusals(&daemon, "too_slow"), 3);
    assert_eq!(streams(&daemon), Vec::<String>::new());
    // Sent at once: a client that pauses between head and body may be too slow for this daemon.
    let mut quick = Wire::connect(daemon.ingest);
    quick.send(event("name=e", EVENT));
    assert_eq!(quick.response().status, 202);
}

#[test]
fn a_client_that_disconnects_during_its_body_stores_nothing() {
    let daemon = Daemon::dev();
    let mut wire = Wire::connect(daemon.ingest);
    wire.send(head("name=e", "content-length: 100\r\n\r\n{\"city\":\"Chicago\"}\n{"));
    drop(wire);
    eventually("the end of the request", || (refusals(&daemon, "malformed") == 1).then_some(()));
    assert_eq!(streams(&daemon), Vec::<String>::new());
}

#[test]
fn a_late_head_is_408_after_header_timeout() {
    let daemon = Setup::dev("[server]\nheader_timeout = \"300ms\"").start();
    let mut stuck = Wire::connect(daemon.ingest);
    stuck.send("POST /v0/events?name=e HTTP/1.1\r\nhost: forebay\r\n");
    let mut second = Wire::connect(daemon.ingest);
    second.send(event("name=e", EVENT));
    assert_eq!(second.response().status, 202);
    second.send("POST /v0/ev");
    let mut drips = Wire::connect(daemon.ingest);
    drips.send("POST /v0/events?name=e HTTP/1.1\r\nx: ");
    eventually("the refusal of a slowly sent head", || {
        let open = drips.try_send("y");
        (drips.has_answer() || !open).then_some(())
    });
    for wire in [&mut stuck, &mut second, &mut drips] {
        let refused = wire.response();
        assert_eq!(refused.status, 408, "{}", refused.text());
        assert!(refused.json()["error"].is_string());
        assert!(wire.is_closed());
    }
    assert_eq!(refusals(&daemon, "too_slow"), 3);
    // An idle connection is not a slow head.
    let mut idle = Wire::connect(daemon.ingest);
    std::thread::sleep(Duration::from_millis(900));
    idle.send(event("name=e", EVENT));
    assert_eq!(idle.response().status, 202);
}

#[test]
fn an_idle_connection_is_closed_without_a_response() {
    let daemon = Setup::dev("[server]\nidle_timeout = \"2s\"").start();
    let mut fresh = Wire::connect(daemon.ingest);
    let mut used = Wire::connect(daemon.ingest);
    used.send(event("name=e", EVENT));
    assert_eq!(used.response().status, 202);
    assert!(fresh.is_closed() && used.is_closed());
}

#[test]
fn garbage_is_refused_and_the_next_client_is_served() {
    let daemon = Daemon::dev();
    let rubbish: [&[u8]; 6] = [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v0/events?name=e HTTP/1.1\r\ncontent-length: five\r\n\r\n",
        b"POST /v0/events?name=e HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /v0/events?name=e HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /v0/events?name=\xff HTTP/9.9\r\n\r\n",
    ];
    for bytes in rubbish {
        let mut wire = Wire::connect(daemon.ingest);
        wire.send(bytes);
        assert_eq!(wire.response().status, 400, "{:?}", String::from_utf8_lossy(bytes));
        assert!(wire.is_closed());
    }
    assert_eq!(daemon.post("name=e", EVENT).status, 202);
    // The response may arrive before it is counted.
    eventually("the count", || (refusals(&daemon, "malformed") == rubbish.len() as u64).then_some(()));
}

#[test]
fn bodies_beyond_in_flight_max_are_refused_with_retry_after() {
    let limits =
        "[limits]\nbody_max = \"64KiB\"\nin_flight_max = \"100KiB\"\n[limits.polaris]\nbody_max = \"64KiB\"";
    let daemon = Setup::dev(limits).start();
    let big = format!("{{\"text\":\"{}\"}}", "x".repeat(60_000));
    let mut slow = Wire::connect(daemon.ingest);
    slow.send(head("name=e", &format!("expect: 100-continue\r\ncontent-length: {}\r\n\r\n", big.len())));
    assert_eq!(slow.response().status, 100, "the daemon receives the body");
    let refused = daemon.post("name=e", &big);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.json()["error"].as_str().unwrap().contains("too many request bodies"));
    assert!(refusals(&daemon, "full") == 1);
    // Small bodies are still accepted.
    assert_eq!(daemon.post("name=e", EVENT).status, 202);
    // A body without a length is counted as it arrives.
    let chunks = "transfer-encoding: chunked\r\n";
    assert_eq!(post_chunked(&daemon, "name=e", "", &[EVENT.as_bytes()]).status, 202);
    let mut growing = Wire::connect(daemon.ingest);
    growing.send(head("name=e", &format!("{chunks}\r\n")));
    for _ in 0..6 {
        growing.try_send(format!("2710\r\n{}\r\n", " ".repeat(10_000)));
    }
    let refused = growing.response();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.text());
    slow.send(&big);
    assert_eq!(slow.response().status, 202);
    eventually("room", || (daemon.post("name=e", &big).status == 202).then_some(()));
}

#[test]
fn connections_beyond_connections_max_are_refused_with_retry_after() {
    let daemon = Setup::dev("[server]\nconnections_max = 3").start();
    let mut open: Vec<Wire> = (0..3).map(|_| Wire::connect(daemon.ingest)).collect();
    let refused = {
        let mut wire = Wire::connect(daemon.ingest);
        wire.try_send(event("name=e", EVENT));
        let refused = wire.response();
        assert!(wire.is_closed());
        refused
    };
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.json()["error"].as_str().unwrap().contains("connections"), "{}", refused.text());
    assert_eq!(refusals(&daemon, "full"), 1);
    for wire in &mut open {
        wire.send(event("name=e", EVENT));
        assert_eq!(wire.response().status, 202);
    }
    open.pop();
    eventually("a place", || {
        let mut wire = Wire::connect(daemon.ingest);
        wire.try_send(event("name=e", EVENT));
        (wire.response().status == 202).then_some(())
    });
}

#[test]
fn http2_works_without_tls_by_prior_knowledge() {
    let config = "[server]\nheader_timeout = \"300ms\"\n[limits]\nbody_max = \"64KiB\"";
    let daemon = Setup::dev(config).start();
    let ingest = daemon.ingest;
    let client = async move {
        let stream = tokio::net::TcpStream::connect(ingest).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let post = |query: &str, encoding: &str, body: String| {
            let request = http::Request::post(format!("http://{ingest}/v0/events?{query}"));
            let request =
                request.header("content-encoding", encoding).body(Full::<bytes::Bytes>::from(body)).unwrap();
            let mut sender = sender.clone();
            async move {
                let response = sender.send_request(request).await.unwrap();
                let status = response.status().as_u16();
                (status, response.into_body().collect().await.unwrap().to_bytes())
            }
        };
        // Here and below, a pause without a request is not a slow head.
        tokio::time::sleep(Duration::from_millis(900)).await;
        let together = (0..100).map(|n| post("name=e", "identity", format!("{{\"n\":{n}}}")));
        let together: Vec<_> = together.map(tokio::spawn).collect();
        for answer in together {
            let (status, body) = answer.await.unwrap();
            assert_eq!((status, &body[..]), (202, &br#"{"successful_rows":1,"quarantined_rows":0}"#[..]));
        }
        assert_eq!(post("name=e&wait=true", "identity", EVENT.to_owned()).await.0, 200);
        assert_eq!(post("name=e&wait=table", "identity", EVENT.to_owned()).await.0, 200);
        // None of these closes the connection.
        assert_eq!(post("name=e", "snappy", EVENT.to_owned()).await.0, 415);
        assert_eq!(post("name=e", "identity", "x".repeat(65 << 10)).await.0, 413);
        assert_eq!(post("name=..", "identity", EVENT.to_owned()).await.0, 400);
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(post("name=e", "identity", EVENT.to_owned()).await.0, 202);
        assert!(!connection.is_finished());
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(client);
    assert_eq!(daemon.rows("e").len(), 103);
}
