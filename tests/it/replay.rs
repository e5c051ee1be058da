//! Rebuilding files from log and archive.

use crate::bucket::{Bucket, Fault};
use crate::support::{Daemon, Response, Setup, eventually, parquet_files, read_parquet, read_table, request};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

impl Daemon {
    pub fn admin_request(&self, method: &str, path: &str, body: &Value) -> Response {
        let authorization = format!("Bearer {}", self.token.clone().unwrap_or_default());
        request(self.admin, method, path, &[("authorization", &authorization)], body.to_string().as_bytes())
    }

    fn replay(&self, body: &Value) -> Response {
        self.admin_request("POST", "/admin/v1/replay", body)
    }

    /// Waits for the end of a replay and returns it.
    fn replayed(&self, id: &Value) -> Value {
        eventually("the replay's end", || {
            let replay = self.get(&format!("/admin/v1/replay/{id}")).json();
            (!["waiting", "running"].contains(&replay["state"].as_str().unwrap())).then_some(replay)
        })
    }

    /// Replays a whole stream and waits for the end.
    pub fn replay_all(&self, stream: &str) -> Value {
        let asked = self.replay(&json!({"stream": stream, "from": "2020-01-01"}));
        assert_eq!(asked.status, 202, "{}", asked.text());
        self.replayed(&asked.json()["id"])
    }

    pub fn publish(&self) {
        let published = self.admin_post("/admin/v1/publish");
        assert_eq!(published.status, 200, "{}", published.text());
    }

    pub fn counts(&self, stream: &str) -> Value {
        self.get(&format!("/admin/v1/streams/{stream}")).json()["rows"].clone()
    }

    pub fn files(&self, stream: &str) -> Vec<Value> {
        let files = self.get(&format!("/admin/v1/streams/{stream}/files?limit=1000")).json();
        files["files"].as_array().unwrap().clone()
    }
}

/// At most two columns: the third field of each record is rescued.
const NARROW: &str = "[limits]\ncolumns_max = 2\n";

/// Writes `cuts` files under a schema without room for all fields, and restarts the daemon with a higher limit. Returns
/// the daemon and the receipts.
fn mended(home: &Path, cuts: u64, settings: &str) -> (Daemon, Vec<u64>) {
    let daemon = Setup::dev(&format!("{NARROW}{settings}")).start_at(home);
    let mut receipts = Vec::new();
    for cut in 0..cuts {
        for n in 0..3 {
            let n = cut * 3 + n;
            let day = 1 + n % 2;
            let body = format!("{{\"n\":{n},\"a\":1,\"day\":\"2026-11-0{day}\"}}\nbad\n");
            receipts.push(daemon.post("name=t", body).receipt());
        }
        daemon.publish();
    }
    assert_eq!(daemon.counts("t")["rescued"], json!(cuts * 3));
    assert!(daemon.stop().status.success());
    let daemon = Setup::dev(settings).start_at(home);
    let last = daemon.post("name=t", "{\"n\":-1,\"a\":1,\"day\":\"2026-11-01\"}\n").receipt();
    daemon.publish();
    receipts.push(last);
    (daemon, receipts)
}

fn numbers(rows: &[Value]) -> Vec<i64> {
    let mut numbers: Vec<i64> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// The numbers of all rows of the table, in order.
fn all(cuts: u64) -> Vec<i64> {
    (-1..i64::try_from(cuts * 3).unwrap()).collect()
}

#[test]
fn files_are_rebuilt_in_place_under_the_current_schema() {
    let home = tempfile::tempdir().unwrap();
    let (daemon, receipts) = mended(home.path(), 4, "");
    let tables = daemon.data_dir().join("tables");
    let (before, files_before) = (parquet_files(&tables), daemon.files("t"));
    let quarantine = read_table(&tables.join("t_quarantine"));
    let status = daemon.get("/admin/v1/streams/t").json();
    assert_eq!(daemon.counts("t")["rescued"], 12);

    let replay = daemon.replay_all("t");
    assert_eq!((&replay["state"], &replay["error"]), (&json!("done"), &Value::Null), "{replay}");
    assert_eq!(replay["cuts"], json!({"total": 5, "done": 5}));
    assert_eq!(replay["rows"], json!({"total": 25, "done": 25}));
    assert_eq!((&replay["files"], &replay["missing"]), (&json!(9), &json!([])));
    assert_eq!(replay["range"]["first_lsn"], receipts[0]);
    assert_eq!(replay["range"]["last_lsn"], *receipts.last().unwrap());
    assert_eq!((&replay["before"]["rescued"], &replay["after"]["rescued"]), (&json!(12), &json!(0)));

    assert_eq!(parquet_files(&tables), before, "the files must have the same names");
    let rows = read_table(&tables.join("t"));
    assert_eq!(numbers(&rows), all(4));
    assert!(rows.iter().all(|row| row["day"].is_string() && row.get("_rescued").is_none()), "{rows:?}");
    assert_eq!(read_table(&tables.join("t_quarantine")), quarantine);
    let counts = daemon.counts("t");
    assert_eq!(
        (&counts["stored"], &counts["quarantined"], &counts["rescued"]),
        (&json!(13), &json!(12), &json!(0))
    );
    let files = daemon.files("t");
    assert_eq!(files.len(), files_before.len());
    for (file, before) in files.iter().zip(&files_before) {
        for same in ["object", "first_lsn", "last_lsn", "rows", "kind"] {
            assert_eq!(file[same], before[same]);
        }
        assert_eq!(
            (&file["state"], &file["schema_version"]),
            (&json!("published"), &status["schema"]["version"])
        );
        let path = tables.join(file["object"].as_str().unwrap());
        assert_eq!(file["bytes"], json!(path.metadata().unwrap().len()), "{file}");
    }
    // Receipts refer to the new files.
    for receipt in &receipts {
        let found = daemon.get(&format!("/admin/v1/receipts/{receipt}")).json();
        let files = found["files"].as_array().unwrap();
        assert!(files.iter().all(|file| file["state"] == "published"), "{found}");
        assert!(!files.is_empty() && found["stream"] == "t", "{found}");
    }
    assert_eq!(std::fs::read_dir(daemon.data_dir().join("staged/replay")).unwrap().count(), 0);
    // Another replay changes nothing.
    let again = daemon.replay_all("t");
    assert_eq!(again["before"], again["after"]);
    assert_eq!(daemon.counts("t"), counts);
    assert!((daemon.metric("forebay_compactor_replayed_rows_total") - 50.0).abs() < 0.5);
}

/// A replay rebuilds the files of the requested range only, each of them completely.
#[test]
fn a_time_range_is_widened_to_whole_files() {
    let daemon = Daemon::dev();
    let mut times = Vec::new();
    for n in 0..4 {
        // Each file has two requests.
        for _ in 0..2 {
            let receipt = daemon.post("name=t&wait=true", format!("{{\"n\":{n}}}\n")).receipt();
            let received = daemon.get(&format!("/admin/v1/receipts/{receipt}")).json()["received_at"].clone();
            times.push((receipt, received.as_str().unwrap().to_owned()));
        }
        daemon.publish();
    }
    let before = daemon.files("t");
    // From the second request of the second file up to, but not including, the first of the fourth.
    let asked = daemon.replay(&json!({"stream": "t", "from": times[3].1, "to": times[6].1}));
    assert_eq!(asked.status, 202, "{}", asked.text());
    let asked = asked.json();
    assert_eq!(
        (&asked["cuts"]["total"], &asked["files"], &asked["rows"]["total"]),
        (&json!(2), &json!(2), &json!(4))
    );
    let range =
        json!({"first_lsn": times[2].0, "last_lsn": times[5].0, "from": times[2].1, "to": times[5].1});
    assert_eq!(asked["range"], range);
    assert_eq!(daemon.replayed(&asked["id"])["state"], "done");
    let published: Vec<bool> = daemon
        .files("t")
        .iter()
        .zip(&before)
        .map(|(now, then)| now["published_at"] != then["published_at"])
        .collect();
    // Newest first.
    assert_eq!(published, [false, true, true, false]);
    assert_eq!(daemon.rows("t").len(), 8);
}

/// Lists, opens and reads the files of a directory continuously. An open file never changes. If a listed file is gone
/// when it is opened, the reader lists again. Returns the number of passes.
fn watch(table: &Path, stop: &AtomicBool, check: impl Fn(Vec<i64>)) -> usize {
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        let opened: Result<Vec<File>, _> = parquet_files(table).iter().map(File::open).collect();
        let Ok(opened) = opened else { continue };
        let path = |file: &File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let rows: Vec<Value> = opened.iter().flat_map(|file| read_parquet(&path(file))).collect();
        check(numbers(&rows));
        looks += 1;
    }
    looks
}

#[test]
fn a_reader_of_the_directory_always_sees_every_row_once() {
    let home = tempfile::tempdir().unwrap();
    let (daemon, _) = mended(home.path(), 8, "");
    let table = daemon.data_dir().join("tables/t");
    let (stop, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let seen = watch(&table, &stop, |numbers| assert_eq!(numbers, all(8), "each row once"));
            looks.store(seen, Ordering::Relaxed);
        });
        for _ in 0..5 {
            assert_eq!(daemon.replay_all("t")["state"], "done");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(looks.load(Ordering::Relaxed) > 3);
}

/// Rows that move to another partition are added there before they are removed from the old one.
#[test]
fn rows_that_move_between_partitions_are_never_missing() {
    let home = tempfile::tempdir().unwrap();
    let (daemon, _) = mended(home.path(), 6, "[compactor]\npartition_by = \"day\"\n");
    let table = daemon.data_dir().join("tables/t");
    let in_default = |files: &[PathBuf]| {
        files.iter().filter(|file| file.to_str().unwrap().contains("__HIVE_DEFAULT_PARTITION__")).count()
    };
    assert_eq!(in_default(&parquet_files(&table)), 6, "no row had a day");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            watch(&table, &stop, |mut numbers| {
                numbers.dedup();
                assert_eq!(numbers, all(6), "no row is in no file");
            })
        });
        let replay = daemon.replay_all("t");
        assert_eq!(replay["state"], "done", "{replay}");
        stop.store(true, Ordering::Relaxed);
    });
    let files = parquet_files(&table);
    assert_eq!((in_default(&files), files.len()), (0, 13), "{files:?}");
    assert_eq!(numbers(&read_table(&table)), all(6), "each row once");
    let mut registered: Vec<PathBuf> = daemon
        .files("t")
        .iter()
        .filter(|file| file["kind"] == "rows")
        .map(|file| daemon.data_dir().join("tables").join(file["object"].as_str().unwrap()))
        .collect();
    registered.sort();
    assert_eq!(registered, files, "the register must list exactly the existing files");
}

#[test]
fn what_is_asked_wrongly_is_a_problem() {
    let daemon = Daemon::dev();
    daemon.post("name=t", "{\"n\":1}\n");
    daemon.publish();
    let refused = |body: &Value, status: u16, detail: &str| {
        let response = daemon.replay(body);
        assert_eq!(response.status, status, "{}", response.text());
        assert!(response.json()["detail"].as_str().unwrap().contains(detail), "{}", response.text());
    };
    refused(&json!({"stream": "t"}), 400, "missing field `from`");
    refused(&json!({"stream": "t", "from": "yesterday"}), 400, "'from' must be a time such as");
    refused(&json!({"stream": "t", "from": "2026-01-01", "to": "soon"}), 400, "'to' must be a time such as");
    refused(&json!({"stream": "t", "from": "2026-01-02", "to": "2026-01-01"}), 400, "must be before");
    refused(&json!({"stream": "t", "from": "2026-01-01", "form": 1}), 400, "unknown field `form`");
    refused(&json!({"stream": "u", "from": "2026-01-01"}), 404, "\"u\"");
    refused(&json!({"stream": "t", "from": "2020-01-01", "to": "2020-01-02"}), 404, "no file of t has rows");
    refused(&json!([]), 400, "invalid replay request");
    for id in ["1", "x", "99999999999999999999", "-1"] {
        assert_eq!(daemon.get(&format!("/admin/v1/replay/{id}")).status, 404, "{id}");
    }
    assert_eq!(daemon.get("/admin/v1/replay").json(), json!({"replays": []}));
    // Without --dev a replay requires an admin token.
    let daemon = Setup::with_config("").start();
    assert_eq!(request(daemon.admin, "POST", "/admin/v1/replay", &[], b"{}").status, 401);
}

/// Segments fill up after a few requests, and the archive holds only the last of them.
const FORGETFUL: &str = "[limits]\nbody_max = \"1MiB\"\ndecoded_max = \"1MiB\"\n[wal]\nsegment_bytes = \"2MiB\"\nprepared_segments = 1\narchive_bytes_max = \"1MiB\"\n";

#[test]
fn a_partial_replay_names_what_is_missing_and_must_be_requested() {
    let daemon = Setup::dev(FORGETFUL).start();
    let mut receipts = Vec::new();
    // Incompressible bytes, so that the archive fills up quickly.
    let mut seed = 1_u64;
    let mut pad = || -> String {
        (0..150_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(b'!' + u8::try_from(seed >> 57).unwrap() % 90)
            })
            .filter(|c| !matches!(c, '"' | '\\'))
            .collect()
    };
    for n in 0..40 {
        receipts.push(daemon.post("name=t", format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", pad())).receipt());
        if n % 4 == 3 {
            daemon.publish();
        }
    }
    eventually("the removal of the oldest segment", || {
        let archive = daemon.get("/admin/v1/wal").json()["archive"].clone();
        (archive["waiting"] == 0 && archive["dropped"]["over_bytes_max"].as_u64() > Some(0)).then_some(())
    });
    let before = daemon.files("t");
    let asked = json!({"stream": "t", "from": "2020-01-01"});
    let refused = daemon.replay(&asked);
    assert_eq!(refused.status, 409, "{}", refused.text());
    let refused = refused.json();
    let missing = refused["missing"].as_array().unwrap();
    assert!(refused["detail"].as_str().unwrap().contains("\"partial\": true"), "{refused}");
    assert_eq!(missing[0]["first_lsn"], receipts[0]);
    assert_eq!(missing[0]["lost"][0]["first"], receipts[0], "exactly the missing requests");
    let gone = missing.iter().flat_map(|cut| cut["lost"].as_array().unwrap().clone());
    let gone: Vec<(u64, u64)> =
        gone.map(|range| (range["first"].as_u64().unwrap(), range["last"].as_u64().unwrap())).collect();
    for receipt in &receipts {
        let found = daemon.get(&format!("/admin/v1/receipts/{receipt}")).json();
        let kept = found["in_log"] == true || found["in_archive"] == true;
        let said = gone.iter().any(|(first, last)| (first..=last).contains(&receipt));
        // A consumed segment that is kept for reuse can still be read.
        assert!(kept || said, "{found}");
        assert!(!(said && found["in_archive"] == true), "{found}");
    }
    assert_eq!(daemon.get("/admin/v1/replay").json(), json!({"replays": []}), "no replay must start");

    let mut partial = asked;
    partial["partial"] = json!(true);
    let begun = daemon.replay(&partial);
    assert_eq!(begun.status, 202, "{}", begun.text());
    let begun = begun.json();
    assert_eq!(begun["missing"], refused["missing"]);
    let done = daemon.replayed(&begun["id"]);
    assert_eq!(done["state"], "done", "{done}");
    let cuts = done["cuts"]["done"].as_u64().unwrap();
    assert_eq!((cuts, cuts + missing.len() as u64), (done["cuts"]["total"].as_u64().unwrap(), 10), "{done}");
    // Newest first. The files with missing requests stay unchanged.
    let changed: Vec<bool> = daemon
        .files("t")
        .iter()
        .zip(&before)
        .map(|(now, then)| now["published_at"] != then["published_at"])
        .collect();
    let expected: Vec<bool> = (0..10).map(|cut| cut < cuts).collect();
    assert_eq!(changed, expected);
    assert_eq!(daemon.rows("t").len(), 40);
}

#[test]
fn replays_queue_and_can_be_cancelled() {
    let home = tempfile::tempdir().unwrap();
    let (daemon, _) = mended(home.path(), 6, "");
    let asked = json!({"stream": "t", "from": "2020-01-01"});
    let ids: Vec<Value> = (0..4).map(|_| daemon.replay(&asked).json()["id"].clone()).collect();
    let last = format!("/admin/v1/replay/{}", ids[3]);
    let cancelled = daemon.admin_request("DELETE", &last, &Value::Null);
    assert_eq!(
        (cancelled.status, &cancelled.json()["state"]),
        (200, &json!("cancelled")),
        "{}",
        cancelled.text()
    );
    for id in &ids[..3] {
        assert_eq!(daemon.replayed(id)["state"], "done");
    }
    assert_eq!(daemon.get(&last).json()["rows"]["done"], 0);
    assert_eq!(daemon.admin_request("DELETE", &last, &Value::Null).status, 409);
    let listed = daemon.get("/admin/v1/replay?limit=2").json();
    let listed: Vec<&Value> =
        listed["replays"].as_array().unwrap().iter().map(|replay| &replay["id"]).collect();
    assert_eq!(listed, [&ids[3], &ids[2]]);
    assert_eq!(numbers(&daemon.rows("t")), all(6));
}

fn command(daemon: &Daemon, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("replay").args(arguments).args(["--admin-url", &format!("http://{}", daemon.admin)]);
    command.env("FOREBAY_TOKEN", daemon.token.as_deref().unwrap_or("")).output().unwrap()
}

#[test]
fn the_command_shows_progress_and_result() {
    let home = tempfile::tempdir().unwrap();
    let (daemon, _) = mended(home.path(), 3, "");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let done =
        command(&daemon, &["--stream", "t", "--from", "2020-01-01", "--to", "2100-01-01T00:00:00+01:00"]);
    assert!(done.status.success(), "{done:?}");
    let shown = text(&done.stdout);
    for line in
        ["replay       1 of t: done", "rows         19 of 19 in 4 of 4 ranges", "rescued      0 (before: 9)"]
    {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    let json = command(&daemon, &["--stream", "t", "--from", "2020-01-01", "--json", "--no-wait"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["id"], 2);
    assert_eq!(daemon.replayed(&json["id"])["state"], "done");
    let refused = command(&daemon, &["--stream", "t", "--from", "never"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("'from' must be a time such as"), "{refused:?}");
    let unreachable = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["replay", "--stream", "t", "--from", "2020-01-01", "--admin-url", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(unreachable.status.code(), Some(69));
    // Beyond the archive: standard error lists what is missing.
    assert!(daemon.stop().status.success());
    let daemon = Setup::dev("[wal]\narchive_retention = \"0s\"\n").start_at(home.path());
    let refused = command(&daemon, &["--stream", "t", "--from", "2020-01-01"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("not rebuilt") && said.contains("cannot be rebuilt"), "{said}");
}

#[test]
fn objects_in_a_bucket_are_replaced_even_if_the_answer_is_lost() {
    let bucket = Bucket::start();
    let home = tempfile::tempdir().unwrap();
    let (daemon, _) = mended(home.path(), 3, &bucket.config("p"));
    let table = bucket.dir("p/t");
    let rescued = |rows: &[Value]| rows.iter().filter(|row| row.get("_rescued").is_some()).count();
    let before = parquet_files(&table);
    assert_eq!(rescued(&read_table(&table)), 9);
    bucket.set(Fault::LostAnswer);
    let asked = daemon.replay(&json!({"stream": "t", "from": "2020-01-01"}));
    assert_eq!(asked.status, 202, "{}", asked.text());
    bucket.wait_for_puts(2);
    eventually("the reason why it stalls", || {
        let replay = daemon.get(&format!("/admin/v1/replay/{}", asked.json()["id"])).json();
        (replay["error"].is_string() || replay["state"] == "done").then_some(())
    });
    bucket.set(Fault::None);
    let replay = daemon.replayed(&asked.json()["id"]);
    assert_eq!((&replay["state"], &replay["error"]), (&json!("done"), &Value::Null), "{replay}");
    assert_eq!(parquet_files(&table), before);
    let rows = read_table(&table);
    assert_eq!((numbers(&rows), rescued(&rows)), (all(3), 0));
    // An object from elsewhere is not overwritten.
    std::fs::write(&before[0], b"somebody else's").unwrap();
    let asked = daemon.replay(&json!({"stream": "t", "from": "2020-01-01"})).json();
    let replay = eventually("a conflict", || {
        let replay = daemon.get(&format!("/admin/v1/replay/{}", asked["id"])).json();
        replay["error"].as_str().is_some_and(|error| error.contains("different content")).then_some(replay)
    });
    assert_eq!(replay["state"], "running", "{replay}");
    assert_eq!(std::fs::read(&before[0]).unwrap(), b"somebody else's");
}

/// Records that did not fit a column's type become rows under the fixed schema, and leave the quarantine table.
#[test]
fn quarantined_records_that_now_fit_become_rows() {
    let daemon = Daemon::dev();
    let columns = |kind: &str| json!([{"name": "n", "type": "int64"}, {"name": "v", "type": kind}]);
    let made = daemon.admin_request(
        "PUT",
        "/admin/v1/streams/t",
        &json!({"policy": "strict", "columns": columns("int64")}),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    let mut receipts = Vec::new();
    for cut in 0..3 {
        // The second file has only records that do not fit the column.
        let good = if cut == 1 { "" } else { "{\"n\":1,\"v\":1}\n" };
        let sent = daemon.post("name=t", format!("{good}{{\"n\":2,\"v\":\"two\"}}\nno record\n"));
        receipts.push(sent.receipt());
        daemon.publish();
    }
    let tables = daemon.data_dir().join("tables");
    let (table, quarantine) = (tables.join("t"), tables.join("t_quarantine"));
    assert_eq!((read_table(&table).len(), read_table(&quarantine).len()), (2, 6));
    let counts = daemon.counts("t");
    assert_eq!((&counts["stored"], &counts["quarantined"]), (&json!(2), &json!(6)));

    let version = daemon.get("/admin/v1/streams/t/schema").json()["version"].clone();
    let schema = json!({"version": version, "columns": columns("string")});
    let changed = daemon.admin_request("PUT", "/admin/v1/streams/t/schema?force=true", &schema);
    assert_eq!(changed.status, 200, "{}", changed.text());
    let replay = daemon.replay_all("t");
    assert_eq!(replay["state"], "done", "{replay}");
    let (before, after) = (&replay["before"], &replay["after"]);
    assert_eq!((&before["stored"], &before["quarantined"]), (&json!(2), &json!(6)));
    assert_eq!(
        (&after["stored"], &after["quarantined"]),
        (&daemon.counts("t")["stored"], &daemon.counts("t")["quarantined"])
    );

    let (rows, left) = (read_table(&table), read_table(&quarantine));
    assert_eq!(rows.len() + left.len(), 8, "no record must be lost");
    let strings = rows.iter().filter(|row| row["v"] == "two").count();
    assert_eq!(strings, 3, "{rows:?}");
    assert!(left.iter().all(|row| !row["reason"].as_str().unwrap().is_empty()), "{left:?}");
    assert_eq!(after["quarantined"], json!(left.len()));
    // The file that had no rows has some now, and receipts refer to it.
    let found = daemon.get(&format!("/admin/v1/receipts/{}", receipts[1])).json();
    let kinds: Vec<&Value> = found["files"].as_array().unwrap().iter().map(|file| &file["kind"]).collect();
    assert!(kinds.contains(&&json!("rows")), "{found}");
    let mut registered: Vec<PathBuf> =
        daemon.files("t").iter().map(|file| tables.join(file["object"].as_str().unwrap())).collect();
    registered.sort();
    assert_eq!(registered, parquet_files(&tables));
}
