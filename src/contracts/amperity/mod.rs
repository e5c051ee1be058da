//! Amperity's Streaming Ingest API, the newer route for events, and the routes by which its clients get tokens:
//! `docs/api/amperity.md`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod events;
mod inspect;
mod reply;
mod token;

use super::{
    Accepted, Bodies, Call, Dialect, Manage, Managed, NewTarget, Parsed, Reply, RequestHead, bearer,
};
use crate::auth::{Caller, Need};
use crate::batch;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::route::{self, Found, Route};
use crate::contracts::shared::control::{Control, IfExists, NewStream};
use crate::schema::{Policy, StreamSettings};
use std::borrow::Cow;

#[derive(Debug, Clone, Copy)]
pub struct Amperity;

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Records of the Streaming Ingest API.
    Ingest,
    /// An event of the newer one.
    Event,
    Recent,
    Samples,
    Token,
    OAuth,
}

const ROUTES: &[Route<Action>] = &[
    Route::post("/stream/v0/data/{stream}", Action::Ingest),
    Route::post("/prof/events/{stream}", Action::Event),
    Route::get("/events/{stream}/recent", Action::Recent),
    Route::get("/streams/{stream}/sample-events", Action::Samples),
    Route::post("/api/v0/admin/api-keys/{key}/tokens", Action::Token),
    Route::post("/api/v0/oauth2/token", Action::OAuth),
];

impl Dialect for Amperity {
    fn id(&self) -> batch::Dialect {
        batch::Dialect::Amperity
    }

    fn takes(&self, path: &str) -> bool {
        let below = ["/stream/v0", "/prof", "/api/v0"];
        let below = below.iter().filter_map(|prefix| path.strip_prefix(prefix));
        below.clone().any(|rest| rest.is_empty() || rest.starts_with('/')) || route::is_known(ROUTES, path)
    }

    fn bodies(&self) -> Bodies {
        Bodies { one_object: true, one_payload: true, ..Bodies::default() }
    }

    fn noun(&self) -> &'static str {
        "The stream"
    }

    fn routes(&self) -> Vec<(&'static str, &'static str)> {
        ROUTES.iter().map(|route| (route.method, route.template)).collect()
    }

    fn names_requests(&self) -> bool {
        true
    }

    /// The Streaming Ingest API does not look whether there is such a stream, the newer one does.
    fn makes_stream(&self, control: &Control, head: &RequestHead<'_>, _caller: &Caller) -> bool {
        control.amperity.makes_streams && !events::is_newer(head.path)
    }

    fn new_stream(&self, _control: &Control, target: &NewTarget) -> NewStream {
        NewStream {
            name: target.name.clone(),
            policy: Policy::Evolve,
            columns: Vec::new(),
            settings: StreamSettings { project: target.project.clone(), ..StreamSettings::default() },
            if_exists: IfExists::Return,
        }
    }

    fn body_max(&self, control: &Control, head: &RequestHead<'_>, configured: u64) -> u64 {
        if events::is_newer(head.path) { configured.min(control.amperity.event_max) } else { configured }
    }

    fn key<'h>(&self, control: &Control, head: &RequestHead<'h>) -> Option<&'h str> {
        events::request_id(head.headers).filter(|_| control.amperity.deduplicates)
    }

    fn keeps(&self, head: &RequestHead<'_>) -> Vec<(String, String)> {
        events::kept(head)
    }

    fn parse<'a>(&self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        let (action, parameters) = find(&head)?;
        let parameter = parameters.into_iter().next().unwrap_or_default();
        match action {
            Action::Ingest | Action::Event => events::parse(&head, parameter).map(Parsed::Ingest),
            Action::OAuth => Ok(Parsed::Manage(Manage { need: None, credential: bearer(head.headers) })),
            Action::Token => {
                let credential = bearer(head.headers);
                Ok(Parsed::Manage(Manage { need: Some(Need::Tokens), credential }))
            }
            // Reading takes a right for the stream, which is known with it.
            Action::Recent | Action::Samples => {
                let credential = bearer(head.headers);
                Ok(Parsed::Manage(Manage { need: Some(Need::Any), credential }))
            }
        }
    }

    fn manage(&self, control: &Control, call: &Call<'_>) -> Result<Managed, Reject> {
        let (action, parameters) = find(&call.head)?;
        let parameter = parameters.into_iter().next().unwrap_or_default();
        let reply = match action {
            Action::Token => token::make(control, call, &parameter),
            Action::OAuth => token::issue(control, call),
            Action::Recent => inspect::recent(control, call, &parameter),
            Action::Samples => inspect::samples(control, call, &parameter),
            // Records are no management calls.
            Action::Ingest | Action::Event => Err(no_route(call.head.path)),
        };
        reply.map(Managed::Reply)
    }

    fn accepted(&self, head: &RequestHead<'_>, _accepted: &Accepted) -> Reply {
        reply::accepted(head)
    }

    fn dropped(&self, head: &RequestHead<'_>) -> Reply {
        reply::dropped(head)
    }

    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply {
        reply::rejected(head, reject)
    }
}

fn find<'a>(head: &RequestHead<'a>) -> Result<(Action, Vec<Cow<'a, str>>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        Found::Route(action, parameters) => Ok((action, parameters)),
        Found::OtherMethods(methods) => Err(Reject::method_not_allowed(head.method, methods)),
        Found::Nothing => Err(no_route(head.path)),
    }
}

fn no_route(path: &str) -> Reject {
    Reject::new(Kind::NoSuchRoute, format!("no such route: {path}"))
}

/// The tenant that a request is for. Newer routes have another name for the header; both are taken everywhere.
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
            assert!(Amperity.takes(path), "{path}");
        }
        for path in
            ["/stream/v00", "/stream/1/2/3", "/v0/events", "/events", "/streams/x", "/api/v2/x", "/profile"]
        {
            assert!(!Amperity.takes(path), "{path}");
        }
    }
}
