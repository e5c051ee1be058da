//! Requests per minute of the clock, for many keys: a fixed window, because that is what the contract documents and
//! reports. `governor` is not used here, since it spreads requests evenly.

use super::{LimitExceeded, Standing};
use crate::clock::Micros;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

const MINUTE: Micros = 60_000_000;

/// By key: the minute (upper 32 bits) and the requests taken in it (lower 32 bits).
#[derive(Default)]
pub(super) struct Windows(RwLock<HashMap<u64, AtomicU64>>);

impl Windows {
    /// Takes `count` of the `per_minute` of `key`; 0 only reads the state. A `per_minute` of 0 means unlimited.
    pub(super) fn take(
        &self,
        per_minute: u32,
        key: u64,
        count: u32,
        now: Micros,
    ) -> Result<Option<Standing>, LimitExceeded> {
        if per_minute == 0 {
            return Ok(None);
        }
        let taken = if let Some(window) = self.0.read().get(&key) {
            take(window, per_minute, count, now)
        } else {
            take(self.0.write().entry(key).or_default(), per_minute, count, now)
        };
        let left = MINUTE - now.rem_euclid(MINUTE);
        let reset_seconds = u32::try_from(left.unsigned_abs().div_ceil(1_000_000)).unwrap_or(60);
        let standing =
            |taken: u32| Standing { limit: per_minute, remaining: per_minute - taken, reset_seconds };
        match taken {
            Some(taken) => Ok(Some(standing(taken))),
            None => Err(LimitExceeded { retry_seconds: reset_seconds, standing: Some(standing(per_minute)) }),
        }
    }

    /// Forgets the keys without a request in this minute.
    pub(super) fn forget_idle(&self, now: Micros) {
        let minute = minute(now);
        let mut windows = self.0.write();
        windows.retain(|_, window| window.load(Ordering::Relaxed) >> 32 == minute);
        let len = windows.len();
        if len < windows.capacity() / 4 {
            windows.shrink_to(len * 2);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.read().len()
    }
}

/// Returns how many are taken in total, or `None` if fewer than `count` were left.
fn take(window: &AtomicU64, per_minute: u32, count: u32, now: Micros) -> Option<u32> {
    let minute = minute(now);
    let mut before = window.load(Ordering::Relaxed);
    loop {
        let taken = if before >> 32 == minute { before & u64::from(u32::MAX) } else { 0 };
        let after = taken + u64::from(count);
        if after > u64::from(per_minute) {
            return None;
        }
        let next = minute << 32 | after;
        match window.compare_exchange_weak(before, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return u32::try_from(after).ok(),
            Err(changed) => before = changed,
        }
    }
}

fn minute(now: Micros) -> u64 {
    now.div_euclid(MINUTE).unsigned_abs() & u64::from(u32::MAX)
}
