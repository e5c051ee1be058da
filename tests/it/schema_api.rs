//! Streams and schemas through the admin API and `forebay stream`: created, changed, refused, deleted.

use crate::support::{Daemon, Response, Setup, fields, request};
use crate::wire::count;
use serde_json::{Value, json};
use std::process::{Command, Output};

pub fn admin(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Response {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    request(daemon.admin, method, &format!("/admin/v1/streams/{path}"), &[], text.as_bytes())
}

/// Creates or changes a stream.
pub fn put(daemon: &Daemon, name: &str, body: &Value) -> Value {
    let response = admin(daemon, "PUT", name, body);
    assert!(matches!(response.status, 200 | 201), "{}", response.text());
    response.json()
}

/// Columns for the API from `name type` separated by semicolons; `!` after the type makes a column non-nullable.
pub fn columns(text: &str) -> Value {
    let column = |text: &str| {
        let (name, kind) = text.trim().split_once(' ').unwrap();
        match kind.strip_suffix('!') {
            Some(kind) => json!({"name": name, "type": kind, "nullable": false}),
            None => json!({"name": name, "type": kind}),
        }
    };
    text.split(';').map(column).collect()
}

fn names(schema: &Value) -> Vec<&str> {
    schema["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect()
}

fn refused(response: &Response, status: u16, detail: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let found = response.json()["detail"].as_str().unwrap().to_owned();
    assert!(found.contains(detail), "{found:?} does not contain {detail:?}");
}

#[test]
fn a_stream_is_created_shown_changed_and_deleted() {
    let daemon = Daemon::dev();
    let body = json!({"policy": "strict", "columns": columns("a int8!; b decimal(10, 2)"),
        "settings": {"description": "visits", "on_bad_line": "reject"}});
    let made = admin(&daemon, "PUT", "e", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!((&made["policy"], &made["schema"]["version"]), (&json!("strict"), &json!(1)));
    assert_eq!(made["settings"]["on_bad_line"], "reject");
    let again = admin(&daemon, "PUT", "e", &body);
    assert_eq!((again.status, &again.json()["changes"]), (200, &json!([])));
    let shown = daemon.get("/admin/v1/streams/e").json();
    assert_eq!((&shown["schema"], &shown["settings"]), (&made["schema"], &made["settings"]));
    // Only the given settings change.
    let patched =
        admin(&daemon, "PATCH", "e", &json!({"settings": {"on_bad_line": null}, "policy": "propose"}));
    let patched = patched.json();
    assert_eq!(patched["settings"]["description"], "visits");
    assert_eq!(patched["settings"]["on_bad_line"], "quarantine");
    assert_eq!((&patched["policy"], &patched["schema"]["version"]), (&json!("propose"), &json!(2)));
    let versions = daemon.get("/admin/v1/streams/e/schema/versions").json()["versions"].clone();
    let policies: Vec<_> = versions.as_array().unwrap().iter().map(|v| v["policy"].clone()).collect();
    assert_eq!(policies, ["strict", "propose"]);
    let id = made["id"].as_str().unwrap();
    assert_eq!(admin(&daemon, "DELETE", id, &Value::Null).status, 204);
    refused(&admin(&daemon, "DELETE", id, &Value::Null), 404, "no stream has the name or id");
    refused(&daemon.get("/admin/v1/streams/e"), 404, "no stream");
    let listed = daemon.get("/admin/v1/streams").json();
    assert_eq!(listed["streams"], json!([]));
}

#[test]
fn a_patch_keeps_settings_that_it_does_not_name() {
    let daemon = Daemon::dev();
    let given = json!({
        "description": "orders", "on_bad_line": "reject", "time": {"column": "at", "late": 60},
        "quarantine": "tinybird", "project": "acme", "partitions": 2, "key": ["id"],
        "landing": {"raw": "ndjson"}, "payload": "json", "row_tag": "order", "conditions": {"count": 10},
        "directory": "shop/orders", "vendor": {"engine": "MergeTree"},
    });
    let body =
        json!({"policy": "strict", "columns": columns("id string; at timestamp"), "settings": given.clone()});
    let made = put(&daemon, "e", &body)["settings"].clone();
    let defaults = put(&daemon, "plain", &json!({}))["settings"].clone();
    let patch = |settings: Value| admin(&daemon, "PATCH", "e", &json!({ "settings": settings }));
    let patched = |settings: Value| {
        let answer = patch(settings);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let shown = daemon.get("/admin/v1/streams/e").json()["settings"].clone();
        assert_eq!(answer.json()["settings"], shown);
        shown
    };
    let with = |of: &Value, name: &str, value: &Value| {
        let mut settings = of.clone();
        settings[name] = value.clone();
        settings
    };
    let dropping = with(&made, "mode", &json!("drop"));
    assert_eq!(patched(json!({"mode": "drop"})), dropping);
    assert_eq!(patched(json!({})), dropping);
    // A named setting is replaced as a whole.
    let conditions = json!({"count": null, "bytes": 1000, "age_seconds": null});
    assert_eq!(patched(json!({"conditions": {"bytes": 1000}})), with(&dropping, "conditions", &conditions));
    let before = patched(json!({"mode": null, "conditions": made["conditions"]}));
    assert_eq!(before, made);
    for name in given.as_object().unwrap().keys() {
        if matches!(name.as_str(), "partitions" | "key") {
            assert_eq!(patch(json!({ name: null })).status, 400, "{name} must not change");
            continue;
        }
        assert_eq!(patched(json!({ name: null })), with(&made, name, &defaults[name]), "{name}");
        assert_eq!(patched(json!({ name: given[name] })), made, "{name}");
    }
    for value in [json!(null), json!("drop")] {
        refused(&patch(json!({"mod": value, "mode": "drop"})), 400, "unknown field `mod`");
    }
    assert_eq!(daemon.get("/admin/v1/streams/e").json()["settings"], made);
}

#[test]
fn concurrent_patches_do_not_overwrite_each_other() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({}));
    std::thread::scope(|scope| {
        for name in ["description", "row_tag", "project"] {
            let daemon = &daemon;
            scope.spawn(move || {
                for n in 0..20 {
                    let value = json!(format!("{name} {n}"));
                    let body = json!({"settings": {name: value}});
                    assert_eq!(admin(daemon, "PATCH", "e", &body).status, 200);
                    assert_eq!(daemon.get("/admin/v1/streams/e").json()["settings"][name], value);
                }
            });
        }
    });
}

#[test]
fn invalid_schemas_are_refused_and_change_nothing() {
    let daemon = Daemon::dev();
    let strict = |columns: Value| json!({"policy": "strict", "columns": columns});
    let check = |name: &str, body: &Value, status: u16, detail: &str| {
        refused(&admin(&daemon, "PUT", name, body), status, detail);
    };
    check("e", &strict(json!([])), 400, "requires at least one column");
    check("e", &strict(columns("a int99")), 400, "not a valid column type");
    check("e", &strict(columns("a int8; a int8")), 400, "duplicate column name 'a'");
    check("e", &strict(columns("_lsn int8")), 400, "system column");
    check("e", &strict(columns("a decimal(99, 2)")), 400, "a precision of 1 to 76");
    check("e", &strict(json!([{"name": "a"}])), 400, "missing field `type`");
    check("e", &strict(json!([{"name": "a", "type": "int8", "x": 1}])), 400, "unknown field");
    check("e", &strict(json!([{"name": "a", "type": "int8", "default": "x"}])), 400, "is not a valid int8");
    check("e", &strict(json!([{"name": "a", "type": "int8", "path": []}])), 400, "1 to 32 keys");
    check("e", &json!({"policy": "freestyle"}), 400, "unknown variant");
    check("e", &json!({"policy": "mapped"}), 400, "a mapped stream requires a mapping");
    check("e", &json!({"settings": {"time": {"column": "t"}}}), 400, "not a declared timestamp column");
    check("e", &json!({"settings": {"colour": "red"}}), 400, "unknown field");
    check("e", &json!([]), 400, "invalid body");
    check("9lives", &strict(columns("a int8")), 400, "a stream's name starts with");
    check("a_quarantine", &strict(columns("a int8")), 400, "quarantine tables");
    let many: Vec<String> = (0..1001).map(|n| format!("c{n} int8")).collect();
    check("e", &strict(columns(&many.join(";"))), 400, "too many Parquet columns: 1001, the limit is 1000");
    refused(&request(daemon.admin, "PUT", "/admin/v1/streams/e", &[], b"{"), 400, "invalid body");
    refused(&admin(&daemon, "PATCH", "e", &json!({})), 404, "no stream");
    assert_eq!(daemon.get("/admin/v1/streams").json()["streams"], json!([]));
}

#[test]
fn a_change_that_loses_data_is_refused_unless_forced() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "strict", "columns": columns("a int32; b string; c string")}));
    daemon.post("name=e&wait=table", r#"{"a":1,"b":"x","c":"y"}"#);
    let change = |query: &str, version: u32, text: &str| {
        let body = json!({"version": version, "columns": columns(text)});
        admin(&daemon, "PUT", &format!("e/schema{query}"), &body)
    };
    refused(&change("", 1, "a int32; b string"), 409, "column 'c' is removed");
    refused(&change("", 1, "a int16; b string; c string"), 409, "column 'a' changes from int32 to int16");
    refused(&change("", 1, "a int32!; b string; c string"), 409, "no longer accepts nulls");
    let dry = change("?dry=true", 1, "a int64; b string; d date");
    assert_eq!((dry.status, &dry.json()["version"]), (200, &json!(1)));
    let texts: Vec<_> = dry.json()["changes"].as_array().unwrap().iter().map(|c| c["text"].clone()).collect();
    assert_eq!(
        texts,
        [
            "column 'a' changes from int32 to int64",
            "column 'd' of type date is added",
            "column 'c' is removed"
        ]
    );
    refused(&change("?dry=perhaps", 1, "a int64"), 400, "'dry' must be true or false");
    // A change that loses nothing needs no `force`; any other is made if forced.
    let wider = change("", 1, "a int64; b string; c string; d date");
    assert_eq!((wider.status, &wider.json()["version"]), (200, &json!(2)), "{}", wider.text());
    refused(&change("", 1, "a int64"), 409, "the schema has version 2, not 1");
    let forced = change("?force=true", 2, "a int64; d date");
    assert_eq!((forced.status, names(&forced.json())), (200, vec!["a", "d"]));
    daemon.post("name=e", r#"{"a":5000000000,"b":"x","d":"2020-04-05"}"#);
    let rows: Vec<Value> = daemon.rows("e").iter().map(fields).collect();
    assert_eq!(
        rows,
        [json!({"a": 1, "b": "x", "c": "y"}), json!({"a": 5_000_000_000_i64, "d": "2020-04-05"})]
    );
    // The log still has the record as received.
    let records = daemon.get("/admin/v1/streams/e/records").json()["records"].clone();
    assert_eq!(records[1]["b"], "x");
}

#[test]
fn concurrent_changes_have_one_winner() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "strict", "columns": columns("a int8")}));
    let change = |n: usize| {
        let body = json!({"version": 1, "columns": columns(&format!("a int8; b{n} int8"))});
        admin(&daemon, "PUT", "e/schema", &body).status
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || change(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won = statuses.iter().filter(|status| **status == 200).count();
    let stale = statuses.iter().filter(|status| **status == 409).count();
    assert_eq!((won, stale), (1, 7), "{statuses:?}");
    let schema = daemon.get("/admin/v1/streams/e/schema").json();
    assert_eq!((&schema["version"], names(&schema).len()), (&json!(2), 2));
}

#[test]
fn schemas_and_settings_survive_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    let settings = json!({"time": {"column": "t", "late": 60, "required": true}, "vendor": {"engine": "x"}});
    put(
        &daemon,
        "e",
        &json!({"policy": "propose", "columns": columns("t timestamp; n int8"), "settings": settings}),
    );
    let before = put(&daemon, "e", &json!({"columns": columns("t timestamp; n int16")}));
    daemon.post("name=e", r#"{"t":"2001-01-01","n":300}"#);
    drop(daemon.kill());
    let daemon = Setup::dev("").start_at(dir.path());
    let after = daemon.get("/admin/v1/streams/e").json();
    assert_eq!((&after["schema"], &after["settings"]), (&before["schema"], &before["settings"]));
    assert_eq!(after["schema"]["version"], 2);
    let rows = daemon.rows("e_quarantine");
    assert_eq!(rows.len(), 1);
    assert!(rows[0]["reason"].as_str().unwrap().starts_with("late: 't' is 2001-01-01"), "{rows:?}");
}

#[test]
fn a_stream_can_be_deleted_while_records_arrive() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "strict", "columns": columns("a int64")}));
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut rows = 0;
            for n in 0..200 {
                let response = daemon.post("name=e", format!("{{\"a\":{n},\"b\":1}}"));
                assert_eq!((response.status, response.counts()), (202, (1, 0)), "{}", response.text());
                rows += 1;
            }
            rows
        });
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let deleted = admin(&daemon, "DELETE", "e", &Value::Null).status;
            assert!(matches!(deleted, 204 | 404), "{deleted}");
        }
        sender.join().unwrap()
    });
    // With --dev the next event creates the stream again. Whichever stream it is, each row is stored once.
    let rows = daemon.rows("e");
    let mut numbers: Vec<i64> = rows.iter().map(|row| row["a"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..sent).collect::<Vec<i64>>());
    assert_eq!(count(&daemon, "forebay_compactor_verdict_mismatches_total"), 0);
    assert_eq!(count(&daemon, "forebay_compactor_restarts_total"), 0);
}

#[test]
fn a_deleted_stream_is_not_found_where_events_create_none() {
    let daemon = Setup::with_config("").start();
    let token = format!("Bearer {}", daemon.token.clone().unwrap());
    let headers = [("authorization", token.as_str())];
    let put = request(daemon.admin, "PUT", "/admin/v1/streams/e", &headers, b"{}");
    assert_eq!(put.status, 201, "{}", put.text());
    let unauthorized = request(daemon.admin, "DELETE", "/admin/v1/streams/e", &[], b"");
    assert_eq!(unauthorized.status, 401);
    assert_eq!(request(daemon.admin, "DELETE", "/admin/v1/streams/e", &headers, b"").status, 204);
    assert_eq!(request(daemon.admin, "GET", "/admin/v1/streams/e/schema", &headers, b"").status, 404);
}

fn forebay(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(["stream", "--admin-url", &format!("http://{}", daemon.admin)]).args(arguments);
    command.output().unwrap()
}

fn printed(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = forebay(daemon, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_command_line_shows_and_changes_schemas() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "propose", "columns": columns("a int8; b string")}));
    daemon.post("name=e&wait=table", r#"{"a":1,"n":5,"o":{"x":"y"},"p q":true}"#);
    let proposals = printed(&daemon, &["proposals", "e"]);
    assert_eq!(proposals.lines().count(), 4, "{proposals}");
    assert!(proposals.contains("struct<x: string>"), "{proposals}");
    let accepted = printed(&daemon, &["accept", "e", "n=int16", "o"]);
    assert!(accepted.contains("schema, version 2") && accepted.contains("int16"), "{accepted}");
    let failed = forebay(&daemon, &["accept", "e", "n"]);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("field \"n\" is not proposed"));
    printed(&daemon, &["accept", "e", "--all"]);
    daemon.post("name=e&wait=table", r#"{"y":1,"z/z":2}"#);
    printed(&daemon, &["dismiss", "e", "z/z"]);
    let left = printed(&daemon, &["proposals", "e"]);
    assert!(left.contains("\ny ") && !left.contains("z/z"), "{left}");
    let failed = forebay(&daemon, &["dismiss", "e", "z/z"]);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("no field is proposed"), "{failed:?}");
    printed(&daemon, &["dismiss", "e", "--all"]);
    assert_eq!(printed(&daemon, &["proposals", "e"]).lines().count(), 1);
    let schema = printed(&daemon, &["schema", "e", "--json"]);
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(names(&schema), ["a", "b", "n", "o", "p q"]);
    let file = daemon.dir().join("schema.json");
    std::fs::write(&file, json!({"columns": columns("a int8; n int16")}).to_string()).unwrap();
    let file = file.to_str().unwrap();
    let failed = forebay(&daemon, &["schema", "e", "--set", file]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("column 'b' is removed"));
    let dry = printed(&daemon, &["schema", "e", "--set", file, "--dry"]);
    assert!(dry.contains("column 'b' is removed  (loses data)"), "{dry}");
    let forced = printed(&daemon, &["schema", "e", "--set", file, "--force", "--expect", "3"]);
    assert!(forced.ends_with("version 4\n"), "{forced}");
    let stale = forebay(&daemon, &["schema", "e", "--set", file, "--expect", "3"]);
    assert!(String::from_utf8_lossy(&stale.stderr).contains("version 4, not 3"));
    assert_eq!(printed(&daemon, &["set-policy", "e", "strict"]), "version 5\n");
    let versions = printed(&daemon, &["schema", "e", "--versions"]);
    assert_eq!(versions.lines().count(), 6, "{versions}");
    assert!(printed(&daemon, &["show", "e"]).contains("strict"));
    assert!(printed(&daemon, &["list"]).contains("strict"));
    printed(&daemon, &["delete", "e"]);
    assert_eq!(forebay(&daemon, &["show", "e"]).status.code(), Some(1));
}
