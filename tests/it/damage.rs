//! A damaged data directory: readable data is stored, unreadable data is quarantined and reported, and unknown files
//! are not touched.

use crate::support::{Daemon, Setup, eventually};
use forebay::wal::inspect::{SegmentEntry, SegmentFile, list};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Small segments; files are written only on request.
pub const CONFIG: &str = r#"
[limits]
body_max = "256KiB"
decoded_max = "512KiB"
[wal]
segment_bytes = "1MiB"
prepared_segments = 1
sync_interval = "10ms"
[compactor]
max_age = "1h"
max_idle = "off"
"#;
const REQUESTS: u64 = 40;

/// A log of several segments whose rows are not in files yet.
struct Log {
    dir: TempDir,
    config: String,
    /// The receipt of each request, whose row holds the index of the request.
    receipts: Vec<u64>,
}

/// The frame of a request.
struct Place {
    offset: u64,
    lsn: u64,
    bytes: u64,
}

impl Log {
    /// Sends requests of about 100 KB, synced, and kills the daemon.
    fn written() -> Self {
        Self::with(CONFIG.to_owned(), REQUESTS)
    }

    fn with(config: String, requests: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Setup::dev(&config).start_at(dir.path());
        let pad = "x".repeat(100_000);
        let receipts = (0..requests).map(|number| {
            let wait = if number + 1 == requests { "&wait=true" } else { "" };
            let row = json!({"number": number, "pad": pad}).to_string();
            let response = daemon.post(&format!("name=visits{wait}"), row);
            assert!(response.status < 300, "{}", response.text());
            response.receipt()
        });
        let receipts = receipts.collect();
        drop(daemon.kill());
        let log = Self { dir, config, receipts };
        assert!(log.segments().len() >= 3, "{:?}", log.segments());
        log
    }

    fn wal(&self) -> PathBuf {
        self.dir.path().join("data/wal")
    }

    /// The segments with requests, oldest first.
    fn segments(&self) -> Vec<PathBuf> {
        let mut segments = list(&self.wal()).unwrap();
        segments.retain(|path| !frames(path).is_empty());
        segments.sort_by_key(|path| frames(path)[0].lsn);
        segments
    }

    fn start(&self) -> Daemon {
        Setup::dev(&self.config).start_at(self.dir.path())
    }

    /// The numbers of the requests with these receipts.
    fn numbers(&self, lsns: &[u64]) -> BTreeSet<u64> {
        (0..self.receipts.len() as u64)
            .filter(|number| lsns.contains(&self.receipts[usize::try_from(*number).unwrap()]))
            .collect()
    }

    /// Asserts that every row is stored once, except those of these requests.
    #[track_caller]
    fn assert_stored_but(&self, daemon: &Daemon, lost: &[u64]) {
        let rows: Vec<u64> =
            daemon.rows("visits").iter().map(|row| row["number"].as_u64().unwrap()).collect();
        let lost = self.numbers(lost);
        let expected: Vec<u64> =
            (0..self.receipts.len() as u64).filter(|number| !lost.contains(number)).collect();
        assert_eq!(rows, expected, "rows must be in order, and all there except {lost:?}");
    }

    /// Asserts that another start and stop changes and repeats nothing.
    #[track_caller]
    fn assert_settled(&self, daemon: Daemon, lost: &[u64]) {
        // Later requests get LSNs above everything that was lost.
        let later = daemon.post("name=later&wait=true", "{\"a\":1}");
        assert_eq!(later.status, 200);
        assert!(later.receipt() > *self.receipts.last().unwrap());
        assert!(daemon.stop().status.success());
        let again = self.start();
        let recovery = recovery(&again);
        assert_eq!((&recovery["missing"], &recovery["torn"]), (&json!([]), &json!([])), "{recovery}");
        self.assert_stored_but(&again, lost);
        assert_eq!(again.rows("later").len(), 1);
        assert!(metric(&again, "corrupt_frames") < 1.0, "earlier losses must not be reported again");
    }
}

/// The frames of the requests in a segment.
fn frames(path: &Path) -> Vec<Place> {
    let segment = SegmentFile::read(path).unwrap();
    let data = segment.entries().filter_map(|entry| match entry {
        SegmentEntry::Frame { offset, frame }
            if frame.header.kind == forebay::wal::format::FrameKind::Data =>
        {
            Some(Place { offset, lsn: frame.header.lsn.0, bytes: frame.header.frame_bytes() as u64 })
        }
        _ => None,
    });
    data.collect()
}

fn lsns(path: &Path) -> Vec<u64> {
    frames(path).iter().map(|frame| frame.lsn).collect()
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn flip(path: &Path, offset: u64) {
    let byte = std::fs::read(path).unwrap()[usize::try_from(offset).unwrap()];
    overwrite(path, offset, &[byte ^ 0x10]);
}

fn recovery(daemon: &Daemon) -> Value {
    daemon.get("/admin/v1/wal").json()["recovery"].clone()
}

fn metric(daemon: &Daemon, name: &str) -> f64 {
    daemon.metric(&format!("forebay_compactor_{name}_total"))
}

fn put_aside(log: &Log) -> Vec<String> {
    let entries = std::fs::read_dir(log.wal().join("quarantine")).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The recorded losses: first and last LSN, and why.
fn losses(daemon: &Daemon) -> Vec<(u64, u64, String)> {
    let wal = daemon.get("/admin/v1/wal").json();
    let loss = |loss: &Value| {
        let lsn = |key: &str| loss[key].as_u64().unwrap();
        (lsn("first"), lsn("last"), loss["reason"].as_str().unwrap().to_owned())
    };
    wal["losses"].as_array().unwrap().iter().map(loss).collect()
}

/// Exit code and output of a `forebay wal` command.
fn tool(log: &Log, command: &str) -> (Option<i32>, String) {
    let mut tool = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
    let output = tool.args(["wal", command]).arg(log.dir.path().join("data")).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn range(lsns: &[u64]) -> Value {
    json!({"first": lsns[0], "last": lsns[lsns.len() - 1]})
}

#[test]
fn a_torn_tail_loses_only_the_request_being_written() {
    let log = Log::written();
    let segment = log.segments().pop().unwrap();
    let last = frames(&segment).pop().unwrap();
    // The second half of the frame never reached the disk.
    overwrite(&segment, last.offset + last.bytes / 2, &vec![0; usize::try_from(last.bytes / 2).unwrap()]);
    let daemon = log.start();
    log.assert_stored_but(&daemon, &[last.lsn]);
    assert!(metric(&daemon, "corrupt_frames") < 1.0);
    // Nothing proves that it was synced, and nothing proves that it was not.
    assert_eq!(losses(&daemon), [(last.lsn, last.lsn, "possibly acknowledged".to_owned())]);
    log.assert_settled(daemon, &[last.lsn]);
}

#[test]
fn a_flipped_byte_loses_only_its_request_and_is_reported() {
    let log = Log::written();
    let segment = &log.segments()[1];
    let frame = &frames(segment)[3];
    flip(segment, frame.offset + frame.bytes / 2);
    let daemon = log.start();
    log.assert_stored_but(&daemon, &[frame.lsn]);
    assert!((metric(&daemon, "corrupt_frames") - 1.0).abs() < 0.1);
    let said = daemon.log();
    let line =
        said.lines().find(|line| line.contains("the log is damaged")).expect("the loss must be reported");
    assert!(line.contains("\"ERROR\"") && line.contains(&frame.lsn.to_string()), "{line}");
    let lost = daemon.get("/admin/v1/wal").json()["losses"].clone();
    assert_eq!((&lost[0]["first"], &lost[0]["last"]), (&json!(frame.lsn), &json!(frame.lsn)), "{lost}");
    assert_eq!((&lost[0]["reason"], lost.as_array().unwrap().len()), (&json!("corrupt"), 1), "{lost}");
    // The damaged bytes are kept.
    let aside = put_aside(&log);
    assert_eq!(aside.len(), 1, "{aside:?}");
    let kept = std::fs::metadata(log.wal().join("quarantine").join(&aside[0])).unwrap();
    assert_eq!(kept.len(), frame.bytes);
    log.assert_settled(daemon, &[frame.lsn]);
}

#[test]
fn a_damaged_frame_header_loses_only_its_request() {
    let log = Log::written();
    let segment = &log.segments()[2];
    let frame = &frames(segment)[0];
    flip(segment, frame.offset + 4);
    let daemon = log.start();
    log.assert_stored_but(&daemon, &[frame.lsn]);
    assert!((metric(&daemon, "corrupt_frames") - 1.0).abs() < 0.1);
    log.assert_settled(daemon, &[frame.lsn]);
}

#[test]
fn an_overwritten_segment_start_loses_only_its_requests() {
    let log = Log::written();
    assert_overwritten_starts_lose(&log, &[(1, 2), (2, 8)]);
}

#[test]
fn a_long_overwritten_segment_start_does_not_lose_the_rest() {
    let log = Log::with(CONFIG.replace("\"1MiB\"", "\"4MiB\""), 90);
    assert_overwritten_starts_lose(&log, &[(1, 25)]);
}

#[track_caller]
fn assert_overwritten_starts_lose(log: &Log, beginnings: &[(usize, usize)]) {
    let segments = log.segments();
    let mut lost = Vec::new();
    for (index, n_frames) in beginnings {
        let frames = frames(&segments[*index]);
        let zeros = vec![0; usize::try_from(frames[*n_frames].offset).unwrap() - 4096];
        overwrite(&segments[*index], 4096, &zeros);
        lost.extend(frames[..*n_frames].iter().map(|frame| frame.lsn));
    }
    let daemon = log.start();
    log.assert_stored_but(&daemon, &lost);
    let counted = metric(&daemon, "corrupt_frames");
    assert!((counted - lost.len() as f64).abs() < 0.1, "{counted} of {}: {}", lost.len(), recovery(&daemon));
    log.assert_settled(daemon, &lost);
}

#[test]
fn an_unreadable_segment_is_quarantined() {
    let log = Log::written();
    let segment = &log.segments()[1];
    let lost = lsns(segment);
    overwrite(segment, 4096, &vec![0x5a; (1 << 20) - 4096]);
    let daemon = log.start();
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert_eq!(recovery(&daemon)["quarantined"], json!([name]));
    assert_eq!(put_aside(&log), [name]);
    log.assert_stored_but(&daemon, &lost);
    assert!((metric(&daemon, "corrupt_frames") - lost.len() as f64).abs() < 0.1);
    log.assert_settled(daemon, &lost);
}

#[test]
fn a_missing_segment_is_reported_and_the_others_are_stored() {
    let log = Log::written();
    let segment = &log.segments()[1];
    let lost = lsns(segment);
    std::fs::remove_file(segment).unwrap();
    let daemon = log.start();
    assert_eq!(recovery(&daemon)["missing"], json!([range(&lost)]), "{}", recovery(&daemon));
    assert!(daemon.log().contains("the log segment that held them is missing"));
    log.assert_stored_but(&daemon, &lost);
    assert!((metric(&daemon, "corrupt_frames") - lost.len() as f64).abs() < 0.1);
    log.assert_settled(daemon, &lost);
}

#[test]
fn a_segment_with_a_lost_header_loses_nothing() {
    // The generation, the magic bytes, the whole page: the frames prove themselves.
    for (offset, bytes) in [(40, vec![0xAA; 8]), (0, vec![0; 8]), (0, vec![0x5A; 4096])] {
        let log = Log::written();
        let segment = &log.segments()[1];
        overwrite(segment, offset, &bytes);
        let verified = tool(&log, "verify");
        assert_eq!(verified.0, Some(1), "{}", verified.1);
        let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
        let daemon = log.start();
        let report = recovery(&daemon);
        assert_eq!((&report["mended"], &report["quarantined"]), (&json!([name]), &json!([])), "{report}");
        assert!(daemon.log().contains("the header of a log segment was corrupted; it is rebuilt"));
        log.assert_stored_but(&daemon, &[]);
        log.assert_settled(daemon, &[]);
    }
}

#[test]
fn a_truncated_segment_yields_its_remaining_requests() {
    let log = Log::written();
    let segment = &log.segments()[1];
    let places = frames(segment);
    let cut = &places[3];
    std::fs::File::options().write(true).open(segment).unwrap().set_len(cut.offset + 100).unwrap();
    let lost: Vec<u64> = places[3..].iter().map(|place| place.lsn).collect();
    let daemon = log.start();
    log.assert_stored_but(&daemon, &lost);
    assert_eq!(metric(&daemon, "corrupt_frames").to_string(), lost.len().to_string());
    log.assert_settled(daemon, &lost);
}

#[test]
fn a_segment_of_a_newer_format_prevents_the_start_and_stays() {
    let log = Log::written();
    let segment = &log.segments()[1];
    overwrite(segment, 8, &[2, 0]);
    let before = std::fs::read(segment).unwrap();
    let refused = refused(&log);
    assert!(
        refused.contains("segment format 2 is newer") && refused.contains(segment.to_str().unwrap()),
        "{refused}"
    );
    assert_eq!(std::fs::read(segment).unwrap(), before);
    // The version that wrote the segment can read everything.
    overwrite(segment, 8, &[1, 0]);
    let daemon = log.start();
    log.assert_stored_but(&daemon, &[]);
}

/// Asserts that the daemon refuses to start. Returns its error.
fn refused(log: &Log) -> String {
    let output = Setup::dev(CONFIG).command(log.dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("events"), "it must not listen");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn unknown_files_in_the_log_are_reported_and_kept() {
    let log = Log::written();
    let names = ["0000000000000001.wal.bak", "9999999999999999.wal", "notes.txt"];
    for name in names {
        std::fs::write(log.wal().join(name), "not ours").unwrap();
    }
    std::fs::create_dir(log.wal().join("lost+found")).unwrap();
    let daemon = log.start();
    let foreign = recovery(&daemon)["foreign"].clone();
    assert_eq!(foreign, json!([names[0], names[1], "lost+found", names[2]]));
    log.assert_stored_but(&daemon, &[]);
    log.assert_settled(daemon, &[]);
    for name in names {
        assert_eq!(std::fs::read(log.wal().join(name)).unwrap(), b"not ours", "{name}");
    }
}

#[test]
fn a_segment_of_another_log_prevents_the_start() {
    let (log, other) = (Log::written(), Log::written());
    std::fs::copy(&other.segments()[0], log.wal().join("0000000000000099.wal")).unwrap();
    // Under a different file number, the segment counts as damaged; under its own, as one of another log.
    let name = other.segments()[1].file_name().unwrap().to_owned();
    std::fs::copy(&other.segments()[1], log.wal().join(name)).unwrap();
    let said = refused(&log);
    assert!(said.contains("another log"), "{said}");
}

#[test]
fn a_damaged_catalog_prevents_the_start_and_stays() {
    let log = Log::written();
    let catalog = log.dir.path().join("data/catalog.db");
    // Moves everything into the main database file, as a clean stop does.
    let open = rusqlite::Connection::open(&catalog).unwrap();
    open.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    drop(open);
    let good = std::fs::read(&catalog).unwrap();
    let mut bad = good.clone();
    bad[..4096].fill(0x5a);
    std::fs::write(&catalog, &bad).unwrap();
    let said = refused(&log);
    assert!(said.contains("catalog") && said.contains(catalog.to_str().unwrap()), "{said}");
    assert_eq!(std::fs::read(&catalog).unwrap(), bad);
    std::fs::write(&catalog, &good).unwrap();
    let daemon = log.start();
    log.assert_stored_but(&daemon, &[]);
}

#[test]
fn files_left_incomplete_by_a_crash_are_replaced() {
    let log = Log::written();
    let staged = log.dir.path().join("data/staged");
    std::fs::write(staged.join("0123456789abcdef0123456789abcdef.parquet"), "PAR1 half").unwrap();
    std::fs::write(staged.join("unfinished/0123.tmp"), "PAR1 ha").unwrap();
    let daemon = log.start();
    log.assert_stored_but(&daemon, &[]);
    log.assert_settled(daemon, &[]);
}

#[test]
fn a_truncated_staged_file_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let tables = dir.path().join("data/tables");
    std::fs::create_dir_all(&tables).unwrap();
    std::fs::write(tables.join("visits"), "in the way").unwrap();
    let setup = || Setup::dev("").env("FOREBAY_SERVER__DRAIN_TIMEOUT", "100ms");
    let daemon = setup().start_at(dir.path());
    for number in 0..100 {
        assert_eq!(daemon.post("name=visits", json!({"number": number}).to_string()).status, 202);
    }
    eventually("a staged file", || {
        let staged = daemon.get("/admin/v1/staged").json();
        (!staged["staged"].as_array().unwrap().is_empty()).then_some(())
    });
    daemon.stop();
    let staged = std::fs::read_dir(dir.path().join("data/staged")).unwrap().flatten();
    let file = staged.map(|entry| entry.path()).find(|path| path.extension().is_some()).unwrap();
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() / 2]).unwrap();
    std::fs::remove_file(tables.join("visits")).unwrap();

    let daemon = setup().start_at(dir.path());
    assert_eq!(daemon.rows("visits").len(), 100);
    let said = daemon.log();
    assert!(said.contains(&format!("instead of {}", good.len())), "{said}");
    assert!(said.contains("made a staged file anew"), "{said}");
}

/// A log whose daemon was idle for long enough to note how far it was durable, before it was killed.
fn idle_log() -> Log {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev(CONFIG).start_at(dir.path());
    let send = |number: u64| {
        let row = json!({"number": number, "pad": "x".repeat(100)}).to_string();
        let sent = daemon.post("name=visits&wait=true", row);
        assert_eq!(sent.status, 200, "{}", sent.text());
        sent.receipt()
    };
    let receipts: Vec<u64> = (0..20).map(send).collect();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    drop(daemon.kill());
    Log { dir, config: CONFIG.to_owned(), receipts }
}

#[test]
fn a_last_frame_that_was_durable_is_reported_whatever_part_of_it_is_damaged() {
    // A bit of the body, a bit of the header, and all of it.
    for part in 0..3 {
        let log = idle_log();
        let segment = log.segments().pop().unwrap();
        let last = frames(&segment).pop().unwrap();
        match part {
            0 => flip(&segment, last.offset + 60),
            1 => flip(&segment, last.offset + 9),
            _ => overwrite(&segment, last.offset, &vec![0; usize::try_from(last.bytes).unwrap()]),
        }
        let verified = tool(&log, "verify");
        assert_eq!(verified.0, Some(1), "{}", verified.1);
        assert!(verified.1.contains(&last.lsn.to_string()), "{}", verified.1);
        let daemon = log.start();
        log.assert_stored_but(&daemon, &[last.lsn]);
        assert_eq!(losses(&daemon), [(last.lsn, last.lsn, "missing".to_owned())], "part {part}");
        log.assert_settled(daemon, &[last.lsn]);
    }
}

#[test]
fn the_only_frame_of_a_run_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev(CONFIG).start_at(dir.path());
    let receipts = vec![daemon.post("name=visits&wait=true", "{\"number\":0}").receipt()];
    std::thread::sleep(std::time::Duration::from_millis(1500));
    drop(daemon.kill());
    let log = Log { dir, config: CONFIG.to_owned(), receipts };
    let segment = log.segments().pop().unwrap();
    flip(&segment, frames(&segment)[0].offset + 45);
    let daemon = log.start();
    assert_eq!(losses(&daemon), [(log.receipts[0], log.receipts[0], "missing".to_owned())]);
    let later = daemon.post("name=visits&wait=true", "{\"number\":1}");
    assert!(later.receipt() > log.receipts[0]);
    assert_eq!(daemon.rows("visits").len(), 1);
}

#[test]
fn a_log_without_its_files_is_missed() {
    // Only the segments, and the whole directory: then the catalog knows.
    for whole in [false, true] {
        let log = idle_log();
        if whole {
            std::fs::remove_dir_all(log.wal()).unwrap();
        } else {
            for segment in list(&log.wal()).unwrap() {
                std::fs::remove_file(segment).unwrap();
            }
        }
        let daemon = log.start();
        let (first, last) = (log.receipts[0], *log.receipts.last().unwrap());
        assert_eq!(losses(&daemon), [(first, last, "missing".to_owned())], "{}", recovery(&daemon));
        let later = daemon.post("name=visits&wait=true", "{\"number\":1}");
        assert!(later.receipt() > last, "no number is given again");
    }
}

#[test]
fn a_large_first_frame_that_is_damaged_does_not_cost_its_segment() {
    let log = Log::with(CONFIG.replace("\"1MiB\"", "\"4MiB\""), 90);
    let segment = &log.segments()[1];
    let places = frames(segment);
    // The START frame and the beginning of the first request; what is left begins after more than a megabyte.
    let end = places.iter().position(|place| place.offset > 3 << 20).unwrap();
    overwrite(segment, 4096, &vec![0; usize::try_from(places[end].offset).unwrap() - 4096]);
    let lost: Vec<u64> = places[..end].iter().map(|place| place.lsn).collect();
    let daemon = log.start();
    log.assert_stored_but(&daemon, &lost);
    log.assert_settled(daemon, &lost);
}

#[test]
fn the_first_segment_of_a_run_is_missed() {
    let log = Log::written();
    let segment = &log.segments()[0];
    let lost = lsns(segment);
    std::fs::remove_file(segment).unwrap();
    let daemon = log.start();
    assert_eq!(recovery(&daemon)["missing"], json!([range(&lost)]), "{}", recovery(&daemon));
    log.assert_stored_but(&daemon, &lost);
    log.assert_settled(daemon, &lost);
}

#[test]
fn a_segment_that_is_lost_before_the_log_was_idle_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev(CONFIG).start_at(dir.path());
    let receipts = vec![daemon.post("name=visits&wait=true", "{\"number\":0}").receipt()];
    drop(daemon.kill());
    let log = Log { dir, config: CONFIG.to_owned(), receipts };
    for segment in list(&log.wal()).unwrap() {
        std::fs::remove_file(segment).unwrap();
    }
    let daemon = log.start();
    let first = log.receipts[0];
    assert_eq!(losses(&daemon), [(first, first, "possibly acknowledged".to_owned())]);
    assert!(daemon.post("name=visits&wait=true", "{\"number\":1}").receipt() > first);
}

#[test]
fn a_copy_of_a_segment_replaces_nothing() {
    let log = Log::written();
    std::fs::copy(&log.segments()[1], log.wal().join("0000000000000099.wal")).unwrap();
    let daemon = log.start();
    assert_eq!(recovery(&daemon)["foreign"], json!(["0000000000000099.wal"]));
    log.assert_stored_but(&daemon, &[]);
    log.assert_settled(daemon, &[]);
}

#[test]
fn a_log_without_its_catalog_stops_the_start() {
    let log = Log::written();
    let data = log.dir.path().join("data");
    let aside = tempfile::tempdir().unwrap();
    let names = ["catalog.db", "catalog.db-wal", "catalog.db-shm"];
    for name in names {
        drop(std::fs::copy(data.join(name), aside.path().join(name)));
        drop(std::fs::remove_file(data.join(name)));
    }
    for _ in 0..2 {
        let said = refused(&log);
        assert!(said.contains("has no catalog: restore catalog.db"), "{said}");
    }
    for name in names {
        drop(std::fs::copy(aside.path().join(name), data.join(name)));
    }
    log.assert_stored_but(&log.start(), &[]);
}
