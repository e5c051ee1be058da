//! The archive: consumed segments, compressed, kept for the retention so that they can be reread.
//!
//! A low-priority thread takes each trimmed segment, writes it under a scratch name, syncs it, gives it its final name,
//! syncs the directory, and only then hands the segment over for reuse or removal. So every kept frame is in the log or
//! in the archive at all times; if it is in both, the log is read.
//!
//! The archive never delays accepting: if the log has no room for another segment, or the disk has none for another
//! archived one, archived segments are removed, oldest first, or segments are released unarchived. All of these are
//! counted.

pub(super) mod file;
pub mod format;

use super::Shared;
use super::lsn::{Lsn, LsnRange};
use super::prepare::free_bytes;
use super::segment::{Segment, Segments};
use crate::clock::Micros;
use crate::error::{IoError, chain};
use crate::storage::Storage;
pub use file::ArchiveError;
use file::ArchivedSegment;
use format::SegmentName;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the archive checks for segments to remove.
const LOOK: Duration = Duration::from_secs(5);
/// How soon it retries after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// The maximum time that a shutdown waits for the archive.
const CLOSING: Duration = Duration::from_secs(2);
/// The archive needs this many times `wal.disk_reserve` of free space, so that it yields long before requests are
/// refused.
const RESERVE_TIMES: u64 = 2;
/// The `nice` value of the thread.
const PRIORITY: i32 = 10;

#[derive(Debug, Clone)]
pub struct ArchiveConfig {
    pub dir: PathBuf,
    /// How long an archived segment is kept, from the receipt of its last frame.
    pub retention: Duration,
    /// The size limit of all archived segments; the oldest are removed first.
    pub bytes_max: u64,
}

/// The archive's configuration and state.
pub(super) struct Archive {
    /// `None`: archiving is disabled.
    config: Option<ArchiveConfig>,
    state: Mutex<ArchiveState>,
    wanted: Condvar,
}

#[derive(Default)]
struct ArchiveState {
    /// Consumed segments, oldest first. The thread may be working on the front one.
    waiting: VecDeque<Arc<Segment>>,
    files: BTreeMap<SegmentName, ArchiveEntry>,
    /// The log is closing; the next start archives segments that are not archived by this deadline.
    closing: Option<Instant>,
    dropped: Dropped,
    last_error: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct ArchiveEntry {
    bytes: u64,
    /// Receive time of its last frame, once known.
    last_ts: Option<Micros>,
}

/// Segments removed before their retention, or never archived, since the start of the process.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub struct Dropped {
    /// Archived segments removed because of `wal.archive_bytes_max`.
    pub over_bytes_max: u64,
    /// Archived segments removed because the disk ran full.
    pub disk_full: u64,
    /// Segments that were never archived: the log needed their space, or the archive had none.
    pub unarchived: u64,
    /// The highest LSN in all of them.
    pub last_lsn: Lsn,
}

impl Dropped {
    /// The total number of dropped segments.
    pub fn segments(&self) -> u64 {
        self.over_bytes_max + self.disk_full + self.unarchived
    }
}

/// A snapshot for operators.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ArchiveStatus {
    pub enabled: bool,
    pub segments: usize,
    pub bytes: u64,
    /// The LSNs that it spans, possibly with gaps.
    pub first: Option<Lsn>,
    pub last: Option<Lsn>,
    /// Consumed segments that wait to be archived.
    pub waiting: usize,
    pub dropped: Dropped,
    pub last_error: Option<String>,
}

/// Where rereadable frames are stored: see [`Archive::holding`].
pub(super) enum SegmentLocation {
    Log(Arc<Segment>),
    Archive(SegmentName),
}

/// The LSN range of a segment in the log or in the archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) base: Lsn,
    /// Its last LSN so far.
    pub(super) last: Lsn,
    /// The name of an archived segment, to read the rest from its index.
    pub(super) archived: Option<SegmentName>,
    /// The last LSN before it, if recorded.
    pub(super) before: Option<Lsn>,
}

impl Archive {
    /// Finds the segments that earlier starts archived, and removes unfinished files.
    pub(super) fn open(storage: &dyn Storage, config: Option<ArchiveConfig>) -> Result<Self, IoError> {
        let mut state = ArchiveState::default();
        if let Some(config) = &config {
            storage.create_dir(&config.dir)?;
            for file in storage.list(&config.dir)? {
                let path = config.dir.join(&file);
                if let Some(name) = SegmentName::parse(&file) {
                    let bytes = storage.open(&path)?.bytes()?;
                    state.files.insert(name, ArchiveEntry { bytes, last_ts: None });
                } else if file.strip_suffix(".tmp").and_then(SegmentName::parse).is_some() {
                    storage.remove(&path)?;
                }
            }
        }
        Ok(Self { config, state: Mutex::new(state), wanted: Condvar::new() })
    }

    /// The newest archived segment.
    pub(super) fn newest(&self) -> Option<SegmentName> {
        self.state.lock().files.keys().next_back().copied()
    }

    /// The highest segment id in the archive.
    pub(super) fn highest_id(&self) -> Option<u64> {
        self.state.lock().files.keys().map(|name| name.id.0).max()
    }

    /// Moves the consumed segments out of the log's list, so that each is found in one of the two at all times. Returns
    /// those that are no longer needed.
    pub(super) fn take_through(&self, segments: &Segments, consumed: Lsn) -> Vec<Arc<Segment>> {
        let mut state = self.state.lock();
        let done = segments.take_through(consumed);
        if self.config.is_none() || done.is_empty() {
            return done;
        }
        state.waiting.extend(done);
        drop(state);
        self.wanted.notify_one();
        Vec::new()
    }

    /// A consumed segment that must be reused unarchived because the log has no other room: the oldest that nobody
    /// holds.
    pub(super) fn give_up_one(&self) -> Option<Arc<Segment>> {
        let mut state = self.state.lock();
        let at = state.waiting.iter().position(|segment| Arc::strong_count(segment) == 1)?;
        let segment = state.waiting.remove(at)?;
        state.count_unarchived(&segment);
        tracing::warn!(segment = %segment.id(), "a consumed log segment is reused without being archived: the log has no other room");
        Some(segment)
    }

    /// Ends the thread, once the waiting segments are archived or [`CLOSING`] is over.
    pub(super) fn stop(&self) {
        self.state.lock().closing = Some(Instant::now() + CLOSING);
        self.wanted.notify_one();
    }

    pub(super) fn status(&self) -> ArchiveStatus {
        let state = self.state.lock();
        ArchiveStatus {
            enabled: self.config.is_some(),
            segments: state.files.len(),
            bytes: state.files.values().map(|entry| entry.bytes).sum(),
            first: state.files.keys().next().map(|name| name.base),
            last: state.files.keys().next_back().map(|name| name.last),
            waiting: state.waiting.len(),
            dropped: state.dropped,
            last_error: state.last_error.clone(),
        }
    }

    /// The place that holds `lsn`, or the first LSN above it. Prefers the log to the archive.
    pub(super) fn holding(&self, segments: &Segments, lsn: Lsn) -> Option<SegmentLocation> {
        let state = self.state.lock();
        let mut nearest: Option<(Lsn, SegmentLocation)> = None;
        let mut offer = |base: Lsn, last: Lsn, place: SegmentLocation| {
            let at = base.max(lsn);
            if last >= at && nearest.as_ref().is_none_or(|(best, _)| at < *best) {
                nearest = Some((at, place));
            }
        };
        for segment in segments.all().into_iter().chain(state.waiting.iter().cloned()) {
            let last = segment.end().map_or(Lsn(u64::MAX), |end| end.last);
            offer(segment.base, last, SegmentLocation::Log(segment));
        }
        for name in state.files.keys() {
            offer(name.base, name.last, SegmentLocation::Archive(*name));
        }
        nearest.map(|(_, place)| place)
    }

    /// The extents of everything that can be reread, in LSN order.
    pub(super) fn extents(&self, segments: &Segments, durable: Lsn) -> Vec<Extent> {
        let state = self.state.lock();
        let in_log = segments.all().into_iter().chain(state.waiting.iter().cloned()).map(|segment| Extent {
            base: segment.base,
            last: segment.end().map_or(durable, |end| end.last),
            archived: None,
            before: segment.predecessor.map(|before| before.last),
        });
        let archived = state.files.keys().map(|name| Extent {
            base: name.base,
            last: name.last,
            archived: Some(*name),
            before: None,
        });
        let mut extents: Vec<Extent> = in_log.chain(archived).collect();
        extents.sort_by_key(|extent| (extent.base, extent.last));
        extents
    }

    /// Opens an archived segment; `None` if it has been removed meanwhile.
    pub(super) fn read(
        &self,
        storage: &dyn Storage,
        name: SegmentName,
    ) -> Result<Option<ArchivedSegment>, ArchiveError> {
        let Some(config) = &self.config else { return Ok(None) };
        match ArchivedSegment::open(storage, &config.dir.join(name.file())) {
            Ok(segment) => Ok(Some(segment)),
            Err(ArchiveError::Io(error)) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl ArchiveState {
    fn is_over(&self) -> bool {
        self.closing.is_some_and(|until| Instant::now() >= until)
    }

    /// The segment to archive next.
    fn front(&self) -> Option<Arc<Segment>> {
        if self.is_over() { None } else { self.waiting.front().cloned() }
    }

    fn count_unarchived(&mut self, segment: &Segment) {
        self.dropped.unarchived += 1;
        self.dropped.last_lsn = self.dropped.last_lsn.max(segment.end().map_or(Lsn::NONE, |end| end.last));
    }
}

/// Why an archived segment is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemovalReason {
    Age,
    BytesMax,
    DiskFull,
}

impl Shared {
    /// Archives the waiting segments one after the other, and removes archived ones beyond the age or size limit.
    /// Returns whether something failed and must be retried.
    pub(super) fn archive_once(&self) -> bool {
        let Some(config) = &self.archive.config else { return false };
        loop {
            self.expire(config);
            let front = self.archive.state.lock().front();
            let Some(segment) = front else { return false };
            match self.archive_segment(config, &segment) {
                Ok(()) => self.archive.state.lock().last_error = None,
                Err(ArchiveError::Closing) => return false,
                Err(error) if error.is_full() => {
                    // Its space is worth more than the ability to reread it.
                    let mut state = self.archive.state.lock();
                    state.count_unarchived(&segment);
                    state.last_error = Some(chain(&error));
                    tracing::warn!(segment = %segment.id(), error = %chain(&error), "a log segment is released without being archived: no disk space");
                }
                Err(error) => {
                    self.metrics.archive_errors.inc();
                    let error = chain(&error);
                    tracing::error!(segment = %segment.id(), error, "cannot archive a log segment; retrying");
                    self.archive.state.lock().last_error = Some(error);
                    return true;
                }
            }
            let mut state = self.archive.state.lock();
            state.waiting.retain(|waiting| !Arc::ptr_eq(waiting, &segment));
            drop(state);
            self.pool.lock().give_back(segment);
            self.prepare_wanted.notify_one();
        }
    }

    fn archive_segment(&self, config: &ArchiveConfig, segment: &Arc<Segment>) -> Result<(), ArchiveError> {
        let end = segment.end().expect("only sealed segments are consumed");
        let name = SegmentName { base: segment.base, id: segment.id(), last: end.last };
        if self.archive.state.lock().files.contains_key(&name) {
            // The process died or failed after archiving it and before releasing it.
            return Ok(());
        }
        self.make_room(config, end.offset)?;
        let path = config.dir.join(name.file());
        let scratch = config.dir.join(name.file() + ".tmp");
        let closing = || self.archive.state.lock().is_over();
        let written = file::write(self.storage.as_ref(), segment, end, &scratch, closing).and_then(|index| {
            self.storage.rename(&scratch, &path)?;
            self.storage.sync_dir(&config.dir)?;
            Ok(index)
        });
        let index = match written {
            Ok(index) => index,
            Err(error) => {
                for path in [&scratch, &path] {
                    // The file may have either name or not exist; the next attempt starts over.
                    drop(self.storage.remove(path));
                }
                return Err(error);
            }
        };
        let entry = ArchiveEntry { bytes: index.file_bytes(), last_ts: Some(index.last_ts) };
        self.metrics.archived_segments.inc();
        self.metrics.archived_bytes.inc_by(entry.bytes);
        self.archive.state.lock().files.insert(name, entry);
        Ok(())
    }

    /// Ensures that a segment of `raw_bytes` can be archived without taking the space that accepting needs.
    fn make_room(&self, config: &ArchiveConfig, raw_bytes: u64) -> Result<(), ArchiveError> {
        while self.is_short_of_disk(config, raw_bytes) {
            if !self.drop_oldest(config, RemovalReason::DiskFull) {
                let full = std::io::ErrorKind::StorageFull.into();
                return Err(
                    IoError::new("keep wal.disk_reserve free while writing to", &config.dir, full).into()
                );
            }
        }
        Ok(())
    }

    fn is_short_of_disk(&self, config: &ArchiveConfig, bytes: u64) -> bool {
        let free = free_bytes(self.storage.as_ref(), &config.dir);
        free < self.config.disk_reserve.saturating_mul(RESERVE_TIMES).saturating_add(bytes)
    }

    /// Removes archived segments that are too old, exceed the size limit, or take space that the log needs.
    fn expire(&self, config: &ArchiveConfig) {
        loop {
            let (bytes, oldest) = {
                let state = self.archive.state.lock();
                let bytes: u64 = state.files.values().map(|entry| entry.bytes).sum();
                (bytes, state.files.iter().next().map(|(name, entry)| (*name, *entry)))
            };
            let Some((name, entry)) = oldest else { return };
            let reason = if bytes > config.bytes_max {
                RemovalReason::BytesMax
            } else if self.is_short_of_disk(config, 0) {
                RemovalReason::DiskFull
            } else if self.is_too_old(config, name, entry) {
                RemovalReason::Age
            } else {
                return;
            };
            self.drop_oldest(config, reason);
        }
    }

    fn is_too_old(&self, config: &ArchiveConfig, name: SegmentName, entry: ArchiveEntry) -> bool {
        let last_ts = entry.last_ts.unwrap_or_else(|| {
            // An unreadable segment cannot be reread, but it is evidence: it is removed with the ones after it.
            // It is read once only, so this is logged once.
            let read = self.archive.read(self.storage.as_ref(), name).unwrap_or_else(|error| {
                tracing::warn!(segment = name.file(), error = %chain(&error), "cannot read the age of an archived segment, keeping it as long as younger ones");
                None
            });
            let last_ts = read.map_or(Micros::MAX, |segment| segment.index.last_ts);
            if let Some(entry) = self.archive.state.lock().files.get_mut(&name) {
                entry.last_ts = Some(last_ts);
            }
            last_ts
        });
        let age = self.clock.now().saturating_sub(last_ts);
        u64::try_from(age).is_ok_and(|age| Duration::from_micros(age) > config.retention)
    }

    /// Removes the oldest archived segment. False if there is none.
    fn drop_oldest(&self, config: &ArchiveConfig, reason: RemovalReason) -> bool {
        let mut state = self.archive.state.lock();
        let Some((name, _)) = state.files.pop_first() else { return false };
        let dropped = &mut state.dropped;
        match reason {
            RemovalReason::Age => drop(self.metrics.archive_expired_segments.inc()),
            RemovalReason::BytesMax | RemovalReason::DiskFull => {
                let count = if reason == RemovalReason::BytesMax {
                    &mut dropped.over_bytes_max
                } else {
                    &mut dropped.disk_full
                };
                *count += 1;
                dropped.last_lsn = dropped.last_lsn.max(name.last);
                tracing::warn!(?reason, first = %name.base, last = %name.last, "an archived log segment is removed before wal.archive_retention has passed");
            }
        }
        drop(state);
        if let Err(error) = self.storage.remove(&config.dir.join(name.file())) {
            tracing::warn!(error = %chain(&error), "cannot remove an archived log segment; the next start retries");
        }
        true
    }

    /// The LSNs of `range` that were assigned, or may have been, and are neither in the log nor in the archive.
    pub(super) fn missing(&self, range: LsnRange) -> Result<Vec<LsnRange>, ArchiveError> {
        let durable = self.durable.borrow().lsn;
        let mut missing = Vec::new();
        let mut next = range.first;
        for extent in self.archive.extents(&self.segments, durable) {
            if extent.last < next || next > range.last {
                continue;
            }
            if extent.base > next {
                // LSNs jump where a start continued above the highest one it knew: nothing is missing there.
                let before = match extent.archived {
                    Some(name) => match self.archive.read(self.storage.as_ref(), name)? {
                        Some(segment) => segment.index.predecessor.map(|before| before.last),
                        None => continue,
                    },
                    None => extent.before,
                };
                let given = before.unwrap_or(Lsn((extent.base.0 - 1).saturating_sub(super::LSN_SKIP)));
                let last = given.min(extent.base.previous()).min(range.last);
                if last >= next {
                    missing.push(LsnRange { first: next, last });
                }
                next = extent.base;
            }
            next = next.max(extent.last.next());
        }
        if next <= range.last {
            missing.push(LsnRange { first: next, last: range.last });
        }
        Ok(missing)
    }
}

/// The archiving thread.
pub(super) fn run(shared: &Shared) {
    if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
        tracing::debug!(%error, "cannot lower the priority of the archiving thread; it runs at normal priority");
    }
    loop {
        let started = Instant::now();
        let failed = shared.archive_once();
        let mut state = shared.archive.state.lock();
        if state.closing.is_some() {
            drop(state);
            // They will not be reused.
            shared.remove_spares();
            return;
        }
        let pause = if failed { RETRY } else { LOOK };
        if failed || (state.waiting.is_empty() && started.elapsed() < pause) {
            shared.archive.wanted.wait_for(&mut state, pause);
        }
    }
}
