//! Why a request was refused. The message for the client is separate from the detail that only the log may contain.

use crate::auth::{AuthError, ManageError, Scope};
use crate::catalog::CatalogError;
use std::borrow::Cow;

/// The kinds of refusal, the same for every contract, in the order of their labels in [`REFUSALS`]. Each contract
/// translates them into its own status and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectKind {
    /// The request is malformed; sending it again will not help.
    Malformed,
    /// The token is missing or unknown.
    Unauthenticated,
    /// The token has expired.
    TokenExpired,
    /// The token lacks the right.
    Forbidden,
    NoSuchStream,
    /// Another named thing, for example a job or a token, does not exist.
    NotFound,
    NoSuchRoute,
    MethodNotAllowed,
    /// The thing to create already exists, or was changed concurrently.
    Conflict,
    /// The request is well-formed but cannot be carried out.
    Unprocessable,
    /// The rate limit is exceeded.
    TooManyRequests,
    /// The contract requires a `Content-Length` header.
    LengthRequired,
    /// The body exceeds a limit, on the wire or decompressed.
    TooLarge,
    /// The `Content-Encoding` is not supported.
    UnsupportedEncoding,
    /// The path does not accept the `Content-Type`.
    UnsupportedType,
    /// The headers or the body did not arrive in time.
    TooSlow,
    /// The log or the disk is full, or cannot keep up with the clients.
    Full,
    /// Starting, draining or poisoned.
    Unavailable,
    /// It is not known whether the records were stored.
    Unknown,
    /// A failure inside the daemon.
    Internal,
}

/// The metric label of each [`RejectKind`], in the order of the kinds.
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

impl RejectKind {
    /// Its index in [`REFUSALS`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The metric label.
    pub fn label(self) -> &'static str {
        REFUSALS[self.index()]
    }

    /// The HTTP status that most contracts use.
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
    pub kind: RejectKind,
    /// The message for the client.
    pub external: Cow<'static, str>,
    /// The contract's own code, where it distinguishes more refusals than there are kinds.
    pub code: Option<&'static str>,
    /// Additional fields of the contract's error body.
    pub parameters: Option<Box<serde_json::Map<String, serde_json::Value>>>,
    /// The right that a valid token lacks, for contracts that have their own name for it.
    pub lacks: Option<Box<Scope>>,
    /// The detail for the log.
    pub internal: Option<Box<str>>,
    /// Seconds after which the client may retry.
    pub retry_after: Option<u32>,
    /// The methods of the path, in the format of the `Allow` header.
    pub allow: Option<Box<str>>,
    /// The rest of the request was not read, so the connection cannot be reused.
    pub close: bool,
}

impl Reject {
    pub fn new(kind: RejectKind, external: impl Into<Cow<'static, str>>) -> Self {
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
        Self::new(RejectKind::Malformed, external)
    }

    /// The path exists, but not for this method.
    pub fn method_not_allowed(method: &http::Method, allow: impl Into<Cow<'static, str>>) -> Self {
        let reject = Self::new(RejectKind::MethodNotAllowed, format!("method {method} not allowed"));
        Self { allow: Some(allow.into().into()), ..reject }
    }

    pub fn internal(error: &dyn std::error::Error) -> Self {
        let internal = Some(crate::error::chain(error).into());
        Self { internal, ..Self::new(RejectKind::Internal, "internal error") }
    }

    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Sets the contract's own code.
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
            AuthError::Missing | AuthError::Unknown => RejectKind::Unauthenticated,
            AuthError::Expired { .. } => RejectKind::TokenExpired,
            AuthError::Lacks(_) | AuthError::Origin | AuthError::Project => RejectKind::Forbidden,
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
            ManageError::Taken { .. } | ManageError::LastAdmin => RejectKind::Conflict,
            ManageError::Missing { .. } => RejectKind::NotFound,
            ManageError::NotYours(_) => RejectKind::Forbidden,
            ManageError::Invalid(_) | ManageError::Scope(_) | ManageError::Origin(_) => RejectKind::Malformed,
            ManageError::Catalog(_) => return Self::internal(&error),
        };
        Self::new(kind, crate::error::chain(&error))
    }
}
