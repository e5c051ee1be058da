//! Rewrites the un-synced frames into a new segment after a failed sync.
//!
//! A failed `fdatasync` marks the pages clean although their bytes may exist only in the page cache, so a second
//! `fdatasync` would falsely succeed. The bytes are usually still in the page cache, so they are copied into a new
//! segment, once in the life of a process. Each frame is checked before it is copied: the kernel may have dropped its
//! pages and read old ones back. If a frame is gone, or the copy fails as well, the log stays poisoned.

use super::Shared;
use super::append::{Prepared, Writing};
use super::format::{FrameHeader, FrameKind, HEADER_BYTES, Predecessor, SegmentStart};
use super::frames::FrameReader;
use super::lsn::Lsn;
use super::segment::{Segment, SegmentEnd};
use crate::error::{IoError, chain};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Debug, thiserror::Error)]
pub(super) enum RescueError {
    #[error("the un-synced frames were already rewritten once in this process")]
    Twice,
    #[error("the un-synced frames could not be rewritten")]
    Io(#[from] IoError),
    #[error("un-synced frame {lsn} cannot be read back from {}", .path.display())]
    Unreadable { lsn: Lsn, path: PathBuf },
    #[error("the un-synced frames do not fit into one segment")]
    TooLarge,
}

/// An un-synced DATA frame, where it was first written.
struct LostFrame {
    segment: Arc<Segment>,
    offset: u64,
    header: FrameHeader,
}

impl Shared {
    /// Copies every frame above the durable mark into a new segment, syncs it and continues from there. Appends are
    /// refused meanwhile. Returns the new durable mark.
    pub(super) fn rescue(&self) -> Result<Lsn, RescueError> {
        if self.rescued.swap(true, Ordering::SeqCst) {
            return Err(RescueError::Twice);
        }
        let (lost, durable, last) = {
            let mut tail = self.tail.lock();
            tail.paused = true;
            let mut lost = std::mem::take(&mut tail.sealed);
            lost.extend(tail.active.take());
            (lost, tail.durable, tail.last)
        };
        for writing in &lost {
            while writing.appender.oldest_live().is_some() {
                std::thread::yield_now();
            }
            writing.appender.publish(writing.appender.head());
        }
        let failed = self.tail.lock().failed.clone();
        let frames = frames_above(&lost, durable, last, &failed)?;
        let start = restart(&lost, &frames, last);
        let writing = self.write_again(&frames, &start, durable)?;

        let superseded = self.segments.take_from(start.base);
        if let Some(cut) = start.predecessor
            && let Some(cut_segment) = lost.iter().find(|writing| writing.segment.id() == cut.id)
        {
            cut_segment.segment.set_end(SegmentEnd { offset: cut.end_offset, last: cut.last });
        }
        self.segments.push(Arc::clone(&writing.segment));
        self.mark(&writing.segment, last);
        let mut tail = self.tail.lock();
        tail.active = Some(writing);
        tail.durable = last;
        tail.unsynced_bytes = 0;
        (tail.unsynced_since, tail.syncing_since) = (None, None);
        tail.paused = false;
        drop(tail);
        self.remove_superseded(&superseded);
        Ok(last)
    }

    /// Writes the frames into a new segment, syncs it, and only then gives it its final name: if the process dies in
    /// between, the next start still uses the segments that it would have replaced.
    fn write_again(
        &self,
        frames: &[LostFrame],
        start: &SegmentStart,
        durable: Lsn,
    ) -> Result<Writing, RescueError> {
        let bytes: usize = frames.iter().map(|frame| frame.header.frame_bytes()).sum();
        let capacity = self.config.segment_bytes.max((bytes + 2 * HEADER_BYTES) as u64);
        let header = self.new_header(capacity);
        let scratch = self.scratch_path(header.id);
        self.storage.allocate(&scratch, capacity, &header.encode())?;
        self.pool.lock().log_bytes += capacity;
        let appender = self.storage.open_log(&scratch)?.appender(Segment::FIRST_OFFSET);
        let (mut writing, placed) = self.begin(Prepared { header, appender }, start, durable);
        self.write_start(placed, start)?;
        let mut reader: Option<(&Arc<Segment>, FrameReader)> = None;
        for frame in frames {
            let (_, from) = match reader.take() {
                Some(open) if Arc::ptr_eq(open.0, &frame.segment) => reader.insert(open),
                _ => reader.insert((&frame.segment, frame.segment.frames())),
            };
            let (lsn, gone) = (frame.header.lsn, || frame.unreadable());
            from.frame(frame.offset).map_err(|_| gone())?;
            let (ext, payload) = from.body(frame.offset, &frame.header).ok_or_else(gone)?;
            let to = writing.appender.reserve(frame.header.frame_bytes(), lsn.0);
            let mut to = to.map_err(|_| RescueError::TooLarge)?;
            // The file is new, so the padding is zero already.
            for part in [&frame.header.encode(writing.segment.salt)[..], ext, payload] {
                to.write(part)?;
            }
            writing.frames += 1;
        }
        writing.appender.file().sync()?;
        let Prepared { appender, .. } = self.put_in_place(&scratch, header, writing.appender.head())?;
        let file = Arc::clone(appender.file());
        let segment = Arc::new(Segment::new(header, start.base, start.predecessor, file));
        Ok(Writing { segment, appender, frames: writing.frames })
    }

    /// Removes segments whose frames were all rewritten. Recovery recognizes one that is left behind: it has the same
    /// predecessor as the newer segment that replaced it.
    fn remove_superseded(&self, superseded: &[Arc<Segment>]) {
        for segment in superseded {
            segment.superseded.store(true, Ordering::Release);
            self.forget_bytes(segment.header.capacity);
            if let Err(error) = self.storage.remove(segment.file.path()) {
                tracing::warn!(error = %chain(&error), "cannot remove a superseded log segment; the next start removes it");
            }
        }
        if let Err(error) = self.storage.sync_dir(&self.config.dir) {
            tracing::warn!(error = %chain(&error), "cannot make the removal of superseded log segments durable; they may reappear after power loss");
        }
    }
}

/// How the new segment describes itself: it starts with the first lost frame, and its predecessor ends there.
fn restart(lost: &[Writing], frames: &[LostFrame], last: Lsn) -> SegmentStart {
    let base = frames.first().map_or(last.next(), |frame| frame.header.lsn);
    // The segment in which the durable frames end; a segment without any is replaced entirely.
    let cut = lost.iter().map(|writing| &writing.segment).rfind(|segment| segment.base < base);
    let predecessor = match (cut, lost.first()) {
        (Some(segment), _) => {
            let first_lost = frames.iter().find(|frame| Arc::ptr_eq(&frame.segment, segment));
            let end = segment.end().map_or(segment.file.readable(), |end| end.offset);
            let end_offset = first_lost.map_or(end, |frame| frame.offset);
            Some(Predecessor { id: segment.id(), end_offset, last: base.previous() })
        }
        (None, Some(first)) => first.segment.predecessor,
        (None, None) => None,
    };
    SegmentStart { base, predecessor }
}

impl LostFrame {
    fn unreadable(&self) -> RescueError {
        RescueError::Unreadable { lsn: self.header.lsn, path: self.segment.file.path().to_owned() }
    }
}

/// All DATA frames above `durable`, in order, each with a valid body. Those in `failed` may be absent.
fn frames_above(
    lost: &[Writing],
    durable: Lsn,
    last: Lsn,
    failed: &BTreeSet<Lsn>,
) -> Result<Vec<LostFrame>, RescueError> {
    let mut frames = Vec::new();
    let mut next = durable.next();
    for writing in lost {
        let segment = &writing.segment;
        let head = writing.appender.head();
        let mut reader = segment.frames();
        let mut offset = Segment::FIRST_OFFSET;
        // A failed append leaves a hole, which is stepped over.
        while let Some((at, header)) = reader.next_header(offset, head) {
            offset = at + header.frame_bytes() as u64;
            if header.kind == FrameKind::Data && header.lsn > durable {
                let frame = LostFrame { segment: Arc::clone(segment), offset: at, header };
                if reader.frame(at).is_ok() {
                    missing(next, header.lsn, failed, segment)?;
                    next = header.lsn.next();
                    frames.push(frame);
                } else if !failed.contains(&header.lsn) {
                    return Err(frame.unreadable());
                }
            }
        }
    }
    if let Some(writing) = lost.last() {
        missing(next, last.next(), failed, &writing.segment)?;
    }
    Ok(frames)
}

/// An error if a frame in `[from, to)` is absent although its append succeeded.
fn missing(from: Lsn, to: Lsn, failed: &BTreeSet<Lsn>, segment: &Segment) -> Result<(), RescueError> {
    let gone = (from.0..to.0).map(Lsn).find(|lsn| !failed.contains(lsn));
    let path = segment.file.path().to_owned();
    gone.map_or(Ok(()), |lsn| Err(RescueError::Unreadable { lsn, path }))
}
