//! One segment, and the list of all that hold frames.

use super::format::{HEADER_BYTES, Predecessor, SegmentHeader};
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
    /// Number of its first DATA frame (which may not have been written yet).
    pub(super) base: Lsn,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) file: Arc<LogFile>,
    /// Of a recovered segment: everything in it up to here was durable before the start.
    pub(super) known_durable: Lsn,
    end_offset: AtomicU64,
    end_last: AtomicU64,
    /// All its frames were written again in a newer segment, after a failed sync.
    pub(super) superseded: AtomicBool,
    /// Some frames that were read, with their offsets, in their order: so that one is found without reading all before it.
    marks: Mutex<Vec<(Lsn, u64)>>,
}

/// Between two frames whose places are remembered, at least.
pub(super) const MARK_BYTES: u64 = 64 << 10;

/// Where a segment's frames stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentEnd {
    /// Offset just behind the last frame.
    pub(super) offset: u64,
    /// The last number given before the next segment started; `base - 1` if it holds none.
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

    /// Remembers where a frame is, if none is remembered nearby.
    pub(super) fn mark(&self, lsn: Lsn, offset: u64) {
        let mut marks = self.marks.lock();
        if marks.last().is_none_or(|(_, last)| offset >= last + MARK_BYTES) {
            marks.push((lsn, offset));
        }
    }

    /// Where to begin to look for a frame.
    pub(super) fn near(&self, lsn: Lsn) -> u64 {
        let marks = self.marks.lock();
        let above = marks.partition_point(|(marked, _)| *marked <= lsn);
        above.checked_sub(1).and_then(|at| marks.get(at)).map_or(Self::FIRST_OFFSET, |(_, offset)| *offset)
    }

    pub(super) fn id(&self) -> SegmentId {
        self.header.id
    }

    /// Where its frames stop, once it takes no more.
    pub(super) fn end(&self) -> Option<SegmentEnd> {
        let offset = self.end_offset.load(Ordering::Acquire);
        let last = Lsn(self.end_last.load(Ordering::Relaxed));
        (offset != u64::MAX).then_some(SegmentEnd { offset, last })
    }

    /// Ends it, or moves its end forward to where its last durable frame ends (after a failed sync).
    pub(super) fn set_end(&self, end: SegmentEnd) {
        assert!(self.end().is_none_or(|before| end.offset <= before.offset), "an end never moves back");
        self.end_last.store(end.last.0, Ordering::Relaxed);
        self.end_offset.store(end.offset, Ordering::Release);
    }

    /// This segment as its successor describes it. Only for a segment that has ended.
    pub(super) fn as_predecessor(&self) -> Option<Predecessor> {
        let end = self.end()?;
        Some(Predecessor { id: self.id(), end_offset: end.offset, last: end.last })
    }
}

/// All segments that hold frames still needed, oldest first, the active one last.
pub(super) struct Segments(Mutex<VecDeque<Arc<Segment>>>);

impl Segments {
    pub(super) fn new(recovered: Vec<Arc<Segment>>) -> Self {
        Self(Mutex::new(recovered.into()))
    }

    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.0.lock().push_back(segment);
    }

    /// The segment that holds `lsn`, or else the first one above it.
    pub(super) fn holding(&self, lsn: Lsn) -> Option<Arc<Segment>> {
        let list = self.0.lock();
        let below = list.iter().take_while(|segment| segment.base <= lsn).count();
        list.get(below.saturating_sub(1)).cloned()
    }

    /// The segment after `previous`: the next one of the list. Neither base nor id tells it: a first frame that does not
    /// fit into a segment leaves it empty, with the base of its successor, and what was written again after a failed sync
    /// has a higher id than segments that were prepared before and come behind it.
    pub(super) fn after(&self, previous: &Segment) -> Option<Arc<Segment>> {
        let list = self.0.lock();
        match list.iter().position(|segment| segment.id() == previous.id()) {
            Some(at) => list.get(at + 1).cloned(),
            // It was given up, and everything before it.
            None => list.iter().find(|segment| segment.base >= previous.base).cloned(),
        }
    }

    /// Takes out the segments whose last number is at most `consumed`.
    pub(super) fn take_through(&self, consumed: Lsn) -> Vec<Arc<Segment>> {
        let mut list = self.0.lock();
        let done = list.iter().take_while(|s| s.end().is_some_and(|end| end.last <= consumed)).count();
        list.drain(..done).collect()
    }

    /// Takes out the segments that start at `base` or above.
    pub(super) fn take_from(&self, base: Lsn) -> Vec<Arc<Segment>> {
        let mut list = self.0.lock();
        let kept = list.iter().take_while(|segment| segment.base < base).count();
        list.drain(kept..).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        self.0.lock().iter().cloned().collect()
    }
}
