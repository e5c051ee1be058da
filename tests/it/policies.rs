//! Records under each policy, and that the answer, the table and the counters agree.

use crate::schema_api::{admin, columns, put};
use crate::support::{Daemon, Setup, eventually, fields};
use crate::wire::count;
use serde_json::{Value, json};

fn rows(daemon: &Daemon, table: &str) -> Vec<Value> {
    daemon.rows(table).iter().map(fields).collect()
}

fn agrees(daemon: &Daemon) {
    assert_eq!(count(daemon, "forebay_compactor_verdict_mismatches_total"), 0);
    assert_eq!(count(daemon, "forebay_compactor_restarts_total"), 0);
}

/// The worked example of the Tinybird contract.
#[test]
fn the_answer_counts_stored_and_quarantined_separately() {
    let daemon = Daemon::dev();
    let schema = "store_id int16!; purchase_product_name string!; purchase_datetime timestamp!";
    put(
        &daemon,
        "ev",
        &json!({"policy": "propose", "columns": columns(schema), "settings": {"quarantine": "tinybird"}}),
    );
    let body = r#"{"store_id":1,"purchase_datetime":"2022-01-05 12:13:14"}
{"store_id":"3","purchase_product_name":"x","purchase_datetime":"2022-01-05 12:13:14"}
{"store_id":2,"purchase_product_name":"y","purchase_datetime":"2022-01-05 12:13:14"}
"#;
    let response = daemon.post("name=ev", body);
    assert_eq!(response.text(), r#"{"successful_rows":1,"quarantined_rows":2}"#);
    let stored =
        json!({"store_id": 2, "purchase_product_name": "y", "purchase_datetime": "2022-01-05T12:13:14Z"});
    assert_eq!(rows(&daemon, "ev"), [stored]);
    assert_eq!(daemon.rows("ev_quarantine").len(), 2);
    let counts = daemon.get("/admin/v1/streams/ev").json()["rows"].clone();
    assert_eq!((&counts["stored"], &counts["quarantined"]), (&json!(1), &json!(2)));
    agrees(&daemon);
}

#[test]
fn strict_ignores_and_counts_fields_without_a_column() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "strict", "columns": columns("a int8; o struct<x: int8>")}));
    let body = r#"{"a":1,"b":2,"c":null,"o":{"x":1,"y":2},"a":3}
{"a":300}
{"a":1.0,"b":{"deep":[1]}}
{"a":"1"}
{"a":1.5}
{}
[1]
{"a":1,"b":1,"b":2}"#;
    let response = daemon.post("name=e", body);
    assert_eq!((response.status, response.counts()), (202, (4, 4)), "{}", response.text());
    assert_eq!(
        rows(&daemon, "e"),
        [json!({"a": 3, "o": {"x": 1}}), json!({"a": 1}), json!({}), json!({"a": 1})]
    );
    let counts = daemon.get("/admin/v1/streams/e").json()["rows"].clone();
    assert_eq!(
        (&counts["stored"], &counts["quarantined"], &counts["rescued"]),
        (&json!(4), &json!(4), &json!(0))
    );
    assert_eq!(counts["ignored_fields"], json!(5), "b and o.y; b; b twice");
    let reasons: Vec<Value> = daemon.rows("e_quarantine").iter().map(|row| row["reason"].clone()).collect();
    assert_eq!(reasons[0], "value '300' on column 'a' is not int8");
    assert_eq!(reasons[3], "expected a JSON object");
    let text = daemon.get("/metrics").text();
    for line in [
        "forebay_compactor_quarantined_rows_total{reason=\"misfit\"} 3",
        "forebay_compactor_quarantined_rows_total{reason=\"record\"} 1",
        "forebay_compactor_ignored_fields_total 5",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    agrees(&daemon);
}

#[test]
fn every_type_of_the_contracts_is_stored() {
    let daemon = Daemon::dev();
    let schema = "u uuid; f fixedstring(4); i8 int8; u64 uint64; f32 float32; d decimal(20, 3); big decimal(76, 0); \
                  b bool; t timestamp; day date; bin binary; l list<list<int16>>; m map<string, list<string>>; j json";
    put(&daemon, "e", &json!({"policy": "strict", "columns": columns(schema)}));
    let big = "9".repeat(76);
    let record = format!(
        r#"{{"u":"936DA01F9ABD4d9d80C702AF85C822A8","f":"abcd","i8":-128,"u64":18446744073709551615,"f32":1.5,"d":"-12345678901234567.125","big":{big},"b":"yes","t":"2024-01-01T00:00:00.000Z","day":"2024-02-29","bin":"AP8=","l":[[1],[],[null,2]],"m":{{"a":["x"],"b":[]}},"j":{{"k":[1.50]}}}}"#
    );
    let response = daemon.post("name=e", format!("{record}\n{{}}"));
    assert_eq!(response.counts(), (2, 0));
    let row = &rows(&daemon, "e")[0];
    assert_eq!(row["u"], "936da01f-9abd-4d9d-80c7-02af85c822a8");
    assert_eq!((&row["i8"], &row["u64"]), (&json!(-128), &json!(u64::MAX)));
    assert_eq!((&row["b"], &row["bin"], &row["day"]), (&json!(true), &json!("00ff"), &json!("2024-02-29")));
    assert_eq!((&row["l"], &row["m"]), (&json!([[1], [], [null, 2]]), &json!({"a": ["x"], "b": []})));
    assert_eq!((&row["j"], &row["f"]), (&json!(r#"{"k":[1.50]}"#), &json!("abcd")));
    agrees(&daemon);
}

#[test]
fn raw_stores_records_as_received() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "raw"}));
    let records =
        ["{ \"a\":1, \"a\" : 2.50}", "{\"n\":{\"deep\":[{}]},\"big\":123456789012345678901234567890}"];
    let response = daemon.post("name=e", records.join("\n") + "\nnone\n");
    assert_eq!(response.counts(), (2, 1));
    let texts: Vec<Value> = rows(&daemon, "e").iter().map(|row| row["data"].clone()).collect();
    assert_eq!(texts, records);
    let schema = daemon.get("/admin/v1/streams/e/schema").json();
    assert_eq!(schema["columns"], json!([{"name": "data", "type": "json"}]));
    agrees(&daemon);
}

#[test]
fn rows_out_of_time_bounds_are_quarantined_with_the_reason() {
    let daemon = Daemon::dev();
    let day = 24 * 60 * 60;
    let time = json!({"column": "__time", "late": 7 * day, "early": day, "required": true});
    let now = jiff::Timestamp::now();
    let ago = |days: i64| (now - jiff::SignedDuration::from_hours(24 * days)).to_string();
    for policy in ["strict", "evolve"] {
        let body = json!({"policy": policy, "columns": columns("__time timestamp; n int64"), "settings": {"time": time}});
        put(&daemon, policy, &body);
        let records = [
            json!({"__time": ago(0), "n": 1}),
            json!({"__time": ago(6), "n": 2}),
            json!({"__time": ago(8), "n": 3}),
            json!({"__time": ago(-2), "n": 4}),
            json!({"__time": null, "n": 5}),
            json!({"__time": "10000-01-01T00:00:00Z", "n": 6}),
            json!({"__time": 1_700_000_000, "n": 7}),
            json!({"n": 8, "new": "x"}),
        ];
        let body: Vec<String> = records.iter().map(Value::to_string).collect();
        let response = daemon.post(&format!("name={policy}"), body.join("\n"));
        assert_eq!((response.status, response.counts()), (202, (2, 6)), "{policy}");
        let stored: Vec<Value> = rows(&daemon, policy).iter().map(|row| row["n"].clone()).collect();
        assert_eq!(stored, [1, 2]);
        let counts = daemon.get(&format!("/admin/v1/streams/{policy}")).json()["rows"].clone();
        assert_eq!(
            (&counts["late"], &counts["early"], &counts["quarantined"]),
            (&json!(1), &json!(1), &json!(6))
        );
    }
    let text = daemon.get("/metrics").text();
    assert!(text.contains("quarantined_rows_total{reason=\"late\"} 2"), "{text}");
    assert!(text.contains("quarantined_rows_total{reason=\"early\"} 2"));
    agrees(&daemon);
}

#[test]
fn a_bad_line_may_refuse_the_request() {
    let daemon = Daemon::dev();
    for policy in ["evolve", "strict"] {
        let settings = json!({"on_bad_line": "reject"});
        put(&daemon, policy, &json!({"policy": policy, "columns": columns("a int8"), "settings": settings}));
        let query = format!("name={policy}");
        let refused = daemon.post(&query, "{\"a\":1}\nnone\n{\"a\":2}");
        assert_eq!(refused.status, 400);
        let error = refused.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains("Record 2") && error.contains("nothing is stored"), "{error}");
        // A record that does not fit its columns is still a record.
        assert_eq!(daemon.post(&query, "{\"a\":1}\n{\"a\":\"x\"}").status, 202);
        assert_eq!(rows(&daemon, policy)[0], json!({"a": 1}));
    }
    agrees(&daemon);
}

#[test]
fn a_request_with_only_misfits_is_accepted_into_quarantine() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "strict", "columns": columns("a int8!")}));
    let response = daemon.post("name=e", "{}\n{\"a\":null}\n{\"a\":{}}");
    assert_eq!((response.status, response.counts()), (202, (0, 3)));
    assert_eq!(daemon.post("name=e", "none").status, 400);
    assert_eq!(daemon.post("name=e&format=json", "[{\"a\":1},{\"a\":2},7]").counts(), (2, 1));
    assert_eq!(daemon.post("name=e&format=json", "[{\"a\":1},").status, 400);
    assert_eq!(rows(&daemon, "e").len(), 2);
    assert_eq!(daemon.rows("e_quarantine").len(), 4);
    agrees(&daemon);
}

/// Records that were answered under one version are written under it, even if the version has changed.
#[test]
fn answers_stay_true_while_the_schema_changes() {
    let daemon = Setup::dev("[compactor]\nmax_idle = \"1h\"\nmax_age = \"1h\"").start();
    put(&daemon, "e", &json!({"policy": "evolve"}));
    let mut expected = (0, 0);
    let mut send = |n: u64| {
        let response = daemon.post("name=e", format!("{{\"a\":{n},\"k\":1}}\n{{\"a\":\"x{n}\",\"k\":2}}"));
        let (stored, quarantined) = response.counts();
        expected.0 += stored;
        expected.1 += quarantined;
        (stored, quarantined)
    };
    assert_eq!(send(0), (2, 0));
    // The compactor may not have read the record yet, but it is stored as answered.
    put(&daemon, "e", &json!({"policy": "strict", "columns": columns("a int64")}));
    assert_eq!(send(1), (1, 1));
    admin(&daemon, "PATCH", "e?force=true", &json!({"columns": columns("a string; k int8")}));
    assert_eq!(send(2), (2, 0));
    put(&daemon, "e", &json!({"policy": "raw"}));
    assert_eq!(send(3), (2, 0));
    admin(&daemon, "PATCH", "e", &json!({"policy": "propose"}));
    assert_eq!(send(4), (2, 0));
    let table = daemon.rows("e");
    assert_eq!((table.len() as u64, daemon.rows("e_quarantine").len() as u64), expected);
    assert_eq!(fields(&table[2]), json!({"a": 1}));
    assert_eq!(fields(&table[4]), json!({"a": "x2", "k": 2}));
    assert_eq!(fields(&table[5]), json!({"data": "{\"a\":3,\"k\":1}"}));
    agrees(&daemon);
}

/// If columns are declared while waiting rows would have added others, the declared columns stay, and the rows are
/// stored.
#[test]
fn waiting_rows_add_no_columns_to_a_newly_declared_schema() {
    for policy in ["strict", "propose", "raw", "evolve"] {
        let daemon = Setup::dev("[compactor]\nmax_idle = \"off\"\nmax_age = \"1h\"").start();
        assert_eq!(daemon.post("name=e", "{\"a\":1,\"k\":1}\n{\"a\":\"x\",\"k\":2}").counts(), (2, 0));
        // Rows that have not been read add no columns.
        eventually("rows in memory", || {
            let status = daemon.get("/admin/v1/status").json();
            (status["compactor"]["memory_bytes"].as_u64() > Some(0)).then_some(())
        });
        let declared = columns(if policy == "raw" { "data json" } else { "a date" });
        put(&daemon, "e", &json!({"policy": policy, "columns": declared}));
        assert_eq!(daemon.post("name=e", "{\"a\":null}").counts(), (1, 0));
        let table = daemon.rows("e");
        assert_eq!(fields(&table[0]), json!({"_rescued": {"a": 1, "k": 1}}), "{policy}");
        assert_eq!(fields(&table[1]), json!({"_rescued": {"a": "x", "k": 2}}), "{policy}");
        let schema = daemon.get("/admin/v1/streams/e/schema").json();
        assert_eq!((&schema["version"], &schema["columns"]), (&json!(1), &declared), "{policy}");
        let counts = daemon.get("/admin/v1/streams/e").json()["rows"].clone();
        assert_eq!((&counts["stored"], &counts["rescued"]), (&json!(3), &json!(2)), "{policy}");
        agrees(&daemon);
    }
}

#[test]
fn defaults_and_paths_fill_columns() {
    let daemon = Daemon::dev();
    let schema = json!([
        {"name": "id", "type": "int64", "nullable": false},
        {"name": "user_name", "type": "string", "path": ["user", "name"], "default": "nobody"},
        {"name": "at", "type": "timestamp", "path": ["meta", "at"], "epoch_digits": 3},
    ]);
    put(&daemon, "e", &json!({"policy": "strict", "columns": schema}));
    let body =
        "{\"id\":1,\"user\":{\"name\":\"Ann\"},\"meta\":{\"at\":1586045138500}}\n{\"id\":2}\n{\"user\":{}}";
    assert_eq!(daemon.post("name=e", body).counts(), (2, 1));
    let expected = [
        json!({"id": 1, "user_name": "Ann", "at": "2020-04-05T00:05:38.500Z"}),
        json!({"id": 2, "user_name": "nobody"}),
    ];
    assert_eq!(rows(&daemon, "e"), expected);
    agrees(&daemon);
}

#[test]
fn an_evolving_stream_may_have_declared_columns() {
    let daemon = Daemon::dev();
    daemon.post("name=e&wait=table", r#"{"a":1}"#);
    put(&daemon, "e", &json!({"columns": columns("a int64; declared date")}));
    daemon.post("name=e&wait=table", r#"{"a":2,"declared":"2020-04-05","found":true}"#);
    let schema = daemon.get("/admin/v1/streams/e/schema").json();
    let names: Vec<_> = schema["columns"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!((names, &schema["version"]), (vec![json!("a"), json!("declared"), json!("found")], &json!(3)));
    let expected = [json!({"a": 1}), json!({"a": 2, "declared": "2020-04-05", "found": true})];
    assert_eq!(rows(&daemon, "e"), expected);
    agrees(&daemon);
}
