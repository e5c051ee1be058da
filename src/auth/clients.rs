//! OAuth clients (RFC 6749, client credentials): who may ask for short-lived tokens, and the tokens they get.

use super::manage::{ManageError, check_name};
use super::scope::Scope;
use super::{Auth, Caller, jwt, secret, words};
use crate::catalog::Client;
use crate::clock::Micros;
use std::time::Duration;
use subtle::ConstantTimeEq;

const WHAT: &str = "client";

/// What a client is to be.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    pub name: String,
    /// Roles in a contract's words, such as `ManageStreams`, or scopes.
    pub roles: Vec<String>,
    pub project: Option<String>,
}

/// A client, without its secret.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    pub client_id: String,
    pub name: String,
    pub roles: Vec<String>,
    /// What the roles mean.
    pub scopes: Vec<Scope>,
    pub project: Option<String>,
    pub created_at: Micros,
}

/// A token that a client was given.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    pub jwt: String,
    pub expires_in: Duration,
}

/// Why a client got no token.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No such client, or not its secret: all the same to who asks.
    #[error("invalid client or invalid client credentials")]
    Unknown,
    #[error(transparent)]
    Failed(#[from] ManageError),
}

impl Auth {
    /// All clients, the oldest first.
    pub fn clients(&self) -> Result<Vec<ClientInfo>, ManageError> {
        self.catalog.clients()?.iter().map(info).collect()
    }

    /// Makes a client and returns its secret, which is shown this once.
    pub fn create_client(
        &self,
        maker: &Caller,
        request: &ClientRequest,
    ) -> Result<(ClientInfo, String), ManageError> {
        check_name(WHAT, &request.name)?;
        if let Some(project) = &request.project {
            check_name("project", project)?;
        }
        if request.roles.is_empty() {
            return Err(ManageError::Invalid("a client needs a role, such as ManageStreams".to_owned()));
        }
        for role in &request.roles {
            let scopes = words::of_role(role)?;
            if let Some(scope) = scopes.into_iter().find(|scope| !maker.may_grant(scope)) {
                return Err(ManageError::NotYours(scope));
            }
        }
        let value = secret::make(secret::CLIENT_SECRET_PREFIX);
        let client = Client {
            id: 0,
            client_id: uuid::Uuid::now_v7().to_string(),
            name: request.name.clone(),
            secret_hash: secret::hash(&value),
            roles: request.roles.join(" "),
            project: request.project.clone(),
            created_at: 0,
        };
        let _changing = self.changing.lock();
        let added = self.catalog.add_client(&client)?;
        let added = added.ok_or(ManageError::Taken { what: WHAT, name: client.name })?;
        self.change(|snapshot| snapshot.put_client(&added));
        tracing::info!(client = added.name, roles = added.roles, by = %maker.name, "a client was made");
        Ok((info(&added)?, value))
    }

    /// Deletes a client by its id or name. The tokens it got cease at once.
    pub fn delete_client(&self, maker: &Caller, id: &str) -> Result<ClientInfo, ManageError> {
        let _changing = self.changing.lock();
        let found = self.catalog.client(id)?;
        let found = found.ok_or_else(|| ManageError::Missing { what: WHAT, id: id.to_owned() })?;
        let scopes = words::of_roles(&found.roles).unwrap_or_else(|_| vec![Scope::Admin]);
        if let Some(scope) = scopes.into_iter().find(|scope| !maker.may_grant(scope)) {
            return Err(ManageError::NotYours(scope));
        }
        self.catalog.delete_client(found.id)?;
        self.change(|snapshot| drop(snapshot.clients.remove(found.client_id.as_str())));
        tracing::info!(client = found.name, by = %maker.name, "a client was deleted");
        info(&found)
    }

    /// A short-lived token for a client that shows its secret.
    pub fn client_token(&self, client_id: &str, client_secret: &str) -> Result<IssuedToken, ClientError> {
        let given = secret::hash(client_secret);
        let snapshot = self.snapshot.load();
        let known = snapshot.clients.get(client_id).ok_or(ClientError::Unknown)?;
        if !bool::from(given.ct_eq(&known.secret_hash)) {
            return Err(ClientError::Unknown);
        }
        let name = Some(known.caller.name.to_string());
        let claims = jwt::Claims { client_id: Some(client_id.to_owned()), name, ..jwt::Claims::default() };
        let expires_in = self.config.client_token_lifetime;
        let micros = Micros::try_from(expires_in.as_micros()).unwrap_or(Micros::MAX);
        let jwt = self.sign(claims, self.clock.now().saturating_add(micros))?;
        Ok(IssuedToken { jwt, expires_in })
    }
}

fn info(client: &Client) -> Result<ClientInfo, ManageError> {
    Ok(ClientInfo {
        client_id: client.client_id.clone(),
        name: client.name.clone(),
        roles: client.roles.split_ascii_whitespace().map(str::to_owned).collect(),
        scopes: words::of_roles(&client.roles)?,
        project: client.project.clone(),
        created_at: client.created_at,
    })
}
