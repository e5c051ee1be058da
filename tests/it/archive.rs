//! The archive: consumed segments of the log, kept and compressed.

use crate::support::{Daemon, Setup, eventually, request};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Segments fill up after a few requests.
const SMALL: &str = "[limits]\nbody_max = \"1MiB\"\ndecoded_max = \"1MiB\"\n[wal]\nsegment_bytes = \"2MiB\"\nprepared_segments = 1\n";
const REQUESTS: u64 = 60;

fn small(settings: &str) -> Setup {
    Setup::dev(&format!("{SMALL}{settings}"))
}

/// Sends a number of large requests and waits until they are in tables. Returns their receipts.
fn fill(daemon: &Daemon) -> Vec<u64> {
    let pad = "x".repeat(200_000);
    let send = |n| daemon.post("name=visits", format!("{{\"n\":{n},\"pad\":\"{pad}\"}}\n")).receipt();
    let receipts = (0..REQUESTS).map(send).collect();
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    receipts
}

fn archive_status(daemon: &Daemon) -> Value {
    daemon.get("/admin/v1/wal").json()["archive"].clone()
}

/// Waits until every consumed segment is archived.
fn settled(daemon: &Daemon) -> Value {
    eventually("archiving", || {
        let archive = archive_status(daemon);
        (archive["waiting"] == 0 && archive["segments"].as_u64() > Some(2)).then_some(archive)
    })
}

fn assert_metric(daemon: &Daemon, name: &str, expected: u64) {
    assert!((daemon.metric(name) - expected as f64).abs() < 0.5, "{name} is not {expected}");
}

fn archived(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join("archive")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn wal(command: &str, arguments: &[&str], path: &Path) -> Output {
    let mut forebay = Command::new(env!("CARGO_BIN_EXE_forebay"));
    forebay.args(["wal", command]).args(arguments).arg(path).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn consumed_segments_are_compressed_and_readable() {
    let daemon = small("").start();
    let receipts = fill(&daemon);
    let archive = settled(&daemon);
    assert_eq!((&archive["enabled"], &archive["last_error"]), (&json!(true), &Value::Null));
    assert_eq!(
        archive["dropped"],
        json!({"over_bytes_max": 0, "disk_full": 0, "unarchived": 0, "last_lsn": 0})
    );
    let files = archived(&daemon.data_dir());
    let bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(
        (archive["segments"].as_u64(), archive["bytes"].as_u64()),
        (Some(files.len() as u64), Some(bytes))
    );
    assert!(bytes < 1 << 20, "{bytes} bytes of {REQUESTS} times 200 kB of the same letter");
    assert_metric(&daemon, "forebay_wal_archive_segments", files.len() as u64);
    assert_metric(&daemon, "forebay_wal_archived_bytes_total", bytes);

    // A plain decompressor restores the segment.
    let raw = zstd::stream::decode_all(std::fs::File::open(&files[0]).unwrap()).unwrap();
    assert!(raw.starts_with(b"FBAYWAL\0") && raw.len() > 1 << 20);

    // The log and the archive together hold each request once.
    let data = daemon.data_dir();
    let dumped = text(&wal("dump", &["--records", "--stream", "visits"], &data));
    let numbers: Vec<u64> = dumped
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..REQUESTS).collect::<Vec<_>>());
    let verified = wal("verify", &["--json"], &data);
    assert!(verified.status.success(), "{verified:?}");
    let verified: Value = serde_json::from_str(&text(&verified)).unwrap();
    assert_eq!((&verified["archived"], &verified["findings"]), (&json!(files.len()), &json!([])));
    let listed: Value = serde_json::from_str(&text(&wal("inspect", &["--json"], &data))).unwrap();
    let states: Vec<&str> = listed["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|segment| segment["state"].as_str().unwrap())
        .collect();
    assert_eq!(states.iter().filter(|state| **state == "archived").count(), files.len());

    // Receipts still work, also after a restart.
    let check = |daemon: &Daemon| {
        for (n, receipt) in receipts.iter().enumerate().take(5) {
            let found = daemon.get(&format!("/admin/v1/receipts/{receipt}")).json();
            assert_eq!(
                (&found["in_log"], &found["in_archive"]),
                (&json!(false), &json!(true)),
                "{n}: {found}"
            );
            assert_eq!((&found["stream"], &found["records"]), (&json!("visits"), &json!(1)));
            assert_eq!(found["files"].as_array().unwrap().len(), 1, "{found}");
        }
    };
    check(&daemon);
    let home = tempfile::tempdir().unwrap();
    copy(&daemon.data_dir(), &home.path().join("data"));
    drop(daemon.kill());
    let daemon = small("").start_at(home.path());
    // Consumed segments that are kept for reuse are still in the log until they are released.
    eventually("segments are released", || {
        let found = daemon.get(&format!("/admin/v1/receipts/{}", receipts[4])).json();
        (found["in_log"] == false).then_some(())
    });
    check(&daemon);
}

/// Copies the directory of an idle daemon.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_retention_of_zero_archives_nothing() {
    let daemon = small("archive_retention = \"0s\"\n").start();
    fill(&daemon);
    assert_eq!(archive_status(&daemon)["enabled"], false);
    assert_eq!(archived(&daemon.data_dir()), Vec::<PathBuf>::new());
    assert!(!daemon.data_dir().join("archive").exists());
}

#[test]
fn segments_removed_for_size_are_counted() {
    let daemon = small("archive_bytes_max = \"1KiB\"\n").start();
    let receipts = fill(&daemon);
    let dropped = eventually("the oldest archived segment is removed", || {
        let archive = archive_status(&daemon);
        let dropped = archive["dropped"].clone();
        // The last one has gone as well.
        let settled = archive["waiting"] == 0 && archive["bytes"].as_u64() <= Some(1024);
        (settled && dropped["over_bytes_max"].as_u64() > Some(2)).then_some(dropped)
    });
    assert_eq!((&dropped["disk_full"], &dropped["unarchived"]), (&json!(0), &json!(0)));
    assert!(dropped["last_lsn"].as_u64().unwrap() >= receipts[0]);
    assert_metric(
        &daemon,
        "forebay_wal_archive_dropped_segments",
        dropped["over_bytes_max"].as_u64().unwrap(),
    );
    assert!(archive_status(&daemon)["bytes"].as_u64().unwrap() <= 1024);
}

#[test]
fn expired_segments_are_removed() {
    let daemon = small("archive_retention = \"1s\"\n").start();
    fill(&daemon);
    eventually("the archive is empty", || {
        let gone = daemon.metric("forebay_wal_archive_expired_segments_total");
        (gone > 2.0 && archived(&daemon.data_dir()).is_empty()).then_some(())
    });
    assert_eq!(archive_status(&daemon)["dropped"]["last_lsn"], 0, "removal by age does not count as dropped");
}

#[test]
fn damage_to_the_archive_is_detected_and_contained() {
    let daemon = small("").start();
    let receipts = fill(&daemon);
    settled(&daemon);
    let files = archived(&daemon.data_dir());
    let mut bytes = std::fs::read(&files[0]).unwrap();
    bytes[300] ^= 0x55;
    std::fs::write(&files[0], bytes).unwrap();
    std::fs::write(&files[1], b"nothing of it is left").unwrap();
    let verified = wal("verify", &["--json"], &daemon.data_dir());
    assert_eq!(verified.status.code(), Some(1));
    let verified: Value = serde_json::from_str(&text(&verified)).unwrap();
    let damaged: Vec<&Value> =
        verified["findings"].as_array().unwrap().iter().map(|finding| &finding["file"]).collect();
    assert_eq!(damaged, [&json!(files[0]), &json!(files[1])], "{verified}");
    // The rows are in the table, as the receipt says.
    let found = daemon.get(&format!("/admin/v1/receipts/{}", receipts[0]));
    assert_eq!((found.status, &found.json()["in_archive"]), (200, &json!(false)), "{}", found.text());
    assert_eq!(found.json()["files"].as_array().unwrap().len(), 1);
    assert_eq!(daemon.rows("visits").len() as u64, REQUESTS);
}

#[test]
fn samples_of_raw_only_streams_come_from_the_archive() {
    let daemon = small("").start();
    let body = json!({"settings": {"landing": {"table": false, "raw": "ndjson"}}}).to_string();
    let made = request(daemon.admin, "PUT", "/admin/v1/streams/raw", &[], body.as_bytes());
    assert_eq!(made.status, 201, "{}", made.text());
    let send = |n| daemon.post("name=raw", format!("{{\"n\":{n}}}\n")).receipt();
    let last = (0..3).map(send).max();
    fill(&daemon);
    settled(&daemon);
    let log = daemon.get("/admin/v1/wal").json();
    assert!(log["segments"][0]["first"].as_u64() > last, "the log must not hold any of them: {log}");
    let sample = |query: &str| daemon.get(&format!("/admin/v1/streams/raw/sample?{query}"));
    assert_eq!(sample("n=2").json(), json!([{"n": 1}, {"n": 2}]));
    let requests = sample("format=cbor").body;
    let mut decoder = minicbor::Decoder::new(&requests);
    let mut count = 0;
    while decoder.position() < requests.len() {
        decoder.skip().unwrap();
        count += 1;
    }
    assert_eq!(count, 3);
}
