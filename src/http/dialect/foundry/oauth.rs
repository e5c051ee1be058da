//! Tokens for OAuth clients (RFC 6749, client credentials), and their revocation (RFC 7009).

use super::reply;
use crate::auth::{ClientError, Credential, user_and_password, words};
use crate::control::Control;
use crate::http::dialect::{Call, Reply, credential};
use crate::http::reject::Reject;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::borrow::Cow;
use std::collections::HashMap;

/// The form of a request.
struct Form<'a>(HashMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Form<'a> {
    fn of(call: &'a Call<'_>) -> Result<Self, Reply> {
        let mut fields = HashMap::new();
        for (key, value) in form_urlencoded::parse(&call.body) {
            let again = format!("{key} is given more than once");
            if fields.insert(key, value).is_some() {
                return Err(refused(400, "invalid_request", &again));
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| &**value)
    }

    /// Id and secret: of the form, or of basic authentication, where both are form-encoded (RFC 6749, 2.3.1).
    fn client(&self, call: &Call<'_>) -> Option<(String, String)> {
        if let (Some(id), Some(secret)) = (self.get("client_id"), self.get("client_secret")) {
            return Some((id.to_owned(), secret.to_owned()));
        }
        let Credential::Basic(text) = credential(call.head.headers) else { return None };
        let (user, password) = user_and_password(&text)?;
        Some((decoded(&user), decoded(&password)))
    }
}

pub(super) fn issue(control: &Control, call: &Call<'_>) -> Result<Reply, Reject> {
    let form = match Form::of(call) {
        Ok(form) => form,
        Err(refusal) => return Ok(refusal),
    };
    if form.get("grant_type") != Some("client_credentials") {
        let message = "The grant type is client_credentials.";
        return Ok(refused(400, "unsupported_grant_type", message));
    }
    let Some((id, secret)) = form.client(call) else { return Ok(unknown_client()) };
    let asked = form.get("scope").unwrap_or_default();
    let issued = match control.auth.client_token_for(&id, &secret, &words::foundry_scopes(asked)) {
        Ok(issued) => issued,
        Err(ClientError::Unknown) => return Ok(unknown_client()),
        Err(error) => return Err(Reject::internal(&error)),
    };
    let body = json!({
        "access_token": issued.jwt,
        "token_type": "bearer",
        "expires_in": issued.expires_in.as_secs(),
        "scope": asked,
    });
    Ok(uncached(reply(StatusCode::OK, &body)))
}

/// Makes a token of the client's own good for nothing. Of another one nothing is said (RFC 7009, 2.2).
pub(super) fn revoke(control: &Control, call: &Call<'_>) -> Result<Reply, Reject> {
    let form = match Form::of(call) {
        Ok(form) => form,
        Err(refusal) => return Ok(refusal),
    };
    let Some((id, secret)) = form.client(call) else { return Ok(unknown_client()) };
    let Some(token) = form.get("token").filter(|token| !token.is_empty()) else {
        return Ok(refused(400, "invalid_request", "The form has no token."));
    };
    match control.auth.revoke_client_token(&id, &secret, token) {
        Ok(()) => Ok(uncached(reply(StatusCode::OK, &json!({})))),
        Err(ClientError::Unknown) => Ok(unknown_client()),
        Err(error) => Err(Reject::internal(&error)),
    }
}

/// One value of a form.
fn decoded(text: &str) -> String {
    let encoded = format!("v={text}");
    let value = form_urlencoded::parse(encoded.as_bytes()).next().map(|(_, value)| value.into_owned());
    value.unwrap_or_default()
}

fn unknown_client() -> Reply {
    refused(401, "invalid_client", "The client or its secret is not known.")
}

fn refused(status: u16, error: &str, description: &str) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    uncached(reply(status, &json!({"error": error, "error_description": description})))
}

/// RFC 6749, 5.1.
fn uncached(mut reply: Reply) -> Reply {
    reply.headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    reply
}
