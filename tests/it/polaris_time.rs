//! `__time` in Imply Polaris' contract: its formats, and events that are too late or too early.

use crate::polaris::push;
use crate::polaris_tables::{call, get};
use crate::schema_api::admin;
use crate::support::{Daemon, Setup};
use serde_json::{Value, json};

fn now(offset_days: i64) -> String {
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * offset_days);
    now.to_string()
}

fn event(time: &Value, n: u64) -> String {
    format!("{}\n", json!({"__time": time, "n": n}))
}

/// Numbers of the stored events, and of the quarantined ones with their reasons.
fn ends(daemon: &Daemon, table: &str) -> (Vec<u64>, Vec<(u64, String)>) {
    let stored = daemon.rows(table).iter().map(|row| row["n"].as_u64().unwrap()).collect();
    let quarantined = daemon
        .rows(&format!("{table}_quarantine"))
        .iter()
        .map(|row| {
            let raw: Vec<u8> = (0..row["raw"].as_str().unwrap().len() / 2)
                .map(|at| u8::from_str_radix(&row["raw"].as_str().unwrap()[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            let record: Value = serde_json::from_slice(&raw).unwrap();
            (record["n"].as_u64().unwrap(), row["reason"].as_str().unwrap().to_owned())
        })
        .collect();
    (stored, quarantined)
}

#[test]
fn every_time_format_of_the_contract_is_accepted() {
    let daemon = Daemon::dev();
    let forms = [
        json!("2022-04-16T00:46:58.771Z"),
        json!("2022-04-16 00:46:58.771"),
        json!("2022-04-15T16:46:58.771-8:00"),
        json!("2022-04-16T00:46:58.771000"),
        json!("2022-04-16T02:46:58.771+02:00"),
        json!(1_650_070_018_771_u64),
    ];
    let body: String = forms.iter().zip(0..).map(|(form, n)| event(form, n)).collect();
    assert_eq!(push(&daemon, "/v1/events/t", body).status, 200);
    let rows = daemon.rows("t");
    assert_eq!(rows.len(), forms.len(), "{:?}", daemon.rows("t_quarantine"));
    for (row, form) in rows.iter().zip(forms) {
        assert_eq!(row["__time"], "2022-04-16T00:46:58.771Z", "{form}");
    }
}

#[test]
fn an_event_without_a_time_is_quarantined() {
    let daemon = Daemon::dev();
    let bad = [
        json!(null),
        json!(""),
        json!("yesterday"),
        json!("10000-01-01T00:00:00Z"),
        json!(253_402_300_800_000_u64),
        json!(1.5),
        json!(true),
        json!({}),
        json!([]),
    ];
    let mut body: String = bad.iter().zip(1..).map(|(time, n)| event(time, n)).collect();
    body.push_str("{\"n\":10}\n");
    body.push_str(&event(&json!("2024-01-01T00:00:00Z"), 0));
    // Whether the request creates the table or it existed before.
    for _ in 0..2 {
        assert_eq!(push(&daemon, "/v1/events/t", &body).status, 200);
    }
    let (stored, quarantined) = ends(&daemon, "t");
    assert_eq!(stored, [0, 0]);
    let numbers: Vec<u64> = quarantined.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, (1..=10).chain(1..=10).collect::<Vec<_>>());
    assert!(quarantined.iter().all(|(_, reason)| reason.contains("__time")), "{quarantined:?}");
    assert_eq!(daemon.metric("forebay_compactor_verdict_mismatches_total").to_string(), "0");
}

#[test]
fn a_late_event_among_good_ones_is_quarantined_and_counted() {
    let daemon = Setup::dev("[polaris]\nlate_reject = \"7d\"\nearly_reject = \"1d\"\n").start();
    let body: String = [(-1, 0), (-8, 1), (0, 2), (2, 3), (-6, 4)]
        .into_iter()
        .map(|(days, n)| event(&json!(now(days)), n))
        .collect();
    for _ in 0..2 {
        assert_eq!(push(&daemon, "/v1/events/t", &body).status, 200);
    }
    let (stored, quarantined) = ends(&daemon, "t");
    assert_eq!(stored, [0, 2, 4, 0, 2, 4], "{quarantined:?}");
    assert_eq!(quarantined.len(), 4);
    for (n, reason) in quarantined {
        let why = if n == 1 { "late: '__time'" } else { "early: '__time'" };
        assert!(reason.starts_with(why), "{n}: {reason}");
    }
    let rows = &daemon.get("/admin/v1/streams/t").json()["rows"];
    assert_eq!((&rows["stored"], &rows["late"], &rows["early"]), (&json!(6), &json!(2), &json!(2)));
    assert_eq!(rows["source_bytes"], 2 * body.len());
    assert_eq!(daemon.metric("forebay_compactor_verdict_mismatches_total").to_string(), "0");
}

/// All tables of a connection use the same time of receipt, even if the first one does not need it.
#[test]
fn events_for_several_tables_share_one_time_of_receipt() {
    // The daemon decides which table is the first.
    for (timeless, timed) in [("a", "b"), ("b", "a")] {
        let daemon = Setup::dev("[compactor]\nmax_idle = \"off\"\nmax_age = \"1h\"").start();
        let connection = json!({"name": "demo", "type": "push_streaming"});
        assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections", &connection).status, 201);
        for table in ["a", "b"] {
            let input = json!([{"name": "__time", "dataType": "string"}]);
            let spec = json!({
                "type": "streaming",
                "source": {"type": "connection", "connectionName": "demo", "inputSchema": input},
                "target": {"type": "table", "tableName": table},
                "createTableIfNotExists": true,
                "mappings": [{"columnName": "__time", "expression": "TIME_PARSE(\"__time\")"}],
                "lateMessageRejectionPeriod": "P1D",
            });
            let made = call(&daemon, "POST", "/v1/projects/p/jobs", &spec);
            assert_eq!(made.status, 201, "{}", made.text());
        }
        let evolving = json!({"policy": "evolve", "settings": {"time": null}});
        let changed = admin(&daemon, "PATCH", timeless, &evolving);
        assert_eq!(changed.status, 200, "{}", changed.text());
        // The events become too late one after another, so each time of receipt makes a different number of them late.
        let begin = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
        let at = |n: i64| json!((begin + jiff::SignedDuration::from_millis(n * 2)).to_string());
        let body = (0..8_000).fold(String::new(), |text, n| text + &format!("{{\"__time\":{}}}\n", at(n)));
        assert_eq!(push(&daemon, "/v1/projects/p/events/demo", &body).status, 200);
        assert_eq!(daemon.rows(timeless).len(), 8_000);
        let quarantine = daemon.rows(&format!("{timed}_quarantine"));
        assert_eq!(daemon.rows(timed).len() + quarantine.len(), 8_000);
        assert_eq!(daemon.metric("forebay_compactor_verdict_mismatches_total").to_string(), "0");
    }
}

#[test]
fn a_job_sets_how_late_and_early_events_may_be() {
    let daemon = Daemon::dev();
    let connection = json!({"name": "demo", "type": "push_streaming"});
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections", &connection).status, 201);
    let spec = json!({
        "type": "streaming",
        "source": {"type": "connection", "connectionName": "demo", "inputSchema": [{"name": "n", "dataType": "long"}]},
        "target": {"type": "table", "tableName": "t"},
        "createTableIfNotExists": true,
        "mappings": [
            {"columnName": "__time", "expression": "MILLIS_TO_TIMESTAMP(\"at\" * 1000)"},
            {"columnName": "n", "expression": "\"n\""},
        ],
        "earlyMessageRejectionPeriod": "P1D",
    });
    let job = call(&daemon, "POST", "/v1/projects/p/jobs", &spec).json();
    let path = format!("/v1/projects/p/jobs/{}", job["id"].as_str().unwrap());
    let seconds =
        |days: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days)).as_second();
    let mut body: String = [(-29, 0), (-31, 1), (2, 2), (0, 3)]
        .map(|(days, n)| format!("{{\"at\":{},\"n\":{n}}}\n", seconds(days)))
        .concat();
    body.push_str("{\"at\":\"soon\",\"n\":4}\n{\"n\":5}\nnot json\n");
    assert_eq!(push(&daemon, "/v1/projects/p/events/demo", &body).status, 200);
    let stored: Vec<Value> = daemon.rows("t").iter().map(|row| row["n"].clone()).collect();
    assert_eq!(stored, [0, 3]);
    assert_eq!(
        get(&daemon, &format!("{path}/metrics")),
        json!({"totals": {
            "numBytesProcessed": body.len(),
            "numRowsProcessed": 2,
            "numRowsProcessedWithWarning": 0,
            "numRowsSkippedByError": 3,
            "numRowsSkippedByFilter": 2,
        }})
    );
    assert_eq!(get(&daemon, &path)["health"], json!({"status": "warn", "code": "invalid_rows_found"}));
    assert_eq!(get(&daemon, "/v1/projects/p/jobs?healthStatus=warn")["values"][0]["id"], job["id"]);
    // A reset restarts the counts.
    assert_eq!(call(&daemon, "POST", &format!("{path}/reset"), &Value::Null).status, 200);
    assert_eq!(get(&daemon, &format!("{path}/metrics"))["totals"]["numRowsProcessed"], 0);
    assert_eq!(get(&daemon, &path)["health"], json!({"status": "ok"}));
}

#[test]
fn the_errors_of_a_table_are_shown_in_detail() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[polaris]\nlate_reject = \"7d\"\n";
    let daemon = Setup::dev(config).start_at(dir.path());
    let long = format!("not json {}", "x".repeat(1000));
    let body = format!("{}{long}\n{}", event(&json!(now(0)), 0), event(&json!(now(-8)), 2));
    let receipt = push(&daemon, "/v1/events/t", &body).receipt();
    let check = |daemon: &Daemon| {
        let shown = daemon.get("/admin/v1/streams/t/errors");
        assert_eq!(shown.status, 200, "{}", shown.text());
        let errors = shown.json()["errors"].clone();
        let errors = errors.as_array().unwrap();
        assert_eq!(errors.len(), 2, "{errors:?}");
        for (error, record, offset, reason, excerpt) in [
            (&errors[0], 2, body.len() - event(&json!(now(-8)), 2).len(), "late: '__time'", "{\"__time\":"),
            (&errors[1], 1, event(&json!(now(0)), 0).len(), "expected a JSON object", "not json x"),
        ] {
            assert_eq!((&error["lsn"], &error["record"]), (&json!(receipt), &json!(record)));
            assert!(error["offset"].as_u64().unwrap().abs_diff(offset as u64) < 4, "{error}");
            assert!(error["reason"].as_str().unwrap().starts_with(reason), "{error}");
            assert!(error["excerpt"].as_str().unwrap().starts_with(excerpt), "{error}");
            assert!(error["excerpt"].as_str().unwrap().len() < 300);
        }
        assert_eq!(
            daemon.get("/admin/v1/streams/t/errors?limit=1").json()["errors"].as_array().unwrap().len(),
            1
        );
        shown.json()
    };
    crate::support::eventually("the errors in memory", || {
        let errors = daemon.get("/admin/v1/streams/t/errors").json();
        (errors["errors"].as_array()?.len() == 2).then_some(())
    });
    check(&daemon);
    daemon.rows("t");
    let shown = check(&daemon);
    assert_eq!((&shown["rows"]["quarantined"], &shown["rows"]["late"]), (&json!(2), &json!(1)));
    assert!(shown["ingest_latency_seconds"].as_f64().unwrap() > 0.0, "{shown}");
    // From the files, after a restart.
    daemon.kill();
    let daemon = Setup::dev(config).start_at(dir.path());
    check(&daemon);
    assert_eq!(daemon.get("/admin/v1/streams/none/errors").status, 404);
}

#[test]
fn metrics_are_exported_under_the_vendors_names() {
    let daemon = Setup::dev("[polaris]\nlate_reject = \"7d\"\n").start();
    let connection = json!({"name": "demo", "type": "push_streaming"});
    assert_eq!(call(&daemon, "POST", "/v1/projects/p/connections", &connection).status, 201);
    let spec = json!({
        "type": "streaming",
        "source": {"type": "connection", "connectionName": "demo", "inputSchema": [{"name": "n", "dataType": "long"}]},
        "target": {"type": "table", "tableName": "t"},
        "createTableIfNotExists": true,
        "mappings": [
            {"columnName": "__time", "expression": "TIME_PARSE(\"__time\")"},
            {"columnName": "n", "expression": "\"n\""},
        ],
    });
    let job = call(&daemon, "POST", "/v1/projects/p/jobs", &spec).json();
    let id = job["id"].as_str().unwrap();
    let body = format!("{}{}not json\n", event(&json!(now(0)), 0), event(&json!(now(-31)), 1));
    assert_eq!(push(&daemon, "/v1/projects/p/events/demo", body).status, 200);
    assert_eq!(push(&daemon, "/v1/events/own", event(&json!(now(0)), 0)).status, 200);
    daemon.rows("t");
    let export = call(&daemon, "GET", "/v1/metrics/export", &Value::Null);
    assert_eq!(export.status, 200);
    assert!(export.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = export.text();
    let labels =
        format!("project_id=\"p\",region=\"local\",table=\"t\",type=\"push_streaming\",job_id=\"{id}\"");
    for line in [
        "# TYPE ingest_events_processed gauge".to_owned(),
        "ingestion_job_count{project_id=\"p\",region=\"local\",table=\"t\",type=\"push_streaming\"} 1"
            .to_owned(),
        format!("ingest_events_processed{{{labels}}} 1"),
        format!("ingest_events_processedWithError{{{labels}}} 0"),
        format!("ingest_events_thrownAway{{{labels}}} 1"),
        format!("ingest_events_unparseable{{{labels}}} 1"),
        "ingest_events_processed{region=\"local\",table=\"own\",type=\"push_streaming\"} 1".to_owned(),
        "# EOF".to_owned(),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in:\n{text}");
    }
    for (name, count) in [("processed", "2"), ("thrown_away", "1"), ("unparseable", "1")] {
        let metric = format!("forebay_ingest_events_{name}_total");
        assert_eq!(daemon.metric(&metric).to_string(), count, "{metric}");
    }
    assert!(daemon.metric("forebay_compactor_ingest_seconds_count") >= 2.0);
    // The job's log shows what could not be stored.
    let logs = get(&daemon, &format!("/v1/projects/p/jobs/{id}/logs"));
    let codes: Vec<&Value> = logs["logs"].as_array().unwrap().iter().map(|entry| &entry["code"]).collect();
    assert_eq!(codes, ["created", "invalid_rows_found", "invalid_rows_found"], "{logs}");
}
