//! Palantir Foundry's streams: datasets whose branches are streams, calls that publish one or many records, and the
//! OAuth routes where clients get tokens. See `docs/api/foundry.md`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod catalog;
mod datasets;
pub mod envelope;
mod errors;
mod fields;
pub mod model;
mod oauth;
mod publish;
mod read;
mod request;
mod rid;
mod routes;
mod snippets;
mod subscribers;
mod trash;
mod words;

use super::shared::collection::Collection;
use super::shared::control::Control;
use super::{
    Accepted, Call, Contract, ContractEntry, Extras, Manage, Managed, Parsed, Reply, RequestHead, Told,
    credential,
};
use crate::batch;
use crate::catalog::CatalogError;
use crate::contracts::reject::{Reject, RejectKind};
use crate::read::Subscriber;
use http::{HeaderValue, StatusCode, header};
use model::{Dataset, Datasets};
use request::FoundryRequest;
use routes::{RouteAnswer, find};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

pub use routes::served;

/// The owner of this contract's documents in the catalog, and the key of its part of a stream's settings.
const CATALOG_NAME: &str = "foundry";

pub struct Foundry {
    control: Arc<Control>,
    /// The datasets in memory, for published records.
    datasets: Datasets,
    /// The stored datasets, by RID.
    documents: Collection<Dataset>,
    /// The subscribers, by the id that the client chose.
    subscribers: Collection<Subscriber>,
}

/// Path prefixes of this contract.
const PREFIXES: [&str; 5] = ["/api/v2", "/multipass", "/stream-proxy", "/stream-catalog", "/stream/api"];

pub static ENTRY: ContractEntry = ContractEntry {
    tag: batch::Tag::Foundry,
    names_requests: false,
    is_for_pages: false,
    section: None,
    check: |_| Ok(()),
    words: &words::WORDS,
    takes,
    served,
    openapi: include_str!("openapi.json"),
    open: |_, control| Ok(Arc::new(Foundry::new(control))),
};

impl Foundry {
    fn new(control: Arc<Control>) -> Self {
        Self {
            datasets: Datasets::default(),
            documents: Collection::new(Arc::clone(&control), CATALOG_NAME, "dataset"),
            subscribers: Collection::new(Arc::clone(&control), CATALOG_NAME, "subscriber"),
            control,
        }
    }
}

/// Returns whether this contract owns the path.
fn takes(path: &str) -> bool {
    let below = |prefix: &&str| path.strip_prefix(*prefix);
    PREFIXES.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Contract for Foundry {
    fn begin(&self) -> Result<(), CatalogError> {
        datasets::load(self)
    }

    fn parse<'a>(&'a self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        let (route, parameters) = find(&head)?;
        Ok(match route.call.answer {
            RouteAnswer::Publish(publish) => Parsed::Ingest(publish::ingest(self, head, publish, parameters)),
            RouteAnswer::Call(_) => {
                Parsed::Manage(Manage { access: route.access, credential: credential(head.headers) })
            }
        })
    }

    fn manage(&self, call: &Call<'_>) -> Result<Managed, Reject> {
        let (route, parameters) = find(&call.head)?;
        // A publish call is not a management call.
        let RouteAnswer::Call(answer) = route.call.answer else {
            return Err(Reject::new(RejectKind::NoSuchRoute, "no such route"));
        };
        let mut parameters = parameters.into_iter();
        // A route may have fewer parameters.
        let mut next = || parameters.next().unwrap_or_default();
        let request = FoundryRequest { foundry: self, call, dataset: next(), branch: next(), third: next() };
        answer(&request).map(Managed::Reply)
    }

    fn accepted(&self, head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
        publish::accepted(head, accepted)
    }

    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply {
        errors::rejected(head, reject)
    }

    fn finish(&self, _reply: &mut Reply, _told: &Told) {}

    fn extras(&self) -> Option<&dyn Extras> {
        Some(self)
    }
}

static JSON: HeaderValue = HeaderValue::from_static("application/json");

fn reply(status: StatusCode, body: &Value) -> Reply {
    Reply { status, headers: vec![(header::CONTENT_TYPE, JSON.clone())], body: body.to_string().into() }
}

fn ok(body: &Value) -> Reply {
    reply(StatusCode::OK, body)
}

/// 200 with JSON that is already serialized.
fn text(json: String) -> Reply {
    Reply { status: StatusCode::OK, headers: vec![(header::CONTENT_TYPE, JSON.clone())], body: json.into() }
}

/// 204: the contract's clients accept an empty answer with no other status.
fn no_content() -> Reply {
    Reply::empty(StatusCode::NO_CONTENT)
}

/// A query parameter.
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
            assert!(takes(path), "{path}");
        }
        for path in ["/stream/v0/data/x", "/stream/123/x/y", "/api/v0/x", "/v2/tables", "/api/v20", "/"] {
            assert!(!takes(path), "{path}");
        }
    }
}
