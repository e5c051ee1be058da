//! Staged files and their register: what a failed write to the catalog leaves open, and files that are damaged before
//! they are published. Whatever happens, each acknowledged row is published once.

use crate::bucket::{Bucket, Fault};
use crate::faults::Faults;
use crate::support::{Daemon, Setup, eventually, read_table};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

const PREFIX: &str = "p";

/// Numbers in the rows of the table in the bucket, in their order.
fn numbers(bucket: &Bucket) -> Vec<u64> {
    let rows = read_table(&bucket.dir(PREFIX).join("visits"));
    rows.iter().map(|row| row["n"].as_u64().unwrap()).collect()
}

fn publish(daemon: &Daemon) {
    let published = daemon.admin_post("/admin/v1/publish");
    assert_eq!(published.status, 200, "{}", published.text());
}

/// Sends rows with these numbers, one request each, and waits until each is durable.
fn send(daemon: &Daemon, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let response = daemon.post("name=visits&wait=true", format!("{{\"n\":{n},\"city\":\"Chicago\"}}"));
        assert_eq!(response.status, 200, "{}", response.text());
    }
}

fn staged(daemon: &Daemon) -> Vec<Value> {
    let staged = daemon.get("/admin/v1/staged");
    if staged.status == 200 { staged.json()["staged"].as_array().unwrap().clone() } else { Vec::new() }
}

/// A commit that registers files fails in this way, the compactor starts again, and the process is killed. SQLite may
/// find the commit in its log then, or not.
#[track_caller]
fn assert_rows_survive(fault: &str) {
    let (bucket, faults, home) = (Bucket::start(), Faults::none(), tempfile::tempdir().unwrap());
    // Not published before the end, and no other write to the catalog comes in between.
    bucket.set(Fault::Stalled);
    let config = format!("[compactor]\nmax_idle = \"4s\"\n{}", bucket.config(PREFIX));
    let daemon = faults.on(Setup::dev(&config)).start_at(home.path());
    send(&daemon, 0..1);
    eventually("an attempt", || (bucket.puts() == 1).then_some(()));
    faults.begin(fault);
    send(&daemon, 1..51);
    eventually("a restart of the compactor", || {
        (daemon.metric("forebay_compactor_restarts_total") >= 1.0).then_some(())
    });
    // Before the same rows are registered again.
    let deadline = Instant::now() + Duration::from_secs(2);
    while staged(&daemon).len() != 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    if fault == "catalog-sync-fails" {
        let log = daemon.log();
        let said = log.lines().find(|line| line.contains("the compactor failed")).expect("it is said");
        assert!(said.contains("catalog.db"), "{said}");
        assert!(!files(&home.path().join("data/staged")).is_empty(), "nothing is removed on doubt");
    }
    daemon.kill();
    faults.end_all();
    bucket.set(Fault::None);
    let daemon = Setup::dev(&config).start_at(home.path());
    publish(&daemon);
    assert_eq!(numbers(&bucket), (0..51).collect::<Vec<u64>>());
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).collect()
}

#[test]
fn rows_survive_a_failed_sync_of_the_commit_that_registers_them() {
    assert_rows_survive("catalog-sync-fails-once");
}

#[test]
fn rows_survive_a_failed_write_of_the_commit_that_registers_them() {
    assert_rows_survive("catalog-write-fails-once");
}

#[test]
fn rows_survive_a_catalog_that_cannot_be_synced_any_more() {
    assert_rows_survive("catalog-sync-fails");
}

#[test]
fn files_of_a_commit_that_failed_and_is_in_the_catalog_are_published_without_a_restart() {
    let (bucket, faults) = (Bucket::start(), Faults::none());
    bucket.set(Fault::Stalled);
    let config = format!("[compactor]\nmax_idle = \"1s\"\n{}", bucket.config(PREFIX));
    let daemon = faults.on(Setup::dev(&config)).start();
    send(&daemon, 0..1);
    eventually("an attempt", || (bucket.puts() == 1).then_some(()));
    // The file that is on its way waits for minutes; those behind it do not.
    faults.begin("catalog-sync-fails-once");
    bucket.set(Fault::None);
    send(&daemon, 1..51);
    eventually("the rows", || (numbers(&bucket) == (1..51).collect::<Vec<u64>>()).then_some(()));
    eventually("an end", || (staged(&daemon).len() == 1).then_some(()));
}
