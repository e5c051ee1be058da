//! `/v0/tokens`: static tokens, and JWTs signed by the daemon.
//!
//! A value is shown only when it is created. Where the contract repeats values, the answer has a hint instead.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Tinybird;
use super::words;
use crate::auth::{Auth, ManageError, Need, Scope, TokenInfo, TokenKind, TokenRequest};
use crate::contracts::Call;
use crate::contracts::reject::{Reject, RejectKind};
use serde::Deserialize;
use serde_json::{Value, json};

/// The token fields of a request, from its query, form or JSON. Fields that are left out keep their values.
#[derive(Debug, Default, Deserialize)]
struct TokenFields {
    name: Option<String>,
    description: Option<String>,
    scopes: Option<Vec<AskedScope>>,
    limits: Option<TokenRateLimit>,
    /// Seconds since the epoch. If set, the token is a JWT.
    expiration_time: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum AskedScope {
    Text(String),
    Object {
        #[serde(rename = "type")]
        kind: String,
        resource: Option<String>,
        filter: Option<String>,
    },
}

#[derive(Debug, Deserialize)]
struct TokenRateLimit {
    rps: Option<u32>,
}

pub(super) fn list(tinybird: &Tinybird) -> Result<Value, Reject> {
    let tokens = tinybird.control.auth.tokens()?;
    Ok(json!({"tokens": tokens.iter().map(shown).collect::<Vec<_>>()}))
}

pub(super) fn get(tinybird: &Tinybird, call: &Call<'_>, id: &str) -> Result<Value, Reject> {
    Ok(shown(&visible(&tinybird.control.auth, call, id)?))
}

pub(super) fn refresh(tinybird: &Tinybird, call: &Call<'_>, id: &str) -> Result<Value, Reject> {
    let (token, value) = tinybird.control.auth.refresh_token(&call.caller, id)?;
    Ok(with_value(&token, &value))
}

pub(super) fn delete(tinybird: &Tinybird, call: &Call<'_>, id: &str) -> Result<Value, Reject> {
    tinybird.control.auth.revoke_token(&call.caller, id)?;
    Ok(json!({"ok": true}))
}

pub(super) fn make(tinybird: &Tinybird, call: &Call<'_>) -> Result<Value, Reject> {
    let auth = &tinybird.control.auth;
    let asked = asked(call)?;
    let name = asked.name.clone().ok_or_else(|| Reject::malformed("The 'name' parameter is required"))?;
    let request = TokenRequest {
        name,
        description: asked.description.clone().unwrap_or_default(),
        scopes: asked.scopes()?.unwrap_or_default(),
        origins: None,
        rps: asked.limits.as_ref().and_then(|limits| limits.rps),
        project: None,
        expires_at: None,
    };
    let Some(seconds) = asked.expiration_time else {
        let made = auth.create_token(&call.caller, TokenKind::Token, Some(&words::TOKEN), &request);
        let (token, value) = made.map_err(worded)?;
        return Ok(with_value(&token, &value));
    };
    if let Some(scope) =
        request.scopes.iter().find(|scope| !matches!(scope, Scope::Ingest(_) | Scope::Read(_)))
    {
        let words = words::to_words(std::slice::from_ref(scope));
        let word = words.first().map_or_else(String::new, ToString::to_string);
        let message =
            format!("JWTs can only have the scopes DATASOURCES:APPEND and DATASOURCES:READ, not {word}");
        return Err(Reject::malformed(message));
    }
    let expires_at = seconds.checked_mul(1_000_000);
    let expires_at = expires_at.ok_or_else(|| Reject::malformed("'expiration_time' is out of range"))?;
    let request = TokenRequest { expires_at: Some(expires_at), ..request };
    let value = auth.issue_token(&call.caller, words::claims, &request).map_err(worded)?;
    Ok(json!({"token": value}))
}

pub(super) fn change(tinybird: &Tinybird, call: &Call<'_>, id: &str) -> Result<Value, Reject> {
    let auth = &tinybird.control.auth;
    let asked = asked(call)?;
    let known = auth.token(id)?;
    let request = TokenRequest {
        scopes: asked.scopes()?.unwrap_or(known.scopes),
        name: asked.name.unwrap_or(known.name),
        description: asked.description.unwrap_or(known.description),
        origins: known.origins,
        rps: asked.limits.map_or(known.rps, |limits| limits.rps),
        project: known.project,
        expires_at: known.expires_at,
    };
    Ok(shown(&auth.change_token(&call.caller, &known.id, &request).map_err(worded)?))
}

/// A token that the caller may look at: any token with the right to manage tokens, otherwise only its own.
fn visible(auth: &Auth, call: &Call<'_>, id: &str) -> Result<TokenInfo, Reject> {
    // A caller without the right must not learn whether the token exists.
    let hidden = || {
        let message = "Token has not enough permissions to get information about this token";
        Reject::new(RejectKind::Forbidden, message)
    };
    match auth.token(id) {
        Ok(token) if call.caller.may(Need::Tokens) || token.caller == call.caller.id => Ok(token),
        Ok(_) | Err(ManageError::Missing { .. }) => Err(hidden()),
        Err(error) => Err(error.into()),
    }
}

/// The parameters of the query and the body combined.
fn asked(call: &Call<'_>) -> Result<TokenFields, Reject> {
    let body = call.body.trim_ascii();
    let mut asked: TokenFields = if body.first() == Some(&b'{') {
        serde_json::from_slice(body)
            .map_err(|error| Reject::malformed(format!("The body is invalid: {error}")))?
    } else {
        TokenFields::default()
    };
    let form = if asked.is_empty() { body } else { b"" };
    let pairs = form_urlencoded::parse(call.head.query.as_bytes()).chain(form_urlencoded::parse(form));
    for (key, value) in pairs {
        match &*key {
            "name" => asked.name = Some(value.into_owned()),
            "description" => asked.description = Some(value.into_owned()),
            "scope" => asked.scopes.get_or_insert_default().push(AskedScope::Text(value.into_owned())),
            "expiration_time" => {
                let seconds = value.parse();
                let message = "'expiration_time' must be the number of seconds since 1970";
                asked.expiration_time = Some(seconds.map_err(|_| Reject::malformed(message))?);
            }
            _ => {}
        }
    }
    Ok(asked)
}

impl TokenFields {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.description.is_none() && self.scopes.is_none() && self.limits.is_none()
    }

    /// The requested scopes, if any.
    fn scopes(&self) -> Result<Option<Vec<Scope>>, Reject> {
        let Some(asked) = &self.scopes else { return Ok(None) };
        let mut scopes: Vec<Scope> = Vec::new();
        for scope in asked {
            let meant = match scope {
                AskedScope::Text(text) => words::of_text(text),
                AskedScope::Object { kind, resource, filter } => match filter.as_deref() {
                    Some(filter) if !filter.is_empty() => Err(words::WordError::Filter(filter.to_owned())),
                    _ => words::scopes_of(kind, resource.as_deref().unwrap_or("")),
                },
            };
            let meant = meant.map_err(|error| Reject::malformed(crate::error::chain(&error)))?;
            scopes.extend(meant.into_iter().filter(|scope| !scopes.contains(scope)).collect::<Vec<_>>());
        }
        Ok(Some(scopes))
    }
}

/// Translates errors to the contract's wording.
fn worded(error: ManageError) -> Reject {
    match error {
        ManageError::Taken { name, .. } => {
            Reject::new(RejectKind::Conflict, format!("A token named \"{name}\" already exists"))
        }
        ManageError::NotYours(scope) => {
            let words = words::to_words(&[scope]);
            let word = words.first().map_or_else(String::new, ToString::to_string);
            Reject::new(RejectKind::Forbidden, format!("only a token with {word} may grant it"))
        }
        error => error.into(),
    }
}

fn shown(token: &TokenInfo) -> Value {
    with_value(token, &token.hint)
}

fn with_value(token: &TokenInfo, value: &str) -> Value {
    let scope = |scope: words::WordedScope| match scope.resource {
        Some(resource) => json!({"type": scope.kind, "resource": resource}),
        None => json!({"type": scope.kind}),
    };
    json!({
        "id": token.id,
        "name": token.name,
        "description": token.description,
        "scopes": words::to_words(&token.scopes).into_iter().map(scope).collect::<Vec<_>>(),
        "token": value,
        "origin": Value::Null,
        "host": "forebay",
        "is_internal": false,
    })
}
