//! Start-up only: determines which segments exist, their order, where each ends, and what is missing.
//!
//! Only the last segment is scanned for its end; the others are described by their successors. So a start takes as
//! long as one segment takes to scan, however large the backlog is; the frames themselves are checked when the reader
//! passes them. Recovery needs no free disk space.

use super::evidence::Evidence;
use super::format::{
    self, FRAME_HEADER_BYTES, FrameHeader, FrameKind, HEADER_BYTES, HeaderError, Predecessor, SegmentHeader,
    SegmentStart,
};
use super::frames::FrameReader;
use super::lsn::{Lsn, LsnRange, SegmentId};
use super::marks::{self, DurableMark};
use super::salvage;
use super::segment::{Segment, SegmentEnd};
use super::{LSN_SKIP, quarantine_dir};
use crate::error::{IoError, chain};
use crate::storage::{BLOCK_BYTES, LogFile, Storage};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Recovered bytes are made durable this many at a time.
const REWRITE_BYTES: u64 = 8 << 20;

/// What the rest of the data directory records about the log.
#[derive(Debug, Clone, Default)]
pub struct Floor {
    /// Every frame up to here is in registered files, so it may be missing from the log.
    pub consumed: Lsn,
    /// The highest LSN recorded anywhere outside the log.
    pub highest: Lsn,
    /// The identity of the log, if it existed before.
    pub wal_uuid: Option<[u8; 16]>,
    /// For each run of the daemon with frames above `consumed`: its first LSN, and how far it was durable.
    pub runs: Vec<LsnRange>,
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
    /// Damaged frames at the end of a run, behind everything that is known to have been durable. Their requests may
    /// have been acknowledged.
    pub uncertain: Vec<LsnRange>,
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
    /// The marks of the segments that are left.
    pub(super) marks: Vec<DurableMark>,
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

pub(super) fn recover(storage: &dyn Storage, dir: &Path, floor: &Floor) -> Result<Recovered, WalOpenError> {
    let mut report = RecoveryReport {
        consumed: floor.consumed,
        known_durable: floor.consumed,
        ..RecoveryReport::default()
    };
    let mut known = marks::read(storage, dir);
    if floor.wal_uuid.is_some() && known.wal_uuid != floor.wal_uuid {
        known = marks::KnownMarks::default();
    }
    let ours = floor.wal_uuid.or(known.wal_uuid);
    let (found, next_id) = find_segments(storage, dir, ours, &known.marks, &mut report)?;
    let new = || *uuid::Uuid::new_v4().as_bytes();
    let wal_uuid = ours.unwrap_or_else(|| found.first().map_or_else(new, |found| found.header.wal_uuid));
    let chain = chain_up(storage, dir, found)?;
    let mut evidence = Evidence::new(&floor.runs, &known.marks);
    let highest = floor.highest.max(floor.consumed).max(evidence.highest());
    let Walked { mut segments, missing, mut uncertain, highest } =
        walk(storage, dir, &chain, &mut evidence, (floor.consumed, highest))?;
    let proved = union(evidence.uncovered(floor.consumed, &segments));
    lost_segments(&known.marks, floor.consumed, &segments, &proved, &mut uncertain);
    let empty = segments.pop_if(|last| is_unused(last, &evidence));
    if let Some(empty) = &empty {
        // A run without requests leaves nothing to keep.
        storage.remove(empty.file.path())?;
    }
    for segment in &mut segments {
        segment.known_durable = evidence.known_durable(segment.base);
        make_durable(storage, segment)?;
    }
    for range in without(union(missing), &proved) {
        let was_durable = range.first <= evidence.known_durable(range.first);
        if was_durable { report.missing.push(range) } else { report.torn.push(range) }
    }
    report.missing.extend(proved);
    report.missing = union(std::mem::take(&mut report.missing));
    let is_open = |damaged: &LsnRange| {
        let is_known = |range: &LsnRange| (range.first..=range.last).contains(&damaged.first);
        damaged.first > floor.consumed && !report.missing.iter().any(is_known)
    };
    report.uncertain = uncertain.into_iter().filter(is_open).collect();
    report.segments = segments.len();
    report.highest = highest;
    report.known_durable = report.known_durable.max(evidence.latest());
    let predecessor = segments.last().and_then(Segment::as_predecessor);
    // Until it is consumed, what they prove is still to be recorded, or to be found again.
    let removed = empty.map(|empty| empty.id());
    let is_needed = |mark: &DurableMark| {
        Some(mark.segment) != removed && (mark.durable > floor.consumed || mark.base > floor.consumed)
    };
    let marks = known.marks.into_iter().filter(is_needed).collect();
    let segments = segments.into_iter().map(Arc::new).collect();
    Ok(Recovered { wal_uuid, segments, predecessor, highest, next_id, marks, report })
}

/// The segments with their ends, and what does not fit together.
struct Walked {
    segments: Vec<Segment>,
    missing: Vec<LsnRange>,
    uncertain: Vec<LsnRange>,
    highest: Lsn,
}

/// Determines where each segment ends. Everything up to `reached` may be missing; `highest` was assigned before.
fn walk(
    storage: &dyn Storage,
    dir: &Path,
    chain: &[FoundSegment],
    evidence: &mut Evidence,
    (mut reached, mut highest): (Lsn, Lsn),
) -> Result<Walked, WalOpenError> {
    let (mut missing, mut uncertain) = (Vec::new(), Vec::new());
    let mut segments: Vec<Segment> = Vec::new();
    for (index, found) in chain.iter().enumerate() {
        let start = &found.start;
        if let Some(before) = start.predecessor {
            let known = segments.last().is_some_and(|segment| segment.id() == before.id);
            if !known && before.last > reached {
                let first = evidence.begun_between(reached, before.last).unwrap_or(reached.next());
                missing.push(LsnRange { first, last: before.last });
            }
            highest = highest.max(before.last);
        } else if found.beheaded {
            // LSNs continue from segment to segment, except for the jump at a start.
            let goes_on = start.base.0.saturating_sub(reached.0) <= LSN_SKIP;
            let jumped = || if goes_on { reached.next() } else { Lsn(highest.0 + LSN_SKIP).next() };
            let first = evidence.begun_between(reached, start.base).unwrap_or_else(jumped);
            if first < start.base {
                missing.push(LsnRange { first, last: start.base.previous() });
            }
        }
        let successor = chain.get(index + 1).and_then(|next| next.start.predecessor);
        let successor = successor.filter(|before| before.id == found.header.id);
        let end = match successor {
            Some(before) => SegmentEnd { offset: before.end_offset, last: before.last },
            None => scan(found, evidence),
        };
        evidence.segment(start, end);
        evidence.durable(found.durable);
        highest = highest.max(start.base.previous()).max(end.last);
        reached = reached.max(end.last);
        if successor.is_none()
            && let Some(damaged) = put_aside_last_frame(storage, dir, found, end)?
        {
            highest = highest.max(damaged);
            uncertain.push(LsnRange { first: damaged, last: damaged });
        }
        let segment = Segment::new(found.header, start.base, start.predecessor, Arc::clone(&found.file));
        segment.set_end(end);
        segments.push(segment);
    }
    Ok(Walked { segments, missing, uncertain, highest })
}

/// Whether the last segment never held a request, by all that is known.
fn is_unused(segment: &Segment, evidence: &Evidence) -> bool {
    let last = segment.end().map_or(Lsn::NONE, |end| end.last);
    last < segment.base && evidence.known_durable(segment.base) < segment.base
}

/// The LSN of a damaged frame after the last valid one, whose bytes are copied to quarantine.
fn put_aside_last_frame(
    storage: &dyn Storage,
    dir: &Path,
    found: &FoundSegment,
    end: SegmentEnd,
) -> Result<Option<Lsn>, WalOpenError> {
    let mut frames = FrameReader::new(Arc::clone(&found.file), &found.header);
    let damaged = frames.header(end.offset).ok().or_else(|| {
        let head = found.file.read(end.offset, FRAME_HEADER_BYTES)?;
        let follows = |header: &FrameHeader| header.lsn == end.last.next();
        salvage::frame_header(&head, found.header.salt()).filter(follows)
    });
    let Some(header) = damaged.filter(|header| header.kind == FrameKind::Data && header.lsn > end.last)
    else {
        return Ok(None);
    };
    let left = found.file.capacity().saturating_sub(end.offset);
    let len = usize::try_from(left).map_or(0, |left| header.frame_bytes().min(left));
    let path = quarantine_dir(dir).join(format!("{}-{}.bytes", found.header.id, end.offset));
    match found.file.read(end.offset, len).map(|bytes| storage.write_new(&path, &bytes)) {
        // An earlier start may have copied it.
        Some(Err(error)) if error.source.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(Some(header.lsn)),
    }
}

/// Adds the first LSN of each segment that was in use and of which nothing is left, if nothing else covers it: how many
/// of its requests were acknowledged is not known.
fn lost_segments(
    marks: &[DurableMark],
    consumed: Lsn,
    segments: &[Segment],
    proved: &[LsnRange],
    uncertain: &mut Vec<LsnRange>,
) {
    for mark in marks.iter().filter(|mark| mark.base > consumed) {
        let is_there = segments.iter().any(|segment| {
            segment.id() == mark.segment
                || segment.end().is_some_and(|end| (segment.base..=end.last).contains(&mark.base))
        });
        let is_proved = proved.iter().any(|range| (range.first..=range.last).contains(&mark.base));
        if !is_there && !is_proved {
            uncertain.push(LsnRange { first: mark.base, last: mark.base });
        }
    }
}

/// What is in `ranges` and in none of `others`; both are in order and do not overlap.
fn without(ranges: Vec<LsnRange>, others: &[LsnRange]) -> Vec<LsnRange> {
    let mut left = Vec::new();
    for range in ranges {
        let mut next = range.first;
        for other in others.iter().filter(|other| other.first <= range.last && other.last >= range.first) {
            if next < other.first {
                left.push(LsnRange { first: next, last: other.first.previous() });
            }
            next = other.last.next();
        }
        if next <= range.last {
            left.push(LsnRange { first: next, last: range.last });
        }
    }
    left
}

/// The ranges in order, those that touch or overlap joined.
fn union(mut ranges: Vec<LsnRange>) -> Vec<LsnRange> {
    ranges.sort_by_key(|range| range.first);
    let mut joined: Vec<LsnRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(before) if range.first <= before.last.next() => before.last = before.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}

/// Makes durable what a killed process left in the page cache, before it is read. Rewrites the bytes instead of only
/// syncing them: if the last sync before the kill failed, the kernel considers their pages clean. What cannot be read
/// is not rewritten, so that it may still be read by other means.
fn make_durable(storage: &dyn Storage, segment: &Segment) -> Result<(), IoError> {
    let Some(end) = segment.end().filter(|end| end.last > segment.known_durable) else { return Ok(()) };
    let mut from = Segment::FIRST_OFFSET;
    let mut frames = segment.frames();
    while let Ok(frame) = frames.frame(from) {
        if frame.lsn > segment.known_durable {
            break;
        }
        from += frame.frame_bytes() as u64;
    }
    while from < end.offset {
        let len = (end.offset - from).min(REWRITE_BYTES);
        let bytes = usize::try_from(len).ok().and_then(|len| segment.file.read(from, len));
        let Some(bytes) = bytes else { break };
        for (at, part) in readable_parts(&segment.file, from, &bytes) {
            storage.rewrite(segment.file.path(), at, part)?;
        }
        from += len;
    }
    Ok(())
}

/// The parts of `bytes`, read at offset `from`, that the medium returned.
fn readable_parts<'a>(file: &LogFile, from: u64, bytes: &'a [u8]) -> Vec<(u64, &'a [u8])> {
    let mut parts = Vec::new();
    let (mut at, mut rest) = (from, bytes);
    for block in file.unreadable() {
        let Some(before) = block.max(from).checked_sub(at).filter(|_| block + BLOCK_BYTES > from) else {
            continue;
        };
        let Ok(before) = usize::try_from(before) else { break };
        let Some((part, tail)) = rest.split_at_checked(before) else { break };
        let lost = usize::try_from(block + BLOCK_BYTES - at).map_or(0, |end| end - before).min(tail.len());
        parts.push((at, part));
        at += (before + lost) as u64;
        rest = &tail[lost..];
    }
    parts.push((at, rest));
    parts.retain(|(_, part)| !part.is_empty());
    parts
}

/// Reads the header and first frame of every segment file. Removes unused files and quarantines damaged ones.
fn find_segments(
    storage: &dyn Storage,
    dir: &Path,
    mut ours: Option<[u8; 16]>,
    marks: &[DurableMark],
    report: &mut RecoveryReport,
) -> Result<(Vec<FoundSegment>, SegmentId), WalOpenError> {
    for name in storage.list(&dir.join("pool"))? {
        storage.remove(&dir.join("pool").join(name))?;
    }
    let mut found: Vec<FoundSegment> = Vec::new();
    // Files without a readable frame, and their headers if these are valid.
    let mut blank = Vec::new();
    let mut next_id = SegmentId(marks.iter().map(|mark| mark.segment.0 + 1).max().unwrap_or(1));
    for name in storage.list(dir)? {
        let path = dir.join(&name);
        let Some(id) = format::parse_segment_name(&name) else {
            if name != "pool" && name != "quarantine" && !marks::is_name(&name) {
                report.foreign.push(name);
            }
            continue;
        };
        next_id = next_id.max(SegmentId(id.0.saturating_add(1)));
        let file = storage.open_log(&path)?;
        let header = match read_header(&file, id) {
            Ok(header) => Some(header),
            Err(source @ HeaderError::Newer(_)) => return Err(WalOpenError::NewerFormat { path, source }),
            // A copy of a segment under another name would replace the segments after it.
            Err(HeaderError::Damaged) if is_named_otherwise(&file, id) => {
                report.foreign.push(name);
                continue;
            }
            Err(HeaderError::NotASegment | HeaderError::Damaged) => {
                let header = salvaged(&file, id, ours);
                if let Some(header) = &header {
                    tracing::error!(segment = %id, "the header of a log segment was corrupted; it is rebuilt from a frame");
                    if let Err(error) = storage.rewrite(&path, 0, &header.encode()) {
                        // The frames are readable with the one in memory.
                        tracing::warn!(segment = %id, error = %chain(&error), "cannot write the rebuilt header of a log segment");
                    }
                    report.mended.push(name);
                }
                header
            }
        };
        if let Some(header) = header {
            if ours.is_some_and(|ours| ours != header.wal_uuid) {
                return Err(WalOpenError::OtherLog { path });
            }
            ours = ours.or(Some(header.wal_uuid));
        }
        match header.and_then(|header| first_frame(&file, header)) {
            Some(segment) => found.push(segment),
            None => blank.push((id, header, file)),
        }
    }
    for (id, header, file) in blank {
        let named = found.iter().any(|other| other.start.predecessor.is_some_and(|before| before.id == id));
        if named || marks.iter().any(|mark| mark.segment == id) {
            tracing::error!(segment = %id, "a log segment has no readable frame; the file is moved to wal/quarantine");
            let name = format::segment_name(id);
            storage.rename(file.path(), &quarantine_dir(dir).join(&name))?;
            report.quarantined.push(name);
        } else if header.is_some() {
            // It was prepared and never used.
            storage.remove(file.path())?;
        } else {
            report.foreign.push(format::segment_name(id));
        }
    }
    report.foreign.sort_unstable();
    storage.sync_dir(dir)?;
    Ok((found, next_id))
}

/// Whether the header page is whole and belongs to a segment of another id.
fn is_named_otherwise(file: &LogFile, id: SegmentId) -> bool {
    let page = file.read(0, HEADER_BYTES);
    page.and_then(|page| SegmentHeader::decode(&page).ok()).is_some_and(|header| header.id != id)
}

fn salvaged(file: &LogFile, id: SegmentId, wal_uuid: Option<[u8; 16]>) -> Option<SegmentHeader> {
    let read = |at: u64, len: usize| {
        let left = usize::try_from(file.capacity().checked_sub(at)?).ok()?;
        file.read(at, len.min(left))
    };
    salvage::header(read, id, file.capacity(), wal_uuid)
}

fn read_header(file: &LogFile, id: SegmentId) -> Result<SegmentHeader, HeaderError> {
    let page = file.read(0, HEADER_BYTES).ok_or(HeaderError::NotASegment)?;
    let header = SegmentHeader::decode(&page)?;
    if header.id != id || header.capacity != file.capacity() {
        return Err(HeaderError::Damaged);
    }
    Ok(header)
}

/// A segment as its START frame describes it, or `None` if no frame of it is readable. If the START frame is
/// unreadable but others follow, the first of them replaces it.
fn first_frame(file: &Arc<LogFile>, header: SegmentHeader) -> Option<FoundSegment> {
    let found =
        |start, durable, beheaded| FoundSegment { header, file: Arc::clone(file), start, durable, beheaded };
    let mut frames = FrameReader::new(Arc::clone(file), &header);
    if let Ok(frame) = frames.frame(Segment::FIRST_OFFSET)
        && frame.kind == FrameKind::Start
        && let Some((_, payload)) = frames.body(Segment::FIRST_OFFSET, &frame)
    {
        return Some(found(SegmentStart::decode(payload)?, frame.durable, false));
    }
    let (_, frame) = frames.next(Segment::FIRST_OFFSET, file.capacity())?;
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
    let mut frames = FrameReader::new(Arc::clone(&found.file), &found.header);
    let mut end = SegmentEnd { offset: Segment::FIRST_OFFSET, last: found.start.base.previous() };
    let mut durable = found.durable;
    while let Some((at, frame)) = frames.next(end.offset, found.file.capacity()) {
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

impl RecoveryReport {
    /// Whether requests are lost, or may be.
    pub fn has_losses(&self) -> bool {
        !(self.missing.is_empty()
            && self.torn.is_empty()
            && self.uncertain.is_empty()
            && self.quarantined.is_empty())
    }

    /// Logs what an operator should know, once.
    pub(super) fn log(&self) {
        for range in &self.missing {
            tracing::error!(first = %range.first, last = %range.last, "requests are lost: the log segment that held them is missing");
        }
        for range in &self.torn {
            tracing::warn!(first = %range.first, last = %range.last, "un-synced requests are lost: their log segment did not survive power loss");
        }
        for range in &self.uncertain {
            tracing::error!(lsn = %range.first, "the last request in the log is damaged; it may have been acknowledged");
        }
        for file in &self.foreign {
            tracing::warn!(file, "unknown file in the directory of the log; it is left alone");
        }
    }
}
