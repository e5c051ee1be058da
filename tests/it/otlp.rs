//! OpenTelemetry exports to a source of Keboola's Stream API.

use crate::keboola_stream::{call, get, path_of, refused, sink, sink_body, source, task};
use crate::support::{Daemon, Response, Setup, connect, eventually, read_response, request};
use crate::wire::Wire;
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

const SOURCES: &str = "/v1/branches/default/sources";
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// A daemon with a source `o`, and the path of its address.
fn daemon() -> (Daemon, String, String) {
    let daemon = Daemon::dev();
    let made = source(&daemon, "otlp", "o");
    let otlp = &made["otlp"];
    let secret = otlp["secret"].as_str().unwrap().to_owned();
    let url = otlp["url"].as_str().unwrap();
    assert_eq!(url, format!("{}/{secret}", otlp["baseUrl"].as_str().unwrap()));
    assert!(made.get("http").is_none());
    let path = url[url.find("/otlp/").unwrap()..].to_owned();
    (daemon, path, secret)
}

fn post(daemon: &Daemon, path: &str, content_type: &str, body: &[u8]) -> Response {
    request(daemon.ingest, "POST", path, &[("content-type", content_type)], body)
}

fn export(records: Vec<LogRecord>) -> Vec<u8> {
    let scoped = ScopeLogs { log_records: records, ..ScopeLogs::default() };
    let group = ResourceLogs { scope_logs: vec![scoped], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![group] }.encode_to_vec()
}

fn log(text: &str) -> LogRecord {
    let value = any_value::Value::StringValue(text.to_owned());
    LogRecord { body: Some(AnyValue { value: Some(value) }), severity_number: 9, ..LogRecord::default() }
}

fn body_column() -> Value {
    json!([{"type": "path", "name": "text", "path": "body", "rawString": true}])
}

#[test]
fn each_record_is_a_row_of_the_sinks_for_its_signal() {
    let (daemon, path, secret) = daemon();
    sink(&daemon, "o", "everything", "in.c-o.all", json!([{"type": "body", "name": "record"}]));
    for signal in ["logs", "metrics", "traces"] {
        let mut body =
            sink_body(signal, &format!("in.c-o.{signal}"), json!([{"type": "body", "name": "record"}]));
        body["allowedSignals"] = json!([signal]);
        task(&daemon, "POST", &format!("{SOURCES}/o/sinks"), &body);
    }
    assert_eq!(get(&daemon, &format!("{SOURCES}/o/sinks/logs"))["allowedSignals"], json!(["logs"]));
    let sent = post(&daemon, &format!("{path}/v1/logs"), PROTOBUF, &export(vec![log("one"), log("two")]));
    assert_eq!((sent.status, sent.header("content-type")), (200, Some(PROTOBUF)), "{}", sent.text());
    assert!(ExportLogsServiceResponse::decode(&sent.body[..]).unwrap().partial_success.is_none());
    // The secret may be in the header, and the body compressed.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "m", "sum": {"dataPoints": [{"asInt": "1"}, {"asInt": "2"}, {"asInt": "3"}]}},
    ]}]}]});
    gzip.write_all(metrics.to_string().as_bytes()).unwrap();
    let base = path.strip_suffix(&format!("/{secret}")).unwrap();
    let authorization = format!("bEaReR {secret}");
    let headers = [("content-type", JSON), ("content-encoding", "gzip"), ("authorization", &authorization)];
    let sent =
        request(daemon.ingest, "POST", &format!("{base}/v1/metrics"), &headers, &gzip.finish().unwrap());
    assert_eq!((sent.status, sent.json()), (200, json!({})));
    let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "s"}]}]}]});
    let sent = post(&daemon, &format!("{path}/v1/traces"), JSON, spans.to_string().as_bytes());
    assert_eq!((sent.status, sent.header("content-type")), (200, Some(JSON)));
    let records = |table: &str| -> Vec<Value> {
        let rows = daemon.rows(table);
        rows.iter().map(|row| serde_json::from_str(row["record"].as_str().unwrap()).unwrap()).collect()
    };
    let logs = records("in.c-o.logs");
    assert_eq!((logs.len(), &logs[1]["body"], &logs[1]["severity_number"]), (2, &json!("two"), &json!(9)));
    let values: Vec<Value> = records("in.c-o.metrics").iter().map(|record| record["value"].clone()).collect();
    assert_eq!(values, [1, 2, 3]);
    assert_eq!(records("in.c-o.traces")[0]["name"], "s");
    assert_eq!(records("in.c-o.all").len(), 6);
}

#[test]
fn failed_records_are_reported_and_the_others_stored() {
    let (daemon, path, _) = daemon();
    let columns = json!([
        {"type": "path", "name": "user", "path": "body.user"},
        {"type": "headers", "name": "headers"},
    ]);
    sink(&daemon, "o", "k", "in.c-o.t", columns);
    let record = |value: Value| json!({"body": value});
    let user = json!({"kvlistValue": {"values": [{"key": "user", "value": {"stringValue": "u"}}]}});
    let export = |records: Vec<Value>| {
        json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).to_string().into_bytes()
    };
    let text = json!({"stringValue": "x"});
    let some = export(vec![record(user.clone()), record(text.clone()), record(user), record(text.clone())]);
    let logs = format!("{path}/v1/logs");
    let headers = [("content-type", JSON), ("authorization", "Bearer secret"), ("x-kept", "yes")];
    let sent = request(daemon.ingest, "POST", &logs, &headers, &some);
    let partial = &sent.json()["partialSuccess"];
    assert_eq!((sent.status, &partial["rejectedLogRecords"]), (200, &json!("2")));
    let message = partial["errorMessage"].as_str().unwrap();
    assert!(message.contains("path \"body.user\" not found in the body"), "{message}");
    let rows = daemon.rows("in.c-o.t");
    assert_eq!((rows.len(), &rows[0]["user"]), (2, &json!("\"u\"")));
    let headers = rows[0]["headers"].as_str().unwrap();
    assert!(headers.contains("X-Kept") && !headers.contains("secret"), "{headers}");
    let none = post(&daemon, &logs, JSON, &export(vec![record(text.clone()), record(text)]));
    assert_eq!(refused(&none).0, 422);
    assert_eq!(daemon.rows("in.c-o.t").len(), 2);
}

#[test]
fn a_wrong_secret_is_refused_regardless_of_the_body() {
    let (daemon, path, secret) = daemon();
    let base = path.strip_suffix(&format!("/{secret}")).unwrap();
    for path in [format!("{base}/v1/logs"), format!("{base}/{}/v1/logs", "x".repeat(48))] {
        let answer = post(&daemon, &path, JSON, b"not an export");
        assert_eq!(refused(&answer).1, "stream.in.noSourceFound");
        let answer = post(&daemon, &path, PROTOBUF, b"not an export");
        assert_eq!((answer.status, answer.header("content-type")), (404, Some(PROTOBUF)));
        assert_eq!(answer.body[..2], [0x08, 5], "the status must have the code NOT_FOUND");
    }
    // Each kind of source refuses the requests for the other kind.
    let other = format!("/stream/1/o/{secret}");
    assert_eq!(post(&daemon, &other, JSON, b"{}").status, 404);
    let http = source(&daemon, "http", "h");
    let url = http["http"]["url"].as_str().unwrap();
    let secret = url.rsplit('/').next().unwrap();
    assert_eq!(post(&daemon, &format!("/otlp/1/h/{secret}/v1/logs"), JSON, b"{}").status, 404);
    let route = post(&daemon, &format!("{path}/v1/profiles"), JSON, b"{}");
    assert_eq!(refused(&route).1, "stream.in.routeNotFound");
    call(&daemon, "PUT", &format!("{SOURCES}/o/disable"), &Value::Null);
    let answer = post(&daemon, &format!("{path}/v1/logs"), JSON, b"{}");
    assert_eq!(refused(&answer).1, "stream.in.disabledSource");
}

#[test]
fn expect_continue_is_refused_before_the_body() {
    let (daemon, path, secret) = daemon();
    sink(&daemon, "o", "k", "in.c-o.t", body_column());
    let base = path.strip_suffix(&format!("/{secret}")).unwrap();
    let body = export(vec![log("one")]);
    let ask = |path: &str, headers: &str| {
        let mut wire = Wire::connect(daemon.ingest);
        let length = body.len();
        wire.send(format!(
            "POST {path}/v1/logs HTTP/1.1\r\nhost: h\r\n{headers}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        ));
        let answer = wire.response();
        (wire, answer)
    };
    let json = "content-type: application/json\r\n";
    let protobuf = format!("content-type: {PROTOBUF}\r\n");
    let wrong = format!("{base}/{}", "x".repeat(48));
    let bearer = format!("{json}authorization: Bearer {}\r\n", "x".repeat(48));
    for (path, headers) in [(wrong.as_str(), json), (base, json), (base, &bearer)] {
        let (mut wire, answer) = ask(path, headers);
        assert_eq!(refused(&answer).1, "stream.in.noSourceFound");
        assert!(wire.is_closed(), "the daemon must not wait for the body");
    }
    let (_, answer) = ask(&wrong, &protobuf);
    assert_eq!((answer.status, answer.header("content-type")), (404, Some(PROTOBUF)));
    let (_, answer) = ask(&path, "content-type: text/plain\r\n");
    assert_eq!(refused(&answer).1, "stream.in.unsupportedMediaType");
    for (path, headers) in
        [(path.as_str(), protobuf.clone()), (base, format!("{protobuf}authorization: Bearer {secret}\r\n"))]
    {
        let (mut wire, answer) = ask(path, &headers);
        assert_eq!(answer.status, 100, "{}", answer.text());
        wire.send(&body);
        assert_eq!(wire.response().status, 200);
    }
    assert_eq!(daemon.rows("in.c-o.t").len(), 2);
    task(&daemon, "PUT", &format!("{SOURCES}/o/disable"), &Value::Null);
    let (_, answer) = ask(&path, json);
    assert_eq!(refused(&answer).1, "stream.in.disabledSource");
}

#[test]
fn exports_over_the_limit_are_refused_before_they_are_sent() {
    let daemon = Setup::dev("[limits.keboola_stream]\nrequests_per_second = 1\n").start();
    let made = source(&daemon, "otlp", "o");
    let logs = format!("{}/v1/logs", path_of(&made["otlp"]["url"]));
    // Empty exports count as well.
    let limited = eventually("a refusal over the limit", || {
        Some(post(&daemon, &logs, PROTOBUF, b"")).filter(|answer| answer.status == 429)
    });
    assert_eq!((limited.header("retry-after"), limited.body[..2].to_vec()), (Some("1"), vec![0x08, 8]));
    let refused_one = eventually("a refusal without a body", || {
        let mut wire = Wire::connect(daemon.ingest);
        let head =
            "host: h\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
        wire.send(format!("POST {logs} HTTP/1.1\r\n{head}"));
        Some(wire.response()).filter(|answer| answer.status == 429)
    });
    assert_eq!(refused(&refused_one).1, "stream.in.tooManyRequests");
}

#[test]
fn invalid_exports_are_refused() {
    let (daemon, path, _) = daemon();
    sink(&daemon, "o", "k", "in.c-o.t", body_column());
    let logs = format!("{path}/v1/logs");
    let whole = export(vec![log("one"), log("two")]);
    let deep = "{\"arrayValue\":{\"values\":[".repeat(10_000);
    let deep = format!("{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{\"body\":{deep}");
    for (what, content_type, body) in [
        ("truncated", PROTOBUF, &whole[..whole.len() - 3]),
        ("JSON as protobuf", PROTOBUF, b"{\"resourceLogs\": []}"),
        ("deep", JSON, deep.as_bytes()),
        ("no JSON", JSON, b"{"),
        ("another signal", JSON, b"{\"resourceSpans\": [{}]}"),
        ("empty JSON", JSON, b""),
    ] {
        let answer = post(&daemon, &logs, content_type, body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    }
    for content_type in ["text/plain", ""] {
        let answer = post(&daemon, &logs, content_type, &whole);
        assert_eq!(refused(&answer).1, "stream.in.unsupportedMediaType");
    }
    let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    assert_eq!(request(daemon.ingest, "POST", &logs, &headers, b"not gzip").status, 400);
    assert_eq!(post(&daemon, &logs, PROTOBUF, b"").status, 200, "an export of nothing");
    assert_eq!(daemon.rows("in.c-o.t").len(), 0);
    assert_eq!(post(&daemon, &logs, PROTOBUF, &whole).status, 200);
    assert_eq!(daemon.rows("in.c-o.t").len(), 2);
}

#[test]
fn a_hundred_thousand_records_in_one_export() {
    let (daemon, path, _) = daemon();
    sink(&daemon, "o", "k", "in.c-o.t", body_column());
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&export(vec![log("x"); 100_000])).unwrap();
    let body = gzip.finish().unwrap();
    // A longer timeout than for other requests: without optimization, this is a lot of work.
    let mut stream = connect(daemon.ingest);
    stream.set_read_timeout(Some(Duration::from_mins(3))).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path}/v1/logs HTTP/1.1\r\nhost: h\r\ncontent-type: {PROTOBUF}\r\ncontent-encoding: gzip\r\n\
         content-length: {length}\r\n\r\n"
    )
    .unwrap();
    stream.write_all(&body).unwrap();
    let sent = read_response(&mut stream);
    assert_eq!(sent.status, 200, "{}", sent.text());
    assert_eq!(daemon.rows("in.c-o.t").len(), 100_000);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().split(' ').next().unwrap().parse().unwrap();
    assert!(kilobytes < 1 << 20, "{kilobytes} KiB of memory");
}

#[test]
fn a_test_call_shows_the_rows_of_an_export() {
    let (daemon, ..) = daemon();
    sink(&daemon, "o", "k", "in.c-o.t", body_column());
    let export = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [
        {"body": {"stringValue": "one"}}, {"body": {"stringValue": "two"}},
    ]}]}]});
    let shown = call(&daemon, "POST", &format!("{SOURCES}/o/test?signal=logs"), &export);
    let row = |value: &str| json!({"columns": [{"name": "text", "value": value}]});
    assert_eq!(shown.json()["tables"][0]["rows"], json!([row("one"), row("two")]), "{}", shown.text());
    let wrong = call(&daemon, "POST", &format!("{SOURCES}/o/test?signal=profiles"), &export);
    assert_eq!(refused(&wrong).1, "stream.api.invalidEnumValue");
}
