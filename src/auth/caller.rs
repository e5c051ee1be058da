//! The caller of a request, as far as the daemon knows it.

use super::AuthError;
use super::scope::{Need, Scope};
use std::ops::Deref;
use std::sync::Arc;

/// Identifies a caller for rate limits: the same for every request of one token, client, or name in a signed token,
/// and never reused for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(pub u64);

impl CallerId {
    const CLIENT: u64 = 1 << 62;
    const SIGNED: u64 = 1 << 63;

    /// The id of a token in the catalog.
    pub fn token(row: i64) -> Self {
        Self(row.cast_unsigned())
    }

    /// The id of an OAuth client in the catalog.
    pub fn client(row: i64) -> Self {
        Self(row.cast_unsigned() | Self::CLIENT)
    }

    /// The id of the bearer of a signed token, which is not in the catalog.
    pub fn signed(hash: u64) -> Self {
        Self(hash | Self::SIGNED)
    }
}

/// The identity of a caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: CallerId,
    pub name: Box<str>,
    pub scopes: Box<[Scope]>,
    /// Origins of the pages that may use the token. `None`: every origin, and programs as well.
    pub origins: Option<Box<[Box<str>]>>,
    /// Requests per second; overrides the configured limit.
    pub rps: Option<u32>,
    /// The project that the caller is bound to, in contracts that have projects.
    pub project: Option<Box<str>>,
}

/// A caller. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Arc<Identity>);

impl Caller {
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }

    /// Any caller of a daemon that requires no credentials.
    pub fn everybody() -> Self {
        Self::anonymous("everybody", [Scope::Admin].into())
    }

    /// A caller that has no credential, such as one that asks for a token.
    pub fn nobody() -> Self {
        Self::anonymous("nobody", [].into())
    }

    fn anonymous(name: &str, scopes: Box<[Scope]>) -> Self {
        let id = CallerId(0);
        Self::new(Identity { id, name: name.into(), scopes, origins: None, rps: None, project: None })
    }

    pub fn may(&self, need: Need<'_>) -> bool {
        need == Need::Any || self.scopes.iter().any(|scope| scope.allows(need))
    }

    /// Like [`Caller::may`], but returns an error that names the missing scope.
    pub fn require(&self, need: Need<'_>) -> Result<(), AuthError> {
        if self.may(need) { Ok(()) } else { Err(AuthError::Lacks(need.to_scope())) }
    }

    /// Returns whether the caller may grant this scope to others. The scope `tokens` allows granting every scope but
    /// `admin`, so a service that hands out tokens needs no other.
    pub fn may_grant(&self, scope: &Scope) -> bool {
        self.may(Need::Admin) || (self.may(Need::Tokens) && *scope != Scope::Admin)
    }

    /// Returns whether a page of this origin may use the token. `origin` is the request's `Origin` header. A token
    /// bound to origins requires the header: such tokens are for browsers, which always send it.
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        let Some(allowed) = &self.origins else { return true };
        origin.is_some_and(|origin| allowed.iter().any(|pattern| super::origin::matches(pattern, origin)))
    }

    /// Returns whether the caller may act in this project.
    pub fn allows_project(&self, project: &str) -> bool {
        self.project.as_deref().is_none_or(|own| own == project)
    }
}

impl Deref for Caller {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}
