//! Keboola's Buffer API: receivers with exports, and the import of events: `docs/api/keboola.md`.
//!
//! What it shares with its successor is public here: how names become ids, how bodies are read and refused, tasks, and the
//! shape of answers.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod conditions;
mod documentation;
mod exports;
pub mod go;
mod import;
mod model;
pub mod names;
mod read;
mod receivers;
pub mod reply;
mod request;
pub mod secrets;
pub mod stream;
mod streams;
pub mod tables;
pub mod tasks;
pub mod validate;

use crate::auth::{Caller, Credential, Need};
use crate::batch;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::route::{self, Found, Route};
use crate::contracts::shared::control::{self, CatalogError, Control};
use crate::contracts::{Accepted, Call, Dialect, Manage, Managed, Named, Parsed, Reply, RequestHead, Wait};
use crate::mapping::Failure;
use go::Size;
use http::{HeaderValue, Method, StatusCode, header};
use reply::Service;
use request::{Request, TOKEN_HEADER, has_token};
use std::borrow::Cow;
use std::sync::Arc;

/// Whose documents ours are in the catalog.
pub const DIALECT: &str = "keboola";
/// Of a project.
const RECEIVERS_MAX: usize = 100;
/// Of a receiver.
const EXPORTS_MAX: usize = 20;
/// Of an export, one after the other.
const MAPPINGS_MAX: u32 = 100;

const SERVICE: Service = Service { errors: "buffer.", exceptions: "keboola-buffer-" };

/// What pages may send.
static ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, DELETE");
static ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static("Content-Type, X-StorageApi-Token");

#[derive(Debug, Clone, Copy)]
pub struct Keboola;

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Root,
    Detail,
    Health,
    Documentation,
    DocumentJson,
    DocumentYaml,
    CreateReceiver,
    Receivers,
    Receiver,
    UpdateReceiver,
    DeleteReceiver,
    RefreshTokens,
    CreateExport,
    Exports,
    Export,
    UpdateExport,
    DeleteExport,
    Task,
    Import,
}

pub const ROUTES: &[Route<Action>] = &[
    Route::get("/", Action::Root),
    Route::get("/v1", Action::Detail),
    Route::get("/health-check", Action::Health),
    Route::get("/v1/documentation", Action::Documentation),
    Route::get("/v1/documentation/openapi.json", Action::DocumentJson),
    Route::get("/v1/documentation/openapi.yaml", Action::DocumentYaml),
    Route::get("/v1/documentation/openapi3.json", Action::DocumentJson),
    Route::get("/v1/documentation/openapi3.yaml", Action::DocumentYaml),
    Route::post("/v1/receivers", Action::CreateReceiver),
    Route::get("/v1/receivers", Action::Receivers),
    Route::get("/v1/receivers/{receiverId}", Action::Receiver),
    Route::patch("/v1/receivers/{receiverId}", Action::UpdateReceiver),
    Route::delete("/v1/receivers/{receiverId}", Action::DeleteReceiver),
    Route::post("/v1/receivers/{receiverId}/tokens/refresh", Action::RefreshTokens),
    Route::post("/v1/receivers/{receiverId}/exports", Action::CreateExport),
    Route::get("/v1/receivers/{receiverId}/exports", Action::Exports),
    Route::get("/v1/receivers/{receiverId}/exports/{exportId}", Action::Export),
    Route::patch("/v1/receivers/{receiverId}/exports/{exportId}", Action::UpdateExport),
    Route::delete("/v1/receivers/{receiverId}/exports/{exportId}", Action::DeleteExport),
    Route::get("/v1/tasks/{*taskId}", Action::Task),
    Route::post("/v1/import/{projectId}/{receiverId}/{secret}", Action::Import),
];

/// Where the paths of this contract begin, but for those that are it.
const PREFIXES: [&str; 4] = ["/v1/receivers", "/v1/import", "/v1/tasks", "/v1/documentation"];
const PATHS: [&str; 5] = ["/", "/v1", "/v1/", "/health-check", "/health-check/"];

impl Dialect for Keboola {
    fn id(&self) -> batch::Dialect {
        batch::Dialect::Keboola
    }

    fn noun(&self) -> &'static str {
        "Receiver"
    }

    fn takes(&self, path: &str) -> bool {
        let below = |prefix: &&str| path.strip_prefix(*prefix);
        PATHS.contains(&path)
            || PREFIXES.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn routes(&self) -> Vec<(&'static str, &'static str)> {
        // OpenAPI has no word for a parameter of several segments.
        let shown = |route: &Route<Action>| {
            let template = if route.call == Action::Task { "/v1/tasks/{taskId}" } else { route.template };
            (route.method, template)
        };
        ROUTES.iter().map(shown).collect()
    }

    fn is_for_pages(&self) -> bool {
        true
    }

    fn names_requests(&self) -> bool {
        true
    }

    fn name_request(&self, reply: &mut Reply, named: &Named) {
        reply::name_request(reply, named);
    }

    fn begin(&self, control: &Control) -> Result<(), CatalogError> {
        streams::publish_all(control)
    }

    /// Streams are made by management calls.
    fn makes_stream(&self, _control: &Control, _head: &RequestHead<'_>, _caller: &Caller) -> bool {
        false
    }

    fn parse<'a>(&self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        if *head.method == Method::OPTIONS && route::is_known(ROUTES, head.path) {
            return Ok(Parsed::Answer(preflight()));
        }
        let (action, _) = find(&head)?;
        let nobody = Manage { need: None, credential: Credential::None };
        Ok(match action {
            Action::Import => Parsed::Receive(Wait::Sync),
            Action::Root => Parsed::Answer(documentation::redirect()),
            Action::Health => Parsed::Answer(documentation::health()),
            Action::Detail | Action::Documentation | Action::DocumentJson | Action::DocumentYaml => {
                Parsed::Manage(nobody)
            }
            // That no credential is there is said after what is wrong with the body.
            _ if !has_token(head.headers) => Parsed::Manage(nobody),
            _ => Parsed::Manage(Manage { need: Some(Need::Any), credential: credential(&head) }),
        })
    }

    fn receiver(&self, control: &Control, head: &RequestHead<'_>) -> Result<Arc<control::Receiver>, Reject> {
        import::receiver(control, head)
    }

    fn unmapped(&self, failures: &[(String, Failure)]) -> Reject {
        import::unmapped(failures)
    }

    fn manage(&self, control: &Control, call: &Call<'_>) -> Result<Managed, Reject> {
        let (action, parameters) = find(&call.head)?;
        let request = Request { control, call };
        let parameter = |at: usize| parameters.get(at).map_or("", |parameter| &**parameter);
        let (receiver, export) = (parameter(0), parameter(1));
        let reply = match action {
            // Answered before.
            Action::Root | Action::Health | Action::Import => Err(no_endpoint(&call.head)),
            Action::Detail => Ok(documentation::detail(&request)),
            Action::Documentation => documentation::page(&request),
            Action::DocumentJson => documentation::json(&request),
            Action::DocumentYaml => documentation::yaml(&request),
            Action::CreateReceiver => receivers::create(&request),
            Action::Receivers => receivers::list(&request),
            Action::Receiver => receivers::get(&request, receiver),
            Action::UpdateReceiver => receivers::update(&request, receiver),
            Action::DeleteReceiver => receivers::delete(&request, receiver),
            Action::RefreshTokens => receivers::refresh_tokens(&request, receiver),
            Action::CreateExport => exports::create(&request, receiver),
            Action::Exports => exports::list(&request, receiver),
            Action::Export => exports::get(&request, receiver, export),
            Action::UpdateExport => exports::update(&request, receiver, export),
            Action::DeleteExport => exports::delete(&request, receiver, export),
            Action::Task => task(&request, parameter(0)),
        };
        reply.map(Managed::Reply)
    }

    fn accepted(&self, _head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
        import::accepted(accepted)
    }

    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply {
        let kind = reject.kind;
        let (status, name) = match kind {
            Kind::Unauthenticated | Kind::TokenExpired => (401, "storage.tokenInvalid"),
            Kind::Forbidden if reject.lacks.is_some() => (401, "masterTokenRequired"),
            Kind::Forbidden => (403, "forbidden"),
            Kind::NoSuchRoute => (404, "endpointNotFound"),
            Kind::NoSuchStream | Kind::NotFound => (404, "resourceNotFound"),
            Kind::MethodNotAllowed => (405, "methodNotAllowed"),
            Kind::TooSlow => (408, "requestTimeout"),
            Kind::Conflict => (409, "conflict"),
            Kind::TooLarge => (413, "payloadTooLarge"),
            Kind::UnsupportedEncoding | Kind::UnsupportedType => (415, "unsupportedMediaType"),
            Kind::TooManyRequests => (429, "tooManyRequests"),
            Kind::Full => (507, "insufficientStorage"),
            Kind::Unavailable => (503, "serviceUnavailable"),
            Kind::Unknown | Kind::Internal => (500, "internalError"),
            Kind::Malformed | Kind::Unprocessable | Kind::LengthRequired => (kind.status(), "badRequest"),
        };
        let message: Cow<'_, str> = match kind {
            Kind::Unauthenticated | Kind::TokenExpired => "invalid access token".into(),
            Kind::Forbidden if reject.lacks.is_some() => {
                "please provide a master token of a project administrator".into()
            }
            Kind::NoSuchRoute => format!("no endpoint found for path \"{}\"", head.path).into(),
            Kind::TooLarge => {
                let max = Size(head.named.body_max);
                format!("payload too large, the maximum size is {max}").into()
            }
            Kind::Full => format!("no free space in the buffer: {}", reject.external).into(),
            Kind::Internal => SERVICE.application_error(&head.named).into(),
            _ => (&*reject.external).into(),
        };
        SERVICE.error(head, status, reject.code.unwrap_or(name), &message)
    }
}

fn find<'a>(head: &RequestHead<'a>) -> Result<(Action, Vec<Cow<'a, str>>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        Found::Route(action, parameters) => Ok((action, parameters)),
        Found::OtherMethods(methods) => Err(Reject::method_not_allowed(head.method, methods)),
        Found::Nothing => Err(no_endpoint(head)),
    }
}

fn no_endpoint(head: &RequestHead<'_>) -> Reject {
    Reject::new(Kind::NoSuchRoute, format!("no such route: {}", head.path))
}

fn credential<'a>(head: &RequestHead<'a>) -> Credential<'a> {
    let token = head.headers.get(TOKEN_HEADER).and_then(|token| token.to_str().ok());
    Credential::Bearer(token.unwrap_or_default().into())
}

fn preflight() -> Reply {
    Reply {
        status: StatusCode::NO_CONTENT,
        headers: vec![
            (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS.clone()),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS.clone()),
        ],
        body: bytes::Bytes::new(),
    }
}

/// Tasks of both contracts, each in its own shape.
fn task(request: &Request<'_>, id: &str) -> Result<Reply, Reject> {
    request.require()?;
    let task = tasks::find(request.control, request.project(), id)?.ok_or_else(|| tasks::not_found(id))?;
    let key = if task.kind.starts_with("api.") { "taskId" } else { "id" };
    Ok(reply::ok(&tasks::shown(&task, key, &request.base())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_paths_are_told_from_those_of_others() {
        for path in
            ["/", "/v1", "/v1/", "/health-check", "/v1/receivers", "/v1/import/1/r/s", "/v1/tasks/a/b/c"]
        {
            assert!(Keboola.takes(path), "{path}");
        }
        for path in [
            "/v0/events",
            "/v1/events/t",
            "/v1/receiversx",
            "/v1/branches/1/sources",
            "/v1/tables",
            "/stream/1/s/x",
        ] {
            assert!(!Keboola.takes(path), "{path}");
        }
    }

    #[test]
    fn refusals_are_worded_as_the_contract_has_them() {
        let mut head = crate::contracts::tests::head();
        head.path = "/foo/bar";
        head.named.body_max = 1 << 20;
        let worded = |reject: &Reject| {
            let reply = Keboola.rejected(&head, reject);
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            let text = |key: &str| body[key].as_str().unwrap().to_owned();
            (reply.status.as_u16(), text("error"), text("message"))
        };
        let lacks = Reject::from(crate::auth::AuthError::Lacks(crate::auth::Scope::Create));
        for (reject, status, error, message) in [
            (Reject::malformed("why"), 400, "buffer.badRequest", "Why."),
            (
                Reject::from(crate::auth::AuthError::Unknown),
                401,
                "storage.tokenInvalid",
                "Invalid access token.",
            ),
            (
                lacks,
                401,
                "buffer.masterTokenRequired",
                "Please provide a master token of a project administrator.",
            ),
            (no_endpoint(&head), 404, "buffer.endpointNotFound", "No endpoint found for path \"/foo/bar\"."),
            (
                Reject::new(Kind::TooLarge, ""),
                413,
                "buffer.payloadTooLarge",
                "Payload too large, the maximum size is 1MB.",
            ),
            (
                Reject::new(Kind::Full, "the log is full"),
                507,
                "buffer.insufficientStorage",
                "No free space in the buffer: the log is full.",
            ),
            (
                Reject::new(Kind::Internal, "internal error"),
                500,
                "buffer.internalError",
                "Application error. Please contact our support support@keboola.com with exception id \
                 (keboola-buffer-000000000000000) attached.",
            ),
        ] {
            assert_eq!(worded(&reject), (status, error.to_owned(), message.to_owned()));
        }
    }
}
