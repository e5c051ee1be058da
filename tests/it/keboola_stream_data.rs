//! Sending records to the sources of Keboola's Stream API.

use crate::bucket::{Bucket, Fault};
use crate::faults::Faults;
use crate::keboola_stream::{
    SOURCES, call, get, is_refused, path_of, refused, send, sink, sink_body, source, task,
};
use crate::support::{Daemon, Response, Setup, eventually, read_table, request};
use crate::wire::Wire;
use serde_json::{Value, json};

fn columns() -> Value {
    json!([
        {"type": "uuid", "name": "id"},
        {"type": "datetime", "name": "at"},
        {"type": "ip", "name": "ip"},
        {"type": "body", "name": "body"},
        {"type": "headers", "name": "headers"},
        {"type": "path", "name": "a", "path": "a.b[0]", "rawString": true},
        {"type": "path", "name": "c", "path": "c", "defaultValue": "none"},
    ])
}

#[test]
fn a_record_becomes_a_row_of_every_sink() {
    let daemon = Daemon::dev();
    let made = source(&daemon, "http", "My Source");
    assert_eq!(
        (&made["projectId"], &made["branchId"], &made["sourceId"]),
        (&json!(1), &json!(1), &json!("my-source"))
    );
    sink(&daemon, "my-source", "One", "in.c-bucket.one", columns());
    sink(&daemon, "my-source", "Two", "in.c-bucket.two", json!([{"type": "body", "name": "it"}]));
    let path = path_of(&made["http"]["url"]);
    let sent = send(&daemon, &path, r#"{"a": {"b": ["x\"y"]}}"#);
    assert_eq!((sent.status, sent.text().as_str()), (200, "OK"));
    assert_eq!(sent.header("server"), Some("Keboola/Stream/HTTPSource"));
    assert!(sent.header("content-type").unwrap().starts_with("text/plain"));
    assert_eq!(send(&daemon, &path, r#"{"a": {"b": ["2"]}, "c": {"d": 1}}"#).status, 200);
    let rows = daemon.rows("in.c-bucket.one");
    assert_eq!(rows.len(), 2);
    let row = &rows[0];
    assert_eq!(
        (&row["body"], &row["a"], &row["c"]),
        (&json!("{\"a\": {\"b\": [\"x\\\"y\"]}}"), &json!("x\"y"), &json!("\"none\""))
    );
    assert_eq!((&row["ip"], &rows[1]["c"]), (&json!("127.0.0.1"), &json!("{\"d\": 1}")));
    assert!(row["headers"].as_str().unwrap().contains("\"X-Test\":\"\\u003ca\\u003e\""), "{row}");
    let id = row["id"].as_str().unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "a UUID of version 7");
    assert!(row["at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(daemon.rows("in.c-bucket.two").len(), 2);
}

#[test]
fn verbose_answers_list_every_sink() {
    let daemon = Daemon::dev();
    let made = source(&daemon, "http", "s");
    let path = format!("{}?verbose=true", path_of(&made["http"]["url"]));
    let nowhere = send(&daemon, &path, "{}").json();
    assert_eq!(
        (&nowhere["statusCode"], &nowhere["message"]),
        (&json!(200), &json!("No enabled sink found."))
    );
    sink(&daemon, "s", "one", "in.c-b.one", json!([{"type": "body", "name": "it"}]));
    sink(&daemon, "s", "two", "in.c-b.two", json!([{"type": "body", "name": "it"}]));
    let settings = json!({"settings": [{"key": "storage.level.local.encoding.sync.wait", "value": false}]});
    task(&daemon, "PATCH", &format!("{SOURCES}/s/settings"), &settings);
    let sent = send(&daemon, &path, "{}");
    assert_eq!(sent.status, 202);
    let message = "Successfully written to 2/2 sinks.";
    let sink = |id: &str| json!({"sinkId": id, "statusCode": 202, "message": "accepted"});
    let expected = json!({
        "statusCode": 202,
        "message": message,
        "sources": [{
            "projectId": 1,
            "sourceId": "s",
            "branchId": 1,
            "statusCode": 202,
            "message": message,
            "sinks": [sink("one"), sink("two")],
        }],
    });
    assert_eq!(sent.json(), expected);
    assert_eq!(send(&daemon, &path_of(&made["http"]["url"]), "{}").text(), "OK");
    // If one sink waits for the sync, the whole record does.
    let settings = json!({"settings": [{"key": "storage.level.local.encoding.sync.wait", "value": true}]});
    task(&daemon, "PATCH", &format!("{SOURCES}/s/sinks/two/settings"), &settings);
    let sent = send(&daemon, &path, "{}");
    assert_eq!((sent.status, &sent.json()["sources"][0]["sinks"][0]["message"]), (200, &json!("processed")));
}

#[test]
fn unknown_addresses_get_different_errors() {
    let daemon = Daemon::dev();
    let made = source(&daemon, "http", "s");
    let path = path_of(&made["http"]["url"]);
    let secret = path.rsplit('/').next().unwrap();
    assert_eq!((secret.len(), secret.bytes().all(|byte| byte.is_ascii_alphanumeric())), (48, true));
    let unknown = "The specified combination of projectID, sourceID and secret was not found.";
    // The secret with a different last character.
    let last = if path.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{last}", &path[..path.len() - 1]);
    for path in [wrong.as_str(), &path.replace("/s/", "/t/"), &path.replace("/1/", "/2/")] {
        is_refused(&send(&daemon, path, "{}"), 404, "stream.in.noSourceFound", unknown);
    }
    let foo = send(&daemon, &path.replace("/1/", "/foo/"), "{}");
    is_refused(&foo, 400, "stream.in.badRequest", "Invalid project ID \"foo\".");
    let route = "Not found, please send data using POST /stream/<projectID>/<sourceID>/<secret>";
    for (method, path) in
        [("GET", path.as_str()), ("POST", "/stream/1/s"), ("PUT", &path), ("POST", "/stream/1/s/x/y")]
    {
        let answer = request(daemon.ingest, method, path, &[], b"");
        is_refused(&answer, 404, "stream.in.routeNotFound", route);
        assert!(answer.text().contains("\\u003cprojectID\\u003e"), "{}", answer.text());
        assert_eq!(answer.header("server"), Some("Keboola/Stream/HTTPSource"));
    }
    let options = request(daemon.ingest, "OPTIONS", &path, &[], b"");
    assert_eq!(options.status, 200);
    for (name, value) in [
        ("allow", "OPTIONS, POST"),
        ("access-control-allow-methods", "OPTIONS, POST"),
        ("access-control-allow-headers", "*"),
        ("access-control-allow-origin", "*"),
        ("access-control-expose-headers", "*"),
        ("server", "Keboola/Stream/HTTPSource"),
    ] {
        assert_eq!(options.header(name), Some(value), "{name}");
    }
    let large = "x".repeat((1 << 20) + 1);
    let large = send(&daemon, &path, &large);
    is_refused(&large, 413, "stream.in.bodyTooLarge", "Request body size is over the maximum \"1MB\".");
    task(&daemon, "PUT", &format!("{SOURCES}/s/disable"), &Value::Null);
    let disabled = "The specified source is disabled in all branches.";
    is_refused(&send(&daemon, &path, "{}"), 404, "stream.in.disabledSource", disabled);
    task(&daemon, "PUT", &format!("{SOURCES}/s/enable"), &Value::Null);
    assert_eq!(send(&daemon, &path, "{}").status, 200);
}

#[test]
fn a_record_that_one_sink_refuses_is_stored_for_none() {
    let daemon = Daemon::dev();
    let made = source(&daemon, "http", "s");
    sink(&daemon, "s", "all", "in.c-b.all", json!([{"type": "body", "name": "it"}]));
    sink(&daemon, "s", "some", "in.c-b.some", json!([{"type": "path", "name": "k", "path": "key"}]));
    let path = path_of(&made["http"]["url"]);
    let message = "Sink \"some\": invalid value for column \"k\": path \"key\" not found in the body.";
    is_refused(&send(&daemon, &path, "{}"), 422, "stream.in.unprocessableContent", message);
    let text = request(daemon.ingest, "POST", &path, &[("content-type", "text/plain")], b"hello");
    assert_eq!(text.status, 422, "{}", text.text());
    assert!(text.text().contains("text/plain"), "{}", text.text());
    assert_eq!(send(&daemon, &path, "{\"key\": 1}").status, 200);
    assert_eq!((daemon.rows("in.c-b.all").len(), daemon.rows("in.c-b.some").len()), (1, 1));
}

#[test]
fn a_file_is_written_when_a_trigger_fires() {
    // Nothing else would write the file.
    let daemon = Setup::dev("[compactor]\nmax_idle = \"1h\"\n").start();
    let made = source(&daemon, "http", "s");
    sink(&daemon, "s", "k", "in.c-b.t", json!([{"type": "body", "name": "it"}]));
    let settings = json!({"settings": [{"key": "storage.level.staging.upload.trigger.count", "value": 3}]});
    task(&daemon, "PATCH", &format!("{SOURCES}/s/sinks/k/settings"), &settings);
    let path = path_of(&made["http"]["url"]);
    let statistics = format!("{SOURCES}/s/sinks/k/statistics");
    for _ in 0..2 {
        send(&daemon, &path, "{}");
    }
    let local = eventually("two records in the log", || {
        let shown = get(&daemon, &format!("{statistics}/total"));
        (shown["levels"]["local"]["recordsCount"] == 2).then_some(shown)
    });
    assert_eq!(local["total"]["recordsCount"], 2);
    assert!(local["levels"].get("target").is_none(), "{local}");
    let files = get(&daemon, &format!("{statistics}/files"));
    assert_eq!(files["files"][0]["state"], "writing");
    send(&daemon, &path, "{}");
    let shown = eventually("a published file", || {
        let shown = get(&daemon, &format!("{statistics}/total"));
        (shown["levels"]["target"]["recordsCount"] == 3).then_some(shown)
    });
    for key in ["firstRecordAt", "lastRecordAt", "compressedSize", "uncompressedSize"] {
        assert!(!shown["total"][key].is_null(), "{shown}");
    }
    assert!(shown["levels"].get("local").is_none(), "{shown}");
    let files = get(&daemon, &format!("{statistics}/files"));
    let file = &files["files"][0];
    assert_eq!(
        (&file["state"], &file["statistics"]["levels"]["target"]["recordsCount"]),
        (&json!("imported"), &json!(3))
    );
    assert!(file["openedAt"].is_string() && file["importedAt"].is_string());
    assert_eq!(get(&daemon, &format!("{statistics}/files?failedFiles=true"))["files"], json!([]));
    let sources = get(&daemon, "/v1/branches/1/aggregation/sources");
    let sink = &sources["sources"][0]["sinks"][0];
    assert_eq!(sink["statistics"]["total"], shown["total"]);
    assert_eq!(sink["statistics"]["files"], files["files"]);
    assert_eq!(call(&daemon, "DELETE", &format!("{statistics}/clear"), &Value::Null).status, 200);
    let cleared = get(&daemon, &format!("{statistics}/total"));
    assert_eq!((&cleared["total"]["recordsCount"], &cleared["levels"]), (&json!(0), &json!({})));
    let cleared = call(&daemon, "DELETE", &format!("{SOURCES}/s/statistics/clear"), &Value::Null);
    assert_eq!((cleared.status, cleared.text().as_str()), (200, ""));
}

/// Unless a change of the sink, or of its source, names the same setting.
#[test]
fn manual_changes_to_a_sinks_stream_are_kept() {
    let daemon = Daemon::dev();
    let path = path_of(&source(&daemon, "http", "s")["http"]["url"]);
    sink(&daemon, "s", "k", "in.c-b.t", json!([{"type": "body", "name": "it"}]));
    let (stream, of_source) = ("/admin/v1/streams/stream.1.1.s.k", format!("{SOURCES}/s"));
    let by_hand = json!({"description": "by hand", "directory": "elsewhere", "conditions": {"count": 100}});
    let changed = daemon.administer("PATCH", stream, &json!({"settings": by_hand}));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let before = changed.json();
    let settings = || {
        let shown = daemon.get(stream).json();
        assert_eq!(shown["id"], before["id"], "the stream must stay the same");
        shown["settings"].clone()
    };
    let mut records = 0;
    let mut arrives = |what: &str| {
        assert_eq!(send(&daemon, &path, "{}").status, 200);
        records += 1;
        assert_eq!(daemon.rows("elsewhere").len(), records, "{what}");
    };

    let change = |path: &str, body: &Value| {
        assert_eq!(task(&daemon, "PATCH", path, body)["status"], "success", "{body}");
    };
    let of_sink = format!("{of_source}/sinks/k");
    change(&of_sink, &json!({"name": "Other"}));
    assert_eq!(settings(), before["settings"]);
    arrives("after another name");
    change(&of_sink, &json!({"description": "by the contract"}));
    let mut expected = before["settings"].clone();
    expected["description"] = "by the contract".into();
    assert_eq!(settings(), expected);
    let trigger = |count: u64| {
        let key = "storage.level.staging.upload.trigger.count";
        json!({"settings": [{"key": key, "value": count}]})
    };
    // Settings of the source, for all of its sinks.
    for (path, count) in [(format!("{of_source}/settings"), 7), (format!("{of_sink}/settings"), 8)] {
        change(&path, &trigger(count));
        let conditions = settings()["conditions"].clone();
        assert_eq!((&conditions["count"], &conditions["age_seconds"]), (&json!(count), &json!(30)));
        assert_eq!(settings()["directory"], "elsewhere");
        arrives("after other settings");
    }
    change(&of_sink, &json!({"table": {"tableId": "in.c-b.u"}}));
    assert_eq!(send(&daemon, &path, "{}").status, 200);
    assert_eq!((daemon.rows("elsewhere").len(), daemon.rows("in.c-b.u").len()), (records, 1));
    // If the stream is deleted by hand, the sink takes no records. The next change of the sink creates it again.
    assert_eq!(daemon.administer("DELETE", stream, &Value::Null).status, 204);
    let verbose = || send(&daemon, &format!("{path}?verbose=true"), "{}").json()["message"].clone();
    assert_eq!(verbose(), "No enabled sink found.");
    change(&of_sink, &json!({"name": "Again"}));
    assert_eq!(verbose(), "Successfully written to 1/1 sinks.");
    assert_eq!(daemon.rows("in.c-b.u").len(), 2);
}

#[test]
fn files_that_the_destination_refuses_stay_staged_with_the_reason() {
    let bucket = Bucket::start();
    bucket.set(Fault::Status(503));
    let config = format!("[compactor]\nmax_idle = \"1h\"\n{}", bucket.config("p"));
    let daemon = Setup::dev(&config).start();
    let path = path_of(&source(&daemon, "http", "s")["http"]["url"]);
    sink(&daemon, "s", "k", "in.c-b.t", json!([{"type": "body", "name": "it"}]));
    let settings = json!({"settings": [{"key": "storage.level.staging.upload.trigger.count", "value": 2}]});
    task(&daemon, "PATCH", &format!("{SOURCES}/s/sinks/k/settings"), &settings);
    let statistics = format!("{SOURCES}/s/sinks/k/statistics");
    let total = || get(&daemon, &format!("{statistics}/total"));
    let files = |query: &str| get(&daemon, &format!("{statistics}/files{query}"))["files"].clone();
    let records = |of: &Value| {
        let levels = of["levels"].as_object().unwrap().iter();
        let levels = levels.map(|(level, sums)| (level.clone(), sums["recordsCount"].as_u64().unwrap()));
        (levels.collect::<Vec<_>>(), of["total"]["recordsCount"].as_u64().unwrap())
    };
    let on = |levels: &[(&str, u64)]| {
        let sum = levels.iter().map(|(_, count)| count).sum::<u64>();
        (levels.iter().map(|(level, count)| ((*level).to_owned(), *count)).collect::<Vec<_>>(), sum)
    };
    let is = |what: &str, levels: &[(&str, u64)]| {
        eventually(what, || (records(&total()) == on(levels)).then_some(()));
    };

    assert_eq!(files("?failedFiles=true"), json!([]));
    for n in 1..=2 {
        assert_eq!(send(&daemon, &path, &format!("{{\"n\":{n}}}")).status, 200);
    }
    is("a staged file", &[("staging", 2)]);
    assert_eq!(send(&daemon, &path, "{\"n\":3}").status, 200);
    is("another record in the log", &[("local", 1), ("staging", 2)]);
    // Newest first; only one file has been tried.
    let failed =
        eventually("a failed attempt", || Some(files("?failedFiles=true")).filter(|f| f != &json!([])));
    let [file] = &failed.as_array().unwrap()[..] else { panic!("{failed}") };
    assert_eq!((&file["state"], records(&file["statistics"])), (&json!("importing"), on(&[("staging", 2)])));
    assert!(file["retryAttempt"].as_u64() >= Some(1), "{file}");
    assert!(file["retryReason"].as_str().is_some_and(|reason| reason.contains("503")), "{file}");
    let time = |key: &str| file[key].as_str().unwrap_or_else(|| panic!("{key} in {file}")).to_owned();
    // It is retried by then at the latest.
    assert!(time("retryAfter") > time("closingAt") && time("closingAt") >= time("openedAt"), "{file}");
    assert!(file.get("importedAt").is_none(), "{file}");
    let all = files("");
    let states: Vec<&Value> = all.as_array().unwrap().iter().map(|file| &file["state"]).collect();
    assert_eq!(states, ["writing", "importing"]);
    let aggregated = get(&daemon, "/v1/branches/1/aggregation/sources");
    let statistics = &aggregated["sources"][0]["sinks"][0]["statistics"];
    assert_eq!(records(statistics), on(&[("local", 1), ("staging", 2)]));
    assert!(statistics["files"][1]["retryReason"].is_string(), "{statistics}");

    bucket.set(Fault::None);
    is("a published file", &[("local", 1), ("target", 2)]);
    assert_eq!(send(&daemon, &path, "{\"n\":4}").status, 200);
    is("another one", &[("target", 4)]);
    assert_eq!(files("?failedFiles=true"), json!([]));
    let all = files("");
    for file in all.as_array().unwrap() {
        assert_eq!(
            (&file["state"], records(&file["statistics"])),
            (&json!("imported"), on(&[("target", 2)]))
        );
        assert!(file["importedAt"].is_string(), "{file}");
        assert!(["retryAttempt", "retryReason", "retryAfter"].iter().all(|key| file.get(key).is_none()));
    }
    assert_eq!((all.as_array().unwrap().len(), read_table(&bucket.dir("p/in.c-b.t")).len()), (2, 4));
}

/// Checks a server error: its name, and the exception id that the daemon's log contains.
fn is_ours(answer: &Response, status: u16, error: &str) {
    assert_eq!((refused(answer).0, refused(answer).1.as_str()), (status, error), "{}", answer.text());
    let exception = format!("keboola-stream-{}", answer.header("x-request-id").unwrap());
    assert_eq!(answer.json()["exceptionId"], exception);
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "errors are JSON whatever the request"
    );
}

#[test]
fn a_full_disk_is_507_and_the_client_retries() {
    let config = "[limits]\nbody_max = \"256KiB\"\ndecoded_max = \"512KiB\"\n[wal]\nsegment_bytes = \"1MiB\"\n\
                  prepared_segments = 1\nmax_bytes = \"64MiB\"\n[compactor]\nmax_idle = \"1h\"\n";
    let faults = Faults::none();
    let daemon = faults.on(Setup::dev(config)).start();
    let path = path_of(&source(&daemon, "http", "s")["http"]["url"]);
    let logs = format!("{}/v1/logs", path_of(&source(&daemon, "otlp", "o")["otlp"]["url"]));
    for of in ["s", "o"] {
        sink(&daemon, of, "k", &format!("in.c-b.{of}"), json!([{"type": "body", "name": "it"}]));
    }
    let body = format!("\"{}\"", "x".repeat(100_000));
    let mut stored = 0;
    let mut record = || {
        let answer = send(&daemon, &path, &body);
        stored += usize::from(answer.status == 200);
        answer
    };
    assert_eq!(record().status, 200);
    faults.begin("disk-full");
    let full = eventually("a full disk", || Some(record()).filter(|answer| answer.status != 200));
    is_ours(&full, 507, "stream.in.insufficientStorage");
    assert_eq!(full.header("server"), Some("Keboola/Stream/HTTPSource"));
    let seconds: u32 = full.header("retry-after").expect("a refusal must say when to retry").parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(daemon.get("/readyz").json()["reason"], "disk full");
    // OpenTelemetry exporters retry after 503, but not after 507.
    let text = json!({"stringValue": "x".repeat(100_000)});
    let export = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": text}]}]}]});
    let full = send(&daemon, &logs, &export.to_string());
    is_ours(&full, 503, "stream.in.insufficientStorage");
    assert!(full.header("retry-after").is_some() && full.text().contains("disk"), "{}", full.text());
    faults.end_all();
    eventually("accepting", || (record().status == 200).then_some(()));
    assert_eq!(send(&daemon, &logs, &export.to_string()).status, 200);
    assert_eq!((daemon.rows("in.c-b.s").len(), daemon.rows("in.c-b.o").len()), (stored, 1));
}

#[test]
fn failed_writes_and_shutdown_tell_the_client_to_retry() {
    let faults = Faults::none();
    let daemon = faults.on(Setup::dev("")).start();
    let path = path_of(&source(&daemon, "http", "s")["http"]["url"]);
    let otlp = path_of(&source(&daemon, "otlp", "o")["otlp"]["url"]);
    for of in ["s", "o"] {
        sink(&daemon, of, "k", &format!("in.c-b.{of}"), json!([{"type": "body", "name": "it"}]));
    }
    let export = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{}]}]}]}).to_string();
    let begin = |path: &str, length: usize| {
        let mut wire = Wire::connect(daemon.ingest);
        let headers = "host: h\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n";
        wire.send(format!("POST {path} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n"));
        assert_eq!(wire.response().status, 100);
        wire
    };
    let under_way = [
        (path.clone(), "{}"),
        (format!("{path}?verbose=true"), "{}"),
        (format!("{otlp}/v1/logs"), export.as_str()),
    ];
    let under_way = under_way.map(|(path, body)| (begin(&path, body.len()), body));
    faults.begin("sync-fails");
    is_ours(&send(&daemon, &path, "{}"), 500, "stream.in.writeFailed");
    eventually("the start of the drain", || (daemon.get("/healthz").status == 503).then_some(()));
    for (mut wire, body) in under_way {
        wire.send(body);
        let ending = wire.response();
        is_ours(&ending, 503, "stream.in.shutdown");
        assert_eq!(ending.header("retry-after"), Some("5"));
    }
    assert_eq!(daemon.wait().status.code(), Some(70));
}

#[test]
fn an_invalid_template_is_refused_with_its_position() {
    let daemon = Daemon::dev();
    let made = source(&daemon, "http", "s");
    let template = |content: &str| {
        let template = json!({"language": "jsonnet", "content": content});
        json!([{"type": "template", "name": "t", "template": template}])
    };
    let sinks = format!("{SOURCES}/s/sinks");
    let answer = call(&daemon, "POST", &sinks, &sink_body("k", "in.c-b.t", template("invalid")));
    let message = "Column \"t\" template is invalid: 1:1-8 Unknown variable: invalid.";
    is_refused(&answer, 400, "stream.api.badRequest", message);
    sink(&daemon, "s", "k", "in.c-b.t", template("Body('a') + ':' + Header('X-Test')"));
    let path = path_of(&made["http"]["url"]);
    assert_eq!(send(&daemon, &path, "{\"a\": \"b\"}").status, 200);
    let message = "Sink \"k\": invalid value for column \"t\": path \"a\" not found in the body.";
    is_refused(&send(&daemon, &path, "{}"), 422, "stream.in.unprocessableContent", message);
    let rows = daemon.rows("in.c-b.t");
    assert_eq!((rows.len(), &rows[0]["t"]), (1, &json!("\"b:<a>\"")));
}

#[test]
fn sources_and_sinks_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    let made = source(&daemon, "http", "s");
    sink(&daemon, "s", "k", "in.c-b.t", json!([{"type": "body", "name": "it"}]));
    let path = path_of(&made["http"]["url"]);
    assert_eq!(send(&daemon, &path, "{\"n\": 1}").status, 200);
    daemon.kill();
    let daemon = Setup::dev("").start_at(dir.path());
    assert_eq!(send(&daemon, &path, "{\"n\": 2}").status, 200);
    assert_eq!(daemon.rows("in.c-b.t").len(), 2);
    assert_eq!(get(&daemon, &format!("{SOURCES}/s/sinks/k"))["version"]["number"], 1);
}
