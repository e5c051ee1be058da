//! Palantir Foundry's streams: data sets whose branches are streams, records pushed into them one by one or many at
//! once, and the OAuth routes that their clients ask for tokens: `docs/api/foundry.md`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod catalog;
mod datasets;
pub mod envelope;
mod errors;
mod fields;
mod manage;
pub mod model;
mod oauth;
mod publish;
mod read;
mod rid;
mod routes;
pub mod snippets;
mod subscribers;
mod trash;

use super::{
    Accepted, Bodies, Call, Dialect, Ingest, Manage, Managed, Parsed, Reply, RequestHead, Wait, Wrapped,
    credential,
};
use crate::auth::{Caller, Need};
use crate::batch;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::route::{self, Found};
use crate::contracts::shared::control::{CatalogError, Control};
use crate::formats::json::BodyKind;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use routes::{Action, ROUTES};
use serde_json::Value;
use std::borrow::Cow;

/// Whose documents ours are in the catalog, and our part of a stream's settings.
const DIALECT: &str = "foundry";

#[derive(Debug, Clone, Copy)]
pub struct Foundry;

/// Where the paths of this contract begin.
const PREFIXES: [&str; 5] = ["/api/v2", "/multipass", "/stream-proxy", "/stream-catalog", "/stream/api"];

impl Dialect for Foundry {
    fn id(&self) -> batch::Dialect {
        batch::Dialect::Foundry
    }

    fn takes(&self, path: &str) -> bool {
        let below = |prefix: &&str| path.strip_prefix(*prefix);
        PREFIXES.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn bodies(&self) -> Bodies {
        Bodies { misfit: Some(errors::MISMATCH), ..Bodies::default() }
    }

    fn noun(&self) -> &'static str {
        "The stream"
    }

    fn routes(&self) -> Vec<(&'static str, &'static str)> {
        ROUTES.iter().map(|route| (route.method, route.template)).collect()
    }

    fn begin(&self, control: &Control) -> Result<(), CatalogError> {
        datasets::load(control)
    }

    /// Data sets are made by management calls.
    fn makes_stream(&self, control: &Control, _head: &RequestHead<'_>, _caller: &Caller) -> bool {
        control.auth.is_open()
    }

    fn target(
        &self,
        control: &Control,
        head: &RequestHead<'_>,
        caller: &Caller,
    ) -> Option<Result<Wrapped, Reject>> {
        Some(
            find(head)
                .and_then(|(action, parameters)| publish::target(control, head, caller, action, &parameters)),
        )
    }

    fn parse<'a>(&self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        let (action, mut parameters) = find(&head)?;
        let credential = credential(head.headers);
        if action.publishes() {
            let stream = if parameters.is_empty() { Cow::Borrowed("") } else { parameters.swap_remove(0) };
            return Ok(Parsed::Ingest(Ingest {
                stream,
                project: None,
                may_be_connection: false,
                wait: Wait::Sync,
                kind: BodyKind::Lines,
                credential,
            }));
        }
        // What else it takes depends on what is asked for; a token is asked for without one.
        let need = (!matches!(action, Action::Token | Action::Revoke)).then_some(Need::Any);
        Ok(Parsed::Manage(Manage { need, credential }))
    }

    fn manage(&self, control: &Control, call: &Call<'_>) -> Result<Managed, Reject> {
        let (action, parameters) = find(&call.head)?;
        manage::answer(control, call, action, parameters).map(Managed::Reply)
    }

    fn accepted(&self, head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
        publish::accepted(head, accepted)
    }

    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply {
        errors::rejected(head, reject)
    }
}

fn find<'a>(head: &RequestHead<'a>) -> Result<(Action, Vec<Cow<'a, str>>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        Found::Route(action, parameters) => Ok((action, parameters)),
        Found::OtherMethods(methods) => Err(Reject::method_not_allowed(head.method, methods)),
        Found::Nothing => Err(Reject::new(Kind::NoSuchRoute, format!("no such route: {}", head.path))),
    }
}

static JSON: HeaderValue = HeaderValue::from_static("application/json");

fn reply(status: StatusCode, body: &Value) -> Reply {
    Reply { status, headers: vec![(header::CONTENT_TYPE, JSON.clone())], body: body.to_string().into() }
}

fn ok(body: &Value) -> Reply {
    reply(StatusCode::OK, body)
}

/// 200 with JSON that is written already.
fn text(json: String) -> Reply {
    Reply { status: StatusCode::OK, headers: vec![(header::CONTENT_TYPE, JSON.clone())], body: json.into() }
}

/// 204: the contract's clients take an empty answer for no other status.
fn no_content() -> Reply {
    Reply { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: Bytes::new() }
}

/// A parameter of the query.
fn parameter<'a>(head: &RequestHead<'a>, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(head.query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_paths_are_told_from_those_of_others() {
        for path in [
            "/api/v2/streams/datasets/create",
            "/api/v2/highScale/streams/x",
            "/multipass/api/oauth2/token",
            "/stream-proxy/api/streams/x",
            "/stream-catalog/api/catalog/streams2",
            "/stream/api/streams/x/branches/master/jsonRecords",
        ] {
            assert!(Foundry.takes(path), "{path}");
        }
        for path in ["/stream/v0/data/x", "/stream/123/x/y", "/api/v0/x", "/v2/tables", "/api/v20", "/"] {
            assert!(!Foundry.takes(path), "{path}");
        }
    }
}
