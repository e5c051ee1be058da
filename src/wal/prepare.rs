//! The preparing thread: keeps allocated segments ready, reuses or removes consumed ones, and reports why no segment
//! can be prepared.

use super::Shared;
use super::append::{Full, Prepared};
use super::durable::Health;
use super::format::{self, SegmentHeader};
use super::lsn::{Lsn, SegmentId};
use super::segment::Segment;
use crate::error::{IoError, chain};
use crate::storage::Storage;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a shortage is rechecked: other processes may have freed space.
const RETRY: Duration = Duration::from_millis(200);
/// How often consumed segments are rechecked: a reader may still hold them, or they are no longer needed.
const LOOK: Duration = Duration::from_secs(1);
/// Consumed segments are kept for reuse while segments are being used up: a new segment is written twice, first as
/// zeros, and a stream that writes large files frees many segments at a time. After this long without a use, they are
/// kept only as far as they fit, with the rest of the log, into `wal.max_bytes` / [`SPARE_PART`].
const SPARE_TIME: Duration = Duration::from_secs(10);
const SPARE_PART: u64 = 4;

/// How many new segments that cannot be read are kept in `wal/quarantine/` by one process.
const SET_ASIDE_MAX: usize = 4;

/// Segment files that are not in use: consumed ones that await reuse or removal.
pub(super) struct SegmentPool {
    consumed: Vec<Arc<Segment>>,
    next_id: SegmentId,
    /// Bytes of all segment files, in use or not.
    pub(super) log_bytes: u64,
    closing: bool,
    /// When a segment was last prepared.
    used_at: Instant,
    /// The configured number of segments has been ready once.
    begun: bool,
    /// The last failure, so that each one is logged once.
    reported: Option<String>,
    /// How many new segments could not be read back.
    set_aside: usize,
}

impl SegmentPool {
    pub(super) fn new(next_id: SegmentId, log_bytes: u64) -> Self {
        Self {
            consumed: Vec::new(),
            next_id,
            log_bytes,
            closing: false,
            used_at: Instant::now(),
            begun: false,
            reported: None,
            set_aside: 0,
        }
    }
}

impl SegmentPool {
    /// Accepts a consumed segment that is no longer needed.
    pub(super) fn give_back(&mut self, segment: Arc<Segment>) {
        self.consumed.push(segment);
    }
}

impl Shared {
    /// Hands over the segments that hold nothing above `consumed` for reuse or removal. The caller guarantees that a
    /// synced checkpoint covers `consumed` (W4).
    pub(super) fn trim(&self, consumed: Lsn) {
        let done = self.archive.take_through(&self.segments, consumed);
        if done.is_empty() {
            return;
        }
        let closing = {
            let mut pool = self.pool.lock();
            pool.consumed.extend(done);
            pool.closing
        };
        if closing {
            // They will not be reused.
            self.remove_spares();
        }
        self.prepare_wanted.notify_one();
    }

    pub(super) fn remove_spares(&self) {
        while let Some(segment) = self.take_unreferenced(0) {
            self.remove_segment(&segment);
        }
    }

    pub(super) fn stop_preparing(&self) {
        self.pool.lock().closing = true;
        self.prepare_wanted.notify_one();
    }

    /// Creates the first segment of a start. A full disk is not an error: appends are refused until space is free.
    pub(super) fn prepare_first(&self) -> Result<(), IoError> {
        let bytes = self.config.first_segment_bytes.min(self.config.segment_bytes);
        let prepared = match self.room_for(bytes) {
            Ok(()) => self.make_segment(bytes),
            Err(full) => {
                self.tail.lock().shortage = full;
                return Ok(());
            }
        };
        match prepared {
            Ok(prepared) => self.tail.lock().prepared.push_back(prepared),
            Err(error) if error.is_full() => self.tail.lock().shortage = Full::Disk,
            Err(error) => return Err(error),
        }
        self.activate_first()
    }

    /// Puts the first prepared segment of a start into use, durably, before an LSN is assigned from it. So the next
    /// start, whatever power loss destroys, sees where this one began and continues above it.
    fn activate_first(&self) -> Result<(), IoError> {
        let (roll, segment) = {
            let mut tail = self.tail.lock();
            if tail.started || tail.health != Health::Good {
                return Ok(());
            }
            let Ok(roll) = self.roll(&mut tail) else { return Ok(()) };
            tail.started = true;
            tail.paused = true;
            let segment = tail.active.as_ref().map(|writing| Arc::clone(&writing.segment));
            (roll, segment)
        };
        let synced =
            roll.write(self).and_then(|()| segment.as_ref().map_or(Ok(()), |segment| segment.file.sync()));
        if let Some(segment) = segment.filter(|_| synced.is_ok()) {
            self.mark(&segment, self.recovered_last);
        }
        let mut tail = self.tail.lock();
        if synced.is_err() {
            tail.health = Health::Poisoned;
        }
        tail.paused = false;
        synced
    }

    /// Does the work that is due: removes or reuses consumed segments, prepares new ones.
    ///
    /// Allocating costs a hundred times as much as reusing. So if only one segment is short, it waits for the one that
    /// the reader is about to finish, and consumed segments are kept while there is room for them.
    pub(super) fn prepare_once(&self) {
        self.put_aside_unreadable();
        loop {
            let ready = self.tail.lock().prepared.len();
            if ready >= self.config.prepared {
                self.pool.lock().begun = true;
                match self.take_unreferenced(self.spare_segments()) {
                    Some(segment) => self.remove_segment(&segment),
                    None => return,
                }
                continue;
            }
            let free = self.take_unreferenced(0);
            if free.is_none() && ready > 0 && ready + 1 == self.config.prepared && self.has_begun() {
                return;
            }
            let prepared = match free {
                Some(segment) => self.reuse_or_remove(&segment).transpose(),
                None => None,
            };
            let prepared = match prepared.unwrap_or_else(|| self.allocate()) {
                // Accepting requests takes precedence over archiving.
                Err(shortage) if shortage.is_full() => match self.archive.give_up_one() {
                    Some(segment) => {
                        self.pool.lock().give_back(segment);
                        continue;
                    }
                    None => Err(shortage),
                },
                prepared => prepared,
            };
            match prepared {
                Ok(prepared) => {
                    self.tail.lock().prepared.push_back(prepared);
                    {
                        let mut pool = self.pool.lock();
                        pool.reported = None;
                        pool.used_at = Instant::now();
                    }
                    if let Err(error) = self.activate_first() {
                        tracing::error!(error = %chain(&error), "the log is poisoned and accepts no requests: its first segment could not be synced");
                        self.publish_durable(Lsn::NONE, Health::Poisoned);
                        return;
                    }
                    self.space.notify_waiters();
                }
                Err(shortage) => {
                    self.report_shortage(shortage);
                    return;
                }
            }
        }
    }

    /// Moves consumed segments of which a part could not be read out of the log.
    fn put_aside_unreadable(&self) {
        let is_unreadable = |segment: &mut Arc<Segment>| !segment.file.unreadable().is_empty();
        let unreadable: Vec<_> = self.pool.lock().consumed.extract_if(.., is_unreadable).collect();
        for segment in unreadable {
            self.remove_segment(&segment);
        }
    }

    fn allocate(&self) -> Result<Prepared, Shortage> {
        let bytes = self.config.segment_bytes;
        self.room_for(bytes).map_err(Shortage::Full)?;
        self.make_segment(bytes).map_err(Shortage::Io)
    }

    /// How many consumed segments are kept.
    fn spare_segments(&self) -> usize {
        let few = {
            let pool = self.pool.lock();
            pool.log_bytes <= self.config.max_bytes / SPARE_PART || pool.used_at.elapsed() < SPARE_TIME
        };
        // Others need the disk, too.
        let free = free_bytes(self.storage.as_ref(), &self.config.dir);
        if few && free > self.config.disk_reserve.saturating_mul(2) { usize::MAX } else { 1 }
    }

    fn room_for(&self, bytes: u64) -> Result<(), Full> {
        if self.pool.lock().log_bytes + bytes > self.config.max_bytes {
            return Err(Full::Log);
        }
        let free = free_bytes(self.storage.as_ref(), &self.config.dir);
        if free < bytes.saturating_add(self.config.disk_reserve) { Err(Full::Disk) } else { Ok(()) }
    }

    fn report_shortage(&self, shortage: Shortage) {
        let (full, text) = match shortage {
            Shortage::Full(full) => (full, full.to_string()),
            Shortage::Io(error) if error.is_full() => (Full::Disk, chain(&error)),
            Shortage::Io(error) => (Full::Preparing, chain(&error)),
        };
        self.tail.lock().shortage = full;
        let mut pool = self.pool.lock();
        if pool.reported.as_ref() != Some(&text) {
            tracing::warn!(reason = %text, "cannot prepare a log segment; requests are refused once the active segment is full");
            pool.reported = Some(text);
        }
    }

    /// Allocates a segment of `bytes` and gives it its final name, durably.
    fn make_segment(&self, bytes: u64) -> Result<Prepared, IoError> {
        let header = self.new_header(bytes);
        let scratch = self.scratch_path(header.id);
        self.storage.allocate(&scratch, bytes, &header.encode())?;
        let prepared = self.put_in_place(&scratch, header, Segment::FIRST_OFFSET)?;
        self.pool.lock().log_bytes += bytes;
        Ok(prepared)
    }

    /// The path of a segment until it is complete. A start removes whatever it finds there.
    pub(super) fn scratch_path(&self, id: SegmentId) -> PathBuf {
        self.pool_dir().join(format!("{id}.tmp"))
    }

    pub(super) fn new_header(&self, capacity: u64) -> SegmentHeader {
        let id = {
            let mut pool = self.pool.lock();
            let id = pool.next_id;
            pool.next_id = SegmentId(id.0 + 1);
            id
        };
        let (generation, _) = uuid::Uuid::new_v4().as_u64_pair();
        SegmentHeader { wal_uuid: self.wal_uuid, id, generation, capacity, created: self.clock.now() }
    }

    /// Gives a segment its final name, durably, and opens it for appending from `head` on.
    pub(super) fn put_in_place(
        &self,
        scratch: &Path,
        header: SegmentHeader,
        head: u64,
    ) -> Result<Prepared, IoError> {
        self.storage.read_back(scratch).inspect_err(|_| self.set_aside(scratch))?;
        let path = self.segment_path(header.id);
        self.storage.rename(scratch, &path)?;
        self.storage.sync_dir(&self.config.dir)?;
        let appender = self.storage.open_log(&path)?.appender(head);
        Ok(Prepared { header, appender })
    }

    /// Keeps an unused segment that cannot be read, so that its blocks are not used again; only a few, because a broken
    /// disk may return one after the other.
    fn set_aside(&self, scratch: &Path) {
        let mut pool = self.pool.lock();
        let moved = if pool.set_aside < SET_ASIDE_MAX {
            pool.set_aside += 1;
            let name = scratch.file_name().unwrap_or(scratch.as_os_str());
            self.storage.rename(scratch, &self.quarantine_dir().join(name).with_extension("unreadable"))
        } else {
            self.storage.remove(scratch)
        };
        if let Err(error) = moved {
            tracing::warn!(error = %chain(&error), "cannot move an unreadable new log segment to wal/quarantine; the next start removes it");
        }
    }

    /// Whether the first segments of this start have been prepared.
    fn has_begun(&self) -> bool {
        self.pool.lock().begun
    }

    /// A consumed segment that no reader holds, if more than `spare` segments are consumed.
    fn take_unreferenced(&self, spare: usize) -> Option<Arc<Segment>> {
        let mut pool = self.pool.lock();
        if pool.consumed.len() <= spare {
            return None;
        }
        let at = pool.consumed.iter().position(|segment| Arc::strong_count(segment) == 1)?;
        Some(pool.consumed.swap_remove(at))
    }

    /// Prepares a consumed segment for reuse, if that is cheaper than allocating one: this process, which knows its
    /// contents, must have written it, and its pages must still be in memory.
    fn reuse_or_remove(&self, segment: &Arc<Segment>) -> Result<Option<Prepared>, Shortage> {
        let path = segment.file.path();
        let ours = segment.header.capacity == self.config.segment_bytes && segment.base > self.recovered_last;
        if !ours || !self.storage.is_resident(path) {
            self.remove_segment(segment);
            return Ok(None);
        }
        let header = self.new_header(segment.header.capacity);
        let scratch = self.scratch_path(header.id);
        // Under a scratch name first, so that a crash never leaves the new header under the old name.
        let reused = self
            .storage
            .rename(path, &scratch)
            .and_then(|()| self.storage.sync_dir(&self.config.dir))
            .and_then(|()| self.storage.sync_dir(&self.pool_dir()))
            .and_then(|()| self.storage.rewrite(&scratch, 0, &header.encode()))
            .and_then(|()| self.put_in_place(&scratch, header, Segment::FIRST_OFFSET));
        match reused {
            Ok(prepared) => {
                self.metrics.segments_reused.inc();
                Ok(Some(prepared))
            }
            Err(error) => {
                for place in [path, &scratch, &self.segment_path(header.id)] {
                    // The file has one of these names and holds nothing that is needed. If it remains, the next start
                    // removes it.
                    self.storage.remove(place).ok();
                }
                self.forget_bytes(segment.header.capacity);
                Err(Shortage::Io(error))
            }
        }
    }

    /// Accounts for a removed segment file.
    pub(super) fn forget_bytes(&self, bytes: u64) {
        let mut pool = self.pool.lock();
        pool.log_bytes = pool.log_bytes.saturating_sub(bytes);
    }

    fn remove_segment(&self, segment: &Arc<Segment>) {
        let path = segment.file.path();
        // What could not be read is lost for this process; other tools may still recover it.
        let removed = if segment.file.unreadable().is_empty() {
            self.storage.remove(path)
        } else {
            self.storage.rename(path, &self.quarantine_dir().join(format::segment_name(segment.id())))
        };
        let removed = removed.and_then(|()| self.storage.sync_dir(&self.config.dir));
        if let Err(error) = removed {
            // The next start finds it, sees that it is consumed, and removes it.
            tracing::warn!(error = %chain(&error), "cannot remove a consumed log segment; the next start removes it");
        }
        self.forget_bytes(segment.header.capacity);
    }
}

enum Shortage {
    Full(Full),
    Io(IoError),
}

impl Shortage {
    fn is_full(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Io(error) => error.is_full(),
        }
    }
}

/// The free bytes of a disk. If it does not tell, requests are accepted until a write fails.
pub(super) fn free_bytes(storage: &dyn Storage, dir: &Path) -> u64 {
    storage.free_bytes(dir).unwrap_or_else(|error| {
        tracing::warn!(error = %chain(&error), "cannot tell how much disk is free, so wal.disk_reserve is not kept free");
        u64::MAX
    })
}

/// The preparing thread.
pub(super) fn run(shared: &Shared) {
    loop {
        shared.prepare_once();
        let mut pool = shared.pool.lock();
        if pool.closing {
            drop(pool);
            shared.remove_spares();
            return;
        }
        let short = {
            let tail = shared.tail.lock();
            tail.health == Health::Good && tail.prepared.len() < shared.config.prepared
        };
        // Consumed segments that a reader still holds are rechecked, too.
        let pause = match (short, pool.consumed.is_empty()) {
            (true, _) => RETRY,
            (false, false) => LOOK,
            (false, true) => Duration::from_hours(1),
        };
        shared.prepare_wanted.wait_for(&mut pool, pause);
    }
}
