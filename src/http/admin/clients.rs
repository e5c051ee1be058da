//! `/admin/v1/clients`: OAuth clients (also called API keys), their secrets, and the tokens created for them.

use super::problem::{created, ok, timestamp};
use super::schema::flag;
use super::tokens::nothing;
use super::{AdminRequest, AdminResult, RunningDaemon};
use crate::auth::{Auth, ClientInfo, ClientRequest, MadeToken, SecretInfo};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewClient {
    name: String,
    roles: Vec<String>,
    project: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretRotation {
    /// Seconds for which the previous secret stays valid. Default: `auth.client_secret_grace`.
    grace: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewClientToken {
    /// The lifetime of the token, in days.
    days: u32,
}

/// One day in microseconds.
const DAY: i64 = 86_400_000_000;

impl RunningDaemon {
    pub(super) async fn clients(&self) -> AdminResult {
        let clients = self.managed(Auth::clients).await?;
        let clients: Vec<Value> = clients.iter().map(shown).collect();
        Ok(ok(&json!({"clients": clients})))
    }

    pub(super) async fn make_client(&self, request: &AdminRequest<'_>) -> AdminResult {
        let NewClient { name, roles, project } = request.json()?;
        let (maker, new) = (request.caller.clone(), ClientRequest { name, roles, project });
        let (client, secret) = self.managed(move |auth| auth.create_client(&maker, &new)).await?;
        let mut body = shown(&client);
        body["client_secret"] = secret.into();
        Ok(created(&body))
    }

    pub(super) async fn delete_client(&self, request: &AdminRequest<'_>) -> AdminResult {
        let (maker, id) = (request.caller.clone(), request.id().to_owned());
        self.managed(move |auth| auth.delete_client(&maker, &id)).await?;
        Ok(nothing())
    }

    pub(super) async fn rotate_client(&self, request: &AdminRequest<'_>) -> AdminResult {
        let SecretRotation { grace } = request.json()?;
        let (maker, id) = (request.caller.clone(), request.id().to_owned());
        let grace = grace.map(Duration::from_secs);
        let (client, secret) =
            self.managed(move |auth| auth.rotate_client_secret(&maker, &id, grace)).await?;
        let mut body = shown(&client);
        body["client_secret"] = secret.into();
        Ok(created(&body))
    }

    pub(super) async fn revoke_client(&self, request: &AdminRequest<'_>) -> AdminResult {
        let (maker, id) = (request.caller.clone(), request.id().to_owned());
        let all = flag(request.query, "all")?;
        let client = self.managed(move |auth| auth.revoke_client_secrets(&maker, &id, all)).await?;
        Ok(ok(&shown(&client)))
    }

    pub(super) async fn client_tokens(&self, request: &AdminRequest<'_>) -> AdminResult {
        let (maker, id) = (request.caller.clone(), request.id().to_owned());
        let tokens = self.managed(move |auth| auth.client_tokens(&maker, &id)).await?;
        let tokens: Vec<Value> = tokens.iter().map(made).collect();
        Ok(ok(&json!({"tokens": tokens})))
    }

    pub(super) async fn make_client_token(&self, request: &AdminRequest<'_>) -> AdminResult {
        let NewClientToken { days } = request.json()?;
        let (maker, id) = (request.caller.clone(), request.id().to_owned());
        let expires_at = self.clock.now().saturating_add(i64::from(days).saturating_mul(DAY));
        let (token, value) =
            self.managed(move |auth| auth.make_client_token(&maker, &id, expires_at)).await?;
        let mut body = made(&token);
        body["token"] = value.into();
        Ok(created(&body))
    }
}

fn made(token: &MadeToken) -> Value {
    json!({
        "id": token.jti,
        "secret": token.sid,
        "made_by": token.made_by,
        "created_at": timestamp(token.created_at),
        "expires_at": timestamp(token.expires_at),
    })
}

fn shown(client: &ClientInfo) -> Value {
    let secret = |secret: &SecretInfo| {
        json!({
            "id": secret.id,
            "created_at": timestamp(secret.created_at),
            "retires_at": secret.retires_at.map(timestamp),
        })
    };
    json!({
        "client_id": client.client_id,
        "name": client.name,
        "roles": client.roles,
        "scopes": client.scopes,
        "project": client.project,
        "created_at": timestamp(client.created_at),
        "secrets": client.secrets.iter().map(secret).collect::<Vec<_>>(),
    })
}
