//! The progress of each stream from the log to its destination: the compactor reports it, waiters query it. Neither
//! depends on the other.

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
    wanted: Mutex<CompactorRequests>,
    pub compactor: CompactorStatus,
    /// The latest records that were quarantined.
    pub quarantined: RecentlyQuarantined,
    /// Notified on a new request to the compactor.
    pub asked: Notify,
    /// Notified when a replay is requested or cancelled.
    pub replay_asked: Notify,
    /// Notified when the files of a stream must be removed.
    pub drop_asked: Notify,
    /// Changes whenever a stream makes progress.
    moved: watch::Sender<u64>,
    /// Changes whenever held-back files should be checked.
    released: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct StreamState {
    /// Every frame of the stream up to here is in a registered file.
    checkpoint: Lsn,
    /// Registered files that are not published yet: last LSN by first LSN and id.
    staged: BTreeMap<(Lsn, i64), Lsn>,
    /// The rows that have been read and are in no registered file yet.
    open: Option<OpenRows>,
    /// Time from the receipt of the oldest record in the last finished file to the end of that file, in microseconds.
    latency: Option<u64>,
}

/// Rows that are in no registered file yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRows {
    pub rows: u64,
    /// Bytes of their source.
    pub bytes: u64,
    /// Receive times of the first and the last row.
    pub first_at: Micros,
    pub last_at: Micros,
}

/// The status of the compactor.
#[derive(Debug, Default)]
pub struct CompactorStatus {
    /// LSN of the last frame read.
    pub read_lsn: AtomicU64,
    /// Every frame up to here is in registered files.
    pub checkpoint_lsn: AtomicU64,
    pub memory_bytes: AtomicU64,
    pub open_files: AtomicU64,
    /// Receive time of the oldest frame that is in no registered file, in microseconds since the epoch; 0: none.
    pub oldest_open: AtomicI64,
    /// Why it restarted from its checkpoint; cleared once it makes progress again.
    pub last_error: Mutex<Option<String>>,
}

/// Requests of waiters to the compactor.
#[derive(Debug, Default)]
pub struct CompactorRequests {
    /// Close the open file of each stream once it holds this LSN, if the request is at least one linger time old.
    pub streams: HashMap<StreamId, (Lsn, Instant)>,
    /// Close every open file, or that of one stream, once every frame up to this LSN has been read.
    pub close: HashMap<Option<StreamId>, Lsn>,
    /// Requests for row numbers for rows that do not pass through the compactor.
    pub numbers: Vec<Numbers>,
}

/// A request for `count` row numbers of a stream. The answer is the first of them.
#[derive(Debug)]
pub struct Numbers {
    pub stream: StreamId,
    pub count: u64,
    pub first: oneshot::Sender<u64>,
}

impl Progress {
    /// Records that the compactor has registered files of a stream.
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

    /// Records which rows of a stream the compactor holds, if any.
    pub fn holds(&self, stream: StreamId, open: Option<OpenRows>) {
        self.streams.lock().entry(stream).or_default().open = open;
    }

    /// The rows of a stream that have been read and are in no registered file.
    pub fn open(&self, stream: StreamId) -> Option<OpenRows> {
        self.streams.lock().get(&stream).and_then(|state| state.open)
    }

    /// Records how long the oldest record of a finished file had waited for the end of the file.
    pub fn took(&self, stream: StreamId, micros: u64) {
        self.streams.lock().entry(stream).or_default().latency = Some(micros);
    }

    /// The latest of these times; `None` if no file was finished since the start.
    pub fn latency(&self, stream: StreamId) -> Option<u64> {
        self.streams.lock().get(&stream).and_then(|state| state.latency)
    }

    /// Records that a file was published or expired.
    pub fn settled(&self, stream: StreamId, id: i64) {
        if let Some(state) = self.streams.lock().get_mut(&stream) {
            state.staged.retain(|(_, staged), _| *staged != id);
        }
        self.moved.send_modify(|n| *n += 1);
    }

    /// Whether everything of the stream up to `lsn` is published (or expired after the retention).
    pub fn is_published(&self, stream: StreamId, lsn: Lsn) -> bool {
        let streams = self.streams.lock();
        streams.get(&stream).is_some_and(|state| {
            state.checkpoint >= lsn && state.staged.keys().next().is_none_or(|(first, _)| *first > lsn)
        })
    }

    pub fn checkpoint(&self, stream: StreamId) -> Lsn {
        self.streams.lock().get(&stream).map_or(Lsn::NONE, |state| state.checkpoint)
    }

    /// The number of files waiting to be published.
    pub fn staged_files(&self) -> usize {
        self.streams.lock().values().map(|state| state.staged.len()).sum()
    }

    /// The highest LSN up to which everything of every stream is known to be published: the log up to `consumed`, minus
    /// what is staged.
    pub fn published_through(&self, consumed: Lsn) -> Lsn {
        let streams = self.streams.lock();
        let first =
            streams.values().filter_map(|state| state.staged.keys().next()).map(|(first, _)| *first).min();
        first.map_or(consumed, |first| first.previous().min(consumed))
    }

    /// Requests a check of the held-back files.
    pub fn release(&self) {
        self.released.send_modify(|n| *n += 1);
    }

    /// Watches [`Progress::release`].
    pub fn released(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    /// Requests `count` row numbers of a stream from the compactor, for exclusive use. `None` if it stops.
    pub async fn take_numbers(&self, stream: StreamId, count: u64) -> Option<u64> {
        let (first, answer) = oneshot::channel();
        self.with_wanted(|wanted| wanted.numbers.push(Numbers { stream, count, first }));
        self.asked.notify_one();
        answer.await.ok()
    }

    /// Watches changes.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Requests that the file of a stream is closed soon, once it holds `lsn`.
    pub fn ask(&self, stream: StreamId, lsn: Lsn) {
        self.with_wanted(|wanted| {
            let (through, _) = wanted.streams.entry(stream).or_insert((lsn, Instant::now()));
            *through = (*through).max(lsn);
        });
        self.asked.notify_one();
    }

    /// Requests that the file of a stream is closed soon, and waits until `lsn` is published. Has no deadline.
    pub async fn published(&self, stream: StreamId, lsn: Lsn) {
        let mut moved = self.moved();
        if self.is_published(stream, lsn) {
            return;
        }
        self.ask(stream, lsn);
        // The sender lives as long as `self`.
        while !self.is_published(stream, lsn) && moved.changed().await.is_ok() {}
    }

    /// Requests that every open file, or that of one stream, is closed now, and waits until that is done and the
    /// compactor has passed `lsn`. Has no deadline.
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

    /// Records that the compactor has closed the files that [`Progress::closed`] requested.
    pub fn has_closed(&self, what: &[Option<StreamId>]) {
        if what.is_empty() {
            return;
        }
        self.with_wanted(|wanted| wanted.close.retain(|stream, _| !what.contains(stream)));
        self.moved.send_modify(|n| *n += 1);
    }

    /// The requests, for the compactor.
    pub fn with_wanted<T>(&self, look: impl FnOnce(&mut CompactorRequests) -> T) -> T {
        look(&mut self.wanted.lock())
    }
}
