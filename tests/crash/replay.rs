//! Kills while files are rebuilt, and while consumed segments are archived.

use super::support::{Daemon, Setup, eventually, parquet_files, read_table, request};
use super::{ROUNDS, setting};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The number of files that are written and later rebuilt.
const CUTS: u64 = 10;

fn numbers(table: &Path) -> Vec<i64> {
    let mut numbers: Vec<i64> = read_table(table).iter().map(|row| row["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn newest_replay(daemon: &Daemon) -> Value {
    daemon.get("/admin/v1/replay?limit=1").json()["replays"][0].clone()
}

fn is_over(replay: &Value) -> bool {
    !["waiting", "running"].contains(&replay["state"].as_str().unwrap_or("over"))
}

/// Rows move to other partitions and back: each round starts with another layout and is killed while it rebuilds the
/// files. Every row is in a file at all times; at the end each is in exactly one, which the register knows.
#[test]
fn a_killed_replay_resumes_and_loses_no_row() {
    let home = tempfile::tempdir().unwrap();
    let table = home.path().join("data/tables/t");
    let mut random = fastrand::Rng::with_seed(setting("FOREBAY_CRASH_SEED", fastrand::u64(..)));
    let narrow = Setup::dev("[limits]\ncolumns_max = 2\n").start_at(home.path());
    let rows = i64::try_from(CUTS * 8).unwrap();
    for cut in 0..CUTS {
        let body = (0..8).fold(String::new(), |body, n| {
            let n = cut * 8 + n;
            body + &format!("{{\"n\":{n},\"a\":1,\"day\":\"2026-11-0{}\"}}\n", 1 + n % 3)
        });
        assert_eq!(narrow.post("name=t", body).status, 202);
        assert_eq!(narrow.admin_post("/admin/v1/publish").status, 200);
    }
    assert!(narrow.stop().status.success());
    let wide = Setup::dev("").start_at(home.path());
    wide.post("name=t", format!("{{\"n\":{rows},\"a\":1,\"day\":\"2026-11-01\"}}\n"));
    assert_eq!(wide.admin_post("/admin/v1/publish").status, 200);
    wide.kill();
    let all: Vec<i64> = (0..=rows).collect();
    let mut kills = 0;
    for round in 0..setting("FOREBAY_CRASH_ROUNDS", ROUNDS as u64) {
        let by = ["\"day\"", "\"none\"", "\"_received_at\""][usize::try_from(round % 3).unwrap()];
        let setup = || Setup::dev(&format!("[compactor]\npartition_by = {by}\n"));
        let mut daemon = setup().start_at(home.path());
        if is_over(&newest_replay(&daemon)) {
            let body = json!({"stream": "t", "from": "2020-01-01"}).to_string();
            let asked = request(daemon.admin, "POST", "/admin/v1/replay", &[], body.as_bytes());
            assert_eq!(asked.status, 202, "{}", asked.text());
        }
        std::thread::sleep(Duration::from_millis(random.u64(0..80)));
        daemon.kill();
        kills += 1;
        let mut seen = numbers(&table);
        seen.dedup();
        assert_eq!(seen, all, "round {round}: some row is in no file");
        if random.u32(0..3) > 0 {
            // A second kill, in the state that the first one left.
            continue;
        }
        daemon = setup().start_at(home.path());
        eventually("the replay's end", || is_over(&newest_replay(&daemon)).then_some(()));
        assert_eq!(newest_replay(&daemon)["state"], "done");
        assert_eq!(numbers(&table), all, "round {round}: each row once");
        daemon.kill();
    }
    // One more replay, undisturbed.
    let daemon = Setup::dev("[compactor]\npartition_by = \"day\"\n").start_at(home.path());
    eventually("the replay's end", || is_over(&newest_replay(&daemon)).then_some(()));
    let body = json!({"stream": "t", "from": "2020-01-01"}).to_string();
    assert_eq!(request(daemon.admin, "POST", "/admin/v1/replay", &[], body.as_bytes()).status, 202);
    eventually("the replay's end", || is_over(&newest_replay(&daemon)).then_some(()));
    assert_eq!(numbers(&table), all);
    assert!(read_table(&table).iter().all(|row| row["day"].is_string() && row.get("_rescued").is_none()));
    let listed = daemon.get("/admin/v1/streams/t/files?limit=1000").json();
    let mut registered: Vec<_> = listed["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| home.path().join("data/tables").join(file["object"].as_str().unwrap()))
        .collect();
    registered.sort();
    assert_eq!(registered, parquet_files(&table), "no unregistered file remains");
    let counts = daemon.get("/admin/v1/streams/t").json()["rows"].clone();
    assert_eq!((&counts["stored"], &counts["rescued"]), (&json!(rows + 1), &json!(0)));
    assert_eq!(std::fs::read_dir(home.path().join("data/staged/replay")).unwrap().count(), 0);
    let hidden = Command::new("find").arg(&table).args(["-name", ".*.new"]).output().unwrap();
    assert!(hidden.stdout.is_empty(), "{hidden:?}");
    println!("{kills} kills");
}

/// The log and the archive together hold every request once, whenever the daemon is killed.
#[test]
fn consumed_requests_are_in_log_or_archive_after_any_kill() {
    const SMALL: &str = "[limits]\nbody_max = \"256KiB\"\ndecoded_max = \"512KiB\"\n[wal]\nsegment_bytes = \"1MiB\"\nprepared_segments = 2\n";
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let mut random = fastrand::Rng::with_seed(setting("FOREBAY_CRASH_SEED", fastrand::u64(..)));
    let pad = "x".repeat(100_000);
    let mut sent = 0_u64;
    for _ in 0..setting("FOREBAY_CRASH_ROUNDS", ROUNDS as u64) {
        let daemon = Setup::dev(SMALL).start_at(home.path());
        for _ in 0..25 {
            let body = format!("{{\"n\":{sent},\"pad\":\"{pad}\"}}\n");
            assert_eq!(daemon.post("name=t", body).status, 202);
            sent += 1;
        }
        assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
        std::thread::sleep(Duration::from_millis(random.u64(0..60)));
        daemon.kill();
    }
    let daemon = Setup::dev(SMALL).start_at(home.path());
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    let archive = eventually("archiving", || {
        let archive = daemon.get("/admin/v1/wal").json()["archive"].clone();
        (archive["waiting"] == 0).then_some(archive)
    });
    assert_eq!(archive["dropped"]["last_lsn"], 0, "{archive}");
    assert!(archive["segments"].as_u64() > Some(5), "{archive}");
    assert!(daemon.stop().status.success());
    let names = std::fs::read_dir(data.join("archive")).unwrap().flatten().map(|entry| entry.file_name());
    let unfinished: Vec<_> = names.filter(|name| name.to_string_lossy().contains("tmp")).collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
    let forebay = |command: &str| {
        let mut forebay = Command::new(env!("CARGO_BIN_EXE_forebay"));
        forebay.args(["wal", command]).arg(&data).args(["--json"]);
        forebay
    };
    let verified = forebay("verify").output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
    let dumped = forebay("dump").args(["--records", "--stream", "t"]).output().unwrap();
    let dumped = String::from_utf8(dumped.stdout).unwrap();
    let mut kept: Vec<u64> = dumped
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap())
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, (0..sent).collect::<Vec<_>>(), "each request once");
}
