//! Receivers: one request for the tables of several exports, files that are held back, events given to later exports.

use crate::support::{Daemon, Response, Setup, eventually, read_table, request};
use serde_json::{Value, json};

#[test]
fn no_files_are_held_back_by_default() {
    let daemon = Daemon::dev();
    daemon.post("name=visits&wait=table", "{\"a\":1}");
    let recovered = daemon.admin_post("/admin/v1/staged/recover");
    assert_eq!(
        (recovered.status, recovered.json()),
        (200, json!({"published": [], "replays": [], "held": []}))
    );
    assert_eq!(daemon.admin_post("/admin/v1/staged/recover?stream=none").status, 404);
    // A mapped stream needs a mapping, and accepts events only through its receiver.
    let put = |body: &str| {
        let body = body.as_bytes();
        crate::support::request(daemon.admin, "PUT", "/admin/v1/streams/m", &[], body)
    };
    let refused = put(r#"{"policy":"mapped"}"#);
    assert_eq!(refused.status, 400, "{}", refused.text());
    let column = r#"{"type":"body","name":"event"}"#;
    let made = put(&format!(r#"{{"policy":"mapped","settings":{{"mapping":{{"columns":[{column}]}}}}}}"#));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["schema"]["columns"][0]["name"], "event");
    let refused = daemon.post("name=m", "{\"a\":1}");
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("through its receiver"), "{}", refused.text());
    // The same for a stream that would land its records nowhere.
    let body = br#"{"settings":{"landing":{"table":false}}}"#;
    let made = crate::support::request(daemon.admin, "PUT", "/admin/v1/streams/nowhere", &[], body);
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(daemon.post("name=nowhere", "{\"a\":1}").status, 422);
    // Without its table its rows would be lost, and it does not store records as received.
    for landing in [r#"{"table":false}"#, r#"{"raw":"ndjson"}"#] {
        let body = format!("{{\"settings\":{{\"landing\":{landing}}}}}");
        let refused = request(daemon.admin, "PATCH", "/admin/v1/streams/m", &[], body.as_bytes());
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains("can land only in its table"), "{}", refused.text());
    }
}

#[test]
fn a_directory_belongs_to_one_stream() {
    let daemon = Daemon::dev();
    let put = |name: &str, directory: &str| {
        let body = json!({"settings": {"directory": directory}}).to_string();
        let path = format!("/admin/v1/streams/{name}");
        crate::support::request(daemon.admin, "PUT", &path, &[], body.as_bytes())
    };
    assert_eq!(put("a", "in.c-b.table/export=r.e").status, 201);
    let taken = put("b", "in.c-b.table/export=r.e");
    assert!(taken.status == 400 && taken.text().contains("another stream"), "{}", taken.text());
    for bad in ["", "..", "a/../b", "/a", "a/", "a b", "a\\b", &"x".repeat(600)] {
        let refused = put("b", bad);
        assert!(
            refused.status == 400 && refused.text().contains("not a valid directory"),
            "{}",
            refused.text()
        );
    }
    daemon.post("name=a&wait=table", "{\"n\":1}");
    assert_eq!(daemon.rows("in.c-b.table/export=r.e").len(), 1);
    // Its quarantine is in a directory next to it.
    daemon.post("name=a&wait=table", "{\"n\":2}\nnone\n");
    assert_eq!(daemon.rows("in.c-b.table/export=r.e_quarantine").len(), 1);
}

#[test]
fn a_streams_own_conditions_override_the_configuration() {
    let config = "[compactor]\nmax_idle = \"1h\"\nmax_rows = 2\n";
    let daemon = crate::support::Setup::dev(config).start();
    for (name, conditions) in [
        ("count", json!({"count": 3})),
        ("bytes", json!({"bytes": 1000})),
        ("age", json!({"age_seconds": 1})),
        ("none", json!({"count": 100})),
    ] {
        let body = json!({"settings": {"conditions": conditions}}).to_string();
        let path = format!("/admin/v1/streams/{name}");
        let made = crate::support::request(daemon.admin, "PUT", &path, &[], body.as_bytes());
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let files = |name: &str| {
        let shown = daemon.get(&format!("/admin/v1/streams/{name}/files")).json();
        shown["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["rows"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let written = |name: &str, rows: u64| {
        crate::support::eventually("the file", || (files(name).iter().sum::<u64>() == rows).then_some(()));
    };
    for n in 0..3 {
        daemon.post("name=none", format!("{{\"n\":{n}}}"));
        daemon.post("name=count", format!("{{\"n\":{n}}}"));
    }
    written("count", 3);
    daemon.post("name=bytes", format!("{{\"n\":\"{}\"}}", "x".repeat(600)));
    daemon.post("name=bytes", format!("{{\"n\":\"{}\"}}", "x".repeat(600)));
    written("bytes", 2);
    daemon.post("name=age", "{\"n\":1}");
    written("age", 1);
    assert!(files("none").is_empty(), "the stream's own condition must apply, not that of the configuration");
}

/// With all three conditions, the first one that is met writes the file, and nothing else does.
#[test]
fn the_first_condition_met_writes_the_file() {
    let daemon = Setup::dev("[compactor]\nmax_age = \"1h\"\nmax_idle = \"1h\"\n").start();
    let conditions = |count: u64, bytes: u64, seconds: u64| json!({"settings": {"conditions": {"count": count, "bytes": bytes, "age_seconds": seconds}}});
    let admin = |method: &str, stream: &str, body: &Value| {
        let path = format!("/admin/v1/streams/{stream}");
        let answer = request(daemon.admin, method, &path, &[], body.to_string().as_bytes());
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    };
    let written = |stream: &str| {
        let files = daemon.get(&format!("/admin/v1/streams/{stream}/files")).json()["files"].clone();
        files.as_array().unwrap().iter().map(|file| file["rows"].as_u64().unwrap()).sum::<u64>()
    };
    for (stream, settings) in [
        ("count", conditions(3, 10_000, 3600)),
        ("bytes", conditions(1000, 500, 3600)),
        ("age", conditions(1000, 10_000, 1)),
        ("none", conditions(1000, 10_000, 3600)),
    ] {
        admin("PUT", stream, &settings);
        assert_eq!(daemon.post(&format!("name={stream}"), "{\"n\":1}").status, 202);
    }
    // An export, for which the contract requires at least 30 s.
    let mut soon = export("soon", &[json!({"type": "body", "name": "body"})]);
    soon["conditions"] = json!({"time": "29s"});
    let refused = call(&daemon, "POST", "/v1/receivers", &json!({"name": "r", "exports": [soon]}));
    assert!(refused.status == 400 && refused.text().contains("30s or greater"), "{}", refused.text());
    soon["conditions"]["time"] = "30s".into();
    let mut late = export("late", &[json!({"type": "body", "name": "body"})]);
    late["conditions"] = json!({"time": "24h"});
    make(&daemon, "POST", "/v1/receivers", &json!({"name": "r", "exports": [soon, late]}));
    admin("PATCH", &stream_of(&daemon, "soon"), &json!({"settings": {"conditions": {"age_seconds": 1}}}));
    imported(&daemon, &import_path(&daemon, "r"), "{\"n\":1}");

    eventually("the file by its age", || (written("age") == 1).then_some(()));
    eventually("the export's file by its age", || (rows(&daemon, "soon").len() == 1).then_some(()));
    assert_eq!(["count", "bytes", "none"].map(written), [0; 3], "the conditions of the others are not met");
    assert!(rows(&daemon, "late").is_empty(), "nor those of the other export");
    for n in 2..=3 {
        daemon.post("name=count", format!("{{\"n\":{n}}}"));
    }
    eventually("the file by its count", || (written("count") == 3).then_some(()));
    daemon.post("name=bytes", format!("{{\"n\":\"{}\"}}", "x".repeat(500)));
    eventually("the file by its bytes", || (written("bytes") == 2).then_some(()));
    // The age is that of the first row, for the next file as well.
    daemon.post("name=age", "{\"n\":2}");
    eventually("the next file by its age", || (written("age") == 2).then_some(()));
    assert_eq!(written("none"), 0);
}

/// A management call of Keboola's contract, which creates receivers.
fn call(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(daemon.ingest, method, path, &[("x-storageapi-token", "any")], body.as_bytes())
}

/// Makes a call that starts a task, and waits for its end.
fn done(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Value {
    let begun = call(daemon, method, path, body);
    assert!(matches!(begun.status, 200 | 202), "{}", begun.text());
    let task = begun.json()["id"].as_str().unwrap().to_owned();
    eventually("the task's end", || {
        let task = call(daemon, "GET", &format!("/v1/tasks/{task}"), &Value::Null).json();
        (task["isFinished"] == true).then_some(task)
    })
}

fn make(daemon: &Daemon, method: &str, path: &str, body: &Value) {
    let ended = done(daemon, method, path, body);
    assert_eq!(ended["status"], "success", "{ended}");
}

/// An export with these columns and the row number.
fn export(name: &str, columns: &[Value]) -> Value {
    let id = json!({"type": "id", "name": "id"});
    let columns: Vec<Value> = std::iter::once(id).chain(columns.iter().cloned()).collect();
    json!({"name": name, "mapping": {"tableId": format!("in.c-b.{name}"), "columns": columns}})
}

fn template(name: &str, content: &str) -> Value {
    json!({"type": "template", "name": name, "template": {"language": "jsonnet", "content": content}})
}

/// The path that events are sent to.
fn import_path(daemon: &Daemon, receiver: &str) -> String {
    let shown = call(daemon, "GET", &format!("/v1/receivers/{receiver}"), &Value::Null).json();
    let url = shown["url"].as_str().unwrap();
    url[url.find("/v1/import/").unwrap()..].to_owned()
}

fn import(daemon: &Daemon, path: &str, body: &str) -> Response {
    request(daemon.ingest, "POST", path, &[("content-type", "application/json")], body.as_bytes())
}

fn imported(daemon: &Daemon, path: &str, body: &str) -> u64 {
    let answer = import(daemon, path, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("forebay-receipt").unwrap().parse().unwrap()
}

fn publish(daemon: &Daemon, stream: &str) -> u16 {
    daemon.admin_post(&format!("/admin/v1/publish?stream={stream}")).status
}

/// The name of an export's stream.
fn stream_of(daemon: &Daemon, export: &str) -> String {
    let streams = daemon.get("/admin/v1/streams").json();
    let of_it = |name: &str| {
        daemon.get(&format!("/admin/v1/streams/{name}")).json()["settings"]["directory"]
            .as_str()
            .is_some_and(|directory| directory == format!("in.c-b.{export}/export=r.{export}"))
    };
    let names: Vec<&str> =
        streams["streams"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    names
        .iter()
        .copied()
        .find(|name| of_it(name))
        .unwrap_or_else(|| panic!("no stream of {export}: {names:?}"))
        .to_owned()
}

/// The published rows of an export, ordered by number.
fn rows(daemon: &Daemon, export: &str) -> Vec<Value> {
    let mut rows = read_table(&daemon.data_dir().join(format!("tables/in.c-b.{export}/export=r.{export}")));
    rows.sort_by_key(|row| row["id"].as_str().unwrap().parse::<u64>().unwrap());
    rows
}

fn values(daemon: &Daemon, export: &str, column: &str) -> Vec<String> {
    rows(daemon, export).iter().map(|row| row[column].as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_request_is_one_frame_and_one_row_per_export() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    let exports = json!([
        export("bodies", &[json!({"type": "body", "name": "body"})]),
        export("sums", &[template("sum", "Body(\"a\") + 1")]),
        export(
            "heads",
            &[json!({"type": "headers", "name": "headers"}), json!({"type": "ip", "name": "ip"})]
        ),
    ]);
    make(&daemon, "POST", "/v1/receivers", &json!({"name": "r", "exports": exports}));
    let path = import_path(&daemon, "r");
    let mut receipts: Vec<u64> =
        (1..=3).map(|n| imported(&daemon, &path, &format!("{{\"a\":{n}}}"))).collect();
    assert_eq!(receipts, [receipts[0], receipts[0] + 1, receipts[0] + 2], "each request must be one frame");
    // An event that one export cannot map is stored for none.
    let refused = import(&daemon, &path, "{\"b\":1}");
    assert!(refused.status == 400 && refused.text().contains("path"), "{}", refused.text());
    let streams: Vec<String> = ["bodies", "sums", "heads"].map(|name| stream_of(&daemon, name)).into();
    for stream in &streams {
        assert_eq!(publish(&daemon, stream), 200);
    }
    assert_eq!(values(&daemon, "bodies", "body"), ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
    assert_eq!(values(&daemon, "sums", "sum"), ["2", "3", "4"]);
    assert!(values(&daemon, "heads", "headers")[0].contains("\"Content-Type\":\"application/json\""));
    assert_eq!(values(&daemon, "heads", "ip"), ["127.0.0.1"; 3]);
    let found = daemon.get(&format!("/admin/v1/receipts/{}", receipts[0])).json();
    assert_eq!(found["files"].as_array().unwrap().len(), 3, "{found}");
    // Row numbers continue, whatever happens to the daemon in between.
    receipts.push(imported(&daemon, &path, "{\"a\":4}"));
    daemon.kill();
    let daemon = Setup::dev("").start_at(dir.path());
    receipts.push(imported(&daemon, &path, "{\"a\":5}"));
    for name in ["bodies", "sums", "heads"] {
        assert_eq!(publish(&daemon, &stream_of(&daemon, name)), 200);
        assert_eq!(values(&daemon, name, "id"), ["1", "2", "3", "4", "5"], "{name}");
        let lsns: Vec<u64> = rows(&daemon, name).iter().map(|row| row["_lsn"].as_u64().unwrap()).collect();
        assert_eq!(lsns, receipts, "{name}");
    }
    assert_eq!(values(&daemon, "sums", "sum"), ["2", "3", "4", "5", "6"]);
    let recent = daemon.get(&format!("/admin/v1/streams/{}/records?limit=2", streams[1])).json();
    assert_eq!(recent["records"][1]["sum"], "6", "{recent}");
    assert!(daemon.metric("forebay_compactor_verdict_mismatches_total") < 1.0);
    // A repeat with the same key stores nothing for any export.
    let keyed = |body: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
        request(daemon.ingest, "POST", &path, &headers, body.as_bytes())
    };
    let (first, again) = (keyed("{\"a\":6}"), keyed("{\"a\":6}"));
    assert_eq!(first.header("forebay-receipt"), again.header("forebay-receipt"));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(publish(&daemon, &streams[1]), 200);
    assert_eq!(values(&daemon, "sums", "sum").len(), 6);
    // A replay produces the same rows with the same numbers.
    let before = rows(&daemon, "sums");
    assert_eq!(replay(&daemon, &streams[1])["state"], "done");
    assert_eq!(rows(&daemon, "sums"), before);
}

/// Replays a whole stream and waits for the end.
fn replay(daemon: &Daemon, stream: &str) -> Value {
    let body = json!({"stream": stream, "from": "2020-01-01"}).to_string();
    let asked = request(daemon.admin, "POST", "/admin/v1/replay", &[], body.as_bytes());
    assert_eq!(asked.status, 202, "{}", asked.text());
    let id = asked.json()["id"].clone();
    eventually("the replay's end", || {
        let replay = daemon.get(&format!("/admin/v1/replay/{id}")).json();
        (!["waiting", "running"].contains(&replay["state"].as_str().unwrap())).then_some(replay)
    })
}

#[test]
fn earlier_events_can_be_given_to_an_export() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    make(&daemon, "POST", "/v1/receivers", &json!({"name": "r"}));
    let path = import_path(&daemon, "r");
    for n in 0..5 {
        imported(&daemon, &path, &format!("{{\"a\":{n}}}"));
    }
    // An event that the mapping will reject.
    imported(&daemon, &path, "{\"b\":1}");
    daemon.kill();
    let daemon = Setup::dev("").start_at(dir.path());
    make(&daemon, "POST", "/v1/receivers/r/exports", &export("late", &[template("a", "Body(\"a\")")]));
    let path = import_path(&daemon, "r");
    imported(&daemon, &path, "{\"a\":100}");
    let stream = stream_of(&daemon, "late");
    assert_eq!(publish(&daemon, &stream), 200);
    assert_eq!(values(&daemon, "late", "a"), ["100"], "earlier events must not be given without a replay");
    let replayed = replay(&daemon, &stream);
    assert_eq!((&replayed["state"], &replayed["error"]), (&json!("done"), &Value::Null), "{replayed}");
    assert_eq!(publish(&daemon, &stream), 200);
    assert_eq!(values(&daemon, "late", "a"), ["100", "0", "1", "2", "3", "4"]);
    assert_eq!(values(&daemon, "late", "id"), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(daemon.rows("in.c-b.late/export=r.late_quarantine").len(), 1);
    // They are given once, and later events follow after them.
    assert_eq!(replay(&daemon, &stream)["state"], "done");
    imported(&daemon, &path, "{\"a\":101}");
    daemon.kill();
    let daemon = Setup::dev("").start_at(dir.path());
    assert_eq!(publish(&daemon, &stream), 200);
    assert_eq!(values(&daemon, "late", "a"), ["100", "0", "1", "2", "3", "4", "101"]);
    assert_eq!(values(&daemon, "late", "id"), ["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(daemon.rows("in.c-b.late/export=r.late_quarantine").len(), 1);
}

#[test]
fn a_table_mismatch_stops_only_that_export() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    let body = json!({"type": "body", "name": "body"});
    let exports =
        json!([export("one", std::slice::from_ref(&body)), export("two", std::slice::from_ref(&body))]);
    make(&daemon, "POST", "/v1/receivers", &json!({"name": "r", "exports": exports}));
    let (one, two) = (stream_of(&daemon, "one"), stream_of(&daemon, "two"));
    let path = import_path(&daemon, "r");
    imported(&daemon, &path, "{\"n\":1}");
    assert_eq!((publish(&daemon, &one), publish(&daemon, &two)), (200, 200));
    // The table is changed by hand.
    let columns = |names: &[&str]| {
        let columns: Vec<Value> = names.iter().map(|name| json!({"name": name, "type": "string"})).collect();
        let version = &daemon.get(&format!("/admin/v1/streams/{one}")).json()["schema"]["version"];
        let body = json!({"version": version, "columns": columns}).to_string();
        let path = format!("/admin/v1/streams/{one}/schema?force=true");
        let put = request(daemon.admin, "PUT", &path, &[], body.as_bytes());
        assert_eq!(put.status, 200, "{}", put.text());
    };
    columns(&["id", "body", "extra"]);
    imported(&daemon, &path, "{\"n\":2}");
    assert_eq!(publish(&daemon, &two), 200);
    assert_eq!(
        (rows(&daemon, "one").len(), rows(&daemon, "two").len()),
        (1, 2),
        "the other export must continue"
    );
    let held = || {
        let staged = daemon.get("/admin/v1/staged").json();
        let held = staged["staged"].as_array().unwrap().iter().filter(|file| file["held"].is_string());
        held.cloned().collect::<Vec<_>>()
    };
    let file = eventually("the file is held back", || held().into_iter().next());
    let reason = r#"the table has the columns ["id","body","extra"], the mapping has ["id","body"]"#;
    assert_eq!((&file["stream"], &file["held"]), (&json!(one), &json!(reason)));
    // Nothing was fixed, so nothing is published.
    let recovered = forebay(&daemon, &["recover"]);
    assert!(
        recovered.0 == 1 && recovered.1.contains("0 published") && recovered.1.contains("extra"),
        "{recovered:?}"
    );
    columns(&["id", "body"]);
    assert_eq!(rows(&daemon, "one").len(), 1, "the file must not be published before it is requested");
    let recovered = forebay(&daemon, &["recover", "--stream", &one]);
    assert!(recovered.0 == 0 && recovered.1.contains("1 published"), "{recovered:?}");
    assert_eq!(values(&daemon, "one", "body"), ["{\"n\":1}", "{\"n\":2}"]);
    // The other fix: the table stays, and the mapping is changed to match it.
    columns(&["id", "event"]);
    imported(&daemon, &path, "{\"n\":3}");
    eventually("the file is held back", || held().into_iter().next());
    let renamed = export("one", &[json!({"type": "body", "name": "event"})]);
    let mapping = json!({"settings": {"mapping": {"columns": renamed["mapping"]["columns"]}}}).to_string();
    let path_of_one = format!("/admin/v1/streams/{one}");
    let patched = request(daemon.admin, "PATCH", &path_of_one, &[], mapping.as_bytes());
    assert_eq!(patched.status, 200, "{}", patched.text());
    let recovered = forebay(&daemon, &["recover"]);
    assert!(recovered.0 == 0 && recovered.1.contains("1 rebuilt"), "{recovered:?}");
    let events: Vec<Value> = rows(&daemon, "one").iter().map(|row| row["event"].clone()).collect();
    assert_eq!(events[2], "{\"n\":3}");
    assert_eq!(values(&daemon, "one", "id"), ["1", "2", "3"]);
    assert_eq!(held(), Vec::<Value>::new());
    imported(&daemon, &path, "{\"n\":4}");
    assert_eq!((publish(&daemon, &one), publish(&daemon, &two)), (200, 200));
    assert_eq!((values(&daemon, "one", "id").len(), rows(&daemon, "two").len()), (4, 4));
    daemon.kill();
    let daemon = Setup::dev("").start_at(dir.path());
    assert_eq!(daemon.get("/admin/v1/staged").json()["staged"], json!([]));
}

/// Runs a command against the daemon and returns its status and output.
fn forebay(daemon: &Daemon, arguments: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).arg("--admin-url").arg(format!("http://{}", daemon.admin));
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}
