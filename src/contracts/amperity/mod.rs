//! Amperity's Streaming Ingest API, its newer route for events, and the routes that issue tokens to its clients:
//! `docs/api/amperity.md`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod events;
mod inspect;
pub mod reply;
mod token;

use super::route::{self, Access, Route, RouteMatch};
use super::shared::control::Control;
use super::shared::target::{StreamRef, evolving};
use super::{
    Accepted, Bodies, Call, Contract, ContractEntry, Extras, Ingest, Manage, Managed, Parsed, Reply,
    RequestHead, Told, bearer,
};
use crate::auth::words::Words;
use crate::auth::{Caller, Need, Scope, ScopeTarget};
use crate::batch;
use crate::catalog::{CatalogError, Stream};
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::request_id::RequestId;
use crate::contracts::shared::units::ByteSize;
use crate::schema::Column;
use events::EventsRequest;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The section `[amperity]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct AmperitySection {
    unknown_stream: UnknownStream,
    /// Requests with the same `X-Request-Id` are stored once.
    deduplicate: bool,
    /// The largest event that the newer routes accept.
    event_max: ByteSize,
}

/// How to handle records for a stream that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UnknownStream {
    /// Create the stream.
    Accept,
    Reject,
}

pub struct Amperity {
    control: Arc<Control>,
    settings: AmperitySection,
}

/// The handler of a route. The last argument is the path parameter.
#[derive(Clone, Copy)]
enum AmperityRoute {
    /// Records of the Streaming Ingest API, or an event of the newer API.
    Records,
    Call(fn(&Control, &Call<'_>, &str) -> Result<Reply, Reject>),
}

/// Reading needs a right for the stream, which is checked once the stream is known.
const ANY_TOKEN: Access = Access::Token(Need::Any);

static ROUTES: &[Route<AmperityRoute>] = &[
    Route::post("/stream/v0/data/{stream}", Access::Ingest, AmperityRoute::Records),
    Route::post("/prof/events/{stream}", Access::Ingest, AmperityRoute::Records),
    Route::get("/events/{stream}/recent", ANY_TOKEN, AmperityRoute::Call(inspect::recent)),
    Route::get("/streams/{stream}/sample-events", ANY_TOKEN, AmperityRoute::Call(inspect::samples)),
    Route::post(
        "/api/v0/admin/api-keys/{key}/tokens",
        Access::Token(Need::Tokens),
        AmperityRoute::Call(token::make),
    ),
    Route::post(
        "/api/v0/oauth2/token",
        Access::Public,
        AmperityRoute::Call(|control, call, _| token::issue(control, call)),
    ),
];

/// Returns whether this contract owns the path.
pub fn takes(path: &str) -> bool {
    let below = ["/stream/v0", "/prof", "/api/v0"];
    let mut below = below.iter().filter_map(|prefix| path.strip_prefix(prefix));
    below.any(|rest| rest.is_empty() || rest.starts_with('/')) || route::is_known(ROUTES, path)
}

/// The rights of API keys.
static WORDS: Words = Words {
    role: |right| match right {
        "streaming-ingest-api:write" | "profile-events:write" => Some(vec![Scope::Ingest(ScopeTarget::All)]),
        "api-token-issuer" => Some(vec![Scope::Tokens]),
        _ => None,
    },
    claim: |_, _| None,
    token: None,
};

const SECTION: &str = "amperity";

pub static ENTRY: ContractEntry = ContractEntry {
    tag: batch::Tag::Amperity,
    names_requests: true,
    is_for_pages: false,
    section: Some(SECTION),
    check: |sections| sections.get::<AmperitySection>(SECTION).map(drop),
    words: &WORDS,
    takes,
    served: || route::served(ROUTES),
    openapi: include_str!("openapi.json"),
    open: |sections, control| Ok(Arc::new(Amperity { control, settings: sections.get(SECTION)? })),
};

impl Amperity {
    /// Records for a stream. The Streaming Ingest API can create a missing stream; the newer API requires it to exist.
    fn records<'a>(&'a self, head: &RequestHead<'a>, asked: EventsRequest<'a>) -> Ingest<'a> {
        let EventsRequest { stream, tenant, kind } = asked;
        let newer = events::is_newer(head.path);
        let makes = self.settings.unknown_stream == UnknownStream::Accept && !newer;
        let find = move |caller: &Caller| {
            let named = StreamRef { noun: "The stream", name: &stream, project: Some(tenant) };
            named.find(&self.control, caller, |name, project| makes.then(|| evolving(name, project)))
        };
        Ingest {
            kind,
            bodies: Bodies { one_object: true, one_payload: true, ..Bodies::default() },
            body_max: newer.then_some(self.settings.event_max.0),
            key: events::request_id(head.headers).filter(|_| self.settings.deduplicate),
            keeps: events::kept(head),
            dropped: reply::dropped,
            ..Ingest::new(bearer(head.headers), find)
        }
    }
}

impl Contract for Amperity {
    fn begin(&self) -> Result<(), CatalogError> {
        Ok(())
    }

    fn parse<'a>(&'a self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        let (route, parameter) = find(&head)?;
        match route.call {
            AmperityRoute::Records => {
                Ok(Parsed::Ingest(self.records(&head, events::asked(&head, parameter)?)))
            }
            AmperityRoute::Call(_) => {
                Ok(Parsed::Manage(Manage { access: route.access, credential: bearer(head.headers) }))
            }
        }
    }

    fn manage(&self, call: &Call<'_>) -> Result<Managed, Reject> {
        let (route, parameter) = find(&call.head)?;
        match route.call {
            AmperityRoute::Call(answer) => answer(&self.control, call, &parameter).map(Managed::Reply),
            // Records are not management calls.
            AmperityRoute::Records => Err(no_route(call.head.path)),
        }
    }

    fn accepted(&self, head: &RequestHead<'_>, _accepted: &Accepted) -> Reply {
        reply::accepted(head)
    }

    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply {
        reply::rejected(head, reject)
    }

    /// Adds nothing. Answers set the request id themselves, because some are built before the request has one.
    fn finish(&self, _reply: &mut Reply, _told: &Told) {}

    fn extras(&self) -> Option<&dyn Extras> {
        Some(self)
    }
}

impl Extras for Amperity {
    fn code(&self, _stream: &Stream, _base: &str) -> Option<Value> {
        None
    }

    fn schema(&self, _columns: &[Column]) -> Option<(&'static str, Value)> {
        None
    }

    /// Clients address a stream by a generated id; the name is for people.
    fn new_stream(&self, name: &str) -> Option<(String, Map<String, Value>)> {
        let id = format!("is-{}", RequestId::next().letters(9));
        Some((id, [("name".to_owned(), Value::from(name))].into_iter().collect()))
    }
}

/// The route of a request and its path parameter.
fn find<'a>(head: &RequestHead<'a>) -> Result<(&'static Route<AmperityRoute>, Cow<'a, str>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        // A route without a parameter has an empty one.
        RouteMatch::Route(route, parameters) => {
            Ok((route, parameters.into_iter().next().unwrap_or_default()))
        }
        RouteMatch::OtherMethods(methods) => Err(Reject::method_not_allowed(head.method, methods)),
        RouteMatch::Nothing => Err(no_route(head.path)),
    }
}

/// What a request with records asks for; `None` for other calls. For callers without a running daemon.
pub fn asked<'a>(head: &RequestHead<'a>) -> Result<Option<EventsRequest<'a>>, Reject> {
    match find(head)? {
        (Route { call: AmperityRoute::Records, .. }, parameter) => events::asked(head, parameter).map(Some),
        (Route { call: AmperityRoute::Call(_), .. }, _) => Ok(None),
    }
}

fn no_route(path: &str) -> Reject {
    Reject::new(RejectKind::NoSuchRoute, format!("no such route: {path}"))
}

/// The tenant of a request. The newer routes use another name for the header; both names are accepted everywhere.
fn tenant<'a>(head: &RequestHead<'a>) -> Result<&'a str, Reject> {
    let mut values =
        ["x-amperity-tenant", "amperity-tenant"].iter().flat_map(|name| head.headers.get_all(*name));
    let value = values.next().and_then(|value| value.to_str().ok()).map(str::trim);
    value
        .filter(|tenant| !tenant.is_empty())
        .ok_or_else(|| Reject::malformed("Missing X-Amperity-Tenant header").close())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_paths_are_told_from_those_of_others() {
        for path in [
            "/stream/v0/data/is-AbCDefGH",
            "/stream/v0",
            "/prof/events/esm-1",
            "/events/x/recent",
            "/streams/x/sample-events",
            "/api/v0/oauth2/token",
        ] {
            assert!(takes(path), "{path}");
        }
        for path in
            ["/stream/v00", "/stream/1/2/3", "/v0/events", "/events", "/streams/x", "/api/v2/x", "/profile"]
        {
            assert!(!takes(path), "{path}");
        }
    }
}
