//! Imply Polaris' Events API and the part of its control plane that its clients use: `docs/api/polaris.md`.
//!
//! A refusal is worded as the part of the vendor's service words it that would have refused: its gateway says
//! `{"message":…}`, its control plane `{"code":…,"message":…}`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod events;
mod form;
mod rates;
mod reply;

use super::{Accepted, Bodies, Dialect, Parsed, Reply, RequestHead};
use crate::batch;
use crate::http::reject::{Kind, Reject};
use crate::http::route::{self, Found, Route};
use crate::limits::Standing;

/// The column that every table has.
const TIME: &str = "__time";

/// What the vendor's gateway says to a path that it does not know.
const NO_ROUTE: &str = "no Route matched with those values";

#[derive(Debug, Clone, Copy)]
pub struct Polaris;

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Events for a table, by its id or name.
    PushTable,
    /// Events for a connection.
    Push,
}

pub const ROUTES: &[Route<Action>] = &[
    Route::post("/v1/events/{table}", Action::PushTable),
    Route::post("/v1/projects/{project}/events/{connection}", Action::Push),
];

/// Where the paths of this contract begin.
const PREFIXES: [&str; 6] =
    ["/v1/events", "/v1/projects", "/v1/tables", "/v1/metrics", "/v2", "/auth/realms"];

impl Dialect for Polaris {
    fn id(&self) -> batch::Dialect {
        batch::Dialect::Polaris
    }

    fn takes(&self, path: &str) -> bool {
        let below = |prefix: &&str| path.strip_prefix(*prefix);
        PREFIXES.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn bodies(&self) -> Bodies {
        Bodies { all_bad: true, transcribe: Some(form::event) }
    }

    fn noun(&self) -> &'static str {
        "The table or connection"
    }

    fn routes(&self) -> Vec<(&'static str, &'static str)> {
        ROUTES.iter().map(|route| (route.method, route.template)).collect()
    }

    fn parse<'a>(&self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        let (action, parameters) = match route::find(ROUTES, head.method, head.path) {
            Found::Route(action, parameters) => (action, parameters),
            Found::OtherMethods(methods) => return Err(Reject::method_not_allowed(head.method, methods)),
            Found::Nothing => return Err(Reject::new(Kind::NoSuchRoute, NO_ROUTE)),
        };
        let mut parameters = parameters.into_iter();
        let mut next = || parameters.next().unwrap_or_default();
        match action {
            Action::PushTable => Ok(Parsed::Ingest(events::ingest(head, None, next()))),
            Action::Push => {
                let project = next();
                Ok(Parsed::Ingest(events::ingest(head, Some(project), next())))
            }
        }
    }

    fn accepted(&self, accepted: &Accepted) -> Reply {
        events::accepted(accepted)
    }

    fn tell(&self, reply: &mut Reply, standing: &Standing) {
        rates::tell(reply, standing);
    }

    fn rejected(&self, reject: &Reject) -> Reply {
        let status = reject.kind.status();
        let (code, message) = match reject.kind {
            Kind::Unauthenticated => (None, "Unauthorized"),
            Kind::TokenExpired => (None, "Token claims invalid: [\"exp\"]=\"token expired\""),
            Kind::NoSuchRoute => (None, NO_ROUTE),
            Kind::MethodNotAllowed => (None, &*reject.external),
            Kind::TooLarge => (None, "Request size limit exceeded"),
            Kind::TooManyRequests => (None, "API rate limit exceeded"),
            Kind::Malformed => (Some("BadRequest"), &*reject.external),
            Kind::Forbidden => (Some("Forbidden"), &*reject.external),
            Kind::NoSuchStream | Kind::NotFound => (Some("NotFound"), &*reject.external),
            Kind::Conflict => (Some("Conflict"), &*reject.external),
            Kind::Unprocessable => (Some("UnprocessableEntity"), &*reject.external),
            Kind::UnsupportedEncoding => (Some("UnsupportedMediaType"), &*reject.external),
            Kind::TooSlow => (Some("RequestTimeout"), &*reject.external),
            Kind::Full | Kind::Unavailable => (Some("ServiceUnavailable"), &*reject.external),
            Kind::Unknown | Kind::Internal => (Some("InternalServerError"), &*reject.external),
        };
        reply::error(status, code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_paths_are_told_from_those_of_others() {
        for path in
            ["/v1/events/t", "/v1/projects/p/events/c", "/v1/projects", "/v2/tables", "/auth/realms/o/x"]
        {
            assert!(Polaris.takes(path), "{path}");
        }
        for path in ["/v0/events", "/v1/eventsource", "/v1/datasources/t/append", "/v1/workspace", "/"] {
            assert!(!Polaris.takes(path), "{path}");
        }
    }

    #[test]
    fn refusals_are_worded_as_the_contract_has_them() {
        let worded = |kind| {
            let reply = Polaris.rejected(&Reject::new(kind, "why"));
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            (reply.status.as_u16(), body.to_string())
        };
        for (kind, status, body) in [
            (Kind::Malformed, 400, r#"{"code":"BadRequest","message":"why"}"#),
            (Kind::Unauthenticated, 401, r#"{"message":"Unauthorized"}"#),
            (Kind::Forbidden, 403, r#"{"code":"Forbidden","message":"why"}"#),
            (Kind::NoSuchStream, 404, r#"{"code":"NotFound","message":"why"}"#),
            (Kind::NoSuchRoute, 404, r#"{"message":"no Route matched with those values"}"#),
            (Kind::TooLarge, 413, r#"{"message":"Request size limit exceeded"}"#),
            (Kind::TooManyRequests, 429, r#"{"message":"API rate limit exceeded"}"#),
            (Kind::Full, 503, r#"{"code":"ServiceUnavailable","message":"why"}"#),
        ] {
            assert_eq!(worded(kind), (status, body.to_owned()));
        }
    }
}
