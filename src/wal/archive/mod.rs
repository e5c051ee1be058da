//! The archive: consumed segments, compressed, for as long as they may be wanted again.
//!
//! A thread of low priority takes what was trimmed, writes it under a scratch name, syncs it, gives it its name, syncs the
//! directory, and only then hands the segment over for reuse or removal. So at every moment a frame that is kept stands
//! in the log or in the archive; where it stands in both, the log is read.
//!
//! The archive never holds accepting back: when the log has no room for another segment, or the disk has none for another
//! archived one, archived segments go, the oldest first, or segments go unarchived. All of that is counted.

pub(super) mod file;
pub mod format;

use super::Shared;
use super::lsn::{Lsn, LsnRange};
use super::segment::{Segment, Segments};
use crate::clock::Micros;
use crate::error::{IoError, chain};
use crate::storage::Storage;
pub use file::ArchiveError;
use file::ArchivedSegment;
use format::Name;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether archived segments are to go,
const LOOK: Duration = Duration::from_secs(5);
/// and how soon a failure is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What a stop gives the archive at most.
const CLOSING: Duration = Duration::from_secs(2);
/// For the archive there must be this many times `wal.disk_reserve` free, so that it gives way long before accepting ends.
const RESERVE_TIMES: u64 = 2;
/// As `nice` counts.
const PRIORITY: i32 = 10;

#[derive(Debug, Clone)]
pub struct Config {
    pub dir: PathBuf,
    /// How long an archived segment is kept, from the receipt of its last frame.
    pub retention: Duration,
    /// What all archived segments may take; the oldest go first.
    pub bytes_max: u64,
}

/// What there is of the archive.
pub(super) struct Archive {
    /// `None`: nothing is archived.
    config: Option<Config>,
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    /// Consumed segments, oldest first. The front one may be in the thread's hands.
    waiting: VecDeque<Arc<Segment>>,
    files: BTreeMap<Name, Entry>,
    /// The log is closing: what is not archived until then is archived by the next start.
    closing: Option<Instant>,
    dropped: Dropped,
    last_error: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u64,
    /// Receive time of its last frame, once it is known.
    last_ts: Option<Micros>,
}

/// What is gone before its time, since the start of the process.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub struct Dropped {
    /// Archived segments that went for `wal.archive_bytes_max`,
    pub over_bytes_max: u64,
    /// or because the disk got full.
    pub disk_full: u64,
    /// Segments that were never archived: the log needed their room, or there was none for them.
    pub unarchived: u64,
    /// The last number among all of them.
    pub last_lsn: Lsn,
}

impl Dropped {
    /// All of them.
    pub fn segments(&self) -> u64 {
        self.over_bytes_max + self.disk_full + self.unarchived
    }
}

/// For operators.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Status {
    pub enabled: bool,
    pub segments: usize,
    pub bytes: u64,
    /// The numbers it spans; there may be gaps.
    pub first: Option<Lsn>,
    pub last: Option<Lsn>,
    /// Consumed segments that are not archived yet.
    pub waiting: usize,
    pub dropped: Dropped,
    pub last_error: Option<String>,
}

/// Where frames stand that can be read again: see [`Archive::holding`].
pub(super) enum Place {
    Log(Arc<Segment>),
    Archive(Name),
}

/// Which frames a segment holds, in the log or archived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) base: Lsn,
    /// The last number in it, as far as it goes now.
    pub(super) last: Lsn,
    /// Of an archived one, to read the rest from its index.
    pub(super) archived: Option<Name>,
    /// The last number before it; `None` if it does not know.
    pub(super) before: Option<Lsn>,
}

impl Archive {
    /// Finds what earlier starts archived. What they left unfinished goes.
    pub(super) fn open(storage: &dyn Storage, config: Option<Config>) -> Result<Self, IoError> {
        let mut state = State::default();
        if let Some(config) = &config {
            storage.create_dir(&config.dir)?;
            for file in storage.list(&config.dir)? {
                let path = config.dir.join(&file);
                if let Some(name) = Name::parse(&file) {
                    let bytes = storage.open(&path)?.bytes()?;
                    state.files.insert(name, Entry { bytes, last_ts: None });
                } else if file.strip_suffix(".tmp").and_then(Name::parse).is_some() {
                    storage.remove(&path)?;
                }
            }
        }
        Ok(Self { config, state: Mutex::new(state), wanted: Condvar::new() })
    }

    /// The newest archived segment.
    pub(super) fn newest(&self) -> Option<Name> {
        self.state.lock().files.keys().next_back().copied()
    }

    /// The highest segment id in it.
    pub(super) fn highest_id(&self) -> Option<u64> {
        self.state.lock().files.keys().map(|name| name.id.0).max()
    }

    /// Takes the consumed segments out of the log's list, so that each is found here or there at every moment. Returns
    /// those that nobody needs any more.
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

    /// A consumed segment that must be used again though it is not archived: the log has no other room. The oldest that
    /// nobody holds.
    pub(super) fn give_up_one(&self) -> Option<Arc<Segment>> {
        let mut state = self.state.lock();
        let at = state.waiting.iter().position(|segment| Arc::strong_count(segment) == 1)?;
        let segment = state.waiting.remove(at)?;
        state.count_unarchived(&segment);
        tracing::warn!(segment = %segment.id(), "a segment goes unarchived: the log needs its room");
        Some(segment)
    }

    /// Lets the thread end, after what waits is archived or a moment is over.
    pub(super) fn stop(&self) {
        self.state.lock().closing = Some(Instant::now() + CLOSING);
        self.wanted.notify_one();
    }

    pub(super) fn status(&self) -> Status {
        let state = self.state.lock();
        Status {
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

    /// What holds `lsn`, or else the first numbers above it. The log before the archive.
    pub(super) fn holding(&self, segments: &Segments, lsn: Lsn) -> Option<Place> {
        let state = self.state.lock();
        let mut nearest: Option<(Lsn, Place)> = None;
        let mut offer = |base: Lsn, last: Lsn, place: Place| {
            let at = base.max(lsn);
            if last >= at && nearest.as_ref().is_none_or(|(best, _)| at < *best) {
                nearest = Some((at, place));
            }
        };
        for segment in segments.all().into_iter().chain(state.waiting.iter().cloned()) {
            let last = segment.end().map_or(Lsn(u64::MAX), |end| end.last);
            offer(segment.base, last, Place::Log(segment));
        }
        for name in state.files.keys() {
            offer(name.base, name.last, Place::Archive(*name));
        }
        nearest.map(|(_, place)| place)
    }

    /// Everything that can be read again, in the order of its numbers.
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

    /// Opens an archived segment; `None` if it has gone meanwhile.
    pub(super) fn read(
        &self,
        storage: &dyn Storage,
        name: Name,
    ) -> Result<Option<ArchivedSegment>, ArchiveError> {
        let Some(config) = &self.config else { return Ok(None) };
        match ArchivedSegment::open(storage, &config.dir.join(name.file())) {
            Ok(segment) => Ok(Some(segment)),
            Err(ArchiveError::Io(error)) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl State {
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

/// Why an archived segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Age,
    BytesMax,
    DiskFull,
}

impl Shared {
    /// Archives what waits, one segment after the other, and removes what is too old or too much. Returns whether
    /// something failed that is to be tried again.
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
                    // Its room is worth more than its past.
                    let mut state = self.archive.state.lock();
                    state.count_unarchived(&segment);
                    state.last_error = Some(chain(&error));
                    tracing::warn!(segment = %segment.id(), error = %chain(&error), "a segment goes unarchived");
                }
                Err(error) => {
                    self.metrics.archive_errors.inc();
                    let error = chain(&error);
                    tracing::error!(segment = %segment.id(), error, "a segment could not be archived; it is tried again");
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

    fn archive_segment(&self, config: &Config, segment: &Arc<Segment>) -> Result<(), ArchiveError> {
        let end = segment.end().expect("only sealed segments are consumed");
        let name = Name { base: segment.base, id: segment.id(), last: end.last };
        if self.archive.state.lock().files.contains_key(&name) {
            // The process died, or failed, between archiving it and giving it up.
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
                    // It may be under either name, or none; a next attempt begins anew.
                    drop(self.storage.remove(path));
                }
                return Err(error);
            }
        };
        let entry = Entry { bytes: index.file_bytes(), last_ts: Some(index.last_ts) };
        self.metrics.archived_segments.inc();
        self.metrics.archived_bytes.inc_by(entry.bytes);
        self.archive.state.lock().files.insert(name, entry);
        Ok(())
    }

    /// Makes sure that a segment of `raw_bytes` can be archived without taking the room that accepting needs.
    fn make_room(&self, config: &Config, raw_bytes: u64) -> Result<(), ArchiveError> {
        while self.is_short_of_disk(config, raw_bytes) {
            if !self.drop_oldest(config, Reason::DiskFull) {
                let full = std::io::ErrorKind::StorageFull.into();
                return Err(
                    IoError::new("leave wal.disk_reserve free while writing to", &config.dir, full).into()
                );
            }
        }
        Ok(())
    }

    fn is_short_of_disk(&self, config: &Config, bytes: u64) -> bool {
        let free = self.storage.free_bytes(&config.dir).unwrap_or(u64::MAX);
        free < self.config.disk_reserve.saturating_mul(RESERVE_TIMES).saturating_add(bytes)
    }

    /// Removes what is too old, too much, or in the way.
    fn expire(&self, config: &Config) {
        loop {
            let (bytes, oldest) = {
                let state = self.archive.state.lock();
                let bytes: u64 = state.files.values().map(|entry| entry.bytes).sum();
                (bytes, state.files.iter().next().map(|(name, entry)| (*name, *entry)))
            };
            let Some((name, entry)) = oldest else { return };
            let reason = if bytes > config.bytes_max {
                Reason::BytesMax
            } else if self.is_short_of_disk(config, 0) {
                Reason::DiskFull
            } else if self.is_too_old(config, name, entry) {
                Reason::Age
            } else {
                return;
            };
            self.drop_oldest(config, reason);
        }
    }

    fn is_too_old(&self, config: &Config, name: Name, entry: Entry) -> bool {
        let last_ts = entry.last_ts.unwrap_or_else(|| {
            // What cannot be read is no use to anybody, but it is evidence, and goes when the ones behind it do.
            let read = self.archive.read(self.storage.as_ref(), name).ok().flatten();
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
    fn drop_oldest(&self, config: &Config, reason: Reason) -> bool {
        let mut state = self.archive.state.lock();
        let Some((name, _)) = state.files.pop_first() else { return false };
        let dropped = &mut state.dropped;
        match reason {
            Reason::Age => drop(self.metrics.archive_expired_segments.inc()),
            Reason::BytesMax | Reason::DiskFull => {
                let count = if reason == Reason::BytesMax {
                    &mut dropped.over_bytes_max
                } else {
                    &mut dropped.disk_full
                };
                *count += 1;
                dropped.last_lsn = dropped.last_lsn.max(name.last);
                tracing::warn!(?reason, first = %name.base, last = %name.last, "an archived segment goes before its time");
            }
        }
        drop(state);
        if let Err(error) = self.storage.remove(&config.dir.join(name.file())) {
            tracing::warn!(error = %chain(&error), "an archived segment stays behind until the next start");
        }
        true
    }

    /// The numbers of `range` that were given, or may have been, and stand in neither log nor archive.
    pub(super) fn missing(&self, range: LsnRange) -> Result<Vec<LsnRange>, ArchiveError> {
        let durable = self.durable.borrow().lsn;
        let mut missing = Vec::new();
        let mut next = range.first;
        for extent in self.archive.extents(&self.segments, durable) {
            if extent.last < next || next > range.last {
                continue;
            }
            if extent.base > next {
                // Numbers jump where a start went on above the highest it knew of: nothing is missing there.
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
        tracing::debug!(%error, "archiving has the priority of everything else");
    }
    loop {
        let started = Instant::now();
        let failed = shared.archive_once();
        let mut state = shared.archive.state.lock();
        if state.closing.is_some() {
            drop(state);
            // Nobody else will use them again.
            shared.remove_spares();
            return;
        }
        let pause = if failed { RETRY } else { LOOK };
        if failed || (state.waiting.is_empty() && started.elapsed() < pause) {
            shared.archive.wanted.wait_for(&mut state, pause);
        }
    }
}
