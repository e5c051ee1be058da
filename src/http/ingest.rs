//! The one handler of the ingest listener: head, body, check, append, answer.

use super::auth::{Auth, Scope};
use super::body::{self, Encoding, Limits};
use super::dialect::{Accepted, DIALECTS, Dialect, Durability, Ingest, Parsed, Reply, RequestHead, Wait};
use super::reject::{Kind, Reject};
use super::transport::Handler;
use crate::batch::BatchHead;
use crate::catalog::{Catalog, CatalogError, Stream, check_name};
use crate::clock::Clock;
use crate::json::{BodyKind, Verdict, records};
use crate::metrics;
use crate::progress::Progress;
use crate::wal::{self, AppendError, Lsn, NewFrame, SyncError};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a request waits for room in the log before it is refused.
const SPACE_WAIT: Duration = Duration::from_millis(250);
/// After this, a request that waits for its sync is told that it is accepted.
pub const SYNC_DEADLINE: Duration = Duration::from_secs(10);
/// After this, a request that waits for its file is told that it is synced.
const TABLE_DEADLINE: Duration = Duration::from_secs(30);
/// Larger bodies are decompressed and checked off the threads that serve sockets.
const INLINE_BYTES_MAX: usize = 1 << 20;
/// Bodies smaller than this are not counted against the bytes in flight; the number of connections bounds them.
const UNCOUNTED_BYTES_MAX: u64 = 16 * 1024;

/// Everything a request needs.
pub struct IngestHandler {
    pub wal: wal::Handle,
    pub catalog: Arc<Catalog>,
    pub progress: Arc<Progress>,
    pub clock: Arc<dyn Clock>,
    pub auth: Arc<Auth>,
    pub metrics: Arc<metrics::Http>,
    pub settings: ArcSwap<Settings>,
    /// Bytes of bodies being read.
    pub in_flight: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub body_max: u64,
    pub decoded_max: u64,
    pub body_timeout: Duration,
    /// Bytes of bodies that may be in memory at the same time.
    pub in_flight_max: u64,
}

impl Handler for IngestHandler {
    async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let path = request.uri().path();
        let Some(dialect) = DIALECTS.iter().find(|dialect| dialect.takes(path)) else {
            let reject = Reject::new(Kind::NoSuchRoute, format!("no such route: {path}"));
            self.metrics.refused(reject.kind.index());
            // Until a contract owns the path, the first one words the refusal.
            let reply = DIALECTS[0].rejected(&reject);
            self.metrics.answered(reply.status.as_u16(), started.elapsed());
            return response(reply, None);
        };
        match self.answer(*dialect, request, peer).await {
            Ok(reply) => {
                self.metrics.answered(reply.status.as_u16(), started.elapsed());
                response(reply, None)
            }
            Err(reject) => {
                self.metrics.refused(reject.kind.index());
                if let Some(internal) = &reject.internal {
                    tracing::warn!(error = internal, %peer, reason = reject.kind.label(), "request refused");
                }
                let reply = dialect.rejected(&reject);
                self.metrics.answered(reply.status.as_u16(), started.elapsed());
                response(reply, Some(&reject))
            }
        }
    }

    fn turned_away(&self, kind: Kind, status: u16) {
        self.metrics.turned_away(status, kind.index());
    }
}

fn response(reply: Reply, reject: Option<&Reject>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    for (name, value) in reply.headers {
        headers.insert(name, value);
    }
    if let Some(reject) = reject {
        if let Some(seconds) = reject.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if reject.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

impl IngestHandler {
    async fn answer(
        &self,
        dialect: &'static dyn Dialect,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Reply, Reject> {
        let (head, incoming) = request.into_parts();
        let request_head = RequestHead {
            method: &head.method,
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers: &head.headers,
        };
        let ingest = match dialect.parse(request_head)? {
            Parsed::Ingest(ingest) => ingest,
            Parsed::Answer(reply) => return Ok(reply),
        };
        self.auth.check(ingest.token.as_deref(), Scope::Ingest)?;
        let stream = self.find_stream(&ingest)?;
        let encoding = Encoding::of(&head.headers)?;
        let declared =
            head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let settings = **self.settings.load();
        let mut in_flight = self.count_in_flight(declared, &settings)?;
        let limits = Limits { body_max: settings.body_max, body_timeout: settings.body_timeout };
        let pieces = body::read(incoming, &limits, |bytes| in_flight.grow_to(bytes)).await?;
        let received =
            Received { pieces, encoding, kind: ingest.kind, decoded_max: settings.decoded_max, in_flight };
        let (body, verdict) = check(received).await?;
        let stream = match stream {
            Some(stream) => stream,
            None => self.create_stream(&ingest.stream).await?,
        };
        let batch = BatchHead {
            stream: stream.id,
            dialect: dialect.id(),
            kind: body.kind,
            good: u32::try_from(verdict.good).unwrap_or(u32::MAX),
            bad: u32::try_from(verdict.bad).unwrap_or(u32::MAX),
            client_ip: Some(peer.ip()),
        };
        let lsn = self.append(&batch.encode(), &body.pieces).await?;
        self.metrics.appended(
            verdict.good,
            verdict.bad,
            body.pieces.iter().map(|piece| piece.len() as u64).sum(),
        );
        let state = self.wait(ingest.wait, &stream, lsn).await?;
        Ok(dialect.accepted(&Accepted { lsn: lsn.0, stored: verdict.good, quarantined: verdict.bad, state }))
    }

    /// The stream, or `None` if the first event is to make it.
    fn find_stream(&self, ingest: &Ingest<'_>) -> Result<Option<Arc<Stream>>, Reject> {
        let name = &*ingest.stream;
        if let Some(stream) = self.catalog.streams().find(name) {
            return Ok(Some(Arc::clone(stream)));
        }
        check_name(name).map_err(|error| Reject::malformed(error.to_string()))?;
        if self.auth.check(ingest.token.as_deref(), Scope::Create).is_ok() {
            return Ok(None);
        }
        Err(Reject::new(Kind::NoSuchStream, format!("Data Source \"{name}\" does not exist")).close())
    }

    async fn create_stream(&self, name: &str) -> Result<Arc<Stream>, Reject> {
        let (catalog, name) = (Arc::clone(&self.catalog), name.to_owned());
        let made = tokio::task::spawn_blocking(move || catalog.create_stream(&name)).await;
        match made {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(CatalogError::Name(error))) => Err(Reject::malformed(error.to_string())),
            Ok(Err(error)) => Err(Reject::internal(&error)),
            Err(error) => Err(Reject::internal(&error)),
        }
    }

    /// Counts a body's bytes as long as the guard lives: those announced at once, others as they arrive.
    fn count_in_flight(&self, declared: Option<u64>, settings: &Settings) -> Result<InFlight, Reject> {
        let max = settings.in_flight_max;
        let mut in_flight = InFlight { total: Arc::clone(&self.in_flight), bytes: 0, max };
        // One that is too large is refused for that.
        in_flight.grow_to(declared.unwrap_or(0).min(settings.body_max))?;
        Ok(in_flight)
    }

    async fn append(&self, head: &[u8], body: &[Bytes]) -> Result<Lsn, Reject> {
        let frame = NewFrame { ts: self.clock.now(), ext: &[], head, body };
        let mut refused = match self.wal.append(&frame) {
            Ok(lsn) => return Ok(lsn),
            Err(error) => error,
        };
        let deadline = tokio::time::Instant::now() + SPACE_WAIT;
        loop {
            let AppendError::Full(full) = refused else { return Err(append_refused(&refused)) };
            let space = self.wal.space();
            let waited = tokio::time::timeout_at(deadline, space).await;
            refused = match self.wal.append(&frame) {
                Ok(lsn) => return Ok(lsn),
                Err(error) => error,
            };
            if waited.is_err() {
                let seconds = if matches!(full, wal::Full::Unsynced | wal::Full::Preparing) { 1 } else { 5 };
                return Err(Reject::new(Kind::Full, full.to_string()).retry_after(seconds));
            }
        }
    }

    async fn wait(&self, wait: Wait, stream: &Stream, lsn: Lsn) -> Result<Durability, Reject> {
        if wait == Wait::Append {
            return Ok(Durability::Appended);
        }
        match self.wal.synced(lsn).await {
            Ok(()) => {}
            Err(SyncError::Late) => return Ok(Durability::SyncPending),
            Err(error @ SyncError::Poisoned) => {
                return Err(Reject::new(Kind::Unknown, format!("{error}; receipt {lsn}")));
            }
        }
        if wait == Wait::Sync {
            return Ok(Durability::Synced);
        }
        if tokio::time::timeout(TABLE_DEADLINE, self.progress.published(stream.id, lsn)).await.is_err() {
            return Ok(Durability::PublishPending);
        }
        let (catalog, id) = (Arc::clone(&self.catalog), stream.id);
        match tokio::task::spawn_blocking(move || catalog.files_with(id, lsn)).await {
            Ok(Ok(files)) => Ok(Durability::Published(files.into_iter().map(|file| file.object).collect())),
            // The rows are published; only their address is not at hand.
            _ => Ok(Durability::Published(Vec::new())),
        }
    }
}

struct InFlight {
    total: Arc<AtomicU64>,
    bytes: u64,
    max: u64,
}

impl InFlight {
    fn grow_to(&mut self, bytes: u64) -> Result<(), Reject> {
        if bytes < UNCOUNTED_BYTES_MAX || bytes <= self.bytes {
            return Ok(());
        }
        let more = bytes - self.bytes;
        let before = self.total.fetch_add(more, Ordering::Relaxed);
        self.bytes = bytes;
        if before + more > self.max {
            let message = "too many request bodies are being received at once";
            return Err(Reject::new(Kind::Full, message).retry_after(1).close());
        }
        Ok(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Most bodies are too small to be counted.
        if self.bytes > 0 {
            self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

fn append_refused(error: &AppendError) -> Reject {
    match error {
        AppendError::Full(full) => Reject::new(Kind::Full, full.to_string()).retry_after(1),
        AppendError::TooLarge { .. } => Reject::new(Kind::TooLarge, error.to_string()),
        AppendError::Poisoned => Reject::new(Kind::Unavailable, error.to_string()).retry_after(5),
        AppendError::Closed => {
            Reject::new(Kind::Unavailable, "the daemon is shutting down").retry_after(5).close()
        }
        AppendError::Unknown(_) => {
            let internal = Some(crate::error::chain(error));
            Reject {
                internal,
                ..Reject::new(Kind::Unknown, "it is not known whether the records were stored")
            }
        }
    }
}

/// A body that has arrived.
struct Received {
    pieces: Vec<Bytes>,
    encoding: Encoding,
    kind: BodyKind,
    decoded_max: u64,
    in_flight: InFlight,
}

/// Decompresses and checks a body: inline if that is quick, else where it holds up nobody.
async fn check(body: Received) -> Result<(Received, Verdict), Reject> {
    let bytes: usize = body.pieces.iter().map(Bytes::len).sum();
    let identity = body.encoding == Encoding::Identity;
    let inline_max = if identity { INLINE_BYTES_MAX } else { INLINE_BYTES_MAX / 16 };
    if bytes <= inline_max {
        return check_now(body);
    }
    let checked = tokio::task::spawn_blocking(move || check_now(body)).await;
    checked.unwrap_or_else(|error| Err(Reject::internal(&error)))
}

fn check_now(mut body: Received) -> Result<(Received, Verdict), Reject> {
    let arrived: u64 = body.pieces.iter().map(|piece| piece.len() as u64).sum();
    let grow = |decoded| body.in_flight.grow_to(arrived + decoded);
    body.pieces = body::decode(body.pieces, body.encoding, body.decoded_max, grow)?;
    body.kind = BodyKind::of(body.pieces.iter().flatten(), body.kind);
    let verdict = records::check(&body.pieces, body.kind)
        .map_err(|reason| Reject::malformed(format!("The body is not a JSON document: {reason}")))?;
    if verdict.good == 0 {
        return Err(Reject::malformed(match verdict.first_bad {
            Some((record, reason)) => {
                format!("No line of the body is a JSON object (first bad line: {}: {reason})", record + 1)
            }
            None => "The body has no records".to_owned(),
        }));
    }
    Ok((body, verdict))
}
