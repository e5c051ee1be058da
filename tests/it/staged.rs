//! Staged files and their register: what a failed write to the catalog leaves open, and files that are damaged before
//! they are published. Whatever happens, each acknowledged row is published once.

use crate::bucket::{Bucket, Fault};
use crate::faults::Faults;
use crate::support::{Daemon, Setup, eventually, read_table, request};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
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
    send(&daemon, 1..51);
    // After the log has been idle for a second, the catalog notes how far it is durable: a commit of its own.
    std::thread::sleep(Duration::from_secs(2));
    faults.begin(fault);
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

fn files(dir: &Path) -> Vec<PathBuf> {
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

/// What happens to a staged file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Deleted,
    CutShort,
    BitFlipped,
}

const HARMS: [Harm; 3] = [Harm::Deleted, Harm::CutShort, Harm::BitFlipped];

impl Harm {
    fn befall(self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        match self {
            Self::Deleted => return std::fs::remove_file(path).unwrap(),
            Self::CutShort => bytes.truncate(bytes.len() / 2),
            Self::BitFlipped => bytes[20] ^= 4,
        }
        std::fs::write(path, bytes).unwrap();
    }
}

/// A bucket that is away, and a data directory with staged files for it.
struct Waiting {
    bucket: Bucket,
    home: tempfile::TempDir,
}

const ROWS: u64 = 60;

impl Waiting {
    fn new() -> Self {
        let waiting = Self { bucket: Bucket::start(), home: tempfile::tempdir().unwrap() };
        waiting.bucket.set(Fault::Down);
        waiting
    }

    fn setup(&self) -> Setup {
        let config = format!("[compactor]\nmax_idle = \"50ms\"\n{}", self.bucket.config(PREFIX));
        Setup::dev(&config).env("FOREBAY_SERVER__DRAIN_TIMEOUT", "100ms")
    }

    fn data(&self, name: &str) -> PathBuf {
        self.home.path().join("data").join(name)
    }

    /// Stages all rows.
    fn staged(&self, daemon: &Daemon) -> Vec<PathBuf> {
        send(daemon, 0..ROWS);
        let rows = |file: &Value| file["rows"].as_u64().unwrap();
        eventually("all rows in staged files", || {
            (staged(daemon).iter().map(rows).sum::<u64>() == ROWS).then_some(())
        });
        files(&self.data("staged"))
    }

    /// Starts again, so that the staged rows are in the archive and no longer in the log.
    fn archived(&self) -> Daemon {
        let daemon = self.setup().start_at(self.home.path());
        eventually("archiving", || {
            let log = daemon.get("/admin/v1/wal").json();
            let archive = &log["archive"];
            let done = archive["waiting"] == 0 && archive["segments"].as_u64() > Some(0);
            done.then_some(())
        });
        daemon
    }

    #[track_caller]
    fn assert_published(&self, daemon: &Daemon) {
        self.bucket.set(Fault::None);
        publish(daemon);
        assert_eq!(numbers(&self.bucket), (0..ROWS).collect::<Vec<u64>>());
        let rows = read_table(&self.bucket.dir(PREFIX).join("visits"));
        assert!(rows.iter().all(|row| row["city"] == "Chicago"), "the values are right");
    }
}

/// A file may be on its way, read before it was damaged; the next attempt finds out.
fn wait_for_damage(daemon: &Daemon, count: usize) {
    eventually("the damage is found", || {
        (daemon.metric("forebay_compactor_damaged_files_total") >= count as f64).then_some(())
    });
}

#[test]
fn a_damaged_staged_file_is_made_anew_from_the_log() {
    for harm in HARMS {
        let waiting = Waiting::new();
        let daemon = waiting.setup().start_at(waiting.home.path());
        let files = waiting.staged(&daemon);
        for path in &files {
            harm.befall(path);
        }
        wait_for_damage(&daemon, files.len());
        waiting.assert_published(&daemon);
        let remade = daemon.metric("forebay_compactor_remade_files_total");
        assert!((remade - files.len() as f64).abs() < 0.5, "{remade} of {} after {harm:?}", files.len());
    }
}

#[test]
fn a_damaged_staged_file_is_made_anew_from_the_archive() {
    for harm in HARMS {
        let waiting = Waiting::new();
        let daemon = waiting.setup().start_at(waiting.home.path());
        let files = waiting.staged(&daemon);
        daemon.stop();
        let daemon = waiting.archived();
        for path in &files {
            harm.befall(path);
        }
        wait_for_damage(&daemon, files.len());
        waiting.assert_published(&daemon);
        assert_eq!(daemon.get("/admin/v1/wal").json()["losses"], json!([]));
    }
}

/// Stages rows, damages their files, and what the archive has of them in this way. Returns the daemon that finds it.
fn lost(waiting: &Waiting, harm: Harm, archive: impl Fn(&Path)) -> (Daemon, Value) {
    let daemon = waiting.setup().start_at(waiting.home.path());
    let files = waiting.staged(&daemon);
    let registered = staged(&daemon);
    daemon.stop();
    waiting.archived().stop();
    for path in &files {
        harm.befall(path);
    }
    for path in self::files(&waiting.data("archive")) {
        archive(&path);
    }
    // Kept to be reused; without this the next start would find the frames in it.
    drop(std::fs::remove_file(waiting.data("wal/0000000000000001.wal")));
    waiting.bucket.set(Fault::None);
    let daemon = waiting.setup().start_at(waiting.home.path());
    let numbers = |name: &str| registered.iter().map(|file| file[name].as_u64().unwrap()).collect::<Vec<_>>();
    let expected =
        json!({"first": numbers("first_lsn").iter().min(), "last": numbers("last_lsn").iter().max()});
    (daemon, expected)
}

#[track_caller]
fn assert_lost(waiting: &Waiting, daemon: &Daemon, expected: &Value) {
    publish(daemon);
    let losses = daemon.get("/admin/v1/wal").json()["losses"].clone();
    let losses = losses.as_array().unwrap();
    assert!(losses.iter().all(|loss| loss["reason"] == "staged"), "{losses:?}");
    let numbers = |name: &str| losses.iter().map(|loss| loss[name].as_u64().unwrap()).collect::<Vec<_>>();
    let range = json!({"first": numbers("first").iter().min(), "last": numbers("last").iter().max()});
    assert_eq!(range, *expected, "{losses:?}");
    assert!((daemon.metric("forebay_compactor_lost_rows_total") - ROWS as f64).abs() < 0.5);
    assert!(daemon.log().contains("they are lost"));
    // The table goes on without them.
    send(daemon, 100..101);
    publish(daemon);
    assert_eq!(self::numbers(&waiting.bucket), [100]);
    assert!(staged(daemon).is_empty());
}

#[test]
fn a_damaged_staged_file_that_neither_log_nor_archive_has_is_lost_by_number() {
    for harm in HARMS {
        let waiting = Waiting::new();
        let (daemon, expected) = lost(&waiting, harm, |path| std::fs::remove_file(path).unwrap());
        assert_lost(&waiting, &daemon, &expected);
        let aside = waiting.data("staged/aside");
        let kept = if aside.is_dir() { files(&aside).len() } else { 0 };
        assert_eq!(kept > 0, !matches!(harm, Harm::Deleted), "what is left of them is kept");
    }
}

#[test]
fn a_flipped_bit_in_the_archive_is_not_published() {
    let waiting = Waiting::new();
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[200] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let (daemon, expected) = lost(&waiting, Harm::BitFlipped, flip);
    assert_lost(&waiting, &daemon, &expected);
    assert!(daemon.log().contains("cannot decompress archived segment"));
}

#[test]
fn a_replay_names_the_range_that_a_flipped_bit_in_the_archive_costs() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(home.path());
    send(&daemon, 0..20);
    let before = daemon.rows("visits");
    daemon.stop();
    let daemon = Setup::dev("").start_at(home.path());
    let archive = home.path().join("data/archive");
    eventually("archiving", || {
        let archive = &daemon.get("/admin/v1/wal").json()["archive"];
        (archive["waiting"] == 0 && archive["segments"] == 1).then_some(())
    });
    let archived = files(&archive).pop().unwrap();
    let mut bytes = std::fs::read(&archived).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&archived, bytes).unwrap();
    let asked = json!({"stream": "visits", "from": "2020-01-01"}).to_string();
    let asked = request(daemon.admin, "POST", "/admin/v1/replay", &[], asked.as_bytes()).json();
    let replay = eventually("the replay's end", || {
        let replay = daemon.get(&format!("/admin/v1/replay/{}", asked["id"])).json();
        (replay["state"] == "failed").then_some(replay)
    });
    let error = replay["error"].as_str().unwrap();
    let lsn = |row: &Value| row["_lsn"].to_string();
    assert!(error.contains(&lsn(&before[0])) && error.contains("cannot decompress"), "{error}");
    assert_eq!(daemon.rows("visits"), before, "the files stay as they are");
}

#[test]
fn a_staged_file_that_cannot_be_read_for_a_while_is_published_in_the_end() {
    let (waiting, faults) = (Waiting::new(), Faults::none());
    let daemon = faults.on(waiting.setup()).start_at(waiting.home.path());
    waiting.staged(&daemon);
    faults.begin("staged-unreadable");
    wait_for_damage(&daemon, 1);
    waiting.bucket.set(Fault::None);
    wait_for_damage(&daemon, 3);
    assert_eq!(daemon.get("/readyz").status, 200, "the daemon lives");
    assert!(numbers(&waiting.bucket).is_empty());
    faults.end("staged-unreadable");
    waiting.assert_published(&daemon);
}

#[test]
fn a_bucket_that_confirms_and_stores_nothing_or_something_else_is_not_believed() {
    for (fault, said) in [
        (Fault::StoresNothing, "has no such object"),
        (Fault::StoresOther, "the object has other content"),
        (Fault::ChangesBody, "Internal Server Error"),
    ] {
        let waiting = Waiting::new();
        let daemon = waiting.setup().start_at(waiting.home.path());
        waiting.staged(&daemon);
        waiting.bucket.set(fault);
        eventually("the error", || {
            let error = staged(&daemon)[0]["last_error"].as_str()?.to_owned();
            error.contains(said).then_some(())
        });
        assert!(!staged(&daemon).is_empty(), "{fault:?}");
        waiting.assert_published(&daemon);
    }
}

#[test]
fn a_bucket_that_refuses_checksums_is_sent_none() {
    let waiting = Waiting::new();
    let daemon = waiting.setup().start_at(waiting.home.path());
    waiting.staged(&daemon);
    waiting.bucket.set(Fault::RefusesChecksums);
    publish(&daemon);
    assert_eq!(numbers(&waiting.bucket), (0..ROWS).collect::<Vec<u64>>());
    let log = daemon.log();
    assert_eq!(log.matches("the destination refuses checksums").count(), 1, "it is said once");
}
