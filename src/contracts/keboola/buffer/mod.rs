//! Keboola's Buffer API: receivers with exports, and the import of events. See `docs/api/keboola.md`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod conditions;
mod documentation;
mod exports;
mod import;
mod model;
mod read;
mod receivers;
mod request;
mod streams;

use super::{CATALOG_NAME, KeboolaContext, KeboolaSection, SECTION, TOKEN_HEADER, WORDS, reply, tasks};
use crate::auth::{Credential, Need};
use crate::batch;
use crate::catalog::CatalogError;
use crate::contracts::keboola::go::GoSize;
use crate::contracts::keboola::reply::Service;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::route::{self, Access, Route, RouteInfo, RouteMatch};
use crate::contracts::shared::collection::Collection;
use crate::contracts::shared::control::Control;
use crate::contracts::{
    Accepted, Call, Contract, ContractEntry, Extras, Manage, Managed, Parsed, Reply, RequestHead, Told,
};
use documentation::Documentation;
use http::{HeaderValue, Method, StatusCode, header};
use model::BufferReceiver;
use request::{BufferRequest, has_token};
use std::borrow::Cow;
use std::sync::Arc;

/// Receivers of a project.
const RECEIVERS_MAX: usize = 100;
/// Exports of a receiver.
const EXPORTS_MAX: usize = 20;
/// Mappings of an export over its lifetime.
const MAPPINGS_MAX: u32 = 100;

const SERVICE: Service = Service { errors: "buffer.", exceptions: "keboola-buffer-" };

/// The methods and headers that a browser page may send.
static ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, DELETE");
static ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static("Content-Type, X-StorageApi-Token");

pub struct KeboolaBuffer {
    common: KeboolaContext,
    receivers: Collection<BufferReceiver>,
    documentation: Documentation,
}

/// The handler of a route. Handlers get the parameters of the path.
#[derive(Clone, Copy)]
enum BufferRoute {
    /// Takes an event for a receiver.
    Import,
    /// A fixed answer.
    Fixed(fn() -> Reply),
    /// A call on the service, or on all receivers of a project.
    All(fn(&BufferRequest<'_>) -> Result<Reply, Reject>),
    /// A call on a receiver or a task.
    One(fn(&BufferRequest<'_>, &str) -> Result<Reply, Reject>),
    /// A call on an export of a receiver.
    Export(fn(&BufferRequest<'_>, &str, &str) -> Result<Reply, Reject>),
}

use BufferRoute::{All, Export, Fixed, One};

const PUBLIC: Access = Access::Public;
/// A credential that may create. The contract reports a missing header only after the errors of the body, see `parse`.
const TOKEN: Access = Access::Token(Need::Create);
/// The routes of this contract as an `OpenAPI` document.
const OPENAPI: &str = include_str!("openapi.json");
/// The id of a task has several segments.
const TASK: &str = "/v1/tasks/{*taskId}";

static ROUTES: &[Route<BufferRoute>] = &[
    Route::get("/", PUBLIC, Fixed(documentation::redirect)),
    Route::get("/v1", PUBLIC, All(|call| Ok(documentation::detail(call)))),
    Route::get("/health-check", PUBLIC, Fixed(documentation::health)),
    Route::get("/v1/documentation", PUBLIC, All(|call| Ok(call.buffer.documentation.page()))),
    Route::get(
        "/v1/documentation/openapi.json",
        PUBLIC,
        All(|call| Ok(call.buffer.documentation.json(call))),
    ),
    Route::get(
        "/v1/documentation/openapi.yaml",
        PUBLIC,
        All(|call| Ok(call.buffer.documentation.yaml(call))),
    ),
    Route::get(
        "/v1/documentation/openapi3.json",
        PUBLIC,
        All(|call| Ok(call.buffer.documentation.json(call))),
    ),
    Route::get(
        "/v1/documentation/openapi3.yaml",
        PUBLIC,
        All(|call| Ok(call.buffer.documentation.yaml(call))),
    ),
    Route::post("/v1/receivers", TOKEN, All(receivers::create)),
    Route::get("/v1/receivers", TOKEN, All(receivers::list)),
    Route::get("/v1/receivers/{receiverId}", TOKEN, One(receivers::get)),
    Route::patch("/v1/receivers/{receiverId}", TOKEN, One(receivers::update)),
    Route::delete("/v1/receivers/{receiverId}", TOKEN, One(receivers::delete)),
    // The daemon writes the tables itself, so there is no token of the vendor's storage to refresh.
    Route::post("/v1/receivers/{receiverId}/tokens/refresh", TOKEN, One(receivers::get)),
    Route::post("/v1/receivers/{receiverId}/exports", TOKEN, One(exports::create)),
    Route::get("/v1/receivers/{receiverId}/exports", TOKEN, One(exports::list)),
    Route::get("/v1/receivers/{receiverId}/exports/{exportId}", TOKEN, Export(exports::get)),
    Route::patch("/v1/receivers/{receiverId}/exports/{exportId}", TOKEN, Export(exports::update)),
    Route::delete("/v1/receivers/{receiverId}/exports/{exportId}", TOKEN, Export(exports::delete)),
    Route::get(TASK, TOKEN, One(task)),
    Route::post("/v1/import/{projectId}/{receiverId}/{secret}", Access::Secret, BufferRoute::Import),
];

/// The routes of this contract.
fn served() -> Vec<RouteInfo> {
    let mut served = route::served(ROUTES);
    // OpenAPI cannot express a parameter of several segments.
    for route in served.iter_mut().filter(|route| route.template == TASK) {
        route.template = "/v1/tasks/{taskId}";
    }
    served
}

/// Path prefixes of this contract. [`PATHS`] has its exact paths.
const PREFIXES: [&str; 4] = ["/v1/receivers", "/v1/import", "/v1/tasks", "/v1/documentation"];
const PATHS: [&str; 5] = ["/", "/v1", "/v1/", "/health-check", "/health-check/"];

pub static ENTRY: ContractEntry = ContractEntry {
    tag: batch::Tag::Keboola,
    names_requests: true,
    is_for_pages: true,
    section: Some(SECTION),
    check: |sections| sections.get::<KeboolaSection>(SECTION).map(drop),
    words: &WORDS,
    takes,
    served,
    openapi: OPENAPI,
    open: |sections, control| Ok(Arc::new(KeboolaBuffer::new(sections.get(SECTION)?, control))),
};

impl KeboolaBuffer {
    fn new(settings: KeboolaSection, control: Arc<Control>) -> Self {
        let receivers = Collection::new(Arc::clone(&control), CATALOG_NAME, "receiver");
        Self {
            common: KeboolaContext::new(settings, control),
            receivers,
            documentation: Documentation::new(),
        }
    }
}

/// Returns whether this contract owns the path.
fn takes(path: &str) -> bool {
    let below = |prefix: &&str| path.strip_prefix(*prefix);
    PATHS.contains(&path)
        || PREFIXES.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Contract for KeboolaBuffer {
    fn begin(&self) -> Result<(), CatalogError> {
        for (project, document) in self.receivers.readable()? {
            streams::publish(&self.common.control, &project, &BufferReceiver::from_document(document));
        }
        Ok(())
    }

    fn parse<'a>(&'a self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject> {
        if *head.method == Method::OPTIONS && route::is_known(ROUTES, head.path) {
            return Ok(Parsed::Answer(preflight()));
        }
        let (route, parameters) = find(&head)?;
        Ok(match route.call {
            BufferRoute::Import => {
                let receive = import::receive(&self.common, &head, &parameters);
                Parsed::Receive(receive.map_err(Reject::close)?)
            }
            Fixed(answer) => Parsed::Answer(answer()),
            All(_) | One(_) | Export(_) => {
                let access = if has_token(head.headers) { route.access } else { PUBLIC };
                Parsed::Manage(Manage { access, credential: credential(&head) })
            }
        })
    }

    fn manage(&self, call: &Call<'_>) -> Result<Managed, Reject> {
        let (route, parameters) = find(&call.head)?;
        let request = BufferRequest { buffer: self, call };
        let parameter = |at: usize| parameters.get(at).map_or("", |parameter| &**parameter);
        let reply = match route.call {
            // Answered in `parse`.
            BufferRoute::Import | Fixed(_) => Err(no_endpoint(&call.head)),
            All(answer) => answer(&request),
            One(answer) => answer(&request, parameter(0)),
            Export(answer) => answer(&request, parameter(0), parameter(1)),
        };
        reply.map(Managed::Reply)
    }

    fn accepted(&self, _head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
        import::accepted(accepted)
    }

    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply {
        rejected(head, reject)
    }

    fn finish(&self, reply: &mut Reply, told: &Told) {
        reply::name_request(reply, &told.named);
    }

    fn extras(&self) -> Option<&dyn Extras> {
        None
    }
}

fn rejected(head: &RequestHead<'_>, reject: &Reject) -> Reply {
    let kind = reject.kind;
    let (status, name) = match kind {
        RejectKind::Unauthenticated | RejectKind::TokenExpired => (401, "storage.tokenInvalid"),
        RejectKind::Forbidden if reject.lacks.is_some() => (401, "masterTokenRequired"),
        RejectKind::Forbidden => (403, "forbidden"),
        RejectKind::NoSuchRoute => (404, "endpointNotFound"),
        RejectKind::NoSuchStream | RejectKind::NotFound => (404, "resourceNotFound"),
        RejectKind::MethodNotAllowed => (405, "methodNotAllowed"),
        RejectKind::TooSlow => (408, "requestTimeout"),
        RejectKind::Conflict => (409, "conflict"),
        RejectKind::TooLarge => (413, "payloadTooLarge"),
        RejectKind::UnsupportedEncoding | RejectKind::UnsupportedType => (415, "unsupportedMediaType"),
        RejectKind::TooManyRequests => (429, "tooManyRequests"),
        RejectKind::Full => (507, "insufficientStorage"),
        RejectKind::Unavailable => (503, "serviceUnavailable"),
        RejectKind::Unknown | RejectKind::Internal => (500, "internalError"),
        RejectKind::Malformed | RejectKind::Unprocessable | RejectKind::LengthRequired => {
            (kind.status(), "badRequest")
        }
    };
    let message: Cow<'_, str> = match kind {
        RejectKind::Unauthenticated | RejectKind::TokenExpired => "invalid access token".into(),
        RejectKind::Forbidden if reject.lacks.is_some() => {
            "please provide a master token of a project administrator".into()
        }
        RejectKind::NoSuchRoute => format!("no endpoint found for path \"{}\"", head.path).into(),
        RejectKind::TooLarge => {
            let max = GoSize(head.named.body_max);
            format!("payload too large, the maximum size is {max}").into()
        }
        RejectKind::Full => format!("no free space in the buffer: {}", reject.external).into(),
        RejectKind::Internal => SERVICE.application_error(&head.named).into(),
        _ => (&*reject.external).into(),
    };
    SERVICE.error(head, status, reject.code.unwrap_or(name), &message)
}

fn find<'a>(head: &RequestHead<'a>) -> Result<(&'static Route<BufferRoute>, Vec<Cow<'a, str>>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        RouteMatch::Route(route, parameters) => Ok((route, parameters)),
        RouteMatch::OtherMethods(methods) => Err(Reject::method_not_allowed(head.method, methods)),
        RouteMatch::Nothing => Err(no_endpoint(head)),
    }
}

fn no_endpoint(head: &RequestHead<'_>) -> Reject {
    Reject::new(RejectKind::NoSuchRoute, format!("no such route: {}", head.path))
}

fn credential<'a>(head: &RequestHead<'a>) -> Credential<'a> {
    let token = head.headers.get(TOKEN_HEADER).and_then(|token| token.to_str().ok());
    Credential::Bearer(token.unwrap_or("").into())
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

/// Returns a task of the Buffer or the Stream API, each in its own shape.
fn task(request: &BufferRequest<'_>, id: &str) -> Result<Reply, Reject> {
    request.require()?;
    let task = tasks::find(&request.buffer.common, request.project(), id)?;
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
            assert!(takes(path), "{path}");
        }
        for path in [
            "/v0/events",
            "/v1/events/t",
            "/v1/receiversx",
            "/v1/branches/1/sources",
            "/v1/tables",
            "/stream/1/s/x",
        ] {
            assert!(!takes(path), "{path}");
        }
    }

    #[test]
    fn refusals_are_worded_as_the_contract_has_them() {
        let mut head = crate::contracts::tests::head();
        head.path = "/foo/bar";
        head.named.body_max = 1 << 20;
        let worded = |reject: &Reject| {
            let reply = rejected(&head, reject);
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
                Reject::new(RejectKind::TooLarge, ""),
                413,
                "buffer.payloadTooLarge",
                "Payload too large, the maximum size is 1MB.",
            ),
            (
                Reject::new(RejectKind::Full, "the log is full"),
                507,
                "buffer.insufficientStorage",
                "No free space in the buffer: the log is full.",
            ),
            (
                Reject::new(RejectKind::Internal, "internal error"),
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
