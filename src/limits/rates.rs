//! Requests or bytes evenly spread over time, for each of many: the generic cell rate algorithm of the `governor`
//! crate, with a second's worth as burst.

use super::{Refused, Standing};
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The most cells a second whose distance is still exact to a hundredth.
pub(super) const PER_SECOND_MAX: u64 = 10_000_000;

/// Nanoseconds since the limits were made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(pub(super) u64);

/// For each number of cells a second, those who are held to it: every token may have a limit of its own.
#[derive(Default)]
pub(super) struct Rates(RwLock<HashMap<u32, Arc<Limiter>>>);

type Limiter = RateLimiter<u64, Store, Asked, StateInformationMiddleware>;

impl Rates {
    /// Takes `cells` from the `per_second` of `key`. 0 is no limit.
    pub(super) fn take(
        &self,
        per_second: u32,
        key: u64,
        cells: u32,
        now: Moment,
    ) -> Result<Option<Standing>, Refused> {
        let (Some(limit), Some(cells)) = (NonZeroU32::new(per_second), NonZeroU32::new(cells)) else {
            return Ok(None);
        };
        Asked::at(now);
        let checked = if let Some(limiter) = self.0.read().get(&per_second) {
            limiter.check_key_n(&key, cells)
        } else {
            let limiter = Arc::clone(self.0.write().entry(per_second).or_insert_with(|| limiter(limit)));
            limiter.check_key_n(&key, cells)
        };
        match checked {
            Ok(Ok(state)) => {
                let remaining = state.remaining_burst_capacity();
                Ok(Some(Standing { limit: per_second, remaining, reset_seconds: 1 }))
            }
            Ok(Err(until)) => {
                let wait = until.wait_time_from(Asked.now());
                let retry_seconds =
                    u32::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
                let retry_seconds = retry_seconds.max(1);
                let standing = Standing { limit: per_second, remaining: 0, reset_seconds: retry_seconds };
                Err(Refused { retry_seconds, standing: Some(standing) })
            }
            // More than a second's worth at once: callers ask for less.
            Err(_) => Err(Refused { retry_seconds: 1, standing: None }),
        }
    }

    /// Forgets whose burst is whole again, and limits that nobody is held to.
    pub(super) fn forget_idle(&self, now: Moment) {
        Asked::at(now);
        let limiters: Vec<Arc<Limiter>> = self.0.read().values().cloned().collect();
        for limiter in &limiters {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        drop(limiters);
        // One that is in use at this moment is shared and stays.
        self.0.write().retain(|_, limiter| Arc::strong_count(limiter) > 1 || !limiter.is_empty());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.read().values().map(|limiter| limiter.len()).sum()
    }
}

fn limiter(per_second: NonZeroU32) -> Arc<Limiter> {
    let apart = Duration::from_nanos(1_000_000_000 / u64::from(per_second.get()));
    let quota = Quota::with_period(apart.max(Duration::from_nanos(1))).expect("longer than nothing");
    Arc::new(Limiter::new(quota.allow_burst(per_second), Store::default(), Asked))
}

/// The time of the request that asks: all its limits are asked at one time, which was read once.
#[derive(Debug, Clone, Copy)]
struct Asked;

thread_local!(static ASKED: Cell<u64> = const { Cell::new(0) });

impl Asked {
    fn at(now: Moment) {
        ASKED.set(now.0);
    }
}

impl Clock for Asked {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        ASKED.get().into()
    }
}

/// Who is held to a limit, with the time at which each one's next cell is due. Those who are known are looked up under
/// a shared lock.
#[derive(Default)]
struct Store(RwLock<HashMap<u64, AtomicU64>>);

impl StateStore for Store {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(due) = self.0.read().get(key) {
            return measure(due, decide);
        }
        measure(self.0.write().entry(*key).or_default(), decide)
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

impl ShrinkableKeyedStateStore<u64> for Store {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.write().retain(|_, due| due.load(Ordering::Relaxed) > drop_below.as_u64());
    }

    fn shrink_to_fit(&self) {
        let mut known = self.0.write();
        let len = known.len();
        if len < known.capacity() / 4 {
            known.shrink_to(len * 2);
        }
    }

    fn len(&self) -> usize {
        self.0.read().len()
    }

    fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }
}
