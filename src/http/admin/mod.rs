//! The admin listener: health, readiness, metrics, and the state of the daemon, for operators and their tools.
//!
//! The routes are a table ([`routes`]); one file per resource implements them.

mod clients;
mod columns;
mod health;
mod keys;
mod page;
mod problem;
mod receivers;
mod replay;
mod routes;
mod sample;
mod schema;
mod staged;
mod state;
mod streams;
mod tokens;

use super::body::{self, BodyLimits, Encoding};
use super::metrics::HttpMetrics;
use super::openapi;
use super::transport::Handler;
use crate::auth::{Auth, AuthError, Caller, Need};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::contracts::reject::Reject;
use crate::contracts::route::{self, Access, Route, RouteInfo, RouteMatch};
use crate::contracts::shared::control::Control;
use crate::contracts::{Contracts, bearer, origin};
use crate::http::console;
use crate::progress::Progress;
use crate::wal;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full as FullBody;
use hyper::body::Incoming;
use problem::{Problem, respond};
use prometheus_client::registry::Registry;
use routes::{ROUTES, RouteHandler};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The largest request body, both on the wire and decompressed.
const BODY_MAX: u64 = 10 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The `OpenAPI` document of the admin routes.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// The routes of the admin listener.
pub fn served() -> Vec<RouteInfo> {
    route::served(ROUTES)
}

/// A response, and the result of every call.
type AdminResponse = Response<FullBody<Bytes>>;
type AdminResult = Result<AdminResponse, Problem>;

/// The phase that the daemon is in.
#[derive(Clone)]
pub enum DaemonPhase {
    /// Reading the log; nothing is accepted yet.
    Recovering,
    Running(Arc<RunningDaemon>),
    /// Finishing running requests.
    Draining(Arc<RunningDaemon>),
}

/// The parts of a running daemon that the admin API reads and changes.
pub struct RunningDaemon {
    pub wal: wal::Handle,
    pub recovery: wal::RecoveryReport,
    pub catalog: Arc<Catalog>,
    pub progress: Arc<Progress>,
    pub auth: Arc<Auth>,
    pub control: Arc<Control>,
    pub contracts: Contracts,
    pub clock: Arc<dyn Clock>,
    pub http_metrics: Arc<HttpMetrics>,
    pub registry: Registry,
    pub node: String,
    pub destination: String,
    pub started: Instant,
}

pub struct AdminHandler {
    pub phase: ArcSwap<DaemonPhase>,
    /// The URL of the ingest listener.
    ingest_url: String,
    /// The serialized `OpenAPI` document of both listeners.
    openapi: Bytes,
    /// Set to end the daemon.
    drain: watch::Sender<bool>,
}

/// A request that matched a route.
pub struct AdminRequest<'a> {
    /// The values of the template's parameters in the path.
    pub parameters: Vec<Cow<'a, str>>,
    pub query: &'a str,
    /// Decompressed.
    pub body: Bytes,
    pub caller: Caller,
    phase: &'a DaemonPhase,
    handler: &'a AdminHandler,
}

impl AdminRequest<'_> {
    /// The first path parameter. Call it only for routes whose template has one.
    pub(super) fn id(&self) -> &str {
        self.parameters.first().map_or("", |id| id)
    }

    /// Parses the body as JSON. An empty body counts as an empty object.
    fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Problem> {
        let body: &[u8] = if self.body.trim_ascii().is_empty() { b"{}" } else { &self.body };
        let mut reader = serde_json::Deserializer::from_slice(body);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let message = error.into_inner().to_string();
            if path == "." { message } else { format!("{path}: {message}") }
        });
        let value = value.and_then(|value| reader.end().map_err(|error| error.to_string()).map(|()| value));
        value.map_err(|message| Problem::new(StatusCode::BAD_REQUEST, format!("invalid body: {message}")))
    }
}

impl Handler for AdminHandler {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _peer: SocketAddr,
    ) -> Response<FullBody<Bytes>> {
        let (head, body) = request.into_parts();
        match self.route(&head, body).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        }
    }
}

impl AdminHandler {
    async fn route(&self, head: &http::request::Parts, body: Incoming) -> AdminResult {
        let phase = DaemonPhase::clone(&self.phase.load());
        if let Some(asset) = console::find(head.uri.path()) {
            return page::page(head, asset, &self.ingest_url);
        }
        let found = route::find(ROUTES, &head.method, head.uri.path());
        if let RouteMatch::Route(Route { call: RouteHandler::Always(answer), .. }, _) = found {
            return answer(self, &phase);
        }
        let (DaemonPhase::Running(running) | DaemonPhase::Draining(running)) = &phase else {
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "recovering"));
        };
        let need = match found {
            RouteMatch::Route(Route { access: Access::Token(need), .. }, _) => *need,
            _ => Need::Admin,
        };
        let caller = running.auth.check(&bearer(&head.headers), need).map_err(Reject::from)?;
        if !caller.allows_origin(origin(&head.headers)) {
            return Err(Reject::from(AuthError::Origin).into());
        }
        let (answer, parameters) = match found {
            RouteMatch::Route(Route { call: RouteHandler::Running(answer), .. }, parameters) => {
                (answer, parameters)
            }
            RouteMatch::OtherMethods(methods) => {
                let detail = format!("method {} not allowed", head.method);
                return Err(
                    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).header(header::ALLOW, methods)
                );
            }
            RouteMatch::Route(..) | RouteMatch::Nothing => {
                let detail = format!("no such route: {} {}", head.method, head.uri.path());
                return Err(Problem::new(StatusCode::NOT_FOUND, detail));
            }
        };
        let body = receive(head, body).await?;
        let query = head.uri.query().unwrap_or("");
        let request = AdminRequest { parameters, query, body, caller, phase: &phase, handler: self };
        answer(running, &request).await
    }

    pub fn new(ingest_url: String, drain: watch::Sender<bool>) -> Self {
        let openapi = openapi::document(&ingest_url).to_string().into();
        Self { phase: ArcSwap::from_pointee(DaemonPhase::Recovering), ingest_url, openapi, drain }
    }

    fn openapi(&self) -> AdminResponse {
        respond(StatusCode::OK, "application/json", self.openapi.clone())
    }
}

/// Reads the body and decodes its content encoding.
async fn receive(head: &http::request::Parts, body: Incoming) -> Result<Bytes, Problem> {
    let encoding = Encoding::from_headers(&head.headers)?;
    let limits = BodyLimits { body_max: BODY_MAX, body_timeout: BODY_TIMEOUT };
    let pieces = body::read(body, &limits, |_| Ok(())).await?;
    if encoding == Encoding::Identity {
        return Ok(Bytes::from(pieces.concat()));
    }
    let decoded = tokio::task::spawn_blocking(move || body::decode(pieces, encoding, BODY_MAX, |_| Ok(())));
    let decoded = decoded.await.map_err(|error| problem::internal(&error))??;
    Ok(Bytes::from(decoded.concat()))
}
