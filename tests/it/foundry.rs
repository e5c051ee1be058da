//! Palantir Foundry's contract: creating, showing and resetting datasets and streams; publishing records; refusals.

use crate::support::{Daemon, Response, Setup, fields, request};
use serde_json::{Value, json};

pub const FOLDER: &str = "ri.compass.main.folder.0f2b1a9e-0000-4000-8000-000000000001";
const BASE: &str = "/api/v2/streams/datasets";

/// A call with a JSON body and the admin token.
pub fn call(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Response {
    call_as(daemon, daemon.token.as_deref(), method, path, body)
}

pub fn call_as(daemon: &Daemon, token: Option<&str>, method: &str, path: &str, body: &Value) -> Response {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/json")];
    if let Some(authorization) = &authorization {
        headers.push(("authorization", authorization));
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(daemon.ingest, method, path, &headers, body.as_bytes())
}

/// The body of a successful response.
pub fn good(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// Checks status, code and name of an error, and returns its parameters.
pub fn refused(response: &Response, status: u16, code: &str, name: &str) -> Value {
    let body = response.json();
    assert_eq!(
        (response.status, body["errorCode"].as_str(), body["errorName"].as_str()),
        (status, Some(code), Some(name)),
        "{body}"
    );
    assert!(uuid::Uuid::parse_str(body["errorInstanceId"].as_str().unwrap()).is_ok(), "{body}");
    body["parameters"].clone()
}

pub fn field(name: &str, kind: &str, nullable: bool) -> Value {
    json!({"name": name, "schema": {"nullable": nullable, "dataType": {"type": kind}}})
}

pub fn schema() -> Value {
    json!({"fields": [field("sensor_id", "string", false), field("temperature", "double", true)]})
}

pub fn create(daemon: &Daemon, name: &str, schema: &Value) -> String {
    let body = json!({"name": name, "parentFolderRid": FOLDER, "schema": schema});
    let dataset = good(&call(daemon, "POST", &format!("{BASE}/create?preview=true"), &body));
    dataset["rid"].as_str().unwrap().to_owned()
}

pub fn publish_path(dataset: &str, branch: &str, what: &str) -> String {
    format!("/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/{what}")
}

fn publish(daemon: &Daemon, dataset: &str, body: &Value) -> Response {
    let what = if body.get("records").is_some() { "publishRecords" } else { "publishRecord" };
    call(daemon, "POST", &publish_path(dataset, "master", what), body)
}

fn stored(response: &Response) {
    assert_eq!((response.status, response.text()), (204, String::new()));
    assert!(response.header("content-type").is_none());
    assert!(response.receipt() > 0);
}

#[test]
fn a_dataset_is_created_and_accepts_records() {
    let daemon = Setup::with_config("").start();
    let body = json!({
        "name": "My sensors", "parentFolderRid": FOLDER, "schema": schema(), "branchName": "master",
        "compressed": false,
    });
    let dataset = good(&call(&daemon, "POST", &format!("{BASE}/create"), &body));
    let rid = dataset["rid"].as_str().unwrap().to_owned();
    assert!(rid.starts_with("ri.foundry.main.dataset."), "{rid}");
    assert_eq!(dataset, json!({"rid": rid, "name": "My sensors", "parentFolderRid": FOLDER}));
    let stream =
        good(&call(&daemon, "GET", &format!("{BASE}/{rid}/streams/master?preview=true"), &Value::Null));
    let view = stream["viewRid"].as_str().unwrap().to_owned();
    assert!(view.starts_with("ri.foundry-streaming.main.view."), "{view}");
    let expected = json!({
        "branchName": "master", "schema": schema(), "viewRid": view, "partitionsCount": 1,
        "streamType": "LOW_LATENCY", "compressed": false,
    });
    assert_eq!(stream, expected);
    // A number beyond a double's precision is stored as sent; unknown fields next to the record are ignored.
    stored(&publish(
        &daemon,
        &rid,
        &json!({"record": {"sensor_id": "a", "temperature": 4.132}, "viewRid": null}),
    ));
    let path = publish_path(&rid, "master", "publishRecord");
    let authorization = format!("Bearer {}", daemon.token.as_ref().unwrap());
    let raw = b"{\"x\":[1],\n \"record\" : {\n\"temperature\": 1.50e1,\r\n\"sensor_id\":\"b\\u00e9\" }}";
    stored(&request(daemon.ingest, "POST", &path, &[("authorization", &authorization)], raw));
    let many =
        json!({"records": [{"sensor_id": "c"}, {"sensor_id": "d", "temperature": null}], "viewRid": view});
    stored(&publish(&daemon, &rid, &many));
    let rows: Vec<Value> = daemon.rows("My_sensors").iter().map(fields).map(plain).collect();
    assert_eq!(
        rows,
        [
            json!({"sensor_id": "a", "temperature": 4.132}),
            json!({"sensor_id": "bé", "temperature": 15.0}),
            json!({"sensor_id": "c"}),
            json!({"sensor_id": "d"}),
        ]
    );
    // Everything survives a restart.
    let dir = tempfile::tempdir().unwrap();
    let first = Setup::with_config("").start_at(dir.path());
    let (token, rid) = (first.token.clone().unwrap(), create(&first, "s", &schema()));
    let before = good(&call(&first, "GET", &format!("{BASE}/{rid}/streams/master"), &Value::Null));
    assert!(first.stop().status.success());
    let second = Setup::with_config("").start_at(dir.path());
    let path = format!("{BASE}/{rid}/streams/master");
    assert_eq!(good(&call_as(&second, Some(&token), "GET", &path, &Value::Null)), before);
    let record = json!({"record": {"sensor_id": "a"}});
    let path = publish_path(&rid, "master", "publishRecord");
    stored(&call_as(&second, Some(&token), "POST", &path, &record));
}

/// A row without the partition and offset columns.
pub fn plain(mut row: Value) -> Value {
    for name in ["_partition", "_offset"] {
        row.as_object_mut().unwrap().remove(name);
    }
    row
}

#[test]
fn a_request_is_stored_completely_or_not_at_all() {
    let daemon = Daemon::dev();
    let rid = create(&daemon, "s", &schema());
    let view =
        good(&call(&daemon, "GET", &format!("{BASE}/{rid}/streams/master"), &Value::Null))["viewRid"].clone();
    let records = json!({"records": [
        {"sensor_id": "a"}, {"sensor_id": 1, "temperature": "warm", "other": 2}, {"temperature": 1},
    ]});
    let response = publish(&daemon, &rid, &records);
    let description = response.json()["errorDescription"].as_str().unwrap().to_owned();
    let parameters = refused(&response, 400, "INVALID_ARGUMENT", "RecordDoesNotMatchStreamSchema");
    assert!(description.starts_with("Record 2 of 3: "), "{description}");
    assert_eq!(
        parameters,
        json!({
            "datasetRid": rid, "branchName": "master", "viewRid": view, "recordIndex": 1,
            "reasons": [
                "field 'sensor_id': 1 is not of type string",
                "field 'temperature': \"warm\" is not of type double",
                "field 'other': the field is not in the schema",
            ],
        })
    );
    let one = publish(&daemon, &rid, &json!({"record": {"temperature": 1}}));
    let reasons = refused(&one, 400, "INVALID_ARGUMENT", "RecordDoesNotMatchStreamSchema")["reasons"].clone();
    assert_eq!(reasons, json!(["field 'sensor_id': the field is missing and not nullable"]));
    stored(&publish(&daemon, &rid, &json!({"record": {"sensor_id": "z"}})));
    let rows: Vec<Value> = daemon.rows("s").iter().map(fields).map(plain).collect();
    assert_eq!(rows, [json!({"sensor_id": "z"})]);
    assert_eq!(crate::support::read_table(&daemon.data_dir().join("tables/s_quarantine")).len(), 0);
}

#[test]
fn invalid_publish_calls_are_refused() {
    let daemon = Daemon::dev();
    let rid = create(&daemon, "s", &schema());
    let path = |what: &str| publish_path(&rid, "master", what);
    let send = |what: &str, body: &[u8]| request(daemon.ingest, "POST", &path(what), &[], body);
    for (what, body, name) in [
        ("publishRecord", "", "MissingPostBody"),
        ("publishRecords", "{\"records\":[]}", "MissingBatchRequest"),
        ("publishRecord", "{\"records\":[]}", "Default:InvalidArgument"),
        ("publishRecord", "{\"record\":[]}", "Default:InvalidArgument"),
        ("publishRecord", "{\"record\":{}", "Default:InvalidArgument"),
        ("publishRecords", "{\"records\":[{},1]}", "Default:InvalidArgument"),
        ("publishRecord", "{\"record\":{},\"viewRid\":1}", "Default:InvalidArgument"),
    ] {
        refused(&send(what, body.as_bytes()), 400, "INVALID_ARGUMENT", name);
    }
    refused(
        &send("publishRecord", b"{\"record\":{\"sensor_id\":\"\xff\"}}"),
        400,
        "INVALID_ARGUMENT",
        "Default:InvalidArgument",
    );
    let large = json!({"record": {"sensor_id": "x".repeat(1 << 20)}}).to_string();
    let parameters =
        refused(&send("publishRecord", large.as_bytes()), 413, "REQUEST_ENTITY_TOO_LARGE", "RecordTooLarge");
    assert_eq!(parameters, json!({}));
    let fits = json!({"record": {"sensor_id": "x".repeat(1_000_000)}}).to_string();
    stored(&send("publishRecord", fits.as_bytes()));
    let too_much = vec![b' '; 11 << 20];
    refused(&send("publishRecords", &too_much), 413, "REQUEST_ENTITY_TOO_LARGE", "RecordTooLarge");
    // Streams, branches and views that do not exist.
    let record = json!({"record": {"sensor_id": "a"}});
    let missing = call(&daemon, "POST", &publish_path(&rid, "feature%2Fx", "publishRecord"), &record);
    let parameters = refused(&missing, 404, "NOT_FOUND", "StreamNotFound");
    assert_eq!(parameters, json!({"datasetRid": rid, "streamBranchName": "feature/x"}));
    let missing = call(&daemon, "POST", &publish_path("nothing", "master", "publishRecord"), &record);
    refused(&missing, 404, "NOT_FOUND", "StreamNotFound");
    let other = json!({"record": {"sensor_id": "a"}, "viewRid": "ri.foundry-streaming.main.view.x"});
    let parameters = refused(&publish(&daemon, &rid, &other), 404, "NOT_FOUND", "ViewNotFound");
    assert_eq!(parameters, json!({"viewRid": "ri.foundry-streaming.main.view.x"}));
    refused(&call(&daemon, "GET", "/api/v2/nothing", &Value::Null), 404, "NOT_FOUND", "Default:NotFound");
    let method = call(&daemon, "GET", &path("publishRecord"), &Value::Null);
    assert_eq!((method.status, method.header("allow")), (405, Some("POST")));
}

#[test]
fn branches_are_separate_streams() {
    let daemon = Daemon::dev();
    let rid = create(&daemon, "s", &schema());
    let other = json!({"fields": [field("n", "long", true)], "keyFieldNames": ["n"]});
    let body = json!({
        "branchName": "feature/x", "schema": other, "partitionsCount": 4, "streamType": "HIGH_THROUGHPUT",
        "compressed": true,
    });
    let made = good(&call(&daemon, "POST", &format!("{BASE}/{rid}/streams"), &body));
    assert_eq!(good(&call(&daemon, "GET", &format!("{BASE}/{rid}/streams/feature%2Fx"), &Value::Null)), made);
    for (key, value) in [
        ("branchName", json!("feature/x")),
        ("schema", other.clone()),
        ("partitionsCount", json!(4)),
        ("streamType", json!("HIGH_THROUGHPUT")),
        ("compressed", json!(true)),
    ] {
        assert_eq!(made[key], value, "{key}");
    }
    let record = json!({"record": {"n": 12_345_678_901_234_567_i64}});
    stored(&call(&daemon, "POST", &publish_path(&rid, "feature%2Fx", "publishRecord"), &record));
    refused(&publish(&daemon, &rid, &record), 400, "INVALID_ARGUMENT", "RecordDoesNotMatchStreamSchema");
    assert_eq!(daemon.rows("s.feature_x")[0]["n"], 12_345_678_901_234_567_i64);
    let again = call(&daemon, "POST", &format!("{BASE}/{rid}/streams"), &body);
    let parameters = refused(&again, 409, "CONFLICT", "BranchAlreadyExists");
    assert_eq!(parameters, json!({"datasetRid": rid, "branchName": "feature/x"}));
    let missing = call(&daemon, "POST", &format!("{BASE}/ri.foundry.main.dataset.x/streams"), &body);
    assert_eq!(
        refused(&missing, 404, "NOT_FOUND", "DatasetNotFound"),
        json!({"datasetRid": "ri.foundry.main.dataset.x"})
    );
    let bad = json!({"branchName": " x", "schema": schema()});
    let parameters = refused(
        &call(&daemon, "POST", &format!("{BASE}/{rid}/streams"), &bad),
        400,
        "INVALID_ARGUMENT",
        "InvalidBranchName",
    );
    assert_eq!(parameters, json!({"datasetRid": rid, "branchName": " x"}));
    let missing = call(&daemon, "GET", &format!("{BASE}/{rid}/streams/none"), &Value::Null);
    refused(&missing, 404, "NOT_FOUND", "StreamNotFound");
}

#[test]
fn a_reset_creates_a_new_view() {
    let daemon = Daemon::dev();
    let rid = create(&daemon, "s", &schema());
    let path = format!("{BASE}/{rid}/streams/master");
    let old = good(&call(&daemon, "GET", &path, &Value::Null));
    stored(&publish(&daemon, &rid, &json!({"record": {"sensor_id": "before"}})));
    let new = good(&call(&daemon, "POST", &format!("{path}/reset?preview=true"), &json!({})));
    assert_ne!(new["viewRid"], old["viewRid"]);
    assert_eq!(good(&call(&daemon, "GET", &path, &Value::Null)), new);
    let same = |key: &str| assert_eq!(new[key], old[key], "{key}");
    ["schema", "partitionsCount", "streamType", "compressed", "branchName"].into_iter().for_each(same);
    // The old view takes no more records, but keeps those it has.
    let to_old = json!({"record": {"sensor_id": "late"}, "viewRid": old["viewRid"]});
    refused(&publish(&daemon, &rid, &to_old), 404, "NOT_FOUND", "ViewNotFound");
    stored(&publish(&daemon, &rid, &json!({"record": {"sensor_id": "after"}, "viewRid": new["viewRid"]})));
    assert_eq!(daemon.rows("s")[0]["sensor_id"], "before");
    assert_eq!(daemon.rows("s.v2")[0]["sensor_id"], "after");
    // A reset with another schema. Options that are not given stay the same.
    let body = json!({"schema": {"fields": [field("n", "long", true)]}, "partitionsCount": 2});
    let third = good(&call(&daemon, "POST", &format!("{path}/reset"), &body));
    assert_eq!((&third["schema"], &third["partitionsCount"]), (&body["schema"], &json!(2)));
    stored(&publish(&daemon, &rid, &json!({"record": {"n": 1}})));
    let missing = call(&daemon, "POST", &format!("{BASE}/{rid}/streams/none/reset"), &json!({}));
    let parameters = refused(&missing, 404, "NOT_FOUND", "StreamNotFound");
    assert_eq!(parameters, json!({"datasetRid": rid, "streamBranchName": "none"}));
}

#[test]
fn a_binary_record_is_the_value_of_the_only_field() {
    let daemon = Daemon::dev();
    let rid = create(&daemon, "b", &json!({"fields": [field("payload", "binary", false)]}));
    let path = publish_path(&rid, "master", "publishBinaryRecord");
    let kind = [("content-type", "application/octet-stream")];
    let view =
        good(&call(&daemon, "GET", &format!("{BASE}/{rid}/streams/master"), &Value::Null))["viewRid"].clone();
    let with_view = format!("{path}?viewRid={}", view.as_str().unwrap());
    stored(&request(daemon.ingest, "POST", &with_view, &kind, &[0, 255, b'\n', b'{']));
    stored(&request(daemon.ingest, "POST", &path, &kind, b""));
    let wrong = request(daemon.ingest, "POST", &format!("{path}?viewRid=x"), &kind, b"x");
    refused(&wrong, 404, "NOT_FOUND", "ViewNotFound");
    let large = request(daemon.ingest, "POST", &path, &kind, &vec![0; (1 << 20) + 1]);
    refused(&large, 413, "REQUEST_ENTITY_TOO_LARGE", "RecordTooLarge");
    let rows: Vec<Value> = daemon.rows("b").iter().map(|row| row["payload"].clone()).collect();
    assert_eq!(rows, [json!("00ff0a7b"), json!("")]);
    let plain = create(&daemon, "plain", &schema());
    let path = publish_path(&plain, "master", "publishBinaryRecord");
    let refusal = request(daemon.ingest, "POST", &path, &kind, b"x");
    refused(&refusal, 400, "INVALID_ARGUMENT", "RecordDoesNotMatchStreamSchema");
}

#[test]
fn all_that_is_wrong_with_a_schema_is_told_at_once() {
    let daemon = Daemon::dev();
    let make = |body: Value| {
        let mut whole = json!({"name": "s", "parentFolderRid": FOLDER});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        call(&daemon, "POST", &format!("{BASE}/create"), &whole)
    };
    let one = make(json!({"schema": {"fields": [field("a", "text", true), field("b", "long", true)]}}));
    let parameters = refused(&one, 400, "INVALID_ARGUMENT", "InvalidFieldSchema");
    assert_eq!(parameters["fieldName"], "a");
    assert!(parameters["message"].as_str().unwrap().starts_with("unknown type \"text\""), "{parameters}");
    let several = make(json!({"schema": {
        "fields": [field("a", "text", true), field("b", "double", true), field("b", "long", true)],
        "keyFieldNames": ["b", "c"],
    }}));
    let parameters = refused(&several, 400, "INVALID_ARGUMENT", "InvalidSchema");
    assert_eq!(parameters["errorType"], "InvalidSchema");
    let errors: Vec<String> = parameters["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(errors.len(), 4, "{errors:?}");
    let capture = make(json!({"schema": {
        "fields": [field("a", "string", true), field("gone", "long", true)],
        "keyFieldNames": ["a"],
        "changeDataCapture": {"type": "fullRow", "deletionFieldName": "gone", "orderingFieldName": "none"},
    }}));
    let parameters = refused(&capture, 400, "INVALID_ARGUMENT", "InvalidChangeDataCaptureConfiguration");
    assert_eq!(parameters["errors"].as_array().unwrap().len(), 2);
    let kind = make(json!({"schema": schema(), "streamType": "FAST"}));
    let parameters = refused(&kind, 400, "INVALID_ARGUMENT", "InvalidStreamType");
    assert_eq!(parameters, json!({"streamType": "FAST"}));
    for body in [
        json!({}),
        json!({"schema": schema(), "partitionsCount": 0}),
        json!({"schema": schema(), "partitionsCount": "2"}),
        json!({"schema": schema(), "compressed": 1}),
        json!({"schema": schema(), "parentFolderRid": "folder"}),
        json!({"schema": schema(), "name": 1}),
    ] {
        refused(&make(body), 400, "INVALID_ARGUMENT", "Default:InvalidArgument");
    }
    for name in ["", " ", "..", "a/b"] {
        let refusal = make(json!({"schema": schema(), "name": name}));
        assert_eq!(
            refused(&refusal, 400, "INVALID_ARGUMENT", "InvalidDisplayName"),
            json!({"displayName": name})
        );
    }
    let user = "ri.multipass..user.0f2b1a9e-0000-4000-8000-000000000001";
    let refusal = make(json!({"schema": schema(), "parentFolderRid": user}));
    let parameters = refused(&refusal, 400, "INVALID_ARGUMENT", "CannotCreateStreamingDatasetInUserFolder");
    assert_eq!(parameters, json!({"parentFolderRid": user}));
    refused(
        &call(&daemon, "POST", &format!("{BASE}/create"), &Value::Null),
        400,
        "INVALID_ARGUMENT",
        "MissingPostBody",
    );
    assert_eq!(daemon.get("/admin/v1/streams").json()["streams"], json!([]), "nothing must be created");
}

#[test]
fn concurrent_creates_of_one_name_make_one_dataset() {
    let daemon = Daemon::dev();
    let body = json!({"name": "s", "parentFolderRid": FOLDER, "schema": schema()});
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let make = || call(&daemon, "POST", &format!("{BASE}/create"), &body);
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let (made, rest): (Vec<_>, Vec<_>) = answers.iter().partition(|response| response.status == 200);
    assert_eq!(made.len(), 1);
    for response in rest {
        let parameters = refused(response, 409, "CONFLICT", "ResourceNameAlreadyExists");
        assert_eq!(parameters, json!({"parentFolderRid": FOLDER, "displayName": "s"}));
    }
    // In another folder the name is free, and the table gets another name.
    let elsewhere =
        json!({"name": "s", "parentFolderRid": "ri.compass.main.folder.other", "schema": schema()});
    let rid = good(&call(&daemon, "POST", &format!("{BASE}/create"), &elsewhere))["rid"]
        .as_str()
        .unwrap()
        .to_owned();
    stored(&publish(&daemon, &rid, &json!({"record": {"sensor_id": "a"}})));
    assert_eq!(daemon.rows("s_2").len(), 1);
}

#[test]
fn every_type_survives_the_round_trip() {
    let daemon = Daemon::dev();
    let kind = |name: &str, data_type: Value| json!({"name": name, "schema": {"nullable": true, "dataType": data_type}});
    let item = |data_type: Value| json!({"nullable": true, "dataType": data_type});
    let schema = json!({"fields": [
        field("b", "boolean", true), field("i8", "byte", true), field("i16", "short", true),
        field("i32", "integer", true), field("i64", "long", true), field("f", "float", true),
        field("d", "double", true), field("bin", "binary", true), field("day", "date", true),
        field("at", "timestamp", true),
        kind("price", json!({"type": "decimal", "precision": 10, "scale": 2})),
        kind("times", json!({"type": "array", "itemsSchema": item(json!({"type": "timestamp"}))})),
        kind("by", json!({"type": "map", "keySchema": item(json!({"type": "string"})), "valueSchema": item(json!({"type": "long"}))})),
        kind("in", json!({"type": "struct", "subFields": [field("at", "timestamp", true), field("x", "string", true)]})),
    ]});
    let rid = create(&daemon, "types", &schema);
    let record = json!({
        "b": true, "i8": -128, "i16": 32767, "i32": 2_147_483_647, "i64": 9_223_372_036_854_775_807_i64,
        "f": 1.5, "d": 0.1, "bin": "AP8=", "day": "2026-01-31", "at": 1_731_426_022_784_i64, "price": "12345678.90",
        "times": [1_731_426_022_784_i64, "2024-11-12T15:40:22.784Z"], "by": {"k": 1}, "in": {"at": 0, "x": "y"},
    });
    stored(&publish(&daemon, &rid, &json!({"record": record})));
    let row = plain(fields(&daemon.rows("types")[0]));
    assert_eq!(
        row,
        json!({
            "b": true, "i8": -128, "i16": 32767, "i32": 2_147_483_647, "i64": 9_223_372_036_854_775_807_i64,
            "f": 1.5, "d": 0.1, "bin": "00ff", "day": "2026-01-31", "at": "2024-11-12T15:40:22.784Z", "price": 12_345_678.9,
            "times": ["2024-11-12T15:40:22.784Z", "2024-11-12T15:40:22.784Z"], "by": {"k": 1},
            "in": {"at": "1970-01-01T00:00:00Z", "x": "y"},
        })
    );
    for (name, value, reason) in [
        ("price", json!("123456789.01"), "does not fit type decimal(10, 2)"),
        ("price", json!(0.001), "does not fit type decimal(10, 2)"),
        ("at", json!(1_200_951_619_200_000_i64), "is not within the years 1 to 9999"),
        ("at", json!("40000-01-01T00:00:00Z"), "is not an RFC 3339 time within the years 1 to 9999"),
        ("i8", json!(128), "is out of range for type byte"),
        ("bin", json!("AP8"), "is not valid Base64"),
        ("day", json!("2026-02-30"), "is not a date"),
    ] {
        let refusal = publish(&daemon, &rid, &json!({"record": {name: value}}));
        let parameters = refused(&refusal, 400, "INVALID_ARGUMENT", "RecordDoesNotMatchStreamSchema");
        let found = parameters["reasons"][0].as_str().unwrap();
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn a_key_may_be_null_a_body_compressed_and_a_request_repeated() {
    let daemon = Setup::dev("[limits]\nstream_requests_per_second = 2\n").start();
    let mut keyed = schema();
    keyed["fields"][0]["schema"]["nullable"] = json!(true);
    keyed["keyFieldNames"] = json!(["sensor_id"]);
    let body = json!({"name": "k", "parentFolderRid": FOLDER, "schema": keyed, "partitionsCount": 4});
    let rid =
        good(&call(&daemon, "POST", &format!("{BASE}/create"), &body))["rid"].as_str().unwrap().to_owned();
    let path = publish_path(&rid, "master", "publishRecords");
    let record =
        |n: u32| json!({"records": [{"sensor_id": null, "temperature": n}, {"temperature": n}]}).to_string();
    let send = |headers: &[(&str, &str)], body: &[u8]| {
        // A request over the limit is refused and told when to retry.
        crate::support::eventually("a request within the limit", || {
            let response = request(daemon.ingest, "POST", &path, headers, body);
            if response.status == 429 {
                refused(&response, 429, "CUSTOM_CLIENT", "Default:TooManyRequests");
                assert!(response.header("retry-after").is_some());
                return None;
            }
            Some(response)
        })
    };
    stored(&send(&[], record(1).as_bytes()));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, record(2).as_bytes()).unwrap();
    stored(&send(&[("content-encoding", "gzip")], &gzip.finish().unwrap()));
    let key = [("idempotency-key", "once")];
    let first = send(&key, record(3).as_bytes());
    stored(&first);
    let again = send(&key, record(3).as_bytes());
    stored(&again);
    assert_eq!((again.receipt(), again.header("idempotency-replayed")), (first.receipt(), Some("true")));
    refused(&send(&key, record(4).as_bytes()), 422, "INVALID_ARGUMENT", "Default:InvalidArgument");
    crate::support::eventually("a refusal over the limit", || {
        (request(daemon.ingest, "POST", &path, &[], b"{}").status == 429).then_some(())
    });
    let rows = daemon.rows("k");
    let partitions: std::collections::BTreeSet<String> =
        rows.iter().map(|row| row["_partition"].to_string()).collect();
    assert_eq!(
        (rows.len(), partitions.len()),
        (6, 1),
        "rows with a null key must share a partition: {rows:?}"
    );
}
