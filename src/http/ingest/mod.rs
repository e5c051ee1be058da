//! The handler of the ingest listener. Records go through head, body, check, append and response. Everything else that
//! a contract serves is a management call: head, body, and the contract's own response.

mod admit;
mod fan;
mod manage;
mod received;
mod store;
mod target;

use super::body::{self, BodyLimits, Encoding};
use super::cors::{self, Cors, PageOrigin};
use super::metrics::HttpMetrics;
use super::transport::Handler;
use crate::auth::{Auth, AuthError, Caller, Credential, Need};
use crate::batch;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::request_id::RequestId;
use crate::contracts::route::Access;
use crate::contracts::shared::control::Control;
use crate::contracts::{
    AnswerContext, Contracts, FoundTarget, Ingest, Made, Parsed, Reply, RequestHead, Standing, Told, origin,
};
use crate::http::limits;
use crate::idempotency;
use crate::progress::Progress;
use crate::schema::{Mode, Payload};
use crate::wal;
use admit::Admission;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use received::{CheckOptions, InFlight, Received};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use store::BatchOrigin;

/// After this, a request that waits for its sync is answered as accepted but not yet synced.
pub const SYNC_DEADLINE: Duration = Duration::from_secs(10);

/// The delay before a request over a limit is refused. Clients that honor `Retry-After` do not notice it. Clients that
/// retry at once on every connection would otherwise keep a core busy with refusals and delay others.
const REFUSAL_PAUSE: Duration = Duration::from_millis(50);

/// Everything that request handling needs.
pub struct IngestHandler {
    pub wal: wal::Handle,
    pub catalog: Arc<Catalog>,
    pub progress: Arc<Progress>,
    pub clock: Arc<dyn Clock>,
    pub auth: Arc<Auth>,
    pub control: Arc<Control>,
    pub contracts: Contracts,
    pub keys: Arc<idempotency::KeyIndex>,
    pub metrics: Arc<HttpMetrics>,
    pub settings: ArcSwap<IngestSettings>,
    pub limits: ArcSwap<limits::RateLimits>,
    pub cors: ArcSwap<Cors>,
    /// Bytes of the bodies that are being read.
    pub in_flight: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
pub struct IngestSettings {
    /// The largest body on the wire, in bytes, in the order of [`batch::Tag::ALL`].
    pub body_max: [u64; batch::Tag::ALL.len()],
    pub decoded_max: u64,
    pub body_timeout: Duration,
    /// The most bytes of bodies in memory at the same time.
    pub in_flight_max: u64,
}

impl IngestSettings {
    /// The largest body on the wire, in bytes, for a contract.
    fn body_max(&self, contract: batch::Tag) -> u64 {
        let contracts = batch::Tag::ALL.into_iter().zip(self.body_max);
        contracts.filter(|(known, _)| *known == contract).map(|(_, bytes)| bytes).next().unwrap_or(0)
    }
}

impl Handler for IngestHandler {
    async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        let (head, incoming) = request.into_parts();
        let mut arrival = Arrival { head, peer, at: Instant::now() };
        let path = arrival.head.uri.path();
        let Some(made) = self.contracts.find(path) else {
            let reject = Reject::new(RejectKind::NoSuchRoute, format!("no such route: {path}"));
            self.metrics.refused(reject.kind);
            let reply = self.contracts.first().rejected(&arrival.head(), &reject);
            self.metrics.answered(reply.status.as_u16(), arrival.at.elapsed());
            return response(reply, None);
        };
        let Made { entry, contract } = made;
        let named =
            AnswerContext { id: RequestId::next(), body_max: self.settings.load().body_max(entry.tag) };
        if entry.names_requests {
            arrival.head.extensions.insert(named);
        }
        let mut told = Told { named, standing: None };
        let mut page = if entry.is_for_pages {
            self.cors.load().page(&arrival.head.headers)
        } else {
            PageOrigin::Ignored
        };
        let answer = self.answer(made, &arrival, incoming, &mut told.standing, &mut page).await;
        let (mut reply, reject) = match answer {
            Ok(reply) => (reply, None),
            Err(reject) => {
                self.metrics.refused(reject.kind);
                if let Some(internal) = &reject.internal {
                    let (request, reason) = (named.id.letters(15), reject.kind.label());
                    tracing::warn!(error = %internal, %peer, request, reason, "request refused");
                }
                if reject.kind == RejectKind::TooManyRequests {
                    tokio::time::sleep(REFUSAL_PAUSE).await;
                }
                (contract.rejected(&arrival.head(), &reject), Some(reject))
            }
        };
        contract.finish(&mut reply, &told);
        self.metrics.answered(reply.status.as_u16(), arrival.at.elapsed());
        let mut response = response(reply, reject.as_ref());
        page.decorate(response.headers_mut());
        response
    }

    fn turned_away(&self, kind: RejectKind, status: u16) {
        self.metrics.turned_away(status, kind);
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

/// A request whose body has not been read.
struct Arrival {
    head: http::request::Parts,
    peer: SocketAddr,
    at: Instant,
}

impl Arrival {
    fn head(&self) -> RequestHead<'_> {
        RequestHead::from_parts(&self.head)
    }

    /// The body length that the request head declares.
    fn declared(&self) -> Option<u64> {
        self.head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

/// A refusal before the body was read, which closes the connection.
fn unread(error: AuthError) -> Reject {
    Reject::from(error).close()
}

impl IngestHandler {
    async fn answer(
        &self,
        made: &Made,
        arrival: &Arrival,
        incoming: Incoming,
        standing: &mut Option<Standing>,
        page: &mut PageOrigin,
    ) -> Result<Reply, Reject> {
        if *page == PageOrigin::Forbidden {
            return Err(
                Reject::new(RejectKind::Forbidden, "requests from this origin are not allowed").close()
            );
        }
        let head = &arrival.head;
        let ingest = match made.contract.parse(arrival.head())? {
            Parsed::Ingest(ingest) => ingest,
            Parsed::Receive(receive) => {
                return self.take_for_receiver(made, arrival, incoming, receive, standing).await;
            }
            Parsed::Answer(reply) => return Ok(reply),
            Parsed::Preflight(methods) => return Ok(cors::preflight(&methods)),
            Parsed::Manage(manage) => {
                let caller = match manage.access {
                    Access::Token(need) => self.identify(head, &manage.credential, need, page)?,
                    Access::Ingest => self.identify(head, &manage.credential, Need::Any, page)?,
                    Access::Public | Access::Secret => Caller::nobody(),
                };
                let admission = Admission::new(made.entry, &caller, arrival, None);
                if matches!(manage.access, Access::Token(_) | Access::Ingest) {
                    self.admit_call(&admission)?;
                }
                return self.manage(made, arrival, incoming, &caller, &admission).await;
            }
            Parsed::Export(receiver) => {
                let caller = Caller::nobody();
                let admission = Admission::new(made.entry, &caller, arrival, None);
                self.admit_to(&admission, &receiver, standing)?;
                return self.manage(made, arrival, incoming, &caller, &admission).await;
            }
        };
        self.take(made, arrival, incoming, ingest, (standing, page)).await
    }

    /// Accepts records for a stream.
    async fn take(
        &self,
        made: &Made,
        arrival: &Arrival,
        incoming: Incoming,
        ingest: Ingest<'_>,
        (standing, page): (&mut Option<Standing>, &mut PageOrigin),
    ) -> Result<Reply, Reject> {
        let head = &arrival.head;
        let caller = self.identify(head, &ingest.credential, Need::Any, page)?;
        let admission = Admission::new(made.entry, &caller, arrival, ingest.body_max);
        let found = (ingest.find)(&caller);
        let known = found.as_ref().ok().and_then(|found| found.target.stream());
        self.admit(&admission, known.map(|stream| &**stream), standing)?;
        let FoundTarget { target, open } = found?;
        let mode = target.stream().map_or(Mode::Active, |stream| stream.settings.mode);
        if mode == Mode::Reject {
            let name = target.stream().map_or("", |stream| &stream.name);
            let message = format!("Stream {name} is not accepting events");
            return Err(Reject::new(RejectKind::Conflict, message).code("stream-rejected").close());
        }
        let key = store::key_of(&head.headers)?.or(ingest.key);
        let body = self.receive(head, incoming, &admission).await?;
        let manner = CheckOptions {
            kind: ingest.kind,
            bodies: ingest.bodies,
            stream: target.stream().cloned(),
            others: target.others().to_vec(),
            received_at: self.clock.now(),
            open,
        };
        let body = received::check(body, manner.clone()).await?;
        if mode == Mode::Drop {
            self.metrics.dropped();
            return Ok((ingest.dropped)(&arrival.head()));
        }
        let mut stream = self.stream_of(target).await?;
        if manner.bodies.one_payload {
            stream = self.of_payload(stream, Payload::for_kind(ingest.kind)).await?;
        }
        let mut body = body.under(CheckOptions { stream: Some(Arc::clone(&stream)), ..manner }).await?;
        if !ingest.keeps.is_empty() {
            body.fan.request = Some(fan::keep(&ingest.keeps)?);
        }
        let origin =
            BatchOrigin { stream: &stream, contract: made.entry.tag, client_ip: arrival.peer.ip(), key };
        let outcome = self.store(&origin, &body, ingest.wait).await?;
        Ok(outcome.mark(made.contract.accepted(&arrival.head(), &outcome.accepted)))
    }

    /// Reads a request body within the memory limit.
    async fn receive(
        &self,
        head: &http::request::Parts,
        incoming: Incoming,
        admission: &Admission<'_>,
    ) -> Result<Received, Reject> {
        let encoding = Encoding::from_headers(&head.headers)?;
        let settings = **self.settings.load();
        let mut in_flight = InFlight::new(&self.in_flight, settings.in_flight_max);
        let configured = settings.body_max(admission.contract());
        let body_max = admission.body_max.map_or(configured, |max| configured.min(max));
        // A body over its own limit must be refused for its size, not for lack of memory.
        in_flight.grow_to(admission.declared.unwrap_or(0).min(body_max))?;
        if let Some(declared) = admission.declared.filter(|declared| *declared <= body_max) {
            self.charge(admission, declared, admission.asked_at)?;
        }
        let limits = BodyLimits { body_max, body_timeout: settings.body_timeout };
        let pieces = body::read(incoming, &limits, |bytes| in_flight.grow_to(bytes)).await?;
        if admission.declared.is_none() {
            let arrived = pieces.iter().map(|piece| piece.len() as u64).sum();
            self.charge(admission, arrived, Instant::now())?;
        }
        Ok(Received { pieces, encoding, decoded_max: settings.decoded_max, in_flight })
    }

    /// Identifies the caller and checks its scope and origin, before the body is read.
    fn identify(
        &self,
        head: &http::request::Parts,
        credential: &Credential<'_>,
        need: Need<'_>,
        page: &mut PageOrigin,
    ) -> Result<Caller, Reject> {
        let caller = self.auth.check(credential, need).map_err(unread)?;
        if caller.origins.is_some() {
            page.is_bound(&head.headers);
        }
        if !caller.allows_origin(origin(&head.headers)) {
            *page = PageOrigin::Forbidden;
            return Err(unread(AuthError::Origin));
        }
        Ok(caller)
    }
}
