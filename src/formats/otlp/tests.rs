//! Both encodings yield the same records; anything else is an error.

use super::{DecodeError, OtlpEncoding, OtlpRecords, OtlpSignal, records};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use serde_json::{Value, json};

const BYTES_MAX: usize = 1 << 20;

fn parsed(records: &OtlpRecords) -> Vec<Value> {
    records.iter().map(|record| serde_json::from_slice(record).unwrap()).collect()
}

/// The records of an export in JSON; checks that its protobuf encoding yields the same.
fn both<T: Message + Default + serde::de::DeserializeOwned>(
    signal: OtlpSignal,
    export: &Value,
) -> Vec<Value> {
    let message: T = serde_json::from_value(export.clone()).unwrap();
    let protobuf = records(signal, OtlpEncoding::Protobuf, &message.encode_to_vec(), BYTES_MAX).unwrap();
    let json = records(signal, OtlpEncoding::Json, export.to_string().as_bytes(), BYTES_MAX).unwrap();
    assert_eq!(parsed(&protobuf), parsed(&json));
    parsed(&json)
}

fn resource() -> Value {
    json!({"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]})
}

fn scope() -> Value {
    json!({"name": "lib", "version": "1.0"})
}

fn with_context(mut record: Value) -> Value {
    record["resource"] = json!({"service.name": "shop"});
    record["scope"] = json!({"name": "lib", "version": "1.0", "attributes": {}});
    record
}

#[test]
fn a_log_record() {
    let log = json!({
        "timeUnixNano": "1704067200000000001",
        "observedTimeUnixNano": "1704067200500000000",
        "severityNumber": 9,
        "severityText": "INFO",
        "body": {"kvlistValue": {"values": [
            {"key": "s", "value": {"stringValue": "a\"b\n"}},
            {"key": "b", "value": {"boolValue": true}},
            {"key": "i", "value": {"intValue": "-9223372036854775808"}},
            {"key": "d", "value": {"doubleValue": 0.5}},
            {"key": "x", "value": {"bytesValue": "AAE="}},
            {"key": "a", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "z"}]}}},
            {"key": "n", "value": {}},
        ]}},
        "flags": 1,
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "attributes": [{"key": "http.method", "value": {"stringValue": "GET"}}],
    });
    let export = json!({"resourceLogs": [{
        "resource": resource(),
        "scopeLogs": [{"scope": scope(), "logRecords": [log, {}]}],
    }]});
    let found = both::<ExportLogsServiceRequest>(OtlpSignal::Logs, &export);
    let expected = with_context(json!({
        "timestamp": "2024-01-01T00:00:00.000000001Z",
        "observed_timestamp": "2024-01-01T00:00:00.500000000Z",
        "severity_number": 9,
        "severity_text": "INFO",
        "body": {
            "s": "a\"b\n", "b": true, "i": i64::MIN, "d": 0.5, "x": "AAE=", "a": [1, "z"], "n": null,
        },
        "flags": 1,
        "trace_id": "5b8efff798038103d269b633813fc60c",
        "span_id": "eee19b7ec3c1b174",
        "event_name": "",
        "attributes": {"http.method": "GET"},
    }));
    assert_eq!(found[0], expected);
    assert_eq!((&found[1]["timestamp"], &found[1]["body"]), (&Value::Null, &Value::Null));
}

#[test]
fn data_points_of_every_kind_of_metric() {
    let at = "1704067200000000000";
    let export = json!({"resourceMetrics": [{"resource": resource(), "scopeMetrics": [{"scope": scope(), "metrics": [
        {"name": "g", "unit": "C", "gauge": {"dataPoints": [{"timeUnixNano": at, "asDouble": 21.5}]}},
        {"name": "s", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
            {"timeUnixNano": at, "asInt": "7"}, {"timeUnixNano": at, "asInt": "8"},
        ]}},
        {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [{
            "timeUnixNano": at, "count": "3", "sum": 6.0, "min": 1.0, "max": 3.0,
            "bucketCounts": ["1", "2"], "explicitBounds": [1.5],
        }]}},
        {"name": "e", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [{
            "timeUnixNano": at, "count": "3", "scale": 2, "zeroCount": "1",
            "positive": {"offset": 1, "bucketCounts": ["2"]},
        }]}},
        {"name": "q", "summary": {"dataPoints": [{
            "timeUnixNano": at, "count": "3", "sum": 6.0, "quantileValues": [{"quantile": 0.5, "value": 2.0}],
        }]}},
    ]}]}]});
    let found = both::<ExportMetricsServiceRequest>(OtlpSignal::Metrics, &export);
    let shown = |n: usize, keys: &[&str]| -> Vec<Value> {
        keys.iter()
            .map(|key| found[n].get(key).unwrap_or_else(|| panic!("{key} is missing")).clone())
            .collect()
    };
    let of = |n| shown(n, &["name", "type", "aggregation_temporality", "is_monotonic", "value"]);
    assert_eq!(found.len(), 6);
    assert_eq!(of(0), [json!("g"), json!("gauge"), Value::Null, Value::Null, json!(21.5)]);
    assert_eq!(of(1), [json!("s"), json!("sum"), json!("cumulative"), json!(true), json!(7)]);
    assert_eq!(found[2]["value"], 8);
    assert_eq!(of(3), [json!("h"), json!("histogram"), json!("delta"), Value::Null, Value::Null]);
    let sums = shown(3, &["count", "sum", "min", "max", "bucket_counts", "explicit_bounds"]);
    assert_eq!(sums, [json!(3), json!(6.0), json!(1.0), json!(3.0), json!([1, 2]), json!([1.5])]);
    let exponential = shown(4, &["scale", "zero_count", "positive", "negative", "sum"]);
    let positive = json!({"offset": 1, "bucket_counts": [2]});
    assert_eq!(exponential, [json!(2), json!(1), positive, Value::Null, Value::Null]);
    assert_eq!(found[5]["quantile_values"], json!([{"quantile": 0.5, "value": 2.0}]));
    for record in &found {
        assert_eq!(record.as_object().unwrap().len(), 26, "{record}");
        assert_eq!(record["timestamp"], "2024-01-01T00:00:00.000000000Z");
        assert_eq!(record["resource"], json!({"service.name": "shop"}));
    }
}

#[test]
fn a_span() {
    let span = json!({
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "parentSpanId": "eee19b7ec3c1b173",
        "name": "GET /",
        "kind": 2,
        "startTimeUnixNano": "1704067200000000000",
        "endTimeUnixNano": "1704067200000001500",
        "attributes": [],
        "events": [{"timeUnixNano": "1704067200000000001", "name": "retry"}],
        "links": [{"traceId": "5b8efff798038103d269b633813fc60d", "spanId": "eee19b7ec3c1b175"}],
        "status": {"code": 2, "message": "no"},
    });
    let export = json!({"resourceSpans": [{
        "resource": resource(),
        "scopeSpans": [{"scope": scope(), "spans": [span]}],
    }]});
    let found = both::<ExportTraceServiceRequest>(OtlpSignal::Traces, &export);
    let expected = with_context(json!({
        "trace_id": "5b8efff798038103d269b633813fc60c",
        "span_id": "eee19b7ec3c1b174",
        "parent_span_id": "eee19b7ec3c1b173",
        "trace_state": "",
        "flags": 0,
        "name": "GET /",
        "kind": "server",
        "start_timestamp": "2024-01-01T00:00:00.000000000Z",
        "end_timestamp": "2024-01-01T00:00:00.000001500Z",
        "duration_ns": 1500,
        "status_code": "error",
        "status_message": "no",
        "events": [{"timestamp": "2024-01-01T00:00:00.000000001Z", "name": "retry", "attributes": {}}],
        "links": [{
            "trace_id": "5b8efff798038103d269b633813fc60d",
            "span_id": "eee19b7ec3c1b175",
            "trace_state": "",
            "attributes": {},
        }],
        "attributes": {},
    }));
    assert_eq!(found, [expected]);
}

#[test]
fn numbers_that_json_has_not_are_texts() {
    let export = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"summary": {"dataPoints": [{
        "sum": 1.0, "quantileValues": [{"quantile": 1.0, "value": "NaN"}, {"quantile": 1.0, "value": "-Infinity"}],
    }]}}]}]}]});
    let found = both::<ExportMetricsServiceRequest>(OtlpSignal::Metrics, &export);
    assert_eq!(found[0]["quantile_values"][0]["value"], "NaN");
    assert_eq!(found[0]["quantile_values"][1]["value"], "-Infinity");
}

fn error(signal: OtlpSignal, form: OtlpEncoding, body: &[u8]) -> String {
    records(signal, form, body, BYTES_MAX).unwrap_err().to_string()
}

#[test]
fn what_is_no_export_is_an_error() {
    let log = LogRecord { severity_text: "INFO".to_owned(), ..LogRecord::default() };
    let scoped = ScopeLogs { log_records: vec![log], ..ScopeLogs::default() };
    let group = ResourceLogs { scope_logs: vec![scoped], ..ResourceLogs::default() };
    let export = ExportLogsServiceRequest { resource_logs: vec![group] }.encode_to_vec();
    assert_eq!(records(OtlpSignal::Logs, OtlpEncoding::Protobuf, &export, BYTES_MAX).unwrap().len(), 1);
    for len in 1..export.len() {
        error(OtlpSignal::Logs, OtlpEncoding::Protobuf, &export[..len]);
    }
    error(OtlpSignal::Logs, OtlpEncoding::Protobuf, b"{\"resourceLogs\":[]}");
    for bad in [
        "",
        "[1]",
        "{",
        "{\"resourceLogs\":1}",
        "{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[1]}]}]}",
    ] {
        assert!(error(OtlpSignal::Logs, OtlpEncoding::Json, bad.as_bytes()).contains("JSON"), "{bad}");
    }
    let other = error(OtlpSignal::Metrics, OtlpEncoding::Json, br#"{"resourceLogs":[{}]}"#);
    assert_eq!(other, "the body is an export of logs, expected metrics");
    for signal in OtlpSignal::ALL {
        assert!(records(signal, OtlpEncoding::Protobuf, b"", BYTES_MAX).unwrap().is_empty());
        assert!(records(signal, OtlpEncoding::Json, b"{}", BYTES_MAX).unwrap().is_empty());
    }
}

#[test]
fn what_is_nested_too_deep_is_an_error_and_not_the_end_of_the_stack() {
    // Wrapped by hand: the encoder itself is recursive.
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        for field in [0x0a_u8, 0x2a] {
            let mut outer = vec![field];
            prost::encoding::encode_varint(deep.len() as u64, &mut outer);
            outer.extend_from_slice(&deep);
            deep = outer;
        }
        if deep.len() > 60_000 {
            break;
        }
    }
    for field in [0x2a_u8, 0x12, 0x12, 0x0a] {
        let mut outer = vec![field];
        prost::encoding::encode_varint(deep.len() as u64, &mut outer);
        outer.extend_from_slice(&deep);
        deep = outer;
    }
    assert!(error(OtlpSignal::Logs, OtlpEncoding::Protobuf, &deep).contains("recursion limit"));
    let deep = ["{\"arrayValue\":{\"values\":[".repeat(10_000), "]}}".repeat(10_000)].concat();
    let json = format!("{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{\"body\":{deep}}}]}}]}}]}}");
    let error = error(OtlpSignal::Logs, OtlpEncoding::Json, json.as_bytes());
    assert!(error.contains("recursion limit"), "{error}");
}

#[test]
fn a_resource_in_each_of_many_records_does_not_fill_the_memory() {
    let mut export = json!({"resourceLogs": [{"resource": {"attributes": [
        {"key": "k", "value": {"stringValue": "x".repeat(1000)}},
    ]}, "scopeLogs": [{"logRecords": []}]}]});
    let records_of = |n: usize, export: &mut Value| {
        export["resourceLogs"][0]["scopeLogs"][0]["logRecords"] = vec![json!({}); n].into();
        records(OtlpSignal::Logs, OtlpEncoding::Json, export.to_string().as_bytes(), BYTES_MAX)
    };
    assert_eq!(records_of(100, &mut export).unwrap().len(), 100);
    let error = records_of(10_000, &mut export).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { bytes_max: BYTES_MAX }), "{error}");
}

#[test]
fn the_form_follows_from_the_content_type() {
    for (content_type, form) in [
        ("application/x-protobuf", Some(OtlpEncoding::Protobuf)),
        ("Application/Protobuf", Some(OtlpEncoding::Protobuf)),
        ("application/json; charset=utf-8", Some(OtlpEncoding::Json)),
        ("text/plain", None),
        ("", None),
    ] {
        assert_eq!(OtlpEncoding::from_content_type(content_type), form, "{content_type}");
    }
}
