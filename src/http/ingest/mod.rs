//! The handler of the ingest listener. Records: head, body, check, append, answer. Everything else that a contract
//! serves is a management call: head, body, and the dialect's own answer.

mod admit;
mod fan;
mod manage;
mod received;
mod store;
mod target;

use super::body::{self, Encoding, Limits};
use super::cors::{self, Cors, Page};
use super::transport::Handler;
use crate::auth::{Auth, AuthError, Caller, Credential, Need};
use crate::batch;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::request_id::RequestId;
use crate::contracts::shared::control::Control;
use crate::contracts::{DIALECTS, Dialect, Named, Parsed, Reply, RequestHead, origin};
use crate::http::limits::{self, Standing};
use crate::idempotency;
use crate::metrics;
use crate::progress::Progress;
use crate::schema::{Mode, Payload};
use crate::wal;
use admit::Admission;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use received::{InFlight, Manner, Received};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use store::Origin;

/// After this, a request that waits for its sync is told that it is accepted.
pub const SYNC_DEADLINE: Duration = Duration::from_secs(10);

/// What is over a limit is told so after this long. Who heeds `Retry-After` does not notice; who does not, and asks
/// again at once on every connection, would otherwise keep a core busy with refusals, and others waiting.
const REFUSAL_PAUSE: Duration = Duration::from_millis(50);

/// Everything a request needs.
pub struct IngestHandler {
    pub wal: wal::Handle,
    pub catalog: Arc<Catalog>,
    pub progress: Arc<Progress>,
    pub clock: Arc<dyn Clock>,
    pub auth: Arc<Auth>,
    pub control: Arc<Control>,
    pub keys: Arc<idempotency::Index>,
    pub metrics: Arc<metrics::Http>,
    pub settings: ArcSwap<Settings>,
    pub limits: ArcSwap<limits::Limits>,
    pub cors: ArcSwap<Cors>,
    /// Bytes of bodies being read.
    pub in_flight: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of a body on the wire, by [`batch::Dialect::ALL`].
    pub body_max: [u64; batch::Dialect::ALL.len()],
    pub decoded_max: u64,
    pub body_timeout: Duration,
    /// Bytes of bodies that may be in memory at the same time.
    pub in_flight_max: u64,
}

impl Settings {
    /// Bytes of a body on the wire.
    fn body_max(&self, dialect: batch::Dialect) -> u64 {
        let dialects = batch::Dialect::ALL.into_iter().zip(self.body_max);
        dialects.filter(|(known, _)| *known == dialect).map(|(_, bytes)| bytes).next().unwrap_or(0)
    }
}

impl Handler for IngestHandler {
    async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        let (head, incoming) = request.into_parts();
        let mut arrival = Arrival { head, peer, at: Instant::now() };
        let path = arrival.head.uri.path();
        let Some(dialect) = DIALECTS.iter().find(|dialect| dialect.takes(path)) else {
            let reject = Reject::new(Kind::NoSuchRoute, format!("no such route: {path}"));
            self.metrics.refused(reject.kind.index());
            // Until a contract owns the path, the first one words the refusal.
            let reply = DIALECTS[0].rejected(&arrival.head(), &reject);
            self.metrics.answered(reply.status.as_u16(), arrival.at.elapsed());
            return response(reply, None);
        };
        let named = Named { id: RequestId::next(), body_max: self.settings.load().body_max(dialect.id()) };
        if dialect.names_requests() {
            arrival.head.extensions.insert(named);
        }
        let mut standing = None;
        let mut page =
            if dialect.is_for_pages() { self.cors.load().page(&arrival.head.headers) } else { Page::Ignored };
        let answer = self.answer(*dialect, &arrival, incoming, &mut standing, &mut page).await;
        let (mut reply, reject) = match answer {
            Ok(reply) => (reply, None),
            Err(reject) => {
                self.metrics.refused(reject.kind.index());
                if let Some(internal) = &reject.internal {
                    let (request, reason) = (named.id.letters(15), reject.kind.label());
                    tracing::warn!(error = %internal, %peer, request, reason, "request refused");
                }
                if reject.kind == Kind::TooManyRequests {
                    tokio::time::sleep(REFUSAL_PAUSE).await;
                }
                (dialect.rejected(&arrival.head(), &reject), Some(reject))
            }
        };
        dialect.name_request(&mut reply, &named);
        if let Some(standing) = standing {
            dialect.tell(&mut reply, &standing);
        }
        self.metrics.answered(reply.status.as_u16(), arrival.at.elapsed());
        let mut response = response(reply, reject.as_ref());
        page.decorate(response.headers_mut());
        response
    }

    fn turned_away(&self, kind: Kind, status: u16) {
        self.metrics.turned_away(status, kind.index());
    }

    fn handshake_failed(&self) {
        self.metrics.handshake_failed();
    }

    fn connections(&self, open: usize) {
        self.metrics.connections(open);
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
        if let Some(methods) = reject.allow.as_ref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(header::ALLOW, methods);
        }
        if reject.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

/// A request whose body is still to come.
struct Arrival {
    head: http::request::Parts,
    peer: SocketAddr,
    at: Instant,
}

impl Arrival {
    fn head(&self) -> RequestHead<'_> {
        RequestHead::of(&self.head)
    }

    /// Length of the body that the head announces.
    fn declared(&self) -> Option<u64> {
        self.head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

/// A refusal before the body was read.
fn unread(error: AuthError) -> Reject {
    Reject::from(error).close()
}

impl IngestHandler {
    async fn answer(
        &self,
        dialect: &'static dyn Dialect,
        arrival: &Arrival,
        incoming: Incoming,
        standing: &mut Option<Standing>,
        page: &mut Page,
    ) -> Result<Reply, Reject> {
        if *page == Page::Forbidden {
            return Err(Reject::new(Kind::Forbidden, "pages of this origin may not call").close());
        }
        let head = &arrival.head;
        let parsed = dialect.parse(arrival.head())?;
        let ingest = match parsed {
            Parsed::Ingest(ingest) => ingest,
            Parsed::Receive(wait) => {
                return self.take_for_receiver(dialect, arrival, incoming, wait, standing).await;
            }
            Parsed::Answer(reply) => return Ok(reply),
            Parsed::Preflight(methods) => return Ok(cors::preflight(&methods)),
            Parsed::Manage(manage) => {
                let caller = match manage.need {
                    Some(need) => self.identify(head, &manage.credential, need, page)?,
                    None => Caller::nobody(),
                };
                let admission = Admission::new(dialect, &caller, arrival);
                if manage.need.is_some() {
                    self.admit_call(&admission)?;
                }
                return self.manage(dialect, arrival, incoming, &caller, &admission).await;
            }
            Parsed::Export => {
                let (caller, receiver) = (Caller::nobody(), self.receiver(dialect, arrival)?);
                let admission = Admission::new(dialect, &caller, arrival);
                self.admit_to(&admission, &receiver, standing)?;
                return self.manage(dialect, arrival, incoming, &caller, &admission).await;
            }
        };
        let caller = self.identify(head, &ingest.credential, Need::Any, page)?;
        let admission = Admission::new(dialect, &caller, arrival);
        let found = self.find_target(dialect, &arrival.head(), &ingest, &caller);
        let known = found.as_ref().ok().and_then(|(target, _)| target.stream());
        self.admit(&admission, known.map(|stream| &**stream), standing)?;
        let (target, open) = found?;
        let mode = target.stream().map(|stream| stream.settings.mode).unwrap_or_default();
        if mode == Mode::Reject {
            let message = format!("Stream {} is not accepting events", ingest.stream);
            return Err(Reject::new(Kind::Conflict, message).code("stream-rejected").close());
        }
        let key = store::key_of(&head.headers)?.or_else(|| dialect.key(&self.control, &arrival.head()));
        let body = self.receive(dialect, head, incoming, &admission).await?;
        let manner = Manner {
            kind: ingest.kind,
            bodies: dialect.bodies(),
            stream: target.stream().cloned(),
            others: target.others().to_vec(),
            received_at: self.clock.now(),
            open,
        };
        let body = received::check(body, manner.clone()).await?;
        if mode == Mode::Drop {
            self.metrics.dropped();
            return Ok(dialect.dropped(&arrival.head()));
        }
        let mut stream = self.stream_of(dialect, target).await?;
        if manner.bodies.one_payload {
            stream = self.of_payload(stream, Payload::of(ingest.kind)).await?;
        }
        let mut body = body.under(Manner { stream: Some(Arc::clone(&stream)), ..manner }).await?;
        let kept = dialect.keeps(&arrival.head());
        if !kept.is_empty() {
            body.fan.request = Some(fan::keep(&kept)?);
        }
        let origin = Origin { stream: &stream, dialect: dialect.id(), client_ip: arrival.peer.ip(), key };
        let outcome = self.store(&origin, &body, ingest.wait).await?;
        Ok(outcome.mark(dialect.accepted(&arrival.head(), &outcome.accepted)))
    }

    /// Reads a request's body, within what may be in memory.
    async fn receive(
        &self,
        dialect: &dyn Dialect,
        head: &http::request::Parts,
        incoming: Incoming,
        admission: &Admission<'_>,
    ) -> Result<Received, Reject> {
        let encoding = Encoding::of(&head.headers)?;
        let settings = **self.settings.load();
        let mut in_flight = InFlight::new(&self.in_flight, settings.in_flight_max);
        let configured = settings.body_max(dialect.id());
        let body_max = dialect.body_max(&self.control, &RequestHead::of(head), configured);
        // One that is too large is refused for that.
        in_flight.grow_to(admission.declared.unwrap_or(0).min(body_max))?;
        if let Some(declared) = admission.declared.filter(|declared| *declared <= body_max) {
            self.charge(admission, declared, admission.asked_at)?;
        }
        let limits = Limits { body_max, body_timeout: settings.body_timeout };
        let pieces = body::read(incoming, &limits, |bytes| in_flight.grow_to(bytes)).await?;
        if admission.declared.is_none() {
            let arrived = pieces.iter().map(|piece| piece.len() as u64).sum();
            self.charge(admission, arrived, Instant::now())?;
        }
        Ok(Received { pieces, encoding, decoded_max: settings.decoded_max, in_flight })
    }

    /// Who calls, who may do what is needed, from where they call. Before the body is read.
    fn identify(
        &self,
        head: &http::request::Parts,
        credential: &Credential<'_>,
        need: Need<'_>,
        page: &mut Page,
    ) -> Result<Caller, Reject> {
        let caller = self.auth.check(credential, need).map_err(unread)?;
        if caller.origins.is_some() {
            page.is_bound(&head.headers);
        }
        if !caller.allows_origin(origin(&head.headers)) {
            *page = Page::Forbidden;
            return Err(unread(AuthError::Origin));
        }
        Ok(caller)
    }
}
