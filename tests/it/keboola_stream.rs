//! Keboola's Stream API: sources, sinks, and their tasks, versions and settings.

use crate::support::{Daemon, Response, Setup, eventually, fields, parquet_files, request};
use serde_json::{Map, Value, json};

pub const SOURCES: &str = "/v1/branches/default/sources";

pub fn call(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(daemon.ingest, method, path, &[("x-storageapi-token", "any")], body.as_bytes())
}

pub fn get(daemon: &Daemon, path: &str) -> Value {
    let answer = call(daemon, "GET", path, &Value::Null);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Status, name and message of a refusal.
pub fn refused(answer: &Response) -> (u16, String, String) {
    let body = answer.json();
    assert_eq!(body["statusCode"], answer.status, "{body}");
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    (answer.status, text("error"), text("message"))
}

pub fn is_refused(answer: &Response, status: u16, error: &str, message: &str) {
    assert_eq!(refused(answer), (status, error.to_owned(), message.to_owned()));
}

/// Makes a call that starts a task, and returns the finished task.
pub fn task(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Value {
    let begun = call(daemon, method, path, body);
    assert_eq!(begun.status, 202, "{method} {path}: {}", begun.text());
    let begun = begun.json();
    assert_eq!((&begun["status"], &begun["isFinished"]), (&json!("processing"), &json!(false)));
    let id = begun["taskId"].as_str().unwrap();
    assert!(begun["url"].as_str().unwrap().ends_with(&format!("/v1/tasks/{id}")), "{begun}");
    let ended = get(daemon, &format!("/v1/tasks/{id}"));
    assert_eq!(ended["isFinished"], true, "{ended}");
    for key in ["taskId", "type", "url", "createdAt"] {
        assert_eq!(ended[key], begun[key], "{key}");
    }
    assert!(ended["duration"].is_u64() && ended["finishedAt"].is_string(), "{ended}");
    ended
}

fn succeeds(daemon: &Daemon, method: &str, path: &str, body: &Value, kind: &str, result: &str) {
    let ended = task(daemon, method, path, body);
    assert_eq!(
        (&ended["status"], &ended["type"], &ended["result"]),
        (&json!("success"), &json!(kind), &json!(result))
    );
}

pub fn source(daemon: &Daemon, kind: &str, name: &str) -> Value {
    let ended = task(daemon, "POST", SOURCES, &json!({"type": kind, "name": name}));
    let id = ended["outputs"]["sourceId"].as_str().unwrap();
    get(daemon, &format!("{SOURCES}/{id}"))
}

pub fn sink_body(name: &str, table: &str, columns: Value) -> Value {
    let mapping = Value::from(Map::from_iter([("columns".to_owned(), columns)]));
    json!({"type": "table", "name": name, "table": {"type": "keboola", "tableId": table, "mapping": mapping}})
}

pub fn sink(daemon: &Daemon, source: &str, name: &str, table: &str, columns: Value) -> String {
    let ended = task(daemon, "POST", &format!("{SOURCES}/{source}/sinks"), &sink_body(name, table, columns));
    assert_eq!(ended["status"], "success", "{ended}");
    ended["outputs"]["sinkId"].as_str().unwrap().to_owned()
}

/// The path of a URL.
pub fn path_of(url: &Value) -> String {
    let url = url.as_str().unwrap();
    url[url.find("/stream/").or_else(|| url.find("/otlp/")).unwrap()..].to_owned()
}

pub fn send(daemon: &Daemon, path: &str, body: &str) -> Response {
    let headers = [("content-type", "application/json"), ("x-test", "<a>")];
    request(daemon.ingest, "POST", path, &headers, body.as_bytes())
}

#[test]
fn sources_are_created_shown_changed_and_deleted() {
    let daemon = Daemon::dev();
    let body = json!({"type": "http", "name": "My Source", "description": "d"});
    let ended = task(&daemon, "POST", SOURCES, &body);
    assert_eq!(ended["type"], "api.create.source");
    assert!(ended["taskId"].as_str().unwrap().starts_with("api.create.source/1/my-source/20"));
    assert_eq!(ended["result"], "Source has been created successfully.");
    let outputs = &ended["outputs"];
    assert_eq!(
        (&outputs["projectId"], &outputs["branchId"], &outputs["sourceId"]),
        (&json!(1), &json!(1), &json!("my-source"))
    );
    assert!(outputs["url"].as_str().unwrap().ends_with("/v1/branches/1/sources/my-source"));
    let path = format!("{SOURCES}/my-source");
    let shown = get(&daemon, &path);
    assert_eq!(
        (&shown["name"], &shown["type"], &shown["description"]),
        (&json!("My Source"), &json!("http"), &json!("d"))
    );
    let version = &shown["version"];
    assert_eq!((&version["number"], &version["description"]), (&json!(1), &json!("New source.")));
    assert_eq!(version["by"]["type"], "user");
    assert!(version["hash"].as_str().unwrap().len() == 16 && shown["created"]["at"].is_string());
    assert!(shown.get("deleted").is_none() && shown.get("disabled").is_none());

    let again = call(&daemon, "POST", SOURCES, &body);
    let message = "Source \"my-source\" already exists in the branch.";
    is_refused(&again, 409, "stream.api.sourceAlreadyExists", message);

    let change = json!({"name": "Other", "changeDescription": "Renamed."});
    succeeds(&daemon, "PATCH", &path, &change, "api.update.source", "Source has been updated successfully.");
    let shown = get(&daemon, &path);
    assert_eq!((&shown["name"], &shown["description"]), (&json!("Other"), &json!("d")));
    assert_eq!(
        (&shown["version"]["number"], &shown["version"]["description"]),
        (&json!(2), &json!("Renamed."))
    );

    let disabled = "Source has been disabled successfully.";
    succeeds(&daemon, "PUT", &format!("{path}/disable"), &Value::Null, "api.disable.source", disabled);
    assert!(get(&daemon, &path)["disabled"]["by"]["type"] == "user");
    let enabled = "Source has been enabled successfully.";
    succeeds(&daemon, "PUT", &format!("{path}/enable"), &Value::Null, "api.enable.source", enabled);

    let old = path_of(&get(&daemon, &path)["http"]["url"]);
    let rotated = call(&daemon, "POST", &format!("{path}/rotate-secret"), &Value::Null);
    assert_eq!(rotated.status, 200);
    let new = path_of(&rotated.json()["http"]["url"]);
    assert_eq!((send(&daemon, &old, "{}").status, send(&daemon, &new, "{}").status), (404, 200));

    let deleted = "Source has been deleted successfully.";
    succeeds(&daemon, "DELETE", &path, &Value::Null, "api.delete.source", deleted);
    let gone = call(&daemon, "GET", &path, &Value::Null);
    is_refused(&gone, 404, "stream.api.sourceNotFound", "Source \"my-source\" not found in the branch.");
    assert_eq!(send(&daemon, &new, "{}").status, 404);
    let list = get(&daemon, &format!("{SOURCES}/deleted"));
    assert_eq!(list["sources"][0]["sourceId"], "my-source");
    assert!(list["sources"][0]["deleted"]["at"].is_string());
    let undeleted = "Source has been undeleted successfully.";
    succeeds(&daemon, "PUT", &format!("{path}/undelete"), &Value::Null, "api.undelete.source", undeleted);
    assert_eq!(send(&daemon, &new, "{}").status, 200, "the secret must not change");
    let again = call(&daemon, "PUT", &format!("{path}/undelete"), &Value::Null);
    let message = "Deleted source \"my-source\" not found in the branch.";
    is_refused(&again, 404, "stream.api.deletedSourceNotFound", message);
}

#[test]
fn sinks_are_created_shown_changed_and_deleted() {
    let daemon = Daemon::dev();
    let made = source(&daemon, "http", "s");
    let send_to = path_of(&made["http"]["url"]);
    let sinks = format!("{SOURCES}/s/sinks");
    let body = sink_body("My Sink", "in.c-b.t", json!([{"type": "body", "name": "it"}]));
    let created = "Sink has been created successfully.";
    succeeds(&daemon, "POST", &sinks, &body, "api.create.sink", created);
    let again = call(&daemon, "POST", &sinks, &body);
    let message = "Sink \"my-sink\" already exists in the source.";
    is_refused(&again, 409, "stream.api.sinkAlreadyExists", message);
    let misfit = sink_body("Other", "in.c-b.t", json!([{"type": "body", "name": "other"}]));
    let ended = task(&daemon, "POST", &sinks, &misfit);
    let message = "columns of the table \"in.c-b.t\" do not match expected [\"other\"], found [\"it\"]";
    assert_eq!((&ended["status"], &ended["error"]), (&json!("error"), &json!(message)));
    let path = format!("{sinks}/my-sink");
    let shown = get(&daemon, &path);
    assert_eq!(shown["table"], body["table"]);
    assert_eq!(
        (&shown["sourceId"], &shown["sinkId"], &shown["type"]),
        (&json!("s"), &json!("my-sink"), &json!("table"))
    );
    assert!(shown.get("allowedSignals").is_none(), "{shown}");
    send(&daemon, &send_to, "{\"n\": 1}");
    let change = json!({"table": {"tableId": "in.c-b.u"}, "changeDescription": "Another table."});
    succeeds(&daemon, "PATCH", &path, &change, "api.update.sink", "Sink has been updated successfully.");
    send(&daemon, &send_to, "{\"n\": 2}");
    assert_eq!((daemon.rows("in.c-b.t").len(), daemon.rows("in.c-b.u").len()), (1, 1));

    let disabled = "Sink has been disabled successfully.";
    succeeds(&daemon, "PUT", &format!("{path}/disable"), &Value::Null, "api.disable.sink", disabled);
    send(&daemon, &send_to, "{\"n\": 3}");
    assert_eq!(daemon.rows("in.c-b.u").len(), 1, "a disabled sink must not take records");
    let enabled = "Sink has been enabled successfully.";
    succeeds(&daemon, "PUT", &format!("{path}/enable"), &Value::Null, "api.enable.sink", enabled);

    succeeds(
        &daemon,
        "DELETE",
        &path,
        &Value::Null,
        "api.delete.sink",
        "Sink has been deleted successfully.",
    );
    is_refused(
        &call(&daemon, "GET", &path, &Value::Null),
        404,
        "stream.api.sinkNotFound",
        "Sink \"my-sink\" not found in the source.",
    );
    assert_eq!(get(&daemon, &format!("{sinks}/deleted"))["sinks"][0]["sinkId"], "my-sink");
    assert_eq!(get(&daemon, &sinks)["sinks"], json!([]));
    let undeleted = "Sink has been undeleted successfully.";
    succeeds(&daemon, "PUT", &format!("{path}/undelete"), &Value::Null, "api.undelete.sink", undeleted);
    send(&daemon, &send_to, "{\"n\": 4}");
    assert_eq!(daemon.rows("in.c-b.u").len(), 2);

    // Deleting a source deletes its sinks, and undeleting it restores them.
    task(&daemon, "DELETE", &format!("{SOURCES}/s"), &Value::Null);
    is_refused(
        &call(&daemon, "GET", &path, &Value::Null),
        404,
        "stream.api.sourceNotFound",
        "Source \"s\" not found in the branch.",
    );
    task(&daemon, "PUT", &format!("{SOURCES}/s/undelete"), &Value::Null);
    assert_eq!(get(&daemon, &path)["sinkId"], "my-sink");
}

#[test]
fn a_cascade_leaves_nothing_and_frees_the_name() {
    let daemon = Daemon::dev();
    let made = source(&daemon, "http", "s");
    sink(&daemon, "s", "k", "in.c-b.t", json!([{"type": "body", "name": "it"}]));
    send(&daemon, &path_of(&made["http"]["url"]), "{}");
    assert_eq!(daemon.rows("in.c-b.t").len(), 1);
    let result = "Source and its destination tables and bucket have been deleted.";
    let path = format!("{SOURCES}/s?cascade=true");
    succeeds(&daemon, "DELETE", &path, &Value::Null, "api.delete.source", result);
    assert_eq!(get(&daemon, &format!("{SOURCES}/deleted"))["sources"], json!([]));
    let undelete = call(&daemon, "PUT", &format!("{SOURCES}/s/undelete"), &Value::Null);
    assert_eq!(undelete.status, 404);
    let tables = daemon.data_dir().join("tables");
    eventually("the removal of all files", || parquet_files(&tables).is_empty().then_some(()));
    let made = source(&daemon, "http", "s");
    sink(&daemon, "s", "k", "in.c-b.t", json!([{"type": "body", "name": "it"}]));
    send(&daemon, &path_of(&made["http"]["url"]), "[2]");
    assert_eq!(fields(&daemon.rows("in.c-b.t")[0]), json!({"it": "[2]"}));
}

#[test]
fn versions_are_kept_and_can_be_rolled_back() {
    let daemon = Daemon::dev();
    let made = source(&daemon, "http", "s");
    let path = path_of(&made["http"]["url"]);
    sink(
        &daemon,
        "s",
        "k",
        "in.c-b.t",
        json!([{"type": "path", "name": "it", "path": "a", "defaultValue": ""}]),
    );
    let sink = format!("{SOURCES}/s/sinks/k");
    let mapping = json!({"columns": [{"type": "path", "name": "it", "path": "b", "defaultValue": ""}]});
    task(&daemon, "PATCH", &sink, &json!({"table": {"mapping": mapping}}));
    let versions = get(&daemon, &format!("{sink}/versions"));
    let numbers: Vec<&Value> =
        versions["versions"].as_array().unwrap().iter().map(|v| &v["number"]).collect();
    assert_eq!((numbers, &versions["page"]["totalCount"]), (vec![&json!(1), &json!(2)], &json!(2)));
    assert_eq!(get(&daemon, &format!("{sink}/versions/1"))["table"]["mapping"]["columns"][0]["path"], "a");
    send(&daemon, &path, r#"{"a": 1, "b": 2}"#);
    let done = "Sink version was rolled back successfully.";
    let rollback = format!("{sink}/versions/1/rollback");
    succeeds(&daemon, "PUT", &rollback, &Value::Null, "api.rollback.sinkVersion", done);
    send(&daemon, &path, r#"{"a": 1, "b": 2}"#);
    let rows = daemon.rows("in.c-b.t");
    assert_eq!((&rows[0]["it"], &rows[1]["it"]), (&json!("2"), &json!("1")));
    assert_eq!(get(&daemon, &sink)["version"]["number"], 3);

    task(&daemon, "PATCH", &format!("{SOURCES}/s"), &json!({"name": "Other"}));
    let done = "Source version was rolled back successfully.";
    let rollback = format!("{SOURCES}/s/versions/1/rollback");
    succeeds(&daemon, "PUT", &rollback, &Value::Null, "api.rollback.sourceVersion", done);
    assert_eq!(get(&daemon, &format!("{SOURCES}/s"))["name"], "s");
    let missing = call(&daemon, "GET", &format!("{SOURCES}/s/versions/25"), &Value::Null);
    let message = "Source version \"s/0000000025\" not found in the branch.";
    is_refused(&missing, 404, "stream.api.sourceVersionNotFound", message);
    let missing = call(&daemon, "GET", &format!("{sink}/versions/25"), &Value::Null);
    assert_eq!(refused(&missing).1, "stream.api.sinkVersionNotFound");
    let word = call(&daemon, "GET", &format!("{SOURCES}/s/versions/x"), &Value::Null);
    let message = "Invalid value \"x\" for \"versionNumber\", must be a integer.";
    is_refused(&word, 400, "stream.api.invalidFieldType", message);
}

#[test]
fn settings_are_changed_reset_and_protected() {
    let daemon = Daemon::dev();
    source(&daemon, "http", "s");
    sink(&daemon, "s", "k", "in.c-b.t", json!([{"type": "body", "name": "it"}]));
    let path = format!("{SOURCES}/s/sinks/k/settings");
    let count = "storage.level.target.import.trigger.count";
    let value = |key: &str| {
        let shown = get(&daemon, &path);
        shown["settings"].as_array().unwrap().iter().find(|item| item["key"] == key).unwrap().clone()
    };
    let item = value(count);
    assert_eq!(
        (&item["value"], &item["defaultValue"], &item["overwritten"], &item["protected"]),
        (&json!(50_000), &json!(50_000), &json!(false), &json!(false))
    );
    let set =
        |value: Value| json!({"changeDescription": "Fewer.", "settings": [{"key": count, "value": value}]});
    let done = "Sink settings have been updated successfully.";
    succeeds(&daemon, "PATCH", &path, &set(json!(5)), "api.update.sinkSettings", done);
    assert_eq!((&value(count)["value"], &value(count)["overwritten"]), (&json!(5), &json!(true)));
    succeeds(&daemon, "PATCH", &path, &set(Value::Null), "api.update.sinkSettings", done);
    assert_eq!(value(count)["value"], 50_000);
    let source_settings = format!("{SOURCES}/s/settings");
    let done = "Source settings have been updated successfully.";
    succeeds(&daemon, "PATCH", &source_settings, &set(json!(7)), "api.update.sourceSettings", done);
    assert_eq!((&value(count)["value"], &value(count)["overwritten"]), (&json!(7), &json!(false)));

    let protected = "storage.level.local.encoding.sync.mode";
    let body = json!({"settings": [{"key": protected, "value": "cache"}]});
    let message = format!("Cannot modify protected keys: \"{protected}\".");
    is_refused(&call(&daemon, "PATCH", &path, &body), 403, "stream.api.forbidden", &message);
    for item in [
        json!({"key": "no.such"}),
        json!({"key": count, "value": 0}),
        json!({"key": "storage.level.target.import.trigger.interval", "value": "29s"}),
    ] {
        let answer = call(&daemon, "PATCH", &path, &json!({"settings": [item]}));
        assert_eq!((answer.status, refused(&answer).1.as_str()), (400, "stream.api.badRequest"));
    }
    let missing = call(&daemon, "PATCH", &path, &json!({"settings": [{"value": 1}]}));
    assert_eq!(refused(&missing).2, "\"key\" is missing from body.settings[0]");
}

#[test]
fn a_test_call_shows_rows_and_stores_nothing() {
    let daemon = Daemon::dev();
    source(&daemon, "http", "s");
    let columns = json!([{"type": "body", "name": "body"}, {"type": "path", "name": "path", "path": "key"}]);
    sink(&daemon, "s", "k", "in.c-b.t", columns);
    let path = format!("{SOURCES}/s/test");
    let headers = [("x-storageapi-token", "any"), ("content-type", "application/json")];
    let shown = request(daemon.ingest, "POST", &path, &headers, b"{\"key\":\"value\"}");
    let column = |name: &str, value: &str| json!({"name": name, "value": value});
    let columns = json!([column("body", "{\"key\":\"value\"}"), column("path", "\"value\"")]);
    let expected = json!({
        "projectId": 1,
        "branchId": 1,
        "sourceId": "s",
        "tables": [{"sinkId": "k", "tableId": "in.c-b.t", "rows": [{"columns": columns}]}],
    });
    assert_eq!((shown.status, shown.json()), (200, expected));
    let refused = request(daemon.ingest, "POST", &path, &headers, b"{}");
    let message = "Invalid value for column \"path\": path \"key\" not found in the body.";
    is_refused(&refused, 422, "stream.api.unprocessableContent", message);
    assert_eq!(daemon.rows("in.c-b.t").len(), 0);
}

#[test]
fn lists_are_paged() {
    let daemon = Daemon::dev();
    for name in ["c", "a", "b"] {
        source(&daemon, "http", name);
    }
    let page = |query: &str| {
        let list = get(&daemon, &format!("{SOURCES}?{query}"));
        let ids: Vec<String> = list["sources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|source| source["sourceId"].as_str().unwrap().to_owned())
            .collect();
        (ids.join(""), list["page"].clone())
    };
    let told = |after: &str, limit: u32, last: &str| json!({"afterId": after, "limit": limit, "lastId": last, "totalCount": 3});
    assert_eq!(page(""), ("abc".to_owned(), told("", 100, "c")));
    assert_eq!(page("limit=2"), ("ab".to_owned(), told("", 2, "b")));
    assert_eq!(page("limit=2&afterId=b"), ("c".to_owned(), told("b", 2, "c")));
    for limit in ["0", "101", "x"] {
        assert_eq!(call(&daemon, "GET", &format!("{SOURCES}?limit={limit}"), &Value::Null).status, 400);
    }
}

#[test]
fn refusals_are_worded_as_in_the_contract() {
    let daemon = Daemon::dev();
    let bare = request(daemon.ingest, "GET", SOURCES, &[], b"");
    let message = "\"X-StorageApi-Token\" is missing from header.";
    is_refused(&bare, 400, "stream.api.missingField", message);
    assert!(bare.header("x-request-id").unwrap().len() == 15);
    is_refused(
        &call(&daemon, "GET", "/v1/branches/9/sources", &Value::Null),
        404,
        "stream.api.branchNotFound",
        "Branch \"9\" not found in the project.",
    );
    let branch = call(&daemon, "GET", "/v1/branches/x/sources", &Value::Null);
    assert_eq!(refused(&branch).1, "stream.api.badRequest");
    is_refused(
        &call(&daemon, "GET", "/v1/branches/1/foo", &Value::Null),
        404,
        "stream.api.endpointNotFound",
        "No endpoint found for path \"/v1/branches/1/foo\".",
    );
    let task = call(&daemon, "GET", "/v1/tasks/api.create.source/1/s/x", &Value::Null);
    assert_eq!(task.status, 404, "{}", task.text());
    for (body, error, message) in [
        (json!({}), "missingField", "\"type\" is missing from body; \"name\" is missing from body."),
        (
            json!({"type": "foo", "name": "n"}),
            "invalidEnumValue",
            "Value of body.type must be one of \"http\", \"otlp\" but got value \"foo\".",
        ),
        (
            json!({"type": "http", "name": ""}),
            "invalidLength",
            "Length of body.name must be greater or equal than 1 but got value \"\" (len=0)",
        ),
        (
            json!({"type": "http", "name": "n".repeat(41)}),
            "invalidLength",
            "Length of body.name must be lesser or equal than 40 but got value \
             \"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\" (len=41)",
        ),
    ] {
        is_refused(&call(&daemon, "POST", SOURCES, &body), 400, &format!("stream.api.{error}"), message);
    }
}

#[test]
fn invalid_sinks_are_refused() {
    let daemon = Daemon::dev();
    source(&daemon, "http", "s");
    let sinks = format!("{SOURCES}/s/sinks");
    let body = |columns: Value| sink_body("k", "in.c-b.t", columns);
    let path = "body.table.mapping.columns[0]";
    for (body, error, message) in [
        (json!({"type": "table", "name": "k"}), "missingField", "\"table\" is missing from body.".to_owned()),
        (body(json!([{"name": "a"}])), "missingField", format!("\"type\" is missing from {path}")),
        (
            body(json!([{"type": "path", "name": "a"}])),
            "missingField",
            format!("\"path\" is missing from {path}"),
        ),
        (
            body(json!([{"type": "body", "name": "a"}, {"type": "body", "name": "a"}])),
            "badRequest",
            "Column name \"a\" is not unique.".to_owned(),
        ),
        (sink_body("k", "table", json!([{"type": "body", "name": "a"}])), "badRequest", String::new()),
    ] {
        let answer = call(&daemon, "POST", &sinks, &body);
        let (status, name, said) = refused(&answer);
        assert_eq!((status, name), (400, format!("stream.api.{error}")), "{said}");
        assert!(message.is_empty() || said == message, "{said}");
    }
    let many: Vec<Value> = (0..101).map(|n| json!({"type": "body", "name": n.to_string()})).collect();
    for columns in [json!([]), json!(many)] {
        assert_eq!(refused(&call(&daemon, "POST", &sinks, &body(columns))).1, "stream.api.invalidLength");
    }
    let id = call(&daemon, "POST", &sinks, &body(json!([{"type": "id", "name": "a"}])));
    assert_eq!(refused(&id).1, "stream.api.invalidEnumValue");
}

#[test]
fn missing_objects_are_not_found() {
    let daemon = Daemon::dev();
    source(&daemon, "http", "s");
    for (method, path) in [
        ("GET", "t"),
        ("PATCH", "t"),
        ("DELETE", "t"),
        ("GET", "t/settings"),
        ("POST", "t/test"),
        ("PUT", "t/disable"),
        ("POST", "t/rotate-secret"),
        ("DELETE", "t/statistics/clear"),
        ("GET", "t/versions"),
        ("GET", "t/sinks"),
        ("GET", "s/sinks/t/statistics/total"),
        ("GET", "s/sinks/t/statistics/files"),
    ] {
        let answer = call(&daemon, method, &format!("{SOURCES}/{path}"), &json!({}));
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
    }
}

#[test]
fn tokens_need_the_right_and_are_bound_to_their_project() {
    let daemon = Setup::with_config("").start();
    let admin = daemon.token.clone().unwrap();
    let as_token = |token: &str, method: &str, path: &str, body: &Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request(daemon.ingest, method, path, &[("x-storageapi-token", token)], body.as_bytes())
    };
    let unknown = as_token("nobody's", "GET", SOURCES, &Value::Null);
    is_refused(&unknown, 401, "storage.tokenInvalid", "Invalid access token.");
    let authorization = format!("Bearer {admin}");
    let make = |body: Value| {
        let headers = [("authorization", authorization.as_str())];
        let made = request(daemon.admin, "POST", "/admin/v1/tokens", &headers, body.to_string().as_bytes());
        made.json()["token"].as_str().unwrap_or_else(|| panic!("{}", made.text())).to_owned()
    };
    let sender = make(json!({"name": "sender", "scopes": ["ingest:*"]}));
    let refusal = as_token(&sender, "GET", SOURCES, &Value::Null);
    let message = "Please provide a master token of a project administrator.";
    is_refused(&refusal, 401, "stream.api.masterTokenRequired", message);
    let other = make(json!({"name": "other", "scopes": ["create"], "project": "7"}));
    assert_eq!(as_token(&other, "POST", SOURCES, &json!({"type": "http", "name": "s"})).status, 202);
    let shown = as_token(&other, "GET", &format!("{SOURCES}/s"), &Value::Null).json();
    assert_eq!(shown["projectId"], 7);
    assert_eq!(shown["version"]["by"]["tokenDesc"], "other");
    assert_eq!(as_token(&admin, "GET", &format!("{SOURCES}/s"), &Value::Null).status, 404);
    let path = path_of(&shown["http"]["url"]);
    assert!(path.starts_with("/stream/7/s/"));
    assert_eq!(send(&daemon, &path, "{}").status, 200, "the secret is the credential");
}
