//! What the token routes of all contracts share: reading the form with a client's credentials, and the answers
//! (RFC 6749, 2.3.1, 4.4 and 5).

use super::{Call, Credential, Reply, credential};
use crate::auth::user_and_password;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashMap;

/// The form fields of a request.
pub(super) struct OAuthForm<'a>(HashMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> OAuthForm<'a> {
    /// # Errors
    /// The answer to a form that repeats a field.
    pub(super) fn from_call(call: &'a Call<'_>) -> Result<Self, Reply> {
        let mut fields = HashMap::new();
        for (key, value) in form_urlencoded::parse(&call.body) {
            let again = format!("{key} is given more than once");
            if fields.insert(key, value).is_some() {
                return Err(refused(StatusCode::BAD_REQUEST, "invalid_request", &again));
            }
        }
        Ok(Self(fields))
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| &**value)
    }

    /// Client id and secret, from the form or from basic authentication, where both are form-encoded.
    pub(super) fn client(&self, call: &Call<'_>) -> Option<(String, String)> {
        if let (Some(id), Some(secret)) = (self.get("client_id"), self.get("client_secret")) {
            return Some((id.to_owned(), secret.to_owned()));
        }
        let Credential::Basic(text) = credential(call.head.headers) else { return None };
        let (user, password) = user_and_password(&text)?;
        Some((decoded(&user), decoded(&password)))
    }
}

/// Decodes one form value.
fn decoded(text: &str) -> String {
    let encoded = format!("v={text}");
    let (_, value) = form_urlencoded::parse(encoded.as_bytes()).next().expect("a form with one field");
    value.into_owned()
}

/// An answer with a token, which must not be cached.
pub(super) fn issued(body: &Value) -> Reply {
    answer(StatusCode::OK, body)
}

pub(super) fn refused(status: StatusCode, error: &str, description: &str) -> Reply {
    answer(status, &json!({"error": error, "error_description": description}))
}

fn answer(status: StatusCode, body: &Value) -> Reply {
    let headers = vec![
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Reply { status, headers, body: body.to_string().into() }
}
