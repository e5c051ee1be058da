//! The handle that the HTTP side uses: append, wait for durability, query the state.

use super::Shared;
use super::append::{AppendError, Full, NewFrame};
use super::archive;
use super::durable::{Durable, Health, SyncError};
use super::format::{FrameError, FrameKind};
use super::lsn::{Lsn, SegmentId};
use super::past::FrameHistory;
use super::segment::Segment;
use crate::clock::Micros;
use crate::error::chain;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::futures::Notified;
use tokio::sync::watch;

/// A cloneable handle for appending.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Appends a frame. When this returns, the frame survives the death of the process, but not yet power loss.
    /// Never waits for the file system.
    pub fn append(&self, frame: &NewFrame<'_>) -> Result<Lsn, AppendError> {
        self.shared.append(frame)
    }

    /// Waits until the frame survives power loss. Concurrent waiters share one sync.
    pub async fn synced(&self, lsn: Lsn) -> Result<(), SyncError> {
        if self.shared.durable.borrow().lsn >= lsn {
            return Ok(());
        }
        match self.shared.wait_for_sync(lsn).await {
            Ok(outcome) => outcome,
            // The log closed after a last sync.
            Err(_) if self.shared.durable.borrow().lsn >= lsn => Ok(()),
            Err(_) => Err(SyncError::Late),
        }
    }

    /// Fails every wait for a sync that has lasted longer than `patience` with [`SyncError::Late`]. To be called
    /// periodically: a timer per waiter would cost more than the rest of the wait.
    pub fn expire_waiters(&self, patience: Duration) {
        self.shared.expire_waiters(patience);
    }

    /// Resolves when an append that was refused for lack of room may succeed, from now on: a caller asks before it
    /// tries, so that no wake-up between its attempt and its wait is lost. Has no deadline.
    pub fn space(&self) -> Notified<'_> {
        self.shared.space.notified()
    }

    /// Watches the durable mark and the health.
    pub fn watch(&self) -> watch::Receiver<Durable> {
        self.shared.durable.subscribe()
    }

    /// Accepts no more frames, syncs the last ones, and ends the threads.
    pub fn close(&self) {
        let seal = {
            let mut tail = self.shared.tail.lock();
            if tail.health == Health::Good {
                tail.health = Health::Closed;
            }
            let active = tail.active.take();
            active.map(|writing| self.shared.seal(&mut tail, writing))
        };
        if let Some((placed, seal)) = seal
            && let Err(error) = self.shared.write_seal(placed, &seal)
        {
            tracing::warn!(error = %chain(&error), "cannot seal the last log segment at shutdown; the next start scans it");
        }
        self.shared.stop_syncing();
        self.shared.stop_preparing();
    }

    /// Visits readable frames, newest segment first, each segment from front to back, up to the first invalid header. `keep` selects frames by LSN,
    /// receive time and payload; those of one segment are passed to `take` together, which returns whether to continue.
    pub fn look_back<T>(
        &self,
        keep: impl Fn(Lsn, Micros, &[u8]) -> Option<T>,
        mut take: impl FnMut(Vec<T>) -> bool,
    ) {
        for segment in self.shared.segments.all().into_iter().rev() {
            let mut kept = Vec::new();
            let mut frames = segment.frames();
            let mut offset = Segment::FIRST_OFFSET;
            loop {
                let header = match frames.frame(offset) {
                    Ok(header) => {
                        let body = frames.body(offset, &header).filter(|_| header.kind == FrameKind::Data);
                        kept.extend(body.and_then(|(_, payload)| keep(header.lsn, header.ts, payload)));
                        header
                    }
                    Err(FrameError::BadBody(header)) => header,
                    Err(FrameError::Empty | FrameError::BadHeader) => break,
                };
                offset += header.frame_bytes() as u64;
            }
            if !take(kept) {
                return;
            }
        }
    }

    /// Access to the frames that were read before and are kept, in the log or in the archive.
    pub fn past(&self) -> FrameHistory {
        FrameHistory::new(Arc::clone(&self.shared))
    }

    pub(super) fn stop_archiving(&self) {
        self.shared.archive.stop();
    }

    /// The time by the clock of the log.
    pub(super) fn now(&self) -> Micros {
        self.shared.clock.now()
    }

    /// Identity of this log.
    pub fn uuid(&self) -> [u8; 16] {
        self.shared.wal_uuid
    }

    pub fn status(&self) -> WalStatus {
        let segments = self.shared.segments.all().into_iter().map(|segment| SegmentStatus {
            id: segment.id(),
            first: segment.base,
            last: segment.end().map(|end| end.last),
            bytes: segment.end().map(|end| end.offset),
            capacity_bytes: segment.header.capacity,
        });
        let segments = segments.collect();
        let log_bytes = self.shared.pool.lock().log_bytes;
        let tail = self.shared.tail.lock();
        WalStatus {
            appended: tail.last,
            durable: self.shared.durable.borrow().lsn,
            health: self.shared.durable.borrow().health,
            refusing: tail.refusing,
            appended_frames: tail.appended_frames,
            appended_bytes: tail.appended_bytes,
            unsynced_bytes: tail.unsynced_bytes,
            unsynced_since: tail.syncing_since.or(tail.unsynced_since),
            prepared: tail.prepared.len(),
            log_bytes,
            archive: self.shared.archive.status(),
            backend: self.shared.storage.backend(&self.shared.config.dir),
            segments,
        }
    }
}

/// A snapshot for operators.
#[derive(Debug, Clone)]
pub struct WalStatus {
    /// The last LSN assigned.
    pub appended: Lsn,
    pub durable: Lsn,
    pub health: Health,
    /// Why the last append was refused; cleared by the next accepted one.
    pub refusing: Option<Full>,
    /// Since the start of the process.
    pub appended_frames: u64,
    pub appended_bytes: u64,
    pub unsynced_bytes: u64,
    /// When the oldest un-synced request was received.
    pub unsynced_since: Option<Micros>,
    pub prepared: usize,
    /// Bytes of all segment files, including unused ones.
    pub log_bytes: u64,
    pub archive: archive::ArchiveStatus,
    pub backend: &'static str,
    pub segments: Vec<SegmentStatus>,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct SegmentStatus {
    pub id: SegmentId,
    pub first: Lsn,
    /// Its last LSN, once it is sealed.
    pub last: Option<Lsn>,
    /// Bytes used, once it is sealed.
    pub bytes: Option<u64>,
    pub capacity_bytes: u64,
}
