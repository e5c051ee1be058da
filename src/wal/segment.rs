//! One segment, and the list of all segments with frames.

use super::format::{HEADER_BYTES, Predecessor, SegmentHeader};
use super::frames::FrameReader;
use super::lsn::{Lsn, SegmentId};
use crate::storage::LogFile;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A segment in use: active, sealed, or recovered.
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) salt: u32,
    /// LSN of its first DATA frame (which may not have been written yet).
    pub(super) base: Lsn,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) file: Arc<LogFile>,
    /// Of a recovered segment: its frames up to here were durable before the start.
    pub(super) known_durable: Lsn,
    end_offset: AtomicU64,
    end_last: AtomicU64,
    /// All its frames were rewritten into a newer segment, after a failed sync.
    pub(super) superseded: AtomicBool,
    /// Some frames that were read, with their offsets, in order, so that a frame is found without reading all before
    /// it.
    marks: Mutex<Vec<(Lsn, u64)>>,
}

/// The minimum distance between two remembered frames.
pub(super) const MARK_BYTES: u64 = 64 << 10;

/// Where the frames of a segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentEnd {
    /// Offset just after the last frame.
    pub(super) offset: u64,
    /// The last LSN assigned before the next segment started; `base - 1` if the segment holds none.
    pub(super) last: Lsn,
}

impl Segment {
    /// Offset of the first frame.
    pub(super) const FIRST_OFFSET: u64 = HEADER_BYTES as u64;

    pub(super) fn new(
        header: SegmentHeader,
        base: Lsn,
        predecessor: Option<Predecessor>,
        file: Arc<LogFile>,
    ) -> Self {
        Self {
            header,
            salt: header.salt(),
            base,
            predecessor,
            file,
            known_durable: Lsn::NONE,
            end_offset: AtomicU64::new(u64::MAX),
            end_last: AtomicU64::new(0),
            superseded: AtomicBool::new(false),
            marks: Mutex::default(),
        }
    }

    /// Remembers the offset of a frame, unless a nearby one is remembered.
    pub(super) fn mark(&self, lsn: Lsn, offset: u64) {
        let mut marks = self.marks.lock();
        if marks.last().is_none_or(|(_, last)| offset >= last + MARK_BYTES) {
            marks.push((lsn, offset));
        }
    }

    /// The offset from which to search for a frame.
    pub(super) fn near(&self, lsn: Lsn) -> u64 {
        let marks = self.marks.lock();
        let above = marks.partition_point(|(marked, _)| *marked <= lsn);
        above.checked_sub(1).and_then(|at| marks.get(at)).map_or(Self::FIRST_OFFSET, |(_, offset)| *offset)
    }

    pub(super) fn id(&self) -> SegmentId {
        self.header.id
    }

    /// Reads its frames.
    pub(super) fn frames(&self) -> FrameReader {
        FrameReader::new(Arc::clone(&self.file), &self.header)
    }

    /// Where its frames end, once it accepts no more.
    pub(super) fn end(&self) -> Option<SegmentEnd> {
        let offset = self.end_offset.load(Ordering::Acquire);
        let last = Lsn(self.end_last.load(Ordering::Relaxed));
        (offset != u64::MAX).then_some(SegmentEnd { offset, last })
    }

    /// Sets its end, or moves its end to just after its last durable frame (after a failed sync).
    pub(super) fn set_end(&self, end: SegmentEnd) {
        assert!(self.end().is_none_or(|before| end.offset <= before.offset), "an end never moves back");
        self.end_last.store(end.last.0, Ordering::Relaxed);
        self.end_offset.store(end.offset, Ordering::Release);
    }

    /// This segment as its successor describes it. `None` until it has ended.
    pub(super) fn as_predecessor(&self) -> Option<Predecessor> {
        let end = self.end()?;
        Some(Predecessor { id: self.id(), end_offset: end.offset, last: end.last })
    }
}

/// All segments with frames that are still needed, oldest first, the active one last.
pub(super) struct Segments(Mutex<VecDeque<Arc<Segment>>>);

impl Segments {
    pub(super) fn new(recovered: Vec<Arc<Segment>>) -> Self {
        Self(Mutex::new(recovered.into()))
    }

    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.0.lock().push_back(segment);
    }

    /// The segment that holds `lsn`, or the first one above it.
    pub(super) fn holding(&self, lsn: Lsn) -> Option<Arc<Segment>> {
        let list = self.0.lock();
        let below = list.iter().take_while(|segment| segment.base <= lsn).count();
        list.get(below.saturating_sub(1)).cloned()
    }

    /// The segment after `previous` in the list. Neither base nor id would identify it: a first frame that does not fit
    /// leaves a segment empty, with the base of its successor, and a segment written by a rescue has a higher id than
    /// segments that were prepared earlier and come after it.
    pub(super) fn after(&self, previous: &Segment) -> Option<Arc<Segment>> {
        let list = self.0.lock();
        match list.iter().position(|segment| segment.id() == previous.id()) {
            Some(at) => list.get(at + 1).cloned(),
            // It was trimmed, and everything before it.
            None => list.iter().find(|segment| segment.base >= previous.base).cloned(),
        }
    }

    /// Removes and returns the segments whose last LSN is at most `consumed`.
    pub(super) fn take_through(&self, consumed: Lsn) -> Vec<Arc<Segment>> {
        let mut list = self.0.lock();
        let done = list.iter().take_while(|s| s.end().is_some_and(|end| end.last <= consumed)).count();
        list.drain(..done).collect()
    }

    /// Removes and returns the segments that start at `base` or above.
    pub(super) fn take_from(&self, base: Lsn) -> Vec<Arc<Segment>> {
        let mut list = self.0.lock();
        let kept = list.iter().take_while(|segment| segment.base < base).count();
        list.drain(kept..).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        self.0.lock().iter().cloned().collect()
    }
}
