//! The vocabulary of the contracts: the words that their clients use for scopes, and the format of their tokens. Each
//! contract declares its own; [`Auth`](super::Auth) is opened with all of them and knows no contract by name.

use super::scope::{Scope, ScopeError};
use std::sync::Arc;

/// The vocabulary of one contract.
#[derive(Debug)]
pub struct Words {
    /// The scopes that a role of a client or key grants. `None` if the contract does not have this word.
    pub role: fn(&str) -> Option<Vec<Scope>>,
    /// The scopes that a typed scope in a signed token grants, from its type and its resource (empty if it has none).
    /// `None` if it has no meaning here.
    pub claim: fn(&str, &str) -> Option<Vec<Scope>>,
    /// The format of the contract's tokens, if it differs from Forebay's own.
    pub token: Option<&'static TokenForm>,
}

/// The format of a contract's tokens.
#[derive(Debug)]
pub struct TokenForm {
    /// The prefix of all of them.
    pub prefix: &'static str,
    /// Returns what precedes the secret in a token, from the id of the daemon and the id of the token.
    pub begin: fn(&str, &str) -> String,
}

/// The vocabularies of all contracts.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary(Arc<[&'static Words]>);

impl Vocabulary {
    pub fn new(words: impl IntoIterator<Item = &'static Words>) -> Self {
        Self(words.into_iter().collect())
    }

    /// The scopes that a word of a contract grants.
    pub(super) fn word(&self, role: &str) -> Option<Vec<Scope>> {
        self.0.iter().find_map(|words| (words.role)(role))
    }

    /// The scopes that a role grants. Forebay's own scopes are accepted as well.
    pub(super) fn role(&self, role: &str) -> Result<Vec<Scope>, ScopeError> {
        self.word(role).map_or_else(|| Ok(vec![role.parse()?]), Ok)
    }

    /// The scopes that several roles, separated by spaces, grant together.
    pub(super) fn roles(&self, roles: &str) -> Result<Vec<Scope>, ScopeError> {
        let mut scopes: Vec<Scope> = Vec::new();
        for role in roles.split_ascii_whitespace() {
            for scope in self.role(role)? {
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
        }
        Ok(scopes)
    }

    /// The scopes that a typed scope in a signed token grants: none if no contract knows the word.
    pub(super) fn claim(&self, kind: &str, resource: &str) -> Vec<Scope> {
        self.0.iter().find_map(|words| (words.claim)(kind, resource)).unwrap_or_default()
    }

    /// The format whose prefix this token has.
    pub(super) fn token_form(&self, token: &str) -> Option<&'static TokenForm> {
        self.0.iter().filter_map(|words| words.token).find(|form| token.starts_with(form.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ScopeTarget;
    use crate::auth::scope;

    #[test]
    fn roles_mean_scopes_together() {
        static WORDS: Words = Words {
            role: |word| (word == "Push").then(|| vec![Scope::Create, Scope::Ingest(ScopeTarget::All)]),
            claim: |kind, resource| {
                (kind == "T").then(|| resource.parse().map_or(vec![], |scope| vec![scope]))
            },
            token: None,
        };
        let words = Vocabulary::new([&WORDS]);
        let join = |roles| words.roles(roles).map(|scopes| scope::join(&scopes));
        assert_eq!(join("Push read:* create").unwrap(), "create ingest:* read:*");
        assert_eq!(join("").unwrap(), "");
        assert!(join("Pull").is_err());
        assert_eq!(words.claim("T", "metrics"), [Scope::Metrics]);
        assert_eq!((words.claim("T", "x"), words.claim("U", "metrics")), (vec![], vec![]));
        assert!(Vocabulary::default().role("Push").is_err());
    }
}
