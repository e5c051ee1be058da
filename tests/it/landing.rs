//! Raw files next to a table or instead of it: how a replay rewrites them, and what happens to waiting records when the
//! setting changes.

use crate::amperity::{bodies, landing, raw_files, xml_to};
use crate::support::{Daemon, Setup, eventually, fields, parquet_files, read_table};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The files of a stream on disk and in the register.
#[derive(Debug, PartialEq)]
struct Found {
    /// Raw files, decompressed.
    raw: Vec<(PathBuf, Vec<u8>)>,
    parquet: Vec<PathBuf>,
    rows: Vec<Value>,
    quarantined: Vec<Value>,
    /// Name, kind, state and rows of each registered file.
    register: Vec<[Value; 4]>,
    counts: Value,
}

impl Found {
    fn of(daemon: &Daemon, stream: &str) -> Self {
        let tables = daemon.data_dir().join("tables");
        let read = |path: PathBuf| {
            let bytes = std::fs::read(&path).unwrap();
            let lines = path.extension().is_some_and(|extension| extension == "zst");
            let bytes = if lines { zstd::decode_all(&bytes[..]).unwrap() } else { bytes };
            (path, bytes)
        };
        let mut files = raw_files(daemon, stream, ".ndjson.zst");
        files.extend(raw_files(daemon, stream, ".cbor"));
        let quarantine = tables.join(format!("{stream}_quarantine"));
        let mut parquet = parquet_files(&tables.join(stream));
        parquet.extend(parquet_files(&quarantine));
        let about = |file: &Value| ["object", "kind", "state", "rows"].map(|key| file[key].clone());
        let mut register: Vec<[Value; 4]> = daemon.files(stream).iter().map(about).collect();
        register.sort_by_key(|file| file[0].to_string());
        Self {
            raw: files.into_iter().map(read).collect(),
            parquet,
            rows: read_table(&tables.join(stream)),
            quarantined: read_table(&quarantine),
            register,
            counts: daemon.counts(stream),
        }
    }

    /// The records in its raw files.
    fn lines(&self) -> String {
        self.raw.iter().map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap()).collect()
    }

    fn bodies(&self) -> Vec<String> {
        self.raw.iter().flat_map(|(_, bytes)| bodies(bytes)).collect()
    }

    fn records(&self) -> Vec<Value> {
        self.rows.iter().map(fields).collect()
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(|n| json!({"n": n})).collect()
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|n| format!("{{\"n\":{n}}}\n")).collect::<Vec<_>>().concat()
}

fn is_done(replay: &Value) {
    assert_eq!((&replay["state"], &replay["error"]), (&json!("done"), &Value::Null), "{replay}");
}

#[test]
fn a_replay_keeps_raw_files_unchanged() {
    let daemon = Daemon::dev();
    let streams = [
        ("is-TableLines", json!({"raw": "ndjson"})),
        ("is-TableBodies", json!({"raw": "cbor"})),
        ("is-OnlyLines", json!({"table": false, "raw": "ndjson"})),
        ("is-OnlyBodies", json!({"table": false, "raw": "cbor"})),
    ];
    let body = |n: u64| format!("{{\"n\":{n}}}\nno record\n{{\"n\":{}}}\n", n + 1);
    for (stream, setting) in &streams {
        landing(&daemon, stream, setting);
        // Two files, with two requests and with one.
        for (n, last) in [(0, false), (2, true), (4, true)] {
            assert_eq!(daemon.post(&format!("name={stream}"), body(n)).counts(), (2, 1));
            if last {
                daemon.publish();
            }
        }
    }
    for (stream, setting) in &streams {
        let before = Found::of(&daemon, stream);
        let has_table = setting.get("table").is_none();
        assert_eq!(before.records(), if has_table { numbers(0..6) } else { Vec::new() }, "{stream}");
        assert_eq!(before.quarantined.len(), 3, "{stream}");
        if setting["raw"] == "ndjson" {
            assert_eq!(before.lines(), lines(0..6), "{stream}");
        } else {
            assert_eq!(before.bodies(), [body(0), body(2), body(4)], "{stream}");
        }
        assert_eq!(before.raw.len(), 2, "each cut must have a file: {before:?}");
        let replay = daemon.replay_all(stream);
        is_done(&replay);
        assert_eq!(
            (&replay["rows"], &replay["cuts"]),
            (&json!({"total": 9, "done": 9}), &json!({"total": 2, "done": 2}))
        );
        assert_eq!(replay["before"], replay["after"]);
        assert_eq!(Found::of(&daemon, stream), before);
    }
}

#[test]
fn a_replay_of_xml_keeps_raw_files_unchanged() {
    let daemon = Daemon::dev();
    let streams =
        [("is-TableXml", json!({"raw": "ndjson"})), ("is-OnlyXml", json!({"table": false, "raw": "cbor"}))];
    let good = "<r><a><n>1</n></a><a><n>2</n></a></r>";
    for (stream, setting) in &streams {
        landing(&daemon, stream, setting);
        for body in [good, "<r>", good] {
            assert_eq!(xml_to(&daemon, stream, body).status, 202);
        }
        daemon.publish();
        let before = Found::of(&daemon, stream);
        let counts = (&before.counts["stored"], &before.counts["quarantined"]);
        assert_eq!(counts, (&json!(4), &json!(1)), "{stream}");
        is_done(&daemon.replay_all(stream));
        assert_eq!(Found::of(&daemon, stream), before);
    }
    let record = |n: &str| json!({"n": n});
    let [table, only] = streams.map(|(stream, _)| Found::of(&daemon, stream));
    assert_eq!(table.records(), [record("1"), record("2"), record("1"), record("2")]);
    assert_eq!(table.lines(), "{\"n\":\"1\"}\n{\"n\":\"2\"}\n".repeat(2));
    assert_eq!((only.records(), only.bodies()), (Vec::new(), [good, "<r>", good].map(str::to_owned).into()));
}

/// Records that do not fit are in the raw files and in the quarantine table. Once they fit, they leave the quarantine
/// table, and the raw files stay the same.
#[test]
fn records_that_now_fit_become_rows_and_raw_files_stay() {
    let daemon = Daemon::dev();
    let column = |kind: &str| json!([{"name": "n", "type": kind}]);
    let body = "{\"n\":1}\n{\"n\":\"two\"}\nno record\n";
    for (stream, landing) in [
        ("both", json!({"raw": "ndjson"})),
        ("lines", json!({"table": false, "raw": "ndjson"})),
        ("bodies", json!({"table": false, "raw": "cbor"})),
    ] {
        let new = json!({"policy": "strict", "columns": column("int64"), "settings": {"landing": landing}});
        let made = daemon.admin_request("PUT", &format!("/admin/v1/streams/{stream}"), &new);
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(daemon.post(&format!("name={stream}"), body).counts(), (1, 2));
        daemon.publish();
        let before = Found::of(&daemon, stream);
        assert_eq!(before.quarantined.len(), 2, "{stream}");
        is_done(&daemon.replay_all(stream));
        assert_eq!(Found::of(&daemon, stream), before, "the raw files of {stream} must not change");

        let schema = json!({"version": 1, "columns": column("string")});
        let path = format!("/admin/v1/streams/{stream}/schema?force=true");
        assert_eq!(daemon.admin_request("PUT", &path, &schema).status, 200);
        is_done(&daemon.replay_all(stream));
        let after = Found::of(&daemon, stream);
        assert_eq!(after.raw, before.raw, "{stream}");
        let counts = (&after.counts["stored"], &after.counts["quarantined"], after.quarantined.len());
        assert_eq!(counts, (&json!(2), &json!(1), 1), "{stream}");
        if stream == "bodies" {
            assert_eq!(after.bodies(), [body]);
        } else {
            assert_eq!(after.lines(), "{\"n\":1}\n{\"n\":\"two\"}\n");
        }
        if stream == "both" {
            assert_eq!(after.records(), [json!({"n": "1"}), json!({"n": "two"})]);
        }
    }
}

/// A replay follows the current setting, as it follows the current schema.
#[test]
fn a_replay_follows_the_current_landing_setting() {
    let daemon = Daemon::dev();
    let set = |landing: Value| {
        let body = json!({"settings": {"landing": landing}});
        assert_eq!(daemon.admin_request("PATCH", "/admin/v1/streams/s", &body).status, 200);
        is_done(&daemon.replay_all("s"));
        Found::of(&daemon, "s")
    };
    daemon.post("name=s", lines(0..3));
    daemon.publish();
    let only_table = Found::of(&daemon, "s");
    assert_eq!((only_table.records(), only_table.raw.len()), (numbers(0..3), 0));
    let both = set(json!({"raw": "ndjson"}));
    assert_eq!((both.records(), both.lines()), (numbers(0..3), lines(0..3)));
    let only_lines = set(json!({"table": false, "raw": "ndjson"}));
    assert_eq!((only_lines.records(), &only_lines.raw), (Vec::new(), &both.raw));
    assert_eq!(only_lines.counts, both.counts);
    assert_eq!(set(json!({"raw": "ndjson"})), both);
    assert_eq!(set(json!({})), only_table);
}

/// If the setting changes while records wait for a file, they land under the old setting, and later ones under the new.
#[test]
fn changing_the_landing_setting_loses_no_waiting_record() {
    let daemon = Setup::dev("[compactor]\nmax_idle = \"off\"\nmax_age = \"1h\"\n").start();
    let set = |landing: Value| {
        // A request is handled under the setting at the time it is read, so the test waits until all are read.
        eventually("rows in memory", || {
            let status = daemon.get("/admin/v1/status").json();
            (status["compactor"]["memory_bytes"].as_u64() > Some(0)).then_some(())
        });
        let body = json!({"settings": {"landing": landing}});
        assert_eq!(daemon.admin_request("PATCH", "/admin/v1/streams/s", &body).status, 200);
    };
    let send = |n: u64| assert_eq!(daemon.post("name=s&wait=true", lines(n..n + 1)).status, 200);
    send(0);
    set(json!({"table": false, "raw": "ndjson"}));
    send(1);
    daemon.publish();
    let found = Found::of(&daemon, "s");
    assert_eq!((found.records(), found.lines()), (numbers(0..1), lines(1..2)));
    send(2);
    set(json!({"table": true, "raw": null}));
    send(3);
    daemon.publish();
    let found = Found::of(&daemon, "s");
    assert_eq!((found.records(), found.lines()), ([numbers(0..1), numbers(3..4)].concat(), lines(1..3)));
    let stored: u64 = found.register.iter().map(|file| file[3].as_u64().unwrap()).sum();
    assert_eq!((stored, &found.counts["stored"]), (4, &json!(4)));
}
