//! Shared by everything that creates, changes and revokes credentials: the error and the checks of names.

use super::Scope;
use super::origin::OriginError;
use super::scope::ScopeError;
use crate::catalog::CatalogError;

/// Why nothing was created, changed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    #[error("a {what} named {name:?} already exists")]
    Taken { what: &'static str, name: String },
    #[error("no {what} has the id or name {id:?}")]
    Missing { what: &'static str, id: String },
    /// The caller does not have the scope itself.
    #[error("only a caller with the scope {0} may grant it, or change a token that has it")]
    NotYours(Scope),
    #[error("{0}")]
    Invalid(String),
    #[error("this is the only token with the scope admin; create another one first")]
    LastAdmin,
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 128;
/// The longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 1000;

/// Names appear in tables and in request paths.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), ManageError> {
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || name.chars().any(char::is_control) || name.trim() != name {
        return Err(ManageError::Invalid(format!(
            "the name of a {what} must have 1 to {NAME_CHARS_MAX} characters, no control characters, and no \
             leading or trailing spaces"
        )));
    }
    Ok(())
}

pub(super) fn check_description(description: &str) -> Result<(), ManageError> {
    if description.chars().count() > DESCRIPTION_CHARS_MAX {
        let message = format!("a description may have at most {DESCRIPTION_CHARS_MAX} characters");
        return Err(ManageError::Invalid(message));
    }
    Ok(())
}
