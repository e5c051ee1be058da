//! Tokens: created for an API key by a caller with that right, or issued for client credentials (RFC 6749, 4.4).

use super::{reply, tenant};
use crate::auth::ClientError;
use crate::clock::Micros;
use crate::contracts::oauth::{self, OAuthForm, refused};
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::control::Control;
use crate::contracts::{Call, Reply};
use http::StatusCode;
use serde_json::{Value, json};

/// `{"expires-at":"2026-06-14T00:24:16Z"}` creates a token that is valid until that time.
pub(super) fn make(control: &Control, call: &Call<'_>, key: &str) -> Result<Reply, Reject> {
    let tenant = tenant(&call.head)?;
    of_tenant(call, tenant)?;
    let body: Value = serde_json::from_slice(&call.body)
        .map_err(|error| Reject::malformed(format!("The body is not JSON: {error}")))?;
    let expires_at = body.get("expires-at").and_then(Value::as_str);
    let expires_at = expires_at
        .ok_or_else(|| Reject::malformed("The field \"expires-at\" is required; it must be a time"))?;
    let at: jiff::Timestamp = expires_at
        .parse()
        .map_err(|error| Reject::malformed(format!("\"expires-at\" is not a valid time: {error}")))?;
    let known = control.auth.client(key)?.filter(|known| known.project.as_deref() == Some(tenant));
    let known =
        known.ok_or_else(|| Reject::new(RejectKind::NotFound, format!("No API key {key} for {tenant}")))?;
    let (made, token) =
        control.auth.make_client_token(&call.caller, &known.client_id, at.as_microsecond())?;
    let body = json!({"token": token, "expires-at": seconds(made.expires_at)});
    Ok(reply::uncached(reply::with_id(reply::ok(&body), &call.head)))
}

fn seconds(at: Micros) -> String {
    jiff::Timestamp::from_second(at.div_euclid(1_000_000))
        .map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// Refuses a caller that belongs to another tenant.
pub(super) fn of_tenant(call: &Call<'_>, tenant: &str) -> Result<(), Reject> {
    if call.caller.allows_project(tenant) {
        return Ok(());
    }
    Err(Reject::new(RejectKind::Forbidden, "the token is for another tenant"))
}

/// A short-lived token for the id and a secret of an API key.
pub(super) fn issue(control: &Control, call: &Call<'_>) -> Result<Reply, Reject> {
    let tenant = tenant(&call.head)?;
    let form = match OAuthForm::from_call(call) {
        Ok(form) => form,
        Err(refusal) => return Ok(refusal),
    };
    let bad = |error, message| Ok(refused(StatusCode::BAD_REQUEST, error, message));
    match form.get("grant_type") {
        Some("client_credentials") => {}
        None | Some("") => return bad("invalid_request", "grant_type is missing"),
        Some(_) => return bad("unsupported_grant_type", "grant_type must be client_credentials"),
    }
    let unknown = || refused(StatusCode::UNAUTHORIZED, "invalid_client", "Unknown client or wrong secret");
    let Some((id, secret)) = form.client(call) else { return Ok(unknown()) };
    let known = control.auth.client(&id)?;
    if known.is_none_or(|known| known.project.as_deref().is_some_and(|own| own != tenant)) {
        return Ok(unknown());
    }
    let issued = match control.auth.client_token(&id, &secret) {
        Ok(issued) => issued,
        Err(ClientError::Unknown) => return Ok(unknown()),
        Err(error) => return Err(Reject::internal(&error)),
    };
    let body = json!({
        "access_token": issued.jwt,
        "expires_in": issued.expires_in.as_secs(),
        "token_type": "Bearer",
    });
    Ok(oauth::issued(&body))
}
