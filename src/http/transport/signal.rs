//! The phase of a connection, and the commands sent to it. A timer costs more than a small request, so connections have
//! none: each records its phase, and one task checks all of them and signals those that are late.

use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

/// The commands to a connection.
pub(super) const RUN: u8 = 0;
pub(super) const TIMED_OUT: u8 = 1;
pub(super) const DRAIN: u8 = 2;

/// What a connection is doing. Two bits of [`ConnectionSignal::phase`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionPhase {
    /// Waiting for a request.
    Idle = 0,
    /// Receiving a request head.
    Head = 1,
    /// Answering a request.
    Busy = 2,
    /// In the TLS handshake.
    Handshake = 3,
}

const PHASE_BITS: u32 = 2;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;

/// The state that a connection's own task shares with the task that checks all connections.
pub(super) struct ConnectionSignal {
    /// [`RUN`], [`TIMED_OUT`] or [`DRAIN`].
    told: AtomicU8,
    waker: AtomicWaker,
    /// The clock reading when the phase began, with the phase in the lowest bits.
    phase: AtomicU64,
    /// Requests being answered.
    active: AtomicU32,
    /// The number of checks so far: the clock that timeouts are measured with.
    clock: Arc<AtomicU64>,
}

impl ConnectionSignal {
    pub(super) fn new(clock: Arc<AtomicU64>) -> Self {
        let signal = Self {
            told: AtomicU8::new(RUN),
            waker: AtomicWaker::new(),
            phase: AtomicU64::new(0),
            active: AtomicU32::new(0),
            clock,
        };
        signal.enter(ConnectionPhase::Idle);
        signal
    }

    pub(super) fn tell(&self, what: u8) {
        self.told.fetch_max(what, Ordering::AcqRel);
        self.waker.wake();
    }

    pub(super) fn told(&self) -> u8 {
        self.told.load(Ordering::Acquire)
    }

    pub(super) fn enter(&self, phase: ConnectionPhase) {
        let now = self.clock.load(Ordering::Relaxed);
        self.phase.store(now << PHASE_BITS | phase as u64, Ordering::Relaxed);
    }

    pub(super) fn is(&self, phase: ConnectionPhase) -> bool {
        self.phase.load(Ordering::Relaxed) & PHASE_MASK == phase as u64
    }

    /// How long the connection has been in `phase`, in ticks of the clock. `None` if it is in another phase.
    pub(super) fn ticks_in(&self, phase: ConnectionPhase) -> Option<u64> {
        let noted = self.phase.load(Ordering::Relaxed);
        let now = self.clock.load(Ordering::Relaxed);
        (noted & PHASE_MASK == phase as u64).then(|| now.saturating_sub(noted >> PHASE_BITS))
    }

    pub(super) fn forget_time_out(&self) {
        // A drain command that arrived meanwhile stays in force.
        let _stood = self.told.compare_exchange(TIMED_OUT, RUN, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Ready when the connection has a command other than `heard`.
    pub(super) fn poll_told(&self, context: &Context<'_>, heard: u8) -> Poll<u8> {
        self.waker.register(context.waker());
        match self.told() {
            told if told == heard => Poll::Pending,
            told => Poll::Ready(told),
        }
    }

    /// Runs the work to its end, or returns `None` if a command to the connection arrives first.
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

/// Marks a request as running until it is dropped.
pub(super) struct Active(Arc<ConnectionSignal>);

impl Active {
    pub(super) fn new(signal: &Arc<ConnectionSignal>) -> Self {
        if signal.active.fetch_add(1, Ordering::Relaxed) == 0 {
            // The clock is not read: a running request has no deadline here.
            signal.phase.store(ConnectionPhase::Busy as u64, Ordering::Relaxed);
        }
        Self(Arc::clone(signal))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.enter(ConnectionPhase::Idle);
        }
    }
}
