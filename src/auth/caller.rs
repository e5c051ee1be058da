//! Who sends a request, as far as the daemon knows.

use super::AuthError;
use super::scope::{Need, Scope};
use std::ops::Deref;
use std::sync::Arc;

/// Names a caller for limits: the same for every request of one token, client, or name in a signed token, and never
/// used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(pub u64);

impl CallerId {
    const CLIENT: u64 = 1 << 62;
    const SIGNED: u64 = 1 << 63;

    /// A token of the catalog.
    pub fn token(row: i64) -> Self {
        Self(row.cast_unsigned())
    }

    /// An OAuth client of the catalog.
    pub fn client(row: i64) -> Self {
        Self(row.cast_unsigned() | Self::CLIENT)
    }

    /// A signed token, which is not in the catalog.
    pub fn signed(hash: u64) -> Self {
        Self(hash | Self::SIGNED)
    }
}

/// What is known of a caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: CallerId,
    pub name: Box<str>,
    pub scopes: Box<[Scope]>,
    /// Where pages may come from that use the token; `None`: from anywhere, and programs may use it as well.
    pub origins: Option<Box<[Box<str>]>>,
    /// Requests per second, instead of the configured limit.
    pub rps: Option<u32>,
    /// The project it is bound to, in the contracts that have projects.
    pub project: Option<Box<str>>,
}

/// A caller. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Arc<Identity>);

impl Caller {
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }

    /// Whoever calls where no credential is asked for.
    pub fn everybody() -> Self {
        Self::anonymous("everybody", [Scope::Admin].into())
    }

    /// Whoever calls for a credential.
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

    /// The same, as a result.
    pub fn require(&self, need: Need<'_>) -> Result<(), AuthError> {
        if self.may(need) { Ok(()) } else { Err(AuthError::Lacks(need.to_scope())) }
    }

    /// Whether it may give this right to others. The right to make tokens is the right to give every right but an
    /// administrator's: a service that hands out tokens needs no other.
    pub fn may_grant(&self, scope: &Scope) -> bool {
        self.may(Need::Admin) || (self.may(Need::Tokens) && *scope != Scope::Admin)
    }

    /// Whether a page of this origin may use it. `origin` is the request's `Origin` header. A token that is bound to
    /// origins is for browsers, which always say where a page is from.
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        let Some(allowed) = &self.origins else { return true };
        origin.is_some_and(|origin| allowed.iter().any(|pattern| super::origin::matches(pattern, origin)))
    }

    /// Whether it may act in this project.
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
