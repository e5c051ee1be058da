//! Keboola's Buffer API, importing events: columns, templates and forms; hostile templates; conditions; tables changed
//! by hand; exports created later; and the service's own documentation.

use crate::keboola::{call, done, export, get, import, import_path, plain, refused, task};
use crate::support::{Daemon, Response, Setup, eventually, read_table, request};
use serde_json::{Value, json};

const RECEIVERS: &str = "/v1/receivers";

fn column(kind: &str) -> Value {
    json!({"type": kind, "name": kind})
}

fn template(name: &str, content: &str) -> Value {
    json!({"type": "template", "name": name, "template": {"language": "jsonnet", "content": content}})
}

fn with_columns(columns: &[Value]) -> Value {
    json!({"name": "r", "exports": [{"name": "e", "mapping": {"tableId": "in.c-b.t", "columns": columns}}]})
}

/// The error and the message of a refusal.
fn said(answer: &Response) -> (u16, String, String) {
    let body = answer.json();
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    (answer.status, text("error"), text("message"))
}

#[test]
fn columns_of_every_type() {
    let daemon = Daemon::dev();
    let columns = [
        column("id"),
        column("datetime"),
        column("ip"),
        column("body"),
        column("headers"),
        template("joined", "Body('col1') + ':' + Body('col2')"),
        template("default", "Body('none', null)"),
        template("header", "Header('x-own')"),
        template("whole", "Body()"),
        template("str", "BodyStr()"),
        template("now", "Now('%Y')"),
    ];
    done(&daemon, "POST", RECEIVERS, &with_columns(&columns));
    let path = import_path(&daemon, "r");
    let send = |kind: &str, body: &str| {
        let headers = [("content-type", kind), ("x-own", "<a&b>"), ("user-agent", "test")];
        let stored = request(daemon.ingest, "POST", &path, &headers, body.as_bytes());
        assert_eq!(stored.status, 200, "{}", stored.text());
    };
    let body = "{\"col1\": \"val1\", \"col2\": \"val2\"}";
    send("application/json", body);
    send("application/x-www-form-urlencoded", "col1=val1&col2=val2&many=1&many=2");
    let rows = daemon.rows("in.c-b.t");
    let row = &rows[0];
    assert_eq!((&row["id"], &rows[1]["id"]), (&json!("1"), &json!("2")));
    let datetime = row["datetime"].as_str().unwrap();
    assert!(datetime.len() == "2023-01-01T00:00:00.000Z".len() && datetime.ends_with('Z'), "{datetime}");
    assert_eq!((&row["ip"], &row["body"]), (&json!("127.0.0.1"), &json!(body)));
    let headers = row["headers"].as_str().unwrap();
    assert!(headers.contains("\"User-Agent\":\"test\",\"X-Own\":\"\\u003ca\\u0026b\\u003e\""), "{headers}");
    assert_eq!(row["joined"], "\"val1:val2\"");
    assert_eq!(row["default"], "null");
    assert_eq!(row["header"], "\"<a&b>\"");
    assert_eq!(row["whole"], "{\"col1\":\"val1\",\"col2\":\"val2\"}");
    assert_eq!(row["str"], json!(json!(body).to_string()));
    assert_eq!(row["now"], json!(format!("\"{}\"", &datetime[..4])));
    assert_eq!(rows[1]["joined"], "\"val1:val2\"");
    let whole: Value = serde_json::from_str(rows[1]["whole"].as_str().unwrap()).unwrap();
    assert_eq!(whole, json!({"col1": "val1", "col2": "val2", "many": ["1", "2"]}));
}

#[test]
fn hostile_templates_do_not_affect_others() {
    let daemon = Setup::dev("[mapping]\ndeadline = \"300ms\"\n").start();
    done(
        &daemon,
        "POST",
        RECEIVERS,
        &json!({"name": "good", "exports": [export("e", "in.c-b.good", "Body('a')")]}),
    );
    let good = import_path(&daemon, "good");
    let hostile = [
        ("endless", "local f(x) = f(x + 1) tailstrict; f(Body('a'))"),
        ("deep", "local f(x) = 1 + f(x + 1); f(Body('a'))"),
        ("huge", "local f(x, n) = if n == 0 then x else f(x + x, n - 1); std.length(f(BodyStr(), 40))"),
    ];
    for (name, content) in hostile {
        let body = json!({"name": name, "exports": [export("e", &format!("in.c-b.{name}"), content)]});
        done(&daemon, "POST", RECEIVERS, &body);
        let path = import_path(&daemon, name);
        let (status, error, message) = said(&import(&daemon, &path, "application/json", "{\"a\":1}"));
        assert_eq!((status, error.as_str()), (400, "buffer.badRequest"), "{name}: {message}");
        assert!(message.starts_with("Failed to format record for export \"e\":\n- "), "{name}: {message}");
        // On a busy machine it may miss the deadline, too, and is then not stored.
        eventually("a good one", || {
            (import(&daemon, &good, "application/json", "{\"a\":1}").status == 200).then_some(())
        });
        assert!(daemon.rows(&format!("in.c-b.{name}")).is_empty());
    }
    assert_eq!(daemon.rows("in.c-b.good").len(), hostile.len());
    // No template reads a file.
    for content in ["import 'x.jsonnet'", "importstr '/etc/passwd'"] {
        let answer = call(&daemon, "POST", "/v1/receivers/good/exports", &export("i", "in.c-b.i", content));
        let (status, error, message) = said(&answer);
        assert_eq!((status, error.as_str()), (400, "buffer.badRequest"), "{message}");
        assert!(message.starts_with("Column \"t\" template is invalid: "), "{message}");
    }
    assert_eq!(daemon.get("/readyz").status, 200);
}

#[test]
fn a_later_export_can_be_given_earlier_events() {
    let daemon = Daemon::dev();
    done(&daemon, "POST", RECEIVERS, &json!({"name": "r"}));
    let path = import_path(&daemon, "r");
    for n in 1..=3 {
        let body = format!("{{\"n\":{n}}}");
        assert_eq!(import(&daemon, &path, "application/json", &body).status, 200);
    }
    let mut later = export("Later", "in.c-b.t", "Body('n')");
    later["mapping"]["columns"].as_array_mut().unwrap().push(column("body"));
    done(&daemon, "POST", "/v1/receivers/r/exports", &later);
    assert_eq!(import(&daemon, &path, "application/json", "{\"n\":4}").status, 200);
    let of = |rows: &[Value]| {
        let mut values: Vec<_> = rows.iter().map(|row| row["t"].as_str().unwrap().to_owned()).collect();
        values.sort_unstable();
        values
    };
    assert_eq!(of(&daemon.rows("in.c-b.t")), ["4"]);
    for _ in 0..2 {
        let body = json!({"stream": "keboola.1.r.later", "from": "2020-01-01"}).to_string();
        let asked = request(daemon.admin, "POST", "/admin/v1/replay", &[], body.as_bytes());
        assert_eq!(asked.status, 202, "{}", asked.text());
        let path = format!("/admin/v1/replay/{}", asked.json()["id"]);
        let replay = eventually("the replay's end", || {
            let replay = daemon.get(&path).json();
            (!["waiting", "running"].contains(&replay["state"].as_str().unwrap())).then_some(replay)
        });
        assert_eq!(replay["state"], "done", "{replay}");
        let rows = daemon.rows("in.c-b.t");
        assert_eq!(of(&rows), ["1", "2", "3", "4"], "two replays must give each event once");
        assert_eq!(rows[0]["body"], "{\"n\":1}");
    }
}

#[test]
fn a_table_changed_by_hand_stops_only_its_export_until_fixed() {
    let daemon = Daemon::dev();
    let exports = json!({"name": "r", "exports": [plain("one", "in.c-b.one"), plain("two", "in.c-b.two")]});
    done(&daemon, "POST", RECEIVERS, &exports);
    let path = import_path(&daemon, "r");
    let send = |body: &str| assert_eq!(import(&daemon, &path, "text/plain", body).status, 200);
    send("first");
    assert_eq!(daemon.rows("in.c-b.one").len(), 1);
    let schema = "/admin/v1/streams/keboola.1.r.one/schema";
    let before = daemon.get(schema).json();
    let put = |columns: &Value| {
        let version = &daemon.get(schema).json()["version"];
        let body = json!({"version": version, "columns": columns}).to_string();
        let headers = [("content-type", "application/json")];
        let changed =
            request(daemon.admin, "PUT", &format!("{schema}?force=true"), &headers, body.as_bytes());
        assert_eq!(changed.status, 200, "{}", changed.text());
    };
    let mut other = before["columns"].clone();
    other[1]["name"] = "renamed".into();
    put(&other);
    send("second");
    let rows = |table: &str| crate::support::read_table(&daemon.data_dir().join("tables").join(table)).len();
    eventually("the other export's file", || (rows("in.c-b.two") == 2).then_some(()));
    let held = eventually("the file that is held back", || {
        let staged = daemon.get("/admin/v1/staged").json()["staged"][0].clone();
        staged["held"].is_string().then_some(staged)
    });
    assert_eq!(held["stream"], "keboola.1.r.one");
    assert!(held["held"].as_str().unwrap().contains("renamed"), "{held}");
    assert_eq!(rows("in.c-b.one"), 1);
    put(&before["columns"]);
    let recovered = daemon.admin_post("/admin/v1/staged/recover");
    assert_eq!(recovered.status, 200, "{}", recovered.text());
    eventually("the recovered file", || (rows("in.c-b.one") == 2).then_some(()));
    send("third");
    let rows = daemon.rows("in.c-b.one");
    let values: Vec<_> = rows.iter().map(|row| (&row["id"], row["body"].as_str().unwrap())).collect();
    assert_eq!(values, [(&json!("1"), "first"), (&json!("2"), "second"), (&json!("3"), "third")]);
}

/// A PATCH keeps everything that it does not name, including changes made without the contract.
#[test]
fn an_export_whose_table_was_changed_by_hand_can_still_be_updated() {
    let daemon = Setup::dev("[compactor]\nmax_idle = \"1h\"\n").start();
    let exports = json!({"name": "r", "exports": [plain("one", "in.c-b.one")]});
    done(&daemon, "POST", RECEIVERS, &exports);
    let (receiver, stream) = (import_path(&daemon, "r"), "/admin/v1/streams/keboola.1.r.one");
    let (export, tables) = ("/v1/receivers/r/exports/one", daemon.data_dir().join("tables/in.c-b.one"));
    let send = |body: &str| assert_eq!(import(&daemon, &receiver, "text/plain", body).status, 200);
    let by_hand = |body: &Value| {
        let changed = daemon.administer("PATCH", &format!("{stream}?force=true"), body);
        assert_eq!(changed.status, 200, "{}", changed.text());
    };
    let columns = json!([{"name": "id", "type": "string"}, {"name": "renamed", "type": "string"}]);
    by_hand(&json!({"columns": columns, "settings": {"description": "by hand"}}));
    let schema = daemon.get(&format!("{stream}/schema")).json();
    let still = |what: &str| {
        assert_eq!(daemon.get(&format!("{stream}/schema")).json(), schema, "{what}");
        assert_eq!(daemon.get(stream).json()["settings"]["description"], "by hand", "{what}");
    };

    done(&daemon, "PATCH", export, &json!({"name": "Other"}));
    still("a name");
    done(&daemon, "PATCH", export, &json!({"conditions": {"count": 2}}));
    still("conditions");
    let shown = get(&daemon, export);
    assert_eq!((&shown["name"], &shown["conditions"]["count"]), (&json!("Other"), &json!(2)));
    // The contract compares with the table's original columns: other columns are refused, equal ones change nothing.
    let mapping = |names: [&str; 2]| {
        let columns =
            names.into_iter().zip(["id", "body"]).map(|(name, kind)| json!({"type": kind, "name": name}));
        json!({"mapping": {"tableId": "in.c-b.one", "columns": columns.collect::<Vec<_>>()}})
    };
    let failed = task(&daemon, "PATCH", export, &mapping(["id", "renamed"]));
    let message = "columns of the table \"in.c-b.one\" do not match expected [\"id\",\"renamed\"], found [\"id\",\"body\"]";
    assert_eq!((&failed["status"], &failed["error"]), (&json!("error"), &json!(message)));
    done(&daemon, "PATCH", export, &mapping(["id", "body"]));
    still("the same mapping must change nothing");

    // The condition is met, and the file is held back.
    send("1");
    send("2");
    let held = eventually("the file that is held back", || {
        let staged = daemon.get("/admin/v1/staged").json()["staged"][0].clone();
        staged["held"].is_string().then_some(staged)
    });
    assert_eq!((&held["stream"], &held["rows"]), (&json!("keboola.1.r.one"), &json!(2)));
    // Fixed by a mapping for the current columns. The conditions are changed by hand as well.
    let mended = json!({"columns": mapping(["id", "renamed"])["mapping"]["columns"]});
    by_hand(&json!({"settings": {"mapping": mended, "conditions": {"count": 1}}}));
    assert_eq!(daemon.admin_post("/admin/v1/staged/recover").status, 200);
    done(&daemon, "PATCH", export, &json!({"name": "Another"}));
    let settings = daemon.get(stream).json()["settings"].clone();
    assert_eq!(settings["mapping"]["columns"][1]["name"], "renamed", "the fixed mapping must stay");
    assert_eq!(settings["conditions"]["count"], 1, "the conditions must stay");
    send("3");
    let rows = eventually("every row", || Some(read_table(&tables)).filter(|rows| rows.len() == 3));
    let values: Vec<_> = rows.iter().map(|row| (&row["id"], row["renamed"].as_str().unwrap())).collect();
    assert_eq!(values, [(&json!("1"), "1"), (&json!("2"), "2"), (&json!("3"), "3")]);
    // Rows become visible slightly before they are registered as published.
    eventually("no staged file", || {
        (daemon.get("/admin/v1/staged").json()["staged"] == json!([])).then_some(())
    });
    // A PATCH that names conditions sets them.
    done(&daemon, "PATCH", export, &json!({"conditions": {"size": "1KB"}}));
    let conditions = json!({"count": 2, "bytes": 1024, "age_seconds": 300});
    assert_eq!(daemon.get(stream).json()["settings"]["conditions"], conditions);
}

#[test]
fn conditions_determine_when_a_file_is_written() {
    let daemon = Setup::dev("[compactor]\nmax_idle = \"1h\"\n").start();
    let mut few = plain("few", "in.c-b.few");
    few["conditions"] = json!({"count": 3});
    let mut small = plain("small", "in.c-b.small");
    small["conditions"] = json!({"size": "100B"});
    done(&daemon, "POST", RECEIVERS, &json!({"name": "r", "exports": [few, small]}));
    let path = import_path(&daemon, "r");
    let tables = daemon.data_dir().join("tables");
    let rows = |table: &str| crate::support::read_table(&tables.join(table)).len();
    let send = |body: &str| assert_eq!(import(&daemon, &path, "text/plain", body).status, 200);
    send(&"x".repeat(200));
    eventually("the file by its size", || (rows("in.c-b.small") == 1).then_some(()));
    assert_eq!(rows("in.c-b.few"), 0);
    send("2");
    send("3");
    eventually("the file by its count", || (rows("in.c-b.few") == 3).then_some(()));
    assert_eq!(rows("in.c-b.small"), 1, "later events must not reach the condition");
}

#[test]
fn a_full_log_is_reported_as_no_free_space() {
    let config = "[wal]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"4MiB\"\nprepared_segments = 1\n\
                  [limits]\nbody_max = \"512KiB\"\ndecoded_max = \"512KiB\"\n[destination]\nurl = \"s3://none/x\"\n\
                  [destination.s3]\nendpoint = \"http://127.0.0.1:1\"\nregion = \"x\"\naccess_key_id = \"x\"\n\
                  secret_access_key = \"x\"\nallow_http = true\n[compactor]\nmax_age = \"1h\"\nmax_idle = \"1h\"\n";
    let daemon = Setup::dev(config).start();
    done(&daemon, "POST", RECEIVERS, &json!({"name": "r", "exports": [plain("e", "in.c-b.t")]}));
    let path = import_path(&daemon, "r");
    let body = "x".repeat(400 << 10);
    // Faster than the compactor frees space; most of them concurrently.
    let refused = eventually("a full log", || {
        std::thread::scope(|scope| {
            let calls: Vec<_> =
                (0..16).map(|_| scope.spawn(|| import(&daemon, &path, "text/plain", &body))).collect();
            let answers = calls.into_iter().map(|call| call.join().unwrap());
            answers.filter(|answer| answer.status != 200).last()
        })
    });
    let (status, error, message) = said(&refused);
    assert_eq!((status, error.as_str()), (507, "buffer.insufficientStorage"), "{message}");
    assert!(message.starts_with("No free space in the buffer: "), "{message}");
    let request = refused.header("x-request-id").unwrap();
    assert_eq!(refused.json()["exceptionId"], format!("keboola-buffer-{request}"));
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn the_service_describes_itself() {
    let daemon = Setup::dev("[server]\npublic_url = \"https://buffer.example.com\"\n").start();
    let open = |path: &str| request(daemon.ingest, "GET", path, &[], b"");
    let root = open("/");
    assert_eq!((root.status, root.header("location")), (301, Some("/v1")));
    let documentation = "https://buffer.example.com/v1/documentation";
    assert_eq!(open("/v1").json(), json!({"api": "buffer", "documentation": documentation}));
    let health = open("/health-check");
    assert_eq!((health.status, health.text().as_str()), (200, "OK"));
    assert_eq!(health.header("content-type"), Some("text/plain"));
    let document = open("/v1/documentation/openapi3.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"], json!([{"url": "https://buffer.example.com"}]));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/v1/receivers/{receiverId}") && !paths.contains_key("/v0/events"));
    assert_eq!(open("/v1/documentation/openapi.json").json(), document);
    for name in ["openapi.yaml", "openapi3.yaml"] {
        let yaml = open(&format!("/v1/documentation/{name}"));
        assert_eq!(yaml.header("content-type"), Some("application/yaml"));
        // JSON is YAML as well.
        assert_eq!(yaml.json(), document);
    }
    let page = open("/v1/documentation/");
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.text().contains("<code>/v1/receivers/{receiverId}</code>"));
    assert!(!page.text().contains("://"), "the page must not load anything from elsewhere");

    done(&daemon, "POST", RECEIVERS, &json!({"name": "r"}));
    let url = get(&daemon, "/v1/receivers/r")["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("https://buffer.example.com/v1/import/1/r/"), "{url}");
    let preflight = request(daemon.ingest, "OPTIONS", RECEIVERS, &[("origin", "https://a.com")], b"");
    assert_eq!(preflight.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET, POST, PATCH, DELETE"),
        ("access-control-allow-headers", "Content-Type, X-StorageApi-Token"),
    ] {
        assert_eq!(preflight.header(name), Some(value), "{name}");
    }
    let listed = call(&daemon, "GET", RECEIVERS, &Value::Null);
    assert_eq!(listed.header("access-control-allow-origin"), Some("*"));
    // Each request has its own id.
    let number = |answer: &Response| answer.header("x-request-id").unwrap().to_owned();
    assert_ne!(number(&listed), number(&call(&daemon, "GET", RECEIVERS, &Value::Null)));
}

#[test]
fn only_configured_proxies_determine_the_client_address() {
    for (config, ip) in [("", "127.0.0.1"), ("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n", "1.2.3.4")] {
        let daemon = Setup::dev(config).start();
        done(&daemon, "POST", RECEIVERS, &with_columns(&[column("ip")]));
        let path = import_path(&daemon, "r");
        let headers = [("content-type", "text/plain"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(request(daemon.ingest, "POST", &path, &headers, b"x").status, 200);
        assert_eq!(daemon.rows("in.c-b.t")[0]["ip"], ip);
    }
}

#[test]
fn a_body_that_contradicts_its_content_type_is_refused() {
    let daemon = Daemon::dev();
    done(&daemon, "POST", RECEIVERS, &with_columns(&[template("t", "Body('a')")]));
    let path = import_path(&daemon, "r");
    let answer = import(&daemon, &path, "application/json", "a=1");
    let (status, error, message) = said(&answer);
    assert_eq!((status, error.as_str()), (400, "buffer.badRequest"), "{message}");
    let message = "Failed to format record for export \"e\":\n- path \"a\" not found in the body.";
    let answer = import(&daemon, &path, "application/x-www-form-urlencoded", "{\"b\":1}");
    refused(&answer, 400, "buffer.badRequest", message);
    assert!(daemon.rows("in.c-b.t").is_empty());
}
