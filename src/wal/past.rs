//! Rereads frames that the reader has passed: from the log while they are there, then from the archive.

use super::Shared;
use super::archive::file::ArchivedSegment;
use super::archive::{ArchiveError, SegmentLocation};
use super::format::{self, Frame, FrameKind};
use super::frames::FrameReader;
use super::lsn::{Lsn, LsnRange};
use super::segment::Segment;
use crate::clock::Micros;
use std::sync::Arc;

/// Read access to every frame that is kept. Clones are cheap.
#[derive(Clone)]
pub struct FrameHistory {
    shared: Arc<Shared>,
}

/// A DATA frame that was read before.
#[derive(Debug, Clone, Copy)]
pub struct PastFrame<'a> {
    pub lsn: Lsn,
    pub ts: Micros,
    pub payload: &'a [u8],
}

/// Where a frame is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    Log,
    Archive,
}

impl FrameHistory {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The LSNs of `range` that are neither in the log nor in the archive. LSNs that a start skipped are not missing.
    pub fn missing(&self, range: LsnRange) -> Result<Vec<LsnRange>, ArchiveError> {
        self.shared.missing(range)
    }

    /// All frames that may have been received in `[from, to)`, and some around them, in order.
    pub fn received(&self, from: Micros, to: Micros) -> PastFrames {
        let all = LsnRange { first: Lsn(1), last: Lsn(u64::MAX) };
        PastFrames { times: Some((from, to)), ..self.read(all) }
    }

    /// The frames of `range` in order. Missing and damaged ones are skipped.
    pub fn read(&self, range: LsnRange) -> PastFrames {
        PastFrames {
            times: None,
            shared: Arc::clone(&self.shared),
            next: range.first,
            last: range.last,
            source: None,
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// One frame: where it is stored, when it was received, and its payload.
    pub fn find(&self, lsn: Lsn) -> Result<Option<(Whereabouts, Micros, Vec<u8>)>, ArchiveError> {
        let mut frames = self.read(LsnRange { first: lsn, last: lsn });
        let found = frames.next()?.map(|frame| (frame.ts, frame.payload.to_vec()));
        Ok(found.map(|(ts, payload)| {
            let place = match frames.source {
                Some(SegmentSource::Archive { .. }) => Whereabouts::Archive,
                _ => Whereabouts::Log,
            };
            (place, ts, payload)
        }))
    }
}

/// The segment that is being read.
enum SegmentSource {
    /// A segment of the log and the offset to continue from.
    Log { segment: Arc<Segment>, frames: Box<FrameReader>, offset: u64 },
    /// An archived segment and the block to continue with.
    Archive { segment: Box<ArchivedSegment>, block: usize },
}

/// Frames in LSN order: see [`FrameHistory::read`]. Holds one block of a segment in memory, or the largest frame.
pub struct PastFrames {
    shared: Arc<Shared>,
    /// The LSN to continue from, and the last one wanted.
    next: Lsn,
    last: Lsn,
    /// Archived segments without frames of this time range are skipped.
    times: Option<(Micros, Micros)>,
    source: Option<SegmentSource>,
    buffer: Vec<u8>,
    at: usize,
}

/// The minimum number of bytes read from the log at a time.
const STEP_BYTES: usize = 1 << 20;

impl PastFrames {
    /// The next frame; `None` after the last one.
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows from it")]
    pub fn next(&mut self) -> Result<Option<PastFrame<'_>>, ArchiveError> {
        let found = loop {
            if let Some(found) = self.next_in_buffer() {
                break found;
            }
            if !self.fill()? {
                return Ok(None);
            }
        };
        let (at, lsn, ts, ext, len) = found;
        if lsn > self.last {
            self.next = lsn;
            return Ok(None);
        }
        self.next = lsn.next();
        let payload = at + format::FRAME_HEADER_BYTES + ext..at + format::FRAME_HEADER_BYTES + len;
        Ok(Some(PastFrame { lsn, ts, payload: &self.buffer[payload] }))
    }

    /// Moves past the next unread DATA frame in the buffer and returns it.
    fn next_in_buffer(&mut self) -> Option<(usize, Lsn, Micros, usize, usize)> {
        let (salt, uuid) = match self.source.as_ref()? {
            SegmentSource::Log { segment, .. } => (segment.salt, segment.header.wal_uuid),
            SegmentSource::Archive { segment, .. } => (segment.header.salt(), segment.header.wal_uuid),
        };
        while self.at < self.buffer.len() {
            let rest = &self.buffer[self.at..];
            let Some((skip, frame)) = first_frame(rest, salt, &uuid) else {
                self.at = self.buffer.len();
                return None;
            };
            let header = frame.header;
            let at = self.at + skip;
            self.at = at + header.frame_bytes();
            if header.kind == FrameKind::Data && header.lsn >= self.next {
                let (ext, len) = (usize::from(header.ext_bytes), header.body_bytes as usize);
                return Some((at, header.lsn, header.ts, ext, len));
            }
        }
        None
    }

    /// Refills the buffer. Returns false at the end.
    fn fill(&mut self) -> Result<bool, ArchiveError> {
        self.buffer.clear();
        self.at = 0;
        if self.next > self.last {
            return Ok(false);
        }
        loop {
            match self.source.take() {
                Some(SegmentSource::Log { segment, mut frames, offset }) => {
                    if let Some(offset) = self.fill_from_log(&segment, &mut frames, offset) {
                        self.source = Some(SegmentSource::Log { segment, frames, offset });
                        return Ok(true);
                    }
                    match segment.end() {
                        Some(end) => self.next = self.next.max(end.last.next()),
                        // It is still being written; all durable frames were read.
                        None => return Ok(false),
                    }
                }
                Some(SegmentSource::Archive { segment, block }) => {
                    if let Some((raw, at)) = segment.block(block)? {
                        (self.buffer, self.at) = (raw, at);
                        self.source = Some(SegmentSource::Archive { segment, block: block + 1 });
                        return Ok(true);
                    }
                    self.next = self.next.max(segment.index.last.next());
                }
                None => {
                    if self.next > self.last || !self.enter()? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Finds the segment that holds the next LSN, or the first one above it.
    fn enter(&mut self) -> Result<bool, ArchiveError> {
        loop {
            match self.shared.archive.holding(&self.shared.segments, self.next) {
                None => return Ok(false),
                Some(SegmentLocation::Log(segment)) => {
                    if segment.base > self.last {
                        return Ok(false);
                    }
                    let offset = segment.near(self.next);
                    let frames = Box::new(segment.frames());
                    self.source = Some(SegmentSource::Log { segment, frames, offset });
                    return Ok(true);
                }
                Some(SegmentLocation::Archive(name)) if name.base > self.last => return Ok(false),
                Some(SegmentLocation::Archive(name)) => {
                    if let Some(segment) = self.shared.archive.read(self.shared.storage.as_ref(), name)? {
                        let index = &segment.index;
                        if self.times.is_some_and(|(from, to)| index.last_ts < from || index.first_ts >= to) {
                            self.next = index.last.next();
                            continue;
                        }
                        let block = segment.block_with(self.next);
                        self.source = Some(SegmentSource::Archive { segment: Box::new(segment), block });
                        return Ok(true);
                    }
                    // It was removed between the two lookups; the next one finds what is left.
                }
            }
        }
    }

    /// Copies some durable frames. Returns the offset after them; `None` if none are left.
    fn fill_from_log(&mut self, segment: &Segment, frames: &mut FrameReader, mut offset: u64) -> Option<u64> {
        let limit = segment.end().map_or(segment.file.readable(), |end| end.offset);
        let durable = self.shared.durable.borrow().lsn;
        while offset < limit && self.buffer.len() < STEP_BYTES {
            // Damage is stepped over.
            let header = frames.header(offset).ok().map(|header| (offset, header));
            let Some((at, header)) = header.or_else(|| frames.next_header(offset, limit)) else { break };
            let is_data = header.kind == FrameKind::Data;
            if is_data && (header.lsn > durable || header.lsn > self.last) {
                break;
            }
            offset = at + header.frame_bytes() as u64;
            if is_data && header.lsn >= self.next && frames.frame(at).is_ok() {
                frames.copy(at, &header, &mut self.buffer);
            }
        }
        (!self.buffer.is_empty()).then_some(offset)
    }
}

/// The first valid frame, and its distance from the start of `bytes`.
fn first_frame<'a>(bytes: &'a [u8], salt: u32, wal_uuid: &[u8; 16]) -> Option<(usize, Frame<'a>)> {
    if let Ok(frame) = format::frame_at(bytes, 0, salt, wal_uuid) {
        return Some((0, frame));
    }
    let at = format::candidates(bytes).find(|at| format::frame_at(bytes, *at, salt, wal_uuid).is_ok())?;
    Some((at, format::frame_at(bytes, at, salt, wal_uuid).ok()?))
}
