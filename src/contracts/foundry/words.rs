//! The contract's names for the rights of a token or an application on streams.

use crate::auth::words::Words;
use crate::auth::{Scope, ScopeTarget};

pub static WORDS: Words = Words { role: scopes_of, claim: |_, _| None, token: None };

const ALL: [&str; 4] =
    ["api:streams-write", "api:streams-read", "api:use-streams-write", "api:use-streams-read"];

/// The scopes of a name.
fn scopes_of(word: &str) -> Option<Vec<Scope>> {
    match word {
        "api:streams-write" | "api:use-streams-write" => {
            Some(vec![Scope::Create, Scope::Ingest(ScopeTarget::All)])
        }
        "api:streams-read" | "api:use-streams-read" => Some(vec![Scope::Read(ScopeTarget::All)]),
        _ => None,
    }
}

/// The known names in a list separated by blanks. Clients request other scopes by default; those are ignored.
pub(super) fn known(words: &str) -> Vec<&'static str> {
    ALL.into_iter().filter(|known| words.split_ascii_whitespace().any(|word| word == *known)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_are_left_out() {
        assert_eq!(known("offline_access api:streams-read"), ["api:streams-read"]);
        assert_eq!(known(""), [""; 0]);
        assert!(ALL.into_iter().all(|word| scopes_of(word).is_some()));
    }
}
