//! The table of routes: method and path, the required scope, and the handler.

use super::problem::{ok, respond};
use super::{AdminHandler, AdminRequest, AdminResult, DaemonPhase, RunningDaemon, health};
use crate::auth::Need;
use crate::contracts::route::{Access, Route};
use futures_util::future::BoxFuture;
use http::StatusCode;

/// The handler of a route.
#[derive(Clone, Copy)]
pub(super) enum RouteHandler {
    /// Available in every phase of the daemon.
    Always(fn(&AdminHandler, &DaemonPhase) -> AdminResult),
    /// Available once the log is recovered.
    Running(for<'a> fn(&'a RunningDaemon, &'a AdminRequest<'a>) -> BoxFuture<'a, AdminResult>),
}

use Access::Public;
use RouteHandler::{Always, Running as Run};

/// Requires an admin token.
const ADMIN: Access = Access::Token(Need::Admin);
/// Requires the scope `tokens`, so that a service can manage tokens without other rights.
const TOKENS: Access = Access::Token(Need::Tokens);
const METRICS: Access = Access::Token(Need::Metrics);

pub(super) static ROUTES: &[Route<RouteHandler>] = &[
    Route::get("/healthz", Public, Always(|_, phase| Ok(health::healthz(phase)))),
    Route::get("/readyz", Public, Always(|_, phase| Ok(health::readyz(phase)))),
    Route::get("/metrics", METRICS, Run(|running, _| Box::pin(async { running.metrics() }))),
    Route::get("/openapi.json", Public, Always(|handler, _| Ok(handler.openapi()))),
    Route::get(
        "/admin/v1/status",
        ADMIN,
        Run(|running, request| Box::pin(async { Ok(ok(&running.status(request.phase).await?)) })),
    ),
    Route::get("/admin/v1/streams", ADMIN, Run(|running, _| Box::pin(running.streams()))),
    Route::get("/admin/v1/streams/{id}", ADMIN, Run(|running, request| Box::pin(running.stream(request)))),
    Route::post("/admin/v1/streams", ADMIN, Run(|running, request| Box::pin(running.sample_stream(request)))),
    Route::put(
        "/admin/v1/streams/{id}",
        ADMIN,
        Run(|running, request| Box::pin(running.put_stream(request))),
    ),
    Route::patch(
        "/admin/v1/streams/{id}",
        ADMIN,
        Run(|running, request| Box::pin(running.patch_stream(request))),
    ),
    Route::delete(
        "/admin/v1/streams/{id}",
        ADMIN,
        Run(|running, request| Box::pin(running.delete_stream(request))),
    ),
    Route::get(
        "/admin/v1/streams/{id}/schema",
        ADMIN,
        Run(|running, request| Box::pin(async { running.schema(request) })),
    ),
    Route::put(
        "/admin/v1/streams/{id}/schema",
        ADMIN,
        Run(|running, request| Box::pin(running.put_schema(request))),
    ),
    Route::get(
        "/admin/v1/streams/{id}/schema/versions",
        ADMIN,
        Run(|running, request| Box::pin(running.schema_versions(request))),
    ),
    Route::get(
        "/admin/v1/streams/{id}/schema/proposals",
        ADMIN,
        Run(|running, request| Box::pin(running.proposals(request))),
    ),
    Route::post(
        "/admin/v1/streams/{id}/schema/proposals",
        ADMIN,
        Run(|running, request| Box::pin(running.accept_proposals(request))),
    ),
    Route::delete(
        "/admin/v1/streams/{id}/schema/proposals",
        ADMIN,
        Run(|running, request| Box::pin(running.dismiss_proposals(request))),
    ),
    Route::delete(
        "/admin/v1/streams/{id}/schema/proposals/{field}",
        ADMIN,
        Run(|running, request| Box::pin(running.dismiss_proposals(request))),
    ),
    Route::get(
        "/admin/v1/streams/{id}/records",
        ADMIN,
        Run(|running, request| Box::pin(running.records(request))),
    ),
    Route::get(
        "/admin/v1/streams/{id}/errors",
        ADMIN,
        Run(|running, request| Box::pin(running.errors(request))),
    ),
    Route::get(
        "/admin/v1/streams/{id}/sample",
        ADMIN,
        Run(|running, request| Box::pin(running.sample(request))),
    ),
    Route::get(
        "/admin/v1/streams/{id}/snippets",
        ADMIN,
        Run(|running, request| Box::pin(async { running.snippets(request) })),
    ),
    Route::get(
        "/admin/v1/streams/{id}/files",
        ADMIN,
        Run(|running, request| Box::pin(running.files(request))),
    ),
    Route::get(
        "/admin/v1/receivers",
        ADMIN,
        Run(|running, _| Box::pin(async { Ok(ok(&running.receivers())) })),
    ),
    Route::get("/admin/v1/wal", ADMIN, Run(|running, _| Box::pin(running.wal_report()))),
    Route::get("/admin/v1/staged", ADMIN, Run(|running, _| Box::pin(running.staged()))),
    Route::post(
        "/admin/v1/staged/recover",
        ADMIN,
        Run(|running, request| Box::pin(running.recover(request))),
    ),
    Route::post("/admin/v1/publish", ADMIN, Run(|running, request| Box::pin(running.publish(request)))),
    Route::post("/admin/v1/replay", ADMIN, Run(|running, request| Box::pin(running.replay(request)))),
    Route::get("/admin/v1/replay", ADMIN, Run(|running, request| Box::pin(running.replays(request)))),
    Route::get(
        "/admin/v1/replay/{id}",
        ADMIN,
        Run(|running, request| Box::pin(running.replay_status(request))),
    ),
    Route::delete(
        "/admin/v1/replay/{id}",
        ADMIN,
        Run(|running, request| Box::pin(running.cancel_replay(request))),
    ),
    Route::get("/admin/v1/receipts/{lsn}", ADMIN, Run(|running, request| Box::pin(running.receipt(request)))),
    Route::get("/admin/v1/tokens", TOKENS, Run(|running, _| Box::pin(running.tokens()))),
    Route::post("/admin/v1/tokens", TOKENS, Run(|running, request| Box::pin(running.make_token(request)))),
    Route::get("/admin/v1/tokens/{id}", TOKENS, Run(|running, request| Box::pin(running.token(request)))),
    Route::delete(
        "/admin/v1/tokens/{id}",
        TOKENS,
        Run(|running, request| Box::pin(running.revoke_token(request))),
    ),
    Route::post(
        "/admin/v1/tokens/{id}/refresh",
        TOKENS,
        Run(|running, request| Box::pin(running.refresh_token(request))),
    ),
    Route::get("/admin/v1/clients", TOKENS, Run(|running, _| Box::pin(running.clients()))),
    Route::post("/admin/v1/clients", TOKENS, Run(|running, request| Box::pin(running.make_client(request)))),
    Route::delete(
        "/admin/v1/clients/{id}",
        TOKENS,
        Run(|running, request| Box::pin(running.delete_client(request))),
    ),
    Route::post(
        "/admin/v1/clients/{id}/secrets",
        TOKENS,
        Run(|running, request| Box::pin(running.rotate_client(request))),
    ),
    Route::delete(
        "/admin/v1/clients/{id}/secrets",
        TOKENS,
        Run(|running, request| Box::pin(running.revoke_client(request))),
    ),
    Route::get(
        "/admin/v1/clients/{id}/tokens",
        TOKENS,
        Run(|running, request| Box::pin(running.client_tokens(request))),
    ),
    Route::post(
        "/admin/v1/clients/{id}/tokens",
        TOKENS,
        Run(|running, request| Box::pin(running.make_client_token(request))),
    ),
    Route::get("/admin/v1/keys", ADMIN, Run(|running, _| Box::pin(async { Ok(running.keys()) }))),
    Route::post(
        "/admin/v1/keys/rotate",
        ADMIN,
        Run(|running, request| Box::pin(running.rotate_key(request))),
    ),
    Route::delete(
        "/admin/v1/keys/{id}",
        ADMIN,
        Run(|running, request| Box::pin(running.delete_key(request))),
    ),
    Route::post("/admin/v1/drain", ADMIN, Run(|_, request| Box::pin(async { Ok(drain(request)) }))),
];

/// Stops the daemon, as SIGTERM does.
fn drain(request: &AdminRequest<'_>) -> super::AdminResponse {
    request.handler.drain.send_replace(true);
    respond(StatusCode::ACCEPTED, "application/json", "{\"draining\":true}\n".to_owned())
}
