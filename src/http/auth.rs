//! Who may do what. Under `--dev` everybody may do everything; otherwise a token is asked for.

use super::reject::{Kind, Reject};
use crate::catalog::{Catalog, CatalogError};
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// A right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Send events to streams that exist.
    Ingest,
    /// Make streams.
    Create,
    Admin,
}

/// SHA-256 of a token. Tokens have 256 random bits, so the hash needs no salt, and a lookup by hash tells nothing
/// by its time about the token.
pub type TokenHash = [u8; 32];

pub struct Auth {
    /// No token is asked for.
    open: bool,
    tokens: RwLock<HashMap<TokenHash, String>>,
}

impl Auth {
    pub fn new(open: bool, catalog: &Catalog) -> Result<Self, CatalogError> {
        let tokens = catalog.tokens()?.into_iter().map(|token| (token.hash, token.scopes)).collect();
        Ok(Self { open, tokens: RwLock::new(tokens) })
    }

    /// Makes the first administrator's token, if there is none: shown once, stored as a hash.
    pub fn first_token(&self, catalog: &Arc<Catalog>) -> Result<Option<String>, CatalogError> {
        if self.open || !self.tokens.read().is_empty() {
            return Ok(None);
        }
        let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        let token = format!("fb_{}{}", random[0].simple(), random[1].simple());
        catalog.add_token("admin", &hash(&token), "admin")?;
        self.tokens.write().insert(hash(&token), "admin".to_owned());
        Ok(Some(token))
    }

    pub fn check(&self, token: Option<&str>, scope: Scope) -> Result<(), Reject> {
        if self.open {
            return Ok(());
        }
        let refused = || Reject::new(Kind::Unauthenticated, "invalid authentication token").close();
        let token = token.ok_or_else(refused)?;
        let tokens = self.tokens.read();
        let scopes = tokens.get(&hash(token)).ok_or_else(refused)?;
        let granted = scopes.split(' ').any(|granted| {
            matches!(
                (granted, scope),
                ("admin", _) | ("ingest", Scope::Ingest) | ("create", Scope::Ingest | Scope::Create)
            )
        });
        if granted {
            Ok(())
        } else {
            Err(Reject::new(Kind::Forbidden, "the token lacks the right for this").close())
        }
    }
}

pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}
