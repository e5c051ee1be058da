//! The durable mark and the health of the log, which all waiters watch.

use super::lsn::Lsn;

/// How far the log is durable, and whether it still accepts frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// Everything up to here survives power loss.
    pub lsn: Lsn,
    pub health: Health,
}

/// Only worsens in the life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Good,
    /// Shutting down; everything appended was synced.
    Closed,
    /// A sync failed and the un-synced frames could not be rewritten.
    Poisoned,
}

/// Why a frame is not known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    #[error("the sync failed; the record may or may not survive power loss")]
    Poisoned,
    #[error("the sync has not finished in time; the record may or may not survive power loss yet")]
    Late,
}
