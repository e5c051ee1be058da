//! Maps the contract's names for rights to scopes and back.

use crate::auth::words::{TokenForm, Words};
use crate::auth::{Scope, ScopeClaim, ScopeError, ScopeTarget};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::fmt;

pub static WORDS: Words =
    Words { role: |_| None, claim: |kind, resource| scopes_of(kind, resource).ok(), token: Some(&TOKEN) };

/// Tokens look like `p.<description>.<secret>`.
pub static TOKEN: TokenForm = TokenForm {
    prefix: "p.",
    begin: |instance, uuid| {
        let about = serde_json::json!({"u": instance, "id": uuid, "host": "forebay"});
        format!("p.{}.", BASE64_URL_SAFE_NO_PAD.encode(about.to_string()))
    },
};

/// Scopes as claims of the contract's signed tokens.
pub fn claims(scopes: &[Scope]) -> Vec<ScopeClaim> {
    let claim = |scope: WordedScope| ScopeClaim::Typed {
        kind: scope.kind.to_owned(),
        resource: scope.resource.map(Into::into),
        filter: None,
    };
    to_words(scopes).into_iter().map(claim).collect()
}

/// Why a scope of the contract cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    #[error("the scope {0} needs the name of a data source, as in {0}:visits")]
    NoResource(String),
    #[error("the scope {0} takes no resource")]
    Resource(String),
    #[error("scopes with a filter are not supported: {0}")]
    Filter(String),
    #[error("the scope {0} is for a feature that Forebay does not have")]
    Unsupported(String),
    #[error("unknown scope {0:?}")]
    Unknown(String),
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

/// A scope in Tinybird's notation: `DATASOURCES:APPEND` and the data source that it applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordedScope {
    pub kind: &'static str,
    pub resource: Option<Box<str>>,
}

impl fmt::Display for WordedScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        self.resource.as_ref().map_or(Ok(()), |resource| write!(f, ":{resource}"))
    }
}

/// The scopes that a Tinybird scope stands for. `resource` is the data source, or empty.
pub fn scopes_of(kind: &str, resource: &str) -> Result<Vec<Scope>, WordError> {
    let target = || match resource {
        "" => Err(WordError::NoResource(kind.to_owned())),
        name => ScopeTarget::named(name)
            .map_err(|source| ScopeError::Stream { text: format!("{kind}:{name}"), source }.into()),
    };
    let scopes = match kind {
        "DATASOURCES:APPEND" => return target().map(|target| vec![Scope::Ingest(target)]),
        "DATASOURCES:READ" => return target().map(|target| vec![Scope::Read(target)]),
        "DATASOURCES:DROP" => return target().map(|target| vec![Scope::Drop(target)]),
        // The right to create includes the right to append.
        "DATASOURCES:CREATE" => vec![Scope::Create, Scope::Ingest(ScopeTarget::All)],
        "WORKSPACE:READ_ALL" => vec![Scope::Read(ScopeTarget::All)],
        "TOKENS" => vec![Scope::Tokens],
        "ADMIN" => vec![Scope::Admin],
        "PIPES:CREATE" | "PIPES:DROP" | "PIPES:READ" | "ORG_DATASOURCES:READ" => {
            return Err(WordError::Unsupported(kind.to_owned()));
        }
        _ => return Err(WordError::Unknown(kind.to_owned())),
    };
    if resource.is_empty() { Ok(scopes) } else { Err(WordError::Resource(kind.to_owned())) }
}

/// Parses a scope from one text: `DATASOURCES:APPEND:visits`.
pub fn of_text(text: &str) -> Result<Vec<Scope>, WordError> {
    let Some((first, rest)) = text.split_once(':') else { return scopes_of(text, "") };
    let (second, rest) = rest.split_once(':').unwrap_or((rest, ""));
    let kind = format!("{first}:{second}");
    match rest.split_once(':') {
        Some((_, filter)) if !filter.is_empty() => Err(WordError::Filter(text.to_owned())),
        Some((resource, _)) => scopes_of(&kind, resource),
        None => scopes_of(&kind, rest),
    }
}

/// Scopes in Tinybird's notation.
pub fn to_words(scopes: &[Scope]) -> Vec<WordedScope> {
    let creates = scopes.contains(&Scope::Create);
    let word = |scope: &Scope| {
        let (kind, resource) = match scope {
            // Included in DATASOURCES:CREATE.
            Scope::Ingest(ScopeTarget::All) if creates => return None,
            Scope::Ingest(target) => ("DATASOURCES:APPEND", Some(target)),
            Scope::Read(ScopeTarget::All) => ("WORKSPACE:READ_ALL", None),
            Scope::Read(target) => ("DATASOURCES:READ", Some(target)),
            Scope::Drop(target) => ("DATASOURCES:DROP", Some(target)),
            Scope::Create => ("DATASOURCES:CREATE", None),
            Scope::Tokens => ("TOKENS", None),
            Scope::Metrics => ("METRICS", None),
            Scope::Admin => ("ADMIN", None),
        };
        Some(WordedScope { kind, resource: resource.map(|target| target.to_string().into()) })
    };
    scopes.iter().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_scopes_and_back() {
        for (word, scopes) in [
            ("DATASOURCES:APPEND:visits", "ingest:visits"),
            ("DATASOURCES:READ:visits", "read:visits"),
            ("DATASOURCES:READ:visits:", "read:visits"),
            ("DATASOURCES:DROP:visits", "drop:visits"),
            ("DATASOURCES:CREATE", "create ingest:*"),
            ("WORKSPACE:READ_ALL", "read:*"),
            ("TOKENS", "tokens"),
            ("ADMIN", "admin"),
        ] {
            let meant = of_text(word).unwrap();
            let text: Vec<String> = meant.iter().map(ToString::to_string).collect();
            assert_eq!(text.join(" "), scopes);
            let back: Vec<String> = to_words(&meant).iter().map(WordedScope::to_string).collect();
            assert_eq!(back, [word.trim_end_matches(':')]);
        }
        for word in [
            "",
            "admin",
            "DATASOURCES",
            "DATASOURCES:APPEND",
            "DATASOURCES:APPEND:",
            "DATASOURCES:APPEND:a b",
            "DATASOURCES:READ:visits:n > 1",
            "DATASOURCES:CREATE:x",
            "PIPES:READ:p",
            "ADMIN:x",
            "DATASOURCES:WRITE:x",
        ] {
            assert!(of_text(word).is_err(), "{word}");
        }
    }
}
