//! Every limit and every refusal of Keboola's Buffer API, with its exact name and message.

use crate::keboola::{call, done, export, get, import, import_path, plain, refused, task};
use crate::support::{Daemon, Response, Setup, eventually, request};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

const RECEIVERS: &str = "/v1/receivers";

fn post(daemon: &Daemon, body: &Value) -> Response {
    call(daemon, "POST", RECEIVERS, body)
}

/// A daemon with the receiver `r` and its export `e`, which has the template `content`.
fn with_template(content: &str) -> Daemon {
    let daemon = Daemon::dev();
    done(&daemon, "POST", RECEIVERS, &json!({"name": "r", "exports": [export("e", "in.c-b.t", content)]}));
    daemon
}

#[test]
fn missing_fields_and_headers() {
    let daemon = Daemon::dev();
    let bad = |answer: &Response, message: &str| refused(answer, 400, "buffer.missingField", message);
    for path in ["/v1/receivers", "/v1/receivers/x", "/v1/tasks/a/b/c"] {
        let answer = request(daemon.ingest, "GET", path, &[], b"");
        bad(&answer, "\"X-StorageApi-Token\" is missing from header.");
        let answer = request(daemon.ingest, "GET", path, &[("x-storageapi-token", "")], b"");
        bad(&answer, "\"X-StorageApi-Token\" is missing from header.");
    }
    // Errors in the body are reported first.
    let answer = request(daemon.ingest, "POST", RECEIVERS, &[], b"{}");
    bad(&answer, "\"name\" is missing from body.");
    bad(&post(&daemon, &json!({"name": null})), "\"name\" is missing from body.");
    bad(
        &post(&daemon, &json!({"name": "r", "exports": [{}]})),
        "\"name\" is missing from body.exports[0]; \"mapping\" is missing from body.exports[0]",
    );
    bad(
        &post(&daemon, &json!({"name": "r", "exports": [{"name": "e", "mapping": {}}]})),
        "\"tableId\" is missing from body.exports[0].mapping; \"columns\" is missing from body.exports[0].mapping.",
    );
    done(&daemon, "POST", RECEIVERS, &json!({"name": "r"}));
    let answer = request(daemon.ingest, "POST", &import_path(&daemon, "r"), &[], b"{}");
    bad(&answer, "\"Content-Type\" is missing from header.");
    let empty = request(daemon.ingest, "POST", RECEIVERS, &[("x-storageapi-token", "t")], b"");
    refused(&empty, 400, "buffer.missingPayload", "Missing required payload.");
    let broken = request(daemon.ingest, "POST", RECEIVERS, &[("x-storageapi-token", "t")], b"{");
    assert_eq!((broken.status, &broken.json()["error"]), (400, &json!("buffer.decodePayload")));
    let wrong = post(&daemon, &json!({"name": 5}));
    refused(&wrong, 400, "buffer.invalidFieldType", "Invalid value 5 for \"body.name\", must be a string.");
}

#[test]
fn lengths() {
    let daemon = Daemon::dev();
    let bad = |answer: &Response, field: &str, bound: &str, value: &str, length: usize| {
        let message = format!("Length of {field} must be {bound} but got value {value} (len={length})");
        refused(answer, 400, "buffer.invalidLength", &message);
    };
    let quoted = |letter: &str, times: usize| format!("\"{}\"", letter.repeat(times));
    let (least, most) = ("greater or equal than", "lesser or equal than");
    bad(&post(&daemon, &json!({"name": ""})), "body.name", &format!("{least} 1"), "\"\"", 0);
    let name = |length: usize| json!({"name": "x".repeat(length)});
    bad(&post(&daemon, &name(41)), "body.name", &format!("{most} 40"), &quoted("x", 41), 41);
    assert_eq!(post(&daemon, &name(40)).status, 202);
    let id = |length: usize| json!({"name": "x", "id": "ž".repeat(length)});
    bad(&post(&daemon, &id(0)), "body.id", &format!("{least} 1"), "\"\"", 0);
    bad(&post(&daemon, &id(49)), "body.id", &format!("{most} 48"), &quoted("ž", 49), 49);
    assert_eq!(post(&daemon, &id(48)).status, 202);
    let description = |length: usize| json!({"name": "d", "description": "x".repeat(length)});
    let answer = post(&daemon, &description(4097));
    bad(&answer, "body.description", &format!("{most} 4096"), &quoted("x", 4097), 4097);
    assert_eq!(post(&daemon, &description(4096)).status, 202);

    let path = format!("{RECEIVERS}/d/exports");
    let export = |columns: usize| {
        let columns: Vec<Value> =
            (0..columns).map(|n| json!({"type": "ip", "name": format!("c{n}")})).collect();
        json!({"name": "e", "mapping": {"tableId": "in.c-b.t", "columns": columns}})
    };
    let answer = call(&daemon, "POST", &path, &export(0));
    bad(&answer, "body.mapping.columns", &format!("{least} 1"), "[]*server.ColumnRequestBody{}", 0);
    let answer = call(&daemon, "POST", &path, &export(101));
    bad(&answer, "body.mapping.columns", &format!("{most} 100"), "[]*server.ColumnRequestBody{…}", 101);
    done(&daemon, "POST", &path, &export(100));
    let content = |length: usize| {
        let content = format!("'{}'", "x".repeat(length.saturating_sub(2)));
        let template =
            json!({"language": "jsonnet", "content": if length == 0 { String::new() } else { content }});
        json!({"name": "c", "mapping": {"tableId": "in.c-b.c", "columns": [
            {"type": "template", "name": "t", "template": template}]}})
    };
    let field = "body.mapping.columns[0].template.content";
    bad(&call(&daemon, "POST", &path, &content(0)), field, &format!("{least} 1"), "\"\"", 0);
    let answer = call(&daemon, "POST", &path, &content(4097));
    bad(&answer, field, &format!("{most} 4096"), &format!("\"'{}'\"", "x".repeat(4095)), 4097);
    done(&daemon, "POST", &path, &content(4096));

    let wrong = |secret: &str| import(&daemon, &format!("/v1/import/1/d/{secret}"), "text/plain", "");
    for (length, bound) in [(47, least), (49, most)] {
        let secret = "x".repeat(length);
        bad(&wrong(&secret), "secret", &format!("{bound} 48"), &quoted("x", length), length);
    }
}

#[test]
fn unknown_words() {
    let daemon = Daemon::dev();
    let with = |column: Value| json!({"name": "r", "exports": [{"name": "e", "mapping": {"tableId": "in.c-b.t", "columns": [column]}}]});
    refused(
        &post(&daemon, &with(json!({"type": "foo", "name": "c"}))),
        400,
        "buffer.invalidEnumValue",
        "Value of body.exports[0].mapping.columns[0].type must be one of \"id\", \"datetime\", \"ip\", \"body\", \
         \"headers\", \"template\" but got value \"foo\".",
    );
    let template = json!({"language": "js", "content": "1"});
    refused(
        &post(&daemon, &with(json!({"type": "template", "name": "c", "template": template}))),
        400,
        "buffer.invalidEnumValue",
        "Value of body.exports[0].mapping.columns[0].template.language must be one of \"jsonnet\" but got value \"js\".",
    );
    let project = format!("/v1/import/foo/r/{}", "x".repeat(48));
    let answer = import(&daemon, &project, "text/plain", "");
    let message = "Invalid value \"foo\" for \"projectId\", must be a integer.";
    refused(&answer, 400, "buffer.invalidFieldType", message);
}

#[test]
fn conditions_templates_tables_and_names() {
    let daemon = Daemon::dev();
    done(&daemon, "POST", RECEIVERS, &json!({"name": "r"}));
    let add = |export: &Value| call(&daemon, "POST", "/v1/receivers/r/exports", export);
    let bad = |answer: &Response, message: &str| refused(answer, 400, "buffer.badRequest", message);
    for (conditions, message) in [
        (json!({"time": "29s"}), "Invalid conditions: \"time\" must be 30s or greater."),
        (json!({"time": "24h0m1s"}), "Invalid conditions: \"time\" must be 24h0m0s or less."),
        (json!({"size": "99B"}), "Invalid conditions: \"size\" must be 100B or greater."),
        (json!({"size": "51MB"}), "Invalid conditions: \"size\" must be 50MB or less."),
        (json!({"count": 0}), "Invalid conditions: \"count\" must be 1 or greater."),
        (json!({"count": 10_000_001}), "Invalid conditions: \"count\" must be 10,000,000 or less."),
    ] {
        let mut export = plain("e", "in.c-b.t");
        export["conditions"] = conditions;
        bad(&add(&export), message);
    }
    let mut bounds = plain("bounds", "in.c-b.bounds");
    for (conditions, shown) in [
        (
            json!({"count": 1, "size": "100B", "time": "30s"}),
            json!({"count": 1, "size": "100B", "time": "30s"}),
        ),
        (
            json!({"count": 10_000_000, "size": "51200kB", "time": "24h"}),
            json!({"count": 10_000_000, "size": "50MB", "time": "24h0m0s"}),
        ),
    ] {
        bounds["conditions"] = conditions;
        done(&daemon, "POST", "/v1/receivers/r/exports", &bounds);
        assert_eq!(get(&daemon, "/v1/receivers/r/exports/bounds")["conditions"], shown);
        assert_eq!(call(&daemon, "DELETE", "/v1/receivers/r/exports/bounds", &Value::Null).status, 200);
    }

    let mut invalid = export("e", "in.c-b.t", "invalid");
    invalid["mapping"]["columns"][1]["name"] = "template".into();
    bad(&add(&invalid), "Column \"template\" template is invalid: 1:1-8 Unknown variable: invalid.");
    let mut twice = plain("e", "in.c-b.t");
    twice["mapping"]["columns"][1]["name"] = "id".into();
    bad(&add(&twice), "Column name \"id\" is not unique.");
    for table in ["", "t", "in.t", "in.c-b.t.u", "in.c-b.../../x", "sys.c-b.t"] {
        let message =
            format!("Invalid mapping: \"{table}\" is not a table ID such as \"in.c-bucket.table\".");
        bad(&add(&plain("e", table)), &message);
    }
    let message = "Export ID cannot be derived from a name without letters and digits.";
    bad(&add(&plain("!?", "in.c-b.t")), message);
    bad(
        &post(&daemon, &json!({"name": "日本"})),
        "Receiver ID cannot be derived from a name without letters and digits.",
    );
    assert_eq!(get(&daemon, "/v1/receivers/r/exports"), json!({"exports": []}));
}

#[test]
fn ids_follow_from_names() {
    let daemon = Daemon::dev();
    for (body, id) in [
        (json!({"name": "My Receiver"}), "my-receiver"),
        (json!({"name": "GitHub Pull Requests"}), "git-hub-pull-requests"),
        (json!({"name": "příliš žluťoučký"}), "prilis-zlutoucky"),
        (json!({"name": "x", "id": "!!!!~~~~weird||||id##"}), "weird-id"),
    ] {
        assert_eq!(done(&daemon, "POST", RECEIVERS, &body)["outputs"]["receiverId"], id);
        assert_eq!(get(&daemon, &format!("{RECEIVERS}/{id}"))["id"], id);
    }
    // An export's id is used unchanged, and even an id that is not a valid directory name gets its own directory.
    let mut odd = plain("x", "in.c-b.t");
    odd["id"] = "!../Ž:".into();
    done(&daemon, "POST", "/v1/receivers/weird-id/exports", &odd);
    let found = get(&daemon, "/v1/receivers/weird-id/exports/!..%2F%C5%BD%3A");
    assert_eq!(found["id"], "!../Ž:");
    assert_eq!(import(&daemon, &import_path(&daemon, "weird-id"), "text/plain", "x").status, 200);
    assert_eq!(daemon.rows("in.c-b.t").len(), 1);
}

#[test]
fn missing_receivers_exports_and_tasks() {
    let daemon = Daemon::dev();
    done(&daemon, "POST", RECEIVERS, &json!({"name": "receiver-1"}));
    let missing = |method: &str, path: &str, error: &str, message: &str| {
        let body = if method == "PATCH" { json!({"name": "x"}) } else { Value::Null };
        refused(&call(&daemon, method, path, &body), 404, error, message);
    };
    let (receiver, message) = ("buffer.receiverNotFound", "Receiver \"x\" not found in the project.");
    for (method, path) in [
        ("GET", "/v1/receivers/x"),
        ("PATCH", "/v1/receivers/x"),
        ("DELETE", "/v1/receivers/x"),
        ("POST", "/v1/receivers/x/tokens/refresh"),
        ("GET", "/v1/receivers/x/exports"),
        ("GET", "/v1/receivers/x/exports/y"),
        ("PATCH", "/v1/receivers/x/exports/y"),
        ("DELETE", "/v1/receivers/x/exports/y"),
    ] {
        missing(method, path, receiver, message);
    }
    let created = call(&daemon, "POST", "/v1/receivers/x/exports", &plain("e", "in.c-b.t"));
    refused(&created, 404, receiver, message);
    for method in ["GET", "PATCH", "DELETE"] {
        let path = "/v1/receivers/receiver-1/exports/x";
        missing(method, path, "buffer.exportNotFound", "Export \"x\" not found in the receiver.");
    }
    missing("GET", "/v1/tasks/a/b/c", "buffer.taskNotFound", "Task \"a/b/c\" not found in the project.");
    let path = "/v1/receivers/receiver-1/foo";
    let message = "No endpoint found for path \"/v1/receivers/receiver-1/foo\".";
    missing("GET", path, "buffer.endpointNotFound", message);
    let secret = "x".repeat(48);
    let answer = import(&daemon, &format!("/v1/import/1/x/{secret}"), "text/plain", "");
    refused(&answer, 404, receiver, "Receiver \"x\" not found in the project.");
    let answer = import(&daemon, &format!("/v1/import/1/receiver-1/{secret}"), "text/plain", "");
    refused(&answer, 404, receiver, "Receiver \"receiver-1\" with given secret not found.");
    let other = import_path(&daemon, "receiver-1").replace("/import/1/", "/import/2/");
    let message = "Receiver \"receiver-1\" not found in the project.";
    refused(&import(&daemon, &other, "text/plain", ""), 404, receiver, message);
    let put = call(&daemon, "PUT", RECEIVERS, &json!({}));
    refused(&put, 405, "buffer.methodNotAllowed", "Method PUT not allowed.");
    assert_eq!(put.header("allow"), Some("POST, GET, HEAD"));
}

#[test]
fn duplicates_and_count_limits() {
    let daemon = Daemon::dev();
    let exports: Vec<Value> = (0..20).map(|n| plain(&format!("e {n}"), &format!("in.c-b.t{n}"))).collect();
    let body = json!({"name": "My Receiver", "exports": exports});
    done(&daemon, "POST", RECEIVERS, &body);
    refused(
        &post(&daemon, &json!({"name": "my receiver"})),
        409,
        "buffer.receiverAlreadyExists",
        "Receiver \"my-receiver\" already exists in the project.",
    );
    let exports = "/v1/receivers/my-receiver/exports";
    refused(
        &call(&daemon, "POST", exports, &plain("E 1", "in.c-b.t1")),
        409,
        "buffer.exportAlreadyExists",
        "Export \"e-1\" already exists in the receiver.",
    );
    let message = "Export count limit reached in the receiver, the maximum is 20.";
    let answer = call(&daemon, "POST", exports, &plain("one more", "in.c-b.more"));
    refused(&answer, 409, "buffer.exportCountLimitReached", message);
    let many: Vec<Value> = (0..21).map(|n| plain(&format!("e {n}"), &format!("in.c-b.t{n}"))).collect();
    let answer = post(&daemon, &json!({"name": "many", "exports": many}));
    refused(&answer, 409, "buffer.exportCountLimitReached", message);
    for n in 1..100 {
        assert_eq!(post(&daemon, &json!({"name": format!("r{n}")})).status, 202);
    }
    let message = "Receiver count limit reached in the project, the maximum is 100.";
    let answer = post(&daemon, &json!({"name": "r100"}));
    refused(&answer, 409, "buffer.receiverCountLimitReached", message);
}

#[test]
fn an_export_may_have_a_hundred_mappings() {
    let daemon = Daemon::dev();
    done(&daemon, "POST", RECEIVERS, &json!({"name": "r", "exports": [plain("e", "in.c-b.t0")]}));
    let path = "/v1/receivers/r/exports/e";
    let change = |n: usize| json!({"mapping": plain("e", &format!("in.c-b.t{n}"))["mapping"]});
    for n in 1..100 {
        assert_eq!(call(&daemon, "PATCH", path, &change(n)).status, 200);
    }
    let message = "Mapping count limit reached in the export, the maximum is 100.";
    let answer = call(&daemon, "PATCH", path, &change(100));
    refused(&answer, 409, "buffer.mappingCountLimitReached", message);
    assert_eq!(get(&daemon, path)["mapping"]["tableId"], "in.c-b.t99");
}

#[test]
fn a_table_with_other_columns_fails_the_task() {
    let daemon = Daemon::dev();
    let table = |names: &[&str]| {
        let columns: Vec<Value> = names.iter().map(|name| json!({"type": name, "name": name})).collect();
        json!({"name": "e", "mapping": {"tableId": "in.c-bucket.table", "columns": columns}})
    };
    done(&daemon, "POST", RECEIVERS, &json!({"name": "first", "exports": [table(&["id", "body"])]}));
    let failed = task(&daemon, "POST", RECEIVERS, &json!({"name": "r", "exports": [table(&["id", "ip"])]}));
    let message = "columns of the table \"in.c-bucket.table\" do not match expected [\"id\",\"ip\"], found [\"id\",\"body\"]";
    assert_eq!((&failed["status"], &failed["error"]), (&json!("error"), &json!(message)));
    assert!(failed.get("result").is_none() && failed.get("outputs").is_none(), "{failed}");
    assert_eq!(
        call(&daemon, "GET", "/v1/receivers/r", &Value::Null).status,
        404,
        "the export must not be created"
    );

    done(&daemon, "POST", RECEIVERS, &json!({"name": "r", "exports": [table(&["id", "body"])]}));
    let failed = task(&daemon, "PATCH", "/v1/receivers/r/exports/e", &table(&["ip"]));
    assert_eq!(failed["status"], "error");
    assert_eq!(get(&daemon, "/v1/receivers/r/exports/e")["mapping"]["columns"][0]["type"], "id");
    let failed = task(
        &daemon,
        "POST",
        "/v1/receivers/r/exports",
        &json!({"name": "f", "mapping": table(&["ip"])["mapping"]}),
    );
    assert_eq!(failed["status"], "error");
    // Two exports of the same columns share a table.
    for receiver in ["first", "r"] {
        assert_eq!(import(&daemon, &import_path(&daemon, receiver), "text/plain", receiver).status, 200);
    }
    let rows = daemon.rows("in.c-bucket.table");
    let mut bodies: Vec<_> = rows.iter().map(|row| row["body"].as_str().unwrap()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["first", "r"]);
}

#[test]
fn concurrent_creates_of_one_name_make_one_receiver() {
    let daemon = Daemon::dev();
    let body = json!({"name": "r", "exports": [plain("e", "in.c-b.t")]});
    let create = |path: &str, body: &Value| {
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let calls: Vec<_> =
                (0..8).map(|_| scope.spawn(|| call(&daemon, "POST", path, body).status)).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![202], vec![409; 7]].concat());
    };
    create(RECEIVERS, &body);
    create("/v1/receivers/r/exports", &plain("other", "in.c-b.t"));
    assert_eq!(get(&daemon, "/v1/receivers/r")["exports"].as_array().unwrap().len(), 2);
}

#[test]
fn a_receiver_can_be_deleted_while_events_arrive() {
    let daemon = Daemon::dev();
    done(&daemon, "POST", RECEIVERS, &json!({"name": "r", "exports": [plain("e", "in.c-b.t")]}));
    let path = import_path(&daemon, "r");
    let begun = AtomicUsize::new(0);
    let stored: usize = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let statuses = (0..60).map(|_| {
                        begun.fetch_add(1, Ordering::Relaxed);
                        import(&daemon, &path, "text/plain", "x").status
                    });
                    let statuses: Vec<u16> = statuses.collect();
                    assert!(statuses.iter().all(|status| matches!(status, 200 | 404)), "{statuses:?}");
                    statuses.iter().filter(|status| **status == 200).count()
                })
            })
            .collect();
        eventually("the first accepted event", || (begun.load(Ordering::Relaxed) > 10).then_some(()));
        assert_eq!(call(&daemon, "DELETE", "/v1/receivers/r", &Value::Null).status, 200);
        assert_eq!(import(&daemon, &path, "text/plain", "x").status, 404);
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    assert_eq!(daemon.rows("in.c-b.t").len(), stored, "every accepted event must be in the table");
}

#[test]
fn credentials() {
    let daemon = Setup::with_config("[keboola]\nproject_id = 1000").start();
    let admin = daemon.token.clone().unwrap();
    let with = |token: &str| request(daemon.ingest, "GET", RECEIVERS, &[("x-storageapi-token", token)], b"");
    refused(&with("unknown"), 401, "storage.tokenInvalid", "Invalid access token.");
    assert_eq!(with(&admin).json(), json!({"receivers": []}));
    let make = |name: &str, scopes: Value, project: Value| {
        let authorization = format!("Bearer {admin}");
        let body = json!({"name": name, "scopes": scopes, "project": project}).to_string();
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let made = request(daemon.admin, "POST", "/admin/v1/tokens", &headers, body.as_bytes());
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["token"].as_str().unwrap().to_owned()
    };
    let ingest = make("i", json!(["ingest:*"]), Value::Null);
    let message = "Please provide a master token of a project administrator.";
    refused(&with(&ingest), 401, "buffer.masterTokenRequired", message);
    let create = make("c", json!(["create"]), Value::Null);
    let other = make("o", json!(["create"]), json!("77"));
    let post = |token: &str| {
        let body = json!({"name": "r"}).to_string();
        request(daemon.ingest, "POST", RECEIVERS, &[("x-storageapi-token", token)], body.as_bytes())
    };
    assert_eq!(
        (post(&create).status, post(&other).status),
        (202, 202),
        "each project must have its own receiver"
    );
    for (token, project) in [(&create, "1000"), (&other, "77")] {
        let url = with(token).json()["receivers"][0]["url"].as_str().unwrap().to_owned();
        let (_, path) = url.split_once("/v1/").unwrap();
        assert!(path.starts_with(&format!("import/{project}/r/")), "{url}");
        // An import needs only the secret.
        assert_eq!(import(&daemon, &format!("/v1/{path}"), "text/plain", "x").status, 200);
    }
}

/// A daemon with this buffer limit that does not write files by itself, and the import path of a receiver with two
/// exports.
fn with_buffer(max: &str) -> (Daemon, String) {
    let config = format!("[keboola]\nreceiver_buffer_max = \"{max}\"\n[compactor]\nmax_idle = \"off\"\n");
    let daemon = Setup::dev(&config).start();
    let late = json!({"count": 10_000_000, "size": "50MB", "time": "24h"});
    let exports = ["one", "two"].map(|name| {
        let mut export = plain(name, &format!("in.c-b.{name}"));
        export["conditions"] = late.clone();
        export
    });
    done(&daemon, "POST", RECEIVERS, &json!({"name": "r", "exports": exports}));
    let path = import_path(&daemon, "r");
    (daemon, path)
}

#[test]
fn a_receiver_without_a_buffer_limit_is_never_full() {
    let (daemon, path) = with_buffer("0");
    let body = "x".repeat(600 << 10);
    let open =
        || daemon.get("/admin/v1/receivers").json()["receivers"][0]["exports"][0]["open_bytes"].as_u64();
    eventually("rows that wait for a file", || {
        assert_eq!(import(&daemon, &path, "text/plain", &body).status, 200);
        (open() > Some(1 << 20)).then_some(())
    });
    assert_eq!(import(&daemon, &path, "text/plain", &body).status, 200);
}

#[test]
fn a_receiver_over_its_buffer_limit_refuses_events() {
    let (daemon, path) = with_buffer("1MiB");
    let body = "x".repeat(600 << 10);
    let send = || import(&daemon, &path, "text/plain", &body);
    assert_eq!((send().status, send().status), (200, 200));
    let full = eventually("a full buffer", || Some(send()).filter(|answer| answer.status != 200));
    let said = full.json();
    assert_eq!((full.status, &said["error"]), (507, &json!("buffer.insufficientStorage")));
    let message = said["message"].as_str().unwrap();
    let (before, after) = (
        "No free space in the buffer: receiver \"r\" has \"",
        "\" buffered for upload, limit is \"1.0 MB\".",
    );
    let amount = message.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    assert!(amount.is_some_and(|amount| amount.ends_with(" MB")), "{message}");
    assert!(said["exceptionId"].as_str().unwrap().starts_with("keboola-buffer-"), "{said}");
    let shown = daemon.get("/admin/v1/receivers").json();
    let [receiver] = &shown["receivers"].as_array().unwrap()[..] else { panic!("{shown}") };
    let named = ["contract", "project", "id"].map(|key| &receiver[key]);
    assert_eq!(named, [&json!("keboola"), &json!("1"), &json!("r")]);
    for (export, name) in receiver["exports"].as_array().unwrap().iter().zip(["one", "two"]) {
        assert_eq!((&export["id"], &export["stream"]), (&json!(name), &json!(format!("keboola.1.r.{name}"))));
        assert!(export["open_bytes"].as_u64().unwrap() > 1 << 20, "{export}");
    }
    // Once the files are written, there is room again.
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    eventually("an accepted event", || (send().status == 200).then_some(()));
}

#[test]
fn invalid_imports_are_refused() {
    let daemon = with_template("Body('col1')");
    let path = import_path(&daemon, "r");
    let message = "Failed to format record for export \"e\":\n- path \"col1\" not found in the body.";
    refused(&import(&daemon, &path, "application/json", "{}"), 400, "buffer.badRequest", message);
    let message = "Unsupported content type \"text/plain\", supported types: application/json and application/x-www-form-urlencoded.";
    refused(&import(&daemon, &path, "text/plain", "x"), 415, "buffer.unsupportedMediaType", message);
    let large = format!("{{\"col1\":\"{}\"}}", "x".repeat(1 << 20));
    let message = "Payload too large, the maximum size is 1MB.";
    refused(&import(&daemon, &path, "application/json", &large), 413, "buffer.payloadTooLarge", message);
    for (kind, body) in [
        ("application/json", "{"),
        ("application/json", "[1]"),
        ("application/json", "\"x\""),
        ("application/json", ""),
        ("application/x-www-form-urlencoded", "col1=1;col1=2"),
    ] {
        let answer = import(&daemon, &path, kind, body);
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (400, &json!("buffer.badRequest")),
            "{kind} {body}"
        );
    }
    done(&daemon, "POST", "/v1/receivers/r/exports", &export("f", "in.c-b.f", "Body('col2')"));
    refused(
        &import(&daemon, &path, "application/json", "{}"),
        400,
        "buffer.multipleErrors",
        "Failed to format record for export \"e\":\n- path \"col1\" not found in the body\nFailed to format record for \
         export \"f\":\n- path \"col2\" not found in the body.",
    );
    // A refused event is stored for no export, not even for those that could map it.
    assert_eq!(import(&daemon, &path, "application/json", "{\"col1\":1}").status, 400);
    assert_eq!(import(&daemon, &path, "application/json", "{\"col1\":1,\"col2\":2}").status, 200);
    assert_eq!((daemon.rows("in.c-b.t").len(), daemon.rows("in.c-b.f").len()), (1, 1));
}
