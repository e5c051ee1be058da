//! Quarantine tables: their columns and contents.

use crate::schema_api::{columns, put};
use crate::support::Daemon;
use crate::wire::count;
use serde_json::{Value, json};

#[test]
fn a_quarantine_table_has_reason_offset_and_bytes() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "strict", "columns": columns("a int8!; b string")}));
    let lines = ["{\"a\":1}", "  { \"a\": \"x\", \"b\": 1 }", "no JSON", "{\"b\":\"y\"}"];
    let receipt = daemon.post("name=e", lines.join("\r\n")).receipt();
    let rows = daemon.rows("e_quarantine");
    let of = |key: &str| -> Vec<Value> { rows.iter().map(|row| row[key].clone()).collect() };
    assert_eq!(
        of("reason"),
        [
            "value '\"x\"' on column 'a' is not int8",
            "expected a JSON object",
            "no value on column 'a', which is not nullable and has no default",
        ]
    );
    assert_eq!(of("offset"), [11, 33, 42]);
    assert_eq!(of("_record"), [1, 2, 3]);
    assert!(rows.iter().all(|row| row["_lsn"] == receipt && row["_received_at"].is_string()));
    // The reader shows bytes as hexadecimal digits.
    let hex = |text: &str| text.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert_eq!(of("raw"), [hex("{ \"a\": \"x\", \"b\": 1 }"), hex("no JSON"), hex("{\"b\":\"y\"}")]);
}

#[test]
fn a_quarantine_table_may_have_tinybirds_format() {
    let daemon = Daemon::dev();
    let schema = json!([
        {"name": "id", "type": "int16", "nullable": false, "declared": "Int16"},
        {"name": "name", "type": "string", "nullable": false},
        {"name": "o_x", "type": "list<int8>", "path": ["o", "x"]},
    ]);
    let settings = json!({"quarantine": "tinybird"});
    put(&daemon, "e", &json!({"policy": "propose", "columns": schema, "settings": settings}));
    let lines = [
        "{\"id\":\"3\",\"o\":{\"x\":[1, 2]}}",
        "{\"id\":70000,\"name\":\"a\\u00e9\"}",
        "oops",
        "{\"id\":null,\"name\":null}",
    ];
    let receipt = daemon.post("name=e", lines.join("\n") + "\n{\"id\":1,\"name\":\"ok\"}").receipt();
    let rows = daemon.rows("e_quarantine");
    assert_eq!(rows.len(), 4);
    for (row, line) in rows.iter().zip(lines) {
        assert_eq!((&row["c__raw"], &row["c__import_id"]), (&json!(line), &json!(receipt.to_string())));
        assert_eq!(row["insertion_date"], row["_received_at"]);
    }
    let required = "which is not nullable and has no default";
    assert_eq!(rows[0]["id"], "3");
    assert_eq!(rows[0]["o_x"], "[1, 2]");
    assert_eq!(rows[0]["c__error_column"], json!(["id", "name"]));
    let expected = json!([
        "value '\"3\"' on column 'id' is not Int16",
        format!("no value on column 'name', {required}")
    ]);
    assert_eq!(rows[0]["c__error"], expected);
    assert_eq!((&rows[1]["id"], &rows[1]["name"]), (&json!("70000"), &json!("aé")));
    assert_eq!(rows[2]["c__error_column"], json!([""]));
    assert_eq!(rows[2]["c__error"], json!(["expected a JSON object"]));
    assert_eq!(rows[3].get("id"), None);
    assert_eq!(rows[3]["c__error_column"], json!(["id", "name"]));
}

#[test]
fn large_requests_are_quarantined_in_parts() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "strict", "columns": columns("n int32!; s string")}));
    let record = |n: u32| {
        if n.is_multiple_of(3) { format!("{{\"n\":\"{n}\"}}") } else { format!("{{\"n\":{n},\"s\":\"x\"}}") }
    };
    let body: Vec<String> = (0..30_000).map(record).collect();
    let response = daemon.post("name=e", body.join("\n"));
    assert_eq!(response.counts(), (20_000, 10_000));
    let rows = daemon.rows("e");
    assert_eq!((rows.len(), daemon.rows("e_quarantine").len()), (20_000, 10_000));
    assert!(rows.iter().zip((0..30_000).filter(|n| n % 3 != 0)).all(|(row, n)| row["n"] == n));
    assert_eq!(count(&daemon, "forebay_compactor_verdict_mismatches_total"), 0);
}
