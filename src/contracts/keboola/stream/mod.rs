//! Keboola's Stream API, the successor of its Buffer: sources and their sinks, the address that records are sent to,
//! and the source that takes OpenTelemetry's exports. `docs/api/keboola_stream.md`.
//!
//! A source is a receiver: each of its records is one row of each of its live sinks, which are streams of the policy
//! `mapped`. What sources and sinks are is kept in the catalog; what requests need of that is in memory ([`live`]).
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

use crate::auth::{Caller, Credential, Need};
use crate::batch;
use crate::contracts::keboola::reply;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::route::{self, Found, Route};
use crate::contracts::shared::control::{CatalogError, Control, Receiver};
use crate::contracts::{Accepted, Call, Dialect, Manage, Managed, Named, Parsed, Reply, RequestHead, Wait};
use crate::mapping::Failure;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use model::Place;
use request::Request;
use std::borrow::Cow;
use std::sync::Arc;

#[derive(Debug, Clone, Copy)]
pub struct KeboolaStream;

/// Of what a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Source,
    Sink,
}

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Aggregation,
    Sources,
    DeletedSources,
    CreateSource,
    Sinks,
    DeletedSinks,
    CreateSink,
    Show(Of),
    Update(Of),
    Delete(Of),
    Settings(Of),
    UpdateSettings(Of),
    Disable(Of),
    Enable(Of),
    Undelete(Of),
    Versions(Of),
    ShowVersion(Of),
    Rollback(Of),
    ClearStatistics(Of),
    Test,
    RotateSecret,
    TotalStatistics,
    FileStatistics,
    /// A record for a source.
    Send,
    /// What a browser asks before.
    Options,
    /// An export of OpenTelemetry.
    Export,
}

use Of::{Sink, Source};

pub const ROUTES: &[Route<Action>] = &[
    Route::get("/v1/branches/{branch}/aggregation/sources", Action::Aggregation),
    Route::get("/v1/branches/{branch}/sources", Action::Sources),
    Route::post("/v1/branches/{branch}/sources", Action::CreateSource),
    Route::get("/v1/branches/{branch}/sources/deleted", Action::DeletedSources),
    Route::get("/v1/branches/{branch}/sources/{source}", Action::Show(Source)),
    Route::patch("/v1/branches/{branch}/sources/{source}", Action::Update(Source)),
    Route::delete("/v1/branches/{branch}/sources/{source}", Action::Delete(Source)),
    Route::get("/v1/branches/{branch}/sources/{source}/settings", Action::Settings(Source)),
    Route::patch("/v1/branches/{branch}/sources/{source}/settings", Action::UpdateSettings(Source)),
    Route::post("/v1/branches/{branch}/sources/{source}/test", Action::Test),
    Route::put("/v1/branches/{branch}/sources/{source}/disable", Action::Disable(Source)),
    Route::put("/v1/branches/{branch}/sources/{source}/enable", Action::Enable(Source)),
    Route::put("/v1/branches/{branch}/sources/{source}/undelete", Action::Undelete(Source)),
    Route::post("/v1/branches/{branch}/sources/{source}/rotate-secret", Action::RotateSecret),
    Route::delete("/v1/branches/{branch}/sources/{source}/statistics/clear", Action::ClearStatistics(Source)),
    Route::get("/v1/branches/{branch}/sources/{source}/versions", Action::Versions(Source)),
    Route::get("/v1/branches/{branch}/sources/{source}/versions/{version}", Action::ShowVersion(Source)),
    Route::put(
        "/v1/branches/{branch}/sources/{source}/versions/{version}/rollback",
        Action::Rollback(Source),
    ),
    Route::get("/v1/branches/{branch}/sources/{source}/sinks", Action::Sinks),
    Route::post("/v1/branches/{branch}/sources/{source}/sinks", Action::CreateSink),
    Route::get("/v1/branches/{branch}/sources/{source}/sinks/deleted", Action::DeletedSinks),
    Route::get("/v1/branches/{branch}/sources/{source}/sinks/{sink}", Action::Show(Sink)),
    Route::patch("/v1/branches/{branch}/sources/{source}/sinks/{sink}", Action::Update(Sink)),
    Route::delete("/v1/branches/{branch}/sources/{source}/sinks/{sink}", Action::Delete(Sink)),
    Route::get("/v1/branches/{branch}/sources/{source}/sinks/{sink}/settings", Action::Settings(Sink)),
    Route::patch(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/settings",
        Action::UpdateSettings(Sink),
    ),
    Route::put("/v1/branches/{branch}/sources/{source}/sinks/{sink}/disable", Action::Disable(Sink)),
    Route::put("/v1/branches/{branch}/sources/{source}/sinks/{sink}/enable", Action::Enable(Sink)),
    Route::put("/v1/branches/{branch}/sources/{source}/sinks/{sink}/undelete", Action::Undelete(Sink)),
    Route::get("/v1/branches/{branch}/sources/{source}/sinks/{sink}/versions", Action::Versions(Sink)),
    Route::get(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/versions/{version}",
        Action::ShowVersion(Sink),
    ),
    Route::put(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/versions/{version}/rollback",
        Action::Rollback(Sink),
    ),
    Route::get(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/statistics/total",
        Action::TotalStatistics,
    ),
    Route::get(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/statistics/files",
        Action::FileStatistics,
    ),
    Route::delete(
        "/v1/branches/{branch}/sources/{source}/sinks/{sink}/statistics/clear",
        Action::ClearStatistics(Sink),
    ),
    Route::post("/stream/{project}/{source}/{secret}", Action::Send),
    Route::options("/stream/{project}/{source}/{secret}", Action::Options),
    Route::post("/otlp/{project}/{source}/v1/{signal}", Action::Export),
    Route::post("/otlp/{project}/{source}/{secret}/v1/{signal}", Action::Export),
];

const STREAM: &str = "/stream/";
/// Of other contracts.
const OTHERS: [&str; 2] = ["/stream/v0/", "/stream/api/"];
const TOKEN: &str = "x-storageapi-token";

/// The parts of the service, which have different words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Api,
    Data,
    Otlp,
}

impl Part {
    fn of(path: &str) -> Self {
        match path {
            path if path.starts_with(STREAM) => Self::Data,
            path if otlp::takes(path) => Self::Otlp,
            _ => Self::Api,
        }
    }
}

impl Dialect for KeboolaStream {
    fn id(&self) -> batch::Dialect {
        batch::Dialect::KeboolaStream
    }

    fn noun(&self) -> &'static str {
        "The source"
    }

    fn takes(&self, path: &str) -> bool {
        let is_api =
            path.strip_prefix("/v1/branches").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let is_data = path.starts_with(STREAM) && !OTHERS.iter().any(|other| path.starts_with(other));
        is_api || is_data || otlp::takes(path)
    }

    fn routes(&self) -> Vec<(&'static str, &'static str)> {
        ROUTES.iter().map(|route| (route.method, route.template)).collect()
    }

    fn begin(&self, control: &Control) -> Result<(), CatalogError> {
        live::load(control)
    }

    /// Sources and sinks are made by management calls.
    fn makes_stream(&self, _control: &Control, _head: &RequestHead<'_>, _caller: &Caller) -> bool {
        false
    }

    fn names_requests(&self) -> bool {
        true
    }

    fn name_request(&self, reply: &mut Reply, named: &Named) {
        reply::name_request(reply, named);
        reply.headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
        reply.headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*")));
    }

    fn parse<'a>(&self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        let found = route::find(ROUTES, head.method, head.path);
        match Part::of(head.path) {
            Part::Data => match found {
                // Whether it waits is a setting of the source.
                Found::Route(Action::Send, _) => Ok(Parsed::Receive(Wait::Sync)),
                Found::Route(Action::Options, _) => Ok(Parsed::Answer(data::options())),
                _ => Err(data::no_route()),
            },
            Part::Otlp => match found {
                Found::Route(Action::Export, _) => {
                    otlp::check(&head)?;
                    Ok(Parsed::Export)
                }
                _ => Err(otlp::no_route()),
            },
            Part::Api if head.method == Method::OPTIONS => Ok(Parsed::Answer(options())),
            Part::Api => {
                match found {
                    Found::OtherMethods(methods) => {
                        return Err(Reject::method_not_allowed(head.method, methods));
                    }
                    Found::Nothing => return Err(Reject::new(Kind::NoSuchRoute, "no such route")),
                    Found::Route(..) => {}
                }
                Ok(Parsed::Manage(Manage { need: Some(Need::Create), credential: token(&head)? }))
            }
        }
    }

    fn receiver(&self, control: &Control, head: &RequestHead<'_>) -> Result<Arc<Receiver>, Reject> {
        if Part::of(head.path) == Part::Otlp {
            return otlp::receiver(control, head);
        }
        let address = data::address(head.path).ok_or_else(data::no_route)?;
        data::find(control, address, "http").map(|(receiver, _)| receiver)
    }

    fn waits(&self, receiver: &Receiver, asked: Wait) -> Wait {
        match live::about(receiver) {
            Some(about) if !about.waits => Wait::Append,
            _ => asked,
        }
    }

    fn unmapped(&self, failures: &[(String, Failure)]) -> Reject {
        data::unmapped(failures)
    }

    /// What is a secret is for nobody's table.
    fn hides_header(&self, name: &str) -> bool {
        name == header::AUTHORIZATION.as_str()
    }

    fn manage(&self, control: &Control, call: &Call<'_>) -> Result<Managed, Reject> {
        if Part::of(call.head.path) == Part::Otlp {
            return otlp::receive(control, call);
        }
        match route::find(ROUTES, call.head.method, call.head.path) {
            Found::Route(action, parameters) => answer(control, call, action, parameters).map(Managed::Reply),
            _ => Err(Reject::new(Kind::NoSuchRoute, "no such route")),
        }
    }

    fn accepted(&self, head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
        data::accepted(head, accepted)
    }

    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply {
        match Part::of(head.path) {
            Part::Api => words::of_api(head, reject),
            Part::Data => data::rejected(head, reject),
            Part::Otlp => otlp::rejected(head, reject),
        }
    }
}

/// The token of a management call, which must be there even where none is checked.
fn token<'a>(head: &RequestHead<'a>) -> Result<Credential<'a>, Reject> {
    let value =
        head.headers.get(TOKEN).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty());
    let missing = || Reject::malformed("\"X-StorageApi-Token\" is missing from header").code("missingField");
    value.map(|value| Credential::Bearer(Cow::Borrowed(value))).ok_or_else(missing)
}

/// What a browser asks before a page calls the control plane.
fn options() -> Reply {
    let headers = vec![
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, X-StorageApi-Token")),
    ];
    Reply { status: StatusCode::OK, headers, body: Bytes::new() }
}

fn answer(
    control: &Control,
    call: &Call<'_>,
    action: Action,
    parameters: Vec<Cow<'_, str>>,
) -> Result<Reply, Reject> {
    let mut parameters = parameters.into_iter();
    let mut next = || parameters.next().unwrap_or_default();
    let request = Request::new(control, call, &next())?;
    let source = next();
    let last = next();
    // Whoever changes something has read it first.
    let _managing = (call.head.method != Method::GET).then(|| control.managing.lock());
    let place = |of: Of| -> Place {
        match of {
            Source => request.place(&source, None),
            Sink => request.place(&source, Some(&last)),
        }
    };
    match action {
        Action::Aggregation => aggregation::show(&request),
        Action::Sources => sources::list(&request, false),
        Action::DeletedSources => sources::list(&request, true),
        Action::CreateSource => sources::create(&request),
        Action::Sinks => sinks::list(&request, &source, false),
        Action::DeletedSinks => sinks::list(&request, &source, true),
        Action::CreateSink => sinks::create(&request, &source),
        Action::Show(of) => change::show(&request, &place(of)),
        Action::Update(Source) => sources::update(&request, &place(Source)),
        Action::Update(Sink) => sinks::update(&request, &place(Sink)),
        Action::Delete(Source) => sources::delete(&request, &place(Source)),
        Action::Delete(Sink) => sinks::delete(&request, &place(Sink)),
        Action::Settings(of) => change::settings(&request, &place(of)),
        Action::UpdateSettings(of) => change::update_settings(&request, &place(of)),
        Action::Disable(of) => change::disable(&request, &place(of)),
        Action::Enable(of) => change::enable(&request, &place(of)),
        Action::Undelete(of) => change::undelete(&request, &place(of)),
        Action::Versions(of) => change::versions(&request, &place(of)),
        Action::ShowVersion(Source) => change::show_version(&request, &place(Source), &last),
        Action::ShowVersion(Sink) => change::show_version(&request, &place(Sink), &next()),
        Action::Rollback(Source) => change::rollback(&request, &place(Source), &last),
        Action::Rollback(Sink) => change::rollback(&request, &place(Sink), &next()),
        Action::ClearStatistics(of) => statistics::clear(&request, &place(of)),
        Action::TotalStatistics => statistics::total(&request, &place(Sink)),
        Action::FileStatistics => statistics::files(&request, &place(Sink)),
        Action::Test => test_call::test(&request, &place(Source)),
        Action::RotateSecret => sources::rotate_secret(&request, &place(Source)),
        Action::Send | Action::Options | Action::Export => Err(data::no_route()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_paths_are_told_from_those_of_others() {
        for path in ["/v1/branches/default/sources", "/stream/1/s/x", "/stream/1", "/otlp/1/s/v1/logs"] {
            assert!(KeboolaStream.takes(path), "{path}");
        }
        for path in [
            "/stream/v0/data/x",
            "/stream/api/x",
            "/v1/tasks/r/receiver.create/x",
            "/v1/branchesx",
            "/v1",
            "/",
        ] {
            assert!(!KeboolaStream.takes(path), "{path}");
        }
    }
}
