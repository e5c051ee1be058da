//! Tinybird's contract: the Events API (`events.rs`), and the management routes that its clients ask for.
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
mod workspace;

use super::{Accepted, Call, Dialect, Manage, Managed, Parsed, Reply, RequestHead, bearer};
use crate::auth::{Credential, Need, words};
use crate::batch;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::route::{self, Found, Route};
use crate::contracts::shared::control::Control;
use crate::http::limits::Standing;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use std::borrow::Cow;

const DOCUMENTATION: &str = "docs/api/tinybird.md";
static JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

#[derive(Debug, Clone, Copy)]
pub struct Tinybird;

/// What is served besides the Events API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Workspace,
    Regions,
    Analyze,
    DataSources,
    PostDataSource,
    DataSource,
    AlterDataSource,
    DropDataSource,
    Truncate,
    AppendJob,
    ReplaceJob,
    DeleteRows,
    Jobs,
    Job,
    CancelJob,
    Tokens,
    MakeToken,
    Token,
    ChangeToken,
    RefreshToken,
    DeleteToken,
}

pub const ROUTES: &[Route<Operation>] = &[
    Route::get("/v0/workspace", Operation::Workspace),
    Route::get("/v1/workspace", Operation::Workspace),
    Route::get("/v0/regions", Operation::Regions),
    Route::post("/v0/analyze", Operation::Analyze),
    Route::get("/v0/datasources", Operation::DataSources),
    Route::post("/v0/datasources", Operation::PostDataSource),
    Route::get("/v0/datasources/{name}", Operation::DataSource),
    Route::delete("/v0/datasources/{name}", Operation::DropDataSource),
    Route::post("/v0/datasources/{name}/alter", Operation::AlterDataSource),
    Route::post("/v0/datasources/{name}/truncate", Operation::Truncate),
    Route::post("/v0/datasources/{name}/delete", Operation::DeleteRows),
    Route::post("/v1/datasources/{name}/append", Operation::AppendJob),
    Route::post("/v1/datasources/{name}/replace", Operation::ReplaceJob),
    Route::post("/v1/datasources/{name}/delete", Operation::DeleteRows),
    Route::get("/v0/jobs", Operation::Jobs),
    Route::get("/v0/jobs/{id}", Operation::Job),
    Route::post("/v0/jobs/{id}/cancel", Operation::CancelJob),
    Route::get("/v0/tokens", Operation::Tokens),
    Route::post("/v0/tokens", Operation::MakeToken),
    Route::get("/v0/tokens/{id}", Operation::Token),
    Route::put("/v0/tokens/{id}", Operation::ChangeToken),
    Route::post("/v0/tokens/{id}/refresh", Operation::RefreshToken),
    Route::delete("/v0/tokens/{id}", Operation::DeleteToken),
];

impl Operation {
    /// The right it takes at least, before the body is read. What it takes for one stream is asked for later.
    fn need(self) -> Need<'static> {
        match self {
            Self::Analyze | Self::AlterDataSource => Need::Create,
            Self::Tokens | Self::MakeToken | Self::ChangeToken | Self::RefreshToken | Self::DeleteToken => {
                Need::Tokens
            }
            // Of itself, every token may know.
            _ => Need::Any,
        }
    }
}

impl Dialect for Tinybird {
    fn id(&self) -> batch::Dialect {
        batch::Dialect::Tinybird
    }

    fn noun(&self) -> &'static str {
        "Data Source"
    }

    fn takes(&self, path: &str) -> bool {
        events::is_path(path) || route::is_known(ROUTES, path)
    }

    fn routes(&self) -> Vec<(&'static str, &'static str)> {
        let managed = ROUTES.iter().map(|route| (route.method, route.template));
        [("POST", events::PATH), ("OPTIONS", events::PATH)].into_iter().chain(managed).collect()
    }

    fn is_for_pages(&self) -> bool {
        true
    }

    fn parse<'a>(&self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        if events::is_path(head.path) {
            return events::parse(head);
        }
        if let (&Method::OPTIONS, Found::OtherMethods(methods)) =
            (head.method, route::find(ROUTES, head.method, head.path))
        {
            return Ok(Parsed::Preflight(format!("{methods}, OPTIONS").into()));
        }
        let (operation, _) = find(&head)?;
        let credential = credential(&head, parameter(head.query, "token"));
        Ok(Parsed::Manage(Manage { need: Some(operation.need()), credential }))
    }

    fn accepted(&self, _head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
        events::accepted(accepted)
    }

    fn tell(&self, reply: &mut Reply, standing: &Standing) {
        rates::tell(reply, standing);
    }

    fn rejected(&self, _head: &RequestHead<'_>, reject: &Reject) -> Reply {
        let status = match reject.kind {
            // The contract knows no 401.
            Kind::Unauthenticated | Kind::TokenExpired => 403,
            kind => kind.status(),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        reply(status, &json!({ "error": message(reject), "documentation": DOCUMENTATION }))
    }

    fn manage(&self, control: &Control, call: &Call<'_>) -> Result<Managed, Reject> {
        let (operation, parameters) = find(&call.head)?;
        let name = parameters.first().map_or("", |name| name);
        match operation {
            Operation::Workspace => Ok(workspace::workspace(control)),
            Operation::Regions => Ok(workspace::regions(control, call)),
            Operation::Analyze => analyze::analyze(control, call),
            Operation::DataSources => datasources::list(control, call),
            Operation::PostDataSource => datasources::post(control, call),
            Operation::DataSource => datasources::get(control, call, name),
            Operation::AlterDataSource => datasources::alter(control, call, name),
            Operation::DropDataSource => datasources::drop_source(control, call, name),
            Operation::Truncate => datasources::truncate(control, call, name),
            Operation::AppendJob => datasources::append_job(control, call, name),
            Operation::ReplaceJob => Err(datasources::replace()),
            Operation::DeleteRows => Err(datasources::delete_rows()),
            Operation::Jobs => jobs::list(control, call),
            Operation::Job => jobs::get(control, call, name),
            Operation::CancelJob => jobs::cancel(control, call, name),
            Operation::Tokens
            | Operation::MakeToken
            | Operation::Token
            | Operation::ChangeToken
            | Operation::RefreshToken
            | Operation::DeleteToken => tokens::answer(operation, control, call, name),
        }
    }
}

/// The operation that a request asks for, and what stands in its path.
fn find<'a>(head: &RequestHead<'a>) -> Result<(Operation, Vec<Cow<'a, str>>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        Found::Route(operation, parameters) => Ok((operation, parameters)),
        Found::OtherMethods(methods) => {
            Err(Reject::method_not_allowed(head.method, format!("{methods}, OPTIONS")))
        }
        Found::Nothing => Err(Reject::new(Kind::NoSuchRoute, format!("no such route: {}", head.path))),
    }
}

/// The header's token wins over the query's.
fn credential<'a>(head: &RequestHead<'a>, token: Option<Cow<'a, str>>) -> Credential<'a> {
    bearer(head.headers).or(token)
}

/// The refusal of a credential. The contract tells missing, unknown and expired tokens with one text.
fn message(reject: &Reject) -> Cow<'_, str> {
    match (reject.kind, reject.lacks.as_deref()) {
        (Kind::Unauthenticated | Kind::TokenExpired, _) => "invalid authentication token".into(),
        (_, Some(scope)) => {
            let words = words::to_tinybird(std::slice::from_ref(scope));
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            format!("token lacks {}", words.join(", ")).into()
        }
        _ => Cow::Borrowed(&reject.external),
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    Reply { status, headers: vec![(header::CONTENT_TYPE, JSON.clone())], body: body.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_documented_shape() {
        let reject = Reject::new(Kind::Unauthenticated, "invalid authentication token");
        let reply = Tinybird.rejected(&crate::contracts::tests::head(), &reject);
        assert_eq!(reply.status.as_u16(), 403);
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert!(body["error"].is_string() && body["documentation"].is_string());
    }
}
