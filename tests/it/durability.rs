//! Disks that fail, fill up or are slow, and clocks that are wrong: nothing acknowledged is lost, and the daemon says
//! what is the matter.

use crate::support::{Daemon, Response, Setup, eventually};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A short log in small segments.
const SMALL: &str = r#"
[limits]
body_max = "256KiB"
decoded_max = "256KiB"
[wal]
segment_bytes = "1MiB"
prepared_segments = 2
disk_reserve = "1MiB"
"#;

/// `shim.c`, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shim.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-{}.so", std::process::id()));
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compile.status().unwrap().success(), "the C compiler does not take shim.c");
        library
    })
}

/// A disk that can be told to fail.
struct Disk {
    home: tempfile::TempDir,
    config: String,
}

impl Disk {
    fn new(config: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), config: config.to_owned() }
    }

    fn start(&self) -> Daemon {
        Setup::dev(&self.config)
            .env("LD_PRELOAD", library().to_str().unwrap())
            .env("FOREBAY_SHIM", self.home.path().to_str().unwrap())
            .start_at(self.home.path())
    }

    fn set(&self, fault: &str, value: &str) {
        std::fs::write(self.home.path().join(fault), value).unwrap();
    }

    fn heal(&self, fault: &str) {
        std::fs::remove_file(self.home.path().join(fault)).unwrap();
    }
}

/// Sends rows `{"n":…}` with some padding, and remembers which were acknowledged.
#[derive(Default)]
struct Sender {
    next: u64,
    acknowledged: Vec<u64>,
}

impl Sender {
    fn send(&mut self, daemon: &Daemon, query: &str) -> Response {
        let n = self.next;
        self.next += 1;
        let body = format!("{{\"n\":{n},\"padding\":\"{}\"}}", "x".repeat(50_000));
        let response = daemon.post(query, body);
        if matches!(response.status, 200 | 202) {
            self.acknowledged.push(n);
        }
        response
    }

    /// Everything acknowledged is there, and nothing twice.
    fn check(&self, daemon: &Daemon) {
        let mut stored: Vec<u64> = daemon.rows("t").iter().map(|row| row["n"].as_u64().unwrap()).collect();
        stored.sort_unstable();
        let before = stored.len();
        stored.dedup();
        assert_eq!(stored.len(), before, "a row is stored twice");
        let lost: Vec<_> = self.acknowledged.iter().filter(|n| stored.binary_search(n).is_err()).collect();
        assert!(lost.is_empty(), "acknowledged but not stored: {lost:?}");
    }
}

#[test]
fn a_disk_that_cannot_sync_stops_the_daemon_and_loses_nothing_acknowledged() {
    let disk = Disk::new(SMALL);
    let daemon = disk.start();
    let mut sender = Sender::default();
    for query in ["name=t", "name=t&wait=true"].repeat(20) {
        assert!(sender.send(&daemon, query).status < 300);
    }
    disk.set("eio", "");
    let failed = sender.send(&daemon, "name=t&wait=true");
    assert_eq!(failed.status, 500, "{}", failed.text());
    assert!(failed.text().contains("the sync failed"), "{}", failed.text());
    let stopped = daemon.wait();
    assert_eq!(stopped.status.code(), Some(70), "{}", stopped.log);
    assert!(stopped.log.contains("a sync failed") && stopped.log.contains("poisoned"), "{}", stopped.log);
    disk.heal("eio");
    sender.check(&disk.start());
}

#[test]
fn one_failed_sync_is_made_good_in_a_new_segment() {
    let disk = Disk::new(SMALL);
    let daemon = disk.start();
    let mut sender = Sender::default();
    sender.send(&daemon, "name=t&wait=true");
    disk.set("eio", "1");
    for _ in 0..10 {
        let response = sender.send(&daemon, "name=t&wait=true");
        assert_eq!(response.status, 200, "{}", response.text());
    }
    assert!(daemon.log().contains("are now, in a new segment"), "{}", daemon.log());
    assert_eq!(daemon.metric("forebay_wal_sync_errors_total").to_string(), "1");
    daemon.kill();
    disk.heal("eio");
    sender.check(&disk.start());
}

#[test]
fn a_full_disk_refuses_and_takes_requests_again_by_itself() {
    let disk = Disk::new(SMALL);
    let daemon = disk.start();
    let mut sender = Sender::default();
    sender.send(&daemon, "name=t&wait=table");
    disk.set("enospc", "");
    let refused = loop {
        let response = sender.send(&daemon, "name=t&wait=true");
        if response.status != 200 {
            break response;
        }
        assert!(sender.next < 500, "segments come from nowhere");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some() && refused.text().contains("disk"), "{refused:?}");
    let ready = daemon.get("/readyz");
    assert_eq!((ready.status, ready.json()["reason"].as_str()), (503, Some("disk full")));
    assert_eq!(daemon.get("/healthz").status, 200, "a restart would not help");
    assert!(daemon.metric("forebay_http_refusals_total") >= 1.0);
    disk.heal("enospc");
    eventually("accepting", || (sender.send(&daemon, "name=t&wait=true").status == 200).then_some(()));
    eventually("readiness", || (daemon.get("/readyz").status == 200).then_some(()));
    sender.check(&daemon);
    daemon.kill();
    sender.check(&disk.start());
}

#[test]
fn a_full_log_refuses_and_takes_requests_again_by_itself() {
    // The destination is not there, and nothing would be cut for an hour.
    let disk = Disk::new(&format!(
        "{SMALL}max_bytes = \"6MiB\"\n[compactor]\nmax_age = \"1h\"\nmax_idle = \"off\"\n"
    ));
    let daemon = disk.start();
    let mut sender = Sender::default();
    // Files are cut early rather than requests refused, however much comes.
    for _ in 0..400 {
        eventually("accepting", || (sender.send(&daemon, "name=t").status == 202).then_some(()));
    }
    assert!(daemon.get("/admin/v1/wal").json()["log_bytes"].as_u64().unwrap() <= 6 << 20);
    // Now files cannot be written either: the log fills.
    disk.set("enospc", "");
    let refused = eventually("refusal", || Some(sender.send(&daemon, "name=t")).filter(|r| r.status == 503));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    disk.heal("enospc");
    eventually("accepting", || (sender.send(&daemon, "name=t").status == 202).then_some(()));
    sender.check(&daemon);
}

#[test]
fn a_sync_that_takes_long_is_answered_in_time() {
    let disk = Disk::new("");
    let daemon = disk.start();
    disk.set("slow", "13000");
    let response = daemon.post("name=t&wait=true", r#"{"n":1}"#);
    assert_eq!((response.status, response.header("forebay-durable")), (202, Some("false")), "{response:?}");
    disk.heal("slow");
    assert_eq!(daemon.rows("t").len(), 1);
}

#[test]
fn a_clock_that_goes_back_changes_no_order_and_loses_nothing() {
    let disk = Disk::new(SMALL);
    let daemon = disk.start();
    let mut sender = Sender::default();
    let days = |days: i64| (days * 86_400).to_string();
    for offset in [0, -1, 2, -400, 0] {
        disk.set("clock", &days(offset));
        assert_eq!(sender.send(&daemon, "name=t&wait=true").status, 200);
    }
    disk.set("clock", &days(-30));
    daemon.kill();
    let daemon = disk.start();
    assert_eq!(sender.send(&daemon, "name=t&wait=table").status, 200);
    sender.check(&daemon);
    let rows = daemon.rows("t");
    let order: Vec<&Value> = rows.iter().map(|row| &row["n"]).collect();
    assert_eq!(order, [&json!(0), &json!(1), &json!(2), &json!(3), &json!(4), &json!(5)]);
    let dates: Vec<&str> = rows.iter().map(|row| &row["_received_at"].as_str().unwrap()[..10]).collect();
    assert!(dates[1] < dates[0] && dates[3] < dates[1], "{dates:?}");
}
