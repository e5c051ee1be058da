//! The in-memory index of the idempotency keys of the window.
//!
//! A key is *claimed* before its request is appended, and *stored* once the request is in the log; a repeat in between
//! waits. A key of the window is never evicted to make room: beyond the limit, new keys are refused.

use super::{Fingerprint, KeyHash, Stored, seconds};
use crate::clock::Micros;
use crate::wal::Lsn;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Number of parts, each with its own lock, so that requests with different keys seldom contend and do not wait long
/// while a part grows.
const SHARDS: usize = 64;

/// The keys of the window: see the module.
pub struct KeyIndex {
    shards: [Mutex<Shard>; SHARDS],
    /// Number of keys claimed or stored.
    keys: AtomicUsize,
    keys_max: AtomicUsize,
    window_seconds: AtomicU32,
    /// Whether the keys that earlier starts left in the log and in the journal are loaded.
    complete: watch::Sender<bool>,
}

#[derive(Default)]
struct Shard {
    stored: HashMap<KeyHash, Stored>,
    claimed: HashMap<KeyHash, Claimed>,
}

/// A key whose request is being appended.
struct Claimed {
    fingerprint: Fingerprint,
    /// The outcome of the append is unknown until the log is read.
    unknown: bool,
    /// Created by the first waiter.
    settled: Option<Arc<Notify>>,
}

impl Claimed {
    fn settle(self) {
        if let Some(settled) = self.settled {
            settled.notify_waiters();
        }
    }
}

/// What a request with a key must do.
pub enum Claim {
    /// Append, and then report the outcome to the ticket.
    First(Ticket),
    /// Nothing: the first request is in the log.
    Repeat(Stored),
    /// The key was used for another body.
    OtherBody,
    /// Whether the first request is in the log is unknown until the next start.
    Unknown,
    /// The index is full.
    Full,
    /// The keys of earlier starts are still being read, or the first request takes too long.
    Late,
}

/// The right to append the request of a key. Dropping it without a report frees the key.
pub struct Ticket {
    index: Arc<KeyIndex>,
    key: KeyHash,
    fingerprint: Fingerprint,
    at: u32,
    done: bool,
}

impl KeyIndex {
    pub fn new(window: Duration, keys_max: usize) -> Self {
        let index = Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            keys: AtomicUsize::new(0),
            keys_max: AtomicUsize::new(0),
            window_seconds: AtomicU32::new(0),
            complete: watch::Sender::new(false),
        };
        index.configure(window, keys_max);
        index
    }

    /// `window`: how long a key is remembered; `keys_max`: the maximum number of keys.
    pub fn configure(&self, window: Duration, keys_max: usize) {
        let seconds = u32::try_from(window.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        self.window_seconds.store(seconds, Ordering::Relaxed);
        self.keys_max.store(keys_max, Ordering::Relaxed);
    }

    /// The number of keys in the index.
    pub fn count(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Claims a key. Waits, up to `patience`, for the keys of earlier starts and for the outcome of a running request
    /// with this key.
    pub async fn claim(
        self: &Arc<Self>,
        key: KeyHash,
        fingerprint: Fingerprint,
        now: Micros,
        patience: Duration,
    ) -> Claim {
        let deadline = tokio::time::Instant::now() + patience;
        if !*self.complete.borrow() {
            let mut complete = self.complete.subscribe();
            let completed = complete.wait_for(|complete| *complete);
            // The sender lives as long as `self`.
            if tokio::time::timeout_at(deadline, completed).await.is_err() {
                return Claim::Late;
            }
        }
        loop {
            let settled = match self.try_claim(key, fingerprint, now) {
                Ok(claim) => return claim,
                Err(settled) => settled,
            };
            if tokio::time::timeout_at(deadline, settled).await.is_err() {
                return Claim::Late;
            }
        }
    }

    /// `Err` means that a request with the same key is running, and holds the future to wait on.
    fn try_claim(
        self: &Arc<Self>,
        key: KeyHash,
        fingerprint: Fingerprint,
        now: Micros,
    ) -> Result<Claim, impl Future<Output = ()> + use<>> {
        let mut shard = self.shard(key).lock();
        if let Some(claimed) = shard.claimed.get_mut(&key) {
            return match claimed {
                Claimed { fingerprint: first, .. } if *first != fingerprint => Ok(Claim::OtherBody),
                Claimed { unknown: true, .. } => Ok(Claim::Unknown),
                // From here on it is notified, even before it waits.
                Claimed { settled, .. } => Err(Arc::clone(settled.get_or_insert_default()).notified_owned()),
            };
        }
        if let Some(stored) = shard.stored.get(&key).copied() {
            if self.is_current(stored.at, now) {
                let same = stored.fingerprint == fingerprint;
                return Ok(if same { Claim::Repeat(stored) } else { Claim::OtherBody });
            }
            shard.stored.remove(&key);
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
        if self.keys.fetch_add(1, Ordering::Relaxed) >= self.keys_max.load(Ordering::Relaxed) {
            self.keys.fetch_sub(1, Ordering::Relaxed);
            return Ok(Claim::Full);
        }
        shard.claimed.insert(key, Claimed { fingerprint, unknown: false, settled: None });
        drop(shard);
        Ok(Claim::First(Ticket { index: Arc::clone(self), key, fingerprint, at: seconds(now), done: false }))
    }

    /// Adds a key that was found in the log or in the journal.
    pub(super) fn learn(&self, key: KeyHash, stored: Stored, now: Micros) {
        if !self.is_current(stored.at, now) {
            return;
        }
        let mut shard = self.shard(key).lock();
        let claimed = match shard.claimed.get(&key) {
            // Its own request is about to report it.
            Some(Claimed { unknown: false, .. }) => return,
            Some(Claimed { unknown: true, .. }) => shard.claimed.remove(&key).is_some(),
            None => false,
        };
        let known = shard.stored.get(&key).copied();
        if known.is_none_or(|known| known.lsn < stored.lsn) {
            shard.stored.insert(key, stored);
        }
        if known.is_none() && !claimed {
            self.keys.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Marks the keys of earlier starts as loaded.
    pub fn complete(&self) {
        self.complete.send_replace(true);
    }

    pub(super) fn is_complete(&self) -> bool {
        *self.complete.borrow()
    }

    /// Removes the keys whose window is over. To be called periodically.
    pub fn expire(&self, now: Micros) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.stored.len();
            shard.stored.retain(|_, stored| self.is_current(stored.at, now));
            let left = shard.stored.len();
            if left < shard.stored.capacity() / 4 {
                shard.stored.shrink_to(left * 2);
            }
            self.keys.fetch_sub(before - left, Ordering::Relaxed);
        }
    }

    pub(super) fn is_current(&self, at: u32, now: Micros) -> bool {
        seconds(now).saturating_sub(at) < self.window_seconds.load(Ordering::Relaxed)
    }

    pub(super) fn window_seconds(&self) -> u32 {
        self.window_seconds.load(Ordering::Relaxed)
    }

    fn shard(&self, key: KeyHash) -> &Mutex<Shard> {
        &self.shards[usize::from(key.0[0]) % SHARDS]
    }
}

impl Ticket {
    /// Reports that the request is in the log under this LSN and is answered with these counts.
    pub fn stored(mut self, lsn: Lsn, good: u32, bad: u32) {
        self.done = true;
        let stored = Stored { lsn, fingerprint: self.fingerprint, good, bad, at: self.at };
        let mut shard = self.index.shard(self.key).lock();
        let claimed = shard.claimed.remove(&self.key);
        shard.stored.insert(self.key, stored);
        drop(shard);
        if let Some(claimed) = claimed {
            claimed.settle();
        }
    }

    /// Reports that the request may or may not be in the log. The key stays claimed until the log has been read.
    pub fn unknown(mut self) {
        self.done = true;
        let mut shard = self.index.shard(self.key).lock();
        let left = Claimed { fingerprint: self.fingerprint, unknown: true, settled: None };
        if let Some(claimed) = shard.claimed.insert(self.key, left) {
            claimed.settle();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let claimed = self.index.shard(self.key).lock().claimed.remove(&self.key);
        self.index.keys.fetch_sub(1, Ordering::Relaxed);
        if let Some(claimed) = claimed {
            claimed.settle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::StreamId;

    const NOW: Micros = 1_700_000_000_000_000;
    const PATIENCE: Duration = Duration::from_millis(20);

    fn index() -> Arc<KeyIndex> {
        let index = Arc::new(KeyIndex::new(Duration::from_mins(1), 3));
        index.complete();
        index
    }

    fn key(name: &str) -> KeyHash {
        KeyHash::new(StreamId(1), name)
    }

    fn body(text: &str) -> Fingerprint {
        Fingerprint::of([text.as_bytes()])
    }

    fn stored(lsn: u64, text: &str, at: Micros) -> Stored {
        Stored { lsn: Lsn(lsn), fingerprint: body(text), good: 1, bad: 0, at: seconds(at) }
    }

    async fn claim(index: &Arc<KeyIndex>, name: &str, text: &str, now: Micros) -> Claim {
        index.claim(key(name), body(text), now, PATIENCE).await
    }

    async fn first(index: &Arc<KeyIndex>, name: &str, text: &str) -> Ticket {
        match claim(index, name, text, NOW).await {
            Claim::First(ticket) => ticket,
            _ => panic!("{name} should be the first"),
        }
    }

    #[tokio::test]
    async fn a_repeat_is_told_what_became_of_the_first() {
        let index = index();
        first(&index, "k", "a").await.stored(Lsn(7), 1, 0);
        assert!(
            matches!(claim(&index, "k", "a", NOW + 59_000_000).await, Claim::Repeat(it) if it.lsn == Lsn(7))
        );
        assert!(matches!(claim(&index, "k", "b", NOW).await, Claim::OtherBody));
        assert!(matches!(claim(&index, "l", "b", NOW).await, Claim::First(_)));
        assert_eq!(index.count(), 1, "the last one was dropped");
    }

    #[tokio::test]
    async fn after_the_window_a_key_is_new() {
        let index = index();
        first(&index, "k", "a").await.stored(Lsn(7), 1, 0);
        assert!(matches!(claim(&index, "k", "b", NOW + 60_000_000).await, Claim::First(_)));
        first(&index, "k", "a").await.stored(Lsn(8), 1, 0);
        index.expire(NOW + 59_000_000);
        assert_eq!(index.count(), 1);
        index.expire(NOW + 60_000_000);
        assert_eq!(index.count(), 0);
    }

    #[tokio::test]
    async fn a_repeat_waits_for_the_first_and_takes_its_place_if_it_failed() {
        let index = index();
        for succeeds in [false, true] {
            let ticket = first(&index, "k", "a").await;
            assert!(matches!(claim(&index, "k", "a", NOW).await, Claim::Late), "the first is on its way");
            assert!(matches!(claim(&index, "k", "b", NOW).await, Claim::OtherBody));
            let waiting = {
                let index = Arc::clone(&index);
                tokio::spawn(
                    async move { index.claim(key("k"), body("a"), NOW, Duration::from_secs(30)).await },
                )
            };
            tokio::task::yield_now().await;
            if succeeds {
                ticket.stored(Lsn(7), 1, 0);
                assert!(matches!(waiting.await.unwrap(), Claim::Repeat(_)));
            } else {
                drop(ticket);
                assert!(matches!(waiting.await.unwrap(), Claim::First(_)));
            }
        }
    }

    #[tokio::test]
    async fn beyond_the_limit_new_keys_are_refused_and_old_ones_kept() {
        let index = index();
        for name in ["a", "b", "c"] {
            first(&index, name, "x").await.stored(Lsn(1), 1, 0);
        }
        assert!(matches!(claim(&index, "d", "x", NOW).await, Claim::Full));
        assert!(matches!(claim(&index, "a", "x", NOW).await, Claim::Repeat(_)));
        // A start loads every key that it finds, even beyond the limit.
        index.learn(key("e"), stored(2, "x", NOW), NOW);
        assert!(matches!(claim(&index, "e", "x", NOW).await, Claim::Repeat(_)));
        index.expire(NOW + 60_000_000);
        assert!(matches!(claim(&index, "d", "x", NOW + 60_000_000).await, Claim::First(_)));
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_settled_by_the_log() {
        let index = index();
        first(&index, "k", "a").await.unknown();
        assert!(matches!(claim(&index, "k", "a", NOW).await, Claim::Unknown));
        index.learn(key("k"), stored(9, "a", NOW), NOW);
        assert!(matches!(claim(&index, "k", "a", NOW).await, Claim::Repeat(it) if it.lsn == Lsn(9)));
        assert_eq!(index.count(), 1);
    }

    #[tokio::test]
    async fn nobody_is_answered_before_the_keys_of_earlier_starts_are_known() {
        let index = Arc::new(KeyIndex::new(Duration::from_mins(1), 3));
        assert!(matches!(claim(&index, "k", "a", NOW).await, Claim::Late));
        index.learn(key("k"), stored(1, "a", NOW), NOW);
        index.learn(key("k"), stored(2, "a", NOW), NOW);
        index.learn(key("old"), stored(3, "a", NOW - 61_000_000), NOW);
        index.complete();
        assert!(matches!(claim(&index, "k", "a", NOW).await, Claim::Repeat(it) if it.lsn == Lsn(2)));
        assert_eq!(index.count(), 1);
    }
}
