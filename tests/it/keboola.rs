//! Keboola's Buffer API: receivers, exports and their tasks.

use crate::support::{Daemon, Response, Setup, request};
use serde_json::{Value, json};

/// A call with a credential, as the vendor's clients send it.
pub fn call(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(daemon.ingest, method, path, &[("x-storageapi-token", "any")], body.as_bytes())
}

pub fn get(daemon: &Daemon, path: &str) -> Value {
    let found = call(daemon, "GET", path, &Value::Null);
    assert_eq!(found.status, 200, "{path}: {}", found.text());
    found.json()
}

/// Makes a call that starts a task, and returns the finished task.
pub fn task(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Value {
    let begun = call(daemon, method, path, body);
    let status = if method == "PATCH" { 200 } else { 202 };
    assert_eq!(begun.status, status, "{}", begun.text());
    let begun = begun.json();
    assert_eq!((&begun["status"], &begun["isFinished"]), (&json!("processing"), &json!(false)));
    let path = begun["url"].as_str().unwrap().split_once("/v1/tasks/").unwrap().1.to_owned();
    assert_eq!(begun["id"], path);
    let ended = get(daemon, &format!("/v1/tasks/{path}"));
    assert_eq!(ended["isFinished"], true, "{ended}");
    ended
}

/// Like [`task`], for tasks that must succeed.
pub fn done(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Value {
    let ended = task(daemon, method, path, body);
    assert_eq!(ended["status"], "success", "{ended}");
    ended
}

/// An export with an id column and a template column.
pub fn export(name: &str, table: &str, content: &str) -> Value {
    json!({"name": name, "mapping": {"tableId": table, "columns": [
        {"type": "id", "name": "id", "primaryKey": true},
        {"type": "template", "name": "t", "template": {"language": "jsonnet", "content": content}},
    ]}})
}

/// An export with columns that do not depend on the content of the body.
pub fn plain(name: &str, table: &str) -> Value {
    json!({"name": name, "mapping": {"tableId": table, "columns": [
        {"type": "id", "name": "id"}, {"type": "body", "name": "body"},
    ]}})
}

/// The path of a receiver's import route.
pub fn import_path(daemon: &Daemon, receiver: &str) -> String {
    let url = get(daemon, &format!("/v1/receivers/{receiver}"))["url"].as_str().unwrap().to_owned();
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    assert_eq!(host, daemon.ingest.to_string());
    format!("/{path}")
}

pub fn import(daemon: &Daemon, path: &str, kind: &str, body: &str) -> Response {
    request(daemon.ingest, "POST", path, &[("content-type", kind)], body.as_bytes())
}

/// Checks status, name and message of a refusal.
pub fn refused(answer: &Response, status: u16, error: &str, message: &str) {
    let body = answer.json();
    let expected = json!({"statusCode": status, "error": error, "message": message});
    assert_eq!((answer.status, &body), (status, &expected));
}

#[test]
fn a_receiver_with_exports_is_created_shown_changed_and_deleted() {
    let daemon = Daemon::dev();
    let body = json!({"name": "My Receiver", "exports": [plain("First One", "in.c-b.one"), plain("Two", "in.c-b.two")]});
    let ended = done(&daemon, "POST", "/v1/receivers", &body);
    assert_eq!((&ended["type"], &ended["result"]), (&json!("receiver.create"), &json!("receiver created")));
    assert_eq!(ended["outputs"], json!({"receiverId": "my-receiver"}));
    let id = ended["id"].as_str().unwrap();
    let (start, random) = id.rsplit_once("Z_").unwrap();
    assert!(start.starts_with("my-receiver/receiver.create/20") && random.len() == 5, "{id}");
    assert!(ended["duration"].is_u64() && ended["finishedAt"].as_str().unwrap().ends_with('Z'));

    let answer = call(&daemon, "GET", "/v1/receivers/my-receiver", &Value::Null);
    assert!(
        answer.text().starts_with("{\n  \"id\": \"my-receiver\",\n  \"url\": \"http://"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-request-id").map(str::len), Some(15));
    let receiver = answer.json();
    assert_eq!((&receiver["name"], &receiver["description"]), (&json!("My Receiver"), &json!("")));
    let secret = receiver["url"].as_str().unwrap().rsplit_once("/v1/import/1/my-receiver/").unwrap().1;
    assert!(secret.len() == 48 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{secret}");
    let first = json!({
        "id": "first-one", "receiverId": "my-receiver", "name": "First One",
        "mapping": {"tableId": "in.c-b.one", "incremental": true, "columns": [
            {"primaryKey": false, "type": "id", "name": "id"}, {"primaryKey": false, "type": "body", "name": "body"},
        ]},
        "conditions": {"count": 10000, "size": "5MB", "time": "5m0s"},
    });
    assert_eq!((&receiver["exports"][0], &receiver["exports"][1]["id"]), (&first, &json!("two")));
    assert_eq!(get(&daemon, "/v1/receivers"), json!({ "receivers": [receiver] }));
    assert_eq!(get(&daemon, "/v1/receivers/my-receiver/exports"), json!({ "exports": receiver["exports"] }));
    assert_eq!(get(&daemon, "/v1/receivers/my-receiver/exports/first-one"), first);

    let changed =
        call(&daemon, "PATCH", "/v1/receivers/my-receiver", &json!({"name": "Other", "description": "d"}));
    assert_eq!(
        (changed.status, &changed.json()["name"], &changed.json()["description"]),
        (200, &json!("Other"), &json!("d"))
    );
    let refreshed = call(&daemon, "POST", "/v1/receivers/my-receiver/tokens/refresh", &Value::Null);
    assert_eq!((refreshed.status, refreshed.json()), (200, changed.json()));
    assert_eq!(get(&daemon, "/v1/receivers/my-receiver"), changed.json());

    let added = done(&daemon, "POST", "/v1/receivers/my-receiver/exports", &plain("Three", "in.c-b.three"));
    assert_eq!((&added["type"], &added["result"]), (&json!("export.create"), &json!("export created")));
    assert_eq!(added["outputs"], json!({"receiverId": "my-receiver", "exportId": "three"}));
    assert!(added["id"].as_str().unwrap().starts_with("my-receiver/three/export.create/20"), "{added}");
    let conditions = json!({"name": "3", "conditions": {"count": 5, "size": "1KB", "time": "90s"}});
    let updated = done(&daemon, "PATCH", "/v1/receivers/my-receiver/exports/three", &conditions);
    assert_eq!((&updated["type"], &updated["result"]), (&json!("export.update"), &json!("export updated")));
    let three = get(&daemon, "/v1/receivers/my-receiver/exports/three");
    assert_eq!(
        (&three["name"], &three["conditions"]),
        (&json!("3"), &json!({"count": 5, "size": "1KB", "time": "1m30s"}))
    );

    for path in ["/v1/receivers/my-receiver/exports/three", "/v1/receivers/my-receiver"] {
        let deleted = call(&daemon, "DELETE", path, &Value::Null);
        assert_eq!((deleted.status, deleted.body.len()), (200, 0), "{}", deleted.text());
        assert_eq!(call(&daemon, "DELETE", path, &Value::Null).status, 404);
    }
    assert_eq!(get(&daemon, "/v1/receivers"), json!({"receivers": []}));
    // The names are free again.
    done(&daemon, "POST", "/v1/receivers", &body);
}

#[test]
fn an_event_becomes_a_row_of_every_export() {
    let daemon = Daemon::dev();
    let body = json!({"name": "r", "exports": [plain("one", "in.c-b.one"), plain("two", "in.c-b.two")]});
    done(&daemon, "POST", "/v1/receivers", &body);
    let path = import_path(&daemon, "r");
    for kind in ["application/json", "application/problem+json; charset=utf-8", "text/plain", "x/y"] {
        let stored = import(&daemon, &path, kind, "{\"a\":1}");
        assert_eq!((stored.status, stored.body.len()), (200, 0), "{kind}: {}", stored.text());
    }
    for table in ["in.c-b.one/export=r.one", "in.c-b.two/export=r.two"] {
        let rows = daemon.rows(table);
        let values: Vec<_> = rows.iter().map(|row| (&row["id"], &row["body"])).collect();
        let body = json!("{\"a\":1}");
        assert_eq!(
            values,
            [(&json!("1"), &body), (&json!("2"), &body), (&json!("3"), &body), (&json!("4"), &body)]
        );
    }
}

#[test]
fn receivers_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    done(&daemon, "POST", "/v1/receivers", &json!({"name": "r", "exports": [plain("e", "in.c-b.t")]}));
    let path = import_path(&daemon, "r");
    daemon.kill();
    let daemon = Setup::dev("").start_at(dir.path());
    assert_eq!(import(&daemon, &path, "application/json", "{}").status, 200);
    assert_eq!(daemon.rows("in.c-b.t").len(), 1);
}
