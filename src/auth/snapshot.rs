//! The snapshot that requests are checked against: all tokens, clients and keys, in memory. It is immutable and is
//! replaced as a whole; no request waits for the catalog.

use super::caller::{Caller, CallerId, Identity};
use super::jwt::{ALGORITHM_NAME, Verifier};
use super::scope::{self, Scope};
use super::secret::ByHash;
use super::words::Vocabulary;
use crate::catalog::{Catalog, CatalogError, Client, ClientSecret, SigningKey, Token};
use crate::clock::Micros;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Clone, Default)]
pub(super) struct Snapshot {
    words: Vocabulary,
    pub(super) tokens: ByHash<KnownToken>,
    /// Signing tokens, with which their owners sign other tokens.
    pub(super) signers: Vec<Arc<Signer>>,
    pub(super) clients: HashMap<Box<str>, KnownClient>,
    pub(super) keys: Vec<Arc<Key>>,
    /// Revoked client tokens: id to expiry time.
    pub(super) revoked: HashMap<Box<str>, Micros>,
}

#[derive(Clone)]
pub(super) struct KnownToken {
    pub(super) caller: Caller,
    pub(super) expires_at: Option<Micros>,
}

pub(super) struct Signer {
    pub(super) uuid: Box<str>,
    pub(super) token: KnownToken,
    pub(super) verifier: Verifier,
}

#[derive(Clone)]
pub(super) struct KnownClient {
    pub(super) caller: Caller,
    pub(super) secrets: Vec<ClientSecret>,
}

/// A key of the daemon.
pub(super) struct Key {
    pub(super) verifier: Verifier,
    pub(super) stored: SigningKey,
}

impl Snapshot {
    pub(super) fn load(catalog: &Catalog, words: Vocabulary) -> Result<Self, CatalogError> {
        let mut snapshot = Self { words, ..Self::default() };
        catalog.tokens()?.iter().for_each(|token| snapshot.put_token(token));
        catalog.clients()?.iter().for_each(|client| snapshot.put_client(client));
        snapshot.put_keys(catalog.signing_keys()?);
        snapshot.revoked = catalog.revoked()?.into_iter().collect();
        Ok(snapshot)
    }

    pub(super) fn put_token(&mut self, token: &Token) {
        let new = &token.new;
        let Some(scopes) = understood(&new.name, scope::split(&new.scopes)) else { return };
        let origins = new.origins.as_ref();
        let caller = Caller::new(Identity {
            id: CallerId::token(token.id),
            name: new.name.as_str().into(),
            scopes,
            origins: origins.map(|origins| origins.split_ascii_whitespace().map(Box::from).collect()),
            rps: new.rps,
            project: new.project.as_deref().map(Box::from),
        });
        let known = KnownToken { caller, expires_at: new.expires_at };
        if let Some(secret) = &new.value.secret {
            let (uuid, verifier) = (token.uuid.as_str().into(), Verifier::new(secret.as_bytes()));
            self.signers.push(Arc::new(Signer { uuid, token: known.clone(), verifier }));
        }
        self.tokens.insert(new.value.hash, known);
    }

    pub(super) fn remove_token(&mut self, token: &Token) {
        self.tokens.remove(&token.new.value.hash);
        self.signers.retain(|signer| *signer.uuid != *token.uuid);
    }

    pub(super) fn put_client(&mut self, client: &Client) {
        let Some(scopes) = understood(&client.name, self.words.roles(&client.roles)) else { return };
        let caller = Caller::new(Identity {
            id: CallerId::client(client.id),
            name: client.name.as_str().into(),
            scopes,
            origins: None,
            rps: None,
            project: client.project.as_deref().map(Box::from),
        });
        let known = KnownClient { caller, secrets: client.secrets.clone() };
        self.clients.insert(client.client_id.as_str().into(), known);
    }

    pub(super) fn put_keys(&mut self, keys: Vec<SigningKey>) {
        // Keys with an algorithm that this version does not know are ignored.
        let known = keys.into_iter().filter(|key| key.algorithm == ALGORITHM_NAME);
        self.keys =
            known.map(|stored| Arc::new(Key { verifier: Verifier::new(&stored.secret), stored })).collect();
    }

    /// The key in use for signing.
    pub(super) fn current_key(&self) -> Option<&Arc<Key>> {
        self.keys.iter().find(|key| key.stored.retires_at.is_none())
    }
}

/// The scopes of a token or client. If they cannot be parsed, the token or client is left out and so rejected.
fn understood(name: &str, scopes: Result<Vec<Scope>, scope::ScopeError>) -> Option<Box<[Scope]>> {
    let refused = |error: &scope::ScopeError| {
        tracing::error!(token = name, %error, "a token or client has unknown scopes; it is rejected");
    };
    scopes.inspect_err(refused).ok().map(Vec::into_boxed_slice)
}
