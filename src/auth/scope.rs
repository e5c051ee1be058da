//! Scopes (what a token may do) and needs (what a request requires).

use crate::catalog::{NameError, QUARANTINE_SUFFIX, check_name};
use std::fmt;
use std::str::FromStr;

/// The streams that a scope applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ScopeTarget {
    /// Every stream, including streams created later.
    All,
    /// The stream with that name and its quarantine table.
    Stream(Box<str>),
}

/// What a token may do. As text: `ingest:visits`, `ingest:*`, `create`, …
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Send events.
    Ingest(ScopeTarget),
    /// Read a stream: its schema, counts and rows.
    Read(ScopeTarget),
    /// Delete a stream, or all of its rows.
    Drop(ScopeTarget),
    /// Create and change streams.
    Create,
    /// Create, change and revoke tokens, except admin tokens.
    Tokens,
    /// Read the daemon's metrics.
    Metrics,
    /// Everything.
    Admin,
}

/// What a request requires. Streams are given by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need<'a> {
    Ingest(&'a str),
    Read(&'a str),
    Drop(&'a str),
    Create,
    Tokens,
    Metrics,
    Admin,
    /// Any valid credential, whatever its scopes.
    Any,
}

/// Why a scope is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    #[error(
        "{0:?} is not a valid scope; scopes are ingest:STREAM, read:STREAM, drop:STREAM (STREAM may be *), \
         create, tokens, metrics and admin"
    )]
    Unknown(String),
    #[error("{text:?}: {source}")]
    Stream { text: String, source: NameError },
}

impl ScopeTarget {
    /// The stream with this name, or all streams for `*`.
    pub fn named(name: &str) -> Result<Self, NameError> {
        if name == "*" {
            return Ok(Self::All);
        }
        check_name(name).map(|()| Self::Stream(name.into()))
    }

    fn covers_stream(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Stream(own) => {
                **own == *name || name.strip_suffix(QUARANTINE_SUFFIX).is_some_and(|source| **own == *source)
            }
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match other {
            Self::All => *self == Self::All,
            Self::Stream(name) => self.covers_stream(name),
        }
    }
}

impl Scope {
    /// Returns whether this scope satisfies what a request requires.
    pub fn allows(&self, need: Need<'_>) -> bool {
        match (self, need) {
            (Self::Admin, _)
            | (_, Need::Any)
            | (Self::Create, Need::Create)
            | (Self::Tokens, Need::Tokens)
            | (Self::Metrics, Need::Metrics) => true,
            (Self::Ingest(target), Need::Ingest(stream))
            | (Self::Read(target), Need::Read(stream))
            | (Self::Drop(target), Need::Drop(stream)) => target.covers_stream(stream),
            _ => false,
        }
    }

    /// Returns whether this scope includes the other.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Admin, _) => true,
            (Self::Ingest(own), Self::Ingest(other))
            | (Self::Read(own), Self::Read(other))
            | (Self::Drop(own), Self::Drop(other)) => own.covers(other),
            _ => self == other,
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let target = |name: &str| {
            ScopeTarget::named(name).map_err(|source| ScopeError::Stream { text: text.to_owned(), source })
        };
        match text.split_once(':') {
            Some(("ingest", name)) => target(name).map(Self::Ingest),
            Some(("read", name)) => target(name).map(Self::Read),
            Some(("drop", name)) => target(name).map(Self::Drop),
            None => match text {
                "create" => Ok(Self::Create),
                "tokens" => Ok(Self::Tokens),
                "metrics" => Ok(Self::Metrics),
                "admin" => Ok(Self::Admin),
                _ => Err(ScopeError::Unknown(text.to_owned())),
            },
            Some(_) => Err(ScopeError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for ScopeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Stream(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ingest(target) => write!(f, "ingest:{target}"),
            Self::Read(target) => write!(f, "read:{target}"),
            Self::Drop(target) => write!(f, "drop:{target}"),
            Self::Create => f.write_str("create"),
            Self::Tokens => f.write_str("tokens"),
            Self::Metrics => f.write_str("metrics"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

impl serde::Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Need<'_> {
    /// Returns the narrowest scope that satisfies this need.
    pub fn to_scope(self) -> Scope {
        match self {
            Self::Ingest(stream) => Scope::Ingest(ScopeTarget::Stream(stream.into())),
            Self::Read(stream) => Scope::Read(ScopeTarget::Stream(stream.into())),
            Self::Drop(stream) => Scope::Drop(ScopeTarget::Stream(stream.into())),
            Self::Create => Scope::Create,
            Self::Tokens => Scope::Tokens,
            Self::Metrics => Scope::Metrics,
            // Every valid credential satisfies `Any`.
            Self::Admin | Self::Any => Scope::Admin,
        }
    }
}

/// Formats a list of scopes as the catalog stores it. No scope contains a space.
pub fn join(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ")
}

/// The inverse of [`join`].
pub fn split(text: &str) -> Result<Vec<Scope>, ScopeError> {
    text.split_ascii_whitespace().map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn scopes_are_texts() {
        for text in
            ["ingest:visits", "ingest:*", "read:a.b-c", "drop:x", "create", "tokens", "metrics", "admin"]
        {
            assert_eq!(scope(text).to_string(), text);
        }
        for text in
            ["", "ingest", "ingest:", "ingest:a b", "ingest:a/b", "write:x", "admin:x", "create:*", "Admin"]
        {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
        let scopes = "ingest:a create";
        assert_eq!(join(&split(scopes).unwrap()), scopes);
    }

    #[test]
    fn a_scope_is_for_its_own_kind_of_request_and_its_own_stream() {
        for (text, need, allowed) in [
            ("ingest:a", Need::Ingest("a"), true),
            ("ingest:a", Need::Ingest("b"), false),
            ("ingest:a", Need::Ingest("ab"), false),
            ("ingest:a", Need::Read("a"), false),
            ("ingest:*", Need::Ingest("b"), true),
            ("read:a", Need::Read("a_quarantine"), true),
            ("read:a", Need::Read("ab_quarantine"), false),
            ("drop:a", Need::Drop("a"), true),
            ("create", Need::Create, true),
            ("create", Need::Ingest("a"), false),
            ("create", Need::Drop("a"), false),
            ("tokens", Need::Tokens, true),
            ("tokens", Need::Admin, false),
            ("metrics", Need::Metrics, true),
            ("metrics", Need::Any, true),
            ("admin", Need::Ingest("a"), true),
            ("admin", Need::Admin, true),
        ] {
            assert_eq!(scope(text).allows(need), allowed, "{text} for {need:?}");
        }
    }

    #[test]
    fn a_scope_covers_what_it_includes() {
        for (own, other, covered) in [
            ("ingest:*", "ingest:a", true),
            ("ingest:a", "ingest:*", false),
            ("ingest:*", "read:a", false),
            ("create", "create", true),
            ("admin", "tokens", true),
            ("tokens", "admin", false),
        ] {
            assert_eq!(scope(own).covers(&scope(other)), covered, "{own} over {other}");
        }
    }
}
