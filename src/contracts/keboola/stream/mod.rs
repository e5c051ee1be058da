//! Keboola's Stream API, the successor of its Buffer: sources and their sinks, the address that records are sent to,
//! and the source that takes OpenTelemetry exports. See `docs/api/keboola_stream.md`.
//!
//! A source is a receiver: each of its records is one row of each of its live sinks, which are streams of the policy
//! `mapped`. The catalog stores sources and sinks; [`live`] keeps the part that requests need in memory.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod aggregation;
mod change;
mod data;
mod live;
mod model;
mod otlp;
mod page;
mod request;
mod settings;
mod shown;
mod sinks;
mod sources;
mod statistics;
mod tasks;
mod test_call;
mod words;

use super::{KeboolaContext, KeboolaSection, SECTION, TOKEN_HEADER, WORDS, no_token, reply};
use crate::auth::{Credential, Need};
use crate::batch;
use crate::catalog::CatalogError;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::route::{self, Access, Route, RouteMatch};
use crate::contracts::shared::control::Control;
use crate::contracts::{
    Accepted, Call, Contract, ContractEntry, Extras, Manage, Managed, Parsed, Reply, RequestHead, Told,
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use model::EntityPlace;
use request::StreamRequest;
use std::borrow::Cow;
use std::sync::Arc;

pub struct KeboolaStream {
    common: KeboolaContext,
}

/// The handler of a route.
#[derive(Clone, Copy)]
enum StreamRoute {
    /// Takes a record for a source.
    Record,
    /// The preflight request of a browser.
    Options,
    /// Takes an OpenTelemetry export.
    Export,
    /// A call on the sources of a branch.
    Branch(fn(&StreamRequest<'_>) -> Result<Reply, Reject>),
    /// A call on a source or its sinks.
    Source(fn(&StreamRequest<'_>, &EntityPlace) -> Result<Reply, Reject>),
    /// A call on a sink.
    Sink(fn(&StreamRequest<'_>, &EntityPlace) -> Result<Reply, Reject>),
    /// A call on a version of a source.
    SourceVersion(fn(&StreamRequest<'_>, &EntityPlace, &str) -> Result<Reply, Reject>),
    /// A call on a version of a sink.
    SinkVersion(fn(&StreamRequest<'_>, &EntityPlace, &str) -> Result<Reply, Reject>),
}

use StreamRoute::{Branch, Sink, SinkVersion, Source, SourceVersion};

/// The access that every management call requires.
const TOKEN: Access = Access::Token(Need::Create);
const SECRET: Access = Access::Secret;

static ROUTES: &[Route<StreamRoute>] = &[
    Route::get("/v1/branches/{branch}/aggregation/sources", TOKEN, Branch(aggregation::show)),
    Route::get("/v1/branches/{branch}/sources", TOKEN, Branch(|call| sources::list(call, false))),
    Route::post("/v1/branches/{branch}/sources", TOKEN, Branch(sources::create)),
    Route::get("/v1/branches/{branch}/sources/deleted", TOKEN, Branch(|call| sources::list(call, true))),
    Route::get("/v1/branches/{branch}/sources/{source}", TOKEN, Source(change::show)),
    Route::patch("/v1/branches/{branch}/sources/{source}", TOKEN, Source(sources::update)),
    Route::delete("/v1/branches/{branch}/sources/{source}", TOKEN, Source(sources::delete)),
    Route::get("/v1/branches/{branch}/sources/{source}/settings", TOKEN, Source(change::settings)),
    Route::patch("/v1/branches/{branch}/sources/{source}/settings", TOKEN, Source(change::update_settings)),
    Route::post("/v1/branches/{branch}/sources/{source}/test", TOKEN, Source(test_call::test)),
    Route::put("/v1/branches/{branch}/sources/{source}/disable", TOKEN, Source(change::disable)),
    Route::put("/v1/branches/{branch}/sources/{source}/enable", TOKEN, Source(change::enable)),
    Route::put("/v1/branches/{branch}/sources/{source}/undelete", TOKEN, Source(change::undelete)),
    Route::post(
        "/v1/branches/{branch}/sources/{source}/rotate-secret",
        TOKEN,
        Source(sources::rotate_secret),
    ),
    Route::delete(
        "/v1/branches/{branch}/sources/{source}/statistics/clear",
        TOKEN,
        Source(statistics::clear),
    ),
    Route::get("/v1/branches/{branch}/sources/{source}/versions", TOKEN, Source(change::versions)),
    Route::get(
        "/v1/branches/{branch}/sources/{source}/versions/{version}",
        TOKEN,
        SourceVersion(change::show_version),
    ),
    Route::put(
        "/v1/branches/{branch}/sources/{source}/versions/{version}/rollback",
        TOKEN,
        SourceVersion(change::rollback),
    ),
    Route::get(
        "/v1/branches/{branch}/sources/{source}/sinks",
        TOKEN,
        Source(|call, source| sinks::list(call, source, false)),
    ),
    Route::post("/v1/branches/{branch}/sources/{source}/sinks", TOKEN, Source(sinks::create)),
    Route::get(
        "/v1/branches/{branch}/sources/{source}/sinks/deleted",
        TOKEN,
        Source(|call, source| sinks::list(call, source, true)),
    ),
    Route::get("/v1/branches/{branch}/sources/{source}/sinks/{sink}", TOKEN, Sink(change::show)),
    Route::patch("/v1/branches/{branch}/sources/{source}/sinks/{sink}", TOKEN, Sink(sinks::update)),
    Route::delete("/v1/branches/{branch}/sources/{source}/sinks/{sink}", TOKEN, Sink(sinks::delete)),
    Route::get("/v1/branches/{branch}/sources/{source}/sinks/{sink}/settings", TOKEN, Sink(change::settings)),
    Route::patch(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/settings",
        TOKEN,
        Sink(change::update_settings),
    ),
    Route::put("/v1/branches/{branch}/sources/{source}/sinks/{sink}/disable", TOKEN, Sink(change::disable)),
    Route::put("/v1/branches/{branch}/sources/{source}/sinks/{sink}/enable", TOKEN, Sink(change::enable)),
    Route::put("/v1/branches/{branch}/sources/{source}/sinks/{sink}/undelete", TOKEN, Sink(change::undelete)),
    Route::get("/v1/branches/{branch}/sources/{source}/sinks/{sink}/versions", TOKEN, Sink(change::versions)),
    Route::get(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/versions/{version}",
        TOKEN,
        SinkVersion(change::show_version),
    ),
    Route::put(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/versions/{version}/rollback",
        TOKEN,
        SinkVersion(change::rollback),
    ),
    Route::get(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/statistics/total",
        TOKEN,
        Sink(statistics::total),
    ),
    Route::get(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/statistics/files",
        TOKEN,
        Sink(statistics::files),
    ),
    Route::delete(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/statistics/clear",
        TOKEN,
        Sink(statistics::clear),
    ),
    Route::post("/stream/{project}/{source}/{secret}", SECRET, StreamRoute::Record),
    Route::options("/stream/{project}/{source}/{secret}", Access::Public, StreamRoute::Options),
    Route::post("/otlp/{project}/{source}/v1/{signal}", SECRET, StreamRoute::Export),
    Route::post("/otlp/{project}/{source}/{secret}/v1/{signal}", SECRET, StreamRoute::Export),
];

const STREAM: &str = "/stream/";
/// Paths below [`STREAM`] that belong to other contracts.
const OTHERS: [&str; 2] = ["/stream/v0/", "/stream/api/"];

/// The parts of the service. Each words its errors differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServicePart {
    Api,
    Data,
    Otlp,
}

impl ServicePart {
    fn from_path(path: &str) -> Self {
        match path {
            path if path.starts_with(STREAM) => Self::Data,
            path if otlp::takes(path) => Self::Otlp,
            _ => Self::Api,
        }
    }
}

pub static ENTRY: ContractEntry = ContractEntry {
    tag: batch::Tag::KeboolaStream,
    names_requests: true,
    is_for_pages: false,
    section: Some(SECTION),
    check: |sections| sections.get::<KeboolaSection>(SECTION).map(drop),
    words: &WORDS,
    takes,
    served: || route::served(ROUTES),
    openapi: include_str!("openapi.json"),
    open: |sections, control| Ok(Arc::new(KeboolaStream::new(sections.get(SECTION)?, control))),
};

impl KeboolaStream {
    fn new(settings: KeboolaSection, control: Arc<Control>) -> Self {
        Self { common: KeboolaContext::new(settings, control) }
    }
}

/// Returns whether this contract owns the path.
fn takes(path: &str) -> bool {
    let is_api =
        path.strip_prefix("/v1/branches").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_data = path.starts_with(STREAM) && !OTHERS.iter().any(|other| path.starts_with(other));
    is_api || is_data || otlp::takes(path)
}

impl Contract for KeboolaStream {
    fn begin(&self) -> Result<(), CatalogError> {
        live::load(&self.common.control)
    }

    fn parse<'a>(&'a self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        if head.method == Method::OPTIONS && ServicePart::from_path(head.path) == ServicePart::Api {
            return Ok(Parsed::Answer(options()));
        }
        let (route, _) = find(&head)?;
        Ok(match route.call {
            StreamRoute::Record => {
                Parsed::Receive(data::receive(&self.common, &head).map_err(Reject::close)?)
            }
            StreamRoute::Options => Parsed::Answer(data::options()),
            StreamRoute::Export => {
                otlp::check(&head)?;
                Parsed::Export(otlp::receiver(&self.common, &head).map_err(Reject::close)?)
            }
            Branch(_) | Source(_) | Sink(_) | SourceVersion(_) | SinkVersion(_) => {
                Parsed::Manage(Manage { access: route.access, credential: token(&head)? })
            }
        })
    }

    fn manage(&self, call: &Call<'_>) -> Result<Managed, Reject> {
        let (route, parameters) = find(&call.head)?;
        if matches!(route.call, StreamRoute::Export) {
            return otlp::export(&self.common, call);
        }
        let mut parameters = parameters.into_iter();
        // A route may have fewer parameters.
        let mut next = || parameters.next().unwrap_or_default();
        let request = StreamRequest::new(&self.common, call, &next())?;
        // A change reads the entity first, so reading and writing must not interleave with other changes.
        let _change = (call.head.method != Method::GET).then(|| self.common.control.change());
        let source = next();
        let last = next();
        let (source, sink) = (request.place(&source, None), request.place(&source, Some(&last)));
        let reply = match route.call {
            Branch(answer) => answer(&request),
            Source(answer) => answer(&request, &source),
            Sink(answer) => answer(&request, &sink),
            SourceVersion(answer) => answer(&request, &source, &last),
            SinkVersion(answer) => answer(&request, &sink, &next()),
            StreamRoute::Record | StreamRoute::Options | StreamRoute::Export => Err(data::no_route()),
        };
        reply.map(Managed::Reply)
    }

    fn accepted(&self, head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
        data::accepted(head, accepted)
    }

    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply {
        match ServicePart::from_path(head.path) {
            ServicePart::Api => words::of_api(head, reject),
            ServicePart::Data => data::rejected(head, reject),
            ServicePart::Otlp => otlp::rejected(head, reject),
        }
    }

    fn finish(&self, reply: &mut Reply, told: &Told) {
        reply::name_request(reply, &told.named);
        reply.headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
        reply.headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*")));
    }

    fn extras(&self) -> Option<&dyn Extras> {
        None
    }
}

fn find<'a>(head: &RequestHead<'a>) -> Result<(&'static Route<StreamRoute>, Vec<Cow<'a, str>>), Reject> {
    match (route::find(ROUTES, head.method, head.path), ServicePart::from_path(head.path)) {
        (RouteMatch::Route(route, parameters), _) => Ok((route, parameters)),
        (_, ServicePart::Data) => Err(data::no_route()),
        (_, ServicePart::Otlp) => Err(otlp::no_route()),
        (RouteMatch::OtherMethods(methods), ServicePart::Api) => {
            Err(Reject::method_not_allowed(head.method, methods))
        }
        (RouteMatch::Nothing, ServicePart::Api) => Err(Reject::new(RejectKind::NoSuchRoute, "no such route")),
    }
}

/// The token of a management call. It is required even if the daemon does not check tokens.
fn token<'a>(head: &RequestHead<'a>) -> Result<Credential<'a>, Reject> {
    let value = head.headers.get(TOKEN_HEADER).and_then(|value| value.to_str().ok());
    let value = value.filter(|value| !value.is_empty()).ok_or_else(no_token)?;
    Ok(Credential::Bearer(Cow::Borrowed(value)))
}

/// Answers the preflight request of a browser for the control plane.
fn options() -> Reply {
    let headers = vec![
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, X-StorageApi-Token")),
    ];
    Reply { status: StatusCode::OK, headers, body: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_paths_are_told_from_those_of_others() {
        for path in ["/v1/branches/default/sources", "/stream/1/s/x", "/stream/1", "/otlp/1/s/v1/logs"] {
            assert!(takes(path), "{path}");
        }
        for path in [
            "/stream/v0/data/x",
            "/stream/api/x",
            "/v1/tasks/r/receiver.create/x",
            "/v1/branchesx",
            "/v1",
            "/",
        ] {
            assert!(!takes(path), "{path}");
        }
    }
}
