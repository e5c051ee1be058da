//! The token route: OAuth 2 client credentials (RFC 6749, 4.4), with answers like Keycloak's.

use crate::auth::ClientError;
use crate::contracts::oauth::{self, OAuthForm, refused};
use crate::contracts::reject::Reject;
use crate::contracts::shared::control::Control;
use crate::contracts::{Call, Reply};
use http::StatusCode;
use serde_json::json;

/// Issues a token. A requested scope is ignored, because a client's roles determine its rights.
pub(super) fn issue(control: &Control, call: &Call<'_>) -> Result<Reply, Reject> {
    let form = match OAuthForm::from_call(call) {
        Ok(form) => form,
        Err(refusal) => return Ok(refusal),
    };
    let unsupported = |message| Ok(refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", message));
    match form.get("grant_type") {
        Some("client_credentials") => {}
        None | Some("") => return unsupported("Missing form parameter: grant_type"),
        Some(_) => return unsupported("Unsupported grant_type"),
    }
    let Some((id, secret)) = form.client(call) else { return Ok(unauthorized()) };
    let issued = match control.auth.client_token(&id, &secret) {
        Ok(issued) => issued,
        Err(ClientError::Unknown) => return Ok(unauthorized()),
        Err(error) => return Err(Reject::internal(&error)),
    };
    let body = json!({
        "access_token": issued.jwt,
        "expires_in": issued.expires_in.as_secs(),
        "refresh_expires_in": 0,
        "token_type": "Bearer",
        "not-before-policy": 0,
        "scope": "email profile",
    });
    Ok(oauth::issued(&body))
}

fn unauthorized() -> Reply {
    refused(StatusCode::UNAUTHORIZED, "unauthorized_client", "Invalid client or Invalid client credentials")
}
