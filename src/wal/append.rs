//! The append path: assigns the number and the range under a short lock and copies outside of it.
//!
//! The lock is never held across a page fault, a system call or a copy. It protects little: which segment is active,
//! how far it is reserved, and the last LSN assigned.

use super::Shared;
use super::durable::Health;
use super::format::{
    self, FrameHeader, FrameKind, HEADER_BYTES, Predecessor, SEAL_BYTES, SEAL_FRAME_BYTES, SEGSTART_BYTES,
    Seal, SegmentHeader, SegmentStart, frame_bytes,
};
use super::lsn::Lsn;
use super::segment::{Segment, SegmentEnd};
use crate::clock::Micros;
use crate::error::IoError;
use crate::storage::{Appender, Reservation, ReserveError};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A frame to append. Its payload is `head` followed by `body`, checked by `crc` (see [`format::body_crc`]), which
/// the caller computes before it calls the log.
#[derive(Debug, Clone, Copy)]
pub struct NewFrame<'a> {
    pub ts: Micros,
    pub ext: &'a [u8],
    pub head: &'a [u8],
    pub body: &'a [Bytes],
}

/// Why a frame was not appended. The log holds none of it, except after [`AppendError::Unknown`].
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No room now; the condition is temporary.
    #[error("{0}")]
    Full(Full),
    /// The frame can never fit.
    #[error("a frame of {frame_bytes} bytes does not fit into a segment of {segment_bytes} bytes")]
    TooLarge { frame_bytes: usize, segment_bytes: u64 },
    /// A sync failed earlier; the log accepts no frames until it is reopened.
    #[error("the log is poisoned: a sync failed, and the records that it covered may not survive power loss")]
    Poisoned,
    /// The daemon is shutting down.
    #[error("the log is closed")]
    Closed,
    /// The frame may or may not be in the log.
    #[error("the outcome of the append is unknown")]
    Unknown(#[source] IoError),
}

/// Which resource has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Full {
    #[error("the log has reached wal.max_bytes; it shrinks as Parquet files are written")]
    Log,
    #[error("the disk is full")]
    Disk,
    #[error("the log has too many un-synced bytes: the disk is slower than the clients")]
    Unsynced,
    #[error("no segment is ready yet: the disk is slower than the clients")]
    Preparing,
}

/// An allocated segment that is ready for use.
pub(super) struct Prepared {
    pub(super) header: SegmentHeader,
    pub(super) appender: Appender,
}

/// A segment and the exclusive right to append to it.
pub(super) struct Writing {
    pub(super) segment: Arc<Segment>,
    pub(super) appender: Appender,
    pub(super) frames: u64,
}

/// The state that the append lock protects.
pub(super) struct Tail {
    /// The first segment of this start is in use. If no segment is active later, a rescue is about to create one.
    pub(super) started: bool,
    pub(super) active: Option<Writing>,
    pub(super) prepared: VecDeque<Prepared>,
    /// Rolled segments with un-synced bytes, oldest first.
    pub(super) sealed: Vec<Writing>,
    /// The last LSN assigned.
    pub(super) last: Lsn,
    /// Every frame of the current run up to here is durable; before the first sync, the known value of the previous
    /// run. May lag behind the actual mark.
    pub(super) durable: Lsn,
    pub(super) unsynced_bytes: u64,
    /// When the oldest frame was received that no sync has begun to cover, and the oldest that the running sync covers.
    pub(super) unsynced_since: Option<Micros>,
    pub(super) syncing_since: Option<Micros>,
    pub(super) appended_frames: u64,
    pub(super) appended_bytes: u64,
    pub(super) health: Health,
    /// No frame is accepted right now: the un-synced ones are being rewritten after a failed sync.
    pub(super) paused: bool,
    /// Why `prepared` is empty, if it is.
    pub(super) shortage: Full,
    /// Why the last append was refused; cleared by the next accepted one.
    pub(super) refusing: Option<Full>,
    /// The last segment that ended.
    predecessor: Option<Predecessor>,
    /// Un-synced frames whose bytes could not be written: their callers were told so.
    pub(super) failed: BTreeSet<Lsn>,
}

impl Tail {
    pub(super) fn new(last: Lsn, durable: Lsn, predecessor: Option<Predecessor>) -> Self {
        Self {
            started: false,
            active: None,
            prepared: VecDeque::new(),
            sealed: Vec::new(),
            last,
            durable,
            unsynced_bytes: 0,
            unsynced_since: None,
            syncing_since: None,
            appended_frames: 0,
            appended_bytes: 0,
            health: Health::Good,
            paused: false,
            shortage: Full::Preparing,
            refusing: None,
            predecessor,
            failed: BTreeSet::new(),
        }
    }
}

/// A frame with a reserved range whose bytes are yet to be copied.
pub(super) struct Placed {
    reservation: Reservation,
    pub(super) header: FrameHeader,
    salt: u32,
}

impl Placed {
    pub(super) fn write<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<(), IoError> {
        // The header last: whatever a killed process leaves, a valid header means a whole frame.
        self.reservation.leave_head(format::FRAME_HEADER_BYTES);
        for part in parts {
            self.reservation.write(part)?;
        }
        let used = format::FRAME_HEADER_BYTES + self.header.body_bytes as usize;
        self.reservation.write(&[0; format::ALIGN][..self.header.frame_bytes() - used])?;
        self.reservation.write_head(&self.header.encode(self.salt))
    }
}

/// The bookkeeping frames of a roll, written after the lock is released.
#[derive(Default)]
pub(super) struct Roll {
    seal: Option<(Placed, Seal)>,
    start: Option<(Placed, SegmentStart)>,
}

impl Roll {
    pub(super) fn write(self, shared: &Shared) -> Result<(), IoError> {
        if let Some((placed, seal)) = self.seal {
            shared.write_seal(placed, &seal)?;
        }
        if let Some((placed, start)) = self.start {
            shared.write_start(placed, &start)?;
        }
        Ok(())
    }
}

impl Shared {
    pub(super) fn write_start(&self, mut placed: Placed, start: &SegmentStart) -> Result<(), IoError> {
        let payload = start.encode();
        placed.header.body_crc = self.body_crc(&payload);
        placed.write([&payload[..]])
    }

    pub(super) fn write_seal(&self, mut placed: Placed, seal: &Seal) -> Result<(), IoError> {
        let payload = seal.encode();
        placed.header.body_crc = self.body_crc(&payload);
        placed.write([&payload[..]])
    }

    fn body_crc(&self, bytes: &[u8]) -> u32 {
        let mut crc = format::body_crc(&self.wal_uuid);
        crc.update(bytes);
        crc.finalize()
    }

    /// Appends one frame and returns its LSN. From then on the frame survives the death of the process.
    pub(super) fn append(&self, frame: &NewFrame<'_>) -> Result<Lsn, AppendError> {
        let mut crc = format::body_crc(&self.wal_uuid);
        let mut body_bytes = frame.ext.len() + frame.head.len();
        crc.update(frame.ext);
        crc.update(frame.head);
        for chunk in frame.body {
            crc.update(chunk);
            body_bytes += chunk.len();
        }
        let too_large = AppendError::TooLarge {
            frame_bytes: frame_bytes(body_bytes),
            segment_bytes: self.config.segment_bytes,
        };
        let (Ok(body_bytes), Ok(ext_bytes)) = (u32::try_from(body_bytes), u16::try_from(frame.ext.len()))
        else {
            return Err(too_large);
        };
        let header = FrameHeader {
            kind: FrameKind::Data,
            lsn: Lsn::NONE,
            ts: frame.ts,
            durable: Lsn::NONE,
            body_bytes,
            ext_bytes,
            body_crc: crc.finalize(),
        };
        if header.frame_bytes() as u64 > self.frame_bytes_max() {
            return Err(too_large);
        }
        let (mut placed, sync) = self.place(header)?;
        let lsn = placed.header.lsn;
        let parts = [frame.ext, frame.head].into_iter().chain(frame.body.iter().map(|chunk| &chunk[..]));
        // A store into a mapping cannot fail, but a `pwrite` can. It then leaves a hole, which recovery skips.
        if let Err(error) = placed.write(parts) {
            let mut tail = self.tail.lock();
            let durable = tail.durable;
            tail.failed.retain(|failed| *failed > durable);
            // Before its reservation ends: a rescue waits for that.
            tail.failed.insert(lsn);
            drop(tail);
            drop(placed);
            return Err(AppendError::Unknown(error));
        }
        if sync {
            self.request_sync();
        }
        Ok(lsn)
    }

    /// The largest frame that fits into an otherwise empty segment.
    fn frame_bytes_max(&self) -> u64 {
        let overhead = HEADER_BYTES + frame_bytes(SEGSTART_BYTES) + SEAL_FRAME_BYTES;
        self.config.segment_bytes.saturating_sub(overhead as u64)
    }

    /// Reserves the frame's range and assigns its LSN. The second value says whether enough bytes are un-synced to
    /// start a sync.
    fn place(&self, mut header: FrameHeader) -> Result<(Placed, bool), AppendError> {
        let len = header.frame_bytes();
        loop {
            let mut tail = self.tail.lock();
            match tail.health {
                Health::Good => {}
                Health::Closed => return Err(AppendError::Closed),
                Health::Poisoned => return Err(AppendError::Poisoned),
            }
            if tail.paused || tail.unsynced_bytes > self.config.unsynced_max {
                tail.refusing = Some(Full::Unsynced);
                return Err(AppendError::Full(Full::Unsynced));
            }
            if tail.active.is_none() {
                // Only `activate_first` puts the first segment of a start into use.
                tail.refusing = Some(tail.shortage);
                return Err(AppendError::Full(tail.shortage));
            }
            let lsn = tail.last.next();
            header.lsn = lsn;
            header.durable = tail.durable;
            let fits = |writing: &&mut Writing| writing.appender.room() >= (len + SEAL_FRAME_BYTES) as u64;
            let Some(active) = tail.active.as_mut().filter(fits) else {
                let roll = self.roll(&mut tail).map_err(AppendError::Full)?;
                drop(tail);
                roll.write(self).map_err(AppendError::Unknown)?;
                continue;
            };
            let Ok(reservation) = active.appender.reserve(len, lsn.0) else {
                // Too many concurrent copies: let one of them finish.
                drop(tail);
                std::thread::yield_now();
                continue;
            };
            let salt = active.segment.salt;
            active.frames += 1;
            let before = tail.unsynced_bytes;
            tail.last = lsn;
            tail.unsynced_bytes += len as u64;
            tail.unsynced_since.get_or_insert(header.ts);
            tail.appended_frames += 1;
            tail.refusing = None;
            tail.appended_bytes += len as u64;
            let threshold = self.config.sync_bytes;
            let sync = before < threshold && tail.unsynced_bytes >= threshold;
            return Ok((Placed { reservation, header, salt }, sync));
        }
    }

    /// Ends the active segment, if any, and activates the next prepared one.
    pub(super) fn roll(&self, tail: &mut Tail) -> Result<Roll, Full> {
        let Some(prepared) = tail.prepared.pop_front() else {
            tail.refusing = Some(tail.shortage);
            return Err(tail.shortage);
        };
        self.prepare_wanted.notify_one();
        let mut roll = Roll::default();
        if let Some(writing) = tail.active.take() {
            roll.seal = Some(self.seal(tail, writing));
        }
        let start = SegmentStart { base: tail.last.next(), predecessor: tail.predecessor };
        let (writing, placed) = self.begin(prepared, &start, tail.durable);
        tail.unsynced_bytes += placed.header.frame_bytes() as u64;
        self.segments.push(Arc::clone(&writing.segment));
        tail.active = Some(writing);
        roll.start = Some((placed, start));
        Ok(roll)
    }

    /// Puts a prepared segment into use.
    pub(super) fn begin(&self, prepared: Prepared, start: &SegmentStart, durable: Lsn) -> (Writing, Placed) {
        let file = Arc::clone(prepared.appender.file());
        let segment = Arc::new(Segment::new(prepared.header, start.base, start.predecessor, file));
        let mut writing = Writing { segment, appender: prepared.appender, frames: 0 };
        let placed =
            self.place_bookkeeping(&mut writing, FrameKind::Start, SEGSTART_BYTES, start.base, durable);
        (writing, placed)
    }

    /// Ends a segment at its current offset. Room for the SEAL frame is always reserved.
    pub(super) fn seal(&self, tail: &mut Tail, mut writing: Writing) -> (Placed, Seal) {
        let seal = Seal { end_offset: writing.appender.head(), frames: writing.frames, last: tail.last };
        writing.segment.set_end(SegmentEnd { offset: seal.end_offset, last: seal.last });
        tail.predecessor = writing.segment.as_predecessor();
        let next = tail.last.next();
        let placed = self.place_bookkeeping(&mut writing, FrameKind::Seal, SEAL_BYTES, next, tail.durable);
        tail.unsynced_bytes += placed.header.frame_bytes() as u64;
        tail.sealed.push(writing);
        (placed, seal)
    }

    /// Whether appends are refused, or will be once the active segment is full, until segments are released, and
    /// segments exist that can be released.
    pub(super) fn is_short_of_room(&self) -> bool {
        let short = {
            let tail = self.tail.lock();
            tail.prepared.is_empty() && matches!(tail.shortage, Full::Log | Full::Disk)
        };
        short && self.segments.all().len() > 1
    }

    fn place_bookkeeping(
        &self,
        writing: &mut Writing,
        kind: FrameKind,
        payload_bytes: usize,
        next: Lsn,
        durable: Lsn,
    ) -> Placed {
        // A START frame is the first reservation of its file; a SEAL frame may have to wait for a copy to end.
        let reservation = loop {
            match writing.appender.reserve(frame_bytes(payload_bytes), next.0) {
                Ok(reservation) => break reservation,
                Err(ReserveError::Busy) => std::thread::yield_now(),
                Err(ReserveError::NoRoom) => unreachable!("room for bookkeeping frames is always reserved"),
            }
        };
        let header = FrameHeader {
            kind,
            lsn: next,
            ts: self.clock.now(),
            durable,
            body_bytes: u32::try_from(payload_bytes).expect("one of two small constants"),
            ext_bytes: 0,
            body_crc: 0,
        };
        Placed { reservation, header, salt: writing.segment.salt }
    }
}
