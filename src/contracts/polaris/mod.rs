//! Imply Polaris' Events API and the part of its control plane that its clients use: `docs/api/polaris.md`.
//!
//! A refusal is worded as the part of the vendor's service words it that would have refused: its gateway says
//! `{"message":…}`, its control plane `{"code":…,"message":…}`.
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

use super::{
    Accepted, Bodies, Call, Dialect, Manage, Managed, NewTarget, Parsed, Reply, RequestHead, credential,
};
use crate::auth::{Caller, Need};
use crate::batch;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::route::{self, Found, Route};
use crate::contracts::shared::control::{CatalogError, Control, IfExists, Micros, NewStream};
use crate::http::limits::Standing;
use crate::schema::{Policy, StreamSettings};
use request::Request;
use std::borrow::Cow;
use table::Generation;

/// Whose documents ours are in the catalog.
const DIALECT: &str = "polaris";
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
    Token,
    Connections,
    CreateConnection,
    Connection,
    UpdateConnection,
    DeleteConnection,
    TestConnection,
    Tables,
    CreateTable,
    Table,
    UpdateTable,
    MiddleTables,
    CreateMiddleTable,
    MiddleTable,
    UpdateMiddleTable,
    OldTables,
    CreateOldTable,
    OldTable,
    UpdateOldTable,
    Jobs,
    CreateJob,
    Job,
    UpdateJob,
    JobMetrics,
    JobLogs,
    JobStatus,
    UpdateJobStatus,
    JobProgress,
    ResetJob,
    Export,
}

pub const ROUTES: &[Route<Action>] = &[
    Route::post("/v1/events/{table}", Action::PushTable),
    Route::post("/v1/projects/{project}/events/{connection}", Action::Push),
    Route::post("/auth/realms/{org}/protocol/openid-connect/token", Action::Token),
    Route::get("/v1/projects/{project}/connections", Action::Connections),
    Route::post("/v1/projects/{project}/connections", Action::CreateConnection),
    Route::get("/v1/projects/{project}/connections/{connection}", Action::Connection),
    Route::patch("/v1/projects/{project}/connections/{connection}", Action::UpdateConnection),
    Route::delete("/v1/projects/{project}/connections/{connection}", Action::DeleteConnection),
    Route::post("/v1/projects/{project}/connections/{connection}/test", Action::TestConnection),
    Route::get("/v1/projects/{project}/tables", Action::Tables),
    Route::post("/v1/projects/{project}/tables", Action::CreateTable),
    Route::get("/v1/projects/{project}/tables/{table}", Action::Table),
    Route::put("/v1/projects/{project}/tables/{table}", Action::UpdateTable),
    Route::get("/v2/tables", Action::MiddleTables),
    Route::post("/v2/tables", Action::CreateMiddleTable),
    Route::get("/v2/tables/{table}", Action::MiddleTable),
    Route::put("/v2/tables/{table}", Action::UpdateMiddleTable),
    Route::get("/v1/tables", Action::OldTables),
    Route::post("/v1/tables", Action::CreateOldTable),
    Route::get("/v1/tables/{table}", Action::OldTable),
    Route::put("/v1/tables/{table}", Action::UpdateOldTable),
    Route::get("/v1/projects/{project}/jobs", Action::Jobs),
    Route::post("/v1/projects/{project}/jobs", Action::CreateJob),
    Route::get("/v1/projects/{project}/jobs/{job}", Action::Job),
    Route::put("/v1/projects/{project}/jobs/{job}", Action::UpdateJob),
    Route::get("/v1/projects/{project}/jobs/{job}/metrics", Action::JobMetrics),
    Route::get("/v1/projects/{project}/jobs/{job}/logs", Action::JobLogs),
    Route::get("/v1/projects/{project}/jobs/{job}/status", Action::JobStatus),
    Route::post("/v1/projects/{project}/jobs/{job}/status", Action::UpdateJobStatus),
    Route::get("/v1/projects/{project}/jobs/{job}/progress", Action::JobProgress),
    Route::post("/v1/projects/{project}/jobs/{job}/reset", Action::ResetJob),
    Route::get("/v1/metrics/export", Action::Export),
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
        Bodies { all_bad: true, transcribe: Some(form::event), ..Bodies::default() }
    }

    fn noun(&self) -> &'static str {
        "The table or connection"
    }

    fn routes(&self) -> Vec<(&'static str, &'static str)> {
        ROUTES.iter().map(|route| (route.method, route.template)).collect()
    }

    fn begin(&self, control: &Control) -> Result<(), CatalogError> {
        jobs::load(control)
    }

    /// Tables and connections are made by management calls.
    fn makes_stream(&self, control: &Control, _head: &RequestHead<'_>, _caller: &Caller) -> bool {
        control.auth.is_open()
    }

    fn new_stream(&self, control: &Control, target: &NewTarget) -> NewStream {
        NewStream {
            name: target.name.clone(),
            policy: Policy::Evolve,
            columns: vec![types::time()],
            settings: StreamSettings {
                time: Some(tables::time_rule(control.polaris.late, control.polaris.early)),
                project: target.project.clone(),
                ..StreamSettings::default()
            },
            if_exists: IfExists::Return,
        }
    }

    fn parse<'a>(&self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        let (action, parameters) = find(&head)?;
        let mut parameters = parameters.into_iter();
        let mut next = || parameters.next().unwrap_or_default();
        match action {
            Action::PushTable => Ok(Parsed::Ingest(events::ingest(head, None, next()))),
            Action::Push => {
                let project = next();
                Ok(Parsed::Ingest(events::ingest(head, Some(project), next())))
            }
            Action::Token => Ok(Parsed::Manage(Manage { need: None, credential: credential(head.headers) })),
            // What it takes beyond a good credential depends on what is asked for.
            _ => Ok(Parsed::Manage(Manage { need: Some(Need::Any), credential: credential(head.headers) })),
        }
    }

    fn manage(&self, control: &Control, call: &Call<'_>) -> Result<Managed, Reject> {
        let (action, parameters) = find(&call.head)?;
        answer(control, call, action, parameters).map(Managed::Reply)
    }

    fn accepted(&self, _head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
        events::accepted(accepted)
    }

    fn tell(&self, reply: &mut Reply, standing: &Standing) {
        rates::tell(reply, standing);
    }

    fn rejected(&self, _head: &RequestHead<'_>, reject: &Reject) -> Reply {
        let status = reject.kind.status();
        let (code, message) = match reject.kind {
            Kind::Unauthenticated => (None, "Unauthorized"),
            Kind::TokenExpired => (None, "Token claims invalid: [\"exp\"]=\"token expired\""),
            Kind::NoSuchRoute => (None, NO_ROUTE),
            Kind::MethodNotAllowed | Kind::LengthRequired => (None, &*reject.external),
            Kind::TooLarge => (None, "Request size limit exceeded"),
            Kind::TooManyRequests => (None, "API rate limit exceeded"),
            Kind::Malformed => (Some("BadRequest"), &*reject.external),
            Kind::Forbidden => (Some("Forbidden"), &*reject.external),
            Kind::NoSuchStream | Kind::NotFound => (Some("NotFound"), &*reject.external),
            Kind::Conflict => (Some("Conflict"), &*reject.external),
            Kind::Unprocessable => (Some("UnprocessableEntity"), &*reject.external),
            Kind::UnsupportedEncoding | Kind::UnsupportedType => {
                (Some("UnsupportedMediaType"), &*reject.external)
            }
            Kind::TooSlow => (Some("RequestTimeout"), &*reject.external),
            Kind::Full | Kind::Unavailable => (Some("ServiceUnavailable"), &*reject.external),
            Kind::Unknown | Kind::Internal => (Some("InternalServerError"), &*reject.external),
        };
        reply::error(status, code, message)
    }
}

fn find<'a>(head: &RequestHead<'a>) -> Result<(Action, Vec<Cow<'a, str>>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        Found::Route(action, parameters) => Ok((action, parameters)),
        Found::OtherMethods(methods) => Err(Reject::method_not_allowed(head.method, methods)),
        Found::Nothing => Err(Reject::new(Kind::NoSuchRoute, NO_ROUTE)),
    }
}

fn answer(
    control: &Control,
    call: &Call<'_>,
    action: Action,
    parameters: Vec<Cow<'_, str>>,
) -> Result<Reply, Reject> {
    let mut parameters = parameters.into_iter();
    let first = parameters.next();
    let of_project = Request { control, call, project: first.clone() };
    let of_all = Request { control, call, project: None };
    // The last parameter: of a project's path the second, of another one the first.
    let name = parameters.next().or(first).unwrap_or_default();
    match action {
        // Events are no management calls.
        Action::PushTable | Action::Push => Err(Reject::new(Kind::NoSuchRoute, NO_ROUTE)),
        Action::Token => token::issue(control, call),
        Action::Connections => connections::list(&of_project),
        Action::CreateConnection => connections::create(&of_project),
        Action::Connection => connections::get(&of_project, &name),
        Action::UpdateConnection => connections::update(&of_project, &name),
        Action::DeleteConnection => connections::delete(&of_project, &name),
        Action::TestConnection => connections::test(&of_project, &name),
        Action::Tables => tables::list(&of_project, Generation::Project),
        Action::CreateTable => tables::create(&of_project, Generation::Project),
        Action::Table => tables::get(&of_project, &name, Generation::Project),
        Action::UpdateTable => tables::update(&of_project, &name, Generation::Project),
        Action::MiddleTables => tables::list(&of_all, Generation::Middle),
        Action::CreateMiddleTable => tables::create(&of_all, Generation::Middle),
        Action::MiddleTable => tables::get(&of_all, &name, Generation::Middle),
        Action::UpdateMiddleTable => tables::update(&of_all, &name, Generation::Middle),
        Action::OldTables => tables::list(&of_all, Generation::Old),
        Action::CreateOldTable => tables::create(&of_all, Generation::Old),
        Action::OldTable => tables::get(&of_all, &name, Generation::Old),
        Action::UpdateOldTable => tables::update(&of_all, &name, Generation::Old),
        Action::Jobs => jobs_shown::list(&of_project),
        Action::CreateJob => jobs::create(&of_project),
        Action::Job => jobs_shown::get(&of_project, &name),
        Action::UpdateJob => jobs_shown::update(&of_project, &name),
        Action::JobMetrics => jobs_shown::metrics(&of_project, &name),
        Action::JobLogs => jobs_shown::logs(&of_project, &name),
        Action::JobStatus => jobs_shown::status(&of_project, &name),
        Action::UpdateJobStatus => jobs_shown::update_status(&of_project, &name),
        Action::JobProgress => jobs_shown::progress(&of_project, &name),
        Action::ResetJob => jobs::reset(&of_project, &name),
        Action::Export => export::export(&of_all),
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
            assert!(Polaris.takes(path), "{path}");
        }
        for path in ["/v0/events", "/v1/eventsource", "/v1/datasources/t/append", "/v1/workspace", "/"] {
            assert!(!Polaris.takes(path), "{path}");
        }
    }

    #[test]
    fn refusals_are_worded_as_the_contract_has_them() {
        let worded = |kind| {
            let reply = Polaris.rejected(&crate::contracts::tests::head(), &Reject::new(kind, "why"));
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
