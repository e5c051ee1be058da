//! Tokens for OAuth clients (RFC 6749, client credentials), and their revocation (RFC 7009).

use super::request::FoundryRequest;
use super::words;
use crate::auth::ClientError;
use crate::contracts::Reply;
use crate::contracts::oauth::{OAuthForm, issued, refused};
use crate::contracts::reject::Reject;
use http::StatusCode;
use serde_json::json;

pub(super) fn issue(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let form = match OAuthForm::from_call(request.call) {
        Ok(form) => form,
        Err(refusal) => return Ok(refusal),
    };
    if form.get("grant_type") != Some("client_credentials") {
        let message = "The grant_type must be client_credentials.";
        return Ok(refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", message));
    }
    let Some((id, secret)) = form.client(request.call) else { return Ok(unknown_client()) };
    let asked = form.get("scope").unwrap_or("");
    let token = match request.control().auth.client_token_for(&id, &secret, &words::known(asked)) {
        Ok(token) => token,
        Err(ClientError::Unknown) => return Ok(unknown_client()),
        Err(error) => return Err(Reject::internal(&error)),
    };
    let body = json!({
        "access_token": token.jwt,
        "token_type": "bearer",
        "expires_in": token.expires_in.as_secs(),
        "scope": asked,
    });
    Ok(issued(&body))
}

/// Revokes one of the client's own tokens. Any other token is answered with 200 as well (RFC 7009, 2.2).
pub(super) fn revoke(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let form = match OAuthForm::from_call(request.call) {
        Ok(form) => form,
        Err(refusal) => return Ok(refusal),
    };
    let Some((id, secret)) = form.client(request.call) else { return Ok(unknown_client()) };
    let Some(token) = form.get("token").filter(|token| !token.is_empty()) else {
        return Ok(refused(StatusCode::BAD_REQUEST, "invalid_request", "The form has no token parameter."));
    };
    match request.control().auth.revoke_client_token(&id, &secret, token) {
        Ok(()) => Ok(issued(&json!({}))),
        Err(ClientError::Unknown) => Ok(unknown_client()),
        Err(error) => Err(Reject::internal(&error)),
    }
}

fn unknown_client() -> Reply {
    refused(StatusCode::UNAUTHORIZED, "invalid_client", "The client id or the client secret is invalid.")
}
