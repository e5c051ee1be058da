//! Start-up only: determines which segments exist, their order, where each ends, and what is missing.
//!
//! Only the last segment is scanned for its end; the others are described by their successors. So a start takes as
//! long as one segment takes to scan, however large the backlog is; the frames themselves are checked when the reader
//! passes them. Recovery needs no free disk space.

use super::format::{
    self, FRAME_HEADER_BYTES, FrameError, FrameHeader, FrameKind, HEADER_BYTES, HeaderError, Predecessor,
    SegmentHeader, SegmentStart,
};
use super::lsn::{Lsn, LsnRange, SegmentId};
use super::salvage::PROOF_BYTES;
use super::segment::{Segment, SegmentEnd};
use super::{LSN_SKIP, quarantine_dir};
use crate::error::IoError;
use crate::storage::{LogFile, Storage};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment with an unreadable first frame is distinguished from an unused one by a valid frame this close to its
/// start.
const PROBE_BYTES: u64 = 1 << 20;

/// What the rest of the data directory records about the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Floor {
    /// Every frame up to here is in registered files, so it may be missing from the log.
    pub consumed: Lsn,
    /// The highest LSN recorded anywhere outside the log.
    pub highest: Lsn,
    /// The identity of the log, if it existed before.
    pub wal_uuid: Option<[u8; 16]>,
}

#[derive(Debug, thiserror::Error)]
pub enum WalOpenError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("cannot read log segment {}: {source}; start the version of Forebay that wrote it, or move the file away", .path.display())]
    NewerFormat { path: PathBuf, source: HeaderError },
    #[error(
        "log segment {} belongs to another log than the catalog of this data directory; restore both from one backup",
        .path.display()
    )]
    OtherLog { path: PathBuf },
    #[error("cannot start a thread for the log")]
    Thread(#[source] std::io::Error),
}

/// The findings of a start, for its log lines and for `/admin/v1/wal`.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct RecoveryReport {
    pub segments: usize,
    /// Every frame up to here was already in registered files: only the frames above it are reread.
    pub consumed: Lsn,
    /// The highest LSN found in the log or recorded elsewhere.
    pub highest: Lsn,
    /// Every frame of the last run up to here is known to have been durable before this start.
    pub known_durable: Lsn,
    /// Unconsumed frames whose whole segment is missing.
    pub missing: Vec<LsnRange>,
    /// The same for segments that were never synced: power loss destroyed them, which a 202 response permits.
    pub torn: Vec<LsnRange>,
    /// Files in the directory of the log that do not belong to it; they are left alone.
    pub foreign: Vec<String>,
    /// Segment files with a damaged header that was reconstructed from their frames.
    pub mended: Vec<String>,
    /// Segment files whose header could not be reconstructed; they were moved to `wal/quarantine/`.
    pub quarantined: Vec<String>,
}

pub(super) struct Recovered {
    pub(super) wal_uuid: [u8; 16],
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) highest: Lsn,
    pub(super) next_id: SegmentId,
    pub(super) report: RecoveryReport,
}

/// A segment file that has been in use: its header and first frame.
struct FoundSegment {
    header: SegmentHeader,
    file: Arc<LogFile>,
    start: SegmentStart,
    /// From the first frame: everything up to here was durable when the segment was started.
    durable: Lsn,
    /// Its START frame is lost: `start` was derived from the first readable frame.
    beheaded: bool,
}

pub(super) fn recover(storage: &dyn Storage, dir: &Path, floor: Floor) -> Result<Recovered, WalOpenError> {
    let mut report = RecoveryReport {
        consumed: floor.consumed,
        known_durable: floor.consumed,
        ..RecoveryReport::default()
    };
    let (found, next_id) = find_segments(storage, dir, floor, &mut report)?;
    let wal_uuid = match (floor.wal_uuid, found.first()) {
        (Some(uuid), _) => uuid,
        (None, Some(found)) => found.header.wal_uuid,
        (None, None) => *uuid::Uuid::new_v4().as_bytes(),
    };
    let chain = chain_up(storage, dir, found)?;
    let mut segments: Vec<Segment> = Vec::new();
    let mut evidence = Evidence::default();
    let mut highest = floor.highest.max(floor.consumed);
    let mut reached = floor.consumed;
    for (index, found) in chain.iter().enumerate() {
        let start = &found.start;
        if let Some(before) = start.predecessor {
            let known = segments.last().is_some_and(|segment| segment.id() == before.id);
            if !known && before.last > reached {
                report.missing.push(LsnRange { first: reached.next(), last: before.last });
            }
            highest = highest.max(before.last);
        } else if found.beheaded {
            // LSNs continue from segment to segment, except for the jump at a start.
            let goes_on = start.base.0.saturating_sub(reached.0) <= LSN_SKIP;
            let first = if goes_on { reached.next() } else { Lsn(highest.0 + LSN_SKIP).next() };
            if first < start.base {
                report.missing.push(LsnRange { first, last: start.base.previous() });
            }
        }
        let successor = chain.get(index + 1).and_then(|next| next.start.predecessor);
        let successor = successor.filter(|before| before.id == found.header.id);
        let end = match successor {
            Some(before) => SegmentEnd { offset: before.end_offset, last: before.last },
            None => scan(found, &mut evidence),
        };
        evidence.segment(start, end);
        evidence.durable(found.durable);
        highest = highest.max(start.base.previous()).max(end.last);
        reached = reached.max(end.last);
        if end.last < start.base && index + 1 == chain.len() {
            // A run without requests leaves nothing to keep.
            storage.remove(found.file.path())?;
            continue;
        }
        let segment = Segment::new(found.header, start.base, start.predecessor, Arc::clone(&found.file));
        segment.set_end(end);
        segments.push(segment);
    }
    for segment in &mut segments {
        segment.known_durable = evidence.known_durable(segment.base);
        make_durable(storage, segment)?;
    }
    for range in std::mem::take(&mut report.missing) {
        if range.first <= evidence.known_durable(range.first) {
            report.missing.push(range);
        } else {
            report.torn.push(range);
        }
    }
    report.segments = segments.len();
    report.highest = highest;
    report.known_durable = report.known_durable.max(evidence.latest());
    let predecessor = segments.last().and_then(Segment::as_predecessor);
    let segments = segments.into_iter().map(Arc::new).collect();
    Ok(Recovered { wal_uuid, segments, predecessor, highest, next_id, report })
}

/// Makes durable what a killed process left in the page cache, before it is read. Rewrites the bytes instead of only
/// syncing them: if the last sync before the kill failed, the kernel considers their pages clean.
fn make_durable(storage: &dyn Storage, segment: &Segment) -> Result<(), IoError> {
    let Some(end) = segment.end().filter(|end| end.last > segment.known_durable) else { return Ok(()) };
    let mut from = Segment::FIRST_OFFSET;
    while let Ok(frame) = read_frame(&segment.file, from, segment.salt, &segment.header.wal_uuid) {
        if frame.lsn > segment.known_durable {
            break;
        }
        from += frame.frame_bytes() as u64;
    }
    let len = usize::try_from(end.offset.saturating_sub(from)).expect("a segment is mapped into memory");
    match segment.file.read(from, len) {
        Some(bytes) => storage.rewrite(segment.file.path(), from, &bytes),
        None => segment.file.sync(),
    }
}

/// The known durable mark of each run of the daemon: LSNs jump between runs, and the durable mark of a later run
/// proves nothing about the lost tail of an earlier one.
#[derive(Default)]
struct Evidence {
    runs: Vec<Run>,
    hints: Vec<Lsn>,
}

struct Run {
    first: Lsn,
    last: Lsn,
}

impl Evidence {
    fn segment(&mut self, start: &SegmentStart, end: SegmentEnd) {
        // Within one run, LSNs continue without a gap from segment to segment.
        let goes_on = start.predecessor.is_none_or(|before| before.last.next() == start.base);
        match self.runs.last_mut() {
            Some(run) if goes_on => run.last = run.last.max(end.last),
            _ => self.runs.push(Run { first: start.base, last: end.last }),
        }
    }

    /// A frame records that everything of its run up to `hint` was durable when it was appended.
    fn durable(&mut self, hint: Lsn) {
        self.hints.push(hint);
    }

    fn known_durable(&self, lsn: Lsn) -> Lsn {
        let run = self.runs.iter().rfind(|run| run.first <= lsn);
        let within = |hint: &&Lsn| run.is_some_and(|run| (run.first..=run.last).contains(*hint));
        self.hints.iter().filter(within).max().copied().unwrap_or(Lsn::NONE)
    }

    /// The durable mark of the latest run, by the best evidence.
    fn latest(&self) -> Lsn {
        self.runs.last().map_or(Lsn::NONE, |run| self.known_durable(run.first))
    }
}

/// Reads the header and first frame of every segment file. Removes unused files and quarantines damaged ones.
fn find_segments(
    storage: &dyn Storage,
    dir: &Path,
    floor: Floor,
    report: &mut RecoveryReport,
) -> Result<(Vec<FoundSegment>, SegmentId), WalOpenError> {
    for name in storage.list(&dir.join("pool"))? {
        storage.remove(&dir.join("pool").join(name))?;
    }
    let mut found: Vec<FoundSegment> = Vec::new();
    let mut blank = Vec::new();
    let mut next_id = SegmentId(1);
    for name in storage.list(dir)? {
        let path = dir.join(&name);
        let Some(id) = format::parse_segment_name(&name) else {
            if name != "pool" && name != "quarantine" {
                report.foreign.push(name);
            }
            continue;
        };
        next_id = next_id.max(SegmentId(id.0 + 1));
        let file = storage.open_log(&path)?;
        let ours = floor.wal_uuid.or(found.first().map(|first| first.header.wal_uuid));
        let header = match read_header(&file, id) {
            Ok(header) => header,
            Err(HeaderError::NotASegment) => {
                report.foreign.push(name);
                continue;
            }
            Err(source @ HeaderError::Newer(_)) => return Err(WalOpenError::NewerFormat { path, source }),
            Err(HeaderError::Damaged) => {
                let Some(header) = salvage(&file, id, ours) else {
                    tracing::error!(segment = %id, "the header of a log segment is corrupted beyond repair; the file is moved to wal/quarantine");
                    storage.rename(&path, &quarantine_dir(dir).join(&name))?;
                    report.quarantined.push(name);
                    continue;
                };
                tracing::error!(segment = %id, "the header of a log segment was corrupted; it is rebuilt from the first frame");
                storage.rewrite(&path, 0, &header.encode())?;
                report.mended.push(name);
                header
            }
        };
        if ours.is_some_and(|ours| ours != header.wal_uuid) {
            return Err(WalOpenError::OtherLog { path });
        }
        match first_frame(&file, header, PROBE_BYTES) {
            Some(segment) => found.push(segment),
            None => blank.push((header, file)),
        }
    }
    for (header, file) in blank {
        let id = header.id;
        let named = found.iter().any(|other| other.start.predecessor.is_some_and(|before| before.id == id));
        if !named {
            storage.remove(file.path())?;
        } else if let Some(segment) = first_frame(&file, header, u64::MAX) {
            found.push(segment);
        } else {
            tracing::error!(segment = %id, "a log segment has no readable frame; the file is moved to wal/quarantine");
            let name = format::segment_name(id);
            storage.rename(file.path(), &quarantine_dir(dir).join(&name))?;
            report.quarantined.push(name);
        }
    }
    storage.sync_dir(dir)?;
    Ok((found, next_id))
}

fn salvage(file: &LogFile, id: SegmentId, wal_uuid: Option<[u8; 16]>) -> Option<SegmentHeader> {
    super::salvage::header(&file.read(0, PROOF_BYTES)?, id, file.capacity(), wal_uuid)
}

fn read_header(file: &LogFile, id: SegmentId) -> Result<SegmentHeader, HeaderError> {
    let page = file.read(0, HEADER_BYTES).ok_or(HeaderError::NotASegment)?;
    let header = SegmentHeader::decode(&page)?;
    if header.id != id || header.capacity != file.capacity() {
        return Err(HeaderError::Damaged);
    }
    Ok(header)
}

/// A segment as its START frame describes it, or `None` if it was never used. If that frame is unreadable but others
/// follow, the first of them within `limit` bytes replaces it.
fn first_frame(file: &Arc<LogFile>, header: SegmentHeader, limit: u64) -> Option<FoundSegment> {
    let salt = header.salt();
    let found =
        |start, durable, beheaded| FoundSegment { header, file: Arc::clone(file), start, durable, beheaded };
    if let Ok(frame) = read_frame(file, Segment::FIRST_OFFSET, salt, &header.wal_uuid)
        && frame.kind == FrameKind::Start
    {
        let payload = file.read(Segment::FIRST_OFFSET + FRAME_HEADER_BYTES as u64, format::SEGSTART_BYTES)?;
        return Some(found(SegmentStart::decode(&payload)?, frame.durable, false));
    }
    let (_, frame) = next_frame(file, Segment::FIRST_OFFSET, salt, &header.wal_uuid, limit)?;
    tracing::error!(segment = %header.id, "the first frame of a log segment is corrupted; recovery continues with the next readable frame");
    Some(found(SegmentStart { base: frame.lsn, predecessor: None }, frame.durable, true))
}

/// Orders the segments and removes those whose frames were all rewritten after a failed sync.
fn chain_up(
    storage: &dyn Storage,
    dir: &Path,
    mut found: Vec<FoundSegment>,
) -> Result<Vec<FoundSegment>, WalOpenError> {
    found.sort_by_key(|found| (found.start.base, std::cmp::Reverse(found.header.id)));
    let again = written_again(&found);
    if again.is_empty() {
        return Ok(found);
    }
    let (removed, chain): (Vec<FoundSegment>, Vec<FoundSegment>) =
        found.into_iter().partition(|found| again.contains(&found.header.id));
    for found in removed {
        tracing::warn!(segment = %found.header.id, "removing a log segment whose frames were rewritten after a failed sync");
        storage.remove(found.file.path())?;
    }
    storage.sync_dir(dir)?;
    Ok(chain)
}

/// Of the segments, ordered by their first LSN, those that a newer segment with the same predecessor replaced. The
/// successors of a replaced segment were replaced with it.
fn written_again(found: &[FoundSegment]) -> HashSet<SegmentId> {
    let before = |found: &FoundSegment| found.start.predecessor.map(|before| before.id);
    let replaces = |new: &FoundSegment, old: &FoundSegment| {
        new.header.id > old.header.id
            && new.start.base <= old.start.base
            && before(new) == before(old)
            && !new.beheaded
            && !old.beheaded
    };
    let mut again = HashSet::new();
    for old in found {
        let replaced = found.iter().any(|new| replaces(new, old));
        if replaced || before(old).is_some_and(|before| again.contains(&before)) {
            again.insert(old.header.id);
        }
    }
    again
}

/// Reads a whole segment to find where its frames end.
fn scan(found: &FoundSegment, evidence: &mut Evidence) -> SegmentEnd {
    let salt = found.header.salt();
    let uuid = &found.header.wal_uuid;
    let mut end = SegmentEnd { offset: Segment::FIRST_OFFSET, last: found.start.base.previous() };
    let mut durable = found.durable;
    while let Some((at, frame)) = next_frame(&found.file, end.offset, salt, uuid, u64::MAX) {
        durable = durable.max(frame.durable);
        if frame.kind == FrameKind::Seal {
            end.last = end.last.max(frame.lsn.previous());
            end.offset = at;
            break;
        }
        if frame.kind == FrameKind::Data {
            end.last = frame.lsn;
        }
        end.offset = at + frame.frame_bytes() as u64;
    }
    evidence.durable(durable);
    end
}

/// The first valid frame at or after `offset`, within `limit` bytes.
fn next_frame(
    file: &LogFile,
    offset: u64,
    salt: u32,
    wal_uuid: &[u8; 16],
    limit: u64,
) -> Option<(u64, FrameHeader)> {
    let len = file.capacity().saturating_sub(offset).min(limit);
    let bytes = file.read(offset, usize::try_from(len).ok()?)?;
    let at = format::candidates(&bytes)
        .find(|at| read_frame(file, offset + *at as u64, salt, wal_uuid).is_ok())?;
    let at = offset + at as u64;
    Some((at, read_frame(file, at, salt, wal_uuid).ok()?))
}

fn read_frame(
    file: &LogFile,
    offset: u64,
    salt: u32,
    wal_uuid: &[u8; 16],
) -> Result<FrameHeader, FrameError> {
    let head = file.read(offset, FRAME_HEADER_BYTES).ok_or(FrameError::Empty)?;
    let header = FrameHeader::decode(head.first_chunk().ok_or(FrameError::Empty)?, salt)?;
    let body = file.read(offset + FRAME_HEADER_BYTES as u64, header.body_bytes as usize);
    let body = body.ok_or(FrameError::BadHeader)?;
    format::check_body(header, &body, wal_uuid).map(|frame| frame.header)
}

impl RecoveryReport {
    /// Logs what an operator should know, once.
    pub(super) fn log(&self) {
        for range in &self.missing {
            tracing::error!(first = %range.first, last = %range.last, "requests are lost: the log segment that held them is missing");
        }
        for range in &self.torn {
            tracing::warn!(first = %range.first, last = %range.last, "un-synced requests are lost: their log segment did not survive power loss");
        }
        for file in &self.foreign {
            tracing::warn!(file, "unknown file in the directory of the log; it is left alone");
        }
    }
}
