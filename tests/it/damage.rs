//! Logs that were torn, rotten, cut short or mixed up: what can be read is stored, what cannot is kept and said.

use crate::support::{Daemon, Setup};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Segments of a few requests each, and files that nobody asks for.
const CONFIG: &str = r#"
[limits]
body_max = "256KiB"
decoded_max = "256KiB"
[wal]
segment_bytes = "1MiB"
disk_reserve = "1MiB"
[compactor]
max_idle = "off"
"#;
const ROWS: u64 = 60;

/// A frame as `forebay wal dump --json` shows it.
struct Frame {
    file: PathBuf,
    offset: usize,
    bytes: usize,
    n: u64,
}

/// A log of rows `{"n":0}`, `{"n":1}`, … in several segments, each in a request of its own, synced, and in no file yet.
struct Log {
    home: tempfile::TempDir,
    frames: Vec<Frame>,
}

impl Log {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let daemon = Setup::dev(CONFIG).start_at(home.path());
        for n in 0..ROWS {
            let body = format!("{{\"n\":{n},\"padding\":\"{}\"}}", "x".repeat(60_000));
            assert_eq!(daemon.post("name=t&wait=true", body).status, 200);
        }
        daemon.kill();
        let frames = frames(home.path());
        assert_eq!(frames.len() as u64, ROWS);
        Self { home, frames }
    }

    fn wal(&self) -> PathBuf {
        self.home.path().join("data/wal")
    }

    fn start(&self) -> Daemon {
        Setup::dev(CONFIG).start_at(self.home.path())
    }

    /// Starts, and compares what is stored with everything but the rows `lost`.
    fn check(&self, lost: &[u64]) -> Daemon {
        let daemon = self.start();
        let stored: Vec<u64> = daemon.rows("t").iter().map(|row| row["n"].as_u64().unwrap()).collect();
        let expected: Vec<u64> = (0..ROWS).filter(|n| !lost.contains(n)).collect();
        assert_eq!(stored, expected);
        // It goes on as if nothing had happened.
        let response = daemon.post("name=t&wait=table", r#"{"n":1000}"#);
        assert_eq!(response.status, 200, "{}", response.text());
        daemon
    }

    fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(file).unwrap();
        change(&mut bytes);
        std::fs::write(file, bytes).unwrap();
    }

    /// Rows whose frames are in the segment of row `n`.
    fn beside(&self, n: usize) -> Vec<u64> {
        let file = &self.frames[n].file;
        self.frames.iter().filter(|frame| frame.file == *file).map(|frame| frame.n).collect()
    }
}

fn frames(home: &Path) -> Vec<Frame> {
    let mut dump = Command::new(env!("CARGO_BIN_EXE_forebay"));
    dump.args(["wal", "dump", "--json"]).arg(home.join("data")).stderr(Stdio::inherit());
    let output = dump.output().unwrap();
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let frames = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let data = frames.filter(|frame| frame["kind"] == "DATA").enumerate();
    data.map(|(n, frame)| Frame {
        file: home.join("data/wal").join(frame["file"].as_str().unwrap()),
        offset: number(&frame["offset"]),
        bytes: number(&frame["bytes"]),
        n: n as u64,
    })
    .collect()
}

#[test]
fn a_flipped_byte_costs_the_request_it_is_in_and_is_reported() {
    let log = Log::new();
    let victim = &log.frames[5];
    assert_ne!(victim.file, log.frames.last().unwrap().file, "it is in a sealed segment");
    Log::change(&victim.file, |bytes| bytes[victim.offset + 40 + victim.bytes / 2] ^= 0x40);
    let daemon = log.check(&[5]);
    assert_eq!(daemon.metric("forebay_compactor_corrupt_frames_total").to_string(), "1");
    assert!(daemon.log().contains("frames that were durable cannot be read"), "{}", daemon.log());
    // The bytes are kept.
    let quarantine = std::fs::read_dir(log.wal().join("quarantine")).unwrap();
    let kept: Vec<_> = quarantine.map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert!(kept.iter().any(|len| *len > 60_000), "{kept:?}");
}

#[test]
fn a_damaged_frame_header_costs_no_more_than_its_frame() {
    let log = Log::new();
    for n in [0, 7, 8] {
        let victim = &log.frames[n];
        // The length, the number, the kind.
        Log::change(&victim.file, |bytes| bytes[victim.offset + [0, 8, 36][n % 3]] ^= 0x11);
    }
    let daemon = log.check(&[0, 7, 8]);
    assert_eq!(daemon.metric("forebay_compactor_corrupt_frames_total").to_string(), "3");
}

#[test]
fn a_torn_tail_ends_the_log_where_it_is_torn() {
    let log = Log::new();
    let last = log.frames.last().unwrap();
    // What a power loss leaves of a request that was never synced: its end is zeros.
    Log::change(&last.file, |bytes| bytes[last.offset + 40 + last.bytes / 2..].fill(0));
    log.check(&[ROWS - 1]);
}

#[test]
fn a_missing_segment_is_missed() {
    let log = Log::new();
    let lost = log.beside(20);
    std::fs::remove_file(&log.frames[20].file).unwrap();
    let daemon = log.check(&lost);
    let missing = daemon.get("/admin/v1/wal").json()["recovery"]["missing"].clone();
    assert_eq!(missing.as_array().unwrap().len(), 1, "{missing}");
    assert!(daemon.log().contains("their segment is not there"), "{}", daemon.log());
}

#[test]
fn a_segment_that_was_cut_short_gives_what_is_left_of_it() {
    let log = Log::new();
    let cut = &log.frames[20];
    let of_segment = log.beside(20);
    Log::change(&cut.file, |bytes| bytes.truncate(cut.offset + 100));
    let lost: Vec<u64> = of_segment.into_iter().filter(|n| *n >= 20).collect();
    log.check(&lost);
}

#[test]
fn files_of_others_in_the_log_stay_where_they_are() {
    let log = Log::new();
    let others = ["notes.txt", "0000000000009999.wal", "1.wal", "0000000000000001.wal.bak"];
    for name in others {
        std::fs::write(log.wal().join(name), "not a segment").unwrap();
    }
    let daemon = log.check(&[]);
    let foreign = daemon.get("/admin/v1/wal").json()["recovery"]["foreign"].clone();
    assert_eq!(foreign.as_array().unwrap().len(), others.len(), "{foreign}");
    for name in others {
        assert_eq!(std::fs::read_to_string(log.wal().join(name)).unwrap(), "not a segment");
    }
}

/// What a start says that does not come to be.
fn refused(home: &Path) -> String {
    let output = Setup::dev(CONFIG).command(home).stdout(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_segment_of_a_newer_format_stops_the_start_and_is_not_touched() {
    let log = Log::new();
    let newer = &log.frames[0].file;
    Log::change(newer, |bytes| bytes[8] = 2);
    let before = std::fs::read(newer).unwrap();
    let error = refused(log.home.path());
    assert!(
        error.contains("segment format 2 is newer than 1") && error.contains("move the file away"),
        "{error}"
    );
    assert_eq!(std::fs::read(newer).unwrap(), before);
    Log::change(newer, |bytes| bytes[8] = 1);
    log.check(&[]);
}

#[test]
fn a_segment_of_another_log_stops_the_start() {
    let (log, other) = (Log::new(), Log::new());
    let name = Path::new("0000000000000777.wal");
    let foreign = &other.frames[0].file;
    std::fs::copy(foreign, log.wal().join(name)).unwrap();
    // Its header says another id than its name: nobody can say what it is, so it is put aside and kept.
    let daemon = log.check(&[]);
    assert_eq!(
        daemon.get("/admin/v1/wal").json()["recovery"]["quarantined"],
        json!([name.to_str().unwrap()])
    );
    drop(daemon);
    let log = Log::new();
    let last = log.frames.last().unwrap().file.clone();
    std::fs::copy(other.wal().join(last.file_name().unwrap()), &last).unwrap();
    let error = refused(log.home.path());
    assert!(error.contains("belongs to another log"), "{error}");
}

#[test]
fn a_catalog_that_cannot_be_read_stops_the_start() {
    let log = Log::new();
    let catalog = log.home.path().join("data/catalog.db");
    let good = std::fs::read(&catalog).unwrap();
    std::fs::remove_file(log.home.path().join("data/catalog.db-wal")).unwrap();
    std::fs::write(&catalog, "this is no database, and long enough to be looked at as one".repeat(100))
        .unwrap();
    let error = refused(log.home.path());
    assert!(error.contains("catalog.db cannot be used"), "{error}");
    assert!(!good.is_empty());
}

#[test]
fn what_a_crash_left_in_staging_is_cleared_away() {
    let log = Log::new();
    let staged = log.home.path().join("data/staged");
    for name in ["left.parquet", "unfinished/half.tmp"] {
        std::fs::write(staged.join(name), "half a file").unwrap();
    }
    log.check(&[]);
    assert!(!staged.join("left.parquet").exists() && !staged.join("unfinished/half.tmp").exists());
}

#[test]
fn a_destination_that_cannot_be_written_blocks_nobody() {
    let home = tempfile::tempdir().unwrap();
    let tables = home.path().join("lake");
    let config = format!("{CONFIG}[destination]\nurl = \"file://{}\"\n", tables.display());
    let config = config.replace("max_idle = \"off\"", "max_idle = \"20ms\"");
    let daemon = Setup::dev(&config).start_at(home.path());
    // A file where the table's directory would be.
    std::fs::write(tables.join("a"), "in the way").unwrap();
    for stream in ["a", "b"] {
        assert_eq!(daemon.post(&format!("name={stream}&wait=true"), r#"{"n":1}"#).status, 200);
    }
    assert_eq!(daemon.post("name=b&wait=table", r#"{"n":2}"#).status, 200, "b is published");
    let staged = crate::support::eventually("a staged file with its error", || {
        let staged = daemon.get("/admin/v1/staged").json()["staged"].clone();
        staged[0]["last_error"].is_string().then_some(staged)
    });
    assert_eq!((staged.as_array().unwrap().len(), &staged[0]["stream"]), (1, &json!("a")), "{staged}");
    std::fs::remove_file(tables.join("a")).unwrap();
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    assert_eq!(crate::support::read_table(&tables.join("a")).len(), 1);
}
