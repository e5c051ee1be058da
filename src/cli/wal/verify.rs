//! `forebay wal verify`: checks that all durable data is still readable.

use super::LogArgs;
use crate::catalog;
use crate::cli::output;
use crate::error::chain;
use crate::wal::format::{FrameKind, HeaderError, Seal, SegmentStart};
use crate::wal::inspect::{self, SegmentEntry, SegmentFile};
use crate::wal::{Lsn, LsnRange};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

/// Check every frame of a log. Exits with 1 if durable data cannot be read.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    log: LogArgs,
}

/// A defect in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    file: String,
    /// Whether durable data cannot be read; otherwise the finding is a tail that no sync had covered, or a file that is
    /// not a segment.
    damage: bool,
    what: String,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    segments: usize,
    archived: usize,
    frames: u64,
    findings: Vec<Finding>,
}

impl VerifyArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // Consumed frames may already be gone from the log.
        let data_dir = self.log.data_dir().filter(|_| self.log.path.is_dir());
        let consumed = data_dir.and_then(|dir| super::of_catalog(dir, catalog::consumed));
        // Before the segments are read, since a running daemon goes on.
        let mut noted = inspect::marked_runs(&self.log.wal_dir());
        noted
            .extend(data_dir.and_then(|dir| super::of_catalog(dir, catalog::log_runs)).into_iter().flatten());
        let uuid = data_dir.and_then(|dir| super::of_catalog(dir, catalog::wal_uuid)).flatten();
        let mut segments = Vec::new();
        let mut report = Report::default();
        for path in self.log.segments()? {
            if inspect::is_archived(&path) {
                check_archived(&path, &mut report);
                continue;
            }
            let segment = match SegmentFile::read(&path) {
                // A running daemon has trimmed it.
                Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => continue,
                segment => segment?,
            };
            report.segments += 1;
            if let Some(first) = segment.unreadable.first() {
                let blocks = segment.unreadable.len();
                let what = format!("the disk cannot return {blocks} blocks, the first at offset {first}");
                report.push(&path, true, what);
            }
            match &segment.header {
                Ok(_) => segments.push(segment),
                Err(error) => {
                    let is_ours = segment.salvaged(uuid).is_some();
                    let damage = is_ours || *error != HeaderError::NotASegment;
                    let next =
                        if is_ours { "; the next start rebuilds the header from the frames" } else { "" };
                    report.push(&path, damage, format!("{error}{next}"));
                }
            }
        }
        let durable = segments.iter().map(|segment| segment.summary().durable).max().unwrap_or(Lsn::NONE);
        segments.sort_by_key(|segment| segment.summary().base);
        let mut reached = consumed;
        for segment in &segments {
            reached = check(segment, durable, reached, &mut report);
        }
        if let Some(last) = segments.last()
            && let Some(lsn) = last.damaged_last().filter(|lsn| Some(*lsn) > reached)
        {
            let what = format!("the last request, {lsn}, is damaged; it may have been acknowledged");
            report.push(&last.path, true, what);
        }
        if data_dir.is_some() {
            check_noted(noted, &self.log.wal_dir(), reached, &mut report);
        }
        if self.log.json {
            output::json(&report);
        } else {
            print(&report);
        }
        Ok(ExitCode::from(u8::from(report.findings.iter().any(|finding| finding.damage))))
    }
}

/// Checks that the segments reach as far as the log was durable by what is noted beside them and in the catalog.
fn check_noted(runs: Vec<LsnRange>, wal_dir: &Path, reached: Option<Lsn>, report: &mut Report) {
    let runs: Vec<_> = runs.into_iter().filter(|run| run.first <= run.last).collect();
    let Some(durable) = runs.iter().map(|run| run.last).max() else { return };
    let first = runs.iter().filter(|run| run.last == durable).map(|run| run.first).min().unwrap_or(durable);
    let first = first.max(reached.unwrap_or(Lsn::NONE).next());
    if first <= durable {
        report.push(wal_dir, true, format!("frames {first} to {durable} were durable and are in no segment"));
    }
}

/// Checks an archived segment: it must be whole, and hold the frames that its index lists.
fn check_archived(path: &Path, report: &mut Report) {
    report.archived += 1;
    let index = match inspect::index(path) {
        Ok(index) => index,
        Err(error) => return report.push(path, true, chain(&error)),
    };
    let segment = match SegmentFile::read(path) {
        Ok(segment) => segment,
        Err(error) => return report.push(path, true, chain(&error)),
    };
    let frames = segment.entries().filter(|entry| matches!(entry, SegmentEntry::Frame { .. })).count();
    report.frames += frames as u64;
    let found = segment.summary().data_frames;
    let given = LsnRange { first: index.base, last: index.last }.count();
    if found < index.data_frames {
        report.push(path, true, format!("only {found} of {} requests can be read", index.data_frames));
    } else if found < given {
        report.push(
            path,
            false,
            format!("{} requests were lost before the segment was archived", given - found),
        );
    }
}

/// Checks one segment. Everything up to `reached`, if that is known, is consumed or in the segments before it. Returns
/// how far this segment reaches.
fn check(segment: &SegmentFile, durable: Lsn, reached: Option<Lsn>, report: &mut Report) -> Option<Lsn> {
    let path = &segment.path;
    // The START frame tells where the segment begins.
    let mut last = reached.unwrap_or(Lsn::NONE);
    let mut bad: Option<(u64, u64)> = None;
    for entry in segment.entries() {
        let frame = match entry {
            SegmentEntry::Bad { offset, bytes } => {
                bad = Some((offset, bytes));
                continue;
            }
            SegmentEntry::Frame { frame, .. } => frame,
        };
        report.frames += 1;
        let first_missing = last.next();
        if let Some((at, bytes)) = bad.take() {
            let damage = first_missing <= durable;
            let lost = frame.header.lsn.0.saturating_sub(first_missing.0);
            let kind = if damage { "damaged" } else { "torn, never synced" };
            report.push(
                path,
                damage,
                format!(
                    "{bytes} bytes at offset {at} are {kind}: {lost} frames missing, from {first_missing} on"
                ),
            );
        }
        match frame.header.kind {
            FrameKind::Start => {
                let start = SegmentStart::decode(frame.payload);
                let expected =
                    start.and_then(|start| start.predecessor).map_or(Lsn::NONE, |before| before.last);
                let known = reached.unwrap_or(expected);
                if expected > known {
                    let missing =
                        format!("frames {} to {expected} before this segment are missing", known.next());
                    report.push(path, known.next() <= durable, missing);
                }
                last = frame.header.lsn.previous();
            }
            FrameKind::Data => last = frame.header.lsn,
            FrameKind::Seal => {
                let sealed = Seal::decode(frame.payload).map_or(last, |seal| seal.last);
                if sealed > last {
                    report.push(
                        path,
                        true,
                        format!("frames {} to {sealed} are missing at the end of the segment", last.next()),
                    );
                }
                last = last.max(sealed);
            }
        }
    }
    reached.max(Some(last))
}

impl Report {
    fn push(&mut self, file: &Path, damage: bool, what: String) {
        self.findings.push(Finding { file: file.display().to_string(), damage, what });
    }
}

fn print(report: &Report) {
    for finding in &report.findings {
        let kind = if finding.damage { "DAMAGE" } else { "note" };
        output::print(&format!("{kind:<7} {}: {}\n", super::name(Path::new(&finding.file)), finding.what));
    }
    let damaged = report.findings.iter().filter(|finding| finding.damage).count();
    let verdict = match damaged {
        0 => "all durable data is readable".to_owned(),
        1 => "1 place is damaged".to_owned(),
        n => format!("{n} places are damaged"),
    };
    let frames = output::number(report.frames);
    let archived = match report.archived {
        0 => String::new(),
        n => format!(" and {n} archived"),
    };
    output::print(&format!("{} segments{archived}, {frames} frames: {verdict}\n", report.segments));
}
