//! The secrets in the addresses that records are sent to.

use crate::auth;

/// Characters of a secret.
pub const CHARS: usize = 48;

/// A new one.
pub fn make() -> String {
    auth::alphanumeric(CHARS)
}
