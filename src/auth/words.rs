//! The words that contracts have for rights, and the scopes that they mean here. The one place that knows.

use super::scope::{Scope, ScopeError, Target};
use std::fmt;

/// Why a contract's word is none that could be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    #[error("the scope {0} needs the name of a data source, as in {0}:visits")]
    NoResource(String),
    #[error("the scope {0} has no resource")]
    Resource(String),
    #[error("scopes with a filter are not supported: {0}")]
    Filter(String),
    #[error("the scope {0} is for what Forebay does not have")]
    Unsupported(String),
    #[error("{0:?} is no scope")]
    Unknown(String),
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

/// A scope in Tinybird's words: `DATASOURCES:APPEND` and the data source it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TinybirdScope {
    pub kind: &'static str,
    pub resource: Option<Box<str>>,
}

impl fmt::Display for TinybirdScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        self.resource.as_ref().map_or(Ok(()), |resource| write!(f, ":{resource}"))
    }
}

/// What a scope of Tinybird's means, `resource` being the data source or empty.
pub fn of_tinybird(kind: &str, resource: &str) -> Result<Vec<Scope>, WordError> {
    let target = || match resource {
        "" => Err(WordError::NoResource(kind.to_owned())),
        name => Target::named(name)
            .map_err(|source| ScopeError::Stream { text: format!("{kind}:{name}"), source }.into()),
    };
    let scopes = match kind {
        "DATASOURCES:APPEND" => return target().map(|target| vec![Scope::Ingest(target)]),
        "DATASOURCES:READ" => return target().map(|target| vec![Scope::Read(target)]),
        "DATASOURCES:DROP" => return target().map(|target| vec![Scope::Drop(target)]),
        // Whoever may create may also append.
        "DATASOURCES:CREATE" => vec![Scope::Create, Scope::Ingest(Target::All)],
        "WORKSPACE:READ_ALL" => vec![Scope::Read(Target::All)],
        "TOKENS" => vec![Scope::Tokens],
        "ADMIN" => vec![Scope::Admin],
        "PIPES:CREATE" | "PIPES:DROP" | "PIPES:READ" | "ORG_DATASOURCES:READ" => {
            return Err(WordError::Unsupported(kind.to_owned()));
        }
        _ => return Err(WordError::Unknown(kind.to_owned())),
    };
    if resource.is_empty() { Ok(scopes) } else { Err(WordError::Resource(kind.to_owned())) }
}

/// The same from one text: `DATASOURCES:APPEND:visits`.
pub fn of_tinybird_text(text: &str) -> Result<Vec<Scope>, WordError> {
    let mut parts = text.splitn(3, ':');
    let (first, second, rest) =
        (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default());
    let Some(second) = second else { return of_tinybird(first, "") };
    let kind = format!("{first}:{second}");
    match rest.split_once(':') {
        Some((_, filter)) if !filter.is_empty() => Err(WordError::Filter(text.to_owned())),
        Some((resource, _)) => of_tinybird(&kind, resource),
        None => of_tinybird(&kind, rest),
    }
}

/// Scopes in Tinybird's words.
pub fn to_tinybird(scopes: &[Scope]) -> Vec<TinybirdScope> {
    let creates = scopes.contains(&Scope::Create);
    let word = |scope: &Scope| {
        let (kind, resource) = match scope {
            // Said by DATASOURCES:CREATE.
            Scope::Ingest(Target::All) if creates => return None,
            Scope::Ingest(target) => ("DATASOURCES:APPEND", Some(target)),
            Scope::Read(Target::All) => ("WORKSPACE:READ_ALL", None),
            Scope::Read(target) => ("DATASOURCES:READ", Some(target)),
            Scope::Drop(target) => ("DATASOURCES:DROP", Some(target)),
            Scope::Create => ("DATASOURCES:CREATE", None),
            Scope::Tokens => ("TOKENS", None),
            Scope::Metrics => ("METRICS", None),
            Scope::Admin => ("ADMIN", None),
        };
        Some(TinybirdScope { kind, resource: resource.map(|target| target.to_string().into()) })
    };
    scopes.iter().filter_map(word).collect()
}

/// What a role of a client of Polaris, of an application of Foundry, or a right of an API key of Amperity, means;
/// Forebay's own scopes are taken as well.
pub fn of_role(role: &str) -> Result<Vec<Scope>, ScopeError> {
    use Scope::{Create, Drop, Ingest, Metrics, Read, Tokens};
    Ok(match role {
        // Of Polaris the role of 2022: to push events to every table; and of Amperity's API keys.
        "ManageStreams" | "streaming-ingest-api:write" | "profile-events:write" => {
            vec![Ingest(Target::All)]
        }
        // Connections are made, and pushed to.
        "ManageConnections" => vec![Create, Ingest(Target::All)],
        "ManageTables" => vec![Create, Read(Target::All), Drop(Target::All)],
        "ManageIngestionJobs" => vec![Create, Read(Target::All)],
        "AccessMetrics" => vec![Metrics],
        "api-token-issuer" => vec![Tokens],
        word if of_foundry(word).is_some() => of_foundry(word).unwrap_or_default(),
        other => vec![other.parse()?],
    })
}

/// What Foundry's contract calls rights for streams, of a token or of an application.
pub const FOUNDRY: [&str; 4] =
    ["api:streams-write", "api:streams-read", "api:use-streams-write", "api:use-streams-read"];

/// What one of them means.
pub fn of_foundry(word: &str) -> Option<Vec<Scope>> {
    match word {
        "api:streams-write" | "api:use-streams-write" => {
            Some(vec![Scope::Create, Scope::Ingest(Target::All)])
        }
        "api:streams-read" | "api:use-streams-read" => Some(vec![Scope::Read(Target::All)]),
        _ => None,
    }
}

/// Those of several words, separated by blanks, that mean something here. Clients ask for others by default.
pub fn foundry_scopes(words: &str) -> Vec<&'static str> {
    FOUNDRY.into_iter().filter(|known| words.split_ascii_whitespace().any(|word| word == *known)).collect()
}

/// What several roles, separated by blanks, mean together.
pub fn of_roles(roles: &str) -> Result<Vec<Scope>, ScopeError> {
    let mut scopes: Vec<Scope> = Vec::new();
    for role in roles.split_ascii_whitespace() {
        for scope in of_role(role)? {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
    }
    Ok(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scope;

    #[test]
    fn words_of_tinybird() {
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
            let meant = of_tinybird_text(word).unwrap();
            assert_eq!(scope::join(&meant), scopes);
            let back: Vec<String> = to_tinybird(&meant).iter().map(TinybirdScope::to_string).collect();
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
            assert!(of_tinybird_text(word).is_err(), "{word}");
        }
    }

    #[test]
    fn roles_of_polaris() {
        let join = |roles| of_roles(roles).map(|scopes| scope::join(&scopes));
        assert_eq!(join("ManageStreams").unwrap(), "ingest:*");
        assert_eq!(join("ManageConnections ManageTables").unwrap(), "create ingest:* read:* drop:*");
        assert_eq!(join("AccessMetrics ingest:visits").unwrap(), "metrics ingest:visits");
        assert_eq!(join("streaming-ingest-api:write api-token-issuer").unwrap(), "ingest:* tokens");
        assert!(join("ManageNothing").is_err());
        assert_eq!(join("api:streams-write api:streams-read").unwrap(), "create ingest:* read:*");
        assert_eq!(foundry_scopes("offline_access api:streams-read"), ["api:streams-read"]);
    }
}
