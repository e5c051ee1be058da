//! Rights in other words. Each contract declares the words that its clients have for rights, and how its tokens look;
//! [`Auth`](super::Auth) is opened with all of them and knows no contract by name.

use super::scope::{Scope, ScopeError};
use std::sync::Arc;

/// The words of one contract.
#[derive(Debug)]
pub struct Words {
    /// What a role of a client, or a right of a key, means; `None` if it is not a word of the contract.
    pub role: fn(&str) -> Option<Vec<Scope>>,
    /// What a typed scope in a signed token means: its type, and its resource or nothing. `None` if it means nothing here.
    pub claim: fn(&str, &str) -> Option<Vec<Scope>>,
    /// How the contract's tokens look, if they do not look like ours.
    pub token: Option<&'static TokenForm>,
}

/// How the tokens of a contract look.
#[derive(Debug)]
pub struct TokenForm {
    /// What all of them begin with.
    pub prefix: &'static str,
    /// What a token begins with, before its secret: from the daemon's id and the token's.
    pub begin: fn(&str, &str) -> String,
}

/// The words of every contract.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary(Arc<[&'static Words]>);

impl Vocabulary {
    pub fn new(words: impl IntoIterator<Item = &'static Words>) -> Self {
        Self(words.into_iter().collect())
    }

    /// What a contract's word means.
    pub(super) fn word(&self, role: &str) -> Option<Vec<Scope>> {
        self.0.iter().find_map(|words| (words.role)(role))
    }

    /// What a role means. Forebay's own scopes are taken as well.
    pub(super) fn role(&self, role: &str) -> Result<Vec<Scope>, ScopeError> {
        self.word(role).map_or_else(|| Ok(vec![role.parse()?]), Ok)
    }

    /// What several roles, separated by blanks, mean together.
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

    /// What a typed scope in a signed token means: nothing if no contract has the word.
    pub(super) fn claim(&self, kind: &str, resource: &str) -> Vec<Scope> {
        self.0.iter().find_map(|words| (words.claim)(kind, resource)).unwrap_or_default()
    }

    /// The form of a token that begins so.
    pub(super) fn token_form(&self, token: &str) -> Option<&'static TokenForm> {
        self.0.iter().filter_map(|words| words.token).find(|form| token.starts_with(form.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Target;
    use crate::auth::scope;

    #[test]
    fn roles_mean_scopes_together() {
        static WORDS: Words = Words {
            role: |word| (word == "Push").then(|| vec![Scope::Create, Scope::Ingest(Target::All)]),
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
