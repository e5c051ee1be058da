//! Partitions and offsets: without gaps, unique, and in the order of requests, from the request to the file.

use crate::support::{Daemon, Response, Setup, parquet_files, read_parquet, request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Files stay open until publication is requested.
const PATIENT: &str = "[compactor]\nmax_idle = \"1h\"\n";

fn make(daemon: &Daemon, name: &str, settings: &Value) -> Response {
    let columns = json!([{"name": "id", "type": "string"}, {"name": "n", "type": "int64"}]);
    let body = json!({"policy": "strict", "columns": columns, "settings": settings}).to_string();
    let path = format!("/admin/v1/streams/{name}");
    request(daemon.admin, "PUT", &path, &[("content-type", "application/json")], body.as_bytes())
}

/// Partition and offset of each row, in the order of the table.
fn numbers(rows: &[Value]) -> Vec<(u64, u64)> {
    rows.iter().map(|row| (row["_partition"].as_u64().unwrap(), row["_offset"].as_u64().unwrap())).collect()
}

/// Asserts that each partition has the offsets from 0 on, each once, in the order of the rows.
fn assert_dense(rows: &[Value]) -> BTreeMap<u64, u64> {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for (partition, offset) in numbers(rows) {
        let expected = next.entry(partition).or_default();
        assert_eq!(offset, *expected, "partition {partition}");
        *expected += 1;
    }
    next
}

fn post(ingest: SocketAddr, stream: &str, body: &str) -> u16 {
    request(ingest, "POST", &format!("/v0/events?name={stream}"), &[], body.as_bytes()).status
}

#[test]
fn rows_without_a_key_are_distributed_round_robin() {
    let daemon = Setup::dev(PATIENT).start();
    assert_eq!(make(&daemon, "s", &json!({"partitions": 3})).status, 201);
    assert_eq!(post(daemon.ingest, "s", "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n{\"n\":3}"), 202);
    assert_eq!(post(daemon.ingest, "s", "{\"n\":4}"), 202);
    // One record is not a valid row and takes no offset.
    assert_eq!(post(daemon.ingest, "s", "{\"n\":5}\n{\"n\":\"x\"}\n{\"n\":6}"), 202);
    // Refused requests take no offsets.
    assert_eq!(post(daemon.ingest, "s", "none"), 400);
    assert_eq!(post(daemon.ingest, "s", "{\"n\":7}"), 202);
    let rows = daemon.rows("s");
    let expected = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2)];
    assert_eq!(numbers(&rows), expected);
    let bad = daemon.rows("s_quarantine");
    assert!(bad.len() == 1 && bad[0].get("_offset").is_none(), "{bad:?}");
}

#[test]
fn equal_keys_go_to_one_partition() {
    let daemon = Setup::dev(PATIENT).start();
    assert_eq!(make(&daemon, "s", &json!({"partitions": 4, "key": ["id"]})).status, 201);
    let record = |n: u64| {
        let id = if n % 20 == 7 { Value::Null } else { json!(format!("sensor{}", n % 20)) };
        json!({"id": id, "n": n}).to_string()
    };
    let body = (0..200).map(record).collect::<Vec<_>>().join("\n");
    assert_eq!(post(daemon.ingest, "s", &body), 202);
    // A missing key is null.
    assert_eq!(post(daemon.ingest, "s", "{\"n\":200}"), 202);
    let rows = daemon.rows("s");
    assert_eq!(assert_dense(&rows).values().sum::<u64>(), 201);
    let mut partitions: BTreeMap<String, u64> = BTreeMap::new();
    for row in &rows {
        let partition = row["_partition"].as_u64().unwrap();
        assert_eq!(*partitions.entry(row["id"].to_string()).or_insert(partition), partition, "{row}");
    }
    // These partitions never change: docs/api/foundry.md documents the hash.
    let expected = [("null", 3), ("\"sensor0\"", 1), ("\"sensor1\"", 2)];
    for (key, partition) in expected {
        assert_eq!(partitions[key], partition, "{key} of {partitions:?}");
    }
}

#[test]
fn concurrent_senders_get_each_offset_once_and_keep_their_order() {
    let daemon = Setup::dev(PATIENT).start();
    assert_eq!(make(&daemon, "s", &json!({"partitions": 4, "key": ["id"]})).status, 201);
    let ingest = daemon.ingest;
    let send = |sender: u64| {
        std::thread::spawn(move || {
            for n in (0..60).step_by(3) {
                let record = |n| format!("{{\"id\":\"sender{sender}\",\"n\":{n}}}\n");
                let body = format!("{}{}{}", record(n), record(n + 1), record(n + 2));
                assert_eq!(post(ingest, "s", &body), 202);
            }
        })
    };
    let senders: Vec<_> = (0..8).map(send).collect();
    for sender in senders {
        sender.join().unwrap();
    }
    let rows = daemon.rows("s");
    assert_eq!(assert_dense(&rows).values().sum::<u64>(), 8 * 60);
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    let mut by_offset: Vec<&Value> = rows.iter().collect();
    by_offset.sort_by_key(|row| (row["_partition"].as_u64(), row["_offset"].as_u64()));
    for row in by_offset {
        let expected = next.entry(row["id"].to_string()).or_default();
        assert_eq!(row["n"], *expected, "{row}");
        *expected += 1;
    }
}

#[test]
fn offsets_continue_after_a_restart_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let start = || Setup::dev(PATIENT).start_at(dir.path());
    let daemon = start();
    assert_eq!(make(&daemon, "s", &json!({"partitions": 2})).status, 201);
    let body = "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n{\"n\":4}";
    assert_eq!(post(daemon.ingest, "s", body), 202);
    assert!(daemon.stop().status.success());
    // Rows that are in files.
    let daemon = start();
    assert_eq!(post(daemon.ingest, "s", body), 202);
    // Rows that are in the log only, and then in both.
    daemon.kill();
    let daemon = start();
    assert_eq!(post(daemon.ingest, "s", body), 202);
    daemon.kill();
    let daemon = start();
    assert_eq!(post(daemon.ingest, "s", body), 202);
    let rows = daemon.rows("s");
    assert_eq!(assert_dense(&rows), BTreeMap::from([(0, 8), (1, 8)]));
}

#[test]
fn streams_without_partitions_have_no_offset_columns() {
    let daemon = Daemon::dev();
    assert_eq!(post(daemon.ingest, "plain", "{\"n\":1,\"_offset\":7}"), 202);
    let rows = daemon.rows("plain");
    assert_eq!((&rows[0]["_offset"], rows[0].get("_partition")), (&json!(7), None));
    assert_eq!(make(&daemon, "s", &json!({"partitions": 1})).status, 201);
    let refused = make(&daemon, "s", &json!({"partitions": 2}));
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(make(&daemon, "t", &json!({"partitions": 2, "key": ["x"]})).status, 400);
}

#[test]
fn a_replay_keeps_offsets() {
    let daemon = Setup::dev(PATIENT).start();
    assert_eq!(make(&daemon, "s", &json!({"partitions": 2, "key": ["id"]})).status, 201);
    for n in 0..10 {
        assert_eq!(post(daemon.ingest, "s", &format!("{{\"id\":\"{}\",\"n\":{n}}}", n % 3)), 202);
    }
    let before = daemon.rows("s");
    assert_dense(&before);
    let columns = json!([{"name": "id", "type": "string"}, {"name": "n", "type": "int64"}, {"name": "m", "type": "int64"}]);
    let body = json!({"columns": columns}).to_string();
    let changed = request(daemon.admin, "PATCH", "/admin/v1/streams/s", &[], body.as_bytes());
    assert_eq!(changed.status, 200, "{}", changed.text());
    let asked = json!({"stream": "s", "from": "2020-01-01"}).to_string();
    let replay = request(daemon.admin, "POST", "/admin/v1/replay", &[], asked.as_bytes());
    assert_eq!(replay.status, 202, "{}", replay.text());
    let id = replay.json()["id"].as_u64().unwrap();
    crate::support::eventually("the replay", || {
        let state = daemon.get(&format!("/admin/v1/replay/{id}")).json();
        assert_ne!(state["state"], "failed", "{state}");
        (state["state"] == "done").then_some(())
    });
    let files = parquet_files(&daemon.data_dir().join("tables").join("s"));
    let mut after: Vec<Value> = files.iter().flat_map(|file| read_parquet(file)).collect();
    after.sort_by_key(|row| (row["_lsn"].as_u64(), row["_record"].as_u64()));
    assert_eq!(numbers(&after), numbers(&before));
}
