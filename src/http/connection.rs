//! Connections: accepting, telling HTTP/1.1 from HTTP/2, limits in number and time, and draining.
//!
//! Timers cost more than a small request does, so a request arms none: each connection notes what it is doing, and
//! one task looks at all of them a few times a second.

use super::reject::Kind;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};

/// What a client of HTTP/2 sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Read at once before it is known which HTTP it is.
const FIRST_READ_BYTES: usize = 16 * 1024;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 256;
/// How long an HTTP/2 connection may take to finish after it was told to.
const HTTP2_GOODBYE_MAX: Duration = Duration::from_mins(1);
/// A closed connection is listened to for this long, and for this many bytes.
const LINGER_MAX: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 << 20;
/// Connections too many that are told so with patience; beyond it they are closed at once.
const REFUSALS_MAX: usize = 256;
/// Pause after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;

    /// Told of what was refused before there was a request: a connection too many, a head that was late or is none.
    fn turned_away(&self, _kind: Kind, _status: u16) {}
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) connections_max: usize,
    /// From a request's first byte to the end of its head.
    pub(super) header_timeout: Duration,
    /// A connection without a request is closed after this long.
    pub(super) idle_timeout: Duration,
}

/// The open connections of one listener.
pub(super) struct Connections {
    options: Options,
    /// How often the sweeper has looked: the clock by which connections are late.
    sweeps: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Signal>>>,
    closed: Notify,
    draining: watch::Sender<bool>,
    refusals: Arc<Semaphore>,
}

/// What a connection is doing, and what it is told.
struct Signal {
    /// [`RUN`], [`TIMED_OUT`] or [`DRAIN`].
    told: AtomicU8,
    waker: AtomicWaker,
    /// The sweeper's clock when it began, times four, plus [`IDLE`], [`HEAD`] or [`BUSY`].
    phase: AtomicU64,
    /// Requests being answered.
    active: AtomicU32,
    /// The socket, given back by hyper's end of it.
    returned: Mutex<Option<TcpStream>>,
    connections: Arc<Connections>,
}

const RUN: u8 = 0;
const TIMED_OUT: u8 = 1;
const DRAIN: u8 = 2;

/// Waiting for a request.
const IDLE: u64 = 0;
/// A part of a request's head has come.
const HEAD: u64 = 1;
/// Answering.
const BUSY: u64 = 2;

impl Signal {
    fn tell(&self, what: u8) {
        self.told.fetch_max(what, Ordering::AcqRel);
        self.waker.wake();
    }

    fn enter(&self, phase: u64) {
        let now = self.connections.sweeps.load(Ordering::Relaxed);
        self.phase.store(now << 2 | phase, Ordering::Relaxed);
    }

    fn is(&self, phase: u64) -> bool {
        self.phase.load(Ordering::Relaxed) & 3 == phase
    }

    fn forget_time_out(&self) {
        // If it was told to drain meanwhile, that stands.
        let _stood = self.told.compare_exchange(TIMED_OUT, RUN, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Ends when the connection is told something new.
    fn poll_told(&self, context: &Context<'_>, heard: u8) -> Poll<u8> {
        self.waker.register(context.waker());
        match self.told.load(Ordering::Acquire) {
            told if told == heard => Poll::Pending,
            told => Poll::Ready(told),
        }
    }
}

/// Marks a request as being answered while it lives.
struct Active(Arc<Signal>);

impl Active {
    fn new(signal: &Arc<Signal>) -> Self {
        if signal.active.fetch_add(1, Ordering::Relaxed) == 0 {
            // Without looking at the clock: a request under way has no deadline here.
            signal.phase.store(BUSY, Ordering::Relaxed);
        }
        Self(Arc::clone(signal))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.enter(IDLE);
        }
    }
}

impl Connections {
    pub(super) fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            options,
            sweeps: AtomicU64::new(0),
            open: Mutex::default(),
            closed: Notify::new(),
            draining: watch::Sender::new(false),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
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
        let signal = Arc::new(Signal {
            told: AtomicU8::new(RUN),
            waker: AtomicWaker::new(),
            phase: AtomicU64::new(0),
            active: AtomicU32::new(0),
            returned: Mutex::new(None),
            connections: Arc::clone(self),
        });
        signal.enter(IDLE);
        {
            let mut open = self.open.lock();
            if open.len() >= self.options.connections_max {
                drop(open);
                handler.turned_away(Kind::Full, 503);
                if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
                    tokio::spawn(async move {
                        // The client may be gone already; there is nothing to be done about it.
                        drop(refuse(stream).await);
                        drop(permit);
                    });
                }
                return;
            }
            open.insert(id, Arc::clone(&signal));
        }
        let connections = Arc::clone(self);
        let handler = Arc::clone(handler);
        tokio::spawn(async move {
            // Drops on a panic too: a connection must not stay counted.
            let _open = Open { id, connections };
            if let Err(error) = serve(stream, peer, signal, handler).await {
                tracing::debug!(%error, %peer, "connection ended");
            }
        });
    }

    /// Tells connections that have been idle, or have been sending a head, for too long.
    async fn sweep(self: Arc<Self>) {
        let Options { header_timeout, idle_timeout, .. } = self.options;
        let interval = header_timeout.min(idle_timeout) / 4;
        let interval = interval.clamp(Duration::from_millis(20), Duration::from_secs(1));
        let sweeps = |timeout: Duration| timeout.as_nanos().div_ceil(interval.as_nanos());
        let (head_max, idle_max) = (sweeps(header_timeout), sweeps(idle_timeout));
        let mut ticks = tokio::time::interval(interval);
        loop {
            ticks.tick().await;
            let now = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
            for signal in self.open.lock().values() {
                let phase = signal.phase.load(Ordering::Relaxed);
                let since = u128::from(now.saturating_sub(phase >> 2));
                let late = match phase & 3 {
                    IDLE => since > idle_max,
                    HEAD => since > head_max,
                    _ => false,
                };
                if late {
                    signal.tell(TIMED_OUT);
                }
            }
        }
    }

    /// Stops accepting, lets requests under way finish, and closes what is idle. Returns whether all connections
    /// were gone by the deadline.
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

/// An open connection's place in the list.
struct Open {
    id: u64,
    connections: Arc<Connections>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.id);
        self.connections.closed.notify_one();
    }
}

/// One connection too many.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let answer = plain_answer("503 Service Unavailable", "too many connections", "retry-after: 1\r\n");
    stream.write_all(&answer).await?;
    close(stream).await
}

/// An answer outside of hyper.
fn plain_answer(status: &str, error: &str, headers: &str) -> Vec<u8> {
    let body = serde_json::json!({ "error": error }).to_string();
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {len}\r\n{headers}connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn serve<H: Handler>(
    mut stream: TcpStream,
    peer: SocketAddr,
    signal: Arc<Signal>,
    handler: Arc<H>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = Vec::with_capacity(FIRST_READ_BYTES);
    loop {
        let mut read = std::pin::pin!(stream.read_buf(&mut first));
        let read = poll_fn(|context| {
            if let Poll::Ready(read) = read.as_mut().poll(context) {
                return Poll::Ready(Ok(read));
            }
            signal.poll_told(context, RUN).map(Err)
        });
        match read.await {
            // Closed, too slow even for its first bytes, or no longer wanted.
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
        signal.enter(HEAD);
        if first.len() >= PREFACE.len() || !PREFACE.starts_with(&first) {
            break;
        }
    }
    let http2 = first.starts_with(PREFACE);
    if http2 {
        signal.enter(IDLE);
    }
    let io = Io {
        inner: Some(TokioIo::new(stream)),
        first: Bytes::from(first),
        notes_heads: !http2,
        signal: Arc::clone(&signal),
    };
    if http2 {
        serve_http2(io, peer, signal, handler).await
    } else {
        serve_http1(io, peer, signal, handler).await
    }
}

async fn serve_http1<H: Handler>(
    io: Io,
    peer: SocketAddr,
    signal: Arc<Signal>,
    handler: Arc<H>,
) -> io::Result<()> {
    let of_request = (Arc::clone(&signal), Arc::clone(&handler));
    let service = service_fn(move |request| {
        let active = Active::new(&of_request.0);
        let handler = Arc::clone(&of_request.1);
        async move {
            let response = handler.handle(request, peer).await;
            drop(active);
            Ok::<_, Infallible>(response)
        }
    });
    let ended = {
        let connection =
            hyper::server::conn::http1::Builder::new().writev(false).serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        let mut heard = RUN;
        loop {
            let event = poll_fn(|context| {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(Ok(ended));
                }
                signal.poll_told(context, heard).map(Err)
            });
            match event.await {
                Ok(Ok(())) if heard == DRAIN => return Ok(()),
                Ok(ended) => {
                    if let Err(error) = &ended
                        && error.is_parse()
                    {
                        // It was answered by hyper.
                        let status = if error.is_parse_too_large() { 431 } else { 400 };
                        handler.turned_away(Kind::Malformed, status);
                    }
                    break ended.map_err(io::Error::other);
                }
                Err(DRAIN) => {
                    heard = DRAIN;
                    connection.as_mut().graceful_shutdown();
                }
                // A request came at the last moment.
                Err(_) if signal.is(BUSY) => signal.forget_time_out(),
                Err(_) => break Ok(()),
            }
        }
    };
    let slow = signal.is(HEAD) && signal.told.load(Ordering::Relaxed) == TIMED_OUT;
    let returned = signal.returned.lock().take();
    if let Some(mut stream) = returned {
        if slow {
            handler.turned_away(Kind::TooSlow, 408);
            let answer = plain_answer("408 Request Timeout", "the request head did not arrive in time", "");
            stream.write_all(&answer).await?;
        }
        close(stream).await?;
    }
    ended
}

/// Closes a connection without cutting off the answer: a client that is still sending must be listened to for a
/// while, or the reset that it gets overtakes the answer.
async fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut sink = vec![0; 64 * 1024];
    let mut left = LINGER_BYTES_MAX;
    let listen = async {
        while let Ok(read @ 1..) = stream.read(&mut sink).await
            && left > read
        {
            left -= read;
        }
    };
    // However it ends, the connection is over.
    drop(tokio::time::timeout(LINGER_MAX, listen).await);
    Ok(())
}

async fn serve_http2<H: Handler>(
    io: Io,
    peer: SocketAddr,
    signal: Arc<Signal>,
    handler: Arc<H>,
) -> io::Result<()> {
    let of_request = Arc::clone(&signal);
    let service = service_fn(move |request| {
        let active = Active::new(&of_request);
        let handler = Arc::clone(&handler);
        async move {
            let response = handler.handle(request, peer).await;
            drop(active);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(None)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let told = poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(Some(ended));
        }
        signal.poll_told(context, RUN).map(|_| None)
    });
    if let Some(ended) = told.await {
        return ended.map_err(io::Error::other);
    }
    // Idle for too long, or draining: finish the streams under way and take no more. A peer that does not go along
    // is left.
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(HTTP2_GOODBYE_MAX, connection).await {
        Ok(ended) => ended.map_err(io::Error::other),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A socket whose first bytes were read already, and which notes when a request begins.
struct Io {
    /// There until it is given back.
    inner: Option<TokioIo<TcpStream>>,
    first: Bytes,
    /// In HTTP/2 bytes come without a request too; its heads are bounded by the idle timeout.
    notes_heads: bool,
    signal: Arc<Signal>,
}

impl Io {
    fn inner(&mut self) -> io::Result<Pin<&mut TokioIo<TcpStream>>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        *self.signal.returned.lock() = self.inner.take().map(TokioIo::into_inner);
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let len = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(len));
            return Poll::Ready(Ok(()));
        }
        let read = self.inner()?.poll_read(context, buffer);
        if read.is_ready() && self.notes_heads && self.signal.is(IDLE) {
            self.signal.enter(HEAD);
        }
        read
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(Write::is_write_vectored)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write_vectored(context, bytes)
    }
}
