//! Requests or bytes, evenly spread over time, for many keys: the generic cell rate algorithm of the `governor` crate,
//! with one second's allowance as burst.

use super::{LimitExceeded, Standing};
use arc_swap::ArcSwap;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};
use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::Mutex;
use std::cell::Cell;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The most cells per second whose spacing is still exact to one percent.
pub(super) const PER_SECOND_MAX: u64 = 10_000_000;

/// Nanoseconds since the limits were created.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(pub(super) u64);

/// One limiter for each rate in use, since every token may have its own limit.
#[derive(Default)]
pub(super) struct Rates {
    limiters: ArcSwap<HashMap<u32, Arc<Limiter>>>,
    /// Held while the map is replaced.
    changing: Mutex<()>,
}

type Limiter = RateLimiter<u64, RateStore, RequestClock, StateInformationMiddleware>;

impl Rates {
    /// Takes `cells` from the `per_second` of `key`. A `per_second` of 0 means unlimited.
    pub(super) fn take(
        &self,
        per_second: u32,
        key: u64,
        cells: u32,
        now: Moment,
    ) -> Result<Option<Standing>, LimitExceeded> {
        let (Some(limit), Some(cells)) = (NonZeroU32::new(per_second), NonZeroU32::new(cells)) else {
            return Ok(None);
        };
        RequestClock::at(now);
        let known = self.limiters.load();
        let checked = match known.get(&per_second) {
            Some(limiter) => limiter.check_key_n(&key, cells),
            None => self.begin(limit).check_key_n(&key, cells),
        };
        match checked {
            Ok(Ok(state)) => {
                let remaining = state.remaining_burst_capacity();
                Ok(Some(Standing { limit: per_second, remaining, reset_seconds: 1 }))
            }
            Ok(Err(until)) => {
                let wait = until.wait_time_from(RequestClock.now());
                let retry_seconds =
                    u32::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
                let retry_seconds = retry_seconds.max(1);
                let standing = Standing { limit: per_second, remaining: 0, reset_seconds: retry_seconds };
                Err(LimitExceeded { retry_seconds, standing: Some(standing) })
            }
            // More than one second's allowance at once, which callers never ask for.
            Err(_) => Err(LimitExceeded { retry_seconds: 1, standing: None }),
        }
    }

    /// Adds the limiter for a rate that was not in use.
    fn begin(&self, limit: NonZeroU32) -> Arc<Limiter> {
        let _changing = self.changing.lock();
        let mut limiters = HashMap::clone(&self.limiters.load());
        let limiter = Arc::clone(limiters.entry(limit.get()).or_insert_with(|| limiter(limit)));
        self.limiters.store(Arc::new(limiters));
        limiter
    }

    /// Forgets the keys whose burst is full again, and limiters without keys.
    pub(super) fn forget_idle(&self, now: Moment) {
        RequestClock::at(now);
        let _changing = self.changing.lock();
        let known = self.limiters.load();
        known.values().for_each(|limiter| limiter.retain_recent());
        if known.values().any(|limiter| limiter.is_empty()) {
            let held = known.iter().filter(|(_, limiter)| !limiter.is_empty());
            let held = held.map(|(limit, limiter)| (*limit, Arc::clone(limiter))).collect();
            self.limiters.store(Arc::new(held));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.limiters.load().values().map(|limiter| limiter.len()).sum()
    }
}

fn limiter(per_second: NonZeroU32) -> Arc<Limiter> {
    let apart = Duration::from_nanos(1_000_000_000 / u64::from(per_second.get()));
    let quota = Quota::with_period(apart.max(Duration::from_nanos(1))).expect("the period is at least 1 ns");
    Arc::new(Limiter::new(quota.allow_burst(per_second), RateStore::default(), RequestClock))
}

/// The time of the current request. The clock is read once, and all limits are checked with that time.
#[derive(Debug, Clone, Copy)]
struct RequestClock;

thread_local!(static ASKED: Cell<u64> = const { Cell::new(0) });

impl RequestClock {
    fn at(now: Moment) {
        ASKED.set(now.0);
    }
}

impl Clock for RequestClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        ASKED.get().into()
    }
}

/// The keys of one limiter, with the time at which the next cell of each is due.
///
/// Every request on every core reads this, so a lookup writes nothing shared except the due time itself: a lock, even a
/// shared one, would bounce its cache line between the cores. Adding a key copies its part of the map.
struct RateStore {
    hasher: DefaultHashBuilder,
    parts: Box<[RateShard]>,
}

#[derive(Default)]
struct RateShard {
    known: ArcSwap<HashMap<u64, Arc<AtomicU64>>>,
    /// Held while the part is replaced.
    changing: Mutex<()>,
}

/// With 10,000 tokens, each part has about 40 keys.
const PARTS: usize = 256;

impl Default for RateStore {
    fn default() -> Self {
        let parts = std::iter::repeat_with(RateShard::default).take(PARTS).collect();
        Self { hasher: DefaultHashBuilder::default(), parts }
    }
}

impl RateStore {
    fn part(&self, key: u64) -> &RateShard {
        let at = usize::try_from(self.hasher.hash_one(key) % PARTS as u64).unwrap_or(0);
        &self.parts[at]
    }
}

impl StateStore for RateStore {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let part = self.part(*key);
        if let Some(due) = part.known.load().get(key) {
            return measure(due, decide);
        }
        let _changing = part.changing.lock();
        let known = part.known.load_full();
        if let Some(due) = known.get(key) {
            return measure(due, decide);
        }
        let due = Arc::default();
        let outcome = measure(&due, decide)?;
        let mut more = HashMap::clone(&known);
        more.insert(*key, due);
        part.known.store(Arc::new(more));
        Ok(outcome)
    }
}

fn measure<T, E>(due: &AtomicU64, decide: impl Fn(Option<Nanos>) -> Result<(T, Nanos), E>) -> Result<T, E> {
    let mut before = due.load(Ordering::Acquire);
    loop {
        let (outcome, after) = decide((before != 0).then(|| before.into()))?;
        match due.compare_exchange_weak(before, after.as_u64(), Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return Ok(outcome),
            Err(changed) => before = changed,
        }
    }
}

impl ShrinkableKeyedStateStore<u64> for RateStore {
    /// A key that makes a request at this very moment, after a second of silence, may be forgotten with what it took.
    fn retain_recent(&self, drop_below: Nanos) {
        let is_recent = |due: &AtomicU64| due.load(Ordering::Relaxed) > drop_below.as_u64();
        for part in &self.parts {
            let _changing = part.changing.lock();
            let known = part.known.load();
            if known.values().all(|due| is_recent(due)) {
                continue;
            }
            let recent = known.iter().filter(|(_, due)| is_recent(due));
            let recent = recent.map(|(key, due)| (*key, Arc::clone(due))).collect();
            part.known.store(Arc::new(recent));
        }
    }

    /// Nothing to do: forgotten keys take no space.
    fn shrink_to_fit(&self) {}

    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.known.load().len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
