//! The keys that the daemon signs tokens with. One key signs; earlier keys stay valid for a grace period.

use super::jwt::{self, Claims, Seconds};
use super::manage::ManageError;
use super::snapshot::Key;
use super::{Auth, secret};
use crate::catalog::SigningKey;
use crate::clock::Micros;
use std::sync::Arc;
use std::time::Duration;

/// The most keys that may be valid at a time. The key that a signed token names is searched for linearly.
const KEYS_MAX: usize = 64;

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    pub kid: String,
    pub algorithm: String,
    pub created_at: Micros,
    /// When the key and everything it signed expire. `None` for the key in use.
    pub retires_at: Option<Micros>,
}

impl Auth {
    /// Returns all keys, newest first. The list is empty until the first token is signed.
    pub fn keys(&self) -> Vec<KeyInfo> {
        self.snapshot.load().keys.iter().map(|key| info(&key.stored)).collect()
    }

    /// Creates a key and signs with it from now on. Tokens of older keys stay valid for `grace` (default: configured).
    pub fn rotate_key(&self, grace: Option<Duration>) -> Result<KeyInfo, ManageError> {
        let _changing = self.changing.lock();
        self.rotate(grace)
    }

    /// Deletes an old key. Tokens that it signed become invalid at once.
    pub fn delete_key(&self, kid: &str) -> Result<(), ManageError> {
        let _changing = self.changing.lock();
        if self.snapshot.load().current_key().is_some_and(|key| key.stored.kid == kid) {
            return Err(ManageError::Invalid(
                "this key is in use for signing; rotate to a new key first".to_owned(),
            ));
        }
        if !self.catalog.delete_signing_key(kid)? {
            return Err(ManageError::Missing { what: "key", id: kid.to_owned() });
        }
        tracing::info!(kid, "signing key deleted");
        self.load_keys()
    }

    /// Signs claims with the key in use. Creates the first key if none exists.
    pub(super) fn sign(&self, claims: Claims, expires_at: Micros) -> Result<String, ManageError> {
        if self.snapshot.load().current_key().is_none() {
            let _changing = self.changing.lock();
            if self.snapshot.load().current_key().is_none() {
                self.rotate(None)?;
            }
        }
        let snapshot = self.snapshot.load();
        let signed = snapshot.current_key().map(|key| {
            let claims = Claims {
                workspace_id: Some(self.config.instance.clone()),
                exp: Some(Seconds(expires_at)),
                iat: Some(Seconds(self.clock.now())),
                jti: claims.jti.or_else(|| Some(uuid::Uuid::new_v4().to_string())),
                ..claims
            };
            jwt::sign(&claims, &key.stored.kid, &key.stored.secret)
        });
        match signed {
            Some(Ok(token)) => Ok(token),
            Some(Err(error)) => Err(ManageError::Invalid(format!("signing the token failed: {error}"))),
            None => Err(ManageError::Invalid("no signing key exists".to_owned())),
        }
    }

    /// The caller must hold the lock.
    fn rotate(&self, grace: Option<Duration>) -> Result<KeyInfo, ManageError> {
        let grace = grace.unwrap_or(self.config.jwt_grace);
        let now = self.clock.now();
        let good = |key: &&Arc<Key>| key.stored.retires_at.is_none_or(|at| at > now);
        if !grace.is_zero() && self.snapshot.load().keys.iter().filter(good).count() >= KEYS_MAX {
            let message = format!(
                "{KEYS_MAX} signing keys are still valid, the limit; delete some, or rotate without grace"
            );
            return Err(ManageError::Invalid(message));
        }
        let kid = uuid::Uuid::new_v4().simple().to_string();
        let key = SigningKey {
            kid,
            algorithm: jwt::ALGORITHM_NAME.to_owned(),
            secret: secret::random::<32>().to_vec(),
            created_at: now,
            retires_at: None,
        };
        let grace = Micros::try_from(grace.as_micros()).unwrap_or(Micros::MAX);
        self.catalog.rotate_signing_key(&key, now.saturating_add(grace))?;
        self.load_keys()?;
        tracing::info!(kid = key.kid, "signing key rotated");
        Ok(info(&key))
    }

    fn load_keys(&self) -> Result<(), ManageError> {
        let keys = self.catalog.signing_keys()?;
        self.change(|snapshot| snapshot.put_keys(keys));
        Ok(())
    }
}

fn info(key: &SigningKey) -> KeyInfo {
    KeyInfo {
        kid: key.kid.clone(),
        algorithm: key.algorithm.clone(),
        created_at: key.created_at,
        retires_at: key.retires_at,
    }
}
