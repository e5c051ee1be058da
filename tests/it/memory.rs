//! Bodies that are much larger in memory than on the wire.

use crate::support::{Daemon, Setup, eventually};
use crate::wire::{count, peak_bytes};
use serde_json::json;

const MIB: usize = 1 << 20;

/// Waits until everything is published, and returns by how much the daemon's peak memory grew since `before`.
fn published(daemon: &Daemon, before: usize) -> usize {
    eventually("the publication", || (daemon.admin_post("/admin/v1/publish").status == 200).then_some(()));
    assert_eq!(count(daemon, "forebay_compactor_verdict_mismatches_total"), 0);
    peak_bytes(daemon).saturating_sub(before)
}

#[test]
fn many_rows_of_many_columns_are_encoded_in_parts() {
    let daemon = Setup::dev("[limits]\ncolumns_max = 250\n[compactor]\nmax_idle = \"off\"").start();
    // One row with other columns waits before them, and one follows.
    daemon.post("name=e", r#"{"first":1,"k7":5}"#);
    let before = peak_bytes(&daemon);
    let n = 80_000;
    let lines: Vec<String> = (0..n).map(|at| format!("{{\"k{}\":{at}}}\n", at % 300)).collect();
    assert_eq!(daemon.post("name=e", lines.concat()).counts(), (n, 0));
    daemon.post("name=e", r#"{"k1":"text","last":1}"#);
    let grown = published(&daemon, before);
    // As arrays, the columns would have taken at least 160 MB.
    assert!(grown < 130 * MIB, "the daemon's memory grew by {} MiB", grown / MIB);
    let rows = daemon.rows("e");
    assert_eq!(rows.len() as u64, n + 2);
    assert_eq!(rows[0]["first"], 1);
    for (at, row) in rows[1..=usize::try_from(n).unwrap()].iter().enumerate() {
        let key = format!("k{}", at % 300);
        let value = row.get(&key).unwrap_or(&row["_rescued"][&key]);
        assert_eq!((value, &row["_record"]), (&json!(at), &json!(at)));
    }
    assert_eq!(rows.last().unwrap()["_rescued"], json!({"k1": "text", "last": 1}));
    let stream = daemon.get("/admin/v1/streams/e").json();
    assert_eq!(stream["schema"]["columns"].as_array().unwrap().len(), 250);
    assert_eq!(stream["rows"]["stored"], json!(n + 2));
}

#[test]
fn many_bad_lines_are_quarantined_in_parts() {
    let daemon = Setup::dev("[compactor]\nmax_idle = \"off\"").start();
    let before = peak_bytes(&daemon);
    let n = 1_000_000;
    let body = format!("{{\"a\":1}}\n{}{{\"a\":2}}\n", "x\n".repeat(n));
    assert_eq!(daemon.post("name=e", body).counts(), (2, n as u64));
    let grown = published(&daemon, before);
    assert!(grown < 120 * MIB, "the daemon's memory grew by {} MiB", grown / MIB);
    assert_eq!(daemon.rows("e").iter().map(|row| row["a"].clone()).collect::<Vec<_>>(), [1, 2]);
    let stream = daemon.get("/admin/v1/streams/e").json();
    let quarantine = stream["files"].as_array().unwrap().iter().find(|files| files["kind"] == "quarantine");
    assert_eq!(quarantine.unwrap()["rows"], json!(n));
}

#[test]
fn the_whole_of_a_large_body_determines_its_types() {
    let daemon = Setup::dev("[compactor]\nmax_idle = \"off\"").start();
    let n = 20_000;
    let line = |at: usize| match at {
        // Not a record, so none of its keys is a column.
        9_000 => "{\"junk\":1,\"a\":\"x\"\n".to_owned(),
        9_001 => "{\"nothing\":null,\"empty\":{},\"a\":1}\n".to_owned(),
        9_002 => "{\"a\":1,\"a\":2,\"o\":{\"x\":1,\"x\":2}}\n".to_owned(),
        19_990 => "{\"a\":2.5,\"late\":\"2020-04-05\",\"o\":{\"x\":3,\"y\":[1]}}\n".to_owned(),
        _ => format!("{{\"a\":{at}}}\n"),
    };
    let body: Vec<String> = (0..n).map(line).collect();
    assert_eq!(daemon.post("name=e", body.concat()).counts(), (n as u64 - 1, 1));
    let rows = daemon.rows("e");
    assert_eq!(rows.len(), n - 1);
    assert_eq!((&rows[8_999]["a"], &rows[9_000]["a"]), (&json!(8_999.0), &json!(1.0)));
    assert_eq!(rows[9_000]["_rescued"], json!({"empty": {}}));
    assert_eq!((&rows[9_001]["a"], &rows[9_001]["o"]), (&json!(2.0), &json!({"x": 2})));
    let late = &rows[19_989];
    assert_eq!(
        (&late["a"], &late["late"], &late["o"]),
        (&json!(2.5), &json!("2020-04-05"), &json!({"x": 3, "y": [1]}))
    );
    let stream = daemon.get("/admin/v1/streams/e").json();
    let columns = stream["schema"]["columns"].as_array().unwrap();
    let columns: Vec<&str> = columns.iter().map(|column| column["type"].as_str().unwrap()).collect();
    assert_eq!(columns, ["float64", "struct<x: int64, y: list<int64>>", "date"]);
    assert_eq!((&stream["schema"]["version"], &stream["rows"]["duplicate_keys"]), (&json!(1), &json!(2)));
    // One request becomes one file, whatever its size.
    assert_eq!(daemon.get("/admin/v1/streams/e/files").json()["files"].as_array().unwrap().len(), 2);
}
