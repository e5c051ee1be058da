//! What commands print.

use crate::error::chain;
use std::error::Error;
use std::process::ExitCode;

/// Prints an error and its causes, and gives the status to exit with.
pub(super) fn fail(error: &dyn Error, status: u8) -> ExitCode {
    eprintln!("forebay: {}", chain(error));
    ExitCode::from(status)
}
