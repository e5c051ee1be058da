//! The accept path of each contract, without a compactor, compared with the native one that answers at the same point:
//! after the append, or after the sync.

use crate::Settings;
use crate::call::request_with;
use crate::load::{Around, Head, Workload};
use crate::measure::{NO_ARCHIVE, Sample, middle, sample};
use crate::process::Server;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How requests of a contract are sent.
struct Subject {
    name: &'static str,
    /// Requests are answered after the sync.
    synced: bool,
    /// Requests have many records.
    many: bool,
    /// Creates the objects that the contract needs, and returns how an event is sent.
    prepare: fn(SocketAddr) -> Head,
}

const SUBJECTS: [Subject; 10] = [
    Subject { name: "native 202", synced: false, many: true, prepare: |_| Head::of("/v0/events?name=bench") },
    Subject {
        name: "native 202, the same again",
        synced: false,
        many: true,
        prepare: |_| Head::of("/v0/events?name=bench"),
    },
    Subject { name: "Amperity, JSON", synced: false, many: false, prepare: amperity },
    Subject { name: "Keboola Stream, paths", synced: false, many: false, prepare: keboola_stream },
    Subject {
        name: "native 200",
        synced: true,
        many: true,
        prepare: |_| Head::of("/v0/events?name=bench&wait=true"),
    },
    Subject { name: "Polaris", synced: true, many: true, prepare: polaris },
    Subject {
        name: "Keboola, body and ip",
        synced: true,
        many: false,
        prepare: |to| keboola(to, &json!({"type": "body", "name": "v"})),
    },
    Subject {
        name: "Keboola, a template",
        synced: true,
        many: false,
        prepare: |to| {
            let template = json!({"language": "jsonnet", "content": "Body('city') + ':' + Body('action')"});
            keboola(to, &json!({"type": "template", "name": "v", "template": template}))
        },
    },
    Subject { name: "Foundry", synced: true, many: true, prepare: |to| foundry(to, &json!([])) },
    Subject { name: "Foundry, keyed", synced: true, many: true, prepare: |to| foundry(to, &json!(["city"])) },
];

pub fn run(settings: &Settings, dir: &Path) {
    let mut samples: BTreeMap<(&str, usize), Vec<Sample>> = BTreeMap::new();
    let workloads: Vec<&Workload> =
        settings.workloads.iter().filter(|workload| workload.name != "C").collect();
    for round in 1..=settings.rounds {
        for workload in &workloads {
            for (at, subject) in SUBJECTS.iter().enumerate() {
                if workload.events > 1 && !subject.many {
                    continue;
                }
                let dir = dir.join(format!("{round}{}{at}", workload.name));
                let server = Server::daemon(&dir, &["--discard-log"], &[NO_ARCHIVE]);
                let head = (subject.prepare)(server.ingest);
                let (sample, answers) = sample(&server, workload, &|_| head.clone(), settings.time);
                assert_eq!(answers.refused, 0, "{}: {:?}", subject.name, answers.first_refusal);
                eprintln!(
                    "round {round} {} {:<28} {:>8.3} CPU s/M rows",
                    workload.name, subject.name, sample.cpu_seconds_per_million
                );
                samples.entry((workload.name, at)).or_default().push(sample);
            }
        }
    }
    for workload in workloads {
        println!("\n{}: {} (medians of {} rounds)", workload.name, workload.what, settings.rounds);
        println!(
            "{:<28} {:>12} {:>10} {:>11} {:>8}",
            "contract", "CPU s/M rows", "/native", "rows/s", "p50 ms"
        );
        for (at, subject) in SUBJECTS.iter().enumerate() {
            let Some(own) = samples.get(&(workload.name, at)) else { continue };
            let native = SUBJECTS.iter().position(|other| other.synced == subject.synced).unwrap_or(0);
            let pairs = samples[&(workload.name, native)].iter().zip(own);
            let ratios =
                pairs.map(|(native, own)| own.cpu_seconds_per_million / native.cpu_seconds_per_million);
            let of = |value: fn(&Sample) -> f64| middle(&mut own.iter().map(value).collect::<Vec<_>>());
            println!(
                "{:<28} {:>12.3} {:>10.2} {:>11.0} {:>8.2}",
                subject.name,
                of(|sample| sample.cpu_seconds_per_million),
                middle(&mut ratios.collect::<Vec<_>>()),
                of(|sample| sample.rows_per_second),
                of(|sample| sample.p50_ms),
            );
        }
    }
}

/// Makes a management call and returns the body of the answer.
fn call(to: SocketAddr, what: &str, body: &Value) -> Value {
    let headers =
        "content-type: application/json\r\nx-storageapi-token: any\r\nauthorization: Bearer any\r\n";
    let answer = request_with(to, what, headers, &body.to_string());
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 2"), "{what}: {answer}");
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{what}: {error}: {answer}"))
}

fn amperity(_: SocketAddr) -> Head {
    Head {
        path: "/stream/v0/data/is-bench0001".to_owned(),
        headers: "x-amperity-tenant: acme\r\nauthorization: Bearer any\r\n".to_owned(),
        content_type: "application/json",
        around: None,
    }
}

fn polaris(to: SocketAddr) -> Head {
    let connection = json!({"name": "bench", "type": "push_streaming"});
    call(to, "POST /v1/projects/p/connections", &connection);
    let columns = [
        ("__time", "TIME_PARSE(\"date\")"),
        ("city", "\"city\""),
        ("action", "\"action\""),
        ("user_id", "\"user_id\""),
        ("session", "\"session\""),
        ("url", "\"url\""),
        ("price", "\"price\""),
        ("tags", "\"tags\""),
    ];
    let inputs = [
        ("date", "string"),
        ("city", "string"),
        ("action", "string"),
        ("user_id", "long"),
        ("session", "string"),
        ("url", "string"),
        ("price", "double"),
        ("tags", "json"),
    ];
    let job = json!({
        "type": "streaming",
        "source": {
            "type": "connection",
            "connectionName": "bench",
            "formatSettings": {"format": "nd-json"},
            "inputSchema": inputs.map(|(name, kind)| json!({"name": name, "dataType": kind})),
        },
        "target": {"type": "table", "tableName": "bench"},
        "createTableIfNotExists": true,
        "mappings": columns.map(|(name, from)| json!({"columnName": name, "expression": from})),
        "readFromPoint": "latest",
        "lateMessageRejectionPeriod": "P2000D",
        "earlyMessageRejectionPeriod": "P2000D",
    });
    call(to, "POST /v1/projects/p/jobs", &job);
    Head::of("/v1/projects/p/events/bench")
}

/// The path of a URL.
fn path_of(url: &Value) -> String {
    let url = url.as_str().expect("an address");
    let (_, rest) = url.split_once("://").expect("an address");
    rest[rest.find('/').expect("a path")..].to_owned()
}

/// Polls a task until it is done.
fn finish(to: SocketAddr, task: &Value) {
    let what = format!("GET {}", path_of(&task["url"]));
    for _ in 0..500 {
        let task = call(to, &what, &Value::Null);
        if task["isFinished"] == true {
            assert_eq!(task["status"], "success", "{task}");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("a task did not end: {task}");
}

fn keboola(to: SocketAddr, column: &Value) -> Head {
    let columns = json!([{"type": "id", "name": "id"}, {"type": "ip", "name": "ip"}, column]);
    let export = json!({"name": "e", "mapping": {"tableId": "in.c-bench.events", "columns": columns}});
    let receiver = json!({"id": "bench", "name": "bench", "exports": [export]});
    finish(to, &call(to, "POST /v1/receivers", &receiver));
    let receiver = call(to, "GET /v1/receivers/bench", &Value::Null);
    let path = path_of(&receiver["url"]);
    Head { path, headers: String::new(), content_type: "application/json", around: None }
}

fn keboola_stream(to: SocketAddr) -> Head {
    let sources = "/v1/branches/default/sources";
    let source = json!({"sourceId": "bench", "type": "http", "name": "bench"});
    finish(to, &call(to, &format!("POST {sources}"), &source));
    let columns = json!([
        {"type": "uuid", "name": "id"},
        {"type": "path", "name": "city", "path": "city", "rawString": true},
        {"type": "path", "name": "price", "path": "price"},
    ]);
    let table = json!({"type": "keboola", "tableId": "in.c-bench.events", "mapping": {"columns": columns}});
    let sink = json!({"sinkId": "s", "type": "table", "name": "s", "table": table});
    finish(to, &call(to, &format!("POST {sources}/bench/sinks"), &sink));
    let setting = json!([{"key": "storage.level.local.encoding.sync.wait", "value": false}]);
    finish(to, &call(to, &format!("PATCH {sources}/bench/settings"), &json!({"settings": setting})));
    let source = call(to, &format!("GET {sources}/bench"), &Value::Null);
    let path = path_of(&source["http"]["url"]);
    Head { path, headers: String::new(), content_type: "application/json", around: None }
}

fn foundry(to: SocketAddr, keys: &Value) -> Head {
    let field =
        |name: &str, kind: Value| json!({"name": name, "schema": {"nullable": true, "dataType": kind}});
    let text = || json!({"type": "string"});
    let tags = json!({"type": "array", "itemsSchema": {"nullable": true, "dataType": text()}});
    let fields = [
        field("date", json!({"type": "timestamp"})),
        field("city", text()),
        field("action", text()),
        field("user_id", json!({"type": "long"})),
        field("session", text()),
        field("url", text()),
        field("price", json!({"type": "double"})),
        field("tags", tags),
    ];
    let dataset = json!({
        "name": "bench",
        "parentFolderRid": "ri.compass.main.folder.00000000-0000-0000-0000-000000000001",
        "schema": {"fields": fields, "keyFieldNames": keys},
        "partitionsCount": 4,
    });
    let dataset = call(to, "POST /api/v2/streams/datasets/create?preview=true", &dataset);
    let rid = dataset["rid"].as_str().expect("a dataset");
    Head {
        path: format!("/api/v2/highScale/streams/datasets/{rid}/streams/master/publishRecords"),
        headers: "authorization: Bearer any\r\n".to_owned(),
        content_type: "application/json",
        around: Some(Around { before: "{\"records\":[", after: "]}" }),
    }
}
