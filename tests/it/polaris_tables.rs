//! The tables and connections routes of Imply Polaris' contract, in both generations.

use crate::polaris::push;
use crate::support::{Daemon, Response, Setup, fields, request};
use serde_json::{Value, json};

/// A management call with a JSON body.
pub fn call(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Response {
    let authorization = format!("Bearer {}", daemon.token.clone().unwrap_or_default());
    let headers = [("content-type", "application/json"), ("authorization", &authorization)];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(daemon.ingest, method, path, &headers, body.as_bytes())
}

pub fn get(daemon: &Daemon, path: &str) -> Value {
    let response = call(daemon, "GET", path, &Value::Null);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    response.json()
}

pub fn refused(response: &Response, status: u16) -> String {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("retry-after"), None);
    let body = response.json();
    assert!(body["code"].is_string(), "{body}");
    body["message"].as_str().unwrap().to_owned()
}

fn strict() -> Value {
    json!({
        "type": "detail",
        "name": "t",
        "schemaMode": "strict",
        "description": "visits",
        "partitioningGranularity": "hour",
        "clusteringColumns": ["city"],
        "schema": [
            {"name": "__time", "dataType": "timestamp"},
            {"name": "city", "dataType": "string"},
            {"name": "n", "dataType": "long"},
        ],
    })
}

#[test]
fn a_table_is_created_and_shown() {
    let daemon = Daemon::dev();
    let made = call(&daemon, "POST", "/v1/projects/p/tables", &strict());
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("location"), Some("/v1/projects/p/tables/t"));
    let table = made.json();
    for (key, value) in [
        ("name", json!("t")),
        ("type", json!("detail")),
        ("version", json!(0)),
        ("schemaMode", json!("strict")),
        ("partitioningGranularity", json!("hour")),
        ("clusteringColumns", json!(["city"])),
        ("description", json!("visits")),
        ("availability", json!("available")),
        ("segmentCount", json!(0)),
        ("totalRows", json!(0)),
        ("schema", strict()["schema"].clone()),
        ("createdByUser", json!({"username": "everybody", "userId": "0"})),
    ] {
        assert_eq!(table[key], value, "{key}");
    }
    assert_eq!(table["queryableSchema"][2], json!({"name": "n", "dataType": "long", "isDiscovered": false}));
    assert!(table["createdOnTimestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(get(&daemon, "/v1/projects/p/tables/t"), table);
    let id = table["id"].as_str().unwrap();
    assert_eq!(get(&daemon, &format!("/v1/projects/p/tables/{id}")), table);
    refused(&call(&daemon, "GET", "/v1/projects/p/tables/u", &Value::Null), 404);
    // A table of another project.
    refused(&call(&daemon, "GET", "/v1/projects/q/tables/t", &Value::Null), 404);
    let again = refused(&call(&daemon, "POST", "/v1/projects/p/tables", &strict()), 409);
    assert!(again.contains("already exists"), "{again}");
}

#[test]
fn totals_and_the_list_follow_the_data() {
    let daemon = Daemon::dev();
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/tables", &strict()).status, 201);
    let flexible = json!({"type": "detail", "name": "f", "schemaMode": "flexible"});
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/tables", &flexible).status, 201);
    let event = "{\"__time\":\"2024-01-01T00:00:00Z\",\"city\":\"Chicago\",\"n\":1,\"more\":2.5}";
    for table in ["t", "f"] {
        assert_eq!(push(&daemon, &format!("/v1/projects/p/events/{table}"), event).status, 200);
    }
    // One generation shows only the declared columns, the other shows all.
    assert_eq!(
        fields(&daemon.rows("t")[0]),
        json!({"__time": "2024-01-01T00:00:00Z", "city": "Chicago", "n": 1})
    );
    assert_eq!(
        fields(&daemon.rows("f")[0]),
        json!({"__time": "2024-01-01T00:00:00Z", "city": "Chicago", "n": 1, "more": 2.5})
    );
    let table = get(&daemon, "/v1/projects/p/tables/f");
    assert_eq!((&table["totalRows"], &table["segmentCount"]), (&json!(1), &json!(1)));
    assert!(table["totalDataSizeBytes"].as_u64().unwrap() > 0);
    assert_eq!(table["schema"], json!([{"name": "__time", "dataType": "timestamp"}]));
    assert_eq!(
        table["queryableSchema"],
        json!([
            {"name": "__time", "dataType": "timestamp", "isDiscovered": false},
            {"name": "city", "dataType": "string", "isDiscovered": true},
            {"name": "n", "dataType": "long", "isDiscovered": true},
            {"name": "more", "dataType": "double", "isDiscovered": true},
        ])
    );
    let names = |query: &str| {
        let list = get(&daemon, &format!("/v1/projects/p/tables{query}"));
        let names = list["values"].as_array().unwrap().iter().map(|table| table["name"].clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["f", "t"]);
    assert_eq!(names("?partitioningGranularity=hour"), ["t"]);
    assert_eq!(names("?segmentCount=1"), ["f", "t"]);
    assert_eq!(names("?segmentCount=7"), Vec::<Value>::new());
    refused(&call(&daemon, "GET", "/v1/projects/p/tables?segmentCount=many", &Value::Null), 400);
}

#[test]
fn a_change_requires_the_current_version() {
    let daemon = Daemon::dev();
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/tables", &strict()).status, 201);
    let mut table = get(&daemon, "/v1/projects/p/tables/t");
    table["schema"].as_array_mut().unwrap().push(json!({"name": "price", "dataType": "double"}));
    table["description"] = "visits and prices".into();
    let changed = call(&daemon, "PUT", "/v1/projects/p/tables/t", &table);
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(
        (&changed.json()["version"], &changed.json()["description"]),
        (&json!(1), &table["description"])
    );
    assert_eq!(changed.json()["schema"][3]["name"], "price");
    // The same change again, with the old version.
    let stale = refused(&call(&daemon, "PUT", "/v1/projects/p/tables/t", &table), 409);
    assert!(stale.contains("version 1, not 0"), "{stale}");
    // Leaving columns out does not remove them.
    let mut without = get(&daemon, "/v1/projects/p/tables/t");
    without["schema"].as_array_mut().unwrap().remove(2);
    let lost = refused(&call(&daemon, "PUT", "/v1/projects/p/tables/t", &without), 400);
    assert!(lost.contains("'n'"), "{lost}");
    for (key, value) in [("name", json!("u")), ("type", json!("aggregate"))] {
        let mut other = get(&daemon, "/v1/projects/p/tables/t");
        other[key] = value;
        let why = refused(&call(&daemon, "PUT", "/v1/projects/p/tables/t", &other), 400);
        assert!(why.contains("cannot be changed"), "{why}");
    }
    let mut unversioned = get(&daemon, "/v1/projects/p/tables/t");
    unversioned.as_object_mut().unwrap().remove("version");
    refused(&call(&daemon, "PUT", "/v1/projects/p/tables/t", &unversioned), 400);
    refused(&call(&daemon, "PUT", "/v1/projects/p/tables/u", &strict()), 404);
}

#[test]
fn invalid_tables_are_refused_with_the_reason() {
    let daemon = Daemon::dev();
    let columns = |count: usize| {
        (0..count).map(|n| json!({"name": format!("c{n}"), "dataType": "long"})).collect::<Vec<_>>()
    };
    let with = |key: &str, value: Value| {
        let mut table = strict();
        table["clusteringColumns"] = json!([]);
        table[key] = value;
        table
    };
    for (body, why) in [
        (json!([]), "not a JSON object"),
        (with("name", json!("")), "must not be empty"),
        (with("name", json!(" t")), "white space"),
        (with("name", json!("__t")), "reserved"),
        (with("name", json!("a b")), "letters, digits"),
        (with("name", json!("n".repeat(256))), "128"),
        (with("name", json!(7)), "not text"),
        (with("type", json!("view")), "\"detail\" or \"aggregate\""),
        (with("version", json!(3)), "version 0"),
        (with("schemaMode", json!("loose")), "strict, flexible"),
        (with("partitioningGranularity", json!("week")), "day, second"),
        (with("clusteringColumns", json!(["x"])), "\"x\""),
        (with("description", json!("d".repeat(1001))), "1000"),
        (with("colour", json!("red")), "\"colour\""),
        (with("schema", json!([{"name": "a", "dataType": "thetaSketch"}])), "aggregation"),
        (with("schema", json!([{"name": "a", "dataType": "int"}])), "not a data type"),
        (with("schema", json!([{"name": "a"}])), "\"dataType\""),
        (with("schema", json!([{"name": "__a", "dataType": "long"}])), "reserved"),
        (with("schema", json!([{"name": "_lsn", "dataType": "long"}])), "reserved"),
        (with("schema", json!([{"name": "__time", "dataType": "string"}])), "timestamp"),
        (
            with("schema", json!([{"name": "a", "dataType": "long"}, {"name": "a", "dataType": "long"}])),
            "twice",
        ),
        (with("schema", json!([{"name": "a", "dataType": "long", "type": "measure"}])), "measure"),
        (with("schema", json!(columns(1001))), "1000 columns"),
    ] {
        let message = refused(&call(&daemon, "POST", "/v1/projects/p/tables", &body), 400);
        assert!(message.contains(why), "{message:?} does not say {why:?}");
    }
    let headers = [("content-type", "text/plain")];
    let plain = request(daemon.ingest, "POST", "/v1/projects/p/tables", &headers, b"{}");
    refused(&plain, 415);
    let broken = request(daemon.ingest, "POST", "/v1/projects/p/tables", &[], b"{\"name\":");
    assert!(refused(&broken, 400).contains("not JSON"));
    assert_eq!(get(&daemon, "/v1/projects/p/tables")["values"], json!([]));
}

#[test]
fn an_aggregate_table_has_dimensions_and_measures() {
    let daemon = Daemon::dev();
    let body = json!({
        "type": "aggregate", "name": "a", "timeResolution": "hour",
        "schema": [
            {"name": "city", "dataType": "string", "type": "dimension"},
            {"name": "sum", "dataType": "double", "type": "measure"},
        ],
    });
    let made = call(&daemon, "POST", "/v1/projects/p/tables", &body).json();
    assert_eq!(made["schema"][1], json!({"name": "city", "dataType": "string", "type": "dimension"}));
    assert_eq!(made["schema"][2], json!({"name": "sum", "dataType": "double", "type": "measure"}));
    assert_eq!(made["timeResolution"], "hour");
}

#[test]
fn tables_of_the_second_generation() {
    let daemon = Daemon::dev();
    let body = json!({
        "type": "detail", "name": "t", "version": 0, "partitioningGranularity": "day", "clusteringColumns": [],
        "description": "",
        "schema": [{"name": "__time", "dataType": "timestamp"}, {"name": "a", "dataType": "string"}],
    });
    let made = call(&daemon, "POST", "/v2/tables", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let mut table = made.json();
    let path = format!("/v2/tables/{}", table["id"].as_str().unwrap());
    assert_eq!(made.header("location"), Some(path.as_str()));
    assert_eq!(table["schema"], body["schema"]);
    assert_eq!(get(&daemon, &path), table);
    assert_eq!(get(&daemon, "/v2/tables")["values"][0]["schema"], body["schema"]);
    table["schema"].as_array_mut().unwrap().push(json!({"name": "b", "dataType": "long"}));
    assert_eq!(call(&daemon, "PUT", &path, &table).json()["version"], 1);
    refused(&call(&daemon, "PUT", &path, &table), 409);
    // A table without a project belongs to every project.
    assert_eq!(get(&daemon, "/v1/projects/p/tables/t")["version"], 1);
    let many: Vec<Value> = (0..401).map(|n| json!({"name": format!("c{n}"), "dataType": "long"})).collect();
    let message = refused(
        &call(&daemon, "POST", "/v2/tables", &json!({"type": "detail", "name": "w", "schema": many})),
        400,
    );
    assert!(message.contains("400 columns"), "{message}");
}

#[test]
fn concurrent_creates_have_one_winner() {
    let daemon = Daemon::dev();
    let statuses = |path: &str, body: &Value| {
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let calls: Vec<_> =
                (0..8).map(|_| scope.spawn(|| call(&daemon, "POST", path, body).status)).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        statuses.sort_unstable();
        statuses
    };
    let one = [vec![201], vec![409; 7]].concat();
    assert_eq!(statuses("/v1/projects/p/tables", &strict()), one);
    assert_eq!(statuses("/v1/projects/p/connections", &json!({"name": "c", "type": "push_streaming"})), one);
    // The same for changes based on the same version.
    let table = get(&daemon, "/v1/projects/p/tables/t");
    let mut changes: Vec<u16> = std::thread::scope(|scope| {
        let put = || call(&daemon, "PUT", "/v1/projects/p/tables/t", &table).status;
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(put)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    changes.sort_unstable();
    assert_eq!(changes, [vec![200], vec![409; 7]].concat());
    assert_eq!(get(&daemon, "/v1/projects/p/tables/t")["version"], 1);
}

#[test]
fn a_connection_is_created_shown_changed_and_deleted() {
    let daemon = Daemon::dev();
    let path = "/v1/projects/p/connections";
    let made =
        call(&daemon, "POST", path, &json!({"name": "demo", "type": "push_streaming", "description": "d"}));
    assert_eq!((made.status, made.header("location")), (201, Some("/v1/projects/p/connections/demo")));
    let connection = made.json();
    let url = format!("http://{}/v1/projects/p/events/demo", daemon.ingest);
    for (key, value) in [
        ("name", json!("demo")),
        ("type", json!("push_streaming")),
        ("description", json!("d")),
        ("endpointUrl", json!(url)),
        ("submittedByUser", json!({"username": "everybody", "userId": "0"})),
    ] {
        assert_eq!(connection[key], value, "{key}");
    }
    assert_eq!(get(&daemon, "/v1/projects/p/connections/demo"), connection);
    assert_eq!(get(&daemon, path)["values"], json!([connection]));
    assert_eq!(get(&daemon, "/v1/projects/q/connections")["values"], json!([]));
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections/demo/test", &Value::Null).status, 200);
    let change = json!({"type": "push_streaming", "description": "e"});
    assert_eq!(call(&daemon, "PATCH", "/v1/projects/p/connections/demo", &change).json()["description"], "e");
    for (body, status, why) in [
        (json!({"name": "demo", "type": "push_streaming"}), 409, "already exists"),
        (json!({"name": "", "type": "push_streaming"}), 400, "1 to 64"),
        (json!({"name": "a b", "type": "push_streaming"}), 400, "1 to 64"),
        (json!({"name": "n".repeat(65), "type": "push_streaming"}), 400, "1 to 64"),
        (json!({"name": "k", "type": "kafka", "bootstrapServers": "x"}), 400, "\"kafka\""),
        (json!({"name": "k"}), 400, "\"type\""),
    ] {
        let message = refused(&call(&daemon, "POST", path, &body), status);
        assert!(message.contains(why), "{message:?} does not say {why:?}");
    }
    assert_eq!(call(&daemon, "DELETE", "/v1/projects/p/connections/demo", &Value::Null).status, 200);
    for (method, path) in [
        ("GET", "/v1/projects/p/connections/demo"),
        ("DELETE", "/v1/projects/p/connections/demo"),
        ("POST", "/v1/projects/p/connections/demo/test"),
    ] {
        refused(&call(&daemon, method, path, &Value::Null), 404);
    }
    refused(&call(&daemon, "PATCH", "/v1/projects/p/connections/demo", &change), 404);
}

#[test]
fn a_connection_without_jobs_writes_to_the_table_of_its_name() {
    let daemon = Setup::with_config("").start();
    let token = format!("Bearer {}", daemon.token.clone().unwrap());
    let event = "{\"__time\":\"2024-01-01T00:00:00Z\",\"a\":1}";
    let push =
        |path: &str| request(daemon.ingest, "POST", path, &[("authorization", &token)], event.as_bytes());
    let none = push("/v1/projects/p/events/demo");
    assert_eq!(refused(&none, 404), "The table or connection \"demo\" does not exist");
    let connection = json!({"name": "demo", "type": "push_streaming"});
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections", &connection).status, 201);
    assert_eq!(push("/v1/projects/p/events/demo").status, 200);
    assert_eq!(push("/v1/projects/q/events/demo").status, 404, "it belongs to another project");
    let row = &daemon.rows("demo")[0];
    assert_eq!(fields(row), json!({"__time": "2024-01-01T00:00:00Z", "a": 1}));
}
