//! The admin listener: health, readiness, metrics, and the state of everything, for operators and their tools.
//!
//! The routes are a table; a file for each noun does the work.

mod clients;
mod columns;
mod health;
mod keys;
mod page;
mod problem;
mod receivers;
mod replay;
mod sample;
mod schema;
mod staged;
mod state;
mod streams;
mod tokens;

use super::body::{self, Encoding, Limits};
use super::openapi;
use super::transport::Handler;
use crate::auth::{Auth, AuthError, Caller, Need};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::contracts::reject::Reject;
use crate::contracts::route::{self, Found, Route};
use crate::contracts::shared::control::Control;
use crate::contracts::{bearer, origin};
use crate::http::console;
use crate::metrics;
use crate::progress::Progress;
use crate::wal;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full as FullBody;
use hyper::body::Incoming;
use problem::{Problem, ok, respond};
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A request's body, as it comes and decompressed.
const BODY_MAX: u64 = 10 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Healthz,
    Readyz,
    Metrics,
    OpenApi,
    Status,
    Streams,
    Stream,
    SampleStream,
    PutStream,
    PatchStream,
    DeleteStream,
    Schema,
    PutSchema,
    SchemaVersions,
    Proposals,
    AcceptProposals,
    DismissProposals,
    Records,
    Errors,
    Sample,
    Snippets,
    Files,
    Receivers,
    Wal,
    Staged,
    Recover,
    Publish,
    Replay,
    Replays,
    ReplayStatus,
    CancelReplay,
    Receipt,
    Tokens,
    MakeToken,
    Token,
    RevokeToken,
    RefreshToken,
    Clients,
    MakeClient,
    DeleteClient,
    RotateClient,
    RevokeClient,
    ClientTokens,
    MakeClientToken,
    Keys,
    RotateKey,
    DeleteKey,
    Drain,
}

impl Call {
    /// The right that it takes.
    fn need(self) -> Need<'static> {
        match self {
            Self::Metrics => Need::Metrics,
            Self::Tokens
            | Self::MakeToken
            | Self::Token
            | Self::RevokeToken
            | Self::RefreshToken
            | Self::Clients
            | Self::MakeClient
            | Self::DeleteClient
            | Self::RotateClient
            | Self::RevokeClient
            | Self::ClientTokens
            | Self::MakeClientToken => Need::Tokens,
            _ => Need::Admin,
        }
    }
}

pub const ROUTES: &[Route<Call>] = &[
    Route::get("/healthz", Call::Healthz),
    Route::get("/readyz", Call::Readyz),
    Route::get("/metrics", Call::Metrics),
    Route::get("/openapi.json", Call::OpenApi),
    Route::get("/admin/v1/status", Call::Status),
    Route::get("/admin/v1/streams", Call::Streams),
    Route::get("/admin/v1/streams/{id}", Call::Stream),
    Route::post("/admin/v1/streams", Call::SampleStream),
    Route::put("/admin/v1/streams/{id}", Call::PutStream),
    Route::patch("/admin/v1/streams/{id}", Call::PatchStream),
    Route::delete("/admin/v1/streams/{id}", Call::DeleteStream),
    Route::get("/admin/v1/streams/{id}/schema", Call::Schema),
    Route::put("/admin/v1/streams/{id}/schema", Call::PutSchema),
    Route::get("/admin/v1/streams/{id}/schema/versions", Call::SchemaVersions),
    Route::get("/admin/v1/streams/{id}/schema/proposals", Call::Proposals),
    Route::post("/admin/v1/streams/{id}/schema/proposals", Call::AcceptProposals),
    Route::delete("/admin/v1/streams/{id}/schema/proposals", Call::DismissProposals),
    Route::delete("/admin/v1/streams/{id}/schema/proposals/{field}", Call::DismissProposals),
    Route::get("/admin/v1/streams/{id}/records", Call::Records),
    Route::get("/admin/v1/streams/{id}/errors", Call::Errors),
    Route::get("/admin/v1/streams/{id}/sample", Call::Sample),
    Route::get("/admin/v1/streams/{id}/snippets", Call::Snippets),
    Route::get("/admin/v1/streams/{id}/files", Call::Files),
    Route::get("/admin/v1/receivers", Call::Receivers),
    Route::get("/admin/v1/wal", Call::Wal),
    Route::get("/admin/v1/staged", Call::Staged),
    Route::post("/admin/v1/staged/recover", Call::Recover),
    Route::post("/admin/v1/publish", Call::Publish),
    Route::post("/admin/v1/replay", Call::Replay),
    Route::get("/admin/v1/replay", Call::Replays),
    Route::get("/admin/v1/replay/{id}", Call::ReplayStatus),
    Route::delete("/admin/v1/replay/{id}", Call::CancelReplay),
    Route::get("/admin/v1/receipts/{lsn}", Call::Receipt),
    Route::get("/admin/v1/tokens", Call::Tokens),
    Route::post("/admin/v1/tokens", Call::MakeToken),
    Route::get("/admin/v1/tokens/{id}", Call::Token),
    Route::delete("/admin/v1/tokens/{id}", Call::RevokeToken),
    Route::post("/admin/v1/tokens/{id}/refresh", Call::RefreshToken),
    Route::get("/admin/v1/clients", Call::Clients),
    Route::post("/admin/v1/clients", Call::MakeClient),
    Route::delete("/admin/v1/clients/{id}", Call::DeleteClient),
    Route::post("/admin/v1/clients/{id}/secrets", Call::RotateClient),
    Route::delete("/admin/v1/clients/{id}/secrets", Call::RevokeClient),
    Route::get("/admin/v1/clients/{id}/tokens", Call::ClientTokens),
    Route::post("/admin/v1/clients/{id}/tokens", Call::MakeClientToken),
    Route::get("/admin/v1/keys", Call::Keys),
    Route::post("/admin/v1/keys/rotate", Call::RotateKey),
    Route::delete("/admin/v1/keys/{id}", Call::DeleteKey),
    Route::post("/admin/v1/drain", Call::Drain),
];

/// What the daemon is doing.
#[derive(Clone)]
pub enum Phase {
    /// Reading the log; nothing is accepted yet.
    Recovering,
    Running(Arc<Running>),
    /// Finishing what was begun.
    Draining(Arc<Running>),
}

/// The parts of a running daemon that operators look at.
pub struct Running {
    pub wal: wal::Handle,
    pub recovery: wal::RecoveryReport,
    pub catalog: Arc<Catalog>,
    pub progress: Arc<Progress>,
    pub auth: Arc<Auth>,
    pub control: Arc<Control>,
    pub clock: Arc<dyn Clock>,
    pub http_metrics: Arc<metrics::Http>,
    pub registry: Registry,
    pub node: String,
    pub destination: String,
    pub started: Instant,
}

pub struct AdminHandler {
    pub phase: ArcSwap<Phase>,
    /// How the ingest listener is reached.
    pub ingest_url: String,
    /// Set to end the daemon.
    pub drain: watch::Sender<bool>,
}

/// A request whose route is known.
pub struct AdminRequest<'a> {
    /// What stands in the path for the template's parameters.
    pub parameters: Vec<Cow<'a, str>>,
    pub query: &'a str,
    /// Decompressed.
    pub body: Bytes,
    pub caller: Caller,
}

impl AdminRequest<'_> {
    /// The first parameter of the path; every caller's template has one.
    pub(super) fn id(&self) -> &str {
        self.parameters.first().map_or("", |id| id)
    }

    /// The body as JSON; one that is left out is an empty object.
    fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Problem> {
        let body: &[u8] = if self.body.trim_ascii().is_empty() { b"{}" } else { &self.body };
        let mut reader = serde_json::Deserializer::from_slice(body);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let message = error.into_inner().to_string();
            if path == "." { message } else { format!("{path}: {message}") }
        });
        let value = value.and_then(|value| reader.end().map_err(|error| error.to_string()).map(|()| value));
        value.map_err(|message| Problem::new(StatusCode::BAD_REQUEST, format!("the body: {message}")))
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
    async fn route(
        &self,
        head: &http::request::Parts,
        body: Incoming,
    ) -> Result<Response<FullBody<Bytes>>, Problem> {
        let phase = Phase::clone(&self.phase.load());
        if let Some(asset) = console::find(head.uri.path()) {
            return page::page(head, asset, &self.ingest_url);
        }
        let found = route::find(ROUTES, &head.method, head.uri.path());
        match found {
            Found::Route(Call::Healthz, _) => return Ok(health::healthz(&phase)),
            Found::Route(Call::Readyz, _) => return Ok(health::readyz(&phase)),
            Found::Route(Call::OpenApi, _) => return self.openapi(),
            _ => {}
        }
        let (Phase::Running(running) | Phase::Draining(running)) = &phase else {
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "recovering"));
        };
        let need = match found {
            Found::Route(call, _) => call.need(),
            _ => Need::Admin,
        };
        let caller = running.auth.check(&bearer(&head.headers), need).map_err(Reject::from)?;
        if !caller.allows_origin(origin(&head.headers)) {
            return Err(Reject::from(AuthError::Origin).into());
        }
        let (call, parameters) = match found {
            Found::Route(call, parameters) => (call, parameters),
            Found::OtherMethods(methods) => {
                let detail = format!("method {} not allowed", head.method);
                return Err(
                    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).header(header::ALLOW, methods)
                );
            }
            Found::Nothing => {
                let detail = format!("no such route: {} {}", head.method, head.uri.path());
                return Err(Problem::new(StatusCode::NOT_FOUND, detail));
            }
        };
        let body = receive(head, body).await?;
        let query = head.uri.query().unwrap_or_default();
        let request = AdminRequest { parameters, query, body, caller };
        self.answer(call, &request, &phase, running).await
    }

    async fn answer(
        &self,
        call: Call,
        request: &AdminRequest<'_>,
        phase: &Phase,
        running: &Running,
    ) -> Result<Response<FullBody<Bytes>>, Problem> {
        match call {
            Call::Healthz => Ok(health::healthz(phase)),
            Call::Readyz => Ok(health::readyz(phase)),
            Call::OpenApi => self.openapi(),
            Call::Metrics => running.metrics(),
            Call::Status => Ok(ok(&running.status(phase).await?)),
            Call::Streams => running.streams().await,
            Call::Stream => running.stream(request).await,
            Call::SampleStream => running.sample_stream(request).await,
            Call::PutStream => running.put_stream(request).await,
            Call::PatchStream => running.patch_stream(request).await,
            Call::DeleteStream => running.delete_stream(request).await,
            Call::Schema => running.schema(request),
            Call::PutSchema => running.put_schema(request).await,
            Call::SchemaVersions => running.schema_versions(request).await,
            Call::Proposals => running.proposals(request).await,
            Call::AcceptProposals => running.accept_proposals(request).await,
            Call::DismissProposals => running.dismiss_proposals(request).await,
            Call::Records => running.records(request).await,
            Call::Errors => running.errors(request).await,
            Call::Sample => running.sample(request).await,
            Call::Snippets => running.snippets(request, &self.ingest_url),
            Call::Files => running.files(request).await,
            Call::Receivers => Ok(ok(&running.receivers())),
            Call::Wal => running.wal_report().await,
            Call::Staged => running.staged().await,
            Call::Recover => running.recover(request).await,
            Call::Publish => running.publish(request).await,
            Call::Replay => running.replay(request).await,
            Call::Replays => running.replays(request).await,
            Call::ReplayStatus => running.replay_status(request).await,
            Call::CancelReplay => running.cancel_replay(request).await,
            Call::Receipt => running.receipt(request).await,
            Call::Tokens => running.tokens().await,
            Call::MakeToken => running.make_token(request).await,
            Call::Token => running.token(request).await,
            Call::RevokeToken => running.revoke_token(request).await,
            Call::RefreshToken => running.refresh_token(request).await,
            Call::Clients => running.clients().await,
            Call::MakeClient => running.make_client(request).await,
            Call::DeleteClient => running.delete_client(request).await,
            Call::RotateClient => running.rotate_client(request).await,
            Call::RevokeClient => running.revoke_client(request).await,
            Call::ClientTokens => running.client_tokens(request).await,
            Call::MakeClientToken => running.make_client_token(request).await,
            Call::Keys => Ok(running.keys()),
            Call::RotateKey => running.rotate_key(request).await,
            Call::DeleteKey => running.delete_key(request).await,
            Call::Drain => {
                self.drain.send_replace(true);
                Ok(respond(StatusCode::ACCEPTED, "application/json", "{\"draining\":true}\n".to_owned()))
            }
        }
    }
}

impl AdminHandler {
    fn openapi(&self) -> Result<Response<FullBody<Bytes>>, Problem> {
        let document = openapi::document(&self.ingest_url).map_err(|error| problem::internal(&error))?;
        Ok(respond(StatusCode::OK, "application/json", document.to_string()))
    }
}

/// Reads the body and undoes its content-encoding.
async fn receive(head: &http::request::Parts, body: Incoming) -> Result<Bytes, Problem> {
    let encoding = Encoding::of(&head.headers)?;
    let limits = Limits { body_max: BODY_MAX, body_timeout: BODY_TIMEOUT };
    let pieces = body::read(body, &limits, |_| Ok(())).await?;
    if encoding == Encoding::Identity {
        return Ok(Bytes::from(pieces.concat()));
    }
    let decoded = tokio::task::spawn_blocking(move || body::decode(pieces, encoding, BODY_MAX, |_| Ok(())));
    let decoded = decoded.await.map_err(|error| problem::internal(&error))??;
    Ok(Bytes::from(decoded.concat()))
}
