//! Imply Polaris' Events API and the part of its control plane that its clients use: `docs/api/polaris.md`.
//!
//! A refusal has the format of the part of the vendor's service that would have refused the request: its gateway
//! answers `{"message":…}`, its control plane `{"code":…,"message":…}`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod connections;
mod events;
mod export;
mod expression;
pub mod feeds;
mod fields;
mod form;
mod job;
mod jobs;
mod jobs_shown;
mod period;
mod rates;
mod reply;
mod request;
mod table;
mod tables;
mod tally;
mod token;
mod types;

use super::route::{self, Access, Route, RouteMatch};
use super::shared::control::Control;
use super::shared::target::{self, StreamRef, evolving};
use super::{
    Accepted, Call, Contract, ContractEntry, Extras, Ingest, Manage, Managed, Parsed, Reply, RequestHead,
    Told, credential,
};
use crate::auth::words::Words;
use crate::auth::{Caller, Need, Scope, ScopeTarget};
use crate::batch;
use crate::catalog::{CatalogError, NewStream};
use crate::clock::Micros;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::units::OptionalSpan;
use crate::schema::{StreamSettings, TimeRule};
use feeds::Feeds;
use request::PolarisRequest;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use table::Generation;

/// The owner of this contract's documents in the catalog.
const CATALOG_NAME: &str = "polaris";
/// The column that every table has.
const TIME: &str = "__time";

/// The message of the vendor's gateway for an unknown path.
const NO_ROUTE: &str = "no Route matched with those values";

/// The section `[polaris]`: how late or early an event may be in tables without a job.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolarisSection {
    late_reject: OptionalSpan,
    early_reject: OptionalSpan,
}

impl PolarisSection {
    fn time_rule(self) -> TimeRule {
        let seconds = |span: OptionalSpan| span.0.map(|span| span.as_secs());
        tables::time_rule(seconds(self.late_reject), seconds(self.early_reject))
    }
}

pub struct Polaris {
    control: Arc<Control>,
    settings: PolarisSection,
    connections: connections::ConnectionStore,
    jobs: jobs::JobStore,
    /// Where the events of connections go.
    feeds: Feeds,
}

/// The handler of a route. A handler's last argument is a path parameter: the second one in paths with a project,
/// otherwise the first one.
#[derive(Clone, Copy)]
enum PolarisRoute {
    /// Events for a table, addressed by its id or name.
    Table,
    /// Events for a connection of a project.
    Connection,
    Token,
    /// A call about the project that the path begins with.
    Project(fn(&PolarisRequest<'_>, &str) -> Result<Reply, Reject>),
    /// A call about all projects.
    All(fn(&PolarisRequest<'_>, &str) -> Result<Reply, Reject>),
}

/// A valid credential; the rights that a call needs depend on the request.
const TOKEN: Access = Access::Token(Need::Any);
const CREATE: Access = Access::Token(Need::Create);
const METRICS: Access = Access::Token(Need::Metrics);

use Generation::{Middle, Project as New};
use PolarisRoute::{All, Project};

static ROUTES: &[Route<PolarisRoute>] = &[
    Route::post("/v1/events/{table}", Access::Ingest, PolarisRoute::Table),
    Route::post("/v1/projects/{project}/events/{connection}", Access::Ingest, PolarisRoute::Connection),
    Route::post("/auth/realms/{org}/protocol/openid-connect/token", Access::Public, PolarisRoute::Token),
    Route::get("/v1/projects/{project}/connections", TOKEN, Project(|call, _| connections::list(call))),
    Route::post("/v1/projects/{project}/connections", CREATE, Project(|call, _| connections::create(call))),
    Route::get("/v1/projects/{project}/connections/{connection}", TOKEN, Project(connections::get)),
    Route::patch("/v1/projects/{project}/connections/{connection}", CREATE, Project(connections::update)),
    Route::delete("/v1/projects/{project}/connections/{connection}", CREATE, Project(connections::delete)),
    Route::post("/v1/projects/{project}/connections/{connection}/test", TOKEN, Project(connections::test)),
    Route::get("/v1/projects/{project}/tables", TOKEN, Project(|call, _| tables::list(call, New))),
    Route::post("/v1/projects/{project}/tables", CREATE, Project(|call, _| tables::create(call, New))),
    Route::get("/v1/projects/{project}/tables/{table}", TOKEN, Project(tables::get)),
    Route::put(
        "/v1/projects/{project}/tables/{table}",
        CREATE,
        Project(|call, id| tables::update(call, id, New)),
    ),
    Route::get("/v2/tables", TOKEN, All(|call, _| tables::list(call, Middle))),
    Route::post("/v2/tables", CREATE, All(|call, _| tables::create(call, Middle))),
    Route::get("/v2/tables/{table}", TOKEN, All(tables::get)),
    Route::put("/v2/tables/{table}", CREATE, All(|call, id| tables::update(call, id, Middle))),
    Route::get("/v1/projects/{project}/jobs", TOKEN, Project(|call, _| jobs_shown::list(call))),
    Route::post("/v1/projects/{project}/jobs", CREATE, Project(|call, _| jobs::create(call))),
    Route::get("/v1/projects/{project}/jobs/{job}", TOKEN, Project(jobs_shown::get)),
    Route::put("/v1/projects/{project}/jobs/{job}", CREATE, Project(jobs_shown::update)),
    Route::get("/v1/projects/{project}/jobs/{job}/metrics", TOKEN, Project(jobs_shown::metrics)),
    Route::get("/v1/projects/{project}/jobs/{job}/logs", TOKEN, Project(jobs_shown::logs)),
    Route::get("/v1/projects/{project}/jobs/{job}/status", TOKEN, Project(jobs_shown::status)),
    Route::post("/v1/projects/{project}/jobs/{job}/status", CREATE, Project(jobs_shown::update_status)),
    Route::get("/v1/projects/{project}/jobs/{job}/progress", TOKEN, Project(jobs_shown::progress)),
    Route::post("/v1/projects/{project}/jobs/{job}/reset", CREATE, Project(jobs::reset)),
    Route::get("/v1/metrics/export", METRICS, All(|call, _| export::export(call))),
];

/// The path prefixes of this contract.
const PREFIXES: [&str; 5] = ["/v1/events", "/v1/projects", "/v1/metrics", "/v2", "/auth/realms"];

/// Roles of clients.
static WORDS: Words = Words { role: scopes_of, claim: |_, _| None, token: None };

/// The scopes that a role stands for.
fn scopes_of(role: &str) -> Option<Vec<Scope>> {
    use Scope::{Create, Drop, Ingest, Metrics, Read};
    Some(match role {
        // The role of 2022: pushes events to every table.
        "ManageStreams" => vec![Ingest(ScopeTarget::All)],
        // Creates connections and pushes events to them.
        "ManageConnections" => vec![Create, Ingest(ScopeTarget::All)],
        "ManageTables" => vec![Create, Read(ScopeTarget::All), Drop(ScopeTarget::All)],
        "ManageIngestionJobs" => vec![Create, Read(ScopeTarget::All)],
        "AccessMetrics" => vec![Metrics],
        _ => return None,
    })
}

const SECTION: &str = "polaris";

pub static ENTRY: ContractEntry = ContractEntry {
    tag: batch::Tag::Polaris,
    names_requests: false,
    is_for_pages: false,
    section: Some(SECTION),
    check: |sections| sections.get::<PolarisSection>(SECTION).map(drop),
    words: &WORDS,
    takes,
    served: || route::served(ROUTES),
    openapi: include_str!("openapi.json"),
    open: |sections, control| Ok(Arc::new(Polaris::new(sections.get(SECTION)?, control))),
};

impl Polaris {
    fn new(settings: PolarisSection, control: Arc<Control>) -> Self {
        Self {
            connections: connections::store(&control),
            jobs: jobs::store(&control),
            feeds: Feeds::default(),
            settings,
            control,
        }
    }

    /// Events for a table or a connection. A connection's events go to other streams, or to a stream of its own name.
    fn events<'a>(
        &'a self,
        head: RequestHead<'a>,
        project: Option<Cow<'a, str>>,
        name: Cow<'a, str>,
    ) -> Ingest<'a> {
        let find = move |caller: &Caller| {
            let named =
                StreamRef { noun: "The table or connection", name: &name, project: project.as_deref() };
            let fed = self.feeds.find(project.as_deref(), &name);
            if let Some(streams) = fed.as_deref().filter(|streams| !streams.is_empty()) {
                // A foreign project is refused before the answer can reveal anything about it.
                named.project(caller)?;
                if let Some(found) = target::those_of(&self.control, caller, streams)? {
                    return Ok(found);
                }
            }
            // Tables and connections are created by management calls.
            let may_make = fed.is_some() || self.control.auth.is_open();
            named.find(&self.control, caller, |name, project| may_make.then(|| self.new_table(name, project)))
        };
        events::ingest(Ingest::new(credential(head.headers), find))
    }

    /// The table that a first event creates.
    fn new_table(&self, name: &str, project: Option<&str>) -> NewStream {
        let time = Some(self.settings.time_rule());
        let new = evolving(name, project);
        NewStream { columns: vec![types::time()], settings: StreamSettings { time, ..new.settings }, ..new }
    }
}

/// Returns whether this contract owns the path.
fn takes(path: &str) -> bool {
    let below = |prefix: &&str| path.strip_prefix(*prefix);
    PREFIXES.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Contract for Polaris {
    fn begin(&self) -> Result<(), CatalogError> {
        jobs::load(self)
    }

    fn parse<'a>(&'a self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        let (route, parameters) = find(&head)?;
        let mut parameters = parameters.into_iter();
        // A route may have fewer parameters.
        let mut next = || parameters.next().unwrap_or_default();
        Ok(match route.call {
            PolarisRoute::Table => Parsed::Ingest(self.events(head, None, next())),
            PolarisRoute::Connection => {
                let project = next();
                Parsed::Ingest(self.events(head, Some(project), next()))
            }
            PolarisRoute::Token | PolarisRoute::Project(_) | PolarisRoute::All(_) => {
                Parsed::Manage(Manage { access: route.access, credential: credential(head.headers) })
            }
        })
    }

    fn manage(&self, call: &Call<'_>) -> Result<Managed, Reject> {
        let (route, parameters) = find(&call.head)?;
        let mut parameters = parameters.into_iter();
        let first = parameters.next();
        let request = |project| PolarisRequest { polaris: self, call, project };
        let reply = match route.call {
            PolarisRoute::Token => token::issue(&self.control, call),
            PolarisRoute::Project(answer) => answer(&request(first), &parameters.next().unwrap_or_default()),
            PolarisRoute::All(answer) => answer(&request(None), &first.unwrap_or_default()),
            // Events are not management calls.
            PolarisRoute::Table | PolarisRoute::Connection => {
                Err(Reject::new(RejectKind::NoSuchRoute, NO_ROUTE))
            }
        };
        reply.map(Managed::Reply)
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
    let status = reject.kind.status();
    let (code, message) = match reject.kind {
        RejectKind::Unauthenticated => (None, "Unauthorized"),
        RejectKind::TokenExpired => (None, "Token claims invalid: [\"exp\"]=\"token expired\""),
        RejectKind::NoSuchRoute => (None, NO_ROUTE),
        RejectKind::MethodNotAllowed | RejectKind::LengthRequired => (None, &*reject.external),
        RejectKind::TooLarge => (None, "Request size limit exceeded"),
        RejectKind::TooManyRequests => (None, "API rate limit exceeded"),
        RejectKind::Malformed => (Some("BadRequest"), &*reject.external),
        RejectKind::Forbidden => (Some("Forbidden"), &*reject.external),
        RejectKind::NoSuchStream | RejectKind::NotFound => (Some("NotFound"), &*reject.external),
        RejectKind::Conflict => (Some("Conflict"), &*reject.external),
        RejectKind::Unprocessable => (Some("UnprocessableEntity"), &*reject.external),
        RejectKind::UnsupportedEncoding | RejectKind::UnsupportedType => {
            (Some("UnsupportedMediaType"), &*reject.external)
        }
        RejectKind::TooSlow => (Some("RequestTimeout"), &*reject.external),
        RejectKind::Full | RejectKind::Unavailable => (Some("ServiceUnavailable"), &*reject.external),
        RejectKind::Unknown | RejectKind::Internal => (Some("InternalServerError"), &*reject.external),
    };
    reply::error(status, code, message)
}

fn find<'a>(head: &RequestHead<'a>) -> Result<(&'static Route<PolarisRoute>, Vec<Cow<'a, str>>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        RouteMatch::Route(route, parameters) => Ok((route, parameters)),
        RouteMatch::OtherMethods(methods) => Err(Reject::method_not_allowed(head.method, methods)),
        RouteMatch::Nothing => Err(Reject::new(RejectKind::NoSuchRoute, NO_ROUTE)),
    }
}

/// `2026-11-20T12:00:00.000001Z`
fn timestamp(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_paths_are_told_from_those_of_others() {
        for path in
            ["/v1/events/t", "/v1/projects/p/events/c", "/v1/projects", "/v2/tables", "/auth/realms/o/x"]
        {
            assert!(takes(path), "{path}");
        }
        for path in ["/v0/events", "/v1/eventsource", "/v1/datasources/t/append", "/v1/workspace", "/"] {
            assert!(!takes(path), "{path}");
        }
    }

    #[test]
    fn refusals_are_worded_as_the_contract_has_them() {
        let worded = |kind| {
            let reply = rejected(&Reject::new(kind, "why"));
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            (reply.status.as_u16(), body.to_string())
        };
        for (kind, status, body) in [
            (RejectKind::Malformed, 400, r#"{"code":"BadRequest","message":"why"}"#),
            (RejectKind::Unauthenticated, 401, r#"{"message":"Unauthorized"}"#),
            (RejectKind::Forbidden, 403, r#"{"code":"Forbidden","message":"why"}"#),
            (RejectKind::NoSuchStream, 404, r#"{"code":"NotFound","message":"why"}"#),
            (RejectKind::NoSuchRoute, 404, r#"{"message":"no Route matched with those values"}"#),
            (RejectKind::TooLarge, 413, r#"{"message":"Request size limit exceeded"}"#),
            (RejectKind::TooManyRequests, 429, r#"{"message":"API rate limit exceeded"}"#),
            (RejectKind::Full, 503, r#"{"code":"ServiceUnavailable","message":"why"}"#),
        ] {
            assert_eq!(worded(kind), (status, body.to_owned()));
        }
    }
}
