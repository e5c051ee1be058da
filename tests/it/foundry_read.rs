//! Palantir Foundry's contract: reading records by partition and offset, wherever they are stored.

use crate::bucket::{Bucket, Fault};
use crate::foundry::{FOLDER, call, call_as, create, field, good, publish_path, refused};
use crate::support::{Daemon, Response, Setup, eventually};
use serde_json::{Value, json};

/// Files stay open until publication is requested.
pub const PATIENT: &str = "[compactor]\nmax_age = \"1h\"\nmax_idle = \"1h\"\n";

pub fn schema() -> Value {
    json!({"fields": [field("id", "string", true), field("n", "long", true)], "keyFieldNames": ["id"]})
}

/// Creates a dataset with this many partitions.
pub fn create_with(daemon: &Daemon, name: &str, schema: &Value, partitions: u64) -> String {
    let body =
        json!({"name": name, "parentFolderRid": FOLDER, "schema": schema, "partitionsCount": partitions});
    let dataset = good(&call(daemon, "POST", "/api/v2/streams/datasets/create", &body));
    dataset["rid"].as_str().unwrap().to_owned()
}

pub fn publish(daemon: &Daemon, dataset: &str, records: &Value) {
    let path = publish_path(dataset, "master", "publishRecords");
    let published = call(daemon, "POST", &path, &json!({"records": records}));
    assert_eq!(published.status, 204, "{}", published.text());
}

pub fn get(daemon: &Daemon, dataset: &str, what: &str) -> Response {
    call(daemon, "GET", &publish_path(dataset, "master", what), &Value::Null)
}

fn read(daemon: &Daemon, dataset: &str, query: &str) -> Value {
    good(&get(daemon, dataset, &format!("getRecords?{query}")))
}

/// `n` of each record.
fn numbers(records: &Value) -> Vec<i64> {
    records.as_array().unwrap().iter().map(|record| record["value"]["n"].as_i64().unwrap()).collect()
}

fn offsets(records: &Value) -> Vec<u64> {
    records.as_array().unwrap().iter().map(|record| record["offset"].as_u64().unwrap()).collect()
}

fn publish_files(daemon: &Daemon) {
    let published = daemon.admin_post("/admin/v1/publish");
    assert_eq!(published.status, 200, "{}", published.text());
}

#[test]
fn records_are_read_from_log_and_files() {
    let daemon = Setup::with_config(PATIENT).start();
    let dataset = create(&daemon, "s", &schema());
    let records =
        |from: i64, to: i64| json!((from..to).map(|n| json!({"id": "a", "n": n})).collect::<Vec<_>>());
    assert_eq!(good(&get(&daemon, &dataset, "getEndOffsets")), json!({"0": 0}));
    assert_eq!(read(&daemon, &dataset, "partitionId=0&limit=5"), json!([]));
    publish(&daemon, &dataset, &records(0, 5));
    let in_log = read(&daemon, &dataset, "partitionId=0&limit=10&preview=true");
    publish_files(&daemon);
    assert_eq!(
        read(&daemon, &dataset, "partitionId=0&limit=10"),
        in_log,
        "reading must return the same from a file"
    );
    // Across the boundary between file and log, which must be invisible to readers.
    publish(&daemon, &dataset, &records(5, 9));
    publish_files(&daemon);
    for n in 9..12 {
        publish(&daemon, &dataset, &records(n, n + 1));
    }
    let all = read(&daemon, &dataset, "partitionId=0&limit=100");
    assert_eq!(numbers(&all), (0..12).collect::<Vec<_>>());
    assert_eq!(offsets(&all), (0..12).collect::<Vec<_>>());
    for from in 0..12_i64 {
        let some = read(&daemon, &dataset, &format!("partitionId=0&limit=3&startOffset={from}"));
        assert_eq!(numbers(&some), (from..(from + 3).min(12)).collect::<Vec<_>>());
    }
    assert_eq!(read(&daemon, &dataset, "partitionId=0&limit=3&startOffset=12"), json!([]));
    assert_eq!(good(&get(&daemon, &dataset, "getEndOffsets")), json!({"0": 12}));
}

#[test]
fn records_survive_a_kill_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = Setup::with_config(PATIENT).start_at(dir.path());
    let token = first.token.clone();
    let start = || {
        let mut daemon = Setup::with_config(PATIENT).start_at(dir.path());
        daemon.token.clone_from(&token);
        daemon
    };
    let dataset = create_with(&first, "s", &schema(), 3);
    let record = |n: i64| json!([{"id": format!("{}", n % 7), "n": n}]);
    for n in 0..20 {
        publish(&first, &dataset, &record(n));
    }
    let all = |daemon: &Daemon| {
        (0..3).map(|p| read(daemon, &dataset, &format!("partitionId={p}&limit=100"))).collect::<Vec<_>>()
    };
    let before = all(&first);
    first.kill();
    let second = start();
    assert_eq!(all(&second), before);
    for n in 20..30 {
        publish(&second, &dataset, &record(n));
    }
    let before = all(&second);
    assert_eq!(before.iter().map(|records| records.as_array().unwrap().len()).sum::<usize>(), 30);
    assert!(second.stop().status.success());
    let third = start();
    assert_eq!(all(&third), before);
    publish(&third, &dataset, &record(30));
    let ends = good(&get(&third, &dataset, "getEndOffsets"));
    assert_eq!(ends.as_object().unwrap().values().map(|end| end.as_u64().unwrap()).sum::<u64>(), 31);
    for (partition, records) in all(&third).iter().enumerate() {
        let expected = ends[partition.to_string()].as_u64().unwrap();
        assert_eq!(offsets(records), (0..expected).collect::<Vec<_>>());
    }
}

#[test]
fn values_are_returned_in_one_format() {
    let daemon = Setup::with_config(PATIENT).start();
    let of = |name: &str, kind: Value| json!({"name": name, "schema": {"nullable": true, "dataType": kind}});
    let plain = |kind: &str| json!({"type": kind});
    let schema = json!({"fields": [
        of("bool", plain("boolean")), of("byte", plain("byte")), of("long", plain("long")), of("float", plain("float")),
        of("double", plain("double")), of("text", plain("string")), of("bin", plain("binary")), of("date", plain("date")),
        of("at", plain("timestamp")), of("dec", json!({"type": "decimal", "precision": 38, "scale": 2})),
        of("list", json!({"type": "array", "itemsSchema": {"nullable": true, "dataType": {"type": "integer"}}})),
        of("map", json!({"type": "map", "keySchema": {"nullable": false, "dataType": {"type": "string"}},
                         "valueSchema": {"nullable": true, "dataType": {"type": "long"}}})),
        of("row", json!({"type": "struct", "subFields": [of("x", plain("long"))]})),
    ]});
    let dataset = create(&daemon, "s", &schema);
    let sent = json!({
        "bool": true, "byte": -128, "long": 12_345_678_901_234_567_i64, "float": 0.5, "double": 4.132, "text": "é\n\"",
        "bin": "AAEC", "date": "2026-11-21", "at": "2024-11-12T15:07:02.784Z", "dec": 12.5, "list": [1, null],
        "map": {"k": 1}, "row": {"x": 2},
    });
    let mut expected = sent.clone();
    expected["at"] = json!(1_731_424_022_784_i64);
    expected["dec"] = json!("12.50");
    publish(&daemon, &dataset, &json!([sent, {}]));
    let nothing: Value = expected.as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect();
    for _ in 0..2 {
        let records = read(&daemon, &dataset, "partitionId=0&limit=10");
        assert_eq!(records, json!([{"offset": 0, "value": expected}, {"offset": 1, "value": nothing}]));
        publish_files(&daemon);
    }
    // Records can be published again as they were read.
    publish(&daemon, &dataset, &json!([expected]));
    assert_eq!(read(&daemon, &dataset, "partitionId=0&limit=1&startOffset=2")[0]["value"], expected);
}

#[test]
fn answers_are_bounded_and_bad_parameters_are_refused() {
    let daemon = Setup::with_config(PATIENT).start();
    let dataset = create_with(&daemon, "s", &schema(), 2);
    let text = "x".repeat(900_000);
    let path = publish_path(&dataset, "master", "publishRecord");
    for n in 0..24 {
        // All with one key, and so in one partition.
        let body = json!({"record": {"id": format!("{text}"), "n": n}});
        assert_eq!(call(&daemon, "POST", &path, &body).status, 204);
    }
    let ends = good(&get(&daemon, &dataset, "getEndOffsets"));
    let partition = i32::from(ends["0"] != json!(24));
    for _ in 0..2 {
        let mut seen = Vec::new();
        while seen.len() < 24 {
            let query = format!("partitionId={partition}&limit=100&startOffset={}", seen.len());
            let answer = get(&daemon, &dataset, &format!("getRecords?{query}"));
            assert!(answer.body.len() < 10 << 20, "{}", answer.body.len());
            let more = numbers(&good(&answer));
            assert!(!more.is_empty());
            seen.extend(more);
        }
        assert_eq!(seen, (0..24).collect::<Vec<_>>());
        publish_files(&daemon);
    }
    for query in [
        "limit=1",
        "partitionId=0",
        "partitionId=0&limit=0",
        "partitionId=0&limit=x",
        "partitionId=2&limit=1",
        "partitionId=-1&limit=1",
        "partitionId=0&limit=1&startOffset=-1",
    ] {
        let answer = get(&daemon, &dataset, &format!("getRecords?{query}"));
        refused(&answer, 400, "INVALID_ARGUMENT", "Default:InvalidArgument");
    }
    let view = "ri.foundry-streaming.main.view.0f2b1a9e-0000-4000-8000-000000000009";
    let answer = get(&daemon, &dataset, &format!("getRecords?partitionId=0&limit=1&viewRid={view}"));
    assert_eq!(refused(&answer, 404, "NOT_FOUND", "ViewNotFound"), json!({"viewRid": view}));
    let path = publish_path(&dataset, "nope", "getEndOffsets");
    let answer = call(&daemon, "GET", &path, &Value::Null);
    let expected = json!({"datasetRid": dataset, "streamBranchName": "nope"});
    assert_eq!(refused(&answer, 404, "NOT_FOUND", "StreamNotFound"), expected);
}

#[test]
fn reading_requires_the_read_right() {
    let daemon = Setup::with_config("").start();
    let dataset = create(&daemon, "s", &schema());
    let token = |scopes: &[&str]| {
        let body = json!({"name": scopes.join(" "), "scopes": scopes}).to_string();
        let authorization = format!("Bearer {}", daemon.token.as_ref().unwrap());
        let headers = [("authorization", authorization.as_str())];
        let made =
            crate::support::request(daemon.admin, "POST", "/admin/v1/tokens", &headers, body.as_bytes());
        made.json()["token"].as_str().unwrap().to_owned()
    };
    let (reader, writer) = (token(&["read:s"]), token(&["ingest:s"]));
    let as_one = |token: &str, what: &str| {
        call_as(&daemon, Some(token), "GET", &publish_path(&dataset, "master", what), &Value::Null)
    };
    good(&as_one(&reader, "getEndOffsets"));
    good(&as_one(&reader, "getRecords?partitionId=0&limit=1"));
    let parameters = json!({"datasetRid": dataset, "streamBranchName": "master"});
    for (what, name) in [
        ("getEndOffsets", "GetEndOffsetsForStreamPermissionDenied"),
        ("getRecords?partitionId=0&limit=1", "GetRecordsFromStreamPermissionDenied"),
    ] {
        assert_eq!(refused(&as_one(&writer, what), 403, "PERMISSION_DENIED", name), parameters);
    }
}

#[test]
fn a_view_keeps_its_records_after_a_reset() {
    let daemon = Setup::with_config(PATIENT).start();
    let dataset = create(&daemon, "s", &schema());
    let path = format!("/api/v2/streams/datasets/{dataset}/streams/master");
    let old = good(&call(&daemon, "GET", &path, &Value::Null))["viewRid"].as_str().unwrap().to_owned();
    publish(&daemon, &dataset, &json!([{"id": "a", "n": 1}]));
    let new = good(&call(&daemon, "POST", &format!("{path}/reset"), &json!({})));
    let new = new["viewRid"].as_str().unwrap();
    assert_eq!(good(&get(&daemon, &dataset, "getEndOffsets")), json!({"0": 0}));
    publish(&daemon, &dataset, &json!([{"id": "a", "n": 2}]));
    assert_eq!(numbers(&read(&daemon, &dataset, "partitionId=0&limit=9")), [2]);
    for (view, expected) in [(old.as_str(), 1), (new, 2)] {
        let records = read(&daemon, &dataset, &format!("partitionId=0&limit=9&viewRid={view}"));
        assert_eq!((numbers(&records), offsets(&records)), (vec![expected], vec![0]));
    }
}

#[test]
fn the_older_proxy_reads_records_and_reports_offsets() {
    let daemon = Setup::with_config(PATIENT).start();
    let dataset = create_with(&daemon, "s", &json!({"fields": [field("n", "long", true)]}), 2);
    let path = format!("/api/v2/streams/datasets/{dataset}/streams/master");
    let view = good(&call(&daemon, "GET", &path, &Value::Null))["viewRid"].as_str().unwrap().to_owned();
    for (n, base) in ["/stream-proxy/api/streams", "/stream/api/streams"].into_iter().enumerate() {
        let base = format!("{base}/{dataset}");
        let first = 2 * n as u64;
        let many = json!([{"value": {"n": 1}}, {"value": {"n": 2}}, {"value": {"n": 3}}]);
        let stored = good(&call(&daemon, "POST", &format!("{base}/branches/master/jsonRecords"), &many));
        let at = |offset: u64, partition: u64| json!({"offset": offset, "partitionId": partition});
        assert_eq!(stored["offsetAndPartitionIds"], json!([at(first, 0), at(first, 1), at(first + 1, 0)]));
        let stored =
            good(&call(&daemon, "POST", &format!("{base}/views/{view}/jsonRecord"), &json!({"n": 4})));
        assert_eq!(stored["offsetAndPartitionIds"], json!([at(first + 1, 1)]));
        let path = format!("{base}/views/{view}/partition/1/recordsV2?limit=2&startOffset={first}");
        let records = good(&call(&daemon, "GET", &path, &Value::Null));
        assert_eq!(numbers(&records["records"]), [2, 4]);
        assert_eq!(offsets(&records["records"]), [first, first + 1]);
        for of in ["branches/master".to_owned(), format!("views/{view}")] {
            let path = format!("{base}/{of}/records?limit=4");
            let newest = good(&call(&daemon, "GET", &path, &Value::Null));
            assert_eq!(
                newest,
                json!([{"value": {"n": 1}}, {"value": {"n": 3}}, {"value": {"n": 2}}, {"value": {"n": 4}}])
            );
        }
    }
    let path = format!("/stream-proxy/api/streams/{dataset}/views/nope/partition/0/recordsV2");
    refused(&call(&daemon, "GET", &path, &Value::Null), 404, "NOT_FOUND", "ViewNotFound");
}

#[test]
fn a_repeat_returns_the_offsets_of_the_first_request() {
    let daemon = Setup::with_config(PATIENT).start();
    let dataset = create_with(&daemon, "s", &schema(), 4);
    let path = format!("/stream-proxy/api/streams/{dataset}/branches/master/jsonRecords");
    let authorization = format!("Bearer {}", daemon.token.as_ref().unwrap());
    let headers = [("authorization", authorization.as_str()), ("idempotency-key", "k")];
    let body = json!([{"value": {"id": "a"}}, {"value": {"id": "b"}}, {"value": {"id": "a"}}]).to_string();
    let send = || crate::support::request(daemon.ingest, "POST", &path, &headers, body.as_bytes());
    let first = good(&send());
    assert_eq!(first["offsetAndPartitionIds"].as_array().unwrap().len(), 3);
    assert_eq!(good(&send()), first);
    let ends = good(&get(&daemon, &dataset, "getEndOffsets"));
    assert_eq!(ends.as_object().unwrap().values().map(|end| end.as_u64().unwrap()).sum::<u64>(), 3);
}

#[test]
fn records_in_a_bucket_are_read_by_offset() {
    let bucket = Bucket::start();
    let daemon = Setup::with_config(&format!("{PATIENT}{}", bucket.config("t"))).start();
    let dataset = create_with(&daemon, "s", &schema(), 2);
    for part in 0..5_i64 {
        let records: Vec<Value> = (0..5000)
            .map(|n| part * 5000 + n)
            .map(|n| json!({"id": format!("{}", n % 100), "n": n}))
            .collect();
        publish(&daemon, &dataset, &json!(records));
    }
    publish_files(&daemon);
    let ends = good(&get(&daemon, &dataset, "getEndOffsets"));
    let end = ends["1"].as_u64().unwrap();
    let read_at = |from: u64| read(&daemon, &dataset, &format!("partitionId=1&limit=10&startOffset={from}"));
    for from in [0, 1, end / 2, end - 3] {
        let expected: Vec<u64> = (from..(from + 10).min(end)).collect();
        assert_eq!(offsets(&read_at(from)), expected);
    }
    // While the bucket cannot be reached, readers get an error, and no record is skipped.
    let before = read_at(0);
    bucket.set(Fault::Status(403));
    let answer = get(&daemon, &dataset, "getRecords?partitionId=1&limit=10&startOffset=0");
    refused(&answer, 500, "INTERNAL", "Default:Internal");
    bucket.set(Fault::None);
    assert_eq!(read_at(0), before);
}

#[test]
fn staged_records_are_readable_while_the_bucket_is_down() {
    let bucket = Bucket::start();
    bucket.set(Fault::Down);
    let config = format!("[compactor]\nmax_idle = \"100ms\"\n{}", bucket.config("t"));
    let daemon = Setup::with_config(&config).start();
    let dataset = create(&daemon, "s", &schema());
    let all = || read(&daemon, &dataset, "partitionId=0&limit=100");
    for part in 0..3_i64 {
        publish(&daemon, &dataset, &json!([{"id": "a", "n": 2 * part}, {"id": "b", "n": 2 * part + 1}]));
        eventually("a staged file", || {
            let staged = daemon.get("/admin/v1/staged").json();
            i64::try_from(staged["staged"].as_array().unwrap().len()).ok().filter(|files| *files > part)
        });
    }
    let staged = all();
    assert_eq!((numbers(&staged), offsets(&staged)), ((0..6).collect(), (0..6).collect()));
    bucket.set(Fault::None);
    publish_files(&daemon);
    assert_eq!(daemon.get("/admin/v1/staged").json()["staged"], json!([]));
    assert_eq!(all(), staged);
}
