//! The secrets in the addresses that records are sent to.

use crate::auth;

/// Characters of a secret.
pub const CHARS: usize = 48;

/// A new one.
pub fn make() -> String {
    auth::alphanumeric(CHARS)
}

/// Whether what a client says is the secret. How long it takes tells nothing of how much of it is right.
pub fn is_same(said: &str, secret: &str) -> bool {
    auth::is_same(said, secret)
}
