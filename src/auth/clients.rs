//! OAuth clients (RFC 6749, client credentials), which are API keys in other contracts' words: who may ask for short-lived
//! tokens, the tokens they get, and the secrets by which tokens are made.

use super::manage::{ManageError, check_name};
use super::scope::Scope;
use super::words::Vocabulary;
use super::{Auth, Caller, Identity, jwt, secret};
use crate::catalog::{Client, ClientSecret, ClientToken};
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
    /// The newest first.
    pub secrets: Vec<SecretInfo>,
}

/// A client's secret, without what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    pub id: String,
    pub created_at: Micros,
    /// From when on neither it nor tokens made by it are good; `None` for the one in use.
    pub retires_at: Option<Micros>,
}

/// A token that was made for a client, without what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeToken {
    pub jti: String,
    /// The secret it was made by.
    pub sid: String,
    /// The name of whoever asked for it.
    pub made_by: String,
    pub created_at: Micros,
    pub expires_at: Micros,
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
        self.catalog.clients()?.iter().map(|client| info(client, &self.words)).collect()
    }

    /// A client by its id, or its name.
    pub fn client(&self, id: &str) -> Result<Option<ClientInfo>, ManageError> {
        self.catalog.client(id)?.as_ref().map(|client| info(client, &self.words)).transpose()
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
            let scopes = self.words.role(role)?;
            if let Some(scope) = scopes.into_iter().find(|scope| !maker.may_grant(scope)) {
                return Err(ManageError::NotYours(scope));
            }
        }
        if maker.project.is_some() && maker.project.as_deref() != request.project.as_deref() {
            return Err(ManageError::Invalid("who is of a project makes clients of that project".to_owned()));
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
        tracing::info!(client = added.name, roles = added.roles, by = %maker.name, "a client was made");
        Ok((info(&added, &self.words)?, value))
    }

    /// Deletes a client by its id or name. The tokens it got cease at once.
    pub fn delete_client(&self, maker: &Caller, id: &str) -> Result<ClientInfo, ManageError> {
        let _changing = self.changing.lock();
        let found = self.own_client(maker, id)?;
        self.catalog.delete_client(found.id)?;
        self.change(|snapshot| drop(snapshot.clients.remove(found.client_id.as_str())));
        tracing::info!(client = found.name, by = %maker.name, "a client was deleted");
        info(&found, &self.words)
    }

    /// Puts a new secret of a client into use, which is shown this once. The one before it, and the tokens made by it, are
    /// good for `grace` (by default, what is configured); those before that cease at once.
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
        tracing::info!(client = found.name, by = %maker.name, "a client has a new secret");
        Ok((self.reload_client(&found)?, value))
    }

    /// Forgets at once the secrets of a client that are not in use any more, or all: tokens that were made by them cease.
    pub fn revoke_client_secrets(
        &self,
        maker: &Caller,
        id: &str,
        all: bool,
    ) -> Result<ClientInfo, ManageError> {
        let _changing = self.changing.lock();
        let found = self.own_client(maker, id)?;
        self.catalog.revoke_client_secrets(found.id, all)?;
        tracing::info!(client = found.name, all, by = %maker.name, "secrets of a client were revoked");
        self.reload_client(&found)
    }

    /// A token for a client that is good until `expires_at`, or as long as the secret in use now is. It is shown this
    /// once: what is kept is that there is one.
    pub fn make_client_token(
        &self,
        maker: &Caller,
        id: &str,
        expires_at: Micros,
    ) -> Result<(MadeToken, String), ManageError> {
        let client = self.own_client(maker, id)?;
        let now = self.clock.now();
        if expires_at <= now {
            return Err(ManageError::Invalid("the token would have expired already".to_owned()));
        }
        let Some(secret) = client.secrets.iter().find(|secret| secret.retires_at.is_none()) else {
            let message = "all secrets of the client were revoked; rotate it first".to_owned();
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
        // Tokens end with a whole second.
        let expires_at = expires_at.div_euclid(SECOND) * SECOND;
        let signed = self.sign(claims, expires_at)?;
        let sid = secret.sid.clone();
        let kept = ClientToken { jti, sid, made_by: maker.name.to_string(), created_at: now, expires_at };
        self.catalog.add_client_token(client.id, &kept)?;
        tracing::info!(client = client.name, jti = kept.jti, by = %maker.name, "a token of a client was made");
        Ok((made(kept), signed))
    }

    /// The tokens that were made for a client and have not expired, the newest first.
    pub fn client_tokens(&self, maker: &Caller, id: &str) -> Result<Vec<MadeToken>, ManageError> {
        let client = self.own_client(maker, id)?;
        Ok(self.catalog.client_tokens(client.id)?.into_iter().map(made).collect())
    }

    /// A short-lived token for a client that shows a secret of its own.
    pub fn client_token(&self, client_id: &str, client_secret: &str) -> Result<IssuedToken, ClientError> {
        self.client_token_for(client_id, client_secret, &[])
    }

    /// The same for no more than what these words of a contract mean; none of them: for all that it may.
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

    /// Who shows this id and secret, and which of the client's secrets it is.
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

    /// Makes a token that a client was given good for nothing. One that is not the client's is none of its business,
    /// and stays as it is.
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

    fn new_secret(&self) -> (String, ClientSecret) {
        let value = secret::make(secret::CLIENT_SECRET_PREFIX);
        let sid = uuid::Uuid::new_v4().simple().to_string();
        let (hash, created_at) = (secret::hash(&value), self.clock.now());
        (value, ClientSecret { sid, hash, created_at, retires_at: None })
    }

    /// A client whose rights `maker` has, or may give.
    fn own_client(&self, maker: &Caller, id: &str) -> Result<Client, ManageError> {
        let missing = || ManageError::Missing { what: WHAT, id: id.to_owned() };
        let found = self.catalog.client(id)?.ok_or_else(missing)?;
        // What is another project's is not even there.
        if maker.project.is_some() && maker.project.as_deref() != found.project.as_deref() {
            return Err(missing());
        }
        let scopes = self.words.roles(&found.roles).unwrap_or_else(|_| vec![Scope::Admin]);
        match scopes.into_iter().find(|scope| !maker.may_grant(scope)) {
            Some(scope) => Err(ManageError::NotYours(scope)),
            None => Ok(found),
        }
    }

    /// The lock must be held.
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

/// A caller with no more rights than a token's words mean. Without any, all that it has.
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
