//! The token route: OAuth 2 client credentials (RFC 6749, 4.4), answered as Keycloak does.

use super::reply::reply;
use crate::auth::{ClientError, Credential, user_and_password};
use crate::control::Control;
use crate::http::dialect::{Call, Reply, credential};
use crate::http::reject::Reject;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::borrow::Cow;

pub(super) fn issue(control: &Control, call: &Call<'_>) -> Result<Reply, Reject> {
    let (mut id, mut secret, mut grant) = (None, None, None);
    for (key, value) in form_urlencoded::parse(&call.body) {
        let place = match &*key {
            "client_id" => &mut id,
            "client_secret" => &mut secret,
            "grant_type" => &mut grant,
            // A scope makes no difference: a client has its roles.
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Ok(refused(400, "invalid_request", &format!("{key} is given more than once")));
        }
    }
    match grant.as_deref() {
        Some("client_credentials") => {}
        None | Some("") => {
            return Ok(refused(400, "unsupported_grant_type", "Missing form parameter: grant_type"));
        }
        Some(_) => return Ok(refused(400, "unsupported_grant_type", "Unsupported grant_type")),
    }
    let (id, secret) = match (id, secret, credential(call.head.headers)) {
        (Some(id), Some(secret), _) => (id, secret),
        // RFC 6749, 2.3.1: user and password of basic authentication, each form-encoded.
        (_, None, Credential::Basic(text)) => match user_and_password(&text) {
            Some((user, password)) => (Cow::Owned(decoded(&user)), Cow::Owned(decoded(&password))),
            None => return Ok(unauthorized()),
        },
        _ => return Ok(unauthorized()),
    };
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
    Ok(uncached(reply(StatusCode::OK, &body)))
}

/// One value of a form.
fn decoded(text: &str) -> String {
    let encoded = format!("v={text}");
    let value = form_urlencoded::parse(encoded.as_bytes()).next().map(|(_, value)| value.into_owned());
    value.unwrap_or_default()
}

fn unauthorized() -> Reply {
    refused(401, "unauthorized_client", "Invalid client or Invalid client credentials")
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
