//! `/admin/v1/tokens`: creates, lists, refreshes and revokes tokens.

use super::problem::{Problem, created, internal, ok, respond, timestamp};
use super::{AdminRequest, AdminResult, RunningDaemon};
use crate::auth::{Auth, ManageError, Scope, ScopeClaim, TokenInfo, TokenKind, TokenRequest};
use crate::clock::Micros;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The kinds of tokens: those in the catalog, and signed tokens, of which nothing is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NewTokenKind {
    Token,
    ApiKey,
    Signing,
    Jwt,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTokenBody {
    name: String,
    kind: Option<NewTokenKind>,
    #[serde(default)]
    description: String,
    scopes: Vec<String>,
    origins: Option<Vec<String>>,
    rps: Option<u32>,
    project: Option<String>,
    /// Seconds from now.
    expires_in: Option<u64>,
    /// ISO 8601.
    expires_at: Option<String>,
}

impl NewTokenBody {
    fn into_request(self, now: Micros) -> Result<TokenRequest, ManageError> {
        let expires_at = match (self.expires_in, self.expires_at) {
            (Some(_), Some(_)) => {
                return Err(ManageError::Invalid("set 'expires_in' or 'expires_at', not both".to_owned()));
            }
            (Some(seconds), None) => {
                let micros = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000));
                let at = micros.and_then(|micros| now.checked_add(micros));
                Some(at.ok_or_else(|| ManageError::Invalid("'expires_in' is too long".to_owned()))?)
            }
            (None, Some(text)) => {
                let at: Result<jiff::Timestamp, _> = text.parse();
                let invalid =
                    |error| ManageError::Invalid(format!("'expires_at' is not a valid time: {error}"));
                Some(at.map_err(invalid)?.as_microsecond())
            }
            (None, None) => None,
        };
        Ok(TokenRequest {
            name: self.name,
            description: self.description,
            scopes: self.scopes.iter().map(|text| text.parse()).collect::<Result<Vec<Scope>, _>>()?,
            origins: self.origins,
            rps: self.rps,
            project: self.project,
            expires_at,
        })
    }
}

impl RunningDaemon {
    pub(super) async fn tokens(&self) -> AdminResult {
        let tokens = self.managed(Auth::tokens).await?;
        let now = self.clock.now();
        let tokens: Vec<Value> = tokens.iter().map(|token| shown(token, now)).collect();
        Ok(ok(&json!({"tokens": tokens})))
    }

    pub(super) async fn token(&self, request: &AdminRequest<'_>) -> AdminResult {
        let id = request.id().to_owned();
        let token = self.managed(move |auth| auth.token(&id)).await?;
        Ok(ok(&shown(&token, self.clock.now())))
    }

    pub(super) async fn make_token(&self, request: &AdminRequest<'_>) -> AdminResult {
        let new: NewTokenBody = request.json()?;
        let kind = match new.kind {
            None | Some(NewTokenKind::Token) => TokenKind::Token,
            Some(NewTokenKind::ApiKey) => TokenKind::ApiKey,
            Some(NewTokenKind::Signing) => TokenKind::Signing,
            Some(NewTokenKind::Jwt) => return self.issue_token(request, new).await,
        };
        let now = self.clock.now();
        let (maker, new) = (request.caller.clone(), new.into_request(now)?);
        let made = self.managed(move |auth| auth.create_token(&maker, kind, None, &new)).await?;
        Ok(created(&with_value(&made, now)))
    }

    async fn issue_token(&self, request: &AdminRequest<'_>, new: NewTokenBody) -> AdminResult {
        let (maker, new) = (request.caller.clone(), new.into_request(self.clock.now())?);
        let about = json!({
            "kind": "jwt",
            "name": new.name,
            "scopes": new.scopes,
            "origins": new.origins,
            "rps": new.rps,
            "project": new.project,
            "expires_at": new.expires_at.map(timestamp),
        });
        let value = self.managed(move |auth| auth.issue_token(&maker, ScopeClaim::own, &new)).await?;
        let mut body = about;
        body["token"] = value.into();
        Ok(created(&body))
    }

    pub(super) async fn refresh_token(&self, request: &AdminRequest<'_>) -> AdminResult {
        let (maker, id) = (request.caller.clone(), request.id().to_owned());
        let made = self.managed(move |auth| auth.refresh_token(&maker, &id)).await?;
        Ok(ok(&with_value(&made, self.clock.now())))
    }

    pub(super) async fn revoke_token(&self, request: &AdminRequest<'_>) -> AdminResult {
        let (maker, id) = (request.caller.clone(), request.id().to_owned());
        self.managed(move |auth| auth.revoke_token(&maker, &id)).await?;
        Ok(nothing())
    }

    /// Runs work that accesses the catalog on disk on a blocking thread.
    pub(super) async fn managed<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Auth) -> Result<T, ManageError> + Send + 'static,
    ) -> Result<T, Problem> {
        let auth = Arc::clone(&self.auth);
        let done = tokio::task::spawn_blocking(move || work(&auth)).await;
        Ok(done.map_err(|error| internal(&error))??)
    }
}

/// An empty response with status 204.
pub(super) fn nothing() -> Response<Full<Bytes>> {
    let mut response = respond(StatusCode::NO_CONTENT, "application/json", String::new());
    response.headers_mut().remove(http::header::CONTENT_TYPE);
    response
}

fn shown(token: &TokenInfo, now: Micros) -> Value {
    json!({
        "id": token.id,
        "name": token.name,
        "kind": token.kind,
        "description": token.description,
        "hint": token.hint,
        "scopes": token.scopes,
        "origins": token.origins,
        "rps": token.rps,
        "project": token.project,
        "expires_at": token.expires_at.map(timestamp),
        "expired": token.expires_at.is_some_and(|at| at <= now),
        "created_at": timestamp(token.created_at),
    })
}

/// Adds the token's value, which is shown only this once.
fn with_value((token, value): &(TokenInfo, String), now: Micros) -> Value {
    let mut body = shown(token, now);
    body["token"] = value.as_str().into();
    body
}
