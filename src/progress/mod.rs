//! How far each stream is on its way from the log to its destination: told by the compactor, asked by those who
//! wait for it. Neither knows the other.

pub mod quarantined;

use crate::batch::StreamId;
use crate::clock::Micros;
use crate::wal::Lsn;
use parking_lot::Mutex;
use quarantined::RecentlyQuarantined;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Instant;
use tokio::sync::{Notify, oneshot, watch};

/// Shared by the compactor, the publisher and the HTTP side.
#[derive(Debug, Default)]
pub struct Progress {
    streams: Mutex<HashMap<StreamId, StreamState>>,
    wanted: Mutex<Wanted>,
    pub compactor: CompactorStatus,
    /// What became no rows lately.
    pub quarantined: RecentlyQuarantined,
    /// Notified when something is wanted.
    pub asked: Notify,
    /// Notified when a replay is wanted, or one is not any more.
    pub replay_asked: Notify,
    /// Notified when the files of a stream are to be removed.
    pub drop_asked: Notify,
    /// Changes whenever a stream moves on.
    moved: watch::Sender<u64>,
    /// Changes whenever files that are held back should be looked at.
    released: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct StreamState {
    /// Every frame of the stream up to here is in a registered file.
    checkpoint: Lsn,
    /// Registered files that are not published yet: last number by first number and id.
    staged: BTreeMap<(Lsn, i64), Lsn>,
    /// What is in no registered file yet, as far as it was read.
    open: Option<OpenRows>,
    /// From the arrival of the oldest record of the last finished file to its end, in microseconds.
    latency: Option<u64>,
}

/// Rows that are in no registered file yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRows {
    pub rows: u64,
    /// Of their source.
    pub bytes: u64,
    /// Receive times of the first and the last.
    pub first_at: Micros,
    pub last_at: Micros,
}

/// What the compactor shows of itself.
#[derive(Debug, Default)]
pub struct CompactorStatus {
    /// The last frame read.
    pub read_lsn: AtomicU64,
    /// Everything up to here is in registered files.
    pub checkpoint_lsn: AtomicU64,
    pub memory_bytes: AtomicU64,
    pub open_files: AtomicU64,
    /// Receive time of the oldest frame that is in no registered file, in microseconds since the epoch; 0: none.
    pub oldest_open: AtomicI64,
    /// Why it started again from its checkpoint, until it got on.
    pub last_error: Mutex<Option<String>>,
}

/// Files that somebody waits for.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Close each stream's open file once it holds this number, if it was asked for at least a linger ago.
    pub streams: HashMap<StreamId, (Lsn, Instant)>,
    /// Close every open file, or that of one stream, once everything up to this number was read.
    pub close: HashMap<Option<StreamId>, Lsn>,
    /// Numbers for rows that do not come through the compactor.
    pub numbers: Vec<Numbers>,
}

/// Asks for so many numbers of a stream's rows. The answer is the first of them.
#[derive(Debug)]
pub struct Numbers {
    pub stream: StreamId,
    pub count: u64,
    pub first: oneshot::Sender<u64>,
}

impl Progress {
    /// The compactor has registered files of a stream.
    pub fn registered(
        &self,
        stream: StreamId,
        checkpoint: Lsn,
        files: impl IntoIterator<Item = (i64, Lsn, Lsn)>,
    ) {
        let mut streams = self.streams.lock();
        let state = streams.entry(stream).or_default();
        if checkpoint > state.checkpoint {
            state.checkpoint = checkpoint;
            state.open = None;
        }
        state.staged.extend(files.into_iter().map(|(id, first, last)| ((first, id), last)));
        drop(streams);
        self.moved.send_modify(|n| *n += 1);
    }

    /// The compactor has read rows of a stream, or has none any more.
    pub fn holds(&self, stream: StreamId, open: Option<OpenRows>) {
        self.streams.lock().entry(stream).or_default().open = open;
    }

    /// What was read of a stream and is in no registered file.
    pub fn open(&self, stream: StreamId) -> Option<OpenRows> {
        self.streams.lock().get(&stream).and_then(|state| state.open)
    }

    /// How long the oldest record of a finished file had waited for its end.
    pub fn took(&self, stream: StreamId, micros: u64) {
        self.streams.lock().entry(stream).or_default().latency = Some(micros);
    }

    /// The last time of that; `None` if no file was finished since the start.
    pub fn latency(&self, stream: StreamId) -> Option<u64> {
        self.streams.lock().get(&stream).and_then(|state| state.latency)
    }

    /// A file became visible at the destination, or was given up.
    pub fn settled(&self, stream: StreamId, id: i64) {
        if let Some(state) = self.streams.lock().get_mut(&stream) {
            state.staged.retain(|(_, staged), _| *staged != id);
        }
        self.moved.send_modify(|n| *n += 1);
    }

    /// Whether everything of the stream up to `lsn` is published (or given up after the retention).
    pub fn is_published(&self, stream: StreamId, lsn: Lsn) -> bool {
        let streams = self.streams.lock();
        streams.get(&stream).is_some_and(|state| {
            state.checkpoint >= lsn && state.staged.keys().next().is_none_or(|(first, _)| *first > lsn)
        })
    }

    pub fn checkpoint(&self, stream: StreamId) -> Lsn {
        self.streams.lock().get(&stream).map_or(Lsn::NONE, |state| state.checkpoint)
    }

    /// How many files wait to be published.
    pub fn staged_files(&self) -> usize {
        self.streams.lock().values().map(|state| state.staged.len()).sum()
    }

    /// The highest number below which everything of every stream is published, as far as this side knows: the log
    /// up to `consumed`, less what is staged.
    pub fn published_through(&self, consumed: Lsn) -> Lsn {
        let streams = self.streams.lock();
        let first =
            streams.values().filter_map(|state| state.staged.keys().next()).map(|(first, _)| *first).min();
        first.map_or(consumed, |first| first.previous().min(consumed))
    }

    /// Asks for files that are held back to be looked at.
    pub fn release(&self) {
        self.released.send_modify(|n| *n += 1);
    }

    /// Follows [`Progress::release`].
    pub fn released(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    /// Asks the compactor for `count` numbers of a stream's rows that nobody else gets. `None` if it stops.
    pub async fn take_numbers(&self, stream: StreamId, count: u64) -> Option<u64> {
        let (first, answer) = oneshot::channel();
        self.with_wanted(|wanted| wanted.numbers.push(Numbers { stream, count, first }));
        self.asked.notify_one();
        answer.await.ok()
    }

    /// Follows changes.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Asks for a stream's file to be closed soon, once it holds `lsn`.
    pub fn ask(&self, stream: StreamId, lsn: Lsn) {
        self.with_wanted(|wanted| {
            let (through, _) = wanted.streams.entry(stream).or_insert((lsn, Instant::now()));
            *through = (*through).max(lsn);
        });
        self.asked.notify_one();
    }

    /// Asks for a stream's file to be closed soon, and waits until `lsn` is published. Has no deadline.
    pub async fn published(&self, stream: StreamId, lsn: Lsn) {
        let mut moved = self.moved();
        if self.is_published(stream, lsn) {
            return;
        }
        self.ask(stream, lsn);
        // The sender lives as long as `self`.
        while !self.is_published(stream, lsn) && moved.changed().await.is_ok() {}
    }

    /// Asks for every open file, or that of one stream, to be closed now, and waits until it is and the compactor
    /// has passed `lsn`. Has no deadline.
    pub async fn closed(&self, stream: Option<StreamId>, lsn: Lsn) {
        let mut moved = self.moved();
        self.with_wanted(|wanted| {
            let through = wanted.close.entry(stream).or_insert(lsn);
            *through = (*through).max(lsn);
        });
        self.asked.notify_one();
        let waits = || self.with_wanted(|wanted| wanted.close.contains_key(&stream));
        while waits() && moved.changed().await.is_ok() {}
    }

    /// Waits until nothing of the stream up to `lsn` is staged. Has no deadline.
    pub async fn settled_through(&self, stream: StreamId, lsn: Lsn) {
        let mut moved = self.moved();
        let waits = || {
            let streams = self.streams.lock();
            let first = streams.get(&stream).and_then(|state| state.staged.keys().next().copied());
            first.is_some_and(|(first, _)| first <= lsn)
        };
        while waits() && moved.changed().await.is_ok() {}
    }

    /// The compactor has closed what was asked for by [`Progress::closed`].
    pub fn has_closed(&self, what: &[Option<StreamId>]) {
        if what.is_empty() {
            return;
        }
        self.with_wanted(|wanted| wanted.close.retain(|stream, _| !what.contains(stream)));
        self.moved.send_modify(|n| *n += 1);
    }

    /// What is asked for, for the compactor to look at.
    pub fn with_wanted<T>(&self, look: impl FnOnce(&mut Wanted) -> T) -> T {
        look(&mut self.wanted.lock())
    }
}
