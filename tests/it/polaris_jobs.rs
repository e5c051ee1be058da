//! The jobs routes of Imply Polaris' contract: writing a connection's events to a table.

use crate::polaris::push;
use crate::polaris_tables::{call, get, refused};
use crate::support::{Daemon, fields};
use serde_json::{Value, json};

const JOBS: &str = "/v1/projects/p/jobs";

/// A daemon with a connection `demo` that has no job.
fn daemon() -> Daemon {
    let daemon = Daemon::dev();
    let connection = json!({"name": "demo", "type": "push_streaming"});
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections", &connection).status, 201);
    daemon
}

/// A job as the vendor's SDK sends it.
fn spec(table: &str) -> Value {
    json!({
        "type": "streaming",
        "source": {
            "type": "connection",
            "connectionName": "demo",
            "formatSettings": {"format": "nd-json"},
            "inputSchema": [{"dataType": "string", "name": "__time"}, {"dataType": "string", "name": "city"}],
        },
        "target": {"type": "table", "tableName": table},
        "createTableIfNotExists": true,
        "mappings": [
            {"columnName": "__time", "expression": "TIME_PARSE(\"__time\")"},
            {"columnName": "town", "expression": "\"city\""},
        ],
        "readFromPoint": "latest",
        "lateMessageRejectionPeriod": "P2000D",
        "earlyMessageRejectionPeriod": "P2000D",
        "maxParseExceptions": 2_147_483_647,
        "useSchemaDiscovery": false,
    })
}

fn create(daemon: &Daemon, spec: &Value) -> Value {
    let made = call(daemon, "POST", JOBS, spec);
    assert_eq!(made.status, 201, "{}", made.text());
    let job = made.json();
    assert_eq!(made.header("location"), Some(format!("{JOBS}/{}", job["id"].as_str().unwrap()).as_str()));
    job
}

fn path(job: &Value) -> String {
    format!("{JOBS}/{}", job["id"].as_str().unwrap())
}

fn set(daemon: &Daemon, job: &Value, status: &str) -> crate::support::Response {
    call(daemon, "POST", &format!("{}/status", path(job)), &json!({"desiredExecutionStatus": status}))
}

#[test]
fn a_job_fills_a_table_by_its_mappings() {
    let daemon = daemon();
    let job = create(&daemon, &spec("t"));
    for (key, value) in [
        ("type", json!("streaming")),
        ("spec", spec("t")),
        ("source", spec("t")["source"].clone()),
        ("target", json!({"type": "table", "tableName": "t"})),
        ("createdBy", json!({"username": "everybody", "userId": "0"})),
        ("desiredExecutionStatus", json!("running")),
        ("executionStatus", json!("running")),
        ("health", json!({"status": "ok"})),
    ] {
        assert_eq!(job[key], value, "{key}");
    }
    assert_eq!(get(&daemon, &path(&job)), job);
    let event = "{\"__time\":\"2024-01-01T00:00:00Z\",\"city\":\"Chicago\"}";
    assert_eq!(push(&daemon, "/v1/projects/p/events/demo", event).status, 200);
    assert_eq!(fields(&daemon.rows("t")[0]), json!({"__time": "2024-01-01T00:00:00Z", "town": "Chicago"}));
    assert_eq!(
        daemon.get("/admin/v1/streams/demo").status,
        404,
        "no event must go to the connection's own table"
    );
    let table = get(&daemon, "/v1/projects/p/tables/t");
    assert_eq!(table["schemaMode"], "strict");
    assert_eq!(table["schema"][1], json!({"name": "town", "dataType": "string"}));
}

#[test]
fn after_a_job_is_canceled_its_connection_uses_its_own_table() {
    let daemon = daemon();
    let job = create(&daemon, &spec("t"));
    assert_eq!(get(&daemon, &format!("{}/progress", path(&job))), json!({"overallProgress": 0.0}));
    let deleted = call(&daemon, "DELETE", "/v1/projects/p/connections/demo", &Value::Null);
    assert!(refused(&deleted, 400).contains(job["id"].as_str().unwrap()));
    let event = "{\"__time\":\"2024-01-01T00:00:00Z\",\"city\":\"Chicago\"}";
    assert_eq!(set(&daemon, &job, "suspended").json(), json!({"executionStatus": "suspended"}));
    assert_eq!(push(&daemon, "/v1/projects/p/events/demo", event).status, 200);
    assert_eq!(daemon.rows("demo").len(), 1, "events in the meantime must be kept");
    assert_eq!(set(&daemon, &job, "running").json(), json!({"executionStatus": "running"}));
    assert_eq!(push(&daemon, "/v1/projects/p/events/demo", event).status, 200);
    assert_eq!(set(&daemon, &job, "canceled").json(), json!({"executionStatus": "canceled"}));
    assert_eq!(push(&daemon, "/v1/projects/p/events/demo", event).status, 200);
    assert_eq!((daemon.rows("t").len(), daemon.rows("demo").len()), (1, 2));
    let shown = get(&daemon, &path(&job));
    assert!(shown["completedTimestamp"].is_string(), "{shown}");
    assert_eq!(get(&daemon, &format!("{}/progress", path(&job))), json!({"overallProgress": 1.0}));
    assert!(refused(&set(&daemon, &job, "running"), 400).contains("cannot be run again"));
    assert!(refused(&set(&daemon, &job, "paused"), 400).contains("paused"));
    // The other route that cancels a job.
    let put = call(&daemon, "PUT", &path(&job), &json!({"desiredExecutionStatus": "canceled"}));
    assert_eq!((put.status, &put.json()["executionStatus"]), (200, &json!("canceled")));
    let codes: Vec<Value> = get(&daemon, &format!("{}/logs", path(&job)))["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["code"].clone())
        .collect();
    assert_eq!(codes, ["created", "suspended", "running", "canceled"]);
}

#[test]
fn the_routing_of_events_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = crate::support::Setup::dev("").start_at(dir.path());
    let connection = json!({"name": "demo", "type": "push_streaming"});
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections", &connection).status, 201);
    let job = create(&daemon, &spec("t"));
    daemon.kill();
    let daemon = crate::support::Setup::dev("").start_at(dir.path());
    let event = "{\"__time\":\"2024-01-01T00:00:00Z\",\"city\":\"Chicago\"}";
    assert_eq!(push(&daemon, "/v1/projects/p/events/demo", event).status, 200);
    assert_eq!(daemon.rows("t").len(), 1);
    assert_eq!(get(&daemon, &path(&job)), job);
}

#[test]
fn a_table_has_one_running_job() {
    let daemon = daemon();
    let first = create(&daemon, &spec("t"));
    let second = refused(&call(&daemon, "POST", JOBS, &spec("t")), 400);
    assert!(second.contains(first["id"].as_str().unwrap()), "{second}");
    let mut replacing = spec("t");
    replacing["replaceRunning"] = true.into();
    let second = create(&daemon, &replacing);
    assert_eq!(get(&daemon, &path(&first))["executionStatus"], "canceled");
    assert_eq!(get(&daemon, &path(&second))["executionStatus"], "running");
    assert_eq!(set(&daemon, &second, "canceled").status, 200);
    // Of eight concurrent creates for a new table, one succeeds.
    let mut statuses: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..8).map(|_| scope.spawn(|| call(&daemon, "POST", JOBS, &spec("u")).status)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![201], vec![400; 7]].concat());
}

#[test]
fn a_connections_events_go_to_every_running_job() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = crate::support::Setup::dev("").start_at(dir.path());
    let connection = json!({"name": "demo", "type": "push_streaming"});
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections", &connection).status, 201);
    let strict = json!({
        "type": "detail", "name": "strict", "schemaMode": "strict",
        "schema": [{"name": "__time", "dataType": "timestamp"}, {"name": "n", "dataType": "long"}],
    });
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/tables", &strict).status, 201);
    let wide = create(&daemon, &spec("wide"));
    let mut narrow = spec("strict");
    narrow["mappings"] = json!([
        {"columnName": "__time", "expression": "TIME_PARSE(\"__time\")"},
        {"columnName": "n", "expression": "\"n\""},
    ]);
    narrow["source"]["inputSchema"][1] = json!({"dataType": "string", "name": "n"});
    let narrow = create(&daemon, &narrow);
    let event = |city: &str, n: &str| {
        format!("{{\"__time\":\"2024-01-01T00:00:00Z\",\"city\":\"{city}\",\"n\":{n}}}\n")
    };
    let body = event("Chicago", "1") + &event("Boston", "\"none\"");
    let answer = push(&daemon, "/v1/projects/p/events/demo", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Both tables have the first event; the second fits one of them.
    let n = |table: &str| daemon.rows(table).iter().map(|row| row["n"].clone()).collect::<Vec<_>>();
    assert_eq!(daemon.rows("wide").len(), 2);
    assert_eq!(n("strict"), [json!(1)]);
    assert_eq!(daemon.rows("strict_quarantine").len(), 1);
    let receipt = answer.header("forebay-receipt").unwrap().to_owned();
    let found = daemon.get(&format!("/admin/v1/receipts/{receipt}")).json();
    let files = found["files"].as_array().unwrap();
    let tables = ["wide/", "strict/", "strict_quarantine/"];
    let held = |table: &str| files.iter().any(|file| file["object"].as_str().unwrap().starts_with(table));
    assert!(tables.into_iter().all(held), "{found}");
    // A canceled job gets no more events; the others continue, also after a restart.
    assert_eq!(set(&daemon, &narrow, "canceled").status, 200);
    daemon.kill();
    let daemon = crate::support::Setup::dev("").start_at(dir.path());
    assert_eq!(push(&daemon, "/v1/projects/p/events/demo", event("Austin", "3")).status, 200);
    assert_eq!(daemon.rows("wide").len(), 3);
    assert_eq!(daemon.rows("strict").len(), 1);
    assert_eq!(get(&daemon, &path(&wide))["executionStatus"], "running");
}

#[test]
fn unsupported_jobs_are_refused_with_the_reason() {
    let daemon = daemon();
    let strict = json!({
        "type": "detail", "name": "strict", "schemaMode": "strict",
        "schema": [{"name": "__time", "dataType": "timestamp"}, {"name": "n", "dataType": "long"}],
    });
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/tables", &strict).status, 201);
    let with = |pointer: &str, value: Value| {
        let mut spec = spec("t");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[key] = value;
        spec
    };
    let mapping = |column: &str, expression: &str| {
        let mut mappings = spec("t")["mappings"].clone();
        mappings[1] = json!({"columnName": column, "expression": expression});
        with("/mappings", mappings)
    };
    let onto = |table: &str, mut spec: Value| {
        spec["target"]["tableName"] = table.into();
        spec
    };
    for (spec, why) in [
        (json!(7), "not a JSON object"),
        (with("/type", json!("batch")), "\"batch\""),
        (with("/type", json!("drop_table")), "\"drop_table\""),
        (with("/source/connectionName", json!("none")), "\"none\" does not exist"),
        (with("/source/type", json!("s3")), "\"connection\""),
        (with("/source/formatSettings/format", json!("avro_ocf")), "avro_ocf"),
        (with("/createTableIfNotExists", json!(false)), "\"t\" does not exist"),
        (with("/target/tableName", json!("__t")), "reserved"),
        (with("/target/intervals", json!(["2022/2023"])), "intervals"),
        (with("/filterExpression", json!("\"n\" > 1")), "filterExpression"),
        (with("/enableUpserts", json!(true)), "enableUpserts"),
        (with("/maxParseExceptions", json!(0)), "maxParseExceptions"),
        (with("/lateMessageRejectionPeriod", json!("30 days")), "30 days"),
        (with("/mappings", json!([])), "__time"),
        (mapping("n", "SUM(\"n\")"), "not aggregated"),
        (mapping("n", "UPPER(\"n\")"), "the function is not supported"),
        (mapping("n", "\"n\" + 1"), "not computed"),
        (mapping("n", "\"unknown\""), "inputSchema has no type"),
        (mapping("town", "TIME_PARSE(\"__time\")"), "same place"),
        (onto("strict", mapping("other", "\"city\"")), "no column \"other\""),
        (onto("strict", mapping("n", "TIME_PARSE(\"city\")")), "the column is long"),
        (onto("strict", with("/useSchemaDiscovery", json!(true))), "is strict"),
    ] {
        let message = refused(&call(&daemon, "POST", JOBS, &spec), 400);
        assert!(message.contains(why), "{message:?} does not say {why:?}");
    }
    assert_eq!(get(&daemon, JOBS)["values"], json!([]));
    for part in ["", "/metrics", "/logs", "/status", "/progress"] {
        refused(&call(&daemon, "GET", &format!("{JOBS}/none{part}"), &Value::Null), 404);
    }
    refused(&call(&daemon, "POST", &format!("{JOBS}/none/reset"), &Value::Null), 404);
    // Events from before the job are in the connection's own table.
    let event = "{\"__time\":\"2024-01-01T00:00:00Z\",\"city\":\"Chicago\"}";
    create(&daemon, &with("/readFromPoint", json!("earliest")));
    assert_eq!(push(&daemon, "/v1/projects/p/events/u", event).status, 200);
    let connection = json!({"name": "u", "type": "push_streaming"});
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections", &connection).status, 201);
    let mut earliest = onto("v", with("/readFromPoint", json!("earliest")));
    earliest["source"]["connectionName"] = "u".into();
    assert!(refused(&call(&daemon, "POST", JOBS, &earliest), 400).contains("earliest"));
}

#[test]
fn jobs_are_listed_filtered_sorted_and_paged() {
    let daemon = daemon();
    let other = json!({"name": "other", "type": "push_streaming"});
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections", &other).status, 201);
    let a = create(&daemon, &spec("a"));
    set(&daemon, &a, "canceled");
    create(&daemon, &spec("b"));
    let mut third = spec("c");
    third["source"]["connectionName"] = "other".into();
    create(&daemon, &third);
    let list = |query: &str| {
        let list = get(&daemon, &format!("{JOBS}{query}"));
        let names = list["values"].as_array().unwrap().iter();
        let names: String = names.map(|job| job["target"]["tableName"].as_str().unwrap()).collect();
        (names, list["moreResultsAvailable"].as_bool().unwrap())
    };
    for (query, names, more) in [
        ("", "cba", false),
        ("?sortColumn=target_table_name&sortOrder=ASC", "abc", false),
        ("?sortColumn=created_date_time&sortOrder=DESC", "cba", false),
        ("?sortColumn=source_name&sortOrder=DESC&paginationLimit=1", "c", true),
        ("?paginationLimit=2&paginationOffset=1", "ba", false),
        ("?paginationLimit=2&paginationOffset=9", "", false),
        ("?connectionName=other", "c", false),
        ("?connectionName=other&connectionName=demo", "cba", false),
        ("?executionStatus=canceled", "a", false),
        ("?executionStatus=running,suspended", "cb", false),
        ("?healthStatus=ok", "cba", false),
        ("?healthStatus=error", "", false),
        ("?targetTableName=b", "b", false),
        ("?type=streaming", "cba", false),
        ("?type=batch", "", false),
        ("?searchString=OTHER", "c", false),
    ] {
        assert_eq!(list(query), (names.to_owned(), more), "{query}");
    }
    assert_eq!(get(&daemon, "/v1/projects/q/jobs")["values"], json!([]));
    for bad in
        ["paginationLimit=0", "paginationLimit=1001", "paginationOffset=-1", "sortColumn=x", "sortOrder=UP"]
    {
        refused(&call(&daemon, "GET", &format!("{JOBS}?{bad}"), &Value::Null), 400);
    }
}
