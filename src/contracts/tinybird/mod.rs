//! Tinybird's contract: the Events API (`events.rs`) and the management routes that its clients use.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod analyze;
mod csv;
mod datasources;
mod events;
mod jobs;
mod rates;
mod schema;
mod tokens;
mod types;
mod upload;
pub mod words;
mod workspace;

use super::route::{self, Access, Route, RouteMatch};
use super::shared::control::Control;
use super::{
    Accepted, Call, Contract, ContractEntry, Extras, Manage, Managed, Parsed, Reply, RequestHead, Told,
    bearer,
};
use crate::auth::{Credential, Need};
use crate::batch;
use crate::catalog::CatalogError;
use crate::contracts::reject::{Reject, RejectKind};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

/// The owner of this contract's documents in the catalog, and its key in the vendor settings of a stream.
const CATALOG_NAME: &str = "tinybird";
const DOCUMENTATION: &str = "docs/api/tinybird.md";
static JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Cheap to clone, because answers to records are built after the call returns. Clones share the state.
#[derive(Clone)]
pub struct Tinybird {
    control: Arc<Control>,
    jobs: Arc<jobs::ImportJobStore>,
}

/// The handler of a route. A handler's last argument is the path parameter.
#[derive(Clone, Copy)]
enum TinybirdRoute {
    /// Records for a data source.
    Events,
    /// A CORS preflight for the Events API.
    Preflight,
    /// A call that answers 200 with the returned JSON.
    Json(fn(&Tinybird, &Call<'_>, &str) -> Result<Value, Reject>),
    /// A call that may contain records, or has another answer.
    Other(fn(&Tinybird, &Call<'_>, &str) -> Result<Managed, Reject>),
}

/// Any token will do: every token may look at itself, and rights for a stream are checked once the stream is known.
const ANY: Access = Access::Token(Need::Any);
const CREATE: Access = Access::Token(Need::Create);
const TOKENS: Access = Access::Token(Need::Tokens);

use TinybirdRoute::{Json, Other};

static ROUTES: &[Route<TinybirdRoute>] = &[
    Route::post(events::PATH, Access::Ingest, TinybirdRoute::Events),
    Route::options(events::PATH, Access::Public, TinybirdRoute::Preflight),
    Route::get("/v0/workspace", ANY, Json(|tinybird, _, _| Ok(workspace::workspace(tinybird)))),
    Route::get("/v1/workspace", ANY, Json(|tinybird, _, _| Ok(workspace::workspace(tinybird)))),
    Route::get("/v0/regions", ANY, Json(|tinybird, call, _| Ok(workspace::regions(tinybird, call)))),
    Route::post("/v0/analyze", CREATE, Json(|tinybird, call, _| analyze::analyze(tinybird, call))),
    Route::get("/v0/datasources", ANY, Json(|tinybird, call, _| datasources::list(tinybird, call))),
    Route::post("/v0/datasources", ANY, Other(|tinybird, call, _| datasources::post(tinybird, call))),
    Route::get("/v0/datasources/{name}", ANY, Json(datasources::get)),
    Route::delete("/v0/datasources/{name}", ANY, Other(datasources::drop_source)),
    Route::post("/v0/datasources/{name}/alter", CREATE, Json(datasources::alter)),
    Route::post("/v0/datasources/{name}/truncate", ANY, Json(datasources::truncate)),
    Route::post("/v0/datasources/{name}/delete", ANY, Json(|_, _, _| Err(datasources::delete_rows()))),
    Route::post("/v1/datasources/{name}/append", ANY, Other(datasources::append_job)),
    Route::post("/v1/datasources/{name}/replace", ANY, Json(|_, _, _| Err(datasources::replace()))),
    Route::post("/v1/datasources/{name}/delete", ANY, Json(|_, _, _| Err(datasources::delete_rows()))),
    Route::get("/v0/jobs", ANY, Json(|tinybird, call, _| jobs::list(tinybird, call))),
    Route::get("/v0/jobs/{id}", ANY, Json(jobs::get)),
    Route::post("/v0/jobs/{id}/cancel", ANY, Json(jobs::cancel)),
    Route::get("/v0/tokens", TOKENS, Json(|tinybird, _, _| tokens::list(tinybird))),
    Route::post("/v0/tokens", TOKENS, Json(|tinybird, call, _| tokens::make(tinybird, call))),
    Route::get("/v0/tokens/{id}", ANY, Json(tokens::get)),
    Route::put("/v0/tokens/{id}", TOKENS, Json(tokens::change)),
    Route::post("/v0/tokens/{id}/refresh", TOKENS, Json(tokens::refresh)),
    Route::delete("/v0/tokens/{id}", TOKENS, Json(tokens::delete)),
];

pub static ENTRY: ContractEntry = ContractEntry {
    tag: batch::Tag::Tinybird,
    names_requests: false,
    is_for_pages: true,
    section: None,
    check: |_| Ok(()),
    words: &words::WORDS,
    takes,
    served: || route::served(ROUTES),
    openapi: include_str!("openapi.json"),
    open: |_, control| Ok(Arc::new(Tinybird::new(control))),
};

impl Tinybird {
    fn new(control: Arc<Control>) -> Self {
        Self { jobs: Arc::new(jobs::store(&control)), control }
    }
}

/// Returns whether this contract owns the path.
fn takes(path: &str) -> bool {
    // Nearly all requests are for this path, so it is checked before the table of routes.
    events::is_path(path) || route::is_known(ROUTES, path)
}

impl Contract for Tinybird {
    fn begin(&self) -> Result<(), CatalogError> {
        Ok(())
    }

    fn parse<'a>(&'a self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        if *head.method == Method::HEAD && events::is_path(head.path) {
            return Ok(Parsed::Answer(Reply::empty(StatusCode::OK)));
        }
        let (route, _) = match find(&head) {
            Err(Reject { allow: Some(methods), .. }) if *head.method == Method::OPTIONS => {
                return Ok(Parsed::Preflight(methods.into_string().into()));
            }
            found => found?,
        };
        match route.call {
            TinybirdRoute::Events => events::ingest(self, &head).map(Parsed::Ingest),
            TinybirdRoute::Preflight => Ok(Parsed::Preflight("POST, OPTIONS".into())),
            TinybirdRoute::Json(_) | TinybirdRoute::Other(_) => {
                let credential = credential(&head, parameter(head.query, "token"));
                Ok(Parsed::Manage(Manage { access: route.access, credential }))
            }
        }
    }

    fn manage(&self, call: &Call<'_>) -> Result<Managed, Reject> {
        let (route, parameters) = find(&call.head)?;
        let name = parameters.first().map_or("", |name| name);
        match route.call {
            TinybirdRoute::Json(answer) => {
                answer(self, call, name).map(|body| Managed::Reply(reply(StatusCode::OK, &body)))
            }
            TinybirdRoute::Other(answer) => answer(self, call, name),
            // These are not management calls.
            TinybirdRoute::Events | TinybirdRoute::Preflight => Err(no_route(&call.head)),
        }
    }

    fn accepted(&self, _head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
        events::accepted(accepted)
    }

    fn rejected(&self, _head: &RequestHead<'_>, reject: &Reject) -> Reply {
        rejected(reject)
    }

    fn finish(&self, reply: &mut Reply, told: &Told) {
        if let Some(standing) = &told.standing {
            rates::tell(reply, standing);
        }
    }

    fn extras(&self) -> Option<&dyn Extras> {
        None
    }
}

fn rejected(reject: &Reject) -> Reply {
    let status = match reject.kind {
        // The contract has no 401.
        RejectKind::Unauthenticated | RejectKind::TokenExpired => 403,
        kind => kind.status(),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, &json!({ "error": message(reject), "documentation": DOCUMENTATION }))
}

/// The route of a request and its path parameters. Every path also answers OPTIONS, for CORS preflights.
fn find<'a>(head: &RequestHead<'a>) -> Result<(&'static Route<TinybirdRoute>, Vec<Cow<'a, str>>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        RouteMatch::Route(route, parameters) => Ok((route, parameters)),
        RouteMatch::OtherMethods(methods) => {
            // The Events API has OPTIONS in the table, and also answers HEAD.
            let further = if events::is_path(head.path) { "HEAD" } else { "OPTIONS" };
            Err(Reject::method_not_allowed(head.method, format!("{methods}, {further}")))
        }
        RouteMatch::Nothing => Err(no_route(head)),
    }
}

fn no_route(head: &RequestHead<'_>) -> Reject {
    Reject::new(RejectKind::NoSuchRoute, format!("no such route: {}", head.path))
}

/// The token in the header takes precedence over the one in the query.
fn credential<'a>(head: &RequestHead<'a>, token: Option<Cow<'a, str>>) -> Credential<'a> {
    bearer(head.headers).or(token)
}

/// The error text of a refusal. The contract uses one text for missing, unknown and expired tokens.
fn message(reject: &Reject) -> Cow<'_, str> {
    match (reject.kind, reject.lacks.as_deref()) {
        (RejectKind::Unauthenticated | RejectKind::TokenExpired, _) => "invalid authentication token".into(),
        (_, Some(scope)) => {
            let words = words::to_words(std::slice::from_ref(scope));
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            format!("token lacks {}", words.join(", ")).into()
        }
        _ => Cow::Borrowed(&reject.external),
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Sets a field of an object.
fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    Reply { status, headers: vec![(header::CONTENT_TYPE, JSON.clone())], body: body.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::tests::head;

    #[test]
    fn every_path_has_its_methods_and_options() {
        let allow = |method, path| {
            let reject = find(&RequestHead { method, path, ..head() }).err().unwrap();
            (reject.kind, reject.allow.map(String::from))
        };
        for (path, methods) in [
            ("/v0/events", "POST, OPTIONS, HEAD"),
            ("/v0/events/", "POST, OPTIONS, HEAD"),
            ("/v0/datasources", "GET, HEAD, POST, OPTIONS"),
            ("/v0/jobs/1/cancel", "POST, OPTIONS"),
        ] {
            assert!(takes(path), "{path}");
            let other = allow(&Method::PATCH, path);
            assert_eq!(other, (RejectKind::MethodNotAllowed, Some(methods.to_owned())), "{path}");
        }
        for path in ["/v0/events/x", "/v0/eventsource", "/v1/events/t", "/v2/tables", "/"] {
            assert!(!takes(path), "{path}");
            assert_eq!(allow(&Method::POST, path), (RejectKind::NoSuchRoute, None), "{path}");
        }
    }

    #[test]
    fn refusals_have_the_documented_shape() {
        let reject = Reject::new(RejectKind::Unauthenticated, "invalid authentication token");
        let reply = rejected(&reject);
        assert_eq!(reply.status.as_u16(), 403);
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert!(body["error"].is_string() && body["documentation"].is_string());
    }
}
