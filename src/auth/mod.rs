//! Who sends a request, and what they may do.
//!
//! A credential is an opaque token (looked up by its SHA-256), or a signed one (RFC 7519): by a key of the daemon's
//! own, or by a client's signing token. What requests are checked against is a snapshot in memory that is replaced as
//! a whole, so a check takes no lock and what was revoked ceases with the next request. Knows nothing of HTTP.

mod caller;
mod clients;
mod credential;
mod jwt;
mod keys;
mod manage;
pub mod origin;
mod scope;
mod secret;
mod snapshot;
mod tokens;
pub mod words;

pub use caller::{Caller, CallerId, Identity};
pub use clients::{ClientError, ClientInfo, ClientRequest, IssuedToken, MadeToken, SecretInfo};
pub use credential::{Credential, user_and_password};
pub use jwt::ScopeClaim;
pub use keys::KeyInfo;
pub use manage::ManageError;
pub use origin::OriginError;
pub use scope::{Need, Scope, ScopeError, Target};
pub use secret::{alphanumeric, is_same};
pub use tokens::{TokenInfo, TokenKind, TokenRequest};

use crate::catalog::{Catalog, CatalogError};
use crate::clock::{Clock, Micros};
use arc_swap::ArcSwap;
use jwt::Claims;
use parking_lot::Mutex;
use snapshot::{KnownToken, Snapshot};
use std::sync::Arc;
use std::time::Duration;
use words::Vocabulary;

/// Longer credentials are not looked at. A signed token with many scopes has a few thousand.
const CREDENTIAL_BYTES_MAX: usize = 8 * 1024;

/// Why a credential is not enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("no authentication token")]
    Missing,
    /// Nobody's, revoked, of another daemon, or with a signature that is not good: all the same to the client.
    #[error("invalid authentication token")]
    Unknown,
    #[error("the authentication token expired")]
    Expired { at: Micros },
    /// It is known, and lacks this right.
    #[error("the token lacks the scope {0}")]
    Lacks(Scope),
    #[error("the token may not be used from this origin")]
    Origin,
    #[error("the token is for another project")]
    Project,
}

/// Settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The daemon's id: signed tokens say whose they are.
    pub instance: String,
    /// No credential is asked for: everybody is an administrator.
    pub open: bool,
    /// How long what a key signed is good after another took its place.
    pub jwt_grace: Duration,
    /// How long a client's secret is good after another took its place.
    pub client_secret_grace: Duration,
    /// How long the tokens of OAuth clients live.
    pub client_token_lifetime: Duration,
}

pub struct Auth {
    config: Config,
    /// What contracts call rights.
    words: Vocabulary,
    /// Who everybody is, if no credential is asked for.
    everybody: Option<Caller>,
    snapshot: ArcSwap<Snapshot>,
    /// Held while catalog and snapshot are changed together.
    changing: Mutex<()>,
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
}

impl Auth {
    pub fn open(
        config: Config,
        words: Vocabulary,
        catalog: Arc<Catalog>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CatalogError> {
        Ok(Self {
            everybody: config.open.then(Caller::everybody),
            config,
            snapshot: ArcSwap::from_pointee(Snapshot::load(&catalog, words.clone())?),
            words,
            changing: Mutex::default(),
            catalog,
            clock,
        })
    }

    /// Whether no credential is asked for.
    pub fn is_open(&self) -> bool {
        self.config.open
    }

    /// Who shows this credential.
    pub fn identify(&self, credential: &Credential<'_>) -> Result<Caller, AuthError> {
        if let Some(everybody) = &self.everybody {
            return Ok(everybody.clone());
        }
        let token = credential.token().ok_or(AuthError::Missing)?;
        if token.len() > CREDENTIAL_BYTES_MAX {
            return Err(AuthError::Unknown);
        }
        let snapshot = self.snapshot.load();
        // The Base64 of `{"`, with which every signed token begins and no other.
        if token.starts_with("eyJ") {
            return self.identify_signed(&snapshot, &token);
        }
        let known = snapshot.tokens.get(&secret::hash(&token)).ok_or(AuthError::Unknown)?;
        self.check_expiry(known.expires_at)?;
        Ok(known.caller.clone())
    }

    /// The same, and whether they may do what a request asks for.
    pub fn check(&self, credential: &Credential<'_>, need: Need<'_>) -> Result<Caller, AuthError> {
        let caller = self.identify(credential)?;
        caller.require(need)?;
        Ok(caller)
    }

    fn check_expiry(&self, expires_at: Option<Micros>) -> Result<(), AuthError> {
        match expires_at {
            Some(at) if at <= self.clock.now() => Err(AuthError::Expired { at }),
            _ => Ok(()),
        }
    }

    /// Which key a token says it was signed with is only where to look; a good signature and the claims decide.
    fn identify_signed(&self, snapshot: &Snapshot, token: &str) -> Result<Caller, AuthError> {
        let mut scratch = Vec::new();
        let unverified = jwt::parse(token, &mut scratch).ok_or(AuthError::Unknown)?;
        let of_daemon =
            unverified.kid().and_then(|kid| snapshot.keys.iter().find(|key| key.stored.kid == kid));
        if let Some(key) = of_daemon {
            if !unverified.is_signed_by(&key.verifier) {
                return Err(AuthError::Unknown);
            }
            let claims = unverified.claims().ok_or(AuthError::Unknown)?;
            self.check_claims(&claims)?;
            self.check_expiry(key.stored.retires_at)?;
            return match &claims.client_id {
                // Its rights are those that the client has now, and end with it.
                Some(id) => {
                    let client = snapshot.clients.get(id.as_str()).ok_or(AuthError::Unknown)?;
                    if claims.jti.as_deref().is_some_and(|jti| snapshot.revoked.contains_key(jti)) {
                        return Err(AuthError::Unknown);
                    }
                    let by = claims.sid.as_ref();
                    let secret = client.secrets.iter().find(|secret| Some(&secret.sid) == by);
                    self.check_expiry(secret.ok_or(AuthError::Unknown)?.retires_at)?;
                    Ok(clients::narrowed(&client.caller, &claims, &self.words))
                }
                None => Ok(claims.caller(&key.stored.kid, &self.words, |_| true)),
            };
        }
        let signer = snapshot.signers.iter().find(|signer| unverified.is_signed_by(&signer.verifier));
        let signer = signer.ok_or(AuthError::Unknown)?;
        let claims = unverified.claims().ok_or(AuthError::Unknown)?;
        self.check_claims(&claims)?;
        self.check_expiry(signer.token.expires_at)?;
        // Nobody can give by signing what they do not have; and what is made without being noted is for events and
        // for looking at them.
        let granted = &signer.token.caller.scopes;
        let allowed = |scope: &Scope| {
            matches!(scope, Scope::Ingest(_) | Scope::Read(_)) && granted.iter().any(|own| own.covers(scope))
        };
        Ok(claims.caller(&signer.uuid, &self.words, allowed))
    }

    fn check_claims(&self, claims: &Claims) -> Result<(), AuthError> {
        if claims.workspace_id.as_deref() != Some(&self.config.instance) {
            return Err(AuthError::Unknown);
        }
        if claims.nbf.is_some_and(|nbf| nbf.0 > self.clock.now()) {
            return Err(AuthError::Unknown);
        }
        let exp = claims.exp.ok_or(AuthError::Unknown)?;
        self.check_expiry(Some(exp.0))
    }

    /// Makes an administrator's token, if there is none that is good: shown once, stored as a hash.
    pub fn first_token(&self) -> Result<Option<String>, ManageError> {
        let snapshot = self.snapshot.load();
        let good =
            |token: &KnownToken| token.caller.may(Need::Admin) && self.check_expiry(token.expires_at).is_ok();
        if self.config.open || snapshot.tokens.values().any(good) {
            return Ok(None);
        }
        // The name may be that of one that has expired.
        let taken = snapshot.tokens.values().any(|token| *token.caller.name == *"admin");
        let name = if taken { format!("admin {}", uuid::Uuid::now_v7()) } else { "admin".to_owned() };
        let request = TokenRequest {
            name,
            description: "made at a start without one".to_owned(),
            scopes: vec![Scope::Admin],
            origins: None,
            rps: None,
            project: None,
            expires_at: None,
        };
        let made = self.create_token(&Caller::everybody(), TokenKind::Token, None, &request)?;
        Ok(Some(made.1))
    }

    /// Replaces the snapshot by one that differs from it. The lock must be held.
    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        change(&mut snapshot);
        self.snapshot.store(Arc::new(snapshot));
    }
}

#[cfg(test)]
mod tests;
