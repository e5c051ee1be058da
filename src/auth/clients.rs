//! OAuth clients (RFC 6749, client credentials), which some contracts call API keys: the clients that may request
//! short-lived tokens, the tokens issued to them, and the secrets that those tokens depend on.

use super::manage::{ManageError, check_name};
use super::scope::Scope;
use super::words::Vocabulary;
use super::{Auth, Caller, Identity, jwt, secret};
use crate::catalog::{Client, ClientSecret, ClientToken};
use crate::clock::Micros;
use std::time::Duration;
use subtle::ConstantTimeEq;

const WHAT: &str = "client";

/// The properties of a client to create.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    pub name: String,
    /// Roles in the vocabulary of a contract, such as `ManageStreams`, or scopes.
    pub roles: Vec<String>,
    pub project: Option<String>,
}

/// A client, without its secret.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    pub client_id: String,
    pub name: String,
    pub roles: Vec<String>,
    /// The scopes that the roles grant.
    pub scopes: Vec<Scope>,
    pub project: Option<String>,
    pub created_at: Micros,
    /// Newest first.
    pub secrets: Vec<SecretInfo>,
}

/// A client secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    pub id: String,
    pub created_at: Micros,
    /// When this secret and the tokens issued with it expire. `None` for the secret in use.
    pub retires_at: Option<Micros>,
}

/// A token created for a client, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeToken {
    pub jti: String,
    /// The secret that it was issued with.
    pub sid: String,
    /// The name of the caller that requested it.
    pub made_by: String,
    pub created_at: Micros,
    pub expires_at: Micros,
}

/// A token issued to a client.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    pub jwt: String,
    pub expires_in: Duration,
}

/// Why a client did not get a token.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client is unknown, or the secret is wrong. The caller cannot tell which.
    #[error("invalid client or invalid client credentials")]
    Unknown,
    #[error(transparent)]
    Failed(#[from] ManageError),
}

impl Auth {
    /// Returns all clients, oldest first.
    pub fn clients(&self) -> Result<Vec<ClientInfo>, ManageError> {
        self.catalog.clients()?.iter().map(|client| info(client, &self.words)).collect()
    }

    /// Returns a client by its id or name.
    pub fn client(&self, id: &str) -> Result<Option<ClientInfo>, ManageError> {
        self.catalog.client(id)?.as_ref().map(|client| info(client, &self.words)).transpose()
    }

    /// Creates a client and returns its secret, which is shown only this once.
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
            let scopes = self.words.role(role)?;
            if let Some(scope) = scopes.into_iter().find(|scope| !maker.may_grant(scope)) {
                return Err(ManageError::NotYours(scope));
            }
        }
        if maker.project.is_some() && maker.project.as_deref() != request.project.as_deref() {
            return Err(ManageError::Invalid(
                "a caller bound to a project may only create clients of that project".to_owned(),
            ));
        }
        let (value, secret) = self.new_secret();
        let client = Client {
            id: 0,
            client_id: uuid::Uuid::now_v7().to_string(),
            name: request.name.clone(),
            secrets: Vec::new(),
            roles: request.roles.join(" "),
            project: request.project.clone(),
            created_at: 0,
        };
        let _changing = self.changing.lock();
        let added = self.catalog.add_client(&client, &secret)?;
        let added = added.ok_or(ManageError::Taken { what: WHAT, name: client.name })?;
        self.change(|snapshot| snapshot.put_client(&added));
        tracing::info!(client = added.name, roles = added.roles, by = %maker.name, "client created");
        Ok((info(&added, &self.words)?, value))
    }

    /// Deletes a client by its id or name. Its tokens become invalid at once.
    pub fn delete_client(&self, maker: &Caller, id: &str) -> Result<ClientInfo, ManageError> {
        let _changing = self.changing.lock();
        let found = self.own_client(maker, id)?;
        self.catalog.delete_client(found.id)?;
        self.change(|snapshot| drop(snapshot.clients.remove(found.client_id.as_str())));
        tracing::info!(client = found.name, by = %maker.name, "client deleted");
        info(&found, &self.words)
    }

    /// Replaces the secret of a client and returns the new one, which is shown only this once. The previous secret, and
    /// the tokens issued with it, stay valid for `grace` (by default, the configured period); older secrets expire at
    /// once.
    pub fn rotate_client_secret(
        &self,
        maker: &Caller,
        id: &str,
        grace: Option<Duration>,
    ) -> Result<(ClientInfo, String), ManageError> {
        let _changing = self.changing.lock();
        let found = self.own_client(maker, id)?;
        let (value, secret) = self.new_secret();
        let grace = micros(grace.unwrap_or(self.config.client_secret_grace));
        self.catalog.rotate_client_secret(found.id, &secret, secret.created_at.saturating_add(grace))?;
        tracing::info!(client = found.name, by = %maker.name, "client secret rotated");
        Ok((self.reload_client(&found)?, value))
    }

    /// Revokes at once the secrets of a client that are no longer in use, or all of them, with the tokens issued with
    /// them.
    pub fn revoke_client_secrets(
        &self,
        maker: &Caller,
        id: &str,
        all: bool,
    ) -> Result<ClientInfo, ManageError> {
        let _changing = self.changing.lock();
        let found = self.own_client(maker, id)?;
        self.catalog.revoke_client_secrets(found.id, all)?;
        tracing::info!(client = found.name, all, by = %maker.name, "client secrets revoked");
        self.reload_client(&found)
    }

    /// Creates a token for a client, valid until `expires_at` or until the secret now in use expires. Its value is
    /// shown only this once: only the fact that it was issued is stored.
    pub fn make_client_token(
        &self,
        maker: &Caller,
        id: &str,
        expires_at: Micros,
    ) -> Result<(MadeToken, String), ManageError> {
        let client = self.own_client(maker, id)?;
        let now = self.clock.now();
        if expires_at <= now {
            return Err(ManageError::Invalid("the expiry time of the token is in the past".to_owned()));
        }
        let Some(secret) = client.secrets.iter().find(|secret| secret.retires_at.is_none()) else {
            let message = "all secrets of the client are revoked; rotate its secret first".to_owned();
            return Err(ManageError::Invalid(message));
        };
        let jti = uuid::Uuid::new_v4().to_string();
        let claims = jwt::Claims {
            jti: Some(jti.clone()),
            iss: Some("forebay".to_owned()),
            sub: Some(client.client_id.clone()),
            tenant: client.project.clone(),
            scope: Some(client.roles.clone()),
            ..claims(&client.client_id, &client.name, secret)
        };
        // Tokens expire on a whole second.
        let expires_at = expires_at.div_euclid(SECOND) * SECOND;
        let signed = self.sign(claims, expires_at)?;
        let sid = secret.sid.clone();
        let kept = ClientToken { jti, sid, made_by: maker.name.to_string(), created_at: now, expires_at };
        self.catalog.add_client_token(client.id, &kept)?;
        tracing::info!(client = client.name, jti = kept.jti, by = %maker.name, "client token created");
        Ok((made(kept), signed))
    }

    /// Returns the tokens created for a client that have not expired, newest first.
    pub fn client_tokens(&self, maker: &Caller, id: &str) -> Result<Vec<MadeToken>, ManageError> {
        let client = self.own_client(maker, id)?;
        Ok(self.catalog.client_tokens(client.id)?.into_iter().map(made).collect())
    }

    /// Issues a short-lived token to a client that presents one of its secrets.
    pub fn client_token(&self, client_id: &str, client_secret: &str) -> Result<IssuedToken, ClientError> {
        self.client_token_for(client_id, client_secret, &[])
    }

    /// Like [`Auth::client_token`], limited to what these words of a contract mean. Without words, the token has all
    /// scopes of the client.
    pub fn client_token_for(
        &self,
        client_id: &str,
        client_secret: &str,
        words: &[&str],
    ) -> Result<IssuedToken, ClientError> {
        let (caller, secret) = self.known_client(client_id, client_secret)?;
        let claims = jwt::Claims {
            scopes: words.iter().map(|word| jwt::ScopeClaim::Text((*word).to_owned())).collect(),
            ..claims(client_id, &caller.name, &secret)
        };
        let expires_in = self.config.client_token_lifetime;
        let jwt = self.sign(claims, self.clock.now().saturating_add(micros(expires_in)))?;
        Ok(IssuedToken { jwt, expires_in })
    }

    /// Authenticates a client by id and secret, and returns which of its secrets was presented.
    fn known_client(
        &self,
        client_id: &str,
        client_secret: &str,
    ) -> Result<(Caller, ClientSecret), ClientError> {
        let given = secret::hash(client_secret);
        let snapshot = self.snapshot.load();
        let known = snapshot.clients.get(client_id).ok_or(ClientError::Unknown)?;
        let is_good = |secret: &&ClientSecret| {
            bool::from(given.ct_eq(&secret.hash)) && self.check_expiry(secret.retires_at).is_ok()
        };
        let secret = known.secrets.iter().find(is_good).ok_or(ClientError::Unknown)?;
        Ok((known.caller.clone(), secret.clone()))
    }

    /// Revokes a token issued to this client. A token of another client is left alone, and that is not an error.
    pub fn revoke_client_token(
        &self,
        client_id: &str,
        client_secret: &str,
        token: &str,
    ) -> Result<(), ClientError> {
        let (client, _) = self.known_client(client_id, client_secret)?;
        let Some((jti, exp)) = self.issued_to(client_id, token) else { return Ok(()) };
        let now = self.clock.now();
        let _changing = self.changing.lock();
        // Expired tokens need no entry in the revocation list.
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
        tracing::info!(client = %client.name, "client token revoked");
        Ok(())
    }

    /// Returns the id and the expiry time of a token, if it was issued to this client.
    fn issued_to(&self, client_id: &str, token: &str) -> Option<(String, Micros)> {
        let snapshot = self.snapshot.load();
        let mut scratch = Vec::new();
        let unverified = jwt::parse(token, &mut scratch)?;
        let key = snapshot.keys.iter().find(|key| Some(key.stored.kid.as_str()) == unverified.kid())?;
        let claims = if unverified.is_signed_by(&key.verifier) { unverified.claims()? } else { return None };
        let own = claims.client_id.as_deref() == Some(client_id);
        own.then_some((claims.jti?, claims.exp?.0))
    }

    fn new_secret(&self) -> (String, ClientSecret) {
        let value = secret::make(secret::CLIENT_SECRET_PREFIX);
        let sid = uuid::Uuid::new_v4().simple().to_string();
        let (hash, created_at) = (secret::hash(&value), self.clock.now());
        (value, ClientSecret { sid, hash, created_at, retires_at: None })
    }

    /// Returns a client whose scopes `maker` may all grant.
    fn own_client(&self, maker: &Caller, id: &str) -> Result<Client, ManageError> {
        let missing = || ManageError::Missing { what: WHAT, id: id.to_owned() };
        let found = self.catalog.client(id)?.ok_or_else(missing)?;
        // Clients of another project are reported as missing.
        if maker.project.is_some() && maker.project.as_deref() != found.project.as_deref() {
            return Err(missing());
        }
        // Of a role that cannot be read, nobody knows what it allows: only who may do everything manages the client.
        let scopes = self.words.roles(&found.roles).unwrap_or_else(|_| vec![Scope::Admin]);
        match scopes.into_iter().find(|scope| !maker.may_grant(scope)) {
            Some(scope) => Err(ManageError::NotYours(scope)),
            None => Ok(found),
        }
    }

    /// The caller must hold the lock.
    fn reload_client(&self, client: &Client) -> Result<ClientInfo, ManageError> {
        let missing = || ManageError::Missing { what: WHAT, id: client.client_id.clone() };
        let client = self.catalog.client(&client.client_id)?.ok_or_else(missing)?;
        self.change(|snapshot| snapshot.put_client(&client));
        info(&client, &self.words)
    }
}

const SECOND: Micros = 1_000_000;

fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}

fn claims(client_id: &str, name: &str, secret: &ClientSecret) -> jwt::Claims {
    jwt::Claims {
        client_id: Some(client_id.to_owned()),
        name: Some(name.to_owned()),
        sid: Some(secret.sid.clone()),
        ..jwt::Claims::default()
    }
}

/// The caller, limited to the scopes that the words in a token mean. A token without words has all its scopes.
pub(super) fn narrowed(caller: &Caller, claims: &jwt::Claims, words: &Vocabulary) -> Caller {
    if claims.scopes.is_empty() {
        return caller.clone();
    }
    let text = |claim: &jwt::ScopeClaim| match claim {
        jwt::ScopeClaim::Text(text) => words.word(text),
        jwt::ScopeClaim::Typed { .. } => None,
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

fn made(token: ClientToken) -> MadeToken {
    let ClientToken { jti, sid, made_by, created_at, expires_at } = token;
    MadeToken { jti, sid, made_by, created_at, expires_at }
}

fn info(client: &Client, words: &Vocabulary) -> Result<ClientInfo, ManageError> {
    Ok(ClientInfo {
        client_id: client.client_id.clone(),
        name: client.name.clone(),
        roles: client.roles.split_ascii_whitespace().map(str::to_owned).collect(),
        scopes: words.roles(&client.roles)?,
        project: client.project.clone(),
        created_at: client.created_at,
        secrets: client.secrets.iter().map(shown).collect(),
    })
}

fn shown(secret: &ClientSecret) -> SecretInfo {
    SecretInfo { id: secret.sid.clone(), created_at: secret.created_at, retires_at: secret.retires_at }
}
