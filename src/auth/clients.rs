//! OAuth clients (RFC 6749, client credentials): who may ask for short-lived tokens, and the tokens they get.

use super::manage::{ManageError, check_name};
use super::scope::Scope;
use super::{Auth, Caller, Identity, jwt, secret, words};
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
        self.client_token_for(client_id, client_secret, &[])
    }

    /// The same for no more than what these words of [`words::FOUNDRY`] mean; none of them: for all that it may.
    pub fn client_token_for(
        &self,
        client_id: &str,
        client_secret: &str,
        words: &[&str],
    ) -> Result<IssuedToken, ClientError> {
        let name = self.known_client(client_id, client_secret)?.name.to_string();
        let claims = jwt::Claims {
            client_id: Some(client_id.to_owned()),
            name: Some(name),
            scopes: words.iter().map(|word| jwt::ScopeClaim::Text((*word).to_owned())).collect(),
            ..jwt::Claims::default()
        };
        let expires_in = self.config.client_token_lifetime;
        let micros = Micros::try_from(expires_in.as_micros()).unwrap_or(Micros::MAX);
        let jwt = self.sign(claims, self.clock.now().saturating_add(micros))?;
        Ok(IssuedToken { jwt, expires_in })
    }
}

impl Auth {
    /// Who shows this id and secret.
    fn known_client(&self, client_id: &str, client_secret: &str) -> Result<Caller, ClientError> {
        let given = secret::hash(client_secret);
        let snapshot = self.snapshot.load();
        let known = snapshot.clients.get(client_id).ok_or(ClientError::Unknown)?;
        if !bool::from(given.ct_eq(&known.secret_hash)) {
            return Err(ClientError::Unknown);
        }
        Ok(known.caller.clone())
    }

    /// Makes a token that a client was given good for nothing. One that is not the client's is none of its business,
    /// and stays as it is.
    pub fn revoke_client_token(
        &self,
        client_id: &str,
        client_secret: &str,
        token: &str,
    ) -> Result<(), ClientError> {
        let client = self.known_client(client_id, client_secret)?;
        let Some((jti, exp)) = self.issued_to(client_id, token) else { return Ok(()) };
        let now = self.clock.now();
        let _changing = self.changing.lock();
        // What has expired need not be remembered.
        let over: Vec<Box<str>> = self
            .snapshot
            .load()
            .revoked
            .iter()
            .filter(|(_, exp)| **exp <= now)
            .map(|(jti, _)| jti.clone())
            .collect();
        for jti in &over {
            self.catalog.forget_revoked(jti).map_err(ManageError::from)?;
        }
        if exp > now {
            self.catalog.add_revoked(&jti, exp).map_err(ManageError::from)?;
        }
        self.change(|snapshot| {
            snapshot.revoked.retain(|jti, _| !over.contains(jti));
            snapshot.revoked.insert(jti.into(), exp);
        });
        tracing::info!(client = %client.name, "a token was revoked");
        Ok(())
    }

    /// The id and the end of a token that this client was given.
    fn issued_to(&self, client_id: &str, token: &str) -> Option<(String, Micros)> {
        let snapshot = self.snapshot.load();
        let mut scratch = Vec::new();
        let unverified = jwt::parse(token, &mut scratch)?;
        let key = snapshot.keys.iter().find(|key| Some(key.stored.kid.as_str()) == unverified.kid())?;
        let claims = if unverified.is_signed_by(&key.verifier) { unverified.claims()? } else { return None };
        let own = claims.client_id.as_deref() == Some(client_id);
        own.then_some((claims.jti?, claims.exp?.0))
    }
}

/// A caller with no more rights than a token's words of Foundry's contract mean. Without any, all that it has.
pub(super) fn narrowed(caller: &Caller, claims: &jwt::Claims) -> Caller {
    if claims.scopes.is_empty() {
        return caller.clone();
    }
    let text = |claim: &jwt::ScopeClaim| match claim {
        jwt::ScopeClaim::Text(text) => words::of_foundry(text),
        jwt::ScopeClaim::Tinybird { .. } => None,
    };
    let allowed: Vec<Scope> = claims.scopes.iter().filter_map(text).flatten().collect();
    let of_own = |own: &Scope| {
        if allowed.iter().any(|allowed| allowed.covers(own)) {
            return vec![own.clone()];
        }
        allowed.iter().filter(|allowed| own.covers(allowed)).cloned().collect()
    };
    let scopes = caller.scopes.iter().flat_map(of_own).collect();
    Caller::new(Identity {
        id: caller.id,
        name: caller.name.clone(),
        scopes,
        origins: caller.origins.clone(),
        rps: caller.rps,
        project: caller.project.clone(),
    })
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
