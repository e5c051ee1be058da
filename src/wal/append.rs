//! The append path: number and range under a short lock, the copy outside of it.
//!
//! The lock is never held across a page fault, a system call or a copy. What it protects is small: which segment
//! is active, how far it is reserved, and the last number given.

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
use std::collections::VecDeque;
use std::sync::Arc;

/// A frame to append. Its payload is `head` followed by `body`, checked by `crc` (see [`format::body_crc`]), which
/// the caller computes before the log is asked for anything.
#[derive(Debug, Clone, Copy)]
pub struct NewFrame<'a> {
    pub ts: Micros,
    pub ext: &'a [u8],
    pub head: &'a [u8],
    pub body: &'a [Bytes],
}

/// Why a frame was not appended. Nothing of it is in the log, except after [`AppendError::Unknown`].
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room now; it comes back by itself.
    #[error("{0}")]
    Full(Full),
    /// It would never fit.
    #[error("a frame of {frame_bytes} bytes is larger than a segment of {segment_bytes} bytes can hold")]
    TooLarge { frame_bytes: usize, segment_bytes: u64 },
    /// A sync failed earlier; the log takes no more until it is opened again.
    #[error("the log is poisoned: a sync failed, and what it covered may be lost on power loss")]
    Poisoned,
    /// The daemon is shutting down.
    #[error("the log is closed")]
    Closed,
    /// The bytes may or may not be in the log.
    #[error("the outcome of the append is unknown")]
    Unknown(#[source] IoError),
}

/// Which room is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Full {
    #[error("the log has reached wal.max_bytes; it shrinks as files are written")]
    Log,
    #[error("the disk is full")]
    Disk,
    #[error("too much of the log is not yet synced: the disk is slower than the clients")]
    Unsynced,
    #[error("no segment is ready yet: the disk is slower than the clients")]
    Preparing,
}

/// A segment that is allocated and waits for its turn.
pub(super) struct Prepared {
    pub(super) header: SegmentHeader,
    pub(super) appender: Appender,
}

/// A segment with the right to append to it.
pub(super) struct Writing {
    pub(super) segment: Arc<Segment>,
    pub(super) appender: Appender,
    pub(super) frames: u64,
}

/// What the append lock protects.
pub(super) struct Tail {
    pub(super) active: Option<Writing>,
    pub(super) prepared: VecDeque<Prepared>,
    /// Rolled segments with bytes that no sync has covered yet, oldest first.
    pub(super) sealed: Vec<Writing>,
    /// The last number given.
    pub(super) last: Lsn,
    /// Everything of the current run of the daemon up to here is durable; before its first sync, what is known of the
    /// run before. May lag behind the truth.
    pub(super) durable: Lsn,
    pub(super) unsynced_bytes: u64,
    pub(super) appended_frames: u64,
    pub(super) appended_bytes: u64,
    pub(super) health: Health,
    /// No frame is taken for a moment: the un-synced ones are being written again after a failed sync.
    pub(super) paused: bool,
    /// Why `prepared` is empty, when it is.
    pub(super) shortage: Full,
    /// Why the last append was refused, until one is taken again.
    pub(super) refusing: Option<Full>,
    /// The last segment that ended.
    predecessor: Option<Predecessor>,
}

impl Tail {
    pub(super) fn new(last: Lsn, durable: Lsn, predecessor: Option<Predecessor>) -> Self {
        Self {
            active: None,
            prepared: VecDeque::new(),
            sealed: Vec::new(),
            last,
            durable,
            unsynced_bytes: 0,
            appended_frames: 0,
            appended_bytes: 0,
            health: Health::Good,
            paused: false,
            shortage: Full::Preparing,
            refusing: None,
            predecessor,
        }
    }
}

/// A frame whose place is reserved and whose bytes are still to be copied.
pub(super) struct Placed {
    reservation: Reservation,
    pub(super) header: FrameHeader,
    salt: u32,
}

impl Placed {
    pub(super) fn write<'a>(mut self, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<(), IoError> {
        self.reservation.write(&self.header.encode(self.salt))?;
        for part in parts {
            self.reservation.write(part)?;
        }
        let used = format::FRAME_HEADER_BYTES + self.header.body_bytes as usize;
        self.reservation.write(&[0; format::ALIGN][..self.header.frame_bytes() - used])
    }
}

/// The bookkeeping frames of a roll, written after the lock is gone.
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

    /// Appends one frame and returns its number. When it returns, the frame survives the death of the process.
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
        let (placed, sync) = self.place(header)?;
        let lsn = placed.header.lsn;
        let parts = [frame.ext, frame.head].into_iter().chain(frame.body.iter().map(|chunk| &chunk[..]));
        // A store into a mapping cannot fail, a `pwrite` can. Then the range is a hole, which recovery steps over.
        placed.write(parts).map_err(AppendError::Unknown)?;
        if sync {
            self.request_sync();
        }
        Ok(lsn)
    }

    /// The largest frame that fits into a segment of its own.
    fn frame_bytes_max(&self) -> u64 {
        let overhead = HEADER_BYTES + frame_bytes(SEGSTART_BYTES) + SEAL_FRAME_BYTES;
        self.config.segment_bytes.saturating_sub(overhead as u64)
    }

    /// Reserves the frame's place and gives it its number. The second value says whether so much is un-synced now
    /// that a sync should start.
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
                // The first segment of a start is taken into use by `activate_first` alone.
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
                // Too many copies at once: let one of them finish.
                drop(tail);
                std::thread::yield_now();
                continue;
            };
            let salt = active.segment.salt;
            active.frames += 1;
            let before = tail.unsynced_bytes;
            tail.last = lsn;
            tail.unsynced_bytes += len as u64;
            tail.appended_frames += 1;
            tail.refusing = None;
            tail.appended_bytes += len as u64;
            let threshold = self.config.sync_bytes;
            let sync = before < threshold && tail.unsynced_bytes >= threshold;
            return Ok((Placed { reservation, header, salt }, sync));
        }
    }

    /// Ends the active segment, if there is one, and makes the next prepared one active.
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

    /// Takes a prepared segment into use.
    pub(super) fn begin(&self, prepared: Prepared, start: &SegmentStart, durable: Lsn) -> (Writing, Placed) {
        let file = Arc::clone(prepared.appender.file());
        let segment = Arc::new(Segment::new(prepared.header, start.base, start.predecessor, file));
        let mut writing = Writing { segment, appender: prepared.appender, frames: 0 };
        let placed =
            self.place_bookkeeping(&mut writing, FrameKind::Start, SEGSTART_BYTES, start.base, durable);
        (writing, placed)
    }

    /// Ends a segment where it is. Room for its SEAL frame was always left.
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

    /// Whether appends are refused, or will be once the active segment is full, until segments are given up; and there
    /// are some to give up.
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
        // A start is the first reservation of its file; a seal may have to wait for a copy to end.
        let reservation = loop {
            match writing.appender.reserve(frame_bytes(payload_bytes), next.0) {
                Ok(reservation) => break reservation,
                Err(ReserveError::Busy) => std::thread::yield_now(),
                Err(ReserveError::NoRoom) => unreachable!("room for bookkeeping frames is always left"),
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
