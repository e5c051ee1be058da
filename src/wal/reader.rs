//! Reads the log in order up to the durable mark.

use super::Shared;
use super::durable::Durable;
use super::format::{FrameError, FrameHeader, FrameKind};
use super::frames::FrameReader;
use super::lsn::{Lsn, LsnRange, SegmentId};
use super::segment::{MARK_BYTES, Segment};
use crate::clock::Micros;
use crate::error::chain;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// Reads the log from one LSN on. A daemon has one; segments live until the reader has passed them and they are
/// trimmed.
pub struct WalReader {
    shared: Arc<Shared>,
    durable: watch::Receiver<Durable>,
    segment: Option<Arc<Segment>>,
    frames: Option<FrameReader>,
    offset: u64,
    /// From this offset on, the next frame's offset is worth remembering.
    marked: u64,
    /// The next expected LSN.
    next: Lsn,
    current: Option<(u64, FrameHeader)>,
    /// It only looks and quarantines nothing: see [`WalReader::look_ahead`].
    looks_only: bool,
}

/// The result of polling the log.
#[derive(Debug)]
pub enum Polled {
    /// A frame: see [`WalReader::frame`].
    Frame(Lsn),
    /// LSNs that are lost.
    Damage(Damage),
    /// All durable frames have been read.
    Idle,
}

/// Lost frames.
#[derive(Debug, Clone)]
pub struct Damage {
    pub segment: SegmentId,
    /// The bytes that are not valid frames.
    pub offset: u64,
    pub bytes: u64,
    pub lost: LsnRange,
    /// The part of `lost` that had been durable: damage to the medium. The rest was never synced: a torn tail, which a
    /// 202 response does not promise to keep across power loss.
    pub corrupt: Option<LsnRange>,
}

/// A frame as the reader returns it.
#[derive(Debug)]
pub struct ReadFrame<'a> {
    pub lsn: Lsn,
    pub ts: Micros,
    pub payload: &'a [u8],
}

impl WalReader {
    pub(super) fn new(shared: Arc<Shared>, consumed: Lsn) -> Self {
        let durable = shared.durable.subscribe();
        Self {
            shared,
            durable,
            segment: None,
            frames: None,
            offset: 0,
            marked: 0,
            next: consumed.next(),
            current: None,
            looks_only: false,
        }
    }

    /// Releases the segments that hold nothing above `consumed`. The caller guarantees that a synced checkpoint covers
    /// it (W4).
    pub fn trim(&self, consumed: Lsn) {
        self.shared.trim(consumed);
    }

    /// If the log is running out of segments: the LSN up to which it should be consumed soon, so that half of them
    /// become free.
    pub fn pressed(&self) -> Option<Lsn> {
        if !self.shared.is_short_of_room() {
            return None;
        }
        let segments = self.shared.segments.all();
        let ended: Vec<Lsn> = segments.iter().filter_map(|segment| Some(segment.end()?.last)).collect();
        ended.get(ended.len() / 2).copied()
    }

    /// The last LSN that was read or is known to be lost.
    pub fn position(&self) -> Lsn {
        self.next.previous()
    }

    /// The first LSN of this run of the daemon.
    pub fn run(&self) -> Lsn {
        self.shared.recovered_last.next()
    }

    /// Restarts after `consumed`.
    pub fn rewind(&mut self, consumed: Lsn) {
        self.segment = None;
        self.frames = None;
        self.current = None;
        self.next = consumed.next();
    }

    /// Skips to the durable mark, to measure the cost of the log without a reader.
    pub fn pass_over(&mut self) {
        let durable = self.durable.borrow().lsn;
        self.rewind(durable);
    }

    /// Passes the frames of earlier starts that this reader has yet to read to `see`, without moving the reader. Skips
    /// damage, which is reported when it is read. `see` returns whether to continue.
    pub fn look_ahead(&self, mut see: impl FnMut(Lsn, Micros, &[u8]) -> bool) {
        let mut ahead = Self { looks_only: true, ..Self::new(Arc::clone(&self.shared), self.position()) };
        loop {
            match ahead.poll() {
                Polled::Idle => return,
                Polled::Damage(_) => {}
                Polled::Frame(lsn) if lsn > self.shared.recovered_last => return,
                Polled::Frame(lsn) => {
                    let Some(frame) = ahead.frame() else { return };
                    if !see(lsn, frame.ts, frame.payload) {
                        return;
                    }
                }
            }
        }
    }

    /// Copies the frame that [`WalReader::poll`] has just found to a quarantine file (W8).
    pub fn put_aside_frame(&self) {
        if let (Some((offset, header)), Some(segment)) = (self.current, &self.segment) {
            self.put_aside(segment, offset, header.frame_bytes() as u64);
        }
    }

    /// Watches the durable mark, to wait for more frames.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// Moves to the next frame, or returns why it cannot.
    pub fn poll(&mut self) -> Polled {
        loop {
            let durable = self.durable.borrow().lsn;
            let Some(segment) = self.locate() else { return Polled::Idle };
            if segment.end().is_some_and(|end| self.offset >= end.offset) {
                let end = segment.end().map_or(Lsn::NONE, |end| end.last);
                if let Some(damage) = self.missing_before(&segment, end.next(), self.offset) {
                    return Polled::Damage(damage);
                }
                if !self.advance(&segment) {
                    return Polled::Idle;
                }
                continue;
            }
            if self.next > durable {
                return Polled::Idle;
            }
            match self.header_at(self.offset) {
                Ok(header) if header.lsn < self.next || header.kind != FrameKind::Data => {
                    self.offset += header.frame_bytes() as u64;
                }
                Ok(header) => {
                    if let Some(damage) = self.missing_before(&segment, header.lsn, self.offset) {
                        return Polled::Damage(damage);
                    }
                    self.current = Some((self.offset, header));
                    if self.offset >= self.marked {
                        segment.mark(header.lsn, self.offset);
                        self.marked = self.offset + MARK_BYTES;
                    }
                    self.offset += header.frame_bytes() as u64;
                    self.next = header.lsn.next();
                    return Polled::Frame(header.lsn);
                }
                Err(_) => {
                    if let Some(damage) = self.step_over(&segment) {
                        return Polled::Damage(damage);
                    }
                }
            }
        }
    }

    /// The frame that [`WalReader::poll`] has just found.
    pub fn frame(&self) -> Option<ReadFrame<'_>> {
        let (offset, header) = self.current?;
        let (_, payload) = self.frames.as_ref()?.body(offset, &header)?;
        Some(ReadFrame { lsn: header.lsn, ts: header.ts, payload })
    }

    /// The segment to read from, looked up at the start and after a failed sync replaced it.
    fn locate(&mut self) -> Option<Arc<Segment>> {
        let current = self.segment.as_ref().filter(|segment| !segment.superseded.load(Ordering::Acquire));
        if let Some(segment) = current {
            return Some(Arc::clone(segment));
        }
        let segment = self.shared.segments.holding(self.next)?;
        Some(self.enter(segment))
    }

    fn enter(&mut self, segment: Arc<Segment>) -> Arc<Segment> {
        self.offset = Segment::FIRST_OFFSET;
        self.frames = Some(segment.frames());
        self.marked = 0;
        // LSNs may jump only here: a start continues far above the highest LSN assigned before.
        self.next = self.next.max(segment.base);
        self.segment = Some(Arc::clone(&segment));
        segment
    }

    fn advance(&mut self, from: &Segment) -> bool {
        match self.shared.segments.after(from) {
            Some(segment) => {
                self.current = None;
                self.enter(segment);
                true
            }
            None => false,
        }
    }

    /// The frame at `offset`. Frames that are passed over are not checked beyond their header.
    fn header_at(&mut self, offset: u64) -> Result<FrameHeader, FrameError> {
        let next = self.next;
        let frames = self.frames.as_mut().ok_or(FrameError::Empty)?;
        match frames.header(offset)? {
            header if header.kind != FrameKind::Data || header.lsn < next => Ok(header),
            _ => frames.frame(offset),
        }
    }

    /// The missing LSNs between the expected one and `found`.
    fn missing_before(&mut self, segment: &Segment, found: Lsn, offset: u64) -> Option<Damage> {
        self.lose(segment, offset, 0, found)
    }

    /// Finds the next valid frame after an invalid one, quarantines the bytes in between (W8), and returns the loss:
    /// `None` if they held no request.
    fn step_over(&mut self, segment: &Segment) -> Option<Damage> {
        let from = self.offset;
        let limit = segment.end().map_or(segment.file.readable(), |end| end.offset);
        let next = self.next;
        let found = self.frames.as_mut().and_then(|frames| {
            frames.find(from, limit, |header| header.lsn >= next).map(|(at, header)| (at, header.lsn))
        });
        self.offset = found.map_or(limit, |(at, _)| at);
        let bytes = self.offset - from;
        self.put_aside(segment, from, bytes);
        let end = segment.end().map_or(self.durable.borrow().lsn, |end| end.last);
        self.lose(segment, from, bytes, found.map_or(end.next(), |(_, lsn)| lsn))
    }

    fn lose(&mut self, segment: &Segment, offset: u64, bytes: u64, found: Lsn) -> Option<Damage> {
        if found <= self.next {
            return None;
        }
        let lost = LsnRange { first: self.next, last: found.previous() };
        let ours = segment.base > self.shared.recovered_last;
        let was_durable = if ours { self.durable.borrow().lsn } else { segment.known_durable };
        let corrupt = (lost.first <= was_durable)
            .then(|| LsnRange { first: lost.first, last: lost.last.min(was_durable) });
        self.next = found;
        Some(Damage { segment: segment.id(), offset, bytes, lost, corrupt })
    }

    fn put_aside(&self, segment: &Segment, offset: u64, bytes: u64) {
        if self.looks_only {
            return;
        }
        let name = format!("{}-{offset}.bytes", segment.id());
        let Ok(len) = usize::try_from(bytes) else { return };
        let Some(bytes) = segment.file.read(offset, len) else { return };
        let path = self.shared.quarantine_dir().join(name);
        if let Err(error) = self.shared.storage.write_new(&path, &bytes) {
            // This also fails if an earlier start has already quarantined these bytes.
            tracing::warn!(error = %chain(&error), "cannot copy unreadable bytes of the log to wal/quarantine");
        }
    }
}
