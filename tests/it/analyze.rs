//! `POST /v0/analyze`: describes a sample.

use crate::datasources::{call, call_with};
use crate::support::Daemon;
use serde_json::json;

#[test]
fn a_sample_is_described_with_a_matching_schema() {
    let daemon = Daemon::dev();
    let sample = "{\"an_array\":[1,2,3],\"o\":{\"x\":70000,\"y\":null},\"at\":\"2024-01-01 00:00:00\"}\n\
                  {\"an_array\":[4],\"o\":{\"y\":\"t\"},\"at\":\"2024-01-01T00:00:00.123Z\",\"big\":5000000000}\n\
                  {\"an_array\":null,\"o\":{},\"at\":\"2024-01-01 00:00:00\",\"cut";
    let found = call(&daemon, "POST", "/v0/analyze", sample);
    assert_eq!(found.status, 200, "{}", found.text());
    let found = found.json();
    let columns: Vec<_> = found["analysis"]["columns"].as_array().unwrap().iter().collect();
    let names: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["an_array", "o_x", "o_y", "at", "big"], "in the order of first occurrence");
    assert_eq!(
        *columns[0],
        json!({"path": "$.an_array[:]", "recommended_type": "Array(Int16)", "present_pct": 1.0, "name": "an_array"})
    );
    assert_eq!((&columns[1]["recommended_type"], &columns[1]["present_pct"]), (&json!("Int32"), &json!(0.5)));
    let schema = found["analysis"]["schema"].as_str().unwrap();
    assert_eq!(
        schema,
        "an_array Array(Int16) `json:$.an_array[:]`, o_x Nullable(Int32) `json:$.o.x`, o_y Nullable(String) `json:$.o.y`, \
         at DateTime64(3) `json:$.at`, big Nullable(Int64) `json:$.big`"
    );
    assert_eq!(found["preview"]["meta"][0], json!({"name": "an_array", "type": "Array(Int16)"}));
    assert_eq!(
        found["preview"]["data"][0],
        json!({"an_array": [1, 2, 3], "o_x": 70000, "o_y": null, "at": "2024-01-01 00:00:00", "big": null})
    );
    // The schema in the answer is valid.
    let encoded = crate::datasources::encoded(schema);
    let made = call(&daemon, "POST", &format!("/v0/datasources?name=ev&format=ndjson&schema={encoded}"), "");
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(
        call(&daemon, "GET", "/v0/datasources", "").json()["datasources"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn samples_may_be_csv_or_uploaded_files() {
    let daemon = Daemon::dev();
    let found = call(&daemon, "POST", "/v0/analyze/", "a;b\n1;x\n2;\n");
    assert_eq!(found.status, 200, "{}", found.text());
    let found = call(&daemon, "POST", "/v0/analyze?dialect_delimiter=%3B", "a;b\n1;x\n2;\n").json();
    assert_eq!(found["analysis"]["schema"], "a Int16 `json:$.a`, b Nullable(String) `json:$.b`", "{found}");
    assert_eq!(found["dialect"]["delimiter"], ";");
    let body = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.ndjson\"\r\n\r\n{\"a\":true}\r\n--XX--\r\n";
    let header = [("content-type", "multipart/form-data; boundary=XX")];
    let found = call_with(&daemon, "POST", "/v0/analyze", &header, body).json();
    assert_eq!(found["analysis"]["columns"][0]["recommended_type"], "Bool");
}

#[test]
fn values_of_mixed_types_get_a_type_that_holds_all() {
    let daemon = Daemon::dev();
    let sample = "{\"a\":1,\"b\":1,\"c\":[1],\"d\":18446744073709551615,\"e\":{\"x\":1},\"f\":[{\"x\":1}]}\n\
                  {\"a\":\"x\",\"b\":2.5,\"c\":1,\"d\":1,\"e\":2,\"f\":[]}\n";
    let found = call(&daemon, "POST", "/v0/analyze", sample).json();
    let types: Vec<_> = found["analysis"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["recommended_type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["String", "Float64", "JSON", "UInt64", "JSON", "Array(String)"]);
}

#[test]
fn invalid_samples_are_refused() {
    let daemon = Daemon::dev();
    for (path, body, part) in [
        ("/v0/analyze", "", "The request has no sample"),
        ("/v0/analyze?url=file:///etc/passwd", "", "Forebay does not fetch URLs"),
        ("/v0/analyze?format=parquet", "PAR1", "format=parquet is not supported"),
        ("/v0/analyze", "{\"a\":", "no line of the sample is a JSON object"),
        ("/v0/analyze", "[{\"a\":1}", "not a JSON document"),
        ("/v0/analyze?format=ndjson", "\u{0}", "no line of the sample is a JSON object"),
    ] {
        let refused = call(&daemon, "POST", path, body);
        assert_eq!(refused.status, 400, "{path}: {}", refused.text());
        assert!(refused.json()["error"].as_str().unwrap().contains(part), "{path}: {}", refused.text());
    }
}
