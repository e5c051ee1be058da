//! Why a request was refused: what the client is told, kept apart from what only the log may say.

use crate::auth::{AuthError, ManageError, Scope};
use crate::catalog::CatalogError;
use std::borrow::Cow;

/// The classes of refusal, the same for every contract, in the order of their labels in [`REFUSALS`]. Each
/// contract words them in its own status and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is malformed; sending it again will not help.
    Malformed,
    /// No token, or none that is known.
    Unauthenticated,
    /// A token that was good once.
    TokenExpired,
    /// The token lacks the right.
    Forbidden,
    NoSuchStream,
    /// Something else that was named, such as a job or a token, does not exist.
    NotFound,
    NoSuchRoute,
    MethodNotAllowed,
    /// What is to be made exists, or was changed by somebody else meanwhile.
    Conflict,
    /// Understood, and cannot be done.
    Unprocessable,
    /// Over the rate.
    TooManyRequests,
    /// The contract wants the body's length to be announced.
    LengthRequired,
    /// The body is larger than allowed, as it came or once decompressed.
    TooLarge,
    /// The content-encoding is not known.
    UnsupportedEncoding,
    /// The content-type is none that the path takes.
    UnsupportedType,
    /// Header or body did not come in time.
    TooSlow,
    /// The log or the disk is full, or slower than the clients.
    Full,
    /// Starting, draining or poisoned.
    Unavailable,
    /// It is not known whether the records were stored.
    Unknown,
    /// A fault of ours.
    Internal,
}

/// What each [`Kind`] is called in metrics, in the order of the kinds.
pub const REFUSALS: [&str; 20] = [
    "malformed",
    "unauthenticated",
    "token_expired",
    "forbidden",
    "no_such_stream",
    "not_found",
    "no_such_route",
    "method_not_allowed",
    "conflict",
    "unprocessable",
    "too_many_requests",
    "length_required",
    "too_large",
    "unsupported_encoding",
    "unsupported_type",
    "too_slow",
    "full",
    "unavailable",
    "unknown_outcome",
    "internal",
];

impl Kind {
    /// Its place in [`REFUSALS`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        REFUSALS.get(self.index()).copied().unwrap_or_default()
    }

    /// The status that most contracts give.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated | Self::TokenExpired => 401,
            Self::Forbidden => 403,
            Self::NoSuchStream | Self::NotFound | Self::NoSuchRoute => 404,
            Self::MethodNotAllowed => 405,
            Self::TooSlow => 408,
            Self::Conflict => 409,
            Self::LengthRequired => 411,
            Self::TooLarge => 413,
            Self::UnsupportedEncoding | Self::UnsupportedType => 415,
            Self::Unprocessable => 422,
            Self::TooManyRequests => 429,
            Self::Full | Self::Unavailable => 503,
            Self::Unknown | Self::Internal => 500,
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    pub kind: Kind,
    /// For the client.
    pub external: Cow<'static, str>,
    /// What the contract calls this refusal, where it has more names than there are kinds.
    pub code: Option<&'static str>,
    /// What the contract's error body says besides.
    pub parameters: Option<Box<serde_json::Map<String, serde_json::Value>>>,
    /// The right that a known token lacks, for contracts that have another word for it.
    pub lacks: Option<Box<Scope>>,
    /// For the log.
    pub internal: Option<Box<str>>,
    /// Seconds after which it may be tried again.
    pub retry_after: Option<u32>,
    /// The methods of the path, as the `Allow` header has them.
    pub allow: Option<Box<str>>,
    /// The rest of the request was not read, so the connection cannot be used further.
    pub close: bool,
}

impl Reject {
    pub fn new(kind: Kind, external: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            external: external.into(),
            code: None,
            parameters: None,
            lacks: None,
            internal: None,
            retry_after: None,
            allow: None,
            close: false,
        }
    }

    pub fn malformed(external: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Malformed, external)
    }

    /// The path exists, for other methods.
    pub fn method_not_allowed(method: &http::Method, allow: impl Into<Cow<'static, str>>) -> Self {
        let reject = Self::new(Kind::MethodNotAllowed, format!("method {method} not allowed"));
        Self { allow: Some(allow.into().into()), ..reject }
    }

    pub fn internal(error: &dyn std::error::Error) -> Self {
        let internal = Some(crate::error::chain(error).into());
        Self { internal, ..Self::new(Kind::Internal, "internal error") }
    }

    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// With the contract's own name for it.
    pub fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub fn close(self) -> Self {
        Self { close: true, ..self }
    }
}

impl From<AuthError> for Reject {
    fn from(error: AuthError) -> Self {
        let kind = match &error {
            AuthError::Missing | AuthError::Unknown => Kind::Unauthenticated,
            AuthError::Expired { .. } => Kind::TokenExpired,
            AuthError::Lacks(_) | AuthError::Origin | AuthError::Project => Kind::Forbidden,
        };
        let reject = Self::new(kind, error.to_string());
        match error {
            AuthError::Lacks(scope) => Self { lacks: Some(Box::new(scope)), ..reject },
            _ => reject,
        }
    }
}

impl From<CatalogError> for Reject {
    fn from(error: CatalogError) -> Self {
        Self::internal(&error)
    }
}

impl From<ManageError> for Reject {
    fn from(error: ManageError) -> Self {
        let kind = match &error {
            ManageError::Taken { .. } | ManageError::LastAdmin => Kind::Conflict,
            ManageError::Missing { .. } => Kind::NotFound,
            ManageError::NotYours(_) => Kind::Forbidden,
            ManageError::Invalid(_) | ManageError::Scope(_) | ManageError::Origin(_) => Kind::Malformed,
            ManageError::Catalog(_) => return Self::internal(&error),
        };
        Self::new(kind, crate::error::chain(&error))
    }
}
