//! What making, changing and revoking has in common.

use super::Scope;
use super::origin::OriginError;
use super::scope::ScopeError;
use crate::catalog::CatalogError;

/// Why nothing was made, changed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    #[error("there is already a {what} of the name {name:?}")]
    Taken { what: &'static str, name: String },
    #[error("there is no {what} of the id or name {id:?}")]
    Missing { what: &'static str, id: String },
    /// Whoever asks does not have the right themselves.
    #[error("only who has the scope {0} may give it, or change a token that has it")]
    NotYours(Scope),
    #[error("{0}")]
    Invalid(String),
    #[error("this is the only token with the scope admin; make another one first")]
    LastAdmin,
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 128;
/// Longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 1000;

/// Names are shown in tables and asked for in paths.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), ManageError> {
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || name.chars().any(char::is_control) || name.trim() != name {
        return Err(ManageError::Invalid(format!(
            "the name of a {what} has 1 to {NAME_CHARS_MAX} characters, none of them a control character, and no \
             blanks around it"
        )));
    }
    Ok(())
}

pub(super) fn check_description(description: &str) -> Result<(), ManageError> {
    if description.chars().count() > DESCRIPTION_CHARS_MAX {
        let message = format!("a description has at most {DESCRIPTION_CHARS_MAX} characters");
        return Err(ManageError::Invalid(message));
    }
    Ok(())
}
