//! Errors of the operating system, with the operation and the file.
//!
//! Every `std::io::Error` is wrapped here before it is passed on, so that a log line read at three in the morning names
//! the file. `Display` prints its own level only; [`chain`] prints the whole chain, once, at the top.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// A failed operation on a file. `op` names the operation, e.g. `"sync segment"`.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}", .path.display())]
pub struct IoError {
    pub op: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl IoError {
    pub fn new(op: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self { op, path: path.as_ref().to_owned(), source }
    }

    /// Whether the file system or a quota was full: the only failure that can resolve by itself.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Adds the operation and the path to an `io::Result`.
pub trait IoContext<T> {
    fn context(self, op: &'static str, path: impl AsRef<Path>) -> Result<T, IoError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, op: &'static str, path: impl AsRef<Path>) -> Result<T, IoError> {
        self.map_err(|source| IoError::new(op, path, source))
    }
}

impl<T> IoContext<T> for Result<T, rustix::io::Errno> {
    fn context(self, op: &'static str, path: impl AsRef<Path>) -> Result<T, IoError> {
        self.map_err(|errno| IoError::new(op, path, errno.into()))
    }
}

/// The error and all its causes on one line: `a: b: c`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // The errors of some libraries include their causes.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
