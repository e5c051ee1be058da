//! The open connections of one listener: accepts up to a limit, checks timeouts a few times a second, and drains.

use super::connection;
use super::refuse::Refusals;
use super::signal::{ConnectionPhase, ConnectionSignal, DRAIN, TIMED_OUT};
use super::{ConnectionOptions, Handler};
use crate::contracts::reject::RejectKind;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// Pause after a failed accept, such as when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Connections {
    options: Arc<ConnectionOptions>,
    /// The number of sweeps so far: the clock that timeouts are measured with.
    sweeps: Arc<AtomicU64>,
    open: Mutex<HashMap<u64, Arc<ConnectionSignal>>>,
    closed: Notify,
    draining: watch::Sender<bool>,
    refusals: Refusals,
}

impl Connections {
    pub(super) fn new(options: ConnectionOptions) -> Arc<Self> {
        Arc::new(Self {
            options: Arc::new(options),
            sweeps: Arc::default(),
            open: Mutex::default(),
            closed: Notify::new(),
            draining: watch::Sender::new(false),
            refusals: Refusals::default(),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Accepts until [`Connections::drain`] is called.
    pub(super) async fn accept<H: Handler>(self: Arc<Self>, listener: TcpListener, handler: Arc<H>) {
        let mut draining = self.draining.subscribe();
        let sweeper = tokio::spawn(Arc::clone(&self).sweep());
        let mut next_id = 0;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = draining.wait_for(|draining| *draining) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    next_id += 1;
                    self.open(next_id, stream, peer, &handler);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        sweeper.abort();
    }

    fn open<H: Handler>(self: &Arc<Self>, id: u64, stream: TcpStream, peer: SocketAddr, handler: &Arc<H>) {
        let signal = Arc::new(ConnectionSignal::new(Arc::clone(&self.sweeps)));
        {
            let mut open = self.open.lock();
            if open.len() >= self.options.connections_max {
                drop(open);
                handler.turned_away(RejectKind::Full, 503);
                self.refusals.refuse(stream, peer, &self.options, signal);
                return;
            }
            open.insert(id, Arc::clone(&signal));
            handler.connections(open.len());
        }
        // Runs on a panic too, so that the connection does not stay counted.
        let counted = ConnectionGuard { id, connections: Arc::clone(self), handler: Arc::clone(handler) };
        let options = Arc::clone(&self.options);
        tokio::spawn(async move {
            let handler = Arc::clone(&counted.handler);
            if let Err(error) = connection::serve(stream, peer, options, signal, handler).await {
                tracing::debug!(%error, %peer, "connection failed");
            }
        });
    }

    /// Times out connections that have been idle, in the TLS handshake, or sending a request head for too long.
    async fn sweep(self: Arc<Self>) {
        let ConnectionOptions { header_timeout, idle_timeout, .. } = *self.options;
        let handshake_timeout = self.options.tls.as_ref().map_or(header_timeout, |tls| tls.handshake_timeout);
        let interval = header_timeout.min(idle_timeout).min(handshake_timeout) / 4;
        let interval = interval.clamp(Duration::from_millis(20), Duration::from_secs(1));
        let ticks = |timeout: Duration| timeout.as_nanos().div_ceil(interval.as_nanos());
        let limits = [
            (ConnectionPhase::Idle, ticks(idle_timeout)),
            (ConnectionPhase::Head, ticks(header_timeout)),
            (ConnectionPhase::Handshake, ticks(handshake_timeout)),
        ];
        let mut interval = tokio::time::interval(interval);
        loop {
            interval.tick().await;
            self.sweeps.fetch_add(1, Ordering::Relaxed);
            for signal in self.open.lock().values() {
                let late = |(phase, max)| signal.ticks_in(phase).is_some_and(|ticks| u128::from(ticks) > max);
                if limits.into_iter().any(late) {
                    signal.tell(TIMED_OUT);
                }
            }
        }
    }

    /// Stops accepting, lets running requests finish, and closes idle connections. Returns whether all connections
    /// were closed by the deadline.
    pub(super) async fn drain(&self, deadline: Instant) -> bool {
        self.draining.send_replace(true);
        loop {
            let closed = self.closed.notified();
            {
                let open = self.open.lock();
                if open.is_empty() {
                    return true;
                }
                for signal in open.values() {
                    signal.tell(DRAIN);
                }
            }
            if tokio::time::timeout_at(deadline.into(), closed).await.is_err() {
                return false;
            }
        }
    }
}

/// The entry of an open connection in the list, removed on drop.
struct ConnectionGuard<H: Handler> {
    id: u64,
    connections: Arc<Connections>,
    handler: Arc<H>,
}

impl<H: Handler> Drop for ConnectionGuard<H> {
    fn drop(&mut self) {
        {
            let mut open = self.connections.open.lock();
            open.remove(&self.id);
            self.handler.connections(open.len());
        }
        self.connections.closed.notify_one();
    }
}
