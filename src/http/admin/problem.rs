//! Responses of the admin listener: JSON, and errors as RFC 9457 problem details.

use crate::auth::ManageError;
use crate::catalog::CatalogError;
use crate::contracts::reject::Reject;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full as FullBody;
use serde_json::{Value, json};

/// An error, sent as RFC 9457 problem details.
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    /// A header that the status requires.
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), header: None }
    }

    pub(super) fn header(self, name: HeaderName, value: impl AsRef<str>) -> Self {
        Self { header: HeaderValue::from_str(value.as_ref()).ok().map(|value| (name, value)), ..self }
    }

    pub(super) fn into_response(self) -> Response<FullBody<Bytes>> {
        let title = self.status.canonical_reason().unwrap_or("error");
        let body = json!({"type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail});
        let mut response = respond(self.status, "application/problem+json", body.to_string());
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<ManageError> for Problem {
    fn from(error: ManageError) -> Self {
        Reject::from(error).into()
    }
}

impl From<Reject> for Problem {
    fn from(reject: Reject) -> Self {
        if let Some(internal) = &reject.internal {
            tracing::error!(error = %internal, "admin request failed");
        }
        let status = StatusCode::from_u16(reject.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = Self::new(status, reject.external);
        if status == StatusCode::UNAUTHORIZED {
            return problem.header(header::WWW_AUTHENTICATE, "Bearer");
        }
        problem
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let status = match error {
            CatalogError::Name(_) | CatalogError::Schema(_) => StatusCode::BAD_REQUEST,
            CatalogError::NoSuchStream | CatalogError::NoSuchProposal(_) => StatusCode::NOT_FOUND,
            CatalogError::Exists(_)
            | CatalogError::StaleVersion { .. }
            | CatalogError::LosesData(_)
            | CatalogError::Conflict => StatusCode::CONFLICT,
            CatalogError::Sqlite { .. }
            | CatalogError::Io(_)
            | CatalogError::Newer { .. }
            | CatalogError::Document { .. } => {
                return internal(&error);
            }
        };
        Self::new(status, error.to_string())
    }
}

pub(super) fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<FullBody<Bytes>> {
    let mut response = Response::new(FullBody::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(super) fn ok(body: &Value) -> Response<FullBody<Bytes>> {
    respond(StatusCode::OK, "application/json", format!("{body:#}\n"))
}

pub(super) fn created(body: &Value) -> Response<FullBody<Bytes>> {
    respond(StatusCode::CREATED, "application/json", format!("{body:#}\n"))
}

pub(super) fn internal(error: &dyn std::error::Error) -> Problem {
    tracing::error!(error = %crate::error::chain(error), "admin request failed");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
}

/// Runs work that accesses the catalog on disk on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(internal(&error)),
    }
}

/// `2026-11-20T12:00:00.000001Z`
pub(super) fn timestamp(at: i64) -> String {
    jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(super) fn limit(query: &str, default: usize, max: usize) -> Result<usize, Problem> {
    let Some(text) = parameter(query, "limit") else { return Ok(default) };
    let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, format!("'limit' must be a number from 1 to {max}"))
    })
}
