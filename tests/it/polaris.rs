//! Imply Polaris' Events API: both paths, the meaning of 200, and bodies without events.

use crate::support::{Daemon, Response, Setup, fields, request};
use serde_json::{Value, json};

/// Pushes events to a table or connection, on the path of either generation of the contract.
pub fn push(daemon: &Daemon, path: &str, body: impl AsRef<[u8]>) -> Response {
    request(daemon.ingest, "POST", path, &[("content-type", "application/json")], body.as_ref())
}

fn assert_accepted(response: &Response) {
    assert_eq!((response.status, response.text().as_str()), (200, ""), "{response:?}");
    assert_eq!(response.header("content-length"), Some("0"));
}

fn message(response: &Response) -> String {
    response.json()["message"]
        .as_str()
        .unwrap_or_else(|| panic!("no message: {}", response.text()))
        .to_owned()
}

#[test]
fn both_paths_accept_events_with_an_empty_200() {
    let daemon = Daemon::dev();
    let events =
        "{\"__time\":\"2024-01-01T00:00:00Z\",\"a\":1}\n{\"__time\":\"2024-01-01T00:00:01Z\",\"a\":2}\n";
    assert_accepted(&push(&daemon, "/v1/events/old", events));
    assert_accepted(&push(&daemon, "/v1/projects/p1/events/new", events));
    for table in ["old", "new"] {
        let rows: Vec<Value> = daemon.rows(table).iter().map(|row| row["a"].clone()).collect();
        assert_eq!(rows, [1, 2], "{table}");
    }
    // The table's id works as well.
    let id = daemon.get("/admin/v1/streams/old").json()["id"].as_str().unwrap().to_owned();
    assert_accepted(&push(&daemon, &format!("/v1/events/{id}"), events));
    assert_eq!(daemon.rows("old").len(), 4);
}

#[test]
fn an_answered_event_is_durable_at_once() {
    // The next regular sync is a day away, so the request itself must have synced the log before the 200.
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("[wal]\nsync_interval = \"1d\"\n").start_at(dir.path());
    let response = push(&daemon, "/v1/events/t", "{\"__time\":\"2024-01-01T00:00:00Z\",\"a\":1}");
    assert_accepted(&response);
    let receipt = daemon.get(&format!("/admin/v1/receipts/{}", response.receipt())).json();
    assert_eq!(receipt["durable"], true, "{receipt}");
}

#[test]
fn invalid_json_is_accepted_and_quarantined() {
    let daemon = Daemon::dev();
    assert_accepted(&push(&daemon, "/v1/events/t", "not json"));
    assert_accepted(&push(&daemon, "/v1/events/t", "[{\"__time\":\"2024-01-01T00:00:00Z\"},\n{\"b\":"));
    assert_accepted(&push(&daemon, "/v1/events/t", [0x1f, 0x00, 0xff]));
    assert_eq!(daemon.rows("t"), Vec::<Value>::new());
    let quarantine = daemon.rows("t_quarantine");
    assert_eq!(quarantine.len(), 4, "{quarantine:?}");
    assert!(quarantine.iter().all(|row| row["reason"].is_string() && row["raw"].is_string()));
    assert_eq!(daemon.metric("forebay_http_quarantined_rows_total").to_string(), "4");
    // An empty body is an error of the sender, and there would be nothing to keep.
    for body in ["", "\n \r\n", "\u{feff}"] {
        let refused = push(&daemon, "/v1/events/t", body);
        assert_eq!((refused.status, refused.json()["code"].as_str()), (400, Some("BadRequest")), "{body:?}");
        assert_eq!(message(&refused), "The body has no records");
    }
}

#[test]
fn good_events_among_bad_ones_are_stored() {
    let daemon = Daemon::dev();
    let body = "\u{feff}{\"__time\":\"2024-01-01T00:00:00Z\",\"a\":1}\nnot json\n[1]\n\
                {\"__time\":\"2024-01-01T00:00:02Z\",\"a\":2}";
    assert_accepted(&push(&daemon, "/v1/projects/p/events/t", body));
    assert_eq!(daemon.rows("t").len(), 2);
    assert_eq!(daemon.rows("t_quarantine").len(), 2);
}

#[test]
fn a_dictionary_sent_as_a_form_is_one_event() {
    let daemon = Daemon::dev();
    let body = "__time=2024-01-01T00%3A00%3A00&price=1.5&name=Zo%C3%AB+K&zip=007";
    assert_accepted(&push(&daemon, "/v1/events/t", body));
    let rows = daemon.rows("t");
    assert_eq!(
        rows.iter().map(fields).collect::<Vec<_>>(),
        [json!({"__time": "2024-01-01T00:00:00Z", "price": 1.5, "name": "Zoë K", "zip": "007"})]
    );
}

#[test]
fn bodies_over_the_wire_limit_are_413() {
    let daemon = Daemon::dev();
    let event = format!("{{\"__time\":\"2024-01-01T00:00:00Z\",\"a\":\"{}\"}}", "x".repeat((1 << 20) - 40));
    assert_eq!(event.len(), 1 << 20);
    assert_accepted(&push(&daemon, "/v1/events/t", &event));
    let refused = push(&daemon, "/v1/events/t", format!("{event} "));
    assert_eq!((refused.status, message(&refused).as_str()), (413, "Request size limit exceeded"));
    assert_eq!(refused.header("retry-after"), None);
    // The limit does not apply to other contracts.
    assert_eq!(daemon.post("name=t", format!("{event} ")).status, 202);
    // The limit applies to the bytes on the wire, not to the decompressed body.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, format!("{event}\n{event}\n").as_bytes()).unwrap();
    let headers = [("content-encoding", "gzip")];
    let response = request(daemon.ingest, "POST", "/v1/events/t", &headers, &gzip.finish().unwrap());
    assert_accepted(&response);
    assert_eq!(daemon.rows("t").len(), 4);
}

#[test]
fn the_wire_limit_is_configurable() {
    let daemon = Setup::dev("[limits.polaris]\nbody_max = \"100B\"\n").start();
    let event = format!("{{\"__time\":\"2024-01-01T00:00:00Z\",\"a\":\"{}\"}}", "x".repeat(100));
    assert_eq!(push(&daemon, "/v1/events/t", event).status, 413);
}

#[test]
fn unknown_paths_are_answered_like_the_vendors_gateway() {
    let daemon = Daemon::dev();
    for (method, path) in [
        ("POST", "/v1/projects/p/nothing"),
        ("POST", "/v1/events"),
        ("POST", "/v1/events/t/u"),
        ("GET", "/v2/nothing"),
        ("POST", "/v1/events/%ff"),
    ] {
        let response = request(daemon.ingest, method, path, &[], b"");
        assert_eq!(response.status, 404, "{method} {path}");
        assert_eq!(response.json(), json!({"message": "no Route matched with those values"}));
    }
    let get = request(daemon.ingest, "GET", "/v1/events/t", &[], b"");
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!(message(&get), "method GET not allowed");
}

#[test]
fn a_table_that_does_not_exist_is_404_without_dev() {
    let daemon = Setup::with_config("").start();
    let event = "{\"__time\":\"2024-01-01T00:00:00Z\"}";
    let refused = push(&daemon, "/v1/events/t", event);
    assert_eq!((refused.status, refused.json()), (401, json!({"message": "Unauthorized"})));
    let none =
        request(daemon.ingest, "POST", "/v1/events/t", &[("authorization", "Bearer None")], event.as_bytes());
    assert_eq!((none.status, none.json()), (401, json!({"message": "Unauthorized"})));
    assert_eq!(none.header("retry-after"), None);
}
