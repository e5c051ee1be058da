//! The secrets in the addresses that records are sent to.

use crate::auth;

/// Length of a secret, in characters.
pub const CHARS: usize = 48;

/// Generates a secret.
pub fn make() -> String {
    auth::alphanumeric(CHARS)
}
