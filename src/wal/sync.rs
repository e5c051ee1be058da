//! The sync thread: makes appended frames durable, with one sync for all waiters.

use super::Shared;
use super::durable::{Durable, Health, SyncError};
use super::lsn::{Lsn, SegmentId};
use super::marks::DurableMark;
use super::segment::Segment;
use crate::error::{IoError, chain};
use crate::storage::LogFile;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The minimum time that a sync is delayed to gather more waiters: on a fast disk, waking the waiters costs more than
/// the sync itself.
const LINGER_MIN: Duration = Duration::from_micros(250);
/// The maximum of that time.
const LINGER_MAX: Duration = Duration::from_millis(1);
/// Without a request for this long, the log is idle.
const IDLE: Duration = Duration::from_secs(1);
/// How long each of the last syncs waits for running copies to end.
const COPY_PAUSE: Duration = Duration::from_micros(200);
/// The memory of a segment is released to the page cache in steps of this size.
const RELEASE_BYTES: u64 = 4 << 20;

/// The requests of appenders to the sync thread.
#[derive(Default)]
pub(super) struct SyncWanted {
    /// Waiters for a sync that has not started.
    waiters: Vec<Waiter>,
    /// Waiters for the running sync.
    served: Vec<Waiter>,
    /// Wake the thread at this many waiters; 0 while it is busy and will check by itself.
    wake_at: usize,
    now: bool,
    closing: bool,
    /// The last sync is over: nothing is left to wait for.
    closed: bool,
}

/// A caller that waits until a frame is durable.
struct Waiter {
    lsn: Lsn,
    since: Instant,
    done: oneshot::Sender<Result<(), SyncError>>,
}

impl Waiter {
    fn settle(self, outcome: Result<(), SyncError>) {
        // A client that disconnected no longer waits.
        self.done.send(outcome).ok();
    }
}

impl Shared {
    /// Requests a sync without waiting for it.
    pub(super) fn request_sync(&self) {
        self.sync_wanted.lock().now = true;
        self.sync_signal.notify_one();
    }

    /// Queues for the next sync.
    pub(super) fn wait_for_sync(&self, lsn: Lsn) -> oneshot::Receiver<Result<(), SyncError>> {
        let (done, receiver) = oneshot::channel();
        let mut wanted = self.sync_wanted.lock();
        if wanted.closed {
            return receiver;
        }
        wanted.waiters.push(Waiter { lsn, since: Instant::now(), done });
        if wanted.waiters.len() == wanted.wake_at {
            self.sync_signal.notify_one();
        }
        receiver
    }

    /// Ends the wait of those who have waited longer than `patience`, with [`SyncError::Late`].
    pub(super) fn expire_waiters(&self, patience: Duration) {
        let mut wanted = self.sync_wanted.lock();
        let SyncWanted { waiters, served, .. } = &mut *wanted;
        let mut late: Vec<Waiter> = Vec::new();
        for queue in [waiters, served] {
            late.extend(queue.extract_if(.., |waiter| waiter.since.elapsed() >= patience));
        }
        drop(wanted);
        for waiter in late {
            waiter.settle(Err(SyncError::Late));
        }
    }

    /// Settles the waiters of the sync that has just ended. Returns their number.
    fn settle_served(&self) -> usize {
        let served = std::mem::take(&mut self.sync_wanted.lock().served);
        let count = served.len();
        let Durable { lsn: durable, health } = *self.durable.borrow();
        let mut early = Vec::new();
        for waiter in served {
            if waiter.lsn <= durable {
                waiter.settle(Ok(()));
            } else if health == Health::Poisoned {
                waiter.settle(Err(SyncError::Poisoned));
            } else {
                // Its frame was still being copied when the sync began.
                early.push(waiter);
            }
        }
        if !early.is_empty() {
            self.sync_wanted.lock().waiters.extend(early);
        }
        count
    }

    /// Makes the sync thread sync one last time and end.
    pub(super) fn stop_syncing(&self) {
        self.sync_wanted.lock().closing = true;
        self.sync_signal.notify_one();
    }

    /// Syncs until nothing is left, and releases all waiters. A frame that was still being copied when the log closed
    /// has its LSN, and will be acknowledged.
    fn sync_last(&self) {
        loop {
            let left = {
                let tail = self.tail.lock();
                tail.health != Health::Poisoned && tail.unsynced_bytes > 0
            };
            if !left {
                break;
            }
            std::thread::sleep(COPY_PAUSE);
            self.sync_once();
        }
        let mut wanted = self.sync_wanted.lock();
        wanted.closed = true;
        wanted.served = std::mem::take(&mut wanted.waiters);
        drop(wanted);
        self.settle_served();
        // The remaining waiters wait for frames that will never be synced.
        self.sync_wanted.lock().waiters.clear();
    }

    /// Makes everything appended so far durable, except frames that are still being copied. A failure poisons the log
    /// (W6), unless the un-synced frames can be rewritten elsewhere. Returns whether there was anything to sync.
    pub(super) fn sync_once(&self) -> bool {
        let Some(round) = self.start_round() else { return false };
        let started = Instant::now();
        let synced = round.files.iter().try_for_each(|(_, file)| file.sync());
        self.metrics.sync_seconds.observe(started.elapsed());
        if let Err(error) = synced {
            self.sync_failed(&error);
            return true;
        }
        self.finish_round(&round);
        true
    }

    fn start_round(&self) -> Option<Round> {
        let mut tail = self.tail.lock();
        if tail.health == Health::Poisoned || (tail.unsynced_bytes == 0 && tail.sealed.is_empty()) {
            return None;
        }
        let mut round = Round { through: tail.last, files: Vec::new(), settled: Vec::new() };
        for writing in tail.sealed.iter().chain(tail.active.as_ref()) {
            let appender = &writing.appender;
            if let Some((start, tag)) = appender.oldest_live() {
                // Only the bytes below the oldest running copy are certain to be in the mapping.
                appender.publish(start);
                round.through = round.through.min(Lsn(tag).previous());
            } else {
                appender.publish(appender.head());
                if writing.segment.end().is_some() {
                    round.settled.push(writing.segment.id());
                }
            }
            round.files.push((Arc::clone(&writing.segment), Arc::clone(appender.file())));
        }
        // Frames that are still being copied need another round.
        tail.unsynced_bytes = u64::from(round.through < tail.last);
        tail.syncing_since = tail.unsynced_since;
        if round.through == tail.last {
            tail.unsynced_since = None;
        }
        Some(round)
    }

    fn finish_round(&self, round: &Round) {
        // Before a frame of a segment is acknowledged as durable, a second place knows of the segment.
        for (segment, _) in &round.files {
            if !self.marks.lock().knows(segment.id()) {
                self.mark(segment, round.through);
            }
        }
        let mut tail = self.tail.lock();
        tail.durable = tail.durable.max(round.through);
        tail.syncing_since = None;
        tail.sealed.retain(|writing| !round.settled.contains(&writing.segment.id()));
        let durable = tail.durable;
        drop(tail);
        for (segment, file) in &round.files {
            if round.settled.contains(&segment.id()) || file.readable() % (2 * RELEASE_BYTES) >= RELEASE_BYTES
            {
                file.release(file.readable());
            }
        }
        self.publish_durable(durable, Health::Good);
        self.space.notify_waiters();
    }

    /// Notes in a second place that a segment is in use and how far this run is durable.
    pub(super) fn mark(&self, segment: &Segment, durable: Lsn) {
        let (run, segments) = (self.recovered_last.next(), self.segments.all());
        // Those of earlier runs are forgotten at a start, when they are consumed.
        let is_left = |mark: &DurableMark| segments.iter().any(|segment| segment.id() == mark.segment);
        self.marks.lock().forget(|mark| mark.run != run || is_left(mark));
        let mark =
            DurableMark { run, segment: segment.id(), base: segment.base, durable, at: self.clock.now() };
        self.marks.lock().write(self.storage.as_ref(), &self.wal_uuid, mark);
    }

    /// Notes how far the log is durable, if that has changed since the last mark.
    pub(super) fn mark_durable(&self) {
        let (segments, durable) = (self.segments.all(), self.durable.borrow().lsn);
        let Some(last) = segments.last().filter(|last| last.base > self.recovered_last) else { return };
        let known = self.marks.lock().durable();
        if known < Some(durable) {
            self.mark(last, durable);
        }
    }

    pub(super) fn publish_durable(&self, lsn: Lsn, health: Health) {
        self.durable.send_if_modified(|durable| {
            let next = Durable { lsn: durable.lsn.max(lsn), health: durable.health.max(health) };
            std::mem::replace(durable, next) != next
        });
    }

    fn sync_failed(&self, error: &IoError) {
        self.metrics.sync_errors.inc();
        tracing::error!(error = %chain(error), "a sync failed; rewriting the un-synced frames of the log into a new segment");
        match self.rescue() {
            Ok(durable) => {
                tracing::error!(%durable, "the un-synced frames were rewritten into a new segment and are durable; check the disk");
                self.publish_durable(durable, Health::Good);
                self.space.notify_waiters();
            }
            Err(error) => {
                self.tail.lock().health = Health::Poisoned;
                tracing::error!(error = %chain(&error), "the log is poisoned and accepts no requests until the daemon restarts; check the disk");
                self.publish_durable(Lsn::NONE, Health::Poisoned);
            }
        }
    }
}

/// The scope of one sync round.
struct Round {
    through: Lsn,
    files: Vec<(Arc<Segment>, Arc<LogFile>)>,
    /// Ended segments without running copies.
    settled: Vec<SegmentId>,
}

/// The sync thread.
pub(super) fn run(shared: &Shared) {
    let mut linger = Linger::default();
    let mut due = Instant::now() + shared.config.sync_interval;
    let mut busy = Instant::now();
    loop {
        let closing = wait_for_work(shared, &linger, due);
        let started = Instant::now();
        due = started + shared.config.sync_interval;
        if shared.sync_once() {
            busy = started;
        } else if busy.elapsed() >= IDLE {
            shared.mark_durable();
        }
        linger.sync_took(started.elapsed());
        linger.last_waiters = shared.settle_served();
        if closing {
            shared.sync_last();
            shared.mark_durable();
            shared.publish_durable(Lsn::NONE, Health::Closed);
            return;
        }
    }
}

/// Blocks until a sync is due: at `due` at the latest, an interval after the last one began, so that a slow sync does
/// not add to the time that a frame stays un-synced. Returns whether it is the last one.
fn wait_for_work(shared: &Shared, linger: &Linger, due: Instant) -> bool {
    let mut wanted = shared.sync_wanted.lock();
    wanted.wake_at = 1;
    while wanted.waiters.is_empty() && !wanted.now && !wanted.closing {
        if shared.sync_signal.wait_until(&mut wanted, due).timed_out() {
            break;
        }
    }
    if let Some(pause) = linger.pause(wanted.waiters.len()) {
        wanted.wake_at = linger.target();
        let until = Instant::now() + pause;
        while wanted.waiters.len() < linger.target() && !wanted.now && !wanted.closing {
            if shared.sync_signal.wait_until(&mut wanted, until).timed_out() {
                break;
            }
        }
    }
    wanted.wake_at = 0;
    wanted.now = false;
    wanted.served = std::mem::take(&mut wanted.waiters);
    wanted.closing
}

/// How long to wait for more waiters before a sync. A lone waiter is never delayed; if many arrive at the rate of the
/// syncs, a pause gathers them into one batch instead of two halves, and lowers the latency of all.
#[derive(Default)]
struct Linger {
    sync_average: Duration,
    last_waiters: usize,
}

impl Linger {
    fn pause(&self, waiters: usize) -> Option<Duration> {
        let gathering = self.last_waiters >= 2 && (1..self.target()).contains(&waiters);
        gathering.then(|| (self.sync_average / 2).clamp(LINGER_MIN, LINGER_MAX))
    }

    /// A few more than last time, so that batches grow as long as more waiters arrive.
    fn target(&self) -> usize {
        self.last_waiters + self.last_waiters / 4 + 1
    }

    fn sync_took(&mut self, took: Duration) {
        self.sync_average = (self.sync_average * 7 + took) / 8;
    }
}
