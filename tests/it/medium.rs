//! A disk that cannot return a block of the log: its requests are lost and reported, and nothing else.

use crate::damage::CONFIG;
use crate::faults::Faults;
use crate::support::{Daemon, Setup};
use forebay::wal::inspect::{SegmentEntry, SegmentFile, list};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const REQUESTS: u64 = 300;

/// A log of one segment in use: the directory, and the receipt of each request.
fn written() -> (tempfile::TempDir, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev(CONFIG).start_at(dir.path());
    let receipts = (0..REQUESTS).map(|number| {
        let wait = if number + 1 == REQUESTS { "&wait=true" } else { "" };
        let sent = daemon.post(&format!("name=visits{wait}"), json!({"number": number}).to_string());
        assert!(sent.status < 300, "{}", sent.text());
        sent.receipt()
    });
    let receipts = receipts.collect();
    drop(daemon.kill());
    (dir, receipts)
}

/// The segment with requests, and the requests of which a part lies in the block at `offset`.
fn segment(dir: &Path, offset: u64) -> (PathBuf, Vec<u64>) {
    let lsns = |path: &PathBuf| {
        let file = SegmentFile::read(path).unwrap();
        let frames = file.entries().filter_map(|entry| match entry {
            SegmentEntry::Frame { offset: at, frame } if !frame.payload.is_empty() => {
                let end = at + frame.header.frame_bytes() as u64;
                let is_data = frame.header.kind == forebay::wal::format::FrameKind::Data;
                (is_data && at < offset + 4096 && end > offset).then_some(frame.header.lsn.0)
            }
            _ => None,
        });
        frames.collect::<Vec<_>>()
    };
    let segments = list(&dir.join("data/wal")).unwrap();
    segments.iter().map(|path| (path.clone(), lsns(path))).find(|(_, lsns)| !lsns.is_empty()).unwrap()
}

fn unreadable(faults: &Faults, segment: &Path, offset: u64) {
    let name = segment.file_name().unwrap().to_str().unwrap();
    faults.set("unreadable", &format!("/wal/{name} {offset}"));
}

fn losses(daemon: &Daemon) -> Vec<Value> {
    daemon.get("/admin/v1/wal").json()["losses"].as_array().unwrap().clone()
}

#[test]
fn an_unreadable_block_loses_its_requests_alone_and_they_are_reported() {
    // The block with the START frame, one in the middle, and the header page.
    for offset in [4096, 12288, 0] {
        let (dir, receipts) = written();
        let (path, mut hit) = segment(dir.path(), if offset == 0 { 4096 } else { offset });
        if offset == 0 {
            hit.clear();
        }
        let faults = Faults::none();
        unreadable(&faults, &path, offset);
        let daemon = faults.on(Setup::dev(CONFIG)).start_at(dir.path());
        let rows = daemon.rows("visits");
        let rows: Vec<u64> = rows.iter().map(|row| row["number"].as_u64().unwrap()).collect();
        let expected: Vec<u64> =
            (0..).zip(&receipts).filter(|(_, lsn)| !hit.contains(lsn)).map(|(number, _)| number).collect();
        assert_eq!(rows, expected, "offset {offset}");
        let reported: Vec<u64> = losses(&daemon)
            .iter()
            .flat_map(|loss| loss["first"].as_u64().unwrap()..=loss["last"].as_u64().unwrap())
            .collect();
        assert_eq!(reported, hit, "offset {offset}: {:?}", losses(&daemon));
        assert!(daemon.log().contains("the disk cannot return a part of a log segment"), "{}", daemon.log());
    }
}

#[test]
fn the_tools_report_an_unreadable_block_and_read_the_rest() {
    let (dir, _) = written();
    let (path, hit) = segment(dir.path(), 12288);
    let faults = Faults::none();
    unreadable(&faults, &path, 12288);
    let tool = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("wal").args(arguments).arg(dir.path().join("data"));
        faults.preload(&mut command);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (status, said) = tool(&["verify"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("cannot return 1 blocks, the first at offset 12288"), "{said}");
    assert!(said.contains(&format!("{} frames missing, from {} on", hit.len(), hit[0])), "{said}");
    let (status, records) = tool(&["dump", "--records"]);
    assert_eq!(status, Some(0));
    assert_eq!(records.lines().count(), usize::try_from(REQUESTS).unwrap() - hit.len());
    assert_eq!(tool(&["repair"]).0, Some(0));
}
