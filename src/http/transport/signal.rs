//! What a connection is doing, and what it is told. Timers cost more than a small request does, so there is none for
//! each: a connection notes its phase, and whoever looks at all of them tells those that are late.

use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

/// What a connection is told.
pub(super) const RUN: u8 = 0;
pub(super) const TIMED_OUT: u8 = 1;
pub(super) const DRAIN: u8 = 2;

/// What a connection does. Two bits of [`Signal::phase`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a request.
    Idle = 0,
    /// A part of a request's head has come.
    Head = 1,
    /// Answering.
    Busy = 2,
    /// In the TLS handshake.
    Handshake = 3,
}

const PHASE_BITS: u32 = 2;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;

/// One connection, between its own task and the one that watches over all.
pub(super) struct Signal {
    /// [`RUN`], [`TIMED_OUT`] or [`DRAIN`].
    told: AtomicU8,
    waker: AtomicWaker,
    /// The clock when the phase began, and the phase in the lowest bits.
    phase: AtomicU64,
    /// Requests being answered.
    active: AtomicU32,
    /// How often connections have been looked at: the clock by which they are late.
    clock: Arc<AtomicU64>,
}

impl Signal {
    pub(super) fn new(clock: Arc<AtomicU64>) -> Self {
        let signal = Self {
            told: AtomicU8::new(RUN),
            waker: AtomicWaker::new(),
            phase: AtomicU64::new(0),
            active: AtomicU32::new(0),
            clock,
        };
        signal.enter(Phase::Idle);
        signal
    }

    pub(super) fn tell(&self, what: u8) {
        self.told.fetch_max(what, Ordering::AcqRel);
        self.waker.wake();
    }

    pub(super) fn told(&self) -> u8 {
        self.told.load(Ordering::Acquire)
    }

    pub(super) fn enter(&self, phase: Phase) {
        let now = self.clock.load(Ordering::Relaxed);
        self.phase.store(now << PHASE_BITS | phase as u64, Ordering::Relaxed);
    }

    pub(super) fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) & PHASE_MASK == phase as u64
    }

    /// How long the connection has been in its phase, in ticks of the clock, if it is `phase`.
    pub(super) fn ticks_in(&self, phase: Phase) -> Option<u64> {
        let noted = self.phase.load(Ordering::Relaxed);
        let now = self.clock.load(Ordering::Relaxed);
        (noted & PHASE_MASK == phase as u64).then(|| now.saturating_sub(noted >> PHASE_BITS))
    }

    pub(super) fn forget_time_out(&self) {
        // If it was told to drain meanwhile, that stands.
        let _stood = self.told.compare_exchange(TIMED_OUT, RUN, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Ends when the connection is told something new.
    pub(super) fn poll_told(&self, context: &Context<'_>, heard: u8) -> Poll<u8> {
        self.waker.register(context.waker());
        match self.told() {
            told if told == heard => Poll::Pending,
            told => Poll::Ready(told),
        }
    }

    /// What comes of the work, or `None` if the connection is told something before.
    pub(super) async fn unless_told<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let both = poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            self.poll_told(context, RUN).map(|_| None)
        });
        both.await
    }
}

/// Marks a request as being answered while it lives.
pub(super) struct Active(Arc<Signal>);

impl Active {
    pub(super) fn new(signal: &Arc<Signal>) -> Self {
        if signal.active.fetch_add(1, Ordering::Relaxed) == 0 {
            // Without looking at the clock: a request under way has no deadline here.
            signal.phase.store(Phase::Busy as u64, Ordering::Relaxed);
        }
        Self(Arc::clone(signal))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.enter(Phase::Idle);
        }
    }
}
