//! A failing disk, a full disk, a full log, clock jumps: nothing acknowledged is lost, refusals say why, and the daemon
//! resumes by itself as soon as it can.

use crate::faults::Faults;
use crate::support::{Daemon, Response, Setup, eventually, read_table, try_read_response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Small segments; files are written only on request.
const SMALL_LOG: &str = r#"
[limits]
body_max = "256KiB"
decoded_max = "512KiB"
[wal]
segment_bytes = "1MiB"
prepared_segments = 1
max_bytes = "64MiB"
sync_interval = "20ms"
[compactor]
max_age = "1h"
max_idle = "off"
"#;

/// Sends one large row and returns the response.
fn send(daemon: &Daemon, query: &str, number: u64) -> Response {
    daemon.post(query, row(number))
}

fn row(number: u64) -> String {
    json!({"number": number, "pad": "x".repeat(100_000)}).to_string()
}

/// How often each row is stored, by its number.
fn numbers(rows: &[Value]) -> BTreeMap<u64, u32> {
    let mut numbers = BTreeMap::new();
    for row in rows {
        *numbers.entry(row["number"].as_u64().unwrap()).or_default() += 1;
    }
    numbers
}

#[track_caller]
fn assert_stored_once(rows: &[Value], acknowledged: &[u64]) {
    let stored = numbers(rows);
    let lost: Vec<_> = acknowledged.iter().filter(|number| !stored.contains_key(number)).collect();
    assert!(lost.is_empty(), "acknowledged but not stored: {lost:?}");
    let doubled: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "stored more than once: {doubled:?}");
}

/// Sends until a request is refused for lack of space. Returns that response.
fn fill(daemon: &Daemon, acknowledged: &mut Vec<u64>) -> Response {
    for number in acknowledged.len() as u64.. {
        let response = send(daemon, "name=visits", number);
        match response.status {
            202 => acknowledged.push(number),
            _ => return response,
        }
        assert!(number < 10_000, "the log did not fill up");
    }
    unreachable!("there are always more numbers")
}

#[track_caller]
fn assert_full(daemon: &Daemon, response: &Response, reason: &str) {
    assert_eq!(response.status, 503, "{}", response.text());
    let seconds: u32 =
        response.header("retry-after").expect("a refusal must say when to retry").parse().unwrap();
    assert!((1..=60).contains(&seconds));
    let ready = daemon.get("/readyz");
    assert_eq!((ready.status, ready.json()["reason"].as_str()), (503, Some(reason)));
    assert_eq!(
        daemon.get("/healthz").status,
        200,
        "the daemon must stay alive, since a restart would not help"
    );
    assert!(daemon.metric("forebay_wal_refusing") > 0.0);
}

#[test]
fn frames_of_a_failed_sync_are_rewritten() {
    const SENT: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let daemon = faults.on(Setup::dev(SMALL_LOG)).start_at(dir.path());
    assert_eq!(send(&daemon, "name=visits&wait=true", 0).status, 200);
    faults.begin("sync-fails-once");
    assert_eq!(
        send(&daemon, "name=visits&wait=true", 1).status,
        200,
        "the frames were rewritten and are durable"
    );
    assert!(!faults.is_pending("sync-fails-once"));
    assert_eq!(send(&daemon, "name=visits", 2).status, 202);
    assert!(daemon.metric("forebay_wal_sync_errors_total") > 0.0);
    // Appends continue in segments that were prepared earlier.
    for number in 3..SENT {
        assert_eq!(send(&daemon, "name=visits", number).status, 202);
    }
    let killed = daemon.kill();
    assert!(killed.log.contains("a sync failed"), "{}", killed.log);
    let dumped = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["wal", "dump", "--records"])
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    let numbers: Vec<u64> = dumped.stdout.split(|byte| *byte == b'\n').filter_map(number_of).collect();
    assert_eq!(
        numbers,
        (0..SENT).collect::<Vec<_>>(),
        "each row must be stored once, in order, although some frames were written twice"
    );

    let daemon = Setup::dev(SMALL_LOG).start_at(dir.path());
    let recovery = daemon.get("/admin/v1/wal").json()["recovery"].clone();
    assert_eq!((&recovery["missing"], &recovery["torn"]), (&json!([]), &json!([])), "{recovery}");
    assert_stored_once(&daemon.rows("visits"), &(0..SENT).collect::<Vec<_>>());
}

/// The number of a record.
fn number_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(line).ok()?["number"].as_u64()
}

#[test]
fn a_disk_that_cannot_sync_ends_the_process_without_losing_acknowledged_rows() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let daemon = faults.on(Setup::dev(SMALL_LOG)).start_at(dir.path());
    let acknowledged = parking_lot::Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    let failing = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (acknowledged, next, failing, ingest) = (&acknowledged, &next, &failing, daemon.ingest);
            scope.spawn(move || {
                // Sends until the daemon is gone.
                while let Ok(mut connection) = std::net::TcpStream::connect(ingest) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let synced = client % 2 == 0;
                    let began_failing = failing.load(Ordering::SeqCst);
                    let body = row(number);
                    let query = if synced { "name=visits&wait=true" } else { "name=visits" };
                    let head = format!(
                        "POST /v0/events?{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    drop(connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body.as_bytes())));
                    let Ok(response) = try_read_response(&mut connection) else { continue };
                    match response.status {
                        200 | 202 => acknowledged.lock().push(number),
                        500 | 503 => {}
                        other => panic!("{other}: {}", response.text()),
                    }
                    assert!(!(began_failing && response.status == 200), "200 without a sync");
                }
            });
        }
        eventually("some load", || (acknowledged.lock().len() > 50).then_some(()));
        faults.begin("sync-fails");
        failing.store(true, Ordering::SeqCst);
        let ended = daemon.wait();
        assert_eq!(ended.status.code(), Some(70), "{}", ended.log);
        assert!(ended.log.contains("a sync failed"), "{}", ended.log);
        assert!(ended.log.contains("the log is poisoned"), "{}", ended.log);
    });

    let daemon = Setup::dev(SMALL_LOG).start_at(dir.path());
    assert_stored_once(&daemon.rows("visits"), &acknowledged.into_inner());
}

#[test]
fn a_failed_last_sync_is_not_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let config = SMALL_LOG.replace("\"20ms\"", "\"1h\"");
    let daemon = faults.on(Setup::dev(&config)).start_at(dir.path());
    assert_eq!(send(&daemon, "name=visits", 7).status, 202);
    faults.begin("sync-fails");
    let stopped = daemon.stop();
    assert_eq!(stopped.status.code(), Some(70), "{}", stopped.log);
    assert!(!stopped.log.contains("nothing is left"), "{}", stopped.log);
    let daemon = Setup::dev(&config).start_at(dir.path());
    assert_stored_once(&daemon.rows("visits"), &[7]);
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let daemon = faults.on(Setup::dev(SMALL_LOG)).start_at(dir.path());
    let mut acknowledged = Vec::new();
    for number in 0..5 {
        assert_eq!(send(&daemon, "name=visits", number).status, 202);
        acknowledged.push(number);
    }
    faults.begin("disk-full");
    let refused = fill(&daemon, &mut acknowledged);
    assert_full(&daemon, &refused, "disk full");
    // Requests that need the catalog are refused as well, and change nothing.
    let other = daemon.post("name=new_stream", row(0));
    assert!((500..600).contains(&other.status), "{}", other.text());

    faults.end_all();
    let number = acknowledged.len() as u64;
    eventually("accepting", || (send(&daemon, "name=visits", number).status == 202).then_some(()));
    acknowledged.push(number);
    eventually("readiness", || (daemon.get("/readyz").status == 200).then_some(()));
    assert_eq!(daemon.post("name=new_stream", row(0)).status, 202);
    assert_stored_once(&daemon.rows("visits"), &acknowledged);
    assert_eq!(daemon.rows("new_stream").len(), 1);
}

#[test]
fn a_daemon_killed_on_a_full_disk_restarts_and_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let daemon = faults.on(Setup::dev(SMALL_LOG)).start_at(dir.path());
    let mut acknowledged = Vec::new();
    assert_eq!(send(&daemon, "name=visits", 0).status, 202);
    acknowledged.push(0);
    let ballast = dir.path().join("data/ballast");
    eventually("the ballast file", || ballast.is_file().then_some(()));
    faults.begin("disk-full");
    fill(&daemon, &mut acknowledged);
    drop(daemon.kill());
    faults.end("disk-full");
    // Only the reserved space is left: recovery syncs the existing data and writes nothing new.
    faults.begin("almost-full");
    let daemon =
        faults.on(Setup::dev(SMALL_LOG).env("FOREBAY_WAL__DISK_RESERVE", "1000000GiB")).start_at(dir.path());
    let refused = send(&daemon, "name=visits", 1_000_000);
    assert_full(&daemon, &refused, "disk full");
    // The catalog needs the space, not the log.
    let said = || daemon.log().contains("removed the ballast file").then_some(());
    eventually("the log line about the ballast file", said);
    drop(daemon.kill());
    let daemon = Setup::dev(SMALL_LOG).start_at(dir.path());
    assert_stored_once(&daemon.rows("visits"), &acknowledged);
}

#[test]
fn a_full_log_is_written_to_files_early() {
    let config = SMALL_LOG.replace("64MiB", "4MiB");
    let daemon = Setup::dev(&config).start();
    let mut acknowledged = Vec::new();
    // Many times what fits into the log, while files would not be due for an hour.
    for number in 0..200 {
        eventually("accepting", || {
            let response = send(&daemon, "name=visits", number);
            match response.status {
                202 => Some(()),
                503 => {
                    assert!(response.header("retry-after").is_some());
                    None
                }
                other => panic!("{other}: {}", response.text()),
            }
        });
        acknowledged.push(number);
    }
    assert!(daemon.metric("forebay_wal_bytes") <= f64::from(4 << 20));
    assert_stored_once(&daemon.rows("visits"), &acknowledged);
}

#[test]
fn an_unavailable_destination_blocks_neither_log_nor_other_streams() {
    let config = SMALL_LOG.replace("64MiB", "4MiB").replace("max_age = \"1h\"", "max_age = \"100ms\"");
    let dir = tempfile::tempdir().unwrap();
    let tables = dir.path().join("data/tables");
    std::fs::create_dir_all(&tables).unwrap();
    // A file in place of the directory makes creating files impossible.
    std::fs::write(tables.join("visits"), "in the way").unwrap();
    let daemon = Setup::dev(&config).env("FOREBAY_SERVER__DRAIN_TIMEOUT", "100ms").start_at(dir.path());
    let mut acknowledged = Vec::new();
    for number in 0..120 {
        eventually("accepting", || (send(&daemon, "name=visits", number).status == 202).then_some(()));
        acknowledged.push(number);
    }
    let other = daemon.post("name=clicks&wait=table", row(0));
    assert_eq!(other.status, 200, "another stream's files are published: {}", other.text());
    let staged = daemon.get("/admin/v1/staged").json();
    let first = &staged["staged"][0];
    assert_eq!(first["stream"], "visits");
    eventually("a failed attempt is shown", || {
        let staged = daemon.get("/admin/v1/staged").json();
        staged["staged"][0]["last_error"].as_str().map(str::to_owned)
    });
    let waited = daemon.get("/admin/v1/status").json();
    assert_eq!(waited["ready"], true, "{waited}");
    // A restart does not change that.
    let stopped = daemon.stop();
    assert!(stopped.status.success());
    let daemon = Setup::dev(&config).start_at(dir.path());
    std::fs::remove_file(tables.join("visits")).unwrap();
    assert_stored_once(&daemon.rows("visits"), &acknowledged);
    assert_eq!(daemon.rows("clicks").len(), 1);
}

#[test]
fn a_destination_missing_at_the_start_is_retried() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("mount");
    std::fs::write(&mount, "nothing is mounted here").unwrap();
    let url = url::Url::from_directory_path(mount.join("tables")).unwrap();
    let daemon = Setup::dev("").env("FOREBAY_DESTINATION__URL", url.as_str()).start_at(dir.path());
    assert_eq!(send(&daemon, "name=visits&wait=true", 7).status, 200);
    eventually("a failed attempt", || {
        (daemon.metric("forebay_compactor_publish_errors_total") > 0.0).then_some(())
    });
    std::fs::remove_file(&mount).unwrap();
    std::fs::create_dir(&mount).unwrap();
    let published = daemon.admin_post("/admin/v1/publish");
    assert_eq!(published.status, 200, "{}", published.text());
    assert_stored_once(&read_table(&mount.join("tables/visits")), &[7]);
}

#[test]
fn a_slow_sync_is_answered_as_accepted() {
    let faults = Faults::none();
    let daemon = faults.on(Setup::dev("")).start();
    faults.set("sync-slow", "13000");
    let response = send(&daemon, "name=visits&wait=true", 0);
    assert_eq!((response.status, response.header("forebay-durable")), (202, Some("false")), "{response:?}");
    faults.end("sync-slow");
    assert_stored_once(&daemon.rows("visits"), &[0]);
}

const DAY: i64 = 86_400;

#[test]
fn clock_jumps_lose_and_reorder_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let tables = dir.path().join("data/tables");
    std::fs::create_dir_all(&tables).unwrap();
    std::fs::write(tables.join("visits"), "in the way").unwrap();
    // At the first start, the clock is near 1970.
    let now = jiff::Timestamp::now().as_second();
    faults.set("clock", &(-now + DAY).to_string());
    let daemon = faults.on(Setup::dev("")).start_at(dir.path());
    let mut receipts = Vec::new();
    for (number, offset) in [(0, -now + DAY), (1, 0), (2, -3 * DAY), (3, 30 * DAY), (4, 0)] {
        faults.set("clock", &offset.to_string());
        let response = send(&daemon, "name=visits&wait=true", number);
        assert_eq!(response.status, 200, "{}", response.text());
        receipts.push(response.receipt());
        eventually("a file of these rows", || {
            let staged = daemon.get("/admin/v1/staged").json();
            (staged["staged"].as_array().unwrap().len() as u64 > number).then_some(())
        });
    }
    assert!(receipts.is_sorted(), "LSNs must increase: {receipts:?}");
    drop(daemon.kill());
    // Files seem to have waited for half a century, but were hardly tried.
    let daemon = faults.on(Setup::dev("")).start_at(dir.path());
    eventually("a failed attempt", || {
        (daemon.metric("forebay_compactor_publish_errors_total") > 4.0).then_some(())
    });
    std::fs::remove_file(tables.join("visits")).unwrap();
    let rows = daemon.rows("visits");
    assert_stored_once(&rows, &[0, 1, 2, 3, 4]);
    let order: Vec<_> = rows.iter().map(|row| row["number"].as_u64().unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    assert_eq!(rows[0]["_received_at"].as_str().map(|at| &at[..10]), Some("1970-01-02"));
    assert!(daemon.metric("forebay_compactor_expired_rows_total") < 1.0);
}

#[test]
fn an_unpublishable_file_expires_after_the_retention_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let tables = dir.path().join("data/tables");
    std::fs::create_dir_all(&tables).unwrap();
    std::fs::write(tables.join("visits"), "in the way").unwrap();
    let daemon = Setup::dev("[staging]\nretention = \"1s\"").start_at(dir.path());
    assert_eq!(send(&daemon, "name=visits", 0).status, 202);
    eventually("giving up", || (daemon.metric("forebay_compactor_expired_rows_total") > 0.0).then_some(()));
    eventually("no staged file", || {
        daemon.get("/admin/v1/staged").json()["staged"].as_array()?.is_empty().then_some(())
    });
    // The log line is written after the count.
    eventually("the log line about the expired file", || {
        daemon.log().contains("its rows are discarded").then_some(())
    });
    assert_eq!(daemon.get("/admin/v1/streams/visits").json()["files"][0]["state"], "expired");
}

#[test]
fn a_file_counts_as_published_only_when_its_name_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let daemon = faults.on(Setup::dev("")).start_at(dir.path());
    faults.begin("names-fail");
    assert_eq!(send(&daemon, "name=visits", 1).status, 202);
    // The second attempt finds the published file, but its name may not survive power loss.
    eventually("some attempts", || {
        (daemon.metric("forebay_compactor_publish_errors_total") > 2.0).then_some(())
    });
    let staged = daemon.get("/admin/v1/staged").json();
    assert_eq!(staged["staged"].as_array().map(Vec::len), Some(1), "{staged}");
    assert!(daemon.metric("forebay_compactor_published_files_total") < 1.0);
    faults.end("names-fail");
    assert_stored_once(&daemon.rows("visits"), &[1]);
}
