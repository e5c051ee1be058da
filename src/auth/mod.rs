//! Authentication and authorization: who sends a request, and what the caller may do.
//!
//! A credential is an opaque token (looked up by its SHA-256) or a signed token (RFC 7519), signed by a key of the
//! daemon or by a client's signing token. Requests are checked against a snapshot in memory that is replaced as a
//! whole, so a check takes no lock and a revocation applies from the next request on. Independent of HTTP.

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
pub use scope::{Need, Scope, ScopeError, ScopeTarget};
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

/// Longer credentials are rejected unread. A signed token with many scopes has a few thousand bytes.
const CREDENTIAL_BYTES_MAX: usize = 8 * 1024;

/// Why a credential was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("no authentication token")]
    Missing,
    /// Unknown, revoked, of another daemon, or with an invalid signature. The client cannot tell which.
    #[error("invalid authentication token")]
    Unknown,
    #[error("the authentication token expired")]
    Expired { at: Micros },
    /// The credential is valid but lacks this scope.
    #[error("the token lacks the scope {0}")]
    Lacks(Scope),
    #[error("the token may not be used from this origin")]
    Origin,
    #[error("the token is for another project")]
    Project,
}

/// The settings of authentication.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The id of the daemon. Signed tokens carry it, so that one daemon rejects the tokens of another.
    pub instance: String,
    /// No credential is required: every caller is an administrator.
    pub open: bool,
    /// How long the tokens of a signing key stay valid after the key was rotated.
    pub jwt_grace: Duration,
    /// How long a client secret stays valid after it was rotated.
    pub client_secret_grace: Duration,
    /// The lifetime of the tokens issued to OAuth clients.
    pub client_token_lifetime: Duration,
}

pub struct Auth {
    config: AuthConfig,
    /// The names that contracts use for scopes.
    words: Vocabulary,
    /// The caller of every request, if no credential is required.
    everybody: Option<Caller>,
    snapshot: ArcSwap<Snapshot>,
    /// Held while the catalog and the snapshot are changed together.
    changing: Mutex<()>,
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
}

impl Auth {
    pub fn open(
        config: AuthConfig,
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

    /// Returns whether no credential is required.
    pub fn is_open(&self) -> bool {
        self.config.open
    }

    /// Returns the caller that presents this credential.
    pub fn identify(&self, credential: &Credential<'_>) -> Result<Caller, AuthError> {
        if let Some(everybody) = &self.everybody {
            return Ok(everybody.clone());
        }
        let token = credential.token().ok_or(AuthError::Missing)?;
        if token.len() > CREDENTIAL_BYTES_MAX {
            return Err(AuthError::Unknown);
        }
        let snapshot = self.snapshot.load();
        // The Base64 of `{"`: every signed token begins with it, and no other token does.
        if token.starts_with("eyJ") {
            return self.identify_signed(&snapshot, &token);
        }
        let known = snapshot.tokens.get(&secret::hash(&token)).ok_or(AuthError::Unknown)?;
        self.check_expiry(known.expires_at)?;
        Ok(known.caller.clone())
    }

    /// Identifies the caller and checks that it may do what the request needs.
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

    /// The key id in a token only says where to look. The signature and the claims decide.
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
                // The token has the scopes that the client has now, and becomes invalid with it.
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
        // A signer cannot grant what it does not have. Tokens that the daemon has no record of may only send and read
        // events.
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

    /// Creates an admin token if no valid one exists. The value is shown once and stored as a hash.
    pub fn first_token(&self) -> Result<Option<String>, ManageError> {
        let snapshot = self.snapshot.load();
        let good =
            |token: &KnownToken| token.caller.may(Need::Admin) && self.check_expiry(token.expires_at).is_ok();
        if self.config.open || snapshot.tokens.values().any(good) {
            return Ok(None);
        }
        // An expired token may still have the name.
        let taken = snapshot.tokens.values().any(|token| *token.caller.name == *"admin");
        let name = if taken { format!("admin {}", uuid::Uuid::now_v7()) } else { "admin".to_owned() };
        let request = TokenRequest {
            name,
            description: "created at startup, because no valid admin token existed".to_owned(),
            scopes: vec![Scope::Admin],
            origins: None,
            rps: None,
            project: None,
            expires_at: None,
        };
        let made = self.create_token(&Caller::everybody(), TokenKind::Token, None, &request)?;
        Ok(Some(made.1))
    }

    /// Replaces the snapshot with a changed copy. The caller must hold the lock.
    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        change(&mut snapshot);
        self.snapshot.store(Arc::new(snapshot));
    }
}

#[cfg(test)]
mod tests;
