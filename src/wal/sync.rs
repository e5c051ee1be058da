//! The sync thread: makes what was appended durable, for everybody who waits at once.

use super::Shared;
use super::durable::{Durable, Health, SyncError};
use super::lsn::{Lsn, SegmentId};
use crate::error::{IoError, chain};
use crate::storage::LogFile;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a sync is put off to gather more waiters, at least: on a fast disk, waking everybody costs more than the
/// sync itself,
const LINGER_MIN: Duration = Duration::from_micros(250);
/// and at most.
const LINGER_MAX: Duration = Duration::from_millis(1);
/// What a copy under way is given to end, before the next of the last syncs.
const COPY_PAUSE: Duration = Duration::from_micros(200);
/// A segment's memory is given back to the page cache in steps of this.
const RELEASE_BYTES: u64 = 4 << 20;

/// What appenders ask of the sync thread.
#[derive(Default)]
pub(super) struct SyncWanted {
    /// Those who wait for a sync that has not started.
    waiters: Vec<Waiter>,
    /// Those who wait for the sync that is under way.
    served: Vec<Waiter>,
    /// Wake the thread when there are this many; 0 while it is busy and will look by itself.
    wake_at: usize,
    now: bool,
    closing: bool,
    /// The last sync is over: there is nothing to wait for.
    closed: bool,
}

/// Somebody who waits until a frame is durable.
struct Waiter {
    lsn: Lsn,
    since: Instant,
    done: oneshot::Sender<Result<(), SyncError>>,
}

impl Waiter {
    fn settle(self, outcome: Result<(), SyncError>) {
        // A client that went away does not wait any more.
        self.done.send(outcome).ok();
    }
}

impl Shared {
    /// Asks for a sync without waiting for it.
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

    /// Tells those who have waited longer than `patience` that they are late.
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

    /// Settles those who waited for the sync that has just ended. Returns how many they were.
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
                // It was still being copied when the sync began.
                early.push(waiter);
            }
        }
        if !early.is_empty() {
            self.sync_wanted.lock().waiters.extend(early);
        }
        count
    }

    /// Lets the sync thread sync once more and end.
    pub(super) fn stop_syncing(&self) {
        self.sync_wanted.lock().closing = true;
        self.sync_signal.notify_one();
    }

    /// Syncs until nothing is left, and lets everybody go. What was still being copied when the log closed has its number,
    /// and will be acknowledged.
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
        // Whoever is left waits for what will not be synced any more.
        self.sync_wanted.lock().waiters.clear();
    }

    /// Makes everything appended so far durable, except what is still being copied. On failure the log is poisoned
    /// (W6), unless the un-synced frames could be written again elsewhere.
    pub(super) fn sync_once(&self) {
        let Some(round) = self.start_round() else { return };
        let started = Instant::now();
        let synced = round.files.iter().try_for_each(|(_, file)| file.sync());
        self.metrics.sync_seconds.observe(started.elapsed());
        if let Err(error) = synced {
            self.sync_failed(&error);
            return;
        }
        self.finish_round(&round);
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
                // Only what lies below the oldest copy under way is sure to be in the mapping by now.
                appender.publish(start);
                round.through = round.through.min(Lsn(tag).previous());
            } else {
                appender.publish(appender.head());
                if writing.segment.end().is_some() {
                    round.settled.push(writing.segment.id());
                }
            }
            round.files.push((writing.segment.id(), Arc::clone(appender.file())));
        }
        // What is still being copied needs another round.
        tail.unsynced_bytes = u64::from(round.through < tail.last);
        Some(round)
    }

    fn finish_round(&self, round: &Round) {
        let mut tail = self.tail.lock();
        tail.durable = tail.durable.max(round.through);
        tail.sealed.retain(|writing| !round.settled.contains(&writing.segment.id()));
        let durable = tail.durable;
        drop(tail);
        for (id, file) in &round.files {
            if round.settled.contains(id) || file.readable() % (2 * RELEASE_BYTES) >= RELEASE_BYTES {
                file.release(file.readable());
            }
        }
        self.publish_durable(durable, Health::Good);
        self.space.notify_waiters();
    }

    pub(super) fn publish_durable(&self, lsn: Lsn, health: Health) {
        self.durable.send_if_modified(|durable| {
            let next = Durable { lsn: durable.lsn.max(lsn), health: durable.health.max(health) };
            std::mem::replace(durable, next) != next
        });
    }

    fn sync_failed(&self, error: &IoError) {
        self.metrics.sync_errors.inc();
        tracing::error!(error = %chain(error), "a sync failed; nothing more is acknowledged from these segments");
        match self.rescue() {
            Ok(durable) => {
                tracing::error!(%durable, "the frames that were not yet durable are now, in a new segment");
                self.publish_durable(durable, Health::Good);
                self.space.notify_waiters();
            }
            Err(error) => {
                self.tail.lock().health = Health::Poisoned;
                tracing::error!(error = %chain(&error), "the log is poisoned: no request is accepted any more");
                self.publish_durable(Lsn::NONE, Health::Poisoned);
            }
        }
    }
}

/// One round of syncing: what it covers.
struct Round {
    through: Lsn,
    files: Vec<(SegmentId, Arc<LogFile>)>,
    /// Ended segments in which nothing is being copied any more.
    settled: Vec<SegmentId>,
}

/// The sync thread.
pub(super) fn run(shared: &Shared) {
    let mut linger = Linger::default();
    loop {
        let closing = wait_for_work(shared, &linger);
        let started = Instant::now();
        shared.sync_once();
        linger.sync_took(started.elapsed());
        linger.last_waiters = shared.settle_served();
        if closing {
            shared.sync_last();
            shared.publish_durable(Lsn::NONE, Health::Closed);
            return;
        }
    }
}

/// Blocks until a sync is due. Says whether it is the last one.
fn wait_for_work(shared: &Shared, linger: &Linger) -> bool {
    let due = Instant::now() + shared.config.sync_interval;
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

/// How long to wait for more waiters before a sync. A lone waiter never waits; where many come at the rate of the
/// syncs themselves, a pause gathers them into one batch instead of two halves, and lowers the latency of all.
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

    /// As many as last time, and a few more: so batches grow as long as there is somebody to join.
    fn target(&self) -> usize {
        self.last_waiters + self.last_waiters / 4 + 1
    }

    fn sync_took(&mut self, took: Duration) {
        self.sync_average = (self.sync_average * 7 + took) / 8;
    }
}
