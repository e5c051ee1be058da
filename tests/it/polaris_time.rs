//! `__time` in Imply Polaris' contract: its forms, and events that come too late or too early.

use crate::polaris::push;
use crate::polaris_tables::{call, get};
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
fn every_form_of_the_contract_is_a_time() {
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
fn an_event_without_a_time_is_kept_aside() {
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
    // Whether the table is made by the request or was there before.
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
fn a_late_event_among_good_ones_is_kept_aside_and_counted() {
    let daemon = Setup::dev("[limits.polaris]\nlate_reject = \"7d\"\nearly_reject = \"1d\"\n").start();
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

#[test]
fn a_job_says_how_late_and_early_events_may_be() {
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
    // From now on only.
    assert_eq!(call(&daemon, "POST", &format!("{path}/reset"), &Value::Null).status, 200);
    assert_eq!(get(&daemon, &format!("{path}/metrics"))["totals"]["numRowsProcessed"], 0);
    assert_eq!(get(&daemon, &path)["health"], json!({"status": "ok"}));
}
