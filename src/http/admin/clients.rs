//! `/admin/v1/clients`: OAuth clients, which get short-lived tokens for their id and secret.

use super::problem::{Problem, created, ok, timestamp};
use super::tokens::nothing;
use super::{AdminRequest, Running};
use crate::auth::{Auth, ClientInfo, ClientRequest};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewClient {
    name: String,
    roles: Vec<String>,
    project: Option<String>,
}

impl Running {
    pub(super) async fn clients(&self) -> Result<Response<Full<Bytes>>, Problem> {
        let clients = self.managed(Auth::clients).await?;
        let clients: Vec<Value> = clients.iter().map(shown).collect();
        Ok(ok(&json!({"clients": clients})))
    }

    pub(super) async fn make_client(
        &self,
        request: &AdminRequest<'_>,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let NewClient { name, roles, project } = request.json()?;
        let (maker, new) = (request.caller.clone(), ClientRequest { name, roles, project });
        let (client, secret) = self.managed(move |auth| auth.create_client(&maker, &new)).await?;
        let mut body = shown(&client);
        body["client_secret"] = secret.into();
        Ok(created(&body))
    }

    pub(super) async fn delete_client(
        &self,
        request: &AdminRequest<'_>,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let (maker, id) = (request.caller.clone(), request.id().to_owned());
        self.managed(move |auth| auth.delete_client(&maker, &id)).await?;
        Ok(nothing())
    }
}

fn shown(client: &ClientInfo) -> Value {
    json!({
        "client_id": client.client_id,
        "name": client.name,
        "roles": client.roles,
        "scopes": client.scopes,
        "project": client.project,
        "created_at": timestamp(client.created_at),
    })
}
